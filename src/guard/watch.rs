//! What the guard sees of the input itself, sample by sample: exposure, distribution, and samples that nothing can be
//! learned from. A function of the samples alone, so that a recording played again gives the same bits.

use bytemuck::{Pod, Zeroable};

/// Numbers of a sample that are looked at, at most: enough for a mean, a deviation and a histogram.
pub(crate) const LOOKED_AT: usize = 256;
/// A frame without contrast has a mean absolute deviation of brightness and colour below this, of 255. A sensor's noise is
/// less, and a wall in good light more.
const CONTRAST: i16 = 2;
/// A frame without contrast, or a window in which nothing changes, fills a bucket by two, a sound one empties it by one;
/// gated are those that find more than this in it. A few white walls pass, a lens that stays covered does not, nor does every second frame of a strobe.
const FLAT_BUCKET: u32 = 8;
const FLAT_MOST: u32 = 4 * FLAT_BUCKET;
/// Classes of the histogram: the upper four bits.
const CLASSES: usize = 16;
/// Samples over which the fast and the slow means run, as shifts.
const FAST: u32 = 4;
const SLOW: u32 = 10;

/// Why a sample was not learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsound {
    /// No contrast, no change in the window, again: a covered lens, a dark room, a strobe, a dead sensor.
    Flat,
    /// The same bytes, again and again: a sensor that is stuck.
    Stuck,
}

/// Running numbers of the input. Part of the learner's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Watch {
    /// Samples taken in but not learned from: gated, or while learning was frozen.
    pub unlearned: u64,
    /// Samples gated because of what they are.
    pub flat: u64,
    pub stuck: u64,
    /// Of the numbers looked at, and of all, of the sample before; the latter only after a repeat of the former.
    print: [u32; 2],
    repeats: u32,
    bucket: u32,
    /// Mean and mean absolute deviation of what the encoder takes, of the last samples and of the sound ones for long,
    /// in 1/256 of a mantissa.
    fast: [i16; 2],
    slow: [i16; 2],
    /// Samples that the slow means have seen, up to where they run.
    seen: u16,
    _pad: [u8; 1],
    /// See [`super::Frozen`].
    pub(crate) frozen: u8,
    _pad4: [u8; 4],
}

const fn fold(print: u32, word: u32) -> u32 {
    (print ^ word).wrapping_mul(0x9E37_79B1).rotate_left(15)
}

/// Whether no channel of a frame's has contrast; each `step`th number is looked at.
pub(crate) fn is_flat_frame(pixels: &[i8], channels: usize, step: usize) -> bool {
    let flat = |channel: usize| Exposure::of(&pixels[channel..], step).deviation < CONTRAST << 8;
    pixels.len() > step && (0..channels).all(flat)
}

/// Whether every channel of a window is constant; `reading`: bytes of the readings of one moment.
pub(crate) fn is_flat_window(stored: &[u8], reading: usize) -> bool {
    stored.len() > reading && stored[reading..] == stored[..stored.len() - reading]
}

/// What is looked at of a sample: every so many of its numbers, from the first.
pub(crate) fn stride(len: usize, channels: usize) -> usize {
    let channels = channels.max(1);
    (len / channels).div_ceil(LOOKED_AT).max(1) * channels
}

impl Watch {
    /// Whether the sample, `stored` as it is kept, is learned from. `is_flat`: nothing in it differs from the rest of it;
    /// `patience`: exact repeats that are no fault.
    pub(crate) fn look(&mut self, stored: &[u8], is_flat: bool, patience: u32) -> Result<(), Unsound> {
        let looked_at = stored.iter().step_by((stored.len().div_ceil(LOOKED_AT) | 1).max(1));
        let print = looked_at.fold(1, |print, &byte| fold(print, u32::from(byte)));
        if print == self.print[0] {
            // Only then is it worth to read all of it.
            let (words, rest) = stored.as_chunks::<4>();
            let all = words.iter().fold(1, |print, word| fold(print, u32::from_le_bytes(*word)));
            let all = rest.iter().fold(all, |print, &byte| fold(print, u32::from(byte))) | 1;
            let same = all == self.print[1] || self.print[1] == 0;
            self.repeats = if same { self.repeats.saturating_add(1) } else { 0 };
            self.print[1] = all;
        } else {
            (self.print, self.repeats) = ([print, 0], 0);
        }
        self.bucket = if is_flat { (self.bucket + 2).min(FLAT_MOST) } else { self.bucket.saturating_sub(1) };
        if self.repeats > patience {
            self.stuck += 1;
            return Err(Unsound::Stuck);
        }
        if is_flat && self.bucket > FLAT_BUCKET {
            self.flat += 1;
            return Err(Unsound::Flat);
        }
        Ok(())
    }

    /// Lets the means follow `input`, what the encoder takes, each `step`th number of it; the slow ones only where the
    /// sample is sound.
    pub(crate) fn follow(&mut self, input: &[i8], step: usize, sound: bool) {
        let Exposure { mean, deviation } = Exposure::of(input, step);
        let now = [mean, deviation];
        let first = self.seen == 0;
        for ((fast, slow), now) in self.fast.iter_mut().zip(&mut self.slow).zip(now) {
            *fast = if first { now } else { toward(*fast, now, FAST) };
            if sound {
                // While it is young it is the mean of all.
                *slow = if first { now } else { toward(*slow, now, (16 - self.seen.leading_zeros()).min(SLOW)) };
            }
        }
        if sound {
            self.seen = (self.seen + 1).min(1 << SLOW);
        }
    }

    /// See [`Drift`].
    pub(crate) fn drift(&self) -> (i32, i32) {
        let of = |which: usize| i32::from(self.fast[which]) - i32::from(self.slow[which]);
        (of(0), of(1))
    }

    /// Exact repeats of the newest sample so far.
    pub fn repeats(&self) -> u32 {
        self.repeats
    }
}

/// One `2^shift`th of the way from `mean` to `now`, and at least 1.
fn toward(mean: i16, now: i16, shift: u32) -> i16 {
    let way = i32::from(now) - i32::from(mean);
    let step = if way.unsigned_abs() >> shift == 0 { way.signum() } else { way >> shift };
    (i32::from(mean) + step) as i16
}

/// Mean and mean absolute deviation of some numbers, in 1/256.
struct Exposure {
    mean: i16,
    deviation: i16,
}

impl Exposure {
    fn of(numbers: &[i8], step: usize) -> Self {
        let looked_at = || numbers.iter().step_by(step).map(|&v| i32::from(v));
        let count = numbers.len().div_ceil(step).max(1) as i32;
        let mean = (looked_at().sum::<i32>() << 8) / count;
        let deviation = looked_at().map(|v| ((v << 8) - mean).unsigned_abs()).sum::<u32>() / count as u32;
        Exposure { mean: mean as i16, deviation: deviation.min(i16::MAX as u32) as i16 }
    }
}

/// A histogram of the last samples and one of the sound ones for long. Part of the learner's state, where there is a
/// judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Histogram {
    /// Shares, Q24.
    fast: [u32; CLASSES],
    slow: [u32; CLASSES],
}

impl Histogram {
    pub(crate) fn follow(&mut self, input: &[i8], step: usize, sound: bool) {
        let mut counts = [0u32; CLASSES];
        for &v in input.iter().step_by(step) {
            counts[usize::from(v.cast_unsigned() ^ 0x80) >> 4] += 1;
        }
        let all = input.len().div_ceil(step).max(1) as u32;
        let first = self.fast.iter().all(|&share| share == 0);
        for ((fast, slow), count) in self.fast.iter_mut().zip(&mut self.slow).zip(counts) {
            let now = ((u64::from(count) << 24) / u64::from(all)) as u32;
            let toward = |mean: u32, shift: u32| mean - (mean >> shift) + (now >> shift);
            *fast = if first { now } else { toward(*fast, FAST) };
            if sound {
                *slow = if first { now } else { toward(*slow, SLOW) };
            }
        }
    }

    /// Half the sum of the shares' differences, Q15: 0 where the last samples are as they always were, 1 where they have
    /// nothing in common.
    pub(crate) fn distance(&self) -> u32 {
        let sum: u64 = self.fast.iter().zip(&self.slow).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        (sum >> 10) as u32
    }
}
