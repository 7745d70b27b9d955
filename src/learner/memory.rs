//! The memory plan: one function takes all buffers, over real memory or while counting.

use super::{Encoder, Learner, MAX_LANES, Options, batch, rebuild, stem, step};
use crate::fixed::LaggedShift;
use crate::guard::integrity::Part;
use crate::net::arena::Arena;
use crate::net::error::PlanError;
use crate::net::forward::Scratch;
use crate::net::head::Head;
use crate::net::network::Network;
use crate::net::spec::{InputKind, MAX_LAYERS, Spec};
use crate::replay::{Beside, Lens, Replay};

/// One line of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanItem {
    pub name: &'static str,
    pub bytes: usize,
}

/// What a learner will hold, to the byte.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub items: heapless::Vec<PlanItem, 16>,
    /// Sum of the items.
    pub ram_bytes: usize,
    /// Weights that are read from flash and take no RAM, of one byte each.
    pub flash_weights: usize,
    /// Layer weights, without the head.
    pub params: usize,
    pub feature_dim: usize,
    /// Multiply-accumulates of one feature.
    pub macs_forward: usize,
    /// Multiply-accumulates of one step of the pretext (of one sample's lesson, for a dictionary alone).
    pub macs_step: usize,
}

impl Plan {
    /// Bytes of memory that [`Learner::new`] wants: the plan and the room to align its first buffer.
    pub fn block_len(&self) -> usize {
        Arena::block_len(self.ram_bytes)
    }
}

// On a small stack the learner that is only counted must be gone before the real one is made.
#[inline(never)]
pub(super) fn plan(spec: &Spec, options: &Options) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let mut arena = Arena::counting();
    let mut place = None;
    let learner = take(spec, options, &mut arena, Some(&mut plan), &mut place)?;
    let network = &learner.network;
    plan.ram_bytes = arena.used();
    plan.flash_weights = in_flash(network, options);
    plan.params = network.encoder_params();
    plan.feature_dim = network.feature_dim;
    plan.macs_forward = network.macs_forward();
    plan.macs_step = match network.heads.iter().map(|h| network.macs_step_view(h) * h.pretext.rows()).max() {
        Some(most) => most,
        None => {
            let stem = &network.tensors[network.layers[0].tensors.clone()];
            let patch = |t: &crate::net::network::Tensor| 3 * t.conv.fan_in() * t.conv.fan_in() + t.conv.weights();
            stem.iter().map(patch).sum::<usize>() * spec.dictionary.patches as usize
        }
    };
    Ok(plan)
}

/// Weights that are read from flash.
fn in_flash(network: &Network, options: &Options) -> usize {
    if options.flash_weights { network.trained_range().start } else { 0 }
}

fn check(spec: &Spec, options: &Options) -> Result<(), PlanError> {
    let within = |key, value: u64, least, most| {
        if (least..=most).contains(&value) { Ok(()) } else { Err(PlanError::OutOfRange { key, least, most }) }
    };
    within("lanes (--threads)", options.lanes as u64, 1, MAX_LANES as u64)?;
    within("[replay] capacity", spec.replay.capacity as u64, 0, 1 << 24)?;
    if spec.guard.canaries > 0 {
        within("[guard] canaries", spec.guard.canaries as u64, 2, 1024)?;
    }
    within("[guard] lesson_steps", u64::from(spec.guard.lesson_steps), 1, 1 << 20)?;
    within("[dictionary] samples", spec.dictionary.samples, 1, 1 << 40)?;
    within("[dictionary] patches", u64::from(spec.dictionary.patches), 1, 64)?;
    within("[optimizer] step", u64::from(spec.optimizer.step), 1, 4096)?;
    within("[optimizer] floor", u64::from(spec.optimizer.floor), 1, u64::from(spec.optimizer.step))?;
    for (key, share) in [
        ("[views] crop_area", spec.views.crop_area),
        ("[views] gain", spec.views.gain),
        ("[views] saturation", spec.views.saturation),
        ("[views] grey", spec.views.grey),
        ("[views] jitter", spec.views.jitter),
        ("[views] mask", spec.views.mask),
        ("[views] mask_bands", spec.views.mask_bands),
        ("[views] shift", spec.views.shift),
        ("[views] stretch", spec.views.stretch),
        ("[views] warp", spec.views.warp),
        ("[views] transpose", spec.views.transpose),
        ("[views] equaliser", spec.views.equaliser),
        ("[views] floor", spec.views.floor),
        ("[views] turn", spec.views.turn),
        ("[views] offset", spec.views.offset),
        ("[views] noise", spec.views.noise),
    ] {
        within(key, u64::from(share), 0, 256)?;
    }
    Ok(())
}

/// Bytes of one stored sample.
fn stored_len(spec: &Spec, network: &Network) -> usize {
    network.input.len() * if spec.input.kind == InputKind::Window { 2 } else { 1 }
}

/// Bytes that an inbox has beside those of a sample, for what a frame of the link has around them: tag, number, time,
/// segment, shape and length as varints, and a checksum. They are 51 at most, and memory is taken in 64.
pub const AROUND_SAMPLE: usize = 64;

/// Bytes behind the stored sample: see [`Learner::inbox`].
pub(super) const fn inbox_slack(lean: bool) -> usize {
    if lean { AROUND_SAMPLE } else { 0 }
}

/// Length of the descriptor by which the redundancy policy compares samples: the first layer pooled to 2×2.
pub(super) fn descriptor_len(network: &Network) -> usize {
    network.descriptor_grid().len()
}

/// Takes all memory of a learner from `arena`, noting each part in `plan`, and makes it in `place`.
// By itself, so that its stack is gone when the learner starts.
#[inline(never)]
pub(super) fn take<'p, 'm>(
    spec: &Spec,
    options: &Options,
    arena: &mut Arena<'m>,
    plan: Option<&mut Plan>,
    place: &'p mut Option<Learner<'m>>,
) -> Result<&'p mut Learner<'m>, PlanError> {
    check(spec, options)?;
    let mut network = Network::empty(spec, options.kernels);
    network.lay_out(spec)?;
    if options.lean {
        network.make_lean();
    }
    let trained = network.trained_range().len();
    let trained = if spec.trains() { trained } else { 0 };
    let (whitening_len, dictionary_len, _) = stem::lengths(&network);
    let mut marks: heapless::Vec<(&'static str, usize), 16> = heapless::Vec::new();
    let mut mark = |name, arena: &Arena| {
        let _ = marks.push((name, arena.used()));
    };

    let counters = arena.take(1);
    let health = arena.take(1);
    let watch = arena.take(1);
    let judged = network.judged;
    let record = arena.take(usize::from(judged));
    let sums = arena.take(if judged { Part::ALL.len() } else { 0 });
    mark("counters", arena);
    let in_flash = in_flash(&network, options);
    let learning = Encoder::take(&network, in_flash, arena);
    mark("learning encoder", arena);
    // Without canaries nothing is judged, and what learns is what is read.
    let published = if judged { Encoder::take(&network, in_flash, arena) } else { Encoder::none() };
    mark("published encoder", arena);
    let packed_back = arena.take(if spec.trains() { network.packed_back_len } else { 0 });
    mark("weights for backward", arena);
    let masters = arena.take(trained);
    let embeds = network.heads.iter().any(|head| !head.pretext.task.rebuilds());
    let signs = embeds || network.heads.iter().any(|head| head.pretext.batch >= rebuild::ENOUGH_FOR_SIGNS);
    let with_momentum = if spec.optimizer.momentum && signs { trained } else { 0 };
    let momentum = arena.take(with_momentum);
    let objective_len = step::objective_len(&network);
    let objective = arena.take(objective_len);
    mark("masters and momentum", arena);
    let accepted_masters = arena.take(if judged { trained } else { 0 });
    let accepted_momentum = arena.take(if judged { with_momentum } else { 0 });
    let accepted_objective = arena.take(if judged { objective_len } else { 0 });
    mark("last accepted lesson", arena);
    let learns_stem = usize::from(!options.flash_weights);
    let whitening = arena.take(learns_stem * whitening_len);
    let dictionary = arena.take(learns_stem * dictionary_len);
    mark("dictionary", arena);
    let scales = arena.take(batch::scales_len(spec));
    let mut replay_spec = spec.replay.clone();
    if !spec.trains() {
        // A dictionary alone needs no past but the guard's canaries.
        replay_spec.capacity = spec.guard.canaries;
    }
    let frame = stored_len(spec, &network);
    if !embeds && spec.trains() {
        // The newest sample itself is the first of a step; the guard has its canaries in the buffer.
        replay_spec.capacity = replay_spec.capacity.max(spec.guard.canaries);
        replay_spec.fresh = 0;
    }
    let mut per_step = network.heads.iter().map(|head| head.pretext.samples_per_step).filter(|_| embeds).max();
    if !embeds && replay_spec.capacity == 0 {
        replay_spec.fresh = 0;
        per_step = Some(0);
    }
    let held = if network.base > 0 { network.base_input().len() } else { frame };
    let (neighbours, per_step) = (network.neighbours(), per_step.unwrap_or(1));
    let beside = Beside { len: if network.beside() > 0 { spec.input.beside } else { 0 }, share: network.beside() };
    let lens = Lens { frame: held, descriptor: descriptor_len(&network), beside, sealed: judged };
    let replay = Replay::take(&replay_spec, neighbours, per_step, lens, arena);
    let beside = arena.take(beside.len);
    mark("replay", arena);
    let stored = arena.take(frame + inbox_slack(options.lean));
    // An image that nobody stores is turned into the encoder's input where it stands.
    let not_stored = network.base > 0 || (replay_spec.capacity == 0 && !spec.trains());
    let in_place = spec.input.kind == InputKind::Image && not_stored;
    let input = arena.take(if in_place { 0 } else { network.input.len() });
    let keeps_feature = !judged && !network.pools_last;
    let feature = arena.take(if keeps_feature { network.feature_dim } else { 0 });
    let windows = arena.take(if judged { 0 } else { network.windows_len() });
    mark("newest sample", arena);
    let scratch_len = scratch_len(spec, &network, options);
    let scratch = arena.take(scratch_len);
    mark("scratch", arena);

    if let Some(plan) = plan {
        let mut before = 0;
        for (name, used) in marks {
            let _ = plan.items.push(PlanItem { name, bytes: used - before });
            before = used;
        }
    }
    Ok(place.insert(Learner {
        spec: spec.clone(),
        network,
        lanes: options.lanes,
        lean: options.lean,
        counters,
        health,
        watch,
        record,
        sums,
        learning,
        published,
        packed_back,
        masters,
        momentum,
        objective,
        accepted_masters,
        accepted_momentum,
        accepted_objective,
        whitening,
        dictionary,
        scales,
        replay,
        beside,
        stored,
        input,
        feature,
        windows,
        feature_shifts: [LaggedShift::unset(); MAX_LAYERS],
        scratch,
    }))
}

/// The largest of what the calls need at one time.
// Its buffers are not to stand on the stack of what is deeper.
#[inline(never)]
fn scratch_len(spec: &Spec, network: &Network, options: &Options) -> usize {
    let counted = |take: &dyn Fn(&mut Arena)| {
        let mut arena = Arena::counting();
        take(&mut arena);
        arena.used()
    };
    let largest = [
        counted(&|arena| {
            stem::LessonBuffers::take(network, arena);
        }),
        counted(&|arena| {
            let _: &mut [i8] = arena.take(network.kept_len());
            Scratch::take(network, arena);
            let _: &mut [i8] = arena.take(if network.describes { descriptor_len(network) } else { 0 });
        }),
        counted(&|arena| {
            let _: &mut [i32] = arena.take(batch::work_len(network));
        }),
        network
            .heads
            .iter()
            .map(|head| counted(&|arena| take_for_step(network, head, options, arena)))
            .max()
            .unwrap_or(0),
        counted(&|arena| {
            if network.judged {
                super::lesson::take_for_judging(spec, network, arena);
            }
        }),
    ];
    // The scratch block itself starts aligned.
    largest.into_iter().max().unwrap_or(0) + crate::net::arena::ALIGNMENT
}

/// Takes what a step of `head` needs.
#[inline(never)]
fn take_for_step(network: &Network, head: &Head, options: &Options, arena: &mut Arena) {
    if head.pretext.task.rebuilds() {
        rebuild::Lane::take_all(network, head, options.lanes, arena);
    } else {
        step::StepBuffers::take(network, head, options.lanes, options.lean, arena);
    }
}
