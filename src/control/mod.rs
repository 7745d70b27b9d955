//! Controllers: what is made of features on the device itself, taught with a few labels.
//!
//! Above the line, in float: a controller's answer is an angle or a name, not a weight that must have the same bits
//! everywhere. Two sides share the work. The teacher ([`taught::Taught`], [`Fitted::of`]) keeps labelled samples and fits all
//! controllers anew for each encoder that is published; it may take its time. The perceiving side ([`Controllers`]) gets
//! encoder and [`Fitted`] together, so that no feature ever meets what was fitted to another encoder; it decides within the
//! time of a sample and allocates nothing. A controller that has nothing to decide by, is unsure, or whose features are
//! stale gives its safe value.

pub mod alarm;
pub mod classify;
pub mod config;
pub mod follow;
pub mod log;
pub mod space;
pub mod steer;
pub mod store;
pub mod taught;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use alarm::Alarm;
use classify::{Classes, Classify, Shown};
use config::{ControllerTable, Does};
use follow::{Follow, Signature};
use space::Space;
use steer::{Steer, Steering};
use taught::{Answer, BACKGROUND, MOST_CLASSES, MOST_OF_CLASSES, MOST_VALUES, Taught};

use crate::bus::{self, Message};
use crate::kernels::Grid;
use crate::sample::{EncoderVersion, Micros};

/// Values that one controller gives out together.
pub const MOST_OUTPUTS: usize = 4;
/// Background samples from which on the stream counts as known.
pub const FEWEST_BACKGROUND: usize = 12;

/// The values of a controller's outputs.
pub type Values = heapless::Vec<f64, MOST_OUTPUTS>;

/// Bytes that what is taught to `tables` takes at most, fitting it included, of samples of `stored_len` bytes and features of
/// `dim` numbers.
pub fn most_bytes(tables: &[ControllerTable], stored_len: usize, dim: usize) -> usize {
    if tables.iter().all(|table| table.does == Does::Log) {
        return 0;
    }
    let with_classes = tables.iter().any(|table| matches!(table.does, Does::Classify | Does::Follow));
    let steering = tables.iter().filter(|table| table.does == Does::Steer).count();
    let examples = if with_classes { MOST_OF_CLASSES } else { 0 } + steering * MOST_VALUES;
    let row = dim * size_of::<f32>();
    // A fit is in use while the next one is made, which takes each example once as it is and once whitened or centred.
    let kept = BACKGROUND + steering * steer::ANCHORS + if with_classes { MOST_CLASSES } else { 0 };
    (examples + BACKGROUND) * (stored_len + dim) + 2 * kept * row + 2 * examples * row
}

/// What a controller sees of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub time: Micros,
    /// The feature, standardised by the background.
    pub standard: &'a [f32],
    /// How far it is from the background; 1 is as far as that is from itself.
    pub novelty: f32,
}

/// What a controller would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    pub values: Values,
    pub label: Option<Arc<str>>,
    pub alarm: Option<bool>,
    /// 0 to 1.
    pub confidence: f32,
    /// Why there is nothing to decide by.
    pub not_yet: Option<&'static str>,
}

impl Choice {
    /// One value.
    pub fn value(value: f64, confidence: f32) -> Self {
        Choice { values: Values::from_iter([value]), confidence, ..Choice::default() }
    }

    /// Nothing to decide by, for this reason.
    pub fn not_yet(why: &'static str) -> Self {
        Choice { not_yet: Some(why), ..Choice::default() }
    }
}

/// A kind of controller. One's own is given to [`Controllers::add`].
pub trait Controller: Send {
    /// Decides by one sample; `fitted` is of the same encoder as the feature. Called for each sample in turn.
    fn decide(&mut self, seen: &Seen, fitted: &Fitted) -> Choice;
}

/// What all controllers know, fitted to the features of one encoder.
#[derive(Clone, Debug, Default)]
pub struct Fitted {
    pub version: EncoderVersion,
    pub space: Space,
    pub classes: Classes,
    /// One place for each controller; filled for those that steer.
    pub steering: Vec<Option<Steering>>,
    /// Likewise for those that follow.
    pub signatures: Vec<Option<Signature>>,
}

impl Fitted {
    /// Fits `tables` to what was taught, whose features must be of the encoder `version`, `grids` its feature's layers.
    pub fn of(tables: &[ControllerTable], grids: &[Grid], taught: &Taught, version: EncoderVersion) -> Self {
        let dim = grids.iter().map(Grid::len).sum();
        let background = taught.background.iter().map(|kept| kept.feature.as_slice());
        let examples = taught.examples.iter().map(|example| example.kept.feature.as_slice());
        // Where nothing but the examples was seen, they are all that there is.
        let few = if taught.background.len() < FEWEST_BACKGROUND { usize::MAX } else { 0 };
        let space = Space::of(dim, background.chain(examples.take(few)));
        let mut rows = vec![0f32; dim * taught.examples.len()];
        for (row, example) in rows.chunks_exact_mut(dim).zip(&taught.examples) {
            space.standardise(&example.kept.feature, row);
        }
        let row = |i: usize| &rows[i * dim..][..dim];

        let names = taught.classes();
        let class_of = |answer: &Answer| match answer {
            Answer::Class(class) => names.iter().position(|name| name == class),
            Answer::Values(..) => None,
        };
        let shown: Vec<Shown> = taught
            .examples
            .iter()
            .enumerate()
            .filter_map(|(i, e)| Some(Shown { class: class_of(&e.answer)?, teaching: e.teaching, feature: row(i) }))
            .collect();
        let steering = |table: &ControllerTable| {
            let mut values = Vec::new();
            let mut own = Vec::new();
            for (i, example) in taught.examples.iter().enumerate() {
                if let Answer::Values(controller, taught) = &example.answer
                    && **controller == *table.name
                    && taught.len() == table.outputs
                {
                    values.push(taught.clone());
                    own.extend_from_slice(row(i));
                }
            }
            (table.does == Does::Steer).then(|| Steering::of(&own, &values, dim)).flatten()
        };
        let signature = |table: &ControllerTable| {
            let class = names.iter().position(|name| Some(&**name) == table.label.as_deref())?;
            let own = shown.iter().filter(|s| s.class == class).map(|s| s.feature);
            Signature::of(grids, own, (0..space.len()).map(|i| space.row(i)))
        };
        Fitted {
            version,
            steering: tables.iter().map(steering).collect(),
            signatures: tables.iter().map(|t| (t.does == Does::Follow).then(|| signature(t)).flatten()).collect(),
            classes: if names.is_empty() { Classes::default() } else { Classes::of(&space, names, &shown) },
            space,
        }
    }
}

/// What a controller did.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Decision {
    /// Within the limits, as fast as it may change.
    pub values: Values,
    pub label: Option<Arc<str>>,
    pub alarm: Option<bool>,
    pub confidence: f32,
    /// Why these are the safe values, where they are.
    pub safe: Option<&'static str>,
}

impl Decision {
    /// There is nothing to decide by any more: what it moves goes into its own safe state.
    pub fn is_over(&self) -> bool {
        matches!(self.safe, Some(STALE | ENDED))
    }
}

struct Slot {
    name: Arc<str>,
    table: ControllerTable,
    controller: Box<dyn Controller>,
    stale: Duration,
    decision: Decision,
    /// When that was decided.
    at: Option<Micros>,
    /// The decision differs from the one before in more than a value's small change.
    changed: bool,
}

/// All controllers of a profile, on the perceiving side.
pub struct Controllers {
    slots: Vec<Slot>,
    fitted: Arc<Fitted>,
    standard: Vec<f32>,
    novelty: f32,
}

/// Why a value is safe: it is not sure enough, its features are too old, nobody makes any more.
const UNSURE: &str = "unsure";
const STALE: &str = "its features are stale";
pub const ENDED: &str = "nestling has ended";
/// A value that changes by more than this share of its range is a change.
const CHANGE: f64 = 0.02;

impl Controllers {
    /// The controllers of `tables` for features of `dim` numbers, which may be `usual` old. Logs decide nothing: they are not
    /// among them.
    pub fn new(tables: &[ControllerTable], dim: usize, usual: Duration) -> Self {
        let fitted = Arc::new(Fitted::default());
        let mut all = Controllers { slots: Vec::new(), fitted, standard: vec![0.0; dim], novelty: 0.0 };
        for (place, table) in tables.iter().enumerate() {
            let controller: Box<dyn Controller> = match table.does {
                Does::Steer => Box::new(Steer::new(place)),
                Does::Classify => Box::new(Classify::new(table.values.clone(), table.safe)),
                Does::Alarm => Box::new(Alarm::new(table.per_hour)),
                Does::Follow => Box::new(Follow::new(place)),
                Does::Log => continue,
            };
            all.add(table.clone(), controller, usual);
        }
        all
    }

    /// Adds a controller; its limits, safe value and staleness are those of `table`.
    pub fn add(&mut self, table: ControllerTable, controller: Box<dyn Controller>, usual: Duration) {
        let values = std::iter::repeat_n(table.safe, table.outputs).collect();
        let decision = Decision { values, safe: Some("nothing was seen yet"), ..Decision::default() };
        let stale = table.stale(usual);
        let name = table.name.as_str().into();
        self.slots.push(Slot { name, table, controller, stale, decision, at: None, changed: true });
    }

    /// Features may be `usual` old from now on, where a table says nothing else.
    pub fn set_usual(&mut self, usual: Duration) {
        self.slots.iter_mut().for_each(|slot| slot.stale = slot.table.stale(usual));
    }

    /// Takes what was fitted to the encoder of the features to come; gives back what was used so far, for someone else to
    /// drop.
    pub fn adopt(&mut self, fitted: Arc<Fitted>) -> Arc<Fitted> {
        std::mem::replace(&mut self.fitted, fitted)
    }

    /// Decides by the feature of a sample at `time`. Returns its novelty; `None` while the stream is not known.
    pub fn decide(&mut self, time: Micros, feature: &[i8]) -> Option<f32> {
        let space = &self.fitted.space;
        let known = space.dim == feature.len() && space.len() >= FEWEST_BACKGROUND;
        if known {
            self.fitted.space.standardise(feature, &mut self.standard);
            self.novelty = self.fitted.space.novelty(&self.standard);
        }
        let seen = Seen { time, standard: &self.standard, novelty: self.novelty };
        for slot in &mut self.slots {
            let choice = match known {
                true => slot.controller.decide(&seen, &self.fitted),
                false => Choice::not_yet("the stream is not known yet"),
            };
            slot.take(choice, Some(time));
        }
        known.then_some(self.novelty)
    }

    /// Makes the decisions safe whose features are older than they may be, as the newest is `age` old. Whether one changed.
    pub fn look_for_staleness(&mut self, age: Duration) -> bool {
        let mut changed = false;
        for slot in &mut self.slots {
            let fresh = slot.decision.safe.is_none() || slot.decision.safe == Some(UNSURE);
            slot.changed = false;
            if fresh && age > slot.stale {
                slot.make_safe(STALE);
                changed = true;
            }
        }
        changed
    }

    /// Makes all decisions safe, for this reason.
    pub fn make_safe(&mut self, why: &'static str) {
        self.slots.iter_mut().for_each(|slot| slot.make_safe(why));
    }

    /// The decisions: of each controller its table, what it did, and whether that is news.
    pub fn decisions(&self) -> impl Iterator<Item = (&ControllerTable, &Decision, bool)> {
        self.slots.iter().map(|slot| (&slot.table, &slot.decision, slot.changed))
    }

    /// All decisions as messages, by a sample at `time` that came `age` ago.
    pub fn messages(&self, time: Micros, age: Duration) -> impl Iterator<Item = Message> {
        self.slots.iter().map(move |slot| Message::Decision(slot.message(time, age)))
    }
}

impl Slot {
    fn take(&mut self, choice: Choice, time: Option<Micros>) {
        let table = &self.table;
        let unsure = f64::from(choice.confidence) < table.confidence;
        let safe = choice.not_yet.or(unsure.then_some(UNSURE));
        let seconds = match (self.at, time) {
            (Some(before), Some(now)) => now.0.saturating_sub(before.0) as f64 * 1e-6,
            _ => 0.0,
        };
        let mut changed = safe.is_some() != self.decision.safe.is_some()
            || self.decision.label != choice.label
            || self.decision.alarm != choice.alarm;
        for (output, value) in self.decision.values.iter_mut().enumerate() {
            // What is safe is so at once.
            let wanted = match safe {
                Some(_) => table.safe,
                None => {
                    let wanted = choice.values.get(output).copied().unwrap_or(table.safe);
                    let wanted = if wanted.is_finite() { wanted.clamp(table.least, table.most) } else { table.safe };
                    let wanted = match table.smooth_ms {
                        // What was safe is no mean of anything.
                        ms if ms > 0.0 && self.decision.safe.is_none() => {
                            wanted + (*value - wanted) * (-seconds * 1e3 / ms).exp()
                        }
                        _ => wanted,
                    };
                    match table.per_second {
                        Some(rate) => *value + (wanted - *value).clamp(-rate * seconds, rate * seconds),
                        None => wanted,
                    }
                }
            };
            changed |= (wanted - *value).abs() > CHANGE * (table.most - table.least);
            *value = wanted;
        }
        (self.decision.label, self.decision.alarm) = (choice.label, choice.alarm);
        (self.decision.confidence, self.decision.safe) = (choice.confidence, safe);
        self.changed = changed;
        self.at = time;
    }

    fn make_safe(&mut self, why: &'static str) {
        self.take(Choice::not_yet(why), None);
        self.changed = true;
    }

    fn message(&self, time: Micros, age: Duration) -> bus::Decision {
        let decision = &self.decision;
        bus::Decision {
            controller: self.name.clone(),
            time,
            age,
            values: decision.values.clone(),
            confidence: decision.confidence,
            label: decision.label.clone(),
            alarm: decision.alarm,
            safe: decision.safe.map(Cow::Borrowed),
        }
    }
}

#[cfg(test)]
mod tests;
