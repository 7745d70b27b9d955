//! The controller that writes down what the others decide: a file of lines that never outgrows its bound.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::config::ControllerTable;

/// See the module.
pub(super) struct Log {
    path: PathBuf,
    most: u64,
    /// None once it could not be written.
    file: Option<File>,
    len: u64,
}

impl Log {
    /// Opens the file of `table` to go on with it.
    pub fn open(table: &ControllerTable) -> Result<Self, String> {
        let path = table.file.clone().unwrap_or_default();
        let mut log = Log { path, most: table.bytes.max(1), file: None, len: 0 };
        log.begin().map_err(|e| format!("{}: the log cannot be written: {e}", log.path.display()))?;
        Ok(log)
    }

    fn begin(&mut self) -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.len = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    pub fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let written = self.try_write(lines);
        if let Err(problem) = written {
            eprintln!("nestling: {}: nothing more is logged: {problem}", self.path.display());
            self.file = None;
        }
    }

    fn try_write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(lines)?;
        self.len += lines.len() as u64;
        if self.len > self.most {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
            self.begin()?;
        }
        Ok(())
    }
}
