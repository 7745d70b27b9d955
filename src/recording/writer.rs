//! Writes recordings: samples with all that is known of them, and whatever else is a message of [`crate::ros`].
//!
//! What was written is in the file after [`Writer::flush`], in chunks that are written whole, so that a file whose writer was
//! killed can be read up to there. Nothing is compressed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mcap::records::{MessageHeader, Metadata};
use mcap::write::NoSeek;

use super::{ABOUT, CDR, CLASSES, EXPECTED, IMAGES, IN_ORDER, ROS2MSG, SAMPLES, SOUND_RATE, SOURCE, WINDOWS};
use crate::ros::messages::{self, Header, LABEL_CLASS, LABEL_NONE, LABEL_VALUE, Message, Time};
use crate::ros::{CdrError, Type, cdr};
use crate::sample::Micros;
use crate::source::{Data, Label, Record, Source};

/// Bytes of messages that are gathered to a chunk.
const CHUNK: u64 = 1 << 20;

/// Why a recording cannot be written, or not on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: {problem}", path.display())]
    Mcap { path: PathBuf, problem: String },
    #[error("a message cannot be written: {0}")]
    Message(#[from] CdrError),
}

/// What a source knows of itself, for the file's first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub source: String,
    pub classes: Vec<String>,
    pub sound_rate: Option<u32>,
    pub in_order: bool,
    /// Samples that are to come, where that is known.
    pub expected: Option<u64>,
}

impl About {
    pub fn of(source: &dyn Source) -> About {
        About {
            source: source.describe(),
            classes: source.class_names().to_vec(),
            sound_rate: source.sound_rate(),
            in_order: source.in_order(),
            expected: source.len_hint(),
        }
    }

    fn told(&self) -> BTreeMap<String, String> {
        let mut told = BTreeMap::from([(SOURCE, self.source.clone()), (IN_ORDER, self.in_order.to_string())]);
        if !self.classes.is_empty() {
            told.insert(CLASSES, serde_json::json!(self.classes).to_string());
        }
        told.extend(self.expected.map(|samples| (EXPECTED, samples.to_string())));
        told.extend(self.sound_rate.map(|rate| (SOUND_RATE, rate.to_string())));
        told.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// See the module.
pub struct Writer {
    path: PathBuf,
    mcap: mcap::Writer<NoSeek<BufWriter<File>>>,
    channels: HashMap<String, u16>,
    /// Microseconds since 1970 of time 0 of the samples.
    epoch: Option<u64>,
    /// The newest message.
    bytes: Vec<u8>,
    sequence: u32,
    /// Bytes of all messages.
    written: u64,
}

impl Writer {
    /// Begins the file at `path`, which may not be there yet.
    ///
    /// # Errors
    /// [`RecordingError`]
    pub fn create(path: &Path, about: &About) -> Result<Writer, RecordingError> {
        let opened = File::options().write(true).create_new(true).open(path);
        let file = opened.map_err(|source| RecordingError::Io { path: path.to_owned(), source })?;
        let options = mcap::WriteOptions::new()
            .profile("ros2")
            .library(concat!("nestling ", env!("CARGO_PKG_VERSION")))
            .compression(None)
            .chunk_size(Some(CHUNK))
            // A chunk goes out whole, and is never gone back to.
            .disable_seeking(true);
        let failed = |e: mcap::McapError| RecordingError::Mcap { path: path.to_owned(), problem: e.to_string() };
        let mut mcap = options.create(NoSeek::new(BufWriter::new(file))).map_err(failed)?;
        let metadata = Metadata { name: ABOUT.to_owned(), metadata: about.told() };
        mcap.write_metadata(&metadata).map_err(failed)?;
        Ok(Writer {
            path: path.to_owned(),
            mcap,
            channels: HashMap::new(),
            epoch: None,
            bytes: Vec::new(),
            sequence: 0,
            written: 0,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all messages so far, which is the length of the file but for its index.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The time of a sample as others know it. Samples have times from an epoch of their own, which is where the clock of
    /// this machine was when the first of them came.
    pub fn stamp(&mut self, time: Micros) -> Micros {
        let epoch = *self.epoch.get_or_insert_with(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (now.as_micros() as u64).saturating_sub(time.0)
        });
        Micros(epoch.saturating_add(time.0))
    }

    /// Writes a sample; `learned` tells whether the learner took it in.
    ///
    /// # Errors
    /// [`RecordingError`]
    pub fn sample(&mut self, record: &Record, learned: bool) -> Result<(), RecordingError> {
        let stamp = self.stamp(record.time);
        let header = || Header { stamp: Time::from(stamp), frame_id: "nestling".into() };
        let (label_kind, label) = match record.label {
            None => (LABEL_NONE, 0.0),
            Some(Label::Class(class)) => (LABEL_CLASS, f64::from(class)),
            Some(Label::Value(value)) => (LABEL_VALUE, value),
        };
        let known = messages::Sample {
            header: header(),
            time_us: record.time.0,
            segment: record.segment,
            group: record.group,
            learned,
            label_kind,
            label,
            beside: &record.beside,
        };
        self.message(SAMPLES, &known, stamp)?;
        match &record.data {
            Data::Image { pixels, height, width, channels } => {
                let encoding = if *channels == 1 { "mono8" } else { "rgb8" }.to_owned();
                let [height, width, step] = [*height, *width, width * channels].map(|n| n as u32);
                let data = pixels.as_slice();
                let image = messages::Image { header: header(), height, width, encoding, is_bigendian: 0, step, data };
                self.message(IMAGES, &image, stamp)
            }
            Data::Window { readings, length, channels } => {
                let [length, channels] = [*length, *channels].map(|n| n as u32);
                let window = messages::Window { header: header(), length, channels, readings: readings.clone() };
                self.message(WINDOWS, &window, stamp)
            }
        }
    }

    /// Writes `message` on `topic`; `at` is when it was made, as [`Writer::stamp`] tells it.
    ///
    /// # Errors
    /// [`RecordingError`]
    pub fn message<M: Message>(&mut self, topic: &str, message: &M, at: Micros) -> Result<(), RecordingError> {
        let id = match self.channels.get(topic) {
            Some(id) => *id,
            None => self.add_channel(topic, M::TYPE)?,
        };
        self.bytes.clear();
        cdr::encode_into(message, &mut self.bytes)?;
        let time = at.0.saturating_mul(1000);
        let header = MessageHeader { channel_id: id, sequence: self.sequence, log_time: time, publish_time: time };
        self.sequence = self.sequence.wrapping_add(1);
        let written = self.mcap.write_to_known_channel(&header, &self.bytes);
        self.written += self.bytes.len() as u64;
        written.map_err(|e| self.failed(&e))
    }

    fn add_channel(&mut self, topic: &str, kind: &Type) -> Result<u16, RecordingError> {
        let text = kind.ros2msg();
        let added = self.mcap.add_schema(kind.name, ROS2MSG, text.as_bytes());
        let added = added.and_then(|schema| self.mcap.add_channel(schema, topic, CDR, &BTreeMap::new()));
        let id = added.map_err(|e| self.failed(&e))?;
        self.channels.insert(topic.to_owned(), id);
        Ok(id)
    }

    fn failed(&self, problem: &mcap::McapError) -> RecordingError {
        RecordingError::Mcap { path: self.path.clone(), problem: problem.to_string() }
    }

    /// Puts what was written into the file.
    ///
    /// # Errors
    /// [`RecordingError`]
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        self.mcap.flush().map_err(|e| self.failed(&e))
    }

    /// Writes the index and ends the file.
    ///
    /// # Errors
    /// [`RecordingError`]
    pub fn finish(mut self) -> Result<(), RecordingError> {
        self.mcap.finish().map_err(|e| self.failed(&e))?;
        let path = self.path;
        let file = self.mcap.into_inner().into_inner().into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).map_err(|source| RecordingError::Io { path, source })
    }
}
