//! A long life in a short time: scene after scene, by day and by night, with faults, through learner, guard, perceiver and
//! store. Memory and latency stay flat, and what a probe reads from the features does not get worse.
//!
//! `cargo test --test soak -- --ignored --nocapture` lives through 200,000 samples; the ordinary tests through 10,000.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use nestling::evaluate::{self, Features, Labelled, Quality, Targets};
use nestling::learner::{Alone, Did, Learner, Options};
use nestling::net::spec::{GuardSpec, InputSpec, LayerKind, LayerSpec, ReplaySpec, Spec};
use nestling::net::task::{PretextSpec, Task};
use nestling::runtime::perceiver::{Exchange, Perceiver};
use nestling::sample::{Micros, Seed};
use nestling::source::fault::{Counts, FaultSource};
use nestling::source::sim::{RoverSource, WorldConfig};
use nestling::source::uri::Uri;
use nestling::source::{Data, Label, Record, Source};
use nestling::store::{self, Snapshot, Store, StoreOptions};

const HEIGHT: usize = 24;
const WIDTH: usize = 32;
/// Samples of a scene.
const SCENE: u64 = 1000;
const FAULTS: &str = "sim:rover?fault=drop:0.01,repeat:0.01,delay:0.005,reorder:0.005,corrupt:0.01,truncate:0.005,freeze:0.001,cover:\
                      0.001,strobe:0.001";
/// Resident memory may differ by this between two looks at it: what the allocator and the simulator hold changes.
const NOISE_BYTES: u64 = 1 << 20;
/// Resident memory beyond the plan: the program itself, the perceiver's copies, a snapshot, the simulator.
const BESIDE_PLAN: u64 = 24 << 20;

fn spec() -> Spec {
    let layer = |kind, filters, kernel| LayerSpec { kind, filters, kernel, stride: 2, ..Default::default() };
    let dictionary = LayerSpec { colour_filters: 4, ..layer(LayerKind::Dictionary, 16, 5) };
    Spec {
        input: InputSpec { height: HEIGHT, width: WIDTH, channels: 3, ..Default::default() },
        layer: [dictionary, layer(LayerKind::Conv, 24, 3)].into_iter().collect(),
        pretext: core::iter::once(PretextSpec {
            batch: Some(8),
            hidden: Some(24),
            outputs: Some(16),
            neighbours: Some(4),
            samples_per_step: Some(16),
            ..PretextSpec::new(Task::Contrastive)
        })
        .collect(),
        replay: ReplaySpec { capacity: 512, fresh: 4, ..Default::default() },
        guard: GuardSpec { lesson_steps: 40, canaries: 24 },
        ..Default::default()
    }
}

/// Another world for each scene: its track, its look, its light, its camera; by day, at dusk and by night.
fn scene(number: u64) -> (WorldConfig, u16) {
    let config = WorldConfig {
        image_noise: [1.0, 2.0, 0.5][number as usize % 3],
        light_drift: [0.6, 1.0][number as usize % 2],
        frame_height: HEIGHT,
        frame_width: WIDTH,
        ..WorldConfig::with_seed(100 + number)
    };
    (config, [256, 256, 150, 60, 150][number as usize % 5])
}

fn darken(record: &mut Record, light: u16) {
    if let Data::Image { pixels, .. } = &mut record.data {
        pixels.iter_mut().for_each(|p| *p = ((u16::from(*p) * light) >> 8) as u8);
    }
}

/// Labelled frames of five worlds that are never learned from, by day, at dusk and by night: some laps, and later ones.
struct Exam(Vec<[Vec<Record>; 2]>);

impl Exam {
    fn new() -> Self {
        let world = |number: u64| {
            let (config, light) = scene(1000 + number);
            let mut source = RoverSource::camera(&config, None, HEIGHT, WIDTH).expect("a source");
            let mut record = Record::default();
            [1600, 800].map(|frames| {
                let mut kept = Vec::new();
                for n in 0..2 * frames {
                    assert!(source.read_next(&mut record).expect("a frame"));
                    if n % 2 == 0 {
                        darken(&mut record, light);
                        kept.push(record.clone());
                    }
                }
                kept
            })
        };
        Exam((0..5).map(world).collect())
    }

    /// R² of the steering that linear probes read from the published features, in the middle one of the worlds: by night a
    /// probe can be wrong by any amount.
    fn score(&self, learner: &mut Learner) -> f64 {
        let dim = learner.network().feature_dim;
        let mut feature = vec![0i8; dim];
        let mut part = |records: &[Record]| {
            let (mut values, mut targets) = (Vec::new(), Vec::new());
            for record in records {
                learner.perceive(&record.sample(), &mut feature).expect("a fitting sample");
                values.extend(feature.iter().map(|&v| f32::from(v)));
                let Some(Label::Value(steering)) = record.label else { panic!("steering for each frame") };
                targets.push(steering);
            }
            let groups = vec![0; targets.len()];
            Labelled {
                features: Features { dim, values },
                targets: Targets::Values(targets),
                groups,
                time_ordered: true,
            }
        };
        let mut of_worlds = Vec::new();
        for [taught, tested] in &self.0 {
            let options = evaluate::Options { seed: 0, few_labels: false };
            match evaluate::evaluate(&part(taught), &part(tested), options).expect("scores").quality {
                Quality::Values(scores) => of_worlds.push(scores.r2),
                _ => panic!("values were given"),
            }
        }
        println!("R2 of steering in each world: {of_worlds:.3?}");
        of_worlds.sort_by(f64::total_cmp);
        of_worlds[of_worlds.len() / 2]
    }
}

/// Bytes of memory that the process holds.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Median and largest of some times.
fn spread(times: &mut [u32]) -> (f64, f64) {
    times.sort_unstable();
    let at = |i: usize| times.get(i).map_or(0.0, |&t| f64::from(t) / 1000.0);
    (at(times.len() / 2), at(times.len().saturating_sub(1)))
}

/// What a life leaves behind.
struct Life {
    counts: Counts,
    refused: u64,
    scores: Vec<f64>,
    resident: Vec<u64>,
}

/// Lives through `samples`, and looks at memory and latency after each tenth; of the tenths `judged`, at the features too.
fn live(samples: u64, judged: std::ops::Range<usize>) -> Life {
    let spec = spec();
    let options = Options { lanes: 1, ..Options::new(Seed(11)) };
    let plan = Learner::plan(&spec, &options).expect("a sound plan");
    let mut memory = vec![0u8; plan.block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    let (exchange, mut perceiver): (Exchange, Perceiver) = Exchange::new(&learner);
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = Store::open(&folder.path().join("soak.safetensors"), &StoreOptions::default()).expect("a store");
    let mut snapshot = Snapshot::of(&mut learner).expect("a snapshot");
    let faults: Uri = FAULTS.parse().expect("a sound URI");
    let rates = faults.query.fault.expect("faults");

    let mut life = Life { counts: Counts::default(), refused: 0, scores: Vec::new(), resident: Vec::new() };
    let (mut record, mut feature) = (Record::default(), vec![0i8; perceiver.feature_dim()]);
    let tenth = samples / 10;
    let mut perceived: Vec<u32> = Vec::with_capacity(tenth as usize + SCENE as usize);
    let mut stepped: Vec<u32> = Vec::with_capacity(tenth as usize + SCENE as usize);
    let (mut saves, mut number) = (0, 0);
    println!(
        "{:>8} {:>9} {:>15} {:>15} {:>9} {:>6}",
        "samples", "resident", "perceive us", "step us", "published", "undone"
    );
    println!("{:>8} {:>9} {:>15} {:>15}", "", "MB", "median / most", "median / most");
    let mut latency = Vec::new();
    while life.resident.len() < 10 {
        let (config, light) = scene(number);
        let inner = RoverSource::camera(&config, Some(SCENE), HEIGHT, WIDTH).expect("a source");
        let mut source = FaultSource::new(inner, rates, Seed(number));
        while source.read_next(&mut record).expect("no failure was asked for") {
            darken(&mut record, light);
            record.segment += (number as u32) << 8;
            record.time = Micros(record.time.0 + number * SCENE * 50_000);
            perceiver.refresh(&exchange);
            let begun = Instant::now();
            let fits = perceiver.perceive(&record.sample(), &mut feature).is_ok();
            let seen = begun.elapsed();
            let taken = learner.observe(&record.sample());
            assert_eq!(fits, taken.is_ok(), "perceiver and learner agree");
            if !fits {
                life.refused += 1;
                continue;
            }
            perceived.push(nanos(seen));
            loop {
                let begun = Instant::now();
                match learner.step(&Alone) {
                    Did::Idle => break,
                    Did::Trained { .. } => stepped.push(nanos(begun.elapsed())),
                    Did::Published { .. } => exchange.publish(&learner),
                    Did::Undone { .. } => {}
                    Did::Damaged { part } => panic!("memory is damaged: {part:?}"),
                }
            }
        }
        life.counts = life.counts.and(source.counts());
        number += 1;
        if number % 5 == 0 {
            snapshot.take(&mut learner).expect("a snapshot");
            store.save(&mut snapshot).expect("room");
            saves += 1;
        }
        if learner.counters().observed >= tenth * (life.resident.len() as u64 + 1) {
            let (sight, step) = (spread(&mut perceived), spread(&mut stepped));
            // Judged when this life is over, so that what judging takes is not in its memory.
            let checkpoint = folder.path().join(life.resident.len().to_string());
            store::write(&checkpoint, &mut learner).expect("room");
            life.resident.push(resident());
            let c = learner.counters();
            println!(
                "{:>8} {:>9.1} {:>7.0} {:>7.0} {:>7.0} {:>7.0} {:>9} {:>6}",
                c.observed,
                life.resident[life.resident.len() - 1] as f64 / 1e6,
                sight.0,
                sight.1,
                step.0,
                step.1,
                c.lessons_published,
                c.lessons_rolled_back
            );
            latency.push((sight.0, step.0));
            perceived.clear();
            stepped.clear();
        }
    }
    let (second, last) = (latency[1], latency[9]);
    println!(
        "{number} scenes, {saves} saves; last tenth / second tenth: perceive {:.2}, step {:.2}; {:?}, {} refused",
        last.0 / second.0,
        last.1 / second.1,
        life.counts,
        life.refused
    );
    // Nothing is lost but what was dropped.
    assert_eq!(learner.counters().observed + life.refused, life.counts.delivered);
    assert!(life.refused > 0 && learner.counters().lessons_published > 10);
    // A machine with other work to do may be slow; nothing may become slower by a factor.
    assert!(last.0 < 5.0 * second.0 && last.1 < 5.0 * second.1, "{latency:?}");
    let grown = life.resident[9].saturating_sub(life.resident[1]);
    assert!(grown < NOISE_BYTES, "resident memory grew by {grown} bytes");
    assert!(
        life.resident[9] < plan.ram_bytes as u64 + BESIDE_PLAN,
        "{} and a plan of {}",
        life.resident[9],
        plan.ram_bytes
    );
    let saved = store.newest().expect("a store that can be read").expect("a checkpoint");
    saved.restore(&mut learner).expect("a checkpoint that can be restored");
    let exam = Exam::new();
    for tenth in judged {
        let saved = store::read(&folder.path().join(tenth.to_string())).expect("a checkpoint");
        saved.restore(&mut learner).expect("a checkpoint that can be restored");
        life.scores.push(exam.score(&mut learner));
    }
    println!("R2 of steering: {:.3?}", life.scores);
    life
}

fn nanos(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

fn nestling(limit: &str, args: &str) -> std::process::Output {
    let program = env!("CARGO_BIN_EXE_nestling");
    Command::new("sh").args(["-c", &format!("{limit} exec {program} {args}")]).output().expect("a shell")
}

#[test]
fn a_model_too_large_for_the_memory_is_refused_with_the_bytes_it_wants() {
    let args = "learn --source sim:rover?samples=10 --model robot --out /dev/null --set replay.capacity=";
    // Of the process, in kilobytes; and of the machine.
    for (limit, capacity) in [("ulimit -v 600000;", 100_000), ("", 16_000_000)] {
        let output = nestling(limit, &format!("{args}{capacity}"));
        let says = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{says}");
        assert!(says.contains("the learner wants ") && says.contains("--set replay.capacity=N"), "{says}");
    }
}

#[test]
fn a_process_holds_the_planned_memory_and_little_more() {
    /// The program, its threads, a source. A checkpoint that is written is a copy of the state.
    const BESIDE: u64 = 48 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    for (model, capacity) in [("n5", 1000), ("robot", 4000)] {
        let out = folder.path().join(model).display().to_string();
        let source = "'sim:rover?samples=300&width=32&height=32'";
        let args =
            format!("learn --json --source {source} --model {model} --set replay.capacity={capacity} --out {out}");
        let output = nestling("", &args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        let bytes = |key: &str| told[key].as_u64().unwrap_or_else(|| panic!("{key} in {told}"));
        let (planned, held) = (bytes("ram_bytes_planned"), bytes("peak_rss_bytes"));
        println!("{model}: {planned} bytes planned, {held} held at most");
        assert!(held > planned && held < 2 * planned + BESIDE, "{model}: {planned} planned, {held} held");
    }
}

#[test]
fn a_short_life_is_flat() {
    let life = live(10_000, 9..10);
    assert!(life.scores[0] > 0.1, "{:?}", life.scores);
}

#[test]
#[ignore = "a few minutes; ./test.sh soak"]
fn a_long_life_is_flat_and_its_features_do_not_get_worse() {
    let life = live(200_000, 0..10);
    // From one checkpoint to the next it moves by some hundredths.
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    let (middle, end) = (mean(&life.scores[3..6]), mean(&life.scores[7..10]));
    println!("{middle:.3} in the middle, {end:.3} at the end");
    assert!(end > middle - 0.05, "{:?}", life.scores);
}
