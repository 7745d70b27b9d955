//! The demo: a simulated rover learns to see without labels, is taught to steer with a few, and drives.
//!
//! Everything is judged beside the untrained encoder, its dictionary layer alone and plain pixels, in the same world,
//! from the same starts, with the same noise and the same labels. Called by `nestling demo`; never prints. The result
//! is a function of the settings, `threads` aside.

pub mod alarms;
pub mod closed_loop;
mod drive;
mod eye;
mod mask;
mod page;
mod pilot;
pub mod recorded;
mod steer;
#[cfg(test)]
mod tests;
mod views;

pub use drive::{Driven, Lookouts, Start};
pub use eye::Kind;
pub use mask::{Masks, Score as MaskScore, Shown as ShownMask, TAUGHT as TAUGHT_MASKS};
pub use page::report;
#[cfg(feature = "cli")]
pub(crate) use page::{run as run_of, verdicts};

use crate::evaluate::EvaluateError;
use crate::learner::{Did, Learner, Options, SampleError};
use crate::net::error::PlanError;
use crate::net::spec::{InputKind, Spec};
use crate::report::ReportError;
use crate::runtime::{Pool, drive as loops};
use crate::sample::{Micros, Sample, Seed, Values};
use crate::source::sim::{RoverSource, WorldConfig};
use crate::source::{Data, Record, Source, SourceError};
use crate::store;
use steer::{Taught, drive_all, mean_distance};
use views::ViewPair;

/// Samples from which the untrained encoder's shifts are found.
const UNTRAINED_SAMPLES: usize = 512;
/// The teacher labels every n-th frame of its drive, and of the drive that steering is tested on.
const TAUGHT_EVERY: usize = 10;
const TESTED_EVERY: usize = 5;
/// Frames to learn from, and labels, unless told otherwise: about a minute on two cores.
pub const SAMPLES: u64 = 8000;
pub const LABELS: usize = 300;
/// Seeds of the expert's disturbances, each another drive.
const TEACHING: u64 = 0x7eac;
const TESTING: u64 = 0x7e57;

/// What the demo is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The model that learns: one that takes images.
    pub spec: Spec,
    pub seed: u64,
    /// Frames to learn from without labels.
    pub samples: u64,
    /// Frames with the expert's steering, to teach it.
    pub labels: usize,
    /// Frames of another drive, on which steering is tested.
    pub test_frames: usize,
    /// Steps of 50 ms of each drive.
    pub drive_steps: usize,
    pub threads: usize,
}

impl Settings {
    /// What `nestling demo` does unless it is told otherwise.
    pub fn new(spec: Spec) -> Self {
        Settings { spec, seed: 0, samples: SAMPLES, labels: LABELS, test_frames: 600, drive_steps: 2000, threads: 1 }
    }
}

/// What the demo is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Learning,
    Teaching,
    Testing,
    Driving,
}

/// How far the demo is: called from several threads.
pub type Watch<'a> = &'a (dyn Fn(Phase, u64, u64) + Sync);

/// How one kind of features did.
#[derive(Clone, Debug)]
pub struct Contender {
    pub kind: Kind,
    pub dim: usize,
    pub labels: usize,
    /// On held-out frames: mean absolute error, full lock = 1, and share of the variance explained.
    pub steering_mae: f64,
    pub steering_r2: f64,
    /// One drive a start.
    pub drives: Vec<Driven>,
    /// The test frames' features in the plane, for a picture.
    pub plane: Vec<[f64; 2]>,
}

impl Contender {
    /// Mean distance from the centre line over all drives, in metres.
    pub fn cross_track_error(&self) -> f64 {
        let steps: usize = self.drives.iter().map(|d| d.steps).sum();
        self.drives.iter().map(|d| d.cross_track_sum).sum::<f64>() / steps.max(1) as f64
    }

    /// Whole laps without leaving the track, over all drives.
    pub fn laps(&self) -> u32 {
        self.drives.iter().map(|d| d.laps).sum()
    }

    /// Times that it left the track.
    pub fn times_lost(&self) -> usize {
        self.drives.iter().map(|d| d.lost.len()).sum()
    }
}

/// All that the demo found.
#[derive(Clone, Debug)]
pub struct Found {
    pub settings: Settings,
    pub state_hash: String,
    pub effective_rank: f64,
    /// Loss in nat and effective rank, over samples.
    pub loss: Vec<[f64; 2]>,
    pub rank: Vec<[f64; 2]>,
    pub lessons: [u64; 2],
    /// Frames seen while learning, spread over the time.
    pub seen: Vec<(f64, Vec<u8>)>,
    pub views: Vec<ViewPair>,
    pub frame: (usize, usize),
    /// Learned, stem, untrained, raw.
    pub contenders: Vec<Contender>,
    /// The expert's steering on the test frames.
    pub test_steering: Vec<f64>,
    /// What answers the middle of the taught steering every time.
    pub mean_mae: f64,
    /// What masks taught on a few frames are worth.
    pub masks: Masks,
    pub road: Vec<[f64; 2]>,
    pub lap_m: f64,
}

/// Why the demo stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    #[error("the demo learns from at least {least} {what}; {given} were asked for")]
    TooFew { what: &'static str, least: u64, given: u64 },
    #[error("the rover has a camera and the model takes other samples; choose a model of images")]
    NoCamera,
    #[error("{source_name}: a frame without its steering; say which column it is with ?label=NAME")]
    NoSteering { source_name: String },
    #[error("{source_name}: not one sample")]
    NoSamples { source_name: String },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Learn(#[from] loops::DriveError),
    #[error("a frame of the simulator: {0}")]
    Frame(#[from] SampleError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error("a probe of the demo: {0}")]
    Probe(#[from] crate::probe::ProbeError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error("{0}")]
    Threads(String),
}

/// Runs the whole demo.
///
/// # Errors
/// [`DemoError`]; with sensible settings only where threads or memory lack.
pub fn run(settings: &Settings, watch: Watch<'_>) -> Result<Found, DemoError> {
    let counts = [("frames", 200, settings.samples), ("labels", 10, settings.labels as u64)];
    if let Some(&(what, least, given)) = counts.iter().find(|(_, least, given)| given < least) {
        return Err(DemoError::TooFew { what, least, given });
    }
    let pool = Pool::new(settings.threads).map_err(DemoError::Threads)?;
    let spec = settings.spec.clone();
    if spec.input.kind != InputKind::Image {
        return Err(DemoError::NoCamera);
    }
    let options = Options {
        expected_samples: Some(settings.samples),
        lanes: settings.threads,
        ..Options::new(Seed(settings.seed))
    };
    let block = Learner::plan(&spec, &options)?.block_len();
    let (mut memory, mut other_memory) = (vec![0; block], vec![0; block]);
    let mut learner = Learner::new(&spec, &options, &mut memory)?;
    let mut untrained = Learner::new(&spec, &options, &mut other_memory)?;

    let world = WorldConfig::with_seed(settings.seed);
    let frame = (spec.input.height, spec.input.width);
    let mut source = Watched {
        inner: RoverSource::camera(&world, Some(settings.samples), frame.0, frame.1)?,
        untrained: &mut untrained,
        album: views::Album::new(
            settings.samples,
            spec.pretext.first().and_then(|p| p.neighbours).map_or(0, usize::from),
        ),
        index: 0,
    };
    let mut found = learn(&mut learner, &mut source, settings, &pool, watch)?;
    found.views = source.album.pairs(&learner);
    found.seen = source.album.seen();
    found.frame = frame;
    let mut rover = source.inner.rover().clone();
    untrained.publish_as_is();

    let every = TAUGHT_EVERY;
    let (labels, seed) = (settings.labels, settings.seed);
    let taught = drive::expert(&mut rover, seed ^ TEACHING, labels, every, |n| {
        watch(Phase::Teaching, n, labels as u64);
    });
    let tested = drive::expert(&mut rover, seed ^ TESTING, settings.test_frames, TESTED_EVERY, |n| {
        watch(Phase::Testing, n, settings.test_frames as u64);
    });
    found.contenders = pool.run(|_| {
        let grey = Taught::new(Kind::Raw(1), &learner, frame, &taught)?;
        let colour = Taught::new(Kind::Raw(3), &learner, frame, &taught)?;
        let raw = if colour.validation < grey.validation { colour } else { grey };
        let others = [(Kind::Learned, &learner), (Kind::Stem, &learner), (Kind::Untrained, &untrained)];
        let others = others.into_iter().map(|(kind, learner)| Taught::new(kind, learner, frame, &taught));
        let methods: Vec<Taught> = others.chain([Ok(raw)]).collect::<Result<_, _>>()?;
        let mut contenders: Vec<Contender> =
            methods.iter().map(|method| method.tested(&tested)).collect::<Result<_, _>>()?;
        let drives = drive_all(&methods, &rover, settings.drive_steps, watch)?;
        for (contender, drives) in contenders.iter_mut().zip(drives) {
            contender.drives = drives;
        }
        Ok::<_, DemoError>(contenders)
    })?;
    found.masks = mask::study(&mut learner, &mut untrained, frame, &taught, &tested)?;
    let middle = taught.steering.iter().sum::<f64>() / taught.steering.len() as f64;
    found.mean_mae = mean_distance(&tested.steering, |_| middle);
    found.test_steering = tested.steering;
    found.road = rover.track_polyline().into_iter().map(|(x, y)| [x, y]).collect();
    found.road.extend(found.road.first().copied());
    found.lap_m = rover.lap_m();
    Ok(found)
}

/// The rover's frames, with some kept for the report, and the first ones remembered by the untrained encoder too.
struct Watched<'a, 'm> {
    inner: RoverSource,
    untrained: &'a mut Learner<'m>,
    album: views::Album,
    index: u64,
}

impl Source for Watched<'_, '_> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn len_hint(&self) -> Option<u64> {
        self.inner.len_hint()
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        let more = self.inner.read_next(record)?;
        if let (true, Data::Image { pixels, height, width, channels }) = (more, &record.data) {
            self.album.take(self.index, record.time, record.segment, pixels);
            if self.index < UNTRAINED_SAMPLES as u64 {
                let values = Values::Image { pixels, height: *height, width: *width, channels: *channels };
                // A frame that is refused here is refused by the learner too, which says so.
                let _ = self.untrained.remember(&Sample { values, time: Micros(0), segment: 0 });
            }
            self.index += 1;
        }
        Ok(more)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.inner.rewind()
    }
}

fn learn(
    learner: &mut Learner,
    source: &mut Watched<'_, '_>,
    settings: &Settings,
    pool: &Pool,
    watch: Watch<'_>,
) -> Result<Found, DemoError> {
    let (mut loss, mut rank) = (Vec::new(), Vec::new());
    let extent = loops::Extent { epochs: 1, samples: Some(settings.samples) };
    pool.run(|workers| {
        loops::learn(learner, source, extent, workers, |learner, did| {
            let at = learner.counters().observed;
            match did {
                None => watch(Phase::Learning, at, settings.samples),
                // The running loss: that of single steps is noisy.
                Some(Did::Trained { .. }) => {
                    loss.push([at as f64, learner.counters().loss_running as f64 / 4096.0]);
                }
                Some(Did::Published { health, .. } | Did::Undone { health, .. }) => {
                    rank.push([at as f64, f64::from(health.effective_rank) / 256.0]);
                }
                Some(_) => {}
            }
            true
        })
    })?;
    if let Did::Published { health, .. } = learner.finish() {
        rank.push([settings.samples as f64, f64::from(health.effective_rank) / 256.0]);
    }
    let counters = *learner.counters();
    Ok(Found {
        settings: settings.clone(),
        state_hash: store::state_hash(learner),
        effective_rank: f64::from(learner.health().effective_rank) / 256.0,
        loss,
        rank,
        lessons: [counters.lessons_published, counters.lessons_rolled_back],
        seen: Vec::new(),
        views: Vec::new(),
        frame: (0, 0),
        contenders: Vec::new(),
        test_steering: Vec::new(),
        mean_mae: 0.0,
        masks: Masks::default(),
        road: Vec::new(),
        lap_m: 0.0,
    })
}
