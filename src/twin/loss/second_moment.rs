//! Contrast by second moments (TiCo, Zhu et al. 2022, arXiv:2206.10698): see `pretext::second_moment`.

use super::centred::{self, Centred};
use super::{Rows, add, dot};
use crate::pretext::second_moment::WEIGHT;

pub(super) fn second_moment(rows: Rows, state: &mut [f32]) -> (f32, Vec<f32>) {
    let (count, dim, weight) = (rows.count() as f32, rows.dim, WEIGHT as f32);
    let Some((age, mean)) = state.split_first_mut() else { return (0.0, vec![0.0; rows.z.len()]) };
    let centred = Centred::of(rows.z, dim, mean, centred::pace(age));
    let mut moment = vec![0.0; dim * dim];
    for (k, line) in moment.chunks_exact_mut(dim).enumerate() {
        centred.all().chunks_exact(dim).for_each(|v| add(line, v[k] / count, v));
    }
    let mut gradient = vec![0.0; rows.z.len()];
    let mut loss = weight * dot(&moment, &moment);
    for (i, out) in gradient.chunks_exact_mut(dim).enumerate() {
        let positives = rows.others(i).count().max(1) as f32;
        let pull: f32 = rows.others(i).map(|j| dot(centred.row(i), centred.row(j))).sum();
        loss += (1.0 - pull / positives) / count;
        let moved = moment.chunks_exact(dim).map(|line| dot(line, centred.row(i)));
        out.iter_mut().zip(moved).for_each(|(o, m)| *o = 4.0 * weight * m / count);
        rows.others(i).for_each(|j| add(out, -2.0 / positives / count, centred.row(j)));
    }
    centred.back(&mut gradient);
    (loss, gradient)
}
