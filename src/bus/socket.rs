//! Messages on a Unix socket: each to everyone who is connected. A reader that is slow misses whole messages; nobody waits for
//! it.

use std::fs::Permissions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frame;
use super::message::Message;
use super::transport::{SendError, Transport};

/// Readers at one time; more are turned away.
const MOST_READERS: usize = 32;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    #[error("{path}: another program listens there; end it, or name another socket")]
    InUse { path: String },
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// Listens at `path`, which a dead program may have left behind; only those whom `mode` lets may connect.
///
/// # Errors
/// [`SocketError`]
pub fn listen(path: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io { path: path.display().to_string(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse { path: path.display().to_string() });
            }
            std::fs::remove_file(path).map_err(io)?;
            UnixListener::bind(path).map_err(io)?
        }
        bound => bound.map_err(io)?,
    };
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io)?;
    Ok(listener)
}

/// How many read, and what they missed.
#[derive(Debug, Default)]
pub struct Readers {
    pub now: AtomicU64,
    /// Messages that a reader had no time for.
    pub missed: AtomicU64,
}

struct Reader {
    stream: UnixStream,
    /// The rest of the message that it has not read yet.
    rest: Vec<u8>,
}

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// [`frame`]
    Packed,
}

/// See the module.
pub struct MessageSocket {
    listener: UnixListener,
    path: PathBuf,
    format: Format,
    bytes: Vec<u8>,
    readers: Vec<Reader>,
    counts: Arc<Readers>,
}

impl MessageSocket {
    /// Listens at `path`; the user and the group of this process may read.
    ///
    /// # Errors
    /// [`SocketError`]
    pub fn open(path: &Path, format: Format, counts: Arc<Readers>) -> Result<Self, SocketError> {
        let listener = listen(path, 0o660)?;
        let io = |source| SocketError::Io { path: path.display().to_string(), source };
        listener.set_nonblocking(true).map_err(io)?;
        let readers = Vec::with_capacity(MOST_READERS);
        Ok(MessageSocket { listener, path: path.into(), format, bytes: Vec::new(), readers, counts })
    }

    fn welcome(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.readers.len() < MOST_READERS && stream.set_nonblocking(true).is_ok() {
                self.readers.push(Reader { stream, rest: Vec::new() });
                self.counts.now.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Reader {
    /// Sends as much of `bytes` as it takes now; how much that is, or `None` where it has gone.
    fn send(stream: &mut UnixStream, bytes: &[u8]) -> Option<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match stream.write(&bytes[sent..]) {
                Ok(0) => return None,
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return None,
            }
        }
        Some(sent)
    }

    /// Sends `message`, or misses it; `None` where the reader has gone.
    fn give(&mut self, message: &[u8], missed: &AtomicU64) -> Option<()> {
        let sent = Self::send(&mut self.stream, &self.rest)?;
        self.rest.drain(..sent);
        if !self.rest.is_empty() {
            missed.fetch_add(1, Ordering::Relaxed);
            return Some(());
        }
        let sent = Self::send(&mut self.stream, message)?;
        self.rest.extend_from_slice(&message[sent..]);
        Some(())
    }
}

impl Transport for MessageSocket {
    fn send(&mut self, message: &Arc<Message>) -> Result<(), SendError> {
        self.welcome();
        if self.readers.is_empty() {
            return Ok(());
        }
        self.bytes.clear();
        match self.format {
            // Writing into memory does not fail.
            Format::Json => drop(message.write_line(&mut self.bytes)),
            Format::Packed => frame::write(message, &mut self.bytes),
        }
        let MessageSocket { readers, counts, bytes, .. } = self;
        let before = readers.len();
        readers.retain_mut(|reader| reader.give(bytes, &counts.missed).is_some());
        counts.now.fetch_sub((before - readers.len()) as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for MessageSocket {
    fn drop(&mut self) {
        self.counts.now.fetch_sub(self.readers.len() as u64, Ordering::Relaxed);
        // A socket file that stays is found to be dead by the next daemon.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Feature;
    use crate::sample::Micros;
    use std::io::{BufRead, BufReader};

    #[test]
    fn a_reader_that_sleeps_misses_whole_lines_and_the_others_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("features");
        let counts = Arc::new(Readers::default());
        let mut socket = MessageSocket::open(&path, Format::Json, counts.clone()).expect("a socket");
        let (awake, asleep) = (UnixStream::connect(&path), UnixStream::connect(&path));
        let (awake, asleep) = (awake.expect("it listens"), asleep.expect("it listens"));
        let reads = std::thread::spawn(move || BufReader::new(awake).lines().map_while(Result::ok).collect::<Vec<_>>());
        let mut lines = Vec::new();
        for n in 0..400 {
            let message = Message::Feature(Feature { time: Micros(n), values: vec![-1; 700], ..Feature::default() });
            let mut line = Vec::new();
            message.write_line(&mut line).expect("memory");
            lines.push(String::from_utf8(line).expect("text").trim_end().to_owned());
            socket.send(&Arc::new(message)).expect("it never fails");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(counts.now.load(Ordering::Relaxed), 2);
        let missed = counts.missed.load(Ordering::Relaxed) as usize;
        assert!(missed > 0, "its buffer holds everything");
        drop(socket);
        assert!(!path.exists());
        assert_eq!(reads.join().expect("no panic"), lines);
        // What it did get are lines as they were sent; the end of the last, or all of it, went with the socket.
        let got: Vec<String> = BufReader::new(asleep).lines().map_while(Result::ok).collect();
        assert!(got.len() + missed + 1 >= lines.len() && got.len() < lines.len());
        assert!(got[..got.len() - 1].iter().all(|line| lines.contains(line)));
    }

    #[test]
    fn a_place_that_is_taken_is_refused_and_one_that_was_left_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/features");
        let first = listen(&path, 0o600).expect("a socket");
        assert!(matches!(listen(&path, 0o600), Err(SocketError::InUse { .. })));
        // As when the process is killed: the file stays.
        drop(first);
        assert!(path.exists());
        listen(&path, 0o600).expect("the dead socket is replaced");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }
}
