//! What keeps the learner whole: what the guard knows, freezing, and the checksums of what lies in memory.

use super::{Did, Encoder, Learner};
use crate::fixed::checksum::checksum;
use crate::guard::integrity::Part;
use crate::guard::{Fault, Frozen, Meters, Record};
use crate::net::update;
use crate::sample::EncoderVersion;

impl Learner<'_> {
    /// What the guard knows without labels.
    pub fn meters(&self) -> Meters {
        let watch = &self.watch[0];
        let (exposure_mean, exposure_contrast) = watch.drift();
        let of_input = Meters {
            health: self.health(),
            flat: watch.flat,
            stuck: watch.stuck,
            repeats: watch.repeats(),
            exposure_mean,
            exposure_contrast,
            ..Meters::default()
        };
        let Some(record) = self.record.first() else { return of_input };
        Meters {
            judged: (record.has_judged > 0).then_some(record.judged),
            standing_rank: record.standing.rank,
            standing_spread: record.standing.spread,
            standing_loss: record.standing.loss,
            activations_clamped: record.clamped[0],
            errors_clamped: record.clamped[1],
            faults: record.faults,
            repaired: record.repaired,
            entries_dropped: record.dropped,
            distribution: Some(record.histogram.distance()),
            ..of_input
        }
    }

    /// Learning stands still from now on, through restarts too, until [`Learner::thaw`]: samples are remembered and
    /// metered, and features are made by the published encoder.
    pub fn freeze(&mut self) {
        if self.frozen().is_none() {
            self.watch[0].frozen = Frozen::Asked.code();
        }
    }

    /// Learning goes on, at its full step size. Where memory was damaged a checkpoint has to be restored first: then
    /// nothing is done, and `false` comes back.
    pub fn thaw(&mut self) -> bool {
        if self.frozen() == Some(Frozen::Damaged) {
            return false;
        }
        self.watch[0].frozen = 0;
        self.counters[0].undone_in_a_row = 0;
        true
    }

    /// Why learning stands still, if it does.
    pub fn frozen(&self) -> Option<Frozen> {
        Frozen::of(self.watch[0].frozen)
    }

    pub(super) fn freeze_for(&mut self, why: Frozen) {
        self.watch[0].frozen = why.code();
    }

    /// Gives the published encoder, which was restored from an older generation, a version above `after`, the newest
    /// that was ever given out: a version never names two encoders.
    pub fn republish(&mut self, after: EncoderVersion) -> EncoderVersion {
        let c = &mut self.counters[0];
        c.version = c.version.max(u64::from(after.0)) + 1;
        self.version()
    }

    /// Samples that the stem's lesson and the steps count: those that were learned from.
    pub(super) fn learned_from(&self) -> u64 {
        self.counters[0].observed - self.watch[0].unlearned
    }

    fn sum_of(&self, part: Part) -> u64 {
        let encoder = |e: &Encoder| [checksum(e.weights), checksum(e.thresholds), checksum(e.shifts)];
        match part {
            Part::Learning => checksum(&encoder(&self.learning)),
            Part::LearningPacked => checksum(&[checksum(self.learning.packed), checksum(self.packed_back)]),
            Part::Masters => checksum(self.masters),
            Part::Optimizer => checksum(&[checksum(self.momentum), checksum(self.objective)]),
            Part::Published => checksum(&encoder(&self.published)),
            Part::PublishedPacked => checksum(self.published.packed),
            Part::Accepted => {
                let masters = checksum(self.accepted_masters);
                checksum(&[masters, checksum(self.accepted_momentum), checksum(self.accepted_objective)])
            }
        }
    }

    /// Notes the checksums of `parts` after they were changed. Without a judge, on boards without the room, there are none.
    fn seal(&mut self, parts: &[Part]) {
        for &part in parts {
            let sum = if self.sums.is_empty() { return } else { self.sum_of(part) };
            self.sums[part as usize] = sum;
        }
    }

    /// Of what a step changes.
    pub(super) fn seal_learning(&mut self) {
        self.seal(&Part::ALL[..Part::OF_A_STEP]);
    }

    pub(super) fn seal_all(&mut self) {
        self.seal(&Part::ALL);
    }

    fn is_whole(&self, part: Part) -> bool {
        self.sums.get(part as usize).is_none_or(|&sum| sum == self.sum_of(part))
    }

    /// Finds what is not as it was left, and repairs it: packed forms from their weights, published weights from the
    /// masters, what learns by undoing its lesson. `all`: what controllers read, too. Gives back what else was to be told.
    pub(super) fn mend(&mut self, all: bool) -> Option<Did> {
        if self.sums.is_empty() {
            return None;
        }
        let damaged = |of: &Self, parts: &[Part]| parts.iter().copied().find(|&part| !of.is_whole(part));
        let learning = damaged(self, &[Part::Learning, Part::Masters, Part::Optimizer]);
        if learning.is_none() && !self.is_whole(Part::LearningPacked) {
            self.learning.repack(&self.network, 0);
            self.pack_back();
            self.count_repair(Part::LearningPacked);
        }
        if all || learning.is_some() {
            if !self.is_whole(Part::Published) && learning.is_none() && self.is_whole(Part::Accepted) {
                self.rebuild_published();
            }
            if !self.is_whole(Part::PublishedPacked) && self.is_whole(Part::Published) {
                self.published.repack(&self.network, 0);
                self.count_repair(Part::PublishedPacked);
            }
            if let Some(part) = damaged(self, &[Part::Published, Part::PublishedPacked, Part::Accepted]) {
                self.freeze_for(Frozen::Damaged);
                return Some(Did::Damaged { part });
            }
        }
        learning.map(|_| {
            self.undo(Fault::Damaged);
            Did::Undone { health: self.health(), fault: Fault::Damaged }
        })
    }

    /// The published weights from what they were made of: the accepted masters, and below them the untrained weights and
    /// thresholds, which both encoders share.
    fn rebuild_published(&mut self) {
        let range = self.network.trained_range();
        let (from, to) = (range.start - self.learning.flash.len(), range.end - self.learning.flash.len());
        self.published.weights[..from].copy_from_slice(&self.learning.weights[..from]);
        if !self.accepted_masters.is_empty() {
            let weights = &mut self.published.weights[from..to];
            self.network.kernels.run(update::Narrow { masters: self.accepted_masters, weights });
        }
        self.published.thresholds.copy_from_slice(self.learning.thresholds);
        if self.is_whole(Part::Published) {
            self.count_repair(Part::Published);
        }
    }

    /// Notes a repair, which has given the part its old bits back, or sound packed forms.
    fn count_repair(&mut self, part: Part) {
        self.seal(&[part]);
        if let Some(record) = self.record.first_mut() {
            record.repaired += 1;
        }
    }

    /// Drops damaged entries from the replay buffer.
    pub(super) fn scrub(&mut self) {
        let dropped = self.replay.scrub();
        if let Some(record) = self.record.first_mut() {
            record.dropped += dropped;
        }
    }

    /// The record of a learner whose lessons are judged.
    pub(super) fn record(&mut self) -> &mut Record {
        &mut self.record[0]
    }
}
