//! A learned encoder back from its ONNX file, bit by bit: [`metadata`] is what the file says beside the graph, [`Exported::restore`]
//! puts weights, thresholds, shifts and scales into a learner of the same model.
//!
//! The head, momentum, replay buffer and the guard's meters do not go out; they begin anew.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::Message;

use super::OnnxError;
use super::network::Network;
use super::proto::{self, data_type};
use crate::fixed::LaggedShift;
use crate::learner::{Counters, Learner, Numbers};
use crate::net::forward::Shifts;
use crate::net::spec::Spec;

const FORMAT: &str = "nestling encoder 1";
const FORMAT_KEY: &str = "nestling.format";
const SPEC_KEY: &str = "nestling.spec";
const HASH_KEY: &str = "nestling.encoder_hash";
/// Parts of the state that go out as they are, in base64.
const WHOLE: [&str; 4] = ["counters", "scales", "stem.whitening", "stem.dictionary"];
/// An ONNX file that is larger than this is not opened: it is the most that protobuf allows.
const MOST_BYTES: u64 = 2 << 30;

/// What the file says of the encoder beside its graph.
///
/// # Errors
/// [`crate::store::StoreError::Model`].
pub fn metadata(learner: &mut Learner, network: &Network) -> Result<Vec<(String, String)>, OnnxError> {
    let spec = toml::to_string(learner.spec()).map_err(|e| crate::store::StoreError::Model(e.to_string()))?;
    let mut entries = vec![
        (FORMAT_KEY.to_string(), FORMAT.to_string()),
        (SPEC_KEY.to_string(), spec),
        ("nestling.encoder_version".into(), learner.version().0.to_string()),
        ("nestling.samples".into(), learner.counters().observed.to_string()),
        (HASH_KEY.into(), hash(learner)),
    ];
    let (params, _) = learner.published();
    let shifts = |shifts: &[LaggedShift], count: usize| {
        serde_json::json!(shifts[..count].iter().map(|shift| shift.get()).collect::<Vec<_>>()).to_string()
    };
    let net = learner.network();
    entries.push(("nestling.layer_shifts".into(), shifts(&params.shifts.layers, net.layers.len())));
    entries.push(("nestling.feature_shifts".into(), shifts(&params.shifts.feature, net.feature.len())));
    let blocks: Vec<usize> = network.blocks().map(|(len, _)| len).collect();
    entries.push(("nestling.feature_blocks".into(), serde_json::json!(blocks).to_string()));
    learner.visit_state(|name, mut numbers| {
        if WHOLE.contains(&name) && !numbers.bytes().is_empty() {
            entries.push((format!("nestling.{name}"), BASE64.encode(numbers.bytes())));
        }
    });
    Ok(entries)
}

/// BLAKE3 of all that makes features: weights of the layers, thresholds, shifts, scales.
fn hash(learner: &Learner) -> String {
    let (params, scales) = learner.published();
    let net = learner.network();
    let mut hasher = blake3::Hasher::new();
    for tensor in net.layers.iter().flat_map(|layer| &net.tensors[layer.tensors.clone()]) {
        hasher.update(bytemuck::cast_slice(params.weights_of(tensor)));
    }
    hasher.update(bytemuck::cast_slice(params.thresholds)).update(bytemuck::cast_slice(scales));
    let layers = params.shifts.layers[..net.layers.len()].iter();
    for shift in layers.chain(&params.shifts.feature[..net.feature.len()]) {
        hasher.update(&[shift.get() as u8]);
    }
    hasher.finalize().to_string()
}

/// An ONNX file that `nestling export` wrote.
pub struct Exported {
    path: String,
    metadata: HashMap<String, String>,
    tensors: HashMap<String, proto::Tensor>,
    pub spec: Spec,
}

/// Reads the file at `path`; `None` where another program wrote it.
///
/// # Errors
/// [`OnnxError`].
pub fn read(path: &std::path::Path) -> Result<Option<Exported>, OnnxError> {
    let bytes = read_bytes(path)?;
    parse(&path.display().to_string(), &bytes)
}

/// The bytes of a file that is not too large.
pub(crate) fn read_bytes(path: &std::path::Path) -> Result<Vec<u8>, OnnxError> {
    let io = |source| OnnxError::Io { path: path.display().to_string(), source };
    let len = std::fs::metadata(path).map_err(io)?.len();
    if len > MOST_BYTES {
        return Err(OnnxError::TooLarge { what: path.display().to_string(), bytes: len, most: MOST_BYTES });
    }
    std::fs::read(path).map_err(io)
}

/// As [`read`], of bytes; `path` is named in errors.
///
/// # Errors
/// [`OnnxError`].
pub fn parse(path: &str, bytes: &[u8]) -> Result<Option<Exported>, OnnxError> {
    let model =
        proto::Model::decode(bytes).map_err(|e| OnnxError::Protobuf { path: path.into(), problem: e.to_string() })?;
    let metadata: HashMap<_, _> = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    match metadata.get(FORMAT_KEY) {
        None => return Ok(None),
        Some(format) if format == FORMAT => {}
        Some(other) => {
            return Err(damaged(path, format!("its format is \"{other}\" and this nestling reads \"{FORMAT}\"")));
        }
    }
    let text = metadata.get(SPEC_KEY).ok_or_else(|| damaged(path, "its properties hold no model"))?;
    let spec = crate::model::parse(path, text).map_err(|e| damaged(path, e))?;
    let tensors = model.graph.unwrap_or_default().initializer;
    let tensors = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    Ok(Some(Exported { path: path.into(), metadata, tensors, spec }))
}

fn damaged(path: &str, problem: impl ToString) -> OnnxError {
    OnnxError::Damaged { path: path.into(), problem: problem.to_string() }
}

/// What is put into a learner.
struct Found {
    weights: Vec<i8>,
    thresholds: Vec<i32>,
    layers: Vec<LaggedShift>,
    feature: Vec<LaggedShift>,
}

impl Exported {
    /// Puts the encoder into `learner`, which is new and of the same model.
    ///
    /// # Errors
    /// [`OnnxError::Damaged`], naming the tensor or property; the learner must not be used then.
    pub fn restore(&self, learner: &mut Learner) -> Result<(), OnnxError> {
        let found = self.find(learner)?;
        let range = learner.network().trained_range();
        let mut problem = None;
        let mut restore_whole = |name: &str, bytes: &mut [u8]| {
            let text = self.metadata.get(&format!("nestling.{name}"));
            match text.and_then(|text| BASE64.decode(text).ok()) {
                Some(decoded) if decoded.len() == bytes.len() => bytes.copy_from_slice(&decoded),
                _ => problem = Some(format!("its property nestling.{name} is missing or not {} bytes", bytes.len())),
            }
        };
        learner.visit_state(|name, mut numbers| {
            if numbers.bytes().is_empty() {
                return;
            }
            match (name, numbers) {
                (name, mut numbers) if WHOLE.contains(&name) => restore_whole(name, numbers.bytes()),
                ("learning.weights" | "published.weights", Numbers::I8(w)) => {
                    w[..found.weights.len()].copy_from_slice(&found.weights);
                }
                ("learning.thresholds" | "published.thresholds", Numbers::I32(t)) => {
                    t.copy_from_slice(&found.thresholds);
                }
                ("learning.shifts" | "published.shifts", mut numbers) => {
                    for shifts in bytemuck::cast_slice_mut::<u8, Shifts>(numbers.bytes()) {
                        shifts.layers[..found.layers.len()].copy_from_slice(&found.layers);
                        shifts.feature[..found.feature.len()].copy_from_slice(&found.feature);
                    }
                }
                ("masters" | "accepted.masters", Numbers::I16(masters)) => {
                    // Those of the head stay as they began.
                    let of_layers = found.weights.get(range.start..).unwrap_or_default();
                    for (master, &weight) in masters.iter_mut().zip(of_layers) {
                        *master = i16::from(weight) * 256;
                    }
                }
                _ => {}
            }
        });
        if let Some(problem) = problem {
            return Err(damaged(&self.path, problem));
        }
        learner.visit_state(|name, mut numbers| {
            if name == "counters" {
                for counters in bytemuck::cast_slice_mut::<u8, Counters>(numbers.bytes()) {
                    // The lesson that was going on is not here.
                    *counters = Counters { lesson_progress: 0, credit: 0, undone_in_a_row: 0, ..*counters };
                }
            }
        });
        learner.restored();
        if Some(&hash(learner)) != self.metadata.get(HASH_KEY) {
            return Err(damaged(&self.path, "its weights are not those that were exported"));
        }
        Ok(())
    }

    fn find(&self, learner: &Learner) -> Result<Found, OnnxError> {
        let net = learner.network();
        let layers = self.shifts("nestling.layer_shifts", net.layers.len())?;
        let feature = self.shifts("nestling.feature_shifts", net.feature.len())?;
        let mut found = Found { weights: vec![0; net.encoder_params()], thresholds: Vec::new(), layers, feature };
        for (index, layer) in net.layers.iter().enumerate() {
            let unit = 2f64.powi(found.layers[index].get() as i32);
            let tensors = &net.tensors[layer.tensors.clone()];
            for (number, tensor) in tensors.iter().enumerate() {
                let name = if tensors.len() == 1 { format!("layer{index}") } else { format!("layer{index}.{number}") };
                let conv = &tensor.conv;
                let to = &mut found.weights[tensor.weight_range()];
                if tensor.lookup {
                    to.copy_from_slice(&self.whole(&format!("{name}.rows"), 1.0, to.len())?);
                    continue;
                }
                let planes: Vec<i8> = self.whole(&format!("{name}.weight"), unit, to.len())?;
                let (places, channels) = (conv.kernel.0 * conv.kernel.1, conv.channels / conv.groups);
                for (at, to) in to.iter_mut().enumerate() {
                    let (filter, place, channel) = (at / (places * channels), at / channels % places, at % channels);
                    *to = planes[(filter * channels + channel) * places + place];
                }
                if layer.dictionary && index == 0 {
                    let bias = format!("{name}.bias");
                    let there = self.tensors.contains_key(&bias) || self.tensors.contains_key(&format!("{bias}.q"));
                    let bias = if there { self.whole(&bias, unit, conv.filters)? } else { vec![0i32; conv.filters] };
                    found.thresholds.extend(bias.into_iter().map(i32::wrapping_neg));
                }
            }
        }
        Ok(found)
    }

    fn shifts(&self, key: &str, count: usize) -> Result<Vec<LaggedShift>, OnnxError> {
        let shifts: Option<Vec<u32>> = self.metadata.get(key).and_then(|text| serde_json::from_str(text).ok());
        let shifts = shifts.filter(|shifts| shifts.len() == count && shifts.iter().all(|&shift| shift <= 31));
        let shifts = shifts.ok_or_else(|| damaged(&self.path, format!("its property {key} is not {count} shifts")))?;
        Ok(shifts.into_iter().map(LaggedShift::at).collect())
    }

    /// The integers of `name.q`, or those that the floats of `name` are, times `unit`.
    fn whole<T: TryFrom<i64>>(&self, name: &str, unit: f64, len: usize) -> Result<Vec<T>, OnnxError> {
        let wrong = |problem: &str| damaged(&self.path, format!("tensor {name} {problem}"));
        let of_integers = self.tensors.get(&format!("{name}.q"));
        let tensor = of_integers.or_else(|| self.tensors.get(name)).ok_or_else(|| wrong("is missing"))?;
        let raw = &tensor.raw_data;
        let values: Vec<i64> = match tensor.data_type {
            data_type::INT8 => raw.iter().map(|&byte| i64::from(byte as i8)).collect(),
            data_type::INT32 => raw.as_chunks().0.iter().map(|&word| i64::from(i32::from_le_bytes(word))).collect(),
            data_type::FLOAT => {
                let whole = |&word: &[u8; 4]| (f64::from(f32::from_le_bytes(word)) * unit).round() as i64;
                raw.as_chunks().0.iter().map(whole).collect()
            }
            other => return Err(wrong(&format!("is of type {}", data_type::name(other)))),
        };
        if values.len() != len {
            return Err(wrong(&format!("has {} numbers and the model wants {len}", values.len())));
        }
        values.into_iter().map(|v| T::try_from(v).map_err(|_| wrong("has a number that is too large"))).collect()
    }
}
