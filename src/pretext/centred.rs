//! Unit vectors around their running mean. The embeddings of a fresh net are nearly parallel, so that cosines tell them
//! hardly apart; what is left once the mean direction is taken off, brought to length 1 again, does.
//!
//! The mean is state, as a step may have two rows: their own mean would make them opposites. It takes in the step's rows
//! before it is used, and is a constant for the gradient.

use super::unit::{UNIT, UnitRows};
use crate::net::arena::Arena;

/// Further fraction bits of the mean and of what is left: Q22.
const FINE: u32 = 8;
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
    centred: UnitRows<'m>,
}

impl<'m> CentredRows<'m> {
    pub fn take(rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        CentredRows { raw: UnitRows::take(rows, dim, arena), centred: UnitRows::take(rows, dim, arena) }
    }

    pub fn first(&mut self, rows: usize) -> CentredRows<'_> {
        CentredRows { raw: self.raw.first(rows), centred: self.centred.first(rows) }
    }

    /// The centred unit vectors.
    #[inline(always)]
    pub fn unit(&self) -> &UnitRows<'m> {
        &self.centred
    }

    /// Sets the unit vectors of `z`, which is overwritten. `mean`, `[dim]` Q22, is state.
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
        for (row, unit) in z.chunks_exact_mut(dim).zip(self.raw.all().chunks_exact(dim)) {
            for ((z, &u), &m) in row.iter_mut().zip(unit).zip(&*mean) {
                *z = (i32::from(u) << FINE) - m.clamp(-(1 << (UNIT + FINE)), 1 << (UNIT + FINE));
            }
        }
        self.centred.set(z);
    }

    /// From `wide`, the gradient by the centred unit vectors, to `z`, the gradient by the rows. `wide` is overwritten.
    #[inline(always)]
    pub fn back(&self, wide: &mut [i64], z: &mut [i32]) {
        self.centred.back(wide, z);
        wide.iter_mut().zip(&*z).for_each(|(w, &d)| *w = i64::from(d));
        self.raw.back(wide, z);
    }
}
