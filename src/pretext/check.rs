//! What the tests of all losses share: embeddings to try, slopes of float formulas by finite differences, cosines.

use crate::fixed::random::Draws;
use crate::sample::Seed;

/// Independent numbers within ±10000, `[rows, dim]`.
pub fn random(rows: usize, dim: usize, seed: u64) -> Vec<i32> {
    let draws = Draws::new(Seed(seed), 0, 7);
    (0..rows * dim).map(|i| draws.between(i as u32, -10_000, 10_000)).collect()
}

/// Views of samples: a centre each, and `spread` of 10 of noise. `offset` is added everywhere: with a large one all rows
/// are nearly parallel, as a fresh net gives them.
pub fn clustered(rows: usize, dim: usize, views: usize, spread: i32, offset: i32, seed: u64) -> Vec<i32> {
    let centres = random(rows.div_ceil(views), dim, seed);
    let noise = random(rows, dim, seed ^ 0xABCD);
    let centre = |i: usize| centres[i / dim / views * dim + i % dim];
    (0..rows * dim).map(|i| offset + centre(i) + noise[i] * spread / 10).collect()
}

pub fn float(z: &[i32]) -> Vec<f64> {
    z.iter().map(|&v| f64::from(v)).collect()
}

/// The slope of `loss` at `z`, by central differences.
pub fn slope(z: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-3 * z.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1.0);
    let mut moved = z.to_vec();
    (0..z.len())
        .map(|k| {
            moved[k] = z[k] + step;
            let above = loss(&moved);
            moved[k] = z[k] - step;
            let below = loss(&moved);
            moved[k] = z[k];
            (above - below) / (2.0 * step)
        })
        .collect()
}

pub fn cosine(ours: &[i32], exact: &[f64]) -> f64 {
    let (mut product, mut own, mut theirs) = (0.0, 0.0, 0.0);
    for (&a, &b) in ours.iter().zip(exact) {
        product += f64::from(a) * b;
        own += f64::from(a).powi(2);
        theirs += b * b;
    }
    product / (own * theirs).sqrt()
}

/// Unit vectors of rows; a row of zeros stays zeros.
pub fn unit(z: &[f64], dim: usize) -> Vec<Vec<f64>> {
    z.chunks(dim)
        .map(|row| {
            let norm = dot(row, row).sqrt().max(1e-9);
            row.iter().map(|v| v / norm).collect()
        })
        .collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Embeddings that must overflow nothing and leave every loss a number: all at either end, all equal, zeros.
pub fn extremes(rows: usize, dim: usize) -> Vec<Vec<i32>> {
    const END: i32 = 1 << 30;
    let each = |value: &dyn Fn(usize) -> i32| (0..rows * dim).map(value).collect::<Vec<i32>>();
    vec![
        each(&|_| END),
        each(&|_| -END),
        each(&|i| if i % 2 == 0 { END } else { -END }),
        each(&|i| if (i / dim).is_multiple_of(2) { END } else { -END }),
        each(&|_| 0),
        each(&|_| 77),
        each(&|i| if i < dim { 0 } else { i as i32 * 1000 }),
        each(&|i| if i == 0 { END } else { 0 }),
        each(&|i| if i < dim { END } else { 1 }),
        each(&|_| 1),
    ]
}
