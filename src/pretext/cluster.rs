//! Pseudo-labels by online clustering: each view is assigned to prototypes, evenly over all of them, and the other views
//! of its sample are to be assigned likewise (SwAV, Caron et al. 2020, arXiv:2006.09882).
//!
//! Assignment is Sinkhorn and Knopp's, in its dual form: every prototype has a price, and a step raises the prices of those
//! that have more than their share. A step has fewer rows than there are prototypes, so prices and the use of the last
//! `4 · prototypes` rows are kept from step to step, as SwAV keeps a queue of embeddings. Rows are centred by their running
//! mean ([`super::centred`]), for a fresh net's rows would all prefer the same prototype by the same amount.
//!
//! How it fails: prototypes that lie together share their rows at will, and the rank falls to that of the prototypes (near
//! 2 in a float trial without the centring); without the prices all rows go to one.

use super::centred::{self, CENTRED, CentredRows};
use super::softmax::{LN2_Q16, PROBABILITY, Temperature, softmax};
use super::unit::{UNIT, UnitRows, dot, other_views};
use crate::fixed::math::{isqrt, log2_q8};
use crate::fixed::random::Draws;
use crate::net::arena::Arena;
use crate::sample::Seed;

/// Predictions are at a temperature of 1/8.
pub(crate) const TEMPERATURE_SHIFT: u32 = 3;
/// Codes are at a temperature of 1/16.
pub(crate) const CODE_SHIFT: u32 = 4;
/// Times that the prices are balanced in a step.
pub(crate) const ROUNDS: usize = 3;
/// Rows, for each prototype, whose use is remembered.
pub(crate) const REMEMBERED: i64 = 4;
/// Fraction bits of a prototype's numbers.
const PROTOTYPE: u32 = 24;
/// A step moves a prototype by 1/32 of the mean error that falls to it.
pub(crate) const RATE_SHIFT: u32 = 5;
/// Fraction bits of a score, a centred row times a prototype: at most 4.
const SCORE: u32 = CENTRED + UNIT;
/// Prices are at most as large as scores.
const MOST_PRICE: i64 = 1 << 29;

/// Working memory for at most `rows` embeddings.
pub struct Buffers<'m> {
    rows: CentredRows<'m>,
    prototypes: UnitRows<'m>,
    price: &'m mut [i32],
    /// Rows of each prototype, Q15.
    mass: &'m mut [i64],
    /// `[rows, prototypes]`: scores Q27, then errors Q15.
    scores: &'m mut [i32],
    /// `[rows, prototypes]`, Q15.
    codes: &'m mut [i32],
    wide: &'m mut [i64],
}

impl<'m> Buffers<'m> {
    pub fn take(rows: usize, dim: usize, prototypes: usize, arena: &mut Arena<'m>) -> Self {
        Buffers {
            rows: CentredRows::take(rows, dim, arena),
            prototypes: UnitRows::take(prototypes, dim, arena),
            price: arena.take(prototypes),
            mass: arena.take(prototypes),
            scores: arena.take(rows * prototypes),
            codes: arena.take(rows * prototypes),
            wide: arena.take(rows * dim),
        }
    }
}

/// Numbers of state: age, mean `[dim]` Q22, prices `[prototypes]` Q27, use `[prototypes]` Q15, prototypes
/// `[prototypes, dim]` Q24; all 0 at the start.
pub const fn state_len(dim: usize, prototypes: usize) -> usize {
    1 + dim + 2 * prototypes + prototypes * dim
}

/// Prototypes as they start, of random signs: the same in every learner, whose embeddings differ.
pub(crate) fn start(prototypes: &mut [i32], dim: usize) {
    let draws = Draws::new(Seed(0), 0, 0);
    let side = (1 << PROTOTYPE) / isqrt(dim as u64).max(1) as i32;
    for (n, v) in prototypes.iter_mut().enumerate() {
        *v = if draws.chance(n as u32, 128) { side } else { -side };
    }
}

/// The parts of the state.
struct State<'a> {
    age: &'a mut i32,
    mean: &'a mut [i32],
    price: &'a mut [i32],
    used: &'a mut [i32],
    prototypes: &'a mut [i32],
}

impl<'a> State<'a> {
    fn of(state: &'a mut [i32], dim: usize, prototypes: usize) -> Option<Self> {
        let (age, rest) = state.split_first_mut()?;
        let (mean, rest) = rest.split_at_mut_checked(dim)?;
        let (price, rest) = rest.split_at_mut_checked(prototypes)?;
        let (used, prototypes) = rest.split_at_mut_checked(prototypes)?;
        Some(State { age, mean, price, used, prototypes })
    }
}

/// Loss, mean cross-entropy with the other views' codes in 1/256 nat, and its gradient in the place of `z`, up to a
/// positive factor common to all rows. Codes are constants for it.
///
/// `z`: `[rows, dim]` within ±2³⁰, any common scale; rows `i` and `j` are views of one sample where
/// `i / views == j / views`. At most 2¹⁴ rows, 2¹⁰ numbers and 2¹² prototypes. `state` is changed only where `learn`.
#[inline(always)]
pub fn swapped(z: &mut [i32], views: usize, state: &mut [i32], learn: bool, buffers: &mut Buffers) -> u32 {
    let (dim, clusters) = (buffers.rows.dim(), buffers.prototypes.rows());
    let count = z.len() / dim;
    let Some(state) = State::of(state, dim, clusters) else { return 0 };
    let mut rows = buffers.rows.first(count);
    let (scores, codes) = (&mut buffers.scores[..count * clusters], &mut buffers.codes[..count * clusters]);
    if learn && *state.age == 0 {
        start(state.prototypes, dim);
    }
    let pace = centred::pace(state.age, learn);
    rows.set(z, state.mean, pace);
    buffers.prototypes.set(state.prototypes);
    for (i, scores) in scores.chunks_exact_mut(clusters).enumerate() {
        scores.iter_mut().enumerate().for_each(|(k, s)| *s = dot(rows.row(i), buffers.prototypes.row(k)));
    }
    buffers.price.copy_from_slice(state.price);
    balance(scores, codes, buffers.price, state.used, buffers.mass);
    let loss = errors(scores, codes, clusters, views);
    let wide = &mut buffers.wide[..count * dim];
    for (wide, errors) in wide.chunks_exact_mut(dim).zip(scores.chunks_exact(clusters)) {
        wide.fill(0);
        for (k, &error) in errors.iter().enumerate().filter(|(_, e)| **e != 0) {
            // 2^15 · 2^14 · 2^12 prototypes.
            let prototype = buffers.prototypes.row(k);
            wide.iter_mut().zip(prototype).for_each(|(w, &c)| *w += i64::from(error) * i64::from(c));
        }
    }
    if learn {
        state.price.copy_from_slice(buffers.price);
        let window = REMEMBERED * clusters as i64;
        for (used, &mass) in state.used.iter_mut().zip(&*buffers.mass) {
            // Of at most 4 · 2^12 + 2^14 rows: 2^30. What is kept is at most 2^29.
            *used = (mass * window / (window + count as i64)) as i32;
        }
        follow(state.prototypes, &rows, scores, clusters);
    }
    rows.back(wide, z);
    loss
}

/// Balances the prices over the rows of this step and the use of the last ones; leaves the codes, and the mass of each
/// prototype.
#[inline(always)]
fn balance(scores: &[i32], codes: &mut [i32], price: &mut [i32], used: &[i32], mass: &mut [i64]) {
    let clusters = price.len();
    for round in 0..=ROUNDS {
        mass.iter_mut().zip(used).for_each(|(m, &u)| *m = i64::from(u.clamp(0, 1 << 29)));
        for (codes, scores) in codes.chunks_exact_mut(clusters).zip(scores.chunks_exact(clusters)) {
            // 2^29 each.
            codes.iter_mut().zip(scores).zip(&*price).for_each(|((q, &s), &p)| *q = s - p);
            softmax(codes, Temperature::nats(SCORE - CODE_SHIFT));
            mass.iter_mut().zip(&*codes).for_each(|(m, &q)| *m += i64::from(q));
        }
        if round == ROUNDS {
            break;
        }
        let total: i64 = mass.iter().sum::<i64>().max(1);
        let mut sum = 0;
        for (p, &m) in price.iter_mut().zip(&*mass) {
            // The share of the even one, Q16: 2^30 · 2^12 · 2^16 fits 64 bits. Its logarithm in 1/256 nat, times the
            // temperature, in Q27.
            let share = ((m.max(1) as u64 * clusters as u64) << 16) / total as u64;
            let octaves = i64::from(log2_q8(share.max(1))) - (16 << 8);
            let nats = (octaves * LN2_Q16 as i64) >> 16;
            *p = (i64::from(*p) + (nats << (SCORE - 8 - CODE_SHIFT))).clamp(-MOST_PRICE, MOST_PRICE) as i32;
            sum += i64::from(*p);
        }
        // Only their differences count.
        let mean = (sum / clusters.max(1) as i64) as i32;
        price.iter_mut().for_each(|p| *p = (*p - mean).clamp(-MOST_PRICE as i32, MOST_PRICE as i32));
    }
}

/// Turns scores into errors, prediction less the other views' code, Q15. Returns the mean loss.
#[inline(always)]
fn errors(scores: &mut [i32], codes: &[i32], clusters: usize, views: usize) -> u32 {
    let temperature = Temperature::nats(SCORE - TEMPERATURE_SHIFT);
    let count = scores.len() / clusters;
    let mut loss = 0u64;
    for (i, row) in scores.chunks_exact_mut(clusters).enumerate() {
        let others = other_views(i, views).filter(|&j| j < count);
        let positives = others.clone().count().max(1) as i64;
        let code = |k: usize| others.clone().map(|j| i64::from(codes[j * clusters + k])).sum::<i64>() / positives;
        // A code sums to at most 2^15: 2^45.
        let target: i64 = row.iter().enumerate().map(|(k, &s)| code(k) * i64::from(s)).sum();
        let whole: i64 = (0..clusters).map(code).sum::<i64>().max(1);
        let of = softmax(row, temperature);
        loss += temperature.nats_q8(of.max.abs_diff((target / whole) as i32)) + u64::from(of.log_sum);
        row.iter_mut().enumerate().for_each(|(k, s)| *s -= code(k) as i32);
    }
    (loss / count.max(1) as u64) as u32
}

/// Moves the prototypes down their own gradient, by `1 / RATE` of the error of an even share of the rows.
#[inline(always)]
fn follow(prototypes: &mut [i32], rows: &CentredRows, errors: &[i32], clusters: usize) {
    let (unit, dim) = (rows, rows.dim());
    let share = unit.rows().max(1) as i64;
    for (k, prototype) in prototypes.chunks_exact_mut(dim).enumerate() {
        let mut square = 0u64;
        for (l, c) in prototype.iter_mut().enumerate() {
            // 2^15 · 2^14 · 2^14 rows · 2^12 prototypes, Q28 to Q24.
            let pairs = unit.all()[l..].iter().step_by(dim).zip(errors[k..].iter().step_by(clusters));
            let sum: i64 = pairs.map(|(&u, &e)| i64::from(u) * i64::from(e)).sum();
            let step = (sum * clusters as i64 / share) >> (PROBABILITY + CENTRED - PROTOTYPE + RATE_SHIFT);
            *c = (i64::from(*c) - step).clamp(-(1 << 26), 1 << 26) as i32;
            // 2^52 · 2^10 numbers.
            square += u64::from(c.unsigned_abs()).pow(2);
        }
        let norm = i64::from(isqrt(square)).max(1);
        prototype.iter_mut().for_each(|c| *c = ((i64::from(*c) << PROTOTYPE) / norm) as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::super::centred::tests::centred;
    use super::super::check;
    use super::*;

    const CLUSTERS: usize = 12;

    fn run(z: &mut [i32], dim: usize, views: usize, state: &mut [i32], learn: bool) -> u32 {
        let mut memory = vec![0; 1 << 17];
        let mut buffers = Buffers::take(z.len() / dim, dim, CLUSTERS, &mut Arena::over(&mut memory));
        swapped(z, views, state, learn, &mut buffers)
    }

    fn fresh(dim: usize) -> Vec<i32> {
        vec![0; state_len(dim, CLUSTERS)]
    }

    /// What the float formulas read of a state.
    struct Exact {
        mean: Vec<f64>,
        price: Vec<f64>,
        used: Vec<f64>,
        prototypes: Vec<Vec<f64>>,
    }

    impl Exact {
        fn of(state: &[i32], dim: usize) -> Self {
            let part = |from: usize, len: usize, one: f64| -> Vec<f64> {
                state[from..from + len].iter().map(|&v| f64::from(v) / one).collect()
            };
            Exact {
                mean: part(1, dim, 4_194_304.0),
                price: part(1 + dim, CLUSTERS, 134_217_728.0),
                used: part(1 + dim + CLUSTERS, CLUSTERS, 32768.0),
                prototypes: check::unit(&part(1 + dim + 2 * CLUSTERS, CLUSTERS * dim, 1.0), dim),
            }
        }

        fn scores(&self, z: &[f64], from: &[f64], dim: usize) -> Vec<Vec<f64>> {
            let score = |v: &Vec<f64>| self.prototypes.iter().map(|c| check::dot(c, v)).collect();
            centred(z, from, dim, &self.mean).iter().map(score).collect()
        }

        /// Sinkhorn and Knopp on the matrix itself, with the past's use added to the columns.
        fn codes(&self, scores: &[Vec<f64>]) -> Vec<Vec<f64>> {
            let mut weight: Vec<f64> = self.price.iter().map(|p| (-16.0 * p).exp()).collect();
            let mut codes = Vec::new();
            for round in 0..=ROUNDS {
                codes = scores.iter().map(|row| share(row, 16.0, &weight)).collect();
                let mass = |k: usize| self.used[k] + codes.iter().map(|q| q[k]).sum::<f64>();
                let total: f64 = (0..CLUSTERS).map(mass).sum();
                if round < ROUNDS {
                    weight.iter_mut().enumerate().for_each(|(k, w)| *w *= total / CLUSTERS as f64 / mass(k));
                }
            }
            codes
        }

        fn loss(&self, scores: &[Vec<f64>], views: usize, codes: &[Vec<f64>]) -> f64 {
            let row = |i: usize| {
                let p = share(&scores[i], 8.0, &[1.0; CLUSTERS]);
                let others = other_views(i, views);
                let one = |j: usize| -codes[j].iter().zip(&p).map(|(q, p)| q * p.ln()).sum::<f64>();
                others.clone().map(one).sum::<f64>() / others.count() as f64
            };
            (0..scores.len()).map(row).sum::<f64>() / scores.len() as f64
        }
    }

    /// Softmax of `row · inverse` with weights.
    fn share(row: &[f64], inverse: f64, weight: &[f64]) -> Vec<f64> {
        let of: Vec<f64> = row.iter().zip(weight).map(|(s, w)| (s * inverse).exp() * w).collect();
        let total: f64 = of.iter().sum();
        of.iter().map(|v| v / total).collect()
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_float_formula() {
        for (seed, rows, dim, views, offset) in [(1, 8, 6, 2, 0), (2, 12, 16, 3, 20_000), (3, 32, 24, 2, 100_000)] {
            let mut state = fresh(dim);
            for past in 0..20 {
                run(&mut check::clustered(rows, dim, views, 4, offset, 100 + past), dim, views, &mut state, true);
            }
            let before = state.clone();
            let mut z = check::clustered(rows, dim, views, 4, offset, seed);
            let exact = check::float(&z);
            let loss = run(&mut z, dim, views, &mut state, false);
            assert_eq!(state, before);
            let of = Exact::of(&state, dim);
            let scores = |z: &[f64]| of.scores(z, &exact, dim);
            let codes = of.codes(&scores(&exact));
            let expected = of.loss(&scores(&exact), views, &codes);
            assert!((f64::from(loss) / 256.0 - expected).abs() < 0.08, "{loss} {expected}");
            let cosine = check::cosine(&z, &check::slope(&exact, |z| of.loss(&scores(z), views, &codes)));
            assert!(cosine > 0.99, "{seed}: {cosine}");
        }
    }

    #[test]
    fn all_prototypes_are_used_alike_even_by_one_sample_a_step() {
        for rows in [2, 16] {
            let dim = 16;
            let mut state = fresh(dim);
            for step in 0..600 {
                // Four kinds of samples, one of them as frequent as the others together.
                let kind = [0, 0, 0, 1, 2, 3][step as usize % 6];
                let mut z = check::clustered(1, dim, 1, 0, 0, kind).repeat(rows);
                z.iter_mut().zip(check::random(rows, dim, 50 + step)).for_each(|(z, noise)| *z += noise / 4);
                run(&mut z, dim, 2, &mut state, true);
            }
            let used = &state[1 + dim + CLUSTERS..1 + dim + 2 * CLUSTERS];
            let mean = used.iter().sum::<i32>() / CLUSTERS as i32;
            assert!(used.iter().all(|&u| u > mean / 3 && u < 3 * mean), "{rows}: {used:?}");
        }
    }

    #[test]
    fn prototypes_keep_their_length() {
        let dim = 16;
        let mut state = fresh(dim);
        (0..100).for_each(|step| _ = run(&mut check::random(8, dim, step), dim, 2, &mut state, true));
        for prototype in state[1 + dim + 2 * CLUSTERS..].chunks(dim) {
            let norm = check::float(prototype).iter().map(|v| v * v).sum::<f64>().sqrt() / f64::from(1 << 24);
            assert!((norm - 1.0).abs() < 1e-3, "{norm}");
        }
    }

    #[test]
    fn extreme_rows_and_states_are_borne_and_scale_does_not_matter() {
        let (rows, dim) = (8, 16);
        for z in check::extremes(rows, dim) {
            for start in [0, i32::MAX >> 1, i32::MIN >> 1] {
                let mut state = vec![start; state_len(dim, CLUSTERS)];
                run(&mut z.clone(), dim, 2, &mut state, false);
            }
            let mut state = fresh(dim);
            (0..3).for_each(|_| assert!(run(&mut z.clone(), dim, 2, &mut state, true) < 256 * 32));
        }
        let with_shift = |shift: u32| {
            let mut z: Vec<i32> = check::random(rows, dim, 1).iter().map(|v| v << shift).collect();
            let mut state = fresh(dim);
            (run(&mut z, dim, 2, &mut state, true), z, state)
        };
        assert_eq!(with_shift(0), with_shift(9));
    }
}
