//! One step of a task that rebuilds: the newest sample, and others from the replay buffer, each by itself, as no loss goes
//! across them. At batch 1 each tensor is updated as soon as its gradient is known, in the memory of one.

use super::lanes::{self, Sums};
use super::step::step_size;
use super::{Join, Learner, MAX_LANES, batch, tensor};
use crate::augment::signal::ChannelScale;
use crate::fixed::random::Draws;
use crate::fixed::{LaggedShift, Seen, shift_for};
use crate::kernels::narrow::{self, Keep, Sink};
use crate::net::arena::Arena;
use crate::net::backward;
use crate::net::forward::{self, Params, Scratch, Shifts};
use crate::net::head::{Head, MAX_HEAD_TENSORS};
use crate::net::network::Network;
use crate::net::spec::{InputKind, Spec, ViewSpec};
use crate::net::task::Task;
use crate::net::update;
use crate::pretext::code::{Code, Coded, WayBack, decode, shift};
use crate::pretext::denoise::{self, Rebuild};
use crate::pretext::inpaint::{self, Mask, Patches};
use crate::pretext::masked_token::{self, Told};
use crate::pretext::variational;
use crate::replay::{Pick, Replay};
use crate::sample::Seed;

/// Samples from which on a step's gradient is taken as momentum and sign, as those of the other tasks are; of fewer it is
/// descended plainly.
pub(crate) const ENOUGH_FOR_SIGNS: usize = 8;

/// The memory of one lane.
pub(super) struct Lane<'a> {
    first: usize,
    count: usize,
    /// Two error maps. The first holds the clean numbers in the decoder's order, then the errors at its sums.
    errors: [&'a mut [i8]; 2],
    /// The masked view.
    input: &'a mut [i8],
    activations: &'a mut [i8],
    sums: Sums<'a>,
    code: Code<'a>,
    /// Of codes: the decoder's scores.
    scores: &'a mut [i32],
    scratch: Scratch<'a>,
    found: Found,
}

/// What a lane found, beside its sums.
#[derive(Clone, Copy, Default)]
struct Found {
    errors: Seen,
    map: Seen,
    /// Mean squares of the errors of each sample, and divergences of the codes in 1/256 nat, summed.
    squares: u64,
    divergence: u64,
    /// Of codes that were asked for.
    told: Told,
    /// What the head's shifts would be by the last sample alone.
    exact: [u32; MAX_HEAD_TENSORS],
}

impl Found {
    fn add(&mut self, other: &Found) {
        self.errors = self.errors.merge(other.errors);
        self.map = self.map.merge(other.map);
        self.squares += other.squares;
        self.divergence += other.divergence;
        self.told.add(other.told);
        self.exact = other.exact;
    }

    /// Loss of so many samples in 1/256 nat: for each number that is rebuilt, with its share of the code's divergence.
    fn loss(&self, samples: usize, network: &Network) -> u32 {
        if let Some(mean) = self.told.loss.checked_div(self.told.asked) {
            return mean as u32;
        }
        let samples = samples.max(1) as u64;
        denoise::loss(self.squares / samples) + (self.divergence / (samples * network.input.len() as u64)) as u32
    }
}

impl<'a> Lane<'a> {
    /// Of `count` samples of a step of `head`.
    pub fn take(network: &Network, head: &Head, first: usize, count: usize, arena: &mut Arena<'a>) -> Option<Self> {
        let trained = network.chain(head).map(|t| network.tensors[t].conv.weights());
        let gradients = if head.pretext.batch == 1 { trained.max()? } else { network.trained_range().len() };
        let (window, errors) = (network.rebuilt_len(head), network.error_len());
        Some(Lane {
            first,
            count,
            errors: [arena.take(window.max(errors)), arena.take(errors)],
            input: arena.take(network.input.len()),
            activations: arena.take(network.step_len()),
            sums: Sums::take(network, gradients, arena),
            code: Code::take(network, head, arena),
            scores: arena.take(network.scores_len(head)),
            scratch: Scratch::take_for_step(network, 1, arena),
            found: Found::default(),
        })
    }

    /// The buffers that take one view forward.
    pub fn way(&mut self) -> Way<'_, 'a> {
        let Lane { errors: [first, _], input, activations, code, scores, scratch, .. } = self;
        Way { clean: first, input, activations, code, scores, scratch }
    }

    /// All lanes of a step.
    pub fn take_all(
        network: &Network,
        head: &Head,
        lanes: usize,
        arena: &mut Arena<'a>,
    ) -> Option<heapless::Vec<Self, MAX_LANES>> {
        let samples = head.pretext.batch;
        let lanes = lanes.min(samples);
        // `lanes` was checked against MAX_LANES by the plan.
        (0..lanes)
            .map(|lane| {
                let (first, end) = (lane * samples / lanes, (lane + 1) * samples / lanes);
                Self::take(network, head, first, end - first, arena)
            })
            .collect()
    }
}

/// Buffers that take one view forward.
pub(crate) struct Way<'b, 'm> {
    /// The clean numbers in the decoder's order; the errors at its sums, once they are narrowed.
    pub clean: &'b mut [i8],
    pub input: &'b mut [i8],
    pub activations: &'b mut [i8],
    pub code: &'b mut Code<'m>,
    pub scores: &'b mut [i32],
    pub scratch: &'b mut Scratch<'m>,
}

/// What all lanes read.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub spec: &'a Spec,
    pub network: &'a Network,
    pub head: &'a Head,
    pub params: Params<'a>,
    pub packed_back: &'a [i16],
    pub scales: &'a [ChannelScale],
    pub seed: Seed,
    pub step: u64,
}

impl Shared<'_> {
    fn draws(&self, tensor: u32, number: usize) -> Draws {
        Draws::new(self.seed, self.step, tensor + number as u32)
    }

    /// Where the input stands in the decoder's sums.
    pub fn patches(&self) -> Patches {
        Patches::new(self.network.input, self.network.layers.last().map_or(self.network.input, |l| l.output))
    }

    /// A view of a stored sample, not hidden yet.
    pub fn view(&self, stored: &[u8], number: usize, out: &mut [i8]) {
        let views = &self.spec.views;
        // What is to be rebuilt has no noise and no mask of its own, and an image its own colours.
        let clean = match self.spec.input.kind {
            InputKind::Image => {
                ViewSpec { gain: 0, saturation: 0, grey: 0, offset: 0, noise: 0, mask: 0, ..views.clone() }
            }
            _ => ViewSpec { noise: 0, mask: 0, mask_bands: 0, floor: 0, ..views.clone() },
        };
        batch::view_by(self.spec, &clean, None, self.scales, stored, self.draws(tensor::VIEW, number), out);
    }

    /// Of the view that stands in the input: what is to be rebuilt, in the decoder's order, and the input hidden.
    pub fn hide(&self, number: usize, clean: &mut [i8], input: &mut [i8]) {
        let map = self.network.input;
        if self.is_blind_to_means() {
            inpaint::remove_means(input, map.channels);
        }
        let (clean, mask) = (&mut clean[..map.len()], self.mask(number));
        self.patches().split(input, clean);
        mask.ask(&self.patches(), clean);
        mask.corrupt(input);
    }

    /// What is hidden of sample `number`.
    pub fn mask(&self, number: usize) -> Mask {
        Mask::new(&self.head.pretext, self.network.input, self.draws(tensor::MASK, number))
    }

    /// Filters without a mean do not see that of the input.
    pub fn is_blind_to_means(&self) -> bool {
        let first = self.network.layers.first();
        first.is_some_and(|l| l.dictionary || self.network.tensors[l.tensors.start].zero_mean)
    }

    /// Noise of the code of sample `number`.
    pub fn code_draws(&self, number: usize) -> Draws {
        self.draws(tensor::MASK, number)
    }

    /// Takes the input forward to what the decoder reads; `drawn`: by a code that is drawn, not the means.
    pub fn encode(&self, number: usize, drawn: bool, way: &mut Way) -> (forward::ForwardSeen, Coded) {
        let Shared { network, head, params, .. } = *self;
        let seen = forward::layers(network, params, way.input, way.activations, way.scratch);
        if head.code_len() == 0 {
            return (seen, Coded::default());
        }
        let draws = drawn.then(|| self.code_draws(number));
        (seen, way.code.forward(network, params, head, way.activations, draws, way.scratch))
    }

    /// The decoder's sums into `sink`.
    pub fn decode<S: Sink>(&self, activations: &[i8], code: &Code, scratch: &mut Scratch, sink: &mut S) {
        decode(self.network, self.params, self.head, activations, code, sink, scratch);
    }

    /// Hides the view that stands in the input, and tells the mean square of what is rebuilt and the code's divergence.
    pub fn measure(&self, number: usize, way: &mut Way) -> (u64, u64) {
        self.hide(number, way.clean, way.input);
        self.encode(number, true, way);
        let prediction = self.params.shifts.heads[self.head.number][shift::PREDICTION].get();
        let mut measure = Rebuild::new(&mut way.clean[..self.network.input.len()], prediction, None);
        self.decode(way.activations, way.code, way.scratch, &mut measure);
        (measure.mean_square(), self.divergence(way.code))
    }

    /// Divergence of a code from a standard normal in 1/256 nat; 0 where there is none.
    fn divergence(&self, code: &Code) -> u64 {
        if code.latent.is_empty() { 0 } else { u64::from(variational::divergence(code.latent)) }
    }

    /// Takes sample `number` of the step forward to its errors and back to the gradients of `lane`. `each` gets the
    /// gradient of every tensor, where there is room for one.
    fn sample(&self, stored: &[u8], number: usize, lane: &mut Lane, each: Option<backward::EachGradient>) {
        if self.head.pretext.task == Task::MaskedToken {
            return self.codes(stored, number, lane, each);
        }
        let Shared { network, head, params, seed, step, .. } = *self;
        let Lane { errors: [first, second], input, activations, sums, code, scores, scratch, found, .. } = lane;
        self.view(stored, number, input);
        self.hide(number, first, input);
        let mut way = Way { clean: &mut first[..], input, activations, code, scores, scratch };
        let (seen, coded) = self.encode(number, true, &mut way);
        sums.forward.merge(&seen);
        found.map = found.map.merge(coded.seen);
        // The decoder's shifts, where they are not known yet, are found by taking its sums once before.
        let [mut prediction, mut error, ..] = params.shifts.heads[head.number];
        let clean = &mut first[..network.input.len()];
        if !prediction.is_set() {
            let mut measure = Rebuild::new(clean, 0, None);
            self.decode(activations, code, scratch, &mut measure);
            prediction = LaggedShift::at(measure.first_prediction_shift());
        }
        if !error.is_set() {
            let mut measure = Rebuild::new(clean, prediction.get(), None);
            self.decode(activations, code, scratch, &mut measure);
            error = LaggedShift::at(measure.exact_error_shift());
        }
        found.exact = [prediction.get(), error.get(), coded.latent, coded.map];
        let narrowing = Some((error.get(), self.draws(tensor::EMBEDDING, number)));
        let mut rebuild = Rebuild::new(clean, prediction.get(), narrowing);
        self.decode(activations, code, scratch, &mut rebuild);
        let mean_square = rebuild.mean_square();
        found.squares += mean_square;
        found.errors = found.errors.merge(rebuild.seen());
        found.divergence += self.divergence(code);

        let group = backward::Group {
            number,
            count: 1,
            inputs: input,
            activations,
            head_inputs: &[],
            inner: Default::default(),
        };
        let Code { latent, drawn, map, sums: products } = code;
        let scale = error.get() as i32 - prediction.get() as i32 - coded.map as i32;
        let back = WayBack { latent, draws: self.code_draws(number), scale, mean_square };
        let mut turn = |narrowed: u32, sums: &mut [i32]| back.turn(narrowed, sums);
        let code = (head.code_len() > 0).then_some(backward::Turn { drawn, map, sums: products, each: &mut turn });
        let gradients = &mut *sums.gradients;
        let errors = [&mut first[..], &mut second[..]];
        let mut buffers = backward::Buffers { errors, gradients, one_at_a_time: each, code };
        let at = backward::Step { seed, number: step };
        let seen = backward::group(network, params, self.packed_back, head, at, &group, &[], &mut buffers, scratch);
        sums.note_backward(network, head, &seen);
    }
}

impl Shared<'_> {
    /// Hides some codes of a stored sample, takes it forward, and compares the decoder's scores with them; `errors` as in
    /// [`tell`]. Gives the shift of the scores too.
    fn tell(
        &self,
        stored: &[u8],
        number: usize,
        errors: Option<(&mut [i8], Draws)>,
        way: &mut Way,
    ) -> (forward::ForwardSeen, Told, u32) {
        let Shared { spec, network, head, params, .. } = *self;
        let vocabulary = spec.input.vocabulary;
        let mask = masked_token::Mask::new(&head.pretext, self.draws(tensor::MASK, number));
        mask.corrupt(vocabulary, stored, way.input);
        let seen = forward::layers(network, params, way.input, way.activations, way.scratch);
        self.decode(way.activations, way.code, way.scratch, &mut Keep(way.scores));
        let lagged = params.shifts.heads[head.number][shift::PREDICTION];
        // The first scores are within a nat of 0.
        let first = || shift_for(narrow::largest(way.scores), 2 + masked_token::FRACTION);
        let shift = if lagged.is_set() { lagged.get() } else { first() };
        (seen, masked_token::tell(way.scores, vocabulary, shift, stored, mask, errors), shift)
    }

    /// As [`Shared::sample`], of codes.
    fn codes(&self, stored: &[u8], number: usize, lane: &mut Lane, each: Option<backward::EachGradient>) {
        let Shared { network, head, params, .. } = *self;
        let Lane { errors: [first, second], input, activations, sums, code, scores, scratch, found, .. } = lane;
        let draws = self.draws(tensor::EMBEDDING, number);
        let mut way = Way { clean: &mut [], input, activations, code, scores, scratch };
        let (seen, told, shift) = self.tell(stored, number, Some((&mut first[..], draws)), &mut way);
        sums.forward.merge(&seen);
        found.told.add(told);
        // Errors are probabilities and have a scale of their own.
        found.exact = [shift, 0, 0, 0];
        let (head_inputs, inner): (&[i8], _) = (&[], Default::default());
        let group = backward::Group { number, count: 1, inputs: input, activations, head_inputs, inner };
        let errors = [&mut first[..], &mut second[..]];
        let mut buffers = backward::Buffers { errors, gradients: sums.gradients, one_at_a_time: each, code: None };
        let at = backward::Step { seed: self.seed, number: self.step };
        let seen = backward::group(network, params, self.packed_back, head, at, &group, &[], &mut buffers, scratch);
        sums.note_backward(network, head, &seen);
    }
}

/// Whether everything that a step narrows has its shift.
fn all_set(network: &Network, head: &Head, shifts: &Shifts) -> bool {
    let layers = network.layers.iter().zip(&shifts.layers);
    let own = if head.code_len() > 0 { MAX_HEAD_TENSORS } else { shift::LATENT };
    layers.filter(|(layer, _)| !layer.dictionary).all(|(_, shift)| shift.is_set())
        && shifts.heads[head.number][..own].iter().all(|shift| shift.is_set())
        && network.chain(head).all(|t| t == network.first_trained || shifts.errors[t].is_set())
}

/// Whether shifts may fall at step or sample `number`: a stretch in which little happens is not to be learned from, and
/// not to be seen, as if much did.
pub(super) const fn may_fall(number: u64) -> bool {
    number.is_multiple_of(256)
}

/// What the heads that rebuild gave back stays, after a step of another one that moved the shifts of the layers from
/// `before`, and halved so many of their tensors.
pub(super) fn keep_rebuilt(network: &Network, before: &Shifts, shifts: &mut Shifts, halved: i32) {
    for head in network.heads.iter().filter(|head| head.pretext.task.rebuilds()) {
        if before.heads[head.number][shift::PREDICTION].is_set() {
            denoise::keep_prediction(network, head, before, shifts);
            denoise::move_for(head, 0, shifts, -halved);
        }
    }
}

/// Lets the shifts follow what a step found; `number`: the step's.
fn follow(shifts: &mut Shifts, network: &Network, head: &Head, lane: &Lane, number: u64) {
    let fall = may_fall(number);
    lanes::follow_layers(shifts, network, &lane.sums.forward, fall);
    lanes::follow_backward(shifts, network, head, &lane.sums.backward, fall);
    let own = &mut shifts.heads[head.number];
    own[shift::ERROR].follow_slowly(lane.found.errors, fall);
    if head.code_len() > 0 {
        own[shift::MAP].follow_slowly(lane.found.map, fall);
    }
}

/// Sample `sample` of step `step`: the newest first, then others.
pub(crate) fn sample_of<'a>(
    newest: &'a [u8],
    replay: &'a Replay,
    seed: Seed,
    step: u64,
    sample: usize,
) -> Option<&'a [u8]> {
    match sample {
        0 => Some(newest),
        _ => Some(replay.sample(batch::drawn(replay, seed, step, sample)?, 0)),
    }
}

impl Learner<'_> {
    /// One step; the loss in 1/256 nat. `None` where the replay buffer is still empty.
    #[inline(never)]
    pub(super) fn rebuild(&mut self, head: usize, join: &impl Join, scratch: &mut [u8]) -> Option<u32> {
        let head = &self.network.heads[head];
        let samples = head.pretext.batch;
        let counters = self.counters[0];
        let (seed, number) = (Seed(counters.seed), counters.steps);
        let mut lanes = Lane::take_all(&self.network, head, self.lanes, &mut Arena::reusing(scratch))?;
        let mut shifts = self.learning.shifts[0];
        let network = &self.network;
        let step_size = step_size(&counters, &self.spec.optimizer);
        // Of the layers, of the head's first tensor, of its others.
        let mut halved = [0; 3];
        let newest = &self.stored[..self.stored.len() - super::memory::inbox_slack(self.lean)];
        let stored = |sample: usize| sample_of(newest, &self.replay, seed, number, sample);
        // Where there is one, there are all.
        stored(samples - 1)?;
        let mut trained = update::Trained { masters: self.masters, momentum: self.momentum };
        let mut update = |tensor: usize, gradients: &[i32]| {
            let done = if samples < ENOUGH_FOR_SIGNS {
                let draws = Draws::new(seed, number, update::gradient_tensor(tensor));
                update::tensor_plainly(network, tensor, gradients, trained.masters, step_size, draws)
            } else {
                update::tensor(network, tensor, gradients, &mut trained, step_size, seed, number)
            };
            let place = tensor.checked_sub(head.tensors.start).map_or(0, |place| 1 + place.min(1));
            halved[place] += i32::from(done.halved);
        };

        // Before the very first step one pass, from which nothing is learned, sets all shifts.
        let before = loop {
            let learns = all_set(network, head, &shifts);
            let shared = Shared {
                spec: &self.spec,
                network,
                head,
                params: Params { shifts: &shifts, ..self.learning.params() },
                packed_back: self.packed_back,
                scales: self.scales,
                seed,
                step: number,
            };
            for lane in &mut lanes {
                lane.sums.clear();
                lane.found = Found::default();
            }
            match &mut lanes[..] {
                [lane] if samples == 1 => {
                    let mut none = |_: usize, _: &[i32]| {};
                    let each: backward::EachGradient = if learns { &mut update } else { &mut none };
                    shared.sample(newest, 0, lane, Some(each));
                }
                all => lanes::for_each(join, all, &|lane| {
                    for sample in lane.first..lane.first + lane.count {
                        if let Some(stored) = stored(sample) {
                            shared.sample(stored, sample, lane, None);
                        }
                    }
                }),
            }
            let (first, others) = lanes.split_first_mut()?;
            for lane in others {
                first.sums.add(&lane.sums);
                first.found.add(&lane.found);
            }
            let before = shifts;
            follow(&mut shifts, network, head, first, number);
            if learns {
                break before;
            }
            let own = if head.code_len() > 0 { MAX_HEAD_TENSORS } else { shift::LATENT };
            shifts.heads[head.number][..own].copy_from_slice(&first.found.exact.map(LaggedShift::at)[..own]);
        };
        let first = lanes.first_mut()?;
        if samples > 1 {
            first.sums.narrow(network, head);
            first.sums.for_each_tensor(network, head, &mut update);
        }
        // A tensor of half the weights gives half the sums.
        keep_rebuilt(network, &before, &mut shifts, halved[0]);
        denoise::move_for(head, 0, &mut shifts, -halved[1]);
        denoise::move_for(head, 1, &mut shifts, -halved[2]);
        self.learning.shifts[0] = shifts;
        let (found, clamped) = (first.found, first.sums.clamped());
        let loss = found.loss(samples, network);
        let narrowed = (samples * network.step_len()) as u64;
        self.narrow_masters();
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
        way: &mut Way,
    ) -> u32 {
        let (seed, count) = (Seed(self.counters[0].seed), canaries.len());
        let (spec, network, scales) = (&self.spec, &self.network, &*self.scales);
        let shared = Shared { spec, network, head, params, packed_back: &[], scales, seed, step };
        let mut found = Found::default();
        for (number, pick) in canaries.enumerate() {
            if head.pretext.task == Task::MaskedToken {
                found.told.add(shared.tell(self.replay.sample(pick, 0), number, None, way).1);
                continue;
            }
            shared.view(self.replay.sample(pick, 0), number, way.input);
            let (squares, divergence) = shared.measure(number, way);
            found.squares += squares;
            found.divergence += divergence;
        }
        found.loss(count, network)
    }
}
