//! The three products of a convolution through one register tile of [`ROWS`] × [`COLUMNS`] sums.
//!
//! Operands are widened to `i16` and consumed in pairs, as the multiply-add-pairs instructions of processors want them:
//! `acc[r][c] += a[r][2p]·b[c][2p] + a[r][2p+1]·b[c][2p+1]`. The left operand is read in place (no im2col copy: a row
//! is a few runs of the padded input); the right one is packed in panels of [`COLUMNS`] columns. Sums of `i32` do not
//! depend on order, so the bits are those of [`super::reference`].

use super::Conv;

/// Rows of the register tile.
pub const ROWS: usize = 6;
/// Columns of the register tile, and of a packed panel.
pub const COLUMNS: usize = 16;
/// Output positions whose products are summed into the weight gradient at a time.
const BLOCK: usize = 64;

/// Sums of one register tile.
pub type Sums = [[i32; COLUMNS]; ROWS];

/// Left operand of a tile: each row is `runs` runs of `pairs` pairs, `run_stride` numbers apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [i16],
    /// Where each row starts in `values`.
    pub offsets: [usize; ROWS],
    pub run_stride: usize,
    pub runs: usize,
    /// Pairs of numbers in a run.
    pub pairs: usize,
}

/// Which form of the register tile is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(super::x86::Avx2),
}

impl Tile {
    /// The fastest tile of this processor.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = super::x86::Avx2::detect() {
            return Tile::Avx2(avx2);
        }
        Tile::Portable
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Tile::Portable => "packed/portable",
            #[cfg(target_arch = "x86_64")]
            Tile::Avx2(_) => "packed/avx2",
        }
    }

    /// `sums[r][c] = Σ rows[r] · panel[c]`; `panel` is `[runs · pairs, COLUMNS, 2]`.
    #[inline]
    pub fn multiply(self, rows: Rows, panel: &[i16], sums: &mut Sums) {
        match self {
            Tile::Portable => multiply_portable(rows, panel, sums),
            #[cfg(target_arch = "x86_64")]
            Tile::Avx2(avx2) => avx2.multiply(rows, panel, sums),
        }
    }
}

fn multiply_portable(rows: Rows, panel: &[i16], sums: &mut Sums) {
    *sums = [[0; COLUMNS]; ROWS];
    for run in 0..rows.runs {
        for pair in 0..rows.pairs {
            let b = &panel[(run * rows.pairs + pair) * 2 * COLUMNS..][..2 * COLUMNS];
            for (row, sum) in sums.iter_mut().enumerate() {
                let at = rows.offsets[row] + run * rows.run_stride + 2 * pair;
                let (a0, a1) = (i32::from(rows.values[at]), i32::from(rows.values[at + 1]));
                for (s, b) in sum.iter_mut().zip(b.chunks_exact(2)) {
                    *s += a0 * i32::from(b[0]) + a1 * i32::from(b[1]);
                }
            }
        }
    }
}

/// Numbers of one horizontal run of a patch: `kernel width · channels`.
const fn run_len(conv: &Conv) -> usize {
    conv.kernel.1 * conv.channels
}

const fn padded_len(conv: &Conv) -> usize {
    // One more than the map: an odd run reads one number past its end, against a weight of 0.
    (conv.input.height + 2 * conv.padding.0) * (conv.input.width + 2 * conv.padding.1) * conv.channels + 1
}

const fn panels(columns: usize) -> usize {
    columns.div_ceil(COLUMNS)
}

/// See [`super::Kernels::scratch_len`].
pub const fn scratch_len(conv: &Conv) -> usize {
    let fan_in = panels(conv.fan_in()) * COLUMNS;
    let weight_grad = padded_len(conv) + BLOCK * fan_in + 2 * fan_in + BLOCK * conv.filters;
    let input_grad = conv.output.positions() * even(conv.filters);
    if weight_grad > input_grad { weight_grad } else { input_grad }
}

const fn even(n: usize) -> usize {
    n.div_ceil(2) * 2
}

/// See [`super::Kernels::packed_len`]: `[panels of filters, kernel height, pairs of a run, COLUMNS, 2]`.
pub const fn forward_len(conv: &Conv) -> usize {
    panels(conv.filters) * conv.kernel.0 * even(run_len(conv)) * COLUMNS
}

/// See [`super::Kernels::packed_back_len`]: `[panels of fan-in, pairs of filters, COLUMNS, 2]`.
pub const fn input_grad_len(conv: &Conv) -> usize {
    panels(conv.fan_in()) * even(conv.filters) * COLUMNS
}

/// Packs weights for [`forward`].
pub fn pack_forward(conv: &Conv, weights: &[i8], out: &mut [i16]) {
    let (run, fan_in) = (run_len(conv), conv.fan_in());
    let mut slots = out[..forward_len(conv)].iter_mut();
    for first in (0..conv.filters).step_by(COLUMNS) {
        for ky in 0..conv.kernel.0 {
            for pair in 0..run.div_ceil(2) {
                for filter in first..first + COLUMNS {
                    for k in 2 * pair..2 * pair + 2 {
                        if let Some(slot) = slots.next() {
                            let real = filter < conv.filters && k < run;
                            *slot = if real { i16::from(weights[filter * fan_in + ky * run + k]) } else { 0 };
                        }
                    }
                }
            }
        }
    }
}

/// Packs weights for [`input_grad`].
pub fn pack_input_grad(conv: &Conv, weights: &[i8], out: &mut [i16]) {
    let fan_in = conv.fan_in();
    let mut slots = out[..input_grad_len(conv)].iter_mut();
    for first in (0..fan_in).step_by(COLUMNS) {
        for pair in 0..conv.filters.div_ceil(2) {
            for k in first..first + COLUMNS {
                for filter in 2 * pair..2 * pair + 2 {
                    if let Some(slot) = slots.next() {
                        let real = filter < conv.filters && k < fan_in;
                        *slot = if real { i16::from(weights[filter * fan_in + k]) } else { 0 };
                    }
                }
            }
        }
    }
}

/// Widens the channels that `conv` reads into a zero-padded map.
fn widen(conv: &Conv, x: &[i8], padded: &mut [i16]) {
    let (ph, pw) = conv.padding;
    let row_len = (conv.input.width + 2 * pw) * conv.channels;
    if ph > 0 || pw > 0 {
        padded.fill(0);
    } else if let Some(last) = padded.last_mut() {
        *last = 0;
    }
    for y in 0..conv.input.height {
        let row = &mut padded[(y + ph) * row_len + pw * conv.channels..][..conv.input.width * conv.channels];
        let from = &x[y * conv.input.width * conv.input.channels..][..conv.input.width * conv.input.channels];
        if conv.channels == conv.input.channels {
            row.iter_mut().zip(from).for_each(|(r, &v)| *r = i16::from(v));
        } else {
            for (r, f) in row.chunks_exact_mut(conv.channels).zip(from.chunks_exact(conv.input.channels)) {
                let f = &f[conv.first_channel..conv.first_channel + conv.channels];
                r.iter_mut().zip(f).for_each(|(r, &v)| *r = i16::from(v));
            }
        }
    }
}

/// Where the patch of output `position` starts in the padded map, and the distance between its runs.
fn patch_start(conv: &Conv, position: usize) -> usize {
    let (oy, ox) = (position / conv.output.width, position % conv.output.width);
    (oy * conv.stride.0 * (conv.input.width + 2 * conv.padding.1) + ox * conv.stride.1) * conv.channels
}

const fn run_stride(conv: &Conv) -> usize {
    (conv.input.width + 2 * conv.padding.1) * conv.channels
}

/// Offsets of up to [`ROWS`] rows from `first`; rows past `count` repeat the last one and are not used.
fn tile_rows(first: usize, count: usize, offset: impl Fn(usize) -> usize) -> [usize; ROWS] {
    core::array::from_fn(|r| offset((first + r).min(count - 1)))
}

/// See [`super::reference::conv_forward`].
pub fn forward(tile: Tile, conv: &Conv, x: &[i8], packed: &[i16], acc: &mut [i32], scratch: &mut [i16]) {
    let padded = &mut scratch[..padded_len(conv)];
    widen(conv, x, padded);
    let positions = conv.output.positions();
    let pairs = run_len(conv).div_ceil(2);
    let panel_len = conv.kernel.0 * pairs * 2 * COLUMNS;
    let mut sums = [[0; COLUMNS]; ROWS];
    for first in (0..positions).step_by(ROWS) {
        let offsets = tile_rows(first, positions, |position| patch_start(conv, position));
        let rows = Rows { values: padded, offsets, run_stride: run_stride(conv), runs: conv.kernel.0, pairs };
        for (panel, filters) in packed.chunks_exact(panel_len).zip((0..conv.filters).step_by(COLUMNS)) {
            tile.multiply(rows, panel, &mut sums);
            let count = COLUMNS.min(conv.filters - filters);
            for (position, sums) in (first..positions).zip(&sums) {
                let at = position * conv.output.channels + conv.first_filter + filters;
                acc[at..at + count].copy_from_slice(&sums[..count]);
            }
        }
    }
}

/// See [`super::reference::conv_weight_grad`].
pub fn weight_grad(tile: Tile, conv: &Conv, x: &[i8], error: &[i8], grad: &mut [i32], scratch: &mut [i16]) {
    let fan_in = conv.fan_in();
    let wide = panels(fan_in) * COLUMNS;
    let (padded, scratch) = scratch.split_at_mut(padded_len(conv));
    let (panels, scratch) = scratch.split_at_mut(BLOCK * wide);
    let (patches, scratch) = scratch.split_at_mut(2 * wide);
    let (patch0, patch1) = patches.split_at_mut(wide);
    let errors = &mut scratch[..BLOCK * conv.filters];
    widen(conv, x, padded);
    patch0[fan_in..].fill(0);
    patch1[fan_in..].fill(0);
    let positions = conv.output.positions();
    let run = run_len(conv);
    let copy_patch = |position: usize, patch: &mut [i16]| {
        if position < positions {
            let start = patch_start(conv, position);
            for (ky, to) in patch[..fan_in].chunks_exact_mut(run).enumerate() {
                to.copy_from_slice(&padded[start + ky * run_stride(conv)..][..run]);
            }
        } else {
            patch.fill(0);
        }
    };
    let mut sums = [[0; COLUMNS]; ROWS];
    for block in (0..positions).step_by(BLOCK) {
        let count = BLOCK.min(positions - block);
        let pairs = count.div_ceil(2);
        let panel_len = pairs * 2 * COLUMNS;
        for pair in 0..pairs {
            copy_patch(block + 2 * pair, patch0);
            copy_patch(block + 2 * pair + 1, patch1);
            for ((p0, p1), panel) in
                patch0.chunks_exact(COLUMNS).zip(patch1.chunks_exact(COLUMNS)).zip(panels.chunks_exact_mut(panel_len))
            {
                let to = &mut panel[pair * 2 * COLUMNS..][..2 * COLUMNS];
                for ((to, &a), &b) in to.chunks_exact_mut(2).zip(p0).zip(p1) {
                    to[0] = a;
                    to[1] = b;
                }
            }
        }
        // Errors of the block, [filters, 2 · pairs].
        for filter in 0..conv.filters {
            errors[filter * 2 * pairs + 2 * pairs - 1] = 0;
        }
        for p in 0..count {
            let at = (block + p) * conv.output.channels + conv.first_filter;
            for (filter, &e) in error[at..at + conv.filters].iter().enumerate() {
                errors[filter * 2 * pairs + p] = i16::from(e);
            }
        }
        for filter in (0..conv.filters).step_by(ROWS) {
            let offsets = tile_rows(filter, conv.filters, |f| f * 2 * pairs);
            let rows = Rows { values: errors, offsets, run_stride: 0, runs: 1, pairs };
            for (panel, k) in panels.chunks_exact(panel_len).zip((0..fan_in).step_by(COLUMNS)) {
                tile.multiply(rows, panel, &mut sums);
                let count = COLUMNS.min(fan_in - k);
                for (f, sums) in (filter..conv.filters).zip(&sums) {
                    for (g, s) in grad[f * fan_in + k..][..count].iter_mut().zip(sums) {
                        *g += s;
                    }
                }
            }
        }
    }
}

/// See [`super::reference::conv_input_grad`].
pub fn input_grad(tile: Tile, conv: &Conv, error: &[i8], packed: &[i16], dx: &mut [i32], scratch: &mut [i16]) {
    let positions = conv.output.positions();
    let width = even(conv.filters);
    let errors = &mut scratch[..positions * width];
    for (to, from) in errors.chunks_exact_mut(width).zip(error.chunks_exact(conv.output.channels)) {
        to[width - 1] = 0;
        let from = &from[conv.first_filter..conv.first_filter + conv.filters];
        to.iter_mut().zip(from).for_each(|(t, &e)| *t = i16::from(e));
    }
    let pairs = width / 2;
    let mut sums = [[0; COLUMNS]; ROWS];
    for first in (0..positions).step_by(ROWS) {
        let offsets = tile_rows(first, positions, |position| position * width);
        let rows = Rows { values: errors, offsets, run_stride: 0, runs: 1, pairs };
        for (panel, k) in packed.chunks_exact(pairs * 2 * COLUMNS).zip((0..conv.fan_in()).step_by(COLUMNS)) {
            tile.multiply(rows, panel, &mut sums);
            let count = COLUMNS.min(conv.fan_in() - k);
            for (position, sums) in (first..positions).zip(&sums) {
                scatter(conv, position, k, &sums[..count], dx);
            }
        }
    }
}

/// Adds `sums`, the gradients of the patch entries from `k` on, to the input positions that they were read from.
#[inline]
fn scatter(conv: &Conv, position: usize, mut k: usize, mut sums: &[i32], dx: &mut [i32]) {
    let (oy, ox) = (position / conv.output.width, position % conv.output.width);
    while !sums.is_empty() {
        // The rest of one kernel column: contiguous channels.
        let (tap, c) = (k / conv.channels, k % conv.channels);
        let (ky, kx) = (tap / conv.kernel.1, tap % conv.kernel.1);
        let count = sums.len().min(conv.channels - c);
        let y = (oy * conv.stride.0 + ky).wrapping_sub(conv.padding.0);
        let x = (ox * conv.stride.1 + kx).wrapping_sub(conv.padding.1);
        if y < conv.input.height && x < conv.input.width {
            let at = (y * conv.input.width + x) * conv.input.channels + conv.first_channel + c;
            for (d, s) in dx[at..at + count].iter_mut().zip(sums) {
                *d += s;
            }
        }
        k += count;
        sums = &sums[count..];
    }
}
