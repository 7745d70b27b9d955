//! Features on their way out: what one looks like on a line, and who reads it. No reader ever holds perceiving up; what it
//! had no time for is counted.

pub mod socket;

use std::io::Write;
use std::time::Duration;

use crate::sample::{EncoderVersion, Micros};

/// What an encoder made of one sample.
#[derive(Clone, Copy, Debug)]
pub struct Feature<'a> {
    /// Mantissas, block by block.
    pub values: &'a [i8],
    /// Time of the sample.
    pub time: Micros,
    /// From the arrival of the sample until now.
    pub age: Duration,
    /// Version of the encoder: features of two versions are not to be compared.
    pub encoder: EncoderVersion,
    /// How far it is from all that the stream has shown; 1 is as far as that is from itself. `None` where nobody keeps that.
    pub novelty: Option<f32>,
    /// How the encoder stands against the best so far, 0 to 1. `None` before the guard has judged one.
    pub health: Option<f32>,
}

impl Feature<'_> {
    /// Writes the feature as one JSON object on a line: `t_us`, `age_us`, `encoder`, `novelty`, `health`, `blocks`
    /// (length and exponent of each block: `value = m · 2^e` relative to the sums of the block), `feature`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_line(&self, out: &mut impl Write, blocks: impl Iterator<Item = (usize, u32)>) -> std::io::Result<()> {
        let (time, age, version) = (self.time.0, self.age.as_micros(), self.encoder.0);
        write!(out, "{{\"t_us\":{time},\"age_us\":{age},\"encoder\":{version}")?;
        for (name, value) in [("novelty", self.novelty), ("health", self.health)] {
            match value {
                Some(value) => write!(out, ",\"{name}\":{value:.3}")?,
                None => write!(out, ",\"{name}\":null")?,
            }
        }
        out.write_all(b",\"blocks\":[")?;
        for (i, (len, exponent)) in blocks.enumerate() {
            write!(out, "{}[{len},{exponent}]", if i > 0 { "," } else { "" })?;
        }
        out.write_all(b"],\"feature\":[")?;
        for (i, v) in self.values.iter().enumerate() {
            write!(out, "{}{v}", if i > 0 { "," } else { "" })?;
        }
        out.write_all(b"]}\n")
    }
}

/// Writes what readers are told when the newest feature is older than it may be.
///
/// # Errors
/// Those of `out`.
pub fn write_stale(out: &mut impl Write, age: Duration) -> std::io::Result<()> {
    writeln!(out, "{{\"stale\":true,\"age_us\":{}}}", age.as_micros())
}
