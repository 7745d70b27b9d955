//! Pretexts other than the contrastive one: stacked dictionaries, and reconstruction of windows.

mod common;

use common::{Gratings, Run};
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Learner, Options, Pictures};
use nestling::model;
use nestling::net::spec::{InputKind, Spec};
use nestling::net::task::{PretextSpec, Task};
use nestling::sample::{Micros, Sample, Seed, Values};
use nestling::store::{self, state_hash};

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
    (judged.pretext[0].batch, judged.pretext[0].samples_per_step) = (Some(3), Some(1));
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

/// A small encoder of images and one of windows, each with `task`.
fn rebuilding(task: Task) -> [Spec; 2] {
    ["l100", "motion"].map(|name| {
        let mut spec = model::load(name).expect("a shipped model");
        spec.layer.iter_mut().for_each(|layer| layer.filters = 16);
        spec.dictionary.samples = 100;
        (spec.replay.capacity, spec.guard.canaries, spec.guard.lesson_steps) = (64, 8, 32);
        spec.pretext = core::iter::once(PretextSpec::new(task)).collect();
        spec
    })
}

/// Gives a learner the samples `numbers` of the stream that fits it.
fn feed(learner: &mut Learner, numbers: std::ops::Range<u64>) -> Vec<u32> {
    if learner.spec().input.kind == InputKind::Window {
        return shake(learner, numbers.start, numbers.end - numbers.start);
    }
    let mut stream = Gratings::new(32);
    stream.skip(numbers.start);
    let before = learner.counters().loss_running;
    stream.feed(learner, numbers.end - numbers.start, &Alone);
    [before, learner.counters().loss_running].map(|loss| (loss >> 4) as u32).to_vec()
}

#[test]
fn every_task_that_rebuilds_learns_and_a_cut_run_goes_on_to_the_hash_of_the_uncut_one() {
    for task in [Task::Inpaint, Task::Denoise, Task::Variational] {
        for spec in rebuilding(task).into_iter().filter(|s| task != Task::Inpaint || s.input.kind == InputKind::Image) {
            let options = common::options(2, Some(4000));
            let uncut = hash_of(&spec, &options, |learner| {
                feed(learner, 0..400);
                let first = learner.counters().loss_first;
                feed(learner, 400..2400);
                let last = learner.counters().loss_running >> 4;
                assert!(last + 10 < first, "{task:?} {}: {first} {last}", spec.name);
            });
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("c.safetensors");
            hash_of(&spec, &options, |learner| {
                feed(learner, 0..1013);
                store::write(&path, learner).expect("a checkpoint");
            });
            let resumed = hash_of(&spec, &options, |learner| {
                store::read(&path).expect("a checkpoint").restore(learner).expect("the same model");
                feed(learner, 1013..2400);
            });
            assert_eq!(uncut, resumed, "{task:?} {}", spec.name);
        }
    }
}

#[test]
fn what_is_learned_longer_is_rebuilt_better() {
    for task in [Task::Inpaint, Task::Denoise, Task::Variational] {
        let [spec, _] = rebuilding(task);
        let mut run = Run::new(&spec, 1, Some(3000));
        run.with(|learner| {
            let mut noise = vec![0u8; 32 * 32 * 3];
            noise
                .iter_mut()
                .enumerate()
                .for_each(|(i, p)| *p = (i as u32).wrapping_mul(2_654_435_761).rotate_left(9) as u8);
            let values = Values::Image { pixels: &noise, height: 32, width: 32, channels: 3 };
            let strange = Sample { values, time: Micros(0), segment: 0 };
            assert_eq!(learner.rebuild_sample(&strange, 0, None), Ok(None), "nothing is learned yet");
            // Frames that are not learned from.
            let loss = |learner: &mut Learner| {
                let mut stream = Gratings::new(32);
                stream.skip(5000);
                let of_one =
                    |n| learner.rebuild_sample(&stream.sample(), n, None).expect("it fits").expect("it learned");
                (0..32).map(of_one).sum::<u32>() / 32
            };
            let mut stream = Gratings::new(32);
            stream.feed(learner, 500, &Alone);
            let early = loss(learner);
            stream.feed(learner, 2500, &Alone);
            let late = loss(learner);
            assert!(late < early, "{task:?}: {early} {late}");
            let len = learner.network().input.len();
            let [mut clean, mut hidden, mut rebuilt] = [(); 3].map(|()| vec![0; len]);
            let mut stream = Gratings::new(32);
            stream.skip(5000);
            let known = stream.sample();
            let pictures = Pictures { clean: &mut clean, hidden: &mut hidden, rebuilt: &mut rebuilt };
            learner.rebuild_sample(&known, 0, Some(pictures)).expect("a fitting sample").expect("it learned");
            assert!(hidden != clean || task == Task::Variational);
            assert!(rebuilt.iter().any(|&v| v != rebuilt[0]), "{task:?}");
            let mut drawn = vec![0; len];
            assert_eq!(learner.draw_sample(1, &mut drawn), task == Task::Variational);
            assert_eq!(drawn.iter().any(|&v| v != 0), task == Task::Variational);
        });
    }
}
