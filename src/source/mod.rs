//! Where samples come from: recordings, data sets, cameras, pipes, the simulator. Above the line: it may allocate and use floats.
//!
//! A source fills a [`Record`] that its caller owns, so that a running stream allocates nothing per sample.
//! Data sets with random access implement [`Indexed`]; [`order::Ordered`] turns one into a [`Source`].

pub mod sim;

use crate::sample::{Micros, Sample, Values};

#[cfg(all(feature = "camera", target_pointer_width = "64"))]
pub mod camera;
pub mod chain;
pub mod child;
pub mod fault;
pub mod images;
mod jpeg;
mod labels;
pub mod link;
#[cfg(feature = "mcap")]
pub mod mcap;
pub mod mjpeg;
mod npy;
pub mod npy_images;
mod npy_labels;
pub mod npy_rows;
mod open;
pub mod order;
pub mod pipe;
mod query;
#[cfg(any(feature = "zenoh", feature = "mcap"))]
mod ros;
mod scan;
pub mod sensor;
pub mod signal;
mod signal_csv;
mod signal_npy;
mod sound;
pub mod sound_pipe;
mod table;
pub mod tokens;
pub mod tub;
pub mod uri;
#[cfg(any(feature = "zenoh", feature = "mcap", all(feature = "camera", target_pointer_width = "64")))]
mod yuv;
#[cfg(feature = "zenoh")]
pub mod zenoh;

#[cfg(feature = "serial")]
pub use open::attach;
pub use open::{OpenOptions, open, open_indexed};

/// More pixels than this in one image are taken for a lying header: nothing is allocated for them.
pub const MAX_PIXELS: usize = 64 << 20;

/// What was annotated for a sample. Only probes and controllers read it, never the learner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label {
    Class(u32),
    Value(f64),
}

/// The numbers of a sample, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `[height, width, channels]`
    Image { pixels: Vec<u8>, height: usize, width: usize, channels: usize },
    /// `[length, channels]`
    Window { readings: Vec<i16>, length: usize, channels: usize },
}

/// One observation with everything that was written down about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub data: Data,
    pub time: Micros,
    /// Goes up where the stream was paused or cut; temporal neighbours never cross it.
    pub segment: u32,
    /// Subject, speaker, run or file: what probes split by. Equal to `segment` where the source knows nothing better.
    pub group: u32,
    pub label: Option<Label>,
    /// What another sensor says of the sample, where the source has one.
    pub beside: Vec<i8>,
}

impl Record {
    /// The sample as the learner sees it: without label and group.
    pub fn sample(&self) -> Sample<'_> {
        let values = match &self.data {
            Data::Image { pixels, height, width, channels } => {
                Values::Image { pixels, height: *height, width: *width, channels: *channels }
            }
            Data::Window { readings, length, channels } => {
                Values::Window { readings, length: *length, channels: *channels }
            }
        };
        Sample { values, time: self.time, segment: self.segment }
    }
}

impl Default for Record {
    fn default() -> Self {
        let data = Data::Image { pixels: Vec::new(), height: 0, width: 0, channels: 0 };
        Record { data, time: Micros(0), segment: 0, group: 0, label: None, beside: Vec::new() }
    }
}

/// A stream of samples.
pub trait Source: Send {
    /// What this is, for people: `mjpeg: seq1/frames.jpegs, 5000 frames 160x120`.
    fn describe(&self) -> String;
    /// Samples in one pass, where that is known.
    fn len_hint(&self) -> Option<u64>;
    /// Fills `record` with the next sample; `false` at the end of the stream.
    ///
    /// # Errors
    /// Whatever stops the stream: the message names the file, the place and the remedy.
    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError>;
    /// Goes back to the first sample, for another epoch.
    ///
    /// # Errors
    /// [`SourceError::CannotRewind`] for a live stream.
    fn rewind(&mut self) -> Result<(), SourceError>;
    /// Samples that follow one another were taken one after another: neighbours in time mean something.
    fn in_order(&self) -> bool {
        true
    }
    /// Samples that were damaged and passed over so far.
    fn skipped(&self) -> u64 {
        0
    }
    /// Names of the classes, where labels are classes.
    fn class_names(&self) -> &[String] {
        &[]
    }
    /// Sound: samples a second.
    fn sound_rate(&self) -> Option<u32> {
        None
    }
    /// What was done to the samples on purpose, where something was.
    fn injected(&self) -> Option<fault::Counts> {
        None
    }
    /// The board that took the samples in, where they come from one.
    fn device(&self) -> Option<&link::DeviceInfo> {
        None
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn describe(&self) -> String {
        (**self).describe()
    }
    fn len_hint(&self) -> Option<u64> {
        (**self).len_hint()
    }
    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        (**self).read_next(record)
    }
    fn rewind(&mut self) -> Result<(), SourceError> {
        (**self).rewind()
    }
    fn in_order(&self) -> bool {
        (**self).in_order()
    }
    fn skipped(&self) -> u64 {
        (**self).skipped()
    }
    fn class_names(&self) -> &[String] {
        (**self).class_names()
    }
    fn sound_rate(&self) -> Option<u32> {
        (**self).sound_rate()
    }
    fn injected(&self) -> Option<fault::Counts> {
        (**self).injected()
    }
    fn device(&self) -> Option<&link::DeviceInfo> {
        (**self).device()
    }
}

/// A data set whose samples can be read in any order.
pub trait Indexed: Send {
    fn describe(&self) -> String;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `record` with sample `index`; `false` where that sample is damaged and is to be passed over.
    ///
    /// # Errors
    /// As [`Source::read_next`].
    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError>;
    /// The label of sample `index` without reading the sample (for `?order=by-label`).
    fn label(&self, index: usize) -> Option<Label>;
    /// As [`Source::in_order`], played as given.
    fn in_order(&self) -> bool {
        true
    }
    /// The group of sample `index` without reading the sample (for `?range_of=groups`).
    fn group(&self, index: usize) -> u32;
    fn class_names(&self) -> &[String] {
        &[]
    }
    /// Sound: samples a second.
    fn sound_rate(&self) -> Option<u32> {
        None
    }
}

/// Why a source cannot be opened or goes no further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    #[error("{uri}: {problem}\n  what to do: {remedy}")]
    Uri { uri: String, problem: String, remedy: String },
    #[error("{path}: {problem}\n  what to do: {remedy}")]
    File { path: String, problem: String, remedy: String },
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}: a live stream has no beginning to go back to; learn from it in one pass (--epochs 1)")]
    CannotRewind(String),
}

impl SourceError {
    /// Waiting may mend it; what is wrong with the words of a URI it never does.
    pub fn is_passing(&self) -> bool {
        !matches!(self, SourceError::Uri { .. })
    }

    pub(crate) fn file(path: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        SourceError::File { path: path.to_owned(), problem: problem.into(), remedy: remedy.into() }
    }

    pub(crate) fn uri(uri: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        SourceError::Uri { uri: uri.to_owned(), problem: problem.into(), remedy: remedy.into() }
    }

    pub(crate) fn io(path: &str, source: std::io::Error) -> Self {
        SourceError::Io { path: path.to_owned(), source }
    }
}

impl Record {
    /// Writes the same into `to`, whose buffers are kept.
    pub(crate) fn copy_into(&self, to: &mut Record) {
        match &self.data {
            Data::Image { pixels, height, width, channels } => {
                to.image_mut(*height, *width, *channels).copy_from_slice(pixels);
            }
            Data::Window { readings, length, channels } => {
                to.window_mut(*length, *channels).copy_from_slice(readings);
            }
        }
        (to.time, to.segment, to.group, to.label) = (self.time, self.segment, self.group, self.label);
        to.beside.clone_from(&self.beside);
    }

    /// The pixel buffer, kept from the last sample, resized; its dimensions are set.
    pub(crate) fn image_mut(&mut self, height: usize, width: usize, channels: usize) -> &mut Vec<u8> {
        if !matches!(self.data, Data::Image { .. }) {
            self.data = Data::Image { pixels: Vec::new(), height, width, channels };
        }
        match &mut self.data {
            Data::Image { pixels, height: h, width: w, channels: c } => {
                (*h, *w, *c) = (height, width, channels);
                pixels.resize(height * width * channels, 0);
                pixels
            }
            Data::Window { .. } => unreachable!("replaced by an image above"),
        }
    }

    /// The buffer of readings, kept from the last sample; its dimensions are set, its content is the caller's to fill.
    pub(crate) fn window_mut(&mut self, length: usize, channels: usize) -> &mut Vec<i16> {
        if !matches!(self.data, Data::Window { .. }) {
            self.data = Data::Window { readings: Vec::new(), length, channels };
        }
        match &mut self.data {
            Data::Window { readings, length: l, channels: c } => {
                (*l, *c) = (length, channels);
                readings.resize(length * channels, 0);
                readings
            }
            Data::Image { .. } => unreachable!("replaced by a window above"),
        }
    }
}
