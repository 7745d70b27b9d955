//! Windows of sensor readings: per-channel scales learned from the stream, and views: turning of vectors, gain, offset,
//! noise, time crop, block mask.
//!
//! The set of views follows Um et al. 2017 (arXiv:1706.00527); positives are usually windows that follow one another.

use bytemuck::{Pod, Zeroable};

use super::noise;
use crate::fixed::random::Draws;
use crate::fixed::round_nearest64;
use crate::kernels::Map;
use crate::net::spec::{InputSpec, ViewSpec};

/// Windows over which the scales settle; afterwards they follow the stream at this rate.
const SETTLE: u32 = 1024;
/// Mean absolute deviation after scaling, in 8-bit steps: ±127 is a little over five deviations.
const DEVIATION: i64 = 24;

/// What is known of one channel. Part of the learner's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ChannelScale {
    /// Running mean, in 1/256 of a reading.
    mean: i32,
    /// Running mean absolute deviation from it, in 1/256 of a reading.
    deviation: i32,
    /// `i8 = (reading − mean) · factor / 2^16`.
    factor: i32,
    windows: u32,
}

impl ChannelScale {
    /// Running mean, in 1/256 of a reading.
    pub fn mean(&self) -> i32 {
        self.mean
    }

    /// `i8 = (reading − mean) · factor / 2^16`.
    pub fn factor(&self) -> i32 {
        self.factor
    }

    /// Takes note of `length` values of one sample, in 1/256. The factor is then still to be set.
    pub(super) fn see(&mut self, values: impl Iterator<Item = i64> + Clone, length: i64) {
        let mean = values.clone().sum::<i64>() / length;
        let rate = i64::from(self.windows.min(SETTLE - 1) + 1);
        self.mean += ((mean - i64::from(self.mean)) / rate) as i32;
        let deviation = values.map(|v| (v - i64::from(self.mean)).abs()).sum::<i64>() / length;
        self.deviation += ((deviation - i64::from(self.deviation)) / rate) as i32;
        self.windows = self.windows.saturating_add(1);
    }

    /// Gives all of `group` the factor of their mean deviation.
    pub(super) fn share_factor(group: &mut [ChannelScale]) {
        let sum: i64 = group.iter().map(|s| i64::from(s.deviation)).sum();
        let deviation = (sum / group.len().max(1) as i64).max(1);
        let factor = ((DEVIATION << 24) / deviation).min(i64::from(i32::MAX)) as i32;
        group.iter_mut().for_each(|s| s.factor = factor);
    }
}

/// Takes note of one window `[length, channels]`; vectors share one scale.
pub fn follow(scales: &mut [ChannelScale], input: &InputSpec, readings: &[i16]) {
    let length = (readings.len() / input.channels).max(1) as i64;
    for (c, scale) in scales.iter_mut().enumerate() {
        scale.see(readings.iter().skip(c).step_by(input.channels).map(|&v| i64::from(v) << 8), length);
    }
    let (vectors, single) = scales.split_at_mut(3 * input.vectors);
    vectors.chunks_exact_mut(3).chain(single.chunks_exact_mut(1)).for_each(ChannelScale::share_factor);
}

/// One reading in 8 bits, before clamping.
#[inline]
pub(super) fn scaled(scale: &ChannelScale, reading_q8: i64) -> i32 {
    let difference = reading_q8 - i64::from(scale.mean);
    round_nearest64(difference * i64::from(scale.factor), 24).clamp(-4096, 4096) as i32
}

/// The encoder's input of a window, without any change.
pub fn to_input(scales: &[ChannelScale], readings: &[i16], out: &mut [i8]) {
    for (row, out) in readings.chunks_exact(scales.len()).zip(out.chunks_exact_mut(scales.len())) {
        for ((&v, scale), o) in row.iter().zip(scales).zip(out) {
            *o = scaled(scale, i64::from(v) << 8).clamp(-127, 127) as i8;
        }
    }
}

/// Sine and cosine of a small angle (under 1 rad) in Q14, both by their series to the fourth order.
fn sin_cos_q14(angle: i32) -> (i32, i32) {
    let square = (angle * angle) >> 14;
    let sine = angle - ((angle * square) >> 14) / 6;
    let cosine = (1 << 14) - square / 2 + ((square * square) >> 14) / 24;
    (sine, cosine)
}

/// A rotation by up to `turn`/256 rad about each axis, Q14, row by row.
fn rotation(draws: Draws, element: u32, turn: u32) -> [[i32; 3]; 3] {
    let mut matrix = [[1 << 14, 0, 0], [0, 1 << 14, 0], [0, 0, 1 << 14]];
    for axis in 0..3usize {
        let most = (turn.min(256) as i32) << 6;
        let (sine, cosine) = sin_cos_q14(draws.between(element + axis as u32, -most, most));
        let (i, j) = ((axis + 1) % 3, (axis + 2) % 3);
        for row in &mut matrix {
            let (a, b) = (row[i], row[j]);
            row[i] = (a * cosine - b * sine) >> 14;
            row[j] = (a * sine + b * cosine) >> 14;
        }
    }
    matrix
}

/// One view of a window `[length, channels]`, as the encoder's input `i8`.
pub fn view(
    spec: &ViewSpec,
    input: &InputSpec,
    scales: &[ChannelScale],
    readings: &[i16],
    map: Map,
    draws: Draws,
    out: &mut [i8],
) {
    let (length, channels) = (map.width, map.channels);
    let whole = (length as i64) << 8;
    let share = draws.between(0, spec.crop_area.clamp(1, 256) as i32, 256);
    let taken = (whole * i64::from(share)) >> 8;
    let start = i64::from(draws.between(1, 0, (whole - taken) as i32));
    let masked = (length as u32 * draws.below(2, spec.mask.min(256) + 1)) >> 8;
    let mask_start = draws.below(3, length as u32 - masked.min(length as u32) + 1);
    let turn = rotation(draws, 8, spec.turn);
    for t in 0..length {
        let row = &mut out[t * channels..][..channels];
        if (mask_start..mask_start + masked).contains(&(t as u32)) {
            row.fill(0);
            continue;
        }
        let at = (start + (2 * t as i64 + 1) * taken / (2 * length as i64) - 128).clamp(0, whole - 256);
        let (first, weight) = ((at >> 8) as usize, at & 255);
        let second = (first + 1).min(length - 1);
        let reading = |c: usize| {
            let (a, b) = (readings[first * channels + c], readings[second * channels + c]);
            i64::from(a) * (256 - weight) + i64::from(b) * weight
        };
        for (c, out) in row.iter_mut().enumerate() {
            let vector = c / 3;
            let turned = if vector < input.vectors && spec.turn > 0 {
                // All vectors of one body turn together.
                (0..3).map(|k| i64::from(turn[c % 3][k]) * reading(3 * vector + k)).sum::<i64>() >> 14
            } else {
                reading(c)
            };
            let gain = draws.between(16 + vector as u32, 256 - spec.gain as i32, 256 + spec.gain as i32);
            let offset = draws.between(0x1000 + c as u32, -(spec.offset as i32), spec.offset as i32);
            let mut value = scaled(&scales[c], turned);
            value = ((value * gain) >> 8) + offset;
            if spec.noise > 0 {
                value += noise(draws, (1 << 16) + (t * channels + c) as u32, spec.noise);
            }
            *out = value.clamp(-127, 127) as i8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Seed;

    #[test]
    fn rotations_keep_lengths() {
        for step in 0..200 {
            let matrix = rotation(Draws::new(Seed(1), step, 0), 8, 77);
            for row in matrix {
                let norm: f64 = row.iter().map(|&v| (f64::from(v) / 16384.0).powi(2)).sum();
                assert!((norm - 1.0).abs() < 0.002, "{norm}");
            }
        }
    }

    #[test]
    fn scales_bring_every_channel_to_the_same_spread() {
        let input = InputSpec { width: 64, channels: 2, ..Default::default() };
        let mut scales = [ChannelScale::default(); 2];
        let draws = Draws::new(Seed(2), 0, 0);
        let window = |n: u32| -> Vec<i16> {
            let value = |i: u32| draws.between(n * 128 + i, -100, 100) as i16;
            (0..128).map(|i| if i % 2 == 0 { value(i) } else { 5000 + 40 * value(i) }).collect()
        };
        (0..500).for_each(|n| follow(&mut scales, &input, &window(n)));
        let mut out = [0i8; 128];
        to_input(&scales, &window(7), &mut out);
        for c in 0..2 {
            let deviation: f64 = out.iter().skip(c).step_by(2).map(|&v| f64::from(v).abs()).sum::<f64>() / 64.0;
            assert!((18.0..30.0).contains(&deviation), "channel {c}: {deviation}");
        }
    }
}
