//! One step of the pretext: views, forward, loss, backward, update. Split over lanes; the bits do not depend on how.

use super::{Counters, Did, Join, Learner, MAX_LANES, batch, tensor};
use crate::augment::signal::ChannelScale;
use crate::fixed::Seen;
use crate::fixed::random::Draws;
use crate::fixed::shift_for;
use crate::kernels::requantize;
use crate::net::arena::Arena;
use crate::net::backward::{self, BackwardSeen};
use crate::net::forward::{self, ForwardSeen, HeadActivations, Params, Scratch};
use crate::net::network::{MAX_TENSORS, Network};
use crate::net::spec::{OptimizerSpec, Spec};
use crate::net::update;
use crate::pretext::contrastive;
use crate::replay::{Pick, Replay};
use crate::sample::Seed;

/// One lane's share of a step: some consecutive views and everything to take them forward and back.
pub(super) struct Lane<'a> {
    first: usize,
    count: usize,
    /// Inputs of the views; one place only where the first layer is not trained.
    inputs: &'a mut [i8],
    activations: &'a mut [i8],
    head_inputs: &'a mut [i8],
    hidden: &'a mut [i8],
    embeddings: &'a mut [i32],
    errors: [&'a mut [i8]; 2],
    gradients: &'a mut [i32],
    scratch: Scratch<'a>,
    forward_seen: ForwardSeen,
    backward_seen: BackwardSeen,
}

/// All buffers of a step.
pub(super) struct StepBuffers<'a> {
    lanes: heapless::Vec<Lane<'a>, MAX_LANES>,
    /// Embeddings, then their gradient, of all views.
    embeddings: &'a mut [i32],
    /// Errors at the embeddings.
    errors: &'a mut [i8],
    loss: contrastive::Buffers<'a>,
}

impl<'a> StepBuffers<'a> {
    pub fn take(spec: &Spec, network: &Network, lanes: usize, arena: &mut Arena<'a>) -> Option<Self> {
        let contrastive = spec.contrastive.as_ref()?;
        let head = network.head?;
        let views = contrastive.batch * contrastive.views;
        let dim = network.embedding_dim();
        let lanes = lanes.min(views);
        let hidden = network.tensors[head.hidden].conv.filters;
        let trained = network.trained_range().len();
        let mut taken = heapless::Vec::new();
        for lane in 0..lanes {
            let (first, end) = (lane * views / lanes, (lane + 1) * views / lanes);
            let count = end - first;
            let kept = if network.first_trained == 0 { count } else { 1 };
            let lane = Lane {
                first,
                count,
                inputs: arena.take(kept * network.input.len()),
                activations: arena.take(count * network.activations_len),
                head_inputs: arena.take(count * head.grid.len()),
                hidden: arena.take(count * hidden),
                embeddings: arena.take(count * dim),
                errors: [arena.take(network.error_len()), arena.take(network.error_len())],
                gradients: arena.take(trained),
                scratch: Scratch::take(network, arena),
                forward_seen: ForwardSeen::default(),
                backward_seen: [Seen::default(); MAX_TENSORS],
            };
            // `lanes` was checked against MAX_LANES by the plan.
            let _ = taken.push(lane);
        }
        Some(StepBuffers {
            lanes: taken,
            embeddings: arena.take(views * dim),
            errors: arena.take(views * dim),
            loss: contrastive::Buffers::take(views, dim, arena),
        })
    }
}

/// What all lanes read.
struct Shared<'a, 'm> {
    spec: &'a Spec,
    network: &'a Network,
    params: Params<'a>,
    packed_back: &'a [i16],
    scales: &'a [ChannelScale],
    replay: &'a Replay<'m>,
    picks: &'a [Pick],
    seed: Seed,
    step: u64,
}

impl Lane<'_> {
    /// Makes view `local` of this lane and takes it forward to its embedding.
    fn forward(&mut self, shared: &Shared, local: usize) {
        let Shared { spec, network, .. } = *shared;
        let views = spec.contrastive.as_ref().map_or(1, |c| c.views);
        let number = self.first + local;
        let place = if network.first_trained == 0 { local } else { 0 };
        let input = &mut self.inputs[place * network.input.len()..][..network.input.len()];
        let stored = shared.replay.sample(shared.picks[number / views], number % views);
        batch::view_of(spec, shared.scales, stored, shared.seed, shared.step, number, input);
        let activations = &mut self.activations[local * network.activations_len..][..network.activations_len];
        let seen = forward::layers(network, shared.params, input, activations, &mut self.scratch);
        let mut out = head_activations(network, local, self.head_inputs, self.hidden, self.embeddings);
        let head = forward::head(network, shared.params, activations, &mut out, &mut self.scratch);
        self.forward_seen.merge(&ForwardSeen { head, ..seen });
    }

    /// Adds the gradients of view `local`, whose error at the embedding is in `errors`.
    fn backward(&mut self, shared: &Shared, errors: &[i8], local: usize) {
        let network = shared.network;
        let (number, dim) = (self.first + local, network.embedding_dim());
        let place = if network.first_trained == 0 { local } else { 0 };
        let view = backward::View {
            number,
            input: &self.inputs[place * network.input.len()..][..network.input.len()],
            activations: &self.activations[local * network.activations_len..][..network.activations_len],
            head: head_activations(network, local, self.head_inputs, self.hidden, self.embeddings),
        };
        let [a, b] = &mut self.errors;
        let mut buffers = backward::Buffers { errors: [&mut a[..], &mut b[..]], gradients: self.gradients };
        let seen = backward::view(
            network,
            shared.params,
            shared.packed_back,
            backward::Step { seed: shared.seed, number: shared.step },
            &view,
            &errors[number * dim..(number + 1) * dim],
            &mut buffers,
            &mut self.scratch,
        );
        self.backward_seen.iter_mut().zip(seen).for_each(|(a, b)| *a = a.merge(b));
    }
}

fn head_activations<'a>(
    network: &Network,
    local: usize,
    inputs: &'a mut [i8],
    hidden: &'a mut [i8],
    embeddings: &'a mut [i32],
) -> HeadActivations<'a> {
    let Some(head) = network.head else {
        return HeadActivations { input: &mut [], hidden: &mut [], embedding: &mut [] };
    };
    let width = network.tensors[head.hidden].conv.filters;
    let dim = network.embedding_dim();
    HeadActivations {
        input: &mut inputs[local * head.grid.len()..][..head.grid.len()],
        hidden: &mut hidden[local * width..][..width],
        embedding: &mut embeddings[local * dim..][..dim],
    }
}

/// Calls `f` on every lane, halving the work over `join`.
fn for_each_lane<J: Join>(join: &J, lanes: &mut [Lane], f: &(impl Fn(&mut Lane) + Sync)) {
    match lanes {
        [] => {}
        [lane] => f(lane),
        _ => {
            let (left, right) = lanes.split_at_mut(lanes.len() / 2);
            join.join(|| for_each_lane(join, left, f), || for_each_lane(join, right, f));
        }
    }
}

/// Step size now: falls linearly over the last third of a known stream, with the square root of its age on an
/// endless one; each lesson undone in a row halves it.
pub(crate) fn step_size(c: &Counters, o: &OptimizerSpec) -> u16 {
    let full = u64::from(o.step);
    let size = if c.horizon > 0 {
        let last_third = (c.horizon / 3).max(1);
        full * c.horizon.saturating_sub(c.steps).clamp(1, last_third) / last_third
    } else {
        /// Steps at full size on an endless stream.
        const FULL_STEPS: u64 = 4096;
        full * 64 / u64::from(crate::fixed::math::isqrt(4096 * c.steps.max(FULL_STEPS) / FULL_STEPS))
    };
    (size >> c.undone_in_a_row.min(6)).max(u64::from(o.floor)) as u16
}

impl Learner<'_> {
    /// Does what is due: one step of the pretext, or the end of a lesson. Call it until it is [`Did::Idle`].
    pub fn step(&mut self, join: &impl Join) -> Did {
        if self.lesson_is_over() {
            return self.end_lesson();
        }
        let Some(contrastive) = self.spec.contrastive.clone() else { return Did::Idle };
        if self.counters[0].credit < u64::from(contrastive.samples_per_step) {
            return Did::Idle;
        }
        self.counters[0].credit -= u64::from(contrastive.samples_per_step);
        let scratch = core::mem::take(&mut self.scratch);
        let trained = self.train(join, scratch);
        self.scratch = scratch;
        match trained {
            Some(loss) => Did::Trained { loss },
            None => Did::Idle,
        }
    }

    /// One step; the loss in 1/256 nat. `None` where there are not enough samples yet.
    fn train(&mut self, join: &impl Join, scratch: &mut [u8]) -> Option<u32> {
        let contrastive = self.spec.contrastive.as_ref()?;
        let counters = self.counters[0];
        let (seed, step) = (Seed(counters.seed), counters.steps);
        let mut picks: heapless::Vec<Pick, 1024> = heapless::Vec::new();
        for number in 0..contrastive.batch {
            picks.push(batch::pick_of(&self.spec, &self.replay, seed, step, number)?).ok()?;
        }
        let mut arena = Arena::over(scratch);
        let mut buffers = StepBuffers::take(&self.spec, &self.network, self.lanes, &mut arena)?;
        let dim = self.network.embedding_dim();
        let mut shifts = self.learning.shifts[0];

        // Forward; before the very first step one view sets all shifts.
        macro_rules! shared {
            () => {
                Shared {
                    spec: &self.spec,
                    network: &self.network,
                    params: Params { shifts: &shifts, ..self.learning.params() },
                    packed_back: self.packed_back,
                    scales: self.scales,
                    replay: &self.replay,
                    picks: &picks,
                    seed,
                    step,
                }
            };
        }
        let network = &self.network;
        if (0..network.layers.len()).any(|l| !shifts.layers[l].is_set() && !network.layers[l].dictionary)
            || !shifts.head[1].is_set()
        {
            let first = buffers.lanes.first_mut()?;
            first.forward(&shared!(), 0);
            follow_forward(&mut shifts, network, &core::mem::take(&mut first.forward_seen));
        }
        let reading = shared!();
        for_each_lane(join, &mut buffers.lanes, &|lane| {
            (0..lane.count).for_each(|local| lane.forward(&reading, local))
        });

        // Loss over all views.
        for lane in &buffers.lanes {
            let from = lane.first * dim;
            buffers.embeddings[from..from + lane.count * dim].copy_from_slice(lane.embeddings);
        }
        let loss = contrastive::nt_xent(
            buffers.embeddings,
            contrastive.views,
            contrastive.temperature_shift,
            &mut buffers.loss,
        );
        let shift = shift_for(requantize::largest(buffers.embeddings), 8);
        let draws = Draws::new(seed, step, tensor::EMBEDDING);
        requantize::random(buffers.embeddings, None, shift, draws, 0, buffers.errors);

        // Backward; before the very first step one view sets the error shifts.
        let errors = &*buffers.errors;
        if (network.first_trained + 1..network.tensors.len()).any(|t| !shifts.errors[t].is_set()) {
            let first = buffers.lanes.first_mut()?;
            first.backward(&shared!(), errors, 0);
            follow_backward(
                &mut shifts,
                network,
                &core::mem::replace(&mut first.backward_seen, [Seen::default(); MAX_TENSORS]),
            );
            first.gradients.fill(0);
        }
        let reading = shared!();
        for_each_lane(join, &mut buffers.lanes, &|lane| {
            (0..lane.count).for_each(|local| lane.backward(&reading, errors, local));
        });

        // Sum over lanes, then the update.
        let (first, others) = buffers.lanes.split_first_mut()?;
        for lane in others {
            first.gradients.iter_mut().zip(lane.gradients.iter()).for_each(|(a, b)| *a += b);
            first.forward_seen.merge(&lane.forward_seen);
            first.backward_seen.iter_mut().zip(lane.backward_seen).for_each(|(a, b)| *a = a.merge(b));
        }
        follow_forward(&mut shifts, network, &first.forward_seen);
        follow_backward(&mut shifts, network, &first.backward_seen);
        let all_seen = first.forward_seen.layers.iter().chain(&first.backward_seen);
        let clamped: u64 = all_seen.map(|s| u64::from(s.clamped)).sum();
        let narrowed = (contrastive.batch * contrastive.views * network.activations_len) as u64;
        let step_size = step_size(&self.counters[0], &self.spec.optimizer);
        let from = network.trained_range().start;
        for (number, t) in network.tensors.iter().enumerate().skip(network.first_trained) {
            let gradients = &first.gradients[t.weights - from..][..t.conv.weights()];
            let mut trained = update::Trained { masters: self.masters, momentum: self.momentum };
            update::tensor(network, number, gradients, &mut trained, step_size, seed, step);
        }
        self.learning.shifts[0] = shifts;
        self.narrow_masters();

        let c = &mut self.counters[0];
        if c.steps == 0 {
            c.loss_first = u64::from(loss);
            c.loss_running = u64::from(loss) << 4;
        }
        c.loss_running = (c.loss_running * 63 + (u64::from(loss) << 4)) / 64;
        c.steps += 1;
        c.lesson_progress += 1;
        c.clamped += clamped;
        c.narrowed += narrowed;
        Some(loss)
    }
}

/// Lets the forward shifts follow what a step saw.
pub(super) fn follow_forward(shifts: &mut forward::Shifts, network: &Network, seen: &ForwardSeen) {
    for ((shift, seen), layer) in shifts.layers.iter_mut().zip(&seen.layers).zip(&network.layers) {
        // A stem that is not trained any more keeps the shift that it was published with.
        if !layer.dictionary {
            shift.follow(*seen);
        }
    }
    shifts.head.iter_mut().zip(&seen.head).for_each(|(shift, seen)| shift.follow(*seen));
}

fn follow_backward(shifts: &mut forward::Shifts, network: &Network, seen: &BackwardSeen) {
    let trained = network.first_trained + 1..network.tensors.len();
    shifts.errors[trained.clone()].iter_mut().zip(&seen[trained]).for_each(|(shift, seen)| shift.follow(*seen));
}
