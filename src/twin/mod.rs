//! The float twin: the same net, pretext, optimizer and samples in `f32`, so that the price of integer arithmetic can be
//! measured. `learn --arithmetic float` drives it; it runs on the host only and promises no equal bits between machines.
//!
//! What is the same: the replay buffer, the picks, the `i8` pixels of every view, the start of all weights, the stem's
//! patches and its schedule, and the step sizes. What is not: nothing is rounded (`dictionary`, `update`), and there
//! is no guard: [`Twin::feature`] always uses the newest weights, as if every lesson were published at once. With the
//! redundancy policy the buffer compares descriptors, which are the twin's own, so the kept samples may differ.

mod conv;
mod dictionary;
mod loss;
mod net;
mod rebuild;
mod store;
mod update;

use rayon::prelude::*;

use crate::augment::signal::ChannelScale;
use crate::fixed::random::Draws;
use crate::kernels::Grid;
use crate::learner::{
    Counters, DICTIONARY_LESSON, Learner, Options, SampleError, follow_scales, input_of, objective_len,
    objective_range, pick_of, scales_len, step_size, store_sample, tensor, view_of, work_len,
};
use crate::net::arena::Arena;
use crate::net::error::PlanError;
use crate::net::network::Network;
use crate::net::spec::{InputKind, Spec};
use crate::pretext::dictionary::Schedule;
use crate::replay::{Lens, Pick, Replay};
use crate::sample::{Sample, Seed};
use dictionary::Bank;
use net::View;

pub use store::{FORMAT, TwinError};

/// Parts that a step's gradients are summed in, whatever the number of threads.
const PARTS: usize = 8;

/// See the module.
///
/// The replay buffer borrows its memory for ever, so each twin leaks one block: a program makes one or two.
pub struct Twin {
    spec: Spec,
    network: Network,
    counters: Counters,
    /// Loss of the first step and running loss, in nats.
    loss: [f32; 2],
    /// Weights in use, of all tensors.
    weights: Vec<f32>,
    /// Of the trained tensors, in the integer masters' unit.
    masters: Vec<f32>,
    momentum: Vec<f32>,
    /// What the losses keep, one head after the other; then the scales of those that rebuild, two a head.
    objective: Vec<f32>,
    banks: Vec<Bank>,
    scales: &'static mut [ChannelScale],
    /// `None` for an encoder that is its dictionary alone.
    replay: Option<Replay<'static>>,
    stored: &'static mut [u8],
    work: Vec<i32>,
    input: Vec<i8>,
    view: View,
}

impl Twin {
    /// A twin that has seen nothing.
    ///
    /// # Errors
    /// [`PlanError`], as [`Learner::plan`].
    pub fn new(spec: &Spec, options: &Options) -> Result<Self, PlanError> {
        Learner::plan(spec, options)?;
        let network = Network::new(spec, options.kernels)?;
        let mut counting = Arena::counting();
        memory(spec, &network, &mut counting);
        let block = Box::leak(vec![0u8; Arena::block_len(counting.used())].into_boxed_slice());
        let (scales, stored, replay) = memory(spec, &network, &mut Arena::over(block));
        let remove = !matches!(spec.input.kind, InputKind::Window | InputKind::Latents);
        let stem = network.layers.first().filter(|l| l.dictionary).map_or(0..0, |l| l.tensors.clone());
        let bank = |number: usize| Bank::start(network.tensors[number].conv, remove, options.seed, number as u32);
        let mut twin = Twin {
            counters: Counters::at_start(spec, &network, options),
            loss: [0.0; 2],
            weights: vec![0.0; network.weights_len],
            masters: vec![0.0; network.trained_range().len()],
            momentum: vec![0.0; network.trained_range().len()],
            objective: vec![0.0; objective_len(&network) + rebuild::SCALES * network.heads.len()],
            banks: stem.map(bank).collect(),
            scales,
            replay,
            stored,
            work: vec![0; work_len(&network)],
            input: vec![0; network.input.len()],
            view: View::new(&network),
            spec: spec.clone(),
            network,
        };
        twin.start(options.seed);
        Ok(twin)
    }

    fn start(&mut self, seed: Seed) {
        let from = self.network.trained_range().start;
        for (number, t) in self.network.tensors.iter().enumerate() {
            if number >= self.network.first_trained {
                update::start(t, number, seed, &mut self.masters[t.weights - from..][..t.conv.weights()]);
            } else if number >= self.banks.len() {
                // Not trained and no dictionary: random and fixed.
                let weights = &mut self.weights[t.weight_range()];
                update::start(t, number, seed, weights);
                weights.iter_mut().for_each(|w| *w *= update::scale(t));
            }
        }
        self.fold_stem();
        self.use_masters();
    }

    fn fold_stem(&mut self) {
        for (bank, t) in self.banks.iter().zip(&self.network.tensors) {
            bank.fold(&mut self.weights[t.weight_range()]);
        }
    }

    fn use_masters(&mut self) {
        let from = self.network.trained_range().start;
        for t in self.network.tensors.iter().skip(self.network.first_trained) {
            let (masters, scale) = (&self.masters[t.weights - from..], update::scale(t));
            self.weights[t.weight_range()].iter_mut().zip(masters).for_each(|(w, m)| *w = m * scale);
        }
    }

    /// Takes in one sample: into replay, and as a lesson for the stem while that is being learned.
    ///
    /// # Errors
    /// [`SampleError`]; the twin is then as it was.
    pub fn observe(&mut self, sample: &Sample) -> Result<(), SampleError> {
        store_sample(&self.spec, &self.network, sample, self.stored, &mut self.work)?;
        follow_scales(&self.spec, self.scales, self.stored);
        input_of(&self.spec, self.scales, self.stored, &mut self.input);
        let alone = !self.spec.trains();
        if self.counters.observed < self.counters.stem_samples || (alone && !self.banks.is_empty()) {
            self.observe_stem();
        }
        self.push_replay(sample);
        let c = &mut self.counters;
        c.observed += 1;
        if alone {
            c.lesson_progress += 1;
        } else if c.observed > c.stem_samples {
            c.credit += 1;
        }
        Ok(())
    }

    fn observe_stem(&mut self) {
        let c = &mut self.counters;
        let schedule = Schedule { patches: c.stem_samples * c.stem_patches };
        for _ in 0..c.stem_patches {
            for (number, bank) in self.banks.iter_mut().enumerate() {
                let draws = Draws::new(Seed(c.seed), c.patches, tensor::PATCH + number as u32);
                bank.observe(&self.input, c.patches, schedule, draws);
            }
            c.patches += 1;
        }
        if c.observed + 1 == c.stem_samples {
            self.fold_stem();
        }
    }

    fn push_replay(&mut self, sample: &Sample) {
        let Some(replay) = &mut self.replay else { return };
        let mut descriptor = Vec::new();
        if replay.wants_descriptor() {
            self.view.set_input(&self.input);
            self.view.layers(&self.network, &self.weights);
            descriptor = describe(&self.network.descriptor_grid(), &self.view.activations);
        }
        let draws = Draws::new(Seed(self.counters.seed), self.counters.observed, tensor::REPLAY);
        replay.push(self.stored, sample.time.0, sample.segment, &descriptor, &[], draws);
    }

    /// One step of the pretext, if it is due: its loss in nats. Call it until it is `None`.
    pub fn step(&mut self) -> Option<f32> {
        let c = &mut self.counters;
        let Some(pretext) = self.network.due(c.steps).map(|head| head.pretext) else {
            if c.lesson_progress >= DICTIONARY_LESSON && c.observed >= c.stem_samples {
                c.lesson_progress = 0;
                self.fold_stem();
            }
            return None;
        };
        c.credit = c.credit.checked_sub(pretext.samples_per_step as u64)?;
        let loss = self.train()?;
        if self.counters.steps == 0 {
            self.loss = [loss; 2];
        }
        self.loss[1] += (loss - self.loss[1]) / 64.0;
        self.counters.steps += 1;
        Some(loss)
    }

    fn train(&mut self) -> Option<f32> {
        let mut objective = std::mem::take(&mut self.objective);
        let step = self.gradients(&mut objective);
        self.objective = objective;
        let (loss, gradients) = step?;
        let step_size = step_size(&self.counters, &self.spec.optimizer);
        let head = self.network.due(self.counters.steps)?;
        let chain: Vec<usize> = self.network.chain(head).collect();
        for number in chain {
            let (masters, momentum) = (&mut self.masters, &mut self.momentum);
            if update::tensor(&self.network, number, &gradients, masters, momentum, step_size) {
                self.halved(number);
            }
        }
        self.use_masters();
        Some(loss)
    }

    /// Loss of the step that is due, and its gradient by all trained weights. `None` while there are too few samples.
    /// `objective` moves on with the step.
    fn gradients(&self, objective: &mut [f32]) -> Option<(f32, Vec<f32>)> {
        let head = self.network.due(self.counters.steps)?;
        let pretext = &head.pretext;
        if pretext.task.rebuilds() {
            let from = rebuild::scales_at(&self.network, head);
            return self.rebuild(head, &mut objective[from..from + rebuild::SCALES]);
        }
        let (replay, seed, step) = (self.replay.as_ref()?, Seed(self.counters.seed), self.counters.steps);
        let picks: Option<Vec<Pick>> =
            (0..pretext.batch).map(|number| pick_of(&self.spec, replay, seed, step, number)).collect();
        let (picks, network) = (picks?, &self.network);
        let count = pretext.rows();
        let views: Vec<View> = (0..count)
            .into_par_iter()
            .map(|number| {
                let stored = replay.sample(picks[number / pretext.views], number % pretext.views);
                let mut input = vec![0; network.input.len()];
                view_of(&self.spec, pretext, self.scales, stored, seed, step, number, &mut input);
                let mut view = View::new(network);
                view.set_input(&input);
                view.layers(network, &self.weights);
                view.head(network, head, &self.weights);
                view
            })
            .collect();
        let embeddings: Vec<f32> = views.iter().flat_map(|v| v.top().iter().copied()).collect();
        let dim = network.embedding_dim(head);
        let targets: Vec<f32> = if pretext.task.predicts() {
            views.iter().flat_map(|v| v.head[1].iter().copied()).collect()
        } else {
            Vec::new()
        };
        let rows = loss::Rows { z: &embeddings, dim, views: pretext.views, targets: &targets };
        let (loss, errors) = loss::loss(pretext, rows, &mut objective[objective_range(network, head)]);
        let part = count.div_ceil(PARTS);
        let mut views = views;
        let parts: Vec<Vec<f32>> = views
            .par_chunks_mut(part)
            .zip(errors.par_chunks(part * dim))
            .map(|(views, errors)| {
                let mut gradients = vec![0.0; network.trained_range().len()];
                for (view, error) in views.iter_mut().zip(errors.chunks_exact(dim)) {
                    view.backward(network, head, &self.weights, error, &mut gradients);
                }
                gradients
            })
            .collect();
        let mut parts = parts.into_iter();
        let mut gradients = parts.next()?;
        parts.for_each(|part| gradients.iter_mut().zip(part).for_each(|(a, b)| *a += b));
        Some((loss, gradients))
    }

    /// Ends the stem's lesson where the stream was shorter than that.
    pub fn finish(&mut self) {
        let cut_short = self.counters.observed > 0 && self.counters.observed < self.counters.stem_samples;
        if cut_short || !self.spec.trains() {
            self.fold_stem();
        }
    }

    /// The feature of `sample`: sums over the cells of each pooled layer, [`Twin::feature_dim`] long.
    ///
    /// # Errors
    /// [`SampleError`].
    ///
    /// # Panics
    /// Where `out` is shorter than the feature.
    pub fn feature(&mut self, sample: &Sample, out: &mut [f32]) -> Result<(), SampleError> {
        store_sample(&self.spec, &self.network, sample, self.stored, &mut self.work)?;
        input_of(&self.spec, self.scales, self.stored, &mut self.input);
        self.view.set_input(&self.input);
        self.view.layers(&self.network, &self.weights);
        self.view.feature(&self.network, out);
        Ok(())
    }

    /// Length of a feature.
    pub fn feature_dim(&self) -> usize {
        self.network.feature_dim
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Samples taken in.
    pub fn observed(&self) -> u64 {
        self.counters.observed
    }

    /// Steps of the pretext.
    pub fn steps(&self) -> u64 {
        self.counters.steps
    }

    /// Loss of the first step, in nats; 0 before it.
    pub fn loss_first(&self) -> f32 {
        self.loss[0]
    }

    /// Running loss, in nats.
    pub fn loss_running(&self) -> f32 {
        self.loss[1]
    }
}

/// What the twin takes from its block: scales, one stored sample, and the replay buffer.
fn memory<'m>(
    spec: &Spec,
    network: &Network,
    arena: &mut Arena<'m>,
) -> (&'m mut [ChannelScale], &'m mut [u8], Option<Replay<'m>>) {
    let window = spec.input.kind == InputKind::Window;
    let frame = network.input.len() * if window { 2 } else { 1 };
    let scales = arena.take(scales_len(spec));
    let stored = arena.take(frame);
    let descriptor = network.descriptor_grid().len();
    let replay = network.heads.first().map(|head| {
        let (neighbours, per_step) = (network.neighbours(), head.pretext.samples_per_step);
        Replay::take(&spec.replay, neighbours, per_step, Lens { frame, descriptor, ..Lens::default() }, arena)
    });
    (scales, stored, replay)
}

/// The first layer pooled and narrowed to `i8` by its maximum.
fn describe(grid: &Grid, activations: &[f32]) -> Vec<i8> {
    let mut sums = vec![0.0; grid.len()];
    conv::pool(grid, activations, &mut sums);
    let largest = sums.iter().fold(f32::MIN_POSITIVE, |m, s| m.max(s.abs()));
    sums.iter().map(|s| (s / largest * 127.0).round() as i8).collect()
}

#[cfg(test)]
mod tests;
