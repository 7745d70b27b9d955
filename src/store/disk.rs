//! What the store asks of a file system, so that tests can cut its power; [`RealDisk`] hands every call on. Each call fails
//! as those of [`std::fs`] do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

/// The calls whose order decides what a power cut leaves behind.
pub trait Disk: Send {
    /// A file that was not there, readable by this user alone: a checkpoint may hold what a camera saw.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Length of the file and its bytes.
    fn open(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Puts a file in the place of another, all or nothing.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder last.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written last.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system of the machine.
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        let file = File::open(path)?;
        Ok((file.metadata()?.len(), Box::new(file)))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            // A file system that keeps its names in another way says so.
            Err(problem) if problem.kind() == ErrorKind::InvalidInput => Ok(()),
            outcome => outcome,
        }
    }
}

impl Output for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
