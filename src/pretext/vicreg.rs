//! Variance, invariance, covariance (VICReg, Bardes, Ponce & LeCun 2021, arXiv:2105.04906): views of one sample come
//! together, every number of the embedding keeps its spread over the step, and no two numbers say the same.
//!
//! The paper's hinge wants a standard deviation of 1, in a net with a scale. Ours has none, so the step gives it: numbers
//! are centred and divided by the root of the mean square of all of them, which is part of the loss. The spread as a whole
//! cannot fall then, and the hinge asks that no number has less than its share. Statistics are over all rows of a step, the
//! views of a sample together. The loss is the paper's divided by 25:
//! `mean |x − x'|² / dim + mean_k max(0, 1 − √(var_k + ε)) + 1/16 · Σ_{k≠l} cov_kl² / dim`, with ε = 2⁻¹³.
//!
//! Needs statistics: eight samples in a step or more. How it fails: with fewer rows than numbers the covariance of a step
//! is never diagonal, and its noise drowns the rest; rows that are all equal have no gradient.

use super::unit::other_views;
use crate::fixed::math::isqrt;
use crate::fixed::{bit_length64, round_nearest64};
use crate::net::arena::Arena;

/// Fraction bits of a normalised number. Their squares sum to their count, at most 2^24 in a step, so one is at most 2^12.
const X: u32 = 10;
/// Fraction bits of a covariance, which is at most the embedding's length, 2^10.
const C: u32 = 16;
/// Weight of the covariance, 2^−4: near the paper's 2/25 for both views.
const COVARIANCE_SHIFT: u32 = 4;
/// ε of the paper, Q32.
const EPSILON_Q32: u64 = 1 << 19;

/// Working memory for at most `rows` embeddings.
pub struct Buffers<'m> {
    dim: usize,
    /// `[dim, dim]`, Q16.
    covariance: &'m mut [i32],
    /// Of each number, Q16; 0 where the hinge does not ask for more.
    deviation: &'m mut [u32],
    wide: &'m mut [i64],
}

impl<'m> Buffers<'m> {
    pub fn take(rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        Buffers { dim, covariance: arena.take(dim * dim), deviation: arena.take(dim), wide: arena.take(rows * dim) }
    }
}

/// Loss in 1/256, and gradient in the place of `z`, up to a positive factor common to all rows.
///
/// `z`: `[rows, dim]` within ±2³⁰, any common scale, at most 2¹⁴ rows of 2¹⁰ numbers; rows `i` and `j` are views of one
/// sample where `i / views == j / views`.
#[inline(always)]
pub fn vicreg(z: &mut [i32], views: usize, buffers: &mut Buffers) -> u32 {
    let dim = buffers.dim;
    let rows = z.len() / dim;
    let Buffers { covariance, deviation, wide, .. } = buffers;
    let wide = &mut wide[..rows * dim];
    normalise(z, dim, wide);
    let mut loss = statistics(z, dim, covariance, deviation);
    let mut invariance = 0u64;
    for (i, wide) in wide.chunks_exact_mut(dim).enumerate() {
        let row = &z[i * dim..][..dim];
        let others = other_views(i, views).filter(|&j| j < rows);
        let positives = others.clone().count().max(1) as i64;
        for ((k, w), &x) in wide.iter_mut().enumerate().zip(row) {
            let x = i64::from(x);
            let apart: i64 = others.clone().map(|j| x - i64::from(z[j * dim + k])).sum();
            // Differences are at most 4 times the squares of the numbers, and those sum to 2^24, Q20.
            invariance += others.clone().map(|j| (x - i64::from(z[j * dim + k])).unsigned_abs().pow(2)).sum::<u64>()
                / positives as u64;
            // All in Q26. 2^22 · 2^26 · 2^10 numbers of the row at most.
            let line = &covariance[k * dim..][..dim];
            let shared: i64 = line.iter().zip(row).map(|(&c, &x)| i64::from(c) * i64::from(x)).sum();
            let others_alone = shared - i64::from(line[k]) * x;
            let spread = match deviation[k] {
                0 => 0,
                d => (x << (C + 14)) / i64::from(d),
            };
            *w = ((apart << C) / positives) + (others_alone >> COVARIANCE_SHIFT) - spread;
        }
    }
    // Q20 to 1/256.
    loss += (invariance / z.len().max(1) as u64) >> (2 * X - 8);
    through_the_scale(wide, z);
    loss.min(u64::from(u32::MAX)) as u32
}

/// Centres each number over the rows and divides all by the root of the mean square, Q10.
#[inline(always)]
fn normalise(z: &mut [i32], dim: usize, wide: &mut [i64]) {
    let rows = (z.len() / dim).max(1) as i64;
    for k in 0..dim {
        let sum: i64 = z[k..].iter().step_by(dim).map(|&v| i64::from(v)).sum();
        // In 1/16, so that numbers that differ little keep their differences; 2^35.
        let mean = (sum << 4) / rows;
        for (w, &v) in wide[k..].iter_mut().step_by(dim).zip(z[k..].iter().step_by(dim)) {
            *w = (i64::from(v) << 4) - mean;
        }
    }
    let max = wide.iter().map(|w| w.unsigned_abs()).max().unwrap_or(0);
    let shift = bit_length64(max).saturating_sub(19);
    // 2^38 · 2^24 numbers.
    let mut squares = 0u64;
    for w in wide.iter_mut() {
        *w = round_nearest64(*w, shift);
        squares += w.unsigned_abs().pow(2);
    }
    let mean = squares / wide.len().max(1) as u64;
    // Q10: the mean is at most 2^38.
    let root = i64::from(isqrt(mean << 20)).max(1);
    let most = 1 << (X + 12);
    z.iter_mut().zip(wide).for_each(|(x, &mut w)| *x = ((w << (2 * X)) / root).clamp(-most, most) as i32);
}

/// Covariance and deviations of normalised numbers. Returns the losses of both, in 1/256.
#[inline(always)]
fn statistics(x: &[i32], dim: usize, covariance: &mut [i32], deviation: &mut [u32]) -> u64 {
    let rows = (x.len() / dim).max(1) as i64;
    let (mut hinge, mut shared) = (0u64, 0u64);
    for k in 0..dim {
        for l in 0..=k {
            // By Cauchy and Schwarz no more than all squares, 2^44.
            let sum: i64 = x.chunks_exact(dim).map(|row| i64::from(row[k]) * i64::from(row[l])).sum();
            let c = ((sum / rows) >> (2 * X - C)) as i32;
            covariance[k * dim + l] = c;
            covariance[l * dim + k] = c;
            if l < k {
                // Both halves: 2 · 2^52 >> 12, and at most 2^20 of them.
                shared += i64::from(c).unsigned_abs().pow(2) >> 11;
            }
        }
        let variance = covariance[k * dim + k].unsigned_abs();
        let root = isqrt((u64::from(variance) << (32 - C)) + EPSILON_Q32);
        hinge += u64::from((1u32 << 16).saturating_sub(root));
        deviation[k] = if root < 1 << 16 { root } else { 0 };
    }
    let dim = dim.max(1) as u64;
    // Q16 and, of squares of Q16 less 12 bits, Q20.
    ((hinge / dim) >> 8) + ((shared / dim) >> (12 + COVARIANCE_SHIFT))
}

/// From `wide`, the gradient by the normalised numbers `z`, to that by the embeddings, in the place of `z`: what lies along
/// the numbers is the scale's, and is taken out. Each column's sum is 0 already, as the numbers are centred.
#[inline(always)]
fn through_the_scale(wide: &mut [i64], z: &mut [i32]) {
    let max = wide.iter().map(|w| w.unsigned_abs()).max().unwrap_or(0);
    let shift = bit_length64(max).saturating_sub(24);
    let mut along = 0i64;
    for (w, &x) in wide.iter_mut().zip(&*z) {
        *w = round_nearest64(*w, shift);
        // By Cauchy and Schwarz the sum is at most 2^24 · 2^10 · the count, 2^58.
        along += *w * i64::from(x);
    }
    let along = along / z.len().max(1) as i64;
    // 2^34 · 2^22.
    wide.iter_mut().zip(&*z).for_each(|(w, &x)| *w -= (along * i64::from(x)) >> (2 * X));
    let max = wide.iter().map(|w| w.unsigned_abs()).max().unwrap_or(0);
    let shift = bit_length64(max).saturating_sub(29);
    z.iter_mut().zip(wide).for_each(|(z, &mut w)| *z = round_nearest64(w, shift) as i32);
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn run(z: &mut [i32], dim: usize, views: usize) -> u32 {
        let mut memory = vec![0; 1 << 18];
        vicreg(z, views, &mut Buffers::take(z.len() / dim, dim, &mut Arena::over(&mut memory)))
    }

    fn float_loss(z: &[f64], dim: usize, views: usize) -> f64 {
        let rows = z.len() / dim;
        let column_mean = |k: usize| z[k..].iter().step_by(dim).sum::<f64>() / rows as f64;
        let means: Vec<f64> = (0..dim).map(column_mean).collect();
        let centred: Vec<f64> = z.iter().enumerate().map(|(i, v)| v - means[i % dim]).collect();
        let root = (check::dot(&centred, &centred) / z.len() as f64).sqrt().max(1e-9);
        let x: Vec<f64> = centred.iter().map(|v| v / root).collect();
        let covariance =
            |k: usize, l: usize| (0..rows).map(|i| x[i * dim + k] * x[i * dim + l]).sum::<f64>() / rows as f64;
        let mut loss = 0.0;
        for i in 0..rows {
            for j in other_views(i, views) {
                let square: f64 = (0..dim).map(|k| (x[i * dim + k] - x[j * dim + k]).powi(2)).sum();
                loss += square / (views - 1) as f64 / z.len() as f64;
            }
        }
        for k in 0..dim {
            loss += (1.0 - (covariance(k, k) + 1.0 / 8192.0).sqrt()).max(0.0) / dim as f64;
            for l in (0..dim).filter(|&l| l != k) {
                loss += covariance(k, l).powi(2) / dim as f64 / 16.0;
            }
        }
        loss
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_float_formula() {
        for (seed, rows, dim, views, spread, offset) in
            [(1, 8, 6, 2, 5, 0), (2, 18, 12, 3, 3, 5000), (3, 32, 24, 2, 10, 200_000), (4, 4, 8, 2, 2, 0)]
        {
            let mut z = check::clustered(rows, dim, views, spread, offset, seed);
            // Columns of different strength, so that the hinge has work.
            z.iter_mut().enumerate().for_each(|(i, v)| *v /= 1 + (i % dim % 4) as i32);
            let exact = check::float(&z);
            let loss = run(&mut z, dim, views);
            let expected = float_loss(&exact, dim, views);
            assert!((f64::from(loss) / 256.0 - expected).abs() < 0.02, "{loss} {expected}");
            let cosine = check::cosine(&z, &check::slope(&exact, |z| float_loss(z, dim, views)));
            assert!(cosine > 0.99, "{seed}: {cosine}");
        }
    }

    #[test]
    fn columns_of_the_gradient_sum_to_nothing() {
        let (rows, dim) = (16, 8);
        let mut z = check::clustered(rows, dim, 2, 4, 3000, 1);
        run(&mut z, dim, 2);
        let largest = z.iter().map(|v| v.abs()).max().unwrap_or(0);
        for k in 0..dim {
            let sum: i64 = z[k..].iter().step_by(dim).map(|&v| i64::from(v)).sum();
            assert!(sum.abs() < i64::from(largest) / 64, "{k}: {sum} of {largest}");
        }
    }

    #[test]
    fn equal_rows_give_the_whole_hinge_and_no_gradient() {
        let mut z = vec![1234; 16 * 8];
        let loss = run(&mut z, 8, 2);
        assert!((250..=256).contains(&loss), "{loss}");
        assert!(z.iter().all(|&v| v == 0));
    }

    #[test]
    fn extreme_rows_are_borne_and_scale_does_not_matter() {
        let (rows, dim) = (8, 16);
        for mut z in check::extremes(rows, dim) {
            run(&mut z, dim, 2);
            assert!(z.iter().all(|v| v.unsigned_abs() <= 1 << 30));
        }
        // The mean is taken to a 16th, which is nothing to numbers of 20 bits.
        let with_shift = |shift: u32| {
            let mut z: Vec<i32> = check::random(rows, dim, 1).iter().map(|v| (v << 7) << shift).collect();
            (run(&mut z, dim, 2), z)
        };
        let ((loss, z), (loss_then, then)) = (with_shift(0), with_shift(3));
        assert!(loss.abs_diff(loss_then) <= 1);
        assert!(check::cosine(&z, &check::float(&then)) > 0.9999);
    }
}
