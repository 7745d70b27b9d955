//! A predictor and a stop to the gradient: from one view the embedding of the other is predicted, and what is predicted
//! is held constant (SimSiam, Chen & He 2020, arXiv:2011.10566; with a slow copy of the encoder as the target it is BYOL,
//! Grill et al. 2020, arXiv:2006.07733). No negatives, any batch.
//!
//! How it fails: nothing repels, so equal embeddings for everything are the best answer, and without normalisation layers
//! nets of this size find it within a pass: the loss falls to 0 and the rank to 1. The guard undoes such lessons; the task
//! is here because it is asked for, not because it holds.

use super::unit::{UnitRows, add_unit, other_views};
use crate::net::arena::Arena;

/// Working memory for at most `rows` predictions.
pub struct Buffers<'m> {
    unit: UnitRows<'m>,
    wide: &'m mut [i64],
}

impl<'m> Buffers<'m> {
    pub fn take(rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        Buffers { unit: UnitRows::take(rows, dim, arena), wide: arena.take(rows * dim) }
    }
}

/// The loss, mean of `1 − cos(p, z)` over the other views' `z`, in 1/256; and its gradient in the place of `p`, up to a
/// positive factor common to all rows.
///
/// `p`: predictions `[rows, dim]` within ±2³⁰, any common scale. `z`: embeddings of the same rows, `i8`, constants of the
/// step. Rows `i` and `j` are views of one sample where `i / views == j / views`.
#[inline(always)]
pub fn negative_cosine(p: &mut [i32], z: &[i8], views: usize, buffers: &mut Buffers) -> u32 {
    let dim = buffers.unit.dim();
    let count = p.len() / dim;
    let mut unit = buffers.unit.first(count);
    let wide = &mut buffers.wide[..count * dim];
    unit.set(p);
    let mut cosines = 0i64;
    for (i, wide) in wide.chunks_exact_mut(dim).enumerate() {
        wide.fill(0);
        let targets = other_views(i, views).filter(|&j| j < count);
        let positives = targets.clone().count().max(1) as i64;
        targets.for_each(|j| add_unit(&z[j * dim..][..dim], -1, wide));
        // 16 views · 2^14 · 2^14 · 2^10 numbers, Q28.
        cosines -= wide.iter().zip(unit.row(i)).map(|(&w, &u)| w * i64::from(u)).sum::<i64>() / positives;
        // So that 13 bits of it are left.
        wide.iter_mut().for_each(|w| *w <<= 8);
    }
    unit.back(wide, p);
    let mean = (1 << 28) - cosines / count.max(1) as i64;
    (mean >> 20).max(0) as u32
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn run(p: &mut [i32], z: &[i8], dim: usize, views: usize) -> u32 {
        let mut memory = vec![0; 1 << 16];
        negative_cosine(p, z, views, &mut Buffers::take(p.len() / dim, dim, &mut Arena::over(&mut memory)))
    }

    fn float_loss(p: &[f64], z: &[f64], dim: usize, views: usize) -> f64 {
        let (p, z) = (check::unit(p, dim), check::unit(z, dim));
        let row = |i: usize| {
            let others = other_views(i, views);
            1.0 - others.clone().map(|j| check::dot(&p[i], &z[j])).sum::<f64>() / others.count() as f64
        };
        (0..p.len()).map(row).sum::<f64>() / p.len() as f64
    }

    fn narrow(z: &[i32], shift: u32) -> Vec<i8> {
        z.iter().map(|v| (v >> shift).clamp(-127, 127) as i8).collect()
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_float_formula() {
        for (seed, rows, dim, views, spread) in [(1, 2, 4, 2, 5), (2, 12, 16, 3, 3), (3, 32, 64, 2, 10)] {
            // With coarse targets too: two bits and a sign.
            for shift in [7, 12] {
                let mut p = check::clustered(rows, dim, views, spread, 0, seed);
                let z = narrow(&check::clustered(rows, dim, views, spread, 0, seed ^ 9), shift);
                let (exact, target) = (check::float(&p), z.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
                let loss = run(&mut p, &z, dim, views);
                let expected = float_loss(&exact, &target, dim, views);
                assert!((f64::from(loss) / 256.0 - expected).abs() < 0.01, "{loss} {expected}");
                let cosine = check::cosine(&p, &check::slope(&exact, |p| float_loss(p, &target, dim, views)));
                assert!(cosine > 0.99, "{seed}: {cosine}");
            }
        }
    }

    #[test]
    fn extreme_rows_are_borne_and_scale_does_not_matter() {
        let (rows, dim) = (8, 16);
        for p in check::extremes(rows, dim) {
            for z in [vec![127; rows * dim], vec![-127; rows * dim], vec![0; rows * dim], narrow(&p, 23)] {
                assert!(run(&mut p.clone(), &z, dim, 2) <= 512 + 256);
            }
        }
        let (p, z) = (check::random(rows, dim, 1), narrow(&check::random(rows, dim, 2), 7));
        let with_shift = |shift: u32| {
            let mut p: Vec<i32> = p.iter().map(|v| v << shift).collect();
            (run(&mut p, &z, dim, 2), p)
        };
        assert_eq!(with_shift(0), with_shift(9));
    }
}
