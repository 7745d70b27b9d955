//! The channels of an IIO device: their names, their files, and the unit that their readings come in.

use std::fs;
use std::path::{Path, PathBuf};

/// What the drivers of the kernel give for a kind of channel, times this, is a reading.
const UNITS: &[(&str, f64)] = &[
    // m/s², rad/s: as every inertial sensor here, 8192 a g and 65.5 a °/s.
    ("accel", 8192.0 / 9.80665),
    ("anglvel", 65.5 * 180.0 / std::f64::consts::PI),
    // mV, mA: 125 µV and µA, as the ADC's.
    ("voltage", 8.0),
    ("current", 8.0),
    // m: mm, as the time-of-flight sensors'.
    ("distance", 1000.0),
    // G: mG.
    ("magn", 1000.0),
    // m°C, m%, kPa: hundredths of a °C and of a %, 10 Pa.
    ("temp", 0.1),
    ("humidityrelative", 0.1),
    ("pressure", 100.0),
];

/// One channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// As `?channels=` names it: `accel_x`, `voltage0`.
    pub name: String,
    /// What is read for a single value.
    pub file: PathBuf,
    factor: f64,
    offset: f64,
}

impl Channel {
    /// The reading for `raw`.
    pub fn reading(&self, raw: f64) -> i16 {
        ((raw + self.offset) * self.factor).round().clamp(-32767.0, 32767.0) as i16
    }
}

/// `accel` of `accel_x`, `voltage` of `voltage0` and of `voltage0-voltage1`.
fn kind(name: &str) -> &str {
    let end = name.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(name.len());
    &name[..end]
}

/// The channel `name` of the device in `folder`; `None` where it has no such one.
pub fn find(folder: &Path, name: &str) -> Option<Channel> {
    let raw = folder.join(format!("in_{name}_raw"));
    let done = folder.join(format!("in_{name}_input"));
    let kind = kind(name);
    let unit = UNITS.iter().find(|(known, _)| *known == kind).map(|(_, factor)| *factor);
    if !raw.exists() {
        // The driver has worked the value out itself.
        let unit = unit.unwrap_or(1.0);
        return done.exists().then(|| Channel { name: name.into(), file: done, factor: unit, offset: 0.0 });
    }
    let attribute = |what: &str| {
        let of = |owner: &str| number(&folder.join(format!("in_{owner}_{what}")));
        of(name).or_else(|| of(kind))
    };
    // A value of a kind without a unit here is the number that the part gives.
    let factor = match (unit, attribute("scale")) {
        (Some(unit), Some(scale)) => unit * scale,
        _ => 1.0,
    };
    Some(Channel { name: name.into(), file: raw, factor, offset: attribute("offset").unwrap_or(0.0) })
}

/// The names of all channels of the device in `folder`, inertial ones first: accelerometer, then gyroscope.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            let name = file.strip_prefix("in_")?;
            let name = name.strip_suffix("_raw").or_else(|| name.strip_suffix("_input"))?;
            Some(name.to_owned())
        })
        .collect();
    let rank = |name: &str| ["accel", "anglvel"].iter().position(|k| *k == kind(name)).unwrap_or(2);
    names.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
    names.dedup();
    names
}

/// Those that are read where the URI names none: of an inertial sensor the inertial ones, else all.
pub fn usual(names: &[String]) -> Vec<String> {
    let inertial: Vec<_> = names.iter().filter(|n| matches!(kind(n), "accel" | "anglvel")).cloned().collect();
    if inertial.is_empty() { names.to_vec() } else { inertial }
}

/// The number in a file.
pub fn number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|x: &f64| x.is_finite())
}
