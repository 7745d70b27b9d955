//! What the guard knows, as people and programs read it: in `learn --json`, in a daemon's status and in its metrics.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::guard::{Fault, Meters};

/// What the guard knows, in people's units; see [`Meters`].
#[derive(Clone, Default, Serialize)]
pub struct GuardStatus {
    pub effective_rank: f64,
    pub spread: f64,
    pub canary_loss: f64,
    pub weights_saturated: f64,
    /// Against the best encoder so far.
    pub standing_rank: f64,
    pub standing_spread: f64,
    pub standing_loss: f64,
    /// Of the last lesson that was judged, published or not.
    pub directions: Option<f64>,
    pub uniformity: Option<f64>,
    pub alignment: Option<f64>,
    pub distance: Option<f64>,
    pub activations_clamped: f64,
    pub errors_clamped: f64,
    /// Of the input: samples that nothing was learned from, and how it differs from what it was for long.
    pub flat: u64,
    pub stuck: u64,
    pub exposure_mean: f64,
    pub exposure_contrast: f64,
    pub distribution: Option<f64>,
    pub repaired: u32,
    pub entries_dropped: u32,
    /// Lessons undone, by why.
    pub faults: BTreeMap<&'static str, u32>,
}

impl GuardStatus {
    pub fn of(m: &Meters) -> Self {
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        let share = |n: u32| rounded(f64::from(n) / 65536.0);
        let q15 = |n: u32| rounded(f64::from(n) / 32768.0);
        let in_256 = |n: i32| rounded(f64::from(n) / 256.0);
        GuardStatus {
            effective_rank: in_256(m.health.effective_rank as i32),
            spread: q15(m.health.spread),
            canary_loss: in_256(m.health.loss as i32),
            weights_saturated: share(m.health.saturation),
            standing_rank: share(m.standing_rank),
            standing_spread: share(m.standing_spread),
            standing_loss: in_256(m.standing_loss as i32),
            directions: m.judged.map(|judged| in_256(judged.directions as i32)),
            uniformity: m.judged.map(|judged| in_256(judged.uniformity)),
            alignment: m.judged.map(|judged| q15(judged.alignment)),
            distance: m.judged.map(|judged| q15(judged.distance)),
            activations_clamped: share(m.activations_clamped),
            errors_clamped: share(m.errors_clamped),
            flat: m.flat,
            stuck: m.stuck,
            exposure_mean: in_256(m.exposure_mean),
            exposure_contrast: in_256(m.exposure_contrast),
            distribution: m.distribution.map(q15),
            repaired: m.repaired,
            entries_dropped: m.entries_dropped,
            faults: Fault::ALL.iter().zip(m.faults).map(|(fault, n)| (fault.name(), n)).collect(),
        }
    }

    /// Names, explanations and values of the meters that there are.
    #[cfg(feature = "metrics")]
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, f64)> {
        let rows = [
            ("effective_rank", "Effective rank of the canaries' features", Some(self.effective_rank)),
            ("spread", "Variance of the canaries' unit features", Some(self.spread)),
            ("canary_loss", "Loss on the canaries, in nat", Some(self.canary_loss)),
            ("weights_saturated", "Share of weights at their largest value", Some(self.weights_saturated)),
            ("standing_rank", "Effective rank against the best encoder's", Some(self.standing_rank)),
            ("standing_spread", "Spread against the best encoder's", Some(self.standing_spread)),
            ("standing_loss", "Loss above the best encoder's, in nat", Some(self.standing_loss)),
            ("directions", "Effective rank of the last lesson's unit features", self.directions),
            ("uniformity", "Uniformity of the last lesson, in nat", self.uniformity),
            ("alignment", "Alignment of the last lesson's views", self.alignment),
            ("feature_distance", "1 - cos of the last lesson's features to the published ones", self.distance),
            ("activations_clamped", "Share of activations clamped in the last lesson", Some(self.activations_clamped)),
            ("errors_clamped", "Share of errors clamped in the last lesson", Some(self.errors_clamped)),
            ("exposure_mean", "Brightness against its slow mean, in mantissas", Some(self.exposure_mean)),
            ("exposure_contrast", "Contrast against its slow mean, in mantissas", Some(self.exposure_contrast)),
            ("input_distance", "Distance of the input's histogram from its slow one", self.distribution),
        ];
        rows.into_iter().filter_map(|(name, help, value)| Some((name, help, value?)))
    }
}
