//! From floats to integers: exponents of all maps found on samples of a stream, of all weights by their least squared
//! error; and how far the result is from what it was made of.

use super::OnnxError;
use super::float::{FloatNetwork, FloatNode, FloatOp};
use super::network::{AVERAGE_BITS, Input, Network, Node, Op, Part};
use super::runner::Runner;
use crate::fixed::saturate_i8;
use crate::kernels::{Conv, Kernels};

/// Numbers of each map that are kept of all samples together.
const KEPT: usize = 1 << 15;
/// Largest bias in units of its sums.
const MOST_BIAS: f64 = (1u32 << 29) as f64;

/// How pixels become what the network takes: `(pixel / 255 − mean) / deviation`, by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
}

impl Pixels {
    /// The float input of `pixels`, `[height, width, channels]`.
    pub fn normal(&self, pixels: &[u8]) -> Vec<f32> {
        let channels = self.mean.len();
        let value = |(at, &pixel): (usize, &u8)| {
            let (mean, deviation) = (self.mean[at % channels], self.deviation[at % channels]);
            (f32::from(pixel) - 255.0 * mean) * (1.0 / (255.0 * deviation))
        };
        pixels.iter().enumerate().map(value).collect()
    }
}

/// What was seen of the maps of a network of floats.
struct Seen {
    /// Of each value some numbers, evenly drawn.
    kept: Vec<Vec<f32>>,
    largest: Vec<f32>,
}

fn see(network: &FloatNetwork, pixels: &Pixels, samples: &[Vec<u8>]) -> Seen {
    let count = network.nodes.len() + 1;
    let mut seen = Seen { kept: vec![Vec::new(); count], largest: vec![0.0; count] };
    for (number, sample) in samples.iter().enumerate() {
        for (value, numbers) in network.run(pixels.normal(sample)).iter().enumerate() {
            let stride = (numbers.len() * samples.len()).div_ceil(KEPT).max(1);
            // A stride that shares no factor with the channels draws from all of them.
            let stride = if stride > 1 { stride | 1 } else { 1 };
            seen.kept[value].extend(numbers.iter().skip(number % stride).step_by(stride));
            seen.largest[value] = numbers.iter().fold(seen.largest[value], |most, v| most.max(v.abs()));
        }
    }
    seen
}

/// The exponent with the least squared error for `values`, the largest of which is `largest`: that which clamps nothing, or
/// one that is up to three smaller.
pub(super) fn exponent_for(values: &[f32], largest: f32) -> i32 {
    if largest <= 0.0 || !largest.is_finite() {
        return -7;
    }
    let widest = (largest / 127.0).log2().ceil() as i32;
    let error = |exponent: i32| -> f64 {
        let unit = 2f64.powi(exponent);
        let error = |&v: &f32| (f64::from(v) - unit * (f64::from(v) / unit).round().clamp(-127.0, 127.0)).powi(2);
        values.iter().map(error).sum()
    };
    let best = (widest - 3..=widest).rev().min_by(|&a, &b| error(a).total_cmp(&error(b)));
    best.unwrap_or(widest).clamp(-60, 60)
}

/// The integer network of `network`, calibrated on `samples`, fitted pixels `[height, width, channels]`.
///
/// # Errors
/// [`OnnxError::NoSamples`]; [`OnnxError::NotFinite`] where a map is; [`OnnxError::Network`].
pub fn calibrate(network: &FloatNetwork, pixels: &Pixels, samples: &[Vec<u8>]) -> Result<Network, OnnxError> {
    if samples.is_empty() {
        return Err(OnnxError::NoSamples);
    }
    let seen = see(network, pixels, samples);
    if let Some(value) = seen.largest.iter().position(|v| !v.is_finite()) {
        let node = value.checked_sub(1).map_or("the input", |node| &network.nodes[node].name);
        return Err(OnnxError::NotFinite { node: node.into() });
    }
    let fit = |value: usize| exponent_for(&seen.kept[value], seen.largest[value]);
    let (mean, deviation) = (pixels.mean.clone(), pixels.deviation.clone());
    // Pixels are known to the last one: nothing of them is clamped.
    let darkest = pixels.normal(&vec![0; network.input.channels]);
    let brightest = pixels.normal(&vec![255; network.input.channels]);
    let largest = darkest.iter().chain(&brightest).fold(0f32, |most, v| most.max(v.abs()));
    let exponent = ((largest / 127.0).log2().ceil() as i32).clamp(-60, 60);
    let input = Input::Normalized { map: network.input, mean, deviation, exponent };
    let mut made = Network { name: network.name.clone(), input, nodes: Vec::new(), outputs: vec![network.output] };
    // Whether a value is never negative.
    let mut positive = vec![false];
    for (number, node) in network.nodes.iter().enumerate() {
        let from = made.exponent(node.inputs[0]);
        let all_positive = node.inputs.iter().all(|&value| positive[value]);
        let (op, exponent) = match &node.op {
            FloatOp::Conv { conv, weights, bias } => {
                let conv = Conv { unsigned: positive[node.inputs[0]], ..*conv };
                integer_conv(conv, weights, bias, from, fit(number + 1))
            }
            FloatOp::Average { window, all } => {
                let exponent = fit(number + 1).clamp(from - AVERAGE_BITS as i32, from);
                (Op::Average { window: *window, all: *all }, exponent)
            }
            FloatOp::Max(window) => (Op::Max(*window), from),
            FloatOp::Pad { top, left } => (Op::Pad { top: *top, left: *left }, from),
            FloatOp::Add => {
                let inputs = node.inputs.iter().map(|&value| made.exponent(value));
                let least = inputs.min().unwrap_or(from);
                (Op::Add, fit(number + 1).clamp(least, least + 20))
            }
            FloatOp::Concat => (Op::Concat, fit(number + 1)),
        };
        let (low, high) = bounds(node, exponent);
        let keeps = !matches!(node.op, FloatOp::Conv { .. });
        positive.push(low >= 0 || (keeps && all_positive));
        let (name, inputs, map) = (node.name.clone(), node.inputs.clone(), node.map);
        made.nodes.push(Node { name, op, inputs, map, exponent, low, high });
    }
    made.check()?;
    Ok(made)
}

/// Bounds of a node in mantissas.
fn bounds(node: &FloatNode, exponent: i32) -> (i8, i8) {
    let mantissa =
        |bound: f32| saturate_i8((f64::from(bound) / 2f64.powi(exponent)).round().clamp(-127.0, 127.0) as i32);
    (mantissa(node.low), mantissa(node.high))
}

/// Weights with an exponent for each filter, so that their sums can be brought to `to`.
fn integer_conv(conv: Conv, weights: &[f32], bias: &[f32], from: i32, to: i32) -> (Op, i32) {
    let per_filter = conv.fan_in();
    let filters = || weights.chunks_exact(per_filter);
    let largest = |filter: &[f32]| filter.iter().fold(0f32, |most, v| most.max(v.abs()));
    let fitted: Vec<i32> = filters().map(|filter| exponent_for(filter, largest(filter))).collect();
    // A sum is never coarser than what it becomes.
    let coarsest = filters().zip(&fitted).filter(|(f, _)| largest(f) > 0.0).map(|(_, &e)| from + e).max();
    let to = coarsest.map_or(to, |coarsest| to.max(coarsest));
    let mut exponents = Vec::with_capacity(conv.filters);
    let mut integers = Vec::with_capacity(weights.len());
    let mut biases = Vec::with_capacity(conv.filters);
    for ((filter, &fitted), &bias) in filters().zip(&fitted).zip(bias) {
        let room = |exponent: i32| f64::from(bias.abs()) / 2f64.powi(from + exponent) <= MOST_BIAS;
        // A filter of next to nothing, or a bias that is large beside it, has coarser units.
        let mut exponent = fitted.max(to - from - 24).min(to - from);
        while !room(exponent) && exponent < to - from {
            exponent += 1;
        }
        let unit = 2f64.powi(exponent);
        integers.extend(filter.iter().map(|&w| saturate_i8((f64::from(w) / unit).round() as i32)));
        biases.push((f64::from(bias) / 2f64.powi(from + exponent)).round().clamp(-MOST_BIAS, MOST_BIAS) as i32);
        exponents.push(exponent);
    }
    (Op::Conv { parts: vec![Part { conv, weights: integers }], bias: biases, weight_exponents: exponents }, to)
}

/// How far a node of integers is from the same of floats.
#[derive(Clone, Debug)]
pub struct LayerReport {
    pub name: String,
    pub op: &'static str,
    pub exponent: i32,
    /// 10 log10 of Σ float² / Σ (float − integer)², over all samples: what all layers up to it did.
    pub signal_to_noise_db: f64,
    /// Share of its mantissas that were clamped.
    pub clamped: f64,
}

/// See [`compare`].
#[derive(Clone, Debug)]
pub struct Report {
    pub layers: Vec<LayerReport>,
    /// Cosine of the features by floats and by integers, over samples: mean and least.
    pub cosine_mean: f64,
    pub cosine_least: f64,
    pub samples: usize,
}

/// Takes `samples` through both networks. `features` gets the feature of floats and that of integers, both as floats.
///
/// # Errors
/// As [`Runner::new`].
pub fn compare(
    float: &FloatNetwork,
    integer: &Network,
    pixels: &Pixels,
    samples: &[Vec<u8>],
    mut features: impl FnMut(usize, &[f32], &[f32]),
) -> Result<Report, OnnxError> {
    let mut runner = Runner::new(integer.clone(), Kernels::detect())?;
    let mut sums = vec![(0f64, 0f64, 0usize, 0usize); float.nodes.len()];
    let (mut cosines, mut least) = (0.0, f64::INFINITY);
    for (number, sample) in samples.iter().enumerate() {
        runner.run(sample);
        let values = float.run(pixels.normal(sample));
        for (at, sums) in sums.iter_mut().enumerate() {
            let unit = 2f64.powi(integer.nodes[at].exponent);
            for (&a, &b) in values[at + 1].iter().zip(runner.value(at + 1)) {
                sums.0 += f64::from(a).powi(2);
                sums.1 += (f64::from(a) - unit * f64::from(b)).powi(2);
            }
            sums.2 += runner.clamped(at);
            sums.3 += values[at + 1].len();
        }
        let unit = 2f32.powi(integer.exponent(integer.outputs[0]));
        let ours: Vec<f32> = runner.feature().iter().map(|&v| unit * f32::from(v)).collect();
        let cosine = cosine(&values[float.output], &ours);
        (cosines, least) = (cosines + cosine, least.min(cosine));
        features(number, &values[float.output], &ours);
    }
    let layer = |(node, sums): (&FloatNode, &(f64, f64, usize, usize))| LayerReport {
        name: node.name.clone(),
        op: match node.op {
            FloatOp::Conv { conv, .. } if conv.is_depthwise() => "depthwise",
            FloatOp::Conv { conv, .. } if conv.input.positions() == 1 => "dense",
            FloatOp::Conv { .. } => "conv",
            FloatOp::Average { .. } => "average",
            FloatOp::Max(_) => "max",
            FloatOp::Add => "add",
            FloatOp::Concat => "concat",
            FloatOp::Pad { .. } => "pad",
        },
        exponent: 0,
        signal_to_noise_db: if sums.1 > 0.0 { 10.0 * (sums.0 / sums.1).log10() } else { f64::INFINITY },
        clamped: sums.2 as f64 / sums.3.max(1) as f64,
    };
    let mut layers: Vec<LayerReport> = float.nodes.iter().zip(&sums).map(layer).collect();
    layers.iter_mut().zip(&integer.nodes).for_each(|(layer, node)| layer.exponent = node.exponent);
    let cosine_mean = cosines / samples.len().max(1) as f64;
    Ok(Report { layers, cosine_mean, cosine_least: least, samples: samples.len() })
}

/// Cosine of two features; 1 where both are all zeros.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { f64::from(u8::from(dot(a, a) == dot(b, b))) }
}
