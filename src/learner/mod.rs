//! The learner: encoder, pretext, optimizer, replay and guard behind two calls, [`Learner::observe`] and
//! [`Learner::step`]. All its memory is one block, planned before the first sample; neither call allocates.
//!
//! `runtime` and firmware drive it. It never touches files, threads or clocks; work is split over [`Join`].

mod batch;
mod encoder;
mod keep;
mod lanes;
mod lesson;
mod map;
mod memory;
mod observe;
mod rebuild;
mod rebuilt;
mod stem;
mod step;

pub use batch::{SampleError, follow_scales, input_of, pick_of, scales_len, store_sample, view_of, work_len};
use encoder::Encoder;
#[cfg(feature = "std")]
pub(crate) use lesson::DICTIONARY_LESSON;
pub use memory::{AROUND_SAMPLE, Plan, PlanItem};
#[cfg(feature = "cli")]
pub(crate) use rebuild::ENOUGH_FOR_SIGNS;
#[cfg(feature = "std")]
pub(crate) use rebuild::{Shared as RebuildStep, sample_of};
pub use rebuilt::Pictures;
#[cfg(feature = "std")]
pub(crate) use step::{objective_len, objective_range, step_size};

use bytemuck::{Pod, Zeroable};

use crate::augment::signal;
use crate::fixed::LaggedShift;
use crate::guard::integrity::Part;
use crate::guard::watch::Watch;
use crate::guard::{Fault, Health, Record};
use crate::kernels::Kernels;
use crate::net::error::PlanError;
use crate::net::forward::{Params, Shifts};
use crate::net::network::Network;
use crate::net::spec::{MAX_LAYERS, Spec};
use crate::net::{arena::Arena, update};
use crate::replay::Replay;
use crate::sample::{EncoderVersion, Seed};

/// Most lanes (threads) that a step is split over; without threads there is one, as each takes some stack.
pub const MAX_LANES: usize = if cfg!(feature = "std") { 16 } else { 1 };

/// Runs two jobs, at the same time where it can.
pub trait Join: Sync {
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send);
}

/// One after the other, on the calling thread.
pub struct Alone;

impl Join for Alone {
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        a();
        b();
    }
}

/// Random tensors of the learner, beside those of `net::update`.
pub(crate) mod tensor {
    pub const EMBEDDING: u32 = 0x500;
    pub const VIEW: u32 = 0x1_0000;
    pub const MASK: u32 = 0x2_0000;
    pub const PICK: u32 = 0x700;
    pub const REPLAY: u32 = 0x701;
    pub const PATCH: u32 = 0x800;
}

/// All single numbers of the learner's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Counters {
    pub seed: u64,
    /// Samples taken in.
    pub observed: u64,
    /// Patches that the stem has learned from.
    pub patches: u64,
    /// Steps of the pretext.
    pub steps: u64,
    /// Steps since the last lesson ended, or samples for an encoder that is its dictionary alone.
    pub lesson_progress: u64,
    /// Samples since the last step.
    pub credit: u64,
    pub version: u64,
    pub lessons_published: u64,
    pub lessons_rolled_back: u64,
    /// Lessons undone since the last one published; each halves the step size.
    pub undone_in_a_row: u64,
    /// Loss of the first step and running loss, in 1/256 nat; the latter in 1/16 of that.
    pub loss_first: u64,
    pub loss_running: u64,
    /// Activations and errors that were clamped, and all that were narrowed.
    pub clamped: u64,
    pub narrowed: u64,
    /// Deviation of the stem's patches, in 1/16, for each of its two convolutions; of the patches of a dictionary on
    /// another, and the shift that its filters share.
    pub deviation: [u32; 2],
    /// Samples from which the dictionaries are to be learned, and patches of each.
    pub stem_samples: u64,
    pub stem_patches: u64,
    /// Steps that this learner expects to make in all, for the decay of the step size; 0: an endless stream.
    pub horizon: u64,
}

impl Counters {
    /// The counters of a learner that has seen nothing: its seed, the plan of its stem's lesson, and its horizon.
    pub(crate) fn at_start(spec: &Spec, network: &Network, options: &Options) -> Self {
        let (per_steps, steps) = network.samples_for_steps();
        // The stem gets its due, but at most a quarter of a short stream, with more patches of each sample then.
        let dictionaries = network.dictionaries().len() as u64;
        let wanted = spec.dictionary.samples.max(1).saturating_mul(dictionaries.max(1));
        let stem_samples = match options.expected_samples {
            Some(expected) if spec.trains() => wanted.min(expected / 4).max(1),
            Some(expected) => wanted.min(expected).max(1),
            None => wanted,
        };
        let has_stem = dictionaries > 0 && !options.flash_weights;
        let stem_patches = (wanted * u64::from(spec.dictionary.patches)).div_ceil(stem_samples).min(64);
        let learned = options.expected_samples.map(|n| n.saturating_sub(if has_stem { stem_samples } else { 0 }));
        Counters {
            seed: options.seed.0,
            stem_samples: if has_stem { stem_samples } else { 0 },
            stem_patches,
            horizon: learned.map_or(0, |n| (n * steps.max(1) / per_steps.max(1)).max(1)),
            ..Zeroable::zeroed()
        }
    }
}

/// How the learner is to be run, beside the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub seed: Seed,
    /// Samples that will come in all, where that is known: the stem's lesson and the step size are fitted to it.
    pub expected_samples: Option<u64>,
    /// Lanes that a step is split over; the bits do not depend on it.
    pub lanes: usize,
    pub kernels: Kernels,
    /// As little memory as can be: what can be computed again is not kept. More work, the same bits.
    pub lean: bool,
    /// The weights below the lowest trained layer are read where they lie, in flash: [`Learner::with_flash_weights`].
    pub flash_weights: bool,
}

impl Options {
    /// An endless stream, one lane, the fastest kernels of this processor, activations kept.
    pub fn new(seed: Seed) -> Self {
        Options {
            seed,
            expected_samples: None,
            lanes: 1,
            kernels: Kernels::detect(),
            lean: false,
            flash_weights: false,
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Nothing was due.
    Idle,
    /// One step of the pretext; its loss in 1/256 nat.
    Trained { loss: u32 },
    /// The lesson ended and was published.
    Published { health: Health, version: EncoderVersion },
    /// The lesson was undone, as it ended or, where memory was damaged, before.
    Undone { health: Health, fault: Fault },
    /// What lies in memory was damaged and cannot be repaired: learning is frozen until a state is restored. It must not
    /// be saved.
    Damaged { part: Part },
}

/// A kind of numbers in the state, with its bytes; what a checkpoint stores.
pub enum Numbers<'a> {
    I8(&'a mut [i8]),
    I16(&'a mut [i16]),
    I32(&'a mut [i32]),
    /// Plain records of this crate, little-endian.
    Bytes(&'a mut [u8]),
}

impl Numbers<'_> {
    pub fn bytes(&mut self) -> &mut [u8] {
        match self {
            Numbers::I8(v) => bytemuck::cast_slice_mut(v),
            Numbers::I16(v) => bytemuck::cast_slice_mut(v),
            Numbers::I32(v) => bytemuck::cast_slice_mut(v),
            Numbers::Bytes(v) => v,
        }
    }
}

/// See the module.
pub struct Learner<'m> {
    spec: Spec,
    network: Network,
    lanes: usize,
    lean: bool,
    counters: &'m mut [Counters],
    /// Health of the published encoder when it was published, and of the last lesson judged.
    health: &'m mut [[u32; 4]],
    watch: &'m mut [Watch],
    /// What the guard keeps, and the checksums of [`Part::ALL`]; where there is a judge. The latter are no part of the
    /// state, as they are made of it.
    record: &'m mut [Record],
    sums: &'m mut [u64],
    /// The encoder that learns, and the one that controllers read.
    learning: Encoder<'m>,
    published: Encoder<'m>,
    packed_back: &'m mut [i16],
    masters: &'m mut [i16],
    momentum: &'m mut [i16],
    /// What the tasks' losses keep from step to step.
    objective: &'m mut [i32],
    /// Masters, momentum and the losses' own state of the last lesson that was published.
    accepted_masters: &'m mut [i16],
    accepted_momentum: &'m mut [i16],
    accepted_objective: &'m mut [i32],
    whitening: &'m mut [i16],
    dictionary: &'m mut [i16],
    scales: &'m mut [signal::ChannelScale],
    replay: Replay<'m>,
    /// The newest sample as it is stored, and slack behind it; and the sample as the encoder takes it; where the latter is
    /// empty, in place of the former.
    stored: &'m mut [u8],
    /// What another sensor says of the sample that comes next.
    beside: &'m mut [i8],
    input: &'m mut [i8],
    /// Feature of the newest sample, where nobody judges lessons; or the window sums that it is narrowed from.
    feature: &'m mut [i8],
    windows: &'m mut [i16],
    /// Shifts of the blocks of that feature.
    feature_shifts: [LaggedShift; MAX_LAYERS],
    /// Shared by everything that is needed within one call only.
    scratch: &'m mut [u8],
}

impl<'m> Learner<'m> {
    /// Bytes that a learner of `spec` holds, item by item.
    ///
    /// # Errors
    /// [`PlanError`], naming the layer or key that cannot be.
    pub fn plan(spec: &Spec, options: &Options) -> Result<Plan, PlanError> {
        memory::plan(spec, options)
    }

    /// Lanes, at most `most`, that a step of `spec` is worth: to wake another core takes longer than it saves on a small
    /// step.
    pub fn lanes_worth(spec: &Spec, most: usize) -> usize {
        /// Multiply-adds of about half a millisecond.
        const OF_A_LANE: usize = 1 << 25;
        let one = Options { kernels: Kernels::Reference, ..Options::new(Seed(0)) };
        Self::plan(spec, &one).map_or(1, |plan| (plan.macs_step / OF_A_LANE).clamp(1, most.max(1)))
    }

    /// A learner that has seen nothing, over `memory` of at least `plan().block_len()` bytes.
    ///
    /// # Errors
    /// As [`Learner::plan`], or [`PlanError::MemoryTooSmall`].
    pub fn new(spec: &Spec, options: &Options, memory: &'m mut [u8]) -> Result<Self, PlanError> {
        Self::with_flash_weights(spec, options, &[], memory)
    }

    /// As [`Learner::new`], for [`Options::flash_weights`]: `flash` begins with the weights of all tensors below the lowest
    /// trained one, `i8`, in their order; they are no part of the learner's state. The stem is not learned.
    ///
    /// # Errors
    /// As [`Learner::new`], or [`PlanError::FlashWeights`].
    pub fn with_flash_weights(
        spec: &Spec,
        options: &Options,
        flash: &'m [i8],
        memory: &'m mut [u8],
    ) -> Result<Self, PlanError> {
        let mut place = None;
        Self::place(spec, options, flash, memory, &mut place)?;
        // It is there, or it was an error.
        place.ok_or(PlanError::NoLayers)
    }

    /// As [`Learner::with_flash_weights`], made where it is to stay: a learner is some kilobytes, and a copy of it more than
    /// a small stack may hold.
    ///
    /// # Errors
    /// As [`Learner::with_flash_weights`].
    pub fn place<'p>(
        spec: &Spec,
        options: &Options,
        flash: &'m [i8],
        memory: &'m mut [u8],
        place: &'p mut Option<Self>,
    ) -> Result<&'p mut Self, PlanError> {
        let given = memory.len();
        let mut arena = Arena::over(memory);
        let learner = memory::take(spec, options, &mut arena, None, place)?;
        let needed = Arena::block_len(arena.used());
        if !arena.fits() || given < needed {
            return Err(PlanError::MemoryTooSmall { needed, given });
        }
        let needed = learner.network.weights_len - learner.learning.weights.len();
        let flash = flash.get(..needed).ok_or(PlanError::FlashWeights { needed, given: flash.len() })?;
        learner.learning.flash = flash;
        learner.published.flash = flash;
        learner.start(options);
        Ok(learner)
    }

    #[inline(never)]
    fn start(&mut self, options: &Options) {
        self.counters[0] = Counters::at_start(&self.spec, &self.network, options);
        self.record.fill(Record::at_start());
        self.learning.shifts[0] = Shifts::unset();
        let from = self.network.trained_range().start;
        for (number, tensor) in self.network.tensors.iter().enumerate().skip(self.network.first_trained) {
            let masters = &mut self.masters[tensor.weights - from..][..tensor.conv.weights()];
            for (element, w) in masters.iter_mut().enumerate() {
                *w = update::initial_master(tensor, number, element, options.seed);
            }
            if tensor.zero_mean {
                update::remove_filter_means(tensor.conv.fan_in(), masters);
            }
        }
        let below = if options.flash_weights { 0 } else { self.network.first_trained };
        for number in 0..below {
            let tensor = self.network.tensors[number];
            if self.network.dictionaries().iter().any(|l| l.tensors.contains(&number)) {
                continue;
            }
            // Not trained and no dictionary: random and fixed, or to be restored from a checkpoint.
            for element in 0..tensor.conv.weights() {
                let master = update::initial_master(&tensor, number, element, options.seed);
                self.learning.weights[tensor.weights + element] = update::narrow(master);
            }
        }
        if !options.flash_weights {
            self.start_dictionaries();
        }
        self.narrow_masters();
        self.learning.repack(&self.network, 0);
        self.accept();
    }

    /// Makes the encoder that learns the published one, and its masters those to come back to.
    fn accept(&mut self) {
        if self.network.judged {
            self.published.copy_from(&self.learning);
            self.accepted_masters.copy_from_slice(self.masters);
            self.accepted_momentum.copy_from_slice(self.momentum);
            self.accepted_objective.copy_from_slice(self.objective);
            self.seal_all();
        }
    }

    /// Without a judge the encoder that learns is the published one.
    fn serving(&self) -> &Encoder<'m> {
        if self.network.judged { &self.published } else { &self.learning }
    }

    /// 8-bit weights from the masters, and their packed forms.
    fn narrow_masters(&mut self) {
        let range = self.network.trained_range();
        let in_flash = self.learning.flash.len();
        let weights = &mut self.learning.weights[range.start - in_flash..range.end - in_flash];
        self.network.kernels.run(update::Narrow { masters: self.masters, weights });
        self.learning.repack(&self.network, self.network.first_trained);
        self.pack_back();
    }

    fn pack_back(&mut self) {
        for tensor in self.network.tensors.iter().skip(self.network.first_trained) {
            let weights = tensor.weights_in(self.learning.flash, self.learning.weights);
            let out = &mut self.packed_back[tensor.packed_back..];
            self.network.kernels.pack_back(&tensor.conv, weights, out);
        }
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Bytes of one stored sample.
    pub fn stored_len(&self) -> usize {
        self.stored.len() - memory::inbox_slack(self.lean)
    }

    pub fn counters(&self) -> &Counters {
        &self.counters[0]
    }

    pub fn version(&self) -> EncoderVersion {
        EncoderVersion(self.counters[0].version as u32)
    }

    /// Health of the published encoder when it was published.
    pub fn health(&self) -> Health {
        let [effective_rank, spread, loss, saturation] = self.health[0];
        Health { effective_rank, spread, loss, saturation }
    }

    /// The published encoder, for perceiving.
    pub fn published(&self) -> (Params<'_>, &[signal::ChannelScale]) {
        (self.serving().params(), self.scales)
    }

    /// Names and numbers of the whole state, in a fixed order: what a checkpoint stores and the state hash covers.
    ///
    /// After writing to them call [`Learner::restored`].
    pub fn visit_state(&mut self, mut each: impl FnMut(&'static str, Numbers)) {
        each("counters", Numbers::Bytes(bytemuck::cast_slice_mut(self.counters)));
        each("health", Numbers::Bytes(bytemuck::cast_slice_mut(self.health)));
        each("learning.weights", Numbers::I8(self.learning.weights));
        each("learning.thresholds", Numbers::I32(self.learning.thresholds));
        each("learning.shifts", Numbers::Bytes(bytemuck::cast_slice_mut(self.learning.shifts)));
        each("published.weights", Numbers::I8(self.published.weights));
        each("published.thresholds", Numbers::I32(self.published.thresholds));
        each("published.shifts", Numbers::Bytes(bytemuck::cast_slice_mut(self.published.shifts)));
        each("masters", Numbers::I16(self.masters));
        each("momentum", Numbers::I16(self.momentum));
        each("accepted.masters", Numbers::I16(self.accepted_masters));
        each("accepted.momentum", Numbers::I16(self.accepted_momentum));
        each("objective", Numbers::I32(self.objective));
        each("accepted.objective", Numbers::I32(self.accepted_objective));
        each("stem.whitening", Numbers::I16(self.whitening));
        each("stem.dictionary", Numbers::I16(self.dictionary));
        each("scales", Numbers::Bytes(bytemuck::cast_slice_mut(self.scales)));
        self.replay.visit(|name, bytes| each(name, Numbers::Bytes(bytes)));
        each("watch", Numbers::Bytes(bytemuck::cast_slice_mut(self.watch)));
        each("guard", Numbers::Bytes(bytemuck::cast_slice_mut(self.record)));
    }

    /// Makes the derived forms again after the state was written.
    pub fn restored(&mut self) {
        self.learning.repack(&self.network, 0);
        if self.network.judged {
            self.published.repack(&self.network, 0);
        }
        self.pack_back();
        self.seal_all();
        self.replay.seal();
    }
}
