//! Rotation prediction: the encoder sees an image turned by 0, 1, 2 or 3 quarters and says by which (Gidaris et al. 2018,
//! arXiv:1803.07728). One view at a time, no negatives, no batch. The embedding is four logits.
//!
//! Logits of a net without a scale have no temperature: see [`scaled_cross_entropy`] for the one that they get.
//!
//! How it fails: what does not depend on the turn is not learned, and what gives it away cheaply is (a horizon, the dark
//! corners of a lens, borders of a crop): the loss falls to 0 early and the rank stays at 3 or 4. A camera that looks straight
//! down sees nothing upright. Sensor windows have no quarters to be turned by.

use super::softmax::{Buffers, scaled_cross_entropy};

/// Numbers of an embedding: one logit for each turn.
pub const TURNS: usize = 4;

/// Loss, mean in 1/256 nat, and its gradient in the place of the logits `z`, `[rows, 4]` within ±2³⁰, up to a positive
/// factor common to all rows. All turns of each sample are in a step: row `i` was turned by `i % 4` quarters.
///
/// `buffers` are for [`TURNS`] classes.
#[inline(always)]
pub fn rotation(z: &mut [i32], buffers: &mut Buffers) -> u32 {
    scaled_cross_entropy(z, |row| row % TURNS, buffers)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use crate::net::arena::Arena;

    fn run(z: &mut [i32]) -> u32 {
        let mut memory = vec![0; 1 << 14];
        rotation(z, &mut Buffers::take(z.len() / TURNS, TURNS, &mut Arena::over(&mut memory)))
    }

    /// Logits centred row by row and divided by their root mean square, times that of rows with a margin of 4 nats.
    fn float_loss(z: &[f64]) -> f64 {
        let centred: Vec<f64> =
            z.chunks(4).flat_map(|row| row.iter().map(|v| v - row.iter().sum::<f64>() / 4.0)).collect();
        let root = (check::dot(&centred, &centred) / z.len() as f64).sqrt().max(1e-9);
        let scale = 4.0 * 3f64.sqrt() / 4.0 / root;
        let row = |(i, row): (usize, &[f64])| {
            let total: f64 = row.iter().map(|v| (v * scale).exp()).sum();
            total.ln() - row[i % 4] * scale
        };
        centred.chunks(4).enumerate().map(row).sum::<f64>() / (z.len() / 4) as f64
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_float_formula() {
        for (rows, seed, offset) in [(4, 1, 0), (16, 2, 0), (64, 3, 50_000)] {
            // Right more often than not.
            let mut z = check::clustered(rows, 4, 1, 0, offset, seed);
            z.chunks_mut(4).enumerate().for_each(|(i, row)| row[i % 4] += 6000);
            let exact = check::float(&z);
            let loss = run(&mut z);
            let expected = float_loss(&exact);
            assert!((f64::from(loss) / 256.0 - expected).abs() < 0.03, "{loss} {expected}");
            let cosine = check::cosine(&z, &check::slope(&exact, float_loss));
            assert!(cosine > 0.99, "{rows}: {cosine}");
        }
    }

    #[test]
    fn equal_logits_give_the_loss_of_chance() {
        let loss = run(&mut [7; 32]);
        assert!((f64::from(loss) / 256.0 - 4f64.ln()).abs() < 0.02, "{loss}");
    }

    #[test]
    fn extreme_logits_are_borne_and_scale_does_not_matter() {
        for mut z in check::extremes(8, 4) {
            assert!(run(&mut z) < 256 * 64);
        }
        let with_shift = |shift: u32| {
            let mut z: Vec<i32> = check::random(8, 4, 1).iter().map(|v| (v << 4) << shift).collect();
            (run(&mut z), z)
        };
        let ((loss, z), (loss_then, then)) = (with_shift(0), with_shift(9));
        assert!(loss.abs_diff(loss_then) <= 1);
        assert!(check::cosine(&z, &check::float(&then)) > 0.9999);
    }
}
