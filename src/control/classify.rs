//! Few-shot classes against the background of the stream, with `unknown` for what is none of them.
//!
//! A linear discriminant whose covariance is that of the background and not of the few examples (exemplar LDA: Hariharan,
//! Malik, Ramanan 2012, "Discriminative decorrelation for clustering and classification"), shrunk towards the identity.
//! With fewer background samples than numbers in a feature everything is done in the space of the samples (Woodbury), so
//! that nothing grows with the square of a feature's length. A class is called where its score passes what the background
//! gives it: the background is what the robot sees while nothing is shown to it.

use std::sync::Arc;

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use super::space::{Space, dot};
use super::{Choice, Controller, Fitted, Seen};

/// Share of the identity in the covariance.
const SHRINK: f32 = 0.3;
/// Share of the background that may pass the threshold of a class.
const PASSING: f32 = 0.02;
/// Share of the way from what the background gives a class to what its own examples give it: where the class begins.
const BEGINS: f32 = 0.3;

/// The classes that were taught.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    pub names: Vec<Arc<str>>,
    /// Examples of each.
    pub counts: Vec<usize>,
    /// `[classes, dim]`
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Score at which the class begins, and that of its own examples.
    begins: Vec<f32>,
    typical: Vec<f32>,
    /// Examples of a class (row) that another (column; the last is `unknown`) takes for its own, each judged without those
    /// of its own teaching.
    pub confusions: Vec<Vec<u32>>,
}

/// Products of rows in which directions that vary much in the background count little.
struct Metric<'a> {
    space: &'a Space,
    /// Of the background's products with itself.
    inner: Option<Cholesky<f64, Dyn>>,
}

impl<'a> Metric<'a> {
    fn of(space: &'a Space) -> Self {
        let count = space.len();
        let ridge = f64::from(count as f32 * SHRINK / (1.0 - SHRINK));
        let product = |i: usize, j: usize| f64::from(dot(space.row(i), space.row(j)));
        let mut inner = DMatrix::zeros(count, count);
        for i in 0..count {
            for j in 0..=i {
                inner[(i, j)] = product(i, j) + if i == j { ridge } else { 0.0 };
                inner[(j, i)] = inner[(i, j)];
            }
        }
        Metric { space, inner: Cholesky::new(inner) }
    }

    /// `row` with what the background explains taken off: its products with others are those of this metric.
    fn whiten(&self, row: &[f32]) -> Vec<f32> {
        let seen = DVector::from_fn(self.space.len(), |i, _| f64::from(dot(self.space.row(i), row)));
        let explained = self.inner.as_ref().map_or(seen.clone() * 0.0, |inner| inner.solve(&seen));
        let mut white = row.to_vec();
        for (i, share) in explained.iter().enumerate() {
            white.iter_mut().zip(self.space.row(i)).for_each(|(w, v)| *w -= *share as f32 * v);
        }
        white.iter_mut().for_each(|w| *w /= SHRINK);
        white
    }
}

/// An example: its class, the teaching that it came from, and its feature, standardised.
pub struct Shown<'a> {
    pub class: usize,
    pub teaching: u32,
    pub feature: &'a [f32],
}

/// Sums of examples that a class, without one teaching, is made of.
#[derive(Clone)]
struct Sum {
    count: f32,
    /// Of products of each example with each, and with itself.
    all: f32,
    own: f32,
}

impl Sum {
    /// Square length of the mean, without what chance adds to it.
    fn square(&self) -> f32 {
        if self.count < 2.0 {
            // One example does not say how much of it is chance; half is what few-shot features have.
            return 0.5 * self.own / self.count.max(1.0);
        }
        ((self.all - self.own) / (self.count * (self.count - 1.0))).max(0.0)
    }
}

impl Classes {
    /// Learns `names` from `shown`; confusions and thresholds come with it.
    pub fn of(space: &Space, names: Vec<Arc<str>>, shown: &[Shown]) -> Self {
        let classes = names.len();
        let metric = Metric::of(space);
        let white: Vec<Vec<f32>> = shown.iter().map(|s| metric.whiten(s.feature)).collect();
        let count = shown.len();
        let mut gram = vec![0f32; count * count];
        for i in 0..count {
            for j in 0..=i {
                gram[i * count + j] = dot(&white[i], shown[j].feature);
                gram[j * count + i] = gram[i * count + j];
            }
        }
        let sum = |class: usize, without: Option<u32>| {
            let of = |i: &usize| shown[*i].class == class && Some(shown[*i].teaching) != without;
            let rows: Vec<usize> = (0..count).filter(of).collect();
            let all = rows.iter().map(|&i| rows.iter().map(|&j| gram[i * count + j]).sum::<f32>()).sum();
            (Sum { count: rows.len() as f32, all, own: rows.iter().map(|&i| gram[i * count + i]).sum() }, rows)
        };
        let mut fitted = Classes { names, confusions: vec![vec![0; classes + 1]; classes], ..Classes::default() };
        for class in 0..classes {
            let (sum, rows) = sum(class, None);
            let mut weight = vec![0f32; space.dim];
            for &i in &rows {
                weight.iter_mut().zip(&white[i]).for_each(|(w, v)| *w += v / sum.count.max(1.0));
            }
            fitted.counts.push(rows.len());
            fitted.weights.extend_from_slice(&weight);
            fitted.bias.push(0.5 * sum.square());
        }
        // What each example gives each class that has no part in it.
        let mut given = vec![0f32; count * classes];
        for (i, example) in shown.iter().enumerate() {
            for class in 0..classes {
                let mut of = (class == example.class).then(|| sum(class, Some(example.teaching)));
                if of.as_ref().is_some_and(|(s, _)| s.count == 0.0) {
                    // A class of one teaching is judged without the example alone.
                    let (mut s, mut rows) = sum(class, None);
                    rows.retain(|&j| j != i);
                    s.count -= 1.0;
                    s.all = rows.iter().map(|&a| rows.iter().map(|&b| gram[a * count + b]).sum::<f32>()).sum();
                    s.own -= gram[i * count + i];
                    of = Some((s, rows));
                }
                let (sum, rows) = of.unwrap_or_else(|| sum(class, None));
                let near = rows.iter().map(|&j| gram[i * count + j]).sum::<f32>() / sum.count.max(1.0);
                given[i * classes + class] = near - 0.5 * sum.square();
            }
        }
        for class in 0..classes {
            let of_background = fitted.background_scores(space, &metric, class);
            let own = shown.iter().enumerate().filter(|(_, s)| s.class == class);
            let mut own: Vec<f32> = own.map(|(i, _)| given[i * classes + class]).collect();
            own.sort_by(f32::total_cmp);
            let quantile = |sorted: &[f32], q: f32| sorted.get(((sorted.len() as f32 - 1.0) * q) as usize).copied();
            let typical = quantile(&own, 0.5).unwrap_or(0.0);
            let passing = quantile(&of_background, 1.0 - PASSING).unwrap_or(0.0);
            // A class that the background is full of has no way between the two; then its own spread says where it begins.
            let begins = match passing < typical {
                true => passing + BEGINS * (typical - passing),
                false => quantile(&own, 0.1).unwrap_or(0.0),
            };
            fitted.begins.push(begins);
            fitted.typical.push(typical.max(begins + 1e-3));
        }
        for (i, example) in shown.iter().enumerate() {
            let (class, _) = fitted.call(|class| given[i * classes + class]);
            fitted.confusions[example.class][class.unwrap_or(classes)] += 1;
        }
        fitted
    }

    /// Scores of the background for `class`, in order; each sample as if it had no part in the covariance.
    fn background_scores(&self, space: &Space, metric: &Metric, class: usize) -> Vec<f32> {
        let part = (1.0 - SHRINK) / space.len().max(1) as f32;
        let mut scores: Vec<f32> = (0..space.len())
            .map(|i| {
                let row = space.row(i);
                let own = dot(&metric.whiten(row), row);
                let without = (1.0 - part * own).max(1e-3);
                dot(self.weight(class), row) / without - self.bias[class]
            })
            .collect();
        scores.sort_by(f32::total_cmp);
        scores
    }

    fn weight(&self, class: usize) -> &[f32] {
        let dim = self.weights.len() / self.names.len().max(1);
        &self.weights[class * dim..][..dim]
    }

    /// The class that most speaks for, `None`: unknown; and how sure that is, 0 to 1.
    fn call(&self, score: impl Fn(usize) -> f32) -> (Option<usize>, f32) {
        let scores = (0..self.names.len()).map(|class| (score(class), class));
        let Some((best, class)) = scores.max_by(|a, b| a.0.total_cmp(&b.0)) else { return (None, 1.0) };
        let (begins, typical) = (self.begins[class], self.typical[class]);
        let share = (best - begins) / (typical - begins);
        if share >= 0.0 { (Some(class), (0.5 + 0.5 * share).min(1.0)) } else { (None, (-share).min(1.0)) }
    }

    /// The class of a standardised feature, `None`: unknown; and how sure that is, 0 to 1.
    pub fn predict(&self, standard: &[f32]) -> (Option<usize>, f32) {
        self.call(|class| dot(self.weight(class), standard) - self.bias[class])
    }
}

/// The controller.
pub struct Classify {
    unknown: Arc<str>,
    values: std::collections::BTreeMap<String, f64>,
    safe: f64,
}

impl Classify {
    /// `values` are what the classes stand for; `safe` is that of all others.
    pub fn new(values: std::collections::BTreeMap<String, f64>, safe: f64) -> Self {
        Classify { unknown: "unknown".into(), values, safe }
    }
}

impl Controller for Classify {
    fn decide(&mut self, seen: &Seen, fitted: &Fitted) -> Choice {
        if fitted.classes.names.is_empty() {
            return Choice::not_yet("nothing was taught");
        }
        let (class, confidence) = fitted.classes.predict(seen.standard);
        let label = class.map_or(&self.unknown, |class| &fitted.classes.names[class]);
        let value = class.and_then(|_| self.values.get(&**label)).copied().unwrap_or(self.safe);
        Choice { label: Some(label.clone()), ..Choice::value(value, confidence) }
    }
}
