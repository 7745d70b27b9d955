//! The order in which an indexed source is played: as given, shuffled, or label after label; and which part of it.
//!
//! The shuffled order is a pure function of seed and epoch. Played out of order, samples have no neighbours: `segment` then
//! goes up wherever two samples were not one after another in the given order.

use super::uri::{Order, Query, RangeOf};
use super::{Indexed, Label, Record, Source, SourceError};

/// An [`Indexed`] source played as a stream.
pub struct Ordered<S> {
    inner: S,
    order: Order,
    seed: u64,
    epoch: u64,
    /// Samples of the range in given order.
    chosen: Vec<usize>,
    /// `chosen` in the order of this epoch.
    playing: Vec<usize>,
    next: usize,
    skipped: u64,
    /// Index, own segment and played segment of the last sample.
    last: Option<(usize, u32, u32)>,
}

impl<S: Indexed> Ordered<S> {
    /// All samples in given order.
    pub fn given(inner: S) -> Self {
        let chosen = (0..inner.len()).collect();
        Self::build(inner, Order::Given, 0, chosen)
    }

    /// Samples `start..end` (fractions of all samples) as `order` and `seed` say.
    pub fn new(inner: S, order: Order, seed: u64, range: (f64, f64)) -> Self {
        let chosen = part(inner.len(), range).collect();
        Self::build(inner, order, seed, chosen)
    }

    /// As the `order`, `seed`, `range` and `range_of` of a URI say; `seed` serves where the URI gives none.
    pub fn from_query(inner: S, query: &Query, seed: u64) -> Self {
        let range = query.range.unwrap_or((0.0, 1.0));
        let seed = query.seed.unwrap_or(seed);
        let order = query.order.unwrap_or_default();
        if query.range_of != Some(RangeOf::Groups) {
            return Self::new(inner, order, seed, range);
        }
        let mut groups: Vec<u32> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        groups.extend((0..inner.len()).map(|i| inner.group(i)).filter(|g| seen.insert(*g)));
        let kept: std::collections::HashSet<u32> = groups[part(groups.len(), range)].iter().copied().collect();
        let chosen = (0..inner.len()).filter(|i| kept.contains(&inner.group(*i))).collect();
        Self::build(inner, order, seed, chosen)
    }

    fn build(inner: S, order: Order, seed: u64, mut chosen: Vec<usize>) -> Self {
        if order == Order::ByLabel {
            // Stable: within a label the given order stays. Samples without a label come last.
            chosen.sort_by(|a, b| label_order(inner.label(*a)).total_cmp(&label_order(inner.label(*b))));
        }
        let playing = chosen.clone();
        let mut ordered = Ordered { inner, order, seed, epoch: 0, chosen, playing, next: 0, skipped: 0, last: None };
        ordered.arrange();
        ordered
    }

    fn arrange(&mut self) {
        self.next = 0;
        self.last = None;
        if self.order == Order::Shuffled {
            self.playing.copy_from_slice(&self.chosen);
            shuffle(&mut self.playing, self.seed, self.epoch);
        }
    }

    /// The source that is played.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Indexed> Source for Ordered<S> {
    fn describe(&self) -> String {
        let mut text = self.inner.describe();
        if self.chosen.len() != self.inner.len() {
            text += &format!(", {} of them", self.chosen.len());
        }
        match self.order {
            Order::Given => text,
            Order::Shuffled => text + &format!(", shuffled with seed {}", self.seed),
            Order::ByLabel => text + ", label after label",
        }
    }

    fn len_hint(&self) -> Option<u64> {
        Some(self.chosen.len() as u64)
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        while let Some(&index) = self.playing.get(self.next) {
            self.next += 1;
            if !self.inner.read(index, record)? {
                self.skipped += 1;
                continue;
            }
            if self.order != Order::Given {
                let own = record.segment;
                record.segment = match self.last {
                    None => 0,
                    Some((before, segment, played)) if index == before + 1 && own == segment => played,
                    Some((_, _, played)) => played + 1,
                };
                self.last = Some((index, own, record.segment));
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.epoch += 1;
        self.arrange();
        Ok(())
    }

    fn in_order(&self) -> bool {
        // Label after label, long stretches stay as they were.
        self.order != Order::Shuffled && self.inner.in_order()
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn class_names(&self) -> &[String] {
        self.inner.class_names()
    }

    fn sound_rate(&self) -> Option<u32> {
        self.inner.sound_rate()
    }
}

impl Indexed for Box<dyn Indexed> {
    fn describe(&self) -> String {
        (**self).describe()
    }
    fn len(&self) -> usize {
        (**self).len()
    }
    fn in_order(&self) -> bool {
        (**self).in_order()
    }
    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
        (**self).read(index, record)
    }
    fn label(&self, index: usize) -> Option<Label> {
        (**self).label(index)
    }
    fn group(&self, index: usize) -> u32 {
        (**self).group(index)
    }
    fn class_names(&self) -> &[String] {
        (**self).class_names()
    }
    fn sound_rate(&self) -> Option<u32> {
        (**self).sound_rate()
    }
}

fn label_order(label: Option<Label>) -> f64 {
    match label {
        Some(Label::Class(c)) => f64::from(c),
        Some(Label::Value(v)) => v,
        None => f64::INFINITY,
    }
}

/// The samples of a range: both ends round down, so that 0.0..0.8 and 0.8..1.0 together are everything, once.
fn part(len: usize, (start, end): (f64, f64)) -> std::ops::Range<usize> {
    let at = |fraction: f64| ((len as f64 * fraction + 1e-9).floor() as usize).min(len);
    at(start)..at(end)
}

/// Fisher-Yates with splitmix64.
fn shuffle(items: &mut [usize], seed: u64, epoch: u64) {
    let mut state = seed ^ epoch.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let mut random = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    for i in (1..items.len()).rev() {
        // High half of the product: uniform over 0..=i to within i / 2^64.
        let j = ((u128::from(random()) * (i as u128 + 1)) >> 64) as usize;
        items.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Micros;

    /// Ten samples in two segments; sample 4 is damaged.
    struct Ten;
    impl Indexed for Ten {
        fn describe(&self) -> String {
            "ten".to_owned()
        }
        fn len(&self) -> usize {
            10
        }
        fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
            record.time = Micros(index as u64);
            record.segment = self.group(index);
            record.label = self.label(index);
            Ok(index != 4)
        }
        fn label(&self, index: usize) -> Option<Label> {
            (index > 0).then_some(Label::Class((index % 2) as u32))
        }
        fn group(&self, index: usize) -> u32 {
            (index / 5) as u32
        }
    }

    fn play(source: &mut dyn Source) -> Vec<(u64, u32)> {
        let mut record = Record::default();
        let mut out = Vec::new();
        while source.read_next(&mut record).unwrap() {
            out.push((record.time.0, record.segment));
        }
        out
    }

    fn times(source: &mut dyn Source) -> Vec<u64> {
        play(source).into_iter().map(|(t, _)| t).collect()
    }

    #[test]
    fn damaged_samples_are_passed_over_and_counted() {
        let mut source = Ordered::given(Ten);
        let played = play(&mut source);
        assert_eq!(played, [0, 1, 2, 3, 5, 6, 7, 8, 9].map(|t| (t, (t / 5) as u32)));
        assert_eq!(source.skipped(), 1);
        source.rewind().unwrap();
        assert_eq!(play(&mut source), played);
    }

    #[test]
    fn a_shuffled_order_is_a_pure_function_of_seed_and_epoch() {
        let mut source = Ordered::new(Ten, Order::Shuffled, 5, (0.0, 1.0));
        let first = times(&mut source);
        source.rewind().unwrap();
        let second = times(&mut source);
        assert_ne!(first, second);
        let mut again = Ordered::new(Ten, Order::Shuffled, 5, (0.0, 1.0));
        again.rewind().unwrap();
        assert_eq!(times(&mut again), second);
        assert_ne!(times(&mut Ordered::new(Ten, Order::Shuffled, 6, (0.0, 1.0))), first);
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn by_label_keeps_the_given_order_within_a_label_and_neighbours_only_where_they_were() {
        let played = play(&mut Ordered::new(Ten, Order::ByLabel, 0, (0.0, 1.0)));
        assert_eq!(played.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [2, 6, 8, 1, 3, 5, 7, 9, 0]);
        assert_eq!(played.iter().map(|(_, s)| *s).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn two_ranges_that_meet_hold_every_sample_once() {
        for len in [1usize, 7, 10, 5000] {
            for cut in [0.1, 0.3, 0.5, 0.7, 0.8] {
                assert_eq!(part(len, (0.0, cut)).end, part(len, (cut, 1.0)).start);
                assert_eq!(part(len, (cut, 1.0)).end, len);
            }
        }
        assert_eq!(part(5000, (0.0, 0.8)).len(), 4000);
        assert_eq!(times(&mut Ordered::new(Ten, Order::Given, 0, (0.5, 0.8))), [5, 6, 7]);
    }

    #[test]
    fn a_range_of_groups_takes_whole_groups() {
        let query = Query { range: Some((0.5, 1.0)), range_of: Some(RangeOf::Groups), ..Query::default() };
        assert_eq!(times(&mut Ordered::from_query(Ten, &query, 0)), [5, 6, 7, 8, 9]);
    }
}
