//! Prototypes: a mean for each class and a covariance that all share, as in streaming linear discriminant analysis
//! (Hayes and Kanan 2020, arXiv:1909.01520), taught one labelled feature at a time.
//!
//! What is kept are sums: of the features of each class, and of the products of every two numbers of a feature. All
//! are exact integers, so the order of teaching does not matter, and what was taught can be taken back
//! ([`Prototypes::forget`]), which is how a bank of labelled samples follows an encoder that changes.
//! [`Prototypes::relearn`] makes the discriminant from them: covariance within classes, scaled to correlations, shrunk
//! and solved by Cholesky in fixed point ([`super::factor`]).
//!
//! Memory grows with the square of `width`. A feature that is longer is sketched to it ([`super::sketch`]): a diagonal
//! covariance would fit too, but loses what the covariance is for, as numbers pooled from overlapping cells are anything
//! but independent.

use super::factor::{self, MOST_WIDTH, row, triangle};
use super::sketch::Sketch;
use super::{ProbeError, of_class, of_length, within};
use crate::fixed::bit_length64;
use crate::fixed::math::isqrt;
use crate::kernels::Kernels;
use crate::kernels::tile::{Isa, Work};
use crate::net::arena::Arena;

/// Labelled features whose sums 32 bits hold: 127² · 2¹⁷ < 2³¹.
pub const MOST_TAUGHT: u32 = 1 << 17;
/// Bits of the discriminant's largest weight.
const WEIGHT_BITS: u32 = 20;
/// Fraction bits of means.
const MEAN_BITS: u32 = 16;
/// Fraction bits of sums of squares around the means.
const SQUARE_BITS: u32 = 12;

/// See the module.
pub struct Prototypes<'m> {
    kernels: Kernels,
    sketch: Sketch,
    classes: usize,
    /// Features taught, a class.
    counts: &'m mut [u32],
    /// `[classes, width]`, and `[width]` for all classes together.
    sums: &'m mut [i32],
    all: &'m mut [i32],
    /// Lower triangle `[width, width]`.
    products: &'m mut [i32],
    /// Room for the correlations and their factor.
    factor: &'m mut [i32],
    /// 1 by the deviations, with a common factor; from 2^21 to 2^30.
    inverses: &'m mut [u32],
    /// `[classes, width]`: the discriminant, with one common factor.
    weights: &'m mut [i32],
    /// What is taken from the score of each class, in the unit of weight times feature.
    bias: &'m mut [i64],
    /// A sketch, and the sums that it is made from.
    short: &'m mut [i8],
    sketched: &'m mut [i32],
}

impl<'m> Prototypes<'m> {
    /// Takes the memory for `classes` classes of features of `dim` numbers, of which `width` are kept.
    ///
    /// # Errors
    /// [`ProbeError::OutOfRange`].
    pub fn take(
        kernels: Kernels,
        dim: usize,
        width: usize,
        classes: usize,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ProbeError> {
        within("the length of a feature", dim, 1, 1 << 20)?;
        within("the width of prototypes", width, 1, MOST_WIDTH)?;
        within("the number of classes", classes, 1, 1024)?;
        let sketch = Sketch::new(dim, width);
        let width = sketch.width();
        Ok(Prototypes {
            kernels,
            sketch,
            classes,
            counts: arena.take(classes),
            sums: arena.take(classes * width),
            all: arena.take(width),
            products: arena.take(triangle(width)),
            factor: arena.take(triangle(width)),
            inverses: arena.take(width),
            weights: arena.take(classes * width),
            bias: arena.take(classes),
            short: arena.take(width),
            sketched: arena.take(sketch.sums_len()),
        })
    }

    /// Features taught, a class.
    pub fn counts(&self) -> &[u32] {
        self.counts
    }

    /// Teaches that `feature` is of `class`. Answers follow it after [`Prototypes::relearn`].
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`], [`ProbeError::Class`], or [`ProbeError::Full`] after [`MOST_TAUGHT`] features.
    pub fn learn(&mut self, feature: &[i8], class: usize) -> Result<(), ProbeError> {
        if self.counts.iter().sum::<u32>() >= MOST_TAUGHT {
            return Err(ProbeError::Full { most: MOST_TAUGHT });
        }
        self.take_in(feature, class, 1)
    }

    /// Takes back what [`Prototypes::learn`] was taught: as if it had never been.
    ///
    /// # Errors
    /// As [`Prototypes::learn`]; [`ProbeError::NotTaught`] where nothing is left of `class`.
    pub fn forget(&mut self, feature: &[i8], class: usize) -> Result<(), ProbeError> {
        if self.counts.get(class) == Some(&0) {
            return Err(ProbeError::NotTaught { class });
        }
        self.take_in(feature, class, -1)
    }

    fn take_in(&mut self, feature: &[i8], class: usize, sign: i32) -> Result<(), ProbeError> {
        of_length(self.sketch.dim(), feature)?;
        of_class(self.classes, class)?;
        self.sketch.of(feature, self.sketched, self.short);
        let width = self.sketch.width();
        self.counts[class] = self.counts[class].wrapping_add_signed(sign);
        let sums = &mut self.sums[class * width..][..width];
        for ((sum, all), &v) in sums.iter_mut().zip(&mut *self.all).zip(&*self.short) {
            *sum += sign * i32::from(v);
            *all += sign * i32::from(v);
        }
        self.kernels.run(Products { sums: self.products, feature: self.short, sign });
        Ok(())
    }

    /// Makes the discriminant from all that was taught. `width³ / 6` multiply-adds, some `width²` divisions.
    pub fn relearn(&mut self) {
        let width = self.sketch.width();
        self.bias.fill(0);
        self.weights.fill(0);
        let taught: u32 = self.counts.iter().sum();
        if taught == 0 {
            return;
        }
        self.correlate(taught);
        let share = factor::shrinkage(width, taught);
        factor::factor(self.kernels, self.factor, width, share);

        // Right sides: how far each mean is from the middle of all, in deviations; twice, for their common shift.
        let longest = (0..self.classes).map(|class| {
            (0..width).map(|i| u128::from(self.apart(class, i, taught).unsigned_abs()).pow(2)).sum::<u128>()
        });
        let shift = factor::shift_of_length(longest.max().unwrap_or(0));
        for class in 0..self.classes {
            for i in 0..width {
                self.weights[class * width + i] = (self.apart(class, i, taught) >> shift) as i32;
            }
            factor::solve(self.factor, width, &mut self.weights[class * width..][..width]);
        }

        // Back from deviations to the feature's own unit.
        let places = || self.weights.chunks_exact(width).flat_map(|row| row.iter().zip(&*self.inverses));
        let back = |(&w, &inverse): (&i32, &u32)| i64::from(w) * i64::from(inverse);
        let most = places().map(|place| back(place).unsigned_abs()).max().unwrap_or(0);
        let shift = bit_length64(most).saturating_sub(WEIGHT_BITS);
        for row in self.weights.chunks_exact_mut(width) {
            for (w, inverse) in row.iter_mut().zip(&*self.inverses) {
                *w = (back((w, inverse)) >> shift) as i32;
            }
        }
        for class in 0..self.classes {
            // Halfway between the class and the middle of all, where both are as likely.
            let halfway = |i: usize| (self.mean(class, i) + self.middle(i, taught)) >> 1;
            let weights = &self.weights[class * width..][..width];
            let sum: i64 = weights.iter().enumerate().map(|(i, &w)| i64::from(w) * halfway(i)).sum();
            self.bias[class] = sum >> MEAN_BITS;
        }
    }

    /// Mean of number `i` over `class`, in 2^-[`MEAN_BITS`].
    fn mean(&self, class: usize, i: usize) -> i64 {
        let sum = i64::from(self.sums[class * self.sketch.width() + i]) << MEAN_BITS;
        sum.checked_div(i64::from(self.counts[class])).unwrap_or(0)
    }

    /// Mean of number `i` over all that was taught.
    fn middle(&self, i: usize, taught: u32) -> i64 {
        (i64::from(self.all[i]) << MEAN_BITS) / i64::from(taught)
    }

    /// Number `i` of the way from the middle of all to the mean of `class`, in deviations; within 2^32.
    fn apart(&self, class: usize, i: usize, taught: u32) -> i64 {
        if self.counts[class] == 0 {
            return 0;
        }
        ((self.mean(class, i) - self.middle(i, taught)) * i64::from(self.inverses[i])) >> 22
    }

    /// Fills `factor` with the correlations within classes, Q30, and `inverses` with what they were scaled by.
    fn correlate(&mut self, taught: u32) {
        let width = self.sketch.width();
        let (sums, counts, products) = (&*self.sums, &*self.counts, &*self.products);
        // Sums of products around the means of the classes, within 2^43.
        let around = |i: usize, j: usize| {
            let of_class = |(class, &n): (usize, &u32)| {
                let sum = |k: usize| i64::from(sums[class * width + k]);
                ((sum(i) * sum(j)) << SQUARE_BITS).checked_div(i64::from(n)).unwrap_or(0)
            };
            (i64::from(products[row(i) + j]) << SQUARE_BITS) - counts.iter().enumerate().map(of_class).sum::<i64>()
        };
        // A mantissa's own rounding, 1/12 of a step squared, is in each variance.
        let rounding = (i64::from(taught) << SQUARE_BITS) / 12;
        let variance = |i: usize| (around(i, i).max(0) + rounding) as u64;
        let largest = (0..width).map(variance).max().unwrap_or(1);
        // From 1/12 to 127² a sample: the roots are from 2^22 to 2^31.
        let shift = (62 - bit_length64(largest)) & !1;
        for i in 0..width {
            self.inverses[i] = ((1u64 << 52) / u64::from(isqrt(variance(i) << shift))) as u32;
        }
        for i in 0..width {
            let own = i128::from(self.inverses[i]);
            for j in 0..i {
                let r = (i128::from(around(i, j)) * own * i128::from(self.inverses[j])) >> (104 - 30 - shift);
                // Within 1, but for the rounding of the roots.
                self.factor[row(i) + j] = r.clamp(-(1 << 30), 1 << 30) as i32;
            }
            self.factor[row(i) + i] = 1 << 30;
        }
    }

    /// How much speaks for each class that was taught, by the last discriminant; `each` gets class and score.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`].
    pub fn scores(&mut self, feature: &[i8], mut each: impl FnMut(usize, i64)) -> Result<(), ProbeError> {
        of_length(self.sketch.dim(), feature)?;
        self.sketch.of(feature, self.sketched, self.short);
        for (class, weights) in self.weights.chunks_exact(self.sketch.width()).enumerate() {
            if self.counts[class] > 0 {
                let sum: i64 = weights.iter().zip(&*self.short).map(|(&w, &v)| i64::from(w) * i64::from(v)).sum();
                each(class, sum - self.bias[class]);
            }
        }
        Ok(())
    }

    /// The class that most speaks for; `None` where nothing was taught. All classes count as equally frequent, as a few
    /// labels say nothing of how often their classes will come.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`].
    pub fn predict(&mut self, feature: &[i8]) -> Result<Option<usize>, ProbeError> {
        let mut best: Option<(usize, i64)> = None;
        self.scores(feature, |class, score| {
            if best.is_none_or(|(_, most)| score > most) {
                best = Some((class, score));
            }
        })?;
        Ok(best.map(|(class, _)| class))
    }
}

/// Adds the products of every two numbers of a feature.
struct Products<'a> {
    sums: &'a mut [i32],
    feature: &'a [i8],
    sign: i32,
}

impl Work for Products<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        for (i, &own) in self.feature.iter().enumerate() {
            let own = self.sign * i32::from(own);
            if own != 0 {
                let sums = &mut self.sums[row(i)..=row(i) + i];
                sums.iter_mut().zip(self.feature).for_each(|(sum, &v)| *sum += own * i32::from(v));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Features, Labelled, Options, Quality, Targets, evaluate};
    use crate::fixed::random::Draws;
    use crate::probe::{block_len, over};
    use crate::sample::Seed;

    const DIM: usize = 24;
    const CLASSES: usize = 3;

    /// Features whose classes differ by less than what all their numbers share.
    fn sample(n: u32) -> ([i8; DIM], usize) {
        let draws = Draws::new(Seed(11), u64::from(n), 0);
        let class = draws.below(0, CLASSES as u32) as usize;
        let shared = draws.between(1, -40, 40);
        let feature = core::array::from_fn(|k| {
            let own = if k % CLASSES == class { 6 } else { 0 };
            (30 + shared + own + draws.between(2 + k as u32, -9, 9)) as i8
        });
        (feature, class)
    }

    fn with<R>(width: usize, act: impl FnOnce(&mut Prototypes) -> R) -> R {
        let kernels = Kernels::detect();
        let len = block_len(|arena| Prototypes::take(kernels, DIM, width, CLASSES, arena)).expect("a sound shape");
        let mut memory = vec![0; len];
        let taken = over(&mut memory, |arena| Prototypes::take(kernels, DIM, width, CLASSES, arena));
        act(&mut taken.expect("enough memory"))
    }

    fn right(prototypes: &mut Prototypes) -> usize {
        let named = |n: &u32| prototypes.predict(&sample(*n).0).expect("a feature") == Some(sample(*n).1);
        (5000..5500).filter(named).count()
    }

    #[test]
    fn the_shared_covariance_sees_what_the_means_alone_do_not_and_ridge_in_float_does() {
        let part = |numbers: core::ops::Range<u32>| Labelled {
            features: Features { dim: DIM, values: numbers.clone().flat_map(|n| sample(n).0.map(f32::from)).collect() },
            targets: Targets::Classes(numbers.clone().map(|n| sample(n).1 as u32).collect()),
            groups: numbers.collect(),
            time_ordered: false,
        };
        let scores =
            evaluate(&part(0..300), &part(5000..5500), Options { seed: 0, few_labels: false }).expect("scores");
        let Quality::Classes(scores) = scores.quality else { panic!("classes were given") };
        let own = with(DIM, |prototypes| {
            (0..300).for_each(|n| prototypes.learn(&sample(n).0, sample(n).1).expect("a feature"));
            prototypes.relearn();
            right(prototypes) as f64 / 5.0
        });
        assert!((own - scores.ridge).abs() <= 2.0 && own > scores.knn + 3.0, "{own} {scores:?}");
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace_and_the_order_does_not_matter() {
        let weights = |teach: &dyn Fn(&mut Prototypes)| {
            with(16, |prototypes| {
                teach(prototypes);
                prototypes.relearn();
                (prototypes.weights.to_vec(), prototypes.bias.to_vec())
            })
        };
        let learn = |p: &mut Prototypes, n: u32| p.learn(&sample(n).0, sample(n).1).expect("a feature");
        let plain = weights(&|p| (0..60).for_each(|n| learn(p, n)));
        assert!(plain.0.iter().any(|&w| w != 0));
        let turned = weights(&|p| (0..60).rev().for_each(|n| learn(p, n)));
        let back = weights(&|p| {
            (0..90).for_each(|n| learn(p, n));
            (60..90).for_each(|n| p.forget(&sample(n).0, sample(n).1).expect("it was taught"));
        });
        assert!(plain == turned && plain == back);
    }

    #[test]
    fn one_label_a_class_and_dead_or_extreme_numbers_are_enough_to_answer() {
        with(DIM, |prototypes| {
            assert_eq!(prototypes.predict(&[0; DIM]), Ok(None));
            prototypes.relearn();
            assert_eq!(prototypes.predict(&[0; DIM]), Ok(None));
            let mut features = [[0i8; DIM]; 2];
            (features[0][3], features[1][4]) = (127, -127);
            prototypes.learn(&features[0], 0).expect("a feature");
            prototypes.learn(&features[1], 2).expect("a feature");
            prototypes.relearn();
            assert_eq!(features.map(|f| prototypes.predict(&f)), [Ok(Some(0)), Ok(Some(2))]);
            for (class, feature) in features.iter().cycle().enumerate().take(2000) {
                prototypes.learn(feature, 2 * (class % 2)).expect("a feature");
            }
            prototypes.relearn();
            assert_eq!(features.map(|f| prototypes.predict(&f)), [Ok(Some(0)), Ok(Some(2))]);
        });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        with(DIM, |prototypes| {
            assert_eq!(prototypes.learn(&[0; 3], 0), Err(ProbeError::FeatureLength { wants: DIM, given: 3 }));
            assert_eq!(prototypes.learn(&[0; DIM], 3), Err(ProbeError::Class { classes: CLASSES, given: 3 }));
            assert_eq!(prototypes.forget(&[0; DIM], 1), Err(ProbeError::NotTaught { class: 1 }));
        });
        let mut memory = vec![0; 100];
        let taken = over(&mut memory, |arena| Prototypes::take(Kernels::detect(), DIM, DIM, CLASSES, arena));
        assert!(matches!(taken.err(), Some(ProbeError::MemoryTooSmall { .. })));
    }

    #[test]
    fn every_kernel_gives_the_same_bits() {
        let made = |kernels| {
            let mut memory =
                vec![0; block_len(|arena| Prototypes::take(kernels, DIM, DIM, CLASSES, arena)).expect("fits")];
            let mut p = over(&mut memory, |arena| Prototypes::take(kernels, DIM, DIM, CLASSES, arena)).expect("fits");
            (0..50).for_each(|n| p.learn(&sample(n).0, sample(n).1).expect("a feature"));
            p.relearn();
            (p.weights.to_vec(), p.bias.to_vec())
        };
        assert_eq!(made(Kernels::Reference), made(Kernels::detect()));
    }
}
