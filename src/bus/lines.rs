//! Messages as JSON lines into whatever can be written.

use std::io::Write;
use std::sync::Arc;

use super::message::{Kind, Message};
use super::transport::{SendError, Transport};

/// See the module. A write that fails is its last: its reader has left.
pub struct Lines<W> {
    out: W,
    line: Vec<u8>,
    decisions_only: bool,
}

impl<W: Write> Lines<W> {
    /// All messages. Each is one call of `write_all`.
    pub fn new(out: W) -> Self {
        Lines { out, line: Vec::new(), decisions_only: false }
    }

    /// What controllers decide, and nothing else.
    pub fn of_decisions(out: W) -> Self {
        Lines { decisions_only: true, ..Self::new(out) }
    }
}

impl<W: Write + Send> Transport for Lines<W> {
    fn send(&mut self, message: &Arc<Message>) -> Result<(), SendError> {
        self.line.clear();
        let written = message.write_line(&mut self.line).and_then(|()| self.out.write_all(&self.line));
        written.map_err(|_| SendError::Left)
    }

    fn flush(&mut self) -> Result<(), SendError> {
        self.out.flush().map_err(|_| SendError::Left)
    }

    fn finish(&mut self) {
        // Nobody is left to be told.
        let _ = self.out.flush();
    }

    fn wants(&self, kind: Kind) -> bool {
        !self.decisions_only || kind == Kind::Decision
    }
}
