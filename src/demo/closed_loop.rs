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
        .map(|(kind, labels, sight)| course_of(kind, sight, frame, course, labels, (&rover, &later), &shown, &Alone))
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
    let mut pilot = Pilot::new(sight, ControllerTable::plain(Does::Steer));
    let every = (shown.frames.len() / labels).max(1);
    for (n, (pixels, steering)) in shown.frames.iter().zip(&shown.steering).enumerate() {
        let labelled = n % every == every / 2 && n / every < labels;
        if labelled || n % BACKGROUND_EVERY == 0 {
            pilot.show(&sample(pixels, frame, n), labelled.then_some(*steering), (n / every) as u32)?;
        }
    }
    pilot.fit();
    let (first, mut step) = (pilot.sight.version(), shown.frames.len());
    let mut drive = |world: &Rover, start| {
        let mut failed = None;
        let steer = |pixels: &[u8]| {
            step += 1;
            pilot.steer(&sample(pixels, frame, step), workers).unwrap_or_else(|problem| {
                failed = Some(problem);
                0.0
            }) as f32
        };
        let driven = drive::controlled(world, start, course.steps, steer, || {});
        failed.map_or(Ok(driven), Err)
    };
    let mut drives = vec![drive(rover, STARTS[0])?, drive(later, STARTS[1])?];
    // Time in the changed world, in which it may learn. Nobody labels anything.
    drive(later, Start { wait: 0, lap_share: 0.71, backwards: false })?;
    drives.push(drive(later, STARTS[2])?);
    Ok(Run { kind, labels, drives, encoders: 1 + pilot.sight.version().0 - first.0 })
}

/// What a frame is to a learner, at a step of the stream.
fn sample(pixels: &[u8], frame: (usize, usize), step: usize) -> Sample<'_> {
    let values = Values::Image { pixels, height: frame.0, width: frame.1, channels: 3 };
    Sample { values, time: Micros(step as u64 * STEP_US), segment: 1 }
}
