//! `[[controller]]` of a board's profile: what is made of features, and where it goes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MOST_OUTPUTS;

/// What a controller does with features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Does {
    /// Values that were taught by demonstration: ridge regression.
    Steer,
    /// The class that a few examples taught, or `unknown`.
    Classify,
    /// Whether this is unlike all that the stream has shown.
    Alarm,
    /// Where in the frame a taught class is, from -1 (left) to 1 (right).
    Follow,
    /// Writes down what the others decide.
    Log,
}

/// One controller.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerTable {
    pub name: String,
    pub does: Does,
    /// Pins that get the decision: one for each output. `name` of a `[[pin]]`.
    #[serde(default, deserialize_with = "crate::board::one_or_many")]
    pub pin: Vec<String>,
    /// Program and arguments, started when the decision changes.
    #[serde(default)]
    pub command: Vec<String>,
    /// Values that are taught and given out together.
    #[serde(default = "one")]
    pub outputs: usize,
    /// Limits of a value.
    #[serde(default = "minus_one")]
    pub least: f64,
    #[serde(default = "plus_one")]
    pub most: f64,
    /// Fastest change of a value in a second. Absent: at once.
    #[serde(default)]
    pub per_second: Option<f64>,
    /// Milliseconds over which values are smoothed: an exponential mean with that time constant. 0: not at all.
    #[serde(default)]
    pub smooth_ms: f64,
    /// The value while there is nothing to decide by: untaught, unsure, stale, at the end.
    #[serde(default)]
    pub safe: f64,
    /// Milliseconds after which a decision is stale. Absent: as `[perceive] stale_ms`.
    #[serde(default)]
    pub stale_ms: Option<u64>,
    /// Below this confidence, 0 to 1, the value is the safe one.
    #[serde(default)]
    pub confidence: f64,
    /// Of a classifier: the value for each class.
    #[serde(default)]
    pub values: BTreeMap<String, f64>,
    /// Of an alarm: false alarms an hour that are allowed.
    #[serde(default = "plus_one")]
    pub per_hour: f64,
    /// Of a follower: the class that it follows.
    #[serde(default)]
    pub label: Option<String>,
    /// Of a log: the file, and its bytes at most; it is then begun anew and the old one kept as `NAME.1`.
    #[serde(default)]
    pub file: Option<PathBuf>,
    #[serde(default = "log_bytes")]
    pub bytes: u64,
}

const fn one() -> usize {
    1
}
const fn minus_one() -> f64 {
    -1.0
}
const fn plus_one() -> f64 {
    1.0
}
const fn log_bytes() -> u64 {
    10_000_000
}

impl ControllerTable {
    /// One with the usual values, named after what it does.
    pub fn plain(does: Does) -> Self {
        let name = match does {
            Does::Steer => "steer",
            Does::Classify => "classify",
            Does::Alarm => "alarm",
            Does::Follow => "follow",
            Does::Log => "log",
        };
        ControllerTable {
            name: name.into(),
            does,
            pin: Vec::new(),
            command: Vec::new(),
            outputs: 1,
            least: -1.0,
            most: 1.0,
            per_second: None,
            smooth_ms: 0.0,
            safe: 0.0,
            stale_ms: None,
            confidence: 0.0,
            values: BTreeMap::new(),
            per_hour: 1.0,
            label: None,
            file: None,
            bytes: log_bytes(),
        }
    }

    /// What is wrong with it: the key, its value, and what would be right.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        let wrong = |key, value: &dyn std::fmt::Display, wanted| Err((key, value.to_string(), wanted));
        let sound = !self.name.is_empty() && self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !sound {
            return wrong("controller.name", &self.name, "letters, digits, - and _");
        }
        if !(1..=MOST_OUTPUTS).contains(&self.outputs) {
            return wrong("controller.outputs", &self.outputs, "1 to 4");
        }
        if self.does != Does::Steer && self.outputs != 1 {
            return wrong("controller.outputs", &self.outputs, "1: only does = \"steer\" has several");
        }
        if self.pin.len() > self.outputs {
            return wrong("controller.pin", &self.pin.join(", "), "no more pins than outputs");
        }
        if !(self.least.is_finite() && self.most.is_finite() && self.least < self.most) {
            return wrong("controller.least", &self.least, "a number below controller.most");
        }
        if !(self.least..=self.most).contains(&self.safe) {
            return wrong("controller.safe", &self.safe, "from controller.least to controller.most");
        }
        if let Some(rate) = self.per_second
            && !(rate > 0.0 && rate.is_finite())
        {
            return wrong("controller.per_second", &rate, "a change a second above 0; leave it out for no limit");
        }
        if !(0.0..=60_000.0).contains(&self.smooth_ms) {
            return wrong("controller.smooth_ms", &self.smooth_ms, "milliseconds, 0 to 60000");
        }
        if let Some(ms) = self.stale_ms
            && !(1..=3_600_000).contains(&ms)
        {
            return wrong("controller.stale_ms", &ms, "milliseconds, 1 to 3600000");
        }
        if !(0.0..1.0).contains(&self.confidence) {
            return wrong("controller.confidence", &self.confidence, "0 to below 1");
        }
        if let Some((class, value)) = self.values.iter().find(|(_, v)| !(self.least..=self.most).contains(v)) {
            let value = format!("{class} = {value}");
            return wrong("controller.values", &value, "from controller.least to controller.most");
        }
        if !self.values.is_empty() && self.does != Does::Classify {
            return wrong("controller.values", &self.values.len(), "none: only does = \"classify\" has classes");
        }
        if !(self.per_hour > 0.0 && self.per_hour <= 3600.0) {
            return wrong("controller.per_hour", &self.per_hour, "alarms an hour above 0, up to 3600");
        }
        if self.does == Does::Follow && self.label.is_none() {
            return wrong("controller.label", &"", "the class that is followed");
        }
        if self.does == Does::Log && self.file.is_none() {
            return wrong("controller.file", &"", "the file to write");
        }
        if self.does == Does::Log && !self.pin.is_empty() {
            return wrong("controller.pin", &self.pin.join(", "), "none: a log decides nothing");
        }
        Ok(())
    }

    /// How old a feature may be for it, where features may be `usual` old.
    pub fn stale(&self, usual: Duration) -> Duration {
        self.stale_ms.map_or(usual, Duration::from_millis)
    }
}
