//! How good features are: nearest neighbours and linear probes, with all labels and with few.
//!
//! Features and targets come in as plain numbers, so learned, untrained and raw inputs are judged alike. Every choice
//! (mean and spread of the features, strength of regularisation) is made on the training part; the test part is only
//! scored. The same input and seed give the same scores on any number of threads. Nothing here learns an encoder.
//!
//! Cost grows with `rows · dim · min(rows, dim)`: pool raw images to a few thousand numbers first.

mod cholesky;
mod features;
mod few;
mod knn;
mod lbfgs;
mod logistic;
pub(crate) mod matrix;
mod normal;
mod plane;
mod prototypes;
mod random;
mod ridge;
mod scores;
mod split;

use std::collections::BTreeMap;

pub use features::{Features, Labelled, Targets};
pub use few::draw_rows;
pub use plane::Plane;
pub use ridge::RidgeModel;
pub use scores::{ClassScores, FewClassLabels, FewValueLabels, Quality, Scores, ValueScores};
pub use split::{Rows, Split, split};

use features::Standard;
use few::{Spread, few_labels};
use knn::{mean, neighbours, vote};
use logistic::Logistic;
use normal::Data;

/// Neighbours asked; the score of the first is the one called `knn`.
const NEIGHBOURS: [usize; 2] = [20, 200];
/// Share of the training rows that is labelled, and the draws averaged.
const FEW: [(f64, u64); 2] = [(0.10, 5), (0.01, 10)];

/// How to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides which rows are drawn for few labels, and the folds of rows without order.
    pub seed: u64,
    /// Whether to score with 10 % and 1 % of the labels too.
    pub few_labels: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 0, few_labels: true }
    }
}

/// Scores features: fits the probes on `train`, measures them on `test`.
///
/// ```
/// use nestling::evaluate::{Features, Labelled, Options, Targets, evaluate};
/// let part = |rows: u32| Labelled {
///     features: Features { dim: 2, values: (0..rows).flat_map(|i| [(i % 2) as f32, i as f32]).collect() },
///     targets: Targets::Classes((0..rows).map(|i| i % 2).collect()),
///     groups: vec![0; rows as usize],
///     time_ordered: false,
/// };
/// let scores = evaluate(&part(60), &part(20), Options::default())?;
/// assert_eq!(scores.headline(), 100.0);
/// # Ok::<(), nestling::evaluate::EvaluateError>(())
/// ```
///
/// # Errors
/// Parts that are empty, ragged, non-finite or do not fit each other; fewer than two training rows; one class only;
/// test values that are all equal. A class that is only in the test part is counted as wrong, not refused.
pub fn evaluate(train: &Labelled, test: &Labelled, options: Options) -> Result<Scores, EvaluateError> {
    train.check("training")?;
    test.check("test")?;
    let (dim, train_rows, test_rows) = (train.features.dim, train.features.rows(), test.features.rows());
    if test.features.dim != dim {
        return Err(EvaluateError::WidthsDiffer { train: dim, test: test.features.dim });
    }
    if train_rows < 2 {
        return Err(EvaluateError::TooFewRows { part: "training", rows: train_rows, need: 2 });
    }
    let standard = Standard::fit(&train.features);
    let (x, test_x) = (standard.apply(&train.features), standard.apply(&test.features));
    let input = Input { train, test, x: &x, test_x: &test_x, dim, options };
    let quality = match (&train.targets, &test.targets) {
        (Targets::Classes(labels), Targets::Classes(wanted)) => Quality::Classes(input.classes(labels, wanted)?),
        (Targets::Values(values), Targets::Values(wanted)) => Quality::Values(input.values(values, wanted)?),
        _ => return Err(EvaluateError::TargetsDiffer),
    };
    Ok(Scores { dim, train_rows, test_rows, quality })
}

/// Both parts standardised by the training part.
struct Input<'a> {
    train: &'a Labelled,
    test: &'a Labelled,
    x: &'a [f32],
    test_x: &'a [f32],
    dim: usize,
    options: Options,
}

impl Input<'_> {
    fn folds(&self) -> Vec<usize> {
        split::folds(&self.train.groups, self.train.time_ordered, self.options.seed)
    }

    fn classes(&self, labels: &[u32], wanted: &[u32]) -> Result<ClassScores, EvaluateError> {
        let mut index: BTreeMap<u32, usize> = labels.iter().map(|&label| (label, 0)).collect();
        index.values_mut().enumerate().for_each(|(place, at)| *at = place);
        let count = index.len();
        if count < 2 {
            return Err(EvaluateError::OneClass { class: labels[0] });
        }
        let classes: Vec<usize> = labels.iter().map(|label| index[label]).collect();
        // A class that was never trained on gets a number that no probe can answer.
        let wanted: Vec<usize> = wanted.iter().map(|label| index.get(label).copied().unwrap_or(count)).collect();
        let percent = |answers: &[usize]| {
            let right = answers.iter().zip(&wanted).filter(|(a, w)| a == w).count();
            100.0 * right as f64 / wanted.len() as f64
        };
        let near = neighbours(self.x, self.test_x, self.dim, NEIGHBOURS[1]);
        let knn = NEIGHBOURS
            .map(|k| percent(&near.iter().map(|n| vote(&n[..k.min(n.len())], &classes, count)).collect::<Vec<_>>()));
        let (train, test) = (&self.train.features, &self.test.features);
        let named = prototypes::answers(train, test, [self.x, self.test_x], &classes, count)?;
        let one_hot: Vec<f64> =
            classes.iter().flat_map(|&c| (0..count).map(move |i| f64::from(u8::from(i == c)))).collect();
        let data = Data { x: self.x, y: &one_hot, dim: self.dim, outputs: count };
        let right = |linear: &normal::Linear| percent(&argmax(&linear.predict(self.test_x, self.dim), count));
        let fold = self.folds();
        let (ridge, _) = ridge::fit_by_folds(data, &fold).ok_or(EvaluateError::NoSolution)?;
        let rows = logistic::Rows { x: self.x, classes: &classes, dim: self.dim, count };
        let few = self.few(data, right)?.map(|[ten, one]| FewClassLabels::new(ten, one));
        Ok(ClassScores {
            classes: count,
            test_rows_of_unseen_classes: wanted.iter().filter(|&&w| w == count).count(),
            knn: knn[0],
            knn_200: knn[1],
            prototypes: percent(&named),
            linear: percent(&Logistic::fit(rows, &fold).predict(self.test_x)),
            ridge: right(&ridge),
            few,
        })
    }

    fn values(&self, values: &[f64], wanted: &[f64]) -> Result<ValueScores, EvaluateError> {
        let centre = wanted.iter().sum::<f64>() / wanted.len() as f64;
        let spread: f64 = wanted.iter().map(|w| (w - centre).powi(2)).sum();
        let all_equal = wanted.iter().all(|w| w == &wanted[0]);
        if all_equal || spread.is_nan() || spread <= 0.0 {
            return Err(EvaluateError::ConstantTest { value: wanted[0] });
        }
        let r2 = |answers: &[f64]| {
            let missed: f64 = answers.iter().zip(wanted).map(|(a, w)| (a - w).powi(2)).sum();
            // Bounded, so that a test set of all but equal values gives a number that JSON can hold.
            (1.0 - missed / spread).max(-1e9)
        };
        let near = neighbours(self.x, self.test_x, self.dim, NEIGHBOURS[1]);
        let knn = NEIGHBOURS.map(|k| r2(&near.iter().map(|n| mean(&n[..k.min(n.len())], values)).collect::<Vec<_>>()));
        let data = Data { x: self.x, y: values, dim: self.dim, outputs: 1 };
        let (ridge, _) = ridge::fit_by_folds(data, &self.folds()).ok_or(EvaluateError::NoSolution)?;
        let answers = ridge.predict(self.test_x, self.dim);
        let mae = answers.iter().zip(wanted).map(|(a, w)| (a - w).abs()).sum::<f64>() / wanted.len() as f64;
        let few = self.few(data, |linear| r2(&linear.predict(self.test_x, self.dim)))?;
        let few = few.map(|[ten, one]| FewValueLabels::new(ten, one));
        Ok(ValueScores { r2: r2(&answers), mae, knn_r2: knn[0], knn_200_r2: knn[1], few })
    }

    fn few(
        &self,
        data: Data<'_>,
        score: impl Fn(&normal::Linear) -> f64 + Sync,
    ) -> Result<Option<[Spread; 2]>, EvaluateError> {
        if !self.options.few_labels {
            return Ok(None);
        }
        let at = |(share, draws)| few_labels(data, &self.train.targets, share, draws, self.options.seed, &score);
        let [ten, one] = FEW.map(at);
        ten.zip(one).map(|(ten, one)| Some([ten, one])).ok_or(EvaluateError::NoSolution)
    }
}

/// The column of the largest value of every row; ties to the smaller column.
fn argmax(values: &[f64], columns: usize) -> Vec<usize> {
    let of = |row: &[f64]| (0..columns).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
    values.chunks_exact(columns).map(of).collect()
}

/// Why features cannot be scored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    #[error("the {part} part has no features; give it at least one row of at least one number")]
    Empty { part: &'static str },
    #[error("the {part} part has {values} numbers, which is no multiple of its width {dim}")]
    Ragged { part: &'static str, values: usize, dim: usize },
    #[error("feature {column} of row {row} of the {part} part is not a finite number")]
    NotFinite { part: &'static str, row: usize, column: usize },
    #[error("the target of row {row} of the {part} part is {value}; targets must be finite and below 1e30")]
    WildTarget { part: &'static str, row: usize, value: f64 },
    #[error(
        "the {part} part has {rows} rows of features, {targets} targets and {groups} groups; there must be one of each a row"
    )]
    RowsDiffer { part: &'static str, rows: usize, targets: usize, groups: usize },
    #[error("training features have {train} numbers a row, test features {test}; both must come from one encoder")]
    WidthsDiffer { train: usize, test: usize },
    #[error("one part is labelled with classes and the other with values; label both alike")]
    TargetsDiffer,
    #[error("the {part} part has {rows} rows; at least {need} are needed")]
    TooFewRows { part: &'static str, rows: usize, need: usize },
    #[error(
        "every training row is of class {class}; a probe needs at least two classes, so split the data another way"
    )]
    OneClass { class: u32 },
    #[error("every test value is {value}, so R² is undefined; choose a test part in which the value changes")]
    ConstantTest { value: f64 },
    #[error("prototypes: {0}")]
    Prototypes(#[from] crate::probe::ProbeError),
    #[error("{0} is no fraction to split by; it must lie between 0 and 1")]
    Fraction(f64),
    #[error(
        "ridge regression found no finite solution; the features or targets are too large to sum, so scale them down"
    )]
    NoSolution,
}
