//! The last lessons that were published, in memory, so that one can go back by lessons.

use std::collections::VecDeque;

use crate::learner::Learner;

/// Whether a part of the state belongs to what was learned; counters go on, and what was remembered of the stream stays.
fn is_learned(name: &str) -> bool {
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

    /// Brings back the lesson `back` before the published one; those after it are forgotten. `false`: there is none, and
    /// nothing was changed.
    pub fn go_back(&mut self, back: usize, learner: &mut Learner) -> bool {
        if back == 0 || back > self.kept() {
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
