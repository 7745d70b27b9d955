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
    for oy in 0..map.height {
        let rows = Span::of(oy, height, map.height);
        for ox in 0..map.width {
            let columns = Span::of(ox, width, map.width);
            let mut sums = [0u64; 3];
            for y in rows.first..=rows.last {
                let row = &frame[(y * width + columns.first) * channels..(y * width + columns.last + 1) * channels];
                let weight = rows.weight(y);
                let across = match channels {
                    1 => [columns.sum::<1>(row)[0], 0, 0],
                    _ => columns.sum::<3>(row),
                };
                sums.iter_mut().zip(across).for_each(|(sum, across)| *sum += weight * across);
            }
            let pixel = &mut out[(oy * map.width + ox) * map.channels..][..map.channels];
            let mean = sums.map(|sum| divide(sum + area / 2, area));
            match (channels, map.channels) {
                (3, 1) => pixel[0] = luma(mean),
                (1, 3) => pixel.fill(mean[0] as u8),
                _ => pixel.iter_mut().zip(mean).for_each(|(p, m)| *p = m as u8),
            }
        }
    }
}

/// A quotient that is known to fit: by the division of 32 bits, which small processors have, wherever that will do.
fn divide(sum: u64, area: u64) -> u32 {
    match (u32::try_from(sum), u32::try_from(area)) {
        (Ok(sum), Ok(area)) => sum / area,
        _ => (sum / area) as u32,
    }
}

/// The pixels of a frame's axis that one output pixel covers; overlaps in units of 1 / (size of the output).
struct Span {
    first: usize,
    last: usize,
    /// Overlap with the first pixel, with the last one where it is another, and with those between.
    weights: (u64, u64, u64),
}

impl Span {
    /// Of output pixel `i` of `outputs`, over `inputs` pixels.
    fn of(i: usize, inputs: usize, outputs: usize) -> Self {
        let (start, end) = (i * inputs, (i + 1) * inputs);
        let (first, last) = (start / outputs, (end - 1) / outputs);
        let first_end = end.min((first + 1) * outputs);
        Span { first, last, weights: ((first_end - start) as u64, (end - last * outputs) as u64, outputs as u64) }
    }

    fn weight(&self, at: usize) -> u64 {
        match at {
            _ if at == self.first => self.weights.0,
            _ if at == self.last => self.weights.1,
            _ => self.weights.2,
        }
    }

    /// Weighted sums of a row's pixels, which begins with the first and ends with the last one.
    fn sum<const CHANNELS: usize>(&self, row: &[u8]) -> [u64; 3] {
        let mut sums = [0; 3];
        let pixels = row.len() / CHANNELS;
        for c in 0..CHANNELS {
            sums[c] = self.weights.0 * u64::from(row[c]);
            if pixels > 1 {
                let inner = row[CHANNELS..(pixels - 1) * CHANNELS].chunks_exact(CHANNELS);
                let inner: u32 = inner.map(|pixel| u32::from(pixel[c])).sum();
                let last = u64::from(row[(pixels - 1) * CHANNELS + c]);
                sums[c] += self.weights.2 * u64::from(inner) + self.weights.1 * last;
            }
        }
        sums
    }
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

/// [`to_input`] where the pixels stand: afterwards the bytes are the input's `i8`.
pub fn to_input_in_place(pixels: &mut [u8], channels: usize) {
    for pixel in pixels.chunks_exact_mut(if channels == 3 { 3 } else { 1 }) {
        let mut input = [0; 3];
        to_input(pixel, channels, &mut input[..pixel.len()]);
        pixel.copy_from_slice(bytemuck::cast_slice(&input[..pixel.len()]));
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

    /// Length that `[a, a + a_len)` and `[b, b + b_len)` share.
    fn overlap(a: usize, a_len: usize, b: usize, b_len: usize) -> u64 {
        ((a + a_len).min(b + b_len).saturating_sub(a.max(b))) as u64
    }

    proptest! {
        #[test]
        fn every_pixel_is_the_mean_over_its_area(h in 1usize..24, w in 1usize..24, oh in 1usize..24, ow in 1usize..24,
                                                 seed: u64) {
            let draws = crate::fixed::random::Draws::new(crate::sample::Seed(seed), 0, 0);
            let frame: Vec<u8> = (0..(h * w * 3) as u32).map(|i| draws.bits(i) as u8).collect();
            let mut out = vec![0; oh * ow * 3];
            resize(&frame, h, w, 3, Map::new(oh, ow, 3), &mut out);
            prop_assume!((h, w) != (oh, ow));
            for (i, &got) in out.iter().enumerate() {
                let (oy, ox, c) = (i / 3 / ow, i / 3 % ow, i % 3);
                let weight = |y, x| overlap(y * oh, oh, oy * h, h) * overlap(x * ow, ow, ox * w, w);
                let pixels = (0..h * w).map(|p| weight(p / w, p % w) * u64::from(frame[p * 3 + c]));
                let area = (h * w) as u64;
                prop_assert_eq!(u64::from(got), (pixels.sum::<u64>() + area / 2) / area);
            }
        }

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
