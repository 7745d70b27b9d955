//! What the probes found, as people and programs read it.

use serde::{Serialize, Serializer};

use super::few::Spread;

/// How good features are. Serialises to one flat JSON object, rounded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    pub dim: usize,
    pub train_rows: usize,
    pub test_rows: usize,
    #[serde(flatten)]
    pub quality: Quality,
}

impl Scores {
    /// The one number to compare by: `linear` in percent for classes, `r2` for values.
    pub fn headline(&self) -> f64 {
        match &self.quality {
            Quality::Classes(scores) => scores.linear,
            Quality::Values(scores) => scores.r2,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Quality {
    Classes(ClassScores),
    Values(ValueScores),
}

/// Share of test rows named rightly, in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScores {
    pub classes: usize,
    /// Test rows whose class no training row has; they count as wrong.
    #[serde(skip_serializing_if = "is_zero")]
    pub test_rows_of_unseen_classes: usize,
    /// 20 nearest neighbours.
    #[serde(serialize_with = "places2")]
    pub knn: f64,
    #[serde(serialize_with = "places2")]
    pub knn_200: f64,
    /// The device's own: class means and a covariance that all share, in integers.
    #[serde(serialize_with = "places2")]
    pub prototypes: f64,
    /// Multinomial logistic regression.
    #[serde(serialize_with = "places2")]
    pub linear: f64,
    /// Ridge regression to one-hot targets.
    #[serde(serialize_with = "places2")]
    pub ridge: f64,
    #[serde(flatten)]
    pub few: Option<FewClassLabels>,
}

/// Ridge with few labels: mean and standard deviation over draws, in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FewClassLabels {
    #[serde(serialize_with = "places2")]
    pub linear_10pct: f64,
    #[serde(serialize_with = "places2")]
    pub linear_10pct_std: f64,
    pub rows_10pct: usize,
    #[serde(serialize_with = "places2")]
    pub linear_1pct: f64,
    #[serde(serialize_with = "places2")]
    pub linear_1pct_std: f64,
    pub rows_1pct: usize,
}

/// How well values are predicted. R² is held against the mean of the TEST values: 0 is no better than knowing that mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueScores {
    #[serde(serialize_with = "places3")]
    pub r2: f64,
    /// Mean absolute error of ridge, in the target's unit.
    #[serde(serialize_with = "digits4")]
    pub mae: f64,
    #[serde(serialize_with = "places3")]
    pub knn_r2: f64,
    #[serde(serialize_with = "places3")]
    pub knn_200_r2: f64,
    #[serde(flatten)]
    pub few: Option<FewValueLabels>,
}

/// Ridge with few labels: mean and standard deviation of R² over draws.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FewValueLabels {
    #[serde(serialize_with = "places3")]
    pub r2_10pct: f64,
    #[serde(serialize_with = "places3")]
    pub r2_10pct_std: f64,
    pub rows_10pct: usize,
    #[serde(serialize_with = "places3")]
    pub r2_1pct: f64,
    #[serde(serialize_with = "places3")]
    pub r2_1pct_std: f64,
    pub rows_1pct: usize,
}

impl FewClassLabels {
    pub(super) fn new(ten: Spread, one: Spread) -> Self {
        Self {
            linear_10pct: ten.mean,
            linear_10pct_std: ten.std,
            rows_10pct: ten.labels,
            linear_1pct: one.mean,
            linear_1pct_std: one.std,
            rows_1pct: one.labels,
        }
    }
}

impl FewValueLabels {
    pub(super) fn new(ten: Spread, one: Spread) -> Self {
        Self {
            r2_10pct: ten.mean,
            r2_10pct_std: ten.std,
            rows_10pct: ten.labels,
            r2_1pct: one.mean,
            r2_1pct_std: one.std,
            rows_1pct: one.labels,
        }
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn round(value: f64, places: i32) -> f64 {
    let unit = 10_f64.powi(places);
    let rounded = (value * unit).round() / unit;
    // A large value has no decimals to lose; adding 0 turns −0 into 0.
    if rounded.is_finite() { rounded + 0.0 } else { value }
}

fn places2<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(round(*value, 2))
}

fn places3<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(round(*value, 3))
}

/// Four significant digits: the unit of a target may be anything.
fn digits4<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    let digits = format!("{value:.3e}").parse().unwrap_or(*value);
    to.serialize_f64(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_flat_and_rounded() {
        let few = FewValueLabels {
            r2_10pct: 0.5,
            r2_10pct_std: 0.0123,
            rows_10pct: 90,
            r2_1pct: -0.0001,
            r2_1pct_std: 0.1,
            rows_1pct: 9,
        };
        let values = ValueScores { r2: 0.71259, mae: 0.000_123_456, knn_r2: 1.0, knn_200_r2: 0.25, few: Some(few) };
        let scores = Scores { dim: 8, train_rows: 900, test_rows: 100, quality: Quality::Values(values) };
        let json = serde_json::to_string(&scores).unwrap();
        assert_eq!(
            json,
            r#"{"dim":8,"train_rows":900,"test_rows":100,"r2":0.713,"mae":0.0001235,"knn_r2":1.0,"knn_200_r2":0.25,"r2_10pct":0.5,"r2_10pct_std":0.012,"rows_10pct":90,"r2_1pct":0.0,"r2_1pct_std":0.1,"rows_1pct":9}"#
        );
    }
}
