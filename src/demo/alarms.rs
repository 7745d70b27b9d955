//! False alarms an hour against those that are allowed: `alarm`, as the daemon has it, watches a stream for hours, and then
//! something else. Called by `nestling study alarm`.

use super::eye::Kind;
use super::pilot::{Pilot, Sight};
use super::{DemoError, UNTRAINED_SAMPLES};
use crate::control::config::{ControllerTable, Does};
use crate::learner::{Learner, Options};
use crate::net::spec::{InputKind, Spec};
use crate::runtime::perceiver::Exchange;
use crate::runtime::{Pool, Workers};
use crate::sample::{Micros, Sample, Seed};
use crate::source::{Record, Source};

/// A recording begins anew so long after its last sample.
const BETWEEN_US: u64 = 100_000;

/// What is watched.
#[derive(Clone, Debug)]
pub struct Watch {
    pub spec: Spec,
    pub seed: u64,
    /// By the samples' own times. Alarms are counted in the second half.
    pub hours: f64,
    /// Alarms an hour that are allowed, for each of the alarms that watch together.
    pub per_hour: Vec<f64>,
    pub threads: usize,
}

/// What one alarm did.
#[derive(Clone, Debug)]
pub struct Watched {
    pub kind: Kind,
    pub allowed: f64,
    /// Alarms raised in the second half.
    pub alarms: u64,
    /// Length of the second half.
    pub hours: f64,
    /// Seconds from the first sample of the other stream to an alarm in it; `None` where none came, or nothing was shown.
    pub found_s: Option<f64>,
}

/// Samples of a source, again and again, as one stream whose time goes on.
struct Endless<'a> {
    source: &'a mut dyn Source,
    record: Record,
    /// Added to the times of this round.
    offset: u64,
    /// Time of the newest sample, in the stream.
    newest: u64,
}

impl Endless<'_> {
    fn next(&mut self) -> Result<Sample<'_>, DemoError> {
        if !self.source.read_next(&mut self.record)? {
            self.source.rewind()?;
            self.offset = self.newest + BETWEEN_US;
            if !self.source.read_next(&mut self.record)? {
                return Err(DemoError::NoSamples { source_name: self.source.describe() });
            }
        }
        self.newest = self.offset + self.record.time.0;
        Ok(Sample { time: Micros(self.newest), ..self.record.sample() })
    }
}

/// Watches `stream` with learned features, learning going on, with untrained ones and, where they are frames, with raw ones;
/// then `other`, once.
///
/// # Errors
/// [`DemoError`]
pub fn run(
    watch: &Watch,
    stream: &mut dyn Source,
    other: &mut Option<Box<dyn Source>>,
) -> Result<Vec<Watched>, DemoError> {
    let spec = &watch.spec;
    let pool = Pool::new(watch.threads).map_err(DemoError::Threads)?;
    let options = Options { lanes: watch.threads, ..Options::new(Seed(watch.seed)) };
    let block = Learner::plan(spec, &options)?.block_len();
    let mut watched = Vec::new();
    {
        let mut memory = vec![0; block];
        let mut learner = Learner::new(spec, &options, &mut memory)?;
        let (exchange, perceiver) = Exchange::new(&learner);
        let sight = Sight::Learning { learner: &mut learner, exchange, perceiver: Box::new(perceiver) };
        watched.extend(pool.run(|workers| one(watch, Kind::Learned, sight, stream, other, workers))?);
    }
    {
        let mut memory = vec![0; block];
        let mut untrained = Learner::new(spec, &options, &mut memory)?;
        stream.rewind()?;
        let mut first = Endless { source: &mut *stream, record: Record::default(), offset: 0, newest: 0 };
        for _ in 0..UNTRAINED_SAMPLES {
            untrained.remember(&first.next()?)?;
        }
        untrained.publish_as_is();
        let sight = Sight::Fixed(Box::new(Exchange::new(&untrained).1));
        watched.extend(pool.run(|workers| one(watch, Kind::Untrained, sight, stream, other, workers))?);
    }
    if spec.input.kind == InputKind::Image {
        let channels = if spec.input.channels == 1 { 1 } else { 3 };
        let sight = Sight::pixels((spec.input.height, spec.input.width), channels);
        let kind = Kind::Raw(channels);
        watched.extend(pool.run(|workers| one(watch, kind, sight, stream, other, workers))?);
    }
    Ok(watched)
}

fn one(
    watch: &Watch,
    kind: Kind,
    sight: Sight,
    stream: &mut dyn Source,
    other: &mut Option<Box<dyn Source>>,
    workers: &Workers,
) -> Result<Vec<Watched>, DemoError> {
    let table = |&per_hour: &f64| ControllerTable { per_hour, ..ControllerTable::plain(Does::Alarm) };
    let mut pilot = Pilot::new(sight, watch.per_hour.iter().map(table).collect());
    stream.rewind()?;
    let mut stream = Endless { source: stream, record: Record::default(), offset: 0, newest: 0 };
    let half = (watch.hours * 1.8e9) as u64;
    let mut on = vec![false; watch.per_hour.len()];
    let mut alarms = vec![0; watch.per_hour.len()];
    let begins = stream.next()?.time.0;
    while stream.newest < begins + 2 * half {
        let sample = stream.next()?;
        let counts = sample.time.0 >= begins + half;
        pilot.act(&sample, workers)?;
        for ((on, alarms), decision) in on.iter_mut().zip(&mut alarms).zip(pilot.decisions()) {
            let was = std::mem::replace(on, decision.alarm == Some(true));
            *alarms += u64::from(counts && *on && !was);
        }
    }
    let mut found_s = vec![None; on.len()];
    if let Some(other) = other {
        other.rewind()?;
        let (mut record, mut first, from) = (Record::default(), None, stream.newest + BETWEEN_US);
        while other.read_next(&mut record)? {
            let since = record.time.0 - *first.get_or_insert(record.time.0);
            pilot.act(&Sample { time: Micros(from + since), ..record.sample() }, workers)?;
            for (found, decision) in found_s.iter_mut().zip(pilot.decisions()) {
                if decision.alarm == Some(true) {
                    found.get_or_insert(since as f64 * 1e-6);
                }
            }
        }
    }
    let each = watch.per_hour.iter().zip(alarms).zip(found_s);
    let watched =
        |((&allowed, alarms), found_s)| Watched { kind, allowed, alarms, hours: half as f64 / 3.6e9, found_s };
    Ok(each.map(watched).collect())
}
