//! Learning on real recordings, small enough for every run. They are read from the folder named by `NESTLING_DATA`.

mod common;

use nestling::evaluate::{self, Features, Labelled, Quality, Targets};
use nestling::learner::{Alone, Learner};
use nestling::net::spec::Spec;
use nestling::runtime::drive::{self, Extent};
use nestling::source::{Label, OpenOptions, Record, open};

/// The folder of recordings; prints that a test is skipped where there is none.
fn data() -> Option<String> {
    let folder = std::env::var("NESTLING_DATA").ok().filter(|folder| !folder.is_empty());
    if folder.is_none() {
        println!("skipped: NESTLING_DATA names no folder of recordings");
    }
    folder
}

fn learn(learner: &mut Learner, uri: &str, epochs: u64) {
    let mut source = open(&[uri.to_string()], &OpenOptions::default()).expect("a sound source");
    let extent = Extent { epochs, samples: None };
    drive::learn(learner, source.as_mut(), extent, &Alone, |_, _| true).expect("samples that fit");
    learner.finish();
}

/// Linear accuracy in percent.
fn linear(learner: &mut Learner, train: &str, test: &str) -> f64 {
    let mut rows = |uri: &str| {
        let mut source = open(&[uri.to_string()], &OpenOptions::default()).expect("a sound source");
        let dim = learner.network().feature_dim;
        let (mut record, mut feature) = (Record::default(), vec![0i8; dim]);
        let (mut values, mut classes, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        while source.read_next(&mut record).expect("a sound source") {
            learner.perceive(&record.sample(), &mut feature).expect("a fitting sample");
            values.extend(feature.iter().map(|&v| f32::from(v)));
            let Some(Label::Class(class)) = record.label else { panic!("a class for each sample") };
            classes.push(class);
            groups.push(record.group);
        }
        Labelled { features: Features { dim, values }, targets: Targets::Classes(classes), groups, time_ordered: false }
    };
    let (train, test) = (rows(train), rows(test));
    let options = evaluate::Options { seed: 0, few_labels: false };
    match evaluate::evaluate(&train, &test, options).expect("scores").quality {
        Quality::Classes(scores) => scores.ridge,
        _ => panic!("classes were given"),
    }
}

fn with_learner<R>(spec: &Spec, samples: u64, f: impl FnOnce(&mut Learner) -> R) -> R {
    common::Run::new(spec, 1, Some(samples)).with(f)
}

#[test]
fn a_class_ordered_stream_with_replay_reaches_nine_tenths_of_the_shuffled_one() {
    let Some(data) = data() else { return };
    let of = |part: &str, more: &str| {
        format!("npy:{data}/signdigits/{part}_x_u8.npy,{data}/signdigits/{part}_y_u8.npy{more}")
    };
    let mut spec = nestling::model::load("l100").expect("a shipped model");
    spec.replay.capacity = 256;
    let score = |order: &str| {
        with_learner(&spec, 3 * 1644, |learner| {
            learn(learner, &of("train", order), 3);
            linear(learner, &of("train", ""), &of("test", ""))
        })
    };
    let (shuffled, by_label) = (score("?order=shuffled"), score("?order=by-label"));
    println!("shuffled {shuffled:.1} %, by label {by_label:.1} %");
    assert!(by_label >= 0.9 * shuffled, "{by_label} {shuffled}");
}

#[test]
fn motion_learned_without_labels_beats_the_untrained_encoder_on_unseen_people() {
    let Some(data) = data() else { return };
    let base = format!(
        "npy:{data}/uci_har/x_f32.npy?segments={data}/uci_har/segments.csv&label=label&labels=class&group=subject"
    );
    let (train, test) =
        (format!("{base}&range_of=groups&range=0..0.714"), format!("{base}&range_of=groups&range=0.714..1"));
    let spec = nestling::model::load("motion").expect("a shipped model");
    let learned = with_learner(&spec, 4610, |learner| {
        learn(learner, &train, 1);
        linear(learner, &train, &test)
    });
    let untrained = with_learner(&spec, 4610, |learner| {
        let mut source = open(std::slice::from_ref(&train), &OpenOptions::default()).expect("a sound source");
        let mut record = Record::default();
        for _ in 0..1024 {
            source.read_next(&mut record).expect("a sound source");
            learner.remember(&record.sample()).expect("a fitting sample");
        }
        learner.publish_as_is();
        linear(learner, &train, &test)
    });
    println!("learned {learned:.1} %, untrained {untrained:.1} %");
    assert!(learned > untrained && learned > 88.0, "{learned} {untrained}");
}
