//! The last lessons that were published, in memory, so that one can go back by lessons.

use std::collections::VecDeque;

use crate::learner::Learner;

/// Whether a part of the state belongs to what was learned; counters go on, and what was remembered of the stream stays.
pub fn is_learned(name: &str) -> bool {
    name != "counters" && !name.starts_with("replay")
}

/// See the module.
pub struct History {
    most: usize,
    /// Oldest first; the last is the one that is published.
    lessons: VecDeque<Vec<u8>>,
}

impl History {
    /// A history of `most` lessons beside the published one.
    pub fn new(most: usize) -> Self {
        History { most, lessons: VecDeque::with_capacity(most + 1) }
    }

    /// Lessons that one can go back.
    pub fn kept(&self) -> usize {
        self.lessons.len().saturating_sub(1)
    }

    /// Keeps what `learner` has just published. The memory of the oldest lesson is used again.
    pub fn keep(&mut self, learner: &mut Learner) {
        if self.most == 0 {
            return;
        }
        let mut bytes =
            if self.lessons.len() > self.most { self.lessons.pop_front() } else { None }.unwrap_or_default();
        bytes.clear();
        learner.visit_state(|name, mut numbers| {
            if is_learned(name) {
                bytes.extend_from_slice(numbers.bytes());
            }
        });
        self.lessons.push_back(bytes);
    }

    /// Brings back the lesson `back` before the published one, 0 for that one itself; those after it are forgotten.
    /// `false`: there is none, and nothing was changed.
    pub fn go_back(&mut self, back: usize, learner: &mut Learner) -> bool {
        if back > self.kept() {
            return false;
        }
        self.lessons.truncate(self.lessons.len() - back);
        let Some(bytes) = self.lessons.back() else { return false };
        let mut rest = bytes.as_slice();
        learner.visit_state(|name, mut numbers| {
            let to = numbers.bytes();
            if is_learned(name)
                && let Some((part, after)) = rest.split_at_checked(to.len())
            {
                to.copy_from_slice(part);
                rest = after;
            }
        });
        learner.restored();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::{Alone, Did, Options};
    use crate::sample::{Micros, Sample, Seed, Values};

    /// What was learned, apart from all that goes on.
    fn learned(learner: &mut Learner) -> Vec<u8> {
        let mut history = History::new(1);
        history.keep(learner);
        history.lessons.pop_back().unwrap_or_default()
    }

    #[test]
    fn going_back_brings_the_older_lesson_and_leaves_the_newer_counts() {
        let text = "name = 's'\n[input]\nkind = 'image'\nheight = 12\nwidth = 12\nchannels = 1\n\
            [[layer]]\nfilters = 8\nstride = 2\n[pretext]\nbatch = 4\nhidden = 8\noutputs = 8\nsamples_per_step = 2\n\
            [replay]\ncapacity = 32\nfresh = 2\n[guard]\nlesson_steps = 4\ncanaries = 8\n";
        let spec = crate::model::parse("small", text).expect("a sound model");
        let options = Options::new(Seed(1));
        let mut memory = vec![0; Learner::plan(&spec, &options).expect("a plan").block_len()];
        let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
        let (mut history, mut lessons) = (History::new(3), vec![learned(&mut learner)]);
        history.keep(&mut learner);
        let mut n = 0u64;
        while lessons.len() < 6 {
            n += 1;
            let pixels: Vec<u8> = (0..144).map(|i| ((n * 37 + i * (n % 7 + 1) + i * i) % 251) as u8).collect();
            let values = Values::Image { pixels: &pixels, height: 12, width: 12, channels: 1 };
            learner.observe(&Sample { values, time: Micros(n), segment: 0 }).expect("it fits");
            loop {
                match learner.step(&Alone) {
                    Did::Idle => break,
                    Did::Published { .. } => {
                        history.keep(&mut learner);
                        lessons.push(learned(&mut learner));
                    }
                    _ => {}
                }
            }
            assert!(n < 5000, "no lesson is published");
        }
        assert_eq!(history.kept(), 3);
        assert!(!history.go_back(4, &mut learner));
        let (version, observed) = (learner.version(), learner.counters().observed);
        assert!(history.go_back(2, &mut learner));
        learner.republish(version);
        assert!(learned(&mut learner) == lessons[3], "the lesson before the one before");
        assert_eq!((learner.version().0, learner.counters().observed), (version.0 + 1, observed));
        assert_eq!(history.kept(), 1);
    }
}
