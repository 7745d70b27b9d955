//! Sound from its samples to the features: sounds of our own making, and spoken digits where they are.

mod common;

use common::Run;
use nestling::audio::AudioError;
use nestling::evaluate::{self, Features, Labelled, Targets, evaluate};
use nestling::fixed::random::Draws;
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Learner, Options, SampleError};
use nestling::model;
use nestling::net::error::PlanError;
use nestling::net::spec::Spec;
use nestling::sample::{Micros, Sample, Seed, Values};
use nestling::source::{Label, OpenOptions, Record, open};
use nestling::store::state_hash;

/// The model for speech, smaller.
fn small() -> Spec {
    let mut spec = model::load("speech").expect("a shipped model");
    spec.layer.iter_mut().zip([12, 16, 24]).for_each(|(layer, filters)| layer.filters = filters);
    spec.dictionary.samples = 100;
    spec.pretext[0].batch = Some(16);
    spec.pretext[0].samples_per_step = Some(16);
    spec.replay.capacity = 256;
    spec
}

/// Sound number `n` of four kinds, at any pitch, loudness, pace and place, over noise: it rises, it falls, it warbles, or
/// it is a hiss that comes in bursts.
fn sound(n: u32) -> (u32, Vec<i16>) {
    let draws = Draws::new(Seed(5), u64::from(n), 0);
    let kind = n % 4;
    let length = draws.between(0, 3500, 7000) as usize;
    let (low, loud) = (draws.between(1, 250, 900), f64::from(draws.between(2, 300, 9000)));
    let (hiss, pace) = (draws.between(3, 5, 120), f64::from(draws.between(4, 50, 110)));
    let mut turns = 0.0;
    let pcm = (0..length).map(|t| {
        let at = t as f64 / length as f64;
        let slow = (t as f64 / 8000.0 * pace / 8.0 * std::f64::consts::TAU).sin();
        let pitch = f64::from(low) * [1.0 + 1.5 * at, 2.5 - 1.5 * at, 1.75 + 0.5 * slow, 1.0][kind as usize];
        turns += pitch / 8000.0;
        let white = f64::from(draws.between(64 + t as u32, -1000, 1000)) / 1000.0;
        let voice = if kind == 3 { white * slow.max(0.0) } else { (turns * std::f64::consts::TAU).sin() };
        (loud * voice + f64::from(hiss) * white).round() as i16
    });
    (kind, pcm.collect())
}

fn clip(pcm: &[i16], n: u64) -> Sample<'_> {
    let values = Values::Window { readings: pcm, length: pcm.len(), channels: 1 };
    Sample { values, time: Micros(n), segment: n as u32 }
}

fn listen(learner: &mut Learner, sounds: std::ops::Range<u32>) {
    for n in sounds {
        learner.observe(&clip(&sound(n).1, u64::from(n))).expect("sound");
        while learner.step(&Alone) != Did::Idle {}
    }
}

/// Features of samples, with their classes.
struct Heard(Vec<f32>, Vec<u32>);

impl Heard {
    fn add(&mut self, learner: &mut Learner, sample: &Sample, class: u32) {
        let mut feature = vec![0; learner.network().feature_dim];
        learner.perceive(sample, &mut feature).expect("sound");
        self.0.extend(feature.iter().map(|&v| f32::from(v)));
        self.1.push(class);
    }

    fn labelled(self) -> Labelled {
        let rows = self.1.len();
        let features = Features { dim: self.0.len() / rows, values: self.0 };
        Labelled {
            features,
            targets: Targets::Classes(self.1),
            groups: (0..rows as u32).collect(),
            time_ordered: false,
        }
    }
}

/// Share of right answers, in percent, of a linear probe.
fn score(train: Heard, test: Heard) -> f64 {
    let options = evaluate::Options { few_labels: false, ..Default::default() };
    evaluate(&train.labelled(), &test.labelled(), options).expect("two parts").headline()
}

/// Scores of an encoder that has only found its scales and shifts, and of one that has learned.
fn untrained_and_learned(
    spec: &Spec,
    samples: u64,
    settle: impl FnOnce(&mut Learner),
    learn: impl FnOnce(&mut Learner),
    probe: impl Fn(&mut Learner) -> f64,
) -> (f64, f64) {
    let untrained = Run::new(spec, 1, None).with(|learner| {
        settle(learner);
        learner.publish_as_is();
        probe(learner)
    });
    let learned = Run::new(spec, 1, Some(samples)).with(|learner| {
        learn(learner);
        learner.finish();
        probe(learner)
    });
    println!("untrained {untrained}, learned {learned}");
    (untrained, learned)
}

#[test]
fn sounds_are_told_apart_better_by_what_was_learned() {
    let heard = |learner: &mut Learner, numbers: std::ops::Range<u32>| {
        let mut heard = Heard(Vec::new(), Vec::new());
        numbers.for_each(|n| {
            let (kind, pcm) = sound(n);
            heard.add(learner, &clip(&pcm, 0), kind);
        });
        heard
    };
    let (untrained, learned) = untrained_and_learned(
        &small(),
        3000,
        |learner| (0..100).for_each(|n| learner.remember(&clip(&sound(n).1, 0)).expect("sound")),
        |learner| listen(learner, 0..3000),
        |learner| score(heard(learner, 10_000..10_040), heard(learner, 10_040..10_440)),
    );
    assert!(learned >= untrained + 5.0, "{untrained} {learned}");
}

#[test]
fn the_state_is_the_same_for_every_kernel_and_number_of_lanes() {
    let hash = |lanes, kernels, lean| {
        let options = Options { kernels, lean, ..common::options(lanes, Some(200)) };
        let mut memory = vec![0u8; Learner::plan(&small(), &options).expect("a plan").block_len()];
        let mut learner = Learner::new(&small(), &options, &mut memory).expect("enough memory");
        listen(&mut learner, 0..200);
        assert!(learner.counters().steps > 5);
        state_hash(&mut learner)
    };
    let one = hash(1, Kernels::Reference, false);
    for (lanes, lean) in [(1, false), (3, false), (1, true)] {
        assert_eq!(hash(lanes, Kernels::detect(), lean), one, "{lanes} lanes, lean: {lean}");
    }
}

#[test]
fn a_map_that_was_made_elsewhere_stands_for_its_sound() {
    let spec = small();
    let log_mel = spec.input.log_mel().expect("a sound shape");
    let hash = |as_map: bool| {
        let mut run = Run::new(&spec, 1, None);
        run.with(|learner| {
            for n in 0..40 {
                let pcm = sound(n).1;
                let (mut map, mut work) = (vec![0; 32 * 32], vec![0; log_mel.work_len()]);
                log_mel.clip(&pcm, &mut work, &mut map);
                let made = Values::Image { pixels: &map, height: 32, width: 32, channels: 1 };
                let values = if as_map { made } else { clip(&pcm, 0).values };
                learner.observe(&Sample { values, ..clip(&pcm, 0) }).expect("sound");
            }
            state_hash(learner)
        })
    };
    assert_eq!(hash(true), hash(false));
}

#[test]
fn what_is_no_sound_is_refused_and_changes_nothing() {
    let mut run = Run::new(&small(), 1, None);
    run.with(|learner| {
        listen(learner, 0..5);
        let before = state_hash(learner);
        let (readings, pixels) = ([0i16; 4096], [0u8; 1024]);
        for values in [
            Values::Window { readings: &readings, length: 2048, channels: 2 },
            Values::Window { readings: &[], length: 0, channels: 1 },
            Values::Image { pixels: &pixels, height: 16, width: 64, channels: 1 },
            Values::Image { pixels: &pixels[..9], height: 32, width: 32, channels: 1 },
        ] {
            let refused = learner.observe(&Sample { values, ..clip(&readings, 0) });
            assert_eq!(refused, Err(SampleError::Sound { bands: 32, columns: 32 }), "{values:?}");
        }
        assert_eq!(state_hash(learner), before);
    });
    let refusal = |change: fn(&mut Spec)| {
        let mut spec = small();
        change(&mut spec);
        Learner::plan(&spec, &Options::new(Seed(0))).unwrap_err()
    };
    assert_eq!(refusal(|spec| spec.input.window = 500), PlanError::Audio(AudioError::Window));
    assert_eq!(refusal(|spec| spec.input.channels = 2), PlanError::InputShape);
    assert!(matches!(refusal(|spec| spec.input.window = 64), PlanError::Audio(AudioError::NarrowBand { .. })));
    let key = refusal(|spec| spec.views.equaliser = 257);
    assert_eq!(key, PlanError::OutOfRange { key: "[views] equaliser", least: 0, most: 256 });
}

#[test]
fn digits_of_an_unknown_speaker_are_told_apart_better_by_what_was_learned() {
    let Some(root) = std::env::var_os("NESTLING_DATA") else {
        return println!("skipped: NESTLING_DATA is not set");
    };
    let folder = std::path::Path::new(&root).join("spoken_digits").display().to_string();
    let source = |queries: &str| {
        let about = "rate=8000&label=label&labels=class&group=speaker&range_of=groups";
        let uri = format!("pcm:{folder}/audio_8k_s16le.raw,{folder}/clips.csv?{about}&{queries}");
        open(&[uri], &OpenOptions::default()).expect("the spoken digits")
    };
    let part = |learner: &mut Learner, range: &str| {
        let (mut heard, mut record) = (Heard(Vec::new(), Vec::new()), Record::default());
        let mut source = source(range);
        while source.read_next(&mut record).expect("a clip") {
            let Some(Label::Class(digit)) = record.label else { panic!("no label") };
            heard.add(learner, &record.sample(), digit);
        }
        heard
    };
    let pass = |passes: usize, mut take: Box<dyn FnMut(&Sample) + '_>| {
        let (mut stream, mut record) = (source("range=0.0..0.75&order=shuffled"), Record::default());
        for _ in 0..passes {
            while stream.read_next(&mut record).expect("a clip") {
                take(&record.sample());
            }
            stream.rewind().expect("a file");
        }
    };
    let (untrained, learned) = untrained_and_learned(
        &model::load("speech").expect("a shipped model"),
        6000,
        |learner| pass(1, Box::new(|sample| learner.remember(sample).expect("sound"))),
        |learner| {
            pass(
                4,
                Box::new(|sample| {
                    learner.observe(sample).expect("sound");
                    while learner.step(&Alone) != Did::Idle {}
                }),
            );
        },
        |learner| score(part(learner, "range=0.0..0.75"), part(learner, "range=0.75..1.0")),
    );
    assert!(learned >= untrained + 10.0, "{untrained} {learned}");
}
