//! A linear probe taught while it runs: softmax regression by gradient steps, one labelled feature at a time.
//!
//! For controllers that are corrected as they go, and where there is no memory for prototypes: two bytes a weight.
//! Features are standardised by their running mean and mean absolute deviation, as numbers that are pooled from
//! different layers differ in size. Weights are `i16` masters; the exponential is the table that NT-Xent uses. Rounding
//! of the steps is random by (seed, step, element), so that steps smaller than a master's unit still count.

use super::{ProbeError, largest_of, of_class, of_length, within};
use crate::fixed::math::EXP_TABLE;
use crate::fixed::random::Draws;
use crate::fixed::{bit_length, round_random64, saturate_i16};
use crate::net::arena::Arena;
use crate::sample::Seed;

/// Fraction bits of a standardised number, which is within ±[`CLAMP`].
const INPUT_BITS: u32 = 5;
/// Four mean absolute deviations.
const CLAMP: i32 = 4 << INPUT_BITS;
/// Fraction bits of a weight.
const WEIGHT_BITS: u32 = 12;
/// Bits by which running means keep more than a mantissa.
const MEAN_BITS: u32 = 8;
/// Random tensor of the rounding.
const LINEAR: u32 = 0x901;

/// See the module.
pub struct Linear<'m> {
    seed: Seed,
    dim: usize,
    /// `[classes, dim + 1]`: the last is the bias.
    weights: &'m mut [i16],
    /// Running mean and mean absolute deviation of each number, in 1/256.
    mean: &'m mut [i16],
    spread: &'m mut [i16],
    /// The standardised feature, and 1.
    input: &'m mut [i8],
    /// Of each class: its score, then its probability less the target.
    scores: &'m mut [i32],
    taught: u64,
}

impl<'m> Linear<'m> {
    /// Takes the memory for features of `dim` numbers and `classes` classes.
    ///
    /// # Errors
    /// [`ProbeError::OutOfRange`].
    pub fn take(seed: Seed, dim: usize, classes: usize, arena: &mut Arena<'m>) -> Result<Self, ProbeError> {
        within("the length of a feature", dim, 1, 1 << 16)?;
        within("the number of classes", classes, 2, 1024)?;
        Ok(Linear {
            seed,
            dim,
            weights: arena.take(classes * (dim + 1)),
            mean: arena.take(dim),
            spread: arena.take(dim),
            input: arena.take(dim + 1),
            scores: arena.take(classes),
            taught: 0,
        })
    }

    /// One step towards saying `class` of `feature`.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`], [`ProbeError::Class`].
    pub fn learn(&mut self, feature: &[i8], class: usize) -> Result<(), ProbeError> {
        of_length(self.dim, feature)?;
        of_class(self.scores.len(), class)?;
        self.follow(feature);
        self.standardise(feature);
        self.score();
        // Scores to Q15 probabilities less the target: the gradient at the scores.
        let most = self.scores.iter().copied().max().unwrap_or(0);
        let mut sum = 0i64;
        for score in &mut *self.scores {
            // Steps of 1/32 nat.
            let below = ((most - *score) >> (INPUT_BITS + WEIGHT_BITS - 5)).min(255);
            *score = i32::from(EXP_TABLE[below as usize]);
            sum += i64::from(*score);
        }
        for (number, score) in self.scores.iter_mut().enumerate() {
            *score = ((i64::from(*score) << 15) / sum) as i32 - if number == class { 1 << 15 } else { 0 };
        }
        // A step is 1/(2 · numbers) at first, so that one feature's score moves by about half a nat, and falls with the
        // root of its age: in quarters of an octave it would be finer than the noise of a single feature.
        let age = bit_length((self.taught / 64) as u32) / 2;
        let shift = 15 + INPUT_BITS - WEIGHT_BITS + bit_length(self.dim as u32) + age;
        let draws = Draws::new(self.seed, self.taught, LINEAR);
        let rows = self.weights.chunks_exact_mut(self.dim + 1);
        for (number, (row, &error)) in rows.zip(&*self.scores).enumerate() {
            for (i, (w, &x)) in row.iter_mut().zip(&*self.input).enumerate() {
                let element = (number * (self.dim + 1) + i) as u32;
                let step = round_random64(i64::from(error) * i64::from(x), shift, draws, element);
                *w = saturate_i16(i32::from(*w) - step as i32);
            }
        }
        self.taught += 1;
        Ok(())
    }

    /// The class that it says; `None` before anything was taught.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`].
    pub fn predict(&mut self, feature: &[i8]) -> Result<Option<usize>, ProbeError> {
        of_length(self.dim, feature)?;
        if self.taught == 0 {
            return Ok(None);
        }
        self.standardise(feature);
        self.score();
        Ok(largest_of(self.scores.iter().map(|&score| i64::from(score))))
    }

    /// Lets means and deviations follow: as averages at first, then by 1/256.
    fn follow(&mut self, feature: &[i8]) {
        let share = (self.taught + 1).min(256) as i32;
        for ((mean, spread), &v) in self.mean.iter_mut().zip(&mut *self.spread).zip(feature) {
            let v = i32::from(v) << MEAN_BITS;
            *mean = (i32::from(*mean) + (v - i32::from(*mean)) / share) as i16;
            let apart = (v - i32::from(*mean)).abs();
            *spread = (i32::from(*spread) + (apart - i32::from(*spread)) / share).min(32767) as i16;
        }
    }

    fn standardise(&mut self, feature: &[i8]) {
        for (x, ((&v, &mean), &spread)) in self.input.iter_mut().zip(feature.iter().zip(&*self.mean).zip(&*self.spread))
        {
            let apart = (i32::from(v) << MEAN_BITS) - i32::from(mean);
            // A number that hardly ever moves is not blown up: half a mantissa is the least deviation.
            let spread = i32::from(spread).max(1 << (MEAN_BITS - 1));
            *x = ((apart << INPUT_BITS) / spread).clamp(-CLAMP, CLAMP - 1) as i8;
        }
        self.input[self.dim] = 1 << INPUT_BITS;
    }

    /// Scores, in 2^-([`INPUT_BITS`] + [`WEIGHT_BITS`]) nat, within 2^30.
    fn score(&mut self) {
        for (score, row) in self.scores.iter_mut().zip(self.weights.chunks_exact(self.dim + 1)) {
            let sum: i64 = row.iter().zip(&*self.input).map(|(&w, &x)| i64::from(w) * i64::from(x)).sum();
            *score = sum.clamp(-(1 << 30), 1 << 30) as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{block_len, over};

    const DIM: usize = 20;

    /// Three classes that differ in means of very different sizes.
    fn sample(n: u32) -> ([i8; DIM], usize) {
        let draws = Draws::new(Seed(6), u64::from(n), 0);
        let class = draws.below(0, 3) as usize;
        let number = |k: usize| {
            let size = if k < DIM / 2 { 1 } else { 12 };
            20 + size * (draws.between(1 + k as u32, -3, 3) + if k % 3 == class { 2 } else { 0 })
        };
        (core::array::from_fn(|k| number(k) as i8), class)
    }

    fn with<R>(act: impl FnOnce(&mut Linear) -> R) -> R {
        let mut memory = vec![0; block_len(|arena| Linear::take(Seed(1), DIM, 3, arena)).expect("a sound shape")];
        act(&mut over(&mut memory, |arena| Linear::take(Seed(1), DIM, 3, arena)).expect("enough memory"))
    }

    /// Softmax regression in `f64`, many passes over the same features.
    fn in_float(rows: &[([i8; DIM], usize)], test: &[([i8; DIM], usize)]) -> usize {
        let x = |f: &[i8; DIM]| f.map(|v| (f64::from(v) - 20.0) / 12.0);
        let mut w = [[0.0f64; DIM]; 3];
        let scores =
            |w: &[[f64; DIM]; 3], f: &[f64; DIM]| w.map(|row| row.iter().zip(f).map(|(a, b)| a * b).sum::<f64>());
        for _ in 0..200 {
            for (f, class) in rows {
                let (f, class) = (x(f), *class);
                let e = scores(&w, &f).map(f64::exp);
                for (k, row) in w.iter_mut().enumerate() {
                    let error = e[k] / e.iter().sum::<f64>() - f64::from(u8::from(k == class));
                    row.iter_mut().zip(f).for_each(|(w, v)| *w -= 0.02 * error * v);
                }
            }
        }
        let best = |s: [f64; 3]| (0..3).max_by(|&a, &b| s[a].total_cmp(&s[b])).unwrap_or(0);
        test.iter().filter(|(f, class)| best(scores(&w, &x(f))) == *class).count()
    }

    #[test]
    fn one_pass_comes_near_to_a_regression_in_float() {
        let part = |range: core::ops::Range<u32>| range.map(sample).collect::<Vec<_>>();
        let (rows, test) = (part(0..2000), part(9000..10_000));
        let own = with(|linear| {
            assert_eq!(linear.predict(&rows[0].0), Ok(None));
            rows.iter().for_each(|(f, class)| linear.learn(f, *class).expect("a feature"));
            test.iter().filter(|(f, class)| linear.predict(f) == Ok(Some(*class))).count()
        });
        let float = in_float(&rows, &test);
        assert!(own + 30 > float && own > 600, "{own} {float}");
    }

    #[test]
    fn it_follows_when_what_a_class_looks_like_changes() {
        with(|linear| {
            (0..1000).map(sample).for_each(|(f, class)| linear.learn(&f, class).expect("a feature"));
            (1000..4000).map(sample).for_each(|(f, class)| linear.learn(&f, (class + 1) % 3).expect("a feature"));
            let right =
                (9000..9500).map(sample).filter(|(f, class)| linear.predict(f) == Ok(Some((class + 1) % 3))).count();
            assert!(right > 300, "{right}");
        });
    }

    #[test]
    fn constant_and_extreme_features_do_no_harm() {
        with(|linear| {
            for n in 0..3000usize {
                let feature = [[0i8; DIM], [127; DIM], [-127; DIM]][n % 3];
                linear.learn(&feature, n % 3).expect("a feature");
            }
            let answers = [[0i8; DIM], [127; DIM], [-127; DIM]].map(|f| linear.predict(&f));
            assert_eq!(answers[1..], [Ok(Some(1)), Ok(Some(2))]);
        });
    }
}
