//! Bad lessons on purpose, over small real learners: what the guard does about each, and what it saves. `cargo test
//! --release --test guard -- --nocapture` prints the table.

mod common;

use common::{Gratings, Run};
use nestling::evaluate::{self, Features, Labelled, Quality, Targets, evaluate};
use nestling::fixed::random::Draws;
use nestling::guard::{FREEZE_AFTER, Fault, Frozen, LEAST_RANK};
use nestling::learner::{Alone, Did, Learner, Numbers, Options};
use nestling::model;
use nestling::net::spec::Spec;
use nestling::net::task::Task;
use nestling::sample::{EncoderVersion, Seed};
use nestling::source::{Data, Label, OpenOptions, Record, open};
use nestling::store::state_hash;

const IMAGE: &str = "name = 'image'\n[input]\nkind = 'image'\nheight = 24\nwidth = 32\nchannels = 1\n\
    [[layer]]\nkind = 'dictionary'\nfilters = 24\nkernel = 5\nstride = 2\n[[layer]]\nfilters = 32\nstride = 2\n\
    [[layer]]\nfilters = 48\nstride = 2\n[feature]\ncells = 4\n\
    [pretext]\ntask = 'contrastive'\nbatch = 16\nneighbours = 10\nhead_cells = 2\nsamples_per_step = 8\n\
    [dictionary]\nsamples = 400\n[replay]\ncapacity = 256\nfresh = 4\n[guard]\nlesson_steps = 16\ncanaries = 32\n\
    [views]\ncrop_area = 205\nvertical = true\nflip = false\ngain = 102\noffset = 16\nnoise = 32\n";
const WINDOW: &str = "name = 'window'\n[input]\nkind = 'window'\nwidth = 64\nchannels = 6\nvectors = 2\n\
    [[layer]]\nfilters = 16\nkernel = 5\nstride = 2\nzero_mean = false\n\
    [[layer]]\nfilters = 24\nkernel = 5\nstride = 2\nzero_mean = false\n\
    [[layer]]\nfilters = 32\nkernel = 5\nstride = 2\nzero_mean = false\n[feature]\ncells = 1\n\
    [pretext]\ntask = 'contrastive'\nbatch = 16\nneighbours = 3\nsamples_per_step = 8\nhidden = 32\noutputs = 16\n\
    [replay]\ncapacity = 256\nfresh = 4\n[guard]\nlesson_steps = 16\ncanaries = 32\n\
    [views]\ncrop_area = 179\nnoise = 40\nmask = 51\n";

/// Sound samples before the bad ones, bad ones, and sound ones after.
const BEFORE: usize = 2400;
const BAD: usize = 2400;
const AFTER: usize = 2400;
const PROBED: usize = 6000;

/// What is done to the world, or to the learner, while lessons are bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Nothing,
    Noise,
    Cover,
    /// A cover whose sensor noise keeps it above what is gated.
    NoisyCover,
    Stuck,
    Strobe,
    /// Each step is a hundred times as large.
    Rate,
    /// Nothing is bad but the task, which has nothing against a collapse.
    Collapse,
}

impl Bad {
    fn spoil(self, record: &mut Record, first: &Record, number: usize) {
        let draws = Draws::new(Seed(3), number as u64, 0);
        let noise = |i: usize, around: i32, by: i32| (around + draws.between(i as u32, -by, by)).clamp(0, 255) as u8;
        match (&mut record.data, self) {
            (_, Bad::Nothing | Bad::Rate | Bad::Collapse) => {}
            (data, Bad::Stuck) => *data = first.data.clone(),
            (Data::Image { pixels, .. }, _) => pixels.iter_mut().enumerate().for_each(|(i, p)| {
                *p = match self {
                    Bad::Noise => noise(i, 128, 127),
                    Bad::NoisyCover => noise(i, 12, 9),
                    Bad::Strobe if number.is_multiple_of(2) => 255,
                    _ => 0,
                }
            }),
            (Data::Window { readings, .. }, _) => readings.iter_mut().enumerate().for_each(|(i, r)| {
                *r = match self {
                    Bad::Noise => draws.between(i as u32, -4000, 4000) as i16,
                    Bad::NoisyCover => draws.between(i as u32, -3, 3) as i16,
                    Bad::Strobe if number.is_multiple_of(2) => i16::MAX,
                    Bad::Strobe => i16::MIN,
                    _ => 0,
                }
            }),
        }
    }
}

fn records(uri: &str, count: usize) -> Vec<Record> {
    let mut source = open(&[uri.to_owned()], &OpenOptions { seed: 1 }).expect("a source");
    let mut records = Vec::new();
    let mut record = Record::default();
    while records.len() < count && source.read_next(&mut record).expect("a sample") {
        records.push(record.clone());
    }
    records
}

/// Linear probe of the last layer, which lessons change most, on held-out laps: in percent of what can be explained
/// (values) or right (classes).
fn probe(learner: &mut Learner, records: &[Record]) -> f64 {
    let mut feature = vec![0; learner.network().feature_dim];
    let dim = learner.network().feature.last().expect("a block").1.len();
    let from = feature.len() - dim;
    let mut part = |records: &[Record]| {
        let mut values = Vec::new();
        for record in records {
            learner.perceive(&record.sample(), &mut feature).expect("a fitting sample");
            values.extend(feature[from..].iter().map(|&v| f32::from(v)));
        }
        let classes: Vec<u32> =
            records.iter().filter_map(|r| if let Some(Label::Class(c)) = r.label { Some(c) } else { None }).collect();
        let numbers =
            records.iter().filter_map(|r| if let Some(Label::Value(v)) = r.label { Some(v) } else { None }).collect();
        let targets = if classes.is_empty() { Targets::Values(numbers) } else { Targets::Classes(classes) };
        let groups = records.iter().map(|r| r.group).collect();
        Labelled { features: Features { dim, values }, targets, groups, time_ordered: true }
    };
    // Whole laps apart: the later ones are never seen by the probe before.
    let split = 2 * records.len() / 3;
    let (train, test) = (part(&records[..split]), part(&records[split..]));
    let options = evaluate::Options { few_labels: false, ..evaluate::Options::default() };
    match evaluate(&train, &test, options).expect("features to judge").quality {
        Quality::Classes(scores) => scores.linear,
        Quality::Values(scores) => 100.0 * scores.r2.max(scores.knn_r2),
        _ => panic!("an unknown quality"),
    }
}

/// What came of one run.
#[derive(Default)]
struct Outcome {
    untrained: f64,
    before: f64,
    bad: f64,
    after: f64,
    published: u64,
    faults: [u32; Fault::ALL.len()],
    gated: u64,
    frozen: Option<Frozen>,
    /// Least effective rank and standing that was published while things were bad.
    rank: u32,
    standing: u32,
    went_on: u64,
}

impl Outcome {
    fn print(&self, name: &str) {
        let faults: Vec<_> = Fault::ALL
            .iter()
            .zip(self.faults)
            .filter(|(_, n)| *n > 0)
            .map(|(fault, n)| format!("{} {n}", fault.name()))
            .collect();
        println!(
            "| {name} | {:.1} | {:.1} | **{:.1}** | {:.1} | {} | {} | {} | {} | {:.2} | {} |",
            self.untrained,
            self.before,
            self.bad,
            self.after,
            self.published,
            if faults.is_empty() { "none".into() } else { faults.join(", ") },
            self.gated,
            self.frozen.map_or("no", Frozen::name),
            f64::from(self.rank) / 256.0,
            self.went_on
        );
    }
}

/// A world that is sound, then bad, then sound; `guarded`: with a judge and what comes with it.
fn live(spec: &Spec, bad: Bad, guarded: bool, samples: &[Record], probed: &[Record]) -> Outcome {
    let mut spec = spec.clone();
    if bad == Bad::Collapse {
        spec.pretext[0].task = Task::Predictor;
    }
    if !guarded {
        spec.guard.canaries = 0;
    }
    let options = Options::new(Seed(7));
    let with_step = |step: u16| {
        let mut spec = spec.clone();
        spec.optimizer.step = step;
        spec
    };
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a plan").block_len()];
    let mut out = Outcome { rank: u32::MAX, standing: u32::MAX, ..Outcome::default() };
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    for record in &samples[..BEFORE / 4] {
        learner.remember(&record.sample()).expect("a fitting sample");
    }
    learner.publish_as_is();
    out.untrained = probe(&mut learner, probed);

    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    let feed = |learner: &mut Learner, records: &[Record], bad: Option<Bad>, out: &mut Outcome| {
        for (number, record) in records.iter().enumerate() {
            let mut record = record.clone();
            if let Some(bad) = bad {
                bad.spoil(&mut record, &records[0], number);
            }
            learner.observe(&record.sample()).expect("a fitting sample");
            loop {
                match learner.step(&Alone) {
                    Did::Idle => break,
                    Did::Published { health, .. } if bad.is_some() => {
                        let meters = learner.meters();
                        let directions = meters.judged.map_or(0, |judged| judged.directions);
                        out.rank = out.rank.min(health.effective_rank.max(directions));
                        out.standing = out.standing.min(meters.standing_rank);
                        out.published += 1;
                    }
                    _ => {}
                }
            }
        }
    };
    feed(&mut learner, &samples[..BEFORE], None, &mut out);
    out.before = probe(&mut learner, probed);
    let faults_before = learner.meters().faults;
    let bad_ones = &samples[BEFORE..BEFORE + BAD];
    let state = |learner: &mut Learner| {
        let mut state = Vec::new();
        learner.visit_state(|_, mut numbers| state.push(numbers.bytes().to_vec()));
        state
    };
    let restore = |learner: &mut Learner, state: &[Vec<u8>]| {
        let mut parts = state.iter();
        learner.visit_state(|_, mut numbers| numbers.bytes().copy_from_slice(parts.next().expect("a part")));
        learner.restored();
    };
    if bad == Bad::Rate {
        // The same learner, with another step size.
        let large = with_step(4096.min(100 * spec.optimizer.step));
        let mut other = vec![0; Learner::plan(&large, &options).expect("a plan").block_len()];
        let mut wild = Learner::new(&large, &options, &mut other).expect("enough memory");
        restore(&mut wild, &state(&mut learner));
        feed(&mut wild, bad_ones, Some(bad), &mut out);
        restore(&mut learner, &state(&mut wild));
    } else {
        feed(&mut learner, bad_ones, Some(bad), &mut out);
    }
    let meters = learner.meters();
    out.bad = probe(&mut learner, probed);
    for (fault, before) in faults_before.iter().enumerate() {
        out.faults[fault] = meters.faults[fault] - before;
    }
    out.gated = meters.flat + meters.stuck;
    out.frozen = learner.frozen();
    learner.thaw();
    let published = learner.counters().lessons_published;
    feed(&mut learner, &samples[BEFORE + BAD..], None, &mut out);
    out.went_on = learner.counters().lessons_published - published;
    out.after = probe(&mut learner, probed);
    if out.published == 0 {
        out.rank = learner.health().effective_rank;
        out.standing = meters.standing_rank;
    }
    out
}

fn try_all(what: &str, model_text: &str, uri: &str) {
    let spec = model::parse("a test's model", model_text).expect("a model");
    let all = records(uri, BEFORE + BAD + AFTER + PROBED);
    let (samples, later) = all.split_at(BEFORE + BAD + AFTER);
    // Neighbours in time tell a probe nothing new.
    let probed: Vec<Record> = later.iter().step_by(4).cloned().collect();
    println!(
        "\n{what}: {uri}\n| bad lessons | untrained | before | after them | sound again | published | undone | gated | \
         frozen | least rank | then published |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let kinds =
        [Bad::Nothing, Bad::Noise, Bad::Cover, Bad::NoisyCover, Bad::Stuck, Bad::Strobe, Bad::Rate, Bad::Collapse];
    for bad in kinds {
        let name = format!("{bad:?}").to_lowercase();
        let outcome = live(&spec, bad, true, samples, &probed);
        outcome.print(&name);
        live(&spec, bad, false, samples, &probed).print(&format!("{name}, no judge"));
        assert!(
            outcome.rank >= LEAST_RANK && outcome.standing >= 1 << 15,
            "{bad:?}: {} {}",
            outcome.rank,
            outcome.standing
        );
        assert!(outcome.went_on > 0 || bad == Bad::Collapse, "{bad:?}: learning goes on");
    }
}

#[test]
fn no_bad_lesson_of_images_spoils_what_is_published() {
    try_all("images", IMAGE, "sim:rover?width=32&height=24&samples=14000&seed=3");
}

#[test]
fn no_bad_lesson_of_windows_spoils_what_is_published() {
    try_all("windows", WINDOW, "sim:rover?sensor=imu&window=64&samples=14000&seed=3");
}

/// A small learner of gratings after some lessons.
fn taught<R>(test: impl FnOnce(&mut Learner, &mut Gratings) -> R) -> R {
    let mut spec = nestling::selftest::spec();
    spec.dictionary.samples = 100;
    Run::new(&spec, 1, None).with(|learner| {
        let mut stream = Gratings::new(16);
        stream.feed(learner, 1000, &Alone);
        // Within a lesson, not at its end.
        while learner.counters().lesson_progress != 5 {
            stream.feed(learner, 1, &Alone);
        }
        test(learner, &mut stream)
    })
}

/// Flips a bit in the middle of a tensor of the state, as memory does: without telling the learner.
fn flip(learner: &mut Learner, tensor: &str) {
    let mut found = false;
    learner.visit_state(|name, mut numbers| {
        if name == tensor {
            let bytes = numbers.bytes();
            bytes[bytes.len() / 2] ^= 0x10;
            found = true;
        }
    });
    assert!(found, "no tensor {tensor}");
}

/// All that the learner does until the next lesson ends.
fn until_the_lesson_ends(learner: &mut Learner, stream: &mut Gratings) -> Vec<Did> {
    let mut all = Vec::new();
    for _ in 0..100 {
        stream.observe(learner);
        loop {
            match learner.step(&Alone) {
                Did::Idle => break,
                did => all.push(did),
            }
        }
        if all.iter().any(|did| !matches!(did, Did::Trained { .. })) {
            return all;
        }
    }
    all
}

#[test]
fn a_flipped_bit_in_what_learns_undoes_the_lesson_and_learning_goes_on() {
    for tensor in ["learning.weights", "learning.thresholds", "masters", "momentum"] {
        taught(|learner, stream| {
            let (version, step_size) = (learner.version(), learner.counters().undone_in_a_row);
            flip(learner, tensor);
            let did = until_the_lesson_ends(learner, stream);
            assert!(matches!(did[0], Did::Undone { fault: Fault::Damaged, .. }), "{tensor}: {did:?}");
            assert_eq!((learner.version(), learner.counters().undone_in_a_row), (version, step_size));
            assert_eq!(learner.meters().faults[Fault::Damaged as usize], 1);
            let next = until_the_lesson_ends(learner, stream);
            assert!(matches!(next.last(), Some(Did::Published { .. })), "{tensor}: {next:?}");
        });
    }
}

#[test]
fn a_flipped_bit_in_published_weights_is_repaired_to_the_same_bits() {
    let published = |learner: &mut Learner| {
        let mut bytes = Vec::new();
        learner.visit_state(|name, numbers| {
            if let ("published.weights", Numbers::I8(weights)) = (name, numbers) {
                bytes = weights.to_vec();
            }
        });
        bytes
    };
    taught(|learner, stream| {
        let sound = published(learner);
        flip(learner, "published.weights");
        assert_ne!(published(learner), sound);
        // Undone, so that the published encoder stays: what learns is damaged as well.
        let next = until_the_lesson_ends(learner, stream);
        assert!(matches!(next.last(), Some(Did::Published { .. })), "{next:?}");
        assert_eq!((learner.meters().repaired, learner.frozen()), (1, None));
    });
}

#[test]
fn damage_beyond_repair_freezes_learning_until_a_state_is_restored() {
    for tensor in ["accepted.masters", "accepted.momentum", "published.shifts"] {
        taught(|learner, stream| {
            let mut sound = Vec::new();
            learner.visit_state(|_, mut numbers| sound.push(numbers.bytes().to_vec()));
            flip(learner, tensor);
            let version = learner.version();
            let did = until_the_lesson_ends(learner, stream);
            assert!(matches!(did.last(), Some(Did::Damaged { .. })), "{tensor}: {did:?}");
            assert_eq!((learner.frozen(), learner.version()), (Some(Frozen::Damaged), version));
            assert!(!learner.thaw() && until_the_lesson_ends(learner, stream).is_empty());
            let mut parts = sound.iter();
            learner.visit_state(|_, mut numbers| numbers.bytes().copy_from_slice(parts.next().expect("a part")));
            learner.restored();
            assert_eq!(learner.frozen(), None);
            let next = until_the_lesson_ends(learner, stream);
            assert!(matches!(next.last(), Some(Did::Published { .. })), "{tensor}: {next:?}");
        });
    }
}

#[test]
fn a_damaged_entry_of_the_replay_buffer_is_dropped_by_the_end_of_the_lesson() {
    taught(|learner, stream| {
        flip(learner, "replay.entries");
        let did = until_the_lesson_ends(learner, stream);
        assert!(matches!(did.last(), Some(Did::Published { .. })), "{did:?}");
        assert_eq!(learner.meters().entries_dropped, 1);
    });
}

#[test]
fn a_frozen_learner_remembers_and_perceives_but_does_not_learn_and_stays_so_through_a_restart() {
    taught(|learner, stream| {
        learner.freeze();
        let weights = |learner: &mut Learner| {
            let mut all = Vec::new();
            learner.visit_state(|name, mut numbers| {
                if ["learning.weights", "published.weights", "masters", "momentum"].contains(&name) {
                    all.extend_from_slice(numbers.bytes());
                }
            });
            all
        };
        let before = (weights(learner), learner.counters().steps, learner.version());
        let observed = learner.counters().observed;
        stream.feed(learner, 200, &Alone);
        assert_eq!(learner.finish(), Did::Idle);
        assert_eq!((weights(learner), learner.counters().steps, learner.version()), before);
        assert_eq!((learner.counters().observed, learner.frozen()), (observed + 200, Some(Frozen::Asked)));

        // The same state in another learner is frozen too, and both thaw to the same bits.
        let mut spec = nestling::selftest::spec();
        spec.dictionary.samples = 100;
        let mut state = Vec::new();
        learner.visit_state(|_, mut numbers| state.push(numbers.bytes().to_vec()));
        let later = || {
            let mut stream = Gratings::new(16);
            stream.skip(1200);
            stream
        };
        Run::new(&spec, 1, None).with(|other| {
            let mut parts = state.iter();
            other.visit_state(|_, mut numbers| numbers.bytes().copy_from_slice(parts.next().expect("a part")));
            other.restored();
            assert_eq!(other.frozen(), Some(Frozen::Asked));
            assert!(learner.thaw() && other.thaw());
            later().feed(learner, 100, &Alone);
            later().feed(other, 100, &Alone);
            assert!(learner.counters().steps > before.1);
            assert_eq!(state_hash(learner), state_hash(other));
        });
    });
}

#[test]
fn an_older_encoder_that_is_published_again_has_a_version_of_its_own() {
    taught(|learner, _| {
        let version = learner.version();
        let after = EncoderVersion(version.0 + 40);
        assert_eq!(learner.republish(after), EncoderVersion(version.0 + 41));
        assert_eq!(learner.republish(version), EncoderVersion(version.0 + 42));
    });
}

#[test]
fn lessons_undone_again_and_again_freeze_learning() {
    // A predictor has nothing against a collapse, and on these frames it collapses in every lesson.
    let mut spec = model::parse("a test's model", IMAGE).expect("a model");
    spec.pretext[0].task = Task::Predictor;
    let frames = records("sim:rover?width=32&height=24&samples=12000&seed=3", 12000);
    Run::new(&spec, 1, None).with(|learner| {
        let feed = |learner: &mut Learner, frames: &[Record]| {
            for frame in frames {
                learner.observe(&frame.sample()).expect("a fitting sample");
                while learner.step(&Alone) != Did::Idle {}
            }
        };
        feed(learner, &frames);
        let c = *learner.counters();
        assert_eq!(
            (learner.frozen(), c.undone_in_a_row),
            (Some(Frozen::Guard), FREEZE_AFTER),
            "{:?}",
            learner.meters()
        );
        feed(learner, &frames[..100]);
        assert_eq!(learner.counters().steps, c.steps);
        assert!(learner.thaw() && learner.counters().undone_in_a_row == 0);
        feed(learner, &frames[..100]);
        assert!(learner.counters().steps > c.steps);
    });
}

#[test]
fn a_covered_or_stuck_lens_leaves_learner_and_replay_as_they_were() {
    taught(|learner, stream| {
        let steps = learner.counters().steps;
        stream.covered = true;
        stream.feed(learner, 1000, &Alone);
        let meters = learner.meters();
        // A handful is let in before it is known for what it is.
        assert!(learner.counters().steps - steps <= 4, "{}", learner.counters().steps - steps);
        assert!(meters.flat + meters.stuck >= 990, "{meters:?}");
        assert!(meters.exposure_contrast < -20 * 256 && meters.distribution > Some(1 << 13), "{meters:?}");
        stream.covered = false;
        stream.feed(learner, 200, &Alone);
        assert!(learner.counters().steps - steps >= 40);
        assert_eq!(learner.meters().flat + learner.meters().stuck, meters.flat + meters.stuck);
    });
}

/// Where there is data: nothing of what real sensors gave is gated, in the models that take it.
#[test]
fn sound_recordings_are_learned_from_to_the_last_sample() {
    let Ok(data) = std::env::var("NESTLING_DATA") else {
        println!("skipped: NESTLING_DATA names no folder with the data sets");
        return;
    };
    let car = |run: &str| format!("mjpeg:{data}/robocar/{run}/frames.jpegs");
    let columns = "temperature_c,humidity_pct,co2_ppm,humidity_ratio";
    let room = |part: &str| format!("csv:{data}/room_sensors/{part}.csv?channels={columns}&window=60&stride=4");
    let uris = [
        ("robot", car("seq1_midday_lowcam")),
        ("robot", car("seq2_dawn_tallcam")),
        ("robot", car("seq3_evening_lowcam")),
        ("robot-colour", format!("mjpeg:{data}/video_fixed_bottles/frames.jpegs")),
        ("robot-colour", format!("mjpeg:{data}/video_fixed_cars/frames.jpegs")),
        ("n5", format!("npy:{data}/cifar10_small/train_x_u8.npy")),
        ("n5", format!("npy:{data}/signdigits/train_x_u8.npy")),
        ("motion", format!("npy:{data}/uci_har/x_f32.npy?segments={data}/uci_har/segments.csv&window=128&stride=64")),
        ("room", room("a")),
        ("room", room("b")),
        ("robot", "sim:rover?width=64&height=48&samples=6000&seed=5".into()),
        ("motion", "sim:rover?sensor=imu&window=128&samples=6000&seed=5".into()),
    ];
    for (name, uri) in uris {
        let mut source = open(std::slice::from_ref(&uri), &OpenOptions { seed: 1 }).expect("a source");
        let (spec, options) = (model::load(name).expect("a shipped model"), Options::new(Seed(1)));
        let mut memory = vec![0; Learner::plan(&spec, &options).expect("a plan").block_len()];
        let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
        learner.freeze();
        let (mut record, mut repeats) = (Record::default(), 0);
        while source.read_next(&mut record).expect("a sample") {
            learner.observe(&record.sample()).expect("a fitting sample");
            repeats = repeats.max(learner.meters().repeats);
        }
        let (c, meters) = (learner.counters(), learner.meters());
        println!("| {name} | {uri} | {} | {} | {} | {repeats} |", c.observed, meters.flat, meters.stuck);
        assert!(c.observed > 300);
        assert_eq!((meters.flat, meters.stuck), (0, 0), "{uri}");
    }
}

/// What the checks of a step cost, beside the step: printed, and held to a bound that a busy machine does not break.
#[test]
fn checking_what_lies_in_memory_costs_a_small_part_of_a_step() {
    use nestling::fixed::checksum::checksum;
    use std::time::Instant;
    let spec = model::load("l100").expect("a shipped model");
    let options = common::options(1, Some(800));
    let plan = Learner::plan(&spec, &options).expect("a plan");
    let of = |name: &str| plan.items.iter().filter(|item| item.name == name).map(|item| item.bytes).sum::<usize>();
    let bytes = of("learning encoder") + of("weights for backward") + of("masters and momentum");
    let checked = vec![1u64; bytes / 8];
    let best = |of: &mut dyn FnMut()| {
        let mut best = f64::MAX;
        for _ in 0..40 {
            let begun = Instant::now();
            of();
            best = best.min(begun.elapsed().as_secs_f64());
        }
        best
    };
    // Once before a step and once after it.
    let mut sum = 0;
    let checks = 2.0 * best(&mut || sum ^= checksum(std::hint::black_box(&checked)));
    let mut memory = vec![0; plan.block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    let mut stream = Gratings::new(32);
    stream.feed(&mut learner, 300, &Alone);
    let step = best(&mut || {
        let steps = learner.counters().steps;
        while learner.counters().steps == steps {
            stream.feed(&mut learner, 1, &Alone);
        }
    });
    println!("l100: {bytes} bytes checked twice in {:.0} us, a step of {:.0} us", 1e6 * checks, 1e6 * step);
    assert!(checks < step / 20.0, "{checks} {step} {sum}");
}
