//! How one file takes the place of another so that a power cut at any instant leaves the new one or the old one.
//!
//! 1. The new file is written whole under a name of its own, and synced: what the names will point at is there before
//!    they do.
//! 2. Each generation takes the name of the one before it, the oldest first, and the new file takes the first name. A
//!    rename is done or not done, never half; whichever of these a cut undoes, the newest or the one before it has one of
//!    the names.
//! 3. The folder is synced: from here on the new file is the newest, whatever happens.

use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::disk::Disk;

/// `path` with `.suffix` behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Where the generation that is `back` saves older than the newest is kept, unless one between was lost.
pub fn generation_path(path: &Path, back: usize) -> PathBuf {
    if back == 0 { path.into() } else { beside(path, &back.to_string()) }
}

/// Where a file is written before it gets its name.
pub(super) fn unnamed(path: &Path) -> PathBuf {
    beside(path, "new")
}

/// The folder that `path` is in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn at<T>(path: &Path, outcome: io::Result<T>) -> Result<T, StoreError> {
    outcome.map_err(super::io(path))
}

/// Makes the folder and those above it, each of them lasting.
pub(super) fn make_folder(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    if path.as_os_str().is_empty() || at(path, disk.exists(path))? {
        return Ok(());
    }
    let above = folder(path);
    make_folder(disk, above)?;
    match disk.create_folder(path) {
        Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => at(path, Err(problem)),
        _ => at(above, disk.sync_folder(above)),
    }
}

/// Takes away what a process that was killed had begun to write.
pub(super) fn clear(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let new = unnamed(path);
    if at(&new, disk.exists(&new))? { at(&new, disk.remove(&new)) } else { Ok(()) }
}

/// Makes `bytes` the newest of at most `generations` files.
///
/// # Errors
/// [`StoreError::Io`]; the generation that was newest is whole and has its name, or, where the disk refuses even that, the
/// one behind it, and no other file is left where the disk allows to remove it. If the folder alone could not be synced,
/// the new file is in place but may not outlast a power cut.
pub(super) fn replace(disk: &dyn Disk, path: &Path, generations: usize, bytes: &[u8]) -> Result<(), StoreError> {
    clear(disk, path)?;
    let new = unnamed(path);
    let written = at(&new, write(disk, &new, bytes)).and_then(|()| rotate(disk, path, generations));
    if let Err(problem) = written {
        let _ = disk.remove(&new);
        return Err(problem);
    }
    at(folder(path), disk.sync_folder(folder(path)))
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = disk.create(path)?;
    file.write(bytes)?;
    file.sync()
}

fn rotate(disk: &dyn Disk, path: &Path, generations: usize) -> Result<(), StoreError> {
    // Where a generation is missing those behind it stay: nothing is lost for want of a name.
    let mut moved = 0;
    while moved + 1 < generations && at(path, disk.exists(&generation_path(path, moved)))? {
        moved += 1;
    }
    for back in (0..moved).rev() {
        let from = generation_path(path, back);
        at(&from, disk.rename(&from, &generation_path(path, back + 1)))?;
    }
    let named = disk.rename(&unnamed(path), path);
    if named.is_err() && moved > 0 {
        let _ = disk.rename(&generation_path(path, 1), path);
    }
    at(path, named)
}
