//! Reading a checkpoint. Nothing in the file is believed before it was checked, and no memory is taken on its word.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

use super::disk::Disk;
use super::format::{self, FORMAT, Hasher, LENGTH};
use super::{StoreError, damaged, io, state_hash};
use crate::kernels::Kernels;
use crate::learner::{Learner, Options, Plan};
use crate::net::spec::Spec;
use crate::sample::Seed;
use crate::state::Hash;

/// A checkpoint, or the memory of its model, that is larger than this is not opened.
const MOST_BYTES: u64 = 4 << 30;
/// A header that is larger than this is not read. One of ours has some 4 KiB.
const MOST_HEADER: u64 = 1 << 20;

const REMEDY: &str = "name a checkpoint that `nestling learn` wrote, or learn anew";
const OLDER: &str = "learn anew, or use the checkpoint before it";

/// A checkpoint file that was read, with the checksum that it claims, and whose state was restored once.
pub struct Saved {
    path: PathBuf,
    bytes: Vec<u8>,
    pub spec: Spec,
    pub metadata: HashMap<String, String>,
    /// Checksum of the whole file.
    pub checksum: Hash,
    /// Checksum of the state that this one came from; zeros where it was begun anew.
    pub parent: Hash,
    /// Why newer generations were passed over, where this is not the newest.
    pub set_aside: Option<String>,
}

/// The first bytes of a safetensors file.
struct Head {
    /// Length of the file.
    len: u64,
    /// The header's length and the header.
    bytes: Vec<u8>,
}

impl Head {
    fn read(path: &Path, len: u64, from: &mut dyn Read) -> Result<Self, StoreError> {
        let mut bytes = vec![0; LENGTH];
        if len > MOST_BYTES || len < LENGTH as u64 {
            return Err(damaged(path, format!("it has {len} bytes"), REMEDY));
        }
        from.read_exact(&mut bytes).map_err(io(path))?;
        let header = bytes.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        if header > MOST_HEADER.min(len - LENGTH as u64) {
            return Err(damaged(path, format!("its header claims {header} bytes and the file has {len}"), REMEDY));
        }
        bytes.resize(LENGTH + header as usize, 0);
        from.read_exact(&mut bytes[LENGTH..]).map_err(io(path))?;
        Ok(Head { len, bytes })
    }

    /// The header, whose tensors follow one another without gap or overlap to the end of the file, each as long as its
    /// type and shape say.
    fn parse(&self, path: &Path) -> Result<Metadata, StoreError> {
        let header: Metadata = serde_json::from_slice(&self.bytes[LENGTH..]).map_err(|e| damaged(path, e, REMEDY))?;
        let held = self.len - self.bytes.len() as u64;
        if header.data_len() as u64 != held {
            let problem = format!("its tensors have {} bytes and the file has {held} for them", header.data_len());
            return Err(damaged(path, problem, REMEDY));
        }
        Ok(header)
    }
}

/// The format that the safetensors file at `path` names.
pub(super) fn format_of(disk: &dyn Disk, path: &Path) -> Option<String> {
    let (len, mut from) = disk.open(path).ok()?;
    let header = Head::read(path, len, &mut from).ok()?.parse(path).ok()?;
    header.metadata().as_ref()?.get("format").cloned()
}

/// Reads the checkpoint at `path` and no other.
pub(super) fn read_one(disk: &dyn Disk, path: &Path) -> Result<Saved, StoreError> {
    let (len, mut from) = disk.open(path).map_err(io(path))?;
    let head = Head::read(path, len, &mut from)?;
    let Some((checksum, parent)) = format::seal(&head.bytes) else {
        let header = head.parse(path)?;
        return Err(match header.metadata().as_ref().and_then(|m| m.get("format")) {
            Some(other) if other != FORMAT => {
                StoreError::Format { path: path.display().to_string(), found: other.clone() }
            }
            Some(_) => damaged(path, "its checksum is not where it was written", OLDER),
            None => damaged(path, "its metadata names no format", REMEDY),
        });
    };
    // Once through the file in little memory; then it is worth reading.
    let mut hasher = Hasher::new();
    hasher.update(&head.bytes);
    let mut part = vec![0; 1 << 16];
    let mut left = len - head.bytes.len() as u64;
    while left > 0 {
        let part = &mut part[..left.min(1 << 16) as usize];
        from.read_exact(part).map_err(io(path))?;
        hasher.update(part);
        left -= part.len() as u64;
    }
    if hasher.finish() != checksum {
        return Err(damaged(path, "its bytes do not have the checksum that they were written with", OLDER));
    }
    let header = head.parse(path)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    match metadata.get("format") {
        Some(format) if format == FORMAT => {}
        found => {
            let found = found.cloned().unwrap_or_default();
            return Err(StoreError::Format { path: path.display().to_string(), found });
        }
    }
    let text = metadata.get("spec").ok_or_else(|| damaged(path, "its metadata holds no model", REMEDY))?;
    let spec = crate::model::parse(&path.display().to_string(), text).map_err(|e| damaged(path, e, REMEDY))?;
    let plan = plan(path, &spec)?;
    let (planned, held) = (plan.block_len() as u64, header.data_len() as u64);
    // A few bytes that claim a large memory of the past get none.
    let remembered = plan.items.iter().filter(|item| item.name == "replay").map(|item| item.bytes as u64).sum::<u64>();
    if planned > MOST_BYTES || held > planned || remembered / 2 > held {
        return Err(damaged(path, format!("it holds {held} bytes of a model that wants {planned}"), REMEDY));
    }
    let bytes = read_all(disk, path, len)?;
    let saved = Saved { path: path.into(), bytes, spec, metadata, checksum, parent, set_aside: None };
    saved.verify()?;
    Ok(saved)
}

fn read_all(disk: &dyn Disk, path: &Path, len: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let room = usize::try_from(len).ok().and_then(|len| bytes.try_reserve_exact(len).ok());
    room.ok_or_else(|| damaged(path, format!("there is no memory for its {len} bytes"), "free some memory"))?;
    let (_, from) = disk.open(path).map_err(io(path))?;
    from.take(len).read_to_end(&mut bytes).map_err(io(path))?;
    Ok(bytes)
}

fn options() -> Options {
    // Seed and stream are in the counters that are read.
    Options { kernels: Kernels::Reference, ..Options::new(Seed(0)) }
}

fn plan(path: &Path, spec: &Spec) -> Result<Plan, StoreError> {
    Learner::plan(spec, &options()).map_err(|source| StoreError::Plan { path: path.display().to_string(), source })
}

impl Saved {
    fn tensors(&self) -> Result<SafeTensors<'_>, StoreError> {
        SafeTensors::deserialize(&self.bytes).map_err(|e| damaged(&self.path, e, OLDER))
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names, types and lengths of all tensors.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn contents(&self) -> Result<Vec<(String, String, usize)>, StoreError> {
        let tensors = self.tensors()?;
        let mut rows: Vec<_> = tensors
            .iter()
            .map(|(name, view)| (name.to_string(), format!("{:?}", view.dtype()), view.shape().iter().product()))
            .collect();
        rows.sort();
        Ok(rows)
    }

    /// Restores the state once, into memory that is thrown away, to see that it is whole.
    fn verify(&self) -> Result<(), StoreError> {
        let mut memory = vec![0; plan(&self.path, &self.spec)?.block_len()];
        let learner = Learner::new(&self.spec, &options(), &mut memory);
        let plan_error = |source| StoreError::Plan { path: self.path.display().to_string(), source };
        self.restore(&mut learner.map_err(plan_error)?)
    }

    /// Writes the saved state into `learner`, which must be of the same model.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where a tensor is missing, strange, or of another type or length, or the hash is not that
    /// of the metadata; the learner must not be used then.
    pub fn restore(&self, learner: &mut Learner) -> Result<(), StoreError> {
        let tensors = self.tensors()?;
        let (mut problem, mut known) = (None, 0);
        learner.visit_state(|name, mut numbers| match tensors.tensor(name) {
            Ok(view) if format::fits(&mut numbers, view.dtype(), view.data().len()) => {
                known += 1;
                numbers.bytes().copy_from_slice(view.data());
            }
            Err(_) if numbers.bytes().is_empty() => {}
            Ok(view) => {
                let (dtype, found, wanted) = (view.dtype(), view.data().len(), numbers.bytes().len());
                problem = Some(format!("tensor {name} has {found} bytes of {dtype:?} and the model wants {wanted}"));
            }
            Err(_) => problem = Some(format!("tensor {name} is missing")),
        });
        if known < tensors.len() {
            let strange = tensors.len() - known;
            problem = problem.or(Some(format!("{strange} of its tensors are not of this model")));
        }
        if let Some(problem) = problem {
            return Err(damaged(&self.path, problem, OLDER));
        }
        let (found, wanted) = (state_hash(learner), self.metadata.get("state_hash"));
        if Some(&found) != wanted {
            return Err(damaged(&self.path, "its state does not have the hash that it was written with", OLDER));
        }
        learner.restored();
        Ok(())
    }
}
