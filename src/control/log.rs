//! The controller that writes down what the others decide: a file of lines that never outgrows its bound.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::config::ControllerTable;

/// See the module. A write that fails is its last.
pub struct Log {
    path: PathBuf,
    most: u64,
    file: File,
    len: u64,
}

impl Log {
    /// Opens the file of `table` to go on with it.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn open(table: &ControllerTable) -> Result<Self, String> {
        let path = table.file.clone().unwrap_or_default();
        let (file, len) = begin(&path).map_err(|e| format!("{}: the log cannot be written: {e}", path.display()))?;
        Ok(Log { path, most: table.bytes.max(1), file, len })
    }

    fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        self.file.write_all(lines)?;
        self.len += lines.len() as u64;
        if self.len > self.most {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
            (self.file, self.len) = begin(&self.path)?;
        }
        Ok(())
    }
}

fn begin(path: &std::path::Path) -> std::io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

impl Write for Log {
    /// Appends whole lines.
    fn write(&mut self, lines: &[u8]) -> std::io::Result<usize> {
        self.append(lines)
            .inspect_err(|e| eprintln!("nestling: {}: nothing more is logged: {e}", self.path.display()))?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
