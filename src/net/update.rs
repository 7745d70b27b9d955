//! The update: momentum and sign on 16-bit masters, filters kept at zero mean, saturated tensors halved.
//!
//! For each tensor `V ← clamp(V − SR(V, 3) + SR(G, bitlen(max|G|) − 10))`, `W ← W − sign(V) · step`. The rule does not
//! depend on the gradient's scale, so no exponent is carried. It is Signum (Bernstein et al. 2018, arXiv:1802.04434)
//! on gradients normalised by a power of two.

use super::network::{Network, Tensor};
use crate::fixed::random::Draws;
use crate::fixed::{
    bit_length, bit_length64, math, round_nearest, round_nearest64, round_random64, saturate_i8, saturate_i16,
};
use crate::kernels::narrow::largest;
use crate::kernels::tile::{COLUMNS, Isa, Work, lanes, load};
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
pub const fn gradient_tensor(n: usize) -> u32 {
    0x200 + n as u32
}
const fn initial_tensor(n: usize) -> u32 {
    0x300 + n as u32
}

/// The learned numbers that a step changes.
pub struct Trained<'a> {
    /// 16-bit masters of the trained weights.
    pub masters: &'a mut [i16],
    /// Momentum, one a master; empty where none is kept.
    pub momentum: &'a mut [i16],
}

/// The 8-bit weight of a master.
#[inline(always)]
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
#[inline(always)]
pub fn remove_filter_means(fan_in: usize, masters: &mut [i16]) {
    for filter in masters.chunks_exact_mut(fan_in) {
        // 32 bits hold the sum of a chunk.
        let sum_of = |chunk: &[i16]| chunk.iter().map(|&w| i32::from(w)).sum::<i32>();
        let sum: i64 = filter.chunks(4096).map(|chunk| i64::from(sum_of(chunk))).sum();
        let mean = sum.div_euclid(fan_in as i64) as i32;
        for w in filter {
            *w = (i32::from(*w) - mean).clamp(-MASTER_MAX, MASTER_MAX) as i16;
        }
    }
}

/// The master narrows to ±127. Ties go up.
#[inline(always)]
fn is_full(master: i16) -> bool {
    const FULL: i16 = (127 * UNIT - UNIT / 2) as i16;
    !(-FULL..FULL).contains(&master)
}

/// Moves gradient sums of 32 bits over to those of 64.
pub fn widen(sums: &mut [i32], wide: &mut [i64]) {
    for (wide, sum) in wide.iter_mut().zip(sums) {
        *wide += i64::from(core::mem::take(sum));
    }
}

/// Gradient sums of 64 bits as those of 32 that the rule takes; it does not depend on their scale.
pub fn narrow_wide(wide: &[i64], sums: &mut [i32]) {
    let max = wide.iter().map(|w| w.unsigned_abs()).max().unwrap_or(0);
    let shift = bit_length64(max).saturating_sub(30);
    sums.iter_mut().zip(wide).for_each(|(sum, &wide)| *sum = round_nearest64(wide, shift) as i32);
}

/// The 8-bit weights of masters.
pub struct Narrow<'a> {
    pub masters: &'a [i16],
    pub weights: &'a mut [i8],
}

impl Work for Narrow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        self.weights.iter_mut().zip(self.masters).for_each(|(w, &master)| *w = narrow(master));
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
    let momentum = trained.momentum.get_mut(from..from + t.conv.weights()).unwrap_or_default();
    let fan_in = if t.zero_mean { Some(t.conv.fan_in()) } else { None };
    let rule = Rule {
        gradient_draws: Draws::new(seed, step, gradient_tensor(number)),
        momentum_draws: Draws::new(seed, step, momentum_tensor(number)),
        step_size: i32::from(step_size),
    };
    net.kernels.run(Update { rule, masters, momentum, gradients, zero_mean: fan_in })
}

/// One step of plain descent for tensor `number`: `W ← W − SR(G · step, 12)`, at most one step of the 8-bit weight.
///
/// For gradients of one sample, whose errors keep their scale: the sign of each would count a window in which nothing
/// happens as much as one in which much does.
pub fn tensor_plainly(
    net: &Network,
    number: usize,
    gradients: &[i32],
    masters: &mut [i16],
    step_size: u16,
    draws: Draws,
) -> Updated {
    /// Gradients of typical sums are a few master units at small steps.
    const SHIFT: u32 = 12;
    let t = &net.tensors[number];
    let from = t.weights - net.trained_range().start;
    let masters = &mut masters[from..from + t.conv.weights()];
    for (element, (w, &g)) in masters.iter_mut().zip(gradients).enumerate() {
        let change = round_random64(i64::from(g) * i64::from(step_size), SHIFT, draws, element as u32);
        let change = change.clamp(i64::from(-UNIT), i64::from(UNIT)) as i32;
        *w = (i32::from(*w) - change).clamp(-MASTER_MAX, MASTER_MAX) as i16;
    }
    if t.zero_mean {
        remove_filter_means(t.conv.fan_in(), masters);
    }
    halve_if_full(masters)
}

/// The rule of the module for one tensor.
#[derive(Clone, Copy)]
struct Rule {
    gradient_draws: Draws,
    momentum_draws: Draws,
    step_size: i32,
}

impl Rule {
    /// For chunk `n` of the tensor: momentum `v` follows the gradient `g`, the masters `w` its sign.
    ///
    /// `bits` are those of the tensor's largest gradient.
    #[inline(always)]
    fn apply<I: Isa>(
        self,
        isa: I,
        bits: u32,
        n: usize,
        w: &mut [i16; COLUMNS],
        v: &mut [i16; COLUMNS],
        g: &[i32; COLUMNS],
    ) {
        let (down, up) = (bits.saturating_sub(GRADIENT_BITS), GRADIENT_BITS.saturating_sub(bits));
        let first = (n * COLUMNS) as u32;
        let r = isa.random_bits(self.gradient_draws, first);
        let q = isa.random_bits(self.momentum_draws, first);
        // `round_random` with bits already drawn; |g| < 2^31 − 2^24 by the plan, so nothing overflows.
        let delta = lanes(|l| ((g[l] + ((r[l] >> 1) >> (31 - down)) as i32) >> down) << up);
        let leaves = lanes(|l| (i32::from(v[l]) + (q[l] >> (32 - MOMENTUM_SHIFT)) as i32) >> MOMENTUM_SHIFT);
        let new = lanes(|l| (i32::from(v[l]) - leaves[l] + delta[l]).clamp(-32767, 32767));
        let sign = lanes(|l| i32::from(new[l] > 0) - i32::from(new[l] < 0));
        let moved = lanes(|l| (i32::from(w[l]) - sign[l] * self.step_size).clamp(-MASTER_MAX, MASTER_MAX));
        *v = lanes(|l| new[l] as i16);
        *w = lanes(|l| moved[l] as i16);
    }
}

struct Update<'a> {
    rule: Rule,
    masters: &'a mut [i16],
    momentum: &'a mut [i16],
    gradients: &'a [i32],
    /// Weights of a filter, where its mean is to be kept at zero.
    zero_mean: Option<usize>,
}

impl Work for Update<'_> {
    type Output = Updated;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Updated {
        let masters = self.masters;
        let bits = bit_length(largest(self.gradients));
        {
            let (w_chunks, last_w) = masters.as_chunks_mut();
            let (v_chunks, last_v) = self.momentum.as_chunks_mut();
            let (g_chunks, last_g) = self.gradients.as_chunks();
            for (n, (w, g)) in w_chunks.iter_mut().zip(g_chunks).enumerate() {
                // Where no momentum is kept, each step begins with none.
                let mut none = [0; COLUMNS];
                self.rule.apply(isa, bits, n, w, v_chunks.get_mut(n).unwrap_or(&mut none), g);
            }
            let (mut w, mut v) = (load(last_w), load(last_v));
            self.rule.apply(isa, bits, g_chunks.len(), &mut w, &mut v, &load(last_g));
            last_w.copy_from_slice(&w[..last_w.len()]);
            last_v.copy_from_slice(&v[..last_v.len()]);
        }
        if let Some(fan_in) = self.zero_mean {
            remove_filter_means(fan_in, masters);
        }
        halve_if_full(masters)
    }
}

/// Halves a tensor of which more than 1 weight in 100 is at its end. The net is scale-free, or told of it: halving changes
/// nothing but the room that the weights have.
#[inline(always)]
fn halve_if_full(masters: &mut [i16]) -> Updated {
    let count = |masters: &[i16]| masters.iter().map(|&w| u32::from(is_full(w))).sum();
    let saturated: u32 = count(masters);
    let halved = saturated as usize * 100 > masters.len();
    if halved {
        masters.iter_mut().for_each(|w| *w = round_nearest(i32::from(*w), 1) as i16);
        return Updated { saturated: count(masters), halved };
    }
    Updated { saturated, halved }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_sums_keep_what_32_bits_hold() {
        let full = i32::MAX - (1 << 24);
        let mut wide = [0i64; 3];
        for _ in 0..1000 {
            widen(&mut [full, -full, 1], &mut wide);
        }
        let mut sums = [0; 3];
        narrow_wide(&wide, &mut sums);
        assert_eq!(wide[0], 1000 * i64::from(full));
        assert!(sums[0] >= 1 << 29 && sums[0] <= 1 << 30 && sums[1] == -sums[0] && sums[2] == 0, "{sums:?}");
        narrow_wide(&[5, -7, 0], &mut sums);
        assert_eq!(sums, [5, -7, 0]);
    }

    #[test]
    fn full_masters_are_those_that_narrow_to_the_ends() {
        assert!((i16::MIN..=i16::MAX).all(|w| is_full(w) == (narrow(w).abs() == 127)));
    }
}
