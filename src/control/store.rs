//! What was taught, on disk: a safetensors file beside the checkpoint, replaced and kept in generations as that is, so that
//! labels survive restarts and power cuts. It holds the samples themselves, for their owner's eyes alone (mode 600).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::taught::{Answer, Taught};
use super::{MOST_OUTPUTS, Values};
use crate::store::{Store, StoreError, StoreOptions, generation_path};

/// Name and version of the format.
const FORMAT: &str = "nestling taught 1";
/// A larger file is not read.
const MOST_BYTES: u64 = 1 << 30;
/// Longest label.
pub const MOST_LABEL: usize = 64;

/// Why what was taught cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaughtError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path}: this is nothing taught that can be used: {problem}\n  what to do: move it away and teach anew")]
    Damaged { path: String, problem: String },
    #[error(
        "{path}: it was taught to a model whose samples have {found} bytes, and those of this one have {wanted}\n  what to do: \
         move it away and teach anew, or go back to that model"
    )]
    OtherModel { path: String, found: usize, wanted: usize },
}

/// One example as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<f64>,
    teaching: u32,
}

/// Where what was taught is kept for a checkpoint at `path`.
pub fn path_of(checkpoint: &Path) -> PathBuf {
    checkpoint.with_extension("taught.safetensors")
}

/// Whether a label can be one: short, printable, nothing that JSON or a shell would have to escape.
pub fn is_label(label: &str) -> bool {
    let sound = |c: char| c.is_alphanumeric() || " -_.:/+#".contains(c);
    !label.trim().is_empty() && label.len() <= MOST_LABEL && label.chars().all(sound) && label != "unknown"
}

/// The file of one daemon.
pub struct TaughtStore {
    store: Store,
}

impl TaughtStore {
    /// Opens the file beside `checkpoint` and reads what was taught to samples of `stored_len` bytes. Of a damaged file the
    /// generation before serves; why is the second answer.
    ///
    /// # Errors
    /// [`TaughtError`]
    pub fn open(checkpoint: &Path, stored_len: usize) -> Result<(Self, Taught, Option<String>), TaughtError> {
        let options = StoreOptions { generations: 2, bytes_per_hour: None };
        let store = Store::open(&path_of(checkpoint), &options)?;
        let mut first = None;
        for back in 0..options.generations {
            let path = generation_path(store.path(), back);
            match read(&path, stored_len) {
                Ok(None) => {}
                Ok(Some(taught)) => {
                    return Ok((TaughtStore { store }, taught, first.map(|e: TaughtError| e.to_string())));
                }
                Err(problem) => first = first.or(Some(problem)),
            }
        }
        match first {
            // Nothing is overwritten that someone may want.
            Some(problem) => Err(problem),
            None => Ok((TaughtStore { store }, Taught::new(stored_len), None)),
        }
    }

    /// Writes what was taught.
    ///
    /// # Errors
    /// [`TaughtError::Store`]
    pub fn save(&mut self, taught: &Taught) -> Result<(), TaughtError> {
        let bytes = bytes_of(taught).map_err(StoreError::Model)?;
        Ok(self.store.save_bytes(&bytes)?)
    }
}

fn checksum(answers: &str, counts: &str, examples: &[u8], background: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [answers.as_bytes(), counts.as_bytes(), examples, background] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn bytes_of(taught: &Taught) -> Result<Vec<u8>, String> {
    let written = taught.examples.iter().map(|example| match &example.answer {
        Answer::Class(class) => {
            Written { class: Some(class.to_string()), controller: None, values: Vec::new(), teaching: example.teaching }
        }
        Answer::Values(controller, values) => Written {
            class: None,
            controller: Some(controller.to_string()),
            values: values.to_vec(),
            teaching: example.teaching,
        },
    });
    let answers = serde_json::to_string(&written.collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    let counts = format!("{} {} {}", taught.offered, taught.given, taught.teachings);
    let examples: Vec<u8> = taught.examples.iter().flat_map(|e| e.kept.stored.iter().copied()).collect();
    let background: Vec<u8> = taught.background.iter().flat_map(|k| k.stored.iter().copied()).collect();
    let sum = checksum(&answers, &counts, &examples, &background);
    let view = |rows: usize, bytes| TensorView::new(Dtype::U8, vec![rows, taught.stored_len], bytes);
    let tensors = [
        ("background", view(taught.background.len(), &background).map_err(|e| e.to_string())?),
        ("examples", view(taught.examples.len(), &examples).map_err(|e| e.to_string())?),
    ];
    let metadata = [("format", FORMAT.to_string()), ("answers", answers), ("counts", counts), ("checksum", sum)];
    let metadata: HashMap<String, String> = metadata.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    safetensors::serialize(tensors, Some(metadata)).map_err(|e| e.to_string())
}

/// What the file at `path` holds; `None` where there is none.
fn read(path: &Path, stored_len: usize) -> Result<Option<Taught>, TaughtError> {
    let io = |source| StoreError::Io { path: path.display().to_string(), source };
    let len = match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(io)?.len(),
    };
    let damaged = |problem: String| TaughtError::Damaged { path: path.display().to_string(), problem };
    if len > MOST_BYTES {
        return Err(damaged(format!("it has {len} bytes")));
    }
    parse(&std::fs::read(path).map_err(io)?, stored_len).map(Some).map_err(|problem| match problem {
        Problem::Damaged(problem) => damaged(problem),
        Problem::Other(found) => {
            TaughtError::OtherModel { path: path.display().to_string(), found, wanted: stored_len }
        }
    })
}

/// What is wrong with the bytes of a file.
#[derive(Debug)]
pub enum Problem {
    Damaged(String),
    /// They are of samples with so many bytes.
    Other(usize),
}

/// What `bytes`, a whole file, say was taught to samples of `stored_len` bytes.
///
/// # Errors
/// [`Problem`]
pub fn parse(bytes: &[u8], stored_len: usize) -> Result<Taught, Problem> {
    let damaged = |problem: &dyn std::fmt::Display| Problem::Damaged(problem.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let metadata = header.metadata().as_ref().ok_or_else(|| damaged(&"it has no metadata"))?;
    let text = |key: &str| metadata.get(key).ok_or_else(|| damaged(&format_args!("it has no {key}")));
    if text("format")? != FORMAT {
        return Err(damaged(&format_args!(
            "its format is \"{}\" and this nestling reads \"{FORMAT}\"",
            text("format")?
        )));
    }
    let rows = |name: &str| match tensors.tensor(name) {
        Ok(view) => match *view.shape() {
            [rows, len] if view.dtype() == Dtype::U8 && len > 0 => Ok((rows, len, view.data())),
            _ => Err(damaged(&format_args!("{name} has another shape"))),
        },
        Err(e) => Err(damaged(&e)),
    };
    let ((examples, len, example_bytes), (_, background_len, background)) = (rows("examples")?, rows("background")?);
    let (answers, counts) = (text("answers")?, text("counts")?);
    if *text("checksum")? != checksum(answers, counts, example_bytes, background) {
        return Err(damaged(&"its checksum is wrong"));
    }
    if len != stored_len || background_len != stored_len {
        return Err(Problem::Other(len));
    }
    let answers: Vec<Written> = serde_json::from_str(answers).map_err(|e| damaged(&e))?;
    if answers.len() != examples {
        return Err(damaged(&format_args!("{examples} examples and {} answers", answers.len())));
    }
    let mut taught = Taught::new(stored_len);
    for (written, stored) in answers.into_iter().zip(example_bytes.chunks_exact(stored_len)) {
        let sound = written.values.len() <= MOST_OUTPUTS && written.values.iter().all(|v| v.is_finite());
        let answer = match (written.class, written.controller) {
            (Some(class), None) if is_label(&class) => Answer::Class(class.into()),
            (None, Some(controller)) if sound => {
                Answer::Values(controller.into(), Values::from_iter(written.values.iter().copied()))
            }
            _ => return Err(damaged(&"an answer is neither a class nor values")),
        };
        taught.learn(answer, stored, written.teaching);
    }
    background.chunks_exact(stored_len).for_each(|stored| {
        taught.offer(stored);
    });
    let mut counts = counts.split(' ').map(str::parse::<u64>);
    let mut count = || counts.next().and_then(Result::ok).ok_or_else(|| damaged(&"its counts are no numbers"));
    (taught.offered, taught.given) = (count()?, count()?);
    taught.teachings = u32::try_from(count()?).map_err(|e| damaged(&e))?;
    Ok(taught)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught() -> Taught {
        let mut taught = Taught::new(3);
        taught.learn(Answer::Class("cup".into()), &[1, 2, 3], 0);
        taught.learn(Answer::Values("steering".into(), Values::from_iter([0.1, -0.25])), &[4, 5, 6], 1);
        (0..300u16).for_each(|n| {
            taught.offer(&[n as u8, 0, 7]);
        });
        taught.teachings = 2;
        taught
    }

    fn contents(taught: &Taught) -> Vec<u8> {
        bytes_of(taught).expect("it can be written down")
    }

    #[test]
    fn what_was_taught_survives_a_restart_and_the_loss_of_the_newest_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint = folder.path().join("state.safetensors");
        let first = taught();
        {
            let (mut store, nothing, _) = TaughtStore::open(&checkpoint, 3).expect("an empty folder");
            assert!(nothing.examples.is_empty());
            store.save(&first).expect("saved");
            assert!(matches!(TaughtStore::open(&checkpoint, 3), Err(TaughtError::Store(StoreError::Locked { .. }))));
            let mut second = first.clone();
            second.forget("cup");
            store.save(&second).expect("saved");
        }
        let path = path_of(&checkpoint);
        let (_, again, aside) = TaughtStore::open(&checkpoint, 3).expect("it is there");
        assert!(again.classes().is_empty() && again.examples.len() == 1 && aside.is_none());
        let mut bytes = std::fs::read(&path).expect("readable");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&path, bytes).expect("writable");
        let (_, before, aside) = TaughtStore::open(&checkpoint, 3).expect("the generation before");
        assert_eq!(before, first);
        assert!(aside.expect("a reason").contains("checksum"));
        assert!(matches!(
            TaughtStore::open(&checkpoint, 4),
            Err(TaughtError::OtherModel { found: 3, wanted: 4, .. } | TaughtError::Damaged { .. })
        ));
    }

    #[test]
    fn no_byte_can_be_changed_or_lost_unnoticed() {
        let taught = taught();
        let bytes = contents(&taught);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            if let Ok(read) = parse(&changed, 3) {
                // A space in the header is all that may be another.
                assert_eq!(read, taught, "byte {at}");
            }
            assert!(parse(&bytes[..at], 3).is_err(), "cut at {at}");
        }
    }
}
