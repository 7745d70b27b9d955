//! Rows around the running mean of their directions, in the step's own scale: see `pretext::centred`.

use super::unit::Units;
use super::{add, dot};

pub(super) struct Centred {
    dim: usize,
    raw: Units,
    centred: Vec<f32>,
    root: f32,
}

/// Counts a step in `age`: running averages move towards it by 1 / this.
pub(super) fn pace(age: &mut f32) -> f32 {
    *age = (*age + 1.0).min(crate::pretext::centred::MEMORY as f32);
    *age
}

fn column_means(z: &[f32], dim: usize) -> Vec<f32> {
    let rows = (z.len() / dim) as f32;
    (0..dim).map(|k| z[k..].iter().step_by(dim).sum::<f32>() / rows).collect()
}

impl Centred {
    /// Moves `mean` on with these rows, then takes it off.
    pub fn of(z: &[f32], dim: usize, mean: &mut [f32], pace: f32) -> Self {
        let raw = Units::of(z, dim);
        let own = column_means(raw.all(), dim);
        mean.iter_mut().zip(own).for_each(|(m, own)| *m += (own - *m) / pace);
        let mut centred = raw.all().to_vec();
        centred.chunks_exact_mut(dim).for_each(|row| add(row, -1.0, mean));
        let root = (dot(&centred, &centred) * dim as f32 / z.len() as f32).sqrt().max(f32::MIN_POSITIVE);
        centred.iter_mut().for_each(|v| *v /= root);
        Centred { dim, raw, centred, root }
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.centred[row * self.dim..][..self.dim]
    }

    pub fn all(&self) -> &[f32] {
        &self.centred
    }

    pub fn back(&self, gradient: &mut [f32]) {
        let along = dot(gradient, &self.centred) * self.dim as f32 / gradient.len() as f32;
        add(gradient, -along, &self.centred);
        gradient.iter_mut().for_each(|g| *g /= self.root);
        let means = column_means(gradient, self.dim);
        gradient.chunks_exact_mut(self.dim).for_each(|row| add(row, -1.0, &means));
        self.raw.back(gradient);
    }
}
