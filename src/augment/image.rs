//! Views of an image: a random crop resampled to the input's size, mirroring, gain, contrast, saturation, offset, noise.
//!
//! The strengths are those of SimCLR (Chen et al. 2020, arXiv:2002.05709) by default; the colours are changed where
//! they are already luma and differences, so a grey view costs nothing and saturation is one product.

use super::fit::opponent;
use super::noise;
use crate::fixed::math::isqrt;
use crate::fixed::random::Draws;
use crate::kernels::Map;
use crate::net::spec::ViewSpec;

/// Elements of the draws of one view, kept apart.
mod element {
    pub const AREA: u32 = 0;
    pub const ASPECT: u32 = 1;
    pub const LEFT: u32 = 2;
    pub const TOP: u32 = 3;
    pub const FLIP: u32 = 4;
    pub const JITTER: u32 = 5;
    pub const BRIGHTNESS: u32 = 6;
    pub const CONTRAST: u32 = 7;
    pub const SATURATION: u32 = 8;
    pub const GREY: u32 = 9;
    pub const OFFSET: u32 = 10;
    pub const NOISE: u32 = 1 << 16;
}

/// Where a view looks and how it changes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    /// Left, top, width, height of the crop, in 1/256 pixel.
    left: i32,
    top: i32,
    width: i32,
    height: i32,
    flip: bool,
    /// Factors in 1/256: brightness, contrast about the image's mean, saturation.
    brightness: i32,
    contrast: i32,
    saturation: i32,
    offset: i32,
}

/// How a change of light maps values.
#[derive(Clone, Copy)]
struct Light {
    mean: i32,
    gain: i32,
    level: i32,
    colour: i32,
}

impl Light {
    /// Of an image whose mean is `mean`, 0 to 255.
    fn of(change: &Change, mean: i32) -> Self {
        let gain = (change.brightness * change.contrast) >> 8;
        let level = ((mean * change.brightness) >> 8) - 128 + change.offset;
        Light { mean, gain, level, colour: (gain * change.saturation) >> 8 }
    }

    /// Of luma 0 to 255, to an input still to be clamped.
    #[inline(always)]
    fn luma(&self, luma: i32) -> i32 {
        (((luma - self.mean) * self.gain) >> 8) + self.level
    }

    #[inline(always)]
    fn difference(&self, difference: i32) -> i8 {
        ((difference * self.colour) >> 8).clamp(-127, 127) as i8
    }
}

/// A factor in `1 ± share`, in 1/256.
fn factor(draws: Draws, element: u32, share: u32) -> i32 {
    draws.between(element, 256 - share as i32, 256 + share as i32)
}

/// By how many quarters of a circle a view is turned, clockwise; see [`view`].
pub type Quarters = Option<usize>;

impl Change {
    fn draw(spec: &ViewSpec, map: Map, quarters: Quarters, draws: Draws) -> Self {
        let (full_width, full_height) = ((map.width as i32) << 8, (map.height as i32) << 8);
        let area = draws.between(element::AREA, spec.crop_area.clamp(1, 256) as i32, 256) as u64;
        let (width, height) = if spec.vertical {
            (full_width, ((i64::from(full_height) * area as i64) >> 8) as i32)
        } else {
            let aspect = if spec.crop_aspect { draws.between(element::ASPECT, 192, 341) as u64 } else { 256 };
            let (across, down) = (isqrt(area * aspect), isqrt((area << 16) / aspect));
            let side = |full: i32, share: u32| ((i64::from(full) * i64::from(share)) >> 8).min(i64::from(full)) as i32;
            (side(full_width, across), side(full_height, down))
        };
        let (width, height) = match quarters {
            Some(quarters) => {
                // So much smaller that a crop lying on its side fits too.
                let (least, most) = (map.width.min(map.height) as i64, map.width.max(map.height) as i64);
                let smaller = |side: i32| ((i64::from(side) * least) / most) as i32;
                let (width, height) = (smaller(width), smaller(height));
                if quarters % 2 == 1 { (height, width) } else { (width, height) }
            }
            None => (width, height),
        };
        let jitter = draws.chance(element::JITTER, spec.jitter);
        let draw = |element, share| if jitter { factor(draws, element, share) } else { 256 };
        let offset = if jitter { spec.offset as i32 } else { 0 };
        let grey = draws.chance(element::GREY, spec.grey);
        Change {
            left: draws.between(element::LEFT, 0, full_width - width),
            top: draws.between(element::TOP, 0, full_height - height),
            width,
            height,
            flip: spec.flip && draws.chance(element::FLIP, 128),
            brightness: draw(element::BRIGHTNESS, spec.gain),
            contrast: draw(element::CONTRAST, spec.gain),
            saturation: if grey { 0 } else { draw(element::SATURATION, spec.saturation) },
            offset: draws.between(element::OFFSET, -offset, offset),
        }
    }
}

/// Position of output `i` of `n` in the source, in 1/256 pixel, split into pixel, next pixel and weight of the next.
#[inline]
pub(super) fn tap(i: usize, n: usize, start: i32, len: i32, source: usize) -> (usize, usize, i32) {
    let centre = start + ((2 * i as i32 + 1) * len) / (2 * n as i32) - 128;
    let at = centre.clamp(0, (source as i32 - 1) << 8);
    let pixel = (at >> 8) as usize;
    (pixel, (pixel + 1).min(source - 1), at & 255)
}

/// Columns of a view that are made at a time. A crop is never larger than the image, so as many columns and one more
/// are read for them.
const CHUNK: usize = 64;

/// One view of `pixels` (`[height, width, 1 or 3]`, `u8`), as the encoder's input `i8`.
///
/// Where views are to be told apart by how they are turned, `quarters` says how this one is; an image that is not square
/// is not distorted by that, but only crops are seen that fit either way.
pub fn view(spec: &ViewSpec, pixels: &[u8], map: Map, quarters: Quarters, draws: Draws, out: &mut [i8]) {
    let change = Change::draw(spec, map, quarters, draws);
    let channels = map.channels;
    let quarters = quarters.unwrap_or(0) % 4;
    // The view before it is turned.
    let (height, width) = if quarters % 2 == 1 { (map.width, map.height) } else { (map.height, map.width) };
    let place = |y: usize, x: usize| match quarters {
        0 => y * map.width + x,
        1 => x * map.width + height - 1 - y,
        2 => (height - 1 - y) * map.width + width - 1 - x,
        _ => (width - 1 - x) * map.width + y,
    };
    let sum: u64 = pixels.iter().map(|&p| u64::from(p)).sum();
    let mean = (sum / pixels.len().max(1) as u64) as i32;
    let light = Light::of(&change, mean);
    // Some columns at a time: their sources are blended down first, all alike, and across then.
    let mut blended = [0u16; (CHUNK + 2) * 3];
    let mut taps = [(0, 0, 0); CHUNK];
    for first in (0..width).step_by(CHUNK) {
        let taps = &mut taps[..CHUNK.min(width - first)];
        // Sources rise with the columns.
        let start = tap(first, width, change.left, change.width, map.width).0;
        let mut end = start;
        for (ox, slot) in (first..).zip(taps.iter_mut()) {
            let (x0, x1, fx) = tap(ox, width, change.left, change.width, map.width);
            end = x1 + 1;
            *slot = ((x0 - start) * channels, (x1 - start) * channels, fx as u32);
        }
        let blended = &mut blended[..(end - start) * channels];
        for oy in 0..height {
            let (y0, y1, fy) = tap(oy, height, change.top, change.height, map.height);
            let row = |y: usize| &pixels[(y * map.width + start) * channels..][..(end - start) * channels];
            for ((to, &above), &below) in blended.iter_mut().zip(row(y0)).zip(row(y1)) {
                *to = u16::from(above) * (256 - fy) as u16 + u16::from(below) * fy as u16;
            }
            for (ox, &(x0, x1, fx)) in (first..).zip(taps.iter()) {
                let value = |c: usize| {
                    let (left, right) = (u32::from(blended[x0 + c]), u32::from(blended[x1 + c]));
                    ((left * (256 - fx) + right * fx + (1 << 15)) >> 16) as i32
                };
                let to = place(oy, if change.flip { width - 1 - ox } else { ox });
                let out = &mut out[to * channels..][..channels];
                let luma = if channels == 3 {
                    let [luma, red_green, yellow_blue] = opponent(value(0), value(1), value(2));
                    out[1] = light.difference(red_green);
                    out[2] = light.difference(yellow_blue);
                    luma + 128
                } else {
                    value(0)
                };
                let mut luma = light.luma(luma);
                if spec.noise > 0 {
                    luma += noise(draws, element::NOISE + to as u32, spec.noise);
                }
                out[0] = luma.clamp(-127, 127) as i8;
            }
        }
    }
}

/// Changes the light of `input` (`[height, width, 1 or 3]`, `i8`, as the encoder takes it) where it stands, as [`view`]
/// does but without crop or mirroring; contrast is about the mean of luma.
pub fn relight(spec: &ViewSpec, map: Map, draws: Draws, input: &mut [i8]) {
    let change = Change::draw(spec, map, None, draws);
    let pixels = || input.chunks_exact(map.channels);
    let sum: i64 = pixels().map(|pixel| i64::from(pixel[0]) + 128).sum();
    let mean = (sum / map.positions().max(1) as i64) as i32;
    let light = Light::of(&change, mean);
    for (number, pixel) in input.chunks_exact_mut(map.channels).enumerate() {
        let mut luma = light.luma(i32::from(pixel[0]) + 128);
        if spec.noise > 0 {
            luma += noise(draws, element::NOISE + number as u32, spec.noise);
        }
        pixel[0] = luma.clamp(-127, 127) as i8;
        pixel[1..].iter_mut().for_each(|v| *v = light.difference(i32::from(*v)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::fit::to_input;
    use crate::sample::Seed;

    fn still() -> ViewSpec {
        ViewSpec {
            crop_area: 256,
            crop_aspect: false,
            flip: false,
            gain: 0,
            saturation: 0,
            grey: 0,
            ..Default::default()
        }
    }

    #[test]
    fn a_view_without_any_change_is_what_perception_sees() {
        let map = Map::new(7, 9, 3);
        let draws = Draws::new(Seed(1), 0, 0);
        let pixels: Vec<u8> = (0..map.len() as u32).map(|i| draws.bits(i) as u8).collect();
        let (mut view_out, mut perceived) = (vec![0; map.len()], vec![0; map.len()]);
        to_input(&pixels, 3, &mut perceived);
        view(&still(), &pixels, map, None, Draws::new(Seed(2), 5, 5), &mut view_out);
        let furthest = view_out.iter().zip(&perceived).map(|(a, b)| (a - b).abs()).max();
        assert_eq!(furthest, Some(0));
    }

    #[test]
    fn a_mirrored_view_is_the_mirror_image() {
        let map = Map::new(3, 5, 1);
        let pixels: Vec<u8> = (0..15).map(|i| 50 + i * 10).collect();
        let flipped = ViewSpec { flip: true, ..still() };
        let mirrored = (0..64).any(|step| {
            let mut out = vec![0; 15];
            view(&flipped, &pixels, map, None, Draws::new(Seed(2), step, 5), &mut out);
            out[0] as i32 + 128 == 90 && out[4] as i32 + 128 == 50
        });
        assert!(mirrored);
    }

    #[test]
    fn crops_stay_within_the_image_and_within_their_area() {
        let map = Map::new(48, 64, 3);
        for step in 0..2000 {
            let spec = ViewSpec { vertical: step % 2 == 0, ..Default::default() };
            let c = Change::draw(&spec, map, None, Draws::new(Seed(4), step, 0));
            assert!(c.left >= 0 && c.top >= 0 && c.left + c.width <= 64 << 8 && c.top + c.height <= 48 << 8);
            let share = f64::from(c.width) * f64::from(c.height) / f64::from((64 * 48) << 16);
            assert!((0.2..=1.0).contains(&share), "{c:?}");
        }
    }
    #[test]
    fn a_turned_view_is_the_turned_image_and_four_quarters_are_none() {
        let map = Map::new(4, 4, 1);
        let pixels: Vec<u8> = (0..16).map(|i| 40 + i * 10).collect();
        let turned = |quarters| {
            let mut out = vec![0; 16];
            view(&still(), &pixels, map, Some(quarters), Draws::new(Seed(2), 0, 5), &mut out);
            out
        };
        let once = |image: &[i8]| (0..16).map(|i| image[(3 - i % 4) * 4 + i / 4]).collect::<Vec<i8>>();
        for quarters in 0..4 {
            assert_eq!(turned(quarters + 1), once(&turned(quarters)), "{quarters}");
        }
        // A frame on its side is cut, not squeezed: a step along it is as long in every turn.
        let map = Map::new(48, 64, 1);
        for quarters in 0..4 {
            let c = Change::draw(&still(), map, Some(quarters), Draws::new(Seed(4), 0, 0));
            let (along, across) = if quarters % 2 == 1 { (c.height, c.width) } else { (c.width, c.height) };
            assert_eq!((along, across), (48 << 8, 36 << 8));
        }
    }
}
