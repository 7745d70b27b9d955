//! Rotation prediction (Gidaris et al. 2018, arXiv:1803.07728): see `pretext::rotation` and `pretext::softmax`.

use super::{Rows, dot, softmax};
use crate::pretext::softmax::MARGIN;

pub(super) fn rotation(rows: Rows) -> (f32, Vec<f32>) {
    let (count, classes) = (rows.count() as f32, rows.dim);
    let centred = |row: &[f32]| {
        let mean = row.iter().sum::<f32>() / classes as f32;
        row.iter().map(move |v| v - mean).collect::<Vec<f32>>()
    };
    let x: Vec<f32> = rows.z.chunks_exact(classes).flat_map(centred).collect();
    let squares = dot(&x, &x).max(f32::MIN_POSITIVE);
    let wanted = MARGIN as f32 * ((classes - 1) as f32).sqrt() / classes as f32;
    let scale = wanted / (squares / x.len() as f32).sqrt();
    let mut gradient: Vec<f32> = x.iter().map(|v| v * scale).collect();
    let mut loss = 0.0;
    for (i, row) in gradient.chunks_exact_mut(classes).enumerate() {
        let right = row[i % classes];
        loss += softmax(row) - right;
        row[i % classes] -= 1.0;
    }
    // Through the root of the mean square; each row's sum is 0 already.
    let along = dot(&gradient, &x) / squares;
    gradient.iter_mut().zip(&x).for_each(|(g, x)| *g = (*g - along * x) * scale / count);
    (loss / count, gradient)
}
