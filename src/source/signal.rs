//! Long signals cut into windows: what the NumPy, the CSV and the token signal and sound share, and the way from floats to
//! `i16`.
//!
//! **Floats to `i16`.** `reading = round(x / 2^e)`, halves away from zero, clamped to ±32767, with one unit 2^e for each
//! channel of the whole file: e is a multiple of 4 (so that two recordings of one sensor agree on it), the smallest by
//! which the largest |x| stays below 2^15. Channels whose ranges lie within a factor of 64 of each other share the
//! largest one's unit, so that the axes of a vector keep their proportions. Channels of whole numbers that fit into
//! ±32767 keep their numbers (e = 0).

use super::labels::RowLabels;
use super::uri::{Nan, Query, Uri};
use super::{Indexed, Label, Record, SourceError};
use crate::sample::Micros;

/// Readings in one window at the most.
pub(super) const MAX_READINGS: usize = 1 << 24;
/// Window length of sensors where the URI gives none.
pub(super) const WINDOW: usize = 128;
/// Rows a second where neither the URI nor a time column says.
pub(super) const RATE: f64 = 50.0;

/// The rows of a signal, wherever they are kept.
pub(super) trait Rows: Send {
    fn channels(&self) -> usize;
    /// Fills `out`, `[rows, channels]`, from row `start` on; `false` where they hold a NaN or an infinity.
    fn read(&mut self, start: usize, out: &mut [i16]) -> Result<bool, SourceError>;
}

/// Rows without a pause, from one subject or run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stretch {
    pub start: usize,
    pub length: usize,
    pub segment: u32,
    pub group: u32,
    /// Label of all its rows, where the list of segments gives one.
    pub label: Option<Label>,
}

#[derive(Clone, Debug)]
struct Window {
    start: usize,
    length: usize,
    time: Micros,
    segment: u32,
    group: u32,
    label: Option<Label>,
}

/// A signal as windows `[length, channels]`.
pub struct Signal {
    rows: Box<dyn Rows>,
    windows: Vec<Window>,
    names: Vec<String>,
    about: String,
    sound: Option<u32>,
}

/// The time of a row.
pub(super) type TimeOf = Box<dyn Fn(usize) -> u64>;

/// Everything that a [`Signal`] is cut from.
pub(super) struct Cut {
    pub rows: Box<dyn Rows>,
    pub stretches: Vec<Stretch>,
    pub labels: RowLabels,
    /// Names of the classes of the stretches' own labels.
    pub names: Vec<String>,
    /// Time of a row, in microseconds; from the rate where there is none.
    pub time_of: Option<TimeOf>,
    /// Window length where the URI gives none.
    pub window: usize,
    /// What the rows are, for people; empty for sensor readings.
    pub note: String,
    /// Of sound: samples a second. Without `?window=` every stretch is one sample then.
    pub sound: Option<u32>,
}

impl Signal {
    pub(super) fn cut(uri: &Uri, path: &str, cut: Cut) -> Result<Signal, SourceError> {
        let whole = cut.sound.is_some() && uri.query.window.is_none();
        let longest = cut.stretches.iter().map(|s| s.length).max().unwrap_or(0);
        let length = if whole { longest } else { uri.query.window.unwrap_or(cut.window) };
        let stride = uri.query.stride.unwrap_or((length / 2).max(1));
        let channels = cut.rows.channels();
        if channels.checked_mul(length).is_none_or(|n| n > MAX_READINGS) {
            let problem = format!("windows of {length} rows x {channels} channels are beyond {MAX_READINGS} readings");
            return Err(SourceError::uri(&uri.text, problem, "give a smaller window="));
        }
        let micros = 1e6 / cut.sound.map_or(uri.query.rate.unwrap_or(RATE), f64::from);
        let mut windows = Vec::new();
        for s in &cut.stretches {
            let length = if whole { s.length } else { length };
            let stride = if whole { s.length.max(1) } else { stride };
            let starts = (s.start..).step_by(stride).take_while(|at| at - s.start + length <= s.length);
            windows.extend(starts.map(|start| Window {
                start,
                length,
                time: Micros(cut.time_of.as_ref().map_or((start as f64 * micros).round() as u64, |time| time(start))),
                segment: s.segment,
                group: s.group,
                label: s.label.or_else(|| cut.labels.over(start..start + length)),
            }));
        }
        if windows.is_empty() {
            let problem = format!("no window of {length} rows: the longest stretch without a pause has {longest}");
            return Err(SourceError::file(path, problem, format!("give window= at most {longest}")));
        }
        let scheme = uri.text.split(':').next().unwrap_or_default();
        let segments = 1 + cut.stretches.windows(2).filter(|pair| pair[0].segment != pair[1].segment).count();
        let count = windows.len();
        let mut about = match cut.sound {
            Some(rate) if whole => format!("{scheme}: {path}, {count} clips at {rate} Hz"),
            Some(rate) => format!("{scheme}: {path}, {count} windows of {length} at {rate} Hz, {segments} segments"),
            None => format!("{scheme}: {path}, {count} windows of {length} x {channels}, {segments} segments"),
        };
        if !cut.note.is_empty() {
            about += &format!(", {}", cut.note);
        }
        let names = if cut.names.is_empty() { cut.labels.names().to_vec() } else { cut.names };
        Ok(Signal { rows: cut.rows, windows, names, about, sound: cut.sound })
    }
}

impl Indexed for Signal {
    fn describe(&self) -> String {
        self.about.clone()
    }

    fn len(&self) -> usize {
        self.windows.len()
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
        let w = &self.windows[index];
        record.time = w.time;
        record.segment = w.segment;
        record.group = w.group;
        record.label = w.label;
        self.rows.read(w.start, record.window_mut(w.length, self.rows.channels()))
    }

    fn label(&self, index: usize) -> Option<Label> {
        self.windows[index].label
    }

    fn group(&self, index: usize) -> u32 {
        self.windows[index].group
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sound_rate(&self) -> Option<u32> {
        self.sound
    }
}

/// Unit of one channel: `value = reading * 2^exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Unit {
    exponent: i32,
    factor: f64,
}

impl Unit {
    pub fn reading(self, x: f64) -> i16 {
        (x * self.factor).round().clamp(-32767.0, 32767.0) as i16
    }
}

/// Watches a channel and chooses its unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    max: f64,
    whole: bool,
}

impl Extent {
    pub const NOTHING: Extent = Extent { max: 0.0, whole: true };

    pub fn see(&mut self, x: f64) {
        if x.is_finite() {
            self.max = self.max.max(x.abs());
            self.whole &= x.fract() == 0.0;
        }
    }

    /// floor(log2(max)), exactly; `None` for a channel that keeps its numbers.
    fn log(self) -> Option<i32> {
        let keeps = self.max == 0.0 || (self.whole && self.max <= 32767.0);
        // Below 2^-1000 everything has the smallest unit.
        (!keeps).then(|| ((self.max.to_bits() >> 52) as i32 - 1023).max(-1000))
    }
}

/// The unit of each channel.
pub(super) fn units(extents: &[Extent]) -> Vec<Unit> {
    let logs = || extents.iter().filter_map(|e| e.log());
    let (least, most) = (logs().min().unwrap_or(0), logs().max().unwrap_or(0));
    let unit = |extent: &Extent| match extent.log() {
        None => Unit { exponent: 0, factor: 1.0 },
        Some(log) => {
            let log = if most - least <= 6 { most } else { log };
            let exponent = -((14 - log).div_euclid(4) * 4);
            Unit { exponent, factor: 2f64.powi(-exponent) }
        }
    };
    extents.iter().map(unit).collect()
}

/// What becomes of missing readings while a window is read: the readings come in one after another, then gaps are filled.
#[derive(Debug)]
pub(super) struct Gaps {
    missing: Option<f64>,
    pub nan: Nan,
    /// Places of the window that are missing.
    at: Vec<bool>,
}

impl Gaps {
    pub fn new(query: &Query) -> Gaps {
        Gaps { missing: query.missing, nan: query.nan, at: Vec::new() }
    }

    /// A window of `count` readings begins.
    pub fn begin(&mut self, count: usize) {
        self.at.clear();
        self.at.resize(count, false);
    }

    /// The reading, or NaN where it is missing.
    pub fn value(&self, x: f64) -> f64 {
        if x.is_finite() && self.missing != Some(x) { x } else { f64::NAN }
    }

    /// As [`Gaps::value`], of the reading at `place`.
    pub fn see(&mut self, place: usize, x: f64) -> f64 {
        let x = self.value(x);
        self.at[place] = x.is_nan();
        x
    }

    /// The reading at `place` is missing.
    pub fn mark(&mut self, place: usize) {
        self.at[place] = true;
    }

    /// Fills what is missing of `readings`, `[rows, channels]`; `false` where the window is to be passed over: what is
    /// missing is not to be held, or is a whole channel.
    pub fn fill(&self, readings: &mut [i16], channels: usize) -> bool {
        if self.nan != Nan::Hold {
            return !self.at.contains(&true);
        }
        (0..channels).all(|channel| {
            let places = || (channel..readings.len()).step_by(channels);
            let Some(first) = places().find(|&i| !self.at[i]) else { return false };
            let mut held = readings[first];
            for i in places() {
                if self.at[i] {
                    readings[i] = held;
                }
                held = readings[i];
            }
            true
        })
    }
}

/// The error for a NaN or an infinity in a signal.
pub(super) fn not_finite(path: &str, place: String, x: f64) -> SourceError {
    let remedy = "clean the recording, or add ?nan=skip to pass over (and count) the windows that hold one, ?nan=hold to fill \
                  it with the reading before";
    SourceError::file(path, format!("{place}: {x} is not a finite number"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(values: &[f64]) -> Extent {
        let mut extent = Extent::NOTHING;
        values.iter().for_each(|x| extent.see(*x));
        extent
    }

    fn unit(values: &[f64]) -> Unit {
        units(&[extent(values)])[0]
    }

    #[test]
    fn the_largest_float_of_a_channel_falls_between_2_to_the_11_and_15() {
        for max in [1e-300, 0.3, 1.0, 1.999, 2.0, 9.81, 33.3, 1e6 + 0.5, 1e300] {
            let reading = i32::from(unit(&[max, -max / 3.0]).reading(max));
            assert!((1 << 11..=1 << 15).contains(&reading), "{max}: {reading}");
        }
        assert_eq!(unit(&[1.5]).exponent, -12);
    }

    #[test]
    fn channels_of_like_range_share_a_unit_and_others_do_not() {
        let of = |maxima: &[f64]| -> Vec<i32> {
            let extents: Vec<_> = maxima.iter().map(|&m| extent(&[m + 0.001])).collect();
            units(&extents).iter().map(|u| u.exponent).collect()
        };
        assert_eq!(of(&[0.9, 2.1, 1.1, 6.0]), [-12; 4]);
        assert_eq!(of(&[0.004, 900.0]), [-20, -4]);
    }

    #[test]
    fn whole_numbers_that_fit_are_kept() {
        let u = unit(&[5.0, -32767.0, f64::NAN]);
        assert_eq!((u.reading(5.0), u.reading(-32767.0), u.reading(-32768.0)), (5, -32767, -32767));
        let u = unit(&[65535.0]);
        assert_eq!((u.exponent, u.reading(65535.0)), (4, 4096));
    }

    #[test]
    fn halves_round_away_from_zero() {
        let u = Unit { exponent: 0, factor: 1.0 };
        assert_eq!([0.5, 1.5, -0.5, -2.5].map(|x| u.reading(x)), [1, 2, -1, -3]);
    }

    proptest::proptest! {
        #[test]
        fn any_float_becomes_a_reading(xs in proptest::collection::vec(proptest::num::f64::ANY, 1..20)) {
            let u = unit(&xs);
            for x in xs {
                proptest::prop_assert!(u.reading(x) != i16::MIN);
            }
        }
    }
}
