//! The dictionary of `pretext::dictionary` without rounding: the same patches, schedule and two rules.
//!
//! Mapping: the whitening matrix is the integer one / 2¹⁰, units are the integer ones / 2¹². With patches in input steps
//! and a whitened deviation of 32 the rules become `W ← W + (W − y·(yᵀW)/32²) / 2^rate` and
//! `D ← D + (q·y − q²·D)/32² / 2^rate`. Folded filters answer in units of that deviation, so the threshold is 1/2.

use crate::fixed::random::Draws;
use crate::kernels::Conv;
use crate::pretext::dictionary::{self, Phase, Schedule};
use crate::sample::Seed;

/// Deviation that every whitened direction is brought to.
const WHITE: f32 = dictionary::WHITE as f32;
/// Threshold of every folded filter: half a deviation.
pub(super) const THRESHOLD: f32 = 0.5;
/// Ranges of the integers that the numbers stand for.
const MOST_WHITENING: f32 = 32767.0 / 1024.0;
const MOST_UNIT: f32 = 32767.0 / 4096.0;
const MOST_WHITE: f32 = 127.0;

/// One convolution's share of the stem while it is learned.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    pub conv: Conv,
    /// Remove the level of light: images only.
    remove: bool,
    /// Running deviation of patch entries.
    pub deviation: f32,
    /// `[d, d]`
    pub whitening: Vec<f32>,
    /// `[filters, d]`
    pub dictionary: Vec<f32>,
}

impl Bank {
    /// Identity whitening and the integer learner's random units.
    pub fn start(conv: Conv, remove: bool, seed: Seed, number: u32) -> Self {
        let d = conv.fan_in();
        let draws = Draws::new(seed, 0, 0x400 + number);
        let entry = |i: usize| draws.between(i as u32, -4095, 4095) as f32;
        let mut dictionary: Vec<f32> = (0..conv.weights()).map(entry).collect();
        for row in dictionary.chunks_exact_mut(d) {
            let norm = dot(row, row).sqrt().max(1.0);
            row.iter_mut().for_each(|w| *w /= norm);
        }
        let mut bank = Bank { conv, remove, deviation: 0.0, whitening: vec![0.0; d * d], dictionary };
        bank.start_whitening(30.0);
        bank
    }

    fn start_whitening(&mut self, deviation: f32) {
        let d = self.conv.fan_in();
        let diagonal = (WHITE / (2.0 * deviation.max(1.0))).min(16.0);
        self.whitening.fill(0.0);
        self.whitening.iter_mut().step_by(d + 1).for_each(|w| *w = diagonal);
    }

    /// Learns from one random patch of `x`; `number` counts patches.
    pub fn observe(&mut self, x: &[i8], number: u64, schedule: Schedule, draws: Draws) {
        let d = self.conv.fan_in();
        let mut cut = vec![0i16; d];
        dictionary::cut_patch(&self.conv, x, draws, &mut cut);
        let mut patch: Vec<f32> = cut.into_iter().map(f32::from).collect();
        self.remove_level(&mut patch);
        // Mean absolute value times 5/4 is the deviation, near enough for patches.
        let magnitude = patch.iter().map(|p| p.abs()).sum::<f32>() * 1.25 / d as f32;
        if number < schedule.patches / 64 {
            self.deviation += (magnitude - self.deviation) / (number + 1).min(64) as f32;
            self.start_whitening(self.deviation);
            return;
        }
        let phase = schedule.phase(number, self.conv.filters);
        if matches!(phase, Phase::Whiten { .. }) {
            // Drawn in whole steps of the input, as it is there.
            let regulariser = ((self.deviation * 0.75) as i32).max(1);
            for (k, p) in patch.iter_mut().enumerate() {
                *p += draws.between(0x100 + k as u32, -regulariser, regulariser) as f32;
            }
        }
        let rows = self.whitening.chunks_exact(d);
        let white: Vec<f32> = rows.map(|row| dot(row, &patch).clamp(-MOST_WHITE, MOST_WHITE)).collect();
        match phase {
            Phase::Whiten { rate } => self.whiten(&white, rate),
            Phase::Fill { unit } => {
                let norm = dot(&white, &white).sqrt();
                if norm > 64.0 {
                    let row = &mut self.dictionary[unit * d..(unit + 1) * d];
                    row.iter_mut().zip(&white).for_each(|(w, y)| *w = y / norm);
                }
            }
            Phase::Cluster { rate } => self.cluster(&white, rate),
        }
    }

    /// Whether the mean over the taps of the first channel (luma, or grey) is removed.
    fn has_level(&self) -> bool {
        self.remove && self.conv.first_channel == 0
    }

    fn remove_level(&self, patch: &mut [f32]) {
        if self.has_level() {
            let channels = self.conv.channels;
            let taps = (patch.len() / channels) as f32;
            let mean = patch.iter().step_by(channels).sum::<f32>() / taps;
            patch.iter_mut().step_by(channels).for_each(|p| *p -= mean);
        }
    }

    fn whiten(&mut self, white: &[f32], rate: u32) {
        let d = white.len();
        let mut sums = vec![0.0; d];
        for (y, row) in white.iter().zip(self.whitening.chunks_exact(d)) {
            sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += y * w);
        }
        let share = 0.5f32.powi(rate as i32);
        for (y, row) in white.iter().zip(self.whitening.chunks_exact_mut(d)) {
            for (w, v) in row.iter_mut().zip(&sums) {
                *w = (*w + (*w - y * v / (WHITE * WHITE)) * share).clamp(-MOST_WHITENING, MOST_WHITENING);
            }
        }
    }

    fn cluster(&mut self, white: &[f32], rate: u32) {
        let d = white.len();
        let (mut winner, mut q) = (0, 0.0f32);
        for (i, row) in self.dictionary.chunks_exact(d).enumerate() {
            let response = dot(row, white);
            if response.abs() > q.abs() {
                (winner, q) = (i, response);
            }
        }
        let share = 0.5f32.powi(rate as i32) / (WHITE * WHITE);
        for (w, y) in self.dictionary[winner * d..(winner + 1) * d].iter_mut().zip(white) {
            *w = (*w + (q * y - q * q * *w) * share).clamp(-MOST_UNIT, MOST_UNIT);
        }
    }

    /// The filters `D·W / 32`, level removed, `[filters, d]`.
    pub fn fold(&self, filters: &mut [f32]) {
        let d = self.conv.fan_in();
        for (filter, units) in filters.chunks_exact_mut(d).zip(self.dictionary.chunks_exact(d)) {
            filter.fill(0.0);
            for (u, row) in units.iter().zip(self.whitening.chunks_exact(d)) {
                filter.iter_mut().zip(row).for_each(|(f, w)| *f += u * w / WHITE);
            }
            self.remove_level(filter);
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
