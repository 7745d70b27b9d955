//! `[record]`: samples, features, decisions and health of a run as an MCAP file. It is one of the ways out of the bus, and so
//! has a thread of its own that nobody waits for; samples come beside, by [`super::tap`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tap::Tapped;
use crate::board;
use crate::bus::{Message, SendError, Transport};
use crate::recording::writer::{About, RecordingError, Writer};
use crate::recording::{DECISIONS, FEATURES, HEALTH};
use crate::ros::messages::{self, Header, Time};
use crate::sample::Micros;

/// What was written is in the file at most this much later; health is told as often.
const FLUSH: Duration = Duration::from_secs(1);
/// How long the end of a run waits for the rest to be written.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Recorder {
    writer: Option<Writer>,
    most_bytes: u64,
    /// Nobody takes samples any more once it has ended.
    tapped: Option<Tapped>,
    flushed: Instant,
    /// Time of the newest feature's sample, its encoder and health.
    newest: (Micros, u32, f32),
    told: Option<Instant>,
    /// Why it writes nothing any more.
    ended: Option<String>,
}

impl Recorder {
    /// Begins the recording of `table`, beside those that are there already: `run.mcap`, `run-1.mcap` and so on.
    ///
    /// # Errors
    /// Of a folder that cannot be written, in words.
    pub fn open(table: &board::Record, path: &Path, about: &About, tapped: Tapped) -> Result<Self, String> {
        let writer = Writer::create(&free(path)?, about).map_err(|e| e.to_string())?;
        eprintln!("nestling: recording to {}", writer.path().display());
        Ok(Recorder {
            writer: Some(writer),
            most_bytes: table.most_mb.saturating_mul(1_000_000),
            tapped: Some(tapped),
            flushed: Instant::now(),
            newest: (Micros(0), 0, f32::NAN),
            told: None,
            ended: None,
        })
    }

    /// Writes by `write`, unless the recording has ended; an error ends it.
    fn write(&mut self, write: impl FnOnce(&mut Writer) -> Result<(), RecordingError>) -> Result<(), SendError> {
        let Some(writer) = &mut self.writer else {
            return Err(SendError::Failed(self.ended.clone().unwrap_or_default()));
        };
        let full = writer.written() >= self.most_bytes;
        let result = if full { Ok(()) } else { write(writer).map_err(|e| e.to_string()) };
        let reason = match result {
            Ok(()) if !full => return Ok(()),
            Ok(()) => format!("{} has its most_mb; nothing more is recorded", writer.path().display()),
            Err(problem) => format!("nothing more is recorded: {problem}"),
        };
        if let Some(Err(problem)) = self.writer.take().map(Writer::finish) {
            eprintln!("nestling: the recording cannot be ended: {problem}");
        }
        self.tapped = None;
        self.ended = Some(reason.clone());
        Err(SendError::Failed(reason))
    }

    /// Writes the samples that wait.
    fn samples(&mut self) -> Result<(), SendError> {
        while let (Some(tapped), Some(writer)) = (&self.tapped, &mut self.writer)
            && let Some(written) = tapped.next(|record, learned| writer.sample(record, learned))
        {
            self.write(|_| written)?;
        }
        Ok(())
    }

    fn health(&mut self, stale: bool, age: Duration) -> Result<(), SendError> {
        let (time, encoder, health) = self.newest;
        let at = Micros(time.0.saturating_add(age.as_micros() as u64));
        self.told = Some(Instant::now());
        self.write(|writer| {
            let at = writer.stamp(at);
            let message = messages::Health { header: header(at), stale, age: age.into(), encoder, health };
            writer.message(HEALTH, &message, at)
        })
    }
}

fn header(at: Micros) -> Header {
    Header { stamp: Time::from(at), frame_id: "nestling".into() }
}

/// `path`, or the first of its names with a number that is not taken.
fn free(path: &Path) -> Result<PathBuf, String> {
    let (stem, extension) = (path.file_stem().unwrap_or_default(), path.extension().unwrap_or_default());
    let numbered = |n: u32| {
        let name = format!("{}-{n}.{}", stem.to_string_lossy(), extension.to_string_lossy());
        if n == 0 { path.to_owned() } else { path.with_file_name(name) }
    };
    let found = (0..10_000).map(numbered).find(|path| !path.exists());
    found.ok_or_else(|| format!("{}: there are ten thousand recordings; move some away", path.display()))
}

impl Transport for Recorder {
    fn send(&mut self, message: &Arc<Message>) -> Result<(), SendError> {
        self.samples()?;
        match &**message {
            Message::Feature(feature) => {
                self.newest = (feature.time, feature.encoder.0, feature.health.unwrap_or(f32::NAN));
                self.write(|writer| {
                    // Its header has the time of the sample; it was made somewhat later.
                    let (of, age) = (writer.stamp(feature.time), feature.age.as_micros() as u64);
                    writer.message(FEATURES, &feature.to_ros(header(of)), Micros(of.0.saturating_add(age)))
                })?;
                if self.told.is_none_or(|told| told.elapsed() >= FLUSH) {
                    self.health(false, feature.age)?;
                }
                Ok(())
            }
            Message::Decision(decision) => self.write(|writer| {
                let (of, age) = (writer.stamp(decision.time), decision.age.as_micros() as u64);
                let topic = format!("{DECISIONS}{}", decision.controller);
                writer.message(&topic, &decision.to_ros(header(of)), Micros(of.0.saturating_add(age)))
            }),
            Message::Stale(stale) => self.health(true, stale.age),
        }
    }

    fn flush(&mut self) -> Result<(), SendError> {
        self.samples()?;
        if self.flushed.elapsed() >= FLUSH {
            self.flushed = Instant::now();
            self.write(Writer::flush)?;
        }
        Ok(())
    }

    fn finish(&mut self) {
        let _ = self.samples();
        if let Some(Err(problem)) = self.writer.take().map(Writer::finish) {
            eprintln!("nestling: the recording cannot be ended: {problem}");
        }
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}
