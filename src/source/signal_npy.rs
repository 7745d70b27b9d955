//! `npy:X.npy[,Y.npy]` where X holds a long signal, `[N, C]` or `[N]`, cut into windows; Y `[N]` labels every row.
//!
//! `?segments=FILE.csv` (columns `start`, `length` and others) says where the recording was cut; windows never cross.

use super::labels::RowLabels;
use super::npy::{Elements, Npy};
use super::signal::{Cut, Extent, Gaps, Rows, Signal, Stretch, Unit, WINDOW, not_finite};
use super::table::Table;
use super::uri::{Nan, Uri};
use super::{SourceError, npy_labels};

/// Channels of a signal at the most.
const MAX_CHANNELS: usize = 1 << 14;
/// Rows looked at in one go when the units are chosen.
const BLOCK: usize = 4096;

struct NpyRows {
    path: String,
    layout: Layout,
    elements: Box<dyn Elements>,
    units: Vec<Unit>,
    gaps: Gaps,
}

/// Where an element lies.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub rows: usize,
    pub channels: usize,
    /// Channel after channel (Fortran order, which pandas likes to save) instead of row after row.
    pub by_channel: bool,
}

impl Layout {
    /// Hands every number of rows `start..start + count` to `each`, with its place in `[count, channels]`.
    fn each(
        self,
        elements: &mut dyn Elements,
        start: usize,
        count: usize,
        each: &mut dyn FnMut(usize, f64),
    ) -> std::io::Result<()> {
        let Layout { rows, channels, by_channel } = self;
        if !by_channel {
            let mut place = 0..;
            let first = (start * channels) as u64;
            return elements.each(first, (count * channels) as u64, &mut |x| each(place.next().unwrap_or(0), x));
        }
        for channel in 0..channels {
            let mut place = (channel..).step_by(channels);
            let first = (channel * rows + start) as u64;
            elements.each(first, count as u64, &mut |x| each(place.next().unwrap_or(0), x))?;
        }
        Ok(())
    }
}

impl Rows for NpyRows {
    fn channels(&self) -> usize {
        self.units.len()
    }

    fn read(&mut self, start: usize, out: &mut [i16]) -> Result<bool, SourceError> {
        let (units, channels) = (&self.units, self.units.len());
        let gaps = &mut self.gaps;
        gaps.begin(out.len());
        self.layout
            .each(self.elements.as_mut(), start, out.len() / channels, &mut |i, x| {
                out[i] = units[i % channels].reading(gaps.see(i, x));
            })
            .map_err(|e| SourceError::io(&self.path, e))?;
        Ok(gaps.fill(out, channels))
    }
}

/// Opens the signal in `npy`: reads it once to choose the unit of each channel.
pub(super) fn open(npy: Npy, uri: &Uri) -> Result<Signal, SourceError> {
    let path = npy.path.clone();
    let (rows, channels) = match npy.shape[..] {
        [n] => (n, 1),
        [n, c] if c <= MAX_CHANNELS => (n, c),
        _ => {
            let problem = format!("shape {:?} of {} is neither a signal nor a set of images", npy.shape, npy.dtype);
            let remedy = format!(
                "save a signal as (N, C) with C up to {MAX_CHANNELS}, images as uint8 of (N, H, W[, 3]); add ?each=row where \
                 every row of (N, L, C) is a sample"
            );
            return Err(SourceError::file(&path, problem, remedy));
        }
    };
    let q = &uri.query;
    let labels = match uri.paths.get(1) {
        Some(labels) => npy_labels::read(labels, &vec![0; rows], q, &path)?,
        None => RowLabels::None,
    };
    let (stretches, names) = match &q.segments {
        Some(file) => read_segments(file, uri, rows)?,
        None => {
            if let Some(key) = q.label.as_ref().map(|_| "label").or(q.group.as_ref().map(|_| "group")) {
                let problem = format!("{key}=COLUMN without a table that has the column");
                return Err(SourceError::uri(&uri.text, problem, "add &segments=FILE.csv"));
            }
            (vec![Stretch { start: 0, length: rows, segment: 0, group: 0, label: None }], Vec::new())
        }
    };
    let layout = Layout { rows, channels, by_channel: npy.fortran };
    let mut elements = npy.elements()?;
    let gaps = Gaps::new(q);
    let units = units(elements.as_mut(), &path, layout, &gaps)?;
    let rows = Box::new(NpyRows { path: path.clone(), layout, elements, units, gaps });
    Signal::cut(
        uri,
        &path,
        Cut { rows, stretches, labels, names, time_of: None, window: WINDOW, note: String::new(), sound: None },
    )
}

/// The unit of each channel, from all readings.
pub(super) fn units(
    elements: &mut dyn Elements,
    path: &str,
    layout: Layout,
    gaps: &Gaps,
) -> Result<Vec<Unit>, SourceError> {
    let Layout { rows, channels, .. } = layout;
    let mut extents = vec![Extent::NOTHING; channels];
    let mut bad = None;
    for start in (0..rows).step_by(BLOCK) {
        let count = BLOCK.min(rows - start);
        layout
            .each(elements, start, count, &mut |i, x| {
                if !x.is_finite() && bad.is_none() {
                    bad = Some((start + i / channels, i % channels, x));
                }
                extents[i % channels].see(gaps.value(x));
            })
            .map_err(|e| SourceError::io(path, e))?;
        if let Some((row, column, x)) = bad.filter(|_| gaps.nan == Nan::Error) {
            return Err(not_finite(path, format!("row {row}, column {column}"), x));
        }
    }
    Ok(super::signal::units(&extents))
}

/// The stretches that a segments file lists, with the names of their classes.
fn read_segments(path: &str, uri: &Uri, rows: usize) -> Result<(Vec<Stretch>, Vec<String>), SourceError> {
    let table = Table::open(path)?;
    let start_column = table.column("start")?;
    let length_column = table.column("length")?;
    let (starts, lengths) = (table.counts(start_column)?, table.counts(length_column)?);
    let groups = match &uri.query.group {
        Some(name) => Some(table.groups(table.column(name)?)),
        None => None,
    };
    let labels = match &uri.query.label {
        Some(name) => RowLabels::column(&table, name, uri.query.labels)?,
        None => RowLabels::None,
    };
    let mut stretches = Vec::with_capacity(table.rows());
    for row in 0..table.rows() {
        let (start, length) = (starts[row], lengths[row]);
        // Both are below 2^53: the sum cannot wrap.
        if start + length > rows as u64 {
            let problem = format!("ends beyond the signal's {rows} rows");
            return Err(table.bad(row, length_column, &problem, "give the segments file that belongs to the signal"));
        }
        let (segment, label) = (row as u32, labels.get(row));
        let group = groups.as_ref().map_or(segment, |g| g[row]);
        stretches.push(Stretch { start: start as usize, length: length as usize, segment, group, label });
    }
    Ok((stretches, labels.names().to_vec()))
}
