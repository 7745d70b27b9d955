//! From what a source gave to what the encoder takes: [`fit`] for perception, [`image`], [`signal`] and [`audio`] for
//! the views of the learner; [`token`] and [`latent`] for both, of codes and of maps of another network. All in integers, all drawn from counters.

pub mod audio;
pub mod fit;
pub mod image;
pub mod latent;
pub mod signal;
pub mod token;

use crate::fixed::random::Draws;

/// Roughly Gaussian noise: the sum of the four bytes of one draw, scaled to a standard deviation of `sixteenths`/16.
#[inline]
pub(crate) fn noise(draws: Draws, element: u32, sixteenths: u32) -> i32 {
    let bytes = draws.bits(element).to_le_bytes();
    let sum: i32 = bytes.iter().map(|&b| i32::from(b)).sum::<i32>() - 510;
    // The sum's standard deviation is 147.8; 65536 / (147.8 · 16) = 27.7.
    (sum * sixteenths as i32 * 28 + (1 << 15)) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Seed;

    #[test]
    fn noise_has_the_mean_and_the_deviation_it_names() {
        let draws = Draws::new(Seed(3), 1, 1);
        let n = 40_000;
        let values: Vec<f64> = (0..n).map(|e| f64::from(noise(draws, e, 160))).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n)).sqrt();
        assert!(mean.abs() < 0.2 && (deviation - 10.0).abs() < 0.3, "{mean} {deviation}");
    }
}
