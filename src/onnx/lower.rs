//! From a graph to a [`FloatNetwork`]: each operator becomes a convolution, a pooling, a sum or nothing at all. Batch
//! normalisation and other factors by channel are folded into the convolution below, activations become bounds, pairs of
//! `QuantizeLinear` and `DequantizeLinear` are passed through. What cannot be brought in is listed, all of it at once.

use std::collections::HashMap;

use super::OnnxError;
use super::error::Unsupported;
use super::float::{FloatNetwork, FloatNode, FloatOp};
use super::graph::{Constant, Graph, GraphInput, Node};
use super::network::Window;
use super::ops::{self, Wrong};
use crate::kernels::{Conv, Map};

/// Most numbers in a map.
const MOST_NUMBERS: usize = 1 << 26;

/// What is known of the network beside its file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Height and width where the file leaves them free.
    pub size: Option<(usize, usize)>,
    /// The tensor that is the feature, where it is not the network's first output.
    pub output: Option<String>,
}

/// What a tensor of the graph is here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A map.
    Map(usize),
    /// A map of which all numbers stand in one row, channel by channel.
    Flat(usize),
    /// Shapes that are computed: only what reshapes asks for them.
    Shape,
    /// Made of what cannot be brought in.
    Unknown,
}

/// See the module.
pub(super) struct Lowering<'g> {
    pub graph: &'g Graph,
    pub constants: HashMap<&'g str, Constant>,
    pub nodes: Vec<FloatNode>,
    pub input: Map,
    values: HashMap<&'g str, Value>,
    /// The tensor that each one is but for its rounding.
    roots: HashMap<&'g str, &'g str>,
    /// How many nodes that change something read each of those, and the outputs.
    readers: HashMap<&'g str, usize>,
}

/// Operators that pass on what they read.
const PASSING: [&str; 5] = ["Identity", "Dropout", "QuantizeLinear", "DequantizeLinear", "Cast"];

/// Makes a network of `graph`.
///
/// # Errors
/// [`OnnxError::Unsupported`] with all nodes that cannot be brought in; [`OnnxError::Input`], [`OnnxError::Tensor`].
pub fn lower(graph: &Graph, options: &Options) -> Result<FloatNetwork, OnnxError> {
    let input = input_map(&graph.input, options.size)?;
    let output = options.output.as_deref().unwrap_or(&graph.outputs[0]);
    let needed = needed(graph, output)?;
    let mut lowering = Lowering::new(graph, input);
    let mut unsupported = Vec::new();
    for (node, _) in graph.nodes.iter().zip(&needed).filter(|(_, needed)| **needed) {
        let value = match lowering.node(node) {
            Ok(value) => value,
            Err(Wrong(problem)) => {
                let (name, op) = (node.name.clone(), node.op.clone());
                let input = node.input(0).unwrap_or_default().to_string();
                unsupported.push(Unsupported { node: name, op, problem, input });
                Some(Value::Unknown)
            }
        };
        if let Some(value) = value {
            lowering.values.insert(&node.outputs[0], value);
        }
    }
    if !unsupported.is_empty() {
        return Err(OnnxError::Unsupported(unsupported));
    }
    let tensor = |problem: &str| OnnxError::Tensor { tensor: output.into(), problem: problem.into() };
    let (Some(Value::Map(value)) | Some(Value::Flat(value))) = lowering.values.get(output).copied() else {
        return Err(tensor("it is no map that the network computes"));
    };
    if value == 0 {
        return Err(tensor("it is the input itself"));
    }
    let name = if graph.name.is_empty() { "network".into() } else { graph.name.clone() };
    Ok(FloatNetwork { name, input, nodes: lowering.nodes, output: value })
}

/// The shape of the one input: `[N, channels, height, width]`, or `[N, height, width, channels]`.
pub(super) fn input_map(input: &GraphInput, size: Option<(usize, usize)>) -> Result<Map, OnnxError> {
    let wrong =
        |problem: String, remedy: &str| OnnxError::Input { input: input.name.clone(), problem, remedy: remedy.into() };
    let [_, a, b, c] = input.shape[..] else {
        let problem = format!("it has {} axes, and images have four", input.shape.len());
        return Err(wrong(problem, "import a network of images, [N, channels, height, width]"));
    };
    let is_colour = |n: Option<usize>| matches!(n, Some(1 | 3));
    let (channels, height, width) = match (is_colour(a), is_colour(c)) {
        (true, _) => (a, b, c),
        (false, true) => (c, a, b),
        _ => {
            let problem = "its channels are neither 1 nor 3".to_string();
            return Err(wrong(problem, "import a network of grey or colour images, whose channels are not left free"));
        }
    };
    let (height, width) = match (height, width, size) {
        (Some(height), Some(width), None) => (height, width),
        (height, width, Some((h, w))) if height.is_none_or(|n| n == h) && width.is_none_or(|n| n == w) => (h, w),
        (Some(height), Some(width), Some(_)) => {
            return Err(wrong(format!("it is {height}x{width}"), "leave --size out"));
        }
        _ => return Err(wrong("its height or width is left free".into(), "say what it is with --size HEIGHTxWIDTH")),
    };
    let map = Map::new(height, width, channels.unwrap_or(0));
    if height > 4096 || width > 4096 || map.is_empty() {
        return Err(wrong(format!("it is {height}x{width}"), "import a network of images of at most 4096x4096"));
    }
    Ok(map)
}

/// Which nodes `output` is made of.
fn needed(graph: &Graph, output: &str) -> Result<Vec<bool>, OnnxError> {
    let mut wanted = std::collections::HashSet::from([output]);
    let mut needed = vec![false; graph.nodes.len()];
    let mut found = false;
    for (number, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|name| wanted.contains(name.as_str())) {
            found |= node.outputs.iter().any(|name| name == output);
            needed[number] = true;
            wanted.extend(node.inputs.iter().map(String::as_str));
        }
    }
    if found {
        return Ok(needed);
    }
    Err(OnnxError::Tensor { tensor: output.into(), problem: "no node makes it, and it is to be the feature".into() })
}

impl<'g> Lowering<'g> {
    fn new(graph: &'g Graph, input: Map) -> Self {
        let (mut roots, mut readers): (HashMap<&str, &str>, HashMap<&str, usize>) = Default::default();
        for node in &graph.nodes {
            let root = |name: &'g String| roots.get(name.as_str()).copied().unwrap_or(name);
            if PASSING.contains(&node.op.as_str())
                && let Some(input) = node.inputs.first()
            {
                let root = root(input);
                roots.insert(&node.outputs[0], root);
                continue;
            }
            node.inputs.iter().for_each(|name| *readers.entry(root(name)).or_insert(0) += 1);
        }
        for output in &graph.outputs {
            *readers.entry(roots.get(output.as_str()).copied().unwrap_or(output)).or_insert(0) += 1;
        }
        let values = HashMap::from([(graph.input.name.as_str(), Value::Map(0))]);
        Lowering { graph, constants: HashMap::new(), nodes: Vec::new(), input, values, roots, readers }
    }

    /// What tensor `name` is; `None` for constants.
    pub fn value(&self, name: &str) -> Option<Value> {
        self.values.get(name).copied()
    }

    pub fn constant(&self, name: &str) -> Option<&Constant> {
        self.constants.get(name).or_else(|| self.graph.constants.get(name))
    }

    /// The constant that is input `at` of `node`.
    pub fn constant_input(&self, node: &Node, at: usize) -> Option<&Constant> {
        node.input(at).and_then(|name| self.constant(name))
    }

    /// The map that is input `at` of `node`.
    pub fn map_input(&self, node: &Node, at: usize) -> Result<usize, Wrong> {
        let name = node.input(at).ok_or_else(|| Wrong(format!("its input {at} is left out")))?;
        match self.value(name) {
            Some(Value::Map(value)) => Ok(value),
            Some(Value::Flat(_)) => Err(Wrong(format!("its input {name} is a row, and it wants a map"))),
            _ => Err(Wrong(format!("its input {name} is no map"))),
        }
    }

    pub fn map(&self, value: usize) -> Map {
        value.checked_sub(1).map_or(self.input, |node| self.nodes[node].map)
    }

    /// Whether only one node reads tensor `name`, or what is that tensor but for its rounding.
    pub fn has_one_reader(&self, name: &str) -> bool {
        self.readers.get(self.roots.get(name).copied().unwrap_or(name)) == Some(&1)
    }

    /// Adds a node without bounds; its value.
    pub fn add(&mut self, node: &Node, op: FloatOp, inputs: Vec<usize>, map: Map) -> Result<usize, Wrong> {
        if map.is_empty() || map.len() > MOST_NUMBERS {
            return Err(Wrong(format!("its output is {}x{}x{}", map.height, map.width, map.channels)));
        }
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        let tensor = node.outputs[0].clone();
        self.nodes.push(FloatNode { name: node.name.clone(), op, inputs, map, low, high, tensor });
        Ok(self.nodes.len())
    }

    /// The convolution that makes `value` and nothing after it, where only `name`'s reader reads it.
    pub fn fusable(&mut self, name: &str, value: usize) -> Option<&mut FloatNode> {
        let one = self.has_one_reader(name);
        let node = value.checked_sub(1).map(|at| &mut self.nodes[at])?;
        (one && node.low == f32::NEG_INFINITY && node.high == f32::INFINITY).then_some(node)
    }

    /// What `node` makes; `None` where it makes a constant.
    fn node(&mut self, node: &'g Node) -> Result<Option<Value>, Wrong> {
        let of = |name: &String| self.values.get(name.as_str()).copied();
        if node.inputs.iter().filter_map(of).any(|value| value == Value::Unknown) {
            return Ok(Some(Value::Unknown));
        }
        if let Some(value) = ops::shapes(self, node) {
            return Ok(Some(value));
        }
        match node.op.as_str() {
            "Identity" | "Dropout" | "QuantizeLinear" | "Cast" => self.pass(node),
            "DequantizeLinear" => self.dequantize(node),
            "Conv" => ops::conv(self, node).map(Some),
            "BatchNormalization" => ops::batch_norm(self, node).map(Some),
            "Relu" => ops::clip(self, node, 0.0, f32::INFINITY).map(Some),
            "Clip" => {
                let bound = |at: usize, name: &str, default: f32| {
                    let constant = self.constant_input(node, at).filter(|c| c.len() == 1).map(|c| c.at(0) as f32);
                    match node.input(at) {
                        Some(_) => constant.ok_or_else(|| Wrong("its bounds are no constants".into())),
                        None => Ok(node.float(name).unwrap_or(default)),
                    }
                };
                let (low, high) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
                ops::clip(self, node, low, high).map(Some)
            }
            "MaxPool" | "AveragePool" => ops::pool(self, node).map(Some),
            "GlobalAveragePool" | "GlobalMaxPool" | "ReduceMean" => ops::global(self, node).map(Some),
            "Gemm" | "MatMul" => ops::dense(self, node).map(Some),
            "Add" | "Sub" | "Mul" | "Div" => ops::arithmetic(self, node).map(Some),
            "Concat" => ops::concat(self, node).map(Some),
            "Pad" => ops::pad(self, node).map(Some),
            "Flatten" | "Reshape" | "Squeeze" => ops::flatten(self, node).map(Some),
            "Transpose" => ops::transpose(self, node).map(Some),
            "QLinearConv" | "QLinearMatMul" | "QLinearAdd" | "ConvInteger" => Err(Wrong(
                "operators on integers are not read; export the network with QuantizeLinear and \
                           DequantizeLinear (QDQ)"
                    .into(),
            )),
            _ => Err(Wrong("there is no such layer here".into())),
        }
    }

    /// Nothing is done to it.
    fn pass(&mut self, node: &'g Node) -> Result<Option<Value>, Wrong> {
        let name = node.input(0).ok_or_else(|| Wrong("it has no input".into()))?;
        if let Some(value) = self.value(name) {
            return Ok(Some(value));
        }
        let constant = self.constant(name).cloned().ok_or_else(|| Wrong(format!("its input {name} is unknown")))?;
        if node.op == "QuantizeLinear" {
            return Err(Wrong("it rounds a constant; fold it before".into()));
        }
        self.constants.insert(&node.outputs[0], constant);
        Ok(None)
    }

    /// Of a constant, its floats; of a map, which was rounded by the node before, the map.
    fn dequantize(&mut self, node: &'g Node) -> Result<Option<Value>, Wrong> {
        let name = node.input(0).ok_or_else(|| Wrong("it has no input".into()))?;
        if let Some(value) = self.value(name) {
            return Ok(Some(value));
        }
        let constant = ops::dequantized(self, node, name)?;
        self.constants.insert(&node.outputs[0], constant);
        Ok(None)
    }
}

/// A convolution of `map` without padding, for [`ops`].
pub(super) fn plain_conv(map: Map, filters: usize, kernel: (usize, usize), groups: usize) -> Conv {
    let output = Map::new(map.height - kernel.0 + 1, map.width - kernel.1 + 1, filters);
    Conv {
        input: map,
        first_channel: 0,
        channels: map.channels,
        filters,
        kernel,
        stride: (1, 1),
        padding: (0, 0),
        groups,
        output,
        first_filter: 0,
        unsigned: false,
    }
}

/// The window of one position, which changes nothing.
pub(super) const ONE: Window = Window { kernel: (1, 1), stride: (1, 1), padding: (0, 0) };
