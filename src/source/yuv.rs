//! Pixels that come two by two, as cameras give them: brightness for each, colour for both.

/// Where `y0`, `u`, `y1`, `v` are among four bytes.
pub(super) const YUYV: [usize; 4] = [0, 1, 2, 3];
#[cfg(any(feature = "zenoh", feature = "mcap"))]
pub(super) const UYVY: [usize; 4] = [1, 0, 3, 2];

/// A row in `order` (ITU-R BT.601, 16 to 235, as video is) into red, green, blue. Fractions of 2^16, rounded to nearest.
pub(super) fn row(from: &[u8], order: [usize; 4], to: &mut [u8]) {
    for (pair, out) in from.chunks_exact(4).zip(to.chunks_exact_mut(6)) {
        let [y0, u, y1, v] = order.map(|at| i32::from(pair[at]));
        let (u, v) = (u - 128, v - 128);
        let (red, green, blue) = (104_597 * v, -25_675 * u - 53_279 * v, 132_201 * u);
        for (y, rgb) in [y0, y1].into_iter().zip(out.chunks_exact_mut(3)) {
            let y = 76_309 * (y - 16) + (1 << 15);
            for (value, colour) in rgb.iter_mut().zip([red, green, blue]) {
                *value = ((y + colour) >> 16).clamp(0, 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_standard_says() {
        let nearest = |x: f64| x.round().clamp(0.0, 255.0) as u8;
        for (y, u, v) in [(16, 128, 128), (235, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110), (0, 0, 255)] {
            let (l, cb, cr) =
                ((f64::from(y) - 16.0) / 219.0, (f64::from(u) - 128.0) / 224.0, (f64::from(v) - 128.0) / 224.0);
            let red = l + 2.0 * (1.0 - 0.299) * cr;
            let blue = l + 2.0 * (1.0 - 0.114) * cb;
            let green = (l - 0.299 * red - 0.114 * blue) / 0.587;
            let expected = [red, green, blue].map(|c| nearest(255.0 * c));
            let mut out = [0; 6];
            row(&[y, u, y, v], YUYV, &mut out);
            assert_eq!(out[..3], expected, "{y} {u} {v}");
            assert_eq!(out[3..], expected);
        }
    }
}
