//! A shorter form of a long feature, for probes whose memory grows with the square of its length.
//!
//! A count sketch (Charikar, Chen, Farach-Colton 2002; as a projection, Weinberger et al. 2009, arXiv:0902.2206): each
//! number of the feature is added to one number of the sketch, with a sign, both drawn by its place. Products of two
//! features are kept on average, as by a dense projection with random signs, at an addition a number instead of
//! `width`, and nothing of it is stored.

use crate::fixed::random::Draws;
use crate::fixed::{bit_length, round_nearest, saturate_i8};
use crate::sample::Seed;

/// From `dim` numbers to `width`; where these are no fewer, a feature stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sketch {
    dim: usize,
    width: usize,
    shift: u32,
    draws: Draws,
}

/// Random tensor of the places and signs.
const SKETCH: u32 = 0x900;

impl Sketch {
    /// At most `width` numbers of a feature of `dim`.
    pub const fn new(dim: usize, width: usize) -> Self {
        let width = if width < dim { width } else { dim };
        // A sum of n numbers of either sign is about √n times as large as one.
        let shift = match dim.checked_div(width) {
            Some(share) => bit_length(share as u32).saturating_sub(1) / 2,
            None => 0,
        };
        Sketch { dim, width, shift, draws: Draws::new(Seed(0), 0, SKETCH) }
    }

    /// Length of the feature.
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// Length of the sketch.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Numbers that [`Sketch::of`] needs to work in.
    pub const fn sums_len(&self) -> usize {
        if self.width < self.dim { self.width } else { 0 }
    }

    /// The sketch of `feature` into `out`.
    pub fn of(&self, feature: &[i8], sums: &mut [i32], out: &mut [i8]) {
        if self.width == self.dim {
            return out.copy_from_slice(feature);
        }
        sums.fill(0);
        for (element, &v) in feature.iter().enumerate() {
            let bits = self.draws.bits(element as u32);
            let place = ((u64::from(bits) * self.width as u64) >> 32) as usize;
            // The place is decided by the upper bits.
            sums[place] += if bits & 1 == 0 { i32::from(v) } else { -i32::from(v) };
        }
        out.iter_mut().zip(sums).for_each(|(o, &mut sum)| *o = saturate_i8(round_nearest(sum, self.shift)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_features_are_kept_on_average() {
        let sketch = Sketch::new(1024, 128);
        let draws = Draws::new(Seed(3), 0, 0);
        let feature = |n: u32| (0..1024).map(|k| draws.between(n * 2048 + k, -40, 60) as i8).collect::<Vec<_>>();
        let (mut sums, mut out) = (vec![0; sketch.sums_len()], vec![0i8; 128]);
        let mut short = |f: &[i8]| {
            sketch.of(f, &mut sums, &mut out);
            out.clone()
        };
        let product = |a: &[i8], b: &[i8]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let (mut exact, mut sketched) = (0.0, 0.0);
        for n in 0..200 {
            let (a, b) = (feature(2 * n), feature(2 * n + 1));
            exact += product(&a, &b);
            sketched += product(&short(&a), &short(&b)) * 4.0;
        }
        assert!((sketched / exact - 1.0).abs() < 0.2, "{exact} {sketched}");
    }

    #[test]
    fn a_short_feature_stays_as_it_is() {
        let (feature, mut out) = ([5i8, -7, 127], [0i8; 3]);
        Sketch::new(3, 8).of(&feature, &mut [], &mut out);
        assert_eq!(out, feature);
    }
}
