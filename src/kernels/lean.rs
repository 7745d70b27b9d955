//! The lean way, for microcontrollers: no packed weights, and scratch for a few patches only; the same bits as
//! [`super::reference`]. Weights are read as the `i8` that they are, so they may stay in flash.
//!
//! - **Forward** widens the patches of two outputs to `i16` and multiplies them by two filters at a time, whose weights
//!   are widened as they are read (the way of CMSIS-NN: Lai, Suda, Chandra 2018, arXiv:1801.06601).
//! - **Input gradient** is gathered: the weights of four channels are widened once and stay while every position of the
//!   input takes the errors of the outputs that read it. No sum is scattered.
//! - **Weight gradient** adds the outer products of four outputs at a time, a row of the kernel after the other.
//!
//! The innermost loops are in `inner`: here in plain code, in [`super::cortex_m`] for the DSP extension.

use core::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut, try_cast_slice_mut};

use super::narrow::Sink;
use super::tile::{COLUMNS, OneByOne};
use super::{Conv, Views};

#[cfg(all(target_arch = "arm", feature = "cortex-m-dsp"))]
use super::cortex_m::lean as inner;

/// Name for reports.
pub(super) const NAME: &str = inner::NAME;

/// Outputs that the forward product takes at a time.
pub(super) const PATCHES: usize = 2;
/// Channels of which the input gradient holds the weights.
pub(super) const CHANNELS: usize = 4;
/// Outputs whose outer products are added at a time.
pub(super) const OUTER: usize = 4;

/// Numbers of each vector of some that stand side by side for the inner loops, which take four numbers at a time.
const fn padded(numbers: usize) -> usize {
    numbers.next_multiple_of(4)
}

/// One number of the scratch is left out where it begins between two words.
const SKIPPED: usize = 1;

/// Length of the scratch of the forward product of a dense convolution in `i16`; the same for every inner loop.
pub(super) const fn forward_scratch_len(conv: &Conv) -> usize {
    SKIPPED + PATCHES * padded(conv.fan_in())
}

/// As [`forward_scratch_len`], for all three products.
pub(super) fn scratch_len(conv: &Conv) -> usize {
    let taps = conv.kernel.0.div_ceil(conv.stride.0) * conv.kernel.1.div_ceil(conv.stride.1);
    let back = SKIPPED + CHANNELS * taps * padded(conv.filters);
    let outer = SKIPPED + OUTER * conv.kernel.1 * conv.channels;
    forward_scratch_len(conv).max(back).max(outer)
}

/// The first `numbers` of the scratch, as the words that inner loops read.
fn words(scratch: &mut [i16], numbers: usize) -> &mut [u32] {
    let skipped = scratch.as_ptr().align_offset(align_of::<u32>());
    try_cast_slice_mut(&mut scratch[skipped..skipped + numbers]).unwrap_or_default()
}

/// Where a patch is written.
pub(super) trait Patch {
    /// Numbers `k` and following of the patch.
    fn put(&mut self, k: usize, values: &[i8]);

    /// In the padding.
    fn zeros(&mut self, k: usize, count: usize) {
        (k..k + count).for_each(|k| self.put(k, &[0]));
    }
}

/// Copies kernel rows `rows` of the patch that output `position` reads.
#[inline(always)]
fn copy_patch(conv: &Conv, x: &[i8], position: usize, rows: Range<usize>, mut to: impl Patch) {
    let Conv { input, kernel, stride, padding, channels, .. } = *conv;
    let (top, left) = (position / conv.output.width * stride.0, position % conv.output.width * stride.1);
    // Columns of the kernel that lie within the input.
    let begin = padding.1.saturating_sub(left).min(kernel.1);
    let end = (input.width + padding.1).saturating_sub(left).clamp(begin, kernel.1);
    let mut k = 0;
    for ky in rows {
        match (top + ky).checked_sub(padding.0).filter(|&y| y < input.height && begin < end) {
            None => to.zeros(k, kernel.1 * channels),
            Some(y) => {
                to.zeros(k, begin * channels);
                let from = (y * input.width + left + begin - padding.1) * input.channels;
                let row = &x[from..from + (end - begin) * input.channels];
                if channels == input.channels {
                    to.put(k + begin * channels, row);
                } else {
                    let read = conv.first_channel..conv.first_channel + channels;
                    for (tap, pixel) in row.chunks_exact(input.channels).enumerate() {
                        to.put(k + (begin + tap) * channels, &pixel[read.clone()]);
                    }
                }
                to.zeros(k + end * channels, (kernel.1 - end) * channels);
            }
        }
        k += kernel.1 * channels;
    }
}

/// See [`super::reference::conv_forward`].
pub(super) fn forward<S: Sink>(conv: &Conv, x: &[i8], weights: &[i8], sink: &mut S, scratch: &mut [i16]) {
    let fan_in = conv.fan_in();
    let positions = conv.output.positions();
    let patches = words(scratch, PATCHES * padded(fan_in));
    // What stands beyond a patch stays 0.
    patches.fill(0);
    let mut sums = [[0; COLUMNS]; PATCHES];
    for first in (0..positions).step_by(PATCHES) {
        // The last output may come twice.
        let at = [first, (first + 1).min(positions - 1)];
        for (patch, &position) in at.iter().enumerate() {
            copy_patch(conv, x, position, 0..conv.kernel.0, inner::OneOfPatches { patches, patch });
        }
        let count = PATCHES.min(positions - first);
        let mut offsets = at.map(|position| position * conv.output.channels + conv.first_filter);
        for first in (0..conv.filters).step_by(COLUMNS) {
            let filters = COLUMNS.min(conv.filters - first);
            inner::dots(patches, &weights[first * fan_in..], fan_in, filters, &mut sums);
            sink.take(OneByOne, &offsets[..count], conv.first_filter + first, filters, &sums[..count]);
            offsets.iter_mut().for_each(|offset| *offset += filters);
        }
    }
}

/// Along one axis: the taps that meet every `stride`-th input, the first of these inputs, and the output that the first
/// of the taps meets there; each further tap meets the output before, each further input the one after.
struct Phase {
    first_tap: usize,
    first_input: usize,
    first_output: usize,
}

impl Phase {
    fn new(first_tap: usize, stride: usize, padding: usize) -> Self {
        // The least input of which `input + padding − first_tap` is a multiple of the stride.
        let first_input = (first_tap + padding * stride - padding) % stride;
        Phase { first_tap, first_input, first_output: (first_input + padding - first_tap) / stride }
    }
}

/// See [`super::reference::conv_input_grad`].
pub(super) fn input_grad<S: Sink>(conv: &Conv, error: &[i8], weights: &[i8], sink: &mut S, scratch: &mut [i16]) {
    let Conv { input, output, kernel, stride, padding, channels, filters, .. } = *conv;
    let fan_in = conv.fan_in();
    let len = CHANNELS * padded(filters);
    let taps_of_phase = kernel.0.div_ceil(stride.0) * kernel.1.div_ceil(stride.1);
    let scratch = words(scratch, taps_of_phase * len);
    // The weights of errors that there are not are 0; the sums of channels that there are not go nowhere.
    scratch.fill(0);
    let mut out = [[0; COLUMNS]];
    for (first_y, first_x) in (0..stride.0).flat_map(|y| (0..stride.1).map(move |x| (y, x))) {
        let (down, across) = (Phase::new(first_y, stride.0, padding.0), Phase::new(first_x, stride.1, padding.1));
        let taps_down = || (down.first_tap..kernel.0).step_by(stride.0);
        let taps_across = || (across.first_tap..kernel.1).step_by(stride.1);
        let taps_of_row = taps_across().count();
        for first in (0..channels).step_by(CHANNELS) {
            let count = CHANNELS.min(channels - first);
            let taps = taps_down().flat_map(|ky| taps_across().map(move |kx| ky * kernel.1 + kx));
            for (tap, wide) in taps.zip(scratch.chunks_exact_mut(len / 2)) {
                inner::hold(wide, &weights[tap * channels + first..], fan_in, filters, count);
            }
            for (row, y) in (down.first_input..input.height).step_by(stride.0).enumerate() {
                for (column, x) in (across.first_input..input.width).step_by(stride.1).enumerate() {
                    let mut sums = [0; CHANNELS];
                    for (i, rows) in
                        scratch.chunks_exact(len / 2 * taps_of_row.max(1)).take(taps_down().count()).enumerate()
                    {
                        let Some(oy) = (down.first_output + row).checked_sub(i).filter(|&y| y < output.height) else {
                            continue;
                        };
                        for (j, wide) in rows.chunks_exact(len / 2).take(taps_of_row).enumerate() {
                            let Some(ox) = (across.first_output + column).checked_sub(j).filter(|&x| x < output.width)
                            else {
                                continue;
                            };
                            let from = (oy * output.width + ox) * output.channels + conv.first_filter;
                            inner::gather(&error[from..from + filters], wide, &mut sums);
                        }
                    }
                    out[0][..CHANNELS].copy_from_slice(&sums);
                    let channel = conv.first_channel + first;
                    let at = (y * input.width + x) * input.channels + channel;
                    sink.take(OneByOne, &[at], channel, count, &out);
                }
            }
        }
    }
}

/// One of the patches of the weight gradient, which stand side by side.
struct OneOfFour<'a> {
    patches: &'a mut [i16],
    patch: usize,
}

impl Patch for OneOfFour<'_> {
    #[inline(always)]
    fn put(&mut self, k: usize, values: &[i8]) {
        let places = self.patches[k * OUTER + self.patch..].iter_mut().step_by(OUTER);
        places.zip(values).for_each(|(place, &v)| *place = i16::from(v));
    }
}

/// See [`super::reference::conv_weight_grad`]; summed over all views.
pub(super) fn weight_grad(conv: &Conv, x: Views, error: Views, grad: &mut [i32], scratch: &mut [i16]) {
    let (fan_in, row) = (conv.fan_in(), conv.kernel.1 * conv.channels);
    let positions = conv.output.positions();
    let patches = words(scratch, OUTER * row);
    for (x, error) in (0..x.count).map(|view| (x.of(view), error.of(view))) {
        for first in (0..positions).step_by(OUTER) {
            let count = OUTER.min(positions - first);
            let errors_of = |filter: usize| {
                // Outputs that there are not have no error.
                let mut errors = [0; OUTER];
                let from = &error[first * conv.output.channels + conv.first_filter + filter..];
                errors[..count].iter_mut().zip(from.iter().step_by(conv.output.channels)).for_each(|(to, &e)| *to = e);
                errors
            };
            for ky in 0..conv.kernel.0 {
                for patch in 0..count {
                    copy_patch(
                        conv,
                        x,
                        first + patch,
                        ky..ky + 1,
                        OneOfFour { patches: cast_slice_mut(patches), patch },
                    );
                }
                for (pair, grad) in grad.chunks_mut(2 * fan_in).enumerate() {
                    let (a, b) = grad.split_at_mut(fan_in);
                    let a = &mut a[ky * row..(ky + 1) * row];
                    let errors = errors_of(2 * pair);
                    match b.get_mut(ky * row..(ky + 1) * row) {
                        Some(b) => inner::add_outer(patches, [errors, errors_of(2 * pair + 1)], a, b),
                        None => add_outer(patches, errors, a),
                    }
                }
            }
        }
    }
}

/// The products of a depthwise convolution: forward, or input gradient where `back`.
///
/// The channels of a position stand side by side in its map, so they are summed in plain code, [`COLUMNS`] at a time.
pub(super) fn depthwise<S: Sink>(conv: &Conv, from: &[i8], weights: &[i8], back: bool, sink: &mut S) {
    let taps = conv.kernel.0 * conv.kernel.1;
    let input = (conv.input, conv.first_channel);
    let output = (conv.output, conv.first_filter);
    let ((source, source_first), (target, target_first)) = if back { (output, input) } else { (input, output) };
    for position in 0..target.positions() {
        let (y, x) = (position / target.width, position % target.width);
        for first in (0..conv.channels).step_by(COLUMNS) {
            let count = COLUMNS.min(conv.channels - first);
            let mut sums = [[0; COLUMNS]];
            for tap in 0..taps {
                let (ky, kx) = (tap / conv.kernel.1, tap % conv.kernel.1);
                let met = if back { conv.output_position(y, x, ky, kx) } else { conv.input_position(y, x, ky, kx) };
                let Some(met) = met else { continue };
                let values = &from[met * source.channels + source_first + first..][..count];
                let weights = weights[first * taps + tap..].iter().step_by(taps);
                for ((sum, &v), &w) in sums[0].iter_mut().zip(values).zip(weights) {
                    *sum += i32::from(v) * i32::from(w);
                }
            }
            let at = position * target.channels + target_first + first;
            sink.take(OneByOne, &[at], target_first + first, count, &sums);
        }
    }
}

/// Adds to the gradients of one filter its errors times the patches of the same outputs.
#[inline(always)]
fn add_outer(patches: &[u32], errors: [i8; OUTER], grad: &mut [i32]) {
    for (g, x) in grad.iter_mut().zip(cast_slice::<_, i16>(patches).chunks_exact(OUTER)) {
        *g += x.iter().zip(errors).map(|(&x, e)| i32::from(x) * i32::from(e)).sum::<i32>();
    }
}

/// In plain code.
#[cfg(not(all(target_arch = "arm", feature = "cortex-m-dsp")))]
mod inner {
    use bytemuck::{cast_slice, cast_slice_mut};

    use super::{CHANNELS, COLUMNS, OUTER, PATCHES, Patch};

    pub const NAME: &str = "lean/portable";

    /// One of the patches of the forward product, which stand side by side.
    pub struct OneOfPatches<'a> {
        pub patches: &'a mut [u32],
        pub patch: usize,
    }

    impl Patch for OneOfPatches<'_> {
        #[inline(always)]
        fn put(&mut self, k: usize, values: &[i8]) {
            let patches: &mut [i16] = cast_slice_mut(self.patches);
            let places = patches[k * PATCHES + self.patch..].iter_mut().step_by(PATCHES);
            places.zip(values).for_each(|(place, &v)| *place = i16::from(v));
        }
    }

    /// The sums `[patch][filter]` of two patches side by side and the first `filters` of the weights.
    pub fn dots(patches: &[u32], weights: &[i8], fan_in: usize, filters: usize, sums: &mut [[i32; COLUMNS]; PATCHES]) {
        let [sums0, sums1] = sums;
        let sums = sums0.chunks_exact_mut(2).zip(sums1.chunks_exact_mut(2));
        for (weights, (sums0, sums1)) in weights[..filters * fan_in].chunks(2 * fan_in).zip(sums) {
            let (a, b) = weights.split_at(fan_in);
            // Of an odd number of filters the last one is taken twice.
            let products = two_by_two(patches, a, if b.is_empty() { a } else { b });
            sums0.copy_from_slice(&products[0]);
            sums1.copy_from_slice(&products[1]);
        }
    }

    /// By itself, so that all that it needs stays in registers.
    #[inline(never)]
    fn two_by_two(patches: &[u32], a: &[i8], b: &[i8]) -> [[i32; 2]; PATCHES] {
        let mut sums = [[0; 2]; PATCHES];
        for ((x, &a), &b) in cast_slice::<_, i16>(patches).chunks_exact(PATCHES).zip(a).zip(b) {
            for (sums, &x) in sums.iter_mut().zip(x) {
                sums[0] += i32::from(x) * i32::from(a);
                sums[1] += i32::from(x) * i32::from(b);
            }
        }
        sums
    }

    /// Widens the first `count` weights of each filter, side by side.
    #[inline(never)]
    pub fn hold(wide: &mut [u32], weights: &[i8], fan_in: usize, filters: usize, count: usize) {
        let wide: &mut [i16] = cast_slice_mut(wide);
        for (weights, wide) in weights.chunks(fan_in).take(filters).zip(wide.chunks_exact_mut(CHANNELS)) {
            wide.iter_mut().zip(&weights[..count]).for_each(|(wide, &w)| *wide = i16::from(w));
        }
    }

    /// Adds the products of the errors of one output and the weights of some channels, which stand side by side.
    #[inline(never)]
    pub fn gather(errors: &[i8], weights: &[u32], sums: &mut [i32; CHANNELS]) {
        for (&e, weights) in errors.iter().zip(cast_slice::<_, i16>(weights).chunks_exact(CHANNELS)) {
            for (sum, &w) in sums.iter_mut().zip(weights) {
                *sum += i32::from(e) * i32::from(w);
            }
        }
    }

    /// Adds to the gradients of two filters their errors times the patches of the same outputs.
    #[inline(never)]
    pub fn add_outer(patches: &[u32], errors: [[i8; OUTER]; 2], a: &mut [i32], b: &mut [i32]) {
        super::add_outer(patches, errors[0], a);
        super::add_outer(patches, errors[1], b);
    }
}
