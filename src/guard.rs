//! The guard: health meters over a few canary samples, and the decision to publish a lesson or to undo it.
//!
//! `learner` measures the published and the new encoder on the same canaries at the end of each lesson and asks
//! [`judge`]. Nothing here needs labels.

use crate::fixed::math::isqrt;
use crate::fixed::shift_for;

/// What was measured of an encoder on the canaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Effective rank of the last layer's pooled activations, in 1/256: the participation ratio `(tr C)² / ‖C‖²` of
    /// their covariance C (the effective rank of order 2; 1 means collapsed).
    pub effective_rank: u32,
    /// Variance of the unit vectors of those activations, `1 − |mean|²`, Q15; 0 means all alike.
    pub spread: u32,
    /// Loss of the pretext on fixed views of the canaries, in 1/256 nat; 0 without a pretext.
    pub loss: u32,
    /// Weights at ±127, of 65536.
    pub saturation: u32,
}

/// Why a lesson was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The effective rank fell below half of the published encoder's, or below 1.25.
    RankLost,
    /// The spread fell below a quarter of the published encoder's.
    SpreadLost,
    /// The loss on replay rose by more than half a nat.
    LossRose,
    /// More than 1 weight in 20 is saturated.
    Saturated,
}

/// Whether a lesson may be published.
///
/// # Errors
/// The first [`Fault`] found.
pub fn judge(published: &Health, new: &Health) -> Result<(), Fault> {
    if new.effective_rank < 320 || 2 * new.effective_rank < published.effective_rank {
        return Err(Fault::RankLost);
    }
    if 4 * new.spread < published.spread {
        return Err(Fault::SpreadLost);
    }
    if new.loss > published.loss + 128 {
        return Err(Fault::LossRose);
    }
    if new.saturation > 65536 / 20 {
        return Err(Fault::Saturated);
    }
    Ok(())
}

/// Effective rank (1/256) and spread (Q15) of `rows` of `dim` numbers each. `rows` is overwritten.
pub fn rank_and_spread(rows: &mut [i32], dim: usize) -> (u32, u32) {
    let count = rows.len() / dim;
    if count < 2 {
        return (256, 0);
    }
    // 10 bits are enough for a meter and keep every product below within 64 bits.
    let shift = shift_for(crate::kernels::narrow::largest(rows), 11);
    rows.iter_mut().for_each(|v| *v >>= shift);
    let spread = spread(rows, dim);
    for k in 0..dim {
        let sum: i64 = rows.iter().skip(k).step_by(dim).map(|&v| i64::from(v)).sum();
        // Centred at 16 times the precision.
        let mean = (16 * sum).div_euclid(count as i64) as i32;
        rows.iter_mut().skip(k).step_by(dim).for_each(|v| *v = 16 * *v - mean);
    }
    // The Gram matrix of the rows has the covariance's non-zero spectrum.
    let (mut trace, mut squares) = (0u128, 0u128);
    for (i, a) in rows.chunks_exact(dim).enumerate() {
        for (j, b) in rows.chunks_exact(dim).enumerate() {
            let product: i64 = a.iter().zip(b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
            squares += u128::from(product.unsigned_abs()).pow(2);
            if i == j {
                trace += product as u128;
            }
        }
    }
    // All rows equal: the covariance is zero, and so collapsed.
    let rank = (trace * trace).checked_div(squares >> 8).unwrap_or(256);
    (rank as u32, spread)
}

/// `1 − |mean of the unit vectors|²`, Q15.
fn spread(rows: &[i32], dim: usize) -> u32 {
    let count = (rows.len() / dim) as i64;
    let norm = |row: &[i32]| i64::from(isqrt(row.iter().map(|&v| u64::from(v.unsigned_abs()).pow(2)).sum())).max(1);
    let mut squares = 0i64;
    for k in 0..dim {
        let sum: i64 = rows.chunks_exact(dim).map(|row| (i64::from(row[k]) << 15) / norm(row)).sum();
        let mean = sum / count;
        squares += mean * mean;
    }
    (1i64 << 15).saturating_sub(squares >> 15).max(0) as u32
}

/// Share of `weights` at ±127, of 65536.
pub fn saturation(weights: &[i8]) -> u32 {
    let saturated = weights.iter().filter(|w| w.unsigned_abs() == 127).count() as u64;
    (saturated * 65536 / weights.len().max(1) as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::random::Draws;
    use crate::sample::Seed;

    /// `directions` independent directions of equal strength, around a common offset.
    fn rows(count: usize, dim: usize, directions: usize, offset: i32) -> Vec<i32> {
        let draws = Draws::new(Seed(5), 0, 0);
        (0..count * dim)
            .map(|i| offset + if i % dim < directions { draws.between(i as u32, -3000, 3000) } else { 0 })
            .collect()
    }

    #[test]
    fn the_effective_rank_counts_equal_directions() {
        for directions in [1, 2, 5, 10] {
            let (rank, _) = rank_and_spread(&mut rows(400, 24, directions, 5000), 24);
            let rank = f64::from(rank) / 256.0;
            assert!((rank - directions as f64).abs() < 0.1 * directions as f64, "{directions}: {rank}");
        }
    }

    #[test]
    fn collapsed_features_have_rank_one_and_no_spread_and_are_refused() {
        let (rank, spread) = rank_and_spread(&mut rows(32, 16, 0, 700), 16);
        assert!(rank <= 256 && spread < 200, "{rank} {spread}");
        let healthy = Health { effective_rank: 1500, spread: 9000, loss: 700, saturation: 100 };
        assert_eq!(judge(&healthy, &Health { effective_rank: rank, ..healthy }), Err(Fault::RankLost));
        assert_eq!(judge(&healthy, &Health { spread, ..healthy }), Err(Fault::SpreadLost));
        assert_eq!(judge(&healthy, &Health { loss: 840, ..healthy }), Err(Fault::LossRose));
        assert_eq!(judge(&healthy, &Health { saturation: 9000, ..healthy }), Err(Fault::Saturated));
        assert_eq!(judge(&healthy, &healthy), Ok(()));
    }
}
