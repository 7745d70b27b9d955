//! A network as floats: what [`super::lower`] makes of a graph, with batch normalisation folded and activations in the
//! bounds of their nodes. It runs in plain loops, for calibration and comparison.

use rayon::prelude::*;

use super::network::Window;
use crate::kernels::{Conv, Map};

/// What a node computes; maps are `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub enum FloatOp {
    /// Weights `[filters, kernel height, kernel width, channels / groups]`.
    Conv {
        conv: Conv,
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
    Average {
        window: Window,
        all: bool,
    },
    Max(Window),
    Add,
    Concat,
    Pad {
        top: usize,
        left: usize,
    },
}

/// A node; its inputs are 0, the network's input, or 1 + the number of a node before.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatNode {
    pub name: String,
    pub op: FloatOp,
    pub inputs: Vec<usize>,
    pub map: Map,
    /// Bounds of its output: of a ReLU 0 and ∞.
    pub low: f32,
    pub high: f32,
    /// Tensor of the graph that it stands for.
    pub tensor: String,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatNetwork {
    pub name: String,
    pub input: Map,
    pub nodes: Vec<FloatNode>,
    pub output: usize,
}

impl FloatNetwork {
    /// Shape of a value.
    pub fn map(&self, value: usize) -> Map {
        value.checked_sub(1).map_or(self.input, |node| self.nodes[node].map)
    }

    /// Multiply-adds and numbers of one input.
    pub fn work(&self) -> usize {
        let of = |node: &FloatNode| match &node.op {
            FloatOp::Conv { conv, .. } => conv.macs(),
            FloatOp::Average { window, .. } | FloatOp::Max(window) => {
                node.map.len().saturating_mul(window.kernel.0 * window.kernel.1)
            }
            _ => 0,
        };
        let all = self.nodes.iter().map(|node| of(node).saturating_add(node.map.len()));
        all.fold(self.input.len(), usize::saturating_add)
    }

    /// All values of one input, which is the first of them.
    pub fn run(&self, input: Vec<f32>) -> Vec<Vec<f32>> {
        let mut values = vec![input];
        for node in &self.nodes {
            let from = self.map(node.inputs[0]);
            let mut out = vec![0.0; node.map.len()];
            let x = &values[node.inputs[0]];
            match &node.op {
                FloatOp::Conv { conv, weights, bias } => convolve(conv, x, weights, bias, &mut out),
                FloatOp::Average { window, all } => pool(window, from, node.map, &mut out, |positions, channel| {
                    let count = if *all { window.kernel.0 * window.kernel.1 } else { positions.len().max(1) };
                    positions.iter().map(|at| x[at + channel]).sum::<f32>() / count as f32
                }),
                FloatOp::Max(window) => pool(window, from, node.map, &mut out, |positions, channel| {
                    positions.iter().map(|at| x[at + channel]).fold(f32::MIN, f32::max)
                }),
                FloatOp::Add => {
                    let sums = x.iter().zip(&values[node.inputs[1]]).map(|(a, b)| a + b);
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
                }
                FloatOp::Concat => {
                    let mut first = 0;
                    for &input in &node.inputs {
                        let channels = self.map(input).channels;
                        let rows = out.chunks_exact_mut(node.map.channels).zip(values[input].chunks_exact(channels));
                        rows.for_each(|(row, from)| row[first..first + channels].copy_from_slice(from));
                        first += channels;
                    }
                }
                FloatOp::Pad { top, left } => {
                    let (width, channels) = (node.map.width, node.map.channels);
                    for (y, row) in x.chunks_exact(from.width * channels).enumerate() {
                        let at = ((y + top) * width + left) * channels;
                        out[at..at + row.len()].copy_from_slice(row);
                    }
                }
            }
            out.iter_mut().for_each(|v| *v = v.max(node.low).min(node.high));
            values.push(out);
        }
        values
    }
}

fn convolve(conv: &Conv, x: &[f32], weights: &[f32], bias: &[f32], out: &mut [f32]) {
    let per_group = conv.channels / conv.groups;
    let row = conv.output.width * conv.filters;
    out.par_chunks_exact_mut(row).enumerate().for_each(|(oy, out)| {
        for (ox, out) in out.chunks_exact_mut(conv.filters).enumerate() {
            out.copy_from_slice(bias);
            for (ky, kx) in (0..conv.kernel.0).flat_map(|ky| (0..conv.kernel.1).map(move |kx| (ky, kx))) {
                let Some(position) = conv.input_position(oy, ox, ky, kx) else { continue };
                for (filter, out) in out.iter_mut().enumerate() {
                    let x = &x[position * conv.input.channels + conv.first_channel_of(filter)..][..per_group];
                    let weight = ((filter * conv.kernel.0 + ky) * conv.kernel.1 + kx) * per_group;
                    let weights = &weights[weight..weight + per_group];
                    *out += x.iter().zip(weights).map(|(x, w)| x * w).sum::<f32>();
                }
            }
        }
    });
}

/// `of` the positions of each window and a channel.
fn pool(window: &Window, from: Map, to: Map, out: &mut [f32], of: impl Fn(&[usize], usize) -> f32) {
    let mut positions = Vec::new();
    for (at, out) in out.chunks_exact_mut(to.channels).enumerate() {
        let (rows, columns) = window.at(from, at / to.width, at % to.width);
        positions.clear();
        for y in rows {
            positions.extend(columns.clone().map(|x| (y * from.width + x) * from.channels));
        }
        out.iter_mut().enumerate().for_each(|(channel, out)| *out = of(&positions, channel));
    }
}
