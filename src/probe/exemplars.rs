//! A bank of a few labelled samples that follows an encoder which keeps learning.
//!
//! A feature that was kept is one of the encoder that made it: when that learns on, what was taught by it goes stale.
//! So the sample itself is kept too, as the learner stores it, with the version of its feature, and is embedded anew,
//! some at a time, when the version changes: [`Exemplars::refresh`]. Prototypes forget the old feature and learn the
//! new one; nearest neighbours read the bank as it is ([`Exemplars::features`]).

use super::{ProbeError, of_class, of_length, within};
use crate::net::arena::Arena;
use crate::sample::EncoderVersion;

/// One labelled sample of the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar<'a> {
    pub class: usize,
    /// By the encoder `version`.
    pub feature: &'a [i8],
    pub version: EncoderVersion,
}

/// See the module.
pub struct Exemplars<'m> {
    stored_len: usize,
    dim: usize,
    classes: usize,
    /// `[capacity, stored_len]`
    stored: &'m mut [u8],
    /// `[capacity, dim]`
    features: &'m mut [i8],
    labels: &'m mut [u16],
    versions: &'m mut [u32],
    /// Number of each in the order of teaching; 0 where the place is free.
    taught: &'m mut [u32],
    count: u32,
    /// Where the next refreshing begins.
    next: usize,
    /// Room for a new feature.
    fresh: &'m mut [i8],
}

impl<'m> Exemplars<'m> {
    /// Takes the memory for `capacity` samples of `stored_len` bytes with features of `dim` numbers.
    ///
    /// # Errors
    /// [`ProbeError::OutOfRange`].
    pub fn take(
        stored_len: usize,
        dim: usize,
        classes: usize,
        capacity: usize,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ProbeError> {
        within("the bytes of a stored sample", stored_len, 1, 1 << 25)?;
        within("the length of a feature", dim, 1, 1 << 16)?;
        within("the number of classes", classes, 1, 1024)?;
        within("the number of exemplars", capacity, 1, 1 << 16)?;
        Ok(Exemplars {
            stored_len,
            dim,
            classes,
            stored: arena.take(capacity * stored_len),
            features: arena.take(capacity * dim),
            labels: arena.take(capacity),
            versions: arena.take(capacity),
            taught: arena.take(capacity),
            count: 0,
            next: 0,
            fresh: arena.take(dim),
        })
    }

    /// Keeps a labelled sample. Where there is no room it takes the place of the oldest of the class that has most, and
    /// `left` gets that one's class and feature, to be forgotten by who learned it.
    ///
    /// # Errors
    /// [`ProbeError::FeatureLength`], [`ProbeError::Class`], or [`ProbeError::StoredLength`].
    pub fn learn(
        &mut self,
        stored: &[u8],
        feature: &[i8],
        class: usize,
        version: EncoderVersion,
        left: impl FnOnce(usize, &[i8]),
    ) -> Result<(), ProbeError> {
        of_length(self.dim, feature)?;
        of_class(self.classes, class)?;
        if stored.len() != self.stored_len {
            return Err(ProbeError::StoredLength { wants: self.stored_len, given: stored.len() });
        }
        let place = match self.taught.iter().position(|&n| n == 0) {
            Some(free) => free,
            None => {
                let place = self.to_leave(class);
                left(usize::from(self.labels[place]), &self.features[place * self.dim..][..self.dim]);
                place
            }
        };
        self.count += 1;
        self.stored[place * self.stored_len..][..self.stored_len].copy_from_slice(stored);
        self.features[place * self.dim..][..self.dim].copy_from_slice(feature);
        (self.labels[place], self.versions[place], self.taught[place]) = (class as u16, version.0, self.count);
        Ok(())
    }

    /// The oldest of the class that would have most with one more of `class`.
    fn to_leave(&self, class: usize) -> usize {
        let of = |label: u16| {
            let count = self.labels.iter().filter(|&&l| l == label).count();
            count + usize::from(usize::from(label) == class)
        };
        let most = self.labels.iter().map(|&label| of(label)).max().unwrap_or(0);
        let places = (0..self.labels.len()).filter(|&place| of(self.labels[place]) == most);
        places.min_by_key(|&place| self.taught[place]).unwrap_or(0)
    }

    /// Samples kept.
    pub fn len(&self) -> usize {
        self.taught.iter().filter(|&&n| n > 0).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Samples whose feature is not of `version`.
    pub fn stale(&self, version: EncoderVersion) -> usize {
        self.taught.iter().zip(&*self.versions).filter(|(n, v)| **n > 0 && **v != version.0).count()
    }

    /// Embeds up to `budget` samples anew whose feature is not of `version`; returns how many that were.
    ///
    /// `embed` makes the feature of a stored sample by the encoder of that version; `changed` gets class, old feature and
    /// new one.
    pub fn refresh(
        &mut self,
        version: EncoderVersion,
        budget: usize,
        mut embed: impl FnMut(&[u8], &mut [i8]),
        mut changed: impl FnMut(usize, &[i8], &[i8]),
    ) -> usize {
        let capacity = self.labels.len();
        let mut done = 0;
        for _ in 0..capacity {
            if done == budget {
                break;
            }
            let place = self.next;
            self.next = (place + 1) % capacity;
            if self.taught[place] == 0 || self.versions[place] == version.0 {
                continue;
            }
            embed(&self.stored[place * self.stored_len..][..self.stored_len], self.fresh);
            let feature = &mut self.features[place * self.dim..][..self.dim];
            changed(usize::from(self.labels[place]), feature, self.fresh);
            feature.copy_from_slice(self.fresh);
            self.versions[place] = version.0;
            done += 1;
        }
        done
    }

    /// All samples kept.
    pub fn features(&self) -> impl Iterator<Item = Exemplar<'_>> {
        let kept = (0..self.labels.len()).filter(|&place| self.taught[place] > 0);
        kept.map(|place| Exemplar {
            class: usize::from(self.labels[place]),
            feature: &self.features[place * self.dim..][..self.dim],
            version: EncoderVersion(self.versions[place]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{block_len, over};

    fn with<R>(capacity: usize, act: impl FnOnce(&mut Exemplars) -> R) -> R {
        let mut memory = vec![0; block_len(|arena| Exemplars::take(2, 1, 3, capacity, arena)).expect("a sound shape")];
        act(&mut over(&mut memory, |arena| Exemplars::take(2, 1, 3, capacity, arena)).expect("enough memory"))
    }

    #[test]
    fn refreshing_keeps_to_its_budget_and_reaches_everything() {
        with(7, |bank| {
            for n in 0..5u8 {
                bank.learn(&[n, 10], &[n as i8], usize::from(n) % 3, EncoderVersion(1), |_, _| {}).expect("it fits");
            }
            assert_eq!(bank.stale(EncoderVersion(1)), 0);
            let mut told = Vec::new();
            let mut refresh = |bank: &mut Exemplars, budget| {
                let embed = |stored: &[u8], out: &mut [i8]| out[0] = (stored[0] + stored[1]) as i8;
                bank.refresh(EncoderVersion(4), budget, embed, |class, old, new| told.push((class, old[0], new[0])))
            };
            assert_eq!([refresh(bank, 2), bank.stale(EncoderVersion(4))], [2, 3]);
            assert_eq!([refresh(bank, 2), refresh(bank, 2), refresh(bank, 2)], [2, 1, 0]);
            assert_eq!(told, (0..5).map(|n| (n as usize % 3, n, n + 10)).collect::<Vec<_>>());
            assert!(bank.features().all(|e| e.version == EncoderVersion(4)));
        });
    }

    #[test]
    fn the_oldest_of_the_most_frequent_class_makes_room() {
        with(4, |bank| {
            let mut left = Vec::new();
            for (n, class) in [0, 1, 1, 1, 2, 0, 2, 2].into_iter().enumerate() {
                let leaves = |class: usize, feature: &[i8]| left.push((class, feature[0]));
                bank.learn(&[0, 0], &[n as i8], class, EncoderVersion(0), leaves).expect("it fits");
            }
            assert_eq!(left, [(1, 1), (0, 0), (1, 2), (2, 4)]);
            assert_eq!(bank.features().filter(|e| e.class == 2).count(), 2);
        });
    }
}
