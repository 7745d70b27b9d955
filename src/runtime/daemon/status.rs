//! What a running daemon tells of itself: written by its threads, read by the control socket and the metrics.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::reader::SourceStatus;
use super::saver::StoreStatus;
use crate::bus::TransportStatus;
use crate::bus::socket::Readers;
use crate::bus::transport::Counts;
use crate::control::Decision;
use crate::runtime::machine;
use crate::runtime::meters::GuardStatus;

/// A value that one thread changes and others look at. Nobody holds it for longer than a copy takes.
pub struct Watched<T>(Mutex<T>);

impl<T: Clone> Watched<T> {
    pub fn new(value: T) -> Self {
        Watched(Mutex::new(value))
    }

    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn get(&self) -> T {
        self.change(|value| value.clone())
    }
}

/// Times of one kind, in µs.
#[derive(Clone)]
pub struct Times(Histogram<u64>);

impl Times {
    /// A minute is the longest that is told apart; memory is taken here only.
    const LONGEST: u64 = 60_000_000;

    pub fn new() -> Self {
        // These bounds are sound ones.
        Times(Histogram::new_with_bounds(1, Self::LONGEST, 2).unwrap_or_else(|_| Histogram::new(1).expect("1 digit")))
    }

    pub fn add(&mut self, micros: u64) {
        self.0.saturating_record(micros);
    }

    pub fn quantile(&self, q: f64) -> u64 {
        self.0.value_at_quantile(q)
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::new()
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let of = |q| self.quantile(q);
        serde_json::json!({ "p50": of(0.5), "p99": of(0.99), "max": self.0.max() }).serialize(to)
    }
}

/// The perceiving side.
#[derive(Clone, Default, Serialize)]
pub struct FeatureStatus {
    pub perceived: u64,
    /// Samples that came faster than features may.
    pub passed_over: u64,
    /// Samples that do not fit the model.
    pub refused: u64,
    /// Features that were ready after their deadline.
    pub late: u64,
    /// The newest feature is older than features may be.
    pub stale: bool,
    /// Times that features went stale.
    pub went_stale: u64,
    /// Times that bits of the encoder in use had flipped, and samples of which no feature was made until it was replaced, or
    /// until the backbone had its exponent.
    pub damaged_encoders: u64,
    pub withheld: u64,
    /// Features with which a way out had no time for a message.
    pub unread: u64,
    /// Samples that the recording had no time for, or that came after its end.
    pub not_recorded: u64,
    /// Version of the encoder of the newest feature.
    pub encoder: u32,
    /// From the arrival of a sample to its feature.
    pub latency_us: Times,
    /// Of that, the backbone; nothing where there is none.
    pub backbone_us: Times,
    /// Readers of sockets, and messages that one of them had no time for.
    pub readers: u64,
    pub missed: u64,
    /// When the newest feature's sample came.
    #[serde(skip)]
    pub newest: Option<Instant>,
}

/// The learning side.
#[derive(Clone, Default, Serialize)]
pub struct LearningStatus {
    /// `learning`, `frozen` or `yielding`.
    pub state: &'static str,
    /// Why it does not learn, or not at full speed.
    pub why: Option<String>,
    /// Samples taken in, and those that it had no time for.
    pub observed: u64,
    pub not_learned: u64,
    pub refused: u64,
    pub steps: u64,
    pub loss: f64,
    pub encoder: u64,
    pub lessons_published: u64,
    pub lessons_rolled_back: u64,
    /// Lessons that one can go back to.
    pub lessons_kept: usize,
    /// Share of what it may take that learning takes, by heat, load and late features.
    pub pressure: f64,
    pub temperature: Option<f64>,
    pub step_us: Times,
    /// Times that memory was damaged and restored from what was saved.
    pub restored: u64,
    pub guard: GuardStatus,
}

/// What was taught under one name.
#[derive(Clone, Default, Serialize)]
pub struct TaughtStatus {
    pub label: String,
    pub examples: usize,
    /// Examples of it that are taken for something else.
    pub confusions: Vec<Confusion>,
    /// Of values: the mean error of each output on stretches that were left out, and the share of variance foretold there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r2: Option<Vec<f64>>,
}

/// Examples of a class that are taken for `with`.
#[derive(Clone, Default, Serialize)]
pub struct Confusion {
    pub with: String,
    pub count: u32,
}

/// How a pin stands.
#[derive(Clone, Default, Serialize)]
pub struct PinStatus {
    pub name: String,
    /// What was written last; `None`: off, or without pulses.
    pub value: Option<f64>,
    /// Writes that failed.
    pub failures: u64,
}

impl PinStatus {
    pub fn new(name: &str) -> Self {
        PinStatus { name: name.into(), ..PinStatus::default() }
    }
}

/// The controllers.
#[derive(Clone, Default, Serialize)]
pub struct ControlStatus {
    pub names: Vec<String>,
    pub decisions: Vec<Decision>,
    pub pins: Vec<PinStatus>,
    /// From the arrival of a sample to what was made of it.
    pub latency_us: Times,
    pub went_stale: u64,
    /// Times that an alarm was raised.
    pub alarms: u64,
    pub commands_failed: u64,
    /// Buttons pressed.
    pub presses: u64,
    pub taught: Vec<TaughtStatus>,
    /// Samples of the stream that everything is held against.
    pub background: usize,
    /// Version of the encoder that all of it was fitted to.
    pub encoder: u32,
    /// What was taught is kept on disk, and why the last try failed.
    pub kept: bool,
    pub problem: Option<String>,
}

/// Memory of the process.
#[derive(Clone, Default, Serialize)]
pub struct MemoryStatus {
    pub planned_bytes: usize,
    pub rss_bytes: u64,
    pub peak_rss_bytes: u64,
}

/// All of it.
#[derive(Serialize)]
pub struct Status {
    pub pid: u32,
    pub uptime_s: f64,
    pub name: String,
    pub model: String,
    pub source: SourceStatus,
    pub features: FeatureStatus,
    /// Age of the newest feature's sample.
    pub age_us: Option<u64>,
    pub learning: LearningStatus,
    /// The ways out.
    pub transports: Vec<TransportStatus>,
    /// None without controllers and buttons.
    pub control: Option<ControlStatus>,
    pub store: Option<StoreStatus>,
    pub memory: MemoryStatus,
}

/// Where the threads write what they have to tell.
pub struct Shared {
    pub name: String,
    pub model: String,
    pub started: Instant,
    pub planned_bytes: usize,
    pub source: Arc<Watched<SourceStatus>>,
    pub features: Watched<FeatureStatus>,
    pub learning: Watched<LearningStatus>,
    pub control: Watched<ControlStatus>,
    /// The profile has controllers or buttons.
    pub controls: bool,
    /// How the encoder stands against the best so far, in 65536ths; 0 before one was judged.
    pub health: AtomicU32,
    pub store: Arc<Watched<Option<StoreStatus>>>,
    pub readers: Arc<Readers>,
    pub transports: Watched<Vec<Arc<Counts>>>,
}

impl Shared {
    pub fn status(&self) -> Status {
        let mut features = self.features.get();
        features.readers = self.readers.now.load(Ordering::Relaxed);
        features.missed = self.readers.missed.load(Ordering::Relaxed);
        Status {
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            name: self.name.clone(),
            model: self.model.clone(),
            source: self.source.get(),
            age_us: features.newest.map(|at| at.elapsed().as_micros() as u64),
            features,
            learning: self.learning.get(),
            transports: self.transports.get().iter().map(|counts| counts.status()).collect(),
            control: Some(self.control.get()).filter(|_| self.controls),
            store: self.store.get(),
            memory: MemoryStatus {
                planned_bytes: self.planned_bytes,
                rss_bytes: machine::rss_bytes(),
                peak_rss_bytes: machine::peak_rss_bytes(),
            },
        }
    }
}
