//! A frozen network in integers: maps of `i8 · 2^e`, weights of `i8` with a power of two for each filter, sums in `i32`,
//! rounded to nearest with ties up as everywhere in this crate.
//!
//! A learned encoder is one of these ([`super::encoder`]), and so is a network that was brought in
//! ([`super::calibrate`]). [`super::export`] writes it as ONNX; [`Runner`] runs it.

use std::sync::Arc;

use super::OnnxError;
use crate::augment::signal::ChannelScale;
use crate::augment::{audio, fit, latent, signal, token};
use crate::fixed::{I8_MAX, round_nearest, saturate_i8};
use crate::kernels::narrow::{Linear, Relu, Sink};
use crate::kernels::reference::pool_sums;
use crate::kernels::tile::{COLUMNS, Isa};
use crate::kernels::{Conv, Grid, Kernels, Map, Residual};

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
    fn tables(&self) -> Vec<[i8; 256]> {
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
    fn shifts(&self, node: &Node, weight_exponents: &[i32]) -> Vec<i32> {
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

    fn residual(&self, node: &Node) -> Option<Residual> {
        Residual::new(self.exponent(node.inputs[0]), self.exponent(node.inputs[1]), node.exponent)
    }

    /// By how many bits an average is finer than what it is made of.
    fn rise(&self, node: &Node) -> i32 {
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

/// Narrows with a shift for each filter.
struct ByFilter<'a> {
    bias: &'a [i32],
    shifts: &'a [i32],
    low: i32,
    high: i32,
    out: &'a mut [i8],
    clamped: usize,
}

impl Sink for ByFilter<'_> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, _: I, offsets: &[usize], channel: usize, count: usize, sums: &[[i32; COLUMNS]]) {
        let (bias, shifts) = (&self.bias[channel..channel + count], &self.shifts[channel..channel + count]);
        for (&at, sums) in offsets.iter().zip(sums) {
            let out = &mut self.out[at..at + count];
            for (((out, &sum), &bias), &shift) in out.iter_mut().zip(sums).zip(bias).zip(shifts) {
                let y = round_nearest(sum + bias, shift as u32);
                self.clamped += usize::from(y > I8_MAX || (y < -I8_MAX && self.low < 0));
                *out = y.clamp(self.low, self.high) as i8;
            }
        }
    }
}

/// What a node needs beside the network, found once.
struct Ready {
    /// Packed weights of its parts.
    packed: Vec<Vec<i16>>,
    shifts: Vec<i32>,
    /// The bias with its sign turned.
    thresholds: Vec<i32>,
    /// Where all filters have one shift and the bounds are those of a plain ReLU (`true`) or of none.
    plain: Option<bool>,
    out: Vec<i8>,
    /// Mantissas of the last sample that had to be clamped.
    clamped: usize,
}

/// Runs a network, sample by sample; it keeps the maps of the newest one.
pub struct Runner {
    network: Arc<Network>,
    kernels: Kernels,
    tables: Vec<[i8; 256]>,
    input: Vec<i8>,
    ready: Vec<Ready>,
    scratch: Vec<i16>,
    sums: Vec<i32>,
}

impl Runner {
    /// # Errors
    /// As [`Network::check`].
    pub fn new(network: impl Into<Arc<Network>>, kernels: Kernels) -> Result<Self, OnnxError> {
        let network = network.into();
        network.check()?;
        let (mut scratch, mut sums) = (0, 0);
        let ready = network.nodes.iter().map(|node| {
            let mut ready = Ready {
                packed: Vec::new(),
                shifts: Vec::new(),
                thresholds: Vec::new(),
                plain: None,
                out: vec![0; node.map.len()],
                clamped: 0,
            };
            sums = sums.max(node.map.len());
            if let Op::Conv { parts, bias, weight_exponents } = &node.op {
                ready.packed.extend(parts.iter().map(|part| {
                    let mut packed = vec![0; kernels.packed_len(&part.conv)];
                    kernels.pack(&part.conv, &part.weights, &mut packed);
                    scratch = scratch.max(kernels.forward_scratch_len(&part.conv));
                    packed
                }));
                ready.shifts = network.shifts(node, weight_exponents);
                ready.thresholds = bias.iter().map(|&bias| -bias).collect();
                let one = ready.shifts.iter().all(|&shift| shift == ready.shifts[0]);
                ready.plain = match (node.low, node.high) {
                    (0, 127) if one => Some(true),
                    (-127, 127) if one => Some(false),
                    _ => None,
                };
            }
            ready
        });
        let ready = ready.collect();
        Ok(Runner {
            kernels,
            tables: network.input.tables(),
            input: vec![0; network.input.map().len()],
            ready,
            scratch: vec![0; scratch],
            sums: vec![0; sums],
            network,
        })
    }

    /// Takes one stored sample ([`Input::stored_len`] bytes, at an even address) through all nodes.
    ///
    /// # Panics
    /// Where it has another length.
    pub fn run(&mut self, stored: &[u8]) {
        assert_eq!(stored.len(), self.network.input.stored_len(), "bytes of a sample");
        match &self.network.input {
            Input::Pixels(map) => fit::to_input(stored, map.channels, &mut self.input),
            Input::Latents { scales, .. } => latent::to_input(scales, stored, &mut self.input),
            Input::Normalized { map, .. } => {
                for (pixel, out) in stored.chunks_exact(map.channels).zip(self.input.chunks_exact_mut(map.channels)) {
                    for ((&v, o), table) in pixel.iter().zip(out).zip(&self.tables) {
                        *o = table[usize::from(v)];
                    }
                }
            }
            Input::Readings { scales, .. } => {
                signal::to_input(scales, &bytemuck::pod_collect_to_vec(stored), &mut self.input);
            }
            Input::Levels { scales, .. } => audio::to_input(scales, stored, &mut self.input),
            Input::Codes { vocabulary, .. } => token::to_input(*vocabulary, stored, &mut self.input),
        }
        for number in 0..self.network.nodes.len() {
            self.step(number);
        }
    }

    /// A map of the newest sample.
    pub fn value(&self, value: usize) -> &[i8] {
        value.checked_sub(1).map_or(&self.input, |node| &self.ready[node].out)
    }

    /// Mantissas that a node clamped of the newest sample.
    pub fn clamped(&self, node: usize) -> usize {
        self.ready[node].clamped
    }

    /// The feature of the newest sample, [`Network::feature_dim`] long.
    pub fn feature(&self) -> Vec<i8> {
        self.network.outputs.iter().flat_map(|&value| self.value(value)).copied().collect()
    }

    /// Adds what `of` makes of each number of the newest feature to `out`.
    pub fn extend_feature(&self, out: &mut Vec<u8>, of: impl Fn(i8) -> u8) {
        for &value in &self.network.outputs {
            out.extend(self.value(value).iter().map(|&mantissa| of(mantissa)));
        }
    }

    /// What it runs.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let of = |ready: &Ready| {
            let packed: usize = ready.packed.iter().map(|packed| 2 * packed.len()).sum();
            packed + 4 * (ready.shifts.len() + ready.thresholds.len()) + ready.out.len()
        };
        let nodes: usize = self.ready.iter().map(of).sum();
        nodes + self.network.weights_len() + self.input.len() + 2 * self.scratch.len() + 4 * self.sums.len()
    }

    fn step(&mut self, number: usize) {
        let (network, kernels) = (&*self.network, self.kernels);
        let node = &network.nodes[number];
        let (before, rest) = self.ready.split_at_mut(number);
        let ready = &mut rest[0];
        let input = &self.input;
        let value = |at: usize| match node.inputs[at].checked_sub(1) {
            None => &input[..],
            Some(node) => &before[node].out[..],
        };
        let (x, from) = (value(0), network.map(node.inputs[0]));
        let (low, high) = (i32::from(node.low), i32::from(node.high));
        ready.clamped = 0;
        match &node.op {
            Op::Conv { parts, bias, .. } => {
                let shift = ready.shifts[0] as u32;
                let mut forward = |part: &Part, packed: &[i16], sink: &mut dyn ForwardInto| {
                    sink.forward(kernels, part, x, packed, &mut self.scratch);
                };
                for (part, packed) in parts.iter().zip(&ready.packed) {
                    match ready.plain {
                        Some(true) => {
                            let mut sink = Relu::new(shift, &ready.thresholds, &mut ready.out);
                            forward(part, packed, &mut sink);
                            ready.clamped += sink.seen().clamped as usize;
                        }
                        Some(false) => {
                            let mut sink = Linear::new(shift, &ready.thresholds, &mut ready.out);
                            forward(part, packed, &mut sink);
                            ready.clamped += sink.seen().clamped as usize;
                        }
                        None => {
                            let (shifts, out) = (&ready.shifts[..], &mut ready.out[..]);
                            let mut sink = ByFilter { bias, shifts, low, high, out, clamped: 0 };
                            forward(part, packed, &mut sink);
                            ready.clamped += sink.clamped;
                        }
                    }
                }
            }
            Op::Lookup { rows } => {
                let width = node.map.channels;
                for (out, code) in ready.out.chunks_exact_mut(width).zip(token::codes(x)) {
                    out.copy_from_slice(&rows[code * width..][..width]);
                }
            }
            Op::Sums { grid, shift } => {
                let sums = &mut self.sums[..grid.len()];
                pool_sums(grid, x, sums);
                ready.clamped = crate::kernels::narrow::nearest(sums, *shift, &mut ready.out).clamped as usize;
            }
            Op::Average { window, all } => {
                let shift = AVERAGE_BITS - network.rise(node) as u32;
                let every = window.kernel.0 * window.kernel.1;
                each_window(window, from, node.map, |rows, columns, at| {
                    let count = if *all { every } else { (rows.len() * columns.len()).max(1) };
                    // Of 127 at most: within 2^23.
                    let factor = ((2 << AVERAGE_BITS) / count as i32 + 1) >> 1;
                    let sums = &mut self.sums[..from.channels];
                    sums.fill(0);
                    each_position(from, &rows, &columns, |position| {
                        sums.iter_mut().zip(&x[position..]).for_each(|(sum, &v)| *sum += i32::from(v));
                    });
                    for (out, &mut sum) in ready.out[at..].iter_mut().zip(sums) {
                        let y = round_nearest(sum * factor, shift);
                        ready.clamped += usize::from(y.abs() > I8_MAX);
                        *out = y.clamp(low, high) as i8;
                    }
                });
            }
            Op::Max(window) => each_window(window, from, node.map, |rows, columns, at| {
                let out = &mut ready.out[at..at + from.channels];
                out.fill(-127);
                each_position(from, &rows, &columns, |position| {
                    out.iter_mut().zip(&x[position..]).for_each(|(out, &v)| *out = v.max(*out));
                });
                out.iter_mut().for_each(|v| *v = (*v).clamp(node.low, node.high));
            }),
            Op::Add => {
                // Checked when the runner was made.
                let Some(how) = network.residual(node) else { return };
                kernels.add(&how, x, value(1), &mut ready.out);
                ready.clamped = ready.out.iter().filter(|v| v.abs() == 127).count();
                ready.out.iter_mut().for_each(|v| *v = (*v).clamp(node.low, node.high));
            }
            Op::Concat => {
                let mut first = 0;
                for (at, &input) in node.inputs.iter().enumerate() {
                    let (channels, by) = (network.map(input).channels, node.exponent - network.exponent(input));
                    let rows = ready.out.chunks_exact_mut(node.map.channels);
                    for (row, from) in rows.zip(value(at).chunks_exact(channels)) {
                        for (out, &v) in row[first..].iter_mut().zip(from) {
                            *out = rescale(v, by).clamp(node.low, node.high);
                        }
                    }
                    first += channels;
                }
            }
            Op::Pad { top, left } => {
                let (width, channels) = (node.map.width, node.map.channels);
                for (y, row) in x.chunks_exact(from.width * channels).enumerate() {
                    let at = ((y + top) * width + left) * channels;
                    let out = ready.out[at..].iter_mut().zip(row);
                    out.for_each(|(out, &v)| *out = v.clamp(node.low, node.high));
                }
            }
        }
    }
}

/// `v · 2^−by`, rounded to nearest and clamped.
fn rescale(v: i8, by: i32) -> i8 {
    match u32::try_from(by) {
        Ok(by) => saturate_i8(round_nearest(i32::from(v), by.min(30))),
        Err(_) => saturate_i8(i32::from(v) << by.unsigned_abs().min(8)),
    }
}

fn each_window(
    window: &Window,
    from: Map,
    to: Map,
    mut f: impl FnMut(core::ops::Range<usize>, core::ops::Range<usize>, usize),
) {
    for y in 0..to.height {
        for x in 0..to.width {
            let (rows, columns) = window.at(from, y, x);
            f(rows, columns, (y * to.width + x) * to.channels);
        }
    }
}

fn each_position(
    map: Map,
    rows: &core::ops::Range<usize>,
    columns: &core::ops::Range<usize>,
    mut f: impl FnMut(usize),
) {
    for y in rows.clone() {
        for x in columns.clone() {
            f((y * map.width + x) * map.channels);
        }
    }
}

/// A sink behind a pointer, so that a convolution is compiled once for each kind.
trait ForwardInto {
    fn forward(&mut self, kernels: Kernels, part: &Part, x: &[i8], packed: &[i16], scratch: &mut [i16]);
}

impl<S: Sink> ForwardInto for S {
    fn forward(&mut self, kernels: Kernels, part: &Part, x: &[i8], packed: &[i16], scratch: &mut [i16]) {
        kernels.forward(&part.conv, x, &part.weights, packed, self, scratch);
    }
}
