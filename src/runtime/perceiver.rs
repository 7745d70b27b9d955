//! Perceiving with a copy of the published encoder, so that it never waits for learning.
//!
//! Three copies circulate between the learner's thread and the perceiver's: one in use, one newest, one to be filled.
//! Neither side ever waits for more than the swap of a pointer, and nothing is allocated after the start.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::augment::signal::ChannelScale;
use crate::fixed::checksum::checksum;
use crate::kernels::Grid;
use crate::learner::{Learner, SampleError, input_of, store_sample, work_len};
use crate::net::forward::{self, Params, Scratch, Shifts};
use crate::net::network::Network;
use crate::net::spec::Spec;
use crate::sample::{EncoderVersion, Sample};

/// Copies of the published encoder that circulate.
pub const COPIES: usize = 3;

/// Bytes of one copy of what `learner` publishes.
pub fn copy_len(learner: &Learner) -> usize {
    let (params, scales) = learner.published();
    size_of::<Published>()
        + params.flash.len()
        + params.weights.len()
        + size_of_val(params.packed)
        + size_of_val(params.thresholds)
        + size_of_val(scales)
}

/// One copy of a published encoder.
#[derive(Clone)]
pub struct Published {
    weights: Vec<i8>,
    packed: Vec<i16>,
    thresholds: Vec<i32>,
    shifts: Shifts,
    scales: Vec<ChannelScale>,
    version: EncoderVersion,
    /// Of all of the above: the copy lies in memory for as long as nothing better is published.
    sum: u64,
}

impl Published {
    fn of(learner: &Learner) -> Box<Self> {
        let (params, scales) = learner.published();
        let mut published = Box::new(Published {
            weights: [params.flash, params.weights].concat(),
            packed: params.packed.to_vec(),
            thresholds: params.thresholds.to_vec(),
            shifts: *params.shifts,
            scales: scales.to_vec(),
            version: learner.version(),
            sum: 0,
        });
        published.sum = published.checksum();
        published
    }

    fn checksum(&self) -> u64 {
        let parts = [
            checksum(&self.weights),
            checksum(&self.packed),
            checksum(&self.thresholds),
            checksum(core::slice::from_ref(&self.shifts)),
            checksum(&self.scales),
            u64::from(self.version.0),
        ];
        checksum(&parts)
    }

    fn copy_from(&mut self, learner: &Learner) {
        let (params, scales) = learner.published();
        let (flash, others) = self.weights.split_at_mut(params.flash.len());
        flash.copy_from_slice(params.flash);
        others.copy_from_slice(params.weights);
        self.packed.copy_from_slice(params.packed);
        self.thresholds.copy_from_slice(params.thresholds);
        self.shifts = *params.shifts;
        self.scales.copy_from_slice(scales);
        self.version = learner.version();
        self.sum = self.checksum();
    }
}

/// Where the learner leaves a new encoder and the perceiver takes it.
pub struct Exchange {
    newest: Mutex<Option<Box<Published>>>,
    spare: Mutex<Option<Box<Published>>>,
    /// The perceiver wants another copy, as its own is damaged.
    wanted: AtomicBool,
}

impl Exchange {
    /// Both sides of the exchange, and the perceiver, with the encoder that `learner` has published so far.
    pub fn new(learner: &Learner) -> (Self, Perceiver) {
        let exchange = Exchange {
            newest: Mutex::new(Some(Published::of(learner))),
            spare: Mutex::new(Some(Published::of(learner))),
            wanted: AtomicBool::new(false),
        };
        (exchange, Perceiver::new(learner))
    }

    /// Whether another copy of the published encoder is wanted.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Leaves the encoder that `learner` has just published.
    pub fn publish(&self, learner: &Learner) {
        self.wanted.store(false, Ordering::Relaxed);
        // Where the perceiver has not taken the last one, that copy is filled again.
        let copy = take(&self.spare).or_else(|| take(&self.newest));
        if let Some(mut copy) = copy {
            copy.copy_from(learner);
            let unused = lock(&self.newest).replace(copy);
            if unused.is_some() {
                *lock(&self.spare) = unused;
            }
        }
    }
}

/// A poisoned lock holds a whole copy all the same: only pointers are swapped under it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn take<T>(mutex: &Mutex<Option<T>>) -> Option<T> {
    lock(mutex).take()
}

/// Turns samples into features.
#[derive(Clone)]
pub struct Perceiver {
    spec: Spec,
    network: Network,
    encoder: Box<Published>,
    /// Bytes of the stored sample; words, as readings want an even address.
    stored: Vec<u64>,
    stored_len: usize,
    work: Vec<i32>,

    input: Vec<i8>,
    activations: Vec<i8>,
    kernel: Vec<i16>,
    accumulators: Vec<i32>,
    windows: Vec<i16>,
    averaged: Vec<i16>,
}

impl Perceiver {
    fn new(learner: &Learner) -> Self {
        let network = learner.network().clone();
        Perceiver {
            spec: learner.spec().clone(),
            encoder: Published::of(learner),
            stored: vec![0; learner.stored_len().div_ceil(8)],
            stored_len: learner.stored_len(),
            work: vec![0; work_len(&network)],
            input: vec![0; network.input.len()],
            activations: vec![0; network.kept_len()],
            kernel: vec![0; network.scratch_len(1)],
            accumulators: vec![0; network.accumulator_len()],
            windows: vec![0; network.windows_len()],
            averaged: vec![0; network.averaged_len()],
            network,
        }
    }

    /// Length of a feature.
    pub fn feature_dim(&self) -> usize {
        self.network.feature_dim
    }

    /// Version of the encoder in use.
    pub fn version(&self) -> EncoderVersion {
        self.encoder.version
    }

    /// Exponents of the feature's blocks and their lengths: `value = m · 2^e` relative to the sums of the block.
    pub fn exponents(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let shifts = self.encoder.shifts.feature;
        self.network.feature.iter().zip(shifts).map(|((_, grid), shift)| (grid.len(), shift.get()))
    }

    /// Takes a newer encoder, if one was published; whether one was.
    pub fn refresh(&mut self, exchange: &Exchange) -> bool {
        let Some(newer) = take(&exchange.newest) else { return false };
        *lock(&exchange.spare) = Some(self.replace(newer));
        true
    }

    /// The encoder in use, to be handed on.
    pub fn encoder(&self) -> Box<Published> {
        self.encoder.clone()
    }

    /// Uses `encoder` from now on; gives back the one before.
    pub fn replace(&mut self, encoder: Box<Published>) -> Box<Published> {
        std::mem::replace(&mut self.encoder, encoder)
    }

    /// The layers of a feature, in order, as they are pooled.
    pub fn grids(&self) -> impl Iterator<Item = Grid> + '_ {
        self.network.feature.iter().map(|(_, grid)| *grid)
    }

    /// Bytes of a stored sample.
    pub fn stored_len(&self) -> usize {
        self.stored_len
    }

    /// The newest sample as a learner stores it: any later encoder can make its feature from that.
    pub fn stored(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.stored)[..self.stored_len]
    }

    /// Whether the encoder in use is as it was published; if not, another copy is asked for.
    pub fn is_whole(&self, exchange: &Exchange) -> bool {
        let whole = self.encoder.checksum() == self.encoder.sum;
        exchange.wanted.store(!whole, Ordering::Relaxed);
        whole
    }

    /// The feature of `sample`, `i8`, [`Perceiver::feature_dim`] long.
    ///
    /// # Errors
    /// [`SampleError`].
    pub fn perceive(&mut self, sample: &Sample, out: &mut [i8]) -> Result<(), SampleError> {
        let stored = &mut bytemuck::cast_slice_mut(&mut self.stored)[..self.stored_len];
        store_sample(&self.spec, &self.network, sample, stored, &mut self.work)?;
        self.encode(out);
        Ok(())
    }

    /// The feature of a stored sample.
    ///
    /// # Panics
    /// Where `stored` is not [`Perceiver::stored_len`] long.
    pub fn embed(&mut self, stored: &[u8], out: &mut [i8]) {
        bytemuck::cast_slice_mut(&mut self.stored)[..self.stored_len].copy_from_slice(stored);
        self.encode(out);
    }

    fn encode(&mut self, out: &mut [i8]) {
        let stored = &bytemuck::cast_slice(&self.stored)[..self.stored_len];
        input_of(&self.spec, &self.encoder.scales, stored, &mut self.input);
        let e = &self.encoder;
        let params =
            Params { flash: &[], weights: &e.weights, packed: &e.packed, thresholds: &e.thresholds, shifts: &e.shifts };
        let mut scratch = Scratch {
            kernel: &mut self.kernel,
            accumulators: &mut self.accumulators,
            windows: &mut self.windows,
            averaged: &mut self.averaged,
        };
        forward::feature(&self.network, params, &self.input, &mut self.activations, out, &mut scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::Options;
    use crate::sample::Seed;

    #[test]
    fn a_flipped_bit_in_the_copy_is_found_and_another_copy_mends_it() {
        let spec = crate::model::load("n5").expect("a shipped model");
        let options = Options::new(Seed(3));
        let mut memory = vec![0; Learner::plan(&spec, &options).expect("a plan").block_len()];
        let learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
        let (exchange, mut perceiver) = Exchange::new(&learner);
        assert!(perceiver.is_whole(&exchange));
        for flip in [
            |e: &mut Published| e.weights[77] ^= 4,
            |e: &mut Published| e.thresholds[3] ^= 1 << 20,
            |e: &mut Published| e.version.0 ^= 1,
        ] {
            flip(&mut perceiver.encoder);
            assert!(!perceiver.is_whole(&exchange) && exchange.is_wanted());
            exchange.publish(&learner);
            perceiver.refresh(&exchange);
            assert!(perceiver.is_whole(&exchange) && !exchange.is_wanted());
        }
    }
}
