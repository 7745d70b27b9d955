//! One step of the pretext: views, forward, loss, backward, update. Split over lanes; the bits do not depend on how.

use core::ops::Range;

use super::lanes::{self, Sums};
use super::rebuild::keep_rebuilt;
use super::{Counters, Did, Join, Learner, MAX_LANES, batch, tensor};
use crate::augment::signal::ChannelScale;
use crate::fixed::random::Draws;
use crate::fixed::shift_for;
use crate::guard;
use crate::kernels::narrow::{self, Random};
use crate::net::arena::Arena;
use crate::net::backward::{self, EachGradient};
use crate::net::forward::{self, ForwardSeen, HeadActivations, Params, Scratch};
use crate::net::head::{Head, MAX_HEAD_TENSORS};
use crate::net::network::Network;
use crate::net::spec::{OptimizerSpec, Spec};
use crate::net::task::Pretext;
use crate::net::update;
use crate::pretext::objective;
use crate::replay::Replay;
use crate::sample::Seed;

/// What a step does not keep, to save memory. The bits do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thrift {
    /// Everything is kept.
    None,
    /// Views are taken forward again, one by one, for the backward pass: inputs and activations have one place.
    Activations,
    /// Each tensor is updated as soon as all views have given their part: there is room for the gradient of one.
    Gradients,
}

/// One lane's share of a step: some consecutive views and everything to take them forward and back.
pub(super) struct Lane<'a> {
    first: usize,
    count: usize,
    thrift: Thrift,
    /// Inputs of the views; one place only where nothing trained reads them.
    inputs: &'a mut [i8],
    activations: &'a mut [i8],
    head_inputs: &'a mut [i8],
    /// Inner layers of the head, one of all views after the other.
    inner: &'a mut [i8],
    embeddings: &'a mut [i32],
    errors: [&'a mut [i8]; 2],
    sums: Sums<'a>,
    scratch: Scratch<'a>,
}

/// All buffers of a step.
pub(super) struct StepBuffers<'a> {
    lanes: heapless::Vec<Lane<'a>, MAX_LANES>,
    /// Embeddings, then their gradient, of all views.
    embeddings: &'a mut [i32],
    /// Where something is foretold: the narrowed embeddings of all views.
    targets: &'a mut [i8],
    /// Errors at the embeddings.
    errors: &'a mut [i8],
    loss: objective::Buffers<'a>,
}

impl<'a> StepBuffers<'a> {
    /// Takes the buffers; `lean`: in the way that needs the least memory.
    pub fn take(network: &Network, head: &Head, lanes: usize, lean: bool, arena: &mut Arena<'a>) -> Option<Self> {
        let bytes = |thrift| {
            let mut arena = Arena::counting();
            Self::take_as(network, head, lanes, thrift, &mut arena);
            arena.used()
        };
        // Only one lane that takes all its views at once has the whole gradient of a tensor.
        let at_once = lanes == 1 && network.wide_len == 0;
        let thrift = match lean {
            false => Thrift::None,
            true if at_once && bytes(Thrift::Gradients) < bytes(Thrift::Activations) => Thrift::Gradients,
            true => Thrift::Activations,
        };
        Self::take_as(network, head, lanes, thrift, arena)
    }

    fn take_as(network: &Network, head: &Head, lanes: usize, thrift: Thrift, arena: &mut Arena<'a>) -> Option<Self> {
        let (views, dim) = (head.pretext.rows(), network.embedding_dim(head));
        let lanes = lanes.min(views);
        let gradients = match thrift {
            Thrift::Gradients => network.tensors.iter().filter(|t| t.trained).map(|t| t.conv.weights()).max()?,
            _ => network.trained_range().len(),
        };
        let mut taken = heapless::Vec::new();
        for lane in 0..lanes {
            let (first, end) = (lane * views / lanes, (lane + 1) * views / lanes);
            let count = end - first;
            let (places, group) = match thrift {
                Thrift::None => (count, count.min(network.views_at_a_time)),
                Thrift::Activations => (1, 1),
                Thrift::Gradients => (count, count),
            };
            let lane = Lane {
                first,
                count,
                thrift,
                inputs: arena.take(if network.trains_base() { places } else { 1 } * network.base_input().len()),
                activations: arena.take(places * network.step_len()),
                head_inputs: arena.take(count * head.input_len()),
                inner: arena.take(count * network.inner_len(head)),
                embeddings: arena.take(count * dim),
                errors: [arena.take(group * network.error_len()), arena.take(group * network.error_len())],
                sums: Sums::take(network, gradients, arena),
                scratch: Scratch::take_for_step(network, group.max(network.views_at_a_time), arena),
            };
            // `lanes` was checked against MAX_LANES by the plan.
            let _ = taken.push(lane);
        }
        Some(StepBuffers {
            lanes: taken,
            embeddings: arena.take(views * dim),
            targets: arena.take(if head.pretext.task.predicts() { views * dim } else { 0 }),
            errors: arena.take(views * dim),
            loss: objective::Buffers::take(&head.pretext, views, dim, arena),
        })
    }
}

impl StepBuffers<'_> {
    /// Copies the embeddings of all views from their lanes.
    fn gather_embeddings(&mut self, dim: usize) {
        for lane in &self.lanes {
            let from = lane.first * dim;
            self.embeddings[from..from + lane.count * dim].copy_from_slice(lane.embeddings);
        }
    }

    /// Copies what predictions are compared with from the lanes.
    fn gather_targets(&mut self, network: &Network, head: &Head, dim: usize) {
        for lane in self.lanes.iter().filter(|_| head.pretext.task.predicts()) {
            let [_, narrowed, _] = inner_of(network, head, lane.inner, lane.count, 0..lane.count);
            self.targets[lane.first * dim..][..narrowed.len()].copy_from_slice(narrowed);
        }
    }
}

/// What all lanes read.
struct Shared<'a, 'm> {
    spec: &'a Spec,
    network: &'a Network,
    head: &'a Head,
    params: Params<'a>,
    packed_back: &'a [i16],
    scales: &'a [ChannelScale],
    replay: &'a Replay<'m>,
    seed: Seed,
    step: u64,
}

impl Lane<'_> {
    /// Where the activations of view `local` of this lane stand.
    fn place(&self, local: usize) -> usize {
        if self.thrift == Thrift::Activations { 0 } else { local }
    }

    /// Makes view `local` of this lane and takes it forward to the activations of its layers.
    fn layers(&mut self, shared: &Shared, local: usize) -> ForwardSeen {
        let Shared { spec, network, head, .. } = *shared;
        let views = head.pretext.views;
        let (number, place) = (self.first + local, self.place(local));
        let (input_len, step_len) = (network.base_input().len(), network.step_len());
        let input_place = if network.trains_base() { place } else { 0 };
        let input = &mut self.inputs[input_place * input_len..][..input_len];
        // `train` has seen that there is one.
        let pick = batch::pick_of(spec, shared.replay, shared.seed, shared.step, number / views);
        let Some(pick) = pick else { return ForwardSeen::default() };
        let stored = shared.replay.sample(pick, number % views);
        if network.base > 0 {
            input.copy_from_slice(bytemuck::cast_slice(stored));
        } else {
            batch::view_of(spec, &head.pretext, shared.scales, stored, shared.seed, shared.step, number, input);
        }
        let activations = &mut self.activations[place * step_len..][..step_len];
        forward::layers(network, shared.params, input, activations, &mut self.scratch)
    }

    /// Makes the first `count` views of this lane and takes them forward to their embeddings.
    fn forward(&mut self, shared: &Shared, count: usize) {
        let Shared { network, head, .. } = *shared;
        let pooled_len = head.input_len();
        for local in 0..count {
            let mut seen = self.layers(shared, local);
            let activations = &self.activations[self.place(local) * network.step_len()..];
            let pooled = &mut self.head_inputs[local * pooled_len..][..pooled_len];
            seen.head[0] = forward::pool(network, shared.params, head, activations, pooled, &mut self.scratch);
            self.sums.forward.merge(&seen);
        }
        let mut at = HeadActivations {
            input: &mut self.head_inputs[..count * pooled_len],
            inner: self.inner,
            top: self.embeddings,
        };
        let head = forward::head(network, shared.params, head, &mut at, &mut self.scratch);
        self.sums.forward.merge(&ForwardSeen { head, ..Default::default() });
    }

    /// Adds the gradients of the first `count` views, whose errors at the embeddings are in `errors`.
    ///
    /// With [`Thrift::Gradients`], `each` gets the gradient of every tensor in turn.
    fn backward(&mut self, shared: &Shared, errors: &[i8], count: usize, each: EachGradient) {
        let Shared { network, head, .. } = *shared;
        let (dim, pooled_len) = (network.embedding_dim(head), head.input_len());
        let most = match self.thrift {
            Thrift::None => network.views_at_a_time,
            Thrift::Activations => 1,
            Thrift::Gradients => count,
        };
        for first in (0..count).step_by(most) {
            if self.thrift == Thrift::Activations {
                // By the shifts of the first time: the same bits.
                self.layers(shared, first);
            }
            let number = self.first + first;
            let count = most.min(count - first);
            let place = self.place(first);
            let inputs = if network.trains_base() { place * network.base_input().len() } else { 0 };
            let group = backward::Group {
                number,
                count,
                inputs: &self.inputs[inputs..],
                activations: &self.activations[place * network.step_len()..],
                head_inputs: &self.head_inputs[first * pooled_len..][..count * pooled_len],
                inner: inner_of(network, head, self.inner, self.count, first..first + count),
            };
            let [a, b] = &mut self.errors;
            let one_at_a_time: Option<EachGradient> =
                if self.thrift == Thrift::Gradients { Some(&mut *each) } else { None };
            let errors_of_maps = [&mut a[..], &mut b[..]];
            let gradients = &mut *self.sums.gradients;
            let mut buffers = backward::Buffers { errors: errors_of_maps, gradients, one_at_a_time, code: None };
            let seen = backward::group(
                network,
                shared.params,
                shared.packed_back,
                head,
                backward::Step { seed: shared.seed, number: shared.step },
                &group,
                &errors[number * dim..(number + count) * dim],
                &mut buffers,
                &mut self.scratch,
            );
            self.sums.note_backward(network, head, &seen);
        }
    }
}

/// The inner layers of a head for some of the `all` views that stand in `inner`.
fn inner_of<'a>(
    network: &Network,
    head: &Head,
    inner: &'a [i8],
    all: usize,
    views: Range<usize>,
) -> [&'a [i8]; MAX_HEAD_TENSORS - 1] {
    let mut layers: [&[i8]; MAX_HEAD_TENSORS - 1] = [&[]; MAX_HEAD_TENSORS - 1];
    let mut from = 0;
    for (layer, tensor) in layers.iter_mut().zip(head.inner()) {
        let width = network.tensors[tensor].conv.filters;
        *layer = &inner[from + views.start * width..from + views.end * width];
        from += all * width;
    }
    layers
}

/// Numbers that the loss of `head` keeps from step to step.
fn own_objective_len(network: &Network, head: &Head) -> usize {
    if head.pretext.task.rebuilds() { 0 } else { objective::state_len(&head.pretext, network.embedding_dim(head)) }
}

/// Numbers that all losses keep.
pub(crate) fn objective_len(network: &Network) -> usize {
    network.heads.iter().map(|head| own_objective_len(network, head)).sum()
}

/// Those of `head`.
pub(crate) fn objective_range(network: &Network, head: &Head) -> Range<usize> {
    let from = network.heads[..head.number].iter().map(|head| own_objective_len(network, head)).sum();
    from..from + own_objective_len(network, head)
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
    ///
    /// Where there are canaries, what it starts from is checked against what the last step left.
    pub fn step(&mut self, join: &impl Join) -> Did {
        if self.frozen().is_some() {
            return Did::Idle;
        }
        if self.lesson_is_over() {
            return self.end_lesson();
        }
        let Some(head) = self.network.due(self.counters[0].steps) else { return Did::Idle };
        let Pretext { task, samples_per_step, .. } = head.pretext;
        let (number, samples) = (head.number, samples_per_step as u64);
        if self.counters[0].credit < samples {
            return Did::Idle;
        }
        if let Some(did) = self.mend(false) {
            return did;
        }
        self.counters[0].credit -= samples;
        let scratch = core::mem::take(&mut self.scratch);
        let trained =
            if task.rebuilds() { self.rebuild(number, join, scratch) } else { self.train(number, join, scratch) };
        self.scratch = scratch;
        self.seal_learning();
        match trained {
            Some(loss) => Did::Trained { loss },
            None => Did::Idle,
        }
    }

    /// One step; the loss in 1/256 nat. `None` where there are not enough samples yet.
    // Its frame is not to be carried where no pretext is trained.
    #[inline(never)]
    fn train(&mut self, head: usize, join: &impl Join, scratch: &mut [u8]) -> Option<u32> {
        let network = &self.network;
        let head = &network.heads[head];
        let pretext = head.pretext;
        let counters = self.counters[0];
        let (seed, step) = (Seed(counters.seed), counters.steps);
        for number in 0..pretext.batch {
            batch::pick_of(&self.spec, &self.replay, seed, step, number)?;
        }
        let mut arena = Arena::reusing(scratch);
        let mut buffers = StepBuffers::take(network, head, self.lanes, self.lean, &mut arena)?;
        buffers.lanes.iter_mut().for_each(|lane| lane.sums.clear());
        let dim = network.embedding_dim(head);
        let before = self.learning.shifts[0];
        let mut shifts = before;

        // Forward; before the very first step one view sets all shifts.
        macro_rules! shared {
            () => {
                Shared {
                    spec: &self.spec,
                    network,
                    head,
                    params: Params { shifts: &shifts, ..self.learning.params() },
                    packed_back: self.packed_back,
                    scales: self.scales,
                    replay: &self.replay,
                    seed,
                    step,
                }
            };
        }
        if (network.base..network.layers.len()).any(|l| !shifts.layers[l].is_set() && !network.layers[l].dictionary)
            || !shifts.heads[head.number][1].is_set()
        {
            let first = buffers.lanes.first_mut()?;
            first.forward(&shared!(), 1);
            follow_forward(&mut shifts, network, head, &core::mem::take(&mut first.sums.forward));
        }
        let reading = shared!();
        lanes::for_each(join, &mut buffers.lanes, &|lane| lane.forward(&reading, lane.count));

        // Loss over all views.
        buffers.gather_embeddings(dim);
        buffers.gather_targets(network, head, dim);
        let loss = objective::loss(
            network.kernels,
            &pretext,
            buffers.embeddings,
            buffers.targets,
            &mut self.objective[objective_range(network, head)],
            true,
            &mut buffers.loss,
        );
        let shift = shift_for(narrow::largest(buffers.embeddings), 8);
        let draws = Draws::new(seed, step, tensor::EMBEDDING);
        narrow::feed(buffers.embeddings, &mut Random::new(shift, draws, 0, None, buffers.errors));
        // Where nobody judges lessons, the embeddings of the last step tell of their health.
        if !network.judged && counters.lesson_progress + 1 == u64::from(self.spec.guard.lesson_steps) {
            buffers.gather_embeddings(dim);
            let (effective_rank, spread) = guard::rank_and_spread(buffers.embeddings, dim);
            self.health[0] = [effective_rank, spread, 0, 0];
        }

        // Backward; before the very first step one view sets the error shifts.
        let errors = &*buffers.errors;
        if network.chain(head).any(|t| t > network.first_trained && !shifts.errors[t].is_set()) {
            let first = buffers.lanes.first_mut()?;
            first.backward(&shared!(), errors, 1, &mut |_, _| {});
            lanes::follow_backward(&mut shifts, network, head, &first.sums.backward, true);
            let forward = first.sums.forward;
            first.sums.clear();
            first.sums.forward = forward;
        }
        let step_size = step_size(&self.counters[0], &self.spec.optimizer);
        let mut trained = update::Trained { masters: self.masters, momentum: self.momentum };
        let mut halved = 0;
        let mut update = |number: usize, gradients: &[i32]| {
            let done = update::tensor(network, number, gradients, &mut trained, step_size, seed, step);
            halved += i32::from(done.halved && number < head.tensors.start);
        };
        let reading = shared!();
        let at_once = buffers.lanes.first().is_some_and(|lane| lane.thrift == Thrift::Gradients);
        match &mut buffers.lanes[..] {
            // The 8-bit weights that the errors go back through change only after the step.
            [lane] => lane.backward(&reading, errors, lane.count, &mut update),
            lanes => lanes::for_each(join, lanes, &|lane| lane.backward(&reading, errors, lane.count, &mut |_, _| {})),
        }

        // Sum over lanes, then the update.
        let (first, others) = buffers.lanes.split_first_mut()?;
        others.iter().for_each(|lane| first.sums.add(&lane.sums));
        first.sums.narrow(network, head);
        follow_forward(&mut shifts, network, head, &first.sums.forward);
        lanes::follow_backward(&mut shifts, network, head, &first.sums.backward, true);
        let clamped = first.sums.clamped();
        let narrowed = (pretext.rows() * network.step_len()) as u64;
        if !at_once {
            first.sums.for_each_tensor(network, head, &mut update);
        }
        keep_rebuilt(network, &before, &mut shifts, halved);
        self.learning.shifts[0] = shifts;
        self.narrow_masters();
        self.count_step(loss, clamped, narrowed);
        Some(loss)
    }

    /// `clamped`: see [`Sums::clamped`].
    pub(super) fn count_step(&mut self, loss: u32, clamped: [[u64; 2]; 2], narrowed: u64) {
        if let Some(record) = self.record.first_mut() {
            for (sums, now) in [&mut record.activations, &mut record.errors].into_iter().zip(clamped) {
                sums.iter_mut().zip(now).for_each(|(sum, now)| *sum += now);
            }
        }
        let c = &mut self.counters[0];
        if c.steps == 0 {
            c.loss_first = u64::from(loss);
            c.loss_running = u64::from(loss) << 4;
        }
        c.loss_running = (c.loss_running * 63 + (u64::from(loss) << 4)) / 64;
        c.steps += 1;
        c.lesson_progress += 1;
        c.clamped += clamped[0][0] + clamped[1][0];
        c.narrowed += narrowed;
    }
}

/// Lets the forward shifts follow what a step of `head` saw.
fn follow_forward(shifts: &mut forward::Shifts, network: &Network, head: &Head, seen: &ForwardSeen) {
    lanes::follow_layers(shifts, network, seen, true);
    let inner = head.tensors.len();
    shifts.heads[head.number].iter_mut().zip(&seen.head).take(inner).for_each(|(shift, seen)| shift.follow(*seen));
}
