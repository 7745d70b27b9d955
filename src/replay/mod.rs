//! What the learner remembers of the stream: a ring of the newest samples, and a buffer that samples the whole past.
//!
//! An entry is one sample, or an anchor and a neighbour in time where the pretext wants pairs. Which entry leaves a full
//! buffer is the policy: [`ReplayPolicy::Reservoir`] (Vitter 1985) or [`ReplayPolicy::Redundancy`].

pub mod redundancy;

use bytemuck::{Pod, Zeroable};

use crate::fixed::checksum::checksum;
use crate::fixed::random::Draws;
use crate::net::arena::Arena;
use crate::net::spec::{ReplayPolicy, ReplaySpec};

/// When and where a stored sample was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Seen {
    pub time: u64,
    pub segment: u32,
    /// 1 where the place holds a sample.
    pub filled: u32,
}

/// Counts that belong to the buffer. Part of the learner's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Counts {
    /// Samples pushed.
    pub pushed: u64,
    /// Entries held.
    pub held: u64,
}

/// One choice of a step: where its samples lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Newest sample but `age`, with a neighbour `back` samples before it.
    Fresh {
        age: usize,
        back: usize,
    },
    Entry {
        index: usize,
    },
    /// Two entries that are alike by what another sensor said of them.
    Alike {
        index: usize,
        partner: usize,
    },
}

/// What another sensor says of each sample, and how often it chooses the second view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Numbers for each sample.
    pub len: usize,
    /// Share of the picks, of 256.
    pub share: usize,
}

/// Lengths of what a buffer remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lens {
    /// Bytes of a sample.
    pub frame: usize,
    /// Length of the descriptors by which the redundancy policy compares samples.
    pub descriptor: usize,
    pub beside: Beside,
    /// Whether entries have checksums.
    pub sealed: bool,
}

/// Entries drawn for each pick, of which the one most alike is taken: near, and not the same one each time.
const CANDIDATES: u32 = 64;
/// Place of their draws, beyond those of the picks themselves.
const CANDIDATE_DRAWS: u32 = 1 << 16;

/// See the module. Bytes of a sample are whatever the learner stores: `u8` pixels or little-endian `i16` readings.
pub struct Replay<'m> {
    policy: ReplayPolicy,
    frame_len: usize,
    /// Samples of an entry: 1, or 2 with neighbours.
    frames: usize,
    neighbours: usize,
    descriptor_len: usize,
    pub counts: &'m mut [Counts],
    ring: &'m mut [u8],
    ring_seen: &'m mut [Seen],
    entries: &'m mut [u8],
    entries_seen: &'m mut [Seen],
    /// Descriptors of the entries and the links of the redundancy policy.
    descriptors: &'m mut [i8],
    links: &'m mut [redundancy::Link],
    beside_share: usize,
    beside_len: usize,
    /// What another sensor said of the anchor of each entry.
    beside: &'m mut [i8],
    /// Checksums of the entries, made of them and so no part of the state; empty where there is no room for them.
    sums: &'m mut [u64],
}

impl<'m> Replay<'m> {
    /// Takes the memory of a buffer. Neighbours are at most `neighbours` samples apart; there is a step after every `samples_per_step`.
    pub fn take(
        spec: &ReplaySpec,
        neighbours: usize,
        samples_per_step: usize,
        lens: Lens,
        arena: &mut Arena<'m>,
    ) -> Self {
        let Lens { frame: frame_len, descriptor: descriptor_len, beside, sealed } = lens;
        let frames = if neighbours > 0 { 2 } else { 1 };
        let ring = samples_per_step + neighbours + spec.fresh;
        let redundancy = spec.policy == ReplayPolicy::Redundancy;
        Replay {
            policy: spec.policy,
            frame_len,
            frames,
            neighbours,
            descriptor_len: if redundancy { descriptor_len } else { 0 },
            counts: arena.take(1),
            ring: arena.take(ring * frame_len),
            ring_seen: arena.take(ring),
            entries: arena.take(spec.capacity * frames * frame_len),
            entries_seen: arena.take(spec.capacity),
            descriptors: arena.take(if redundancy { spec.capacity * descriptor_len } else { 0 }),
            links: arena.take(if redundancy { spec.capacity } else { 0 }),
            beside_share: beside.share,
            beside_len: beside.len,
            beside: arena.take(spec.capacity * beside.len),
            sums: arena.take(if sealed { spec.capacity } else { 0 }),
        }
    }

    /// Entries that can be drawn.
    pub fn held(&self) -> usize {
        (self.counts[0].held as usize).min(self.entries_seen.len())
    }

    /// Whether the policy wants a descriptor with each sample.
    pub fn wants_descriptor(&self) -> bool {
        self.policy == ReplayPolicy::Redundancy && !self.entries_seen.is_empty()
    }

    /// The sample `age` places before the newest, if it is still in the ring.
    fn recent(&self, age: usize) -> Option<(Seen, core::ops::Range<usize>)> {
        let ring = self.ring_seen.len();
        if age >= ring || age as u64 >= self.counts[0].pushed {
            return None;
        }
        let place = (self.counts[0].pushed - 1 - age as u64) as usize % ring;
        Some((self.ring_seen[place], place * self.frame_len..(place + 1) * self.frame_len))
    }

    /// How far back a neighbour of the sample `age` places ago may lie: at most `wish`, within its segment.
    fn neighbour(&self, age: usize, wish: usize) -> usize {
        let Some((anchor, _)) = self.recent(age) else { return 0 };
        let same = |back: usize| self.recent(age + back).is_some_and(|(seen, _)| seen.segment == anchor.segment);
        (1..=wish).rev().find(|&back| same(back)).unwrap_or(0)
    }

    /// Takes in a sample; `descriptor` is its place in feature space (empty unless the policy wants it), `beside` what
    /// another sensor says of it.
    pub fn push(&mut self, sample: &[u8], time: u64, segment: u32, descriptor: &[i8], beside: &[i8], draws: Draws) {
        let ring = self.ring_seen.len();
        if ring == 0 {
            return;
        }
        let pushed = self.counts[0].pushed;
        let place = pushed as usize % ring;
        self.ring[place * self.frame_len..(place + 1) * self.frame_len].copy_from_slice(sample);
        self.ring_seen[place] = Seen { time, segment, filled: 1 };
        self.counts[0].pushed = pushed + 1;
        let Some(slot) = self.slot_for(pushed, descriptor, draws) else { return };
        let back = if self.neighbours > 0 {
            self.neighbour(0, draws.between(1, 1, self.neighbours as i32) as usize)
        } else {
            0
        };
        let entry = &mut self.entries[slot * self.frames * self.frame_len..][..self.frames * self.frame_len];
        let (anchor, partner) = entry.split_at_mut(self.frame_len);
        anchor.copy_from_slice(sample);
        if self.frames == 2 {
            let from = (pushed - back as u64) as usize % ring;
            partner.copy_from_slice(&self.ring[from * self.frame_len..(from + 1) * self.frame_len]);
        }
        self.entries_seen[slot] = Seen { time, segment, filled: 1 };
        self.beside[slot * self.beside_len..][..self.beside_len].copy_from_slice(beside);
        if !self.sums.is_empty() {
            self.sums[slot] = checksum(self.entry(slot));
        }
    }

    fn entry(&self, index: usize) -> &[u8] {
        &self.entries[index * self.frames * self.frame_len..][..self.frames * self.frame_len]
    }

    /// Notes the checksums of all entries, after they were written from outside.
    pub fn seal(&mut self) {
        for index in 0..self.sums.len() {
            self.sums[index] = checksum(self.entry(index));
        }
    }

    /// Drops the entries that are not as they were taken in, and gives back how many: a copy of the nearest sound one
    /// before it, or after it, stands in the place of each until a new sample takes it.
    pub fn scrub(&mut self) -> u32 {
        let held = self.held().min(self.sums.len());
        let is_sound = |of: &Self, index: usize| checksum(of.entry(index)) == of.sums[index];
        let mut dropped = 0;
        for index in 0..held {
            if is_sound(self, index) {
                continue;
            }
            dropped += 1;
            let sound = index.checked_sub(1).or_else(|| (1..held).find(|&other| is_sound(self, other)));
            let len = self.frames * self.frame_len;
            match sound {
                Some(other) => {
                    self.entries.copy_within(other * len..(other + 1) * len, index * len);
                    self.entries_seen[index] = self.entries_seen[other];
                    let beside = self.beside_len;
                    self.beside.copy_within(other * beside..(other + 1) * beside, index * beside);
                }
                // Nothing is left to learn from until new samples come.
                None => self.entries[..len].fill(0),
            }
            self.sums[index] = checksum(self.entry(index));
        }
        dropped
    }

    /// The slot that sample number `pushed` takes, or `None` where it is not kept.
    fn slot_for(&mut self, pushed: u64, descriptor: &[i8], draws: Draws) -> Option<usize> {
        let capacity = self.entries_seen.len();
        if capacity == 0 {
            return None;
        }
        let free = self.held() < capacity;
        let slot = match self.policy {
            _ if free => self.held(),
            ReplayPolicy::Reservoir => {
                // Uniform in 0..=pushed from 64 random bits; kept where it falls on a slot.
                let random = u128::from(draws.bits(2)) << 32 | u128::from(draws.bits(3));
                let at = (random * u128::from(pushed + 1)) >> 64;
                usize::try_from(at).ok().filter(|&at| at < capacity)?
            }
            ReplayPolicy::Redundancy => {
                redundancy::victim(self.descriptors, self.descriptor_len, self.links, descriptor)?
            }
        };
        if self.policy == ReplayPolicy::Redundancy {
            let held = self.held().max(slot + 1);
            redundancy::place(self.descriptors, self.descriptor_len, &mut self.links[..held], slot, descriptor);
        }
        if free {
            self.counts[0].held += 1;
        }
        Some(slot)
    }

    /// Chooses sample `number` of a step: the first `fresh` are the newest, the others are drawn from the buffer.
    pub fn pick(&self, number: usize, fresh: usize, draws: Draws) -> Option<Pick> {
        let element = 4 * number as u32;
        let held = self.held();
        if number < fresh || held == 0 {
            self.recent(number)?;
            let wish = if self.neighbours > 0 { draws.between(element, 1, self.neighbours as i32) as usize } else { 0 };
            return Some(Pick::Fresh { age: number, back: self.neighbour(number, wish) });
        }
        let index = draws.below(element + 1, held as u32) as usize;
        let chosen = self.beside_share > 0 && (draws.bits(element + 2) & 255) < self.beside_share as u32;
        Some(match chosen.then(|| self.alike(index, number, draws)).flatten() {
            Some(partner) => Pick::Alike { index, partner },
            None => Pick::Entry { index },
        })
    }

    /// Of some entries drawn, the one that is most like entry `index` by what another sensor said; never itself.
    fn alike(&self, index: usize, number: usize, draws: Draws) -> Option<usize> {
        let of = |entry: usize| &self.beside[entry * self.beside_len..][..self.beside_len];
        let distance = |entry: usize| -> u32 {
            of(index)
                .iter()
                .zip(of(entry))
                .map(|(a, b)| u32::from((i16::from(*a) - i16::from(*b)).unsigned_abs()))
                .sum()
        };
        let first = CANDIDATE_DRAWS + CANDIDATES * number as u32;
        let drawn = (0..CANDIDATES).map(|draw| draws.below(first + draw, self.held() as u32) as usize);
        drawn.filter(|&entry| entry != index).min_by_key(|&entry| distance(entry))
    }

    /// The stored bytes for view `view` of a pick: even views see the anchor, odd ones its neighbour.
    pub fn sample(&self, pick: Pick, view: usize) -> &[u8] {
        match pick {
            Pick::Fresh { age, back } => {
                let age = if view % 2 == 1 { age + back } else { age };
                self.recent(age).map_or(&[], |(_, range)| &self.ring[range])
            }
            Pick::Entry { index } => {
                let frame = if self.frames == 2 { view % 2 } else { 0 };
                &self.entries[(index * self.frames + frame) * self.frame_len..][..self.frame_len]
            }
            Pick::Alike { index, partner } => {
                let entry = if view % 2 == 1 { partner } else { index };
                &self.entries[entry * self.frames * self.frame_len..][..self.frame_len]
            }
        }
    }

    /// Names and bytes of all that the buffer remembers, for the hash and the checkpoint.
    pub fn visit(&mut self, mut each: impl FnMut(&'static str, &mut [u8])) {
        each("replay.counts", bytemuck::cast_slice_mut(self.counts));
        each("replay.ring", self.ring);
        each("replay.ring_seen", bytemuck::cast_slice_mut(self.ring_seen));
        each("replay.entries", self.entries);
        each("replay.entries_seen", bytemuck::cast_slice_mut(self.entries_seen));
        each("replay.descriptors", bytemuck::cast_slice_mut(self.descriptors));
        each("replay.links", bytemuck::cast_slice_mut(self.links));
        if !self.beside.is_empty() {
            each("replay.beside", bytemuck::cast_slice_mut(self.beside));
        }
    }
}

#[cfg(test)]
mod tests;
