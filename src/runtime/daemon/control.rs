//! The control socket: one JSON object a line in, one out. `{"command":"status"}`, `freeze`, `thaw`, `save`,
//! `{"command":"rollback","lessons":1}` or `{"command":"rollback","generation":1}`; for the teacher
//! `{"command":"teach","label":"cup","examples":5}`, `{"command":"teach","values":[0.3]}` and `{"command":"forget","label":"cup"}`.
//!
//! It is a Unix socket that its owner alone may open; the kernel's word on who is at the other end is asked for too.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::status::Shared;
use crate::bus::socket::{SocketError, listen};

/// Longest request.
const MOST_BYTES: u64 = 4096;
/// Callers served at one time.
const MOST_CALLERS: usize = 16;
/// A caller that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a daemon can be told.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    Status,
    /// Learn nothing until told to.
    Freeze,
    Thaw,
    /// Write a checkpoint now.
    Save,
    /// Go back by so many published lessons, or to the checkpoint so many generations before the newest.
    Rollback {
        #[serde(default)]
        lessons: Option<usize>,
        #[serde(default)]
        generation: Option<usize>,
    },
    /// What is seen now is `label`, or calls for `values` of a controller; so many examples of it.
    Teach {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        values: Option<Vec<f64>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        controller: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        examples: Option<u32>,
    },
    /// Forget what was taught as `label`, or to the controller of that name.
    Forget {
        label: String,
    },
}

impl Command {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// What is wrong with it, and what there is.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|e| {
            format!(
                "this is no command: {e}; write {{\"command\":\"status\"}}, freeze, thaw, save, rollback, teach or forget"
            )
        })
    }

    /// Longest wait for its answer.
    fn patience(&self) -> Duration {
        match self {
            // As slow as its source may be.
            Command::Teach { .. } => Duration::from_secs(60),
            _ => PATIENCE,
        }
    }
}

/// What came of it.
pub type Reply = Result<Value, String>;

/// A command on its way to the thread that does it.
pub struct Request {
    pub command: Command,
    pub reply: SyncSender<Reply>,
}

/// Who does what a daemon is told.
#[derive(Clone)]
pub struct Doers {
    pub learning: Sender<Request>,
    /// None without controllers.
    pub teacher: Option<Sender<Request>>,
}

impl Doers {
    /// Has `command` done and waits for what comes of it.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn ask(&self, command: Command) -> Reply {
        let patience = command.patience();
        let doer = match (&command, &self.teacher) {
            (Command::Teach { .. } | Command::Forget { .. }, Some(teacher)) => teacher,
            (Command::Teach { .. } | Command::Forget { .. }, None) => {
                return Err(
                    "no controller is there to be taught: add a [[controller]] to the profile, or start it with \
                            --controller classify"
                        .into(),
                );
            }
            _ => &self.learning,
        };
        let (reply, answer) = sync_channel(1);
        let gone = "the daemon is ending";
        doer.send(Request { command, reply }).map_err(|_| gone)?;
        answer.recv_timeout(patience).map_err(|_| gone)?
    }
}

/// What may be asked of a daemon by a way out, such as a topic of a broker.
#[derive(Clone)]
pub struct Entry {
    pub shared: Arc<Shared>,
    pub doers: Doers,
}

impl Entry {
    /// Answers the bytes of a command as the control socket does, but for a rollback.
    pub fn answer(&self, command: &[u8]) -> String {
        let reply = match Command::parse(command) {
            Ok(Command::Rollback { .. }) => Err("lessons are rolled back by the control socket only".into()),
            Ok(command) => answer(command, &self.shared, &self.doers),
            Err(problem) => Err(problem),
        };
        told(reply)
    }
}

/// Why the socket cannot be opened or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{path}: no nestling listens there ({source})\n  what to do: start `nestling run`, or name its socket with --control FILE"
    )]
    NobodyThere {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: only its own user and root may command this nestling\n  what to do: sudo nestling …")]
    NotYours { path: String },
    #[error("{0}")]
    Refused(String),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ControlError + '_ {
    move |source| ControlError::Io { path: path.display().to_string(), source }
}

/// Folders in which a daemon of this user, or of the system, may listen: that which the system gives a service, that of this
/// user, one of the user's own among temporary files, that of the installed service.
fn folders() -> impl Iterator<Item = PathBuf> {
    let of = |key| std::env::var_os(key).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let own = std::env::temp_dir().join(format!("nestling-{}", rustix::process::getuid().as_raw()));
    [of("RUNTIME_DIRECTORY"), of("XDG_RUNTIME_DIR"), Some(own), Some("/run/nestling".into())].into_iter().flatten()
}

/// Where a daemon listens unless it is told otherwise: `nestling.sock` in the first folder of its own.
pub fn default_socket() -> PathBuf {
    folders().next().unwrap_or_default().join("nestling.sock")
}

/// Where a daemon is found unless one is told where: the first of these sockets that there is.
pub fn find_socket() -> PathBuf {
    folders().map(|folder| folder.join("nestling.sock")).find(|path| path.exists()).unwrap_or_else(default_socket)
}

/// A socket that listens; its file goes with it.
pub struct Control {
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // A socket file that stays is found to be dead by the next daemon.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Control {
    /// Listens at `path`, on a thread of its own, until the process ends. Commands other than `status` go to `doers`.
    ///
    /// # Errors
    /// [`ControlError::Socket`], [`ControlError::Io`].
    pub fn listen(path: &Path, shared: Arc<Shared>, doers: Doers) -> Result<Self, ControlError> {
        let listener = listen(path, 0o600)?;
        let control = Control { path: path.into() };
        let callers = Arc::new(AtomicUsize::new(0));
        let accept = move || {
            for stream in listener.incoming().flatten() {
                if callers.fetch_add(1, Ordering::Relaxed) >= MOST_CALLERS {
                    callers.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (shared, doers, served) = (shared.clone(), doers.clone(), callers.clone());
                let serve = move || {
                    // A caller that goes away is no concern of ours.
                    let _ = serve(&stream, &shared, &doers);
                    served.fetch_sub(1, Ordering::Relaxed);
                };
                if std::thread::Builder::new().name("nestling-caller".into()).spawn(serve).is_err() {
                    callers.fetch_sub(1, Ordering::Relaxed);
                }
            }
        };
        std::thread::Builder::new().name("nestling-control".into()).spawn(accept).map_err(io(path))?;
        Ok(control)
    }
}

/// Only its own user, and root, may command a daemon.
fn is_welcome(stream: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid == rustix::process::getuid() || peer.uid.is_root())
}

fn serve(stream: &UnixStream, shared: &Shared, doers: &Doers) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if lines.by_ref().take(MOST_BYTES).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match is_welcome(stream) {
            true => Command::parse(line.as_bytes()).and_then(|command| answer(command, shared, doers)),
            false => Err("not your daemon".into()),
        };
        writeln!(&*stream, "{}", told(reply))?;
        if !line.ends_with('\n') {
            return Ok(());
        }
    }
}

/// What came of a command, on a line.
fn told(reply: Reply) -> String {
    let reply = match reply {
        Ok(value) => json!({ "ok": true, "value": value }),
        Err(problem) => json!({ "ok": false, "error": problem }),
    };
    reply.to_string()
}

fn answer(command: Command, shared: &Shared, doers: &Doers) -> Reply {
    if command == Command::Status {
        return serde_json::to_value(shared.status()).map_err(|e| e.to_string());
    }
    doers.ask(command)
}

/// Says `command` to the daemon at `path`.
///
/// # Errors
/// [`ControlError`]
pub fn ask(path: &Path, command: Command) -> Result<Value, ControlError> {
    let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        ErrorKind::PermissionDenied => ControlError::NotYours { path: path.display().to_string() },
        _ => ControlError::NobodyThere { path: path.display().to_string(), source },
    })?;
    let say = || -> std::io::Result<String> {
        stream.set_read_timeout(Some(PATIENCE + command.patience()))?;
        writeln!(&stream, "{}", serde_json::to_string(&command)?)?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok(line)
    };
    let line = say().map_err(io(path))?;
    let reply: Value = serde_json::from_str(&line)
        .map_err(|e| ControlError::Refused(format!("{}: the answer is no JSON: {e}", path.display())))?;
    match reply["ok"].as_bool() {
        Some(true) => Ok(reply["value"].clone()),
        _ => Err(ControlError::Refused(reply["error"].as_str().unwrap_or("refused").to_string())),
    }
}
