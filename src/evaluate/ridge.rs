//! Ridge regression with λ chosen inside the training part: the linear probe for values, and the map a controller steers by.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::EvaluateError;
use super::features::{Features, Standard, check_values};
use super::normal::{Data, Linear, Normal, Sums};
use super::split::folds;

/// λ is a power of ten times the number of rows; standardised features have a mean eigenvalue of one a row.
const EXPONENTS: std::ops::RangeInclusive<i32> = -5..=3;
/// Where the search begins.
const FIRST: usize = 4;

/// λ per row for each step of the search.
fn strengths() -> Vec<f64> {
    EXPONENTS.map(|e| 10_f64.powi(e)).collect()
}

/// Walks from [`FIRST`] downhill until both neighbours are worse. Equal scores go to the stronger regularisation.
fn descend(count: usize, mut score: impl FnMut(usize) -> Option<f64>) -> usize {
    let mut known: Vec<Option<f64>> = vec![None; count];
    let mut at =
        |i: usize| *known[i].get_or_insert_with(|| score(i).filter(|s| s.is_finite()).unwrap_or(f64::INFINITY));
    let mut best = FIRST.min(count - 1);
    loop {
        let here = at(best);
        if best + 1 < count && (at(best + 1) <= here) {
            best += 1;
        } else if best > 0 && at(best - 1) < here {
            best -= 1;
        } else {
            return best;
        }
    }
}

/// Ridge on standardised rows with λ by cross-validated squared error over the folds; also returns λ per row.
pub(super) fn fit_by_folds(data: Data<'_>, fold: &[usize]) -> Option<(Linear, f64)> {
    let (dim, outputs, rows) = (data.dim, data.outputs, data.rows());
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by_key(|&row| fold[row]);
    let x: Vec<f32> = order.iter().flat_map(|&row| &data.x[row * dim..][..dim]).copied().collect();
    let y: Vec<f64> = order.iter().flat_map(|&row| &data.y[row * outputs..][..outputs]).copied().collect();
    let sorted = Data { x: &x, y: &y, dim, outputs };
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for (place, &row) in order.iter().enumerate() {
        match ranges.last_mut() {
            Some(range) if fold[order[range.start]] == fold[row] => range.end = place + 1,
            _ => ranges.push(place..place + 1),
        }
    }
    let strengths = strengths();
    if ranges.len() < 2 {
        return solve_or_stronger(&Normal::of(data), data, &strengths, strengths[FIRST]);
    }
    let smallest_fit = rows - ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    let (parts, whole) = if dim <= smallest_fit {
        let parts: Vec<Sums> = ranges.iter().map(|range| Sums::of(sorted.slice(range.clone()))).collect();
        let mut whole = parts[0].clone();
        parts[1..].iter().for_each(|part| whole.plus(part));
        let fits = parts.into_iter().map(|part| Normal::primal(whole.minus(&part))).collect();
        (fits, Normal::primal(whole))
    } else {
        let fits: Vec<Normal> = ranges.iter().map(|range| Normal::of(without(sorted, range).data(sorted))).collect();
        (fits, Normal::of(sorted))
    };
    let best = descend(strengths.len(), |i| {
        let errors: Option<Vec<f64>> = parts
            .par_iter()
            .zip(&ranges)
            .map(|(normal, range): (&Normal, _)| {
                let held = sorted.slice(range.clone());
                let rest = if normal.is_primal() { Rest::default() } else { without(sorted, range) };
                let fit = normal.solve(rest.data(sorted), strengths[i] * (rows - range.len()) as f64)?;
                Some(fit.predict(held.x, dim).iter().zip(held.y).map(|(p, y)| (p - y).powi(2)).sum())
            })
            .collect();
        errors.map(|errors| errors.iter().sum())
    });
    solve_or_stronger(&whole, sorted, &strengths, strengths[best])
}

/// All rows but those of one fold.
#[derive(Default)]
struct Rest {
    x: Vec<f32>,
    y: Vec<f64>,
}

impl Rest {
    fn data<'a>(&'a self, of: Data<'_>) -> Data<'a> {
        Data { x: &self.x, y: &self.y, dim: of.dim, outputs: of.outputs }
    }
}

fn without(data: Data<'_>, range: &std::ops::Range<usize>) -> Rest {
    let (before, after) = (data.slice(0..range.start), data.slice(range.end..data.rows()));
    Rest { x: [before.x, after.x].concat(), y: [before.y, after.y].concat() }
}

/// Ridge on standardised rows with λ by leave-one-out squared error, for few rows.
pub(super) fn fit_leaving_one_out(data: Data<'_>) -> Option<(Linear, f64)> {
    let normal = Normal::of(data);
    let strengths = strengths();
    let best = descend(strengths.len(), |i| normal.leave_one_out(data, strengths[i] * data.rows() as f64));
    solve_or_stronger(&normal, data, &strengths, strengths[best])
}

/// Where λ turns out too small for the whole set, the next one that is not.
fn solve_or_stronger(normal: &Normal, data: Data<'_>, strengths: &[f64], from: f64) -> Option<(Linear, f64)> {
    let mut tried = strengths.iter().filter(|&&s| s >= from);
    tried.find_map(|&s| Some((normal.solve(data, s * data.rows() as f64)?, s)))
}

/// A fitted linear map from raw features to one or more continuous outputs.
///
/// ```
/// use nestling::evaluate::{Features, RidgeModel};
/// let features = Features { dim: 1, values: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] };
/// let model = RidgeModel::fit(&features, &[1.0, 3.0, 5.0, 7.0, 9.0, 11.0], 1, &[0; 6], true)?;
/// let mut out = [0.0];
/// model.predict(&[2.5], &mut out);
/// assert!((out[0] - 6.0).abs() < 0.01);
/// # Ok::<(), nestling::evaluate::EvaluateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RidgeModel {
    /// `[outputs, dim]`, for standardised features.
    pub weights: Vec<f32>,
    /// `[outputs]`
    pub bias: Vec<f32>,
    /// `[dim]`, over the training rows.
    pub mean: Vec<f32>,
    /// `[dim]`, one over the standard deviation; 0 for a feature that was constant.
    pub scale: Vec<f32>,
    /// The regularisation that was chosen, per row.
    pub lambda: f64,
}

impl RidgeModel {
    /// Fits `targets` `[rows, outputs]`; λ by whole groups, contiguous blocks or random folds, as the probe does.
    ///
    /// # Errors
    /// As [`evaluate`](super::evaluate): empty, ragged or non-finite features, targets that do not match them.
    pub fn fit(
        features: &Features,
        targets: &[f64],
        outputs: usize,
        groups: &[u32],
        time_ordered: bool,
    ) -> Result<Self, EvaluateError> {
        let part = "training";
        features.check(part)?;
        let rows = features.rows();
        if outputs == 0 || targets.len() != rows * outputs || groups.len() != rows {
            let targets = targets.len() / outputs.max(1);
            return Err(EvaluateError::RowsDiffer { part, rows, targets, groups: groups.len() });
        }
        check_values(targets, part)?;
        if rows < 2 {
            return Err(EvaluateError::TooFewRows { part, rows, need: 2 });
        }
        let standard = Standard::fit(features);
        let x = standard.apply(features);
        let data = Data { x: &x, y: targets, dim: features.dim, outputs };
        let fitted = fit_by_folds(data, &folds(groups, time_ordered, 0));
        let (linear, lambda) = fitted.ok_or(EvaluateError::NoSolution)?;
        let turn = |o: usize| linear.weights.iter().skip(o).step_by(outputs).map(|&w| w as f32);
        Ok(Self {
            weights: (0..outputs).flat_map(turn).collect(),
            bias: linear.bias.iter().map(|&b| b as f32).collect(),
            mean: standard.mean,
            scale: standard.inverse,
            lambda,
        })
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Writes one prediction an output; allocates nothing.
    ///
    /// # Panics
    /// Where `features` or `out` have another length than the model was fitted with.
    pub fn predict(&self, features: &[f32], out: &mut [f32]) {
        let dim = self.mean.len();
        assert_eq!((features.len(), out.len()), (dim, self.bias.len()), "features and outputs of the fitted model");
        for ((out, weights), bias) in out.iter_mut().zip(self.weights.chunks_exact(dim)).zip(&self.bias) {
            let mut sum = 0.0;
            for (c, (&value, weight)) in features.iter().zip(weights).enumerate() {
                sum += weight * super::features::standardise(value, self.mean[c], self.scale[c]);
            }
            *out = sum + bias;
        }
    }
}
