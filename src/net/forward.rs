//! The forward pass, of one view in training and of one sample to its feature.

use bytemuck::{Pod, Zeroable};

use super::network::{MAX_TENSORS, Network};
use super::spec::MAX_LAYERS;
use crate::fixed::Seen;
use crate::fixed::{LaggedShift, shift_for};
use crate::kernels::narrow::{self, Keep, Largest, Pool, Relu, Sink, Windows};
use crate::kernels::reference::pool_sums;
use crate::kernels::{Conv, Grid};

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

/// The shift in force; where none is yet, the exact one for `sums`.
fn shift_or_exact(shift: LaggedShift, sums: &[i32]) -> u32 {
    if shift.is_set() { shift.get() } else { shift_for(narrow::largest(sums), 8) }
}

/// Activations of all layers for `x` (`[height, width, channels]`, `i8`), into `activations`.
///
/// Layers whose shift is not set yet are narrowed by their exact shift.
pub fn layers(net: &Network, params: Params, x: &[i8], activations: &mut [i8], scratch: &mut Scratch) -> ForwardSeen {
    through(net, params, net.layers.len(), x, activations, None, scratch)
}

/// As [`layers`], but the last layer is not kept, only summed over `windows`: `activations` is
/// [`Network::kept_len`] long or longer.
pub fn pooled(
    net: &Network,
    params: Params,
    x: &[i8],
    activations: &mut [i8],
    windows: &mut [Windows],
    scratch: &mut Scratch,
) -> ForwardSeen {
    through(net, params, net.layers.len(), x, activations, Some(windows), scratch)
}

/// The first layer alone, summed over `windows`.
pub fn first_pooled(net: &Network, params: Params, x: &[i8], windows: &mut [Windows], scratch: &mut Scratch) {
    through(net, params, 1, x, &mut [], Some(windows), scratch);
}

/// The first `count` layers; the last of them into `windows` where they are given.
fn through(
    net: &Network,
    params: Params,
    count: usize,
    x: &[i8],
    activations: &mut [i8],
    mut last: Option<&mut [Windows]>,
    scratch: &mut Scratch,
) -> ForwardSeen {
    let mut seen = ForwardSeen::default();
    for (index, layer) in net.layers.iter().enumerate().take(count) {
        let (before, from_here) = activations.split_at_mut(layer.activations);
        let input = match index {
            0 => x,
            _ => &before[net.layers[index - 1].activations..],
        };
        let thresholds: &[i32] = if layer.dictionary { params.thresholds } else { &[] };
        let tensors = layer.tensors.clone();
        // Thresholds only lower the maximum, so the exact shift without them is safe.
        let shift = params.shift_of(params.shifts.layers[index], net, tensors.clone(), input, scratch);
        if let Some(windows) = last.take_if(|_| index + 1 == count) {
            let mut sink = Pool::new(shift, thresholds, layer.output, windows);
            params.layer(net, tensors, input, &mut sink, scratch);
            seen.layers[index] = sink.seen();
        } else {
            let mut sink = Relu::new(shift, thresholds, &mut from_here[..layer.output.len()]);
            params.layer(net, tensors, input, &mut sink, scratch);
            seen.layers[index] = sink.seen();
        }
    }
    seen
}

impl Params<'_> {
    /// The products of all tensors of a layer.
    fn layer<S: Sink>(
        &self,
        net: &Network,
        tensors: core::ops::Range<usize>,
        x: &[i8],
        sink: &mut S,
        scratch: &mut Scratch,
    ) {
        for tensor in tensors {
            self.forward(net, &net.tensors[tensor].conv, tensor, x, sink, scratch);
        }
    }

    /// The product of tensor `number` in the form `conv`.
    fn forward<S: Sink>(
        &self,
        net: &Network,
        conv: &Conv,
        number: usize,
        x: &[i8],
        sink: &mut S,
        scratch: &mut Scratch,
    ) {
        let tensor = &net.tensors[number];
        let weights = &self.weights[tensor.weight_range()];
        net.kernels.forward(conv, x, weights, &self.packed[tensor.packed..], sink, scratch.kernel);
    }

    /// The shift in force, or the exact one for the sums of one view.
    fn shift_of(
        &self,
        shift: LaggedShift,
        net: &Network,
        tensors: core::ops::Range<usize>,
        x: &[i8],
        scratch: &mut Scratch,
    ) -> u32 {
        if shift.is_set() {
            return shift.get();
        }
        let mut largest = Largest::default();
        for tensor in tensors {
            self.forward(net, &net.tensors[tensor].conv, tensor, x, &mut largest, scratch);
        }
        shift_for(largest.magnitude, 8)
    }
}

/// Activations of the head for some views: its pooled input and its hidden layer (`i8`), and the embedding (`i32`).
pub struct HeadActivations<'a> {
    pub input: &'a mut [i8],
    pub hidden: &'a mut [i8],
    pub embedding: &'a mut [i32],
}

/// The head's pooled input of one view, from its last layer's activations.
pub fn pool(net: &Network, params: Params, activations: &[i8], out: &mut [i8], scratch: &mut Scratch) -> Seen {
    let (Some(head), Some(last)) = (net.head, net.layers.last()) else { return Seen::default() };
    let sums = &mut scratch.accumulators[..head.grid.len()];
    pool_sums(&head.grid, &activations[last.activations..], sums);
    narrow::nearest(sums, shift_or_exact(params.shifts.head[0], sums), out)
}

/// The head over the pooled inputs of as many views as stand in `at`; returns what narrowing the hidden layer saw.
pub fn head(net: &Network, params: Params, at: &mut HeadActivations, scratch: &mut Scratch) -> Seen {
    let Some(head) = net.head else { return Seen::default() };
    let views = at.input.len() / head.grid.len();
    let (mut seen, most) = (Seen::default(), net.views_at_a_time);
    for first in (0..views).step_by(most) {
        let count = most.min(views - first);
        let (hidden, output) = (net.conv_over(head.hidden, count), net.conv_over(head.output, count));
        let input = &at.input[first * head.grid.len()..][..hidden.input.len()];
        let out = &mut at.hidden[first * hidden.output.channels..][..hidden.output.len()];
        let shift = params.shift_of(params.shifts.head[1], net, head.hidden..head.hidden + 1, input, scratch);
        let mut sink = Relu::new(shift, &[], out);
        params.forward(net, &hidden, head.hidden, input, &mut sink, scratch);
        seen = seen.merge(sink.seen());
        let embedding = &mut at.embedding[first * output.output.channels..][..output.output.len()];
        let hidden = &at.hidden[first * hidden.output.channels..][..output.input.len()];
        params.forward(net, &output, head.output, hidden, &mut Keep(embedding), scratch);
    }
    seen
}

/// The feature of `x`: the pooled layers, `i8`, each layer's block by its own shift. `activations` is
/// [`Network::kept_len`] long. Returns what narrowing the layers and the blocks saw.
pub fn feature(
    net: &Network,
    params: Params,
    x: &[i8],
    activations: &mut [i8],
    out: &mut [i8],
    scratch: &mut Scratch,
) -> (ForwardSeen, [Seen; MAX_LAYERS]) {
    let mut seen = [Seen::default(); MAX_LAYERS];
    let layers = blocks(net, params, x, activations, None, scratch, |block, sums| {
        let before: usize = net.feature[..block].iter().map(|(_, grid)| grid.len()).sum();
        let shift = shift_or_exact(params.shifts.feature[block], sums);
        seen[block] = narrow::nearest(sums, shift, &mut out[before..before + sums.len()]);
    });
    (layers, seen)
}

/// Calls `each` with every block of the feature of `x` before it is narrowed. `meter` gets its sums over the last layer.
pub fn blocks(
    net: &Network,
    params: Params,
    x: &[i8],
    activations: &mut [i8],
    meter: Option<Windows>,
    scratch: &mut Scratch,
    mut each: impl FnMut(usize, &[i32]),
) -> ForwardSeen {
    let last = net.layers.len() - 1;
    let of_last = |block: &(usize, Grid)| block.0 == last;
    let all_sums = core::mem::take(&mut scratch.accumulators);
    let seen = if net.keeps_last() {
        let seen = layers(net, params, x, activations, scratch);
        if let Some(meter) = meter {
            pool_sums(&meter.grid, &activations[net.layers[last].activations..], meter.sums);
        }
        seen
    } else {
        // All blocks have the same number of cells, so one set of windows serves every block of the last layer.
        let mut windows: heapless::Vec<Windows, 2> = meter.into_iter().collect();
        if let Some((_, grid)) = net.feature.iter().find(|block| of_last(block)) {
            let _ = windows.push(Windows::new(*grid, &mut all_sums[..grid.len()]));
        }
        pooled(net, params, x, activations, &mut windows, scratch)
    };
    // Sums of the last layer may stand in the scratch already: its blocks come first.
    let numbered = || net.feature.iter().enumerate();
    for (block, (layer, grid)) in numbered().filter(|(_, b)| of_last(b)).chain(numbered().filter(|(_, b)| !of_last(b)))
    {
        let sums = &mut all_sums[..grid.len()];
        if *layer < last || net.keeps_last() {
            pool_sums(grid, &activations[net.layers[*layer].activations..], sums);
        }
        each(block, sums);
    }
    scratch.accumulators = all_sums;
    seen
}
