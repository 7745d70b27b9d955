//! Checkpoints: the whole state of a learner in one safetensors file, replaced atomically, the last few kept.
//!
//! The file opens in Python with `safetensors.numpy.load_file`. Its metadata holds the model as TOML, a checksum over
//! every byte of the file, and the checksum of the state that this one came from; nothing in it is believed before it was
//! checked. It holds all that a lesson needs to go on exactly: weights, optimizer, replay, the guard's meters, counters.
//! There is no random generator with a state of its own, as all random bits are a function of the seed and the counters.
//!
//! [`Store`] is for the one process that writes, [`read`] for those that look. Beside `NAME` there are `NAME.1` and so on,
//! the generations before; `NAME.lock`, which the writer holds; while it writes `NAME.new`; and, if that ever happened,
//! `NAME.damaged`, the newest file that could not be used.

mod budget;
pub mod disk;
mod format;
mod rotation;
mod saved;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use format::Snapshot;
pub use rotation::generation_path;
pub use saved::Saved;

use budget::Budget;
use disk::{Disk, RealDisk};

use crate::learner::Learner;
use crate::net::error::PlanError;
use crate::state::Hash;

/// Why a checkpoint cannot be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{path}: another process is writing this checkpoint\n  what to do: stop it (it holds {path}.lock), or name another \
         file"
    )]
    Locked { path: String },
    #[error("{path}: this is no checkpoint that can be used: {problem}\n  what to do: {remedy}")]
    Damaged { path: String, problem: String, remedy: String },
    #[error(
        "{path}: its format is \"{found}\" and this nestling reads \"{}\"\n  what to do: use the nestling that wrote it, or \
         move it away and learn anew",
        format::FORMAT
    )]
    Format { path: String, found: String },
    #[error("{path}: {source}")]
    Plan {
        path: String,
        #[source]
        source: PlanError,
    },
    /// A mistake in nestling itself.
    #[error("the model cannot be written down, which is a mistake in nestling: {0}")]
    Model(String),
    #[error("the snapshot is empty, which is a mistake in nestling: take one before it is saved")]
    Empty,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
    move |source| StoreError::Io { path: path.display().to_string(), source }
}

fn damaged(path: &Path, problem: impl ToString, remedy: &str) -> StoreError {
    StoreError::Damaged { path: path.display().to_string(), problem: problem.to_string(), remedy: remedy.into() }
}

impl StoreError {
    /// Whether there is no such file.
    fn is_missing(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// The hash of all learner state ([`crate::state::hash`]) in hex.
pub fn state_hash(learner: &mut Learner) -> String {
    crate::state::hash(learner).to_string()
}

/// How a store keeps what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Files kept, the newest among them; at least 1. With 1 nothing serves where the newest is damaged.
    pub generations: usize,
    /// Bytes that may be written an hour, in the long run; `None`: as many as are asked for.
    ///
    /// The default, 100 MB, is 2.4 GB a day and 0.88 TB a year. A consumer SD card of 32 GB whose cells take 500 writes, and
    /// which writes each byte four times over (whole blocks are erased for parts of them), takes 32 GB · 500 / 4 = 4 TB: four
    /// and a half years. Such numbers are seldom in data sheets; a card sold for endurance takes several times that.
    pub bytes_per_hour: Option<u64>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { generations: 3, bytes_per_hour: Some(100_000_000) }
    }
}

/// A save that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Checksum of the file, which the next one names as its parent.
    pub checksum: Hash,
    pub bytes: u64,
    /// How long the disk took.
    pub took: Duration,
}

/// What a store wrote since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub saves: u64,
    pub saves_failed: u64,
    pub bytes_written: u64,
    /// Bytes written within the last hour, to the minute.
    pub bytes_last_hour: u64,
    /// Until the next save is within the budget.
    pub wait: Duration,
}

/// A checkpoint and the generations before it, for one writer. The lock is freed with the store, or by the kernel when
/// the process ends in whatever way.
///
/// ```no_run
/// # use nestling::store::{Snapshot, Store, StoreError, StoreOptions};
/// # fn main_(learner: &mut nestling::learner::Learner) -> Result<(), StoreError> {
/// let mut store = Store::open("robot.safetensors".as_ref(), &StoreOptions::default())?;
/// if let Some(saved) = store.newest()? {
///     saved.restore(learner)?;
///     store.follows(&saved);
/// }
/// let mut snapshot = Snapshot::of(learner)?; // on the learner's thread
/// let written = store.save(&mut snapshot)?; // on any other
/// # Ok(()) }
/// ```
pub struct Store {
    disk: Box<dyn Disk>,
    path: PathBuf,
    generations: usize,
    budget: Budget,
    parent: Hash,
    saves: u64,
    saves_failed: u64,
    _lock: Option<File>,
}

impl Store {
    /// Opens the store of the checkpoint `path`, which need not be there; makes its folder and removes what a killed process
    /// had begun to write.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has it open, [`StoreError::Io`] where the disk cannot be written.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        if path.is_dir() || path.file_name().is_none() {
            return Err(io(path)(std::io::ErrorKind::IsADirectory.into()));
        }
        rotation::make_folder(&RealDisk, rotation::folder(path))?;
        let lock_path = rotation::beside(path, "lock");
        let mut how = OpenOptions::new();
        let lock = how.write(true).create(true).truncate(false).open(&lock_path).map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.display().to_string() }),
            Err(TryLockError::Error(source)) => return Err(io(&lock_path)(source)),
        }
        Ok(Store { _lock: Some(lock), ..Self::over(Box::new(RealDisk), path, options)? })
    }

    /// As [`Store::open`], over any disk and without a lock: for one whose power is cut by a test.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn over(disk: Box<dyn Disk>, path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        rotation::make_folder(disk.as_ref(), rotation::folder(path))?;
        rotation::clear(disk.as_ref(), path)?;
        let now = Instant::now();
        let mut budget = Budget::new(options.bytes_per_hour, now);
        budget.owe(disk.open(path).map_or(0, |(len, _)| len), now);
        Ok(Store {
            disk,
            path: path.into(),
            generations: options.generations.max(1),
            budget,
            parent: Hash([0; 32]),
            saves: 0,
            saves_failed: 0,
            _lock: None,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest generation that can be used, `None` where there is none at all. Those before it that are damaged are moved
    /// out of the way where the disk allows it, the newest of them to `NAME.damaged`; [`Saved::set_aside`] tells why.
    ///
    /// # Errors
    /// [`StoreError`] of the newest file where there are some and none can be used, and where it is of another format: then
    /// nothing is touched.
    pub fn newest(&mut self) -> Result<Option<Saved>, StoreError> {
        let found = newest(self.disk.as_ref(), &self.path, self.generations)?;
        if let Some((_, passed)) = &found {
            let damaged = rotation::beside(&self.path, "damaged");
            // A disk that does not let them be moved can still be read, and what it holds is served.
            let moved = passed.iter().rev().filter(|file| self.disk.rename(file, &damaged).is_ok()).count();
            if moved > 0 {
                let _ = self.disk.sync_folder(rotation::folder(&self.path));
            }
        }
        Ok(found.map(|(saved, _)| saved))
    }

    /// The generation `back` before the newest, of those that are there; `None` where there are not so many.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be used.
    pub fn generation(&self, back: usize) -> Result<Option<Saved>, StoreError> {
        let mut left = back;
        for place in 0..self.generations {
            match saved::read_one(self.disk.as_ref(), &generation_path(&self.path, place)) {
                Err(problem) if problem.is_missing() => {}
                outcome if left == 0 => return outcome.map(Some),
                _ => left -= 1,
            }
        }
        Ok(None)
    }

    /// The learner went on from `saved`: the next save names it as its parent.
    pub fn follows(&mut self, saved: &Saved) {
        self.parent = saved.checksum;
    }

    /// Writes `snapshot` as the newest generation. When this returns the state is safe from a power cut. It never waits for
    /// the budget, as a save at the end cannot; ask [`Store::wait`] before one that can.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the last good generation is then untouched, and a later save may well work.
    pub fn save(&mut self, snapshot: &mut Snapshot) -> Result<Written, StoreError> {
        if snapshot.is_empty() {
            return Err(StoreError::Empty);
        }
        let (bytes, checksum) = snapshot.sealed(self.parent);
        let begun = Instant::now();
        self.save_bytes(bytes)?;
        self.parent = checksum;
        Ok(Written { checksum, bytes: bytes.len() as u64, took: begun.elapsed() })
    }

    /// Writes `bytes`, which are no learner's (the float twin's), as the newest generation.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_bytes(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let outcome = rotation::replace(self.disk.as_ref(), &self.path, self.generations, bytes);
        // What failed may have been written all the same.
        self.budget.wrote(bytes.len() as u64, Instant::now());
        match outcome {
            Ok(()) => self.saves += 1,
            Err(_) => self.saves_failed += 1,
        }
        outcome
    }

    /// How long until the next save is within the budget.
    pub fn wait(&self, now: Instant) -> Duration {
        self.budget.wait(now)
    }

    pub fn usage(&mut self, now: Instant) -> Usage {
        Usage {
            saves: self.saves,
            saves_failed: self.saves_failed,
            bytes_written: self.budget.bytes,
            bytes_last_hour: self.budget.last_hour(now),
            wait: self.budget.wait(now),
        }
    }
}

/// The newest usable generation, and the damaged files that were passed over.
fn newest(disk: &dyn Disk, path: &Path, generations: usize) -> Result<Option<(Saved, Vec<PathBuf>)>, StoreError> {
    let (mut first, mut passed) = (None, Vec::new());
    for back in 0..generations {
        let file = generation_path(path, back);
        match saved::read_one(disk, &file) {
            Ok(mut saved) => {
                saved.set_aside = first.map(|problem: StoreError| problem.to_string());
                return Ok(Some((saved, passed)));
            }
            Err(problem) if problem.is_missing() => {}
            Err(problem @ StoreError::Format { .. }) => return Err(first.unwrap_or(problem)),
            Err(problem) => {
                // A disk that cannot be read now may be readable later.
                if !matches!(problem, StoreError::Io { .. }) {
                    passed.push(file);
                }
                first = first.or(Some(problem));
            }
        }
    }
    first.map_or(Ok(None), Err)
}

/// Reads the checkpoint at `path`, or, where that is missing or damaged, the newest generation before it. For those who
/// only look: no lock is taken and nothing is changed.
///
/// # Errors
/// [`StoreError`] of the newest file where none can be used.
pub fn read(path: &Path) -> Result<Saved, StoreError> {
    match newest(&RealDisk, path, StoreOptions::default().generations)? {
        Some((saved, _)) => Ok(saved),
        // To say why there is none.
        None => saved::read_one(&RealDisk, path),
    }
}

/// Writes `learner` to `path` once, as the newest generation.
///
/// # Errors
/// As [`Store::open`] and [`Store::save`].
pub fn write(path: &Path, learner: &mut Learner) -> Result<(), StoreError> {
    let mut snapshot = Snapshot::of(learner)?;
    Store::open(path, &StoreOptions::default())?.save(&mut snapshot).map(|_| ())
}

/// Whether the file at `path` was written by the float twin and not by the learner.
pub fn is_float_twin(path: &Path) -> bool {
    saved::format_of(&RealDisk, path).is_some_and(|format| format == crate::twin::FORMAT)
}

#[cfg(test)]
mod tests;
