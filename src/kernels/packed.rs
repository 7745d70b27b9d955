//! Forward product and input gradient of a convolution through the register tile: the same bits as
//! [`super::reference`].
//!
//! Both are [`Sweep`]s over a padded map, the input gradient as a transposed convolution. The weight gradient multiplies
//! two packed blocks of positions and is in [`weight_grad`](mod@super::weight_grad); what is different for single
//! channels is in [`depthwise`].

use bytemuck::{cast_slice, cast_slice_mut};

use super::narrow::Sink;
use super::sweep::{Padded, Panels, Sweep, in_words};
use super::tile::{COLUMNS, Format, Isa, Layout, OffsetQuads, Pairs, Quads, QuadsOfUnsignedRows, Work, lanes};
use super::{Conv, Map, depthwise};

// Forward.

pub(super) const fn forward_panels(conv: &Conv) -> Panels {
    let (columns, kernel) = (conv.filters, conv.kernel);
    if conv.is_dense() {
        Panels { columns, runs: kernel.0, run: kernel.1 * conv.channels }
    } else {
        Panels { columns, runs: kernel.1, run: kernel.0 }
    }
}

pub(super) const fn forward_padded(conv: &Conv) -> Padded {
    let (height, width) = (conv.input.height + 2 * conv.padding.0, conv.input.width + 2 * conv.padding.1);
    let map = Map::new(height, width, conv.channels);
    Padded { map, first_channel: conv.first_channel, before: conv.padding }
}

/// Lengths of the packed operands and of the scratch of one convolution, in `i16`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lengths {
    pub forward: usize,
    pub back: usize,
    /// For all products, and for the forward one alone.
    pub scratch: usize,
    pub forward_scratch: usize,
}

impl Lengths {
    /// Of a dense or a depthwise convolution.
    pub fn of(layout: Layout, conv: &Conv) -> Self {
        if conv.is_depthwise() {
            return depthwise::lengths(conv);
        }
        match layout {
            Layout::Pairs => Self::with_signed::<Pairs>(conv),
            Layout::Quads => Self::with_signed::<Quads>(conv),
            Layout::OffsetQuads => Self::with_signed::<OffsetQuads>(conv),
        }
    }

    fn with_signed<F: Format>(conv: &Conv) -> Self {
        let (forward, padded) =
            if conv.unsigned { forward_lengths::<QuadsOfUnsignedRows>(conv) } else { forward_lengths::<F>(conv) };
        let back = phases(conv).map(|phase| phase.panels.len::<F>()).sum();
        let error = in_words::<F>(error_padded(conv).len());
        let weight_grad = super::weight_grad::scratch_len::<F>(conv);
        Lengths {
            forward,
            back: in_words::<F>(back),
            scratch: padded.max(error).max(weight_grad),
            forward_scratch: padded,
        }
    }
}

/// Of the packed weights, and of the map that is read.
fn forward_lengths<F: Format>(conv: &Conv) -> (usize, usize) {
    let padded = if in_place::<F>(conv) { 0 } else { in_words::<F>(forward_padded(conv).len()) };
    (in_words::<F>(forward_panels(conv).len::<F>()), padded)
}

/// Whether the tile can read the input where it stands: it has no zeros around it, no channels of others between its
/// own, and whole groups of mantissas as they are.
const fn in_place<F: Format>(conv: &Conv) -> bool {
    let whole = (conv.kernel.1 * conv.channels).is_multiple_of(F::NUMBERS) && conv.channels == conv.input.channels;
    whole && conv.padding.0 == 0 && conv.padding.1 == 0 && F::NUMBERS == 4 && F::STARTS == 0
}

/// Packs weights for [`Forward`].
pub(super) struct PackForward<'a> {
    pub conv: &'a Conv,
    pub weights: &'a [i8],
    pub out: &'a mut [i16],
}

impl Work for PackForward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        if self.conv.unsigned { self.pack::<QuadsOfUnsignedRows>() } else { self.pack::<I::Signed>() }
    }
}

impl PackForward<'_> {
    #[inline(always)]
    fn pack<F: Format>(self) {
        let panels = forward_panels(self.conv);
        let (groups, fan_in) = (panels.groups::<F>(), self.conv.fan_in());
        let out = &mut cast_slice_mut::<i16, F::Number>(self.out)[..panels.len::<F>()];
        if !self.conv.filters.is_multiple_of(COLUMNS) || !panels.run.is_multiple_of(F::NUMBERS) {
            out.fill(F::number(0));
        }
        for (filter, weights) in self.weights.chunks_exact(fan_in).enumerate() {
            let panel = &mut out[filter / COLUMNS * panels.panel_len::<F>()..][..panels.panel_len::<F>()];
            if F::STARTS > 0 {
                let sum = weights.iter().map(|&w| i32::from(w)).sum();
                set_start::<F>(panel, filter % COLUMNS, sum);
            }
            for (run, weights) in weights.chunks_exact(panels.run).enumerate() {
                let first = (F::STARTS + run * groups) * COLUMNS * F::NUMBERS;
                let mut slots = panel[first..].chunks_exact_mut(COLUMNS * F::NUMBERS);
                let column = filter % COLUMNS * F::NUMBERS;
                let whole = weights.chunks_exact(F::NUMBERS);
                let rest = whole.remainder();
                for (group, slot) in whole.zip(&mut slots) {
                    let slot = &mut slot[column..column + F::NUMBERS];
                    if size_of::<F::Number>() == 1 {
                        cast_slice_mut(slot).copy_from_slice(group);
                    } else {
                        slot.iter_mut().zip(group).for_each(|(slot, &w)| *slot = F::number(w));
                    }
                }
                if let Some(slot) = slots.next().filter(|_| !rest.is_empty()) {
                    slot[column..].iter_mut().zip(rest).for_each(|(slot, &w)| *slot = F::number(w));
                }
            }
        }
    }
}

/// Lets column `column` start from what takes the offset of its rows off again; `sum` is that of its weights.
#[inline(always)]
fn set_start<F: Format>(panel: &mut [F::Number], column: usize, sum: i32) {
    let start = &mut cast_slice_mut::<F::Number, u8>(&mut panel[..COLUMNS * F::NUMBERS])[column * 4..][..4];
    start.copy_from_slice(&(-F::OFFSET * sum).to_ne_bytes());
}

/// See [`super::reference::conv_forward`].
pub(super) struct Forward<'a, S> {
    pub conv: &'a Conv,
    pub x: &'a [i8],
    pub packed: &'a [i16],
    pub sink: &'a mut S,
    pub scratch: &'a mut [i16],
}

impl<S: Sink> Work for Forward<'_, S> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (conv, padded) = (self.conv, forward_padded(self.conv));
        let row = padded.map.width * conv.channels;
        let sweep = Sweep {
            grid: (conv.output.height, conv.output.width),
            from: 0,
            from_step: (conv.stride.0 * row, conv.stride.1 * conv.channels),
            to: conv.first_filter,
            to_step: (conv.output.width * conv.output.channels, conv.output.channels),
            run_step: row,
            panels: forward_panels(conv),
            first_channel: conv.first_filter,
        };
        if !conv.is_dense() {
            let values = &mut cast_slice_mut(self.scratch)[..padded.len()];
            padded.fill::<Quads>(conv.input, self.x, values);
            sweep.run_lanes(isa, values, self.packed, self.sink);
        } else if conv.unsigned {
            self.dense::<I, QuadsOfUnsignedRows>(isa, &sweep, &padded);
        } else {
            self.dense::<I, I::Signed>(isa, &sweep, &padded);
        }
    }
}

impl<S: Sink> Forward<'_, S> {
    #[inline(always)]
    fn dense<I: Isa, F: Format>(self, isa: I, sweep: &Sweep, padded: &Padded) {
        let panels = cast_slice(self.packed);
        if in_place::<F>(self.conv) {
            return sweep.run::<I, F, S>(isa, cast_slice(&self.x[..self.conv.input.len()]), panels, self.sink);
        }
        let values = &mut cast_slice_mut::<i16, F::Number>(self.scratch)[..padded.len()];
        padded.fill::<F>(self.conv.input, self.x, values);
        sweep.run::<I, F, S>(isa, values, panels, self.sink);
    }
}

// Input gradient: for each phase of the stride the input positions that it reaches are a plain convolution of the
// errors by the taps that meet them, in turned order.

/// Along one axis, the input positions `phase, phase + stride, …` and the taps that reach them.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    phase: usize,
    /// Input positions.
    count: usize,
    pub first_tap: usize,
    pub taps: usize,
    /// Output position that the first tap of the first input position belongs to.
    lead: usize,
}

fn axis(phase: usize, input: usize, kernel: usize, stride: usize, padding: usize) -> Axis {
    let first_tap = (phase + padding) % stride;
    Axis {
        phase,
        count: input.saturating_sub(phase).div_ceil(stride),
        first_tap,
        taps: kernel.saturating_sub(first_tap).div_ceil(stride),
        lead: (phase + padding - first_tap) / stride,
    }
}

impl Axis {
    /// Zeros that must stand before the errors.
    fn before(&self) -> usize {
        self.taps.saturating_sub(1 + self.lead)
    }
}

pub(super) struct Phase {
    pub y: Axis,
    pub x: Axis,
    pub panels: Panels,
}

fn axes(conv: &Conv) -> (impl Iterator<Item = Axis> + Clone, impl Iterator<Item = Axis> + Clone) {
    let Conv { input, kernel, stride, padding, .. } = *conv;
    (
        (0..stride.0).map(move |phase| axis(phase, input.height, kernel.0, stride.0, padding.0)),
        (0..stride.1).map(move |phase| axis(phase, input.width, kernel.1, stride.1, padding.1)),
    )
}

pub(super) fn phases(conv: &Conv) -> impl Iterator<Item = Phase> {
    let (columns, filters, dense) = (conv.channels, conv.filters, conv.is_dense());
    let (ys, xs) = axes(conv);
    ys.flat_map(move |y| {
        xs.clone().map(move |x| {
            let (runs, run) = if dense { (y.taps, x.taps * filters) } else { (x.taps, y.taps) };
            Phase { y, x, panels: Panels { columns, runs, run } }
        })
    })
}

/// The errors with as many zeros around them as some phase reads.
pub(super) fn error_padded(conv: &Conv) -> Padded {
    let (ys, xs) = axes(conv);
    let (before_y, end_y) = extent(ys, conv.output.height);
    let (before_x, end_x) = extent(xs, conv.output.width);
    Padded {
        map: Map::new(before_y + end_y, before_x + end_x, conv.filters),
        first_channel: conv.first_filter,
        before: (before_y, before_x),
    }
}

/// Zeros before the errors of one axis, and the end of what is read counted from the first error.
fn extent(axes: impl Iterator<Item = Axis>, errors: usize) -> (usize, usize) {
    axes.fold((0, errors), |(before, end), axis| (before.max(axis.before()), end.max(axis.count + axis.lead)))
}

/// Packs weights for [`InputGrad`].
pub(super) struct PackBack<'a> {
    pub conv: &'a Conv,
    pub weights: &'a [i8],
    pub out: &'a mut [i16],
}

impl Work for PackBack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        pack_back::<I, I::Signed>(isa, self.conv, self.weights, cast_slice_mut(self.out));
    }
}

#[inline(always)]
fn pack_back<I: Isa, F: Format>(isa: I, conv: &Conv, weights: &[i8], out: &mut [F::Number]) {
    let (taps, fan_in) = (conv.kernel.0 * conv.kernel.1, conv.fan_in());
    let mut out = out;
    for phase in phases(conv) {
        let width = phase.panels.run;
        for first in (0..conv.channels).step_by(COLUMNS) {
            let count = COLUMNS.min(conv.channels - first);
            let (panel, rest) = out.split_at_mut(phase.panels.panel_len::<F>());
            out = rest;
            let (start, panel) = panel.split_at_mut(F::STARTS * COLUMNS * F::NUMBERS);
            let mut slots = panel.chunks_exact_mut(COLUMNS * F::NUMBERS);
            let mut sums = [0; COLUMNS];
            for v in (0..phase.y.taps).rev() {
                let ky = phase.y.first_tap + v * conv.stride.0;
                for group in 0..phase.panels.groups::<F>() {
                    let mut rows = [[0i8; COLUMNS]; 4];
                    for (i, row) in rows.iter_mut().enumerate().take(F::NUMBERS) {
                        let k = group * F::NUMBERS + i;
                        if k < width {
                            // The tap to the left stands to the right among the errors.
                            let u = phase.x.taps - 1 - k / conv.filters;
                            let tap = ky * conv.kernel.1 + phase.x.first_tap + u * conv.stride.1;
                            let at = k % conv.filters * fan_in + tap * (fan_in / taps) + first;
                            match weights[at..].first_chunk() {
                                Some(whole) if count == COLUMNS => *row = *whole,
                                _ => row[..count].copy_from_slice(&weights[at..at + count]),
                            }
                        }
                        if F::STARTS > 0 {
                            sums = lanes(|c| sums[c] + i32::from(row[c]));
                        }
                    }
                    if let Some(slot) = slots.next() {
                        isa.interleave::<F>([&rows[0], &rows[1], &rows[2], &rows[3]], slot);
                    }
                }
            }
            if F::STARTS > 0 {
                sums.iter().enumerate().for_each(|(column, &sum)| set_start::<F>(start, column, sum));
            }
        }
    }
}

/// See [`super::reference::conv_input_grad`].
pub(super) struct InputGrad<'a, S> {
    pub conv: &'a Conv,
    pub error: &'a [i8],
    pub packed: &'a [i16],
    pub sink: &'a mut S,
    pub scratch: &'a mut [i16],
}

impl<S: Sink> Work for InputGrad<'_, S> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if self.conv.is_dense() {
            self.phases::<I, I::Signed, I::Signed>(isa, |sweep, values, panels, sink| {
                sweep.run::<I, I::Signed, S>(isa, values, panels, sink);
            });
        } else {
            self.phases::<I, Quads, Pairs>(isa, |sweep, values, panels, sink| {
                sweep.run_lanes(isa, values, panels, sink);
            });
        }
    }
}

impl<S: Sink> InputGrad<'_, S> {
    /// Calls `product(sweep, errors, panels, sink)` for each phase.
    #[inline(always)]
    fn phases<I: Isa, V: Format, P: Format>(
        self,
        isa: I,
        product: impl Fn(&Sweep, &[V::Number], &[P::Number], &mut S),
    ) {
        let (conv, padded) = (self.conv, error_padded(self.conv));
        let values = &mut cast_slice_mut::<i16, V::Number>(self.scratch)[..padded.len()];
        padded.fill::<V>(conv.output, self.error, values);
        let mut packed: &[P::Number] = cast_slice(self.packed);
        let row = padded.map.width * conv.filters;
        for Phase { y, x, panels } in phases(conv) {
            let (own, rest) = packed.split_at(panels.len::<P>());
            packed = rest;
            let channels = conv.input.channels;
            let sweep = Sweep {
                grid: (y.count, x.count),
                from: (padded.before.0 + y.lead + 1 - y.taps.max(1)) * row
                    + (padded.before.1 + x.lead + 1 - x.taps.max(1)) * conv.filters,
                from_step: (row, conv.filters),
                to: (y.phase * conv.input.width + x.phase) * channels + conv.first_channel,
                to_step: (conv.stride.0 * conv.input.width * channels, conv.stride.1 * channels),
                run_step: row,
                panels,
                first_channel: conv.first_channel,
            };
            if y.taps == 0 || x.taps == 0 {
                sweep.zeros(isa, self.sink);
            } else {
                product(&sweep, values, own, self.sink);
            }
        }
    }
}
