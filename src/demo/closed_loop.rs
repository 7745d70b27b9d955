//! The loop closed while the world changes: `steer`, as the daemon has it, is taught with few labels in one world and drives on
//! in another, learning all the while. Called by `nestling study control`.

use rayon::prelude::*;

use super::drive::{self, Driven, Lookouts, Start};
use super::eye::{Kind, RAW};
use super::{DemoError, TEACHING, UNTRAINED_SAMPLES};
use crate::augment::fit;
use crate::control::config::{ControllerTable, Does};
use crate::control::taught::{Answer, Taught};
use crate::control::{Controllers, Fitted, Values};
use crate::kernels::{Grid, Map};
use crate::learner::{Did, Join, Learner, Options};
use crate::net::spec::{InputKind, Spec};
use crate::runtime::drive as loops;
use crate::runtime::perceiver::{Exchange, Perceiver};
use crate::runtime::{Pool, Workers};
use crate::sample::{EncoderVersion, Micros, Sample, Seed, Values as SampleValues};
use crate::source::sim::{Rover, RoverSource, STEP_US, WorldConfig};
use crate::store::{self, StoreError};

/// Steps of the person's drive, 200 s, over which the labels are spread.
const SHOWN_STEPS: usize = 4000;
/// One background sample in so many steps: twice a second, as in the daemon.
const BACKGROUND_EVERY: usize = 10;
/// The drives of a run.
pub const PHASES: [&str; 3] = ["before", "changed", "later"];
/// Where each begins. Between the second and the third the rover drives on for as long as each of them.
const STARTS: [Start; 3] = [
    Start { wait: 400, lap_share: 0.0, backwards: false },
    Start { wait: 1300, lap_share: 0.37, backwards: true },
    Start { wait: 1300, lap_share: 0.37, backwards: true },
];

/// What is studied.
#[derive(Clone, Debug)]
pub struct Course {
    pub spec: Spec,
    pub seed: u64,
    /// Frames to learn from without labels before anything is taught.
    pub samples: u64,
    pub labels: Vec<usize>,
    /// Steps of 50 ms of each drive.
    pub steps: usize,
    pub threads: usize,
}

/// One kind of features, taught with so many labels.
#[derive(Clone, Debug)]
pub struct Run {
    pub kind: Kind,
    pub labels: usize,
    /// One drive for each of [`PHASES`].
    pub drives: Vec<Driven>,
    /// Versions of the encoder that were used.
    pub encoders: u32,
}

/// The world that the rover finds itself in later: the same track under other light and other floors, the camera mounted
/// higher and lower down, and worn tyres.
pub fn changed(world: &WorldConfig) -> WorldConfig {
    WorldConfig {
        texture_seed: Some(world.seed ^ 0xc4a9),
        light_drift: 1.0,
        shadows: 1.0,
        camera_height_m: 1.3 * world.camera_height_m,
        camera_pitch_rad: world.camera_pitch_rad + 0.08,
        slip: 2.0 * world.slip,
        ..world.clone()
    }
}

/// Runs the course with learned, untrained and raw features.
///
/// # Errors
/// [`DemoError`]
pub fn run(course: &Course) -> Result<Vec<Run>, DemoError> {
    if course.spec.input.kind != InputKind::Image {
        return Err(DemoError::NoCamera);
    }
    let pool = Pool::new(course.threads).map_err(DemoError::Threads)?;
    pool.run(|workers| run_on(course, workers))
}

fn run_on(course: &Course, workers: &Workers) -> Result<Vec<Run>, DemoError> {
    let spec = &course.spec;
    let frame = (spec.input.height, spec.input.width);
    // An endless stream: what goes on learning has no last third.
    let options = Options { lanes: course.threads, ..Options::new(Seed(course.seed)) };
    let block = Learner::plan(spec, &options)?.block_len();
    let (mut memory, mut other_memory) = (vec![0; block], vec![0; block]);
    let mut learner = Learner::new(spec, &options, &mut memory)?;
    let mut untrained = Learner::new(spec, &options, &mut other_memory)?;
    let world = WorldConfig::with_seed(course.seed);
    let mut source = RoverSource::camera(&world, Some(course.samples), frame.0, frame.1)?;
    {
        let mut first = RoverSource::camera(&world, Some(UNTRAINED_SAMPLES as u64), frame.0, frame.1)?;
        let mut record = crate::source::Record::default();
        while crate::source::Source::read_next(&mut first, &mut record)? {
            untrained.remember(&record.sample())?;
        }
        untrained.publish_as_is();
    }
    let extent = loops::Extent { epochs: 1, samples: Some(course.samples) };
    loops::learn(&mut learner, &mut source, extent, workers, |_, _| true)?;
    let rover = source.rover().clone();
    let config = rover.config().clone();
    let later = Rover::new(&changed(&config));
    let shown = drive::expert(&mut rover.clone(), course.seed ^ TEACHING, SHOWN_STEPS, 1, |_| {});

    let folder = tempfile::tempdir().map_err(|source| StoreError::Io { path: "a temporary folder".into(), source })?;
    let path = folder.path().join("learned.safetensors");
    store::write(&path, &mut learner)?;
    let mut runs = Vec::new();
    for &labels in &course.labels {
        let mut memory = vec![0; block];
        let mut learner = Learner::new(spec, &options, &mut memory)?;
        store::read(&path)?.restore(&mut learner)?;
        let (exchange, perceiver) = Exchange::new(&learner);
        let sight = Sight::Learning { learner: &mut learner, exchange, perceiver: Box::new(perceiver) };
        runs.push(course_of(Kind::Learned, sight, frame, course, labels, (&rover, &later), &shown, workers)?);
    }
    let grey = spec.input.channels == 1;
    let fixed: Vec<(Kind, usize)> = [Kind::Untrained, Kind::Raw(if grey { 1 } else { 3 })]
        .into_iter()
        .flat_map(|kind| course.labels.iter().map(move |&labels| (kind, labels)))
        .collect();
    let sights = fixed.into_iter().map(|(kind, labels)| {
        let sight = match kind {
            Kind::Raw(channels) => Sight::pixels(frame, channels),
            _ => Sight::Fixed(Box::new(Exchange::new(&untrained).1)),
        };
        (kind, labels, sight)
    });
    let sights: Vec<_> = sights.collect();
    let others: Vec<Run> = sights
        .into_par_iter()
        .map(|(kind, labels, sight)| {
            course_of(kind, sight, frame, course, labels, (&rover, &later), &shown, &crate::learner::Alone)
        })
        .collect::<Result<_, _>>()?;
    runs.extend(others);
    Ok(runs)
}

/// Teaches and drives one kind of features through all phases.
#[expect(clippy::too_many_arguments, reason = "what a run is made of")]
fn course_of(
    kind: Kind,
    sight: Sight,
    frame: (usize, usize),
    course: &Course,
    labels: usize,
    (rover, later): (&Rover, &Rover),
    shown: &Lookouts,
    workers: &impl Join,
) -> Result<Run, DemoError> {
    let mut pilot = Pilot::new(sight, frame);
    pilot.teach(shown, labels)?;
    let first = pilot.sight.version();
    let mut drives = Vec::new();
    for (phase, start) in STARTS.into_iter().enumerate() {
        let world = if phase == 0 { rover } else { later };
        if phase == 2 {
            // Time in the changed world, in which it may learn. Nobody labels anything.
            pilot.drive(world, Start { wait: 0, lap_share: 0.71, backwards: false }, course.steps, workers)?;
        }
        drives.push(pilot.drive(world, start, course.steps, workers)?);
    }
    Ok(Run { kind, labels, drives, encoders: 1 + pilot.sight.version().0 - first.0 })
}

/// How frames become features.
enum Sight<'a, 'm> {
    Learning { learner: &'a mut Learner<'m>, exchange: Exchange, perceiver: Box<Perceiver> },
    Fixed(Box<Perceiver>),
    Pixels { frame: (usize, usize), map: Map, small: Vec<u8> },
}

impl Sight<'_, '_> {
    fn pixels(frame: (usize, usize), channels: usize) -> Self {
        let map = Map::new(RAW.0.min(frame.0), RAW.1.min(frame.1), channels);
        Sight::Pixels { frame, map, small: vec![0; map.len()] }
    }

    fn dim(&self) -> usize {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.feature_dim(),
            Sight::Pixels { map, .. } => map.len(),
        }
    }

    fn stored_len(&self) -> usize {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.stored_len(),
            Sight::Pixels { map, .. } => map.len(),
        }
    }

    fn grids(&self) -> Vec<Grid> {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.grids().collect(),
            Sight::Pixels { map, .. } => vec![Grid::new(*map, (map.height, map.width), false)],
        }
    }

    fn version(&self) -> EncoderVersion {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.version(),
            Sight::Pixels { .. } => EncoderVersion(0),
        }
    }

    /// The feature of a frame.
    fn see(&mut self, sample: &Sample, feature: &mut [i8]) -> Result<(), DemoError> {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.perceive(sample, feature)?,
            Sight::Pixels { frame, map, small } => {
                let SampleValues::Image { pixels, .. } = sample.values else { return Err(DemoError::NoCamera) };
                fit::resize(pixels, frame.0, frame.1, 3, *map, small);
                signed(small, feature);
            }
        }
        Ok(())
    }

    /// The newest frame as it is kept.
    fn stored(&self) -> &[u8] {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.stored(),
            Sight::Pixels { small, .. } => small,
        }
    }

    /// The feature of a frame that was kept.
    fn embed(&mut self, stored: &[u8], feature: &mut [i8]) {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.embed(stored, feature),
            Sight::Pixels { .. } => signed(stored, feature),
        }
    }

    /// Learns from a frame; whether another encoder came of it.
    fn learn(&mut self, sample: &Sample, workers: &impl Join) -> Result<bool, DemoError> {
        let Sight::Learning { learner, exchange, perceiver } = self else { return Ok(false) };
        let before = learner.version();
        learner.observe(sample)?;
        while learner.step(workers) != Did::Idle {}
        if learner.version() == before {
            return Ok(false);
        }
        exchange.publish(learner);
        Ok(perceiver.refresh(exchange))
    }
}

fn signed(pixels: &[u8], feature: &mut [i8]) {
    feature.iter_mut().zip(pixels).for_each(|(f, p)| *f = (p ^ 0x80) as i8);
}

/// Steers by what it sees, through the daemon's controllers.
struct Pilot<'a, 'm> {
    sight: Sight<'a, 'm>,
    frame: (usize, usize),
    tables: Vec<ControllerTable>,
    controllers: Controllers,
    taught: Taught,
    feature: Vec<i8>,
    step: usize,
}

impl<'a, 'm> Pilot<'a, 'm> {
    fn new(sight: Sight<'a, 'm>, frame: (usize, usize)) -> Self {
        let tables = vec![ControllerTable::plain(Does::Steer)];
        let controllers = Controllers::new(&tables, sight.dim(), std::time::Duration::from_secs(1));
        let (feature, taught) = (vec![0; sight.dim()], Taught::new(sight.stored_len()));
        Pilot { sight, frame, tables, controllers, taught, feature, step: 0 }
    }

    /// What a frame is to a learner, at the time of this step.
    fn sample<'f>(&self, pixels: &'f [u8]) -> Sample<'f> {
        let values = SampleValues::Image { pixels, height: self.frame.0, width: self.frame.1, channels: 3 };
        Sample { values, time: Micros(self.step as u64 * STEP_US), segment: 1 }
    }

    fn teach(&mut self, shown: &Lookouts, labels: usize) -> Result<(), DemoError> {
        let every = (shown.frames.len() / labels).max(1);
        for (n, (pixels, steering)) in shown.frames.iter().zip(&shown.steering).enumerate() {
            let labelled = n % every == every / 2 && n / every < labels;
            if !(labelled || n % BACKGROUND_EVERY == 0) {
                continue;
            }
            let sample = self.sample(pixels);
            self.sight.see(&sample, &mut self.feature)?;
            if labelled {
                let answer = Answer::Values(self.tables[0].name.as_str().into(), Values::from_iter([*steering]));
                self.taught.learn(answer, self.sight.stored(), (n / every) as u32);
            } else {
                self.taught.offer(self.sight.stored());
            }
        }
        self.fit();
        Ok(())
    }

    fn fit(&mut self) {
        let (version, dim, grids) = (self.sight.version(), self.sight.dim(), self.sight.grids());
        let sight = &mut self.sight;
        self.taught.embed(version, dim, |stored, feature| sight.embed(stored, feature), || true);
        self.controllers.adopt(Fitted::of(&self.tables, &grids, &self.taught, version).into());
    }

    fn drive(&mut self, rover: &Rover, start: Start, steps: usize, workers: &impl Join) -> Result<Driven, DemoError> {
        let mut failed = None;
        let driven = drive::controlled(
            rover,
            start,
            steps,
            |pixels| match self.steer(pixels, workers) {
                Ok(steering) => steering,
                Err(problem) => {
                    failed = Some(problem);
                    0.0
                }
            },
            || {},
        );
        failed.map_or(Ok(driven), Err)
    }

    fn steer(&mut self, pixels: &[u8], workers: &impl Join) -> Result<f32, DemoError> {
        let sample = self.sample(pixels);
        self.step += 1;
        self.sight.see(&sample, &mut self.feature)?;
        self.controllers.decide(sample.time, &self.feature);
        if self.step.is_multiple_of(BACKGROUND_EVERY) {
            self.taught.offer(self.sight.stored());
        }
        let value = self.controllers.decisions().next().map_or(0.0, |(_, decision, _)| decision.values[0]);
        if self.sight.learn(&sample, workers)? {
            self.fit();
        }
        Ok(value as f32)
    }
}
