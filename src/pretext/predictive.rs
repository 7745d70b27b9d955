//! Next-feature prediction: from the earlier sample of a pair the embedding of the later one is predicted, so that it is
//! nearer to that than to the later samples of other pairs (contrastive predictive coding, van den Oord et al. 2018,
//! arXiv:1807.03748, with InfoNCE over cosines and the targets held constant).
//!
//! Which is which: even views see the newer sample of a pick and odd ones its neighbour, `1..=neighbours` samples before
//! it ([`crate::replay::Replay::sample`]). So odd rows predict and even rows are predicted; even rows get no gradient.
//!
//! How it fails: the targets are constants, and do not repel one another. Where they are nearly parallel already, nothing
//! tells them apart and the loss stays at chance, `ln(pairs)`; on a stream that hardly moves, what was learned is the place
//! rather than the change. Without order in time, or without neighbours, it is contrast of views with half the gradient.

use super::softmax::{PROBABILITY, Temperature, softmax};
use super::unit::{UnitRows, dot, norm_q8, unit_of};
use crate::net::arena::Arena;

/// Working memory for at most `rows` predictions.
pub struct Buffers<'m> {
    unit: UnitRows<'m>,
    /// Unit vectors of the later samples, Q14.
    later: &'m mut [i16],
    /// One row of similarities, then of errors.
    row: &'m mut [i32],
    wide: &'m mut [i64],
}

impl<'m> Buffers<'m> {
    pub fn take(rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        Buffers {
            unit: UnitRows::take(rows, dim, arena),
            later: arena.take(rows * dim),
            row: arena.take(rows),
            wide: arena.take(rows * dim),
        }
    }
}

/// The view shows the newer sample of its pick.
#[inline(always)]
pub(crate) const fn is_later(row: usize, views: usize) -> bool {
    (row % views).is_multiple_of(2)
}

/// Loss, mean over predicting rows in 1/256 nat, and its gradient in the place of `p`, up to a positive factor common to
/// all rows.
///
/// `p`: predictions `[rows, dim]` within ±2³⁰, any common scale. `z`: embeddings of the same rows, `i8`, constants of the
/// step. Rows `i` and `j` are of one pair where `i / views == j / views`. The temperature is 2^−`temperature_shift`.
#[inline(always)]
pub fn info_nce(p: &mut [i32], z: &[i8], views: usize, temperature_shift: u32, buffers: &mut Buffers) -> u32 {
    let dim = buffers.unit.dim();
    let count = p.len() / dim;
    let mut unit = buffers.unit.first(count);
    let wide = &mut buffers.wide[..count * dim];
    let temperature = Temperature::cosines(temperature_shift);
    unit.set(p);
    let mut targets = 0;
    for row in (0..count).filter(|&row| is_later(row, views)) {
        let z = &z[row * dim..][..dim];
        let norm = norm_q8(z);
        let later = &mut buffers.later[targets * dim..][..dim];
        later.iter_mut().zip(z).for_each(|(u, &v)| *u = unit_of(v, norm));
        targets += 1;
    }
    let later = &buffers.later[..targets * dim];
    let row = &mut buffers.row[..targets];
    let of_pair = views.div_ceil(2);
    let (mut loss, mut predicting) = (0u64, 0u64);
    for (i, wide) in wide.chunks_exact_mut(dim).enumerate() {
        wide.fill(0);
        if is_later(i, views) {
            unit.leave_out(i);
            continue;
        }
        row.iter_mut().zip(later.chunks_exact(dim)).for_each(|(s, z)| *s = dot(unit.row(i), z));
        let own = i / views * of_pair..((i / views + 1) * of_pair).min(targets);
        let positives = own.len().max(1) as i64;
        let pull = row[own.clone()].iter().map(|&s| i64::from(s)).sum::<i64>() / positives;
        let of = softmax(row, temperature);
        row[own].iter_mut().for_each(|s| *s -= (1 << PROBABILITY) / positives as i32);
        loss += temperature.nats_q8(of.max.abs_diff(pull as i32)) + u64::from(of.log_sum);
        predicting += 1;
        for (&error, z) in row.iter().zip(later.chunks_exact(dim)) {
            // 2^15 · 2^14 · 2^13 rows at most.
            wide.iter_mut().zip(z).for_each(|(w, &u)| *w += i64::from(error) * i64::from(u));
        }
    }
    unit.back(wide, p);
    (loss / predicting.max(1)) as u32
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn run(p: &mut [i32], z: &[i8], dim: usize, views: usize) -> u32 {
        let mut memory = vec![0; 1 << 16];
        info_nce(p, z, views, 2, &mut Buffers::take(p.len() / dim, dim, &mut Arena::over(&mut memory)))
    }

    fn float_loss(p: &[f64], z: &[f64], dim: usize, views: usize) -> f64 {
        let (p, z) = (check::unit(p, dim), check::unit(z, dim));
        let later: Vec<usize> = (0..p.len()).filter(|i| (i % views).is_multiple_of(2)).collect();
        let earlier: Vec<usize> = (0..p.len()).filter(|i| i % views % 2 == 1).collect();
        let row = |&i: &usize| {
            let total: f64 = later.iter().map(|&j| (4.0 * check::dot(&p[i], &z[j])).exp()).sum();
            let own: Vec<f64> =
                later.iter().filter(|&&j| j / views == i / views).map(|&j| 4.0 * check::dot(&p[i], &z[j])).collect();
            total.ln() - own.iter().sum::<f64>() / own.len() as f64
        };
        earlier.iter().map(row).sum::<f64>() / earlier.len() as f64
    }

    fn narrow(z: &[i32], shift: u32) -> Vec<i8> {
        z.iter().map(|v| (v >> shift).clamp(-127, 127) as i8).collect()
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_float_formula() {
        for (seed, rows, dim, views, spread) in [(1, 8, 6, 2, 5), (2, 16, 16, 4, 3), (3, 32, 24, 2, 10)] {
            let mut p = check::clustered(rows, dim, views, spread, 0, seed);
            let z = narrow(&check::clustered(rows, dim, views, spread, 0, seed), 7);
            let (exact, target) = (check::float(&p), z.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
            let loss = run(&mut p, &z, dim, views);
            let expected = float_loss(&exact, &target, dim, views);
            assert!((f64::from(loss) / 256.0 - expected).abs() < 0.04, "{loss} {expected}");
            let cosine = check::cosine(&p, &check::slope(&exact, |p| float_loss(p, &target, dim, views)));
            assert!(cosine > 0.99, "{seed}: {cosine}");
        }
    }

    #[test]
    fn rows_of_newer_samples_get_no_gradient() {
        let dim = 8;
        let mut p = check::random(8, dim, 3);
        run(&mut p, &narrow(&check::random(8, dim, 4), 7), dim, 2);
        for (i, row) in p.chunks(dim).enumerate() {
            assert_eq!(row.iter().all(|&v| v == 0), i % 2 == 0, "row {i}");
        }
    }

    #[test]
    fn equal_targets_give_the_loss_of_chance_and_no_gradient_to_speak_of() {
        let dim = 8;
        let mut p = check::random(16, dim, 3);
        let loss = run(&mut p, &[50; 16 * 8], dim, 2);
        assert!((f64::from(loss) / 256.0 - 8f64.ln()).abs() < 0.02, "{loss}");
    }

    #[test]
    fn extreme_rows_are_borne_and_scale_does_not_matter() {
        let (rows, dim) = (8, 16);
        for p in check::extremes(rows, dim) {
            for z in [vec![127; rows * dim], vec![-127; rows * dim], vec![0; rows * dim], narrow(&p, 23)] {
                assert!(run(&mut p.clone(), &z, dim, 2) < 256 * 32);
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
