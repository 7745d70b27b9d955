//! Fine-tuning: a head that names classes is taught on few labelled samples, and the encoder below it with it, by the
//! net's own integer passes and update.
//!
//! The head pools the last layer, has one hidden layer, and ends in a logit for each class; the loss is the
//! cross-entropy of [`softmax`]. A learned encoder is held still while the head is taught for
//! the first third of the steps, so that a head of chance does not spoil it (Kumar et al. 2022, arXiv:2202.10054).
//!
//! The learner itself is not changed: the encoder is a copy.

use crate::augment::signal::ChannelScale;
use crate::fixed::random::Draws;
use crate::fixed::{Seen, shift_for};
use crate::kernels::Kernels;
use crate::kernels::narrow::{self, Random};
use crate::learner::{Learner, input_of, view_of};
use crate::net::arena::Arena;
use crate::net::backward::{self, BackwardSeen};
use crate::net::error::PlanError;
use crate::net::forward::{self, ForwardSeen, HeadActivations, Params, Scratch, Shifts};
use crate::net::head::MAX_HEAD_TENSORS;
use crate::net::network::{MAX_TENSORS, Network};
use crate::net::spec::Spec;
use crate::net::task::{PretextSpec, Task};
use crate::net::update;
use crate::pretext::softmax;
use crate::sample::Seed;

/// Views of a step: of 16 samples, two of each.
pub const VIEWS: usize = 32;
/// Cells of the head's pooling grid on each axis; as many as the features of the shipped models have.
const CELLS: u16 = 3;
const HIDDEN: u16 = 128;
/// Random tensor of the errors at the logits.
const LOGITS: u32 = 0x902;

/// What is taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The head alone.
    Head,
    /// The head, and after the first third of the steps the encoder too.
    HeadFirst,
    /// Both from the first step: for an encoder that has learned nothing.
    Whole,
}

/// How fine-tuning goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    pub depth: Depth,
    /// Steps in all; their size falls linearly over the last two thirds.
    pub steps: u32,
    pub seed: Seed,
}

/// See the module.
pub struct FineTuner<'m> {
    spec: Spec,
    network: Network,
    course: Course,
    weights: &'m mut [i8],
    packed: &'m mut [i16],
    packed_back: &'m mut [i16],
    thresholds: &'m mut [i32],
    scales: &'m mut [ChannelScale],
    masters: &'m mut [i16],
    momentum: &'m mut [i16],
    shifts: Shifts,
    step: u32,
    inputs: &'m mut [i8],
    activations: &'m mut [i8],
    head_inputs: &'m mut [i8],
    inner: &'m mut [i8],
    logits: &'m mut [i32],
    errors: [&'m mut [i8]; 3],
    gradients: &'m mut [i32],
    scratch: Scratch<'m>,
    loss: softmax::Buffers<'m>,
    labels: &'m mut [u32],
}

impl<'m> FineTuner<'m> {
    /// Takes the memory for a copy of an encoder of `spec` and a head of `classes` classes.
    ///
    /// # Errors
    /// [`PlanError`]: fewer than 2 or more than 1024 classes, or a model of which a step's gradient needs 64 bits.
    pub fn take(
        spec: &Spec,
        kernels: Kernels,
        classes: usize,
        course: Course,
        arena: &mut Arena<'m>,
    ) -> Result<Self, PlanError> {
        let mut spec = spec.clone();
        let head = PretextSpec {
            batch: Some(VIEWS as u16 / 2),
            hidden: Some(HIDDEN),
            outputs: Some(u16::try_from(classes).unwrap_or(u16::MAX)),
            head_cells: Some(CELLS),
            ..PretextSpec::new(Task::Contrastive)
        };
        spec.pretext.clear();
        // It was cleared before.
        let _ = spec.pretext.push(head);
        spec.optimizer.memory = 0;
        spec.replay.latents = false;
        spec.replay.fresh = spec.replay.fresh.min(VIEWS / 2);
        let network = Network::new(&spec, kernels)?;
        if network.wide_len > 0 {
            return Err(PlanError::AccumulatorOverflow { layer: 0 });
        }
        let head = network.heads.first().ok_or(PlanError::NothingToTrain)?;
        let trained = network.trained_range().len();
        let dictionary = network.layers.first().filter(|l| l.dictionary);
        let (error_len, group) = (network.error_len(), VIEWS.min(network.views_at_a_time));
        let scratch = Scratch::take_for_step(&network, VIEWS.max(group), arena);
        Ok(FineTuner {
            course,
            weights: arena.take(network.weights_len),
            packed: arena.take(network.packed_len),
            packed_back: arena.take(network.packed_back_len),
            thresholds: arena.take(dictionary.map_or(0, |l| l.output.channels)),
            scales: arena.take(crate::learner::scales_len(&spec)),
            masters: arena.take(trained),
            momentum: arena.take(trained),
            shifts: Shifts::unset(),
            step: 0,
            inputs: arena.take(VIEWS * network.input.len()),
            activations: arena.take(VIEWS * network.step_len()),
            head_inputs: arena.take(VIEWS * head.input_len()),
            inner: arena.take(VIEWS * network.inner_len(head)),
            logits: arena.take(VIEWS * classes),
            errors: [arena.take(VIEWS * classes), arena.take(group * error_len), arena.take(group * error_len)],
            gradients: arena.take(trained),
            loss: softmax::Buffers::take(VIEWS, classes, arena),
            labels: arena.take(VIEWS),
            scratch,
            network,
            spec,
        })
    }

    /// Starts from the published encoder of `learner`, which is of the same model, and a head of chance.
    pub fn start(&mut self, learner: &Learner) {
        let (params, scales) = learner.published();
        self.scales.copy_from_slice(scales);
        self.thresholds.copy_from_slice(params.thresholds);
        // Layers come first in both, in the same order.
        let layers = self.network.layers.last().map_or(0, |l| l.tensors.end);
        let from = self.network.trained_range().start;
        for number in 0..self.network.tensors.len() {
            let tensor = self.network.tensors[number];
            let range = tensor.weight_range();
            if number < layers {
                self.weights[range.clone()].copy_from_slice(params.weights_of(&tensor));
            }
            if tensor.trained {
                let masters = &mut self.masters[range.start - from..range.end - from];
                for (element, master) in masters.iter_mut().enumerate() {
                    *master = match number < layers {
                        true => i16::from(self.weights[range.start + element]) << 8,
                        false => update::initial_master(&tensor, number, element, self.course.seed),
                    };
                }
            }
        }
        self.momentum.fill(0);
        self.shifts = Shifts { layers: params.shifts.layers, ..Shifts::unset() };
        self.step = 0;
        self.narrow();
    }

    fn narrow(&mut self) {
        let range = self.network.trained_range();
        self.network.kernels.run(update::Narrow { masters: self.masters, weights: &mut self.weights[range] });
        let first = if self.step == 0 { 0 } else { self.network.first_trained };
        for tensor in &self.network.tensors[first..] {
            let weights = &self.weights[tensor.weight_range()];
            self.network.kernels.pack(&tensor.conv, weights, &mut self.packed[tensor.packed..]);
            if tensor.trained {
                self.network.kernels.pack_back(&tensor.conv, weights, &mut self.packed_back[tensor.packed_back..]);
            }
        }
    }

    /// One step over [`VIEWS`] views of samples: `sample(n)` gives the n-th as the learner stores it, and its class.
    /// Returns the loss in 1/256 nat.
    pub fn step<'s>(&mut self, sample: impl Fn(usize) -> (&'s [u8], usize)) -> u32 {
        // Before the first step one view sets all shifts that are not known: what is narrowed at a time must not matter.
        let starts = self.step == 0;
        if starts {
            let seen = self.forward(1, &sample);
            self.follow_forward(&seen, true);
        }
        let seen = self.forward(VIEWS, &sample);
        let labels = &*self.labels;
        let loss = softmax::scaled_cross_entropy(self.logits, |row| labels[row] as usize, &mut self.loss);
        let draws = Draws::new(self.course.seed, u64::from(self.step), LOGITS);
        let shift = shift_for(narrow::largest(self.logits), 8);
        narrow::feed(self.logits, &mut Random::new(shift, draws, 0, None, self.errors[0]));
        if starts {
            let seen = self.backward(1);
            self.follow_backward(&seen);
        }
        let backward_seen = self.backward(VIEWS);

        let Some(head) = self.network.heads.first() else { return loss };
        let (network, size, encoder_too) = (&self.network, self.step_size(), self.teaches_encoder());
        let from = network.trained_range().start;
        let mut trained = update::Trained { masters: self.masters, momentum: self.momentum };
        for number in network.chain(head).filter(|number| encoder_too || head.tensors.contains(number)) {
            let t = &network.tensors[number];
            let gradients = &self.gradients[t.weights - from..][..t.conv.weights()];
            update::tensor(network, number, gradients, &mut trained, size, self.course.seed, u64::from(self.step));
        }
        self.follow_forward(&seen, false);
        self.follow_backward(&backward_seen);
        self.step += 1;
        self.narrow();
        loss
    }

    /// Whether this step changes the encoder.
    fn teaches_encoder(&self) -> bool {
        match self.course.depth {
            Depth::Head => false,
            Depth::HeadFirst => self.step >= self.course.steps / 3,
            Depth::Whole => true,
        }
    }

    /// The first `count` views of a step, to their logits.
    fn forward<'s>(&mut self, count: usize, sample: &impl Fn(usize) -> (&'s [u8], usize)) -> ForwardSeen {
        let network = &self.network;
        let mut seen = ForwardSeen::default();
        let Some(head) = network.heads.first() else { return seen };
        let (input_len, step_len, classes) = (network.input.len(), network.step_len(), self.logits.len() / VIEWS);
        let params = params(self.weights, self.packed, self.thresholds, &self.shifts);
        for number in 0..count {
            let (stored, class) = sample(number);
            self.labels[number] = class as u32;
            let input = &mut self.inputs[number * input_len..][..input_len];
            let (seed, step) = (self.course.seed, u64::from(self.step));
            view_of(&self.spec, &head.pretext, self.scales, stored, seed, step, number, input);
            let activations = &mut self.activations[number * step_len..][..step_len];
            seen.merge(&forward::layers(network, params, input, activations, &mut self.scratch));
            let pooled = &mut self.head_inputs[number * head.input_len()..][..head.input_len()];
            let mut of_head = ForwardSeen::default();
            of_head.head[0] = forward::pool(network, params, head, activations, pooled, &mut self.scratch);
            seen.merge(&of_head);
        }
        let mut at = HeadActivations {
            input: &mut self.head_inputs[..count * head.input_len()],
            inner: &mut self.inner[..count * network.inner_len(head)],
            top: &mut self.logits[..count * classes],
        };
        let of_head = forward::head(network, params, head, &mut at, &mut self.scratch);
        seen.merge(&ForwardSeen { head: of_head, ..Default::default() });
        seen
    }

    /// Gradients of the first `count` views of a step, whose errors at the logits are known.
    fn backward(&mut self, count: usize) -> BackwardSeen {
        let network = &self.network;
        let mut seen = [Seen::default(); MAX_TENSORS];
        self.gradients.fill(0);
        let Some(head) = network.heads.first() else { return seen };
        let (input_len, step_len, classes) = (network.input.len(), network.step_len(), self.logits.len() / VIEWS);
        let params = params(self.weights, self.packed, self.thresholds, &self.shifts);
        let [errors, current, next] = &mut self.errors;
        for first in (0..count).step_by(network.views_at_a_time) {
            let count = network.views_at_a_time.min(count - first);
            let mut inner: [&[i8]; MAX_HEAD_TENSORS - 1] = [&[]; MAX_HEAD_TENSORS - 1];
            let mut from = 0;
            for (layer, tensor) in inner.iter_mut().zip(head.inner()) {
                let width = network.tensors[tensor].conv.filters;
                *layer = &self.inner[from + first * width..][..count * width];
                from += VIEWS * width;
            }
            let group = backward::Group {
                number: first,
                count,
                inputs: &self.inputs[first * input_len..],
                activations: &self.activations[first * step_len..],
                head_inputs: &self.head_inputs[first * head.input_len()..][..count * head.input_len()],
                inner,
            };
            let mut buffers = backward::Buffers {
                errors: [&mut current[..], &mut next[..]],
                gradients: self.gradients,
                one_at_a_time: None,
                code: None,
            };
            let saw = backward::group(
                network,
                params,
                self.packed_back,
                head,
                backward::Step { seed: self.course.seed, number: u64::from(self.step) },
                &group,
                &errors[first * classes..][..count * classes],
                &mut buffers,
                &mut self.scratch,
            );
            seen.iter_mut().zip(saw).for_each(|(a, b)| *a = a.merge(b));
        }
        seen
    }

    /// Lets the forward shifts follow what a step saw; `unknown`: those alone that are not known yet.
    fn follow_forward(&mut self, seen: &ForwardSeen, unknown: bool) {
        let layers_too = self.teaches_encoder();
        let heads = self.network.heads.first().map_or(0, |head| head.tensors.len());
        let layers = self.shifts.layers.iter_mut().zip(&seen.layers).zip(&self.network.layers);
        for ((shift, seen), layer) in layers {
            if !layer.dictionary && if unknown { !shift.is_set() } else { layers_too } {
                shift.follow(*seen);
            }
        }
        self.shifts.heads[0].iter_mut().zip(&seen.head).take(heads).for_each(|(shift, seen)| shift.follow(*seen));
    }

    fn follow_backward(&mut self, seen: &BackwardSeen) {
        let Some(head) = self.network.heads.first() else { return };
        for tensor in self.network.chain(head).filter(|&t| t > self.network.first_trained) {
            self.shifts.errors[tensor].follow(seen[tensor]);
        }
    }

    /// The model's own step size, falling over the last two thirds.
    fn step_size(&self) -> u16 {
        let full = u32::from(self.spec.optimizer.step);
        let falls = (self.course.steps * 2 / 3).max(1);
        (full * self.course.steps.saturating_sub(self.step).clamp(1, falls) / falls).max(1) as u16
    }

    /// The class that a stored sample has most.
    pub fn predict(&mut self, stored: &[u8]) -> usize {
        let network = &self.network;
        let Some(head) = network.heads.first() else { return 0 };
        let input = &mut self.inputs[..network.input.len()];
        input_of(&self.spec, self.scales, stored, input);
        let params = params(self.weights, self.packed, self.thresholds, &self.shifts);
        let activations = &mut self.activations[..network.step_len()];
        forward::layers(network, params, input, activations, &mut self.scratch);
        let pooled = &mut self.head_inputs[..head.input_len()];
        forward::pool(network, params, head, activations, pooled, &mut self.scratch);
        let classes = self.logits.len() / VIEWS;
        let mut at = HeadActivations {
            input: pooled,
            inner: &mut self.inner[..network.inner_len(head)],
            top: &mut self.logits[..classes],
        };
        forward::head(network, params, head, &mut at, &mut self.scratch);
        super::largest_of(self.logits[..classes].iter().map(|&l| i64::from(l))).unwrap_or(0)
    }
}

fn params<'a>(weights: &'a [i8], packed: &'a [i16], thresholds: &'a [i32], shifts: &'a Shifts) -> Params<'a> {
    Params { flash: &[], weights, packed, thresholds, shifts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::Options;
    use crate::selftest;

    const CLASSES: usize = 3;

    /// Stripes of the selftest's size: upright, level or slanting, anywhere.
    fn stripes(n: u32) -> (Vec<u8>, usize) {
        let draws = Draws::new(Seed(9), u64::from(n), 0);
        let (class, phase, noise) = (n as usize % CLASSES, draws.below(0, 64), draws.below(1, 40));
        let side = 16;
        let wave = |i: u32| {
            let (y, x) = (i / 3 / side, i / 3 % side);
            let along = [x * 12, y * 12, (x + y) * 9][class] + phase;
            (if along % 64 < 32 { 60 } else { 180 } + draws.below(2 + i, noise + 1)) as u8
        };
        ((0..side * side * 3).map(wave).collect(), class)
    }

    fn tuned(depth: Depth, kernels: Kernels) -> (u32, Vec<i8>, Vec<i8>) {
        let (spec, options) = (selftest::spec(), Options { kernels, ..Options::new(Seed(2)) });
        let mut memory = vec![0; Learner::plan(&spec, &options).expect("a plan").block_len()];
        let learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
        let course = Course { depth, steps: 120, seed: Seed(3) };
        let mut counting = Arena::counting();
        FineTuner::take(&spec, kernels, CLASSES, course, &mut counting).expect("a plan");
        let mut block = vec![0; Arena::block_len(counting.used())];
        let mut tuner = FineTuner::take(&spec, kernels, CLASSES, course, &mut Arena::over(&mut block)).expect("a plan");
        tuner.start(&learner);
        let layers = tuner.network.tensors[tuner.network.heads[0].tensors.start].weights;
        let before = tuner.weights[..layers].to_vec();
        let samples: Vec<_> = (0..24).map(stripes).collect();
        for step in 0..120 {
            tuner.step(|n| {
                let (stored, class) = &samples[(step * 7 + n * 5) % samples.len()];
                (stored, *class)
            });
        }
        let right = (1000..1090).map(stripes).filter(|(stored, class)| tuner.predict(stored) == *class).count();
        (right as u32, before, tuner.weights[..layers].to_vec())
    }

    #[test]
    fn few_labels_are_learned_and_the_head_alone_leaves_the_encoder_as_it_is() {
        let (right, before, after) = tuned(Depth::Head, Kernels::detect());
        assert!(right > 45 && before == after, "{right} of 90");
        let (right, before, after) = tuned(Depth::Whole, Kernels::detect());
        assert!(right > 70 && before != after, "{right} of 90");
    }

    #[test]
    fn every_kernel_gives_the_same_bits() {
        assert!(tuned(Depth::HeadFirst, Kernels::Reference) == tuned(Depth::HeadFirst, Kernels::detect()));
    }

    #[test]
    fn one_class_is_refused() {
        let course = Course { depth: Depth::Head, steps: 1, seed: Seed(0) };
        let taken = FineTuner::take(&selftest::spec(), Kernels::detect(), 1, course, &mut Arena::counting());
        assert!(taken.is_err());
    }
}
