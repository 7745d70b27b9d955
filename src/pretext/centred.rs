//! Rows around the running mean of their directions, in the step's own scale. The embeddings of a fresh net are nearly
//! parallel, so that cosines tell them hardly apart; what is left once the mean direction is taken off does.
//!
//! The mean is state, as a step may have few rows. It takes in the step's rows before it is used; the gradient goes through
//! it as if it were the step's, for what moves all rows alike moves the mean too. What is left is divided by the root of
//! the mean square length of the step's rows, not each by its own length: then a row is not worth more for being near the
//! mean, and spread in many directions costs spread.

use super::unit::{UNIT, UnitRows};
use crate::fixed::math::isqrt;
use crate::fixed::{bit_length64, round_nearest64};
use crate::net::arena::Arena;

/// Further fraction bits of the mean: Q22.
const FINE: u32 = 8;
/// Fraction bits of a centred number.
pub const CENTRED: u32 = 13;
/// No row counts as longer than this many times the root mean square, so that a product of two is below 2³⁰, Q26.
const LONGEST: u64 = 4;
/// Steps that running averages remember, once there were as many.
pub(crate) const MEMORY: i32 = 64;

/// How far running averages move towards this step: 1 / this. `None`: they do not move.
pub type Pace = Option<i64>;

/// Counts a step in `age`, of which averages make their pace: the first steps count in full.
pub fn pace(age: &mut i32, learn: bool) -> Pace {
    learn.then(|| {
        *age = (*age + 1).clamp(1, MEMORY);
        i64::from(*age)
    })
}

/// Working memory for rows, and the running mean of their directions beside it as state.
pub struct CentredRows<'m> {
    raw: UnitRows<'m>,
    /// `[rows, dim]`, Q13.
    centred: &'m mut [i16],
    /// By what each row was divided.
    divisor: &'m mut [u32],
}

impl<'m> CentredRows<'m> {
    pub fn take(rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        let raw = UnitRows::take(rows, dim, arena);
        CentredRows { raw, centred: arena.take(rows * dim), divisor: arena.take(rows) }
    }

    pub fn first(&mut self, rows: usize) -> CentredRows<'_> {
        let dim = self.dim();
        CentredRows {
            raw: self.raw.first(rows),
            centred: &mut self.centred[..rows * dim],
            divisor: &mut self.divisor[..rows],
        }
    }

    #[inline(always)]
    pub fn dim(&self) -> usize {
        self.raw.dim()
    }

    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.raw.rows()
    }

    #[inline(always)]
    pub fn row(&self, row: usize) -> &[i16] {
        &self.centred[row * self.dim()..][..self.dim()]
    }

    /// All rows one after the other.
    #[inline(always)]
    pub fn all(&self) -> &[i16] {
        self.centred
    }

    /// Sets the rows of `z`, which is overwritten. `mean`, `[dim]` Q22, is state.
    #[inline(always)]
    pub fn set(&mut self, z: &mut [i32], mean: &mut [i32], pace: Pace) {
        let (dim, rows) = (self.raw.dim(), self.raw.rows() as i64);
        self.raw.set(z);
        if let Some(pace) = pace {
            for (k, m) in mean.iter_mut().enumerate() {
                let sum: i64 = self.raw.all()[k..].iter().step_by(dim).map(|&u| i64::from(u)).sum();
                // A mean of numbers up to 2^22 stays one.
                *m += (((sum << FINE) / rows.max(1) - i64::from(*m)) / pace) as i32;
            }
        }
        // Q18, at most 2^19 each: 2^38 · 2^10 numbers · 2^14 rows.
        let mut squares = 0u64;
        let parts = z.chunks_exact_mut(dim).zip(self.raw.all().chunks_exact(dim));
        for ((row, unit), length) in parts.zip(self.divisor.iter_mut()) {
            let mut square = 0u64;
            for ((z, &u), &m) in row.iter_mut().zip(unit).zip(&*mean) {
                let off = (i32::from(u) << FINE) - m.clamp(-(1 << (UNIT + FINE)), 1 << (UNIT + FINE));
                *z = off >> 4;
                square += u64::from(z.unsigned_abs()).pow(2);
            }
            *length = isqrt(square);
            squares += square;
        }
        let root = u64::from(isqrt(squares / rows.max(1) as u64)).max(1);
        let parts = z.chunks_exact(dim).zip(self.centred.chunks_exact_mut(dim));
        for ((row, centred), divisor) in parts.zip(self.divisor.iter_mut()) {
            *divisor = root.max(u64::from(*divisor).div_ceil(LONGEST)) as u32;
            for (x, &z) in centred.iter_mut().zip(row) {
                *x = ((i64::from(z) << CENTRED) / i64::from(*divisor)).clamp(-32767, 32767) as i16;
            }
        }
    }

    /// From `wide`, the gradient by the centred rows in any scale, to `z`, that by the rows up to one positive factor.
    /// `wide` is overwritten.
    #[inline(always)]
    pub fn back(&self, wide: &mut [i64], z: &mut [i32]) {
        let (dim, rows) = (self.raw.dim(), self.raw.rows().max(1) as i64);
        let max = wide.iter().map(|w| w.unsigned_abs()).max().unwrap_or(0);
        let shift = bit_length64(max).saturating_sub(24);
        let mut along = 0i64;
        for (w, &x) in wide.iter_mut().zip(&*self.centred) {
            *w = round_nearest64(*w, shift);
            // By Cauchy and Schwarz, as squares of a row sum to 16 at most: 2^29 · 2^15 · 2^14 rows.
            along += *w * i64::from(x);
        }
        // Through the root of the mean square: what lies along the rows is taken out. 2^44 · 2^15 fits 64 bits.
        let along = along / rows;
        let root = self.divisor.iter().copied().min().unwrap_or(1);
        let parts = wide.chunks_exact_mut(dim).zip(self.centred.chunks_exact(dim));
        for ((wide, centred), &divisor) in parts.zip(&*self.divisor) {
            let relative = i64::from(root) * (1 << 14) / i64::from(divisor.max(1));
            // 2^33 · 2^14.
            wide.iter_mut().zip(centred).for_each(|(w, &x)| {
                *w = (*w - ((along * i64::from(x)) >> (2 * CENTRED))) * relative;
            });
        }
        for k in 0..dim {
            let mean = wide[k..].iter().step_by(dim).sum::<i64>() / rows;
            wide[k..].iter_mut().step_by(dim).for_each(|w| *w -= mean);
        }
        self.raw.back(wide, z);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::check;

    /// Rows of `z` as they are centred, where the mean stood at `mean` with the rows at `from`.
    pub fn centred(z: &[f64], from: &[f64], dim: usize, mean: &[f64]) -> Vec<Vec<f64>> {
        let rows = z.len() / dim;
        let own = |z: &[f64]| -> Vec<f64> {
            let unit = check::unit(z, dim);
            (0..dim).map(|k| unit.iter().map(|u| u[k]).sum::<f64>() / rows as f64).collect()
        };
        let (now, then) = (own(z), own(from));
        let off = |u: &Vec<f64>| (0..dim).map(|k| u[k] - mean[k] - now[k] + then[k]).collect::<Vec<f64>>();
        let off: Vec<Vec<f64>> = check::unit(z, dim).iter().map(off).collect();
        let root = (off.iter().map(|x| check::dot(x, x)).sum::<f64>() / rows as f64).sqrt().max(1e-9);
        off.into_iter().map(|x| x.into_iter().map(|v| v / root).collect()).collect()
    }
}
