//! What goes out: one type for every way. A message is filled in place, so that a running stream allocates nothing.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::Values;
use crate::sample::{EncoderVersion, Micros};

/// What goes out. Its order and that of its fields are the packed form ([`super::frame`]), whose version changes with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    Feature(Feature),
    Decision(Decision),
    Stale(Stale),
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Feature,
    Decision,
    Stale,
}

/// What an encoder made of one sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Time of the sample.
    pub time: Micros,
    /// From the arrival of the sample until this was written; packed as µs.
    #[serde(with = "micros")]
    pub age: Duration,
    /// Version of the encoder: features of two versions are not to be compared.
    pub encoder: EncoderVersion,
    /// How far it is from all that the stream has shown; 1 is as far as that is from itself. `None` where nobody keeps that.
    pub novelty: Option<f32>,
    /// How the encoder stands against the best so far, 0 to 1. `None` before the guard has judged one.
    pub health: Option<f32>,
    pub blocks: Vec<Block>,
    /// Mantissas, block by block.
    pub values: Vec<i8>,
}

/// Values of a feature that share an exponent: `value = m · 2^e` relative to the sums of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub len: u32,
    pub exponent: u32,
}

/// What a controller did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub controller: Arc<str>,
    /// Time of the newest sample.
    pub time: Micros,
    /// From the arrival of that sample until this was written; packed as µs.
    #[serde(with = "micros")]
    pub age: Duration,
    /// Within the controller's limits, as fast as it may change.
    pub values: Values,
    /// 0 to 1.
    pub confidence: f32,
    pub label: Option<Arc<str>>,
    pub alarm: Option<bool>,
    /// Why these are the safe values, where they are.
    pub safe: Option<Cow<'static, str>>,
}

/// The newest feature is older than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stale {
    /// How old the newest feature is; packed as µs.
    #[serde(with = "micros")]
    pub age: Duration,
}

mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(time.as_micros() as u64)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

impl Message {
    pub fn kind(&self) -> Kind {
        match self {
            Message::Feature(_) => Kind::Feature,
            Message::Decision(_) => Kind::Decision,
            Message::Stale(_) => Kind::Stale,
        }
    }

    /// Writes the message as one JSON object on a line.
    ///
    /// A feature has `t_us`, `age_us`, `encoder`, `novelty`, `health`, `blocks` (length and exponent of each block), `feature`;
    /// a decision `controller`, `t_us`, `age_us`, `values`, `confidence`, `label` and `alarm` where it has them, `safe`;
    /// staleness `stale` and `age_us`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_line(&self, out: &mut impl Write) -> std::io::Result<()> {
        match self {
            Message::Feature(feature) => feature.write_line(out),
            Message::Decision(decision) => decision.write_object(out).and_then(|()| out.write_all(b"\n")),
            Message::Stale(stale) => writeln!(out, "{{\"stale\":true,\"age_us\":{}}}", stale.age.as_micros()),
        }
    }
}

impl Feature {
    fn write_line(&self, out: &mut impl Write) -> std::io::Result<()> {
        let (time, age, version) = (self.time.0, self.age.as_micros(), self.encoder.0);
        write!(out, "{{\"t_us\":{time},\"age_us\":{age},\"encoder\":{version}")?;
        for (name, value) in [("novelty", self.novelty), ("health", self.health)] {
            match value {
                Some(value) => write!(out, ",\"{name}\":{value:.3}")?,
                None => write!(out, ",\"{name}\":null")?,
            }
        }
        out.write_all(b",\"blocks\":[")?;
        for (i, Block { len, exponent }) in self.blocks.iter().enumerate() {
            write!(out, "{}[{len},{exponent}]", if i > 0 { "," } else { "" })?;
        }
        out.write_all(b"],\"feature\":[")?;
        for (i, v) in self.values.iter().enumerate() {
            write!(out, "{}{v}", if i > 0 { "," } else { "" })?;
        }
        out.write_all(b"]}\n")
    }
}

impl Decision {
    /// As [`Message::write_line`], without the end of the line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_object(&self, out: &mut impl Write) -> std::io::Result<()> {
        let (time, age) = (self.time.0, self.age.as_micros());
        // Names and labels are checked when they are read or taught: nothing in them needs an escape.
        write!(out, "{{\"controller\":\"{}\",\"t_us\":{time},\"age_us\":{age},\"values\":[", self.controller)?;
        for (i, value) in self.values.iter().enumerate() {
            write!(out, "{}{value:.4}", if i > 0 { "," } else { "" })?;
        }
        write!(out, "],\"confidence\":{:.3}", self.confidence)?;
        if let Some(label) = &self.label {
            write!(out, ",\"label\":\"{label}\"")?;
        }
        if let Some(alarm) = self.alarm {
            write!(out, ",\"alarm\":{alarm}")?;
        }
        match &self.safe {
            Some(why) => write!(out, ",\"safe\":\"{why}\"}}"),
            None => write!(out, ",\"safe\":null}}"),
        }
    }
}
