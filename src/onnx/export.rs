//! A [`Network`] as an ONNX file: in plain floats, or with `QuantizeLinear` and `DequantizeLinear` around every step
//! (QDQ), whose scales are the powers of two that the integers have.
//!
//! The graph begins where a sample is stored (fitted pixels, readings, levels, codes), so that whoever runs it needs
//! nothing of ours, and ends with all blocks of the feature side by side, in the order in which `nestling run` gives them.

use prost::Message;

use super::build::Builder;
use super::network::{Input, Network, Node, Op, Part, Window};
use super::proto::{self, data_type};
use crate::kernels::{Conv, Grid, Map};

/// In which numbers a file computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats, nothing rounded; what is clamped is clamped all the same.
    Float,
    /// 8-bit integers by `QuantizeLinear` and `DequantizeLinear`.
    Qdq,
}

/// The version of the operators that we write; `QuantizeLinear` by channel came with 13.
const OPSET: i64 = 13;
/// The version of the file format that came with them.
const IR_VERSION: i64 = 7;

/// The bytes of `network` in an ONNX file, with `metadata` as its properties.
pub fn export(network: &Network, format: Format, metadata: &[(String, String)]) -> Vec<u8> {
    let mut writer = Writer { network, format, graph: Builder::default(), values: Vec::new(), positive: vec![false] };
    writer.graph.reserve(&["pixels", "readings", "levels", "codes", "feature"]);
    let input = writer.input();
    writer.values.push(input);
    for node in &network.nodes {
        let keeps = !matches!(node.op, Op::Conv { .. } | Op::Lookup { .. });
        let positive = node.low >= 0 || (keeps && node.inputs.iter().all(|&value| writer.positive[value]));
        writer.positive.push(positive);
        let value = writer.node(node);
        writer.values.push(value);
    }
    let output = writer.output();
    let mut graph = writer.graph.finish(&network.name);
    graph.input.push(describe_input(&network.input));
    graph.output.push(output);
    let entry = |(key, value): &(String, String)| proto::Entry { key: key.clone(), value: value.clone() };
    let model = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "nestling".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: String::new(),
        graph: Some(graph),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata.iter().map(entry).collect(),
    };
    model.encode_to_vec()
}

fn describe_input(input: &Input) -> proto::ValueInfo {
    let map = input.map();
    let (name, kind, shape, doc) = match input {
        Input::Pixels(_) | Input::Normalized { .. } => {
            let shape = vec![map.height, map.width, map.channels];
            ("pixels", data_type::UINT8, shape, "frames, averaged to this size by a box filter; RGB or grey")
        }
        Input::Latents { .. } => {
            let shape = vec![map.height, map.width, map.channels];
            ("latents", data_type::UINT8, shape, "latents of the backbone: mantissas and 128")
        }
        Input::Readings { length, scales } => {
            ("readings", data_type::INT16, vec![*length, scales.len()], "windows of sensor readings")
        }
        Input::Levels { columns, scales } => {
            ("levels", data_type::UINT8, vec![scales.len(), *columns], "log-mel levels of sound, in steps of 0.376 dB")
        }
        Input::Codes { length, .. } => {
            ("codes", data_type::INT32, vec![*length], "codes; the first beyond the last is the mask")
        }
    };
    Builder::value_info(name, kind, &shape, doc)
}

struct Writer<'n> {
    network: &'n Network,
    format: Format,
    graph: Builder,
    /// Names of the tensors of all values so far, `[N, channels, height, width]`: floats, or mantissas, as `uint8` where
    /// none is negative and else as `int8`. Runtimes on x86 have integer products for the former, and exact ones for up to
    /// 127.
    values: Vec<String>,
    /// Whether a value is never negative.
    positive: Vec<bool>,
}

impl Writer<'_> {
    fn is_float(&self) -> bool {
        self.format == Format::Float
    }

    /// From what comes in to the first map.
    fn input(&mut self) -> String {
        let input = &self.network.input;
        let g = &mut self.graph;
        let map = match input {
            Input::Pixels(map) => {
                let x = g.planes("pixels");
                let x = if map.channels == 3 {
                    // luma (R + 2G + B + 2) / 4, and the differences (R − G) / 2 and (R + G − 2B) / 4, rounded down
                    let weights = [0.25, 0.5, 0.25, 0.5, -0.5, 0.0, 0.25, 0.25, -0.5];
                    let weights = g.floats("input.weight", &[3, 3, 1, 1], &weights);
                    let bias = g.floats("input.bias", &[3], &[0.5, 0.0, 0.0]);
                    let x = g.node("Conv", "input.opponent", &[&x, &weights, &bias], &[]);
                    let x = g.node("Floor", "input.floor", &[&x], &[]);
                    let offset = g.floats("input.offset", &[1, 3, 1, 1], &[128.0, 0.0, 0.0]);
                    g.node("Sub", "input.centred", &[&x, &offset], &[])
                } else {
                    let offset = g.floats("input.offset", &[1, 1, 1, 1], &[128.0]);
                    g.node("Sub", "input.centred", &[&x, &offset], &[])
                };
                g.clip("input.map", &x, -127.0, 127.0)
            }
            Input::Latents { scales, .. } => {
                let x = g.scaled("latents", scales, &[scales.len()]);
                g.transpose("input.map", &x, &[0, 3, 1, 2])
            }
            Input::Normalized { map, mean, deviation, exponent } => {
                let x = g.planes("pixels");
                let shape = [1, map.channels, 1, 1];
                let mean: Vec<f32> = mean.iter().map(|mean| 255.0 * mean).collect();
                let factor: Vec<f32> = deviation.iter().map(|deviation| 1.0 / (255.0 * deviation)).collect();
                let (mean, factor) = (g.floats("input.mean", &shape, &mean), g.floats("input.factor", &shape, &factor));
                let x = g.node("Sub", "input.centred", &[&x, &mean], &[]);
                let x = g.node("Mul", "input.normal", &[&x, &factor], &[]);
                let unit = 2f32.powi(*exponent);
                g.clip("input.map", &x, -127.0 * unit, 127.0 * unit)
            }
            Input::Readings { scales, .. } => {
                let x = g.scaled("readings", scales, &[scales.len()]);
                let x = g.transpose("input.channels", &x, &[0, 2, 1]);
                g.unsqueeze("input.map", &x, 2)
            }
            Input::Levels { scales, .. } => {
                let x = g.scaled("levels", scales, &[scales.len(), 1]);
                g.unsqueeze("input.map", &x, 1)
            }
            // Its rows are looked up in the first node.
            Input::Codes { .. } => return "codes".into(),
        };
        if self.is_float() { map } else { self.quantize("input", &map, self.network.input.exponent(), 1.0, false) }
    }

    /// The floats of a value.
    fn floats(&mut self, value: usize) -> String {
        let name = self.values[value].clone();
        self.floats_of(&name, value)
    }

    /// The floats of `name`, which are those of a value or some of its channels.
    fn floats_of(&mut self, name: &str, value: usize) -> String {
        if self.is_float() {
            return name.into();
        }
        self.graph.dequantize(name, 2f32.powi(self.network.exponent(value)), self.positive[value])
    }

    fn quantize(&mut self, name: &str, floats: &str, exponent: i32, nudge: f32, positive: bool) -> String {
        self.graph.quantize(name, floats, 2f32.powi(exponent) * nudge, positive)
    }

    /// What [`Node`] rounds and clamps, of the value that is being made.
    fn narrow(&mut self, name: &str, node: &Node, floats: &str, nudge: f32) -> String {
        let unit = 2f32.powi(node.exponent);
        let (low, high) = (f32::from(node.low) * unit, f32::from(node.high) * unit);
        let positive = self.positive.last() == Some(&true);
        if self.is_float() {
            return self.graph.clip(name, floats, low, high);
        }
        if !positive && node.high == 127 {
            return self.quantize(name, floats, node.exponent, nudge, false);
        }
        // Rounded before it is cut off at 127, so that a runtime sees a convolution between integers. The type itself cuts
        // off what is negative.
        let sum = self.quantize(&format!("{name}.sum"), floats, node.exponent, nudge, positive);
        let sum = self.graph.dequantize(&sum, unit, positive);
        let cut = self.graph.clip(&format!("{name}.clip"), &sum, low, high);
        self.quantize(name, &cut, node.exponent, 1.0, positive)
    }

    fn node(&mut self, node: &Node) -> String {
        let from = self.network.map(node.inputs[0]);
        let (name, unit) = (node.name.as_str(), 2f32.powi(node.exponent));
        match &node.op {
            Op::Conv { parts, bias, weight_exponents } => self.conv(node, parts, bias, weight_exponents),
            Op::Lookup { rows } => {
                let shape = [rows.len() / node.map.channels, node.map.channels];
                let table = if self.is_float() {
                    let rows: Vec<f32> = rows.iter().map(|&row| f32::from(row)).collect();
                    self.graph.floats(&format!("{name}.rows"), &shape, &rows)
                } else {
                    self.graph.bytes(&format!("{name}.rows"), &shape, rows)
                };
                let x = self.graph.node("Gather", &format!("{name}.gather"), &[&table, "codes"], &[]);
                let x = self.graph.transpose(&format!("{name}.channels"), &x, &[0, 2, 1]);
                self.graph.unsqueeze(name, &x, 2)
            }
            Op::Sums { grid, shift } => self.sums(node, grid, *shift),
            Op::Average { window, all } => {
                let x = self.floats(node.inputs[0]);
                let include = [("count_include_pad", vec![i64::from(*all)])];
                let x = self.graph.pool("AveragePool", &format!("{name}.pool"), &x, window, from, node.map, &include);
                self.narrow(name, node, &x, 1.0)
            }
            Op::Max(window) => {
                let x = self.floats(node.inputs[0]);
                let x = self.graph.pool("MaxPool", &format!("{name}.pool"), &x, window, from, node.map, &[]);
                self.narrow(name, node, &x, 1.0)
            }
            Op::Add => {
                let (a, b) = (self.floats(node.inputs[0]), self.floats(node.inputs[1]));
                let mut x = self.graph.node("Add", &format!("{name}.add"), &[&a, &b], &[]);
                if !self.is_float() {
                    // Half of all sums lie between two mantissas: up, as ours, and not to the even one.
                    let up = self.graph.floats(&format!("{name}.up"), &[], &[unit / 1024.0]);
                    x = self.graph.node("Add", &format!("{name}.up.add"), &[&x, &up], &[]);
                    x = self.graph.clip(
                        &format!("{name}.clip"),
                        &x,
                        f32::from(node.low) * unit,
                        f32::from(node.high) * unit,
                    );
                    let positive = self.positive.last() == Some(&true);
                    return self.quantize(name, &x, node.exponent, 1.0, positive);
                }
                self.narrow(name, node, &x, 1.0)
            }
            Op::Concat => {
                let mut parts = Vec::new();
                for (at, &input) in node.inputs.iter().enumerate() {
                    let mut part = self.values[input].clone();
                    let positive = self.positive.last() == Some(&true);
                    let same = self.network.exponent(input) == node.exponent && self.positive[input] == positive;
                    if !self.is_float() && !same {
                        let floats = self.floats(input);
                        part = self.quantize(&format!("{name}.{at}"), &floats, node.exponent, 1.0, positive);
                    }
                    parts.push(part);
                }
                self.graph.concat(name, &parts)
            }
            Op::Pad { top, left } => {
                let x = self.floats(node.inputs[0]);
                let (bottom, right) = (node.map.height - from.height - top, node.map.width - from.width - left);
                let pads = [0, 0, *top, *left, 0, 0, bottom, right].map(|n| n as i64);
                let pads = self.graph.integers(&format!("{name}.pads"), &pads);
                let x = self.graph.node("Pad", &format!("{name}.pad"), &[&x, &pads], &[]);
                let positive = self.positive.last() == Some(&true);
                if self.is_float() { x } else { self.quantize(name, &x, node.exponent, 1.0, positive) }
            }
        }
    }

    fn conv(&mut self, node: &Node, parts: &[Part], bias: &[i32], weight_exponents: &[i32]) -> String {
        let (value, exponent) = (node.inputs[0], self.network.exponent(node.inputs[0]));
        let from = self.network.map(value);
        let shift = weight_exponents.iter().map(|e| node.exponent - exponent - e).max().unwrap_or(0);
        let mut outputs = Vec::new();
        for (number, Part { conv, weights }) in parts.iter().enumerate() {
            let name = if parts.len() == 1 { node.name.clone() } else { format!("{}.{number}", node.name) };
            let filters = conv.first_filter..conv.first_filter + conv.filters;
            let (bias, exponents) = (&bias[filters.clone()], &weight_exponents[filters]);
            let mut x = self.values[value].clone();
            if conv.channels < from.channels {
                x = self.graph.slice_channels(&format!("{name}.read"), &x, conv.first_channel, conv.channels);
            }
            let x = self.floats_of(&x, value);
            let weight = self.weights(&name, conv, weights, exponents);
            let mut inputs = vec![x, weight];
            if bias.iter().any(|&bias| bias != 0) {
                inputs.push(self.bias(&name, bias, exponents, exponent));
            }
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let sums = self.graph.conv(&format!("{name}.conv"), &inputs, conv);
            outputs.push(self.narrow(&name, node, &sums, nudge(node.low, shift)));
        }
        if outputs.len() == 1 { outputs.remove(0) } else { self.graph.concat(&node.name, &outputs) }
    }

    /// Weights in the order of ONNX, `[filters, channels, height, width]`.
    fn weights(&mut self, name: &str, conv: &Conv, weights: &[i8], exponents: &[i32]) -> String {
        let shape = [conv.filters, conv.channels / conv.groups, conv.kernel.0, conv.kernel.1];
        let ordered = to_planes(weights, shape);
        let name = format!("{name}.weight");
        if self.is_float() {
            let per_filter = ordered.len() / conv.filters;
            let value = |(at, &w): (usize, &i8)| f32::from(w) * 2f32.powi(exponents[at / per_filter]);
            let values: Vec<f32> = ordered.iter().enumerate().map(value).collect();
            return self.graph.floats(&name, &shape, &values);
        }
        let bytes = self.graph.bytes(&format!("{name}.q"), &shape, &ordered);
        let scales: Vec<f32> = exponents.iter().map(|&e| 2f32.powi(e)).collect();
        self.graph.dequantize_constant(&name, &bytes, &scales, data_type::INT8)
    }

    fn bias(&mut self, name: &str, bias: &[i32], exponents: &[i32], input: i32) -> String {
        let name = format!("{name}.bias");
        let scales: Vec<f32> = exponents.iter().map(|&e| 2f32.powi(e + input)).collect();
        if self.is_float() {
            let values: Vec<f32> = bias.iter().zip(&scales).map(|(&bias, scale)| bias as f32 * scale).collect();
            return self.graph.floats(&name, &[bias.len()], &values);
        }
        let words = self.graph.words(&format!("{name}.q"), bias);
        self.graph.dequantize_constant(&name, &words, &scales, data_type::INT32)
    }

    /// The cells of a grid: an average and its factor, or a convolution by ones, whose sums are exact.
    fn sums(&mut self, node: &Node, grid: &Grid, shift: u32) -> String {
        let (name, map) = (node.name.as_str(), grid.map);
        let kernel = (grid.rows(0).len(), grid.columns(0).len());
        let stride = (map.height / grid.cells.0, map.width / grid.cells.1);
        let x = self.floats(node.inputs[0]);
        let factor = 2f32.powi(-(shift as i32));
        if self.is_float() {
            let window = Window { kernel, stride, padding: (0, 0) };
            let x = self.graph.pool("AveragePool", &format!("{name}.pool"), &x, &window, map, node.map, &[]);
            let factor = factor * (kernel.0 * kernel.1) as f32;
            let factor = self.graph.floats(&format!("{name}.factor"), &[], &[factor]);
            let x = self.graph.node("Mul", &format!("{name}.mul"), &[&x, &factor], &[]);
            return self.narrow(name, node, &x, 1.0);
        }
        let channels = map.channels;
        let conv = Conv {
            input: map,
            first_channel: 0,
            channels,
            filters: channels,
            kernel,
            stride,
            padding: (0, 0),
            groups: channels,
            output: Map { channels, ..node.map },
            first_filter: 0,
            unsigned: true,
        };
        let ones = vec![1; channels * kernel.0 * kernel.1];
        let ones = self.graph.bytes(&format!("{name}.ones"), &[channels, 1, kernel.0, kernel.1], &ones);
        let ones = self.graph.dequantize_constant(&format!("{name}.weight"), &ones, &[factor], data_type::INT8);
        let mut x = self.graph.conv(&format!("{name}.conv"), &[&x, &ones], &conv);
        if self.positive[node.inputs[0]] {
            return self.narrow(name, node, &x, nudge(0, shift as i32));
        }
        // Ties of both signs up, as ours.
        let up = self.graph.floats(&format!("{name}.up"), &[], &[factor / 4.0]);
        x = self.graph.node("Add", &format!("{name}.up.add"), &[&x, &up], &[]);
        self.narrow(name, node, &x, 1.0)
    }

    /// All blocks of the feature side by side, each in the order `[down, across, channels]`.
    fn output(&mut self) -> proto::ValueInfo {
        let mut blocks = Vec::new();
        for (number, &value) in self.network.outputs.iter().enumerate() {
            let mut x = self.values[value].clone();
            if !self.is_float() && self.positive[value] {
                let to = [("to", vec![i64::from(data_type::INT8)])];
                x = self.graph.node("Cast", &format!("output{number}.signed"), &[&x], &to);
            }
            let x = self.graph.transpose(&format!("output{number}.order"), &x, &[0, 2, 3, 1]);
            blocks.push(self.graph.node("Flatten", &format!("output{number}"), &[&x], &[("axis", vec![1])]));
        }
        let inputs: Vec<&str> = blocks.iter().map(String::as_str).collect();
        let feature = self.graph.last("Concat", "feature", &inputs, &[("axis", vec![1])]);
        let kind = if self.is_float() { data_type::FLOAT } else { data_type::INT8 };
        Builder::value_info(&feature, kind, &[self.network.feature_dim()], "the blocks of the feature side by side")
    }
}

/// By what the scale of a rounding is multiplied. ONNX rounds ties to even and we round them up; a scale that is smaller by
/// less than what lies between a tie and the next sum, which is 2^−shift, moves positive ties up and nothing else. What is
/// negative moves down, so it is for ReLUs only; and floats must have room for it.
fn nudge(low: i8, shift: i32) -> f32 {
    if low == 0 && (1..=14).contains(&shift) { 1.0 - 2f32.powi(-(shift + 8)) } else { 1.0 }
}

/// From `[filters, height, width, channels]` to `[filters, channels, height, width]`; `shape` is the latter.
pub(super) fn to_planes(weights: &[i8], [filters, channels, height, width]: [usize; 4]) -> Vec<i8> {
    let mut out = Vec::with_capacity(weights.len());
    for filter in 0..filters {
        for channel in 0..channels {
            for place in 0..height * width {
                out.push(weights[(filter * height * width + place) * channels + channel]);
            }
        }
    }
    out
}
