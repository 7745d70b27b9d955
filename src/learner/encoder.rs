//! One encoder's numbers, in the forms that perceiving reads.

use crate::net::arena::Arena;
use crate::net::forward::{Params, Shifts};
use crate::net::network::Network;

/// An encoder's weights and shifts, in the forms that perceiving reads.
pub(super) struct Encoder<'m> {
    /// The first weights of all, where they are read from flash.
    pub flash: &'m [i8],
    pub weights: &'m mut [i8],
    pub packed: &'m mut [i16],
    pub thresholds: &'m mut [i32],
    pub shifts: &'m mut [Shifts],
}

impl<'m> Encoder<'m> {
    /// `in_flash`: how many of the weights are read from flash.
    pub fn take(network: &Network, in_flash: usize, arena: &mut Arena<'m>) -> Self {
        let dictionary = network.layers.first().filter(|l| l.dictionary);
        Encoder {
            flash: &[],
            weights: arena.take(network.weights_len - in_flash),
            packed: arena.take(network.packed_len),
            thresholds: arena.take(dictionary.map_or(0, |l| l.output.channels)),
            shifts: arena.take(1),
        }
    }

    /// No encoder.
    pub fn none() -> Self {
        Encoder { flash: &[], weights: &mut [], packed: &mut [], thresholds: &mut [], shifts: &mut [] }
    }

    pub fn params(&self) -> Params<'_> {
        Params {
            flash: self.flash,
            weights: self.weights,
            packed: self.packed,
            thresholds: self.thresholds,
            shifts: self.shifts.first().unwrap_or(&UNSET),
        }
    }

    /// The weights that the pretext trains.
    pub fn trained(&self, network: &Network) -> &[i8] {
        let range = network.trained_range();
        &self.weights[range.start - self.flash.len()..range.end - self.flash.len()]
    }

    pub fn copy_from(&mut self, other: &Encoder) {
        self.weights.copy_from_slice(other.weights);
        self.packed.copy_from_slice(other.packed);
        self.thresholds.copy_from_slice(other.thresholds);
        self.shifts.copy_from_slice(other.shifts);
    }

    /// Packs the weights of the tensors from `first` on again, after they were changed or read back.
    pub fn repack(&mut self, network: &Network, first: usize) {
        for tensor in &network.tensors[first..] {
            let weights = tensor.weights_in(self.flash, self.weights);
            network.kernels.pack(&tensor.conv, weights, &mut self.packed[tensor.packed..]);
        }
    }
}

static UNSET: Shifts = Shifts::unset();
