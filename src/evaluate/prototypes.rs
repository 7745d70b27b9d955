//! The device's own prototypes, as a judge asks them: [`crate::probe::prototypes`], integers throughout.

use super::features::Features;
use crate::kernels::Kernels;
use crate::probe::factor::MOST_WIDTH;
use crate::probe::prototypes::{MOST_TAUGHT, Prototypes};
use crate::probe::{ProbeError, block_len, over};

/// Mantissas of a standard deviation, for features that are no mantissas yet.
const DEVIATION: f32 = 16.0;

/// Features as the probes of the device read them: as they are where they are mantissas, else standardised ones.
fn mantissas(raw: &[&Features], standard: [&[f32]; 2]) -> [Vec<i8>; 2] {
    let is_mantissa = |v: &f32| v.fract() == 0.0 && v.abs() <= 127.0;
    if raw.iter().all(|part| part.values.iter().all(is_mantissa)) {
        return [0, 1].map(|part| raw[part].values.iter().map(|&v| v as i8).collect());
    }
    standard.map(|part| part.iter().map(|v| (v * DEVIATION).round().clamp(-127.0, 127.0) as i8).collect())
}

/// The class that each test row is named, taught all training rows (of more than the sums hold, evenly spread ones).
pub(super) fn answers(
    train: &Features,
    test: &Features,
    standard: [&[f32]; 2],
    classes: &[usize],
    count: usize,
) -> Result<Vec<usize>, ProbeError> {
    let dim = train.dim;
    let [x, test_x] = mantissas(&[train, test], standard);
    let kernels = Kernels::detect();
    let mut memory = vec![0; block_len(|arena| Prototypes::take(kernels, dim, MOST_WIDTH, count, arena))?];
    let mut prototypes = over(&mut memory, |arena| Prototypes::take(kernels, dim, MOST_WIDTH, count, arena))?;
    let every = classes.len().div_ceil(MOST_TAUGHT as usize);
    for (row, &class) in x.chunks_exact(dim).zip(classes).step_by(every) {
        prototypes.learn(row, class)?;
    }
    prototypes.relearn();
    test_x.chunks_exact(dim).map(|row| Ok(prototypes.predict(row)?.unwrap_or(count))).collect()
}
