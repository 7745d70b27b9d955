//! The dictionary: online clustering of decorrelated patches, folded into one ordinary convolution with a threshold.
//!
//! Batch 1, forward only, no stored activations. Patches are whitened by a symmetric online rule, then units compete
//! for them and the winner moves towards its patch by Oja's rule (Oja 1982; as a first layer: Coates, Ng, Lee 2011).
//! Needs: one patch, one whitened patch and one row of sums, beside the two matrices.
//!
//! A dictionary may stand on another (deep k-means networks: Coates and Ng 2011). Its units read a group of channels each,
//! and one group is learned after another in the memory of one.

use crate::fixed::math::isqrt;
use crate::fixed::random::Draws;
use crate::fixed::{bit_length64, round_nearest, round_nearest64, round_random64};
use crate::kernels::{self, Conv, Map};
use crate::sample::Seed;

/// Fraction bits of the whitening matrix and of the dictionary.
const WHITENING_BITS: u32 = 10;
const DICTIONARY_BITS: u32 = 12;
/// Deviation that every whitened direction is brought to.
pub(crate) const WHITE: i64 = 32;
/// Threshold of a filter: half of [`WHITE`], in the filters' full precision.
const THRESHOLD: i64 = (WHITE / 2) << (WHITENING_BITS + DICTIONARY_BITS);

/// One convolution, or one group of it, while it is learned.
pub struct Bank<'a> {
    pub conv: Conv,
    pub level: Level,
    /// `[d, d]`, Q10.
    pub whitening: &'a mut [i16],
    /// `[filters, d]`, Q12.
    pub dictionary: &'a mut [i16],
}

/// Buffers of one update, each `d` long.
pub struct Scratch<'a> {
    patch: &'a mut [i16],
    white: &'a mut [i16],
    sums: &'a mut [i64],
}

impl<'m> Scratch<'m> {
    pub fn take(fan_in: usize, arena: &mut crate::net::arena::Arena<'m>) -> Self {
        Scratch { patch: arena.take(fan_in), white: arena.take(fan_in), sums: arena.take(fan_in) }
    }
}

/// The plan of a stem's lesson, counted in patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub patches: u64,
}

/// What is done with patch number `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Whiten { rate: u32 },
    Fill { unit: usize },
    Cluster { rate: u32 },
}

impl Schedule {
    pub(crate) fn phase(self, n: u64, filters: usize) -> Phase {
        let whitening = self.patches / 4;
        if n < whitening {
            return Phase::Whiten { rate: if n < whitening / 2 { 8 } else { 10 } };
        }
        match n - whitening {
            unit if unit < filters as u64 => Phase::Fill { unit: unit as usize },
            _ => Phase::Cluster { rate: if n < self.patches / 8 * 5 { 6 } else { 8 } },
        }
    }
}

/// What filters are not to see of a patch: its mean over every `n`-th entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Option<usize>);

impl Level {
    /// Of the first layer. Of an image the level of light: a single channel is luma itself; of three, the first; colour
    /// differences have no level.
    pub fn of_stem(conv: &Conv, image: bool) -> Self {
        Level(Some(conv.channels).filter(|_| image && conv.first_channel == 0))
    }

    /// Of a dictionary on another: of all entries.
    pub const fn of_all() -> Self {
        Level(Some(1))
    }

    fn remove(self, patch: &mut [i16]) {
        let Level(Some(step)) = self else { return };
        let entries = patch.len().div_ceil(step);
        let sum: i32 = patch.iter().step_by(step).map(|&p| i32::from(p)).sum();
        let mean = sum.div_euclid(entries as i32) as i16;
        patch.iter_mut().step_by(step).for_each(|p| *p -= mean);
    }
}

impl Bank<'_> {
    /// Identity whitening for patches of deviation `deviation`, and random units.
    pub fn start(&mut self, deviation: i32, seed: Seed, number: u32) {
        let d = self.conv.fan_in();
        let draws = Draws::new(seed, 0, 0x400 + number);
        self.start_whitening(deviation);
        for (unit, row) in self.dictionary.chunks_exact_mut(d).enumerate() {
            for (k, w) in row.iter_mut().enumerate() {
                *w = draws.between((unit * d + k) as u32, -4095, 4095) as i16;
            }
            normalise(row);
        }
    }

    fn start_whitening(&mut self, deviation: i32) {
        let d = self.conv.fan_in();
        let diagonal = ((WHITE << WHITENING_BITS) / (2 * i64::from(deviation.max(1)))).min(16_384) as i16;
        self.whitening.fill(0);
        self.whitening.iter_mut().step_by(d + 1).for_each(|w| *w = diagonal);
    }

    /// Learns from one random patch of `x`, the encoder's input.
    ///
    /// `number` counts patches; `deviation` is the running deviation of patch entries, in 1/16.
    #[allow(clippy::too_many_arguments)]
    pub fn observe(
        &mut self,
        x: &[i8],
        number: u64,
        schedule: Schedule,
        deviation: &mut u32,
        draws: Draws,
        scratch: &mut Scratch,
    ) {
        let d = self.conv.fan_in();
        let Scratch { patch, white, sums } = scratch;
        let (patch, white, sums) = (&mut patch[..d], &mut white[..d], &mut sums[..d]);
        cut_patch(&self.conv, x, draws, patch);
        self.level.remove(patch);
        // Mean absolute value times 5/4 is the deviation, near enough for patches.
        let magnitude = patch.iter().map(|p| u32::from(p.unsigned_abs())).sum::<u32>() * 20 / d as u32;
        let settling = number < schedule.patches / 64;
        if settling {
            let rate = (number + 1).min(64) as i64;
            *deviation = (i64::from(*deviation) + (i64::from(magnitude) - i64::from(*deviation)) / rate) as u32;
            self.start_whitening(*deviation as i32 / 16);
            return;
        }
        let phase = schedule.phase(number, self.conv.filters);
        let regulariser = if matches!(phase, Phase::Whiten { .. }) { (*deviation as i32 * 3 / 64).max(1) } else { 0 };
        for (k, p) in patch.iter_mut().enumerate() {
            *p += draws.between(0x100 + k as u32, -regulariser, regulariser) as i16;
        }
        for (y, row) in white.iter_mut().zip(self.whitening.chunks_exact(d)) {
            *y = (dot(row, patch) >> WHITENING_BITS).clamp(-127, 127) as i16;
        }
        match phase {
            Phase::Whiten { rate } => self.whiten(white, sums, rate, draws),
            Phase::Fill { unit } => {
                let norm = isqrt(dot(white, white) as u64) as i32;
                if norm > 64 {
                    let row = &mut self.dictionary[unit * d..(unit + 1) * d];
                    for (w, &y) in row.iter_mut().zip(white.iter()) {
                        *w = ((i32::from(y) << DICTIONARY_BITS) / norm) as i16;
                    }
                }
            }
            Phase::Cluster { rate } => self.cluster(white, rate, draws),
        }
    }

    /// `W ← W + SR(2^10·W − y·(yᵀW), 10 + rate)`: where it rests, the whitened patches have covariance 2^10.
    fn whiten(&mut self, white: &[i16], sums: &mut [i64], rate: u32, draws: Draws) {
        let d = white.len();
        sums.fill(0);
        for (y, rows) in white.chunks(4).zip(self.whitening.chunks(4 * d)) {
            // Four products of 8 and 16 bits stay within 32.
            let y: [i32; 4] = core::array::from_fn(|i| y.get(i).map_or(0, |&y| i32::from(y)));
            let row = |i: usize| rows.chunks_exact(d).nth(i).unwrap_or(white);
            let (a, b) = (row(0).iter().zip(row(1)), row(2).iter().zip(row(3)));
            for (sum, ((&a, &b), (&c, &e))) in sums.iter_mut().zip(a.zip(b)) {
                let [a, b, c, e] = [a, b, c, e].map(i32::from);
                *sum += i64::from(y[0] * a + y[1] * b + y[2] * c + y[3] * e);
            }
        }
        for (i, (&y, row)) in white.iter().zip(self.whitening.chunks_exact_mut(d)).enumerate() {
            for (j, (w, &v)) in row.iter_mut().zip(sums.iter()).enumerate() {
                let change = (i64::from(*w) << WHITENING_BITS) - i64::from(y) * v;
                let change = round_random64(change, WHITENING_BITS + rate, draws, 0x10000 + (i * d + j) as u32);
                *w = (i64::from(*w) + change).clamp(-32767, 32767) as i16;
            }
        }
    }

    /// The unit with the largest response moves: `D ← D + SR(2^12·q·y − q²·D, 10 + rate)`.
    fn cluster(&mut self, white: &[i16], rate: u32, draws: Draws) {
        let d = white.len();
        let responses = self.dictionary.chunks_exact(d).map(|row| dot(row, white) >> DICTIONARY_BITS);
        let Some((winner, q)) = responses.enumerate().max_by_key(|&(i, q)| (q.abs(), core::cmp::Reverse(i))) else {
            return;
        };
        for (k, (w, &y)) in self.dictionary[winner * d..(winner + 1) * d].iter_mut().zip(white).enumerate() {
            let change = ((q * i64::from(y)) << DICTIONARY_BITS) - q * q * i64::from(*w);
            let change = round_random64(change, 10 + rate, draws, 0x20000 + k as u32);
            *w = (i64::from(*w) + change).clamp(-32767, 32767) as i16;
        }
    }

    /// Entry `(unit, k)` of the folded filters `F = D·W`, before the level is removed.
    fn folded(&self, unit: usize, k: usize) -> i64 {
        let d = self.conv.fan_in();
        let row = &self.dictionary[unit * d..(unit + 1) * d];
        row.iter().enumerate().map(|(i, &w)| i64::from(w) * i64::from(self.whitening[i * d + k])).sum()
    }

    /// Calls `each(unit, k, value)` for all folded filter entries, level removed.
    fn for_each_folded(&self, mut each: impl FnMut(usize, usize, i64)) {
        let d = self.conv.fan_in();
        for unit in 0..self.conv.filters {
            let of_level = |step| (0..d).step_by(step);
            let mean = self.level.0.map_or(0, |step| {
                of_level(step).map(|k| self.folded(unit, k)).sum::<i64>() / of_level(step).count() as i64
            });
            for k in 0..d {
                let carries = self.level.0.is_some_and(|step| k % step == 0);
                each(unit, k, self.folded(unit, k) - if carries { mean } else { 0 });
            }
        }
    }

    /// Shift that brings the folded filters to 8 bits.
    fn fold_shift(&self) -> u32 {
        let mut largest = 0;
        self.for_each_folded(|_, _, value| largest = value.unsigned_abs().max(largest));
        bit_length64(largest).saturating_sub(7)
    }

    fn fold(&self, shift: u32, weights: &mut [i8]) {
        let d = self.conv.fan_in();
        self.for_each_folded(|unit, k, value| {
            weights[unit * d + k] = round_nearest64(value, shift).clamp(-127, 127) as i8;
        });
    }
}

/// Folds all banks of a stem into `i8` filters and thresholds that share one shift.
pub fn fold(banks: &[Bank], weights: &mut [i8], thresholds: &mut [i32]) {
    let shift = banks.iter().map(Bank::fold_shift).max().unwrap_or(0);
    let mut from = 0;
    for bank in banks {
        bank.fold(shift, &mut weights[from..]);
        from += bank.conv.weights();
    }
    thresholds.fill((THRESHOLD >> shift) as i32);
}

/// Folds group `group` of a layer into the `weights` of all its groups, which share `shift`: where this one wants a
/// larger one, those before it follow. There is no threshold: filters of zero mean on averages that are never negative
/// are seldom all at work.
pub fn fold_group(bank: &Bank, group: usize, shift: &mut u32, weights: &mut [i8]) {
    let wanted = bank.fold_shift();
    let (before, own) = weights.split_at_mut(group * bank.conv.weights());
    if group == 0 || wanted > *shift {
        let by = wanted.saturating_sub(*shift).min(7);
        before.iter_mut().for_each(|w| *w = round_nearest(i32::from(*w), by) as i8);
        *shift = wanted;
    }
    bank.fold(*shift, own);
}

/// `Σ a · b`, where no product reaches 2^24: weights of 16 bits by entries of patches, whitened or not, which are below
/// 2^9, and random units, which are below 2^12, by themselves.
fn dot(a: &[i16], b: &[i16]) -> i64 {
    /// So many products stay within 32 bits.
    const MOST: usize = 128;
    a.chunks(MOST).zip(b.chunks(MOST)).map(|(a, b)| i64::from(kernels::dot(a, b))).sum()
}

/// Brings a row to length 2^12.
fn normalise(row: &mut [i16]) {
    let norm = i64::from(isqrt(dot(row, row) as u64)).max(1);
    row.iter_mut().for_each(|w| *w = ((i64::from(*w) << DICTIONARY_BITS) / norm).clamp(-32767, 32767) as i16);
}

/// Copies a patch at a random place of `x`, in the order of the filters' weights; it never reaches over the border
/// unless the input is smaller than the kernel.
pub(crate) fn cut_patch(conv: &Conv, x: &[i8], draws: Draws, patch: &mut [i16]) {
    let Map { height, width, channels } = conv.input;
    let place = |element, extent: usize, kernel: usize| draws.below(element, (extent.max(kernel) - kernel + 1) as u32);
    let (top, left) = (place(0, height, conv.kernel.0) as usize, place(1, width, conv.kernel.1) as usize);
    for (tap, out) in patch.chunks_exact_mut(conv.channels).enumerate() {
        let (y, column) = (top + tap / conv.kernel.1, left + tap % conv.kernel.1);
        if y < height && column < width {
            let at = (y * width + column) * channels + conv.first_channel;
            out.iter_mut().zip(&x[at..at + conv.channels]).for_each(|(o, &v)| *o = i16::from(v));
        } else {
            out.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of a patch is at most 127, less a mean of at most 127, and a regulariser of 3/64 of 16 · 5/4 times that.
    #[test]
    fn dots_hold_at_the_largest_weights_and_patches() {
        let largest = 254 + 254 * 20 * 3 / 64;
        for (w, p) in [(32767, largest), (-32767, largest), (32767, -largest)] {
            for d in [1, 75, 128, 129, 2883] {
                assert_eq!(dot(&vec![w; d], &vec![p; d]), d as i64 * i64::from(w) * i64::from(p));
            }
        }
        assert_eq!(dot(&[4095; 300], &[4095; 300]), 300 * 4095 * 4095);
    }
}
