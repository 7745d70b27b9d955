//! Latents: maps of another, frozen network, as mantissas of 8 bits. Its channels may differ much in mean and size: each has a
//! scale that is learned from the stream. Views: crop, mirroring, gain, noise, channels that are left out.

use super::image::tap;
use super::noise;
use super::signal::{ChannelScale, scaled};
use crate::fixed::random::Draws;
use crate::kernels::Map;
use crate::net::spec::ViewSpec;

/// Elements of the draws of one view, kept apart.
mod element {
    pub const SIDE: u32 = 0;
    pub const LEFT: u32 = 1;
    pub const TOP: u32 = 2;
    pub const FLIP: u32 = 3;
    pub const GAIN: u32 = 4;
    pub const CHANNEL: u32 = 1 << 8;
    pub const NOISE: u32 = 1 << 16;
}

/// The byte that stands for the mantissa 0.
pub const ZERO: u8 = 128;

/// Takes note of one map, stored as bytes that are its mantissas and 128.
pub fn follow(scales: &mut [ChannelScale], stored: &[u8]) {
    let channels = scales.len();
    for (c, scale) in scales.iter_mut().enumerate() {
        let values = stored.iter().skip(c).step_by(channels).map(|&v| i64::from(v) << 8);
        scale.see(values, (stored.len() / channels) as i64);
    }
    scales.chunks_exact_mut(1).for_each(ChannelScale::share_factor);
}

/// The encoder's input, `i8`, of stored latents.
pub fn to_input(scales: &[ChannelScale], stored: &[u8], out: &mut [i8]) {
    for (stored, out) in stored.chunks_exact(scales.len()).zip(out.chunks_exact_mut(scales.len())) {
        for ((&v, scale), o) in stored.iter().zip(scales).zip(out) {
            *o = scaled(scale, i64::from(v) << 8).clamp(-127, 127) as i8;
        }
    }
}

/// One view of stored latents `[height, width, channels]`, as the encoder's input `i8`. A crop keeps the map's shape.
pub fn view(spec: &ViewSpec, scales: &[ChannelScale], stored: &[u8], map: Map, draws: Draws, out: &mut [i8]) {
    let (full_width, full_height) = ((map.width as i32) << 8, (map.height as i32) << 8);
    let area = draws.between(element::SIDE, spec.crop_area.clamp(1, 256) as i32, 256);
    let side = crate::fixed::math::isqrt((area as u64) << 8) as i32;
    let (width, height) = ((full_width * side) >> 8, (full_height * side) >> 8);
    let left = draws.between(element::LEFT, 0, full_width - width);
    let top = draws.between(element::TOP, 0, full_height - height);
    let flip = spec.flip && draws.chance(element::FLIP, 128);
    let gain = draws.between(element::GAIN, 256 - spec.gain as i32, 256 + spec.gain as i32);
    let channels = map.channels;
    for oy in 0..map.height {
        let (y0, y1, fy) = tap(oy, map.height, top, height, map.height);
        for ox in 0..map.width {
            let (x0, x1, fx) = tap(ox, map.width, left, width, map.width);
            let at = |y: usize, x: usize| &stored[(y * map.width + x) * channels..][..channels];
            let corners = [at(y0, x0), at(y0, x1), at(y1, x0), at(y1, x1)];
            let place = oy * map.width + if flip { map.width - 1 - ox } else { ox };
            for (c, (o, scale)) in out[place * channels..][..channels].iter_mut().zip(scales).enumerate() {
                let [a, b, d, e] = corners.map(|corner| i32::from(corner[c]));
                let (above, below) = (a * (256 - fx) + b * fx, d * (256 - fx) + e * fx);
                let value = (above * (256 - fy) + below * fy + (1 << 7)) >> 8;
                let mut value = (scaled(scale, i64::from(value)) * gain) >> 8;
                if spec.noise > 0 {
                    value += noise(draws, element::NOISE + (place * channels + c) as u32, spec.noise);
                }
                *o = value.clamp(-127, 127) as i8;
            }
        }
    }
    if spec.mask_bands > 0 {
        for c in (0..channels).filter(|&c| draws.chance(element::CHANNEL + c as u32, spec.mask_bands)) {
            out.iter_mut().skip(c).step_by(channels).for_each(|o| *o = 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Seed;

    const MAP: Map = Map { height: 4, width: 5, channels: 3 };

    fn still() -> ViewSpec {
        ViewSpec { crop_area: 256, flip: false, gain: 0, ..Default::default() }
    }

    fn stored() -> Vec<u8> {
        (0..MAP.len()).map(|i| (i * 41 % 256) as u8).collect()
    }

    /// Scales under which the input is the mantissa.
    fn scales() -> Vec<ChannelScale> {
        let mut scales = vec![ChannelScale::default(); MAP.channels];
        (0..2000).for_each(|_| follow(&mut scales, &[[104; 3], [152; 3]].concat()));
        scales
    }

    fn made(spec: &ViewSpec, step: u64) -> Vec<i8> {
        let mut out = vec![0; MAP.len()];
        view(spec, &scales(), &stored(), MAP, Draws::new(Seed(1), step, 0), &mut out);
        out
    }

    #[test]
    fn a_view_without_any_change_is_what_perception_sees() {
        let mut input = vec![0; MAP.len()];
        to_input(&scales(), &stored(), &mut input);
        assert_eq!(made(&still(), 0), input);
        assert!(input.iter().all(|&v| v > -128));
    }

    #[test]
    fn channels_are_left_out_as_often_as_is_said_and_a_crop_stays_within_the_values() {
        let masked = ViewSpec { mask_bands: 64, ..still() };
        let left_out: usize = (0..400)
            .map(|step| (0..3).filter(|c| made(&masked, step).iter().skip(*c).step_by(3).all(|&v| v == 0)).count())
            .sum();
        assert!((230..370).contains(&left_out), "{left_out} of 1200");
        let cropped = ViewSpec { crop_area: 64, flip: true, ..still() };
        let (mut input, mut differ) = (vec![0; MAP.len()], 0);
        to_input(&scales(), &stored(), &mut input);
        for step in 0..40 {
            let out = made(&cropped, step);
            differ += usize::from(out != input);
            for c in 0..3 {
                let of = |values: &[i8]| values.iter().skip(c).step_by(3).copied().collect::<Vec<_>>();
                let (before, after) = (of(&input), of(&out));
                assert!(after.iter().all(|v| (before.iter().min()..=before.iter().max()).contains(&Some(v))));
            }
        }
        assert!(differ > 30);
    }
}
