//! What is hidden of an image or a window, and the order in which a decoder gives it back. Inpainting: square blocks of an
//! image are replaced by its mean colour and are to be rebuilt from what is around them (Pathak et al. 2016,
//! arXiv:1604.07379; as many blocks as He et al. 2021, arXiv:2111.06377). Errors and loss are those of [`super::denoise`],
//! and so is the mask of windows, whose blocks are one row high.
//!
//! How it fails: an image is smooth, so that most of the error goes with the mean colour of the surroundings, and features
//! that know no more rebuild well and tell little; the rank falls. Blocks smaller than what one position of the last layer
//! sees are copied from their edges.

use crate::augment::noise;
use crate::fixed::random::Draws;
use crate::kernels::Map;
use crate::net::task::Pretext;

/// Stands for a number that is not to be rebuilt: no mantissa is −128.
pub const NOT_ASKED: i8 = i8::MIN;

/// Each position of the last layer gives back a patch of the input: `[position down, across, pixel down, across, channel]`.
/// For windows that is the window as it is.
#[derive(Clone, Copy, Debug)]
pub struct Patches {
    input: Map,
    /// Pixels of a patch, down and across.
    side: (usize, usize),
}

impl Patches {
    /// Of the positions of `last`, whose sides divide those of `input`.
    pub fn new(input: Map, last: Map) -> Self {
        Patches { input, side: (input.height / last.height.max(1), input.width / last.width.max(1)) }
    }

    /// Calls `each` with where every run of numbers stands in patches, where in the input, and its length.
    fn runs(&self, mut each: impl FnMut(usize, usize, usize)) {
        let Patches { input: Map { height, width, channels }, side } = *self;
        let run = side.1 * channels;
        let mut at = 0;
        for top in (0..height).step_by(side.0.max(1)) {
            for left in (0..width).step_by(side.1.max(1)) {
                for y in top..top + side.0 {
                    each(at, (y * width + left) * channels, run);
                    at += run;
                }
            }
        }
    }

    /// `input` in the order of patches.
    pub fn split(&self, input: &[i8], out: &mut [i8]) {
        self.runs(|patches, whole, run| out[patches..][..run].copy_from_slice(&input[whole..][..run]));
    }

    /// What stands in the order of patches, as an input.
    pub fn join(&self, patches: &[i8], out: &mut [i8]) {
        self.runs(|from, whole, run| out[whole..][..run].copy_from_slice(&patches[from..][..run]));
    }
}

/// Which blocks of one input are masked: a function of the draws alone, so nothing is stored.
#[derive(Clone, Copy)]
pub struct Mask {
    draws: Draws,
    input: Map,
    /// Share of the blocks, of 256.
    share: u32,
    /// Side of a block in pixels or readings.
    block: usize,
    noise: u32,
}

impl Mask {
    /// Of an input of shape `input`.
    pub fn new(spec: &Pretext, input: Map, draws: Draws) -> Self {
        Mask { draws, input, share: spec.mask as u32, block: spec.block, noise: spec.noise as u32 }
    }

    /// The block of pixel or reading `at` is masked.
    #[inline]
    fn hides(&self, at: usize) -> bool {
        let Map { width, .. } = self.input;
        let block = at / width / self.block * width.div_ceil(self.block) + at % width / self.block;
        self.draws.below(block as u32, 256) < self.share
    }

    /// Marks in `clean`, which is in the order of `patches`, what is not to be rebuilt: everything is where nothing is
    /// masked.
    pub fn ask(&self, patches: &Patches, clean: &mut [i8]) {
        let channels = self.input.channels;
        if self.share == 0 || channels == 0 {
            return;
        }
        patches.runs(|from, whole, run| {
            for (at, pixel) in (whole / channels..).zip(clean[from..][..run].chunks_mut(channels)) {
                if !self.hides(at) {
                    pixel.fill(NOT_ASKED);
                }
            }
        });
    }

    /// Copies what is not masked from `input` to `rebuilt`.
    pub fn show(&self, input: &[i8], rebuilt: &mut [i8]) {
        let channels = self.input.channels.max(1);
        let pixels = rebuilt.chunks_mut(channels).zip(input.chunks(channels)).enumerate();
        pixels.filter(|(at, _)| !self.hides(*at)).for_each(|(_, (to, from))| to.copy_from_slice(from));
    }

    /// Makes a clean input the encoder's: masked blocks at 0, and noise on the others.
    pub fn corrupt(&self, input: &mut [i8]) {
        /// Draws of the noise begin above those of the blocks.
        const NOISE: u32 = 1 << 20;
        let channels = self.input.channels.max(1);
        for (at, pixel) in input.chunks_mut(channels).enumerate() {
            if self.share > 0 && self.hides(at) {
                pixel.fill(0);
            } else if self.noise > 0 {
                for (element, value) in (at * channels..).zip(pixel) {
                    let noise = noise(self.draws, NOISE + element as u32, self.noise);
                    *value = (i32::from(*value) + noise).clamp(-127, 127) as i8;
                }
            }
        }
    }
}

/// Takes the mean of each channel off, which filters without a mean do not see; what goes over ±127 is clamped.
pub fn remove_means(input: &mut [i8], channels: usize) {
    for channel in 0..channels {
        let mean = mean(input, channels, channel);
        let own = input.iter_mut().skip(channel).step_by(channels.max(1));
        own.for_each(|v| *v = (i32::from(*v) - mean).clamp(-127, 127) as i8);
    }
}

/// Mean of one channel, rounded down.
pub fn mean(input: &[i8], channels: usize, channel: usize) -> i32 {
    let own = || input.iter().skip(channel).step_by(channels.max(1));
    let sum: i64 = own().map(|&v| i64::from(v)).sum();
    sum.div_euclid(own().count().max(1) as i64) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::task::{PretextSpec, Task};
    use crate::sample::Seed;

    fn inpaint(mask: u16, block: u16) -> Pretext {
        let spec = PretextSpec { mask: Some(mask), block: Some(block), ..PretextSpec::new(Task::Inpaint) };
        spec.resolved().expect("a task")
    }

    /// One patch of the whole image: its own order.
    fn whole(image: Map) -> Patches {
        Patches::new(image, Map::new(1, 1, 1))
    }

    #[test]
    fn patches_hold_the_pixels_of_their_positions_and_join_to_the_image() {
        let (image, last) = (Map::new(12, 8, 3), Map::new(3, 2, 5));
        let pixels: Vec<i8> = (0..image.len()).map(|i| (i % 251) as u8 as i8).collect();
        let patches = Patches::new(image, last);
        let (mut split, mut joined) = (vec![0; pixels.len()], vec![0; pixels.len()]);
        patches.split(&pixels, &mut split);
        // Position (1, 1), pixel (2, 3) of it, channel 2.
        let at = ((3 * 16) + 2 * 4 + 3) * 3 + 2;
        assert_eq!(split[at], pixels[((4 + 2) * 8 + 4 + 3) * 3 + 2]);
        patches.join(&split, &mut joined);
        assert_eq!(joined, pixels);
        // A window is in its own order.
        let patches = Patches::new(Map::new(1, 96, 1), Map::new(1, 6, 4));
        patches.split(&pixels[..96], &mut split[..96]);
        assert_eq!(split[..96], pixels[..96]);
    }

    #[test]
    fn the_share_named_is_masked_in_whole_squares_and_nothing_else_is_asked_for() {
        let image = Map::new(32, 32, 3);
        let mut masked = 0;
        for step in 0..200 {
            let mask = Mask::new(&inpaint(128, 8), image, Draws::new(Seed(1), step, 2));
            let (mut asked, mut input) = (vec![55; image.len()], vec![55; image.len()]);
            mask.ask(&whole(image), &mut asked);
            mask.corrupt(&mut input);
            let hidden: Vec<bool> = input.iter().map(|&v| v == 0).collect();
            for (at, (&asked, &input)) in asked.iter().zip(&input).enumerate() {
                let (y, x) = (at / 96, at / 3 % 32);
                let corner = (y / 8 * 8 * 32 + x / 8 * 8) * 3;
                assert_eq!((input, asked), if hidden[corner] { (0, 55) } else { (55, NOT_ASKED) });
                masked += usize::from(at == corner && hidden[corner]);
            }
        }
        let share = masked as f64 / 3200.0;
        assert!((share - 0.5).abs() < 0.03, "{share}");
    }

    #[test]
    fn noise_falls_on_every_pixel_and_all_are_asked_for_where_nothing_is_masked() {
        let image = Map::new(16, 16, 1);
        let spec = Pretext { mask: 0, noise: 256, ..inpaint(1, 8) };
        let mask = Mask::new(&spec, image, Draws::new(Seed(1), 0, 2));
        let (mut asked, mut input) = (vec![20; 256], vec![20; 256]);
        mask.ask(&whole(image), &mut asked);
        mask.corrupt(&mut input);
        assert_eq!(asked, vec![20; 256]);
        let square: f64 = input.iter().map(|&v| (f64::from(v) - 20.0).powi(2)).sum::<f64>() / 256.0;
        assert!((square.sqrt() - 16.0).abs() < 2.0, "{square}");
    }

    #[test]
    fn an_image_without_its_means_has_none() {
        let mut input: Vec<i8> = (0..300).map(|i| (i % 3 * 40 + i % 7) as i8 - 60).collect();
        remove_means(&mut input, 3);
        assert!((0..3).all(|channel| mean(&input, 3, channel) == 0));
    }
}
