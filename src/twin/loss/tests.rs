use super::*;
use crate::kernels::Kernels;
use crate::pretext::objective::{self, tests::Step};

/// Of the integer loss, of several steps with a state.
#[test]
fn losses_and_gradients_are_the_integer_ones_without_rounding() {
    for pretext in objective::tests::all() {
        let dim = Step::new(&pretext, 0).dim();
        let len = objective::state_len(&pretext, dim);
        let (mut integer, mut float) = (vec![0; len], vec![0.0; len]);
        for number in 0..6 {
            let mut step = Step::new(&pretext, number);
            let z: Vec<f32> = step.z.iter().map(|&v| v as f32).collect();
            let targets: Vec<f32> = step.targets.iter().map(|&v| f32::from(v)).collect();
            let rows = Rows { z: &z, dim, views: pretext.views, targets: &targets };
            let (expected, gradient) = loss(&pretext, rows, &mut float);
            let found = step.loss(&pretext, Kernels::detect(), 16, &mut integer) as f32 / 256.0;
            assert!((found - expected).abs() < 0.1, "{:?} step {number}: {found} {expected}", pretext.task);
            let own: Vec<f32> = step.z.iter().map(|&v| v as f32).collect();
            let cosine = dot(&own, &gradient) / (dot(&own, &own) * dot(&gradient, &gradient)).sqrt();
            assert!(cosine > 0.98, "{:?} step {number}: {cosine}", pretext.task);
        }
    }
}
