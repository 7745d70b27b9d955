//! A program of the system: started, read from with a deadline, and ended with all that it started itself.
//!
//! It never outlives us. Whoever drops [`Running`] ends it; where we are killed, the kernel does (by `setpriv`, where the
//! system has it), and else the next write into the pipe that nobody reads.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Lines of standard error that are kept, and the bytes of each.
const LINES: usize = 5;
const LINE: usize = 240;
/// What a program that is told to end has for it, and one that hung up.
const GRACE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(5);

/// The program that `name` means: a path, or what the directories of PATH hold.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(runs);
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(runs)
}

/// `setpriv`, where it can have the kernel end a program with the one that started it. (To ask the kernel ourselves would
/// take unsafe code between fork and exec.)
fn leash() -> Option<&'static Path> {
    static LEASH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = LEASH.get_or_init(|| {
        let setpriv = find("setpriv")?;
        let mut trial = Command::new(&setpriv);
        trial.args(["--pdeathsig", "KILL", "--", "true"]);
        trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success()).then_some(setpriv)
    });
    found.as_deref()
}

/// The last lines that a program wrote to its standard error.
#[derive(Default)]
struct Said {
    lines: VecDeque<String>,
    line: Vec<u8>,
    /// There will be no more.
    whole: bool,
}

impl Said {
    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                _ if self.line.len() < LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line: String = String::from_utf8_lossy(&self.line).chars().filter(|c| !c.is_control()).collect();
        self.line.clear();
        // `#12 (30.00 fps) exp …`: rpicam-vid tells of every frame, and says nothing by it.
        let frame = line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_digit());
        if !frame && !line.trim().is_empty() {
            self.lines.truncate(LINES - 1);
            self.lines.push_front(line.trim().to_owned());
        }
    }
}

/// A program that runs.
pub(super) struct Running {
    child: Child,
    /// How it ended, once it is reaped.
    status: Option<ExitStatus>,
    said: Arc<Mutex<Said>>,
    /// The thread that started the program stays until this is dropped.
    _keeper: Sender<()>,
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(|p| p.into_inner())
}

impl Running {
    /// Starts `program`; its standard output comes back, its standard error is kept.
    ///
    /// # Errors
    /// The system's, where it cannot be started.
    pub(super) fn start(program: &Path, arguments: &[String]) -> io::Result<(Self, ChildStdout)> {
        let mut command = match leash() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        // A group of its own, so that what it starts itself ends with it. Its words are looked through: untranslated.
        command.args(arguments).env("LC_ALL", "C").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let said = Arc::new(Mutex::new(Said::default()));
        let (started, start) = channel();
        let (keeper, kept) = channel::<()>();
        let heard = said.clone();
        // The kernel ends the program when the thread that started it ends. So that is one of its own, which stays as long.
        let keep = move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return started.send(Err(error)).unwrap_or(()),
            };
            let stderr = child.stderr.take();
            if started.send(Ok(child)).is_err() {
                return;
            }
            let mut bytes = [0; 1024];
            if let Some(mut stderr) = stderr {
                loop {
                    match stderr.read(&mut bytes) {
                        Ok(0) => break,
                        Ok(n) => lock(&heard).hear(&bytes[..n]),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(_) => break,
                    }
                }
            }
            let mut said = lock(&heard);
            said.end_line();
            said.whole = true;
            drop(said);
            let _ = kept.recv();
        };
        std::thread::Builder::new().name("nestling-program".into()).spawn(keep)?;
        let mut child = start.recv().map_err(io::Error::other)??;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("it has no standard output"))?;
        Ok((Running { child, status: None, said, _keeper: keeper }, stdout))
    }

    /// It has ended, or does within `time`. It is not reaped: its number stays its own.
    fn ends_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(Pid::from_child(&self.child)), options) {
                Ok(None) | Err(Errno::INTR) => {}
                // Where it cannot be asked for, it was reaped before.
                Ok(Some(_)) | Err(_) => return true,
            }
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(TICK);
        }
    }

    /// How it ended by itself; `None` where it did not: then it was ended.
    pub(super) fn finish(&mut self) -> Option<ExitStatus> {
        let by_itself = self.status.is_some() || self.ends_within(GRACE);
        self.end();
        self.status.filter(|_| by_itself)
    }

    /// Ends it and what it started, and reaps it.
    pub(super) fn end(&mut self) {
        if self.status.is_some() {
            return;
        }
        let group = Pid::from_child(&self.child);
        if !self.ends_within(Duration::ZERO) {
            let _ = kill_process_group(group, Signal::TERM);
            self.ends_within(GRACE);
        }
        // Not reaped yet, its number still names its group and nobody else's.
        let _ = kill_process_group(group, Signal::KILL);
        self.status = self.child.wait().ok();
    }

    /// The last lines that it wrote to standard error, oldest first. One that ended is given the time to be heard.
    pub(super) fn said(&self) -> Vec<String> {
        let until = Instant::now() + GRACE;
        loop {
            let said = lock(&self.said);
            if said.whole || Instant::now() >= until {
                return said.lines.iter().rev().cloned().collect();
            }
            drop(said);
            std::thread::sleep(TICK);
        }
    }

    /// A line with `words` is among the last that it has said so far.
    pub(super) fn has_said(&self, words: &str) -> Option<String> {
        lock(&self.said).lines.iter().find(|line| line.contains(words)).cloned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Until when a program is waited for; it is told before each sample.
#[derive(Clone)]
pub(super) struct Deadline(Arc<Mutex<(Instant, bool)>>);

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Deadline(Arc::new(Mutex::new((Instant::now() + time, false))))
    }

    fn lock(&self) -> MutexGuard<'_, (Instant, bool)> {
        self.0.lock().unwrap_or_else(|p| p.into_inner())
    }

    pub(super) fn set(&self, time: Duration) {
        *self.lock() = (Instant::now() + time, false);
    }

    /// It has passed, and somebody waited for that long.
    pub(super) fn missed(&self) -> bool {
        self.lock().1
    }
}

/// A program's standard output, which is an error of the kind `TimedOut` where the deadline passes.
pub(super) struct Output {
    stdout: ChildStdout,
    deadline: Deadline,
    /// What was read to see that there is something, and how much of it was passed on.
    ahead: Vec<u8>,
    passed: usize,
}

impl Output {
    pub(super) fn new(stdout: ChildStdout, deadline: Deadline) -> Self {
        Output { stdout, deadline, ahead: Vec::new(), passed: 0 }
    }

    /// Waits for the first bytes: whether any came.
    ///
    /// # Errors
    /// As reading.
    pub(super) fn begins(&mut self) -> io::Result<bool> {
        let mut first = vec![0; 4096];
        let read = self.read(&mut first)?;
        first.truncate(read);
        self.ahead = first;
        Ok(read > 0)
    }
}

impl Read for Output {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.passed < self.ahead.len() {
            let some = (self.ahead.len() - self.passed).min(out.len());
            out[..some].copy_from_slice(&self.ahead[self.passed..][..some]);
            self.passed += some;
            return Ok(some);
        }
        loop {
            let until = self.deadline.lock().0;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.deadline.lock().1 = true;
                return Err(io::ErrorKind::TimedOut.into());
            }
            let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
            match poll(&mut [PollFd::new(&self.stdout, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.stdout.read(out),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
