//! One step of masked or denoising reconstruction: the newest sample, and others from the replay buffer, one after
//! another. At batch 1 each tensor is updated as soon as its gradient is known, in the memory of one.

use super::step::step_size;
use super::{Learner, batch, tensor};
use crate::augment::signal::{self, ChannelScale};
use crate::fixed::random::Draws;
use crate::fixed::{LaggedShift, Seen};
use crate::net::arena::Arena;
use crate::net::backward::{self, BackwardSeen};
use crate::net::forward::{self, ForwardSeen, Params, Scratch, Shifts};
use crate::net::head::Head;
use crate::net::network::Network;
use crate::net::spec::{Spec, ViewSpec};
use crate::net::update;
use crate::pretext::denoise::{self, Mask, Rebuild};
use crate::replay::Pick;
use crate::sample::Seed;

/// Buffers of a step.
pub(super) struct Buffers<'a> {
    /// Two error maps. The first holds the clean window, then the errors at the decoder.
    errors: [&'a mut [i8]; 2],
    /// The masked window.
    input: &'a mut [i8],
    activations: &'a mut [i8],
    /// Of all trained weights, or at batch 1 of the largest tensor.
    gradients: &'a mut [i32],
    scratch: Scratch<'a>,
}

impl<'a> Buffers<'a> {
    pub fn take(network: &Network, head: &Head, arena: &mut Arena<'a>) -> Option<Self> {
        let trained = network.chain(head).map(|t| network.tensors[t].conv.weights());
        let gradients = if head.pretext.batch == 1 { trained.max()? } else { network.trained_range().len() };
        let (window, errors) = (network.input.len(), network.error_len());
        Some(Buffers {
            errors: [arena.take(window.max(errors)), arena.take(errors)],
            input: arena.take(window),
            activations: arena.take(network.step_len()),
            gradients: arena.take(gradients),
            scratch: Scratch::take_for_step(network, 1, arena),
        })
    }
}

/// What one pass over a step's samples found.
#[derive(Default)]
struct Found {
    forward: ForwardSeen,
    backward: BackwardSeen,
    errors: Seen,
    /// Mean squares of the errors of each sample, summed.
    squares: u64,
    /// What the shifts of the decoder would be by the last sample alone.
    exact: [u32; 2],
}

/// What a pass reads.
struct Shared<'a> {
    spec: &'a Spec,
    network: &'a Network,
    head: &'a Head,
    params: Params<'a>,
    scales: &'a [ChannelScale],
    seed: Seed,
    step: u64,
}

impl Shared<'_> {
    /// The clean view of a stored sample into `window`, and the masked one into `input`.
    fn view(&self, stored: &[u8], number: usize, window: &mut [i8], input: &mut [i8]) -> Mask {
        let readings = bytemuck::cast_slice(stored);
        let map = self.network.input;
        // What is to be rebuilt has no noise and no mask of its own.
        let clean = ViewSpec { noise: 0, mask: 0, ..self.spec.views.clone() };
        let draws = Draws::new(self.seed, self.step, tensor::VIEW + number as u32);
        signal::view(&clean, &self.spec.input, self.scales, readings, map, draws, window);
        let draws = Draws::new(self.seed, self.step, tensor::MASK + number as u32);
        let mask = Mask::new(&self.head.pretext, map.channels, draws);
        mask.corrupt(&self.head.pretext, window, input);
        mask
    }

    /// Takes a view forward to its errors, which then stand in place of the clean window; adds to `found`.
    fn forward(&self, stored: &[u8], number: usize, b: &mut Buffers, found: &mut Found) {
        let Shared { network, head, params, .. } = *self;
        let window = &mut b.errors[0][..network.input.len()];
        let mask = self.view(stored, number, window, b.input);
        found.forward.merge(&forward::layers(network, params, b.input, b.activations, &mut b.scratch));
        // The decoder's shifts, where they are not known yet, are found by taking its sums once before.
        let [mut prediction, mut error, ..] = params.shifts.heads[head.number];
        if !prediction.is_set() {
            let mut measure = Rebuild::new(window, mask, 0, None);
            forward::decode(network, params, head, b.activations, &mut measure, &mut b.scratch);
            prediction = LaggedShift::at(measure.first_prediction_shift());
        }
        if !error.is_set() {
            let mut measure = Rebuild::new(window, mask, prediction.get(), None);
            forward::decode(network, params, head, b.activations, &mut measure, &mut b.scratch);
            error = LaggedShift::at(measure.exact_error_shift());
        }
        found.exact = [prediction.get(), error.get()];
        let draws = Draws::new(self.seed, self.step, tensor::EMBEDDING + number as u32);
        let mut rebuild = Rebuild::new(window, mask, prediction.get(), Some((error.get(), draws)));
        forward::decode(network, params, head, b.activations, &mut rebuild, &mut b.scratch);
        found.squares += rebuild.mean_square();
        found.errors = found.errors.merge(rebuild.seen());
    }
}

/// Whether everything that a step narrows has its shift.
fn all_set(network: &Network, head: &Head, shifts: &Shifts) -> bool {
    let layers = network.layers.iter().zip(&shifts.layers);
    layers.filter(|(layer, _)| !layer.dictionary).all(|(_, shift)| shift.is_set())
        && shifts.heads[head.number][..2].iter().all(|shift| shift.is_set())
        && network.chain(head).all(|t| t == network.first_trained || shifts.errors[t].is_set())
}

/// Whether shifts may fall at step or sample `number`: a stretch in which little happens is not to be learned from, and
/// not to be seen, as if much did.
pub(super) const fn may_fall(number: u64) -> bool {
    number.is_multiple_of(256)
}

/// Lets the shifts follow what a step found; `number`: the step's.
fn follow(shifts: &mut Shifts, network: &Network, head: &Head, found: &Found, number: u64) {
    let fall = may_fall(number);
    for ((shift, seen), layer) in shifts.layers.iter_mut().zip(&found.forward.layers).zip(&network.layers) {
        if !layer.dictionary {
            shift.follow_slowly(*seen, fall);
        }
    }
    for tensor in network.chain(head).filter(|&t| t > network.first_trained) {
        shifts.errors[tensor].follow_slowly(found.backward[tensor], fall);
    }
    shifts.heads[head.number][1].follow_slowly(found.errors, fall);
}

impl Learner<'_> {
    /// One step; the loss in 1/256 nat. `None` where the replay buffer is still empty.
    pub(super) fn rebuild(&mut self, head: usize, scratch: &mut [u8]) -> Option<u32> {
        let head = &self.network.heads[head];
        let samples = head.pretext.batch;
        let counters = self.counters[0];
        let (seed, number) = (Seed(counters.seed), counters.steps);
        let mut buffers = Buffers::take(&self.network, head, &mut Arena::reusing(scratch))?;
        let mut shifts = self.learning.shifts[0];
        let (network, from) = (&self.network, self.network.trained_range().start);
        let step_size = step_size(&counters, &self.spec.optimizer);
        let mut halved = 0;
        let stored_len = self.stored_len();
        let masters = &mut *self.masters;
        let mut update = |tensor: usize, gradients: &[i32]| {
            let draws = Draws::new(seed, number, update::gradient_tensor(tensor));
            let done = update::tensor_plainly(network, tensor, gradients, masters, step_size, draws);
            halved += i32::from(done.halved);
        };

        // Before the very first step one pass, from which nothing is learned, sets all shifts.
        let found = loop {
            let learns = all_set(network, head, &shifts);
            let shared = Shared {
                spec: &self.spec,
                network,
                head,
                params: Params { shifts: &shifts, ..self.learning.params() },
                scales: self.scales,
                seed,
                step: number,
            };
            let mut found = Found::default();
            buffers.gradients.fill(0);
            for sample in 0..samples {
                let stored = match sample {
                    0 => &self.stored[..stored_len],
                    _ => self.replay.sample(batch::drawn(&self.replay, seed, number, sample)?, 0),
                };
                shared.forward(stored, sample, &mut buffers, &mut found);
                let Buffers { errors: [a, b], input, activations, gradients, scratch } = &mut buffers;
                let group = backward::Group {
                    number: sample,
                    count: 1,
                    inputs: input,
                    activations,
                    head_inputs: &[],
                    inner: Default::default(),
                };
                let mut none = |_: usize, _: &[i32]| {};
                let one_at_a_time: Option<backward::EachGradient> = match (samples, learns) {
                    (1, true) => Some(&mut update),
                    (1, false) => Some(&mut none),
                    _ => None,
                };
                let mut buffers = backward::Buffers { errors: [&mut a[..], &mut b[..]], gradients, one_at_a_time };
                let step = backward::Step { seed, number };
                let (params, packed) = (shared.params, &*self.packed_back);
                let seen = backward::group(network, params, packed, head, step, &group, &[], &mut buffers, scratch);
                found.backward.iter_mut().zip(seen).for_each(|(a, b)| *a = a.merge(b));
            }
            let before = shifts;
            follow(&mut shifts, network, head, &found, number);
            if learns {
                denoise::keep_prediction(network, head, &before, &mut shifts);
                break found;
            }
            let [prediction, error] = found.exact.map(LaggedShift::at);
            shifts.heads[head.number][..2].copy_from_slice(&[prediction, error]);
        };
        if samples > 1 {
            for tensor in network.chain(head) {
                let t = &network.tensors[tensor];
                update(tensor, &buffers.gradients[t.weights - from..][..t.conv.weights()]);
            }
        }
        // A tensor of half the weights gives half the sums.
        denoise::move_prediction(head, &mut shifts, -halved);
        self.learning.shifts[0] = shifts;
        self.narrow_masters();
        let loss = denoise::loss(found.squares / samples as u64);
        let clamped = found.forward.layers.iter().chain(&found.backward).map(|s| u64::from(s.clamped)).sum();
        let narrowed = (samples * self.network.step_len()) as u64;
        self.count_step(loss, clamped, narrowed);
        Some(loss)
    }

    /// Loss of `head` on canaries by the encoder `params`, through the masks of one step.
    pub(super) fn rebuild_loss(
        &self,
        head: &Head,
        params: Params,
        step: u64,
        canaries: impl ExactSizeIterator<Item = Pick>,
        b: &mut LossBuffers,
    ) -> u32 {
        let (network, seed, count) = (&self.network, Seed(self.counters[0].seed), canaries.len());
        let shared = Shared { spec: &self.spec, network, head, params, scales: self.scales, seed, step };
        let mut squares = 0;
        for (number, pick) in canaries.enumerate() {
            let mask = shared.view(self.replay.sample(pick, 0), number, b.window, b.input);
            forward::layers(network, params, b.input, b.activations, b.scratch);
            let mut measure = Rebuild::new(b.window, mask, params.shifts.heads[head.number][0].get(), None);
            forward::decode(network, params, head, b.activations, &mut measure, b.scratch);
            squares += measure.mean_square();
        }
        denoise::loss(squares / count.max(1) as u64)
    }
}

/// Buffers for measuring the loss alone.
pub(super) struct LossBuffers<'b, 'm> {
    pub window: &'b mut [i8],
    pub input: &'b mut [i8],
    pub activations: &'b mut [i8],
    pub scratch: &'b mut Scratch<'m>,
}
