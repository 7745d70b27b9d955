//! What every pretext task promises, on every kind of input that it takes: the same bits however it is run, no memory
//! beyond the plan, and refusals that say what would do.

mod common;

use common::counting;
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Learner, Options};
use nestling::model;
use nestling::net::error::PlanError;
use nestling::net::spec::Spec;
use nestling::net::task::{PretextSpec, Task};
use nestling::sample::{Micros, Sample, Values};
use nestling::store::state_hash;

#[global_allocator]
static ALLOCATOR: counting::Allocator = counting::Allocator;

const IMAGE: &str = "name = 'image'\n[input]\nheight = 16\nwidth = 16\nchannels = 3\n\
    [[layer]]\nkind = 'dictionary'\nfilters = 12\nkernel = 5\nstride = 2\n[[layer]]\nfilters = 12\nstride = 2\n";
const WINDOW: &str = "name = 'window'\n[input]\nkind = 'window'\nwidth = 32\nchannels = 3\n\
    [[layer]]\nfilters = 8\nkernel = 5\nstride = 2\n[[layer]]\nfilters = 12\nkernel = 5\nstride = 2\n";
const TOKENS: &str = "name = 'tokens'\n[input]\nkind = 'tokens'\nwidth = 32\nvocabulary = 19\n\
    [[layer]]\nkind = 'embedding'\nfilters = 8\n[[layer]]\nfilters = 12\nkernel = 5\nstride = 2\nzero_mean = false\n";
const COMMON: &str = "[dictionary]\nsamples = 40\n[replay]\ncapacity = 24\nfresh = 2\n\
    [guard]\nlesson_steps = 8\ncanaries = 8\n[feature]\ncells = 2\n";

/// One small model a kind of input, without a task.
fn models() -> [Spec; 3] {
    [IMAGE, WINDOW, TOKENS].map(|text| model::parse("a test's model", &format!("{text}{COMMON}")).expect("a model"))
}

/// `task` in steps of eight samples.
fn small(task: Task) -> PretextSpec {
    let mut spec = PretextSpec { batch: Some(8), samples_per_step: Some(4), ..PretextSpec::new(task) };
    if !task.rebuilds() {
        spec.hidden = Some(12);
        spec.outputs = (task != Task::Rotation).then_some(8);
    }
    spec
}

fn with_tasks(spec: &Spec, tasks: &[Task]) -> Spec {
    Spec { pretext: tasks.iter().map(|&task| small(task)).collect(), ..spec.clone() }
}

/// A stream of three regimes that change every 20 samples, in the shape of the model's input.
struct Stream {
    pixels: Vec<u8>,
    readings: Vec<i16>,
}

impl Stream {
    fn new() -> Self {
        Stream { pixels: vec![0; 16 * 16 * 3], readings: vec![0; 32 * 3] }
    }

    fn sample(&mut self, spec: &Spec, n: u64) -> Sample<'_> {
        let regime = n / 20 % 3;
        let (time, segment) = (Micros(n), (n / 100) as u32);
        let values = match &*spec.name {
            "image" => {
                for (i, p) in self.pixels.iter_mut().enumerate() {
                    let (y, x, c) = ((i / 48) as u64, (i / 3 % 16) as u64, (i % 3) as u64);
                    *p = ((x * (regime + 1) * 19 + y * (3 - regime) * 23 + n * 37 + c * 31) % 256) as u8;
                }
                Values::Image { pixels: &self.pixels, height: 16, width: 16, channels: 3 }
            }
            "window" => {
                for (i, v) in self.readings.iter_mut().enumerate() {
                    let (t, c) = ((i / 3) as u64 + n * 29, (i % 3) as u64);
                    let period = 7 + regime * 5 + c;
                    *v = ((2 * (t % period) as i64 - period as i64).abs() * 2000 / period as i64 - 1000) as i16;
                }
                Values::Window { readings: &self.readings, length: 32, channels: 3 }
            }
            _ => {
                // Each regime goes round in a cycle of its own.
                let step = [1, 5, 7][regime as usize];
                for (i, v) in self.readings[..32].iter_mut().enumerate() {
                    *v = ((n * 3 + i as u64) * step % 19) as i16;
                }
                Values::Window { readings: &self.readings[..32], length: 32, channels: 1 }
            }
        };
        Sample { values, time, segment }
    }

    /// Samples `from..to`; the losses of the steps.
    fn feed(&mut self, learner: &mut Learner, from: u64, to: u64) -> Vec<u32> {
        let spec = learner.spec().clone();
        let mut losses = Vec::with_capacity(512);
        for n in from..to {
            learner.observe(&self.sample(&spec, n)).expect("a fitting sample");
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
}

fn run<R>(spec: &Spec, options: &Options, f: impl FnOnce(&mut Learner) -> R) -> R {
    let mut memory = vec![0u8; Learner::plan(spec, options).expect("a plan").block_len()];
    f(&mut Learner::new(spec, options, &mut memory).expect("enough memory"))
}

/// Every task on every input that it can be planned for, and some pairs.
fn all() -> Vec<Spec> {
    let mut specs = Vec::new();
    let pairs =
        [[Task::Contrastive, Task::Rotation], [Task::Denoise, Task::Vicreg], [Task::MaskedToken, Task::Cluster]];
    for (model, pair) in models().iter().zip(pairs) {
        specs.extend(Task::ALL.map(|task| with_tasks(model, &[task])));
        specs.push(with_tasks(model, &pair));
    }
    specs.retain(|spec| Learner::plan(spec, &common::options(1, None)).is_ok());
    specs
}

#[test]
fn every_task_has_its_inputs_and_is_refused_on_others_with_what_would_do() {
    let mut taken: Vec<(Task, [bool; 3])> = Task::ALL.map(|task| (task, [false; 3])).to_vec();
    for (task, inputs) in &mut taken {
        for (model, can) in models().iter().zip(inputs) {
            match Learner::plan(&with_tasks(model, &[*task]), &common::options(1, None)) {
                Ok(_) => *can = true,
                Err(error @ PlanError::TaskInput { fit, .. }) => {
                    assert!(error.to_string().contains(task.name()), "{error}");
                    let would_do = Task::ALL.into_iter().filter(|other| fit.contains(other.name()));
                    let mut named = 0;
                    for other in would_do {
                        named += 1;
                        let plan = Learner::plan(&with_tasks(model, &[other]), &common::options(1, None));
                        assert!(plan.is_ok(), "{} names {}, which does not do either", task.name(), other.name());
                    }
                    assert!(named > 0, "{error}");
                }
                Err(error) => panic!("{} on {}: {error}", task.name(), model.name),
            }
        }
    }
    for (task, inputs) in taken {
        let expected = match task {
            Task::Rotation | Task::Inpaint => [true, false, false],
            Task::Denoise | Task::Variational => [true, true, false],
            Task::MaskedToken => [false, false, true],
            _ => [true; 3],
        };
        assert_eq!(inputs, expected, "{}", task.name());
    }
}

#[test]
fn every_task_gives_the_same_bits_with_any_kernels_and_lanes_and_in_little_memory() {
    for spec in all() {
        let name = format!("{} {:?}", spec.name, spec.pretext.iter().map(|p| p.task.name()).collect::<Vec<_>>());
        let hash = |kernels, lanes, lean| {
            let options = Options { kernels, lean, ..common::options(lanes, Some(160)) };
            run(&spec, &options, |learner| {
                Stream::new().feed(learner, 0, 160);
                assert!(learner.counters().steps >= 20, "{name}");
                state_hash(learner)
            })
        };
        let expected = hash(Kernels::Reference, 1, false);
        for (kernels, lanes, lean) in
            [(Kernels::detect(), 1, false), (Kernels::detect(), 3, false), (Kernels::Lean, 1, true)]
        {
            assert_eq!(hash(kernels, lanes, lean), expected, "{name}: {} {lanes} {lean}", kernels.name());
        }
    }
}

#[test]
fn no_task_allocates_once_its_memory_is_taken() {
    for spec in all() {
        run(&spec, &common::options(1, Some(160)), |learner| {
            let mut stream = Stream::new();
            let (spec, mut steps) = (learner.spec().clone(), 0);
            let before = counting::allocations();
            for n in 0..160 {
                learner.observe(&stream.sample(&spec, n)).expect("a fitting sample");
                while learner.step(&Alone) != Did::Idle {
                    steps += 1;
                }
            }
            assert!(steps >= 20);
            assert_eq!(counting::allocations(), before, "{} {:?}", spec.name, spec.pretext);
        });
    }
}

#[test]
fn masked_codes_are_told_from_their_neighbours() {
    let [.., tokens] = models();
    run(&with_tasks(&tokens, &[Task::MaskedToken]), &common::options(1, Some(1600)), |learner| {
        let losses = Stream::new().feed(learner, 0, 1600);
        let mean = |losses: &[u32]| f64::from(losses.iter().sum::<u32>()) / losses.len() as f64 / 256.0;
        let (first, last) = (mean(&losses[..20]), mean(&losses[losses.len() - 40..]));
        // A code is one of 19; its neighbours tell it, but for those that are masked or changed too.
        assert!(first > 2.5 && last < 1.0, "{first} {last}");
    });
}

#[test]
fn a_predictor_that_collapses_is_undone_and_never_published() {
    let [image, ..] = models();
    let mut spec = with_tasks(&image, &[Task::Predictor]);
    spec.guard.lesson_steps = 32;
    run(&spec, &common::options(1, None), |learner| {
        Stream::new().feed(learner, 0, 2400);
        let c = learner.counters();
        assert!(c.lessons_rolled_back > c.lessons_published, "{c:?}");
        assert!(learner.health().effective_rank >= 320, "{:?}", learner.health());
    });
}
