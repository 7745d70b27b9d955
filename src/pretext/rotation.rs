//! Rotation prediction: the encoder sees an image turned by 0, 1, 2 or 3 quarters and says by which (Gidaris et al. 2018,
//! arXiv:1803.07728). One view at a time, no negatives, no batch. The embedding is four logits.
//!
//! Logits of a net without a scale have no temperature: see [`scaled_cross_entropy`] for the one that they get.
//!
//! How it fails: what does not depend on the turn is not learned, and what gives it away cheaply is (a horizon, the dark
//! corners of a lens, borders of a crop): the loss falls to 0 early and the rank stays at 3 or 4. A camera that looks straight
//! down sees nothing upright. Sensor windows have no quarters to be turned by.

use super::softmax::{Buffers, scaled_cross_entropy};
use crate::kernels::Map;

/// Numbers of an embedding: one logit for each turn.
pub const TURNS: usize = 4;

/// Loss, mean in 1/256 nat, and its gradient in the place of the logits `z`, `[rows, 4]` within ±2³⁰, up to a positive
/// factor common to all rows. `turns`: for each row by how many quarters it was turned; over 3: it has no label.
///
/// `buffers` are for [`TURNS`] classes.
#[inline(always)]
pub fn rotation(z: &mut [i32], turns: &[u8], buffers: &mut Buffers) -> u32 {
    scaled_cross_entropy(z, |row| turns.get(row).map_or(TURNS, |&t| usize::from(t)), buffers)
}

/// Turns a square image by `quarters`, counter-clockwise, in its place.
///
/// # Panics
/// Where `image` is shorter than `map`, which must be as high as it is wide.
pub fn turn(image: &mut [i8], map: Map, quarters: u8) {
    let side = map.width;
    assert!(map.height == side && image.len() >= map.len());
    let at = |y: usize, x: usize, c: usize| (y * side + x) * map.channels + c;
    for _ in 0..quarters % 4 {
        // Rings of four places that change in a circle.
        for y in 0..side / 2 {
            for x in 0..side.div_ceil(2) {
                for c in 0..map.channels {
                    let [a, b, d, e] = [
                        at(y, x, c),
                        at(x, side - 1 - y, c),
                        at(side - 1 - y, side - 1 - x, c),
                        at(side - 1 - x, y, c),
                    ];
                    let first = image[a];
                    image[a] = image[b];
                    image[b] = image[d];
                    image[d] = image[e];
                    image[e] = first;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use crate::net::arena::Arena;

    fn run(z: &mut [i32], turns: &[u8]) -> u32 {
        let mut memory = vec![0; 1 << 14];
        rotation(z, turns, &mut Buffers::take(z.len() / TURNS, TURNS, &mut Arena::over(&mut memory)))
    }

    /// Logits centred row by row and divided by their root mean square, times that of rows with a margin of 4 nats.
    fn float_loss(z: &[f64], turns: &[u8]) -> f64 {
        let centred: Vec<f64> =
            z.chunks(4).flat_map(|row| row.iter().map(|v| v - row.iter().sum::<f64>() / 4.0)).collect();
        let root = (check::dot(&centred, &centred) / z.len() as f64).sqrt().max(1e-9);
        let scale = 4.0 * 3f64.sqrt() / 4.0 / root;
        let row = |(row, &turn): (&[f64], &u8)| {
            let total: f64 = row.iter().map(|v| (v * scale).exp()).sum();
            total.ln() - row[usize::from(turn)] * scale
        };
        centred.chunks(4).zip(turns).map(row).sum::<f64>() / turns.len() as f64
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_float_formula() {
        for (rows, seed, offset) in [(4, 1, 0), (16, 2, 0), (64, 3, 50_000)] {
            let turns: Vec<u8> = (0..rows).map(|i| (i * 7 % 4) as u8).collect();
            // Right more often than not.
            let mut z = check::clustered(rows, 4, 1, 0, offset, seed);
            z.chunks_mut(4).zip(&turns).for_each(|(row, &t)| row[usize::from(t)] += 6000);
            let exact = check::float(&z);
            let loss = run(&mut z, &turns);
            let expected = float_loss(&exact, &turns);
            assert!((f64::from(loss) / 256.0 - expected).abs() < 0.03, "{loss} {expected}");
            let cosine = check::cosine(&z, &check::slope(&exact, |z| float_loss(z, &turns)));
            assert!(cosine > 0.99, "{rows}: {cosine}");
        }
    }

    #[test]
    fn four_quarters_are_a_whole_turn_and_one_is_counter_clockwise() {
        for side in [2, 5, 8] {
            let map = Map::new(side, side, 3);
            let image: Vec<i8> = (0..map.len()).map(|i| (i % 127) as i8).collect();
            let mut turned = image.clone();
            turn(&mut turned, map, 1);
            // The upper right corner goes to the upper left.
            assert_eq!(turned[..3], image[(side - 1) * 3..side * 3]);
            turn(&mut turned, map, 3);
            assert_eq!(turned, image);
        }
    }

    #[test]
    fn equal_logits_give_the_loss_of_chance() {
        let loss = run(&mut [7; 32], &[0, 1, 2, 3, 0, 1, 2, 3]);
        assert!((f64::from(loss) / 256.0 - 4f64.ln()).abs() < 0.02, "{loss}");
    }

    #[test]
    fn extreme_logits_are_borne_and_scale_does_not_matter() {
        for mut z in check::extremes(8, 4) {
            assert!(run(&mut z, &[0, 1, 2, 3, 0, 1, 2, 9]) < 256 * 64);
        }
        let with_shift = |shift: u32| {
            let mut z: Vec<i32> = check::random(8, 4, 1).iter().map(|v| (v << 4) << shift).collect();
            (run(&mut z, &[0, 1, 2, 3, 0, 1, 2, 3]), z)
        };
        let ((loss, z), (loss_then, then)) = (with_shift(0), with_shift(9));
        assert!(loss.abs_diff(loss_then) <= 1);
        assert!(check::cosine(&z, &check::float(&then)) > 0.9999);
    }
}
