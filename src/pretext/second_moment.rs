//! Contrast by second moments: views of one sample attract, and all directions in which the stream already lies repel
//! (TiCo, Zhu et al. 2022, arXiv:2206.10698; the spectral contrastive loss of HaoChen et al. 2021 without its batch).
//!
//! For rows `v` around their running mean ([`super::centred`]) and the second moment `M` of the step's rows, the loss is
//! `mean (1 − v · v⁺) + ρ ‖M‖²`, and its gradient by a row `2 (2 ρ M v − v⁺)`: no exponential and no pairs of rows.
//!
//! TiCo keeps `M` from step to step. Here that fails: features turn to where the past did not lie, the past follows, and
//! the loss rises. Of `motion` over `uci_har` with 32 pairs in a step, the nearest-neighbour probe gave 81 % with `M` over 64
//! steps, 86 over 8 and 94 with the step's own; 84 untrained. So it needs a step of many samples, as all statistics do.
//!
//! How it fails: without the running mean the nearly parallel rows of a fresh net lie along the first direction of `M`
//! already and their gradient vanishes; with each row brought to length 1 around it, the least differences do, and the rank
//! falls just so. With a small ρ a few directions are enough. Rank and spread tell.

use super::centred::{self, CENTRED, CentredRows};
use super::unit::{dot, other_views};
use crate::net::arena::Arena;

/// ρ, the weight of the repulsion. Of 1, 2, 4 and 8 the one with the best probes, by little, in the same trial.
pub(crate) const WEIGHT: i64 = 2;

/// Working memory for at most `rows` embeddings.
pub struct Buffers<'m> {
    rows: CentredRows<'m>,
    /// `[dim, dim]`, Q26.
    moment: &'m mut [i32],
    wide: &'m mut [i64],
}

impl<'m> Buffers<'m> {
    pub fn take(rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        Buffers {
            rows: CentredRows::take(rows, dim, arena),
            moment: arena.take(dim * dim),
            wide: arena.take(rows * dim),
        }
    }
}

/// Numbers of state: age, mean `[dim]` Q22; all 0 at the start.
pub const fn state_len(dim: usize) -> usize {
    1 + dim
}

/// Loss in 1/256 (the mean square length of a row is 1), and gradient in the place of `z`, up to a positive factor common to
/// all rows.
///
/// `z`: `[rows, dim]` within ±2³⁰, any common scale; rows `i` and `j` are views of one sample where
/// `i / views == j / views`. `state` is changed only where `learn`.
#[inline(always)]
pub fn second_moment(z: &mut [i32], views: usize, state: &mut [i32], learn: bool, buffers: &mut Buffers) -> u32 {
    let dim = buffers.rows.dim();
    let count = z.len() / dim;
    let mut rows = buffers.rows.first(count);
    let wide = &mut buffers.wide[..count * dim];
    let [age, mean @ ..] = state else { return 0 };
    rows.set(z, mean, centred::pace(age, learn));
    let moment = &mut *buffers.moment;
    set_moment(moment, &rows);
    // ‖M‖² is at most the square of its trace, 1: Q52.
    let repulsion: i64 = moment.iter().map(|&m| i64::from(m) * i64::from(m)).sum();
    let mut attraction = 0i64;
    for (i, wide) in wide.chunks_exact_mut(dim).enumerate() {
        let unit = rows.row(i);
        let others = other_views(i, views).filter(|&j| j < count);
        let positives = others.clone().count().max(1) as i64;
        for ((k, w), line) in wide.iter_mut().enumerate().zip(moment.chunks_exact(dim)) {
            // 2^30 · 2^15 · 2^10 numbers, Q39.
            let moved: i64 = line.iter().zip(unit).map(|(&m, &v)| i64::from(m) * i64::from(v)).sum();
            let pull: i64 = others.clone().map(|j| i64::from(rows.row(j)[k])).sum();
            *w = 2 * WEIGHT * moved - (pull << (2 * CENTRED)) / positives;
        }
        attraction += others.map(|j| i64::from(dot(unit, rows.row(j)))).sum::<i64>() / positives;
    }
    rows.back(wide, z);
    let loss = (1 << (2 * CENTRED)) - attraction / count.max(1) as i64 + WEIGHT * (repulsion >> (2 * CENTRED));
    (loss >> (2 * CENTRED - 8)).clamp(0, i64::from(u32::MAX)) as u32
}

/// The second moment of this step's rows.
#[inline(always)]
fn set_moment(moment: &mut [i32], rows: &CentredRows) {
    let dim = rows.dim();
    let count = rows.rows().max(1) as i64;
    for (k, line) in moment.chunks_exact_mut(dim).enumerate() {
        for (l, m) in line.iter_mut().enumerate() {
            let products = rows.all().chunks_exact(dim).map(|v| i64::from(v[k]) * i64::from(v[l]));
            // The rows' mean square length is 1, and so is the largest mean of products: 2^26.
            *m = (products.sum::<i64>() / count) as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::centred::tests::centred;
    use super::super::check::{self, dot};
    use super::*;

    /// `mean (1 − v · v⁺) + ρ ‖M‖²`, from the formula: `‖M‖²` is the mean square of all products of rows.
    fn float_loss(v: &[Vec<f64>], views: usize) -> f64 {
        let rows = v.len() as f64;
        let mut loss = 0.0;
        for i in 0..v.len() {
            let positives = other_views(i, views);
            let pull: f64 = positives.clone().map(|j| dot(&v[i], &v[j])).sum::<f64>() / positives.count() as f64;
            let products: f64 = v.iter().map(|other| dot(&v[i], other).powi(2)).sum();
            loss += 1.0 - pull + WEIGHT as f64 * products / rows;
        }
        loss / rows
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
            let of = |z: &[f64]| float_loss(&centred(z, &exact, dim, &mean), views);
            let expected = of(&exact);
            assert!((f64::from(loss) / 256.0 - expected).abs() < 0.03, "{loss} {expected}");
            let slope = check::slope(&exact, of);
            let cosine = check::cosine(&z, &slope);
            assert!(cosine > 0.99, "{seed}: {cosine}");
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
