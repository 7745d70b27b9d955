//! From stored samples to what the encoder takes: inputs, views, choices of a step, descriptors.
//!
//! The float twin calls these too, so that both arithmetics see the same numbers.

use super::tensor;
use crate::augment::signal::ChannelScale;
use crate::augment::{fit, image, signal};
use crate::fixed::random::Draws;
use crate::fixed::shift_for;
use crate::kernels::reference::pool_sums;
use crate::kernels::requantize::{self};
use crate::kernels::{Grid, Map};
use crate::net::forward::{self, Params, Scratch};
use crate::net::network::Network;
use crate::net::spec::{InputKind, Spec};
use crate::replay::{Pick, Replay};
use crate::sample::Seed;

/// The encoder's input of a stored sample.
pub fn input_of(spec: &Spec, scales: &[ChannelScale], stored: &[u8], out: &mut [i8]) {
    match spec.input.kind {
        InputKind::Image => fit::to_input(stored, spec.input.channels, out),
        InputKind::Window => signal::to_input(scales, bytemuck::cast_slice(stored), out),
    }
}

/// View number `number` of step `step`, of a stored sample.
pub fn view_of(
    spec: &Spec,
    scales: &[ChannelScale],
    stored: &[u8],
    seed: Seed,
    step: u64,
    number: usize,
    out: &mut [i8],
) {
    let map = Map::new(spec.input.height, spec.input.width, spec.input.channels);
    let draws = Draws::new(seed, step, tensor::VIEW + number as u32);
    match spec.input.kind {
        InputKind::Image => image::view(&spec.views, stored, map, draws, out),
        InputKind::Window => {
            signal::view(&spec.views, &spec.input, scales, bytemuck::cast_slice(stored), map, draws, out);
        }
    }
}

/// Sample `number` of step `step`.
pub fn pick_of(spec: &Spec, replay: &Replay, seed: Seed, step: u64, number: usize) -> Option<Pick> {
    replay.pick(number, spec.replay.fresh, Draws::new(seed, step, tensor::PICK))
}

pub(crate) fn descriptor_grid(network: &Network) -> Grid {
    let map = network.layers.first().map_or(Map::new(1, 1, 1), |l| l.output);
    Grid::new(map, (2, 2), false)
}

/// The descriptor of `input` for the redundancy policy: the first layer pooled, to `i8` by its own exact shift.
pub(super) fn describe(
    network: &Network,
    params: Params,
    input: &[i8],
    activations: &mut [i8],
    descriptor: &mut [i8],
    scratch: &mut Scratch,
) {
    forward::layers(network, params, input, activations, scratch);
    let grid = descriptor_grid(network);
    let sums = &mut scratch.accumulators[..grid.len()];
    pool_sums(&grid, activations, sums);
    requantize::nearest(sums, shift_for(requantize::largest(sums), 8), descriptor);
}
