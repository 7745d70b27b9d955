//! The forward pass, of one view in training and of one sample to its feature.

use bytemuck::{Pod, Zeroable};

use super::network::{MAX_TENSORS, Network};
use super::spec::MAX_LAYERS;
use crate::fixed::Seen;
use crate::fixed::{LaggedShift, shift_for};
use crate::kernels::reference::pool_sums;
use crate::kernels::requantize;

/// All requantization shifts of an encoder and its head. Part of the state; 1 byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Shifts {
    /// Activations of the layers.
    pub layers: [LaggedShift; MAX_LAYERS],
    /// Input of the head and its hidden layer.
    pub head: [LaggedShift; 2],
    /// Errors at the inputs of the tensors.
    pub errors: [LaggedShift; MAX_TENSORS],
    /// Pooled blocks of the feature.
    pub feature: [LaggedShift; MAX_LAYERS],
}

impl Shifts {
    pub const fn unset() -> Self {
        let u = LaggedShift::unset();
        Shifts { layers: [u; MAX_LAYERS], head: [u; 2], errors: [u; MAX_TENSORS], feature: [u; MAX_LAYERS] }
    }
}

/// Weights in the forms that a forward pass reads.
#[derive(Clone, Copy)]
pub struct Params<'a> {
    pub weights: &'a [i8],
    pub packed: &'a [i16],
    /// Thresholds of the dictionary's filters; empty where there is none.
    pub thresholds: &'a [i32],
    pub shifts: &'a Shifts,
}

/// Scratch of one view.
pub struct Scratch<'a> {
    pub kernel: &'a mut [i16],
    pub accumulators: &'a mut [i32],
}

impl<'m> Scratch<'m> {
    /// Takes the scratch of a forward pass.
    pub fn take(network: &Network, arena: &mut super::arena::Arena<'m>) -> Self {
        Scratch { kernel: arena.take(network.scratch_len()), accumulators: arena.take(network.accumulator_len()) }
    }
}

/// What the narrowing of each layer saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardSeen {
    pub layers: [Seen; MAX_LAYERS],
    pub head: [Seen; 2],
}

impl ForwardSeen {
    pub fn merge(&mut self, other: &ForwardSeen) {
        self.layers.iter_mut().zip(&other.layers).for_each(|(a, b)| *a = a.merge(*b));
        self.head.iter_mut().zip(&other.head).for_each(|(a, b)| *a = a.merge(*b));
    }
}

/// The shift in force; where none is yet, the exact one for `acc`.
fn shift_or_exact(shift: LaggedShift, acc: &[i32]) -> u32 {
    if shift.is_set() { shift.get() } else { shift_for(requantize::largest(acc), 8) }
}

/// Activations of all layers for `x` (`[height, width, channels]`, `i8`), into `activations`.
///
/// Layers whose shift is not set yet are narrowed by their exact shift.
pub fn layers(net: &Network, params: Params, x: &[i8], activations: &mut [i8], scratch: &mut Scratch) -> ForwardSeen {
    let mut seen = ForwardSeen::default();
    for (index, layer) in net.layers.iter().enumerate() {
        let (before, from_here) = activations.split_at_mut(layer.activations);
        let input = match index {
            0 => x,
            _ => &before[net.layers[index - 1].activations..],
        };
        let acc = &mut scratch.accumulators[..layer.output.len()];
        for tensor in &net.tensors[layer.tensors.clone()] {
            let weights = &params.weights[tensor.weight_range()];
            net.kernels.forward(&tensor.conv, input, weights, &params.packed[tensor.packed..], acc, scratch.kernel);
        }
        let thresholds = (layer.dictionary && !params.thresholds.is_empty()).then_some(params.thresholds);
        // Thresholds only lower the maximum, so the exact shift without them is safe.
        let shift = shift_or_exact(params.shifts.layers[index], acc);
        seen.layers[index] = requantize::relu(acc, thresholds, shift, &mut from_here[..layer.output.len()]);
    }
    seen
}

/// Activations of the head: its pooled input and its hidden layer (`i8`), and the embedding (`i32`).
pub struct HeadActivations<'a> {
    pub input: &'a mut [i8],
    pub hidden: &'a mut [i8],
    pub embedding: &'a mut [i32],
}

/// The head over the last layer's activations.
pub fn head(
    net: &Network,
    params: Params,
    activations: &[i8],
    out: &mut HeadActivations,
    scratch: &mut Scratch,
) -> [Seen; 2] {
    let (Some(head), Some(last)) = (net.head, net.layers.last()) else { return Default::default() };
    let mut seen = [Seen::default(); 2];
    let sums = &mut scratch.accumulators[..head.grid.len()];
    pool_sums(&head.grid, &activations[last.activations..], sums);
    seen[0] = requantize::nearest(sums, shift_or_exact(params.shifts.head[0], sums), out.input);
    let tensor = &net.tensors[head.hidden];
    let acc = &mut scratch.accumulators[..tensor.conv.filters];
    let weights = &params.weights[tensor.weight_range()];
    net.kernels.forward(&tensor.conv, out.input, weights, &params.packed[tensor.packed..], acc, scratch.kernel);
    seen[1] = requantize::relu(acc, None, shift_or_exact(params.shifts.head[1], acc), out.hidden);
    let tensor = &net.tensors[head.output];
    let weights = &params.weights[tensor.weight_range()];
    let packed = &params.packed[tensor.packed..];
    net.kernels.forward(&tensor.conv, out.hidden, weights, packed, out.embedding, scratch.kernel);
    seen
}

/// Pools `activations` into the feature, `i8`, each layer's block by its own shift; returns what narrowing saw.
pub fn feature(
    net: &Network,
    shifts: &Shifts,
    activations: &[i8],
    out: &mut [i8],
    scratch: &mut Scratch,
) -> [Seen; MAX_LAYERS] {
    let mut seen = [Seen::default(); MAX_LAYERS];
    let mut rest = out;
    for (block, (layer, grid)) in net.feature.iter().enumerate() {
        let (here, after) = core::mem::take(&mut rest).split_at_mut(grid.len());
        rest = after;
        let sums = &mut scratch.accumulators[..grid.len()];
        pool_sums(grid, &activations[net.layers[*layer].activations..], sums);
        seen[block] = requantize::nearest(sums, shift_or_exact(shifts.feature[block], sums), here);
    }
    seen
}
