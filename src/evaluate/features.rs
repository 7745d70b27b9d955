//! What the probes read: feature rows, their targets and the groups they were recorded in.

use super::EvaluateError;

/// Feature vectors, `[rows, dim]` row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    pub dim: usize,
    pub values: Vec<f32>,
}

impl Features {
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }

    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// The rows of `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self { dim: self.dim, values: indices.iter().flat_map(|&i| self.row(i)).copied().collect() }
    }

    pub(super) fn check(&self, part: &'static str) -> Result<(), EvaluateError> {
        if self.dim == 0 || self.values.is_empty() {
            return Err(EvaluateError::Empty { part });
        }
        if !self.values.len().is_multiple_of(self.dim) {
            return Err(EvaluateError::Ragged { part, values: self.values.len(), dim: self.dim });
        }
        match self.values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(EvaluateError::NotFinite { part, row: at / self.dim, column: at % self.dim }),
            None => Ok(()),
        }
    }
}

/// What is to be read from the features.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    Classes(Vec<u32>),
    Values(Vec<f64>),
}

impl Targets {
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets of `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(indices.iter().map(|&i| classes[i]).collect()),
            Self::Values(values) => Self::Values(indices.iter().map(|&i| values[i]).collect()),
        }
    }
}

/// Features with their targets and groups, one of each a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    pub features: Features,
    pub targets: Targets,
    /// Subject, speaker or run of each row: validation never cuts a group where there are enough of them.
    pub groups: Vec<u32>,
    /// Whether neighbouring rows are neighbours in time, so that rows may not be shuffled between folds.
    pub time_ordered: bool,
}

impl Labelled {
    /// The rows of `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            features: self.features.select(indices),
            targets: self.targets.select(indices),
            groups: indices.iter().map(|&i| self.groups[i]).collect(),
            time_ordered: self.time_ordered,
        }
    }

    pub(super) fn check(&self, part: &'static str) -> Result<(), EvaluateError> {
        self.features.check(part)?;
        let (rows, targets, groups) = (self.features.rows(), self.targets.len(), self.groups.len());
        if targets != rows || groups != rows {
            return Err(EvaluateError::RowsDiffer { part, rows, targets, groups });
        }
        if let Targets::Values(values) = &self.targets {
            check_values(values, part)?;
        }
        Ok(())
    }
}

/// Targets beyond this magnitude would overflow the sums of squares.
const LARGEST_TARGET: f64 = 1e30;

pub(super) fn check_values(values: &[f64], part: &'static str) -> Result<(), EvaluateError> {
    match values.iter().position(|v| v.is_nan() || v.abs() > LARGEST_TARGET) {
        Some(row) => Err(EvaluateError::WildTarget { part, row, value: values[row] }),
        None => Ok(()),
    }
}

/// Mean and inverse standard deviation of every feature over a training set.
///
/// A feature that is constant there (spread below a millionth of its mean) gets an inverse of 0 and so never counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard {
    pub mean: Vec<f32>,
    pub inverse: Vec<f32>,
}

/// Standardised features are clamped to this: a test row far outside the training set must not overflow.
const CLAMP: f32 = 1e4;

impl Standard {
    /// `features` must have passed their check.
    pub(super) fn fit(features: &Features) -> Self {
        let (rows, dim) = (features.rows() as f64, features.dim);
        let mut mean = vec![0.0_f64; dim];
        for row in features.values.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / rows);
        }
        let mut square = vec![0.0_f64; dim];
        for row in features.values.chunks_exact(dim) {
            square.iter_mut().zip(row.iter().zip(&mean)).for_each(|(s, (&v, m))| *s += (f64::from(v) - m).powi(2));
        }
        let inverse = square.iter().zip(&mean).map(|(s, m)| {
            let std = (s / rows).sqrt();
            if std <= 1e-6 * m.abs() || std < 1e-30 { 0.0 } else { (1.0 / std) as f32 }
        });
        Self { inverse: inverse.collect(), mean: mean.iter().map(|&m| m as f32).collect() }
    }

    /// All rows standardised, `[rows, dim]`.
    pub(super) fn apply(&self, features: &Features) -> Vec<f32> {
        let rows = features.values.chunks_exact(features.dim);
        rows.flat_map(|row| row.iter().enumerate().map(|(c, &v)| standardise(v, self.mean[c], self.inverse[c])))
            .collect()
    }
}

#[inline]
pub(super) fn standardise(value: f32, mean: f32, inverse: f32) -> f32 {
    if inverse == 0.0 { 0.0 } else { ((value - mean) * inverse).clamp(-CLAMP, CLAMP) }
}
