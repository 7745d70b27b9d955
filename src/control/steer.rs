//! Values that were taught by demonstration: ridge regression from standardised features to one or more outputs.
//!
//! With fewer examples than numbers in a feature it is solved in the space of the examples. The regularisation is the one
//! that foretells whole stretches of the demonstration best when they are left out (Stone 1974; by blocks, as neighbours in
//! time are much alike). Confidence is how well that went, times how near a feature is to what was taught.

use nalgebra::{Cholesky, DMatrix};

use super::space::{Space, dot};
use super::{Choice, Controller, Fitted, MOST_OUTPUTS, Seen, Values};

/// Regularisations tried, per mean square length of an example.
const STRENGTHS: [f64; 6] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0];
/// Stretches that are left out in turn.
const BLOCKS: usize = 8;
/// Examples that nearness is judged by.
pub(super) const ANCHORS: usize = 48;
/// Fewer examples than this teach nothing.
pub const FEWEST: usize = 3;

/// What one controller was taught.
#[derive(Clone, Debug)]
pub struct Steering {
    /// `[outputs, dim]`
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Mean absolute error of each output over stretches that were left out, and the share of its variance foretold there.
    pub error: Vec<f64>,
    pub r2: Vec<f64>,
    pub examples: usize,
    /// Some of the examples, as a space of their own.
    anchors: Space,
}

impl Steering {
    /// Learns `values` of the standardised features `rows` `[examples, dim]`, which are in the order of teaching. `None`
    /// where they are too few, or all alike.
    pub fn of(rows: &[f32], values: &[Values], dim: usize) -> Option<Self> {
        let count = values.len();
        let outputs = values.first()?.len();
        if count < FEWEST || values.iter().any(|v| v.len() != outputs) {
            return None;
        }
        let row = |i: usize| &rows[i * dim..][..dim];
        let mean: Vec<f64> = (0..outputs).map(|o| values.iter().map(|v| v[o]).sum::<f64>() / count as f64).collect();
        let y = DMatrix::from_fn(count, outputs, |i, o| values[i][o] - mean[o]);
        // Rows around their own middle, so that the bias is the values' mean.
        let mut middle = vec![0f32; dim];
        (0..count).for_each(|i| middle.iter_mut().zip(row(i)).for_each(|(m, v)| *m += v / count as f32));
        let centred: Vec<f32> =
            rows.chunks_exact(dim).flat_map(|r| r.iter().zip(&middle).map(|(v, m)| v - m)).collect();
        let row = |i: usize| &centred[i * dim..][..dim];
        let mut gram = DMatrix::zeros(count, count);
        for i in 0..count {
            for j in 0..=i {
                gram[(i, j)] = f64::from(dot(row(i), row(j)));
                gram[(j, i)] = gram[(i, j)];
            }
        }
        let square = gram.trace() / count as f64;
        if square < 1e-9 {
            return None;
        }
        let blocks = BLOCKS.min(count);
        let fits = STRENGTHS.iter().filter_map(|strength| {
            let mut system = gram.clone();
            (0..count).for_each(|i| system[(i, i)] += strength * square);
            let inverse = Cholesky::new(system)?.inverse();
            let solution = &inverse * &y;
            let mut missed = DMatrix::zeros(count, outputs);
            for block in 0..blocks {
                let (from, to) = (block * count / blocks, (block + 1) * count / blocks);
                // What a fit without these rows misses them by, from the fit with them.
                let part = inverse.view((from, from), (to - from, to - from)).into_owned();
                let errors = Cholesky::new(part)?.solve(&solution.rows(from, to - from).into_owned());
                missed.rows_mut(from, to - from).copy_from(&errors);
            }
            Some((missed.norm_squared(), solution, missed))
        });
        let (_, solution, missed) = fits.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let mut weights = vec![0f32; outputs * dim];
        for (o, weight) in weights.chunks_exact_mut(dim).enumerate() {
            for i in 0..count {
                weight.iter_mut().zip(row(i)).for_each(|(w, v)| *w += solution[(i, o)] as f32 * v);
            }
        }
        let bias = (0..outputs).map(|o| mean[o] as f32 - dot(&weights[o * dim..][..dim], &middle)).collect();
        let share = |o: usize| 1.0 - missed.column(o).norm_squared() / y.column(o).norm_squared().max(1e-9);
        let anchors: Vec<f32> = (0..count.min(ANCHORS))
            .flat_map(|a| rows[a * count / count.min(ANCHORS) * dim..][..dim].to_vec())
            .collect();
        Some(Steering {
            weights,
            bias,
            error: (0..outputs).map(|o| missed.column(o).abs().sum() / count as f64).collect(),
            r2: (0..outputs).map(share).collect(),
            examples: count,
            anchors: Space::standard(dim, anchors),
        })
    }

    /// The values for a standardised feature, and how sure they are, 0 to 1.
    pub fn predict(&self, standard: &[f32]) -> (Values, f32) {
        let dim = standard.len();
        let outputs = self.weights.chunks_exact(dim).zip(&self.bias);
        let values = outputs.map(|(weight, bias)| f64::from(dot(weight, standard) + bias)).collect();
        let foretold = self.r2.iter().fold(1.0, |least: f64, &r2| least.min(r2)).clamp(0.0, 1.0) as f32;
        let near = (1.0 / self.anchors.novelty(standard).max(1e-6)).min(1.0);
        (values, foretold.sqrt() * near)
    }
}

/// The controller.
pub struct Steer {
    /// Its place among the controllers.
    place: usize,
}

impl Steer {
    pub fn new(place: usize) -> Self {
        Steer { place }
    }
}

impl Controller for Steer {
    fn decide(&mut self, seen: &Seen, fitted: &Fitted) -> Choice {
        match fitted.steering.get(self.place).and_then(Option::as_ref) {
            None => Choice::not_yet("too little was taught"),
            Some(steering) => {
                let (values, confidence) = steering.predict(seen.standard);
                debug_assert!(values.len() <= MOST_OUTPUTS);
                Choice { values, ..Choice::value(0.0, confidence) }
            }
        }
    }
}
