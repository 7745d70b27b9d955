//! The integer map against the same definition in 64-bit floats.

use super::*;
use crate::fixed::random::Draws;
use crate::sample::Seed;
use std::f64::consts::TAU;

/// Level of every band of one column, in bytes but neither rounded nor clamped.
fn reference(pcm: &[i16], rate: f64, window: usize, bands: usize) -> Vec<f64> {
    let n = window as f64;
    let hann = |t: usize| (1.0 - (TAU * t as f64 / n).cos()) / 2.0;
    let x: Vec<f64> = pcm.iter().enumerate().map(|(t, &v)| f64::from(v) * 32768.0 * hann(t)).collect();
    let power: Vec<f64> = (0..window / 2)
        .map(|k| {
            let part = |f: fn(f64) -> f64| -> f64 {
                x.iter().enumerate().map(|(t, v)| v * f(TAU * (k * t % window) as f64 / n)).sum()
            };
            (part(f64::cos).powi(2) + part(f64::sin).powi(2)) * 4.0 / (n * n)
        })
        .collect();
    let mel = |f: f64| 2595.0 * (1.0 + f / 700.0).log10();
    let hertz = |mel: f64| 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
    let (low, high) = (mel(f64::from(LOWEST)), mel(rate / 2.0));
    let edge = |i: usize| hertz(low + (high - low) * i as f64 / (bands + 1) as f64) * n / rate;
    (0..bands)
        .map(|band| {
            let (a, b, c) = (edge(band), edge(band + 1), edge(band + 2));
            let weight = |k: f64| ((k - a) / (b - a)).min((c - k) / (c - b)).max(0.0);
            let sum: f64 = power.iter().enumerate().map(|(k, p)| p * weight(k as f64)).sum();
            8.0 * (sum.max(1e-9).log2() - f64::from(FLOOR))
        })
        .collect()
}

/// The furthest that any band of a column is from the reference, which is clamped as bytes are.
fn furthest(pcm: &[i16], rate: u32, window: usize, bands: usize) -> f64 {
    let log_mel = LogMel::new(rate, window, window, bands, 1).unwrap();
    let (mut work, mut out) = (vec![0; log_mel.work_len()], vec![0; bands]);
    log_mel.column(pcm, &mut work, &mut out);
    let wanted = reference(pcm, f64::from(rate), window, bands);
    let distance = |(got, wanted): (&u8, &f64)| (f64::from(*got) - wanted.clamp(0.0, 255.0)).abs();
    out.iter().zip(&wanted).map(distance).fold(0.0, f64::max)
}

/// Half a byte is the rounding to bytes; the rest is that of the bands' edges.
const BOUND: f64 = 0.6;

#[test]
fn bytes_are_those_of_the_definition_over_tones_noise_silence_and_full_scale() {
    let draws = Draws::new(Seed(1), 0, 0);
    for (rate, window, bands) in [(8000, 512, 32), (16_000, 512, 40), (48_000, 2048, 64), (1000, 64, 8)] {
        let noise = |most: i32| (0..window).map(move |t| draws.between(t as u32, -most, most) as i16);
        let tone = |turns: f64, most: f64| {
            (0..window).map(move |t| (most * (TAU * turns * t as f64 / window as f64).sin()).round() as i16)
        };
        let mut signals: Vec<Vec<i16>> = vec![
            vec![0; window],
            noise(32767).collect(),
            noise(300).collect(),
            noise(2).collect(),
            (0..window).map(|t| if t / 9 % 2 == 0 { i16::MAX } else { i16::MIN }).collect(),
        ];
        for turns in [3.7, 9.0, window as f64 / 5.3, window as f64 / 2.1] {
            signals.extend([32767.0, 1000.0, 40.0].map(|most| tone(turns, most).collect()));
        }
        for (number, pcm) in signals.iter().enumerate() {
            let distance = furthest(pcm, rate, window, bands);
            assert!(distance <= BOUND, "{rate}, signal {number}: {distance}");
        }
    }
}

#[test]
fn bytes_are_those_of_the_definition_over_speech() {
    let Some(root) = std::env::var_os("NESTLING_DATA") else {
        return println!("skipped: NESTLING_DATA is not set");
    };
    let raw = std::fs::read(std::path::Path::new(&root).join("spoken_digits/audio_8k_s16le.raw")).unwrap();
    let pcm: Vec<i16> = raw.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    let windows = pcm.chunks_exact(512).step_by(101);
    assert!(windows.len() > 100);
    for (number, window) in windows.enumerate() {
        let distance = furthest(window, 8000, 512, 32);
        assert!(distance <= BOUND, "window {number}: {distance}");
    }
}

fn small() -> (LogMel, Vec<i32>) {
    let log_mel = LogMel::new(8000, 64, 32, 8, 5).unwrap();
    (log_mel, vec![0; log_mel.work_len()])
}

#[test]
fn a_short_clip_stands_in_the_middle_of_silence_and_a_long_one_is_cut_to_its_middle() {
    let (log_mel, mut work) = small();
    let draws = Draws::new(Seed(2), 0, 0);
    let pcm: Vec<i16> = (0..400).map(|t| draws.between(t, -9000, 9000) as i16).collect();
    let mut map = |pcm: &[i16]| {
        let mut out = vec![0; 40];
        log_mel.clip(pcm, &mut work, &mut out);
        out
    };
    assert_eq!(log_mel.samples(), 192);
    assert_eq!(map(&pcm), map(&pcm[104..296]));
    let mut padded = vec![0; 192];
    padded[46..146].copy_from_slice(&pcm[..100]);
    assert_eq!(map(&pcm[..100]), map(&padded));
    assert_eq!(map(&[]), vec![0; 40]);
}

#[test]
fn columns_as_the_samples_come_are_those_of_the_clip() {
    let (log_mel, mut work) = small();
    let draws = Draws::new(Seed(4), 0, 0);
    let pcm: Vec<i16> = (0..192).map(|t| draws.between(t, -3000, 3000) as i16).collect();
    let (mut map, mut column) = (vec![0; 40], vec![0; 8]);
    log_mel.clip(&pcm, &mut work, &mut map);
    for c in 0..5 {
        log_mel.column(&pcm[c * 32..], &mut work, &mut column);
        let of_map: Vec<u8> = map.iter().skip(c).step_by(5).copied().collect();
        assert_eq!(column, of_map, "column {c}");
    }
}

#[test]
fn a_map_that_cannot_be_is_refused_with_the_reason() {
    let new = LogMel::new;
    assert_eq!(new(500, 256, 128, 16, 8), Err(AudioError::Rate));
    assert_eq!(new(8000, 400, 128, 16, 8), Err(AudioError::Window));
    assert_eq!(new(8000, 4096, 128, 16, 8), Err(AudioError::Window));
    assert_eq!(new(8000, 256, 0, 16, 8), Err(AudioError::Hop));
    for bands in [31, 60, usize::MAX] {
        assert!(matches!(new(48_000, 64, 32, bands, 8), Err(AudioError::NarrowBand { .. })), "{bands} bands");
    }
}

proptest::proptest! {
    #[test]
    fn any_samples_at_any_shape_give_a_map(
        rate in 0u32..200_000, log_window in 4u32..13, hop in 0usize..600, bands in 0usize..200, columns in 0usize..4,
        pcm in proptest::collection::vec(proptest::num::i16::ANY, 0..3000),
    ) {
        if let Ok(log_mel) = LogMel::new(rate, 1 << log_window, hop, bands, columns) {
            let mut out = vec![0; bands * columns];
            log_mel.clip(&pcm, &mut vec![0; log_mel.work_len()], &mut out);
        }
    }
}
