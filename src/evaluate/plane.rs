//! Principal components in the plane: features as a picture.

use super::EvaluateError;
use super::features::Features;
use super::matrix::{dot, multiply, turned, view};
use super::random::Random;

/// Directions that are iterated together; more than two, so that the first two converge quickly.
const WIDTH: usize = 6;
const ROUNDS: usize = 40;

/// The two directions in which features spread most.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    mean: Vec<f32>,
    axes: [Vec<f64>; 2],
    /// Share of the variance along each axis, 0 to 1.
    pub explained: [f64; 2],
}

impl Plane {
    /// Fits by subspace iteration on the centred features (not standardised: what is large shows).
    ///
    /// # Errors
    /// Empty, ragged or non-finite features.
    pub fn fit(features: &Features) -> Result<Self, EvaluateError> {
        features.check("picture")?;
        let (rows, dim) = (features.rows(), features.dim);
        let mut mean = vec![0.0_f64; dim];
        for row in features.values.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / rows as f64);
        }
        let mean: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
        let largest = features.values.iter().fold(0.0_f32, |most, v| most.max(v.abs())).max(f32::MIN_POSITIVE);
        // In units of the largest value, so that no square overflows.
        let x: Vec<f32> = features.values.chunks_exact(dim).flat_map(|row| centred(row, &mean, largest)).collect();
        let total: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
        let width = WIDTH.min(dim);
        let mut random = Random::new(1);
        let mut basis: Vec<Vec<f64>> = (0..width).map(|_| (0..dim).map(|_| random.normal()).collect()).collect();
        let mut spread = vec![0.0; width];
        for _ in 0..ROUNDS {
            orthonormalise(&mut basis);
            let narrow: Vec<f32> = basis.iter().flatten().map(|&v| v as f32).collect();
            let (mut scores, mut next) = (vec![0.0_f32; rows * width], vec![0.0_f32; width * dim]);
            multiply(&mut scores, width, 1.0, view(&x, rows, dim, dim), turned(&narrow, dim, width, dim), 0.0);
            multiply(&mut next, dim, 1.0, turned(&scores, width, rows, width), view(&x, rows, dim, dim), 0.0);
            spread =
                (0..width).map(|w| scores.iter().skip(w).step_by(width).map(|&v| f64::from(v).powi(2)).sum()).collect();
            basis = next.chunks_exact(dim).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
        }
        orthonormalise(&mut basis);
        let share = |axis: usize| if total > 0.0 { spread.get(axis).map_or(0.0, |s| s / total) } else { 0.0 };
        let mut axes = [0, 1].map(|axis| basis.get(axis).cloned().unwrap_or_else(|| vec![0.0; dim]));
        axes.iter_mut().for_each(|axis| fix_sign(axis));
        Ok(Self { mean, axes, explained: [share(0).min(1.0), share(1).min(1.0)] })
    }

    /// Where a feature vector lies in the plane.
    ///
    /// # Panics
    /// Where `features` has another length than the plane was fitted with.
    pub fn place(&self, features: &[f32]) -> [f64; 2] {
        assert_eq!(features.len(), self.mean.len(), "features of the fitted plane");
        let along = |axis: &Vec<f64>| {
            let moved = features.iter().zip(&self.mean).map(|(&v, &m)| f64::from(v) - f64::from(m));
            moved.zip(axis).map(|(v, a)| v * a).sum()
        };
        [along(&self.axes[0]), along(&self.axes[1])]
    }

    /// Every row's place.
    pub fn points(&self, features: &Features) -> Vec<[f64; 2]> {
        features.values.chunks_exact(features.dim.max(1)).map(|row| self.place(row)).collect()
    }
}

fn centred<'a>(row: &'a [f32], mean: &'a [f32], unit: f32) -> impl Iterator<Item = f32> + 'a {
    row.iter().zip(mean).map(move |(v, m)| v / unit - m / unit)
}

/// Gram and Schmidt; a direction that the earlier ones already span becomes zero.
fn orthonormalise(basis: &mut [Vec<f64>]) {
    for i in 0..basis.len() {
        let (before, rest) = basis.split_at_mut(i);
        let own = &mut rest[0];
        let start = dot(own, own).sqrt();
        for _ in 0..2 {
            for other in &*before {
                let along = dot(own, other);
                own.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
            }
        }
        let length = dot(own, own).sqrt();
        let keep = length > 1e-9 * start && length > 0.0;
        own.iter_mut().for_each(|v| *v = if keep { *v / length } else { 0.0 });
    }
}

/// The largest component is positive, so that the same features give the same picture.
fn fix_sign(axis: &mut [f64]) {
    let largest = axis.iter().copied().fold(0.0_f64, |most, v| if v.abs() > most.abs() { v } else { most });
    if largest < 0.0 {
        axis.iter_mut().for_each(|v| *v = -*v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_two_long_axes_of_a_cloud() {
        let mut random = Random::new(4);
        let values = (0..400).flat_map(|_| {
            let (a, b) = (9.0 * random.normal(), 4.0 * random.normal());
            [0.6 * a, b + 100.0, 0.8 * a, 0.1 * random.normal(), 3.0].map(|v| v as f32)
        });
        let features = Features { dim: 5, values: values.collect() };
        let plane = Plane::fit(&features).unwrap();
        assert!((plane.axes[0][0] - 0.6).abs() < 0.01 && (plane.axes[0][2] - 0.8).abs() < 0.01);
        assert!((plane.axes[1][1] - 1.0).abs() < 0.01);
        assert!(plane.explained[0] > 0.75 && plane.explained.iter().sum::<f64>() > 0.99);
        assert_eq!(plane.points(&features).len(), 400);
    }

    #[test]
    fn constant_and_one_dimensional_features_have_a_place_too() {
        for features in [
            Features { dim: 3, values: vec![7.0; 9] },
            Features { dim: 1, values: vec![1.0, 2.0] },
            Features { dim: 2, values: vec![f32::MAX, f32::MIN] },
        ] {
            let points = Plane::fit(&features).unwrap().points(&features);
            assert!(points.iter().flatten().all(|v| v.is_finite()), "{points:?}");
        }
    }
}
