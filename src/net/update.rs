//! The update: momentum and sign on 16-bit masters, filters kept at zero mean, saturated tensors halved.
//!
//! For each tensor `V ← clamp(V − SR(V, 3) + SR(G, bitlen(max|G|) − 10))`, `W ← W − sign(V) · step`. The rule does not
//! depend on the gradient's scale, so no exponent is carried. It is Signum (Bernstein et al. 2018, arXiv:1802.04434)
//! on gradients normalised by a power of two.

use super::network::{Network, Tensor};
use crate::fixed::random::Draws;
use crate::fixed::{bit_length, math, round_nearest, round_random, saturate_i8, saturate_i16};
use crate::kernels::requantize::largest;
use crate::sample::Seed;

/// Master units of one step of the 8-bit weight.
pub const UNIT: i32 = 256;
/// Largest magnitude of a master: it rounds to 127.
pub const MASTER_MAX: i32 = 127 * UNIT + UNIT / 2 - 1;
/// Bits of the normalised gradient.
const GRADIENT_BITS: u32 = 10;
/// Share of momentum that leaves at each step: 2⁻³.
const MOMENTUM_SHIFT: u32 = 3;

/// Names of random tensors, kept apart: errors, momentum, gradient, initial weights of tensor `n`.
pub const fn error_tensor(n: usize) -> u32 {
    n as u32
}
const fn momentum_tensor(n: usize) -> u32 {
    0x100 + n as u32
}
const fn gradient_tensor(n: usize) -> u32 {
    0x200 + n as u32
}
const fn initial_tensor(n: usize) -> u32 {
    0x300 + n as u32
}

/// The learned numbers that a step changes.
pub struct Trained<'a> {
    /// 16-bit masters of the trained weights.
    pub masters: &'a mut [i16],
    /// Momentum, one a master.
    pub momentum: &'a mut [i16],
}

/// The 8-bit weight of a master.
#[inline]
pub fn narrow(master: i16) -> i8 {
    saturate_i8(round_nearest(i32::from(master), 8))
}

/// He-uniform start: the shared exponent is dropped, so the 8-bit amplitude is between 64 and 127.
pub fn initial_master(tensor: &Tensor, number: usize, element: usize, seed: Seed) -> i16 {
    // a = sqrt(6 / fan_in); e = ceil(log2(a / 127)); amplitude = a / 2^e · 256, here as sqrt(a² · 2^(2k)).
    let mut amplitude_squared = (6u64 << 32) / tensor.conv.fan_in() as u64;
    let most = (127u64 * UNIT as u64).pow(2);
    while amplitude_squared > most {
        amplitude_squared >>= 2;
    }
    while amplitude_squared * 4 <= most {
        amplitude_squared <<= 2;
    }
    let amplitude = math::isqrt(amplitude_squared) as i32;
    let draws = Draws::new(seed, 0, initial_tensor(number));
    saturate_i16(draws.between(element as u32, -amplitude, amplitude))
}

/// Subtracts each filter's mean.
pub fn remove_filter_means(fan_in: usize, masters: &mut [i16]) {
    for filter in masters.chunks_exact_mut(fan_in) {
        let sum: i64 = filter.iter().map(|&w| i64::from(w)).sum();
        let mean = sum.div_euclid(fan_in as i64) as i32;
        for w in filter {
            *w = (i32::from(*w) - mean).clamp(-MASTER_MAX, MASTER_MAX) as i16;
        }
    }
}

/// What an update did to one tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Updated {
    /// Weights at ±127 after it.
    pub saturated: u32,
    /// The tensor was halved because too many were.
    pub halved: bool,
}

/// One step for tensor `number`, whose gradient sums are `gradients`.
pub fn tensor(
    net: &Network,
    number: usize,
    gradients: &[i32],
    trained: &mut Trained,
    step_size: u16,
    seed: Seed,
    step: u64,
) -> Updated {
    let t = &net.tensors[number];
    let from = t.weights - net.trained_range().start;
    let masters = &mut trained.masters[from..from + t.conv.weights()];
    let momentum = &mut trained.momentum[from..from + t.conv.weights()];
    let bits = bit_length(largest(gradients));
    let (down, up) = (bits.saturating_sub(GRADIENT_BITS), GRADIENT_BITS.saturating_sub(bits));
    let gradient_draws = Draws::new(seed, step, gradient_tensor(number));
    let momentum_draws = Draws::new(seed, step, momentum_tensor(number));
    for (i, ((w, v), &g)) in masters.iter_mut().zip(momentum.iter_mut()).zip(gradients).enumerate() {
        let i = i as u32;
        let old = i32::from(*v);
        let delta = round_random(g, down, gradient_draws, i) << up;
        let new = saturate_i16(old - round_random(old, MOMENTUM_SHIFT, momentum_draws, i) + delta);
        *v = new;
        let moved = i32::from(*w) - i32::from(new.signum()) * i32::from(step_size);
        *w = moved.clamp(-MASTER_MAX, MASTER_MAX) as i16;
    }
    if t.zero_mean {
        remove_filter_means(t.conv.fan_in(), masters);
    }
    let count = |masters: &[i16]| masters.iter().filter(|&&w| narrow(w).abs() == 127).count() as u32;
    let saturated = count(masters);
    // The net is scale-free: halving a tensor changes nothing but the room that its weights have.
    let halved = saturated as usize * 100 > masters.len();
    if halved {
        masters.iter_mut().for_each(|w| *w = round_nearest(i32::from(*w), 1) as i16);
        return Updated { saturated: count(masters), halved };
    }
    Updated { saturated, halved }
}
