//! `nestling run`: perceive, learn, publish and save, for months, whatever the source, the disk and the machine do.
//!
//! ```text
//! reader ─► mailbox ─► perceive (the calling thread) ─► bus: features and decisions, by each way out
//!                    │       └─► ring ─► learning ─► saver: the store
//!                    └◄─► teacher: encoders with what was fitted to them, samples of what is taught
//! control socket, metrics, buttons ─► status of all; commands to learning and teacher
//! ```
//!
//! Perceiving never waits for learning, saving or the reader of features; what is passed over is counted.

mod acting;
mod behind;
pub use behind::Behind;
mod buttons;
mod commands;
pub mod control;
mod history;
mod learning;
pub mod memory;
#[cfg(feature = "metrics")]
pub mod metrics;
mod outlets;
mod perceive;
mod reader;
#[cfg(feature = "mcap")]
mod recorder;
mod saver;
pub use saver::options as store_options;
pub mod status;
mod tap;
mod teacher;
pub use teacher::{EXAMPLES, MOST_EXAMPLES};

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use control::{Control, ControlError, Doers};
use learning::{Learning, Links};
use perceive::Perceive;
use reader::{Arrived, Reading, SourceStatus};
pub use reader::{is_live, opens_late};
use saver::Saver;
use status::{ControlStatus, FeatureStatus, LearningStatus, Shared, Status, Watched};

use super::Pool;
use super::mailbox::Mailbox;
use super::perceiver::Exchange;
use crate::board::Profile;
use crate::bus::Bus;
use crate::bus::socket::SocketError;
use crate::control::store::TaughtError;
use crate::learner::{Learner, SampleError};
use crate::pins::Buttons;
use crate::source::{Record, Source, SourceError};
use crate::store::Store;

/// Samples that may wait for the learner.
const RING: usize = 64;

/// Why a daemon ended that nobody told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the model and the source do not fit: {0}")]
    Sample(#[from] SampleError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("{0}")]
    System(String),
    #[error(transparent)]
    Taught(#[from] TaughtError),
}

/// Becomes true when the daemon is to end, and when it is to read its profile again.
#[derive(Clone, Default)]
pub struct Signals {
    pub stop: Arc<AtomicBool>,
    pub reload: Arc<AtomicBool>,
}

/// What a daemon is made of.
pub struct Setup {
    pub profile: Profile,
    /// Reads the profile again, with what was said on the command line.
    pub reload: Box<dyn Fn() -> Result<Profile, String>>,
    /// The source, where it was opened before.
    pub opened: Option<Box<dyn Source>>,
    /// A backbone that makes latents of its frames, where there is one.
    pub behind: Behind,
    /// The profile's store, where the disk can be written.
    pub store: Option<Store>,
    pub control: ControlSocket,
    /// Samples to perceive at most.
    pub samples: Option<u64>,
    /// Lanes that the learner was made for.
    pub lanes: usize,
    /// Bytes of the learner's plan.
    pub planned_bytes: usize,
    pub signals: Signals,
}

/// Whether a daemon opens its control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlSocket {
    Never,
    /// A daemon whose socket is in use goes without.
    IfFree,
    Must,
}

impl Setup {
    /// For a program that this crate is part of: `profile` with a learner of one lane, to the end of its source. A control
    /// socket is opened where the profile names one. The sources and the disk are as the profile has them, and it is not read
    /// again.
    pub fn new(profile: Profile) -> Self {
        let control = if profile.control.socket.is_some() { ControlSocket::Must } else { ControlSocket::Never };
        Setup {
            profile,
            reload: Box::new(|| Err("this program does not read its profile again".into())),
            opened: None,
            behind: Behind::default(),
            store: None,
            control,
            samples: None,
            lanes: 1,
            planned_bytes: 0,
            signals: Signals::default(),
        }
    }
}

/// Runs `learner` until the source ends or a signal comes; features and decisions go to `bus` and to the ways out that the
/// profile names.
///
/// ```
/// use nestling::board::Profile;
/// use nestling::bus::{Bus, Message, Terms};
/// use nestling::learner::{Learner, Options};
/// use nestling::runtime::daemon::{Setup, run};
/// use nestling::sample::Seed;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let profile = Profile::parse("here", "source = 'sim:rover'\n[learn]\nfrozen = true")?;
/// let (spec, options) = (nestling::model::load("n5")?, Options::new(Seed(7)));
/// let mut memory = vec![0; Learner::plan(&spec, &options)?.block_len()];
/// let mut learner = Learner::new(&spec, &options, &mut memory)?;
///
/// // At most 16 messages wait. A recording or the simulator waits for us, a live stream would not: the oldest would be dropped.
/// let mut bus = Bus::new();
/// let messages = bus.subscribe("mine", 16, Terms { waits: true, ends: true });
/// let reader = std::thread::spawn(move || {
///     let features = messages.filter(|message| matches!(**message, Message::Feature(_)));
///     features.count()
/// });
/// let status = run(Setup { samples: Some(20), ..Setup::new(profile) }, &mut learner, bus)?;
/// assert_eq!(status.features.perceived, 20);
/// assert_eq!(reader.join().expect("no panic"), 20);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`DaemonError`]; the store holds what was learned all the same.
pub fn run(setup: Setup, learner: &mut Learner, mut bus: Bus) -> Result<Status, DaemonError> {
    let Setup { profile, opened, signals, .. } = setup;
    let every = profile.perceive.every;
    let about = outlets::About::of(&profile, opened.as_deref());
    let (uris, live) = (profile.source.clone(), (is_live(&profile.source) || profile.perceive.pace) && !every);
    let source_status = Arc::new(Watched::new(SourceStatus { uri: uris.clone(), ..SourceStatus::default() }));
    let shared = Arc::new(Shared {
        name: profile.name.clone(),
        model: learner.spec().name.to_string(),
        started: Instant::now(),
        planned_bytes: setup.planned_bytes,
        source: source_status.clone(),
        features: Watched::new(FeatureStatus::default()),
        learning: Watched::new(LearningStatus::default()),
        control: Watched::new(ControlStatus::default()),
        controls: !(profile.controller.is_empty() && profile.button.is_empty()),
        health: AtomicU32::new(0),
        store: Arc::new(Watched::new(None)),
        readers: Arc::default(),
        transports: Watched::new(Vec::new()),
    });
    let (learning, requests) = channel();
    let (teacher, lessons) = channel();
    let teacher = (!profile.controller.is_empty()).then_some(teacher);
    let doers = Doers { learning, teacher };
    let pressed = Buttons::open(&profile.pins, &profile.button).map_err(|e| DaemonError::System(e.to_string()))?;
    let _control = open_control(&profile, setup.control, &shared, doers.clone())?;
    #[cfg(feature = "metrics")]
    if let Some(address) = profile.control.metrics {
        metrics::serve(address, shared.clone()).map_err(DaemonError::System)?;
    }
    #[cfg(not(feature = "metrics"))]
    if profile.control.metrics.is_some() {
        let remedy = "build it with `--features metrics`, or leave control.metrics away";
        return Err(DaemonError::System(format!("this program was built without metrics: {remedy}")));
    }

    let path = profile.store.path.clone();
    let saver = path
        .map(|path| Saver::start(path, setup.store, &profile.store, shared.store.clone(), setup.behind.said()))
        .transpose();
    let saver = saver.map_err(|e| DaemonError::System(format!("cannot start the saving thread: {e}")))?;
    let (exchange, perceiver) = Exchange::new(learner);
    let mailbox = Arc::new(Mailbox::new(Arrived::default()));
    let failure = Arc::new(Mutex::new(None));
    let reading = Reading {
        uris,
        seed: profile.seed.unwrap_or(0),
        comes_back: is_live(&profile.source),
        live,
        pace: profile.perceive.pace,
        reopen_at_most: Duration::from_millis(profile.perceive.reopen_ms),
    };
    // Nobody waits for this thread: a source may sleep in the kernel for ever.
    let (into, told, failed) = (mailbox.clone(), source_status, failure.clone());
    let read = move || {
        if let Err(problem) = reading.run(opened, &into, &told) {
            *failed.lock().unwrap_or_else(|p| p.into_inner()) = Some(problem);
        }
    };
    spawn("nestling-source", read)?;

    bus.set_live(live);
    outlets::open(&profile, &shared, &doers, &mut bus)?;
    let tap = outlets::record(&profile, &about, live, &mut bus)?;
    shared.transports.change(|counts| *counts = bus.counts());
    let (to_learner, from_stream) = sync_channel::<Record>(RING);
    let (give_back, spare) = sync_channel::<Record>(RING + 2);
    for _ in 0..RING {
        let _ = give_back.try_send(Record::default());
    }
    let nice = profile.learn.nice;
    let pool = Pool::nice(setup.lanes, nice).map_err(DaemonError::System)?;
    let links = teacher::Links { exchange: &exchange, shared: &shared, requests: lessons, nice };
    let (teacher, acting) = acting::start(&profile, &perceiver, links)?.unzip();
    let tables = profile.button.clone();
    let (limits, late) = (Watched::new(profile), AtomicU64::new(0));
    let end_teaching = AtomicBool::new(false);
    // Learning ends when nothing comes any more, or at once when it is told to.
    let end_learning = AtomicBool::new(false);
    let perceived = std::thread::scope(|scope| {
        let links = Links { exchange: &exchange, shared: &shared, profile: &limits, late: &late, stop: &end_learning };
        let learning = Learning::new(learner, links, saver, setup.lanes);
        let learn = || {
            pool.run(move |workers| learning.run(&from_stream, &give_back, &requests, workers));
        };
        let learn = std::thread::Builder::new().name("nestling-learn".into()).spawn_scoped(scope, learn);
        let learn = learn.map_err(|e| DaemonError::System(format!("cannot start the learning thread: {e}")))?;
        let teach = teacher.map(|teacher| {
            let teach = || teacher.run(&end_teaching);
            std::thread::Builder::new().name("nestling-teach".into()).spawn_scoped(scope, teach)
        });
        // Nobody else ends the threads that have started.
        let give_up = |what: &str, e: std::io::Error| {
            end_learning.store(true, Ordering::Relaxed);
            end_teaching.store(true, Ordering::Relaxed);
            DaemonError::System(format!("cannot start the thread for {what}: {e}"))
        };
        let teach = teach.transpose().map_err(|e| give_up("teaching", e))?;
        if !tables.is_empty() {
            let (tables, doers, shared, end) = (&tables, &doers, &shared, &end_teaching);
            let press = move || buttons::run(&pressed, tables, doers, shared, end);
            let press = std::thread::Builder::new().name("nestling-button".into()).spawn_scoped(scope, press);
            press.map_err(|e| give_up("buttons", e))?;
        }
        let perceive = Perceive {
            behind: setup.behind,
            perceiver,
            acting,
            exchange: &exchange,
            shared: &shared,
            profile: &limits,
            reload: setup.reload,
            late: &late,
            signals: &signals,
            samples: setup.samples,
            live,
            bus,
            tap,
            to_learner: &to_learner,
            spare: &spare,
        };
        let perceived = perceive.run(&mailbox);
        if signals.stop.load(Ordering::Relaxed) || perceived.is_err() {
            end_learning.store(true, Ordering::Relaxed);
        }
        end_teaching.store(true, Ordering::Relaxed);
        drop(to_learner);
        mailbox.close();
        learn.join().map_err(|_| DaemonError::System("the learning thread stopped unexpectedly".into()))?;
        if let Some(teach) = teach {
            teach.join().map_err(|_| DaemonError::System("the teaching thread stopped unexpectedly".into()))?;
        }
        perceived
    });
    let problem = failure.lock().unwrap_or_else(|p| p.into_inner()).take();
    perceived?;
    match problem {
        Some(problem) => Err(problem.into()),
        None => Ok(shared.status()),
    }
}

fn open_control(
    profile: &Profile,
    how: ControlSocket,
    shared: &Arc<Shared>,
    doers: Doers,
) -> Result<Option<Control>, DaemonError> {
    if how == ControlSocket::Never {
        return Ok(None);
    }
    let path = profile.control.socket.clone().unwrap_or_else(control::default_socket);
    match Control::listen(&path, shared.clone(), doers) {
        Ok(control) => Ok(Some(control)),
        Err(problem) if how == ControlSocket::Must => Err(problem.into()),
        Err(problem) => {
            eprintln!("nestling: going on without control: {problem}");
            Ok(None)
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), DaemonError> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(|_| ()).map_err(|e| DaemonError::System(format!("cannot start the thread {name}: {e}")))
}
