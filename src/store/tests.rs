use super::*;
use crate::learner::{Alone, Options};
use crate::net::spec::Spec;
use crate::sample::{Micros, Sample, Seed, Values};
use proptest::prelude::*;
use std::fs;

fn options() -> Options {
    Options { expected_samples: Some(400), ..Options::new(Seed(3)) }
}

fn small() -> Spec {
    let text = "name = 's'\n[input]\nkind = 'image'\nheight = 12\nwidth = 12\nchannels = 1\n\
                [[layer]]\nkind = 'dictionary'\nfilters = 8\nkernel = 3\nstride = 2\n\
                [[layer]]\nfilters = 8\nstride = 2\n[dictionary]\nsamples = 40\n\
                [pretext]\nbatch = 4\nhidden = 8\noutputs = 8\nsamples_per_step = 4\n\
                [replay]\ncapacity = 16\nfresh = 2\n[guard]\nlesson_steps = 10\ncanaries = 8\n";
    crate::model::parse("small", text).expect("a sound model")
}

fn with_learner(samples: u64, test: impl FnOnce(&mut Learner)) {
    let plan = Learner::plan(&small(), &options()).expect("a sound plan");
    let mut memory = vec![0; plan.block_len()];
    let mut learner = Learner::new(&small(), &options(), &mut memory).expect("enough memory");
    observe(&mut learner, 0..samples);
    test(&mut learner);
}

fn observe(learner: &mut Learner, samples: std::ops::Range<u64>) {
    for n in samples {
        let pixels: Vec<u8> = (0..144).map(|i| ((n * 37 + i * (n % 7 + 1)) % 251) as u8).collect();
        let values = Values::Image { pixels: &pixels, height: 12, width: 12, channels: 1 };
        learner.observe(&Sample { values, time: Micros(n), segment: 0 }).expect("a fitting sample");
        while learner.step(&Alone) != crate::learner::Did::Idle {}
    }
}

#[test]
fn resumes_to_the_hash_of_the_uncut_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.safetensors");
    let mut uncut = String::new();
    with_learner(400, |learner| uncut = state_hash(learner));
    for cut in [1, 39, 40, 41, 173, 399] {
        with_learner(cut, |learner| write(&path, learner).expect("a writable folder"));
        let saved = read(&path).expect("a sound checkpoint");
        with_learner(0, |learner| {
            saved.restore(learner).expect("the same model");
            observe(learner, cut..400);
            assert_eq!(state_hash(learner), uncut, "cut after {cut}");
        });
    }
}

#[test]
fn the_generation_before_serves_where_the_newest_is_cut_at_any_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.safetensors");
    let mut first = String::new();
    with_learner(60, |learner| {
        write(&path, learner).expect("a writable folder");
        first = state_hash(learner);
        observe(learner, 60..80);
        write(&path, learner).expect("a writable folder");
    });
    let whole = fs::read(&path).expect("the checkpoint");
    for cut in (0..whole.len()).step_by(whole.len() / 40) {
        fs::write(&path, &whole[..cut]).expect("a writable folder");
        let saved = read(&path).expect("the generation before");
        assert!(saved.set_aside.is_some());
        assert_eq!(saved.metadata["state_hash"], first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_flipped_bit_anywhere_is_noticed(place: proptest::sample::Index, bit in 0u32..8) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.safetensors");
        with_learner(50, |learner| write(&path, learner).expect("a writable folder"));
        let mut bytes = fs::read(&path).expect("the checkpoint");
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).expect("a writable folder");
        let outcome = read(&path).map(|_| ());
        prop_assert!(matches!(outcome, Err(StoreError::Damaged { .. })), "byte {at}, bit {bit}: {outcome:?}");
    }
}
