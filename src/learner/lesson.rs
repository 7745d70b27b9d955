//! The end of a lesson: the new encoder and the published one are measured on the same canaries, and the lesson is
//! published or undone.

use super::rebuild::Way;
use super::step::{objective_len, objective_range};
use super::{Did, Encoder, Learner, batch};
use crate::fixed::{LaggedShift, bit_length};
use crate::guard::{self, FREEZE_AFTER, Fault, Frozen, Health, Judged, Standing};
use crate::net::arena::Arena;
use crate::net::forward::{self, ForwardSeen, HeadActivations, Params, Scratch};
use crate::net::head::Head;
use crate::net::network::Network;
use crate::net::spec::{MAX_LAYERS, Spec};
use crate::net::task::{MAX_PRETEXTS, Task};
use crate::pretext::code::Code;
use crate::pretext::objective;
use crate::replay::Pick;
use crate::sample::{EncoderVersion, Seed};

/// Samples of a lesson of an encoder that is its dictionary alone.
pub(crate) const DICTIONARY_LESSON: u64 = 1024;
/// Step whose views the canaries are seen through; no training step reaches it.
const CANARY_STEP: u64 = u64::MAX;

/// Buffers for measuring one encoder.
pub(super) struct CanaryBuffers<'a> {
    activations: &'a mut [i8],
    head_input: &'a mut [i8],
    inner: &'a mut [i8],
    input: &'a mut [i8],
    /// The clean window that is to be rebuilt.
    window: &'a mut [i8],
    /// Pooled activations of the canaries, by which rank and spread are measured.
    rows: &'a mut [i32],
    embeddings: &'a mut [i32],
    /// What predictions are compared with.
    targets: &'a mut [i8],
    /// The losses' own state, which measuring is not to change.
    objective: &'a mut [i32],
    /// One for each head that compares embeddings.
    losses: heapless::Vec<objective::Buffers<'a>, MAX_PRETEXTS>,
    /// Of codes: the decoder's scores.
    scores: &'a mut [i32],
    /// One for each head; empty where it has no code.
    codes: heapless::Vec<Code<'a>, MAX_PRETEXTS>,
    scratch: Scratch<'a>,
}

impl<'a> CanaryBuffers<'a> {
    pub fn take(spec: &Spec, network: &Network, arena: &mut Arena<'a>) -> Self {
        let heads = || network.heads.iter();
        let embeds = || heads().filter(|head| !head.pretext.task.rebuilds());
        let rows = embeds().map(|head| spec.guard.canaries * head.pretext.views).max().unwrap_or(0);
        let dim = embeds().map(|head| network.embedding_dim(head)).max().unwrap_or(0);
        let rebuilds = heads().any(|head| head.pretext.task.rebuilds());
        let (mut losses, mut codes) = (heapless::Vec::new(), heapless::Vec::new());
        for head in network.heads.iter() {
            let rows = if head.pretext.task.rebuilds() { 0 } else { spec.guard.canaries * head.pretext.views };
            // There is room for one of each head.
            let _ = codes.push(Code::take(network, head, arena));
            let _ = losses.push(objective::Buffers::take(&head.pretext, rows, network.embedding_dim(head), arena));
        }
        CanaryBuffers {
            activations: arena.take(network.kept_len()),
            head_input: arena.take(heads().map(Head::input_len).max().unwrap_or(0)),
            inner: arena.take(embeds().map(|head| network.inner_len(head)).max().unwrap_or(0)),
            input: arena.take(network.input.len()),
            window: arena.take(if rebuilds { network.input.len() } else { 0 }),
            rows: arena.take(rows_len(spec, network)),
            embeddings: arena.take(rows * dim),
            targets: arena.take(if embeds().any(|head| head.pretext.task.predicts()) { rows * dim } else { 0 }),
            objective: arena.take(objective_len(network)),
            losses,
            scores: arena.take(heads().map(|head| network.scores_len(head)).max().unwrap_or(0)),
            codes,
            scratch: Scratch::take(network, arena),
        }
    }
}

/// Takes what a judgement needs.
pub(super) fn take_for_judging(spec: &Spec, network: &Network, arena: &mut Arena) {
    let _: &mut [i32] = arena.take(rows_len(spec, network));
    CanaryBuffers::take(spec, network, arena);
}

/// Length of the canaries' pooled activations.
fn rows_len(spec: &Spec, network: &Network) -> usize {
    spec.guard.canaries * network.meter_grid().len()
}

/// `E ‖f(x) − f(x′)‖²` of the unit embeddings of the first two of `views` views of each sample, Q15.
fn alignment(embeddings: &[i32], views: usize, dim: usize) -> u32 {
    let pairs = || embeddings.chunks_exact(views.max(1) * dim).filter(|_| views > 1);
    let sum: i64 =
        pairs().map(|rows| i64::from((2 << 15) - 2 * guard::cosine(&rows[..dim], &rows[dim..2 * dim]))).sum();
    (sum / (pairs().count() as i64).max(1)) as u32
}

/// Canaries are spread evenly over the replay buffer.
fn canary_pick(canary: usize, canaries: usize, held: usize) -> Pick {
    Pick::Entry { index: canary * held / canaries }
}

/// What measuring an encoder found: its health, and the shifts that its feature wants.
struct Measured {
    health: Health,
    judged: Judged,
    feature: [LaggedShift; MAX_LAYERS],
}

/// The smallest shift to 8 bits by which at most 1 number in 512 is clamped; `counts[n]` numbers need n bits.
fn shift_of(counts: &[u32; 32]) -> u32 {
    let total: u32 = counts.iter().sum();
    let over = |shift: usize| counts.iter().skip(shift + 8).sum::<u32>();
    (0..24).find(|&shift| over(shift) <= total / 512).unwrap_or(24) as u32
}

impl Learner<'_> {
    pub(super) fn lesson_is_over(&self) -> bool {
        let progress = self.counters[0].lesson_progress;
        match self.spec.trains() {
            true => progress >= u64::from(self.spec.guard.lesson_steps),
            false if self.stack_is_learned() => false,
            false => progress >= DICTIONARY_LESSON && self.learned_from() >= self.counters[0].stem_samples,
        }
    }

    /// Ends a lesson that was cut short, at the end of a stream: whatever was learned is judged now.
    pub fn finish(&mut self) -> Did {
        if self.frozen().is_some() {
            return Did::Idle;
        }
        let stem_cut_short = self.learned_from() < self.counters[0].stem_samples;
        if stem_cut_short && self.learned_from() > 0 {
            if let Some(did) = self.mend(true) {
                return did;
            }
            self.fold_dictionary();
            self.publish_stem(0);
        }
        if self.counters[0].lesson_progress == 0 || stem_cut_short || self.stack_is_learned() {
            Did::Idle
        } else {
            self.end_lesson()
        }
    }

    pub(super) fn end_lesson(&mut self) -> Did {
        self.counters[0].lesson_progress = 0;
        if let Some(did) = self.mend(true) {
            return did;
        }
        self.scrub();
        if !self.spec.trains() {
            self.fold_dictionary();
            self.settle_shifts(0);
        }
        if !self.network.judged {
            return self.publish_unjudged();
        }
        let Some((old, new)) = self.measure_both() else { return Did::Idle };
        let record = self.record();
        // The encoder before the first lesson is no measure: its shifts may not even be known.
        let floor = if record.standing.lessons == 0 { new.health } else { old.health };
        record.close_lesson();
        (record.judged, record.has_judged) = (new.judged, 1);
        match record.standing.judge(&floor, &new.health, new.judged.directions) {
            Ok(standing) => {
                record.standing = standing;
                self.publish(&new)
            }
            Err(fault) => {
                self.undo(fault);
                Did::Undone { health: new.health, fault }
            }
        }
    }

    /// Publishes dictionary `layer` as soon as it is learned; there is nothing to compare it with.
    pub(super) fn publish_stem(&mut self, layer: usize) {
        if !self.network.judged {
            self.publish_unjudged();
            return;
        }
        self.settle_shifts(layer);
        if let Some(measured) = self.measure_learning() {
            self.record().standing = Standing::FIRST;
            self.publish(&measured);
        }
    }

    fn publish(&mut self, measured: &Measured) -> Did {
        let Health { effective_rank, spread, loss, saturation } = measured.health;
        self.health[0] = [effective_rank, spread, loss, saturation];
        self.learning.shifts[0].feature = measured.feature;
        self.accept();
        let c = &mut self.counters[0];
        c.version += 1;
        c.lessons_published += 1;
        c.undone_in_a_row = 0;
        Did::Published { health: measured.health, version: EncoderVersion(c.version as u32) }
    }

    /// A lesson of an encoder that nobody judges is published as it is.
    fn publish_unjudged(&mut self) -> Did {
        let saturation = guard::saturation(self.learning.trained(&self.network));
        let feature = self.learning.shifts[0].feature;
        // Of the contrastive step's embeddings; there is no other measure without canaries.
        let [effective_rank, spread, ..] = self.health[0];
        let loss = (self.counters[0].loss_running >> 4) as u32;
        let health = Health { effective_rank, spread, loss, saturation };
        self.publish(&Measured { health, feature, judged: Judged::default() })
    }

    /// Goes back to the last published lesson.
    pub(super) fn undo(&mut self, fault: Fault) {
        self.learning.copy_from(&self.published);
        self.masters.copy_from_slice(self.accepted_masters);
        self.momentum.copy_from_slice(self.accepted_momentum);
        self.objective.copy_from_slice(self.accepted_objective);
        self.narrow_masters();
        self.seal_learning();
        self.record().faults[fault as usize] += 1;
        let c = &mut self.counters[0];
        c.lessons_rolled_back += 1;
        c.lesson_progress = 0;
        // That memory failed says nothing of the step size.
        if fault != Fault::Damaged {
            c.undone_in_a_row += 1;
            if c.undone_in_a_row >= FREEZE_AFTER {
                self.freeze_for(Frozen::Guard);
            }
        }
    }

    /// Publishes the encoder as it is, with shifts found on what was remembered: what an untrained encoder is judged by.
    pub fn publish_as_is(&mut self) {
        self.publish_stem(0);
    }

    /// Finds the shifts of the layers from `from` on by the canaries, when a dictionary has just been folded: training
    /// never moves a dictionary's.
    fn settle_shifts(&mut self, from: usize) {
        /// Passes over the canaries at most; one moves each shift by one, after the first has set it.
        const PASSES: usize = 12;
        let (canaries, held) = self.canaries();
        if canaries == 0 {
            // Nobody judges, and the shifts follow the newest sample.
            return;
        }
        let scratch = core::mem::take(&mut self.scratch);
        for _ in 0..PASSES {
            let before = self.learning.shifts[0].layers;
            let CanaryBuffers { input, activations, scratch, .. } =
                &mut CanaryBuffers::take(&self.spec, &self.network, &mut Arena::over(scratch));
            let mut seen = ForwardSeen::default();
            for canary in 0..canaries {
                let stored = self.replay.sample(canary_pick(canary, canaries, held), 0);
                batch::input_of(&self.spec, self.scales, stored, input);
                let (network, params) = (&self.network, self.learning.params());
                seen.merge(&forward::blocks(network, params, input, activations, None, scratch, |_, _| {}));
            }
            let shifts = &mut self.learning.shifts[0].layers;
            let settling = shifts.iter_mut().zip(&seen.layers).take(self.network.layers.len()).skip(from);
            settling.for_each(|(shift, seen)| shift.follow(*seen));
            if *shifts == before {
                break;
            }
        }
        self.scratch = scratch;
    }

    /// Canaries that there are, and entries held.
    fn canaries(&self) -> (usize, usize) {
        let held = self.replay.held();
        (self.spec.guard.canaries.min(held), held)
    }

    fn measure_learning(&mut self) -> Option<Measured> {
        let scratch = core::mem::take(&mut self.scratch);
        let measured = self.measure(&self.learning, &mut [], scratch);
        self.scratch = scratch;
        measured
    }

    /// The published encoder and the one that learns, on the same canaries.
    fn measure_both(&mut self) -> Option<(Measured, Measured)> {
        let scratch = core::mem::take(&mut self.scratch);
        let mut arena = Arena::over(scratch);
        let before = arena.take(rows_len(&self.spec, &self.network));
        let rest = arena.take_rest();
        let old = self.measure(&self.published, before, rest);
        let new = self.measure(&self.learning, before, rest);
        self.scratch = scratch;
        old.zip(new)
    }

    /// Measures an encoder on the canaries; `None` while there are too few. `before` has the activations of the encoder
    /// measured before, or zeros, and gets this one's; it may be empty.
    fn measure(&self, encoder: &Encoder, before: &mut [i32], scratch: &mut [u8]) -> Option<Measured> {
        let (canaries, held) = self.canaries();
        if canaries < 2 {
            return None;
        }
        let (spec, network) = (&self.spec, &self.network);
        let mut b = CanaryBuffers::take(spec, network, &mut Arena::over(scratch));
        let params = encoder.params();
        let grid = network.meter_grid();
        // For each block of the feature, how many sums need how many bits.
        let mut bits = [[0u32; 32]; MAX_LAYERS];
        let pick = |canary| canary_pick(canary, canaries, held);
        for (canary, row) in b.rows.chunks_exact_mut(grid.len()).take(canaries).enumerate() {
            batch::input_of(spec, self.scales, self.replay.sample(pick(canary), 0), b.input);
            let meter = Some((grid, row));
            forward::blocks(network, params, b.input, b.activations, meter, &mut b.scratch, |block, sums| {
                sums.for_each(|s| bits[block][bit_length(s.unsigned_abs()) as usize & 31] += 1);
            });
        }
        let rows = &mut b.rows[..canaries * grid.len()];
        let (directions, uniformity) = guard::directions(rows, grid.len());
        let pairs = rows.chunks_exact(grid.len()).zip(before.chunks_exact(grid.len()));
        let apart: u32 = pairs.map(|(row, before)| (1 << 15) - guard::cosine(row, before)).sum::<i32>().unsigned_abs();
        before.iter_mut().zip(&*rows).for_each(|(before, row)| *before = *row);
        let (effective_rank, spread) = guard::rank_and_spread(rows, grid.len());
        let (loss, embedding_rank, alignment) = self.canary_loss(params, &mut b, canaries, pick);
        // Embeddings that are all alike are a collapse, whatever the layers below say.
        let directions = directions.min(embedding_rank);
        let judged = Judged { directions, uniformity, alignment, distance: apart / canaries as u32 };
        let effective_rank = effective_rank.min(embedding_rank);
        let saturation = guard::saturation(encoder.trained(network));
        let health = Health { effective_rank, spread, loss, saturation };
        Some(Measured { health, judged, feature: bits.map(|counts| LaggedShift::at(shift_of(&counts))) })
    }

    /// Loss of all pretexts on the canaries, through the same views in every lesson; and the effective rank of embeddings
    /// that nothing repels, which may become all alike while the layers below do not yet; and the alignment.
    fn canary_loss(
        &self,
        params: Params,
        b: &mut CanaryBuffers,
        canaries: usize,
        pick: impl Fn(usize) -> Pick,
    ) -> (u32, u32, u32) {
        let (mut loss, mut rank, mut alignment) = (0, u32::MAX, 0);
        for head in &self.network.heads {
            if head.pretext.task.rebuilds() {
                let CanaryBuffers { window, input, activations, scores, scratch, .. } = b;
                let (code, scores) = (&mut b.codes[head.number], &mut scores[..self.network.scores_len(head)]);
                let mut way = Way { clean: window, input, activations, code, scores, scratch };
                loss += self.rebuild_loss(head, params, CANARY_STEP, (0..canaries).map(&pick), &mut way);
                continue;
            }
            let (own, apart) = self.embedding_loss(head, params, b, canaries, &pick);
            loss += own;
            alignment = alignment.max(apart);
            if head.pretext.task == Task::Predictor {
                let dim = self.network.embedding_dim(head);
                let rows = &mut b.embeddings[..canaries * head.pretext.views * dim];
                rows.iter_mut().zip(&*b.targets).for_each(|(row, &z)| *row = i32::from(z));
                rank = rank.min(guard::rank_and_spread(rows, dim).0);
            }
        }
        (loss, rank, alignment)
    }

    /// The loss of `head`, and how far the embeddings of two views are apart.
    fn embedding_loss(
        &self,
        head: &Head,
        params: Params,
        b: &mut CanaryBuffers,
        canaries: usize,
        pick: impl Fn(usize) -> Pick,
    ) -> (u32, u32) {
        let (spec, network, pretext) = (&self.spec, &self.network, &head.pretext);
        let dim = network.embedding_dim(head);
        let views = canaries * pretext.views;
        for (number, embedding) in b.embeddings.chunks_exact_mut(dim).take(views).enumerate() {
            let stored = self.replay.sample(pick(number / pretext.views), number % pretext.views);
            let seed = Seed(self.counters[0].seed);
            batch::view_of(spec, pretext, self.scales, stored, seed, CANARY_STEP, number, b.input);
            forward::layers(network, params, b.input, b.activations, &mut b.scratch);
            let pooled = &mut b.head_input[..head.input_len()];
            forward::pool(network, params, head, b.activations, pooled, &mut b.scratch);
            let mut at = HeadActivations { input: pooled, inner: b.inner, top: embedding };
            forward::head(network, params, head, &mut at, &mut b.scratch);
            if pretext.task.predicts() {
                let from = network.tensors[head.tensors.start].conv.filters;
                b.targets[number * dim..][..dim].copy_from_slice(&b.inner[from..from + dim]);
            }
        }
        let (z, range) = (&mut b.embeddings[..views * dim], objective_range(network, head));
        let apart = alignment(z, pretext.views, dim);
        let targets = &b.targets[..if pretext.task.predicts() { views * dim } else { 0 }];
        let state = &mut b.objective[range.clone()];
        state.copy_from_slice(&self.objective[range]);
        let loss = objective::loss(network.kernels, pretext, z, targets, state, false, &mut b.losses[head.number]);
        (loss, apart)
    }
}
