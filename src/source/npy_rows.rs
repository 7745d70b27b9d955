//! `npy:X.npy[,Y.npy]?each=row` where each row of X is a sample of its own, `[N, L]` or `[N, L, C]`: laser scans, spectra,
//! windows that were cut before. `?window=` takes so many readings from the middle of each row, and `?stack=2` makes a sample
//! of a row and the one before it, side by side as channels, oldest first: one scan does not show how fast it goes, two do.
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
    about: String,
    path: String,
    elements: Box<dyn Elements>,
    /// Readings of a row, of a sample, and before a sample in its row.
    row: usize,
    length: usize,
    before: usize,
    /// Rows of a sample, and the last row of each.
    stack: usize,
    last_rows: Vec<usize>,
    /// One for each channel of a row.
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
        let stack = q.stack.unwrap_or(1);
        if row.checked_mul(channels).and_then(|n| n.checked_mul(stack)).is_none_or(|n| n == 0 || n > MAX_READINGS) {
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
        let whole = |last: &usize| last + 1 >= stack && segments[last + 1 - stack] == segments[*last];
        let last_rows: Vec<usize> = (0..rows).filter(whole).collect();
        if last_rows.is_empty() {
            let problem = format!("nowhere {stack} rows follow one another");
            return Err(SourceError::file(&path, problem, "give a smaller stack="));
        }
        let about = format!(
            "npy: {path}, {} samples of {length} x {}, {} segments",
            last_rows.len(),
            channels * stack,
            1 + segments.last().copied().unwrap_or(0)
        );
        Ok(NpyRowSamples {
            about,
            path,
            elements,
            row,
            length,
            before,
            stack,
            last_rows,
            units,
            gaps,
            segments,
            times,
            labels,
        })
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
        self.about.clone()
    }

    fn len(&self) -> usize {
        self.last_rows.len()
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
        let (channels, last) = (self.units.len(), self.last_rows[index]);
        let all = channels * self.stack;
        record.time = Micros(self.times[last]);
        record.segment = self.segments[last];
        record.group = self.segments[last];
        record.label = self.labels.get(last);
        let out = record.window_mut(self.length, all);
        let (units, gaps) = (&self.units, &mut self.gaps);
        gaps.begin(out.len());
        for (number, row) in (last + 1 - self.stack..=last).enumerate() {
            let mut place = 0..;
            let start = (row * self.row + self.before) * channels;
            self.elements
                .each(start as u64, (self.length * channels) as u64, &mut |x| {
                    let i: usize = place.next().unwrap_or(0);
                    let (reading, channel) = (i / channels, i % channels);
                    let at = reading * all + number * channels + channel;
                    out[at] = units[channel].reading(gaps.see(at, x));
                })
                .map_err(|e| SourceError::io(&self.path, e))?;
        }
        Ok(self.gaps.fill(out, all))
    }

    fn label(&self, index: usize) -> Option<Label> {
        self.labels.get(self.last_rows[index])
    }

    fn group(&self, index: usize) -> u32 {
        self.segments[self.last_rows[index]]
    }

    fn class_names(&self) -> &[String] {
        self.labels.names()
    }
}
