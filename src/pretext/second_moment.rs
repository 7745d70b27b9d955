//! Contrast by second moments: views of one sample attract, and all directions in which the stream already lies repel
//! (TiCo, Zhu et al. 2022, arXiv:2206.10698; the spectral contrastive loss of HaoChen et al. 2021 without its batch).
//!
//! For rows `v` around their running mean ([`super::centred`]) and their running second moment `M`, the loss of a row is
//! `1 − v · v⁺ + ρ vᵀ M v`, and its gradient `2 (ρ M v − v⁺)`: no exponential, no negatives to hold.
//!
//! How it fails: without the running mean the nearly parallel rows of a fresh net lie along the first direction of `M`
//! already and their gradient vanishes; with each row brought to length 1 around it, the least differences do, and the rank
//! falls just so. With a small ρ a few directions are enough. Rank and spread tell.

use super::centred::{self, CENTRED, CentredRows, Pace};
use super::unit::{dot, other_views};
use crate::net::arena::Arena;

/// ρ, the weight of the repulsion.
pub(crate) const WEIGHT: i64 = 16;

/// Working memory for at most `rows` embeddings.
pub struct Buffers<'m> {
    rows: CentredRows<'m>,
    wide: &'m mut [i64],
}

impl<'m> Buffers<'m> {
    pub fn take(rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        Buffers { rows: CentredRows::take(rows, dim, arena), wide: arena.take(rows * dim) }
    }
}

/// Numbers of state: age, mean `[dim]` Q22, second moment `[dim, dim]` Q26; all 0 at the start.
pub const fn state_len(dim: usize) -> usize {
    1 + dim + dim * dim
}

/// Loss in 1/256 (the mean square length of a row is 1), and gradient in the place of `z`, up to a positive factor common to all rows.
///
/// `z`: `[rows, dim]` within ±2³⁰, any common scale; rows `i` and `j` are views of one sample where
/// `i / views == j / views`. `state` is changed only where `learn`.
#[inline(always)]
pub fn second_moment(z: &mut [i32], views: usize, state: &mut [i32], learn: bool, buffers: &mut Buffers) -> u32 {
    let dim = buffers.rows.dim();
    let count = z.len() / dim;
    let mut rows = buffers.rows.first(count);
    let wide = &mut buffers.wide[..count * dim];
    let [age, state @ ..] = state else { return 0 };
    let (mean, moment) = state.split_at_mut(dim);
    let pace = centred::pace(age, learn);
    rows.set(z, mean, pace);
    follow(moment, &rows, pace);
    let (mut attraction, mut repulsion) = (0i64, 0i64);
    for (i, wide) in wide.chunks_exact_mut(dim).enumerate() {
        let unit = rows.row(i);
        let others = other_views(i, views).filter(|&j| j < count);
        let positives = others.clone().count().max(1) as i64;
        let mut spent = 0i64;
        for ((k, w), line) in wide.iter_mut().enumerate().zip(moment.chunks_exact(dim)) {
            // 2^31 · 2^15 · 2^10 numbers at most, whatever stands in the state; Q39.
            let moved: i64 = line.iter().zip(unit).map(|(&m, &v)| i64::from(m) * i64::from(v)).sum();
            let pull: i64 = others.clone().map(|j| i64::from(rows.row(j)[k])).sum();
            // 2^40 · 2^15, less 10 bits: Q26; 2^10 numbers.
            spent += ((moved >> 16) * i64::from(unit[k])) >> 10;
            *w = WEIGHT * moved - (pull << (2 * CENTRED)) / positives;
        }
        // Only a state that no stream gives comes near the end.
        repulsion = repulsion.saturating_add(spent);
        attraction += others.map(|j| i64::from(dot(unit, rows.row(j)))).sum::<i64>() / positives;
    }
    rows.back(wide, z);
    let mean = ((1 << (2 * CENTRED)) - attraction / count.max(1) as i64) + WEIGHT * (repulsion / count.max(1) as i64);
    (mean >> (2 * CENTRED - 8)).clamp(0, i64::from(u32::MAX)) as u32
}

/// Moves the second moment towards that of this step's rows.
#[inline(always)]
fn follow(moment: &mut [i32], rows: &CentredRows, pace: Pace) {
    let Some(pace) = pace else { return };
    let (unit, dim) = (rows, rows.dim());
    let count = unit.rows().max(1) as i64;
    for (k, line) in moment.chunks_exact_mut(dim).enumerate() {
        for (l, m) in line.iter_mut().enumerate() {
            let products = unit.all().chunks_exact(dim).map(|v| i64::from(v[k]) * i64::from(v[l]));
            // A mean of products of rows at most 4 long: at most 2^30, and so is what moves towards it.
            *m += ((products.sum::<i64>() / count - i64::from(*m)) / pace) as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::centred::tests::centred;
    use super::super::check::{self, dot};
    use super::*;

    /// `1 − v · v⁺ + ρ vᵀ M v`, from the formula, with the mean and the moment as they stand in the state.
    fn float_loss(v: &[Vec<f64>], dim: usize, views: usize, moment: &[f64]) -> f64 {
        let mut loss = 0.0;
        for i in 0..v.len() {
            let positives = other_views(i, views);
            let pull: f64 = positives.clone().map(|j| dot(&v[i], &v[j])).sum::<f64>() / positives.count() as f64;
            let moved: Vec<f64> = moment.chunks(dim).map(|line| dot(line, &v[i])).collect();
            loss += 1.0 - pull + WEIGHT as f64 * dot(&v[i], &moved);
        }
        loss / v.len() as f64
    }

    fn run(z: &mut [i32], dim: usize, views: usize, state: &mut [i32], learn: bool) -> u32 {
        let mut memory = vec![0; 1 << 17];
        let mut buffers = Buffers::take(z.len() / dim, dim, &mut Arena::over(&mut memory));
        second_moment(z, views, state, learn, &mut buffers)
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_float_formula() {
        for (seed, rows, dim, views, offset) in
            [(1, 8, 6, 2, 0), (2, 12, 16, 3, 20_000), (3, 32, 24, 2, 100_000), (4, 2, 8, 2, 0)]
        {
            let mut state = vec![0; state_len(dim)];
            // A past of other samples.
            for past in 0..20 {
                run(&mut check::clustered(rows, dim, views, 4, offset, 100 + past), dim, views, &mut state, true);
            }
            let before = state.clone();
            let mut z = check::clustered(rows, dim, views, 4, offset, seed);
            let exact = check::float(&z);
            let loss = run(&mut z, dim, views, &mut state, false);
            assert_eq!(state, before);
            let mean: Vec<f64> = state[1..=dim].iter().map(|&m| f64::from(m) / f64::from(1 << 22)).collect();
            let moment: Vec<f64> = state[1 + dim..].iter().map(|&m| f64::from(m) / f64::from(1 << 26)).collect();
            let of = |z: &[f64]| float_loss(&centred(z, &exact, dim, &mean), dim, views, &moment);
            let expected = of(&exact);
            assert!((f64::from(loss) / 256.0 - expected).abs() < 0.03, "{loss} {expected}");
            let slope = check::slope(&exact, of);
            let cosine = check::cosine(&z, &slope);
            assert!(cosine > 0.99, "{seed}: {cosine}");
        }
    }

    #[test]
    fn the_moment_becomes_that_of_the_stream() {
        let (rows, dim) = (64, 8);
        let mut state = vec![0; state_len(dim)];
        for step in 0..200 {
            run(&mut check::random(rows, dim, step), dim, 2, &mut state, true);
        }
        // Of directions without preference: the unit matrix divided by its size.
        for k in 0..dim {
            for l in 0..dim {
                let entry = f64::from(state[1 + dim + k * dim + l]) / f64::from(1 << 26);
                let expected = if k == l { 1.0 / dim as f64 } else { 0.0 };
                assert!((entry - expected).abs() < 0.01, "{k} {l}: {entry}");
            }
        }
    }

    #[test]
    fn parallel_rows_still_have_a_gradient() {
        let (rows, dim) = (16, 16);
        let mut state = vec![0; state_len(dim)];
        let mut z = check::clustered(rows, dim, 2, 4, 1_000_000, 5);
        run(&mut z.clone(), dim, 2, &mut state, true);
        run(&mut z, dim, 2, &mut state, false);
        let moving = z.chunks(dim).filter(|row| row.iter().any(|v| v.abs() > 1 << 16)).count();
        assert!(moving > rows / 2, "{moving}");
    }

    #[test]
    fn extreme_rows_and_states_are_borne_and_scale_does_not_matter() {
        let (rows, dim) = (8, 16);
        for z in check::extremes(rows, dim) {
            for start in [0, i32::MAX, i32::MIN] {
                let mut state = vec![start; state_len(dim)];
                run(&mut z.clone(), dim, 2, &mut state, false);
            }
            let mut state = vec![0; state_len(dim)];
            (0..3).for_each(|_| assert!(run(&mut z.clone(), dim, 2, &mut state, true) < 256 * 64));
        }
        let z = check::random(rows, dim, 1);
        let with_shift = |shift: u32| {
            let (mut z, mut state) = (z.iter().map(|v| v << shift).collect::<Vec<_>>(), vec![0; state_len(dim)]);
            (run(&mut z, dim, 2, &mut state, true), z, state)
        };
        assert_eq!(with_shift(0), with_shift(9));
    }
}
