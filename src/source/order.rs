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

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn class_names(&self) -> &[String] {
        self.inner.class_names()
    }
}

impl Indexed for Box<dyn Indexed> {
    fn describe(&self) -> String {
        (**self).describe()
    }
    fn len(&self) -> usize {
        (**self).len()
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
