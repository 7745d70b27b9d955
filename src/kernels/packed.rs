//! The products of a dense convolution through the register tile: the same bits as [`super::reference`].
//!
//! Forward, and input gradient as a transposed convolution, are sweeps of the tile over a zero-padded map that is read
//! in place: no patches are copied, and sums go to a [`Sink`] as they are finished. The weight gradient multiplies two
//! packed blocks of positions and is in [`weight_grad`](mod@super::weight_grad).

use bytemuck::{cast_slice, cast_slice_mut};

use super::narrow::Sink;
use super::tile::{COLUMNS, Format, Isa, Product, QuadsOfUnsignedRows, ROWS, Sums, Work, multiply};
use super::{Conv, Map};

/// Positions whose sums are finished for one panel before the next panel is taken: their rows stay in the cache.
const POSITIONS: usize = 40 * ROWS;

/// Lengths are given in `i16`, the unit of the buffers.
pub(super) const fn in_words<F: Format>(numbers: usize) -> usize {
    (numbers * size_of::<F::Number>()).div_ceil(2)
}

/// Panels of a packed operand of `columns` columns, each `runs` runs of `run` numbers.
#[derive(Clone, Copy)]
struct Panels {
    columns: usize,
    runs: usize,
    run: usize,
}

impl Panels {
    const fn groups<F: Format>(&self) -> usize {
        self.run.div_ceil(F::NUMBERS)
    }
    const fn panel_len<F: Format>(&self) -> usize {
        self.runs * self.groups::<F>() * COLUMNS * F::NUMBERS
    }
    const fn len<F: Format>(&self) -> usize {
        self.columns.div_ceil(COLUMNS) * self.panel_len::<F>()
    }
}

/// A map with zeros around it, as the tile reads it: `[height, width, channels]`.
#[derive(Clone, Copy)]
pub(super) struct Padded {
    pub map: Map,
    /// First channel taken from the source, and the zeros above and left.
    pub first_channel: usize,
    pub before: (usize, usize),
}

impl Padded {
    /// Numbers, with those that the last group or column of the last run reads too many.
    pub const fn len(&self) -> usize {
        self.map.len() + COLUMNS
    }

    #[inline(always)]
    pub fn fill<F: Format>(&self, source: Map, values: &[i8], out: &mut [F::Number]) {
        let zero = F::number(0);
        let (channels, row_len) = (self.map.channels, self.map.width * self.map.channels);
        let (rows, rest) = out.split_at_mut(self.map.len());
        rest.fill(zero);
        for (y, row) in rows.chunks_exact_mut(row_len).enumerate() {
            let Some(y) = y.checked_sub(self.before.0).filter(|&y| y < source.height) else {
                row.fill(zero);
                continue;
            };
            let (left, row) = row.split_at_mut(self.before.1 * channels);
            let (row, right) = row.split_at_mut(source.width * channels);
            left.fill(zero);
            right.fill(zero);
            let from = &values[y * source.width * source.channels..][..source.width * source.channels];
            if channels == source.channels {
                row.iter_mut().zip(from).for_each(|(to, &v)| *to = F::number(v));
            } else {
                for (row, from) in row.chunks_exact_mut(channels).zip(from.chunks_exact(source.channels)) {
                    let from = &from[self.first_channel..self.first_channel + channels];
                    row.iter_mut().zip(from).for_each(|(to, &v)| *to = F::number(v));
                }
            }
        }
    }
}

/// A sweep of the tile: for each position `(i, j)` of a grid the run starts at `from + (i, j) · from_step` and the sums
/// belong to the elements from `to + (i, j) · to_step` on.
struct Sweep {
    grid: (usize, usize),
    from: usize,
    from_step: (usize, usize),
    to: usize,
    to_step: (usize, usize),
    run_step: usize,
    panels: Panels,
    first_channel: usize,
}

impl Sweep {
    #[inline(always)]
    fn run<I: Isa, F: Format, S: Sink>(&self, isa: I, values: &[F::Number], panels: &[F::Number], sink: &mut S) {
        let positions = self.grid.0 * self.grid.1;
        let mut sums: Sums = [[0; COLUMNS]; ROWS];
        let (mut from, mut to) = ([0; POSITIONS], [0; POSITIONS]);
        let (runs, groups, run_step) = (self.panels.runs, self.panels.groups::<F>(), self.run_step);
        let panels = &panels[..self.panels.len::<F>()];
        for block in (0..positions).step_by(POSITIONS) {
            let count = POSITIONS.min(positions - block);
            let (i, mut j) = (block / self.grid.1, block % self.grid.1);
            let mut rows = (self.from + i * self.from_step.0, self.to + i * self.to_step.0);
            let mut at = (rows.0 + j * self.from_step.1, rows.1 + j * self.to_step.1);
            for (from, to) in from.iter_mut().zip(&mut to).take(count) {
                (*from, *to) = at;
                at = (at.0 + self.from_step.1, at.1 + self.to_step.1);
                j += 1;
                if j == self.grid.1 {
                    j = 0;
                    rows = (rows.0 + self.from_step.0, rows.1 + self.to_step.0);
                    at = rows;
                }
            }
            for (number, panel) in panels.chunks_exact(self.panels.panel_len::<F>()).enumerate() {
                let column = number * COLUMNS;
                let columns = COLUMNS.min(self.panels.columns - column);
                for (from, to) in from[..count].chunks(ROWS).zip(to.chunks_mut(ROWS)) {
                    let product =
                        Product { rows: values, offsets: from, runs, run_step, groups, group_step: F::NUMBERS, panel };
                    multiply::<I, F>(isa, &product, &mut sums);
                    let to = &mut to[..from.len()];
                    sink.take(isa, to, self.first_channel + column, columns, &sums[..from.len()]);
                    // The next panel's sums stand next to these.
                    to.iter_mut().for_each(|to| *to += COLUMNS);
                }
            }
        }
    }
}

// Forward.

const fn forward_panels(conv: &Conv) -> Panels {
    Panels { columns: conv.filters, runs: conv.kernel.0, run: conv.kernel.1 * conv.channels }
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

/// Finds the [`Lengths`] of a convolution.
pub(super) struct Plan<'a>(pub &'a Conv);

impl Work for Plan<'_> {
    type Output = Lengths;
    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> Lengths {
        let conv = self.0;
        let (forward, padded) = if conv.unsigned {
            lengths::<QuadsOfUnsignedRows>(&forward_panels(conv), &forward_padded(conv))
        } else {
            lengths::<I::Signed>(&forward_panels(conv), &forward_padded(conv))
        };
        let back = phases(conv).map(|phase| phase.panels.len::<I::Signed>()).sum();
        let error = in_words::<I::Signed>(error_padded(conv).len());
        let weight_grad = super::weight_grad::scratch_len::<I>(conv);
        Lengths {
            forward,
            back: in_words::<I::Signed>(back),
            scratch: padded.max(error).max(weight_grad),
            forward_scratch: padded,
        }
    }
}

fn lengths<F: Format>(panels: &Panels, padded: &Padded) -> (usize, usize) {
    (in_words::<F>(panels.len::<F>()), in_words::<F>(padded.len()))
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
            for (run, weights) in weights.chunks_exact(panels.run).enumerate() {
                let mut slots = panel[run * groups * COLUMNS * F::NUMBERS..].chunks_exact_mut(COLUMNS * F::NUMBERS);
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
        if self.conv.unsigned { self.sweep::<I, QuadsOfUnsignedRows>(isa) } else { self.sweep::<I, I::Signed>(isa) }
    }
}

impl<S: Sink> Forward<'_, S> {
    #[inline(always)]
    fn sweep<I: Isa, F: Format>(self, isa: I) {
        let (conv, padded) = (self.conv, forward_padded(self.conv));
        let values = &mut cast_slice_mut::<i16, F::Number>(self.scratch)[..padded.len()];
        padded.fill::<F>(conv.input, self.x, values);
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
        sweep.run::<I, F, S>(isa, values, cast_slice(self.packed), self.sink);
    }
}

// Input gradient: for each phase of the stride the input positions that it reaches are a plain convolution of the
// errors by the taps that meet them, in turned order.

/// Along one axis, the input positions `phase, phase + stride, …` and the taps that reach them.
#[derive(Clone, Copy)]
struct Axis {
    phase: usize,
    /// Input positions.
    count: usize,
    first_tap: usize,
    taps: usize,
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

struct Phase {
    y: Axis,
    x: Axis,
    panels: Panels,
}

fn axes(conv: &Conv) -> (impl Iterator<Item = Axis> + Clone, impl Iterator<Item = Axis> + Clone) {
    let Conv { input, kernel, stride, padding, .. } = *conv;
    (
        (0..stride.0).map(move |phase| axis(phase, input.height, kernel.0, stride.0, padding.0)),
        (0..stride.1).map(move |phase| axis(phase, input.width, kernel.1, stride.1, padding.1)),
    )
}

fn phases(conv: &Conv) -> impl Iterator<Item = Phase> {
    let (columns, filters) = (conv.channels, conv.filters);
    let (ys, xs) = axes(conv);
    ys.flat_map(move |y| {
        xs.clone().map(move |x| Phase { y, x, panels: Panels { columns, runs: y.taps, run: x.taps * filters } })
    })
}

/// The errors with as many zeros around them as some phase reads.
fn error_padded(conv: &Conv) -> Padded {
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
    let mut slots = out.chunks_exact_mut(COLUMNS * F::NUMBERS);
    for phase in phases(conv) {
        let width = phase.panels.run;
        for first in (0..conv.channels).step_by(COLUMNS) {
            let count = COLUMNS.min(conv.channels - first);
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
                    }
                    if let Some(slot) = slots.next() {
                        isa.interleave::<F>([&rows[0], &rows[1], &rows[2], &rows[3]], slot);
                    }
                }
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
        let (conv, padded) = (self.conv, error_padded(self.conv));
        let values = &mut cast_slice_mut(self.scratch)[..padded.len()];
        padded.fill::<I::Signed>(conv.output, self.error, values);
        let mut packed: &[<I::Signed as Format>::Number] = cast_slice(self.packed);
        let row = padded.map.width * conv.filters;
        for Phase { y, x, panels } in phases(conv) {
            let (own, rest) = packed.split_at(panels.len::<I::Signed>());
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
                sweep.run::<I, I::Signed, S>(isa, values, own, self.sink);
            }
        }
    }
}

impl Sweep {
    /// Positions that no tap reaches.
    fn zeros<I: Isa, S: Sink>(&self, isa: I, sink: &mut S) {
        for position in 0..self.grid.0 * self.grid.1 {
            let to = self.to + position / self.grid.1 * self.to_step.0 + position % self.grid.1 * self.to_step.1;
            for column in (0..self.panels.columns).step_by(COLUMNS) {
                let count = COLUMNS.min(self.panels.columns - column);
                sink.take(isa, &[to + column], self.first_channel + column, count, &[[0; COLUMNS]]);
            }
        }
    }
}
