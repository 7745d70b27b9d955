//! Steering foretold in recordings: taught with few labels of a session, held against what the driver did in the rest of it, and
//! in a session of which nothing was learned and nothing labelled. Called by `nestling study steering`.

use super::eye::Kind;
use super::pilot::{BACKGROUND_EVERY, Pilot, Sight};
use super::{DemoError, UNTRAINED_SAMPLES};
use crate::augment::fit;
use crate::control::config::{ControllerTable, Does};
use crate::kernels::Map;
use crate::learner::{Alone, Did, Join, Learner, Options};
use crate::net::spec::{InputKind, Spec};
use crate::runtime::perceiver::Exchange;
use crate::runtime::{Pool, Workers};
use crate::sample::{Micros, Sample, Seed, Values};
use crate::source::{Data, Label, Record, Source};

/// Share of a session that is learned from and labelled; the rest is foretold.
const SHOWN: f64 = 0.8;
/// Values are smoothed over so long.
const SMOOTH_MS: f64 = 150.0;

/// A session at the model's size, with what the driver did.
#[derive(Clone, Debug, Default)]
pub struct Session {
    pub name: String,
    frames: Vec<(Micros, u32, Vec<u8>, f64)>,
}

/// How well steering was foretold.
#[derive(Clone, Debug)]
pub struct Scored {
    pub kind: Kind,
    /// It went on learning while it foretold.
    pub learning: bool,
    pub labels: usize,
    /// The session that was foretold.
    pub session: String,
    /// All sessions but that one were learned from, instead of its own beginning.
    pub across: bool,
    /// Mean absolute error, full lock = 1, and the share of variance foretold.
    pub mae: f64,
    pub r2: f64,
}

impl Session {
    /// Reads a whole session; its labels are the steering.
    ///
    /// # Errors
    /// [`DemoError`] of the source, or where a sample is no frame or has no value.
    pub fn read(name: &str, source: &mut dyn Source, spec: &Spec) -> Result<Self, DemoError> {
        let mut session = Session { name: name.into(), ..Session::default() };
        let mut record = Record::default();
        while source.read_next(&mut record)? {
            let (Data::Image { pixels, height, width, channels }, Some(Label::Value(steering))) =
                (&record.data, record.label)
            else {
                return Err(DemoError::NoSteering { source_name: name.into() });
            };
            let map = Map::new(spec.input.height, spec.input.width, 3);
            let mut small = vec![0; map.len()];
            fit::resize(pixels, *height, *width, *channels, map, &mut small);
            session.frames.push((record.time, record.segment, small, steering));
        }
        Ok(session)
    }

    fn sample(&self, n: usize, spec: &Spec, segment: u32) -> (Sample<'_>, f64) {
        let (time, own, pixels, steering) = &self.frames[n];
        let values = Values::Image { pixels, height: spec.input.height, width: spec.input.width, channels: 3 };
        (Sample { values, time: *time, segment: segment + own }, *steering)
    }
}

/// A part of a session.
type Part<'a> = (&'a Session, std::ops::Range<usize>);

/// Scores learned (frozen and going on), untrained and raw features for each number of `labels`, in each session and across.
///
/// # Errors
/// [`DemoError`]
pub fn run(
    spec: &Spec,
    seed: u64,
    sessions: &[Session],
    labels: &[usize],
    threads: usize,
) -> Result<Vec<Scored>, DemoError> {
    if spec.input.kind != InputKind::Image {
        return Err(DemoError::NoCamera);
    }
    let pool = Pool::new(threads).map_err(DemoError::Threads)?;
    let options = Options { lanes: threads, ..Options::new(Seed(seed)) };
    let mut scored = Vec::new();
    for (place, session) in sessions.iter().enumerate() {
        let cut = (session.frames.len() as f64 * SHOWN) as usize;
        let whole = |session: &Session| 0..session.frames.len();
        let others = sessions.iter().enumerate().filter(|(other, _)| *other != place);
        let others: Vec<Part> = others.map(|(_, other)| (other, whole(other))).collect();
        for (across, shown, asked) in [
            (false, vec![(session, 0..cut)], (session, cut..session.frames.len())),
            (true, others, (session, whole(session))),
        ] {
            if shown.is_empty() {
                continue;
            }
            let found = pool.run(|workers| one(spec, &options, &shown, asked, labels, workers))?;
            scored.extend(found.into_iter().map(|s| Scored { across, session: session.name.clone(), ..s }));
        }
    }
    Ok(scored)
}

fn one(
    spec: &Spec,
    options: &Options,
    shown: &[Part],
    asked: Part,
    labels: &[usize],
    workers: &Workers,
) -> Result<Vec<Scored>, DemoError> {
    let block = Learner::plan(spec, options)?.block_len();
    let total: usize = shown.iter().map(|(_, range)| range.len()).sum();
    let (mut memory, mut other_memory) = (vec![0; block], vec![0; block]);
    let mut untrained = Learner::new(spec, options, &mut other_memory)?;
    let mut learner = Learner::new(spec, options, &mut memory)?;
    for (n, (session, place, segment)) in frames(shown).enumerate() {
        let (sample, _) = session.sample(place, spec, segment);
        if n < UNTRAINED_SAMPLES {
            untrained.remember(&sample)?;
        }
        learner.observe(&sample)?;
        while learner.step(workers) != Did::Idle {}
    }
    untrained.publish_as_is();
    learner.finish();
    let folder = tempfile::tempdir()
        .map_err(|source| crate::store::StoreError::Io { path: "a temporary folder".into(), source })?;
    let path = folder.path().join("learned.safetensors");
    crate::store::write(&path, &mut learner)?;

    let raw = if spec.input.channels == 1 { 1 } else { 3 };
    let mut scored = Vec::new();
    for &count in labels {
        let mut goes_on_memory = vec![0; block];
        let mut goes_on = Learner::new(spec, options, &mut goes_on_memory)?;
        crate::store::read(&path)?.restore(&mut goes_on)?;
        let fixed = |learner: &Learner| Sight::Fixed(Box::new(Exchange::new(learner).1));
        let kinds = [
            (Kind::Learned, false, fixed(&learner)),
            (Kind::Untrained, false, fixed(&untrained)),
            (Kind::Raw(raw), false, Sight::pixels((spec.input.height, spec.input.width), raw)),
        ];
        for (kind, learning, sight) in kinds {
            let (mae, r2) = foretold(spec, sight, shown, total, asked.clone(), count, &Alone)?;
            scored.push(Scored { kind, learning, labels: count, session: String::new(), across: false, mae, r2 });
        }
        let (exchange, perceiver) = Exchange::new(&goes_on);
        let sight = Sight::Learning { learner: &mut goes_on, exchange, perceiver: Box::new(perceiver) };
        let (mae, r2) = foretold(spec, sight, shown, total, asked.clone(), count, workers)?;
        let (kind, session) = (Kind::Learned, String::new());
        scored.push(Scored { kind, learning: true, labels: count, session, across: false, mae, r2 });
    }
    Ok(scored)
}

/// All frames of `parts`, each with a segment that none of another part has.
fn frames<'a>(parts: &'a [Part]) -> impl Iterator<Item = (&'a Session, usize, u32)> {
    let each = parts.iter().enumerate();
    each.flat_map(|(part, (session, range))| range.clone().map(move |n| (*session, n, 1000 * part as u32)))
}

/// Mean error and share of variance foretold of one kind of features.
fn foretold(
    spec: &Spec,
    sight: Sight,
    shown: &[Part],
    total: usize,
    (session, range): Part,
    labels: usize,
    workers: &impl Join,
) -> Result<(f64, f64), DemoError> {
    let table = ControllerTable { smooth_ms: SMOOTH_MS, ..ControllerTable::plain(Does::Steer) };
    let mut pilot = Pilot::new(sight, vec![table]);
    let every = (total / labels).max(1);
    for (n, (session, place, segment)) in frames(shown).enumerate() {
        let labelled = n % every == every / 2 && n / every < labels;
        if labelled || n % BACKGROUND_EVERY == 0 {
            let (sample, steering) = session.sample(place, spec, segment);
            pilot.show(&sample, labelled.then_some(steering), (n / every) as u32)?;
        }
    }
    pilot.fit();
    let (mut errors, mut wanted) = (Vec::new(), Vec::new());
    for n in range {
        let (sample, steering) = session.sample(n, spec, 1_000_000);
        errors.push(pilot.steer(&sample, workers)? - steering);
        wanted.push(steering);
    }
    let count = wanted.len().max(1) as f64;
    let middle = wanted.iter().sum::<f64>() / count;
    let spread: f64 = wanted.iter().map(|w| (w - middle).powi(2)).sum();
    let missed: f64 = errors.iter().map(|e| e * e).sum();
    Ok((errors.iter().map(|e| e.abs()).sum::<f64>() / count, 1.0 - missed / spread.max(1e-9)))
}
