//! Fits a frame to the encoder's input: box filter to its size, and luma and colour differences in `i8`.

use crate::kernels::Map;

/// Averages a frame `[height, width, channels]` over the boxes of a smaller (or larger) one, `out` being
/// `[map.height, map.width, map.channels]`; colour becomes luma, or grey three equal channels, where the input says so.
///
/// The weights are the exact overlaps of the pixels' areas; rounding is to nearest.
pub fn resize(frame: &[u8], height: usize, width: usize, channels: usize, map: Map, out: &mut [u8]) {
    if (height, width, channels) == (map.height, map.width, map.channels) {
        out.copy_from_slice(&frame[..map.len()]);
        return;
    }
    let area = (height * width) as u64;
    for (index, pixel) in out.chunks_exact_mut(map.channels).enumerate() {
        let (oy, ox) = (index / map.width, index % map.width);
        let mut sums = [0u64; 3];
        // In units of 1/(height · map.height) of the frame's height, likewise across.
        for y in oy * height / map.height..((oy + 1) * height).div_ceil(map.height) {
            let rows = overlap(y * map.height, map.height, oy * height, height);
            for x in ox * width / map.width..((ox + 1) * width).div_ceil(map.width) {
                let weight = rows * overlap(x * map.width, map.width, ox * width, width);
                for (sum, &v) in sums.iter_mut().zip(&frame[(y * width + x) * channels..][..channels]) {
                    *sum += weight * u64::from(v);
                }
            }
        }
        let mean = sums.map(|sum| ((sum + area / 2) / area) as u32);
        match (channels, map.channels) {
            (3, 1) => pixel[0] = luma(mean),
            (1, 3) => pixel.fill(mean[0] as u8),
            _ => pixel.iter_mut().zip(mean).for_each(|(p, m)| *p = m as u8),
        }
    }
}

/// Length that `[a, a + a_len)` and `[b, b + b_len)` share.
fn overlap(a: usize, a_len: usize, b: usize, b_len: usize) -> u64 {
    ((a + a_len).min(b + b_len).saturating_sub(a.max(b))) as u64
}

/// Luma by the weights of BT.601.
fn luma([r, g, b]: [u32; 3]) -> u8 {
    ((77 * r + 150 * g + 29 * b + 128) >> 8) as u8
}

/// A pixel as the encoder sees it: luma `(R + 2G + B)/4 − 128`, and the differences `(R − G)/2` and `(R + G − 2B)/4`.
#[inline]
pub fn opponent(r: i32, g: i32, b: i32) -> [i32; 3] {
    [((r + 2 * g + b + 2) >> 2) - 128, (r - g) >> 1, (r + g - 2 * b) >> 2]
}

/// The encoder's input, `i8`, of a fitted frame `[height, width, 1 or 3]`, `u8`.
pub fn to_input(pixels: &[u8], channels: usize, out: &mut [i8]) {
    if channels == 3 {
        for (p, o) in pixels.chunks_exact(3).zip(out.chunks_exact_mut(3)) {
            let values = opponent(i32::from(p[0]), i32::from(p[1]), i32::from(p[2]));
            o.iter_mut().zip(values).for_each(|(o, v)| *o = v.max(-127) as i8);
        }
    } else {
        for (&p, o) in pixels.iter().zip(out) {
            *o = (i32::from(p) - 128).max(-127) as i8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_whole_number_of_pixels_is_their_mean() {
        let frame: Vec<u8> = (0..48).collect();
        let mut out = [0; 4];
        resize(&frame, 6, 8, 1, Map::new(2, 2, 1), &mut out);
        let mean = |y0: u32, x0: u32| {
            let sum: u32 = (0..12).map(|i| (y0 + i / 4) * 8 + x0 + i % 4).sum();
            ((sum + 6) / 12) as u8
        };
        assert_eq!(out, [mean(0, 0), mean(0, 4), mean(3, 0), mean(3, 4)]);
    }

    proptest! {
        #[test]
        fn a_constant_frame_stays_constant(h in 1usize..20, w in 1usize..20, oh in 1usize..20, ow in 1usize..20, v: u8) {
            let mut out = vec![0; oh * ow];
            resize(&vec![v; h * w], h, w, 1, Map::new(oh, ow, 1), &mut out);
            prop_assert!(out.iter().all(|&o| o == v));
        }

        #[test]
        fn every_colour_fits_eight_bits(r: u8, g: u8, b: u8) {
            let values = opponent(i32::from(r), i32::from(g), i32::from(b));
            prop_assert!(values.iter().all(|v| (-128..=127).contains(v)), "{values:?}");
        }
    }
}
