//! Softmax in integers, and the cross-entropy with a target: what rotation, clusters, masked tokens and labels share.
//!
//! Scores are `i32` of any scale; a [`Temperature`] says how many of the table's steps of 1/32 nat a difference of them
//! is. Probabilities are Q15 and errors `probability − target` too. What is over 8 nats below the largest counts as 0.

use crate::fixed::math::{EXP_STEPS_PER_NAT, EXP_TABLE, isqrt, log2_q8};
use crate::fixed::{round_nearest64, shift_for};
use crate::kernels::narrow::largest;
use crate::net::arena::Arena;

/// ln 2 in Q16.
pub const LN2_Q16: u64 = 45_426;
/// Fraction bits of a probability.
pub const PROBABILITY: u32 = 15;

/// `ln(sum / 2^15)` in 1/256 nat: the logarithm of a sum of exponentials of the table.
#[inline]
pub fn log_sum(sum: u64) -> u32 {
    ((u64::from(log2_q8(sum.max(1)).saturating_sub(15 << 8)) * LN2_Q16) >> 16) as u32
}

/// How many steps of the table a difference of scores is: `difference · multiplier / 2^shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temperature {
    /// Below 2²⁸, so that a difference of 32 bits times it, in 1/256 nat, stays within 64.
    multiplier: u32,
    shift: u32,
}

impl Temperature {
    /// Scores are logits in 2^−`fraction` nat; `fraction` is 5 to 31.
    pub const fn nats(fraction: u32) -> Self {
        Temperature { multiplier: 1, shift: fraction - EXP_STEPS_PER_NAT.trailing_zeros() }
    }

    /// Scores are cosines, Q28, to be divided by 2^−`temperature_shift`, which is at most 8.
    pub const fn cosines(temperature_shift: u32) -> Self {
        Temperature::nats(28 - temperature_shift)
    }

    #[inline(always)]
    fn steps(self, below: u32) -> u64 {
        let product = u64::from(below) * u64::from(self.multiplier);
        if self.shift == 0 { product } else { (product + (1 << (self.shift - 1))) >> self.shift }
    }

    /// The difference `below` in 1/256 nat.
    #[inline(always)]
    pub fn nats_q8(self, below: u32) -> u64 {
        (u64::from(below) * u64::from(self.multiplier) * u64::from(256 / EXP_STEPS_PER_NAT)) >> self.shift
    }
}

/// What became of a row of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// Largest score.
    pub max: i32,
    /// `ln Σ exp((score − max) / temperature)`, in 1/256 nat.
    pub log_sum: u32,
}

/// Replaces scores by probabilities, Q15. There are at most 2^16 of them.
#[inline(always)]
pub fn softmax(scores: &mut [i32], temperature: Temperature) -> Softmax {
    let max = scores.iter().copied().max().unwrap_or(0);
    let mut sum = 0u32;
    for s in scores.iter_mut() {
        let steps = temperature.steps(max.abs_diff(*s));
        *s = EXP_TABLE.get(steps.min(256) as usize).map_or(0, |&e| i32::from(e));
        // 2^16 entries of 15 bits.
        sum += *s as u32;
    }
    for s in scores.iter_mut() {
        *s = (((*s as u32) << PROBABILITY) / sum.max(1)) as i32;
    }
    Softmax { max, log_sum: log_sum(u64::from(sum)) }
}

/// Replaces the scores of a row by its errors, `softmax − target`, Q15. Returns the cross-entropy in 1/256 nat.
///
/// A `label` that is no class has no error and no loss: a row without a label.
#[inline(always)]
pub fn cross_entropy(scores: &mut [i32], label: usize, temperature: Temperature) -> u32 {
    let Some(&target) = scores.get(label) else {
        scores.fill(0);
        return 0;
    };
    let of = softmax(scores, temperature);
    scores[label] -= 1 << PROBABILITY;
    let attraction = temperature.nats_q8(of.max.abs_diff(target));
    (attraction + u64::from(of.log_sum)).min(u64::from(u32::MAX)) as u32
}

/// Working memory of [`scaled_cross_entropy`].
pub struct Buffers<'m> {
    classes: usize,
    logits: &'m mut [i16],
}

impl<'m> Buffers<'m> {
    pub fn take(rows: usize, classes: usize, arena: &mut Arena<'m>) -> Self {
        Buffers { classes, logits: arena.take(rows * classes) }
    }
}

/// Nats between the right class and the others where every row of a step is equally sure and right. The floor of the
/// loss is then `ln(1 + (n − 1) e^−4)`, 0.05 nat for four classes.
pub(crate) const MARGIN: u64 = 4;

/// Mean cross-entropy, in 1/256 nat, of logits without a scale of their own: they are centred row by row and divided by
/// the root of the mean square of the step's. `z`, `[rows, classes]` up to ±2³⁰, becomes its gradient up to a factor.
///
/// `label(row)` is its class; one that is no class is not counted. The division is part of the loss, and the gradient goes
/// through it: it does not ask for larger logits, which would be none. At most 2²⁰ numbers and 1024 classes.
#[inline(always)]
pub fn scaled_cross_entropy(z: &mut [i32], label: impl Fn(usize) -> usize, buffers: &mut Buffers) -> u32 {
    let classes = buffers.classes;
    for row in z.chunks_exact_mut(classes) {
        let sum: i64 = row.iter().map(|&v| i64::from(v)).sum();
        let mean = sum.div_euclid(classes as i64);
        // As the mean holds the number itself, the difference is below 2^31 (1 − 1/classes).
        row.iter_mut()
            .for_each(|v| *v = (i64::from(*v) - mean).clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32);
    }
    let shift = shift_for(largest(z), 13);
    let mut squares = 0u64;
    for (v, kept) in z.iter_mut().zip(buffers.logits.iter_mut()) {
        *v = round_nearest64(i64::from(*v), shift).clamp(-4095, 4095) as i32;
        *kept = *v as i16;
        squares += u64::from(v.unsigned_abs()).pow(2);
    }
    let temperature = margin_at(squares, z.len() as u64, classes as u64);
    let (mut loss, mut counted, mut along) = (0u64, 0u64, 0i64);
    for (i, (row, kept)) in z.chunks_exact_mut(classes).zip(buffers.logits.chunks_exact(classes)).enumerate() {
        loss += u64::from(cross_entropy(row, label(i), temperature));
        counted += u64::from(label(i) < classes);
        // 2^15 · 2^12 · 2^20 numbers.
        along += row.iter().zip(kept).map(|(&g, &c)| i64::from(g) * i64::from(c)).sum::<i64>();
    }
    // Back through the root of the mean square: what lies along the logits is taken out. 2^12 · 2^47 fits 64 bits.
    let squares = squares.max(1) as i64;
    for (g, &c) in z.iter_mut().zip(&*buffers.logits) {
        *g -= (i64::from(c) * along / squares).clamp(-(1 << 28), 1 << 28) as i32;
    }
    (loss / counted.max(1)) as u32
}

/// The temperature by which `count` logits with this sum of squares have the root mean square of rows that are right by
/// [`MARGIN`]: `MARGIN · √(classes − 1) / classes`.
fn margin_at(squares: u64, count: u64, classes: u64) -> Temperature {
    const FRACTION: u32 = 10;
    // Q4; the mean of squares is below 2^24.
    let root = u64::from(isqrt((squares << 8) / count.max(1))).max(1);
    let wanted = MARGIN * u64::from(EXP_STEPS_PER_NAT) * u64::from(isqrt((classes - 1) << (2 * FRACTION))) / classes;
    // wanted ≤ 2^7 · 2^10 / 2, so with 14 more bits it stays below 2^31; the multiplier is clamped to its bound.
    Temperature { multiplier: ((wanted << 14) / root).min((1 << 28) - 1) as u32, shift: FRACTION + 10 }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn probabilities_and_loss_are_those_of_the_float_formula() {
        for (classes, seed) in [(2, 1), (4, 2), (64, 3), (512, 4)] {
            let scores: Vec<i32> = check::random(1, classes, seed).iter().map(|v| v / 8).collect();
            let exact: Vec<f64> = scores.iter().map(|&s| f64::from(s) / 256.0).collect();
            let total: f64 = exact.iter().map(|s| s.exp()).sum();
            for label in [0, classes - 1] {
                let mut row = scores.clone();
                let loss = cross_entropy(&mut row, label, Temperature::nats(8));
                let expected = total.ln() - exact[label];
                assert!((f64::from(loss) / 256.0 - expected).abs() < 0.04, "{loss} {expected}");
                for (k, (&g, s)) in row.iter().zip(&exact).enumerate() {
                    let target = if k == label { 1.0 } else { 0.0 };
                    assert!((f64::from(g) / 32768.0 + target - s.exp() / total).abs() < 0.02, "{classes} {k}");
                }
            }
        }
    }

    #[test]
    fn a_row_without_a_label_has_neither_loss_nor_error() {
        let mut row = [5, 6, 7];
        assert_eq!(cross_entropy(&mut row, 3, Temperature::nats(8)), 0);
        assert_eq!(row, [0; 3]);
    }

    #[test]
    fn extreme_scores_do_not_overflow() {
        for fraction in [5, 31] {
            let mut row = [i32::MIN, i32::MAX, 0, -1];
            assert!(cross_entropy(&mut row, 0, Temperature::nats(fraction)) > 0);
        }
    }
}
