//! `mjpeg:FRAMES.jpegs[,TABLE.csv]`: JPEG images one after another in a file, with a table of what was recorded with them.
//!
//! Columns of the table that are known: `offset`, `length` (bytes of the frame), `t_us`, `t_ms` or `time` (seconds), `run`
//! (a new run is a new segment). Without a table the file is scanned, and frames are 50 ms apart unless `?rate=` says else.

use super::labels::{RowLabels, segments};
use super::scan::Frames;
use super::table::Table;
use super::uri::Uri;
use super::{Indexed, Label, Record, SourceError, jpeg};
use crate::sample::Micros;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// Time between frames where nobody says: 20 frames a second.
pub(super) const FRAME_MICROS: u64 = 50_000;
/// A longer frame than this in a table is a lie.
const MAX_FRAME: u64 = 64 << 20;

#[derive(Clone, Copy, Debug)]
struct Frame {
    offset: u64,
    /// 0 where the scan found the frame damaged.
    length: usize,
    after_damage: bool,
}

/// A file of JPEG images, read at any place.
pub struct Mjpeg {
    path: String,
    file: BufReader<File>,
    frames: Vec<Frame>,
    times: Vec<u64>,
    segments: Vec<u32>,
    groups: Option<Vec<u32>>,
    labels: RowLabels,
    dims: jpeg::Header,
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Mjpeg {
    pub(super) fn open(uri: &Uri) -> Result<Mjpeg, SourceError> {
        let path = uri.paths[0].as_str();
        let q = &uri.query;
        let file = File::open(path).map_err(|e| SourceError::io(path, e))?;
        let size = file.metadata().map_err(|e| SourceError::io(path, e))?.len();
        let table = uri.paths.get(1).map(|p| Table::open(p)).transpose()?;
        let frames = match &table {
            Some(table) if table.find("offset").is_some() => listed(table, path, size)?,
            _ => scanned(path, &file)?,
        };
        if frames.iter().all(|f| f.length == 0) {
            let remedy = "give JPEG images one after another (motion JPEG); other videos must be converted first";
            return Err(SourceError::file(path, format!("no JPEG frame in {size} bytes"), remedy));
        }
        let mut source = Mjpeg {
            path: path.to_owned(),
            file: BufReader::new(file),
            times: Vec::new(),
            segments: vec![0; frames.len()],
            groups: None,
            labels: RowLabels::None,
            frames,
            dims: jpeg::Header { width: 0, height: 0, channels: 0 },
            bytes: Vec::new(),
            scratch: Vec::new(),
        };
        match &table {
            Some(table) => source.annotate(table, uri)?,
            None => {
                if let Some(key) = q.label.as_ref().map(|_| "label").or(q.group.as_ref().map(|_| "group")) {
                    let problem = format!("{key}=COLUMN without a table that has the column");
                    return Err(SourceError::uri(
                        &uri.text,
                        problem,
                        format!("write mjpeg:{path},TABLE.csv?{key}=COLUMN"),
                    ));
                }
            }
        }
        if source.times.is_empty() {
            let micros = q.rate.map_or(FRAME_MICROS as f64, |rate| 1e6 / rate);
            source.times = (0..source.frames.len()).map(|i| (i as f64 * micros).round() as u64).collect();
        }
        source.dims = source.first_header()?;
        Ok(source)
    }

    fn annotate(&mut self, table: &Table, uri: &Uri) -> Result<(), SourceError> {
        let (q, rows) = (&uri.query, table.rows());
        if rows != self.frames.len() {
            let problem = format!("{rows} rows for the {} frames of {}", self.frames.len(), self.path);
            let remedy = "give the table that belongs to it, or one with the columns offset and length";
            return Err(SourceError::file(&table.path, problem, remedy));
        }
        let times = table.times()?;
        let runs = table.find("run").map(|c| table.groups(c));
        let breaks: Vec<&[u32]> = runs.iter().map(Vec::as_slice).collect();
        self.segments = segments(times.as_ref().map(|(_, t)| t.as_slice()), &breaks, rows);
        if let Some((_, times)) = times.filter(|_| q.rate.is_none()) {
            self.times = times;
        }
        if let Some(name) = &q.group {
            self.groups = Some(table.groups(table.column(name)?));
        }
        if let Some(name) = &q.label {
            self.labels = RowLabels::column(table, name, q.labels)?;
            self.labels.smooth(q.smooth.unwrap_or(0), &self.segments);
        }
        Ok(())
    }

    /// Dimensions of the stream: those of the first frame whose header can be read.
    fn first_header(&mut self) -> Result<jpeg::Header, SourceError> {
        let mut first_problem = None;
        for index in 0..self.frames.len() {
            if self.fetch(index)? {
                match jpeg::header(&self.bytes) {
                    Ok(header) => return Ok(header),
                    Err(problem) => first_problem = first_problem.or(Some((self.frames[index].offset, problem))),
                }
            }
        }
        let (offset, problem) = first_problem.unwrap_or((0, "no frame is whole".to_owned()));
        let remedy = "check that the table belongs to the file and that the file was copied whole";
        Err(SourceError::file(
            &self.path,
            format!("no frame can be read; the first, at byte {offset}: {problem}"),
            remedy,
        ))
    }

    /// Reads the bytes of a frame; `false` where the scan found it damaged.
    fn fetch(&mut self, index: usize) -> Result<bool, SourceError> {
        let frame = self.frames[index];
        if frame.length == 0 {
            return Ok(false);
        }
        self.bytes.resize(frame.length, 0);
        let here = self.file.stream_position().map_err(|e| SourceError::io(&self.path, e))?;
        let result = match i64::try_from(frame.offset).ok().zip(i64::try_from(here).ok()) {
            Some((there, here)) => self.file.seek_relative(there - here),
            None => self.file.seek(SeekFrom::Start(frame.offset)).map(|_| ()),
        };
        result.and_then(|()| self.file.read_exact(&mut self.bytes)).map_err(|e| SourceError::io(&self.path, e))?;
        Ok(true)
    }
}

/// The frames that a table lists, each within the file.
fn listed(table: &Table, path: &str, size: u64) -> Result<Vec<Frame>, SourceError> {
    let length_column = table.column("length")?;
    let offsets = table.counts(table.column("offset")?)?;
    let lengths = table.counts(length_column)?;
    let mut frames = Vec::with_capacity(table.rows());
    for (row, (offset, length)) in offsets.into_iter().zip(lengths).enumerate() {
        // Both are below 2^53: the sum cannot wrap.
        if offset + length > size || length == 0 || length > MAX_FRAME {
            let problem = format!("bytes from {offset} are not a frame within the {size} bytes of {path}");
            let remedy =
                "give the table that belongs to the file; where the file was cut off, remove the rows beyond its end";
            return Err(table.bad(row, length_column, &problem, remedy));
        }
        frames.push(Frame { offset, length: length as usize, after_damage: false });
    }
    Ok(frames)
}

/// The frames that are found by walking the markers of the whole file.
fn scanned(path: &str, file: &File) -> Result<Vec<Frame>, SourceError> {
    let mut scan = Frames::new(file);
    let mut frames = Vec::new();
    while let Some(piece) = scan.next_piece().map_err(|e| SourceError::io(path, e))? {
        let length = if piece.damaged { 0 } else { piece.length };
        frames.push(Frame { offset: piece.offset, length, after_damage: piece.after_damage });
    }
    Ok(frames)
}

impl Indexed for Mjpeg {
    fn describe(&self) -> String {
        let jpeg::Header { width, height, channels } = self.dims;
        format!("mjpeg: {}, {} frames {width}x{height}x{channels}", self.path, self.frames.len())
    }

    fn len(&self) -> usize {
        self.frames.len()
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
        if !self.fetch(index)? {
            return Ok(false);
        }
        let Ok(header) = jpeg::header(&self.bytes) else { return Ok(false) };
        let Frame { offset, after_damage, .. } = self.frames[index];
        if header != self.dims {
            if after_damage {
                return Ok(false);
            }
            let jpeg::Header { width: w, height: h, channels: c } = self.dims;
            let problem = format!(
                "byte {offset}, frame {index}: {}x{}x{} where the first frame has {w}x{h}x{c}",
                header.width, header.height, header.channels
            );
            return Err(SourceError::file(&self.path, problem, "split the file where the camera was set differently"));
        }
        if jpeg::decode(&self.bytes, header, &mut self.scratch, record).is_err() {
            return Ok(false);
        }
        record.time = Micros(self.times[index]);
        record.segment = self.segments[index];
        record.group = self.group(index);
        record.label = self.labels.get(index);
        Ok(true)
    }

    fn label(&self, index: usize) -> Option<Label> {
        self.labels.get(index)
    }

    fn group(&self, index: usize) -> u32 {
        self.groups.as_ref().map_or(self.segments[index], |g| g[index])
    }

    fn class_names(&self) -> &[String] {
        self.labels.names()
    }
}
