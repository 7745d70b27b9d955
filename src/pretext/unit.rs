//! Rows of embeddings as unit vectors, and a gradient back through the division by the length. Every loss over cosines
//! uses this; none of it knows what the loss is.
//!
//! All rows are narrowed to 13 bits by one shift, so that only their scale is lost, and divided by their lengths to Q14.
//! Rows may hold anything up to ±2³⁰.

use crate::fixed::math::isqrt;
use crate::fixed::{bit_length64, round_nearest, round_nearest64, shift_for};
use crate::kernels::narrow::largest;
use crate::net::arena::Arena;

/// Fraction bits of a unit vector; a product of two has twice as many.
pub const UNIT: u32 = 14;

/// Unit vectors of at most as many rows as were taken.
pub struct UnitRows<'m> {
    dim: usize,
    /// Q14, `[rows, dim]`. Each number is at most 1, as the floor of a length is at least each of its parts; a whole
    /// vector is at most √3 long, where a row of three ones has the length 1, and a product of two below 2³⁰.
    unit: &'m mut [i16],
    /// Lengths of the narrowed rows; 0 for a row of zeros.
    norm: &'m mut [u32],
}

impl<'m> UnitRows<'m> {
    pub fn take(rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        UnitRows { dim, unit: arena.take(rows * dim), norm: arena.take(rows) }
    }

    /// The part of the memory that `rows` rows need.
    pub fn first(&mut self, rows: usize) -> UnitRows<'_> {
        UnitRows { dim: self.dim, unit: &mut self.unit[..rows * self.dim], norm: &mut self.norm[..rows] }
    }

    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.norm.len()
    }

    #[inline(always)]
    pub fn dim(&self) -> usize {
        self.dim
    }

    #[inline(always)]
    pub fn row(&self, row: usize) -> &[i16] {
        &self.unit[row * self.dim..][..self.dim]
    }

    /// All rows one after the other.
    #[inline(always)]
    pub fn all(&self) -> &[i16] {
        self.unit
    }

    /// Narrows all of `z` to 13 bits by one shift and divides each row by its length. A row of zeros stays zeros.
    #[inline(always)]
    pub fn set(&mut self, z: &[i32]) {
        let shift = shift_for(largest(z), 13);
        let rows = z.chunks_exact(self.dim).zip(self.unit.chunks_exact_mut(self.dim));
        for ((row, unit), norm) in rows.zip(self.norm.iter_mut()) {
            let narrow = |v: i32| round_nearest(v, shift).clamp(-4095, 4095);
            let square: u64 = row.iter().map(|&v| u64::from(narrow(v).unsigned_abs()).pow(2)).sum();
            *norm = isqrt(square);
            let divisor = (*norm).max(1) as i32;
            for (u, &v) in unit.iter_mut().zip(row) {
                // 2^12 · 2^14 fits 32 bits.
                *u = ((narrow(v) << UNIT) / divisor) as i16;
            }
        }
    }

    /// Counts rows of zeros as rows of length 1, so that they get a gradient: a very large one.
    #[inline(always)]
    pub fn lengthen_zero_rows(&mut self) {
        self.norm.iter_mut().for_each(|n| *n = (*n).max(1));
    }

    /// Gives `row` no gradient in [`UnitRows::back`], whatever its length.
    #[inline(always)]
    pub fn leave_out(&mut self, row: usize) {
        self.norm[row] = 0;
    }

    /// From `wide`, the gradient by the unit vectors in any scale, to `z`, the gradient by the rows up to one positive
    /// factor. Rows without a length get none. No result is over 2³⁰.
    #[inline(always)]
    pub fn back(&self, wide: &[i64], z: &mut [i32]) {
        let dim = self.dim;
        let shortest = self.norm.iter().copied().filter(|&n| n > 0).min().unwrap_or(1);
        let max = wide.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
        let shift = bit_length64(max).saturating_sub(12);
        for (i, out) in z.chunks_exact_mut(dim).enumerate() {
            if self.norm[i] == 0 {
                out.fill(0);
                continue;
            }
            let unit = self.row(i);
            for (o, &s) in out.iter_mut().zip(&wide[i * dim..]) {
                *o = round_nearest64(s, shift).clamp(-4095, 4095) as i32;
            }
            let along: i64 = out.iter().zip(unit).map(|(&d, &u)| i64::from(d) * i64::from(u)).sum::<i64>() >> UNIT;
            // Relative 1/|z|, Q14.
            let inverse = i64::from(shortest) * (1 << UNIT) / i64::from(self.norm[i]);
            for (o, &u) in out.iter_mut().zip(unit) {
                let across = i64::from(*o) - ((along * i64::from(u)) >> UNIT);
                *o = (across * inverse).clamp(-(1 << 30), 1 << 30) as i32;
            }
        }
    }
}

/// Adds `sign` times the unit vector of `row`, 8-bit mantissas of any scale, to `sums`, Q14. A row of zeros adds nothing.
#[inline(always)]
pub fn add_unit(row: &[i8], sign: i64, sums: &mut [i64]) {
    let norm = norm_q8(row);
    for (s, &v) in sums.iter_mut().zip(row) {
        *s += sign * i64::from(unit_of(v, norm));
    }
}

/// Length of a row of 8-bit mantissas, Q8, at least 1/256: `dim · 2^14 · 2^16` fits 64 bits.
#[inline(always)]
pub fn norm_q8(row: &[i8]) -> i32 {
    let square: u64 = row.iter().map(|&v| u64::from(v.unsigned_abs()).pow(2)).sum();
    isqrt(square << 16).max(1) as i32
}

/// A mantissa divided by its row's length, Q14: at most 1.
#[inline(always)]
pub fn unit_of(v: i8, norm_q8: i32) -> i16 {
    // 2^7 · 2^22 fits 32 bits.
    ((i32::from(v) << (UNIT + 8)) / norm_q8) as i16
}

/// `Σ a · b`: below 2³⁰ for two unit vectors.
#[inline(always)]
pub fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// The rows of the sample that `row` is a view of, without `row`.
#[inline(always)]
pub fn other_views(row: usize, views: usize) -> impl Iterator<Item = usize> + Clone {
    (row / views * views..(row / views + 1) * views).filter(move |&other| other != row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_zeros_has_no_gradient_and_takes_none_from_others() {
        let mut memory = vec![0; 4096];
        let mut rows = UnitRows::take(2, 4, &mut Arena::over(&mut memory));
        let mut z = [0, 0, 0, 0, 3000, 10, -500, 7];
        rows.set(&z);
        rows.back(&[100; 8], &mut z);
        assert_eq!(z[..4], [0; 4]);
        assert!(z[4..].iter().any(|&v| v != 0));
    }

    #[test]
    fn numbers_of_a_unit_vector_are_at_most_one() {
        let mut memory = vec![0; 4096];
        for row in [[1, 1, 1, 0], [1 << 30; 4], [-(1 << 30), 0, 0, 1 << 30], [0, 1, 0, 0]] {
            let mut rows = UnitRows::take(1, 4, &mut Arena::over(&mut memory));
            rows.set(&row);
            assert!(rows.all().iter().all(|u| u.unsigned_abs() <= 1 << UNIT), "{:?}", rows.all());
        }
    }
}
