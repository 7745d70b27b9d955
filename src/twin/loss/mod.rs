//! The losses over embeddings in `f32`: the formulas of [`crate::pretext`], file by file, without tables and rounding.
//!
//! Rows `i` and `j` are views of one sample where `i / views == j / views`. States are laid out as the integer ones, in
//! units of 1.

mod centred;
mod cluster;
mod contrastive;
mod predictive;
mod predictor;
mod rotation;
mod second_moment;
mod unit;
mod vicreg;

use std::ops::Range;

use crate::net::task::{Pretext, Task};

/// Embeddings of a step.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// `[rows, dim]`.
    pub z: &'a [f32],
    pub dim: usize,
    pub views: usize,
    /// For a task that predicts: the embeddings of the same rows.
    pub targets: &'a [f32],
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.z.len() / self.dim
    }

    fn row(&self, row: usize) -> Range<usize> {
        row * self.dim..(row + 1) * self.dim
    }

    /// The other rows of a row's sample.
    fn others(&self, row: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        crate::pretext::unit::other_views(row, self.views)
    }
}

/// Loss in whole units, and its gradient by `rows.z`. `state` moves on with the step.
pub(super) fn loss(pretext: &Pretext, rows: Rows, state: &mut [f32]) -> (f32, Vec<f32>) {
    let temperature = 0.5f32.powi(pretext.temperature_shift as i32);
    match pretext.task {
        Task::Contrastive => contrastive::nt_xent(rows, temperature),
        Task::SecondMoment => second_moment::second_moment(rows, state),
        Task::Vicreg => vicreg::vicreg(rows),
        Task::Predictor => predictor::negative_cosine(rows),
        Task::Predictive => predictive::info_nce(rows, temperature),
        Task::Rotation => rotation::rotation(rows),
        Task::Cluster => cluster::swapped(rows, pretext.prototypes, state),
        Task::Denoise | Task::Inpaint | Task::Variational | Task::MaskedToken => (0.0, vec![0.0; rows.z.len()]),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Adds `factor · from` to `to`.
fn add(to: &mut [f32], factor: f32, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
}

/// Replaces scores by their softmax; returns the logarithm of the sum of their exponentials.
fn softmax(scores: &mut [f32]) -> f32 {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|s| *s = (*s - max).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= sum);
    max + sum.ln()
}

#[cfg(test)]
mod tests;
