//! Unit vectors around their running mean: see `pretext::centred`.

use super::unit::Units;

pub(super) struct Centred {
    raw: Units,
    off: Units,
}

/// Counts a step in `age`: running averages move towards it by 1 / this.
pub(super) fn pace(age: &mut f32) -> f32 {
    *age = (*age + 1.0).min(crate::pretext::centred::MEMORY as f32);
    *age
}

impl Centred {
    /// Moves `mean` on with these rows, then takes it off.
    pub fn of(z: &[f32], dim: usize, mean: &mut [f32], pace: f32) -> Self {
        let raw = Units::of(z, dim);
        let count = (z.len() / dim) as f32;
        for (k, m) in mean.iter_mut().enumerate() {
            let sum: f32 = raw.all()[k..].iter().step_by(dim).sum();
            *m += (sum / count - *m) / pace;
        }
        let off: Vec<f32> =
            raw.all().chunks_exact(dim).flat_map(|u| u.iter().zip(&*mean).map(|(u, m)| u - m)).collect();
        Centred { raw, off: Units::of(&off, dim) }
    }

    pub fn unit(&self) -> &Units {
        &self.off
    }

    pub fn back(&self, gradient: &mut [f32]) {
        self.off.back(gradient);
        self.raw.back(gradient);
    }
}
