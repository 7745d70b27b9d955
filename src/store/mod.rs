//! Checkpoints: the whole state of a learner in one safetensors file, replaced atomically, the last two kept.
//!
//! The file opens in Python with `safetensors.numpy.load_file`. Its metadata holds the model as TOML and a BLAKE3 hash
//! of all state; nothing in the file is believed before its size and the hash were checked.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::learner::{Learner, Numbers, Options};
use crate::net::error::PlanError;
use crate::net::spec::Spec;

/// What this version writes and reads.
const FORMAT: &str = "nestling checkpoint 2";
/// A checkpoint larger than this is not opened.
const MOST_BYTES: u64 = 4 << 30;

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
    #[error("{path}: this is no checkpoint that can be used: {problem}\n  what to do: {remedy}")]
    Damaged { path: String, problem: String, remedy: String },
    #[error("{path}: {source}")]
    Plan {
        path: String,
        #[source]
        source: PlanError,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
    move |source| StoreError::Io { path: path.display().to_string(), source }
}

/// The hash of all learner state ([`crate::state::hash`]) in hex.
pub fn state_hash(learner: &mut Learner) -> String {
    crate::state::hash(learner).to_string()
}

/// Where the older of two generations is kept.
pub fn previous(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".previous");
    path.with_file_name(name)
}

/// Writes `learner` to `path`; what was there becomes [`previous`]. At every instant one of the two is whole.
///
/// # Errors
/// [`StoreError::Io`]; the last good checkpoint is then untouched.
pub fn write(path: &Path, learner: &mut Learner) -> Result<(), StoreError> {
    let bytes = to_bytes(learner).map_err(|problem| damaged(path, problem, "this is a mistake in nestling itself"))?;
    replace(path, &bytes)
}

/// Writes `bytes` to `path` as [`write()`] does.
///
/// # Errors
/// [`StoreError::Io`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io(folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io(folder))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(io(path))?;
    if path.exists() {
        fs::rename(path, previous(path)).map_err(io(path))?;
    }
    file.persist(path).map_err(|e| StoreError::Io { path: path.display().to_string(), source: e.error })?;
    // The names themselves must survive a power cut too.
    File::open(folder).and_then(|f| f.sync_all()).map_err(io(folder))
}

fn to_bytes(learner: &mut Learner) -> Result<Vec<u8>, String> {
    let hash = state_hash(learner);
    let mut tensors: Vec<(&'static str, Dtype, Vec<u8>)> = Vec::new();
    learner.visit_state(|name, mut numbers| {
        let dtype = match numbers {
            Numbers::I8(_) => Dtype::I8,
            Numbers::I16(_) => Dtype::I16,
            Numbers::I32(_) => Dtype::I32,
            Numbers::Bytes(_) => Dtype::U8,
        };
        if !numbers.bytes().is_empty() {
            tensors.push((name, dtype, numbers.bytes().to_vec()));
        }
    });
    let views = tensors.iter().map(|(name, dtype, bytes)| {
        let shape = vec![bytes.len() / (dtype.bitsize() / 8)];
        TensorView::new(*dtype, shape, bytes).map(|view| (*name, view)).map_err(|e| e.to_string())
    });
    let counters = learner.counters();
    let spec = toml::to_string(learner.spec()).map_err(|e| e.to_string())?;
    let metadata = HashMap::from([
        ("format".into(), FORMAT.into()),
        ("spec".into(), spec),
        ("encoder_version".into(), counters.version.to_string()),
        ("samples".into(), counters.observed.to_string()),
        ("steps".into(), counters.steps.to_string()),
        ("state_hash".into(), hash),
    ]);
    serialize(views.collect::<Result<Vec<_>, _>>()?, Some(metadata)).map_err(|e| e.to_string())
}

fn damaged(path: &Path, problem: impl ToString, remedy: &str) -> StoreError {
    StoreError::Damaged { path: path.display().to_string(), problem: problem.to_string(), remedy: remedy.into() }
}

/// Whether the file at `path` was written by the float twin and not by the learner.
pub fn is_float_twin(path: &Path) -> bool {
    let bytes = File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes).map(|_| bytes)
    });
    let header = bytes.ok().and_then(|bytes| SafeTensors::read_metadata(&bytes).ok());
    let metadata = header.and_then(|(_, header)| header.metadata().clone());
    metadata.is_some_and(|m| m.get("format").is_some_and(|format| format == crate::twin::FORMAT))
}

/// A checkpoint file that was read and whose header is sound.
pub struct Saved {
    path: PathBuf,
    bytes: Vec<u8>,
    pub spec: Spec,
    pub metadata: HashMap<String, String>,
    /// Why the newest generation was passed over, where this is the one before.
    pub set_aside: Option<String>,
}

/// Reads the checkpoint at `path`, or, where that is missing or damaged, the generation before it.
///
/// # Errors
/// [`StoreError`] of the newest generation where neither can be used.
pub fn read(path: &Path) -> Result<Saved, StoreError> {
    let newest = read_one(path).and_then(|saved| saved.verify().map(|()| saved));
    let problem = match newest {
        Ok(saved) => return Ok(saved),
        Err(problem) => problem,
    };
    let older = read_one(&previous(path)).and_then(|saved| saved.verify().map(|()| saved));
    match older {
        Ok(saved) => Ok(Saved { set_aside: Some(problem.to_string()), ..saved }),
        Err(_) => Err(problem),
    }
}

fn read_one(path: &Path) -> Result<Saved, StoreError> {
    let file = File::open(path).map_err(io(path))?;
    let length = file.metadata().map_err(io(path))?.len();
    if length > MOST_BYTES {
        return Err(damaged(path, format!("it has {length} bytes"), "name a checkpoint of nestling"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(io(path))?;
    let remedy = "name a checkpoint that `nestling learn` wrote, or learn anew";
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(path, e, remedy))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    match metadata.get("format").map(String::as_str) {
        Some(FORMAT) => {}
        Some(other) => return Err(damaged(path, format!("its format is \"{other}\""), remedy)),
        None => return Err(damaged(path, "its metadata names no format", remedy)),
    }
    let text = metadata.get("spec").ok_or_else(|| damaged(path, "its metadata holds no model", remedy))?;
    let spec = crate::model::parse(&path.display().to_string(), text).map_err(|e| damaged(path, e, remedy))?;
    Ok(Saved { path: path.into(), bytes, spec, metadata, set_aside: None })
}

impl Saved {
    fn tensors(&self) -> Result<SafeTensors<'_>, StoreError> {
        SafeTensors::deserialize(&self.bytes).map_err(|e| damaged(&self.path, e, "learn anew"))
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
        let options = Options { kernels: crate::kernels::Kernels::Reference, ..Options::new(crate::sample::Seed(0)) };
        let plan = Learner::plan(&self.spec, &options).map_err(|source| self.plan_error(source))?;
        if plan.block_len() as u64 > MOST_BYTES {
            return Err(damaged(
                &self.path,
                format!("its model wants {} bytes of memory", plan.ram_bytes),
                "learn anew",
            ));
        }
        let mut memory = vec![0; plan.block_len()];
        let mut learner = Learner::new(&self.spec, &options, &mut memory).map_err(|source| self.plan_error(source))?;
        self.restore(&mut learner)
    }

    fn plan_error(&self, source: PlanError) -> StoreError {
        StoreError::Plan { path: self.path.display().to_string(), source }
    }

    /// Writes the saved state into `learner`, which must be of the same model.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where a tensor is missing, has another length, or the hash is not that of the metadata;
    /// the learner must not be used then.
    pub fn restore(&self, learner: &mut Learner) -> Result<(), StoreError> {
        let tensors = self.tensors()?;
        let mut problem = None;
        learner.visit_state(|name, mut numbers| {
            let to = numbers.bytes();
            match tensors.tensor(name) {
                Ok(view) if view.data().len() == to.len() => to.copy_from_slice(view.data()),
                Err(_) if to.is_empty() => {}
                Ok(view) => {
                    let (found, wanted) = (view.data().len(), to.len());
                    problem = Some(format!("tensor {name} has {found} bytes and the model wants {wanted}"));
                }
                Err(_) => problem = Some(format!("tensor {name} is missing")),
            }
        });
        let remedy = "learn anew, or use the checkpoint before it";
        if let Some(problem) = problem {
            return Err(damaged(&self.path, problem, remedy));
        }
        let (found, wanted) = (state_hash(learner), self.metadata.get("state_hash"));
        if Some(&found) != wanted {
            return Err(damaged(&self.path, "its state does not have the hash that it was written with", remedy));
        }
        learner.restored();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
