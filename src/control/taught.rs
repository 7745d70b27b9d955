//! What was taught: labelled samples, kept as the learner stores them so that their features can be made anew by each
//! encoder; and the background, a random choice of all that the stream has shown.

use std::sync::Arc;

use super::Values;
use crate::fixed::random::Draws;
use crate::sample::{EncoderVersion, Seed};

/// Background samples kept.
pub const BACKGROUND: usize = 160;
/// Examples kept of a class, and of a controller that is taught values.
pub const MOST_OF_CLASS: usize = 64;
pub const MOST_VALUES: usize = 400;
/// Classes that can be taught, and examples of all of them together.
pub const MOST_CLASSES: usize = 64;
pub const MOST_OF_CLASSES: usize = 320;
/// Random tensor of what is kept.
const KEEP: u32 = 0xA00;

/// What a sample was said to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Class(Arc<str>),
    /// The outputs of the controller of that name.
    Values(Arc<str>, Values),
}

impl Answer {
    /// Under which it is kept: no more than so many of each.
    fn key(&self) -> (&str, usize) {
        match self {
            Answer::Class(class) => (class, MOST_OF_CLASS),
            Answer::Values(controller, _) => (controller, MOST_VALUES),
        }
    }

    fn is_like(&self, other: &Answer) -> bool {
        matches!((self, other), (Answer::Class(_), Answer::Class(_)) | (Answer::Values(..), Answer::Values(..)))
            && self.key() == other.key()
    }
}

/// A sample with its feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub stored: Vec<u8>,
    pub feature: Vec<i8>,
    version: Option<EncoderVersion>,
}

/// A labelled sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub answer: Answer,
    /// Number of the teaching that it came from: samples of one are much alike.
    pub teaching: u32,
    pub kept: Kept,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taught {
    /// Bytes of a stored sample.
    pub stored_len: usize,
    pub examples: Vec<Example>,
    pub background: Vec<Kept>,
    /// Samples that were offered as background.
    pub offered: u64,
    /// Examples taught so far, also those that were left again.
    pub given: u64,
    pub teachings: u32,
}

impl Taught {
    /// Nothing taught, of samples of `stored_len` bytes.
    pub fn new(stored_len: usize) -> Self {
        Taught { stored_len, ..Taught::default() }
    }

    /// Offers a sample as background: each that was ever offered is kept as likely as any other. Whether this one was.
    pub fn offer(&mut self, stored: &[u8]) -> bool {
        self.offered += 1;
        let kept = Kept { stored: stored.to_vec(), feature: Vec::new(), version: None };
        if self.background.len() < BACKGROUND {
            self.background.push(kept);
            return true;
        }
        let place = place_of(self.offered, 0);
        let keep = place < BACKGROUND as u64;
        if keep {
            self.background[place as usize] = kept;
        }
        keep
    }

    /// Keeps an example. Where there are as many of its class as may be, a random one makes room, or it is not kept: of a
    /// long demonstration each moment is kept as likely as any other.
    pub fn learn(&mut self, answer: Answer, stored: &[u8], teaching: u32) {
        self.given += 1;
        let kept = Kept { stored: stored.to_vec(), feature: Vec::new(), version: None };
        let alike: Vec<usize> =
            (0..self.examples.len()).filter(|&i| self.examples[i].answer.is_like(&answer)).collect();
        let most = answer.key().1;
        let example = Example { answer, teaching, kept };
        if alike.len() < most {
            return self.examples.push(example);
        }
        // What is taught by hand, a few at a time, is wanted: it always finds room.
        let place = match most {
            MOST_VALUES => place_of(self.given, 1),
            _ => place_of(self.given, 1) % most as u64,
        };
        if let Some(&old) = alike.get(place as usize) {
            self.examples[old] = example;
        }
    }

    /// Forgets a class, or what a controller was taught; how many examples that were.
    pub fn forget(&mut self, label: &str) -> usize {
        let before = self.examples.len();
        self.examples.retain(|example| example.answer.key().0 != label);
        before - self.examples.len()
    }

    /// What was taught under each name, in order: the name and its examples.
    pub fn counts(&self) -> Vec<(Arc<str>, usize)> {
        let name = |example: &Example| match &example.answer {
            Answer::Class(name) | Answer::Values(name, _) => name.clone(),
        };
        let mut names: Vec<_> = self.examples.iter().map(name).collect();
        names.sort();
        names.chunk_by(|a, b| a == b).map(|alike| (alike[0].clone(), alike.len())).collect()
    }

    /// Examples of classes.
    pub fn of_classes(&self) -> usize {
        self.examples.iter().filter(|example| matches!(example.answer, Answer::Class(_))).count()
    }

    /// The classes, in the order of their names.
    pub fn classes(&self) -> Vec<Arc<str>> {
        let class = |example: &Example| match &example.answer {
            Answer::Class(class) => Some(class.clone()),
            Answer::Values(..) => None,
        };
        let mut classes: Vec<_> = self.examples.iter().filter_map(class).collect();
        classes.sort();
        classes.dedup();
        classes
    }

    /// Makes features that are not of `version` by `embed`, which fills the one that it is given, while `go_on` says so.
    /// Whether all are of that version now.
    pub fn embed(
        &mut self,
        version: EncoderVersion,
        dim: usize,
        mut embed: impl FnMut(&[u8], &mut [i8]),
        mut go_on: impl FnMut() -> bool,
    ) -> bool {
        let examples = self.examples.iter_mut().map(|example| &mut example.kept);
        for kept in examples.chain(&mut self.background).filter(|kept| kept.version != Some(version)) {
            if !go_on() {
                return false;
            }
            kept.feature.resize(dim, 0);
            embed(&kept.stored, &mut kept.feature);
            kept.version = Some(version);
        }
        true
    }
}

/// A random number from 0 to `of - 1`, the same each time.
fn place_of(of: u64, element: u32) -> u64 {
    let draws = Draws::new(Seed(0), of, KEEP);
    let bits = u64::from(draws.bits(2 * element)) << 32 | u64::from(draws.bits(2 * element + 1));
    ((u128::from(bits) * u128::from(of)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_is_of_all_times_alike() {
        let mut taught = Taught::new(2);
        for n in 0..BACKGROUND as u16 * 20 {
            taught.offer(&n.to_le_bytes());
        }
        assert_eq!(taught.background.len(), BACKGROUND);
        let times: Vec<f64> =
            taught.background.iter().map(|k| f64::from(u16::from_le_bytes([k.stored[0], k.stored[1]]))).collect();
        let middle = times.iter().sum::<f64>() / times.len() as f64;
        // The middle of 3200, within three of its own deviations.
        assert!((middle - 1600.0).abs() < 3.0 * 924.0 / (BACKGROUND as f64).sqrt(), "{middle}");
    }

    #[test]
    fn forgetting_takes_one_class_and_leaves_the_others_and_features_follow_the_encoder() {
        let mut taught = Taught::new(1);
        for n in 0..6u8 {
            let class = Answer::Class(if n % 2 == 0 { "cup" } else { "dog" }.into());
            taught.learn(class, &[n], 0);
        }
        taught.learn(Answer::Values("steering".into(), Values::from_slice(&[0.5]).expect("room")), &[9], 1);
        assert_eq!((taught.forget("cat"), taught.forget("cup")), (0, 3));
        assert_eq!(taught.classes(), ["dog".into()]);
        let mut made = 0;
        let mut embed = |taught: &mut Taught, version, budget: usize| {
            let mut left = budget;
            let whole = taught.embed(
                EncoderVersion(version),
                1,
                |stored, feature| {
                    made += 1;
                    feature[0] = stored[0] as i8;
                },
                || {
                    left = left.saturating_sub(1);
                    left > 0
                },
            );
            (whole, made)
        };
        // In parts; the same version makes nothing anew.
        assert_eq!(embed(&mut taught, 1, 3), (false, 2));
        assert_eq!(
            [embed(&mut taught, 1, 9), embed(&mut taught, 1, 9), embed(&mut taught, 2, 9)],
            [(true, 4), (true, 4), (true, 8)]
        );
        assert_eq!(taught.examples[3].kept.feature, [9]);
    }

    #[test]
    fn a_class_never_outgrows_its_room_and_takes_what_is_new() {
        let mut taught = Taught::new(1);
        (0..200).for_each(|n| taught.learn(Answer::Class("cup".into()), &[n as u8], n));
        assert_eq!(taught.examples.len(), MOST_OF_CLASS);
        assert!(taught.examples.iter().any(|e| e.teaching == 199));
    }
}
