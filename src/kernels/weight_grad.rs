//! The weight gradient of a dense convolution through the register tile.
//!
//! Output positions, of as many views as are given, are the long axis of the product. A block of them is packed twice:
//! the errors in panels of filters, the patches in panels of the fan-in. A sum of a block is added to the gradient.

use bytemuck::cast_slice_mut;

use super::packed::forward_padded;
use super::sweep::in_words;
use super::tile::{
    COLUMNS, Format, Isa, OffsetQuads, Product, Quads, QuadsOfUnsignedPanel, ROWS, Sums, Work, lanes, load, multiply,
};
use super::{Conv, Views};

/// Most positions in a block.
const MOST: usize = 256;
/// Bytes of packed patches that a block should stay under, for the second cache.
const PATCH_BYTES: usize = 128 << 10;
/// Rows of one panel of filters that a tile takes at a time: three tiles of about a third.
const TILES: [core::ops::Range<usize>; 3] = [0..6, 6..11, 11..16];

const fn whole_panels(n: usize) -> usize {
    n.div_ceil(COLUMNS) * COLUMNS
}

/// Positions of a block.
fn block<F: Format>(conv: &Conv) -> usize {
    (PATCH_BYTES / (whole_panels(conv.fan_in()) * size_of::<F::Number>())).clamp(32, MOST) / 4 * 4
}

/// `F`: the format for operands that may both be negative.
pub(super) fn scratch_len<F: Format>(conv: &Conv) -> usize {
    if conv.unsigned || F::OFFSET != 0 { words::<QuadsOfUnsignedPanel>(conv) } else { words::<F>(conv) }
}

fn words<F: Format>(conv: &Conv) -> usize {
    let panels = in_words::<F>(block::<F>(conv) * (whole_panels(conv.fan_in()) + whole_panels(conv.filters)));
    panels + (rows_len::<F>(conv.fan_in()) + rows_len::<F>(conv.filters) + forward_padded(conv).len()).div_ceil(2)
}

/// One row for each number of a group, with room for a whole chunk past its end.
const fn rows_len<F: Format>(len: usize) -> usize {
    F::NUMBERS * row_len(len)
}

const fn row_len(len: usize) -> usize {
    whole_panels(len) + COLUMNS
}

/// See [`super::reference::conv_weight_grad`]; summed over all views.
pub(super) struct WeightGrad<'a> {
    pub conv: &'a Conv,
    pub x: Views<'a>,
    pub error: Views<'a>,
    pub grad: &'a mut [i32],
    pub scratch: &'a mut [i16],
}

impl Work for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if self.conv.unsigned {
            self.blocks::<I, QuadsOfUnsignedPanel, Quads>(isa);
        } else if <I::Signed as Format>::OFFSET != 0 {
            // The patches are what is offset here. A filter's sums are then too large by the same amount everywhere.
            take_off(self.conv, &self.error, <I::Signed as Format>::OFFSET, self.grad);
            self.blocks::<I, QuadsOfUnsignedPanel, OffsetQuads>(isa);
        } else {
            self.blocks::<I, I::Signed, Quads>(isa);
        }
    }
}

/// `grad[f, …] −= offset · Σ e` over all positions and views. Sums wrap; see [`OffsetQuads`].
#[inline(always)]
fn take_off(conv: &Conv, error: &Views, offset: i32, grad: &mut [i32]) {
    /// Positions whose errors add up to less than 2¹⁵.
    const SHORT: usize = 256;
    let (channels, fan_in) = (conv.output.channels, conv.fan_in());
    for first in (0..conv.filters).step_by(COLUMNS) {
        let count = COLUMNS.min(conv.filters - first);
        let mut sums = [0; COLUMNS];
        for view in 0..error.count {
            let map = &error.of(view)[..conv.output.len()];
            for positions in map.chunks(SHORT * channels) {
                let mut short = [0i16; COLUMNS];
                for position in positions.chunks_exact(channels) {
                    let errors = load(&position[conv.first_filter + first..][..count]);
                    short = lanes(|c| short[c] + i16::from(errors[c]));
                }
                sums = lanes(|c| sums[c] + i32::from(short[c]));
            }
        }
        for (grad, sum) in grad[first * fan_in..].chunks_exact_mut(fan_in).zip(&sums[..count]) {
            grad.iter_mut().for_each(|g| *g = g.wrapping_sub(sum.wrapping_mul(offset)));
        }
    }
}

/// An output position of one of the views.
#[derive(Clone, Copy, Default)]
struct Place {
    view: usize,
    y: usize,
    x: usize,
    /// Where its patch starts in the padded map, and its errors in those of all views.
    patch: usize,
    error: usize,
}

/// What takes a [`Place`] to the next one.
struct Steps {
    grid: (usize, usize),
    patch: (usize, usize),
    error: usize,
    error_stride: usize,
    first_filter: usize,
}

impl Steps {
    #[inline(always)]
    fn next(&self, p: Place) -> Place {
        if p.x + 1 < self.grid.1 {
            return Place { x: p.x + 1, patch: p.patch + self.patch.1, error: p.error + self.error, ..p };
        }
        let (view, y) = if p.y + 1 < self.grid.0 { (p.view, p.y + 1) } else { (p.view + 1, 0) };
        let error = view * self.error_stride + y * self.grid.1 * self.error + self.first_filter;
        Place { view, y, x: 0, patch: y * self.patch.0, error }
    }
}

/// Copies `len` numbers in whole chunks; both slices reach a chunk further.
#[inline(always)]
fn copy_chunks(from: &[i8], to: &mut [i8], len: usize) {
    if len <= COLUMNS
        && let (Some(from), Some(to)) = (from.first_chunk::<COLUMNS>(), to.first_chunk_mut::<COLUMNS>())
    {
        *to = *from;
        return;
    }
    for at in (0..len).step_by(COLUMNS) {
        to[at..at + COLUMNS].copy_from_slice(&from[at..at + COLUMNS]);
    }
}

impl WeightGrad<'_> {
    /// In format `F`, with patches from a map of mantissas as rows of `M` have them.
    #[inline(always)]
    fn blocks<I: Isa, F: Format, M: Format<Number = i8>>(self, isa: I) {
        let conv = self.conv;
        let (fan_in, filters, block) = (whole_panels(conv.fan_in()), whole_panels(conv.filters), block::<F>(conv));
        // Divisions happen here, not at every position.
        let (patch_row, error_row, kernel_rows) = (row_len(conv.fan_in()), row_len(conv.filters), conv.kernel.0);
        let (panels, bytes) = self.scratch.split_at_mut(in_words::<F>(block * (fan_in + filters)));
        let (patches, errors) = cast_slice_mut::<i16, F::Number>(panels).split_at_mut(block * fan_in);
        let (patch_rows, bytes) = cast_slice_mut::<i16, i8>(bytes).split_at_mut(rows_len::<F>(conv.fan_in()));
        let (error_rows, bytes) = bytes.split_at_mut(rows_len::<F>(conv.filters));
        let padded = forward_padded(conv);
        let map = &mut bytes[..padded.len()];
        patch_rows.fill(0);
        error_rows.fill(0);

        let (row_step, run) = (padded.map.width * conv.channels, conv.kernel.1 * conv.channels);
        let positions = conv.output.positions();
        let steps = Steps {
            grid: (conv.output.height, conv.output.width),
            patch: (conv.stride.0 * row_step, conv.stride.1 * conv.channels),
            error: conv.output.channels,
            error_stride: self.error.stride,
            first_filter: conv.first_filter,
        };
        // A group lies within one view, and chunks of its patches within one run: they are interleaved in place.
        let in_place = positions.is_multiple_of(F::NUMBERS) && run.is_multiple_of(COLUMNS);
        let errors_in_place = positions.is_multiple_of(F::NUMBERS) && conv.filters.is_multiple_of(COLUMNS);
        let mut place = Place { error: conv.first_filter, ..Place::default() };
        let mut padded_view = usize::MAX;
        let all = positions * self.x.count;
        for first in (0..all).step_by(block) {
            let count = block.min(all - first);
            let groups = count.div_ceil(F::NUMBERS);
            let patches = &mut patches[..groups * F::NUMBERS * fan_in];
            let errors = &mut errors[..groups * F::NUMBERS * filters];
            for group in 0..groups {
                let mut places = [place; 4];
                for i in 0..F::NUMBERS {
                    places[i] = place;
                    if first + group * F::NUMBERS + i >= all {
                        // Past the last position: nothing to add.
                        patch_rows[i * patch_row..][..fan_in].fill(0);
                        error_rows[i * error_row..][..filters].fill(0);
                        continue;
                    }
                    if padded_view != place.view {
                        padded_view = place.view;
                        padded.fill::<M>(conv.input, self.x.of(place.view), map);
                    }
                    if !in_place {
                        let patch = &mut patch_rows[i * patch_row..][..patch_row];
                        for ky in 0..kernel_rows {
                            copy_chunks(&map[place.patch + ky * row_step..], &mut patch[ky * run..], run);
                        }
                    }
                    if !errors_in_place {
                        let row = &mut error_rows[i * error_row..][..conv.filters];
                        row.copy_from_slice(&self.error.values[place.error..place.error + conv.filters]);
                    }
                    place = steps.next(place);
                }
                if in_place {
                    let row = |i: usize| &map[places[i].patch..];
                    pack_group::<I, F>(isa, [row(0), row(1), row(2), row(3)], run, row_step, group, groups, patches);
                } else {
                    let row = |i: usize| &patch_rows[i % F::NUMBERS * patch_row..];
                    pack_group::<I, F>(isa, [row(0), row(1), row(2), row(3)], fan_in, 0, group, groups, patches);
                }
                if errors_in_place {
                    let row = |i: usize| &self.error.values[places[i].error..];
                    pack_group::<I, F>(isa, [row(0), row(1), row(2), row(3)], filters, 0, group, groups, errors);
                } else {
                    let row = |i: usize| &error_rows[i % F::NUMBERS * error_row..];
                    pack_group::<I, F>(isa, [row(0), row(1), row(2), row(3)], filters, 0, group, groups, errors);
                }
            }
            add_block::<I, F>(isa, conv, groups, patches, errors, self.grad);
        }
    }
}

/// Interleaves rows, made of runs of `run` numbers `run_step` apart, into group `group` of all panels.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn pack_group<I: Isa, F: Format>(
    isa: I,
    rows: [&[i8]; 4],
    run: usize,
    run_step: usize,
    group: usize,
    groups: usize,
    panels: &mut [F::Number],
) {
    let [r0, r1, r2, r3] = rows;
    let (mut start, mut within) = (0, 0);
    for panel in panels.chunks_exact_mut(groups * COLUMNS * F::NUMBERS) {
        let at = start + within;
        let to = &mut panel[group * COLUMNS * F::NUMBERS..];
        isa.interleave::<F>([&r0[at..], &r1[at..], &r2[at..], &r3[at..]], to);
        within += COLUMNS;
        if within == run {
            (start, within) = (start + run_step, 0);
        }
    }
}

#[inline(always)]
fn add_block<I: Isa, F: Format>(
    isa: I,
    conv: &Conv,
    groups: usize,
    patches: &[F::Number],
    errors: &[F::Number],
    grad: &mut [i32],
) {
    let fan_in = conv.fan_in();
    let panel_len = groups * COLUMNS * F::NUMBERS;
    let mut sums: Sums = [[0; COLUMNS]; ROWS];
    let mut offsets = [0; COLUMNS];
    offsets.iter_mut().enumerate().for_each(|(r, offset)| *offset = r * F::NUMBERS);
    // Filters outermost: the gradient is then written along its rows.
    for (rows, first) in errors.chunks_exact(panel_len).zip((0..conv.filters).step_by(COLUMNS)) {
        for (panel, k) in patches.chunks_exact(panel_len).zip((0..fan_in).step_by(COLUMNS)) {
            let columns = COLUMNS.min(fan_in - k);
            for tile in TILES {
                let count = tile.len().min((conv.filters - first).saturating_sub(tile.start));
                if count == 0 {
                    break;
                }
                let offsets = &offsets[tile.start..tile.start + count];
                let group_step = COLUMNS * F::NUMBERS;
                let product = Product { rows, offsets, runs: 1, run_step: 0, groups, group_step, panel };
                multiply::<I, F>(isa, &product, &mut sums);
                for (filter, sums) in (first + tile.start..).zip(&sums[..count]) {
                    let grad = &mut grad[filter * fan_in + k..][..columns];
                    grad.iter_mut().zip(sums).for_each(|(g, s)| *g = g.wrapping_add(*s));
                }
            }
        }
    }
}
