//! The linear probe with few labels: ridge on seeded random draws of the training rows, λ by leave-one-out.
//!
//! Features are standardised with the whole training part: that needs no labels, and a stream has plenty of those.

use rayon::prelude::*;

use super::features::Targets;
use super::normal::{Data, Linear};
use super::random::Random;
use super::ridge::fit_leaving_one_out;

/// A draw never has fewer rows than this, whatever the share.
const FEWEST: usize = 5;

/// Mean and standard deviation of a score over draws, and the labels each draw had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub mean: f64,
    pub std: f64,
    pub labels: usize,
}

/// Scores ridge fitted on `draws` random draws of `share` of the rows. `score` judges one fitted map.
pub(super) fn few_labels(
    data: Data<'_>,
    targets: &Targets,
    share: f64,
    draws: u64,
    seed: u64,
    score: impl Fn(&Linear) -> f64 + Sync,
) -> Option<Spread> {
    let scores: Option<Vec<f64>> = (0..draws)
        .into_par_iter()
        .map(|draw| {
            let rows = draw_rows(targets, share, seed.wrapping_mul(1000).wrapping_add(draw));
            let (dim, outputs) = (data.dim, data.outputs);
            let x: Vec<f32> = rows.iter().flat_map(|&r| &data.x[r * dim..][..dim]).copied().collect();
            let y: Vec<f64> = rows.iter().flat_map(|&r| &data.y[r * outputs..][..outputs]).copied().collect();
            fit_leaving_one_out(Data { x: &x, y: &y, dim, outputs }).map(|(linear, _)| score(&linear))
        })
        .collect();
    let scores = scores?;
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let std = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0)).sqrt();
    Some(Spread { mean, std, labels: draw_rows(targets, share, seed).len() })
}

/// Random rows, ascending: one of every class first, then any, until `share` of all rows are drawn.
pub fn draw_rows(targets: &Targets, share: f64, seed: u64) -> Vec<usize> {
    let rows = targets.len();
    let mut order: Vec<usize> = (0..rows).collect();
    Random::new(seed).shuffle(&mut order);
    let mut drawn = Vec::new();
    if let Targets::Classes(classes) = targets {
        let mut seen = std::collections::HashSet::new();
        drawn.extend(order.iter().copied().filter(|&row| seen.insert(classes[row])));
        let taken: std::collections::HashSet<usize> = drawn.iter().copied().collect();
        order.retain(|row| !taken.contains(row));
    }
    let wanted = ((share * rows as f64).round() as usize).max(FEWEST).min(rows);
    let missing = wanted.saturating_sub(drawn.len());
    drawn.extend(order.into_iter().take(missing));
    drawn.sort_unstable();
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn a_draw_has_every_class_and_no_row_twice(classes in prop::collection::vec(0_u32..12, 1..400), seed: u64) {
            let rows = draw_rows(&Targets::Classes(classes.clone()), 0.01, seed);
            let drawn: HashSet<u32> = rows.iter().map(|&r| classes[r]).collect();
            prop_assert_eq!(drawn, classes.iter().copied().collect::<HashSet<_>>());
            prop_assert_eq!(rows.iter().collect::<HashSet<_>>().len(), rows.len());
        }
    }

    #[test]
    fn a_draw_has_the_share_that_was_asked_for() {
        assert_eq!(draw_rows(&Targets::Values(vec![0.0; 2000]), 0.1, 1).len(), 200);
        assert_eq!(draw_rows(&Targets::Classes((0..2000).map(|i| i % 3).collect()), 0.01, 1).len(), 20);
    }
}
