//! Swapped prediction of clusters (SwAV, Caron et al. 2020, arXiv:2006.09882): see `pretext::cluster`.

use super::centred::{self, Centred};
use super::unit::Units;
use super::{Rows, add, dot, softmax};
use crate::pretext::cluster::{self, CODE_SHIFT, RATE_SHIFT, REMEMBERED, ROUNDS, TEMPERATURE_SHIFT};

pub(super) fn swapped(rows: Rows, clusters: usize, state: &mut [f32]) -> (f32, Vec<f32>) {
    let (count, dim) = (rows.count(), rows.dim);
    let Some((age, rest)) = state.split_first_mut() else { return (0.0, vec![0.0; rows.z.len()]) };
    let (mean, rest) = rest.split_at_mut(dim);
    let (price, rest) = rest.split_at_mut(clusters);
    let (used, prototypes) = rest.split_at_mut(clusters);
    if *age == 0.0 {
        let mut start = vec![0; prototypes.len()];
        cluster::start(&mut start, dim);
        prototypes.iter_mut().zip(start).for_each(|(p, s)| *p = s as f32);
    }
    let centred = Centred::of(rows.z, dim, mean, centred::pace(age));
    let of = Units::of(prototypes, dim);
    let scores: Vec<Vec<f32>> =
        (0..count).map(|i| (0..clusters).map(|k| dot(centred.row(i), of.row(k))).collect()).collect();

    let sharpness = (1 << CODE_SHIFT) as f32;
    let mut codes = Vec::new();
    let mut mass = Vec::new();
    for round in 0..=ROUNDS {
        let code = |row: &Vec<f32>| {
            let mut code: Vec<f32> = row.iter().zip(&*price).map(|(s, p)| (s - p) * sharpness).collect();
            softmax(&mut code);
            code
        };
        codes = scores.iter().map(code).collect::<Vec<_>>();
        mass = used.to_vec();
        codes.iter().for_each(|code| add(&mut mass, 1.0, code));
        if round < ROUNDS {
            let even = mass.iter().sum::<f32>() / clusters as f32;
            price.iter_mut().zip(&mass).for_each(|(p, m)| *p += (m.max(1.0 / 32768.0) / even).ln() / sharpness);
            let mean = price.iter().sum::<f32>() / clusters as f32;
            price.iter_mut().for_each(|p| *p = (*p - mean).clamp(-4.0, 4.0));
        }
    }
    let window = (REMEMBERED as usize * clusters) as f32;
    used.iter_mut().zip(&mass).for_each(|(u, m)| *u = m * window / (window + count as f32));

    let inverse = (1 << TEMPERATURE_SHIFT) as f32;
    let mut gradient = vec![0.0; rows.z.len()];
    let mut moves = vec![0.0; prototypes.len()];
    let mut loss = 0.0;
    for (i, out) in gradient.chunks_exact_mut(dim).enumerate() {
        let mut target = vec![0.0; clusters];
        let positives = rows.others(i).count().max(1) as f32;
        rows.others(i).for_each(|j| add(&mut target, 1.0 / positives, &codes[j]));
        let mut errors: Vec<f32> = scores[i].iter().map(|s| s * inverse).collect();
        let pull = dot(&errors, &target);
        loss += softmax(&mut errors) - pull;
        add(&mut errors, -1.0, &target);
        for (k, &error) in errors.iter().enumerate() {
            add(out, error * inverse / count as f32, of.row(k));
            add(&mut moves[k * dim..][..dim], error * clusters as f32 / count as f32, centred.row(i));
        }
    }
    add(prototypes, -1.0 / (1 << RATE_SHIFT) as f32, &moves);
    let moved = Units::of(prototypes, dim);
    prototypes.copy_from_slice(moved.all());
    centred.back(&mut gradient);
    (loss / count as f32, gradient)
}
