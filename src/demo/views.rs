//! Pictures of what the learner saw: frames over time, and the views that it made of them.

use crate::augment::fit;
use crate::learner::{Learner, view_of};
use crate::sample::{Micros, Seed};

/// Frames shown of the whole time of learning.
const SEEN: u64 = 6;
/// Pairs of views shown.
const PAIRS: u64 = 4;

/// A frame, a view of it, and a view of a neighbour in time: what the pretext is to recognise as one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPair {
    pub frame: Vec<u8>,
    pub views: [Vec<u8>; 2],
    pub apart: Micros,
}

/// Keeps the few frames that are shown.
pub(super) struct Album {
    samples: u64,
    /// Frames between the two of a pair.
    apart: u64,
    seen: Vec<(Micros, Vec<u8>)>,
    pairs: Vec<[Kept; 2]>,
    first: Option<Kept>,
}

#[derive(Clone)]
struct Kept {
    index: u64,
    time: Micros,
    segment: u32,
    pixels: Vec<u8>,
}

impl Album {
    /// For `samples` frames, of which those up to `neighbours` away are shown as one moment.
    pub fn new(samples: u64, neighbours: usize) -> Self {
        Album { samples, apart: neighbours.div_ceil(2) as u64, seen: Vec::new(), pairs: Vec::new(), first: None }
    }

    pub fn take(&mut self, index: u64, time: Micros, segment: u32, pixels: &[u8]) {
        if index == self.samples * (2 * self.seen.len() as u64 + 1) / (2 * SEEN) {
            self.seen.push((time, pixels.to_vec()));
        }
        let kept = Kept { index, time, segment, pixels: pixels.to_vec() };
        let due = self.samples * (self.pairs.len() as u64 + 1) / (PAIRS + 2);
        if self.first.is_none() && (self.pairs.len() as u64) < PAIRS && index >= due {
            self.first = Some(kept.clone());
        }
        match self.first.take() {
            Some(first) if first.segment != segment => self.first = Some(kept),
            Some(first) if index >= first.index + self.apart => self.pairs.push([first, kept]),
            first => self.first = first,
        }
    }

    /// Frames and their times in seconds.
    pub fn seen(&mut self) -> Vec<(f64, Vec<u8>)> {
        std::mem::take(&mut self.seen).into_iter().map(|(time, pixels)| (time.0 as f64 * 1e-6, pixels)).collect()
    }

    /// The pairs as `learner` sees them in its steps.
    pub fn pairs(&self, learner: &Learner) -> Vec<ViewPair> {
        let spec = learner.spec();
        let (seed, (_, scales)) = (Seed(learner.counters().seed), learner.published());
        let Some(pretext) = learner.network().heads.first().map(|head| head.pretext) else { return Vec::new() };
        let map = learner.network().input;
        let (mut stored, mut input) = (vec![0; map.len()], vec![0; map.len()]);
        let mut pair = |(step, [first, second]): (usize, &[Kept; 2])| {
            let mut view = |kept: &Kept, number: usize| {
                // The rover's frames have the size of the model's input, and three channels.
                fit::resize(&kept.pixels, map.height, map.width, 3, map, &mut stored);
                view_of(spec, &pretext, scales, &stored, seed, step as u64, number, &mut input);
                let pixel = |p: &[i8]| if let [luma, a, b] = *p { [luma, a, b] } else { [p[0], 0, 0] };
                input.chunks_exact(map.channels).flat_map(|p| rgb(pixel(p))).collect()
            };
            let views = [view(first, 0), view(second, 1)];
            let apart = Micros(second.time.0.saturating_sub(first.time.0));
            ViewPair { frame: first.pixels.clone(), views, apart }
        };
        self.pairs.iter().enumerate().map(&mut pair).collect()
    }
}

/// A pixel from the encoder's luma and colour differences (`augment::fit::opponent`).
fn rgb(pixel: [i8; 3]) -> [u8; 3] {
    let [luma, a, b] = pixel.map(i32::from);
    let green = luma + 128 - (3 * a - 2 * b) / 4;
    [green + 2 * a, green, green + a - 2 * b].map(|v| v.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::fit::opponent;

    #[test]
    fn colours_come_back_to_within_the_rounding() {
        for [r, g, b] in [[0, 0, 0], [255, 255, 255], [200, 90, 30], [10, 240, 120], [128, 128, 250]] {
            let back = rgb(opponent(r, g, b).map(|v| v.clamp(-127, 127) as i8)).map(i32::from);
            assert!(back.iter().zip([r, g, b]).all(|(a, b)| (a - b).abs() <= 5), "{back:?} {r} {g} {b}");
        }
    }
}
