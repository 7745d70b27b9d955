//! Contrast by second moments (TiCo, Zhu et al. 2022, arXiv:2206.10698): see `pretext::second_moment`.

use super::centred::{self, Centred};
use super::{Rows, add, dot};
use crate::pretext::second_moment::WEIGHT;

pub(super) fn second_moment(rows: Rows, state: &mut [f32]) -> (f32, Vec<f32>) {
    let (count, dim, weight) = (rows.count(), rows.dim, WEIGHT as f32);
    let Some((age, state)) = state.split_first_mut() else { return (0.0, vec![0.0; rows.z.len()]) };
    let (mean, moment) = state.split_at_mut(dim);
    let pace = centred::pace(age);
    let centred = Centred::of(rows.z, dim, mean, pace);
    for (k, line) in moment.chunks_exact_mut(dim).enumerate() {
        for (l, m) in line.iter_mut().enumerate() {
            let sum: f32 = centred.all().chunks_exact(dim).map(|v| v[k] * v[l]).sum();
            *m += (sum / count as f32 - *m) / pace;
        }
    }
    let mut gradient = vec![0.0; rows.z.len()];
    let mut loss = 0.0;
    for (i, out) in gradient.chunks_exact_mut(dim).enumerate() {
        let positives = rows.others(i).count().max(1) as f32;
        let moved: Vec<f32> = moment.chunks_exact(dim).map(|line| dot(line, centred.row(i))).collect();
        let pull: f32 = rows.others(i).map(|j| dot(centred.row(i), centred.row(j))).sum();
        loss += 1.0 - pull / positives + weight * dot(centred.row(i), &moved);
        add(out, 2.0 * weight / count as f32, &moved);
        rows.others(i).for_each(|j| add(out, -2.0 / positives / count as f32, centred.row(j)));
    }
    centred.back(&mut gradient);
    (loss / count as f32, gradient)
}
