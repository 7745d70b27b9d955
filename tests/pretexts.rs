//! Pretexts other than the contrastive one: stacked dictionaries, and reconstruction of windows.

mod common;

use common::{Gratings, Run};
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Learner, Options};
use nestling::model;
use nestling::net::spec::Spec;
use nestling::sample::{Micros, Sample, Seed, Values};
use nestling::store::state_hash;

/// A small stack: a stem of luma and colour, and units that read four of its channels each.
fn stack() -> Spec {
    let mut spec = model::load("n6").expect("a shipped model");
    (spec.layer[0].filters, spec.layer[0].colour_filters, spec.layer[1].filters) = (16, 8, 8);
    spec.dictionary.samples = 100;
    spec
}

fn hash_of(spec: &Spec, options: &Options, feed: impl FnOnce(&mut Learner)) -> String {
    let mut memory = vec![0u8; Learner::plan(spec, options).expect("a plan").block_len()];
    let mut learner = Learner::new(spec, options, &mut memory).expect("enough memory");
    feed(&mut learner);
    state_hash(&mut learner)
}

#[test]
fn a_stack_of_dictionaries_is_the_same_with_the_reference_kernels() {
    let hash = |kernels| {
        let options = Options { kernels, ..common::options(1, Some(300)) };
        hash_of(&stack(), &options, |learner| Gratings::new(32).feed(learner, 300, &Alone))
    };
    assert_eq!(hash(Kernels::Reference), hash(Kernels::detect()));
}

#[test]
fn a_dictionary_is_learned_after_the_one_below_which_stays() {
    let mut run = Run::new(&stack(), 1, None);
    run.with(|learner| {
        let mut stream = Gratings::new(32);
        let weights = |learner: &Learner, layer: usize| {
            let tensors = learner.network().layers[layer].tensors.clone();
            let (from, to) = (&learner.network().tensors[tensors.start], &learner.network().tensors[tensors.end - 1]);
            learner.published().0.weights[from.weights..to.weights + to.conv.weights()].to_vec()
        };
        let start = [weights(learner, 0), weights(learner, 1)];
        stream.feed(learner, 100, &Alone);
        let stem = [weights(learner, 0), weights(learner, 1)];
        assert!(stem[0] != start[0] && stem[1] == start[1]);
        stream.feed(learner, 100, &Alone);
        let both = [weights(learner, 0), weights(learner, 1)];
        assert!(both[0] == stem[0] && both[1] != stem[1]);
        stream.feed(learner, 1500, &Alone);
        assert_eq!([weights(learner, 0), weights(learner, 1)], both);
    });
}

/// Windows of three speeds of shaking.
fn shake(learner: &mut Learner, from: u64, count: u64) -> Vec<u32> {
    let mut losses = Vec::new();
    let mut readings = [0i16; 128 * 6];
    for n in from..from + count {
        for (i, v) in readings.iter_mut().enumerate() {
            let (t, c) = ((i / 6) as u64 + n * 37, (i % 6) as u64);
            let period = 12 + n / 20 % 3 * 7 + c;
            *v = ((2 * (t % period) as i64 - period as i64).abs() * 2000 / period as i64 - 1000) as i16;
        }
        let values = Values::Window { readings: &readings, length: 128, channels: 6 };
        learner.observe(&Sample { values, time: Micros(n), segment: 0 }).expect("a fitting sample");
        loop {
            match learner.step(&Alone) {
                Did::Trained { loss } => losses.push(loss),
                Did::Idle => break,
                _ => {}
            }
        }
    }
    losses
}

fn imu() -> Spec {
    model::load("imu").expect("a shipped model")
}

#[test]
fn reconstruction_learns_from_the_newest_window_alone() {
    let mut run = Run::new(&imu(), 1, None);
    run.with(|learner| {
        let losses = shake(learner, 0, 3000);
        let mean = |losses: &[u32]| losses.iter().sum::<u32>() / losses.len() as u32;
        let (first, last) = (mean(&losses[..100]), mean(&losses[losses.len() - 100..]));
        // In 1/256 nat: a fifth of the standard error.
        assert!(last + 50 < first, "{first} {last}");
    });
}

#[test]
fn reconstruction_is_the_same_with_the_reference_kernels_whether_it_is_judged_or_not() {
    let mut judged = imu();
    judged.guard.canaries = 8;
    judged.pretext[0].batch = Some(3);
    judged.replay.capacity = 16;
    for spec in [imu(), judged] {
        let hash = |kernels| {
            let options = Options { kernels, ..Options::new(Seed(7)) };
            hash_of(&spec, &options, |learner| {
                shake(learner, 0, 200);
                assert_eq!(learner.counters().lessons_rolled_back, 0);
                assert!(learner.counters().lessons_published > 1);
            })
        };
        assert_eq!(hash(Kernels::Reference), hash(Kernels::detect()));
    }
}

#[test]
fn the_imu_model_learns_in_29_kilobytes() {
    let options = Options { kernels: Kernels::Reference, lean: true, ..Options::new(Seed(0)) };
    let plan = Learner::plan(&imu(), &options).expect("a sound plan");
    assert!(plan.ram_bytes <= 29 * 1024, "{plan:?}");
}
