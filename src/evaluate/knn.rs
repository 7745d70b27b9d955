//! Nearest neighbours by cosine on standardised features: what the features say with nothing trained on top.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::matrix::{multiply, turned, view};

/// Test rows whose similarities are held at once.
const ROWS: usize = 128;

/// Temperature of the vote: a neighbour of cosine `s` counts `exp(s / 0.07)` (Wu et al. 2018, instance discrimination).
const TEMPERATURE: f32 = 0.07;

/// One training row seen from a test row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Neighbour {
    pub row: usize,
    pub cosine: f32,
}

fn nearer_first(a: &Neighbour, b: &Neighbour) -> Ordering {
    b.cosine.total_cmp(&a.cosine).then(a.row.cmp(&b.row))
}

/// The `k` nearest training rows of every test row, nearest first, ties to the earlier row; all where there are fewer.
///
/// `train` and `test` are standardised, `[rows, dim]`. A row of zeros has cosine 0 to everything.
pub(super) fn neighbours(train: &[f32], test: &[f32], dim: usize, k: usize) -> Vec<Vec<Neighbour>> {
    let (train, test) = (unit_rows(train, dim), unit_rows(test, dim));
    let rows = train.len() / dim;
    test.par_chunks(ROWS * dim)
        .flat_map_iter(|block| {
            let high = block.len() / dim;
            let mut cosines = vec![0.0_f32; high * rows];
            let all = turned(&train, dim, rows, dim);
            multiply(&mut cosines, rows, 1.0, view(block, high, dim, dim), all, 0.0);
            let nearest = |row: &[f32]| {
                let mut found: Vec<_> =
                    row.iter().enumerate().map(|(row, &cosine)| Neighbour { row, cosine }).collect();
                if k < found.len() {
                    found.select_nth_unstable_by(k, nearer_first);
                    found.truncate(k);
                }
                found.sort_unstable_by(nearer_first);
                found
            };
            cosines.chunks_exact(rows).map(nearest).collect::<Vec<_>>()
        })
        .collect()
}

fn unit_rows(x: &[f32], dim: usize) -> Vec<f32> {
    let mut out = x.to_vec();
    for row in out.chunks_exact_mut(dim) {
        let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        }
    }
    out
}

/// The class with the largest sum of `exp(cosine / 0.07)`; ties go to the smaller class.
pub(super) fn vote(neighbours: &[Neighbour], classes: &[usize], count: usize) -> usize {
    let mut votes = vec![0.0_f32; count];
    for n in neighbours {
        votes[classes[n.row]] += ((n.cosine - 1.0) / TEMPERATURE).exp();
    }
    (0..count).rev().max_by(|&a, &b| votes[a].total_cmp(&votes[b])).unwrap_or(0)
}

/// The mean of the neighbours' values.
pub(super) fn mean(neighbours: &[Neighbour], values: &[f64]) -> f64 {
    neighbours.iter().map(|n| values[n.row]).sum::<f64>() / neighbours.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::random::Random;

    #[test]
    fn neighbours_are_those_of_the_definition() {
        let dim = 7;
        let mut random = Random::new(5);
        let mut noise = |rows: usize| (0..rows * dim).map(|_| random.normal() as f32).collect::<Vec<_>>();
        let (train, test) = (noise(300), noise(150));
        let found = neighbours(&train, &test, dim, 20);
        for (t, found) in test.chunks_exact(dim).zip(&found) {
            let cosine = |r: &[f32]| {
                let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
                product(r, t) / (product(r, r) * product(t, t)).sqrt()
            };
            let mut all: Vec<(usize, f64)> = train.chunks_exact(dim).map(cosine).enumerate().collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            assert_eq!(found.len(), 20);
            for (n, (row, cosine)) in found.iter().zip(&all) {
                assert!(n.row == *row && (f64::from(n.cosine) - cosine).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn one_near_neighbour_outvotes_many_far_ones() {
        let near = Neighbour { row: 0, cosine: 0.9 };
        let far = [1, 2, 3].map(|row| Neighbour { row, cosine: 0.1 });
        assert_eq!(vote(&[&[near], &far[..]].concat(), &[2, 0, 0, 0], 3), 2);
        assert_eq!(vote(&far, &[2, 1, 0, 0], 3), 0);
        assert_eq!(vote(&far[..2], &[2, 1, 0, 0], 3), 0, "ties go to the smaller class");
        assert_eq!(mean(&far, &[9.0, 1.0, 2.0, 6.0]), 3.0);
    }

    #[test]
    fn fewer_training_rows_than_k_are_all_used_and_zero_rows_are_far_from_everything() {
        let found = neighbours(&[0.0, 0.0, 1.0, 0.0], &[2.0, 0.0, 0.0, 0.0], 2, 200);
        assert_eq!(found[0], [Neighbour { row: 1, cosine: 1.0 }, Neighbour { row: 0, cosine: 0.0 }]);
        assert_eq!(found[1].len(), 2);
    }
}
