//! A frozen network in integers: maps of `i8 · 2^e`, weights of `i8` with a power of two for each filter, sums in `i32`,
//! rounded to nearest with ties up as everywhere in this crate.
//!
//! A learned encoder is one of these ([`super::encoder`]), and so is a network that was brought in
//! ([`super::calibrate`]). [`super::export`] writes it as ONNX; [`super::runner`] runs it.

use super::OnnxError;
use crate::augment::signal::ChannelScale;
use crate::augment::token;
use crate::fixed::saturate_i8;
use crate::kernels::{Conv, Grid, Map, Residual};

/// How a stored sample becomes the first map, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Fitted pixels `[height, width, 1 or 3]`, `u8`: luma and colour differences.
    Pixels(Map),
    /// Fitted pixels as a network trained by others takes them: `(pixel / 255 − mean) / deviation`, as a mantissa of 2^e.
    Normalized { map: Map, mean: Vec<f32>, deviation: Vec<f32>, exponent: i32 },
    /// Readings `[length, channels]`, `i16`, scaled by channel.
    Readings { length: usize, scales: Vec<ChannelScale> },
    /// Levels of sound `[bands, columns]`, `u8`, scaled by band.
    Levels { columns: usize, scales: Vec<ChannelScale> },
    /// Latents of a backbone, as bytes that are mantissas and 128.
    Latents { map: Map, scales: Vec<ChannelScale> },
    /// Codes `[length]`, `i16`, below `vocabulary`; that one itself is the mask.
    Codes { length: usize, vocabulary: usize },
}

impl Input {
    /// Shape of the first map.
    pub fn map(&self) -> Map {
        match self {
            Input::Pixels(map) | Input::Latents { map, .. } | Input::Normalized { map, .. } => *map,
            Input::Readings { length, scales } => Map::new(1, *length, scales.len()),
            Input::Levels { columns, scales } => Map::new(scales.len(), *columns, 1),
            Input::Codes { length, .. } => Map::new(1, *length, token::DIGITS),
        }
    }

    pub fn exponent(&self) -> i32 {
        if let Input::Normalized { exponent, .. } = self { *exponent } else { 0 }
    }

    /// Bytes of a stored sample.
    pub fn stored_len(&self) -> usize {
        match self {
            Input::Pixels(map) | Input::Latents { map, .. } | Input::Normalized { map, .. } => map.len(),
            Input::Readings { length, scales } => 2 * length * scales.len(),
            Input::Levels { columns, scales } => columns * scales.len(),
            Input::Codes { length, .. } => 2 * length,
        }
    }

    /// For each channel what each of the 256 values of a pixel becomes; empty for other inputs.
    pub(super) fn tables(&self) -> Vec<[i8; 256]> {
        let Input::Normalized { mean, deviation, exponent, .. } = self else { return Vec::new() };
        let of_channel = |(&mean, &deviation): (&f32, &f32)| {
            core::array::from_fn(|pixel| {
                let value = (pixel as f32 - 255.0 * mean) * (1.0 / (255.0 * deviation));
                saturate_i8((value * 2f32.powi(-exponent)).round_ties_even() as i32)
            })
        };
        mean.iter().zip(deviation).map(of_channel).collect()
    }
}

/// One convolution of a layer and its weights, `[filters, kernel height, kernel width, channels / groups]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub conv: Conv,
    pub weights: Vec<i8>,
}

/// The windows of a pooling: what lies outside the map does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    /// Above and to the left.
    pub padding: (usize, usize),
}

impl Window {
    /// Rows and columns of `map` that output `(y, x)` reads.
    pub fn at(&self, map: Map, y: usize, x: usize) -> (core::ops::Range<usize>, core::ops::Range<usize>) {
        let span = |i: usize, kernel: usize, stride: usize, padding: usize, extent: usize| {
            let start = i * stride;
            start.saturating_sub(padding).min(extent)..(start + kernel).saturating_sub(padding).min(extent)
        };
        (
            span(y, self.kernel.0, self.stride.0, self.padding.0, map.height),
            span(x, self.kernel.1, self.stride.1, self.padding.1, map.width),
        )
    }
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `clamp(RN(Σ x · w + bias, shift), low, high)`; the sums of filter f are `i32 · 2^(e of the input + weights[f])`.
    Conv {
        parts: Vec<Part>,
        bias: Vec<i32>,
        weight_exponents: Vec<i32>,
    },
    /// Rows of numbers for codes.
    Lookup {
        rows: Vec<i8>,
    },
    /// `RN(sum over the cells of a grid, shift)`; where the exponents are equal the sum is taken as its 2^−shift.
    Sums {
        grid: Grid,
        shift: u32,
    },
    /// Average over windows; with `all` what lies outside the map counts as zeros.
    Average {
        window: Window,
        all: bool,
    },
    Max(Window),
    Add,
    /// Channels of all inputs side by side, brought to one exponent.
    Concat,
    /// Zeros above and to the left, and as many as make the map what it is below and to the right.
    Pad {
        top: usize,
        left: usize,
    },
}

/// A node; its inputs are 0, the network's input, or 1 + the number of a node before.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub name: String,
    pub op: Op,
    pub inputs: Vec<usize>,
    /// Shape of its output, `i8 · 2^exponent`, clamped to `low..=high`.
    pub map: Map,
    pub exponent: i32,
    pub low: i8,
    pub high: i8,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub name: String,
    pub input: Input,
    pub nodes: Vec<Node>,
    /// Values (as in [`Node::inputs`]) that make the feature, one after the other.
    pub outputs: Vec<usize>,
}

/// Most a sum is shifted to the right.
const MOST_SHIFT: i32 = 30;
/// Bits of the factor by which a sum becomes an average.
pub const AVERAGE_BITS: u32 = 16;

impl Network {
    /// Shape of a value.
    pub fn map(&self, value: usize) -> Map {
        value.checked_sub(1).map_or_else(|| self.input.map(), |node| self.nodes[node].map)
    }

    /// Exponent of a value.
    pub fn exponent(&self, value: usize) -> i32 {
        value.checked_sub(1).map_or_else(|| self.input.exponent(), |node| self.nodes[node].exponent)
    }

    /// Length of the feature.
    pub fn feature_dim(&self) -> usize {
        self.outputs.iter().map(|&value| self.map(value).len()).sum()
    }

    /// Length and exponent of each block of the feature.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, i32)> + '_ {
        self.outputs.iter().map(|&value| (self.map(value).len(), self.exponent(value)))
    }

    /// Weights of all convolutions and rows.
    pub fn weights_len(&self) -> usize {
        let of = |node: &Node| match &node.op {
            Op::Conv { parts, .. } => parts.iter().map(|part| part.weights.len()).sum(),
            Op::Lookup { rows } => rows.len(),
            _ => 0,
        };
        self.nodes.iter().map(of).sum()
    }

    /// Multiply-adds of one feature.
    pub fn macs(&self) -> usize {
        let of = |node: &Node| match &node.op {
            Op::Conv { parts, .. } => parts.iter().map(|part| part.conv.macs()).sum(),
            _ => 0,
        };
        self.nodes.iter().map(of).sum()
    }

    /// Shifts of the filters of a convolution.
    pub(super) fn shifts(&self, node: &Node, weight_exponents: &[i32]) -> Vec<i32> {
        let from = self.exponent(node.inputs[0]);
        weight_exponents.iter().map(|&e| node.exponent - from - e).collect()
    }

    /// Proves that every node fits its inputs and no sum overflows.
    ///
    /// # Errors
    /// [`OnnxError::Network`], naming the node.
    pub fn check(&self) -> Result<(), OnnxError> {
        for (number, node) in self.nodes.iter().enumerate() {
            let wrong = |problem: &str| OnnxError::Network { node: node.name.clone(), problem: problem.into() };
            if node.inputs.is_empty() || node.inputs.iter().any(|&value| value > number) || node.map.is_empty() {
                return Err(wrong("it reads what is not made before it"));
            }
            let from = self.map(node.inputs[0]);
            match &node.op {
                Op::Conv { parts, bias, weight_exponents } => {
                    let filters = node.map.channels;
                    if bias.len() != filters || weight_exponents.len() != filters {
                        return Err(wrong("it has not one bias and one exponent for each filter"));
                    }
                    let shifts = self.shifts(node, weight_exponents);
                    if shifts.iter().any(|shift| !(0..=MOST_SHIFT).contains(shift)) {
                        return Err(wrong("its exponents are too far apart"));
                    }
                    let covered: usize = parts.iter().map(|part| part.conv.filters).sum();
                    if covered != filters || parts.iter().any(|part| !fits(part, from, node.map)) {
                        return Err(wrong("its parts do not fit its maps"));
                    }
                    let fan_in = parts.iter().map(|part| part.conv.fan_in()).max().unwrap_or(0) as i64;
                    let largest = fan_in * 127 * 127;
                    let overflows = |(&bias, &shift): (&i32, &i32)| {
                        largest + i64::from(bias).abs() + (1 << shift) > i64::from(i32::MAX)
                    };
                    if bias.iter().zip(&shifts).any(overflows) {
                        return Err(wrong("its sums could pass 32 bits"));
                    }
                }
                Op::Lookup { rows } => {
                    let Input::Codes { vocabulary, .. } = self.input else { return Err(wrong("there are no codes")) };
                    if node.inputs[0] != 0 || rows.len() != (vocabulary + 1) * node.map.channels {
                        return Err(wrong("it has not a row for each code"));
                    }
                }
                Op::Sums { grid, .. } => {
                    if grid.map != from || grid.len() != node.map.len() {
                        return Err(wrong("its grid does not fit its map"));
                    }
                }
                Op::Average { .. } if !(0..=AVERAGE_BITS as i32).contains(&self.rise(node)) => {
                    return Err(wrong("its exponents are too far apart"));
                }
                Op::Average { .. } | Op::Max(_) | Op::Pad { .. } => {
                    if from.channels != node.map.channels {
                        return Err(wrong("it changes the number of channels"));
                    }
                }
                Op::Add => {
                    if node.inputs.len() != 2 || node.inputs.iter().any(|&value| self.map(value) != node.map) {
                        return Err(wrong("it adds maps of other shapes"));
                    }
                    if self.residual(node).is_none() {
                        return Err(wrong("its exponents are too far apart"));
                    }
                }
                Op::Concat => {
                    let channels: usize = node.inputs.iter().map(|&value| self.map(value).channels).sum();
                    let places = |value: &usize| self.map(*value).positions() == node.map.positions();
                    if channels != node.map.channels || !node.inputs.iter().all(places) {
                        return Err(wrong("it joins maps of other shapes"));
                    }
                }
            }
        }
        let made = self.nodes.len();
        if self.outputs.is_empty() || self.outputs.iter().any(|&value| value > made) {
            return Err(OnnxError::Network { node: self.name.clone(), problem: "it has no output".into() });
        }
        Ok(())
    }

    /// How an [`Op::Add`] rescales; `None` where its exponents are too far apart.
    pub(super) fn residual(&self, node: &Node) -> Option<Residual> {
        Residual::new(self.exponent(node.inputs[0]), self.exponent(node.inputs[1]), node.exponent)
    }

    /// By how many bits an average is finer than what it is made of.
    pub(super) fn rise(&self, node: &Node) -> i32 {
        self.exponent(node.inputs[0]) - node.exponent
    }
}

fn fits(part: &Part, from: Map, to: Map) -> bool {
    let Part { conv, weights } = part;
    conv.input == from
        && conv.output == to
        && conv.groups > 0
        && conv.channels.is_multiple_of(conv.groups)
        && conv.filters.is_multiple_of(conv.groups)
        && conv.first_channel + conv.channels <= from.channels
        && conv.first_filter + conv.filters <= to.channels
        && weights.len() == conv.weights()
}
