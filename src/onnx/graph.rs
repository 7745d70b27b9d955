//! Reads an ONNX file and proves that it is whole: names, order, cycles, types and lengths of its constants. Whatever bytes
//! come, the answer is a [`Graph`] or an error that names the node or tensor; no memory is taken that the bytes do not pay
//! for.
//!
//! [`super::lower`] makes a network of it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use prost::Message;

use super::OnnxError;
use super::proto::{self, data_type};

/// Versions of the operators that are understood.
const OPSETS: core::ops::RangeInclusive<i64> = 7..=24;
const MOST_NODES: usize = 20_000;
/// Numbers in one constant, and in all of them.
const MOST_NUMBERS: usize = 1 << 27;

/// Numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Floats(Vec<f32>),
    /// Of 8, 16 or 32 bits.
    Words(Vec<i32>),
    Integers(Vec<i64>),
}

/// A constant tensor; a scalar has no extents.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    pub shape: Vec<usize>,
    pub values: Values,
}

impl Constant {
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Floats(values) => values.len(),
            Values::Words(values) => values.len(),
            Values::Integers(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number `at`.
    pub fn at(&self, at: usize) -> f64 {
        match &self.values {
            Values::Floats(values) => f64::from(values[at]),
            Values::Words(values) => f64::from(values[at]),
            Values::Integers(values) => values[at] as f64,
        }
    }

    /// All numbers as floats.
    pub fn floats(&self) -> Vec<f32> {
        match &self.values {
            Values::Floats(values) => values.clone(),
            _ => (0..self.len()).map(|at| self.at(at) as f32).collect(),
        }
    }

    /// All numbers as integers.
    pub fn integers(&self) -> Vec<i64> {
        match &self.values {
            Values::Integers(values) => values.clone(),
            _ => (0..self.len()).map(|at| self.at(at) as i64).collect(),
        }
    }
}

/// An operator, its tensors by name.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its own name, or that of its first output where it has none.
    pub name: String,
    pub op: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    attributes: HashMap<String, proto::Attribute>,
}

impl Node {
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.attributes.get(name).map(|attribute| attribute.i)
    }

    pub fn float(&self, name: &str) -> Option<f32> {
        self.attributes.get(name).map(|attribute| attribute.f)
    }

    pub fn integers(&self, name: &str) -> Option<&[i64]> {
        self.attributes.get(name).map(|attribute| &attribute.ints[..])
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
    }

    /// Name of input `at`; `None` where it is left out.
    pub fn input(&self, at: usize) -> Option<&str> {
        self.inputs.get(at).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// The one input of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphInput {
    pub name: String,
    /// Extents; `None` where they are free.
    pub shape: Vec<Option<usize>>,
}

/// A checked graph: nodes in an order in which each finds its inputs.
#[derive(Clone, Debug)]
pub struct Graph {
    pub name: String,
    pub nodes: Vec<Node>,
    pub constants: HashMap<String, Constant>,
    pub input: GraphInput,
    pub outputs: Vec<String>,
}

/// Reads the file at `path`, and the files beside it that hold its constants.
///
/// # Errors
/// [`OnnxError`].
pub fn read(path: &Path) -> Result<Graph, OnnxError> {
    let bytes = super::back::read_bytes(path)?;
    parse(&path.display().to_string(), &bytes, path.parent())
}

/// As [`read`], of bytes; `path` is named in errors, constants in other files are sought in `folder`.
///
/// # Errors
/// [`OnnxError`].
pub fn parse(path: &str, bytes: &[u8], folder: Option<&Path>) -> Result<Graph, OnnxError> {
    let wrong = |problem: String| OnnxError::Protobuf { path: path.into(), problem };
    let model = proto::Model::decode(bytes).map_err(|e| wrong(e.to_string()))?;
    let graph = model.graph.ok_or_else(|| wrong("it has no graph".into()))?;
    let opset = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    let version = opset.map(|set| set.version).ok_or_else(|| wrong("it names no set of operators".into()))?;
    if !OPSETS.contains(&version) {
        return Err(OnnxError::Opset { path: path.into(), version, least: *OPSETS.start(), most: *OPSETS.end() });
    }
    if graph.node.len() > MOST_NODES {
        return Err(wrong(format!("it has {} nodes; at most {MOST_NODES} are read", graph.node.len())));
    }
    let (constants, nodes) = constants(graph.initializer, graph.node, folder)?;
    // Older files list their constants among the inputs too.
    let mut inputs = graph.input.iter().filter(|input| !constants.contains_key(&input.name));
    let input = match (inputs.next(), inputs.next()) {
        (Some(input), None) => graph_input(input)?,
        (None, _) => return Err(wrong("it has no input".into())),
        (Some(a), Some(b)) => {
            let problem = format!("it has more than one input: {} and {}; one is read", a.name, b.name);
            return Err(wrong(problem));
        }
    };
    let outputs: Vec<String> = graph.output.into_iter().map(|output| output.name).collect();
    if outputs.is_empty() {
        return Err(wrong("it has no output".into()));
    }
    let nodes = in_order(nodes, &constants, &input.name, &outputs)?;
    Ok(Graph { name: graph.name, nodes, constants, input, outputs })
}

fn graph_input(input: &proto::ValueInfo) -> Result<GraphInput, OnnxError> {
    let tensor = |problem: &str| OnnxError::Tensor { tensor: input.name.clone(), problem: problem.into() };
    let described = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let described = described.ok_or_else(|| tensor("it is an input without a type"))?;
    let dims = described.shape.as_ref().map(|shape| &shape.dim[..]).unwrap_or_default();
    let extent = |dim: &proto::Dimension| match &dim.extent {
        Some(proto::Extent::Value(n)) if *n > 0 => usize::try_from(*n).ok(),
        _ => None,
    };
    Ok(GraphInput { name: input.name.clone(), shape: dims.iter().map(extent).collect() })
}

/// Numbers of all initializers and of the nodes that are constants; the other nodes.
fn constants(
    initializers: Vec<proto::Tensor>,
    nodes: Vec<proto::Node>,
    folder: Option<&Path>,
) -> Result<(HashMap<String, Constant>, Vec<Node>), OnnxError> {
    let (mut constants, mut numbers, mut others) = (HashMap::new(), 0usize, Vec::new());
    let mut add = |name: String, tensor: proto::Tensor| -> Result<(), OnnxError> {
        let constant = constant(&name, tensor, folder)?;
        numbers = numbers.saturating_add(constant.len());
        if numbers > MOST_NUMBERS {
            let what = format!("the constants up to {name}");
            return Err(OnnxError::TooLarge { what, bytes: 4 * numbers as u64, most: 4 * MOST_NUMBERS as u64 });
        }
        if constants.insert(name.clone(), constant).is_some() {
            return Err(OnnxError::Tensor { tensor: name, problem: "there are two of that name".into() });
        }
        Ok(())
    };
    for tensor in initializers {
        add(tensor.name.clone(), tensor)?;
    }
    for (number, node) in nodes.into_iter().enumerate() {
        let first = node.output.first().cloned().unwrap_or_default();
        let name = match (node.name.is_empty(), first.is_empty()) {
            (false, _) => node.name,
            (true, false) => first.clone(),
            (true, true) => format!("number {number} ({})", node.op_type),
        };
        let wrong =
            |problem: &str| OnnxError::Node { node: name.clone(), op: node.op_type.clone(), problem: problem.into() };
        if node.op_type == "Constant" {
            let tensor = match node.attribute.into_iter().find(|a| a.name.starts_with("value")) {
                Some(a) if a.name == "value" => a.t,
                Some(a) if a.name == "value_float" => Some(scalar(data_type::FLOAT, vec![a.f], Vec::new())),
                Some(a) if a.name == "value_int" => Some(scalar(data_type::INT64, Vec::new(), vec![a.i])),
                Some(a) if a.name == "value_ints" => {
                    let dims = vec![a.ints.len() as i64];
                    Some(proto::Tensor { dims, ..scalar(data_type::INT64, Vec::new(), a.ints) })
                }
                Some(a) if a.name == "value_floats" => {
                    let dims = vec![a.floats.len() as i64];
                    Some(proto::Tensor { dims, ..scalar(data_type::FLOAT, a.floats, Vec::new()) })
                }
                _ => None,
            };
            add(first, tensor.ok_or_else(|| wrong("it has no value that can be read"))?)?;
            continue;
        }
        if first.is_empty() {
            return Err(wrong("it has no output"));
        }
        let attributes = node.attribute.into_iter().map(|a| (a.name.clone(), a)).collect();
        let op = match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type,
            domain => format!("{domain}.{}", node.op_type),
        };
        others.push(Node { name, op, inputs: node.input, outputs: node.output, attributes });
    }
    Ok((constants, others))
}

fn scalar(data_type: i32, float_data: Vec<f32>, int64_data: Vec<i64>) -> proto::Tensor {
    proto::Tensor { data_type, float_data, int64_data, ..Default::default() }
}

/// The numbers of a tensor, as many as its extents say, all finite.
fn constant(name: &str, tensor: proto::Tensor, folder: Option<&Path>) -> Result<Constant, OnnxError> {
    let wrong = |problem: String| OnnxError::Tensor { tensor: name.into(), problem };
    let extents = tensor.dims.iter().map(|&n| usize::try_from(n).ok());
    let shape: Option<Vec<usize>> = extents.collect();
    let shape = shape.ok_or_else(|| wrong(format!("its extents are {:?}", tensor.dims)))?;
    let len = shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n)).unwrap_or(usize::MAX);
    if len > MOST_NUMBERS {
        let what = format!("tensor {name}");
        return Err(OnnxError::TooLarge { what, bytes: len.saturating_mul(4) as u64, most: 4 * MOST_NUMBERS as u64 });
    }
    let raw = if tensor.data_location == 1 { external(name, &tensor.external_data, folder)? } else { tensor.raw_data };
    let size = match tensor.data_type {
        data_type::FLOAT | data_type::INT32 => 4,
        data_type::INT64 | data_type::DOUBLE => 8,
        data_type::INT8 | data_type::UINT8 => 1,
        data_type::INT16 => 2,
        other => return Err(wrong(format!("its numbers are {}, which are not read", data_type::name(other)))),
    };
    let held = match tensor.data_type {
        _ if !raw.is_empty() || len == 0 => raw.len() / size,
        data_type::FLOAT => tensor.float_data.len(),
        data_type::DOUBLE => tensor.double_data.len(),
        data_type::INT64 => tensor.int64_data.len(),
        _ => tensor.int32_data.len(),
    };
    if held != len || (!raw.is_empty() && raw.len() != len * size) {
        return Err(wrong(format!("it holds {held} numbers and its extents {shape:?} want {len}")));
    }
    let values = match tensor.data_type {
        data_type::FLOAT if raw.is_empty() => Values::Floats(tensor.float_data),
        data_type::FLOAT => Values::Floats(raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        data_type::DOUBLE if raw.is_empty() => Values::Floats(tensor.double_data.iter().map(|&v| v as f32).collect()),
        data_type::DOUBLE => Values::Floats(raw.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect()),
        data_type::INT64 if raw.is_empty() => Values::Integers(tensor.int64_data),
        data_type::INT64 => Values::Integers(raw.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect()),
        _ if raw.is_empty() => Values::Words(tensor.int32_data),
        data_type::INT32 => Values::Words(raw.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect()),
        data_type::INT16 => {
            Values::Words(raw.as_chunks().0.iter().map(|&b| i32::from(i16::from_le_bytes(b))).collect())
        }
        data_type::INT8 => Values::Words(raw.iter().map(|&b| i32::from(b as i8)).collect()),
        _ => Values::Words(raw.iter().map(|&b| i32::from(b)).collect()),
    };
    if let Values::Floats(values) = &values
        && let Some(at) = values.iter().position(|v| !v.is_finite())
    {
        return Err(wrong(format!("number {at} of it is {}", values[at])));
    }
    Ok(Constant { shape, values })
}

/// The bytes of a tensor in a file beside the network.
fn external(name: &str, entries: &[proto::Entry], folder: Option<&Path>) -> Result<Vec<u8>, OnnxError> {
    use std::io::{Read, Seek, SeekFrom};
    let entry = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let file = entry("location").unwrap_or_default();
    let wrong = |problem: String| OnnxError::External { tensor: name.into(), file: file.into(), problem };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| wrong(format!("its {key} is \"{text}\""))),
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let place = Path::new(file);
    let beside = place.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let folder =
        folder.filter(|_| beside && !file.is_empty()).ok_or_else(|| wrong("it is not beside the network".into()))?;
    let mut from = std::fs::File::open(folder.join(place)).map_err(|e| wrong(e.to_string()))?;
    let held = from.metadata().map_err(|e| wrong(e.to_string()))?.len();
    let length = length.unwrap_or(held.saturating_sub(offset));
    if offset.saturating_add(length) > held || length > 4 * MOST_NUMBERS as u64 {
        return Err(wrong(format!("{length} bytes from {offset} on are wanted and it has {held}")));
    }
    from.seek(SeekFrom::Start(offset)).map_err(|e| wrong(e.to_string()))?;
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
    Ok(bytes)
}

/// The nodes, each after those that it reads.
fn in_order(
    nodes: Vec<Node>,
    constants: &HashMap<String, Constant>,
    input: &str,
    outputs: &[String],
) -> Result<Vec<Node>, OnnxError> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (number, node) in nodes.iter().enumerate() {
        for output in node.outputs.iter().filter(|output| !output.is_empty()) {
            if constants.contains_key(output) || output == input || makers.insert(output, number).is_some() {
                return Err(OnnxError::Tensor { tensor: output.clone(), problem: "there are two of that name".into() });
            }
        }
    }
    let known = |name: &str| name.is_empty() || name == input || constants.contains_key(name);
    let mut waiting = vec![0usize; nodes.len()];
    let mut readers = vec![Vec::new(); nodes.len()];
    for (number, node) in nodes.iter().enumerate() {
        for name in node.inputs.iter().filter(|name| !known(name)) {
            let Some(&maker) = makers.get(name.as_str()) else {
                let problem = format!("it reads {name}, which nobody makes");
                return Err(OnnxError::Node { node: node.name.clone(), op: node.op.clone(), problem });
            };
            waiting[number] += 1;
            readers[maker].push(number);
        }
    }
    if let Some(output) = outputs.iter().find(|output| !known(output) && !makers.contains_key(output.as_str())) {
        return Err(OnnxError::Tensor { tensor: output.clone(), problem: "it is an output that nobody makes".into() });
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&number| waiting[number] == 0).rev().collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(number) = ready.pop() {
        order.push(number);
        for &reader in &readers[number] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.push(reader);
            }
        }
    }
    if order.len() < nodes.len() {
        let done: HashSet<usize> = order.into_iter().collect();
        let stuck = (0..nodes.len()).find(|number| !done.contains(number)).map(|number| &nodes[number]);
        let (node, op) = stuck.map(|node| (node.name.clone(), node.op.clone())).unwrap_or_default();
        return Err(OnnxError::Node { node, op, problem: "it waits for its own output: the graph has a cycle".into() });
    }
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|number| nodes[number].take()).collect())
}
