//! NT-Xent in `f32`, with two or more views of each sample (Chen et al. 2020, arXiv:2002.05709): the formula of
//! `pretext::contrastive` without its tables.

/// Loss, in nats, and its gradient, `[rows, dim]`. Rows `i` and `j` of `z` are views of one sample where
/// `i / views == j / views`.
///
/// A row shorter than 2⁻¹² of the largest number counts as that long, as in integers.
pub(super) fn nt_xent(z: &[f32], dim: usize, views: usize, temperature: f32) -> (f32, Vec<f32>) {
    let rows = z.len() / dim;
    let shortest = z.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs())) / 4096.0;
    let norms: Vec<f32> = z.chunks_exact(dim).map(|row| dot(row, row).sqrt().max(shortest)).collect();
    let unit: Vec<f32> = z.chunks_exact(dim).zip(&norms).flat_map(|(row, n)| row.iter().map(move |v| v / n)).collect();
    let unit_of = |i: usize| &unit[i * dim..(i + 1) * dim];
    let positives = (views - 1).max(1) as f32;
    let positive = |i: usize, j: usize| i != j && i / views == j / views;

    // Softmax over the others minus targets.
    let mut matrix = vec![0.0f32; rows * rows];
    let mut loss = 0.0;
    for (i, row) in matrix.chunks_exact_mut(rows).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, s)| *s = dot(unit_of(i), unit_of(j)) / temperature);
        row[i] = f32::NEG_INFINITY;
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|s| (s - max).exp()).sum();
        for (j, s) in row.iter_mut().enumerate() {
            let target = if positive(i, j) { 1.0 / positives } else { 0.0 };
            if target > 0.0 {
                loss += target * (max + sum.ln() - *s);
            }
            *s = (*s - max).exp() / sum - target;
        }
    }

    let mut gradient = vec![0.0; z.len()];
    let scale = 1.0 / (temperature * rows as f32);
    for (i, out) in gradient.chunks_exact_mut(dim).enumerate() {
        for j in 0..rows {
            let weight = (matrix[i * rows + j] + matrix[j * rows + i]) * scale;
            out.iter_mut().zip(unit_of(j)).for_each(|(o, u)| *o += weight * u);
        }
        let along = dot(out, unit_of(i));
        out.iter_mut().zip(unit_of(i)).for_each(|(o, u)| *o = (*o - along * u) / norms[i]);
    }
    (loss / rows as f32, gradient)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
