//! Multinomial logistic regression: the linear probe for classes.
//!
//! Minimises mean cross-entropy + `l2 / 2 · |W|²` (the bias is free) by full-batch L-BFGS, with the
//! products in `f32` and the sums in `f64`.

use rayon::prelude::*;

use super::lbfgs::{Outcome, minimise};
use super::matrix::{multiply, turned, view};

/// Strengths that are tried, strongest first, each from the last one's solution.
const STRENGTHS: [f64; 4] = [1e-1, 1e-2, 1e-3, 1e-4];
/// Iterations while choosing a strength, and for the final fit.
const TRIAL_ITERATIONS: usize = 60;
const ITERATIONS: usize = 200;
/// Largest component of the gradient at which a fit is done.
const TOLERANCE: f64 = 1e-4;
/// Rows of one work item: its features stay in the cache between the forward and the backward product.
const CHUNK: usize = 256;

/// Standardised rows `[rows, dim]` and the class of each.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub x: &'a [f32],
    pub classes: &'a [usize],
    pub dim: usize,
    pub count: usize,
}

/// Weights `[classes, dim]` followed by biases `[classes]`.
pub(super) struct Logistic {
    parameters: Vec<f64>,
    dim: usize,
}

impl Logistic {
    /// Fits with the strength that is most accurate on the held-out fold 0; the last solution there is the start.
    pub fn fit(rows: Rows<'_>, fold: &[usize]) -> Self {
        let dim = rows.dim;
        let (mut kept, mut held) = (Part::default(), Part::default());
        for ((row, &class), &fold) in rows.x.chunks_exact(dim).zip(rows.classes).zip(fold) {
            let part = if fold == 0 { &mut held } else { &mut kept };
            part.x.extend_from_slice(row);
            part.classes.push(class);
        }
        let mut model = Self { parameters: vec![0.0; (dim + 1) * rows.count], dim };
        let mut best = (STRENGTHS[2], 0, model.parameters.clone());
        if !kept.classes.is_empty() && !held.classes.is_empty() {
            for strength in STRENGTHS {
                model.train(Rows { x: &kept.x, classes: &kept.classes, ..rows }, strength, TRIAL_ITERATIONS);
                let right = model.predict(&held.x).iter().zip(&held.classes).filter(|(a, b)| a == b).count();
                if right > best.1 {
                    best = (strength, right, model.parameters.clone());
                } else if right * 100 < best.1 * 98 {
                    break;
                }
            }
        }
        model.parameters = best.2;
        model.train(rows, best.0, ITERATIONS);
        model
    }

    fn train(&mut self, rows: Rows<'_>, l2: f64, iterations: usize) -> Outcome {
        minimise(&mut self.parameters, TOLERANCE, iterations, |parameters, gradient| {
            objective(rows, l2, parameters, gradient)
        })
    }

    /// The most probable class of every row of standardised `x`.
    pub fn predict(&self, x: &[f32]) -> Vec<usize> {
        let count = self.parameters.len() / (self.dim + 1);
        let parameters: Vec<f32> = self.parameters.iter().map(|&p| p as f32).collect();
        let of = |row: &[f32]| (0..count).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
        let chunks = x.par_chunks(CHUNK * self.dim);
        chunks
            .flat_map_iter(|x| logits(x, &parameters, self.dim, count).chunks_exact(count).map(of).collect::<Vec<_>>())
            .collect()
    }
}

#[derive(Default)]
struct Part {
    x: Vec<f32>,
    classes: Vec<usize>,
}

/// `[rows, classes]`
fn logits(x: &[f32], parameters: &[f32], dim: usize, count: usize) -> Vec<f32> {
    let rows = x.len() / dim;
    let (weights, bias) = parameters.split_at(dim * count);
    let mut out = bias.repeat(rows);
    multiply(&mut out, count, 1.0, view(x, rows, dim, dim), turned(weights, dim, count, dim), 1.0);
    out
}

/// Value and gradient of the regularised mean cross-entropy.
fn objective(rows: Rows<'_>, l2: f64, parameters: &[f64], gradient: &mut [f64]) -> f64 {
    let Rows { x, classes, dim, count } = rows;
    let narrow: Vec<f32> = parameters.iter().map(|&p| p as f32).collect();
    let share = 1.0 / classes.len() as f64;
    let parts: Vec<(f64, Vec<f32>)> = x
        .par_chunks(CHUNK * dim)
        .zip(classes.par_chunks(CHUNK))
        .map(|(x, classes)| {
            let mut errors = logits(x, &narrow, dim, count);
            let mut loss = 0.0;
            let mut part = vec![0.0_f32; (dim + 1) * count];
            for (row, &class) in errors.chunks_exact_mut(count).zip(classes) {
                let most = row.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
                let own = f64::from(row[class] - most);
                row.iter_mut().for_each(|v| *v = (*v - most).exp());
                let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
                loss += sum.ln() - own;
                row.iter_mut().for_each(|v| *v = (f64::from(*v) / sum) as f32);
                row[class] -= 1.0;
                part[dim * count..].iter_mut().zip(&*row).for_each(|(g, e)| *g += e);
            }
            let (high, left) = (classes.len(), turned(&errors, count, classes.len(), count));
            multiply(&mut part[..dim * count], dim, 1.0, left, view(x, high, dim, dim), 0.0);
            (loss, part)
        })
        .collect();
    gradient.fill(0.0);
    let mut value = 0.0;
    for (loss, part) in &parts {
        value += share * loss;
        gradient.iter_mut().zip(part).for_each(|(g, &p)| *g += share * f64::from(p));
    }
    for (g, w) in gradient[..dim * count].iter_mut().zip(parameters) {
        *g += l2 * w;
        value += 0.5 * l2 * w * w;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::random::Random;

    fn problem(rows: usize, dim: usize, count: usize) -> (Vec<f32>, Vec<usize>) {
        let mut random = Random::new(11);
        let classes: Vec<usize> = (0..rows).map(|r| r % count).collect();
        let value = |(i, class): (usize, usize)| if i % count == class { 1.0 } else { 0.0 };
        let x = classes.iter().flat_map(|&c| (0..dim).map(move |i| (i, c))).collect::<Vec<_>>();
        (x.into_iter().map(|at| value(at) + random.normal() as f32).collect(), classes)
    }

    #[test]
    fn gradient_is_that_of_finite_differences() {
        let (x, classes) = problem(40, 3, 3);
        let rows = Rows { x: &x, classes: &classes, dim: 3, count: 3 };
        let mut random = Random::new(2);
        let parameters: Vec<f64> = (0..12).map(|_| random.normal()).collect();
        let (mut gradient, mut unused) = (vec![0.0; 12], vec![0.0; 12]);
        objective(rows, 0.1, &parameters, &mut gradient);
        for i in 0..12 {
            let mut at = |step: f64| {
                let mut moved = parameters.clone();
                moved[i] += step;
                objective(rows, 0.1, &moved, &mut unused)
            };
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((slope - gradient[i]).abs() < 1e-3, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn reaches_the_optimum_where_the_gradient_vanishes() {
        let (x, classes) = problem(300, 4, 3);
        let rows = Rows { x: &x, classes: &classes, dim: 4, count: 3 };
        let mut model = Logistic { parameters: vec![0.0; 15], dim: 4 };
        let outcome = model.train(rows, 0.01, ITERATIONS);
        assert!(outcome.gradient <= TOLERANCE && outcome.iterations < 60, "{outcome:?}");
        let mut gradient = vec![0.0; 15];
        let bottom = objective(rows, 0.01, &model.parameters, &mut gradient);
        let mut random = Random::new(8);
        for _ in 0..50 {
            let near: Vec<f64> = model.parameters.iter().map(|p| p + 0.05 * random.normal()).collect();
            assert!(objective(rows, 0.01, &near, &mut gradient) > bottom);
        }
    }

    #[test]
    fn two_balanced_points_have_the_solution_found_by_hand() {
        // x = ±1, classes 1 and 0: by symmetry W = (−w, w) and no bias, and the slope vanishes at sigmoid(−2w) = l2 · w.
        let rows = Rows { x: &[-1.0, 1.0], classes: &[0, 1], dim: 1, count: 2 };
        let mut model = Logistic { parameters: vec![0.0; 4], dim: 1 };
        model.train(rows, 0.1, ITERATIONS);
        let (mut low, mut high) = (0.0_f64, 10.0_f64);
        for _ in 0..60 {
            let w = 0.5 * (low + high);
            if 1.0 / (1.0 + (2.0 * w).exp()) > 0.1 * w { low = w } else { high = w }
        }
        assert!((model.parameters[1] - low).abs() < 2e-3 && (model.parameters[0] + low).abs() < 2e-3);
    }
}
