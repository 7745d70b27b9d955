//! Steering taught on features with few labels, tested on other frames, and driven by.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::drive::{self, Driven, Lookouts, Start};
use super::eye::{Eye, Kind};
use super::{Contender, DemoError, Phase, Watch};
use crate::evaluate::{Features, Plane, RidgeModel};
use crate::learner::Learner;
use crate::source::sim::Rover;

/// One kind of features and the steering that was taught on it.
pub(super) struct Taught<'a, 'm> {
    kind: Kind,
    learner: &'a Learner<'m>,
    frame: (usize, usize),
    model: RidgeModel,
    labels: usize,
    /// Mean absolute error on the last quarter of the labels, taught on the others.
    pub validation: f64,
}

impl<'a, 'm> Taught<'a, 'm> {
    pub fn new(
        kind: Kind,
        learner: &'a Learner<'m>,
        frame: (usize, usize),
        lookouts: &Lookouts,
    ) -> Result<Self, DemoError> {
        let features = features_of(kind, learner, frame, lookouts)?;
        let fit = |rows: usize| {
            let part = Features { dim: features.dim, values: features.values[..rows * features.dim].to_vec() };
            RidgeModel::fit(&part, &lookouts.steering[..rows], 1, &vec![0; rows], true)
        };
        let rows = features.rows();
        let first = fit(rows - rows / 4)?;
        let held = rows - rows / 4..rows;
        let validation = mean_distance(&lookouts.steering[held.clone()], |i| {
            f64::from(predicted(&first, features.row(held.start + i)))
        });
        Ok(Taught { kind, learner, frame, model: fit(rows)?, labels: rows, validation })
    }

    pub fn tested(&self, lookouts: &Lookouts) -> Result<Contender, DemoError> {
        let features = features_of(self.kind, self.learner, self.frame, lookouts)?;
        let answer = |i: usize| f64::from(predicted(&self.model, features.row(i)));
        let wanted = &lookouts.steering;
        let middle = wanted.iter().sum::<f64>() / wanted.len() as f64;
        let missed: f64 = wanted.iter().enumerate().map(|(i, w)| (w - answer(i)).powi(2)).sum();
        let spread: f64 = wanted.iter().map(|w| (w - middle).powi(2)).sum();
        Ok(Contender {
            kind: self.kind,
            dim: features.dim,
            labels: self.labels,
            steering_mae: mean_distance(wanted, answer),
            steering_r2: 1.0 - missed / spread.max(1e-9),
            drives: Vec::new(),
            plane: Plane::fit(&features)?.points(&features),
        })
    }
}

fn features_of(
    kind: Kind,
    learner: &Learner,
    frame: (usize, usize),
    lookouts: &Lookouts,
) -> Result<Features, DemoError> {
    let mut eye = Eye::new(kind, learner, frame);
    let mut values = Vec::with_capacity(eye.dim() * lookouts.frames.len());
    lookouts.frames.iter().try_for_each(|pixels| eye.look(pixels, &mut values))?;
    Ok(Features { dim: eye.dim(), values })
}

fn predicted(model: &RidgeModel, feature: &[f32]) -> f32 {
    let mut out = [0.0];
    model.predict(feature, &mut out);
    out[0].clamp(-1.0, 1.0)
}

pub(super) fn mean_distance(wanted: &[f64], answer: impl Fn(usize) -> f64) -> f64 {
    wanted.iter().enumerate().map(|(i, w)| (w - answer(i)).abs()).sum::<f64>() / wanted.len().max(1) as f64
}

/// The starts of the drives: other places, both ways round, other light.
const STARTS: [Start; 3] = [
    Start { wait: 400, lap_share: 0.0, backwards: false },
    Start { wait: 1300, lap_share: 0.37, backwards: true },
    Start { wait: 2300, lap_share: 0.71, backwards: false },
];

/// Every method drives from every start, the drives side by side on the threads of the pool.
pub(super) fn drive_all(
    methods: &[Taught],
    rover: &Rover,
    steps: usize,
    watch: Watch<'_>,
) -> Result<Vec<Vec<Driven>>, DemoError> {
    // A learner cannot be shared, its perceivers can be moved: one for each drive.
    let jobs: Vec<(Eye, &RidgeModel, Start)> = methods
        .iter()
        .flat_map(|m| STARTS.map(|start| (Eye::new(m.kind, m.learner, m.frame), &m.model, start)))
        .collect();
    let total = (jobs.len() * steps) as u64;
    let done = AtomicU64::new(0);
    let drives: Vec<Driven> = jobs
        .into_par_iter()
        .map(|(mut eye, model, start)| {
            let mut feature = Vec::with_capacity(eye.dim());
            let mut failed = None;
            let steer = |frame: &[u8]| {
                feature.clear();
                match eye.look(frame, &mut feature) {
                    Ok(()) => predicted(model, &feature),
                    Err(problem) => {
                        failed = Some(problem);
                        0.0
                    }
                }
            };
            let driven = drive::controlled(rover, start, steps, steer, || {
                watch(Phase::Driving, done.fetch_add(1, Ordering::Relaxed) + 1, total);
            });
            failed.map_or(Ok(driven), |problem| Err(DemoError::Frame(problem)))
        })
        .collect::<Result<_, _>>()?;
    Ok(drives.chunks(STARTS.len()).map(<[Driven]>::to_vec).collect())
}
