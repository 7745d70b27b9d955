//! `npy:X.npy[,Y.npy]?each=row` where each row of X is a sample of its own, `[N, L]` or `[N, L, C]`: laser scans, spectra,
//! windows that were cut before. `?window=` takes so many readings from the middle of each row.
//!
//! `?times=T.npy` holds the time of every sample in microseconds: a new segment begins where time jumps.

use super::labels::{RowLabels, segments};
use super::npy::{Elements, Npy};
use super::signal::{Gaps, MAX_READINGS, RATE, Unit};
use super::signal_npy::{self, Layout};
use super::uri::Uri;
use super::{Indexed, Label, Record, SourceError, npy_labels};
use crate::sample::Micros;

/// Samples in a NumPy file, one a row.
pub struct NpyRowSamples {
    path: String,
    elements: Box<dyn Elements>,
    /// Readings of a row, of a sample, and before a sample in its row.
    row: usize,
    length: usize,
    before: usize,
    /// One for each channel.
    units: Vec<Unit>,
    gaps: Gaps,
    segments: Vec<u32>,
    /// In microseconds.
    times: Vec<u64>,
    labels: RowLabels,
}

impl NpyRowSamples {
    pub(super) fn new(npy: Npy, uri: &Uri) -> Result<NpyRowSamples, SourceError> {
        let q = &uri.query;
        let of_signals = [
            ("segments", q.segments.is_some()),
            ("stride", q.stride.is_some()),
            ("label", q.label.is_some()),
            ("group", q.group.is_some()),
        ];
        if let Some((key, _)) = of_signals.iter().find(|(_, given)| *given) {
            let problem = format!("{key} is for long signals, and with each=row every row is a sample");
            return Err(SourceError::uri(&uri.text, problem, format!("leave {key} out, or each=row")));
        }
        let (rows, row, channels) = match npy.shape[..] {
            [n, l] => (n, l, 1),
            [n, l, c] => (n, l, c),
            _ => (0, 0, 0),
        };
        if row.checked_mul(channels).is_none_or(|n| n == 0 || n > MAX_READINGS) {
            let problem = format!("shape {:?} has no rows that are samples", npy.shape);
            return Err(SourceError::file(&npy.path, problem, "save the samples as (N, L) or (N, L, C)"));
        }
        if npy.fortran {
            let remedy = "save it in C order: numpy.save(path, numpy.ascontiguousarray(x))";
            return Err(SourceError::file(&npy.path, "the samples are in Fortran order", remedy));
        }
        let path = npy.path.clone();
        let length = q.window.unwrap_or(row);
        if length > row {
            let problem = format!("a window of {length} readings from rows of {row}");
            return Err(SourceError::uri(&uri.text, problem, format!("give window= at most {row}, or leave it out")));
        }
        let times = match &q.times {
            Some(file) => read_times(file, rows, &path)?,
            None => {
                let micros = 1e6 / q.rate.unwrap_or(RATE);
                (0..rows).map(|row| (row as f64 * micros).round() as u64).collect()
            }
        };
        let segments = segments(q.times.as_ref().map(|_| times.as_slice()), &[], rows);
        let labels = match uri.paths.get(1) {
            Some(labels) => npy_labels::read(labels, &segments, q, &path)?,
            None => RowLabels::None,
        };
        let gaps = Gaps::new(q);
        let layout = Layout { rows: rows * row, channels, by_channel: false };
        let mut elements = npy.elements()?;
        let units = signal_npy::units(elements.as_mut(), &path, layout, &gaps)?;
        let before = (row - length) / 2;
        Ok(NpyRowSamples { path, elements, row, length, before, units, gaps, segments, times, labels })
    }
}

/// Microseconds since the first of `rows` samples.
fn read_times(path: &str, rows: usize, of: &str) -> Result<Vec<u64>, SourceError> {
    let npy = Npy::open(path)?;
    if !matches!(npy.shape[..], [n] | [n, 1] if n == rows) {
        let problem = format!("shape {:?} for the times of the {rows} samples of {of}", npy.shape);
        let remedy = format!("give the times that belong to it, in microseconds, shape ({rows},)");
        return Err(SourceError::file(path, problem, remedy));
    }
    let mut times = Vec::with_capacity(rows);
    npy.elements()?.each(0, rows as u64, &mut |x| times.push(x)).map_err(|e| SourceError::io(path, e))?;
    if let Some(row) = times.iter().position(|t| !t.is_finite()) {
        return Err(SourceError::file(path, format!("row {row}: {} is not a time", times[row]), "correct it"));
    }
    // A float cast saturates: a time before the first sample is 0.
    Ok(times.iter().map(|t| (t - times[0]) as u64).collect())
}

impl Indexed for NpyRowSamples {
    fn describe(&self) -> String {
        let segments = 1 + self.segments.last().copied().unwrap_or(0);
        let (n, length, channels) = (self.len(), self.length, self.units.len());
        format!("npy: {}, {n} samples of {length} x {channels}, {segments} segments", self.path)
    }

    fn len(&self) -> usize {
        self.segments.len()
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
        let channels = self.units.len();
        record.time = Micros(self.times[index]);
        record.segment = self.segments[index];
        record.group = self.segments[index];
        record.label = self.labels.get(index);
        let out = record.window_mut(self.length, channels);
        let (units, gaps) = (&self.units, &mut self.gaps);
        gaps.begin(out.len());
        let mut place = 0..;
        let start = (index * self.row + self.before) * channels;
        self.elements
            .each(start as u64, out.len() as u64, &mut |x| {
                let i = place.next().unwrap_or(0);
                out[i] = units[i % channels].reading(gaps.see(i, x));
            })
            .map_err(|e| SourceError::io(&self.path, e))?;
        Ok(self.gaps.fill(out, channels))
    }

    fn label(&self, index: usize) -> Option<Label> {
        self.labels.get(index)
    }

    fn group(&self, index: usize) -> u32 {
        self.segments[index]
    }

    fn class_names(&self) -> &[String] {
        self.labels.names()
    }
}
