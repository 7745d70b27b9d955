//! `nestling probe --finetune`: few labels, the learned encoder against the same net from scratch.

use std::error::Error;

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::probe::{Opens, Rowset, read_rows};
use super::settings::UsageError;
use crate::evaluate::{self, Targets, draw_rows};
use crate::fixed::random::Draws;
use crate::kernels::Kernels;
use crate::learner::{Learner, store_sample, work_len};
use crate::net::arena::Arena;
use crate::net::error::PlanError;
use crate::probe::finetune::{Course, Depth, FineTuner};
use crate::sample::Seed;

/// Steps of 32 views; not tuned.
const STEPS: u32 = 600;
/// Random tensor of the samples of a step.
const SAMPLES: u32 = 0x903;

/// How the labels are drawn.
#[derive(Clone, Copy)]
enum Labels {
    Share(f64),
    /// So many of each class.
    Shots(usize),
}

const DRAWN: [(&str, Labels); 3] =
    [("10pct", Labels::Share(0.1)), ("1pct", Labels::Share(0.01)), ("10shot", Labels::Shots(10))];

/// Labelled samples as the learner stores them.
pub(super) struct Samples {
    stored: Vec<Vec<u8>>,
    classes: Vec<u32>,
}

impl Samples {
    fn select(&self, rows: &[usize]) -> Samples {
        Samples {
            stored: rows.iter().map(|&r| self.stored[r].clone()).collect(),
            classes: rows.iter().map(|&r| self.classes[r]).collect(),
        }
    }
}

/// Where the samples come from, and how they are parted.
pub(super) struct From<'a> {
    pub sources: &'a [String],
    pub test_sources: &'a [String],
    pub train_share: f64,
    pub seed: u64,
    pub opens: &'a Opens<'a>,
}

fn read(uris: &[String], learner: &Learner, opens: &Opens) -> Result<(Samples, Rowset), Box<dyn Error>> {
    let (spec, network) = (learner.spec(), learner.network());
    let mut work = vec![0; work_len(network)];
    let mut stored = Vec::new();
    let mut source = opens(uris)?;
    let rows = read_rows(source.as_mut(), |record, _| {
        let mut one = vec![0; learner.stored_len()];
        store_sample(spec, network, &record.sample(), &mut one, &mut work)?;
        stored.push(one);
        Ok(())
    })?;
    let Targets::Classes(classes) = rows.targets()? else {
        return Err(UsageError("--finetune names classes, and the label of this source is a number".into()).into());
    };
    Ok((Samples { stored, classes }, rows))
}

/// Percent of the test samples named rightly, for each of [`DRAWN`]: after fine-tuning from `learned` (head and encoder,
/// and the head alone), and of the same net taught from the start of `untrained`.
pub(super) fn run(
    from: &From,
    learned: &Learner,
    untrained: &Learner,
) -> Result<[Map<String, Value>; 2], Box<dyn Error>> {
    let seed = from.seed;
    let (all, rows) = read(from.sources, learned, from.opens)?;
    let (train, test) = if from.test_sources.is_empty() {
        let split = evaluate::split(rows.groups(), from.train_share, rows.order(from.seed))?;
        (all.select(&split.train), all.select(&split.test))
    } else {
        (all, read(from.test_sources, learned, from.opens)?.0)
    };
    let classes = 1 + train.classes.iter().chain(&test.classes).copied().max().unwrap_or(0) as usize;
    let ways = [(0, "finetune", Depth::HeadFirst), (0, "finetune_head", Depth::Head), (1, "finetune", Depth::Whole)];
    let jobs: Vec<_> = DRAWN.iter().flat_map(|drawn| ways.iter().map(move |way| (drawn, way))).collect();
    let scores: Vec<f64> = jobs
        .par_iter()
        .map(|((_, labels), (start, _, depth))| {
            let few = train.select(&draw(*labels, &train.classes, seed));
            let course = Course { depth: *depth, steps: STEPS, seed: Seed(seed) };
            score([learned, untrained][*start], course, classes, &few, &test)
        })
        .collect::<Result<_, PlanError>>()?;
    let mut found = [Map::new(), Map::new()];
    for (((name, _), (start, key, _)), score) in jobs.into_iter().zip(scores) {
        found[*start].insert(format!("{key}_{name}"), Value::from((score * 100.0).round() / 100.0));
    }
    Ok(found)
}

fn draw(labels: Labels, classes: &[u32], seed: u64) -> Vec<usize> {
    match labels {
        Labels::Share(share) => draw_rows(&Targets::Classes(classes.to_vec()), share, seed.wrapping_mul(1000)),
        Labels::Shots(shots) => {
            let order = draw_rows(&Targets::Classes(classes.to_vec()), 0.5, seed.wrapping_mul(1000));
            let mut count = std::collections::BTreeMap::new();
            let mut first = |row: &usize| {
                let n: &mut usize = count.entry(classes[*row]).or_default();
                *n += 1;
                *n <= shots
            };
            order.into_iter().filter(|row| first(row)).collect()
        }
    }
}

fn score(learner: &Learner, course: Course, classes: usize, few: &Samples, test: &Samples) -> Result<f64, PlanError> {
    let (spec, kernels) = (learner.spec(), Kernels::detect());
    let mut counting = Arena::counting();
    FineTuner::take(spec, kernels, classes, course, &mut counting)?;
    let mut memory = vec![0; Arena::block_len(counting.used())];
    let mut tuner = FineTuner::take(spec, kernels, classes, course, &mut Arena::over(&mut memory))?;
    tuner.start(learner);
    for step in 0..course.steps {
        let draws = Draws::new(course.seed, u64::from(step), SAMPLES);
        tuner.step(|n| {
            let row = draws.below(n as u32, few.stored.len() as u32) as usize;
            (&few.stored[row], few.classes[row] as usize)
        });
    }
    let right = test.stored.iter().zip(&test.classes).filter(|(s, c)| tuner.predict(s) == **c as usize).count();
    Ok(100.0 * right as f64 / test.stored.len().max(1) as f64)
}
