//! A twin as one safetensors file, with its replay buffer, so that learning can go on from it.
//!
//! The metadata holds the model as TOML and a BLAKE3 hash of the numbers. Nothing is used before the size of every
//! tensor was compared with the model's.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::Twin;
use crate::kernels::Kernels;
use crate::learner::{Learner, Options};
use crate::net::error::PlanError;
use crate::sample::Seed;

/// What this version writes and reads.
pub const FORMAT: &str = "nestling float twin 1";
/// A model that wants more memory than this is not taken from a file.
const MOST_BYTES: usize = 4 << 30;

/// Why a twin cannot be saved, or made from bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TwinError {
    #[error(
        "this is no safetensors file that can be read: {0}\n  what to do: name a file that `learn --arithmetic float` wrote"
    )]
    File(#[from] safetensors::SafeTensorError),
    #[error(
        "its format is \"{0}\" and not \"{FORMAT}\"\n  what to do: name a file that `learn --arithmetic float` wrote"
    )]
    Format(String),
    #[error("its model cannot be used: {0}\n  what to do: learn anew")]
    Model(String),
    #[error("its model cannot be planned: {0}\n  what to do: learn anew")]
    Plan(#[from] PlanError),
    #[error("its model wants {bytes} bytes of memory\n  what to do: learn anew")]
    TooLarge { bytes: usize },
    #[error("tensor {name} is missing\n  what to do: learn anew")]
    Missing { name: &'static str },
    #[error("tensor {name} is {found} and the model wants {wanted}\n  what to do: learn anew")]
    Shape { name: &'static str, found: String, wanted: String },
    #[error("its numbers do not have the hash that they were written with\n  what to do: learn anew, or use a copy")]
    Hash,
}

enum Numbers<'a> {
    F32(&'a mut [f32]),
    Bytes(&'a mut [u8]),
}

impl Numbers<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Numbers::F32(_) => Dtype::F32,
            Numbers::Bytes(_) => Dtype::U8,
        }
    }
    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Numbers::F32(v) => bytemuck::cast_slice_mut(v),
            Numbers::Bytes(v) => v,
        }
    }
}

const BANKS: [[&str; 3]; 2] = [
    ["stem.0.whitening", "stem.0.dictionary", "stem.0.deviation"],
    ["stem.1.whitening", "stem.1.dictionary", "stem.1.deviation"],
];

impl Twin {
    /// Calls `each` with the name and numbers of all that the twin knows, in a fixed order.
    fn visit(&mut self, mut each: impl FnMut(&'static str, Numbers)) {
        each("counters", Numbers::Bytes(bytemuck::bytes_of_mut(&mut self.counters)));
        each("loss", Numbers::F32(&mut self.loss));
        each("weights", Numbers::F32(&mut self.weights));
        each("masters", Numbers::F32(&mut self.masters));
        each("momentum", Numbers::F32(&mut self.momentum));
        each("objective", Numbers::F32(&mut self.objective));
        for (bank, [whitening, dictionary, deviation]) in self.banks.iter_mut().zip(BANKS) {
            each(whitening, Numbers::F32(&mut bank.whitening));
            each(dictionary, Numbers::F32(&mut bank.dictionary));
            each(deviation, Numbers::F32(std::slice::from_mut(&mut bank.deviation)));
        }
        each("scales", Numbers::Bytes(bytemuck::cast_slice_mut(self.scales)));
        if let Some(replay) = &mut self.replay {
            replay.visit(|name, bytes| each(name, Numbers::Bytes(bytes)));
        }
    }

    fn hash(&mut self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.visit(|name, mut numbers| {
            hasher.update(name.as_bytes()).update(&[0]).update(numbers.bytes());
        });
        hasher.finalize().to_hex().to_string()
    }

    /// The whole twin as a safetensors file.
    ///
    /// # Errors
    /// [`TwinError`] where the model or the file cannot be written down, which is a mistake of nestling itself.
    pub fn to_bytes(&mut self) -> Result<Vec<u8>, TwinError> {
        let metadata = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("spec".to_string(), toml::to_string(&self.spec).map_err(|e| TwinError::Model(e.to_string()))?),
            ("samples".to_string(), self.counters.observed.to_string()),
            ("steps".to_string(), self.counters.steps.to_string()),
            ("hash".to_string(), self.hash()),
        ]);
        let mut tensors: Vec<(&'static str, Dtype, Vec<u8>)> = Vec::new();
        self.visit(|name, mut numbers| {
            let dtype = numbers.dtype();
            if !numbers.bytes().is_empty() {
                tensors.push((name, dtype, numbers.bytes().to_vec()));
            }
        });
        let views = tensors.iter().map(|(name, dtype, bytes)| {
            TensorView::new(*dtype, vec![bytes.len() / (dtype.bitsize() / 8)], bytes).map(|view| (*name, view))
        });
        Ok(serialize(views.collect::<Result<Vec<_>, _>>()?, Some(metadata))?)
    }

    /// The twin that [`Twin::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`TwinError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TwinError> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |key: &str| metadata.get(key).map_or("", String::as_str);
        if entry("format") != FORMAT {
            return Err(TwinError::Format(entry("format").into()));
        }
        let spec =
            crate::model::parse("the model inside", entry("spec")).map_err(|e| TwinError::Model(e.to_string()))?;
        // Seed and stream are in the counters that are read below.
        let options = Options { kernels: Kernels::Reference, ..Options::new(Seed(0)) };
        let planned = Learner::plan(&spec, &options)?.block_len();
        if planned > MOST_BYTES {
            return Err(TwinError::TooLarge { bytes: planned });
        }
        let tensors = SafeTensors::deserialize(bytes)?;
        let mut twin = Twin::new(&spec, &options)?;
        let mut problem = None;
        twin.visit(|name, mut numbers| {
            let dtype = numbers.dtype();
            let to = numbers.bytes();
            match tensors.tensor(name) {
                Ok(view) if view.dtype() == dtype && view.data().len() == to.len() => to.copy_from_slice(view.data()),
                Err(_) if to.is_empty() => {}
                Ok(view) => {
                    let (found, wanted) = (view.data().len(), to.len());
                    problem = Some(TwinError::Shape {
                        name,
                        found: format!("{:?} of {found} bytes", view.dtype()),
                        wanted: format!("{dtype:?} of {wanted}"),
                    });
                }
                Err(_) => problem = Some(TwinError::Missing { name }),
            }
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        if twin.hash() != entry("hash") {
            return Err(TwinError::Hash);
        }
        Ok(twin)
    }
}
