//! Nearest neighbours in integers: labelled features in a ring, the nearest of which vote.
//!
//! Features are compared by their cosine, which does not see the scale that an encoder's shifts have left them; each
//! vote counts `exp(cosine / 0.07)`, here 2^(cosine · 20.6), as in Wu et al. 2018 (arXiv:1805.01978) and in the judge's
//! own nearest neighbours.

use super::{ProbeError, largest_of, of_class, of_length, within};
use crate::fixed::math::{EXP_TABLE, isqrt};
use crate::net::arena::Arena;

/// Most neighbours that vote.
pub const MOST_NEIGHBOURS: usize = 64;
/// 1/0.07 in steps of the exponential table, which are of 1/32: 457.
const STEPS_PER_COSINE: i64 = 457;

/// See the module.
pub struct Knn<'m> {
    dim: usize,
    classes: usize,
    /// `[capacity, dim]`
    features: &'m mut [i8],
    /// Lengths of the features, in 1/256.
    lengths: &'m mut [u32],
    labels: &'m mut [u16],
    /// Votes, a class.
    votes: &'m mut [i64],
    stored: usize,
    next: usize,
}

impl<'m> Knn<'m> {
    /// Takes the memory for the `capacity` newest labelled features of `dim` numbers and `classes` classes.
    ///
    /// # Errors
    /// [`ProbeError::OutOfRange`].
    pub fn take(dim: usize, capacity: usize, classes: usize, arena: &mut Arena<'m>) -> Result<Self, ProbeError> {
        within("the length of a feature", dim, 1, 1 << 16)?;
        within("the number of features kept", capacity, 1, 1 << 20)?;
        within("the number of classes", classes, 1, 1024)?;
        Ok(Knn {
            dim,
            classes,
            features: arena.take(capacity * dim),
            lengths: arena.take(capacity),
            labels: arena.take(capacity),
            votes: arena.take(classes),
            stored: 0,
            next: 0,
        })
    }

    /// Keeps `feature` of `class`; where there is no room, in place of the oldest.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`], [`ProbeError::Class`].
    pub fn learn(&mut self, feature: &[i8], class: usize) -> Result<(), ProbeError> {
        of_length(self.dim, feature)?;
        of_class(self.classes, class)?;
        self.features[self.next * self.dim..][..self.dim].copy_from_slice(feature);
        self.lengths[self.next] = length(feature);
        self.labels[self.next] = class as u16;
        self.stored = self.stored.max(self.next + 1);
        self.next = (self.next + 1) % self.labels.len();
        Ok(())
    }

    /// The class for which the `k` nearest vote most, at most [`MOST_NEIGHBOURS`]; `None` where nothing is kept.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`].
    pub fn predict(&mut self, feature: &[i8], k: usize) -> Result<Option<usize>, ProbeError> {
        of_length(self.dim, feature)?;
        let own = length(feature);
        // The nearest so far, nearest first: cosine in Q20, and place.
        let mut near: heapless::Vec<(i64, usize), MOST_NEIGHBOURS> = heapless::Vec::new();
        let k = k.clamp(1, MOST_NEIGHBOURS);
        for place in 0..self.stored {
            let other = &self.features[place * self.dim..][..self.dim];
            let lengths = i64::from(own) * i64::from(self.lengths[place]);
            let cosine = (product(feature, other) << 36) / lengths;
            let rank = near.iter().position(|&(c, _)| cosine > c).unwrap_or(near.len());
            if rank < k {
                near.truncate(k - 1);
                // It is shorter than its capacity now.
                let _ = near.insert(rank, (cosine, place));
            }
        }
        let Some(&(nearest, _)) = near.first() else { return Ok(None) };
        self.votes.fill(0);
        for (cosine, place) in near {
            let steps = ((nearest - cosine) * STEPS_PER_COSINE) >> 20;
            self.votes[usize::from(self.labels[place])] += i64::from(EXP_TABLE[steps.min(255) as usize]);
        }
        Ok(largest_of(self.votes.iter().copied()))
    }
}

/// Length of a feature in 1/256, at least that.
fn length(feature: &[i8]) -> u32 {
    isqrt((product(feature, feature) as u64) << 16).max(1)
}

/// Within 2^30 for the longest features.
fn product(a: &[i8], b: &[i8]) -> i64 {
    i64::from(a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::random::Draws;
    use crate::probe::{block_len, over};
    use crate::sample::Seed;

    fn with<R>(dim: usize, capacity: usize, act: impl FnOnce(&mut Knn) -> R) -> R {
        let mut memory = vec![0; block_len(|arena| Knn::take(dim, capacity, 3, arena)).expect("a sound shape")];
        act(&mut over(&mut memory, |arena| Knn::take(dim, capacity, 3, arena)).expect("enough memory"))
    }

    #[test]
    fn answers_are_those_of_the_definition_in_float() {
        const DIM: usize = 12;
        let sample = |n: u32| {
            let draws = Draws::new(Seed(2), u64::from(n), 0);
            let class = draws.below(99, 3) as usize;
            let number = |k: usize| draws.between(k as u32, -50, 50) + if k % 3 == class { 30 } else { 0 };
            (core::array::from_fn::<i8, DIM, _>(|k| number(k) as i8), class)
        };
        let votes = |f: &[i8; DIM]| {
            let cosine = |g: &[i8; DIM]| {
                let product =
                    |a: &[i8], b: &[i8]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
                product(f, g) / (product(f, f) * product(g, g)).sqrt()
            };
            let mut near: Vec<(f64, usize)> = (0..200).map(sample).map(|(g, class)| (cosine(&g), class)).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut votes = [0.0; 3];
            near[..9].iter().for_each(|(c, class)| votes[*class] += (c / 0.07).exp());
            votes
        };
        with(DIM, 200, |knn| {
            (0..200).map(sample).for_each(|(f, class)| knn.learn(&f, class).expect("a feature"));
            let (mut alike, mut right) = (0, 0);
            for (feature, class) in (1000..1300).map(sample) {
                let (votes, answer) =
                    (votes(&feature), knn.predict(&feature, 9).expect("a feature").expect("an answer"));
                let best = votes.iter().copied().fold(0.0, f64::max);
                alike += u32::from(votes[answer] > 0.9 * best);
                right += u32::from(answer == class);
            }
            assert!(alike == 300 && right > 200, "{alike} {right}");
        });
    }

    #[test]
    fn the_oldest_leave_and_nothing_kept_gives_no_answer() {
        with(2, 2, |knn| {
            assert_eq!(knn.predict(&[1, 0], 3), Ok(None));
            for (feature, class) in [([90, 0], 0), ([0, 90], 1), ([10, 80], 2)] {
                knn.learn(&feature, class).expect("a feature");
            }
            assert_eq!(knn.predict(&[50, 1], 1), Ok(Some(2)), "class 0 has left");
            assert_eq!(knn.predict(&[0, 0], 2), Ok(Some(1)), "all are as far from nothing; the smaller class");
        });
    }
}
