//! The products of a depthwise convolution, channels side by side in vector registers: the same bits as
//! [`super::reference`]. A product of two mantissas fits `i16`.

use super::narrow::Sink;
use super::tile::{COLUMNS, Isa, Work, lanes, load};
use super::{Conv, Views};

/// Numbers of the packed weights: `[taps, channels]`, `i16`.
pub(super) const fn packed_len(conv: &Conv) -> usize {
    conv.weights()
}

/// Packs weights for forward and input gradient alike.
pub(super) fn pack(conv: &Conv, weights: &[i8], out: &mut [i16]) {
    let taps = conv.kernel.0 * conv.kernel.1;
    for (c, weights) in weights.chunks_exact(taps).enumerate() {
        for (tap, &w) in weights.iter().enumerate() {
            out[tap * conv.channels + c] = i16::from(w);
        }
    }
}

/// Most taps along one axis of a kernel.
const MOST: usize = 31;

/// The taps along one axis that meet position `at`, each with the position that it meets there.
struct Taps {
    taps: [(usize, usize); MOST],
    count: usize,
}

impl Taps {
    /// Of output `at`: the inputs that it reads. Of input `at` where `back`: the outputs that read it.
    #[inline(always)]
    fn of(back: bool, at: usize, kernel: usize, stride: usize, padding: usize, extent: usize) -> Self {
        let mut found = Taps { taps: [(0, 0); MOST], count: 0 };
        let mut push = |position: Option<usize>, tap: usize| {
            if let (Some(position), Some(slot)) = (position.filter(|&p| p < extent), found.taps.get_mut(found.count)) {
                *slot = (position, tap);
                found.count += 1;
            }
        };
        if back {
            let (most, first) = ((at + padding) / stride, (at + padding) % stride);
            (first..kernel).step_by(stride).enumerate().for_each(|(n, tap)| push(most.checked_sub(n), tap));
        } else {
            (0..kernel).for_each(|tap| push((at * stride + tap).checked_sub(padding), tap));
        }
        found
    }

    fn iter(&self) -> impl Iterator<Item = (usize, usize)> + Clone {
        self.taps[..self.count].iter().copied()
    }
}

/// `sums + a · b` for [`COLUMNS`] channels.
#[inline(always)]
fn add_products(sums: [i32; COLUMNS], a: [i8; COLUMNS], b: [i16; COLUMNS]) -> [i32; COLUMNS] {
    let products = lanes(|c| i16::from(a[c]) * b[c]);
    lanes(|c| sums[c] + i32::from(products[c]))
}

/// Forward, or input gradient where `back`: sums of `from` over the taps that meet each position of the other map.
pub(super) struct Sweep<'a, S> {
    pub conv: &'a Conv,
    pub from: &'a [i8],
    pub packed: &'a [i16],
    pub back: bool,
    pub sink: &'a mut S,
}

impl<S: Sink> Work for Sweep<'_, S> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let conv = self.conv;
        let (source, source_first, target, target_first) = if self.back {
            (conv.output, conv.first_filter, conv.input, conv.first_channel)
        } else {
            (conv.input, conv.first_channel, conv.output, conv.first_filter)
        };
        let Conv { kernel, stride, padding, .. } = *conv;
        let mut met = [(0, 0); MOST * MOST];
        for y in 0..target.height {
            let down = Taps::of(self.back, y, kernel.0, stride.0, padding.0, source.height);
            for x in 0..target.width {
                let across = Taps::of(self.back, x, kernel.1, stride.1, padding.1, source.width);
                let mut count = 0;
                for (row, ky) in down.iter() {
                    for (column, kx) in across.iter() {
                        let from = (row * source.width + column) * source.channels + source_first;
                        met[count] = (from, (ky * kernel.1 + kx) * conv.channels);
                        count += 1;
                    }
                }
                let to = (y * target.width + x) * target.channels + target_first;
                for first in (0..conv.channels).step_by(COLUMNS) {
                    let channels = COLUMNS.min(conv.channels - first);
                    let met = met[..count].iter().map(|&(from, tap)| (from + first, tap + first));
                    let sums = if channels == COLUMNS {
                        met.fold([0; COLUMNS], |sums, (from, tap)| {
                            add_products(sums, full(&self.from[from..]), full(&self.packed[tap..]))
                        })
                    } else {
                        met.fold([0; COLUMNS], |sums, (from, tap)| {
                            let values = load(&self.from[from..from + channels]);
                            add_products(sums, values, load(&self.packed[tap..tap + channels]))
                        })
                    };
                    self.sink.take(isa, &[to + first], target_first + first, channels, &[sums]);
                }
            }
        }
    }
}

/// The first [`COLUMNS`] numbers of at least as many.
#[inline(always)]
fn full<T: Copy>(values: &[T]) -> [T; COLUMNS] {
    match values.first_chunk() {
        Some(chunk) => *chunk,
        None => unreachable!("a full chunk of channels"),
    }
}

/// See [`super::reference::conv_weight_grad`]; summed over all views.
pub(super) struct WeightGrad<'a> {
    pub conv: &'a Conv,
    pub x: Views<'a>,
    pub error: Views<'a>,
    pub grad: &'a mut [i32],
}

impl Work for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Conv { input, output, kernel, stride, padding, channels, .. } = *self.conv;
        let taps = kernel.0 * kernel.1;
        for first in (0..channels).step_by(COLUMNS) {
            let count = COLUMNS.min(channels - first);
            for tap in 0..taps {
                let (ky, kx) = (tap / kernel.1, tap % kernel.1);
                // Output columns whose tap lies within the input.
                let begin = padding.1.saturating_sub(kx).div_ceil(stride.1);
                let end = (input.width + padding.1).saturating_sub(kx).div_ceil(stride.1).min(output.width);
                let mut sums = [0; COLUMNS];
                for (x, error) in (0..self.x.count).map(|view| (self.x.of(view), self.error.of(view))) {
                    for oy in 0..output.height {
                        let Some(y) = (oy * stride.0 + ky).checked_sub(padding.0).filter(|&y| y < input.height) else {
                            continue;
                        };
                        for ox in begin..end {
                            let column = ox * stride.1 + kx - padding.1;
                            let from = (y * input.width + column) * input.channels + self.conv.first_channel + first;
                            let at = (oy * output.width + ox) * output.channels + self.conv.first_filter + first;
                            let error = load(&error[at..at + count]);
                            sums = add_products(sums, load(&x[from..from + count]), lanes(|c| i16::from(error[c])));
                        }
                    }
                }
                for (c, sum) in sums.iter().enumerate().take(count) {
                    self.grad[(first + c) * taps + tap] += sum;
                }
            }
        }
    }
}
