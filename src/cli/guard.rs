//! The guard's meters as JSON, in the units of people.

use serde_json::{Map, Value, json};

use super::rounded;
use crate::guard::{Fault, Meters};

/// Lessons undone, by fault.
pub fn counts(meters: &Meters) -> Map<String, Value> {
    Fault::ALL.iter().zip(meters.faults).map(|(fault, count)| (fault.name().into(), count.into())).collect()
}

/// All else that the guard knows. What needs canaries is null without them.
pub fn meters(meters: &Meters) -> Value {
    let share = |of_65536: u32| rounded(f64::from(of_65536) / 65536.0, 4);
    let q15 = |v: u32| rounded(f64::from(v) / 32768.0, 4);
    let q8 = |v: i32| rounded(f64::from(v) / 256.0, 2);
    json!({
        "directions": meters.judged.map(|judged| q8(judged.directions as i32)),
        "uniformity": meters.judged.map(|judged| q8(judged.uniformity)),
        "alignment": meters.judged.map(|judged| q15(judged.alignment)),
        "distance": meters.judged.map(|judged| q15(judged.distance)),
        "standing_rank": share(meters.standing_rank),
        "standing_spread": share(meters.standing_spread),
        "standing_loss": q8(meters.standing_loss as i32),
        "activations_clamped": share(meters.activations_clamped),
        "errors_clamped": share(meters.errors_clamped),
        "exposure_mean": q8(meters.exposure_mean),
        "exposure_contrast": q8(meters.exposure_contrast),
        "distribution": meters.distribution.map(q15),
        "samples_flat": meters.flat,
        "samples_stuck": meters.stuck,
        "repaired": meters.repaired,
        "entries_dropped": meters.entries_dropped,
    })
}
