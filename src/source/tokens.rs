//! `tokens:FILE[,FILE...]`: discrete codes in windows `[length, 1]`: bytes of files, lines of logs, events of a CSV column.
//!
//! - Bytes are their own codes, below [`BYTES`]. `?label=file` or `folder` makes the file, or the folder that it lies in,
//!   the class. Groups are files, or pages of a file where files are the classes; no window crosses a page.
//! - `?by=line`: a line is a sample, cut to the window or filled with [`PAD`]. Empty lines are no samples.
//! - `?column=NAME`: the cells of one CSV column are events, numbered from 1 in the order in which they first appear, in
//!   the file itself or in that of `?vocabulary=`. [`UNKNOWN`] is an event that is not there, or beyond [`MAX_CODES`].
//!   Segments, groups, times and labels are those of `csv:`. With `?by=line` the cells are texts, one sample each.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::labels::RowLabels;
use super::query::{By, Nan};
use super::signal::{Cut, Rows, Signal, Stretch, TimeOf};
use super::signal_csv::{self, Layout};
use super::table::Table;
use super::uri::Uri;
use super::{Label, SourceError};

/// Codes that bytes have.
pub const BYTES: i16 = 256;
/// What a short line is filled with.
pub const PAD: i16 = BYTES;
/// The event that is not in the vocabulary.
pub const UNKNOWN: i16 = 0;
/// Most codes that events may have, [`UNKNOWN`] among them.
pub const MAX_CODES: usize = 511;

/// Codes in a sample where the URI gives no window.
const WINDOW: usize = 64;
/// Windows or lines of a page.
const PAGE: usize = 64;
/// More than this in all is not read into memory.
const MAX_BYTES: u64 = 1 << 30;

/// Codes one after another; `bad` are the places, in order, of those that are missing.
struct Codes {
    codes: Vec<i16>,
    bad: Vec<usize>,
}

impl Rows for Codes {
    fn channels(&self) -> usize {
        1
    }

    fn read(&mut self, start: usize, out: &mut [i16]) -> Result<bool, SourceError> {
        let end = start + out.len();
        out.copy_from_slice(&self.codes[start..end]);
        let next_bad = self.bad.partition_point(|at| *at < start);
        Ok(self.bad.get(next_bad).is_none_or(|at| *at >= end))
    }
}

/// The bytes of files, one after another.
struct Bytes(Vec<u8>);

impl Rows for Bytes {
    fn channels(&self) -> usize {
        1
    }

    fn read(&mut self, start: usize, out: &mut [i16]) -> Result<bool, SourceError> {
        let bytes = &self.0[start..start + out.len()];
        out.iter_mut().zip(bytes).for_each(|(code, byte)| *code = i16::from(*byte));
        Ok(true)
    }
}

/// Texts of any length as windows of one.
struct Lines {
    text: Vec<u8>,
    lines: Vec<Range<usize>>,
    window: usize,
}

impl Rows for Lines {
    fn channels(&self) -> usize {
        1
    }

    fn read(&mut self, start: usize, out: &mut [i16]) -> Result<bool, SourceError> {
        let line = &self.text[self.lines[start / self.window].clone()];
        let codes = line.iter().map(|byte| i16::from(*byte)).chain(std::iter::repeat(PAD));
        out.iter_mut().zip(codes).for_each(|(code, byte)| *code = byte);
        Ok(true)
    }
}

/// Opens the files that `uri` names.
pub(super) fn open(uri: &Uri) -> Result<Signal, SourceError> {
    let q = &uri.query;
    if let (Some(column), [path]) = (&q.column, &uri.paths[..]) {
        let table = Table::open(path)?;
        return match q.by.unwrap_or_default() {
            By::Window => events(uri, &table, column),
            By::Line => cells(uri, &table, column),
        };
    }
    if q.column.is_some() {
        let remedy = "give each file a --source of its own, all with the same ?vocabulary=FILE.csv";
        return Err(SourceError::uri(&uri.text, "a column of several files", remedy));
    }
    let of_columns =
        [("group", q.group.is_some()), ("labels", q.labels.is_some()), ("vocabulary", q.vocabulary.is_some())];
    if let Some((key, _)) = of_columns.iter().find(|(_, given)| *given) {
        let remedy = format!("add column=NAME for a CSV file, or leave {key} out");
        return Err(SourceError::uri(&uri.text, format!("{key} applies to columns, and this reads bytes"), remedy));
    }
    texts(uri)
}

/// The class of each file, and the names of the classes.
fn classes(uri: &Uri) -> Result<(Vec<Option<Label>>, Vec<String>), SourceError> {
    let name = |path: &String, folder: bool| {
        let path = Path::new(path);
        let part = if folder { path.parent().and_then(Path::file_name) } else { path.file_stem() };
        part.unwrap_or_default().to_string_lossy().into_owned()
    };
    let of_each: Vec<String> = match uri.query.label.as_deref() {
        None => return Ok((vec![None; uri.paths.len()], Vec::new())),
        Some("file") => uri.paths.iter().map(|path| name(path, false)).collect(),
        Some("folder") => uri.paths.iter().map(|path| name(path, true)).collect(),
        Some(other) => {
            let problem = format!("label={other} for bytes, which have no columns");
            return Err(SourceError::uri(&uri.text, problem, "write label=file or label=folder, or add column=NAME"));
        }
    };
    let mut names = of_each.clone();
    names.sort();
    names.dedup();
    let labels = of_each.iter().map(|own| Some(Label::Class(super::table::place(&names, own)))).collect();
    Ok((labels, names))
}

/// Files as they are, in windows or in lines.
fn texts(uri: &Uri) -> Result<Signal, SourceError> {
    let q = &uri.query;
    let (labels, names) = classes(uri)?;
    let window = q.window.unwrap_or(WINDOW);
    let by_file = q.label.as_deref() == Some("file");
    let (mut text, mut lines, mut stretches) = (Vec::new(), Vec::new(), Vec::new());
    let mut group = 0;
    for (file, path) in uri.paths.iter().enumerate() {
        let from = text.len();
        read(path, &mut text)?;
        let stretch =
            |start, length, group| Stretch { start, length, segment: file as u32, group, label: labels[file] };
        if q.by == Some(By::Line) {
            let first = lines.len();
            for line in line_ranges(&text[from..], from) {
                stretches.push(stretch(lines.len() * window, window, group));
                lines.push(line);
                if by_file && (lines.len() - first).is_multiple_of(PAGE) {
                    group += 1;
                }
            }
            if lines.len() == first {
                return Err(SourceError::file(path, "no line that is not empty", "give a text file"));
            }
        } else if by_file {
            let page = window.saturating_mul(PAGE);
            for start in (from..text.len()).step_by(page) {
                stretches.push(stretch(start, page.min(text.len() - start), group));
                group += 1;
            }
        } else {
            stretches.push(stretch(from, text.len() - from, group));
        }
        group += 1;
    }
    let (rows, note): (Box<dyn Rows>, _) = match q.by {
        Some(By::Line) => (Box::new(Lines { text, lines, window }), "lines of bytes"),
        _ => (Box::new(Bytes(text)), "bytes"),
    };
    let cut =
        Cut { rows, stretches, labels: RowLabels::None, names, time_of: None, window, note: note.into(), sound: None };
    Signal::cut(uri, &uri.paths.join(","), cut)
}

fn read(path: &str, text: &mut Vec<u8>) -> Result<(), SourceError> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|e| SourceError::io(path, e))?;
    let before = text.len();
    let left = MAX_BYTES.saturating_sub(before as u64);
    file.take(left + 1).read_to_end(text).map_err(|e| SourceError::io(path, e))?;
    if (text.len() - before) as u64 > left {
        let problem = format!("more than {MAX_BYTES} bytes in all");
        return Err(SourceError::file(path, problem, "give several --source, or a part of the file"));
    }
    if text.len() == before {
        return Err(SourceError::file(path, "an empty file", "leave it out"));
    }
    Ok(())
}

/// Where the lines of `text` lie that are not empty, without what ends them; `from` is added.
fn line_ranges(text: &[u8], from: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = from;
    text.split(|byte| *byte == b'\n')
        .map(move |line| {
            let length = line.len() - usize::from(line.ends_with(b"\r"));
            let range = start..start + length;
            start += line.len() + 1;
            range
        })
        .filter(|range| !range.is_empty())
}

/// The events of a column.
fn events(uri: &Uri, table: &Table, column: &str) -> Result<Signal, SourceError> {
    let q = &uri.query;
    let at = table.column(column)?;
    let mut codes = HashMap::new();
    match &q.vocabulary {
        Some(path) => {
            let other = Table::open(path)?;
            number(&other, other.column(column)?, &mut codes);
        }
        None => number(table, at, &mut codes),
    }
    let mut rows = Codes { codes: Vec::with_capacity(table.rows()), bad: Vec::new() };
    for row in 0..table.rows() {
        let cell = table.cell(row, at);
        if cell.is_empty() {
            if q.nan == Nan::Error {
                let remedy = "fill it in, or add ?nan=skip to pass over (and count) the windows that hold one";
                return Err(table.bad(row, at, "is no event", remedy));
            }
            rows.bad.push(row);
        }
        rows.codes.push(codes.get(cell).copied().unwrap_or(UNKNOWN));
    }
    let Layout { stretches, labels, times, .. } = signal_csv::layout(table, q)?;
    let time_of = times.map(|times| -> TimeOf { Box::new(move |row| times[row]) });
    let note = format!("event codes below {}", codes.len() + 1);
    let cut =
        Cut { rows: Box::new(rows), stretches, labels, names: Vec::new(), time_of, window: WINDOW, note, sound: None };
    Signal::cut(uri, &table.path, cut)
}

/// Numbers the different cells of a column, from 1, in the order in which they first appear.
fn number(table: &Table, column: usize, codes: &mut HashMap<String, i16>) {
    for row in 0..table.rows() {
        let cell = table.cell(row, column);
        if codes.len() + 1 < MAX_CODES && !cell.is_empty() && !codes.contains_key(cell) {
            codes.insert(cell.to_owned(), codes.len() as i16 + 1);
        }
    }
}

/// The texts of a column, one sample each; empty cells are no samples.
fn cells(uri: &Uri, table: &Table, column: &str) -> Result<Signal, SourceError> {
    let q = &uri.query;
    if q.vocabulary.is_some() {
        let remedy = "leave vocabulary out, or by=line";
        return Err(SourceError::uri(&uri.text, "a vocabulary of events for texts of bytes", remedy));
    }
    let at = table.column(column)?;
    let window = q.window.unwrap_or(WINDOW);
    let Layout { stretches: of_rows, labels, times, .. } = signal_csv::layout(table, q)?;
    let (mut text, mut lines, mut stretches, mut line_times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for stretch in &of_rows {
        for row in stretch.start..stretch.start + stretch.length {
            let cell = table.cell(row, at).as_bytes();
            if cell.is_empty() {
                continue;
            }
            stretches.push(Stretch {
                start: lines.len() * window,
                length: window,
                label: labels.get(row),
                ..stretch.clone()
            });
            line_times.extend(times.as_ref().map(|times| times[row]));
            lines.push(text.len()..text.len() + cell.len());
            text.extend_from_slice(cell);
        }
    }
    let names = labels.names().to_vec();
    let times = times.map(|_| -> TimeOf { Box::new(move |row| line_times[row / window]) });
    let rows = Box::new(Lines { text, lines, window });
    let cut = Cut {
        rows,
        stretches,
        labels: RowLabels::None,
        names,
        time_of: times,
        window,
        note: "lines of bytes".into(),
        sound: None,
    };
    Signal::cut(uri, &table.path, cut)
}
