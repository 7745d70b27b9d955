//! The update of `net::update` without rounding: `V ← V − V/8 + G·2^k`, `W ← W − sign(V) · step`.
//!
//! The power of two brings the largest gradient of a tensor into [512, 1024). Masters and steps have the integer rule's
//! unit, 1/256 of an 8-bit weight. One difference follows from not rounding: a momentum never dies to exactly 0 once its
//! gradient does, it only shrinks by 1/8 a step.

use crate::net::network::{Network, Tensor};
use crate::net::update::{MASTER_MAX, UNIT, initial_master};
use crate::sample::Seed;

const MOST: f32 = MASTER_MAX as f32;
/// From here on a master rounds to ±127.
const SATURATED: f32 = 126.5 * UNIT as f32;

/// From a master to the weight in use: 1/256, and a fixed power of two near `1/(64·√fan-in)` that keeps activations of
/// one size through the layers. The net is scale-free: the power changes nothing but the range of its numbers.
pub(super) fn scale(tensor: &Tensor) -> f32 {
    let exponent = 6 + (tensor.conv.fan_in() as f32).sqrt().log2().ceil() as i32;
    1.0 / (UNIT as f32 * 2f32.powi(exponent))
}

/// The start of tensor `number`: the integer learner's, but filter means are removed without rounding.
pub(super) fn start(tensor: &Tensor, number: usize, seed: Seed, masters: &mut [f32]) {
    for (element, w) in masters.iter_mut().enumerate() {
        *w = f32::from(initial_master(tensor, number, element, seed));
    }
    if tensor.trained && tensor.zero_mean {
        remove_filter_means(tensor.conv.fan_in(), masters);
    }
}

fn remove_filter_means(fan_in: usize, masters: &mut [f32]) {
    for filter in masters.chunks_exact_mut(fan_in) {
        let mean = filter.iter().sum::<f32>() / fan_in as f32;
        filter.iter_mut().for_each(|w| *w = (*w - mean).clamp(-MOST, MOST));
    }
}

/// The factor, a power of two, that brings a largest magnitude `max` into [512, 1024); 0 for a `max` of 0.
pub(super) fn normaliser(max: f32) -> f32 {
    // Subnormal and infinite maxima have no power that is a number.
    if !max.is_normal() {
        return 0.0;
    }
    let exponent = (max.to_bits() >> 23) as i32 - 127;
    2f32.powi((9 - exponent).clamp(-126, 127))
}

/// One step for tensor `number`; whether the tensor was halved. All slices hold all trained weights.
pub(super) fn tensor(
    network: &Network,
    number: usize,
    gradients: &[f32],
    masters: &mut [f32],
    momentum: &mut [f32],
    step_size: u16,
) -> bool {
    let t = &network.tensors[number];
    let from = t.weights - network.trained_range().start;
    let range = from..from + t.conv.weights();
    let (gradients, masters, momentum) = (&gradients[range.clone()], &mut masters[range.clone()], &mut momentum[range]);
    let factor = normaliser(gradients.iter().fold(0.0, |m, g| m.max(g.abs())));
    let step = f32::from(step_size);
    for ((w, v), g) in masters.iter_mut().zip(momentum.iter_mut()).zip(gradients) {
        *v += factor * g - *v / 8.0;
        let sign = if *v == 0.0 { 0.0 } else { v.signum() };
        *w = (*w - sign * step).clamp(-MOST, MOST);
    }
    if t.zero_mean {
        remove_filter_means(t.conv.fan_in(), masters);
    }
    let saturated = masters.iter().filter(|w| w.abs() >= SATURATED).count();
    let halved = saturated * 100 > masters.len();
    if halved {
        masters.iter_mut().for_each(|w| *w /= 2.0);
    }
    halved
}
