//! Lines that are none: for tests, and for machines without GPIO.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::config::Line;
use super::line::{Level, Pulse};

/// One change of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub line: Line,
    /// 0 or 1 of a level, nanoseconds high of a pulse.
    pub value: u32,
}

enum Kept {
    Nowhere,
    Memory(Vec<Change>),
    File(File),
}

/// Where changes of simulated lines are written down.
#[derive(Clone)]
pub struct Journal {
    kept: Arc<Mutex<(Instant, Kept)>>,
}

impl Journal {
    fn new(kept: Kept) -> Self {
        Journal { kept: Arc::new(Mutex::new((Instant::now(), kept))) }
    }

    /// Keeps all changes in memory, for tests.
    pub fn in_memory() -> Self {
        Self::new(Kept::Memory(Vec::new()))
    }

    /// Appends each change to the file `writes` in `folder`, as milliseconds, line and value; nowhere without a folder.
    ///
    /// # Errors
    /// Of the file.
    pub fn in_folder(folder: Option<&Path>) -> io::Result<Self> {
        Ok(Self::new(match folder {
            None => Kept::Nowhere,
            Some(folder) => Kept::File(OpenOptions::new().create(true).append(true).open(writes(folder))?),
        }))
    }

    /// What was kept in memory.
    pub fn changes(&self) -> Vec<Change> {
        match &self.kept.lock().unwrap_or_else(PoisonError::into_inner).1 {
            Kept::Memory(changes) => changes.clone(),
            _ => Vec::new(),
        }
    }

    /// The newest value of a line.
    pub fn value(&self, line: Line) -> Option<u32> {
        self.changes().iter().rfind(|change| change.line == line).map(|change| change.value)
    }

    fn write(&self, line: Line, value: u32) -> io::Result<()> {
        let (begun, kept) = &mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept {
            Kept::Nowhere => Ok(()),
            Kept::Memory(changes) => {
                changes.push(Change { line, value });
                Ok(())
            }
            Kept::File(file) => {
                let mut text = heapless::String::<64>::new();
                // A number of milliseconds, a line and a value are shorter than that.
                let _ = std::fmt::Write::write_fmt(
                    &mut text,
                    format_args!("{} {line} {value}\n", begun.elapsed().as_millis()),
                );
                file.write_all(text.as_bytes())
            }
        }
    }
}

/// The file of changes in `folder`.
pub fn writes(folder: &Path) -> PathBuf {
    folder.join("writes")
}

/// The FIFO of pressed buttons in `folder`.
pub fn buttons(folder: &Path) -> PathBuf {
    folder.join("buttons")
}

/// A simulated line. What is no change is not written down.
pub(super) struct Simulated {
    journal: Journal,
    line: Line,
    newest: Option<u32>,
}

impl Simulated {
    pub fn new(journal: Journal, line: Line) -> Self {
        Simulated { journal, line, newest: None }
    }

    fn put(&mut self, value: u32) -> io::Result<()> {
        if self.newest != Some(value) {
            self.journal.write(self.line, value)?;
            self.newest = Some(value);
        }
        Ok(())
    }
}

impl Level for Simulated {
    fn write(&mut self, high: bool) -> io::Result<()> {
        self.put(u32::from(high))
    }
}

impl Pulse for Simulated {
    fn write(&mut self, high_ns: u32) -> io::Result<()> {
        self.put(high_ns)
    }
}
