//! A frozen integer network in a file: safetensors with the weights and biases of each layer, whose metadata holds the
//! graph as JSON. [`tensors`] is what other programs and firmware take of it.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::OnnxError;
use super::network::{Input, Network, Node, Op, Part, Window};
use crate::kernels::{Conv, Map};

const FORMAT: &str = "nestling network 1";

/// A node as it is written down; its numbers are tensors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    name: String,
    op: Kind,
    inputs: Vec<usize>,
    /// Height, width, channels.
    map: [usize; 3],
    exponent: i32,
    low: i8,
    high: i8,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Kind {
    Conv { kernel: (usize, usize), stride: (usize, usize), padding: (usize, usize), groups: usize, unsigned: bool },
    Average { kernel: (usize, usize), stride: (usize, usize), padding: (usize, usize), all: bool },
    Max { kernel: (usize, usize), stride: (usize, usize), padding: (usize, usize) },
    Add,
    Concat,
    Pad { top: usize, left: usize },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    name: String,
    map: [usize; 3],
    mean: Vec<f32>,
    deviation: Vec<f32>,
    exponent: i32,
    nodes: Vec<Saved>,
    output: usize,
}

fn map_of([height, width, channels]: [usize; 3]) -> Map {
    Map::new(height, width, channels)
}

fn extents(map: Map) -> [usize; 3] {
    [map.height, map.width, map.channels]
}

/// Writes `network` to `path`, whole or not at all.
///
/// # Errors
/// [`OnnxError::Io`]; [`OnnxError::Network`] for an encoder, which has its checkpoint.
pub fn write(path: &Path, network: &Network) -> Result<(), OnnxError> {
    let encoder =
        || OnnxError::Network { node: network.name.clone(), problem: "an encoder is kept in a checkpoint".into() };
    let Input::Normalized { map, mean, deviation, exponent } = &network.input else { return Err(encoder()) };
    let mut numbers: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut nodes = Vec::new();
    for (number, node) in network.nodes.iter().enumerate() {
        let window = |w: &Window| (w.kernel, w.stride, w.padding);
        let op = match &node.op {
            Op::Conv { parts, bias, weight_exponents } => {
                let [Part { conv, weights }] = &parts[..] else { return Err(encoder()) };
                let shape = vec![conv.filters, conv.kernel.0, conv.kernel.1, conv.channels / conv.groups];
                let bytes = |words: &[i32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
                numbers.push((format!("{number}.weights"), Dtype::I8, shape, bytemuck::cast_slice(weights).to_vec()));
                numbers.push((format!("{number}.bias"), Dtype::I32, vec![conv.filters], bytes(bias)));
                numbers.push((format!("{number}.exponents"), Dtype::I32, vec![conv.filters], bytes(weight_exponents)));
                let Conv { kernel, stride, padding, groups, unsigned, .. } = *conv;
                Kind::Conv { kernel, stride, padding, groups, unsigned }
            }
            Op::Average { window: w, all } => {
                let (kernel, stride, padding) = window(w);
                Kind::Average { kernel, stride, padding, all: *all }
            }
            Op::Max(w) => {
                let (kernel, stride, padding) = window(w);
                Kind::Max { kernel, stride, padding }
            }
            Op::Add => Kind::Add,
            Op::Concat => Kind::Concat,
            Op::Pad { top, left } => Kind::Pad { top: *top, left: *left },
            Op::Lookup { .. } | Op::Sums { .. } => return Err(encoder()),
        };
        let Node { name, inputs, map, exponent, low, high, .. } = node.clone();
        nodes.push(Saved { name, op, inputs, map: extents(map), exponent, low, high });
    }
    let (name, map) = (network.name.clone(), extents(*map));
    let (mean, deviation, exponent) = (mean.clone(), deviation.clone(), *exponent);
    let graph = Graph { name, map, mean, deviation, exponent, nodes, output: network.outputs[0] };
    let text = serde_json::to_string(&graph).map_err(|e| crate::store::StoreError::Model(e.to_string()))?;
    let metadata = HashMap::from([("format".to_string(), FORMAT.to_string()), ("graph".to_string(), text)]);
    let views = numbers.iter().map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.clone(), view))
    });
    let mistake = |e: safetensors::SafeTensorError| OnnxError::Store(crate::store::StoreError::Model(e.to_string()));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(mistake)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(mistake)?;
    let io = |source| OnnxError::Io { path: path.display().to_string(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// Reads the network at `path`; `None` where the file is something else.
///
/// # Errors
/// [`OnnxError::Io`], [`OnnxError::Damaged`].
pub fn read(path: &Path) -> Result<Option<Network>, OnnxError> {
    let bytes = super::back::read_bytes(path)?;
    parse(&path.display().to_string(), &bytes)
}

/// As [`read`], of bytes; `path` is named in errors.
///
/// # Errors
/// [`OnnxError::Damaged`].
pub fn parse(path: &str, bytes: &[u8]) -> Result<Option<Network>, OnnxError> {
    let wrong = |problem: String| OnnxError::NetworkFile { path: path.into(), problem };
    let Ok((_, header)) = SafeTensors::read_metadata(bytes) else { return Ok(None) };
    let Some(metadata) = header.metadata() else { return Ok(None) };
    if metadata.get("format").is_none_or(|format| format != FORMAT) {
        return Ok(None);
    }
    let text = metadata.get("graph").ok_or_else(|| wrong("it has no graph".into()))?;
    let graph: Graph = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
    let input = map_of(graph.map);
    let small = |map: Map| map.height <= 1 << 16 && map.width <= 1 << 16 && map.channels <= 1 << 20;
    let channels = graph.map[2];
    let plain = graph.deviation.iter().all(|d| d.is_finite() && *d > 0.0) && graph.mean.iter().all(|m| m.is_finite());
    let in_range = |exponent: i32| (-120..=120).contains(&exponent);
    if !small(input) || !plain || graph.mean.len() != channels || graph.deviation.len() != channels {
        return Err(wrong("its input is none".into()));
    }
    let (mean, deviation, exponent) = (graph.mean, graph.deviation, graph.exponent);
    let input = Input::Normalized { map: input, mean, deviation, exponent };
    let mut network = Network { name: graph.name, input, nodes: Vec::new(), outputs: vec![graph.output] };
    let mut numbers = 0usize;
    for (number, saved) in graph.nodes.into_iter().enumerate() {
        let map = map_of(saved.map);
        let wrong = |problem: &str| wrong(format!("node {}: {problem}", saved.name));
        let held = map.height.saturating_mul(map.width).saturating_mul(map.channels);
        numbers = numbers.saturating_add(held);
        let before = saved.inputs.iter().all(|&value| value <= number) && !saved.inputs.is_empty();
        if !small(map) || !before || !in_range(saved.exponent) || !in_range(exponent) || numbers > 1 << 29 {
            return Err(wrong("its map, inputs or exponent cannot be"));
        }
        let windowed = |kernel: (usize, usize), stride: (usize, usize), padding: (usize, usize)| {
            let fits = |n: usize| (1..=1 << 16).contains(&n);
            let all = fits(kernel.0) && fits(kernel.1) && fits(stride.0) && fits(stride.1);
            let window = Window { kernel, stride, padding };
            (all && padding.0 < 1 << 16 && padding.1 < 1 << 16)
                .then_some(window)
                .ok_or_else(|| wrong("its window cannot be"))
        };
        let op = match saved.op {
            Kind::Conv { kernel, stride, padding, groups, unsigned } => {
                windowed(kernel, stride, padding)?;
                let from = network.map(saved.inputs[0]);
                let extent = |input, kernel, stride, padding| Conv::extent(input, kernel, stride, padding);
                let height = extent(from.height, kernel.0, stride.0, padding.0);
                let width = extent(from.width, kernel.1, stride.1, padding.1);
                let conv = Conv {
                    input: from,
                    first_channel: 0,
                    channels: from.channels,
                    filters: map.channels,
                    kernel,
                    stride,
                    padding,
                    groups,
                    output: Map::new(height, width, map.channels),
                    first_filter: 0,
                    unsigned,
                };
                let tensor = |what: &str, dtype: Dtype| {
                    let view = tensors.tensor(&format!("{number}.{what}")).ok().filter(|view| view.dtype() == dtype);
                    view.map(|view| view.data().to_vec()).ok_or_else(|| wrong(&format!("its {what} are missing")))
                };
                let words = |what| tensor(what, Dtype::I32).map(|bytes| bytemuck::pod_collect_to_vec(&bytes));
                let (bias, weight_exponents): (Vec<i32>, Vec<i32>) = (words("bias")?, words("exponents")?);
                let weights: Vec<i8> = bytemuck::pod_collect_to_vec(&tensor("weights", Dtype::I8)?);
                let fan_in =
                    (groups > 0).then(|| from.channels / groups).and_then(|n| n.checked_mul(kernel.0 * kernel.1));
                if fan_in.and_then(|n| n.checked_mul(map.channels)) != Some(weights.len())
                    || weight_exponents.iter().any(|&e| !in_range(e))
                    || weights.contains(&i8::MIN)
                {
                    return Err(wrong("its weights do not fit it"));
                }
                Op::Conv { parts: vec![Part { conv, weights }], bias, weight_exponents }
            }
            Kind::Average { kernel, stride, padding, all } => {
                Op::Average { window: windowed(kernel, stride, padding)?, all }
            }
            Kind::Max { kernel, stride, padding } => Op::Max(windowed(kernel, stride, padding)?),
            Kind::Add => Op::Add,
            Kind::Concat => Op::Concat,
            Kind::Pad { top, left } => {
                let from = network.map(saved.inputs[0]);
                let fits = |from: usize, before: usize, to: usize| from.checked_add(before).is_some_and(|n| n <= to);
                if !fits(from.height, top, map.height) || !fits(from.width, left, map.width) {
                    return Err(wrong("it is smaller than what it pads"));
                }
                Op::Pad { top, left }
            }
        };
        let Saved { name, inputs, exponent, low, high, .. } = saved;
        network.nodes.push(Node { name, op, inputs, map, exponent, low, high });
    }
    network.check()?;
    Ok(Some(network))
}

/// A tensor for other programs: its name, shape, and floats or integers.
pub struct Tensor<'n> {
    pub name: String,
    /// `[filters, channels, height, width]`; one extent for a bias.
    pub shape: Vec<usize>,
    pub floats: Vec<f32>,
    pub integers: Integers<'n>,
}

/// The integers that the floats are, in the order in which [`Network`] holds them.
pub enum Integers<'n> {
    Bytes(&'n [i8]),
    Words(&'n [i32]),
}

/// Weights and biases of all layers.
pub fn tensors(network: &Network) -> Vec<Tensor<'_>> {
    let mut tensors = Vec::new();
    for node in &network.nodes {
        match &node.op {
            Op::Lookup { rows } => tensors.push(Tensor {
                name: format!("{}.rows", node.name),
                shape: vec![rows.len() / node.map.channels, node.map.channels],
                floats: rows.iter().map(|&row| f32::from(row)).collect(),
                integers: Integers::Bytes(rows),
            }),
            Op::Conv { parts, bias, weight_exponents } => {
                let from = network.exponent(node.inputs[0]);
                for (number, Part { conv, weights }) in parts.iter().enumerate() {
                    let name = if parts.len() == 1 { node.name.clone() } else { format!("{}.{number}", node.name) };
                    let shape = [conv.filters, conv.channels / conv.groups, conv.kernel.0, conv.kernel.1];
                    let unit = |filter: usize| 2f32.powi(weight_exponents[conv.first_filter + filter]);
                    let planes = super::export::to_planes(weights, shape);
                    let per_filter = conv.fan_in();
                    let floats =
                        planes.iter().enumerate().map(|(at, &w)| f32::from(w) * unit(at / per_filter)).collect();
                    let integers = Integers::Bytes(weights);
                    tensors.push(Tensor { name: format!("{name}.weight"), shape: shape.to_vec(), floats, integers });
                    let bias = &bias[conv.first_filter..][..conv.filters];
                    let floats = bias.iter().enumerate();
                    let floats = floats.map(|(at, &b)| b as f32 * unit(at) * 2f32.powi(from)).collect();
                    let (shape, integers) = (vec![conv.filters], Integers::Words(bias));
                    tensors.push(Tensor { name: format!("{name}.bias"), shape, floats, integers });
                }
            }
            _ => {}
        }
    }
    tensors
}
