//! How unlike anything seen before a sample is: its distance to a few running prototypes, or the loss of a pretext that
//! rebuilds it, against how that number runs in this stream.
//!
//! No labels. [`Surprise`] turns any such number into a score of 0 to 255 and remembers the recent scores, so that an
//! alarm is asked for by how often it may be wrong ("one in 500"), not by a threshold in units that nobody knows.
//! [`Novelty`] is the distance: online clustering in which the nearest prototype moves towards what is seen, and what is
//! far from all becomes a prototype of its own. What stays becomes usual.

use super::{ProbeError, of_length, within};
use crate::fixed::math::isqrt;
use crate::net::arena::Arena;

/// Score of what is as usual as most.
pub const USUAL: u8 = 64;
/// Score of a mean absolute deviation.
const DEVIATION: i64 = 12;
/// From this score on a sample becomes a prototype of its own: four deviations.
const FAR: u8 = USUAL + 4 * DEVIATION as u8;
/// Samples before the first score that is not [`USUAL`].
const WARM_UP: u32 = 16;
/// Running mean and deviation follow by 1/64.
const FOLLOW: u32 = 64;
/// A prototype moves by 1/32 of the way.
const MOVE: u32 = 32;

/// See the module.
pub struct Surprise<'m> {
    /// The newest scores, and how many of them have each value.
    recent: &'m mut [u8],
    histogram: &'m mut [u32],
    seen: u32,
    /// Running mean and mean absolute deviation, in 1/256.
    mean: i64,
    deviation: i64,
}

impl<'m> Surprise<'m> {
    /// Takes the memory for the `recent` newest scores.
    ///
    /// # Errors
    /// [`ProbeError::OutOfRange`].
    pub fn take(recent: usize, arena: &mut Arena<'m>) -> Result<Self, ProbeError> {
        within("the number of recent scores", recent, 1, 1 << 20)?;
        Ok(Surprise { recent: arena.take(recent), histogram: arena.take(256), seen: 0, mean: 0, deviation: 0 })
    }

    /// Score of a sample for which `amount` was measured: a distance, or a loss. The stream's mean and deviation follow
    /// it, by no more than what is far.
    pub fn observe(&mut self, amount: u32) -> u8 {
        let amount = i64::from(amount) << 8;
        let score = self.score_of(amount);
        let share = i64::from((self.seen + 1).min(FOLLOW));
        let most = if self.seen < WARM_UP { amount } else { self.mean + 4 * self.deviation };
        self.mean += (amount.min(most) - self.mean) / share;
        self.deviation += ((amount.min(most) - self.mean).abs() - self.deviation) / share;
        let place = self.seen as usize % self.recent.len().max(1);
        if self.seen as usize >= self.recent.len() {
            self.histogram[usize::from(self.recent[place])] -= 1;
        }
        self.recent[place] = score;
        self.histogram[usize::from(score)] += 1;
        // Stays on the same place of the ring.
        self.seen = self.seen.checked_add(1).unwrap_or((self.recent.len() as u32).max(WARM_UP.max(FOLLOW)));
        score
    }

    fn score_of(&self, amount: i64) -> u8 {
        if self.seen < WARM_UP {
            return USUAL;
        }
        // A stream in which nothing moves has a deviation still: a hundredth of its mean.
        let deviation = self.deviation.max(self.mean / 100).max(1);
        (i64::from(USUAL) + (amount - self.mean) * DEVIATION / deviation).clamp(0, 255) as u8
    }

    /// The score that no more than one in `often` of the recent ones passed: an alarm is a score above it.
    pub fn alarm_above(&self, often: u32) -> u8 {
        let count = (self.seen as usize).min(self.recent.len()) as u32;
        let allowed = count / often.max(1);
        let mut above = 0;
        for score in (1..=255u8).rev() {
            above += self.histogram[usize::from(score)];
            if above > allowed {
                return score;
            }
        }
        0
    }
}

/// See the module.
pub struct Novelty<'m> {
    dim: usize,
    /// `[most, dim]`, in 1/256.
    prototypes: &'m mut [i16],
    /// Samples nearest to each; 0 where there is none yet. Halved as time goes on.
    counts: &'m mut [u32],
    since: u32,
    pub surprise: Surprise<'m>,
}

impl<'m> Novelty<'m> {
    /// Takes the memory for at most `most` prototypes of features of `dim` numbers and for `recent` scores.
    ///
    /// # Errors
    /// [`ProbeError::OutOfRange`].
    pub fn take(dim: usize, most: usize, recent: usize, arena: &mut Arena<'m>) -> Result<Self, ProbeError> {
        within("the length of a feature", dim, 1, 1 << 16)?;
        within("the number of prototypes", most, 1, 256)?;
        Ok(Novelty {
            dim,
            prototypes: arena.take(most * dim),
            counts: arena.take(most),
            since: 0,
            surprise: Surprise::take(recent, arena)?,
        })
    }

    /// Prototypes in use.
    pub fn prototypes(&self) -> usize {
        self.counts.iter().filter(|&&n| n > 0).count()
    }

    /// Distance of `feature` to the nearest prototype, in 1/16 of a mantissa a number, and which that is.
    fn nearest(&self, feature: &[i8]) -> Option<(u32, usize)> {
        let rows = self.prototypes.chunks_exact(self.dim).zip(&*self.counts).enumerate();
        let squares = rows.filter(|(_, (_, n))| **n > 0).map(|(place, (row, _))| {
            let apart =
                |(&p, &v): (&i16, &i8)| u64::from((i32::from(v) * 256 - i32::from(p)).unsigned_abs() >> 4).pow(2);
            (row.iter().zip(feature).map(apart).sum::<u64>(), place)
        });
        squares.min().map(|(square, place)| (isqrt(square / self.dim as u64), place))
    }

    /// Score of `feature`; nothing is learned from it.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`].
    pub fn score(&self, feature: &[i8]) -> Result<u8, ProbeError> {
        of_length(self.dim, feature)?;
        let nearest = self.nearest(feature);
        Ok(nearest.map_or(USUAL, |(distance, _)| self.surprise.score_of(i64::from(distance) << 8)))
    }

    /// Score of `feature`, which the prototypes then follow: 0 to 255, [`USUAL`] where it is as near as most.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`].
    pub fn observe(&mut self, feature: &[i8]) -> Result<u8, ProbeError> {
        of_length(self.dim, feature)?;
        // The first ones of all are where the prototypes start: from one alone, in the middle of all, none would be far.
        let free = self.counts.iter().position(|&n| n == 0);
        let (Some((distance, place)), None) = (self.nearest(feature), free) else {
            self.place_at(free.unwrap_or(0), feature);
            return Ok(USUAL);
        };
        let score = self.surprise.observe(distance);
        if score >= FAR {
            // Where there is no room, in place of the one that least was near to.
            let rarest = self.counts.iter().enumerate().min_by_key(|(_, n)| **n);
            self.place_at(rarest.map_or(0, |(place, _)| place), feature);
        } else {
            let share = (self.counts[place] + 1).min(MOVE) as i32;
            let row = &mut self.prototypes[place * self.dim..][..self.dim];
            row.iter_mut().zip(feature).for_each(|(p, &v)| *p += ((i32::from(v) * 256 - i32::from(*p)) / share) as i16);
            self.counts[place] += 1;
        }
        self.since += 1;
        if self.since == 64 * self.counts.len() as u32 {
            self.since = 0;
            // What nothing is near to any more makes room first.
            self.counts.iter_mut().for_each(|n| *n = n.div_ceil(2));
        }
        Ok(score)
    }

    fn place_at(&mut self, place: usize, feature: &[i8]) {
        let row = &mut self.prototypes[place * self.dim..][..self.dim];
        row.iter_mut().zip(feature).for_each(|(p, &v)| *p = i16::from(v) * 256);
        self.counts[place] = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::random::Draws;
    use crate::probe::{block_len, over};
    use crate::sample::Seed;

    const DIM: usize = 16;

    /// A feature near one of three places, or for `place` 3 somewhere else.
    fn near(place: u32, n: u32) -> [i8; DIM] {
        let (middle, noise) = (Draws::new(Seed(5), u64::from(place), 0), Draws::new(Seed(5), u64::from(n), 1));
        core::array::from_fn(|k| (middle.between(k as u32, -80, 80) + noise.between(k as u32, -9, 9)) as i8)
    }

    fn with<R>(act: impl FnOnce(&mut Novelty) -> R) -> R {
        let mut memory = vec![0; block_len(|arena| Novelty::take(DIM, 4, 512, arena)).expect("a sound shape")];
        act(&mut over(&mut memory, |arena| Novelty::take(DIM, 4, 512, arena)).expect("enough memory"))
    }

    #[test]
    fn what_was_never_seen_passes_the_level_of_rare_alarms_and_what_stays_becomes_usual() {
        with(|novelty| {
            (0..1200).for_each(|n| _ = novelty.observe(&near(n % 3, n)).expect("a feature"));
            let level = novelty.surprise.alarm_above(200);
            let alarms = (2000..3000).filter(|&n| novelty.observe(&near(n % 3, n)).expect("a feature") > level).count();
            assert!(alarms <= 15, "{alarms} of 1000 above {level}");
            let first = novelty.observe(&near(3, 0)).expect("a feature");
            assert!(first > level && first > 200, "{first} {level}");
            let scores = (0..200).map(|n| novelty.observe(&near(3, n)).expect("a feature"));
            let later = scores.skip(50).filter(|&score| score > level).count();
            assert!(later <= 3 && novelty.prototypes() == 4, "{later} {}", novelty.prototypes());
            // It has its own prototype now, and those of the others stay.
            assert!((0..3).all(|place| novelty.score(&near(place, 9999)).expect("a feature") <= level));
        });
    }

    #[test]
    fn the_alarm_level_is_the_quantile_of_the_recent_scores() {
        let mut memory = vec![0; block_len(|arena| Surprise::take(100, arena)).expect("a sound shape")];
        let mut surprise = over(&mut memory, |arena| Surprise::take(100, arena)).expect("enough memory");
        assert_eq!(surprise.alarm_above(10), 0);
        let draws = Draws::new(Seed(1), 0, 0);
        let scores: Vec<u8> = (0..350).map(|n| surprise.observe(1000 + draws.below(n, 300))).collect();
        for often in [2, 10, 25, 100, 1000] {
            let level = surprise.alarm_above(often);
            let above = scores[250..].iter().filter(|&&s| s > level).count() as u32;
            let from = scores[250..].iter().filter(|&&s| s >= level).count() as u32;
            assert!(above <= 100 / often && (from > 100 / often || level == 0), "{often}: {above} {from}");
        }
    }

    #[test]
    fn a_stream_in_which_nothing_moves_sees_the_first_thing_that_does() {
        with(|novelty| {
            (0..400).for_each(|_| _ = novelty.observe(&[40; DIM]).expect("a feature"));
            let mut moved = [40; DIM];
            moved[3] = 70;
            assert!(novelty.observe(&moved).expect("a feature") > 200);
        });
    }
}
