//! Instructions of a learner that is its dictionary alone, as one would run it on a microcontroller: of a sample learned
//! from, and of a feature.

use cortex_m_semihosting::hprintln;
use nestling::fixed::random::Draws;
use nestling::kernels::Kernels;
use nestling::learner::{Did, Learner, Options};
use nestling::net::spec::{DictionarySpec, GuardSpec, InputSpec, LayerKind, LayerSpec, Spec};
use nestling::sample::{Micros, Sample, Seed, Values};

use crate::{count, path};

/// Side of the frames.
const SIDE: usize = 32;
/// Samples of the lesson and patches of each: a quarter of them whitens, the next ones fill the dictionary, the others
/// are clustered.
const SAMPLES: u64 = 64;
const PATCHES: u32 = 8;
/// Samples that are counted of those that whiten and of those that are clustered.
const WHITENED: core::ops::Range<u64> = 8..12;
const CLUSTERED: core::ops::Range<u64> = 48..52;

/// The shape of `models/n5.toml` or `models/n18.toml`, with a short lesson that nobody judges.
fn spec(filters: usize, colour_filters: usize) -> Spec {
    let stem =
        LayerSpec { kind: LayerKind::Dictionary, filters, colour_filters, kernel: 5, stride: 2, ..Default::default() };
    Spec {
        input: InputSpec { height: SIDE, width: SIDE, channels: 3, ..Default::default() },
        layer: core::iter::once(stem).collect(),
        dictionary: DictionarySpec { samples: SAMPLES, patches: PATCHES },
        guard: GuardSpec { lesson_steps: 1, canaries: 0 },
        ..Default::default()
    }
}

/// Counts for both stems and every way; whether all of them could be run.
pub fn count(memory: &mut [u8]) -> bool {
    let mut passed = true;
    for (name, spec) in [("n5", spec(146, 46)), ("n18", spec(240, 0))] {
        // The reference has been counted; here it would take minutes.
        for kernels in crate::ways().filter(|&way| way != Kernels::Reference) {
            passed &= count_one(name, &spec, kernels, memory);
        }
    }
    passed
}

fn count_one(name: &str, spec: &Spec, kernels: Kernels, memory: &mut [u8]) -> bool {
    let options = Options { kernels, lean: true, ..Options::new(Seed(7)) };
    let (bytes, mut learner) = match (Learner::plan(spec, &options), Learner::new(spec, &options, memory)) {
        (Ok(plan), Ok(learner)) => (plan.ram_bytes, learner),
        (Err(problem), _) | (_, Err(problem)) => {
            hprintln!("{} {}: {}", name, kernels.name(), problem);
            return false;
        }
    };
    let mut pixels = [0u8; SIDE * SIDE * 3];
    let mut feature = [0i8; 9 * 240];
    let (mut whitened, mut clustered, mut perceived) = (0, 0, 0);
    for n in 0..CLUSTERED.end {
        let draws = Draws::new(Seed(1), n, 0);
        // Blobs of light with noise.
        for (i, p) in pixels.iter_mut().enumerate() {
            let block = (i / 3 / SIDE / 8 * 4 + i / 3 % SIDE / 8) as u32;
            *p = ((draws.bits(block) >> 25) + (draws.bits(1000 + i as u32) >> 26)) as u8;
        }
        let values = Values::Image { pixels: &pixels, height: SIDE, width: SIDE, channels: 3 };
        let sample = Sample { values, time: Micros(n), segment: 0 };
        let (observed, instructions) = count::instructions(|| path::observe(&mut learner, &sample));
        if let Err(problem) = observed {
            hprintln!("{} {}: {}", name, kernels.name(), problem);
            return false;
        }
        while path::step(&mut learner) != Did::Idle {}
        match n {
            n if WHITENED.contains(&n) => whitened += instructions,
            n if CLUSTERED.contains(&n) => clustered += instructions,
            _ => {}
        }
        if n + 1 == CLUSTERED.end {
            let feature = &mut feature[..learner.network().feature_dim];
            perceived = count::instructions(|| path::perceive(&mut learner, &sample, feature)).1;
        }
    }
    let thousands = |sum: u64, samples: core::ops::Range<u64>| sum / 1000 / (samples.end - samples.start);
    hprintln!(
        "count: {}, {}: whiten {}, cluster {}, perceive {} thousand instructions a sample; {} bytes",
        name,
        kernels.name(),
        thousands(whitened, WHITENED),
        thousands(clustered, CLUSTERED),
        perceived / 1000,
        bytes
    );
    true
}
