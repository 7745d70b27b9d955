//! Where in the frame a taught class is: each column of the feature's grid is held against the class.
//!
//! A feature is, layer by layer, a grid of cells of channels. What a class has more of than the background, channel by
//! channel and wherever it stood, is its signature; a column in which a signature shows is where the thing is.

use super::space::dot;
use super::{Choice, Controller, Fitted, Seen};
use crate::kernels::Grid;

/// Sharpness of the vote among columns.
const SHARP: f32 = 6.0;

/// The signature of a class.
#[derive(Clone, Debug)]
pub struct Signature {
    /// `[channels]` of all layers, of unit length.
    weights: Vec<f32>,
    grids: Vec<Grid>,
    /// How much of it the background shows in its best column, and the class.
    background: f32,
    typical: f32,
}

/// The columns of a standardised feature: the mean over a column's cells, channel by channel, less that over the frame.
/// `out`: `[columns, channels]`.
fn columns(grids: &[Grid], standard: &[f32], count: usize, out: &mut Vec<f32>) {
    let channels: usize = grids.iter().map(|grid| grid.map.channels).sum();
    out.clear();
    out.resize(count * channels, 0.0);
    let (mut from, mut first) = (0, 0);
    for grid in grids {
        let (rows, wide, deep) = (grid.cells.0, grid.cells.1, grid.map.channels);
        for row in 0..rows {
            for column in 0..wide {
                let cell = &standard[from + (row * wide + column) * deep..][..deep];
                // A layer of fewer columns covers several of the others.
                let covered = (column * count).div_ceil(wide)..((column + 1) * count).div_ceil(wide);
                for c in covered {
                    let out = &mut out[c * channels + first..][..deep];
                    out.iter_mut().zip(cell).for_each(|(o, v)| *o += v / rows as f32);
                }
            }
        }
        from += grid.len();
        first += deep;
    }
}

fn widest(grids: &[Grid]) -> usize {
    grids.iter().map(|grid| grid.cells.1).max().unwrap_or(1)
}

impl Signature {
    /// Of a class with the standardised features `shown`, against `background`. `None` where a frame has no columns.
    pub fn of<'a>(
        grids: &[Grid],
        shown: impl Iterator<Item = &'a [f32]> + Clone,
        background: impl Iterator<Item = &'a [f32]>,
    ) -> Option<Self> {
        let wide = widest(grids);
        let channels: usize = grids.iter().map(|grid| grid.map.channels).sum();
        if wide < 2 || shown.clone().next().is_none() {
            return None;
        }
        let mut seen = Vec::new();
        // The class's own mean over the frame, then twice: the columns that show it best say better what it looks like.
        let mut weights = vec![0f32; channels];
        for feature in shown.clone() {
            columns(grids, feature, wide, &mut seen);
            seen.chunks_exact(channels).for_each(|c| weights.iter_mut().zip(c).for_each(|(w, v)| *w += v));
        }
        for _ in 0..2 {
            normalise(&mut weights);
            let mut next = vec![0f32; channels];
            for feature in shown.clone() {
                columns(grids, feature, wide, &mut seen);
                let best = seen.chunks_exact(channels).max_by(|a, b| dot(a, &weights).total_cmp(&dot(b, &weights)));
                next.iter_mut().zip(best.unwrap_or_default()).for_each(|(w, v)| *w += v);
            }
            weights = next;
        }
        normalise(&mut weights);
        let mut signature = Signature { weights, grids: grids.to_vec(), background: 0.0, typical: 1.0 };
        let mut best = |feature: &[f32]| signature.look(feature, &mut seen).1;
        let mut usual: Vec<f32> = background.map(&mut best).collect();
        let mut own: Vec<f32> = shown.map(best).collect();
        usual.sort_by(f32::total_cmp);
        own.sort_by(f32::total_cmp);
        signature.background = usual.get(usual.len() * 9 / 10).copied().unwrap_or(0.0);
        signature.typical = own[own.len() / 2].max(signature.background + 1e-3);
        Some(signature)
    }

    /// The place, -1 (left) to 1, and how much of the signature its best column shows.
    fn look(&self, standard: &[f32], seen: &mut Vec<f32>) -> (f32, f32) {
        let wide = widest(&self.grids);
        columns(&self.grids, standard, wide, seen);
        let shows = seen.chunks_exact(self.weights.len()).map(|column| dot(column, &self.weights));
        let best = shows.clone().fold(f32::NEG_INFINITY, f32::max);
        let scale = SHARP / best.abs().max(1e-6);
        let (mut sum, mut votes) = (0.0, 0.0);
        for (column, show) in shows.enumerate() {
            let vote = ((show - best) * scale).exp();
            sum += vote * (2.0 * (column as f32 + 0.5) / wide as f32 - 1.0);
            votes += vote;
        }
        (sum / votes, best)
    }

    /// The place of the class in a standardised feature, -1 (left) to 1 (right), and how sure it is that it is there, 0 to 1.
    pub fn find(&self, standard: &[f32], seen: &mut Vec<f32>) -> (f32, f32) {
        let (place, best) = self.look(standard, seen);
        (place, ((best - self.background) / (self.typical - self.background)).clamp(0.0, 1.0))
    }
}

fn normalise(weights: &mut [f32]) {
    let length = dot(weights, weights).sqrt().max(1e-9);
    weights.iter_mut().for_each(|w| *w /= length);
}

/// The controller.
pub struct Follow {
    place: usize,
    seen: Vec<f32>,
}

impl Follow {
    /// `place`: its own among the controllers.
    pub fn new(place: usize) -> Self {
        Follow { place, seen: Vec::new() }
    }
}

impl Controller for Follow {
    fn decide(&mut self, seen: &Seen, fitted: &Fitted) -> Choice {
        match fitted.signatures.get(self.place).and_then(Option::as_ref) {
            None => Choice::not_yet("what it follows was not taught"),
            Some(signature) => {
                let (place, confidence) = signature.find(seen.standard, &mut self.seen);
                match confidence > 0.0 {
                    true => Choice::value(f64::from(place), confidence),
                    false => Choice::not_yet("what it follows is not seen"),
                }
            }
        }
    }
}
