//! A small fixed lesson whose result is known: the same bits on every processor, or this processor is not to be trusted.
//!
//! Firmware runs it at start-up; the tests run it for every kernel and number of lanes, on the host and in emulators.

use crate::kernels::Kernels;
use crate::learner::{Did, Join, Learner, Options};
use crate::net::error::PlanError;
use crate::net::spec::{GuardSpec, InputSpec, LayerKind, LayerSpec, ReplayPolicy, ReplaySpec, Spec};
use crate::net::task::{PretextSpec, Task};
use crate::sample::{Micros, Sample, Seed, Values};

/// Side of the images, and samples of the lesson.
const SIDE: usize = 16;
const SAMPLES: u64 = 160;

/// What [`digest`] gives where all is well.
pub const EXPECTED: u64 = 0x9465_b421_60d3_08aa;

/// A dictionary and two layers above it, with the redundancy-aware buffer and neighbours as positives: small, and
/// touching every part of the learner.
pub fn spec() -> Spec {
    let layer = |kind, filters, kernel| LayerSpec { kind, filters, kernel, stride: 2, ..Default::default() };
    let dictionary = LayerSpec { colour_filters: 4, ..layer(LayerKind::Dictionary, 12, 5) };
    let layers = [dictionary, layer(LayerKind::Depthwise, 12, 3), layer(LayerKind::Conv, 10, 3)];
    Spec {
        name: heapless::String::try_from("selftest").unwrap_or_default(),
        input: InputSpec { height: SIDE, width: SIDE, channels: 3, ..Default::default() },
        layer: layers.into_iter().collect(),
        dictionary: crate::net::spec::DictionarySpec { samples: 60, patches: 4 },
        pretext: core::iter::once(PretextSpec {
            batch: Some(4),
            hidden: Some(12),
            outputs: Some(8),
            neighbours: Some(2),
            samples_per_step: Some(4),
            ..PretextSpec::new(Task::Contrastive)
        })
        .collect(),
        replay: ReplaySpec { policy: ReplayPolicy::Redundancy, capacity: 24, fresh: 2, latents: false },
        guard: GuardSpec { lesson_steps: 10, canaries: 8 },
        ..Default::default()
    }
}

/// How the lesson is run; `lanes` and `kernels` do not change the result.
pub const fn options(lanes: usize, kernels: Kernels) -> Options {
    Options { seed: Seed(20), expected_samples: Some(SAMPLES), lanes, kernels, lean: false, flash_weights: false }
}

/// Runs the lesson in `memory` and gives the FNV-1a hash of the learner's state after it.
///
/// # Errors
/// [`PlanError::MemoryTooSmall`].
pub fn digest(memory: &mut [u8], lanes: usize, kernels: Kernels, join: &impl Join) -> Result<u64, PlanError> {
    let mut learner = Learner::new(&spec(), &options(lanes, kernels), memory)?;
    let mut pixels = [0u8; SIDE * SIDE * 3];
    for n in 0..SAMPLES {
        // Moving gratings whose colour, direction and period change from sample to sample.
        for (i, p) in pixels.iter_mut().enumerate() {
            let (y, x, c) = ((i / 3 / SIDE) as u64, (i / 3 % SIDE) as u64, (i % 3) as u64);
            let phase = x * (n % 5 + 1) * 9 + y * (n / 3 % 7) * 11 + n * 23 + c * (n % 4) * 31;
            *p = if phase % 256 < 128 { (phase % 256 * 2) as u8 } else { (511 - phase % 256 * 2) as u8 };
        }
        let values = Values::Image { pixels: &pixels, height: SIDE, width: SIDE, channels: 3 };
        // The sample fits by construction.
        let _ = learner.observe(&Sample { values, time: Micros(n), segment: (n / 50) as u32 });
        while learner.step(join) != Did::Idle {}
    }
    let mut hash = 0xCBF2_9CE4_8422_2325u64;
    learner.visit_state(|_, mut numbers| {
        for &byte in numbers.bytes().iter() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    });
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tile::Tile;
    use crate::learner::Alone;

    #[test]
    fn every_kernel_and_number_of_lanes_gives_the_expected_bits() {
        let packed = Tile::all().into_iter().map(Kernels::Packed);
        for kernels in [Kernels::Reference, Kernels::Lean].into_iter().chain(packed) {
            for lanes in [1, 2, 3, 5] {
                let plan = Learner::plan(&spec(), &options(lanes, kernels)).expect("a sound plan");
                let mut memory = vec![0xA5; plan.block_len()];
                let digest = digest(&mut memory, lanes, kernels, &Alone).expect("enough memory");
                assert_eq!(digest, EXPECTED, "{} with {lanes} lanes: {digest:#x}", kernels.name());
            }
        }
    }
}
