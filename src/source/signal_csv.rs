//! `csv:FILE.csv`: a sensor log, one row a reading, cut into windows.
//!
//! Channels are the columns whose first cell is a number, less the label, the group, the run and the time; or those of
//! `?channels=a,b,c`. A new segment begins where the group or the column `run` changes and where time jumps.

use super::SourceError;
use super::labels::{RowLabels, segments};
use super::signal::{Cut, Extent, Gaps, Rows, Signal, Stretch, TimeOf, WINDOW, not_finite, units};
use super::table::Table;
use super::uri::{Nan, Query, Uri};

struct CsvRows {
    channels: usize,
    /// `[rows, channels]`
    readings: Vec<i16>,
    /// Places of the readings that are missing, in order.
    bad: Vec<usize>,
    gaps: Gaps,
}

impl Rows for CsvRows {
    fn channels(&self) -> usize {
        self.channels
    }

    fn read(&mut self, start: usize, out: &mut [i16]) -> Result<bool, SourceError> {
        let from = start * self.channels;
        out.copy_from_slice(&self.readings[from..][..out.len()]);
        self.gaps.begin(out.len());
        let bad = &self.bad[self.bad.partition_point(|place| *place < from)..];
        bad.iter().take_while(|place| **place < from + out.len()).for_each(|place| self.gaps.mark(place - from));
        Ok(self.gaps.fill(out, self.channels))
    }
}

/// Opens the log at `path`, which is read whole.
pub(super) fn open(uri: &Uri) -> Result<Signal, SourceError> {
    let path = uri.paths[0].as_str();
    let table = Table::open(path)?;
    let q = &uri.query;
    let Layout { stretches, labels, times, reserved } = layout(&table, q)?;
    let columns: Vec<usize> = match &q.channels {
        Some(names) => names.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?,
        None => (0..table.header.len()).filter(|c| !reserved.contains(c) && table.starts_numeric(*c)).collect(),
    };
    if columns.is_empty() {
        let remedy = format!("name the columns to learn from with ?channels=; there are {}", table.header.join(", "));
        return Err(SourceError::file(path, "no column of numbers is left for channels", remedy));
    }
    let rows = quantized(&table, &columns, Gaps::new(q))?;
    let time_of = times.map(|times| -> TimeOf { Box::new(move |row| times[row]) });
    let (names, note) = (Vec::new(), String::new());
    Signal::cut(
        uri,
        path,
        Cut { rows: Box::new(rows), stretches, labels, names, time_of, window: WINDOW, note, sound: None },
    )
}

/// What a log says about its rows, beside their readings.
pub(super) struct Layout {
    pub stretches: Vec<Stretch>,
    pub labels: RowLabels,
    /// Time of every row, where there is a column of it and no `?rate=`.
    pub times: Option<Vec<u64>>,
    /// Columns of labels, groups, runs and times, which are no readings.
    pub reserved: Vec<usize>,
}

/// The layout that the columns of `table` and the query give.
pub(super) fn layout(table: &Table, q: &Query) -> Result<Layout, SourceError> {
    let times = table.times()?;
    let group = match &q.group {
        Some(name) => Some(table.column(name)?),
        None => None,
    };
    let run = table.find("run");
    let group_ids = group.map(|c| table.groups(c));
    let run_ids = run.map(|c| table.groups(c));
    let breaks: Vec<&[u32]> = [&group_ids, &run_ids].into_iter().flatten().map(Vec::as_slice).collect();
    let segment_of = segments(times.as_ref().map(|(_, t)| t.as_slice()), &breaks, table.rows());
    let mut labels = match &q.label {
        Some(name) => RowLabels::column(table, name, q.labels)?,
        None => RowLabels::None,
    };
    labels.smooth(q.smooth.unwrap_or(0), &segment_of);
    let label = q.label.as_ref().and_then(|name| table.find(name));
    let reserved = [label, group, run, times.as_ref().map(|(c, _)| *c)].into_iter().flatten().collect();
    let stretches = stretches(&segment_of, group_ids.as_deref());
    let times = times.filter(|_| q.rate.is_none()).map(|(_, t)| t);
    Ok(Layout { stretches, labels, times, reserved })
}

fn quantized(table: &Table, columns: &[usize], gaps: Gaps) -> Result<CsvRows, SourceError> {
    let channels = columns.len();
    let mut readings = vec![0i16; table.rows() * channels];
    let mut bad = Vec::new();
    let (mut extents, mut all) = (Vec::new(), Vec::new());
    for (channel, column) in columns.iter().enumerate() {
        let mut values = table.numbers(*column).map_err(|e| match e {
            SourceError::File { path, problem, .. } => SourceError::file(
                &path,
                problem,
                "correct the cell, or name the columns to learn from with ?channels=a,b,c",
            ),
            other => other,
        })?;
        let mut extent = Extent::NOTHING;
        for (row, x) in values.iter_mut().enumerate() {
            let given = core::mem::replace(x, gaps.value(*x));
            if x.is_nan() {
                if gaps.nan == Nan::Error {
                    let place = format!("line {}, column '{}'", table.line(row), table.header[*column]);
                    return Err(not_finite(&table.path, place, given));
                }
                bad.push(row * channels + channel);
            }
            extent.see(*x);
        }
        extents.push(extent);
        all.push(values);
    }
    for (channel, (unit, values)) in units(&extents).into_iter().zip(&all).enumerate() {
        for (row, x) in values.iter().enumerate() {
            readings[row * channels + channel] = unit.reading(*x);
        }
    }
    bad.sort_unstable();
    Ok(CsvRows { channels, readings, bad, gaps })
}

/// Rows of equal segment, one stretch each; the group of a stretch is that of its rows, else its segment.
fn stretches(segment_of: &[u32], groups: Option<&[u32]>) -> Vec<Stretch> {
    let mut out: Vec<Stretch> = Vec::new();
    for (row, segment) in segment_of.iter().enumerate() {
        match out.last_mut() {
            Some(last) if last.segment == *segment => last.length += 1,
            _ => {
                let group = groups.map_or(*segment, |g| g[row]);
                out.push(Stretch { start: row, length: 1, segment: *segment, group, label: None });
            }
        }
    }
    out
}
