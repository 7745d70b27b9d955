//! Learners for boards without memory to spare: whatever is not kept is computed again, to the same bits.

mod common;

use std::cell::RefCell;
use std::collections::HashMap;

use common::Gratings;
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Learner, Options, SampleError};
use nestling::link::{Deframer, RawSample, ToDevice, send};
use nestling::net::spec::{GuardSpec, InputKind, LayerSpec, OptimizerSpec, ReplaySpec, Spec};
use nestling::sample::{Micros, Sample, Values};
use nestling::selftest;
use nestling::store::state_hash;

/// The self-test's dictionary, alone and judged by nobody.
fn dictionary() -> Spec {
    let mut spec = Spec { guard: GuardSpec { canaries: 0, ..Default::default() }, ..selftest::spec() };
    spec.pretext.clear();
    spec.layer.truncate(1);
    spec.replay.capacity = 0;
    spec
}

/// Nobody judges, and only some filters of the last layer are trained, without momentum.
fn sparse() -> Spec {
    let mut spec = Spec {
        guard: GuardSpec { canaries: 0, ..Default::default() },
        optimizer: OptimizerSpec { momentum: false, ..Default::default() },
        ..selftest::spec()
    };
    spec.layer[2].trained = Some(4);
    spec
}

/// As [`sparse`], from latents.
fn latents() -> Spec {
    Spec { replay: ReplaySpec { capacity: 12, fresh: 2, latents: true, ..Default::default() }, ..sparse() }
}

fn learner<'m>(spec: &Spec, options: &Options, flash: &'m [i8], memory: &'m mut Vec<u8>) -> Learner<'m> {
    memory.resize(Learner::plan(spec, options).expect("a sound plan").block_len(), 0);
    Learner::with_flash_weights(spec, options, flash, memory).expect("enough memory")
}

#[test]
fn what_is_not_kept_changes_no_bits() {
    let newest_features = RefCell::new(Vec::new());
    for (name, spec) in
        [("judged", selftest::spec()), ("dictionary", dictionary()), ("sparse", sparse()), ("latents", latents())]
    {
        let run = |kernels: Kernels, lean: bool, lanes: usize| {
            let options = Options { kernels, lean, ..common::options(lanes, Some(600)) };
            let mut memory = Vec::new();
            let mut learner = learner(&spec, &options, &[], &mut memory);
            Gratings::new(16).feed(&mut learner, 600, &Alone);
            assert!(learner.counters().version > 0, "{name}");
            let mut newest = Vec::new();
            learner.newest_feature(|part| newest.extend_from_slice(part));
            assert_eq!(newest.iter().any(|&v| v != 0), spec.guard.canaries == 0, "{name}");
            newest_features.borrow_mut().push((name, newest));
            (state_hash(&mut learner), Learner::plan(&spec, &options).expect("a sound plan").ram_bytes)
        };
        let (hash, bytes) = run(Kernels::Reference, false, 1);
        let (lean_hash, lean_bytes) = run(Kernels::Reference, true, 1);
        assert_eq!(lean_hash, hash, "{name}, lean");
        assert!(lean_bytes < bytes, "{name}: {lean_bytes} of {bytes} bytes");
        assert_eq!(run(Kernels::detect(), false, 1).0, hash, "{name}, fast");
        assert_eq!(run(Kernels::detect(), true, 1).0, hash, "{name}, fast and lean");
        assert_eq!(run(Kernels::detect(), true, 3).0, hash, "{name}, lean in lanes");
    }
    // Narrowed from the sums on demand, or kept: the same feature.
    newest_features.borrow().chunk_by(|a, b| a.0 == b.0).for_each(|of_one| {
        assert!(of_one.iter().all(|(_, feature)| *feature == of_one[0].1), "{}", of_one[0].0);
    });
}

/// A learner whose lower weights lie in flash learns what one with all of them in memory does.
#[test]
fn weights_in_flash_change_no_bits() {
    for spec in [sparse(), latents()] {
        let options = Options { lean: true, ..common::options(1, None) };
        let (mut memory, mut other_memory) = (Vec::new(), Vec::new());
        let mut whole = learner(&spec, &options, &[], &mut memory);
        let mut stream = Gratings::new(16);
        // The stem is learned and the shifts below the trained layer have settled.
        stream.feed(&mut whole, 200, &Alone);

        let below = whole.network().trained_range().start;
        let mut state = HashMap::new();
        whole.visit_state(|name, mut numbers| {
            state.insert(name, numbers.bytes().to_vec());
        });
        let weights: Vec<i8> = state["learning.weights"].iter().map(|&byte| byte as i8).collect();
        let in_flash = Options { flash_weights: true, ..options };
        let mut half = learner(&spec, &in_flash, &weights[..below], &mut other_memory);
        half.visit_state(|name, mut numbers| {
            let bytes = numbers.bytes();
            let from = state[name].len() - bytes.len();
            // Of the weights those in memory; nothing of the stem's lesson.
            bytes.copy_from_slice(&state[name][from..]);
        });
        half.restored();

        let mut same = Gratings::new(16);
        same.skip(200);
        stream.feed(&mut whole, 300, &Alone);
        same.feed(&mut half, 300, &Alone);
        assert!(whole.counters().steps > 90);
        let mut compared = 0;
        whole.visit_state(|name, mut numbers| {
            state.insert(name, numbers.bytes().to_vec());
        });
        half.visit_state(|name, mut numbers| {
            let bytes = numbers.bytes();
            let from = state[name].len() - bytes.len();
            assert_eq!(bytes, &state[name][from..], "{name}");
            compared += bytes.len();
        });
        assert!(compared > 1000);
        let feature = |learner: &Learner| {
            let mut all = Vec::new();
            learner.newest_feature(|part| all.extend_from_slice(part));
            assert_eq!(all.len(), learner.newest_exponents().map(|(len, _)| len).sum::<usize>());
            all
        };
        assert_eq!(feature(&whole), feature(&half));
    }
}

#[test]
fn what_stands_below_the_latents_stays_as_it_has_settled() {
    let mut memory = Vec::new();
    let mut learner = learner(&latents(), &common::options(1, None), &[], &mut memory);
    let mut stream = Gratings::new(16);
    let below = |learner: &mut Learner| {
        let network = learner.network();
        let (layers, weights) = (network.base, network.trained_range().start);
        let mut state = Vec::new();
        learner.visit_state(|name, mut numbers| match name {
            // The shifts of the layers come first.
            "learning.shifts" => state.extend_from_slice(&numbers.bytes()[..layers]),
            "learning.weights" => state.extend_from_slice(&numbers.bytes()[..weights]),
            _ => {}
        });
        state
    };
    stream.feed(&mut learner, 200, &Alone);
    let settled = below(&mut learner);
    stream.feed(&mut learner, 400, &Alone);
    assert!(learner.counters().steps > 90);
    assert_eq!(below(&mut learner), settled);
}

/// Puts `sample` together in the learner's inbox, from the bytes of the link, and has it held.
fn arrive(learner: &mut Learner, deframer: &mut Deframer, sample: &Sample) {
    let message = ToDevice::Sample(RawSample::new(learner.counters().observed, sample));
    let mut whole = 0;
    send(&message, |piece| {
        whole += piece.iter().filter(|&&byte| deframer.push(byte, learner.inbox())).count();
        Ok::<(), ()>(())
    })
    .expect("the inbox takes all");
    assert_eq!(whole, 1);
    let inbox = learner.inbox();
    let start = inbox.as_ptr().addr();
    let Some(ToDevice::Sample(raw)) = deframer.to_device(inbox) else { panic!("a sample") };
    assert_eq!(raw.sample(), Some(*sample));
    let at = raw.values.0.as_ptr().addr() - start;
    let values = at..at + raw.values.0.len();
    learner.hold_inbox(values).expect("a fitting sample");
}

#[test]
fn a_sample_that_arrives_in_the_inbox_is_learned_to_the_same_bits() {
    let imu = nestling::model::load("imu").expect("a shipped model");
    let mut judged_imu = imu.clone();
    judged_imu.guard.canaries = 8;
    judged_imu.replay.capacity = 16;
    for (name, spec) in [
        ("judged", selftest::spec()),
        ("dictionary", dictionary()),
        ("sparse", sparse()),
        ("latents", latents()),
        ("imu", imu),
        ("judged imu", judged_imu),
    ] {
        let options = Options { lean: true, ..common::options(1, None) };
        let (mut memory, mut other_memory) = (Vec::new(), Vec::new());
        let mut given = learner(&spec, &options, &[], &mut memory);
        let mut sent = learner(&spec, &options, &[], &mut other_memory);
        let (mut deframer, mut gratings) = (Deframer::default(), Gratings::new(16));
        for n in 0..300u64 {
            let readings: Vec<i16> = (0..128 * 6).map(|i| (i * (i % 6 + n % 9) * 97 % 4001) as i16 - 2000).collect();
            let sample = match spec.input.kind {
                InputKind::Image => gratings.sample(),
                _ => {
                    let values = Values::Window { readings: &readings, length: 128, channels: 6 };
                    Sample { values, time: Micros(n), segment: 0 }
                }
            };
            // What is sent now and then is only perceived, as by a frozen board.
            let frozen = n % 10 == 9;
            arrive(&mut sent, &mut deframer, &sample);
            if !frozen {
                given.observe(&sample).expect("a fitting sample");
                sent.observe_held(sample.time, sample.segment);
            }
            if spec.guard.canaries > 0 {
                let mut features = [(); 2].map(|()| vec![0; given.network().feature_dim]);
                given.perceive(&sample, &mut features[0]).expect("a fitting sample");
                sent.perceive_held(&mut features[1]);
                assert_eq!(features[0], features[1], "{name}, {n}");
            } else {
                if frozen {
                    given.perceive_newest(&sample).expect("a fitting sample");
                    sent.perceive_newest_held();
                }
                let [one, other] = [&given, &sent].map(|learner| {
                    let mut feature = Vec::new();
                    learner.newest_feature(|part| feature.extend_from_slice(part));
                    feature
                });
                assert!(!one.is_empty() && one == other, "{name}, {n}");
            }
            for learner in [&mut given, &mut sent] {
                while !frozen && learner.step(&Alone) != Did::Idle {}
            }
        }
        assert_eq!(state_hash(&mut sent), state_hash(&mut given), "{name}");
        assert_eq!((deframer.dropped(), sent.counters().observed), (0, 270), "{name}");
    }
}

#[test]
fn what_is_no_sample_in_the_inbox_is_refused() {
    let options = Options { lean: true, ..common::options(1, None) };
    let mut memory = Vec::new();
    let mut learner = learner(&sparse(), &options, &[], &mut memory);
    let (stored, inbox) = (learner.stored_len(), learner.inbox().len());
    assert_eq!((stored, inbox), (16 * 16 * 3, 16 * 16 * 3 + nestling::learner::AROUND_SAMPLE));
    for values in [0..0, 0..stored - 1, 1..stored, 0..stored + 1, inbox..inbox + stored, inbox - stored + 1..inbox + 1]
    {
        let refused = Err(SampleError::Inbox { bytes: values.len(), wants: stored });
        assert_eq!(learner.hold_inbox(values.clone()), refused, "{values:?}");
    }
    assert_eq!(learner.hold_inbox(inbox - stored..inbox), Ok(()));
}

#[test]
fn too_few_weights_in_flash_are_refused_with_their_number() {
    let spec = sparse();
    let options = Options { flash_weights: true, ..common::options(1, None) };
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound plan").block_len()];
    let refused = Learner::with_flash_weights(&spec, &options, &[0; 3], &mut memory).err().expect("too few");
    // The stem's luma and colour filters, the depthwise layer, and the six filters of the last layer that stay.
    let needed = 8 * 25 + 4 * 50 + 12 * 9 + 6 * 108;
    assert_eq!(refused.to_string(), format!("the model reads {needed} weights from flash and was given 3"));
}

#[test]
fn latents_are_refused_where_they_cannot_serve() {
    let judged = Spec { guard: GuardSpec::default(), ..latents() };
    let mut alone = latents();
    alone.pretext[0].neighbours = None;
    let mut all = latents();
    let lowest = LayerSpec { trained: None, ..all.layer[2].clone() };
    all.layer = [lowest].into_iter().collect();
    for spec in [judged, alone, all] {
        let refused = Learner::plan(&spec, &common::options(1, None)).expect_err("no place for latents");
        assert!(refused.to_string().contains("latents"), "{refused}");
    }
}
