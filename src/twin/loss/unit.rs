//! Rows as unit vectors, and a gradient back through the division by the length.

use super::dot;

pub(super) struct Units {
    dim: usize,
    unit: Vec<f32>,
    norms: Vec<f32>,
}

impl Units {
    /// A row shorter than 2⁻¹² of the largest number counts as that long, as in integers.
    pub fn of(z: &[f32], dim: usize) -> Self {
        let shortest = z.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs())) / 4096.0;
        let norms: Vec<f32> = z.chunks_exact(dim).map(|row| dot(row, row).sqrt().max(shortest)).collect();
        let rows = z.chunks_exact(dim).zip(&norms);
        Units { dim, unit: rows.flat_map(|(row, n)| row.iter().map(move |v| v / n)).collect(), norms }
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.unit[row * self.dim..][..self.dim]
    }

    pub fn all(&self) -> &[f32] {
        &self.unit
    }

    /// Turns the gradient by the unit vectors into that by the rows.
    pub fn back(&self, gradient: &mut [f32]) {
        for (i, out) in gradient.chunks_exact_mut(self.dim).enumerate() {
            let along = dot(out, self.row(i));
            out.iter_mut().zip(self.row(i)).for_each(|(o, u)| *o = (*o - along * u) / self.norms[i]);
        }
    }
}
