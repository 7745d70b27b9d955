//! VICReg (Bardes et al. 2021, arXiv:2105.04906), scaled by the step: see `pretext::vicreg`.

use super::{Rows, add, dot};

/// ε of the paper, and the weight of the covariance.
const EPSILON: f32 = 1.0 / 8192.0;
const COVARIANCE: f32 = 1.0 / 16.0;

pub(super) fn vicreg(rows: Rows) -> (f32, Vec<f32>) {
    let (count, dim) = (rows.count(), rows.dim);
    let (n, numbers) = (count as f32, rows.z.len() as f32);
    let means: Vec<f32> = (0..dim).map(|k| rows.z[k..].iter().step_by(dim).sum::<f32>() / n).collect();
    let mut x: Vec<f32> = rows.z.iter().enumerate().map(|(i, v)| v - means[i % dim]).collect();
    let root = (dot(&x, &x) / numbers).sqrt().max(f32::MIN_POSITIVE);
    x.iter_mut().for_each(|v| *v /= root);
    let mut covariance = vec![0.0; dim * dim];
    for (k, line) in covariance.chunks_exact_mut(dim).enumerate() {
        x.chunks_exact(dim).for_each(|row| add(line, row[k] / n, row));
    }
    let mut loss = 0.0;
    // By each number: 0 where its deviation is large enough.
    let mut inverse = vec![0.0; dim];
    for (k, inverse) in inverse.iter_mut().enumerate() {
        let deviation = (covariance[k * dim + k] + EPSILON).sqrt();
        if deviation < 1.0 {
            loss += (1.0 - deviation) / dim as f32;
            *inverse = 1.0 / deviation;
        }
        covariance[k * dim + k] = 0.0;
    }
    loss += COVARIANCE * dot(&covariance, &covariance) / dim as f32;
    let mut gradient = vec![0.0; x.len()];
    for (i, out) in gradient.chunks_exact_mut(dim).enumerate() {
        let row = &x[rows.row(i)];
        let positives = rows.others(i).count().max(1) as f32;
        for j in rows.others(i) {
            let other = &x[rows.row(j)];
            loss += row.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / positives / numbers;
            add(out, 4.0 / positives / numbers, row);
            add(out, -4.0 / positives / numbers, other);
        }
        for (k, o) in out.iter_mut().enumerate() {
            let shared = dot(&covariance[k * dim..][..dim], row);
            *o += (4.0 * COVARIANCE * shared - row[k] * inverse[k]) / numbers;
        }
    }
    // Through the scale; each column's sum is 0 already.
    let along = dot(&gradient, &x) / numbers;
    gradient.iter_mut().zip(&x).for_each(|(g, x)| *g = (*g - along * x) / root);
    (loss, gradient)
}
