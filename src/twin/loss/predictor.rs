//! SimSiam (Chen & He 2020, arXiv:2011.10566): see `pretext::predictor`.

use super::unit::Units;
use super::{Rows, add, dot};

pub(super) fn negative_cosine(rows: Rows) -> (f32, Vec<f32>) {
    let count = rows.count() as f32;
    let (unit, targets) = (Units::of(rows.z, rows.dim), Units::of(rows.targets, rows.dim));
    let mut gradient = vec![0.0; rows.z.len()];
    let mut loss = 0.0;
    for (i, out) in gradient.chunks_exact_mut(rows.dim).enumerate() {
        let positives = rows.others(i).count().max(1) as f32;
        rows.others(i).for_each(|j| add(out, -1.0 / positives / count, targets.row(j)));
        loss += 1.0 / count + dot(out, unit.row(i));
    }
    unit.back(&mut gradient);
    (loss, gradient)
}
