//! `pipe:-?format=s16le&rate=16000`: sound as it comes, cut into windows that overlap as `?window=&stride=` say.

use super::sound::from_bytes;
use super::uri::Uri;
use super::{Record, Source, SourceError, pipe::fill};
use crate::sample::Micros;
use std::io::Read;

/// A live stream of 16-bit samples, one channel.
pub struct SoundPipe<R> {
    path: String,
    input: R,
    rate: u32,
    stride: usize,
    /// The last window.
    window: Vec<i16>,
    bytes: Vec<u8>,
    /// Windows given so far.
    windows: u64,
}

impl<R: Read + Send> SoundPipe<R> {
    /// Windows from `input` as `uri` says: of one second, half a window apart, where it does not.
    ///
    /// # Errors
    /// [`SourceError::Uri`] where it gives no rate.
    pub fn new(input: R, uri: &Uri) -> Result<Self, SourceError> {
        let q = &uri.query;
        let rate = q.rate.filter(|rate| *rate >= 1.0).ok_or_else(|| {
            SourceError::uri(
                &uri.text,
                "raw samples without their rate",
                "add &rate=16000, or what the sound is taken with",
            )
        })? as u32;
        let length = q.window.unwrap_or(rate as usize);
        let stride = q.stride.unwrap_or((length / 2).max(1));
        let (path, window, bytes) = (uri.paths[0].clone(), vec![0; length], Vec::new());
        Ok(SoundPipe { path, input, rate, stride, window, bytes, windows: 0 })
    }

    /// Reads `samples` more, the last of them into the window; `false` where the stream ends before.
    fn advance(&mut self, samples: usize) -> Result<bool, SourceError> {
        let length = self.window.len();
        let mut skipped = samples.saturating_sub(length);
        let kept = samples - skipped;
        while skipped > 0 {
            let some = skipped.min(length);
            if !self.take(some)? {
                return Ok(false);
            }
            skipped -= some;
        }
        if !self.take(kept)? {
            return Ok(false);
        }
        self.window.copy_within(kept.., 0);
        from_bytes(&self.bytes, &mut self.window[length - kept..]);
        Ok(true)
    }

    fn take(&mut self, samples: usize) -> Result<bool, SourceError> {
        self.bytes.resize(2 * samples, 0);
        let read = fill(&mut self.input, &mut self.bytes).map_err(|e| SourceError::io(&self.path, e))?;
        Ok(read == self.bytes.len())
    }
}

impl<R: Read + Send> Source for SoundPipe<R> {
    fn describe(&self) -> String {
        format!("pipe: {}, windows of {} at {} Hz, {} apart", self.path, self.window.len(), self.rate, self.stride)
    }

    fn len_hint(&self) -> Option<u64> {
        None
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        let first = self.windows == 0;
        if !self.advance(if first { self.window.len() } else { self.stride })? {
            if first {
                let problem = format!("the stream ended before a window of {} samples was full", self.window.len());
                let remedy = "check that the program before the pipe writes signed 16-bit little-endian samples";
                return Err(SourceError::file(&self.path, problem, remedy));
            }
            return Ok(false);
        }
        record.window_mut(self.window.len(), 1).copy_from_slice(&self.window);
        let at = self.windows * self.stride as u64;
        record.time = Micros((at as f64 * 1e6 / f64::from(self.rate)).round() as u64);
        (record.segment, record.group, record.label) = (0, 0, None);
        self.windows += 1;
        Ok(true)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        Err(SourceError::CannotRewind(format!("pipe:{}", self.path)))
    }

    fn sound_rate(&self) -> Option<u32> {
        Some(self.rate)
    }
}
