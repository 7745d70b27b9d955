//! The sum of two maps whose exponents differ: where a block's input goes around its layers.

use super::reference;
use super::tile::{Isa, Work};

/// How two maps are added: `out = clamp(RN(a · 2^up.0 + b · 2^up.1, down), ±127)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// Shifts that bring both to the smaller exponent.
    pub up: (u32, u32),
    /// Shift from there to the exponent of the sum.
    pub down: u32,
}

impl Residual {
    /// Most that exponents may be apart, so that 32 bits are enough.
    const MOST: u32 = 22;

    /// For summands `i8 · 2^a` and `i8 · 2^b` and a sum `i8 · 2^out`. `None` where they are too far apart to be added in
    /// 32 bits; then the smaller one is below the last bit of the other.
    pub fn new(a: i32, b: i32, out: i32) -> Option<Self> {
        let least = a.min(b).min(out);
        let up = |exponent: i32| Some(exponent.abs_diff(least)).filter(|&shift| shift <= Self::MOST);
        Some(Residual { up: (up(a)?, up(b)?), down: up(out)? })
    }
}

/// See [`reference::add`].
pub(super) struct Add<'a> {
    pub how: &'a Residual,
    pub a: &'a [i8],
    pub b: &'a [i8],
    pub out: &'a mut [i8],
}

impl Work for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        reference::add(self.how, self.a, self.b, self.out);
    }
}
