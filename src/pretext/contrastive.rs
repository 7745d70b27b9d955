//! NT-Xent in integers: views of one sample attract, all other views of the step repel (Chen et al. 2020,
//! arXiv:2002.05709), with two or more views of each sample.
//!
//! `z`: `[views, dim]`, `i32`, any common scale. Unit vectors are Q14, similarities Q28, probabilities Q15; the
//! exponential is a table of 8 nats below each row's maximum. The gradient's scale is free: it is narrowed to 8 bits.
//!
//! Needs `O(views²)` for the probabilities and three copies of `z`. Needs two samples in a step, better eight or more.

use super::softmax::log_sum;
use super::unit::{UnitRows, dot};
use crate::fixed::math::{EXP_STEPS_PER_NAT, EXP_TABLE};
use crate::kernels::Kernels;
use crate::kernels::tile::{Isa, Work};
use crate::net::arena::Arena;

/// Working memory of the loss for at most `views` embeddings of `dim` numbers.
pub struct Buffers<'m> {
    unit: UnitRows<'m>,
    /// Similarities (Q28), then probabilities minus targets (Q15).
    matrix: &'m mut [i32],
    /// Gradient of the unit vectors.
    wide: &'m mut [i64],
}

impl<'m> Buffers<'m> {
    pub fn take(views: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        Buffers {
            unit: UnitRows::take(views, dim, arena),
            matrix: arena.take(views * views),
            wide: arena.take(views * dim),
        }
    }

    /// The part of the memory that `rows` embeddings need.
    fn first(&mut self, rows: usize) -> Buffers<'_> {
        let dim = self.unit.dim();
        Buffers {
            unit: self.unit.first(rows),
            matrix: &mut self.matrix[..rows * rows],
            wide: &mut self.wide[..rows * dim],
        }
    }
}

/// Loss and gradient. Rows `i` and `j` of `z` are views of one sample where `i / views == j / views`.
///
/// `z` is overwritten with the gradient of the loss, up to a positive factor common to all rows. The loss is the mean
/// over rows and positives, in 1/256 nat.
pub fn nt_xent(kernels: Kernels, z: &mut [i32], views: usize, temperature_shift: u32, buffers: &mut Buffers) -> u32 {
    kernels.run(NtXent { z, views, temperature_shift, buffers })
}

struct NtXent<'a, 'm> {
    z: &'a mut [i32],
    views: usize,
    temperature_shift: u32,
    buffers: &'a mut Buffers<'m>,
}

impl Work for NtXent<'_, '_> {
    type Output = u32;
    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> u32 {
        let NtXent { z, views, temperature_shift, buffers } = self;
        let rows = z.len() / buffers.unit.dim();
        // A lesson may be judged on fewer canaries than were planned, while there are not more samples.
        let buffers = &mut buffers.first(rows);
        buffers.unit.set(z);
        buffers.unit.lengthen_zero_rows();
        similarities(buffers, rows);
        let loss = probabilities(buffers, rows, views, temperature_shift);
        gradient(rows, buffers);
        buffers.unit.back(buffers.wide, z);
        loss
    }
}

#[inline(always)]
fn similarities(buffers: &mut Buffers, rows: usize) {
    for (i, row) in buffers.matrix.chunks_exact_mut(rows).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, s)| *s = dot(buffers.unit.row(i), buffers.unit.row(j)));
    }
}

/// Turns each row of similarities into `softmax − target`, Q15; the diagonal is left out. Returns the mean loss.
fn probabilities(buffers: &mut Buffers, rows: usize, views: usize, temperature_shift: u32) -> u32 {
    // Steps of the table for a difference of 1 (2^28): (1/τ) · 32, as a right shift.
    let step_shift = 28 - temperature_shift - EXP_STEPS_PER_NAT.trailing_zeros();
    let mut loss = 0u64;
    for (i, row) in buffers.matrix.chunks_exact_mut(rows).enumerate() {
        let positives = i / views * views..(i / views + 1) * views;
        let others = |j: usize| j != i;
        let max = (0..rows).filter(|&j| others(j)).map(|j| row[j]).max().unwrap_or(0);
        let mut distance = 0u64;
        let mut sum = 0u64;
        for (j, s) in row.iter_mut().enumerate() {
            if !others(j) {
                *s = 0;
                continue;
            }
            let below = (max - *s) as u32;
            if positives.contains(&j) {
                distance += u64::from(below);
            }
            *s = i32::from(EXP_TABLE[(below >> step_shift).min(255) as usize]);
            sum += *s as u64;
        }
        let count = (views - 1).max(1) as u64;
        // (max − s⁺)/τ in Q8.
        let attraction = ((distance / count) << temperature_shift) >> 20;
        loss += attraction + u64::from(log_sum(sum));
        for (j, s) in row.iter_mut().enumerate() {
            // A probability of 15 bits, and at most 2^14 rows: 32 bits hold both.
            *s = (((*s as u32) << 15) / sum.max(1) as u32) as i32;
            if positives.contains(&j) && others(j) {
                *s -= (1 << 15) / count as i32;
            }
        }
    }
    (loss / rows as u64) as u32
}

/// Back through the products of unit vectors.
#[inline(always)]
fn gradient(rows: usize, buffers: &mut Buffers) {
    let dim = buffers.unit.dim();
    buffers.wide.fill(0);
    for (i, sums) in buffers.wide.chunks_exact_mut(dim).enumerate() {
        // Four rows at a time: |weight| ≤ 2^14 and |unit| ≤ 2^14 + 1, so four products stay within 32 bits.
        for j in (0..rows).step_by(4) {
            let weight = |j: usize| match j < rows {
                true => (buffers.matrix[i * rows + j] + buffers.matrix[j * rows + i] + 2) >> 2,
                false => 0,
            };
            let unit = |j: usize| buffers.unit.row(j.min(rows - 1));
            let (w, u) = ([weight(j), weight(j + 1), weight(j + 2), weight(j + 3)], unit(j));
            let (u1, u2, u3) = (unit(j + 1), unit(j + 2), unit(j + 3));
            for (k, s) in sums.iter_mut().enumerate().take(dim) {
                let products = w[0] * i32::from(u[k]) + w[1] * i32::from(u1[k]);
                *s += i64::from(products + w[2] * i32::from(u2[k]) + w[3] * i32::from(u3[k]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::random::Draws;
    use crate::sample::Seed;
    use proptest::prelude::*;

    /// The same loss in `f64`, from the paper's formula.
    fn float_loss(z: &[f64], dim: usize, views: usize, temperature: f64) -> f64 {
        let unit: Vec<Vec<f64>> = z
            .chunks(dim)
            .map(|row| {
                let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                row.iter().map(|v| v / norm).collect()
            })
            .collect();
        let similarity =
            |i: usize, j: usize| unit[i].iter().zip(&unit[j]).map(|(a, b)| a * b).sum::<f64>() / temperature;
        let n = unit.len();
        let mut loss = 0.0;
        for i in 0..n {
            let log_sum = (0..n).filter(|&j| j != i).map(|j| similarity(i, j).exp()).sum::<f64>().ln();
            for j in (0..n).filter(|&j| j != i && j / views == i / views) {
                loss += (log_sum - similarity(i, j)) / (views - 1) as f64;
            }
        }
        loss / n as f64
    }

    fn embeddings(rows: usize, dim: usize, views: usize, spread: i32, seed: u64) -> Vec<i32> {
        let draws = Draws::new(Seed(seed), 0, 0);
        let value = |row: u32, k: u32| draws.between(row * 64 + k, -1000, 1000);
        (0..rows as u32 * dim as u32)
            .map(|i| {
                let (row, k) = (i / dim as u32, i % dim as u32);
                value(row / views as u32, k) * 10 + value(1000 + row, k) * spread
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Against finite differences of the float loss. The table's steps of 1/32 nat and the Q15 probabilities leave
        /// a cosine above 0.99 unless the loss is nearly 0, where there is little left to learn.
        #[test]
        fn loss_and_gradient_are_those_of_the_float_formula(
            samples in 2usize..8, views in 2usize..4, dim in 4usize..24, spread in 2i32..12, shift in 1u32..3, seed: u64
        ) {
            let rows = samples * views;
            let mut z = embeddings(rows, dim, views, spread, seed);
            let exact: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
            let temperature = 0.5f64.powi(shift as i32);
            let mut memory = vec![0u8; 1 << 16];
            let mut buffers = Buffers::take(rows, dim, &mut Arena::over(&mut memory));
            let loss = nt_xent(Kernels::detect(), &mut z, views, shift, &mut buffers);
            let expected = float_loss(&exact, dim, views, temperature);
            prop_assert!((f64::from(loss) / 256.0 - expected).abs() < 0.04, "{loss} {expected}");
            let (mut product, mut own, mut theirs) = (0.0, 0.0, 0.0);
            for k in 0..z.len() {
                let nudge = |by: f64| {
                    let mut moved = exact.clone();
                    moved[k] += by;
                    float_loss(&moved, dim, views, temperature)
                };
                let slope = (nudge(1.0) - nudge(-1.0)) / 2.0;
                product += slope * f64::from(z[k]);
                own += f64::from(z[k]).powi(2);
                theirs += slope * slope;
            }
            let cosine = product / (own * theirs).sqrt();
            prop_assert!(cosine > if expected > 0.2 { 0.99 } else { 0.9 }, "{cosine} at a loss of {expected}");
        }
    }

    #[test]
    fn equal_embeddings_give_the_loss_of_chance() {
        let (rows, dim) = (16, 8);
        let mut z = vec![77; rows * dim];
        let mut memory = vec![0u8; 1 << 16];
        let loss =
            nt_xent(Kernels::detect(), &mut z, 2, 2, &mut Buffers::take(rows, dim, &mut Arena::over(&mut memory)));
        assert!((f64::from(loss) / 256.0 - 15f64.ln()).abs() < 0.02, "{loss}");
    }

    #[test]
    fn memory_for_more_views_gives_the_same() {
        let (dim, exact) = (8, embeddings(4, 8, 2, 3, 1));
        let with_memory_for = |views| {
            let mut z = exact.clone();
            let mut memory = vec![0u8; 1 << 16];
            let loss =
                nt_xent(Kernels::detect(), &mut z, 2, 2, &mut Buffers::take(views, dim, &mut Arena::over(&mut memory)));
            (loss, z)
        };
        assert_eq!(with_memory_for(4), with_memory_for(10));
    }

    #[test]
    fn one_sample_has_nothing_to_repel_it_and_no_gradient() {
        let dim = 8;
        let mut z = embeddings(2, dim, 2, 3, 1);
        let mut memory = vec![0u8; 1 << 16];
        let loss = nt_xent(Kernels::detect(), &mut z, 2, 2, &mut Buffers::take(2, dim, &mut Arena::over(&mut memory)));
        assert_eq!((loss, z), (0, vec![0; 2 * dim]));
    }
}
