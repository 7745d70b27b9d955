//! The lessons of the dictionary layers: the stem's, then those of the layers that stand on it, one group of channels
//! after another, each in the memory of one and from what the layers below it, already folded, make of the newest sample.

use super::{Learner, tensor};
use crate::fixed::LaggedShift;
use crate::fixed::random::Draws;
use crate::net::arena::Arena;
use crate::net::forward;
use crate::net::network::Network;
use crate::net::spec::InputKind;
use crate::pretext::dictionary::{self, Bank, Level};
use crate::sample::Seed;

/// Samples after a dictionary's lesson for which the shifts of layers that nobody trains or judges still follow them.
const SETTLING: u64 = 64;

/// One dictionary's lesson, over the samples from `first` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lesson {
    pub layer: usize,
    pub group: usize,
    pub first: u64,
    pub end: u64,
}

/// Where part `i` of `n` of the samples `first..end` begins.
fn part(first: u64, end: u64, i: usize, n: usize) -> u64 {
    first + (end - first) * i as u64 / n as u64
}

impl Lesson {
    /// Groups that are learned apart. The stem's convolutions are learned together.
    fn groups(network: &Network, layer: usize) -> usize {
        if layer == 0 { 1 } else { network.tensors[network.layers[layer].tensors.start].conv.groups }
    }

    /// All lessons of `layer`, where the dictionaries have `samples` in all.
    pub fn of_layer(network: &Network, layer: usize, samples: u64) -> (u64, u64) {
        let count = network.dictionaries().len();
        (part(0, samples, layer, count), part(0, samples, layer + 1, count))
    }

    /// The lesson that sample `number` belongs to; the last one for all that come after it.
    pub fn of(network: &Network, samples: u64, number: u64) -> Self {
        let begun = |layer: &usize| Self::of_layer(network, *layer, samples).0 <= number;
        let layer = (0..network.dictionaries().len()).rev().find(begun).unwrap_or(0);
        let (first, end) = Self::of_layer(network, layer, samples);
        let groups = Self::groups(network, layer);
        let group = (0..groups).rev().find(|&g| part(first, end, g, groups) <= number).unwrap_or(0);
        Lesson { layer, group, first: part(first, end, group, groups), end: part(first, end, group + 1, groups) }
    }

    /// What is learned in it, over the memory of all lessons.
    fn banks<'b>(
        self,
        network: &Network,
        image: bool,
        mut whitening: &'b mut [i16],
        mut dictionary: &'b mut [i16],
    ) -> heapless::Vec<Bank<'b>, 2> {
        let mut banks = heapless::Vec::new();
        for number in network.layers[self.layer].tensors.clone() {
            let conv = network.tensors[number].conv;
            let (conv, level) = match self.layer {
                0 => (conv, Level::of_stem(&conv, image)),
                _ => (conv.group(self.group), Level::of_all()),
            };
            let (own, rest) = whitening.split_at_mut(conv.fan_in() * conv.fan_in());
            whitening = rest;
            let (units, rest) = dictionary.split_at_mut(conv.weights());
            dictionary = rest;
            // A dictionary layer has at most two convolutions.
            let _ = banks.push(Bank { conv, level, whitening: own, dictionary: units });
        }
        banks
    }
}

/// Lengths of the whitening matrices and of the dictionaries that are in use at one time, and of the widest patch.
pub(super) fn lengths(network: &Network) -> (usize, usize, usize) {
    let mut most = (0, 0, 0);
    for (index, layer) in network.dictionaries().iter().enumerate() {
        let mut sum = (0, 0);
        for tensor in &network.tensors[layer.tensors.clone()] {
            let conv = if index == 0 { tensor.conv } else { tensor.conv.group(0) };
            sum = (sum.0 + conv.fan_in() * conv.fan_in(), sum.1 + conv.weights());
            most.2 = most.2.max(conv.fan_in());
        }
        most = (most.0.max(sum.0), most.1.max(sum.1), most.2);
    }
    most
}

/// Length of the activations that the layers below the highest dictionary keep.
fn below_len(network: &Network) -> usize {
    match network.dictionaries() {
        [.., below, _] => below.activations + below.kept().len(),
        _ => 0,
    }
}

/// Scratch of one sample's lesson.
pub(super) struct LessonBuffers<'a> {
    activations: &'a mut [i8],
    forward: forward::Scratch<'a>,
    dictionary: dictionary::Scratch<'a>,
}

impl<'a> LessonBuffers<'a> {
    pub fn take(network: &Network, arena: &mut Arena<'a>) -> Option<Self> {
        let below = below_len(network);
        let dictionary = dictionary::Scratch::take(lengths(network).2, arena);
        let activations = arena.take(below);
        let forward =
            if below > 0 { forward::Scratch::take_for_step(network, 1, arena) } else { forward::Scratch::none() };
        (!network.dictionaries().is_empty()).then_some(LessonBuffers { activations, forward, dictionary })
    }
}

impl Learner<'_> {
    /// A dictionary is still being learned; an encoder that is its one dictionary alone learns for ever.
    pub(super) fn learns_stem(&self) -> bool {
        let c = &self.counters[0];
        c.stem_samples > 0 && (self.learned_from() < c.stem_samples || self.learns_stem_for_ever())
    }

    /// Layer `layer`, which is not trained, has its last shift.
    pub(super) fn has_settled(&self, layer: usize) -> bool {
        let (network, c) = (&self.network, &self.counters[0]);
        let stem_samples = match layer < network.dictionaries().len() {
            true => Lesson::of_layer(network, layer, c.stem_samples).1,
            false => c.stem_samples,
        };
        !self.learns_stem_for_ever() && self.learned_from() >= stem_samples + SETTLING
    }

    /// A stack of dictionaries alone whose lessons are over: nothing changes any more.
    pub(super) fn stack_is_learned(&self) -> bool {
        let stacked = !self.spec.trains() && self.network.dictionaries().len() > 1;
        stacked && self.learned_from() >= self.counters[0].stem_samples
    }

    /// A dictionary on which another stands has to stay as it is.
    fn learns_stem_for_ever(&self) -> bool {
        !self.spec.trains() && self.network.dictionaries().len() == 1
    }

    fn lesson(&self) -> Lesson {
        Lesson::of(&self.network, self.counters[0].stem_samples, self.learned_from())
    }

    fn is_image(&self) -> bool {
        !matches!(self.spec.input.kind, InputKind::Window | InputKind::Latents)
    }

    /// Random units for all dictionaries.
    pub(super) fn start_dictionaries(&mut self) {
        // The stem last: the memory of the lessons is left as its lesson finds it.
        for layer in (0..self.network.dictionaries().len()).rev() {
            for group in 0..Lesson::groups(&self.network, layer) {
                let lesson = Lesson { layer, group, first: 0, end: 0 };
                self.start_lesson(lesson);
                self.fold(lesson);
            }
        }
        self.counters[0].deviation = [0; 2];
    }

    fn start_lesson(&mut self, lesson: Lesson) {
        /// Deviation of patches, until it is known.
        const DEVIATION: i32 = 30;
        let (image, seed) = (self.is_image(), Seed(self.counters[0].seed));
        let mut banks = lesson.banks(&self.network, image, self.whitening, self.dictionary);
        // The stem has two banks at most.
        let first = if lesson.layer == 0 { 0 } else { 2 + lesson.group };
        for (number, bank) in banks.iter_mut().enumerate() {
            bank.start(DEVIATION, seed, (first + number) as u32);
        }
    }

    /// Learns from the newest sample what the lesson that is on wants.
    pub(super) fn observe_dictionary(&mut self) {
        let lesson = self.lesson();
        let number = self.learned_from();
        if lesson.layer > 0 && number == lesson.first {
            self.start_lesson(lesson);
        }
        let mut counters = self.counters[0];
        let before = lesson.first * counters.stem_patches;
        let schedule = dictionary::Schedule { patches: (lesson.end - lesson.first) * counters.stem_patches };
        let image = self.is_image();
        let scratch = core::mem::take(&mut self.scratch);
        let buffers = LessonBuffers::take(&self.network, &mut Arena::over(scratch));
        if let Some(LessonBuffers { activations, mut forward, mut dictionary }) = buffers {
            let stored_len = self.stored_len();
            let (stored, input) = (core::mem::take(&mut self.stored), core::mem::take(&mut self.input));
            let newest: &[i8] = if input.is_empty() { bytemuck::cast_slice(&stored[..stored_len]) } else { input };
            let (network, params) = (&self.network, self.learning.params());
            let x = match lesson.layer.checked_sub(1) {
                None => newest,
                Some(below) => {
                    forward::first_layers(network, params, lesson.layer, newest, activations, &mut forward);
                    &activations[network.layers[below].activations..]
                }
            };
            let mut banks = lesson.banks(network, image, self.whitening, self.dictionary);
            for _ in 0..counters.stem_patches {
                for (number, bank) in banks.iter_mut().enumerate() {
                    let draws = Draws::new(Seed(counters.seed), counters.patches, tensor::PATCH + number as u32);
                    let deviation = &mut counters.deviation[number];
                    let patch = counters.patches - before;
                    bank.observe(x, patch, schedule, deviation, draws, &mut dictionary);
                }
                counters.patches += 1;
            }
            (self.stored, self.input) = (stored, input);
        }
        self.scratch = scratch;
        self.counters[0] = counters;
        if number + 1 == lesson.end {
            // What is about to be published is to be what was left; what cannot be repaired has frozen the learner.
            if self.mend(true).is_some() && self.frozen().is_some() {
                return;
            }
            self.fold(lesson);
            if lesson.end == Lesson::of_layer(&self.network, lesson.layer, counters.stem_samples).1 {
                self.publish_stem(lesson.layer);
            }
        }
    }

    /// Folds the dictionary that is being learned into its `i8` filters.
    pub(super) fn fold_dictionary(&mut self) {
        if self.network.dictionaries().is_empty() {
            return;
        }
        let lesson = self.lesson();
        if lesson.layer == 0 || self.learned_from() > lesson.first {
            self.fold(lesson);
        }
    }

    fn fold(&mut self, lesson: Lesson) {
        let image = self.is_image();
        let layer = &self.network.layers[lesson.layer];
        let banks = lesson.banks(&self.network, image, self.whitening, self.dictionary);
        if lesson.layer == 0 {
            // The stem's filters are the first weights of all.
            dictionary::fold(&banks, self.learning.weights, self.learning.thresholds);
        } else if let [bank] = &banks[..] {
            let weights = &mut self.learning.weights[self.network.tensors[layer.tensors.start].weight_range()];
            dictionary::fold_group(bank, lesson.group, &mut self.counters[0].deviation[1], weights);
        }
        drop(banks);
        self.learning.shifts[0].layers[lesson.layer] = LaggedShift::unset();
        self.learning.repack(&self.network, 0);
        self.seal_learning();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;
    use crate::net::spec::{DictionarySpec, InputSpec, LayerKind, LayerSpec, Spec};

    #[test]
    fn the_lessons_follow_one_another_from_the_stem_upwards_without_a_gap() {
        let layer = |filters, group, pool| LayerSpec {
            kind: LayerKind::Dictionary,
            filters,
            group,
            pool,
            ..Default::default()
        };
        let spec = Spec {
            input: InputSpec { height: 16, width: 16, channels: 1, ..Default::default() },
            layer: [layer(8, 0, 1), layer(12, 2, 4), layer(6, 6, 1)].into_iter().collect(),
            dictionary: DictionarySpec { samples: 100, patches: 1 },
            ..Default::default()
        };
        let network = Network::new(&spec, Kernels::Reference).expect("a sound plan");
        for samples in [300, 100, 7] {
            let mut before = Lesson::of(&network, samples, 0);
            assert_eq!((before.layer, before.group, before.first), (0, 0, 0));
            for number in 1..samples {
                let lesson = Lesson::of(&network, samples, number);
                assert!(lesson.first <= number && number < lesson.end);
                if lesson != before {
                    assert_eq!(lesson.first, before.end);
                    assert!((lesson.layer, lesson.group) > (before.layer, before.group));
                }
                before = lesson;
            }
            assert_eq!((before.layer, before.group, before.end), (2, 1, samples));
            assert_eq!(Lesson::of(&network, samples, samples + 5), before);
        }
    }
}
