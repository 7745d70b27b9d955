use super::*;
use crate::learner::{Alone, Did, Numbers};
use crate::net::task::{PretextSpec, Task};
use crate::sample::{Micros, Values};

const SIDE: usize = 12;

/// `stem` is the first layer.
fn spec(stem: &str) -> Spec {
    let text = format!(
        "name = 's'\n[input]\nkind = 'image'\nheight = 12\nwidth = 12\nchannels = 1\n\
         [[layer]]\nkind = '{stem}'\nfilters = 8\nkernel = 3\nstride = 2\n[[layer]]\nfilters = 16\nstride = 2\n\
         [dictionary]\nsamples = 600\n[pretext]\nbatch = 16\nhidden = 16\noutputs = 8\nsamples_per_step = 16\n\
         [replay]\ncapacity = 64\nfresh = 8\n[guard]\ncanaries = 8\n"
    );
    crate::model::parse("small", &text).expect("a sound model")
}

/// The same with a task that rebuilds, in steps of `batch`.
fn rebuilding(task: &str, batch: u16) -> Spec {
    let (mut spec, task) = (spec("conv"), Task::ALL.into_iter().find(|t| t.name() == task).expect("a task"));
    let outputs = (task == Task::Variational).then_some(6);
    let block = (task == Task::Inpaint).then_some(4);
    let counts = PretextSpec { batch: Some(batch), samples_per_step: Some(batch), ..PretextSpec::new(task) };
    spec.pretext = std::iter::once(PretextSpec { outputs, block, ..counts }).collect();
    spec
}

fn options() -> Options {
    Options { expected_samples: Some(4000), ..Options::new(Seed(3)) }
}

fn twin(stem: &str) -> Twin {
    Twin::new(&spec(stem), &options()).expect("a sound plan")
}

/// Waves of random direction and length: every picture has its own.
fn pixels(n: u64) -> Vec<u8> {
    let draws = Draws::new(Seed(9), n, 0);
    let wave = |k: u32| (draws.between(k, -100, 100) as f32 / 80.0, draws.between(k + 1, -100, 100) as f32 / 80.0);
    let ((a, b), (c, d)) = (wave(0), wave(2));
    let value = |i: usize| {
        let (y, x) = ((i / SIDE) as f32, (i % SIDE) as f32);
        128.0 + 60.0 * (a * x + b * y).sin() + 40.0 * (c * x + d * y).cos()
    };
    (0..SIDE * SIDE).map(|i| value(i) as u8).collect()
}

fn sample(pixels: &[u8], n: u64) -> Sample<'_> {
    Sample { values: Values::Image { pixels, height: SIDE, width: SIDE, channels: 1 }, time: Micros(n), segment: 0 }
}

fn observe(twin: &mut Twin, samples: std::ops::Range<u64>) -> Vec<f32> {
    let mut losses = Vec::new();
    for n in samples {
        twin.observe(&sample(&pixels(n), n)).expect("a fitting sample");
        losses.extend(std::iter::from_fn(|| twin.step()));
    }
    losses
}

fn with_learner(stem: &str, samples: u64, test: impl FnOnce(&mut Learner)) {
    let plan = Learner::plan(&spec(stem), &options()).expect("a sound plan");
    let mut memory = vec![0; plan.block_len()];
    let mut learner = Learner::new(&spec(stem), &options(), &mut memory).expect("enough memory");
    for n in 0..samples {
        learner.observe(&sample(&pixels(n), n)).expect("a fitting sample");
        while learner.step(&Alone) != Did::Idle {}
    }
    test(&mut learner);
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for kind in ["conv", "dictionary"] {
        let mut twin = twin(kind);
        // Enough samples for a step, none of them trained on.
        (0..64).for_each(|n| twin.observe(&sample(&pixels(n), n)).expect("a fitting sample"));
        let (_, gradients) = twin.gradients(&mut []).expect("enough samples");
        let from = twin.network.trained_range().start;
        for t in twin.network.tensors.clone().iter().skip(twin.network.first_trained) {
            let (mut own, mut slopes) = (Vec::new(), Vec::new());
            for at in t.weight_range().step_by(t.conv.weights() / 40 + 1) {
                let before = twin.weights[at];
                let mut nudged = |by: f32| {
                    twin.weights[at] = before + by;
                    let loss = twin.gradients(&mut []).expect("enough samples").0;
                    twin.weights[at] = before;
                    loss
                };
                slopes.push(nudged(2e-3) - nudged(-2e-3));
                own.push(gradients[at - from]);
            }
            let likeness = cosine(&own, &slopes);
            assert!(likeness > 0.99, "{kind}, weights from {}: {likeness}", t.weights);
            let ratio = own.iter().map(|g| g.abs()).sum::<f32>() * 4e-3 / slopes.iter().map(|g| g.abs()).sum::<f32>();
            assert!((ratio - 1.0).abs() < 0.05, "{kind}, weights from {}: {ratio}", t.weights);
        }
    }
}

#[test]
fn gradients_of_what_is_rebuilt_are_those_of_finite_differences() {
    for task in ["inpaint", "denoise", "variational"] {
        // The decoder is trusted by the errors of each sample, so the loss of one has the gradient that is taken.
        let mut twin = Twin::new(&rebuilding(task, 1), &options()).expect("a sound plan");
        (0..8).for_each(|n| twin.observe(&sample(&pixels(n), n)).expect("a fitting sample"));
        let mut scales = twin.objective.clone();
        let (_, gradients) = twin.gradients(&mut scales).expect("enough samples");
        let from = twin.network.trained_range().start;
        for t in twin.network.tensors.clone().iter().skip(twin.network.first_trained) {
            let (mut own, mut slopes) = (Vec::new(), Vec::new());
            let weights = t.weight_range();
            let size = twin.weights[weights.clone()].iter().fold(0.0f32, |m, w| m.max(w.abs()));
            for at in weights.step_by(t.conv.weights() / 40 + 1) {
                let before = twin.weights[at];
                let mut nudged = |by: f32| {
                    twin.weights[at] = before + by;
                    let loss = twin.gradients(&mut scales).expect("enough samples").0;
                    twin.weights[at] = before;
                    loss
                };
                slopes.push(nudged(0.02 * size) - nudged(-0.02 * size));
                own.push(gradients[at - from]);
            }
            let likeness = cosine(&own, &slopes);
            assert!(likeness > 0.98, "{task}, weights from {}: {likeness}", t.weights);
        }
    }
}

#[test]
fn the_first_step_of_what_is_rebuilt_is_that_of_the_integer_learner() {
    for task in ["inpaint", "denoise", "variational"] {
        let spec = rebuilding(task, 8);
        let mut twin = Twin::new(&spec, &options()).expect("a sound plan");
        let mut memory = vec![0; Learner::plan(&spec, &options()).expect("a sound plan").block_len()];
        let mut learner = Learner::new(&spec, &options(), &mut memory).expect("enough memory");
        for n in 0..8 {
            learner.observe(&sample(&pixels(n), n)).expect("a fitting sample");
            while learner.step(&Alone) != Did::Idle {}
        }
        assert_eq!(observe(&mut twin, 0..8).len(), 1);
        let loss = learner.counters().loss_first as f32 / 256.0;
        // What each of the head's shifts narrows starts within a factor of 2 of the twin's; a code has three of them.
        let apart = if task == "variational" { 2.1 } else { 0.4 };
        assert!((loss - twin.loss_first()).abs() < apart, "{task}: {loss} {}", twin.loss_first());
        let network = twin.network.clone();
        learner.visit_state(|name, numbers| {
            let ("momentum", Numbers::I16(momentum)) = (name, numbers) else { return };
            let from = network.trained_range().start;
            for t in network.tensors.iter().skip(network.first_trained) {
                let own = t.weights - from..t.weights - from + t.conv.weights();
                let integer: Vec<f32> = momentum[own.clone()].iter().map(|&v| f32::from(v)).collect();
                let likeness = cosine(&integer, &twin.momentum[own]);
                assert!(likeness > 0.8, "{task}, weights from {}: {likeness}", t.weights);
            }
        });
    }
}

#[test]
fn the_first_step_moves_weights_as_the_integer_learner_does() {
    let mut twin = twin("conv");
    let started = twin.masters.clone();
    with_learner("conv", 0, |learner| {
        learner.visit_state(|name, numbers| {
            if let ("masters", Numbers::I16(masters)) = (name, numbers) {
                assert!(masters.iter().zip(&started).all(|(&i, &f)| (f32::from(i) - f).abs() <= 1.0));
            }
        });
    });
    assert_eq!(observe(&mut twin, 0..16).len(), 1);
    with_learner("conv", 16, |learner| {
        assert_eq!(learner.counters().steps, 1);
        let loss = learner.counters().loss_first as f32 / 256.0;
        assert!((loss - twin.loss_first()).abs() < 0.05, "{loss} {}", twin.loss_first());
        learner.visit_state(|name, numbers| {
            let ("momentum", Numbers::I16(momentum)) = (name, numbers) else { return };
            // An eighth of the largest gradient of a tensor at least.
            let telling: Vec<bool> = momentum
                .iter()
                .zip(&twin.momentum)
                .filter(|(_, f)| f.abs() > 96.0)
                .map(|(&i, &f)| f32::from(i) * f > 0.0)
                .collect();
            let agreeing = telling.iter().filter(|&&same| same).count();
            assert!(telling.len() > 200, "{}", telling.len());
            assert!(agreeing * 10 > telling.len() * 9, "{agreeing} of {}", telling.len());
        });
    });
}

#[test]
fn the_stem_learns_the_filters_that_the_integer_one_learns() {
    let mut twin = twin("dictionary");
    observe(&mut twin, 0..700);
    with_learner("dictionary", 700, |learner| {
        let t = twin.network.tensors[0];
        let integer: Vec<f32> = learner.published().0.weights[t.weight_range()].iter().map(|&w| f32::from(w)).collect();
        let best = |filter: &[f32]| integer.chunks_exact(9).map(|i| cosine(filter, i).abs()).fold(0.0, f32::max);
        let found: Vec<f32> = twin.weights[t.weight_range()].chunks_exact(9).map(best).collect();
        let mean = found.iter().sum::<f32>() / found.len() as f32;
        assert!(mean > 0.9, "{found:?}");
    });
}

#[test]
fn the_loss_falls() {
    let mut twin = twin("dictionary");
    let losses = observe(&mut twin, 0..4000);
    assert_eq!(losses.len() as u64, twin.steps());
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    let (first, last) = (mean(&losses[..10]), mean(&losses[losses.len() - 40..]));
    assert!(last < 0.9 * first && last.is_finite(), "{first} {last}");
}

#[test]
fn the_largest_gradient_is_brought_to_between_512_and_1024() {
    for max in [1e-30f32, 0.3, 0.5, 1.0, 511.9, 512.0, 1023.9, 3e20] {
        let scaled = max * update::normaliser(max);
        assert!((512.0..1024.0).contains(&scaled), "{max} {scaled}");
    }
    assert_eq!(update::normaliser(0.0), 0.0);
}

#[test]
fn a_saved_twin_goes_on_as_the_uncut_one() {
    for cut in [100, 700] {
        let (mut uncut, mut saved) = (twin("dictionary"), twin("dictionary"));
        observe(&mut uncut, 0..1000);
        observe(&mut saved, 0..cut);
        let mut resumed = Twin::from_bytes(&saved.to_bytes().expect("a sound file")).expect("a sound twin");
        observe(&mut resumed, cut..1000);
        assert_eq!(resumed.to_bytes().expect("a sound file").len(), uncut.to_bytes().expect("a sound file").len());
        let (mut a, mut b) = (vec![0.0; uncut.feature_dim()], vec![0.0; uncut.feature_dim()]);
        uncut.feature(&sample(&pixels(7), 7), &mut a).expect("a fitting sample");
        resumed.feature(&sample(&pixels(7), 7), &mut b).expect("a fitting sample");
        assert_eq!(a, b);
    }
}

#[test]
fn damaged_bytes_are_refused_and_never_panic() {
    let bytes = twin("dictionary").to_bytes().expect("a sound file");
    assert!(matches!(Twin::from_bytes(b"nothing"), Err(TwinError::File(_))));
    for cut in [0, 7, 8, 500, bytes.len() - 1] {
        assert!(Twin::from_bytes(&bytes[..cut]).is_err());
    }
    let mut flipped = bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert!(matches!(Twin::from_bytes(&flipped), Err(TwinError::Hash)));
    let text = bytes.windows(12).position(|w| w == b"filters = 16").expect("the model in the header");
    let mut other = bytes;
    other[text..text + 12].copy_from_slice(b"filters = 24");
    let error = Twin::from_bytes(&other).err().expect("another model").to_string();
    assert!(error.contains("the model wants"), "{error}");
}
