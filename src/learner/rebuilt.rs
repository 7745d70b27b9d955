//! What a task that rebuilds gives back of one sample, for people and for novelty: what is rebuilt badly was not seen
//! before. And what a code drawn at random becomes.

use super::rebuild::{Lane, Shared, Way};
use super::{Learner, SampleError, batch};
use crate::fixed::random::Draws;
use crate::kernels::narrow::Linear;
use crate::net::arena::Arena;
use crate::net::head::Head;
use crate::net::task::Task;
use crate::pretext::code::shift;
use crate::pretext::{denoise, inpaint, variational};
use crate::sample::{Sample, Seed};

/// Draws of codes that no sample gave.
const DRAWN: u32 = 0x901;

/// One sample three times, each as the encoder takes it: `i8`, `[height, width, channels]`.
pub struct Pictures<'a> {
    pub clean: &'a mut [i8],
    /// As the task hides it; numbers that are equal to those of `clean` were left as they are.
    pub hidden: &'a mut [i8],
    pub rebuilt: &'a mut [i8],
}

impl Learner<'_> {
    /// The first task that rebuilds numbers and has learned to.
    fn rebuilding(&self) -> Option<&Head> {
        let numbers = |head: &&Head| head.pretext.task.rebuilds() && head.pretext.task != Task::MaskedToken;
        let shifts = &self.serving().shifts[0];
        self.network.heads.iter().find(numbers).filter(|head| shifts.heads[head.number][shift::PREDICTION].is_set())
    }

    fn shared<'a>(&'a self, head: &'a Head, step: u64) -> Shared<'a> {
        let (params, scales) = self.published();
        let (spec, network, seed) = (&self.spec, &self.network, Seed(self.counters[0].seed));
        Shared { spec, network, head, params, packed_back: &[], scales, seed, step }
    }

    /// Loss of the published encoder on `sample` in 1/256 nat, hidden as sample `draw` of a step that is never made: high
    /// where it is unlike what was learned from. `None` where no task rebuilds numbers, or nothing was learned yet.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn rebuild_sample(
        &mut self,
        sample: &Sample,
        draw: usize,
        pictures: Option<Pictures>,
    ) -> Result<Option<u32>, SampleError> {
        self.hold(sample)?;
        let scratch = core::mem::take(&mut self.scratch);
        let loss = self.rebuild_held(draw, pictures, scratch);
        self.scratch = scratch;
        Ok(loss)
    }

    fn rebuild_held(&self, draw: usize, pictures: Option<Pictures>, scratch: &mut [u8]) -> Option<u32> {
        let head = self.rebuilding()?;
        let shared = self.shared(head, u64::MAX);
        let mut lane = Lane::take(&self.network, head, 0, 1, &mut Arena::reusing(scratch))?;
        let mut way = lane.way();
        batch::input_of(&self.spec, shared.scales, &self.stored[..self.stored_len()], way.input);
        let Some(Pictures { clean, hidden, rebuilt }) = pictures else {
            return Some(denoise::loss(shared.measure(draw, &mut way).0));
        };
        clean.copy_from_slice(way.input);
        let loss = denoise::loss(shared.measure(draw, &mut way).0);
        hidden.copy_from_slice(way.input);
        // As well as it can: by the means of a code.
        shared.encode(draw, false, &mut way);
        self.give_back(&shared, &mut way, rebuilt);
        let channels = self.network.input.channels;
        for channel in (0..channels).filter(|_| shared.is_blind_to_means()) {
            let mean = inpaint::mean(clean, channels, channel);
            for v in
                [&mut *hidden, &mut *rebuilt].into_iter().flat_map(|of| of.iter_mut().skip(channel).step_by(channels))
            {
                *v = (i32::from(*v) + mean).clamp(-127, 127) as i8;
            }
        }
        Some(loss)
    }

    /// The decoder's numbers as an input.
    fn give_back(&self, shared: &Shared, way: &mut Way, out: &mut [i8]) {
        let prediction = shared.params.shifts.heads[shared.head.number][shift::PREDICTION].get();
        let patches = &mut way.clean[..self.network.input.len()];
        let mut sink = Linear::new((prediction + denoise::FRACTION).min(31), &[], patches);
        shared.decode(way.activations, way.code, way.scratch, &mut sink);
        shared.patches().join(patches, out);
    }

    /// What code number `number`, drawn from a standard normal, becomes: as the encoder takes it, less the means where it
    /// is blind to them. `false` where no task has a code, or nothing was learned yet.
    pub fn draw_sample(&mut self, number: u64, out: &mut [i8]) -> bool {
        let scratch = core::mem::take(&mut self.scratch);
        let drawn = self.draw(number, out, scratch).is_some();
        self.scratch = scratch;
        drawn
    }

    fn draw(&self, number: u64, out: &mut [i8], scratch: &mut [u8]) -> Option<()> {
        let head = self.rebuilding().filter(|head| head.code_len() > 0)?;
        let shared = self.shared(head, u64::MAX);
        let mut lane = Lane::take(&self.network, head, 0, 1, &mut Arena::reusing(scratch))?;
        let mut way = lane.way();
        way.code.latent.fill(0);
        variational::sample(way.code.latent, Draws::new(shared.seed, number, DRAWN), way.code.drawn);
        way.code.unfold(&self.network, shared.params, head, way.scratch);
        self.give_back(&shared, &mut way, out);
        Some(())
    }
}
