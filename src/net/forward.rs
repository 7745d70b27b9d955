//! The forward pass, of one view in training and of one sample to its feature.

use core::ops::{AddAssign, Range};

use bytemuck::{Pod, Zeroable};

use super::arena::Arena;
use super::head::{Head, MAX_HEAD_TENSORS};
use super::network::{Network, Tensor};
use super::spec::MAX_LAYERS;
use super::task::MAX_PRETEXTS;
use crate::augment::token;
use crate::fixed::Seen;
use crate::fixed::{LaggedShift, round_nearest, shift_for};
use crate::kernels::narrow::{self, Keep, Largest, Linear, Pool, Relu, Sink, Windows};
use crate::kernels::reference::pool_sums;
use crate::kernels::{Conv, Grid};

/// Tensors whose errors have a shift: the same number on every machine, as it is part of the state.
const ERROR_SHIFTS: usize = MAX_LAYERS + 2 + MAX_PRETEXTS * MAX_HEAD_TENSORS;

/// All requantization shifts of an encoder and its heads. Part of the state; 1 byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Shifts {
    /// Activations of the layers.
    pub layers: [LaggedShift; MAX_LAYERS],
    /// Of each head, its pooled input and its inner layers. Of one that rebuilds, the decoder's sums, the errors at them,
    /// the latent and the map that its code becomes.
    pub heads: [[LaggedShift; MAX_HEAD_TENSORS]; MAX_PRETEXTS],
    /// Errors at the inputs of the tensors.
    pub errors: [LaggedShift; ERROR_SHIFTS],
    /// Pooled blocks of the feature.
    pub feature: [LaggedShift; MAX_LAYERS],
}

impl Shifts {
    pub const fn unset() -> Self {
        let u = LaggedShift::unset();
        Shifts {
            layers: [u; MAX_LAYERS],
            heads: [[u; MAX_HEAD_TENSORS]; MAX_PRETEXTS],
            errors: [u; ERROR_SHIFTS],
            feature: [u; MAX_LAYERS],
        }
    }
}

/// Weights in the forms that a forward pass reads.
#[derive(Clone, Copy)]
pub struct Params<'a> {
    /// The first weights of all, where they are read from flash; see [`Options::flash_weights`](crate::learner::Options).
    pub flash: &'a [i8],
    /// All others.
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
    /// Window sums of a last layer that is not kept; where nobody judges, the learner's own, which outlive the scratch.
    pub windows: &'a mut [i16],
    /// Window sums of the layers that are kept as their averages.
    pub averaged: &'a mut [i16],
}

impl<'m> Scratch<'m> {
    /// No memory: for where nothing is taken forward.
    pub fn none() -> Self {
        Scratch { kernel: &mut [], accumulators: &mut [], windows: &mut [], averaged: &mut [] }
    }

    /// Takes the scratch of perceiving.
    pub fn take(network: &Network, arena: &mut Arena<'m>) -> Self {
        let windows = if network.judged { network.windows_len() } else { 0 };
        Self::take_parts(network, 1, network.accumulator_len(), windows, arena)
    }

    /// Takes the scratch of a step whose head takes `views` at a time.
    pub fn take_for_step(network: &Network, views: usize, arena: &mut Arena<'m>) -> Self {
        let sums = network.heads.iter().map(Head::input_len).max().unwrap_or(0);
        Self::take_parts(network, views, sums, 0, arena)
    }

    fn take_parts(network: &Network, views: usize, sums: usize, windows: usize, arena: &mut Arena<'m>) -> Self {
        Scratch {
            kernel: arena.take(network.scratch_len(views)),
            accumulators: arena.take(sums),
            windows: arena.take(windows),
            averaged: arena.take(network.averaged_len()),
        }
    }
}

/// What the narrowing of each layer saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardSeen {
    pub layers: [Seen; MAX_LAYERS],
    /// Of the step's head.
    pub head: [Seen; MAX_HEAD_TENSORS],
}

impl ForwardSeen {
    pub fn merge(&mut self, other: &ForwardSeen) {
        self.layers.iter_mut().zip(&other.layers).for_each(|(a, b)| *a = a.merge(*b));
        self.head.iter_mut().zip(&other.head).for_each(|(a, b)| *a = a.merge(*b));
    }
}

/// The shift in force; where none is yet, the exact one for a largest magnitude.
fn shift_or_exact(shift: LaggedShift, largest: impl FnOnce() -> u32) -> u32 {
    if shift.is_set() { shift.get() } else { shift_for(largest(), 8) }
}

/// Activations of the layers that a step computes, for `x` (`[height, width, channels]`, `i8`), the input of the first
/// of them; into `activations`, [`Network::step_len`] long.
///
/// Layers whose shift is not set yet are narrowed by their exact shift.
pub fn layers(net: &Network, params: Params, x: &[i8], activations: &mut [i8], scratch: &mut Scratch) -> ForwardSeen {
    through(net, params, net.base..net.layers.len(), x, activations, None::<&mut [Windows<i32>]>, scratch)
}

/// The layers below those that a step computes; `take` gets the output of the last of them. `activations` is
/// [`Network::kept_len`] long.
pub fn below(
    net: &Network,
    params: Params,
    x: &[i8],
    activations: &mut [i8],
    scratch: &mut Scratch,
    take: impl FnOnce(&[i8]),
) {
    let mut take = Some(take);
    two_at_a_time(net, params, net.base, x, activations, scratch, |layer, output, _| {
        if let Some(take) = take.take_if(|_| layer + 1 == net.base) {
            take(output);
        }
    });
}

/// The first `count` layers, of which no more are kept than the newest and the one that it reads: in turns at the two ends
/// of `activations`. `each` gets the output of every layer.
fn two_at_a_time(
    net: &Network,
    params: Params,
    count: usize,
    x: &[i8],
    activations: &mut [i8],
    scratch: &mut Scratch,
    mut each: impl FnMut(usize, &[i8], &mut Scratch),
) -> ForwardSeen {
    let mut seen = ForwardSeen::default();
    let mut below_len = 0;
    for (index, layer) in net.layers.iter().enumerate().take(count) {
        let len = layer.kept().len();
        let (below, output) = if index % 2 == 0 {
            let (output, rest) = activations.split_at_mut(len);
            (&rest[rest.len() - below_len..], output)
        } else {
            let (rest, output) = activations.split_at_mut(activations.len() - len);
            (&rest[..below_len], output)
        };
        let input = if index == 0 { x } else { below };
        let one = index..index + 1;
        seen.merge(&through(net, params, one, input, output, None::<&mut [Windows<i32>]>, scratch));
        each(index, output, scratch);
        below_len = len;
    }
    seen
}

/// The first `count` layers of all.
pub fn first_layers(
    net: &Network,
    params: Params,
    count: usize,
    x: &[i8],
    activations: &mut [i8],
    scratch: &mut Scratch,
) {
    through(net, params, 0..count, x, activations, None::<&mut [Windows<i32>]>, scratch);
}

/// What `layer` makes of `x`, the input of the first, into `out`, as long as the layer's kept map. `activations` is
/// [`Network::kept_len`] long.
pub fn map(
    net: &Network,
    params: Params,
    layer: usize,
    x: &[i8],
    activations: &mut [i8],
    out: &mut [i8],
    scratch: &mut Scratch,
) {
    if net.two_at_a_time {
        two_at_a_time(net, params, layer + 1, x, activations, scratch, |index, output, _| {
            if index == layer {
                out.copy_from_slice(output);
            }
        });
        return;
    }
    let input = match layer.checked_sub(1) {
        None => x,
        Some(below) => {
            first_layers(net, params, layer, x, activations, scratch);
            &activations[net.layers[below].activations..]
        }
    };
    through(net, params, layer..layer + 1, input, out, None::<&mut [Windows<i32>]>, scratch);
}

/// The first layer alone, summed over `windows`.
pub fn first_pooled(net: &Network, params: Params, x: &[i8], windows: Windows<i32>, scratch: &mut Scratch) {
    through(net, params, 0..1, x, &mut [], Some(&mut [windows]), scratch);
}

/// The layers `which`, the first of which reads `x`; the last one into `windows` where they are given.
fn through<T: Copy + Default + AddAssign + From<i8>>(
    net: &Network,
    params: Params,
    which: Range<usize>,
    x: &[i8],
    activations: &mut [i8],
    mut windows: Option<&mut [Windows<T>]>,
    scratch: &mut Scratch,
) -> ForwardSeen {
    let mut seen = ForwardSeen::default();
    let start = net.layers[which.start.min(net.layers.len() - 1)].activations;
    for index in which.clone() {
        let layer = &net.layers[index];
        if net.is_embedding(index) {
            look_up(params.weights_of(&net.tensors[layer.tensors.start]), layer.output.channels, x, activations);
            continue;
        }
        let (before, from_here) = activations.split_at_mut((layer.activations - start).min(activations.len()));
        let input = if index == which.start { x } else { &before[net.layers[index - 1].activations - start..] };
        let thresholds: &[i32] = if layer.dictionary && index == 0 { params.thresholds } else { &[] };
        let tensors = layer.tensors.clone();
        // Thresholds only lower the maximum, so the exact shift without them is safe.
        let shift = params.shift_of(params.shifts.layers[index], net, tensors.clone(), input, scratch);
        if let Some(windows) = windows.take_if(|_| index + 1 == which.end) {
            let mut sink = Pool::new(shift, thresholds, layer.output, windows);
            params.layer(net, tensors, input, &mut sink, scratch);
            seen.layers[index] = sink.seen();
        } else if let Some(grid) = layer.averaged {
            seen.layers[index] = averaged(net, params, index, grid, (shift, thresholds), input, from_here, scratch);
        } else {
            let mut sink = Relu::new(shift, thresholds, &mut from_here[..layer.output.len()]);
            params.layer(net, tensors, input, &mut sink, scratch);
            seen.layers[index] = sink.seen();
        }
    }
    seen
}

/// The rows of `width` numbers that the codes of `x` stand for, one after the other into `out`.
fn look_up(rows: &[i8], width: usize, x: &[i8], out: &mut [i8]) {
    for (out, code) in out.chunks_exact_mut(width).zip(token::codes(x)) {
        out.copy_from_slice(&rows[code * width..][..width]);
    }
}

/// Layer `index` of `input`, summed over the windows of its block of the feature and of `grid`; the averages over the
/// latter into `out`.
#[allow(clippy::too_many_arguments)]
fn averaged(
    net: &Network,
    params: Params,
    index: usize,
    grid: Grid,
    (shift, thresholds): (u32, &[i32]),
    input: &[i8],
    out: &mut [i8],
    scratch: &mut Scratch,
) -> Seen {
    let layer = &net.layers[index];
    let all = core::mem::take(&mut scratch.averaged);
    let (of_block, of_averages) = net.averaged_places(index, grid);
    let (before, sums) = all.split_at_mut(of_averages.start);
    let sums = &mut sums[..grid.len()];
    let mut windows: heapless::Vec<Windows<i16>, 2> = heapless::Vec::new();
    // There is room for two.
    let _ = windows.push(Windows::new(grid, &mut *sums));
    if let Some(grid) = net.block_of(index) {
        let _ = windows.push(Windows::new(grid, &mut before[of_block]));
    }
    let mut sink = Pool::new(shift, thresholds, layer.output, &mut windows);
    params.layer(net, layer.tensors.clone(), input, &mut sink, scratch);
    let seen = sink.seen();
    drop(windows);
    // Windows hold a power of two of positions.
    let shift = grid.window_positions().trailing_zeros();
    sums.iter().zip(out).for_each(|(&sum, o)| *o = round_nearest(i32::from(sum), shift) as i8);
    scratch.averaged = all;
    seen
}

impl<'a> Params<'a> {
    /// The 8-bit weights of `tensor`.
    pub fn weights_of(&self, tensor: &Tensor) -> &'a [i8] {
        tensor.weights_in(self.flash, self.weights)
    }

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
    pub(crate) fn forward<S: Sink>(
        &self,
        net: &Network,
        conv: &Conv,
        number: usize,
        x: &[i8],
        sink: &mut S,
        scratch: &mut Scratch,
    ) {
        let tensor = &net.tensors[number];
        let weights = self.weights_of(tensor);
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

/// Activations of a head for some views: its pooled inputs and its inner layers (`i8`; one layer of all views after the
/// other), and the sums of its top (`i32`).
pub struct HeadActivations<'a> {
    pub input: &'a mut [i8],
    pub inner: &'a mut [i8],
    pub top: &'a mut [i32],
}

/// The pooled input of `head` for one view, from its last layer's activations.
pub fn pool(
    net: &Network,
    params: Params,
    head: &Head,
    activations: &[i8],
    out: &mut [i8],
    scratch: &mut Scratch,
) -> Seen {
    let (Some(grid), Some(last)) = (head.grid, net.layers.last()) else { return Seen::default() };
    let sums = &mut scratch.accumulators[..grid.len()];
    pool_sums(&grid, &activations[net.step_offset(last)..], sums);
    narrow::nearest(sums, shift_or_exact(params.shifts.heads[head.number][0], || narrow::largest(sums)), out)
}

/// `head` over the pooled inputs of as many views as stand in `at`; returns what narrowing its inner layers saw, in the
/// places of their shifts.
pub fn head(
    net: &Network,
    params: Params,
    head: &Head,
    at: &mut HeadActivations,
    scratch: &mut Scratch,
) -> [Seen; MAX_HEAD_TENSORS] {
    let mut seen = [Seen::default(); MAX_HEAD_TENSORS];
    let (views, most) = (at.input.len() / head.input_len().max(1), net.views_at_a_time);
    let mut from = 0;
    for (place, tensor) in head.tensors.clone().enumerate() {
        let widths = (net.tensors[tensor].conv.channels, net.tensors[tensor].conv.filters);
        let (below, here) = at.inner.split_at_mut(from);
        let below = if place == 0 { &*at.input } else { &below[from - views * widths.0..] };
        for first in (0..views).step_by(most) {
            let conv = net.conv_over(tensor, most.min(views - first));
            let input = &below[first * widths.0..][..conv.input.len()];
            if tensor == head.top() {
                let out = &mut at.top[first * widths.1..][..conv.output.len()];
                params.forward(net, &conv, tensor, input, &mut Keep(out), scratch);
                continue;
            }
            let lagged = params.shifts.heads[head.number][place + 1];
            let shift = params.shift_of(lagged, net, tensor..tensor + 1, input, scratch);
            let out = &mut here[first * widths.1..][..conv.output.len()];
            let narrowed = if head.is_signed(tensor) {
                let mut sink = Linear::new(shift, &[], out);
                params.forward(net, &conv, tensor, input, &mut sink, scratch);
                sink.seen()
            } else {
                let mut sink = Relu::new(shift, &[], out);
                params.forward(net, &conv, tensor, input, &mut sink, scratch);
                sink.seen()
            };
            seen[place + 1] = seen[place + 1].merge(narrowed);
        }
        if tensor != head.top() {
            from += views * widths.1;
        }
    }
    seen
}

/// Sums of a block of the feature before they are narrowed.
#[derive(Clone, Copy)]
pub enum Sums<'a> {
    Wide(&'a [i32]),
    Narrow(&'a [i16]),
}

impl Sums<'_> {
    fn len(self) -> usize {
        match self {
            Sums::Wide(sums) => sums.len(),
            Sums::Narrow(sums) => sums.len(),
        }
    }

    fn largest(self) -> u32 {
        match self {
            Sums::Wide(sums) => narrow::largest(sums),
            Sums::Narrow(sums) => narrow::largest(sums),
        }
    }

    fn nearest(self, shift: u32, out: &mut [i8]) -> Seen {
        match self {
            Sums::Wide(sums) => narrow::nearest(sums, shift, out),
            Sums::Narrow(sums) => narrow::nearest(sums, shift, out),
        }
    }

    pub fn for_each(self, mut each: impl FnMut(i32)) {
        match self {
            Sums::Wide(sums) => sums.iter().for_each(|&sum| each(sum)),
            Sums::Narrow(sums) => sums.iter().for_each(|&sum| each(i32::from(sum))),
        }
    }
}

/// The feature of `x`: the pooled layers, `i8`, each layer's block by its own shift; `out` may be empty. `activations` is
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
        let shift = shift_or_exact(params.shifts.feature[block], || sums.largest());
        // Where there is no room for the feature, what narrowing would see is seen all the same.
        seen[block] = sums.nearest(shift, out.get_mut(before..before + sums.len()).unwrap_or_default());
    });
    (layers, seen)
}

/// Calls `each` with every block of the feature of `x` before it is narrowed. `meter`, a grid over the last layer and
/// room for its sums, is filled.
pub fn blocks(
    net: &Network,
    params: Params,
    x: &[i8],
    activations: &mut [i8],
    meter: Option<(Grid, &mut [i32])>,
    scratch: &mut Scratch,
    mut each: impl FnMut(usize, Sums),
) -> ForwardSeen {
    if net.two_at_a_time {
        return two_at_a_time(net, params, net.layers.len(), x, activations, scratch, |layer, output, scratch| {
            for (block, (_, grid)) in net.feature.iter().enumerate().filter(|(_, block)| block.0 == layer) {
                let sums = &mut scratch.accumulators[..grid.len()];
                pool_sums(grid, output, sums);
                each(block, Sums::Wide(sums));
            }
        });
    }
    let last = net.layers.len() - 1;
    let all = 0..net.layers.len();
    let seen = if net.pools_last {
        let windows = core::mem::take(&mut scratch.windows);
        let (of_feature, of_meter) = windows.split_at_mut(net.last_grid().map_or(0, |grid| grid.len()));
        let mut sums: heapless::Vec<Windows<i16>, 2> = heapless::Vec::new();
        // There is room for two.
        if let Some(grid) = net.last_grid() {
            let _ = sums.push(Windows::new(grid, of_feature));
        }
        if let Some((grid, _)) = &meter {
            let _ = sums.push(Windows::new(*grid, &mut of_meter[..grid.len()]));
        }
        let seen = through(net, params, all, x, activations, Some(&mut sums), scratch);
        drop(sums);
        if let Some((grid, row)) = meter {
            row.iter_mut().zip(&of_meter[..grid.len()]).for_each(|(to, &sum)| *to = i32::from(sum));
        }
        scratch.windows = windows;
        seen
    } else {
        let seen = through(net, params, all, x, activations, None::<&mut [Windows<i32>]>, scratch);
        if let Some((grid, row)) = meter {
            pool_sums(&grid, &activations[net.layers[last].activations..], row);
        }
        seen
    };
    for (block, (layer, grid)) in net.feature.iter().enumerate() {
        if net.pools_last && *layer == last {
            // All blocks have the same number of cells, so one set of windows serves every block of the last layer.
            each(block, Sums::Narrow(&scratch.windows[..grid.len()]));
        } else if let Some(averaged) = net.layers[*layer].averaged {
            each(block, Sums::Narrow(&scratch.averaged[net.averaged_places(*layer, averaged).0]));
        } else {
            let sums = &mut scratch.accumulators[..grid.len()];
            pool_sums(grid, &activations[net.layers[*layer].activations..], sums);
            each(block, Sums::Wide(sums));
        }
    }
    seen
}
