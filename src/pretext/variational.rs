//! The latent of a variational autoencoder: sampling, the divergence from a standard normal, and the way back (Kingma &
//! Welling 2013, arXiv:1312.6114). The decoder and its loss are elsewhere.
//!
//! A latent is `2 · dim` mantissas: means in 1/32, then log-variances in 1/16 nat, so that half of one is a step of the
//! table of exponentials, and deviations run from 1/53 to 53. Noise is drawn from counters: nothing of it is stored.
//!
//! How it fails: where the decoder does well without a number, its mean goes to 0 and its deviation to 1, and it says
//! nothing more (posterior collapse): the divergence goes to 0 and the rank falls, while the loss looks well.

use crate::augment::noise;
use crate::fixed::math::EXP_TABLE;
use crate::fixed::random::Draws;
use crate::fixed::{round_nearest, round_nearest64, saturate_i8};

/// Fraction bits of a mean and of what is sampled.
pub const MEAN: u32 = 5;
/// Fraction bits of a log-variance.
pub const LOG_VARIANCE: u32 = 4;
/// Fraction bits of the gradients, in nat for a whole unit.
pub const GRADIENT: u32 = 12;

/// Deviation `exp(log-variance / 2)`, Q15: below 2^21.
#[inline]
fn deviation(log_variance: i8) -> i32 {
    // A power of two over the table's entry gives the other half.
    let entry = |k: u8| i32::from(EXP_TABLE[usize::from(k)]);
    if log_variance > 0 { (1 << 30) / entry(log_variance.unsigned_abs()) } else { entry(log_variance.unsigned_abs()) }
}

/// Standard normal noise for `element`, Q8: within ±3.45.
#[inline]
pub(crate) fn normal(draws: Draws, element: u32) -> i32 {
    noise(draws, element, 16 << 8)
}

/// Draws `z = mean + deviation · noise`, in 1/32, from `latent`, `[2, dim]`.
pub fn sample(latent: &[i8], draws: Draws, z: &mut [i8]) {
    let (mean, log_variance) = latent.split_at(latent.len() / 2);
    for (element, (z, (&m, &v))) in z.iter_mut().zip(mean.iter().zip(log_variance)).enumerate() {
        // 2^21 · 2^10, Q23 to Q5.
        let moved = round_nearest(deviation(v) * normal(draws, element as u32), 15 + 8 - MEAN);
        *z = saturate_i8(i32::from(m) + moved);
    }
}

/// Divergence of `latent` from a standard normal, summed over its numbers, in 1/256 nat:
/// `½ Σ (mean² + variance − 1 − log-variance)`.
pub fn divergence(latent: &[i8]) -> u32 {
    let (mean, log_variance) = latent.split_at(latent.len() / 2);
    let mut sum = 0i64;
    for (&m, &v) in mean.iter().zip(log_variance) {
        // Q10, each below 2^24.
        let square = i64::from(m) * i64::from(m);
        sum += square + variance(v) - (1 << 10) - (i64::from(v) << (10 - LOG_VARIANCE));
    }
    (sum >> 3).clamp(0, i64::from(u32::MAX)) as u32
}

/// Variance, Q10: below 2^22.
#[inline]
fn variance(log_variance: i8) -> i64 {
    round_nearest64(i64::from(deviation(log_variance)).pow(2), 20)
}

/// Gradient by the mantissas of `latent`: of the loss whose gradient by the sampled numbers is `error`, `[dim]` in nat for
/// a whole unit, Q12; plus `weight`/256 of the divergence.
///
/// `gradient`, `[2, dim]`: both halves have the scale of a mantissa of a mean, so that one narrowing fits all. `draws` are
/// those of [`sample`]. |`error`| ≤ 2³⁰, `weight` ≤ 2¹⁶; results are clamped to ±2³⁰.
pub fn backward(latent: &[i8], draws: Draws, error: &[i32], weight: u32, gradient: &mut [i32]) {
    let dim = latent.len() / 2;
    let (by_mean, by_log_variance) = gradient.split_at_mut(dim);
    let clamp = |v: i64| v.clamp(-(1 << 30), 1 << 30) as i32;
    let weight = i64::from(weight);
    for (k, &error) in error.iter().enumerate().take(dim) {
        let (m, v, error) = (i64::from(latent[k]), latent[dim + k], i64::from(error));
        // What goes over in sampling: 2^30 · 2^21 · 2^10 at most, Q12 · Q15 · Q8, and half of it.
        let sampled = (error * i64::from(deviation(v)) * i64::from(normal(draws, k as u32))) >> 24;
        let pulled = (weight * (m << (GRADIENT - MEAN))) >> 8;
        let kept = (weight * ((variance(v) - (1 << 10)) << (GRADIENT - 10))) >> 9;
        by_mean[k] = clamp(error + pulled);
        // A mantissa of a log-variance is twice as much of a unit as one of a mean.
        by_log_variance[k] = clamp((sampled + kept) << (MEAN - LOG_VARIANCE));
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use crate::sample::Seed;

    fn latent(dim: usize, seed: u64) -> Vec<i8> {
        check::random(2, dim, seed).iter().map(|v| (v / 160) as i8).collect()
    }

    /// Divergence in nat.
    fn float_divergence(latent: &[f64]) -> f64 {
        let (mean, log_variance) = latent.split_at(latent.len() / 2);
        let one = |(m, v): (&f64, &f64)| {
            let (m, v) = (m / 32.0, v / 16.0);
            0.5 * (m * m + v.exp() - 1.0 - v)
        };
        mean.iter().zip(log_variance).map(one).sum()
    }

    #[test]
    fn what_is_sampled_has_the_mean_and_the_deviation_it_should() {
        for (mean, log_variance) in [(0, 0), (20, -32), (-30, 10), (5, -127), (0, 16)] {
            let latent = [mean, log_variance];
            let values: Vec<f64> = (0..20_000)
                .map(|step| {
                    let mut z = [0];
                    sample(&latent, Draws::new(Seed(1), step, 0), &mut z);
                    f64::from(z[0])
                })
                .collect();
            let average = values.iter().sum::<f64>() / values.len() as f64;
            let deviation = (values.iter().map(|v| (v - average).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
            let expected = 32.0 * (f64::from(log_variance) / 32.0).exp();
            assert!((average - f64::from(mean)).abs() < 0.03 * expected + 0.05, "{average}");
            assert!((deviation / expected - 1.0).abs() < 0.05 || expected < 1.0, "{deviation} {expected}");
        }
    }

    #[test]
    fn the_divergence_and_its_gradient_are_those_of_the_float_formula() {
        for seed in 0..4 {
            let (dim, draws) = (24, Draws::new(Seed(seed), 0, 0));
            let latent = latent(dim, seed);
            let exact: Vec<f64> = latent.iter().map(|&v| f64::from(v)).collect();
            let expected = float_divergence(&exact);
            let found = f64::from(divergence(&latent)) / 256.0;
            assert!((found - expected).abs() < 0.01 * expected + 0.02, "{found} {expected}");
            let mut gradient = vec![0; 2 * dim];
            backward(&latent, draws, &vec![0; dim], 256, &mut gradient);
            let cosine = check::cosine(&gradient, &check::slope(&exact, float_divergence));
            assert!(cosine > 0.999, "{cosine}");
        }
    }

    #[test]
    fn the_gradient_through_sampling_is_that_of_the_float_formula() {
        let (dim, draws) = (24, Draws::new(Seed(9), 3, 0));
        let latent = latent(dim, 9);
        let exact: Vec<f64> = latent.iter().map(|&v| f64::from(v)).collect();
        let error: Vec<i32> = check::random(1, dim, 10);
        // A loss that is linear in what is sampled, with a hundredth of the divergence.
        let loss = |latent: &[f64]| {
            let z = |k: usize| {
                let noise = f64::from(normal(draws, k as u32)) / 256.0;
                latent[k] / 32.0 + (latent[dim + k] / 32.0).exp() * noise
            };
            let sampled: f64 = (0..dim).map(|k| f64::from(error[k]) / 4096.0 * z(k)).sum();
            sampled + 2.0 / 256.0 * float_divergence(latent)
        };
        let mut gradient = vec![0; 2 * dim];
        backward(&latent, draws, &error, 2, &mut gradient);
        let slope = check::slope(&exact, loss);
        assert!(check::cosine(&gradient, &slope) > 0.999, "{}", check::cosine(&gradient, &slope));
        // In nat for a mantissa of a mean, Q12 · 32.
        let scale = f64::from(gradient[0]) / slope[0] / 4096.0 / 32.0;
        assert!((scale - 1.0).abs() < 0.01, "{scale}");
    }

    #[test]
    fn extreme_latents_and_errors_are_borne() {
        let draws = Draws::new(Seed(9), 3, 0);
        for latent in [[127; 8], [-127; 8], [0; 8]] {
            for error in [1 << 30, -(1 << 30), 0] {
                let (mut z, mut gradient) = ([0; 4], [0; 8]);
                sample(&latent, draws, &mut z);
                backward(&latent, draws, &[error; 4], 1 << 16, &mut gradient);
                assert!(gradient.iter().all(|g| g.unsigned_abs() <= 1 << 30));
                assert!(z.iter().all(|z| z.unsigned_abs() <= 127));
            }
        }
        // The furthest from a standard normal that can be said.
        assert!(divergence(&[127; 8]) > divergence(&[0; 8]));
        assert_eq!(divergence(&[0; 8]), 0);
    }
}
