//! Sound as the encoder takes it: windows of samples, their spectrum, its power in bands of the mel scale, the logarithm
//! of that in eight bits. All in integers and without a table that grows with the model.
//!
//! The learner calls [`LogMel::clip`] on whole samples; firmware may call [`LogMel::column`] as the samples come.
//! The scale is that of Stevens, Volkmann and Newman 1937 in the form of O'Shaughnessy, `mel = 2595 · log10(1 + f / 700)`.

pub mod fft;

use core::fmt;

use crate::fixed::math::log2_q8;
use crate::fixed::{round_nearest, round_nearest64};
use fft::{MOST, Spectrum, cosine};

/// Bytes of a column count eighths of an octave of power: 0.376 dB each, 96 dB in all.
pub const STEPS_PER_OCTAVE: u32 = 8;
/// Power at which the bytes begin: a sine of full scale has 2^59.
const FLOOR: u32 = 28;
/// Lower edge of the lowest band, in Hz.
const LOWEST: u32 = 60;
/// The mel scale is logarithmic above about this frequency, in Hz.
const KNEE: u64 = 700;
/// One, for frequencies over the knee.
const ONE: u64 = 1 << 24;
/// Fractional bits of an edge's place among the bins, and of the weight of a bin.
const EDGE_BITS: u32 = 16;
const WEIGHT_BITS: u32 = 16;

/// Why there is no log-mel map of such a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AudioError {
    Rate,
    Window,
    Hop,
    /// No bin of the spectrum lies in this band.
    NarrowBand {
        band: usize,
    },
}

impl fmt::Display for AudioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AudioError::Rate => write!(f, "rate must be from 1000 to 192000 samples a second"),
            AudioError::Window => write!(f, "window must be a power of two from 32 to {MOST} samples"),
            AudioError::Hop => write!(f, "hop must be from 1 to 65535 samples"),
            AudioError::NarrowBand { band } => write!(
                f,
                "band {band} is so narrow that no bin of the spectrum lies in it; use fewer bands (height) or a longer window"
            ),
        }
    }
}

impl core::error::Error for AudioError {}

/// How sound becomes a map `[bands, columns]` of bytes; the lowest band comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMel {
    window: usize,
    hop: usize,
    bands: usize,
    columns: usize,
    /// Bins up to the knee, Q24.
    bins_per_knee: u64,
    /// Lowest edge as `1 + f / 700`, Q24, and the factor from one edge to the next, Q30.
    first: u64,
    factor: u64,
}

impl LogMel {
    /// For samples that come at `rate` a second: a column every `hop` samples, of `window` samples each.
    ///
    /// # Errors
    /// [`AudioError`].
    pub fn new(rate: u32, window: usize, hop: usize, bands: usize, columns: usize) -> Result<Self, AudioError> {
        if !(1000..=192_000).contains(&rate) {
            return Err(AudioError::Rate);
        }
        if !window.is_power_of_two() || !(32..=MOST).contains(&window) {
            return Err(AudioError::Window);
        }
        if !(1..=65535).contains(&hop) {
            return Err(AudioError::Hop);
        }
        // More bands than bins.
        if bands > window / 2 {
            return Err(AudioError::NarrowBand { band: 0 });
        }
        let over_knee = |hertz: u64| ONE + hertz * ONE / KNEE;
        let first = over_knee(u64::from(LOWEST));
        let last = over_knee(u64::from(rate / 2));
        // The largest factor whose powers, one for each band and one more, do not pass the highest edge.
        let mut factor = 1 << 30;
        for bit in (0..34).rev() {
            let larger = factor + (1 << bit);
            let passes = (0..=bands).try_fold(first, |edge, _| next(edge, larger).filter(|edge| *edge <= last));
            if passes.is_some() {
                factor = larger;
            }
        }
        let bins_per_knee = ((KNEE * window as u64) << 24) / u64::from(rate);
        let log_mel = LogMel { window, hop, bands, columns, bins_per_knee, first, factor };
        let mut edges = log_mel.edges();
        let mut below = (edges.next(), edges.next());
        for (band, edge) in edges.enumerate().take(bands) {
            let (Some(low), high) = (below.0, edge) else { break };
            // The first bin above the low edge.
            if ((low >> EDGE_BITS) + 1) << EDGE_BITS >= high {
                return Err(AudioError::NarrowBand { band });
            }
            below = (below.1, Some(edge));
        }
        Ok(log_mel)
    }

    /// Edges of the bands, Q16 bins: band b rises from edge b to edge b+1 and falls to edge b+2.
    fn edges(&self) -> impl Iterator<Item = u32> + use<> {
        let LogMel { bins_per_knee, first, factor, .. } = *self;
        let edges = core::iter::successors(Some(first), move |edge| next(*edge, factor));
        edges.map(move |edge| (((edge - ONE) * bins_per_knee) >> (48 - EDGE_BITS)) as u32)
    }

    /// Samples that the map stands for.
    pub const fn samples(&self) -> usize {
        self.columns.saturating_sub(1).saturating_mul(self.hop).saturating_add(self.window)
    }

    /// Numbers that [`LogMel::column`] needs to work with.
    pub const fn work_len(&self) -> usize {
        self.window
    }

    /// The map of a clip `i16`, `[bands, columns]`. One that is shorter than [`LogMel::samples`] has silence before and
    /// after it, of a longer one the middle is taken.
    ///
    /// # Panics
    /// Where `work` or `out` is shorter than it must be.
    pub fn clip(&self, pcm: &[i16], work: &mut [i32], out: &mut [u8]) {
        let wanted = self.samples();
        let skipped = pcm.len().saturating_sub(wanted) / 2;
        let silence = wanted.saturating_sub(pcm.len()) / 2;
        for column in 0..self.columns {
            let from = column * self.hop;
            let at = |t: usize| (from + t).checked_sub(silence).and_then(|t| pcm.get(t + skipped)).copied();
            self.column_of(|t| at(t).unwrap_or(0), work, |band, level| out[band * self.columns + column] = level);
        }
    }

    /// One column, from the lowest band up, of the first `window` samples of `pcm`; where they are fewer, silence follows.
    ///
    /// # Panics
    /// Where `work` is shorter than [`LogMel::work_len`] or `out` than there are bands.
    pub fn column(&self, pcm: &[i16], work: &mut [i32], out: &mut [u8]) {
        let out = &mut out[..self.bands];
        self.column_of(|t| pcm.get(t).copied().unwrap_or(0), work, |band, level| out[band] = level);
    }

    fn column_of(&self, sample: impl Fn(usize) -> i16, work: &mut [i32], mut level: impl FnMut(usize, u8)) {
        let work = &mut work[..self.window];
        let turn = MOST / self.window;
        for (t, x) in work.iter_mut().enumerate() {
            // The window of Hann, Q31.
            let weight = (1 << 30) - i64::from(cosine(t * turn));
            *x = round_nearest64(i64::from(sample(t)) * weight, 16) as i32;
        }
        let spectrum = Spectrum::of(work);
        // Between two edges bins pass from the band that falls to the one that rises.
        let mut falling = 0;
        let mut edges = self.edges();
        let mut low = edges.next().unwrap_or(0);
        for (band, high) in edges.take(self.bands + 1).enumerate() {
            let mut rising = 0;
            let first = (low >> EDGE_BITS) + 1;
            let last = (high >> EDGE_BITS).min(self.window as u32 / 2 - 1);
            // One division a band; the places of bins have 26 bits at most.
            let per_width = (1u64 << (WEIGHT_BITS + 26)) / u64::from((high - low).max(1));
            for bin in first..=last {
                let weight = (u64::from((bin << EDGE_BITS) - low) * per_width) >> 26;
                // Under the window of Hann all bins together have less than 2^60.
                let power = spectrum.power(bin as usize) >> 13;
                rising += power * weight;
                falling += power * ((1 << WEIGHT_BITS) - weight);
            }
            if let Some(done) = band.checked_sub(1) {
                level(done, eight_bits(falling));
            }
            falling = rising;
            low = high;
        }
    }
}

/// The edge above `edge`; `None` beyond 34 bits, which is above any.
fn next(edge: u64, factor: u64) -> Option<u64> {
    let product = edge.checked_mul(factor)? >> 30;
    (product < 1 << 34).then_some(product)
}

/// Logarithm of a band's power, 2^3 times as large, above the floor.
fn eight_bits(power: u64) -> u8 {
    if power == 0 {
        return 0;
    }
    let above = log2_q8(power).saturating_sub((FLOOR + 3) << 8) as i32;
    round_nearest(above, 8 - STEPS_PER_OCTAVE.ilog2()).min(255) as u8
}

#[cfg(test)]
mod tests;
