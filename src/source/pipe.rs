//! `pipe:-` (standard input) and `pipe:PATH` (a FIFO or device): motion JPEG or raw frames as they come, read once.
//!
//! Damaged frames, frames of other dimensions and a last frame that was cut off are passed over and counted.

use super::scan::Frames;
use super::uri::{Format, Uri};
use super::{MAX_PIXELS, Record, Source, SourceError, jpeg};
use crate::sample::Micros;
use std::io::{ErrorKind, Read};

/// A live stream of frames.
pub struct Pipe<R> {
    path: String,
    input: Input<R>,
    dims: Option<jpeg::Header>,
    micros: f64,
    /// Frames seen, damaged ones with them: the clock of the stream.
    frames: u64,
    skipped: u64,
    scratch: Vec<u8>,
}

enum Input<R> {
    Mjpeg(Frames<R>),
    Raw(R),
}

impl<R: Read + Send> Pipe<R> {
    /// Frames from `input`, in the format and at the rate that `uri` says.
    ///
    /// # Errors
    /// [`SourceError::Uri`] where the frames are larger than [`MAX_PIXELS`].
    pub fn new(input: R, uri: &Uri) -> Result<Self, SourceError> {
        let q = &uri.query;
        let channels = match q.format.unwrap_or_default() {
            Format::Mjpeg | Format::Yuyv | Format::S16le => 0,
            Format::Rgb24 => 3,
            Format::Gray8 => 1,
        };
        let dims = jpeg::Header { width: q.width.unwrap_or(0), height: q.height.unwrap_or(0), channels };
        if dims.width * dims.height > MAX_PIXELS {
            let problem = format!("{}x{} pixels are more than {MAX_PIXELS}", dims.width, dims.height);
            return Err(SourceError::uri(&uri.text, problem, "have the camera make smaller frames"));
        }
        let micros = q.rate.map_or(super::mjpeg::FRAME_MICROS as f64, |rate| 1e6 / rate);
        let (input, dims) = match channels {
            0 => (Input::Mjpeg(Frames::new(input)), None),
            _ => (Input::Raw(input), Some(dims)),
        };
        Ok(Pipe { path: uri.paths[0].clone(), input, dims, micros, frames: 0, skipped: 0, scratch: Vec::new() })
    }

    fn end(&self) -> Result<bool, SourceError> {
        if self.frames > self.skipped {
            return Ok(false);
        }
        let problem = format!("the stream ended without a whole frame ({} damaged)", self.skipped);
        let remedy = "check that the program before the pipe writes motion JPEG, or say ?format=rgb24&width=W&height=H";
        Err(SourceError::file(&self.path, problem, remedy))
    }
}

impl<R: Read + Send> Source for Pipe<R> {
    fn describe(&self) -> String {
        let kind = match self.input {
            Input::Mjpeg(_) => "motion JPEG",
            Input::Raw(_) => "raw frames",
        };
        match self.dims {
            Some(d) => format!("pipe: {}, {kind} {}x{}x{}", self.path, d.width, d.height, d.channels),
            None => format!("pipe: {}, {kind}", self.path),
        }
    }

    fn len_hint(&self) -> Option<u64> {
        None
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        loop {
            let good = match &mut self.input {
                Input::Mjpeg(frames) => {
                    let Some(piece) = frames.next_piece().map_err(|e| SourceError::io(&self.path, e))? else {
                        return self.end();
                    };
                    let header = jpeg::header(frames.bytes()).ok().filter(|_| !piece.damaged);
                    let fitting = header.filter(|h| self.dims.is_none_or(|d| d == *h));
                    fitting.is_some_and(|h| {
                        let decoded = jpeg::decode(frames.bytes(), h, &mut self.scratch, record).is_ok();
                        if decoded {
                            self.dims = Some(h);
                        }
                        decoded
                    })
                }
                Input::Raw(input) => {
                    let Some(dims) = self.dims else { return self.end() };
                    let jpeg::Header { width, height, channels } = dims;
                    let pixels = record.image_mut(height, width, channels);
                    match fill(input, pixels).map_err(|e| SourceError::io(&self.path, e))? {
                        0 => return self.end(),
                        n => n == pixels.len(),
                    }
                }
            };
            let index = self.frames;
            self.frames += 1;
            if good {
                record.time = Micros((index as f64 * self.micros).round() as u64);
                (record.segment, record.group, record.label) = (0, 0, None);
                return Ok(true);
            }
            self.skipped += 1;
        }
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        Err(SourceError::CannotRewind(format!("pipe:{}", self.path)))
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// Reads until `out` is full or the stream ends; the number of bytes read.
pub(super) fn fill(input: &mut impl Read, out: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < out.len() {
        match input.read(&mut out[n..]) {
            Ok(0) => break,
            Ok(read) => n += read,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}
