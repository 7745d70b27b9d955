//! InfoNCE between predictions and later samples (van den Oord et al. 2018, arXiv:1807.03748): see `pretext::predictive`.

use super::unit::Units;
use super::{Rows, add, dot, softmax};
use crate::pretext::predictive::is_later;

pub(super) fn info_nce(rows: Rows, temperature: f32) -> (f32, Vec<f32>) {
    let (unit, targets) = (Units::of(rows.z, rows.dim), Units::of(rows.targets, rows.dim));
    let (later, earlier): (Vec<usize>, Vec<usize>) = (0..rows.count()).partition(|&row| is_later(row, rows.views));
    let mut gradient = vec![0.0; rows.z.len()];
    let mut loss = 0.0;
    for &i in &earlier {
        let mut scores: Vec<f32> = later.iter().map(|&j| dot(unit.row(i), targets.row(j)) / temperature).collect();
        let own = |j: usize| j / rows.views == i / rows.views;
        let positives = later.iter().filter(|&&j| own(j)).count().max(1) as f32;
        let pull: f32 = later.iter().zip(&scores).filter(|(j, _)| own(**j)).map(|(_, s)| s).sum();
        loss += softmax(&mut scores) - pull / positives;
        for (&j, p) in later.iter().zip(&scores) {
            let error = p - if own(j) { 1.0 / positives } else { 0.0 };
            add(&mut gradient[rows.row(i)], error / temperature / earlier.len() as f32, targets.row(j));
        }
    }
    unit.back(&mut gradient);
    (loss / earlier.len().max(1) as f32, gradient)
}
