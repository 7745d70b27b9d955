//! Taking samples in: the stem's lesson, the replay buffer, and the feature of the newest sample.

use core::ops::Range;

use super::rebuild::may_fall;
use super::{Learner, batch, memory, tensor};
use crate::augment::{fit, image};
use crate::fixed::Seen;
use crate::fixed::random::Draws;
use crate::guard::watch::{self, Unsound};
use crate::kernels::narrow;
use crate::net::arena::Arena;
use crate::net::forward::{self, ForwardSeen, Scratch};
use crate::net::spec::{InputKind, MAX_LAYERS};
use crate::sample::{Micros, Sample, Seed};

use super::{SampleError, input_of, store_sample};

/// Exact repeats in a row that are no fault yet: of frames, whose noise is never the same twice, and of windows, which in a
/// quiet room or a digital silence may be.
const FRAME_REPEATS: u32 = 8;
const WINDOW_REPEATS: u32 = 64;

impl Learner<'_> {
    /// Takes in one sample: into replay, and as a lesson for the stem while that is being learned.
    ///
    /// # Errors
    /// [`SampleError`]; the learner is then as it was.
    pub fn observe(&mut self, sample: &Sample) -> Result<(), SampleError> {
        self.hold(sample)?;
        self.observe_held(sample.time, sample.segment);
        Ok(())
    }

    /// What another sensor says of the sample that is observed next: `[input] beside` numbers, in any unit that is the
    /// same for the whole stream. Without a pretext that asks for it nothing is done.
    ///
    /// # Errors
    /// [`SampleError::Beside`] where they are not as many.
    pub fn stand_beside(&mut self, numbers: &[i8]) -> Result<(), SampleError> {
        if self.beside.is_empty() {
            return Ok(());
        }
        if numbers.len() != self.beside.len() {
            return Err(SampleError::Beside { numbers: numbers.len(), wants: self.beside.len() });
        }
        self.beside.copy_from_slice(numbers);
        Ok(())
    }

    /// As [`Learner::observe`], of the sample that is held. One of which latents are kept is changed for them: it is to
    /// be perceived before, or by [`Learner::newest_feature`].
    pub fn observe_held(&mut self, time: Micros, segment: u32) {
        let frozen = self.frozen().is_some();
        if self.watch_newest(!frozen).is_err() || frozen {
            return self.observe_only(time, segment, frozen);
        }
        if self.learns_stem() {
            self.observe_dictionary();
        }
        if !self.network.judged {
            self.follow_newest();
        }
        self.remember_newest(time, segment);
        self.counters[0].observed += 1;
        if !self.spec.trains() {
            self.counters[0].lesson_progress += 1;
        } else if self.learned_from() > self.counters[0].stem_samples {
            self.counters[0].credit += 1;
        }
    }

    /// Takes in a sample that nothing is learned from. While learning is frozen, sound ones are remembered.
    fn observe_only(&mut self, time: Micros, segment: u32, sound: bool) {
        if !self.network.judged {
            self.look_at_newest();
        }
        if sound {
            self.remember_newest(time, segment);
        }
        self.counters[0].observed += 1;
        self.watch[0].unlearned += 1;
    }

    /// Makes the held sample the encoder's input, by scales that have followed it where it is sound and they may, and
    /// lets the guard look at it.
    fn watch_newest(&mut self, scales_follow: bool) -> Result<(), Unsound> {
        let image = self.spec.input.kind == InputKind::Image;
        if image {
            self.make_input();
        }
        let stored_len = self.stored_len();
        let channels = if image { self.spec.input.channels } else { 1 };
        let input = if self.input.is_empty() { bytemuck::cast_slice(&self.stored[..stored_len]) } else { &*self.input };
        let step = watch::stride(input.len(), channels);
        // A line that is said again is sound however often; a room where nothing stirs is for long.
        let stored = &self.stored[..stored_len];
        let (is_flat, patience) = match self.spec.input.kind {
            InputKind::Image => (watch::is_flat_frame(input, channels, step), FRAME_REPEATS),
            InputKind::Window => (watch::is_flat_window(stored, 2 * self.spec.input.channels), WINDOW_REPEATS),
            InputKind::Audio | InputKind::Latents => (false, WINDOW_REPEATS),
            InputKind::Tokens => (false, u32::MAX),
        };
        let sound = self.watch[0].look(stored, is_flat, patience);
        if !image {
            if sound.is_ok() && scales_follow {
                batch::follow_scales(&self.spec, self.scales, &self.stored[..stored_len]);
            }
            self.make_input();
        }
        let input = if self.input.is_empty() { bytemuck::cast_slice(&self.stored[..stored_len]) } else { &*self.input };
        self.watch[0].follow(input, step, sound.is_ok());
        if let Some(record) = self.record.first_mut() {
            record.histogram.follow(input, step, sound.is_ok());
        }
        sound
    }

    /// Takes in one sample for the canaries and the scales only: nothing is learned from it.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn remember(&mut self, sample: &Sample) -> Result<(), SampleError> {
        self.hold(sample)?;
        self.take_in();
        self.remember_newest(sample.time, sample.segment);
        self.counters[0].observed += 1;
        Ok(())
    }

    /// Holds `sample`, in the form in which it is stored, for the calls that take in or perceive the held one.
    ///
    /// # Errors
    /// [`SampleError`]; the one before is still held then.
    pub fn hold(&mut self, sample: &Sample) -> Result<(), SampleError> {
        let stored_len = self.stored_len();
        let stored = &mut self.stored[..stored_len];
        let work = Arena::over(self.scratch).take(batch::work_len(&self.network));
        store_sample(&self.spec, &self.network, sample, stored, work)?;
        self.fit_in_place();
        Ok(())
    }

    /// Memory in which a sample can arrive and then be held without a copy elsewhere: that of the held sample, and with
    /// [`Options::lean`](super::Options::lean) [`AROUND_SAMPLE`](super::AROUND_SAMPLE) bytes more. Before anything is
    /// written here, what is due of the held sample must be done: [`Learner::step`] until it is idle.
    pub fn inbox(&mut self) -> &mut [u8] {
        self.stored
    }

    /// Holds the sample whose pixels or little-endian readings, in the shape of the model's input, stand in the inbox at
    /// `values`.
    ///
    /// # Errors
    /// [`SampleError::Inbox`] where they are not as many as the model's, or not within the inbox.
    pub fn hold_inbox(&mut self, values: Range<usize>) -> Result<(), SampleError> {
        let wants = self.stored_len();
        if values.len() != wants || values.end > self.stored.len() {
            return Err(SampleError::Inbox { bytes: values.len(), wants });
        }
        self.stored.copy_within(values, 0);
        self.fit_in_place();
        Ok(())
    }

    /// Pixels that nobody stores become the encoder's input where they stand.
    fn fit_in_place(&mut self) {
        if self.input.is_empty() {
            let stored_len = self.stored_len();
            fit::to_input_in_place(&mut self.stored[..stored_len], self.spec.input.channels);
        }
    }

    /// Makes the held sample the encoder's input, by scales that have followed it.
    fn take_in(&mut self) {
        let stored_len = self.stored_len();
        batch::follow_scales(&self.spec, self.scales, &self.stored[..stored_len]);
        self.make_input();
    }

    pub(super) fn make_input(&mut self) {
        if !self.input.is_empty() {
            let stored = &self.stored[..self.stored_len()];
            input_of(&self.spec, self.scales, stored, self.input);
        }
    }

    /// The newest sample as the encoder takes it.
    pub(super) fn newest(&self) -> &[i8] {
        if self.input.is_empty() { bytemuck::cast_slice(&self.stored[..self.stored_len()]) } else { self.input }
    }

    /// The feature of the newest sample; the shifts of the feature, and of layers that are still settling, follow it.
    fn follow_newest(&mut self) {
        let (seen, blocks) = self.look_at_newest();
        let settled: [bool; MAX_LAYERS] = core::array::from_fn(|layer| self.has_settled(layer));
        let shifts = &mut self.learning.shifts[0];
        for (index, layer) in self.network.layers.iter().enumerate() {
            if (layer.dictionary || index < self.network.base) && !settled[index] {
                shifts.layers[index].follow(seen.layers[index]);
            }
        }
        let rebuilds = self.network.heads.iter().any(|head| head.pretext.task.rebuilds());
        let fall = !rebuilds || may_fall(self.counters[0].observed);
        let features = shifts.feature.iter_mut().zip(blocks).take(self.network.feature.len());
        features.for_each(|(shift, seen)| shift.follow_slowly(seen, fall));
    }

    /// The feature of the newest sample, and what its layers and blocks saw.
    fn look_at_newest(&mut self) -> (ForwardSeen, [Seen; MAX_LAYERS]) {
        let scratch = core::mem::take(&mut self.scratch);
        let mut arena = Arena::over(scratch);
        let activations = arena.take(self.network.kept_len());
        let mut buffers = Scratch::take(&self.network, &mut arena);
        let windows = core::mem::take(&mut self.windows);
        buffers.windows = &mut *windows;
        let feature = core::mem::take(&mut self.feature);
        let params = self.learning.params();
        let (seen, blocks) = forward::feature(&self.network, params, self.newest(), activations, feature, &mut buffers);
        self.feature = feature;
        self.windows = windows;
        self.scratch = scratch;
        self.feature_shifts = self.learning.shifts[0].feature;
        // A shift that was not known was the exact one.
        let unknown = self.feature_shifts.iter_mut().zip(blocks).filter(|(shift, _)| !shift.is_set());
        unknown.take(self.network.feature.len()).for_each(|(shift, seen)| shift.follow(seen));
        (seen, blocks)
    }

    /// Puts the newest sample, or what the lowest trained layer reads of it, into the replay buffer.
    fn remember_newest(&mut self, time: Micros, segment: u32) {
        let stored_len = self.stored_len();
        let (seed, observed) = (Seed(self.counters[0].seed), self.counters[0].observed);
        let draws = Draws::new(seed, observed, tensor::REPLAY);
        let scratch = core::mem::take(&mut self.scratch);
        let mut arena = Arena::over(scratch);
        if self.network.base == 0 {
            let mut descriptor: &mut [i8] = &mut [];
            if self.replay.wants_descriptor() {
                let mut buffers = Scratch::take(&self.network, &mut arena);
                descriptor = arena.take(memory::descriptor_len(&self.network));
                batch::describe(&self.network, self.learning.params(), self.input, descriptor, &mut buffers);
            }
            self.replay.push(&self.stored[..stored_len], time.0, segment, descriptor, self.beside, draws);
        } else if self.has_settled(self.network.base - 1) {
            let input = bytemuck::cast_slice_mut(&mut self.stored[..stored_len]);
            image::relight(&self.spec.views, self.network.input, Draws::new(seed, observed, tensor::VIEW), input);
            let activations = arena.take(self.network.kept_len());
            let mut buffers = Scratch::take(&self.network, &mut arena);
            let (replay, params, beside) = (&mut self.replay, self.learning.params(), &*self.beside);
            forward::below(&self.network, params, input, activations, &mut buffers, |latent| {
                replay.push(bytemuck::cast_slice(latent), time.0, segment, &[], beside, draws);
            });
        }
        self.scratch = scratch;
    }

    /// The feature of `sample` by the published encoder: `i8`, [`Network::feature_dim`](crate::net::network::Network)
    /// long.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn perceive(&mut self, sample: &Sample, out: &mut [i8]) -> Result<(), SampleError> {
        self.hold(sample)?;
        self.perceive_held(out);
        Ok(())
    }

    /// As [`Learner::perceive`], of the sample that is held.
    pub fn perceive_held(&mut self, out: &mut [i8]) {
        self.make_input();
        let scratch = core::mem::take(&mut self.scratch);
        let mut arena = Arena::over(scratch);
        let activations = arena.take(self.network.kept_len());
        let mut buffers = Scratch::take(&self.network, &mut arena);
        let windows = core::mem::take(&mut self.windows);
        if !self.network.judged {
            buffers.windows = &mut *windows;
        }
        let params = self.serving().params();
        forward::feature(&self.network, params, self.newest(), activations, out, &mut buffers);
        self.windows = windows;
        self.scratch = scratch;
    }

    /// Makes the feature of `sample` the newest one where nobody judges lessons; nothing is learned from it.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn perceive_newest(&mut self, sample: &Sample) -> Result<(), SampleError> {
        self.hold(sample)?;
        self.perceive_newest_held();
        Ok(())
    }

    /// As [`Learner::perceive_newest`], of the sample that is held.
    pub fn perceive_newest_held(&mut self) {
        self.make_input();
        self.look_at_newest();
    }

    /// The feature of the sample that was observed last, where nobody judges lessons: calls `each` with its mantissas,
    /// some at a time, in order. Elsewhere there is none, as it is the perceiver who knows it.
    pub fn newest_feature(&self, mut each: impl FnMut(&[i8])) {
        const CHUNK: usize = 64;
        if !self.feature.is_empty() {
            return each(self.feature);
        }
        for ((_, grid), shift) in self.network.feature.iter().zip(&self.feature_shifts) {
            for sums in self.windows.get(..grid.len()).unwrap_or_default().chunks(CHUNK) {
                let mut narrow = [0; CHUNK];
                narrow::nearest(sums, shift.get(), &mut narrow);
                each(&narrow[..sums.len()]);
            }
        }
    }

    /// Lengths and exponents of the blocks of [`Learner::newest_feature`]: `value = m · 2^e` relative to the block's sums.
    pub fn newest_exponents(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.network.feature.iter().zip(&self.feature_shifts).map(|((_, grid), shift)| (grid.len(), shift.get()))
    }
}
