//! NT-Xent (Chen et al. 2020, arXiv:2002.05709): see `pretext::contrastive`.

use super::unit::Units;
use super::{Rows, add, dot};

/// Loss, in nats, and its gradient.
pub(super) fn nt_xent(rows: Rows, temperature: f32) -> (f32, Vec<f32>) {
    let count = rows.count();
    let unit = Units::of(rows.z, rows.dim);
    let positives = (rows.views - 1).max(1) as f32;

    // Softmax over the others minus targets.
    let mut matrix = vec![0.0f32; count * count];
    let mut loss = 0.0;
    for (i, row) in matrix.chunks_exact_mut(count).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, s)| *s = dot(unit.row(i), unit.row(j)) / temperature);
        row[i] = f32::NEG_INFINITY;
        let pull: f32 = rows.others(i).map(|j| row[j]).sum();
        loss += super::softmax(row) * rows.others(i).count() as f32 / positives - pull / positives;
        rows.others(i).for_each(|j| row[j] -= 1.0 / positives);
    }

    let mut gradient = vec![0.0; rows.z.len()];
    let scale = 1.0 / (temperature * count as f32);
    for (i, out) in gradient.chunks_exact_mut(rows.dim).enumerate() {
        (0..count).for_each(|j| add(out, (matrix[i * count + j] + matrix[j * count + i]) * scale, unit.row(j)));
    }
    unit.back(&mut gradient);
    (loss / count as f32, gradient)
}
