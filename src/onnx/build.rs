//! Puts nodes and constants of an ONNX graph together. [`super::export`] says which.

use std::collections::HashSet;

use super::network::Window;
use super::proto::{self, attribute_type, data_type};
use crate::augment::signal::ChannelScale;
use crate::kernels::{Conv, Map};

/// A graph that is being written. Methods return the name of the tensor that they make.
#[derive(Default)]
pub struct Builder {
    graph: proto::Graph,
    /// Names of tensors, and of nodes.
    taken: HashSet<String>,
    nodes: HashSet<String>,
}

/// An attribute: integers; one of them where it is no list.
pub type Attribute<'a> = (&'a str, Vec<i64>);

/// Attributes that are lists however many numbers they have.
const LISTS: [&str; 5] = ["kernel_shape", "strides", "pads", "perm", "axes"];

fn pair((a, b): (usize, usize)) -> Vec<i64> {
    vec![a as i64, b as i64]
}

/// `name`, with as many strokes behind it as it takes to be new in `taken`.
fn free(taken: &mut HashSet<String>, name: &str) -> String {
    let mut name = name.to_string();
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

impl Builder {
    pub fn finish(mut self, name: &str) -> proto::Graph {
        self.graph.name = name.into();
        self.graph
    }

    /// Names of inputs and outputs of the graph, which nothing else is to have.
    pub fn reserve(&mut self, names: &[&str]) {
        self.taken.extend(names.iter().map(|&name| name.to_string()));
    }

    /// `name`, or another one where nodes of a network of others are called like ours.
    fn free(&mut self, name: &str) -> String {
        free(&mut self.taken, name)
    }

    /// A tensor `[N, shape…]` for inputs and outputs.
    pub fn value_info(name: &str, kind: i32, shape: &[usize], doc: &str) -> proto::ValueInfo {
        let free = proto::Dimension { extent: Some(proto::Extent::Name("N".into())) };
        let fixed = |&n: &usize| proto::Dimension { extent: Some(proto::Extent::Value(n as i64)) };
        let shape = proto::Shape { dim: core::iter::once(free).chain(shape.iter().map(fixed)).collect() };
        let tensor_type = Some(proto::TensorType { elem_type: kind, shape: Some(shape) });
        proto::ValueInfo { name: name.into(), r#type: Some(proto::Type { tensor_type }), doc_string: doc.into() }
    }

    /// The node that makes the graph's output, a name that was reserved.
    pub fn last(&mut self, op: &str, name: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        self.push(op, name, inputs, name, attributes)
    }

    /// A node whose output is called `output`.
    pub fn named(&mut self, op: &str, name: &str, inputs: &[&str], output: &str, attributes: &[Attribute]) -> String {
        let output = self.free(output);
        self.push(op, name, inputs, &output, attributes)
    }

    fn push(&mut self, op: &str, name: &str, inputs: &[&str], output: &str, attributes: &[Attribute]) -> String {
        let attribute = |(name, values): &Attribute| {
            let list = LISTS.contains(name);
            let (kind, i) = if list { (attribute_type::INTS, 0) } else { (attribute_type::INT, values[0]) };
            let ints = if list { values.clone() } else { Vec::new() };
            proto::Attribute { name: (*name).into(), i, ints, r#type: kind, ..Default::default() }
        };
        let name = free(&mut self.nodes, name);
        self.graph.node.push(proto::Node {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            name,
            op_type: op.into(),
            attribute: attributes.iter().map(attribute).collect(),
            domain: String::new(),
        });
        output.into()
    }

    /// A node whose output has its own name.
    pub fn node(&mut self, op: &str, name: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        self.named(op, name, inputs, name, attributes)
    }

    fn constant(&mut self, name: &str, kind: i32, shape: &[usize], raw_data: Vec<u8>) -> String {
        let name = self.free(name);
        self.graph.initializer.push(proto::Tensor {
            dims: shape.iter().map(|&n| n as i64).collect(),
            data_type: kind,
            name: name.clone(),
            raw_data,
            ..Default::default()
        });
        name
    }

    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.constant(name, data_type::FLOAT, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn doubles(&mut self, name: &str, shape: &[usize], values: &[f64]) -> String {
        self.constant(name, data_type::DOUBLE, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(name, data_type::INT64, &[values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn words(&mut self, name: &str, values: &[i32]) -> String {
        self.constant(name, data_type::INT32, &[values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn bytes(&mut self, name: &str, shape: &[usize], values: &[i8]) -> String {
        self.constant(name, data_type::INT8, shape, bytemuck::cast_slice(values).to_vec())
    }

    /// The floats of a constant of integers, with one scale or one for each of its first axis.
    pub fn dequantize_constant(&mut self, name: &str, constant: &str, scales: &[f32], kind: i32) -> String {
        let same = scales.iter().all(|scale| scale == &scales[0]);
        let shape: &[usize] = if same { &[] } else { &[scales.len()] };
        let scales = if same { &scales[..1] } else { scales };
        let scale = self.floats(&format!("{name}.scale"), shape, scales);
        let zeros = vec![0; scales.len() * if kind == data_type::INT32 { 4 } else { 1 }];
        let zero = self.constant(&format!("{name}.zero"), kind, shape, zeros);
        let axis: &[Attribute] = if same { &[] } else { &[("axis", vec![0])] };
        self.node("DequantizeLinear", name, &[constant, &scale, &zero], axis)
    }

    /// One scale and its zero, shared by all who ask for the same.
    fn scale(&mut self, scale: f32, positive: bool) -> (String, String) {
        let kind = if positive { data_type::UINT8 } else { data_type::INT8 };
        let (scale_name, zero) = (format!("scale.{:08x}", scale.to_bits()), format!("zero.{}", data_type::name(kind)));
        let known = |graph: &proto::Graph, name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
        if !known(&self.graph, &scale_name) {
            self.floats(&scale_name, &[], &[scale]);
        }
        if !known(&self.graph, &zero) {
            self.constant(&zero, kind, &[], vec![0]);
        }
        (scale_name, zero)
    }

    /// Floats as `uint8` where none is negative, else as `int8`.
    pub fn quantize(&mut self, name: &str, floats: &str, scale: f32, positive: bool) -> String {
        let (scale, zero) = self.scale(scale, positive);
        let node = format!("{name}.quantize");
        self.named("QuantizeLinear", &node, &[floats, &scale, &zero], name, &[])
    }

    /// The floats of the mantissas `name`, by a node of its own for each who reads them: so runtimes find the pattern.
    pub fn dequantize(&mut self, name: &str, scale: f32, positive: bool) -> String {
        let (scale, zero) = self.scale(scale, positive);
        let number = self.graph.node.len();
        self.node("DequantizeLinear", &format!("{name}.float{number}"), &[name, &scale, &zero], &[])
    }

    pub fn clip(&mut self, name: &str, x: &str, low: f32, high: f32) -> String {
        let low = self.floats(&format!("{name}.low"), &[], &[low]);
        let high = self.floats(&format!("{name}.high"), &[], &[high]);
        self.node("Clip", name, &[x, &low, &high], &[])
    }

    pub fn transpose(&mut self, name: &str, x: &str, order: &[i64]) -> String {
        self.node("Transpose", name, &[x], &[("perm", order.to_vec())])
    }

    pub fn unsqueeze(&mut self, name: &str, x: &str, axis: i64) -> String {
        let axes = self.integers(&format!("{name}.axes"), &[axis]);
        self.node("Unsqueeze", name, &[x, &axes], &[])
    }

    /// Pixels `[N, height, width, channels]` as floats `[N, channels, height, width]`.
    pub fn planes(&mut self, pixels: &str) -> String {
        let x = self.transpose("input.planes", pixels, &[0, 3, 1, 2]);
        self.node("Cast", "input.float", &[&x], &[("to", vec![i64::from(data_type::FLOAT)])])
    }

    /// Readings scaled as by [`crate::augment::signal::to_input`], in doubles, which hold the products exactly.
    pub fn scaled(&mut self, x: &str, scales: &[ChannelScale], shape: &[usize]) -> String {
        let means: Vec<f64> = scales.iter().map(|scale| f64::from(scale.mean()) / 256.0).collect();
        let factors: Vec<f64> = scales.iter().map(|scale| f64::from(scale.factor()) / 65536.0).collect();
        let (means, factors) =
            (self.doubles("input.mean", shape, &means), self.doubles("input.factor", shape, &factors));
        let half = self.doubles("input.half", &[], &[0.5]);
        let x = self.node("Cast", "input.double", &[x], &[("to", vec![i64::from(data_type::DOUBLE)])]);
        let x = self.node("Sub", "input.centred", &[&x, &means], &[]);
        let x = self.node("Mul", "input.scaled", &[&x, &factors], &[]);
        let x = self.node("Add", "input.up", &[&x, &half], &[]);
        let x = self.node("Floor", "input.floor", &[&x], &[]);
        let x = self.node("Cast", "input.float", &[&x], &[("to", vec![i64::from(data_type::FLOAT)])]);
        self.clip("input.clip", &x, -127.0, 127.0)
    }

    pub fn slice_channels(&mut self, name: &str, x: &str, first: usize, count: usize) -> String {
        let constants = [("from", first as i64), ("to", (first + count) as i64), ("axis", 1)];
        let [from, to, axis] = constants.map(|(what, value)| self.integers(&format!("{name}.{what}"), &[value]));
        self.node("Slice", name, &[x, &from, &to, &axis], &[])
    }

    pub fn concat(&mut self, name: &str, parts: &[String]) -> String {
        let inputs: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.node("Concat", name, &inputs, &[("axis", vec![1])])
    }

    pub fn conv(&mut self, name: &str, inputs: &[&str], conv: &Conv) -> String {
        let (down, across) = (conv.padding.0 as i64, conv.padding.1 as i64);
        let attributes = [
            ("kernel_shape", pair(conv.kernel)),
            ("strides", pair(conv.stride)),
            ("pads", vec![down, across, down, across]),
            ("group", vec![conv.groups as i64]),
        ];
        self.node("Conv", name, inputs, &attributes)
    }

    #[allow(clippy::too_many_arguments)]
    pub fn pool(
        &mut self,
        op: &str,
        name: &str,
        x: &str,
        window: &Window,
        from: Map,
        to: Map,
        others: &[Attribute],
    ) -> String {
        let after = |extent: usize, out: usize, kernel: usize, stride: usize, before: usize| {
            ((out - 1) * stride + kernel).saturating_sub(before + extent) as i64
        };
        let Window { kernel, stride, padding } = *window;
        let bottom = after(from.height, to.height, kernel.0, stride.0, padding.0);
        let right = after(from.width, to.width, kernel.1, stride.1, padding.1);
        let mut attributes = vec![
            ("kernel_shape", pair(kernel)),
            ("strides", pair(stride)),
            ("pads", vec![padding.0 as i64, padding.1 as i64, bottom, right]),
        ];
        attributes.extend_from_slice(others);
        self.node(op, name, &[x], &attributes)
    }
}
