//! A sweep of the register tile over a zero-padded map: what forward products and input gradients have in common.
//!
//! Maps are read in place, no patches are copied, and sums go to a [`Sink`] as they are finished. `packed` sweeps with
//! dense products, `depthwise` with those of single channels.

use super::Map;
use super::narrow::Sink;
use super::tile::{COLUMNS, Format, Isa, Pairs, Product, ROWS, Sums, multiply, multiply_lanes};

/// Positions whose sums are finished for one panel before the next panel is taken: their rows stay in the cache.
const POSITIONS: usize = 40 * ROWS;

/// Lengths are given in `i16`, the unit of the buffers.
pub(super) const fn in_words<F: Format>(numbers: usize) -> usize {
    (numbers * size_of::<F::Number>()).div_ceil(2)
}

/// Panels of a packed operand of `columns` columns, each `runs` runs of `run` numbers. Where each lane has a channel of
/// its own, they are the columns of a kernel, as pairs go down.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub columns: usize,
    pub runs: usize,
    pub run: usize,
}

impl Panels {
    pub const fn groups<F: Format>(&self) -> usize {
        self.run.div_ceil(F::NUMBERS)
    }
    pub const fn panel_len<F: Format>(&self) -> usize {
        (F::STARTS + self.runs * self.groups::<F>()) * COLUMNS * F::NUMBERS
    }
    pub const fn len<F: Format>(&self) -> usize {
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
        let zero = F::row(0);
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
                row.iter_mut().zip(from).for_each(|(to, &v)| *to = F::row(v));
            } else {
                for (row, from) in row.chunks_exact_mut(channels).zip(from.chunks_exact(source.channels)) {
                    let from = &from[self.first_channel..self.first_channel + channels];
                    row.iter_mut().zip(from).for_each(|(to, &v)| *to = F::row(v));
                }
            }
        }
    }
}

/// For each position `(i, j)` of a grid the run starts at `from + (i, j) · from_step` and the sums belong to the elements
/// from `to + (i, j) · to_step` on.
pub(super) struct Sweep {
    pub grid: (usize, usize),
    pub from: usize,
    pub from_step: (usize, usize),
    pub to: usize,
    pub to_step: (usize, usize),
    pub run_step: usize,
    pub panels: Panels,
    pub first_channel: usize,
}

impl Sweep {
    /// Dense products: every column of a panel meets the whole row.
    #[inline(always)]
    pub fn run<I: Isa, F: Format, S: Sink>(&self, isa: I, values: &[F::Number], panels: &[F::Number], sink: &mut S) {
        let (runs, groups, run_step) = (self.panels.runs, self.panels.groups::<F>(), self.run_step);
        let (panels, len) = (&panels[..self.panels.len::<F>()], self.panels.panel_len::<F>());
        self.tiles(isa, sink, |number, offsets, sums| {
            let panel = &panels[number * len..][..len];
            let product = Product { rows: values, offsets, runs, run_step, groups, group_step: F::NUMBERS, panel };
            multiply::<I, F>(isa, &product, sums);
        });
    }

    /// Products of single channels: every lane of a panel meets its own channel, taps `channels` numbers apart.
    #[inline(always)]
    pub fn run_lanes<I: Isa, S: Sink>(&self, isa: I, values: &[i8], panels: &[i16], sink: &mut S) {
        let Panels { columns: channels, runs: groups, run: runs } = self.panels;
        let (panels, len) = (&panels[..self.panels.len::<Pairs>()], self.panels.panel_len::<Pairs>());
        self.tiles(isa, sink, |number, offsets, sums| {
            let (rows, panel) = (&values[number * COLUMNS..], &panels[number * len..][..len]);
            let product = Product { rows, offsets, runs, run_step: self.run_step, groups, group_step: channels, panel };
            multiply_lanes(isa, &product, sums);
        });
    }

    /// Calls `product(panel, offsets of rows, their sums)` for every tile and hands the sums on.
    #[inline(always)]
    fn tiles<I: Isa, S: Sink>(&self, isa: I, sink: &mut S, product: impl Fn(usize, &[usize], &mut Sums)) {
        let positions = self.grid.0 * self.grid.1;
        let mut sums: Sums = [[0; COLUMNS]; ROWS];
        let (mut from, mut to) = ([0; POSITIONS], [0; POSITIONS]);
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
            for (number, column) in (0..self.panels.columns).step_by(COLUMNS).enumerate() {
                let columns = COLUMNS.min(self.panels.columns - column);
                for (from, to) in from[..count].chunks(ROWS).zip(to.chunks_mut(ROWS)) {
                    product(number, from, &mut sums);
                    let to = &mut to[..from.len()];
                    sink.take(isa, to, self.first_channel + column, columns, &sums[..from.len()]);
                    // The next panel's sums stand next to these.
                    to.iter_mut().for_each(|to| *to += COLUMNS);
                }
            }
        }
    }

    /// Positions that no tap reaches.
    pub fn zeros<I: Isa, S: Sink>(&self, isa: I, sink: &mut S) {
        for position in 0..self.grid.0 * self.grid.1 {
            let to = self.to + position / self.grid.1 * self.to_step.0 + position % self.grid.1 * self.to_step.1;
            for column in (0..self.panels.columns).step_by(COLUMNS) {
                let count = COLUMNS.min(self.panels.columns - column);
                sink.take(isa, &[to + column], self.first_channel + column, count, &[[0; COLUMNS]]);
            }
        }
    }
}
