//! `tub:DIR`: what a Donkeycar has driven, a folder of images with their records.
//!
//! Both forms are read: `manifest.json` with catalogs and `images/` (version 2), and `record_N.json` beside the images
//! (version 1). Records that were deleted are left out; where they were, neighbours in time end. The label is the steering
//! (`user/angle`) unless `?label=` names another key. A record that cannot be read, and one without its image, is passed over.

use super::labels::{MAX_CLASSES, RowLabels, segments};
use super::table::place;
use super::uri::{Labels, Uri};
use super::{Indexed, Label, Record, SourceError, images};
use crate::sample::Micros;
use records::{Row, Tub};
use serde_json::Value;
use std::path::PathBuf;

mod records;

/// The label where the URI names none.
const STEERING: &str = "user/angle";

/// A tub, read at any place.
pub struct TubImages {
    path: String,
    version: u32,
    folder: PathBuf,
    /// Image file of each record; `None` where the record cannot be read.
    images: Vec<Option<String>>,
    times: Vec<u64>,
    segments: Vec<u32>,
    sessions: Vec<u32>,
    labels: RowLabels,
    deleted: usize,
    grey: bool,
    scratch: Vec<u8>,
}

impl TubImages {
    pub(super) fn open(uri: &Uri) -> Result<TubImages, SourceError> {
        let path = uri.paths[0].as_str();
        let q = &uri.query;
        let Tub { version, folder, rows, deleted } = records::read(path, q.label.as_deref().unwrap_or(STEERING))?;
        let times = times(&rows, q.rate);
        let sessions: Vec<u32> = rows.iter().map(|row| row.session).collect();
        // A deleted record is a gap, however short.
        let gaps = rows.windows(2).scan(0, |gaps, pair| {
            *gaps += u32::from(pair[1].index != pair[0].index + 1);
            Some(*gaps)
        });
        let gaps: Vec<u32> = std::iter::once(0).chain(gaps).collect();
        let segments = segments(Some(&times), &[&sessions, &gaps], rows.len());
        let mut labels = labels(path, &rows, q.label.as_deref(), q.labels)?;
        labels.smooth(q.smooth.unwrap_or(0), &segments);
        let images = rows.into_iter().map(|row| row.image).collect();
        let mut tub = TubImages {
            path: path.to_owned(),
            version,
            folder,
            images,
            times,
            segments,
            sessions,
            labels,
            deleted,
            grey: false,
            scratch: Vec::new(),
        };
        let mut record = Record::default();
        for index in 0..tub.images.len() {
            if let Some(channels) = tub.load(index, &mut record)? {
                tub.grey = channels == 1;
                return Ok(tub);
            }
        }
        let problem = format!("none of the images of its {} records can be read", tub.images.len());
        let remedy = "check that the images were copied with the records, and that they are JPEG or PNG";
        Err(SourceError::file(path, problem, remedy))
    }

    /// As [`images::load`]; `None` also where there is no image.
    fn load(&mut self, index: usize, record: &mut Record) -> Result<Option<usize>, SourceError> {
        let Some(image) = &self.images[index] else { return Ok(None) };
        match images::load(&self.folder.join(image), &mut self.scratch, record) {
            Err(SourceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other,
        }
    }
}

/// Microseconds from the first record on: those that were written down, or from the rate.
fn times(rows: &[Row], rate: Option<f64>) -> Vec<u64> {
    let known: Option<Vec<u64>> = rows.iter().map(|row| row.time_ms).collect();
    let steps = |micros: f64| (0..rows.len()).map(|i| (i as f64 * micros).round() as u64).collect();
    match (rate, known) {
        (Some(rate), _) => steps(1e6 / rate),
        (None, Some(known)) => {
            let first = known.first().copied().unwrap_or(0);
            known.into_iter().map(|time| time.saturating_sub(first).saturating_mul(1000)).collect()
        }
        (None, None) => steps(super::mjpeg::FRAME_MICROS as f64),
    }
}

/// The labels of `rows`: numbers are values, or classes where `wanted` says so; texts are classes with sorted names.
fn labels(path: &str, rows: &[Row], key: Option<&str>, wanted: Option<Labels>) -> Result<RowLabels, SourceError> {
    let name = key.unwrap_or(STEERING);
    let bad = |row: &Row, what: &str, remedy: &str| {
        SourceError::file(path, format!("record {}: {name} is {what}", row.index), remedy.to_owned())
    };
    let found = || rows.iter().filter_map(|row| row.label.as_ref().map(|label| (row, label)));
    if found().next().is_none() {
        // Nobody asked for the steering.
        return key.map_or(Ok(RowLabels::None), |key| {
            let mut keys: Vec<&str> = rows.iter().flat_map(|row| row.keys.iter().map(String::as_str)).collect();
            keys.sort_unstable();
            keys.dedup();
            let remedy = format!("name one of the keys of its records: {}", keys.join(", "));
            Err(SourceError::file(path, format!("no record has the key '{key}'"), remedy))
        });
    }
    if found().all(|(_, label)| label.is_string()) {
        if wanted == Some(Labels::Value) {
            return Err(SourceError::file(path, format!("{name} is text"), "leave labels=value out"));
        }
        let texts: std::collections::BTreeSet<&str> = found().filter_map(|(_, label)| label.as_str()).collect();
        let names: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        let text = |row: &Row| row.label.as_ref().and_then(Value::as_str).map_or(u32::MAX, |text| place(&names, text));
        return Ok(RowLabels::Classes { ids: rows.iter().map(text).collect(), names });
    }
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        values.push(match &row.label {
            None => f64::NAN,
            Some(Value::Bool(on)) => f64::from(u8::from(*on)),
            Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN),
            Some(_) => return Err(bad(row, "neither a number nor a text", "name another key with ?label=")),
        });
    }
    if wanted == Some(Labels::Class) {
        return RowLabels::classes(&values).map_err(|row| {
            let remedy = "classes are whole numbers from 0; leave labels=class out for a value";
            bad(&rows[row], &format!("{} and no class below {MAX_CLASSES}", values[row]), remedy)
        });
    }
    Ok(RowLabels::Values(values))
}

impl Indexed for TubImages {
    fn describe(&self) -> String {
        let TubImages { path, version, images, deleted, .. } = self;
        let deleted = if *deleted > 0 { format!(", {deleted} deleted") } else { String::new() };
        format!("tub: {path}, version {version}, {} records{deleted}", images.len())
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
        let Some(channels) = self.load(index, record)? else { return Ok(false) };
        images::with_channels(channels, self.grey, record);
        record.time = Micros(self.times[index]);
        record.segment = self.segments[index];
        record.group = self.sessions[index];
        record.label = self.labels.get(index);
        Ok(true)
    }

    fn label(&self, index: usize) -> Option<Label> {
        self.labels.get(index)
    }

    fn group(&self, index: usize) -> u32 {
        self.sessions[index]
    }

    fn class_names(&self) -> &[String] {
        self.labels.names()
    }
}
