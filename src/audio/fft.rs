//! The discrete Fourier transform of real samples, in 32-bit integers.
//!
//! Radix 2, every stage halves, so nothing overflows and nothing depends on the data: 16 bits of a sample and 15 below
//! them, of which rounding takes the lowest few. The tables are made by the compiler.

use crate::fixed::round_nearest64;

/// Steps of a whole turn in the table, and the most samples that a transform takes.
pub const MOST: usize = 2048;

/// `round(2^30 · sin(π/2 · i / 512))`.
static SINES: [i32; MOST / 4 + 1] = sines();

const fn sines() -> [i32; MOST / 4 + 1] {
    /// π/2 · 2^60.
    const QUARTER: i128 = 1_811_004_864_519_280_711;
    let mut table = [0; MOST / 4 + 1];
    let mut i = 0;
    while i < table.len() {
        let angle = QUARTER * i as i128 / (MOST as i128 / 4);
        let square = (angle * angle) >> 60;
        let (mut term, mut sum, mut n) = (angle, angle, 2);
        while n < 24 {
            term = -((term * square) >> 60) / (n * (n + 1));
            sum += term;
            n += 2;
        }
        table[i] = ((sum + (1 << 29)) >> 30) as i32;
        i += 1;
    }
    table
}

/// Sine of `angle` in 1/2048 of a turn, `i32 · 2^−30`.
#[inline]
pub fn sine(angle: usize) -> i32 {
    let (quarter, at) = (angle / (MOST / 4) % 4, angle % (MOST / 4));
    let magnitude = SINES[if quarter % 2 == 0 { at } else { MOST / 4 - at }];
    if quarter < 2 { magnitude } else { -magnitude }
}

/// Cosine of `angle` in 1/2048 of a turn, `i32 · 2^−30`.
#[inline]
pub fn cosine(angle: usize) -> i32 {
    sine(angle + MOST / 4)
}

/// A complex number turned back by `angle`, times 2^30.
#[inline]
fn turned([re, im]: [i32; 2], angle: usize) -> [i64; 2] {
    let (re, im) = (i64::from(re), i64::from(im));
    let (c, s) = (i64::from(cosine(angle)), i64::from(sine(angle)));
    [re * c + im * s, im * c - re * s]
}

/// Transforms complex numbers, stored one after another, where they stand; divides by how many there are.
///
/// `Z[k] = Σ z[n] · e^(−2πikn/m) / m`; m is a power of two up to 1024. Moduli below 2^31 stay below it.
fn complex(z: &mut [[i32; 2]]) {
    let m = z.len();
    let unused = usize::BITS - m.trailing_zeros();
    for i in 1..m {
        let j = i.reverse_bits() >> unused;
        if i < j {
            z.swap(i, j);
        }
    }
    let mut half = 1;
    while half < m {
        let step = MOST / 2 / half;
        for block in z.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (j, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let t = turned(*b, j * step);
                let sum = [0, 1].map(|i| round_nearest64((i64::from(a[i]) << 30) + t[i], 31) as i32);
                *b = [0, 1].map(|i| round_nearest64((i64::from(a[i]) << 30) - t[i], 31) as i32);
                *a = sum;
            }
        }
        half *= 2;
    }
}

/// The spectrum of real samples: made in the place where they stand, read bin by bin.
pub struct Spectrum<'a> {
    z: &'a [[i32; 2]],
}

impl<'a> Spectrum<'a> {
    /// Transforms `x`, of magnitudes up to 2^30; a power of two of them, 4 to [`MOST`].
    pub fn of(x: &'a mut [i32]) -> Self {
        // Neighbours pass for the two parts of one complex number.
        let z: &mut [[i32; 2]] = bytemuck::cast_slice_mut(x);
        complex(z);
        Spectrum { z }
    }

    /// `|2 · X[k] / n|²` for 0 < k < n/2, with `X[k] = Σ x[t] · e^(−2πikt/n)`: below 2^62.
    #[inline]
    pub fn power(&self, k: usize) -> u64 {
        let m = self.z.len();
        let ([a, b], [c, d]) = (self.z[k].map(i64::from), self.z[m - k].map(i64::from));
        let half = |x: i64, y: i64| round_nearest64(x + y, 1) as i32;
        // Transforms of the even and of the odd samples: (Z[k] ± conj Z[m−k]) / 2, the latter over i.
        let (even, odd) = ([half(a, c), half(b, -d)], [half(b, d), half(c, -a)]);
        let [re, im] = turned(odd, k * (MOST / 2 / m));
        let sum = [(re, even[0]), (im, even[1])].map(|(odd, even)| i64::from(even) + round_nearest64(odd, 30));
        sum.iter().map(|v| v.unsigned_abs().pow(2)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::random::Draws;
    use crate::sample::Seed;
    use std::f64::consts::TAU;

    #[test]
    fn the_table_is_the_sine() {
        for angle in 0..2 * MOST {
            let exact = (TAU * angle as f64 / MOST as f64).sin() * f64::from(1 << 30);
            assert!((f64::from(sine(angle)) - exact).abs() <= 0.5001, "{angle}");
            assert_eq!(cosine(angle), sine(angle + 512));
        }
    }

    /// By the definition.
    fn exact(x: &[i32], k: usize) -> f64 {
        let n = x.len() as f64;
        let part = |f: fn(f64) -> f64| -> f64 {
            x.iter().enumerate().map(|(t, &v)| f64::from(v) * f(TAU * (k * t % x.len()) as f64 / n)).sum()
        };
        (part(f64::cos).powi(2) + part(f64::sin).powi(2)).sqrt() * 2.0 / n
    }

    #[test]
    fn every_bin_is_that_of_the_definition() {
        let draws = Draws::new(Seed(3), 0, 0);
        let full = 1 << 30;
        for n in [4, 32, 256, 2048] {
            let all = |signal: &dyn Fn(usize) -> i32| (0..n).map(signal).collect::<Vec<_>>();
            let signals = [
                ("noise", all(&|t| draws.between(t as u32, 1 - full, full - 1))),
                ("quiet", all(&|t| draws.between(t as u32, -40, 40))),
                ("tone", all(&|t| ((TAU * 3.3 * t as f64 / n as f64).sin() * f64::from(full)) as i32)),
                ("square", all(&|t| if (t * 8 / n).is_multiple_of(2) { full } else { -full })),
                ("level", all(&|_| full)),
            ];
            for (name, x) in signals {
                let largest = x.iter().map(|v| v.abs()).max().map_or(0.0, f64::from);
                let mut work = x.clone();
                let spectrum = Spectrum::of(&mut work);
                for k in (1..n / 2).step_by((n / 64).max(1)) {
                    let (got, wanted) = ((spectrum.power(k) as f64).sqrt(), exact(&x, k));
                    // A few roundings of the data, and those of the table.
                    let bound = 8.0 + largest / f64::from(1 << 28);
                    assert!((got - wanted).abs() < bound, "{name}, {n}, bin {k}: {got} {wanted}");
                }
            }
        }
    }
}
