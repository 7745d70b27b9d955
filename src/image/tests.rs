use super::*;
use crate::kernels::Kernels;
use crate::learner::Alone;
use crate::{selftest, state};
use proptest::prelude::*;

/// An image and the hash of the state in it: the self-test's learner after its lesson's first samples.
fn example() -> (Vec<u8>, state::Hash) {
    let (spec, options) = (selftest::spec(), selftest::options(1, Kernels::Reference));
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    for n in 0..90u64 {
        let pixels: Vec<u8> = (0..16 * 16 * 3).map(|i| (n * 31 + i * (n % 5 + 1)) as u8).collect();
        let values = crate::sample::Values::Image { pixels: &pixels, height: 16, width: 16, channels: 3 };
        let sample = crate::sample::Sample { values, time: crate::sample::Micros(n), segment: 0 };
        learner.observe(&sample).expect("a fitting sample");
        while learner.step(&Alone) != crate::learner::Did::Idle {}
    }
    let hash = state::hash(&mut learner);
    (to_bytes(&spec, Seed(20), Some(160), Some(&mut learner)), hash)
}

/// `bytes` at an address that an image may have.
fn aligned(bytes: &[u8]) -> Vec<u32> {
    let mut words = vec![0u32; bytes.len().div_ceil(4)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

fn with_image<R>(bytes: &[u8], test: impl FnOnce(Result<Image, ImageError>) -> R) -> R {
    let words = aligned(bytes);
    test(Image::parse(&bytemuck::cast_slice(&words)[..bytes.len()]))
}

#[test]
fn an_image_gives_back_model_options_and_state_to_the_bit() {
    let (bytes, hash) = example();
    with_image(&bytes, |image| {
        let image = image.expect("a sound image");
        assert_eq!(*image.spec(), selftest::spec());
        let options = image.options(Options::new(Seed(0)));
        assert_eq!((options.seed, options.expected_samples), (Seed(20), Some(160)));
        let mut memory = vec![0; Learner::plan(image.spec(), &options).expect("a sound model").block_len()];
        let mut learner = Learner::new(image.spec(), &options, &mut memory).expect("enough memory");
        image.restore(&mut learner).expect("the same model");
        assert_eq!(state::hash(&mut learner), hash);
        // Every tensor lies where its numbers can be read in place.
        assert!(image.tensors().all(|t| t.bytes.as_ptr().addr().is_multiple_of(4)));
        let weights = image.tensor("learning.weights").expect("weights");
        assert_eq!(weights.len(), learner.network().weights_len);
        assert_eq!(image.tensor("no such"), None);
    });
}

#[test]
fn an_image_without_state_is_a_learner_that_has_seen_nothing() {
    let bytes = to_bytes(&selftest::spec(), Seed(5), None, None);
    assert!(bytes.len() < 400, "{}", bytes.len());
    with_image(&bytes, |image| {
        let image = image.expect("a sound image");
        assert!(!image.has_state());
        assert_eq!(image.options(selftest::options(1, Kernels::Reference)).expected_samples, None);
    });
}

#[test]
fn a_state_of_another_model_is_refused_and_leaves_the_learner_alone() {
    let (bytes, _) = example();
    let mut spec = selftest::spec();
    spec.replay.capacity += 1;
    let options = selftest::options(1, Kernels::Reference);
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    let before = state::hash(&mut learner);
    let refusal = with_image(&bytes, |image| image.expect("a sound image").restore(&mut learner));
    assert!(matches!(refusal, Err(ImageError::Tensor { name: "replay.entries", .. })), "{refusal:?}");
    assert_eq!(state::hash(&mut learner), before);
}

#[test]
fn a_learner_reads_its_lower_weights_in_the_image_and_takes_the_rest_from_it() {
    let mut spec = selftest::spec();
    (spec.layer[2].trained, spec.guard.canaries) = (Some(4), 0);
    spec.dictionary.samples = 1;
    let whole = selftest::options(1, Kernels::Reference);
    let mut memory = vec![0; Learner::plan(&spec, &whole).expect("a sound model").block_len()];
    let mut learner = Learner::new(&spec, &whole, &mut memory).expect("enough memory");
    let pixels: Vec<u8> = (0..16 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let values = crate::sample::Values::Image { pixels: &pixels, height: 16, width: 16, channels: 3 };
    let sample = crate::sample::Sample { values, time: crate::sample::Micros(0), segment: 0 };
    learner.observe(&sample).expect("a fitting sample");
    let bytes = to_bytes(&spec, Seed(20), Some(160), Some(&mut learner));
    with_image(&bytes, |image| {
        let image = image.expect("a sound image");
        let below = learner.network().trained_range().start;
        let weights = &image.tensor("learning.weights").expect("weights")[..below];
        let options = Options { flash_weights: true, ..whole };
        let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
        let in_flash = bytemuck::cast_slice(weights);
        let mut half = Learner::with_flash_weights(&spec, &options, in_flash, &mut memory).expect("enough memory");
        image.restore(&mut half).expect("the same model");
        let mut features = [vec![0; learner.network().feature_dim], vec![1; learner.network().feature_dim]];
        learner.perceive(&sample, &mut features[0]).expect("a fitting sample");
        half.perceive(&sample, &mut features[1]).expect("a fitting sample");
        assert_eq!(features[0], features[1]);
    });
}

#[test]
fn every_damaged_byte_and_every_cut_is_noticed() {
    let bytes = to_bytes(&selftest::spec(), Seed(5), Some(9), None);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        with_image(&damaged, |image| assert!(image.is_err(), "byte {at}"));
        with_image(&bytes[..at], |image| assert!(image.is_err(), "cut at {at}"));
    }
    let shifted = aligned(&[&[0], &bytes[..]].concat());
    let shifted = &bytemuck::cast_slice(&shifted)[1..=bytes.len()];
    assert_eq!(Image::parse(shifted).err(), Some(ImageError::Misaligned));
}

/// Firmware and host of one format must agree on the layout of a model. Where this fails, the layout has changed: give
/// [`FORMAT`] and [`crate::link::PROTOCOL`] the next number, and this test the new checksum.
#[test]
fn the_layout_of_a_model_is_that_of_the_format() {
    let mut buffer = [0; 512];
    let bytes = encode_spec(&selftest::spec(), &mut buffer).expect("a small model");
    assert_eq!((FORMAT, crate::link::PROTOCOL, CRC.checksum(bytes)), (2, 2, 480_500_907));
    assert_eq!(decode_spec(bytes), Ok(selftest::spec()));
}

proptest! {
    /// Behind a right checksum anything may stand: lengths that lie, models that are none.
    #[test]
    fn no_bytes_make_reading_panic(mut bytes: Vec<u8>, from: proptest::sample::Index, sound: bool, flips: Vec<(proptest::sample::Index, u8)>) {
        if sound {
            let whole = to_bytes(&selftest::spec(), Seed(5), Some(9), None);
            let cut = from.index(whole.len());
            bytes = [&whole[..cut], &bytes[..]].concat();
        }
        for (at, with) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
        }
        if bytes.len() >= PRELUDE {
            bytes[..8].copy_from_slice(MAGIC);
            bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
            let len = bytes.len() as u32;
            bytes[12..16].copy_from_slice(&len.to_le_bytes());
            let checksum = CRC.checksum(&bytes[CHECKED..]);
            bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        }
        with_image(&bytes, |image| {
            if let Ok(image) = image {
                assert!(image.tensors().count() <= bytes.len());
                assert_eq!(image.tensor("").map(<[u8]>::len), image.tensors().find(|t| t.name.is_empty()).map(|t| t.bytes.len()));
            }
        });
    }
}
