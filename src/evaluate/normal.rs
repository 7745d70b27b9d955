//! The normal equations of ridge regression with an intercept, in whichever form is smaller.
//!
//! Primal: `(XᵀX + λI) w = Xᵀy`, one equation a feature. Dual: `(XXᵀ + λI) a = y, w = Xᵀa`, one a row.
//! Rows are already standardised; here they are centred once more over exactly the rows that are fitted.

use super::cholesky::Cholesky;
use super::matrix::{gram, kernel, multiply, turned, view};

/// Standardised rows `[rows, dim]` and what is to be predicted from them `[rows, outputs]`.
#[derive(Clone, Copy)]
pub(super) struct Data<'a> {
    pub x: &'a [f32],
    pub y: &'a [f64],
    pub dim: usize,
    pub outputs: usize,
}

impl<'a> Data<'a> {
    pub fn rows(&self) -> usize {
        self.x.len() / self.dim
    }

    pub fn slice(&self, range: std::ops::Range<usize>) -> Data<'a> {
        Data {
            x: &self.x[range.start * self.dim..range.end * self.dim],
            y: &self.y[range.start * self.outputs..range.end * self.outputs],
            ..*self
        }
    }
}

/// A linear map from standardised features: `weights` `[dim, outputs]`, `bias` `[outputs]`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub weights: Vec<f64>,
    pub bias: Vec<f64>,
}

impl Linear {
    /// Predictions `[rows, outputs]` for standardised `x`.
    pub fn predict(&self, x: &[f32], dim: usize) -> Vec<f64> {
        let (rows, outputs) = (x.len() / dim, self.bias.len());
        let weights: Vec<f32> = self.weights.iter().map(|&w| w as f32).collect();
        let mut out = vec![0.0_f32; rows * outputs];
        multiply(&mut out, outputs, 1.0, view(x, rows, dim, dim), view(&weights, dim, outputs, outputs), 0.0);
        out.chunks_exact(outputs).flat_map(|row| row.iter().zip(&self.bias).map(|(&v, b)| f64::from(v) + b)).collect()
    }
}

/// Sums over rows that can be taken apart again, so that every fold's Gram matrix is computed once.
#[derive(Clone)]
pub(super) struct Sums {
    rows: f64,
    gram: Vec<f64>,
    cross: Vec<f64>,
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Sums {
    pub fn of(data: Data<'_>) -> Self {
        let (rows, dim, outputs) = (data.rows(), data.dim, data.outputs);
        let mut cross = vec![0.0; dim * outputs];
        // f64 products over chunks of rows: the targets are few, so this is cheap.
        for (x, y) in data.x.chunks(256 * dim).zip(data.y.chunks(256 * outputs)) {
            let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            let count = x.len() / dim;
            let (left, right) = (turned(&x, dim, count, dim), view(y, count, outputs, outputs));
            multiply(&mut cross, outputs, 1.0, left, right, 1.0);
        }
        let (x, y) = column_sums(data);
        Self { rows: rows as f64, gram: gram(data.x, rows, dim), cross, x, y }
    }

    pub fn plus(&mut self, other: &Self) {
        self.combine(other, 1.0);
    }

    pub fn minus(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.combine(other, -1.0);
        out
    }

    fn combine(&mut self, other: &Self, sign: f64) {
        let add = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += sign * b);
        self.rows += sign * other.rows;
        add(&mut self.gram, &other.gram);
        add(&mut self.cross, &other.cross);
        add(&mut self.x, &other.x);
        add(&mut self.y, &other.y);
    }
}

fn column_sums(data: Data<'_>) -> (Vec<f64>, Vec<f64>) {
    let (mut x, mut y) = (vec![0.0; data.dim], vec![0.0; data.outputs]);
    for row in data.x.chunks_exact(data.dim) {
        x.iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v));
    }
    for row in data.y.chunks_exact(data.outputs) {
        y.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    (x, y)
}

/// Centred normal equations, to be solved for several λ.
pub(super) struct Normal {
    matrix: Vec<f64>,
    right: Vec<f64>,
    mean_x: Vec<f64>,
    mean_y: Vec<f64>,
    primal: bool,
    rows: usize,
}

impl Normal {
    pub fn of(data: Data<'_>) -> Self {
        if data.dim <= data.rows() { Self::primal(Sums::of(data)) } else { Self::dual(data) }
    }

    pub fn primal(sums: Sums) -> Self {
        let Sums { rows, gram: mut matrix, cross: mut right, x, y } = sums;
        let (dim, outputs) = (x.len(), y.len());
        let mean_x: Vec<f64> = x.iter().map(|v| v / rows).collect();
        let mean_y: Vec<f64> = y.iter().map(|v| v / rows).collect();
        for (i, m) in mean_x.iter().enumerate() {
            let row = &mut matrix[i * dim..][..dim];
            row.iter_mut().zip(&mean_x).for_each(|(g, n)| *g -= rows * m * n);
            let row = &mut right[i * outputs..][..outputs];
            row.iter_mut().zip(&mean_y).for_each(|(c, n)| *c -= rows * m * n);
        }
        Self { matrix, right, mean_x, mean_y, primal: true, rows: rows as usize }
    }

    pub fn dual(data: Data<'_>) -> Self {
        let rows = data.rows();
        let (x, y) = column_sums(data);
        let mean_y: Vec<f64> = y.iter().map(|v| v / rows as f64).collect();
        let mut matrix = kernel(data.x, rows, data.dim);
        let means: Vec<f64> = matrix.chunks_exact(rows).map(|row| row.iter().sum::<f64>() / rows as f64).collect();
        let mean = means.iter().sum::<f64>() / rows as f64;
        for (row, m) in matrix.chunks_exact_mut(rows).zip(&means) {
            row.iter_mut().zip(&means).for_each(|(k, n)| *k += mean - m - n);
        }
        let centred = |row: &[f64]| row.iter().zip(&mean_y).map(|(v, m)| v - m).collect::<Vec<_>>();
        let right = data.y.chunks_exact(data.outputs).flat_map(centred).collect();
        Self { matrix, right, mean_x: x.iter().map(|v| v / rows as f64).collect(), mean_y, primal: false, rows }
    }

    pub fn is_primal(&self) -> bool {
        self.primal
    }

    /// The ridge solution, or `None` where λ is too small for the matrix to be positive definite.
    ///
    /// `data` must be the rows the equations were made from; only the dual form reads it.
    pub fn solve(&self, data: Data<'_>, lambda: f64) -> Option<Linear> {
        let outputs = self.mean_y.len();
        let factor = self.factor(lambda)?;
        let mut weights = self.right.clone();
        factor.solve(&mut weights, outputs);
        if !self.primal {
            weights = combine_rows(data, &weights);
        }
        let mut bias = self.mean_y.clone();
        for (row, m) in weights.chunks_exact(outputs).zip(&self.mean_x) {
            bias.iter_mut().zip(row).for_each(|(b, w)| *b -= m * w);
        }
        let sound = weights.iter().chain(&bias).all(|w| w.is_finite());
        sound.then_some(Linear { weights, bias })
    }

    fn factor(&self, lambda: f64) -> Option<Cholesky> {
        let size = if self.primal { self.mean_x.len() } else { self.rows };
        Cholesky::of(self.matrix.clone(), size, lambda)
    }

    /// Mean squared error with each row left out in turn (PRESS), without refitting.
    pub fn leave_one_out(&self, data: Data<'_>, lambda: f64) -> Option<f64> {
        let (rows, outputs) = (self.rows as f64, self.mean_y.len());
        let factor = self.factor(lambda)?;
        // The share of a row's target that does not reach its own prediction, 1 − hᵢᵢ.
        let free: Vec<f64> = if self.primal {
            let centre = |row: &[f32]| row.iter().zip(&self.mean_x).map(|(&v, m)| f64::from(v) - m).collect::<Vec<_>>();
            let centred: Vec<f64> = data.x.chunks_exact(data.dim).flat_map(centre).collect();
            factor.quadratic_forms(&centred).into_iter().map(|h| 1.0 - 1.0 / rows - h).collect()
        } else {
            factor.inverse_diagonal().into_iter().map(|d| lambda * d - 1.0 / rows).collect()
        };
        let predicted = self.solve(data, lambda)?.predict(data.x, data.dim);
        let errors = predicted.chunks_exact(outputs).zip(data.y.chunks_exact(outputs)).zip(&free);
        let total: f64 = errors
            .map(|((p, y), free)| p.iter().zip(y).map(|(p, y)| ((y - p) / free.max(1e-6)).powi(2)).sum::<f64>())
            .sum();
        Some(total / (rows * outputs as f64))
    }
}

/// `Xᵀ a`, `[dim, outputs]`.
fn combine_rows(data: Data<'_>, a: &[f64]) -> Vec<f64> {
    let (rows, dim, outputs) = (data.rows(), data.dim, data.outputs);
    let a: Vec<f32> = a.iter().map(|&v| v as f32).collect();
    let mut out = vec![0.0_f32; dim * outputs];
    let (left, right) = (turned(data.x, dim, rows, dim), view(&a, rows, outputs, outputs));
    multiply(&mut out, outputs, 1.0, left, right, 0.0);
    out.into_iter().map(f64::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::matrix::tests::noise;

    fn problem(rows: usize, dim: usize) -> (Vec<f32>, Vec<f64>) {
        let y = noise(rows * 2, 8).into_iter().map(|v| 3.0 + f64::from(v)).collect();
        (noise(rows * dim, 7), y)
    }

    #[test]
    fn primal_and_dual_are_two_ways_to_one_solution() {
        let (x, y) = problem(30, 9);
        let data = Data { x: &x, y: &y, dim: 9, outputs: 2 };
        let primal = Normal::primal(Sums::of(data)).solve(data, 3.0).unwrap();
        let dual = Normal::dual(data).solve(data, 3.0).unwrap();
        for (a, b) in primal.weights.iter().chain(&primal.bias).zip(dual.weights.iter().chain(&dual.bias)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn leave_one_out_is_what_refitting_without_each_row_gives() {
        for (rows, dim) in [(20, 6), (12, 30)] {
            let (x, y) = problem(rows, dim);
            let data = Data { x: &x, y: &y, dim, outputs: 2 };
            let mut total = 0.0;
            for row in 0..rows {
                let (before, after) = (data.slice(0..row), data.slice(row + 1..rows));
                let (x, y) = ([before.x, after.x].concat(), [before.y, after.y].concat());
                let rest = Data { x: &x, y: &y, dim, outputs: 2 };
                let held = data.slice(row..row + 1);
                let guess = Normal::of(rest).solve(rest, 2.0).unwrap().predict(held.x, dim);
                total += guess.iter().zip(held.y).map(|(g, y)| (g - y).powi(2)).sum::<f64>();
            }
            let quick = Normal::of(data).leave_one_out(data, 2.0).unwrap();
            let slow = total / (rows * 2) as f64;
            assert!((quick - slow).abs() < 1e-4 * slow, "{rows} x {dim}: {quick} {slow}");
        }
    }
}
