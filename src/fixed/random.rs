//! Counter-based random bits: a pure function of (seed, step, tensor, element).
//!
//! No generator state exists, so neither vector width, threads nor order change a draw, and a checkpoint needs none.

use crate::sample::Seed;

/// The draws of one tensor in one step. Copy it freely; it is 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    a: u32,
    b: u32,
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014), a bijection of 64 bits.
const fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Spreads neighbouring elements.
pub(crate) const PLACE: u32 = 0x9E37_79B1;
/// Of the two rounds of the hash.
pub(crate) const MULTIPLIERS: [u32; 2] = [0x21F0_AAAD, 0x735A_2D97];

impl Draws {
    /// The draws of `tensor` (a number that the caller keeps unique) in `step`.
    pub const fn new(seed: Seed, step: u64, tensor: u32) -> Self {
        let mut key = mix64(seed.0.wrapping_add(0x9E37_79B9_7F4A_7C15));
        key = mix64(key ^ step.wrapping_mul(0xD1B5_4A32_D192_ED03));
        key = mix64(key ^ (tensor as u64).wrapping_mul(0xABC9_8388_FB8F_AC03));
        Draws { a: key as u32, b: (key >> 32) as u32 }
    }

    /// 32 random bits for `element`: two rounds of a 32-bit multiply-and-shift hash, keyed between them.
    #[inline]
    pub const fn bits(self, element: u32) -> u32 {
        let mut x = element.wrapping_mul(PLACE) ^ self.a;
        x = (x ^ (x >> 16)).wrapping_mul(MULTIPLIERS[0]);
        x = (x ^ (x >> 15)).wrapping_add(self.b).wrapping_mul(MULTIPLIERS[1]);
        x ^ (x >> 15)
    }

    /// Both keys, for kernels that draw many at once.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) const fn keys(self) -> (u32, u32) {
        (self.a, self.b)
    }

    /// Uniform in `0..n` (n ≥ 1), biased by less than n/2³².
    #[inline]
    pub const fn below(self, element: u32, n: u32) -> u32 {
        ((self.bits(element) as u64 * n as u64) >> 32) as u32
    }

    /// Uniform in `low..=high`.
    #[inline]
    pub const fn between(self, element: u32, low: i32, high: i32) -> i32 {
        low + self.below(element, (high - low + 1) as u32) as i32
    }

    /// True with probability `p/256`.
    #[inline]
    pub const fn chance(self, element: u32, p: u32) -> bool {
        (self.bits(element) >> 24) < p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_balanced_and_steps_tensors_and_seeds_differ() {
        let base = Draws::new(Seed(1), 2, 3);
        for other in [Draws::new(Seed(2), 2, 3), Draws::new(Seed(1), 3, 3), Draws::new(Seed(1), 2, 4)] {
            let equal_bits: u32 = (0..4096).map(|e| (!(base.bits(e) ^ other.bits(e))).count_ones()).sum();
            let share = f64::from(equal_bits) / (4096.0 * 32.0);
            assert!((share - 0.5).abs() < 0.01, "{share}");
        }
        for bit in 0..32 {
            let ones = (0..8192).filter(|&e| base.bits(e) >> bit & 1 == 1).count();
            assert!((3900..4300).contains(&ones), "bit {bit}: {ones}");
        }
    }

    #[test]
    fn neighbouring_elements_are_uncorrelated() {
        let draws = Draws::new(Seed(5), 0, 0);
        let centre = |e| f64::from(draws.bits(e)) / f64::from(u32::MAX) - 0.5;
        for lag in [1, 2, 64, 1024] {
            let r: f64 = (0..16384).map(|e| centre(e) * centre(e + lag)).sum::<f64>() / 16384.0 * 12.0;
            assert!(r.abs() < 0.04, "lag {lag}: {r}");
        }
    }

    #[test]
    fn ranges_are_kept() {
        let draws = Draws::new(Seed(9), 1, 1);
        assert!((0..10_000).all(|e| (-3..=4).contains(&draws.between(e, -3, 4)) && draws.below(e, 1) == 0));
    }
}
