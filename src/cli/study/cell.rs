//! One cell of a study: an encoder is made, learns, and its features are judged.

use std::error::Error;
use std::time::Instant;

use super::matrix::{Budget, Raw, Set, Subject};
use super::results::Row;
use crate::cli::learn_float;
use crate::cli::probe::{self, Rowset};
use crate::cli::settings;
use crate::evaluate::{self, Quality, Scores};
use crate::learner::{Learner, MAX_LANES, Options};
use crate::net::error::PlanError;
use crate::net::spec::{InputSpec, Spec};
use crate::runtime::{Pool, drive};
use crate::sample::Seed;
use crate::source::{Data, Source};
use crate::twin::Twin;

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub subject: Subject,
    pub seed: u64,
    pub float: bool,
    pub budget: Budget,
}

/// Runs a cell. What cannot be (the plan or the stream refuses it) is a row that says why.
///
/// # Errors
/// Sources that cannot be read, and whatever else no plan can know of.
pub fn run(set: &Set, place: Place) -> Result<Row, Box<dyn Error>> {
    let mut row = Row::new(&set.name, place);
    let Some(spec) = set.spec(place.subject)? else {
        row.refused = "the model has no dictionary".into();
        return Ok(row);
    };
    let begun = Instant::now();
    let refused = match place.subject {
        Subject::Raw if place.float => match set.floats()? {
            None => Some("only a network that runs in floats has latents before they are rounded".into()),
            Some(mut floats) => {
                let scores = judge(&set.before_backbone(), place.seed, |source| probe::read_rows(source, &mut floats))?;
                row.score(&scores);
                None
            }
        },
        Subject::Raw => {
            let scores = judge(set, place.seed, |source| {
                probe::read_rows(source, |record, out| {
                    raw(set.raw, &spec.input, &record.data, out);
                    Ok(())
                })
            })?;
            row.score(&scores);
            None
        }
        _ if place.float => float(set, &spec, place, &mut row)?,
        _ => integer(set, &spec, place, &mut row)?,
    };
    row.refused = refused.unwrap_or_default();
    row.seconds = begun.elapsed().as_secs_f64();
    Ok(row)
}

/// Opens the sources that are learned from, with the passes and samples that the budget allows.
fn stream(set: &Set, place: Place) -> Result<(Box<dyn Source>, drive::Extent), Box<dyn Error>> {
    let source = set.open(&set.learn, place.seed)?;
    let samples = set.samples(place.budget);
    let epochs = source.len_hint().map_or(1, |n| samples.div_ceil(n.max(1)));
    Ok((source, drive::Extent { epochs, samples: Some(samples) }))
}

fn options(spec: &Spec, place: Place, samples: Option<u64>) -> Options {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX_LANES);
    let lanes = Learner::lanes_worth(spec, threads);
    Options { expected_samples: samples, lanes, ..Options::new(Seed(place.seed)) }
}

/// What there is to say where `plan` refuses.
fn planned<T>(plan: Result<T, PlanError>) -> Result<T, String> {
    plan.map_err(|problem| problem.to_string())
}

/// The learner's cell; gives the reason where it cannot be.
fn integer(set: &Set, spec: &Spec, place: Place, row: &mut Row) -> Result<Option<String>, Box<dyn Error>> {
    let (mut source, extent) = stream(set, place)?;
    let options = options(spec, place, extent.samples);
    let plan = match planned(Learner::plan(spec, &options)) {
        Ok(plan) => plan,
        Err(reason) => return Ok(Some(reason)),
    };
    if let Err(problem) = settings::check_order(spec, source.as_ref()) {
        return Ok(Some(problem.to_string()));
    }
    let mut memory = crate::cli::memory::block(&plan)?;
    let mut learner = Learner::new(spec, &options, &mut memory)?;
    if place.subject == Subject::Untrained {
        probe::settle(&mut learner, source.as_mut())?;
    } else {
        row.ram_bytes = Some(plan.ram_bytes as u64);
        let begun = Instant::now();
        let pool = Pool::new(options.lanes)?;
        pool.run(|workers| drive::learn(&mut learner, source.as_mut(), extent, workers, |_, _| true))?;
        learner.finish();
        row.learn_seconds = Some(begun.elapsed().as_secs_f64());
        let (c, health) = (*learner.counters(), learner.health());
        row.samples = Some(c.observed);
        row.effective_rank = Some(f64::from(health.effective_rank) / 256.0);
        row.undone = Some(c.lessons_rolled_back);
        if c.steps > 0 {
            row.loss_first = Some(c.loss_first as f64 / 256.0);
            row.loss_last = Some(c.loss_running as f64 / 4096.0);
        }
    }
    let mut feature = vec![0i8; learner.network().feature_dim];
    let scores = judge(set, place.seed, |source| {
        probe::read_rows(source, |record, out| {
            learner.perceive(&record.sample(), &mut feature)?;
            out.extend(feature.iter().map(|&v| f32::from(v)));
            Ok(())
        })
    })?;
    row.score(&scores);
    Ok(None)
}

/// The same for the float twin.
fn float(set: &Set, spec: &Spec, place: Place, row: &mut Row) -> Result<Option<String>, Box<dyn Error>> {
    if let Some(reason) = learn_float::refusal(spec) {
        return Ok(Some(reason.into()));
    }
    let (mut source, extent) = stream(set, place)?;
    let options = options(spec, place, extent.samples);
    let mut twin = match planned(Twin::new(spec, &options)) {
        Ok(twin) => twin,
        Err(reason) => return Ok(Some(reason)),
    };
    if let Err(problem) = settings::check_order(spec, source.as_ref()) {
        return Ok(Some(problem.to_string()));
    }
    let begun = Instant::now();
    learn_float::learn(&mut twin, source.as_mut(), extent, options.lanes, |_| {})?;
    row.learn_seconds = Some(begun.elapsed().as_secs_f64());
    row.samples = Some(twin.observed());
    if twin.steps() > 0 {
        row.loss_first = Some(f64::from(twin.loss_first()));
        row.loss_last = Some(f64::from(twin.loss_running()));
    }
    let dim = twin.feature_dim();
    let scores = judge(set, place.seed, |source| {
        probe::read_rows(source, |record, out| {
            let from = out.len();
            out.resize(from + dim, 0.0);
            Ok(twin.feature(&record.sample(), &mut out[from..])?)
        })
    })?;
    row.score(&scores);
    Ok(None)
}

/// Trains probes on the features that `read` makes of one part, and tests them on the other.
fn judge(
    set: &Set,
    seed: u64,
    mut read: impl FnMut(&mut dyn Source) -> Result<Rowset, Box<dyn Error>>,
) -> Result<Scores, Box<dyn Error>> {
    let mut part = |uris: &[String]| -> Result<evaluate::Labelled, Box<dyn Error>> {
        // A fixed seed: the samples of the probes are the same for every cell.
        let mut source = set.open(uris, 0)?;
        let mut rows = read(source.as_mut())?;
        let features = core::mem::take(&mut rows.learned);
        Ok(rows.labelled(features)?)
    };
    let (train, test) = (part(&set.train)?, part(&set.test)?);
    Ok(evaluate::evaluate(&train, &test, evaluate::Options { seed, few_labels: true })?)
}

/// The input as it comes.
fn raw(how: Raw, input: &InputSpec, data: &Data, out: &mut Vec<f32>) {
    /// More codes than any token source has.
    const CODES: usize = 512;
    match (how, data) {
        (Raw::Counts, Data::Window { readings, .. }) => {
            let from = out.len();
            out.resize(from + CODES, 0.0);
            readings.iter().for_each(|&code| out[from + usize::from(code.unsigned_abs()).min(CODES - 1)] += 1.0);
        }
        _ => probe::raw(input, data, out),
    }
}

impl Row {
    fn score(&mut self, scores: &Scores) {
        self.headline = Some(scores.headline());
        match &scores.quality {
            Quality::Classes(c) => {
                self.metric = "percent".into();
                self.knn = Some(c.knn);
                self.ten_percent = c.few.as_ref().map(|few| few.linear_10pct);
                self.one_percent = c.few.as_ref().map(|few| few.linear_1pct);
            }
            Quality::Values(v) => {
                self.metric = "r2".into();
                self.knn = Some(v.knn_r2);
                self.ten_percent = v.few.as_ref().map(|few| few.r2_10pct);
                self.one_percent = v.few.as_ref().map(|few| few.r2_1pct);
            }
        }
    }
}
