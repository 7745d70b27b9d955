//! Numbers: the one rounding, bit lengths, saturation. With [`random`] and [`math`] this is the whole of the
//! numeric contract that is not a kernel.
//!
//! Everything above uses these functions and no other rounding; nothing here knows what a tensor is.

pub mod checksum;
pub mod math;
pub mod random;

use random::Draws;

/// Largest mantissa of an activation, an error or an 8-bit weight; −128 is never used.
pub const I8_MAX: i32 = 127;

/// Bits needed for the magnitude `x`: 0 for 0, 8 for 255.
#[inline]
pub const fn bit_length(x: u32) -> u32 {
    32 - x.leading_zeros()
}

/// Bits needed for the 64-bit magnitude `x`.
#[inline]
pub const fn bit_length64(x: u64) -> u32 {
    64 - x.leading_zeros()
}

/// Round to nearest, ties up: `(x + 2^(s−1)) >> s`; `s = 0` gives `x`.
///
/// The caller proves that `x + 2^(s−1)` does not overflow; the memory plan refuses networks where it could.
#[inline]
pub const fn round_nearest(x: i32, shift: u32) -> i32 {
    if shift == 0 { x } else { (x + (1 << (shift - 1))) >> shift }
}

/// [`round_nearest`] for 64 bits.
#[inline]
pub const fn round_nearest64(x: i64, shift: u32) -> i64 {
    if shift == 0 { x } else { (x + (1 << (shift - 1))) >> shift }
}

/// Round at random, right on average: `(x + r) >> s` with `r` uniform in `[0, 2^s)`, drawn for `element`.
///
/// `shift` is at most 31. The sum is taken in 64 bits, so no `x` overflows.
#[inline]
pub fn round_random(x: i32, shift: u32, draws: Draws, element: u32) -> i32 {
    if shift == 0 {
        return x;
    }
    let r = draws.bits(element) >> (32 - shift);
    ((i64::from(x) + i64::from(r)) >> shift) as i32
}

/// [`round_random`] for 64-bit values; shifts over 32 draw 32 random bits and leave the lower bits to the floor.
#[inline]
pub fn round_random64(x: i64, shift: u32, draws: Draws, element: u32) -> i64 {
    let r = match shift {
        0 => return x,
        1..=32 => i64::from(draws.bits(element)) >> (32 - shift),
        _ => i64::from(draws.bits(element)) << (shift - 32),
    };
    (x + r) >> shift
}

/// Clamp to an 8-bit mantissa, ±127.
#[inline]
pub const fn saturate_i8(x: i32) -> i8 {
    if x > I8_MAX {
        I8_MAX as i8
    } else if x < -I8_MAX {
        -(I8_MAX as i8)
    } else {
        x as i8
    }
}

/// Clamp to a 16-bit mantissa, ±32767.
#[inline]
pub const fn saturate_i16(x: i32) -> i16 {
    if x > 32767 {
        32767
    } else if x < -32767 {
        -32767
    } else {
        x as i16
    }
}

/// Shift that brings a largest magnitude `max` into `bits` bits with sign: `max(0, bitlen(max) − (bits−1))`.
#[inline]
pub const fn shift_for(max: u32, bits: u32) -> u32 {
    bit_length(max).saturating_sub(bits - 1)
}

/// What narrowing a tensor to 8 bits saw; parts of one tensor are merged in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Largest magnitude before narrowing (after ReLU: largest value).
    pub max: u32,
    /// Mantissas that had to be clamped.
    pub clamped: u32,
    /// Mantissas over 63: those that one shift less would clamp.
    pub upper_half: u32,
    /// All mantissas.
    pub total: u32,
}

impl Seen {
    /// Of two parts of one tensor.
    pub fn merge(self, other: Seen) -> Seen {
        Seen {
            max: self.max.max(other.max),
            clamped: self.clamped + other.clamped,
            upper_half: self.upper_half + other.upper_half,
            total: self.total + other.total,
        }
    }
}

/// A requantization shift that lags one step behind the tensor it narrows.
///
/// The shift used now was found from what was seen before, so samples can be narrowed one at a time, and a second
/// forward pass gives the same bits. It rises by 1 where more than 1 mantissa in 512 was clamped, goes to the exact
/// shift at once where more than 1 in 16 was, and falls by 1 where fewer than 1 in 2048 would be clamped then. A rule by
/// the maximum alone makes the shifts of stacked layers chase one another whenever one bright sample passes; the gap
/// between the two shares keeps them still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct LaggedShift(u8);

impl LaggedShift {
    /// Not yet known: the first tensor seen sets it exactly.
    pub const fn unset() -> Self {
        LaggedShift(255)
    }

    /// `shift` is clamped to 31.
    pub const fn at(shift: u32) -> Self {
        LaggedShift(if shift > 31 { 31 } else { shift as u8 })
    }

    /// Any byte over 31, as a damaged checkpoint may hold, counts as unset.
    pub const fn is_set(self) -> bool {
        self.0 <= 31
    }

    /// The shift to use now; 0 while unset.
    pub const fn get(self) -> u32 {
        if self.is_set() { self.0 as u32 } else { 0 }
    }

    /// As [`LaggedShift::follow`], but it falls only where `may_fall`: for tensors of which single samples are seen, some
    /// of them with next to nothing in them.
    pub fn follow_slowly(&mut self, seen: Seen, may_fall: bool) {
        let before = *self;
        self.follow(seen);
        if before.is_set() && self.0 < before.0 && !may_fall {
            *self = before;
        }
    }

    /// Takes note of what this step's narrowing by this very shift saw.
    pub fn follow(&mut self, seen: Seen) {
        let exact = shift_for(seen.max, 8) as u8;
        self.0 = if !self.is_set() || seen.clamped > seen.total / 16 {
            exact
        } else if seen.clamped > seen.total / 512 {
            (self.0 + 1).min(exact)
        } else if seen.upper_half < seen.total / 2048 || exact < self.0 {
            self.0.saturating_sub(1)
        } else {
            self.0
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Seed;

    #[test]
    fn rounding_to_nearest_is_within_half_and_ties_go_up() {
        for x in -5000..5000 {
            for s in 1..8u32 {
                let y = round_nearest(x, s);
                let twice_error = 2 * (y * (1 << s) - x);
                assert!(-(1 << s) < twice_error && twice_error <= 1 << s, "{x} >> {s} = {y}");
            }
        }
        assert_eq!(round_nearest(3, 1), 2);
        assert_eq!(round_nearest(-3, 1), -1);
    }

    #[test]
    fn random_rounding_is_right_on_average_and_never_off_by_one_or_more() {
        let draws = Draws::new(Seed(7), 3, 1);
        for x in [-1000, -37, -1, 0, 1, 5, 511, 70_001] {
            for s in [1u32, 4, 9] {
                let n = 20_000;
                let sum: i64 = (0..n).map(|e| i64::from(round_random(x, s, draws, e))).sum();
                let mean = sum as f64 / f64::from(n);
                assert!((mean - f64::from(x) / f64::from(1 << s)).abs() < 0.02, "{x} {s} {mean}");
                assert_eq!(round_random64(i64::from(x), s, draws, 9), i64::from(round_random(x, s, draws, 9)));
            }
        }
    }

    #[test]
    fn a_lagged_shift_settles_where_few_mantissas_are_clamped_and_stays() {
        let draws = Draws::new(Seed(2), 0, 0);
        // Magnitudes with a long tail: products of three uniform numbers.
        let value = |e: u32| (0..3).map(|k| u64::from(draws.bits(3 * e + k) >> 22)).product::<u64>() as u32;
        let narrow = |shift: u32| {
            (0..10_000).map(value).fold(Seen::default(), |seen, v| {
                let y = round_nearest(v as i32, shift);
                let one = Seen { max: v, clamped: u32::from(y > 127), upper_half: u32::from(y > 63), total: 1 };
                seen.merge(one)
            })
        };
        for start in [LaggedShift::unset(), LaggedShift::at(3), LaggedShift::at(30)] {
            let mut shift = start;
            (0..40).for_each(|_| shift.follow(narrow(shift.get())));
            let settled = shift;
            let seen = narrow(settled.get());
            assert!(seen.clamped <= seen.total / 512 && seen.upper_half >= seen.total / 2048, "{start:?} {seen:?}");
            shift.follow(seen);
            assert_eq!(shift, settled);
        }
    }

    #[test]
    fn the_shift_brings_every_maximum_into_range() {
        for max in (0..31).flat_map(|b| [(1u32 << b) - 1, 1 << b, (1 << b) + 1]) {
            let y = round_nearest(max as i32 / 2, shift_for(max / 2, 8));
            assert!(y <= 128);
        }
    }
}
