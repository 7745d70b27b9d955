//! What reads features on the device, over a learner that goes on learning.

mod common;

use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Learner, store_sample, work_len};
use nestling::probe::exemplars::Exemplars;
use nestling::probe::prototypes::Prototypes;
use nestling::probe::{block_len, over};
use nestling::sample::Sample;
use nestling::source::{Label, OpenOptions, Record, open};

const CLASSES: usize = 10;
/// Labelled samples of each class.
const SHOTS: usize = 20;

fn embed(learner: &mut Learner, stored: &[u8], out: &mut [i8]) {
    learner.inbox()[..stored.len()].copy_from_slice(stored);
    learner.hold_inbox(0..stored.len()).expect("a stored sample");
    learner.perceive_held(out);
}

fn records(uri: &str, seed: u64, most: usize) -> Vec<Record> {
    let mut source = open(&[uri.to_owned()], &OpenOptions { seed }).expect("the data are there");
    let mut record = Record::default();
    let mut all = Vec::new();
    while all.len() < most && source.read_next(&mut record).expect("sound data") {
        all.push(record.clone());
    }
    all
}

fn class(record: &Record) -> usize {
    match record.label {
        Some(Label::Class(class)) => class as usize,
        _ => panic!("classes were given"),
    }
}

fn taught(dim: usize, bank: &Exemplars, test: impl FnOnce(&mut Prototypes) -> f64) -> f64 {
    let take = |arena: &mut _| Prototypes::take(Kernels::detect(), dim, 256, CLASSES, arena);
    let mut memory =
        vec![0; block_len(|arena| Prototypes::take(Kernels::detect(), dim, 256, CLASSES, arena)).expect("fits")];
    let mut prototypes = over(&mut memory, take).expect("fits");
    bank.features().for_each(|e| prototypes.learn(e.feature, e.class).expect("a feature"));
    prototypes.relearn();
    test(&mut prototypes)
}

/// Percent of `test` named rightly by (a stale bank, one that was refreshed), taught after the stem's lesson, while the
/// learner went on for the rest of `stream`.
fn stale_and_refreshed(stream: &[Record], test: &[Record], seed: u64) -> (f64, f64) {
    let spec = nestling::model::load("l100").expect("a shipped model");
    let mut options = common::options(1, Some(stream.len() as u64));
    options.seed = nestling::sample::Seed(seed);
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a plan").block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    let (dim, stored_len) = (learner.network().feature_dim, learner.stored_len());
    let take = |arena: &mut _| Exemplars::take(stored_len, dim, CLASSES, CLASSES * SHOTS, arena);
    let mut block =
        vec![0; block_len(|arena| Exemplars::take(stored_len, dim, CLASSES, CLASSES * SHOTS, arena)).expect("fits")];
    let mut bank = over(&mut block, take).expect("fits");
    let mut work = vec![0; work_len(learner.network())];
    let (mut stored, mut feature) = (vec![0; stored_len], vec![0; dim]);
    let first = stream.len() / 2;
    let learn = |learner: &mut Learner, records: &[Record]| {
        for record in records {
            learner.observe(&record.sample()).expect("a sample");
            while learner.step(&Alone) != Did::Idle {}
        }
    };
    learn(&mut learner, &stream[..first]);
    let mut counts = [0; CLASSES];
    for record in &stream[..first] {
        let class = class(record);
        if counts[class] < SHOTS {
            counts[class] += 1;
            let sample: Sample = record.sample();
            store_sample(&spec, learner.network(), &sample, &mut stored, &mut work).expect("a sample");
            learner.perceive(&sample, &mut feature).expect("a sample");
            bank.learn(&stored, &feature, class, learner.version(), |_, _| {}).expect("it fits");
        }
    }
    learn(&mut learner, &stream[first..]);
    assert_eq!(bank.stale(learner.version()), CLASSES * SHOTS);
    let features: Vec<Vec<i8>> = test
        .iter()
        .map(|record| {
            learner.perceive(&record.sample(), &mut feature).expect("a sample");
            feature.clone()
        })
        .collect();
    let right = |prototypes: &mut Prototypes| {
        let named = features.iter().zip(test);
        let right = named.filter(|(f, r)| prototypes.predict(f).expect("a feature") == Some(class(r))).count();
        100.0 * right as f64 / test.len() as f64
    };
    let stale = taught(dim, &bank, right);
    while bank.refresh(learner.version(), 16, |stored, out| embed(&mut learner, stored, out), |_, _, _| {}) > 0 {}
    (stale, taught(dim, &bank, right))
}

#[test]
fn a_bank_that_follows_the_encoder_keeps_what_a_stale_one_loses() {
    let Ok(data) = std::env::var("NESTLING_DATA") else {
        println!("skipped: NESTLING_DATA names no folder of data");
        return;
    };
    let uri = |part: &str| format!("npy:{data}/cifar10_small/{part}_x_u8.npy,{data}/cifar10_small/{part}_y_u8.npy");
    let test = records(&uri("test"), 0, 1000);
    let mut gains = Vec::new();
    for seed in 0..3 {
        let stream = records(&format!("{}?order=shuffled", uri("train")), seed, 9000);
        let (stale, refreshed) = stale_and_refreshed(&stream, &test, seed);
        println!("seed {seed}: stale {stale:.1} %, refreshed {refreshed:.1} %");
        gains.push(refreshed - stale);
    }
    assert!(gains.iter().all(|&gain| gain > 0.0), "{gains:?}");
}

/// The map before pooling, where everything is kept and where as little as can be.
#[test]
fn maps_are_the_same_however_little_memory_there_is() {
    let trained = nestling::selftest::spec();
    let mut judged = trained.clone();
    judged.pretext.clear();
    let mut alone = judged.clone();
    alone.guard.canaries = 0;
    for spec in [trained, judged, alone] {
        let maps = |lean: bool| {
            let mut options = common::options(1, Some(300));
            options.lean = lean;
            let mut memory = vec![0; Learner::plan(&spec, &options).expect("a plan").block_len()];
            let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
            let mut stream = common::Gratings::new(16);
            stream.feed(&mut learner, 300, &Alone);
            let sample = stream.sample();
            let mut maps = Vec::new();
            while let Some(map) = learner.map_of(maps.len()) {
                let mut out = vec![0; map.len()];
                learner.perceive_map(&sample, maps.len(), &mut out).expect("a map");
                maps.push(out);
            }
            assert!(learner.perceive_map(&sample, maps.len(), &mut []).is_err());
            assert!(learner.perceive_map(&sample, 0, &mut [0; 3]).is_err());
            maps
        };
        let kept = maps(false);
        assert!(kept.len() == 3 && kept.iter().all(|map| map.iter().any(|&v| v > 0) && map.iter().all(|&v| v >= 0)));
        assert!(kept == maps(true));
    }
}
