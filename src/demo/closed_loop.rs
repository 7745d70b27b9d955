//! The loop closed while the world changes: `steer`, as the daemon has it, is taught with few labels in one world and drives on
//! in another, learning all the while. Called by `nestling study control`.

use rayon::prelude::*;

use super::drive::{self, Driven, Lookouts, Start};
use super::eye::Kind;
use super::pilot::{BACKGROUND_EVERY, Pilot, Sight};
use super::{DemoError, TEACHING, UNTRAINED_SAMPLES};
use crate::control::config::{ControllerTable, Does};
use crate::learner::{Alone, Join, Learner, Options};
use crate::net::spec::{InputKind, Spec};
use crate::runtime::drive as loops;
use crate::runtime::perceiver::Exchange;
use crate::runtime::{Pool, Workers};
use crate::sample::{Micros, Sample, Seed, Values};
use crate::source::sim::{Rover, RoverSource, STEP_US, WorldConfig};
use crate::store::{self, StoreError};

/// Steps of the person's drive, 200 s, over which the labels are spread.
const SHOWN_STEPS: usize = 4000;
/// Where drives begin: in the world that was learned from, and in a changed one.
const START: Start = Start { wait: 400, lap_share: 0.0, backwards: false };
const CHANGED: Start = Start { wait: 1300, lap_share: 0.37, backwards: true };
/// Between the two drives in a changed world the rover drives on from here, and nobody labels anything.
const BETWEEN: Start = Start { wait: 0, lap_share: 0.71, backwards: false };

/// How the world changes after the lessons. The track keeps its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// The light wanders as far as it can, under the deepest shadows.
    Light,
    /// Floors, markings, walls and clutter look otherwise.
    Texture,
    /// It sits 30 % higher and looks further down.
    Camera,
    /// Worn tyres: three times the slip.
    Tyres,
    All,
}

impl Change {
    pub const ALL: [Change; 6] =
        [Change::Nothing, Change::Light, Change::Texture, Change::Camera, Change::Tyres, Change::All];

    pub fn name(self) -> &'static str {
        match self {
            Change::Nothing => "nothing",
            Change::Light => "light",
            Change::Texture => "texture",
            Change::Camera => "camera",
            Change::Tyres => "tyres",
            Change::All => "all four",
        }
    }

    /// The world after it.
    pub fn of(self, world: &WorldConfig) -> WorldConfig {
        let is = |change| self == change || self == Change::All;
        let mut changed = world.clone();
        if is(Change::Light) {
            (changed.light_drift, changed.shadows) = (1.0, 1.0);
        }
        if is(Change::Texture) {
            changed.texture_seed = Some(world.seed ^ 0xc4a9);
        }
        if is(Change::Camera) {
            changed.camera_height_m *= 1.3;
            changed.camera_pitch_rad += 0.08;
        }
        if is(Change::Tyres) {
            changed.slip *= 3.0;
        }
        changed
    }
}

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

/// One kind of features, taught with so many labels, in one changed world.
#[derive(Clone, Debug)]
pub struct Run {
    pub kind: Kind,
    pub labels: usize,
    pub change: Change,
    /// The drive that begins with the change.
    pub at_once: Driven,
    /// One after another drive in the changed world; of features that learn only.
    pub later: Option<Driven>,
    /// Versions of the encoder that were used.
    pub encoders: u32,
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
    let worlds = Change::ALL.map(|change| (change, Rover::new(&change.of(&config))));
    let shown = drive::expert(&mut rover.clone(), course.seed ^ TEACHING, SHOWN_STEPS, 1, |_| {});

    let folder = tempfile::tempdir().map_err(|source| StoreError::Io { path: "a temporary folder".into(), source })?;
    let path = folder.path().join("learned.safetensors");
    store::write(&path, &mut learner)?;
    let lesson = |labels| Lesson { frame, steps: course.steps, labels, shown: &shown };
    let mut runs = Vec::new();
    for &labels in &course.labels {
        for (change, world) in &worlds {
            // Unchanged, it is the very world that was learned from, whose light has come so far.
            let world = if *change == Change::Nothing { &rover } else { world };
            let mut memory = vec![0; block];
            let mut learner = Learner::new(spec, &options, &mut memory)?;
            store::read(&path)?.restore(&mut learner)?;
            let (exchange, perceiver) = Exchange::new(&learner);
            let sight = Sight::Learning { learner: &mut learner, exchange, perceiver: Box::new(perceiver) };
            runs.push(lesson(labels).run(Kind::Learned, sight, (*change, world), workers)?);
        }
    }
    let raw = Kind::Raw(if spec.input.channels == 1 { 1 } else { 3 });
    let mut fixed = Vec::new();
    for kind in [Kind::Untrained, raw] {
        for &labels in &course.labels {
            for (change, world) in &worlds {
                let world = if *change == Change::Nothing { &rover } else { world };
                let sight = match kind {
                    Kind::Raw(channels) => Sight::pixels(frame, channels),
                    _ => Sight::Fixed(Box::new(Exchange::new(&untrained).1)),
                };
                fixed.push((kind, labels, *change, world, sight));
            }
        }
    }
    let fixed = fixed.into_par_iter();
    let others =
        fixed.map(|(kind, labels, change, world, sight)| lesson(labels).run(kind, sight, (change, world), &Alone));
    runs.extend(others.collect::<Result<Vec<_>, _>>()?);
    Ok(runs)
}

/// What one of them is taught, and how it is tried.
struct Lesson<'a> {
    frame: (usize, usize),
    steps: usize,
    labels: usize,
    shown: &'a Lookouts,
}

impl Lesson<'_> {
    /// Teaches one kind of features, and drives.
    fn run(
        &self,
        kind: Kind,
        sight: Sight,
        (change, world): (Change, &Rover),
        workers: &impl Join,
    ) -> Result<Run, DemoError> {
        let learns = matches!(sight, Sight::Learning { .. });
        let mut pilot = Pilot::new(sight, vec![ControllerTable::plain(Does::Steer)]);
        let every = (self.shown.frames.len() / self.labels).max(1);
        for (n, (pixels, steering)) in self.shown.frames.iter().zip(&self.shown.steering).enumerate() {
            let labelled = n % every == every / 2 && n / every < self.labels;
            if labelled || n % BACKGROUND_EVERY == 0 {
                pilot.show(&self.sample(pixels, n), labelled.then_some(*steering), (n / every) as u32)?;
            }
        }
        pilot.fit();
        let (first, mut step) = (pilot.sight.version(), self.shown.frames.len());
        let mut drive = |start| {
            let mut failed = None;
            let steer = |pixels: &[u8]| {
                step += 1;
                pilot.steer(&self.sample(pixels, step), workers).unwrap_or_else(|problem| {
                    failed = Some(problem);
                    0.0
                }) as f32
            };
            let driven = drive::controlled(world, start, self.steps, steer, || {});
            failed.map_or(Ok(driven), Err)
        };
        let at_once = drive(if change == Change::Nothing { START } else { CHANGED })?;
        let later = (learns && change != Change::Nothing).then(|| {
            drive(BETWEEN)?;
            drive(CHANGED)
        });
        let later = later.transpose()?;
        let encoders = 1 + pilot.sight.version().0 - first.0;
        Ok(Run { kind, labels: self.labels, change, at_once, later, encoders })
    }

    /// What a frame is to a learner, at a step of the stream.
    fn sample<'f>(&self, pixels: &'f [u8], step: usize) -> Sample<'f> {
        let values = Values::Image { pixels, height: self.frame.0, width: self.frame.1, channels: 3 };
        Sample { values, time: Micros(step as u64 * STEP_US), segment: 1 }
    }
}
