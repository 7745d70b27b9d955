//! What is different for a depthwise convolution, where every channel has a kernel of its own: channels stand side by side
//! in the lanes, and two rows of taps (or of positions) go together. The same bits as [`super::reference`].

use bytemuck::cast_slice_mut;

use super::packed::{Lengths, Phase, error_padded, forward_padded, forward_panels, phases};
use super::sweep::in_words;
use super::tile::{COLUMNS, Isa, Pairs, Product, Quads, ROWS, Sums, Work, load, multiply_lanes};
use super::{Conv, Views};

/// Positions of a block of the weight gradient, but for a row that has more.
const POSITIONS: usize = 256;

pub(super) fn lengths(conv: &Conv) -> Lengths {
    let padded = in_words::<Quads>(forward_padded(conv).len());
    let error = in_words::<Quads>(error_padded(conv).len());
    Lengths {
        forward: forward_panels(conv).len::<Pairs>(),
        back: phases(conv).map(|phase| phase.panels.len::<Pairs>()).sum(),
        forward_scratch: padded,
        scratch: error.max(padded + block_rows(conv) / 2 * errors_of_rows(conv)),
    }
}

/// Packs weights for the forward product: `[channels / COLUMNS, pairs of kernel rows, kernel columns, COLUMNS, 2]`.
pub(super) fn pack_forward(conv: &Conv, weights: &[i8], mut out: &mut [i16]) {
    pack(conv, weights, (0..conv.kernel.0, 0..conv.kernel.1), &mut out);
}

/// Packs weights for the input gradient: as for the forward product, for each phase its taps in turned order.
pub(super) fn pack_back(conv: &Conv, weights: &[i8], mut out: &mut [i16]) {
    for Phase { y, x, .. } in phases(conv) {
        let rows = (0..y.taps).rev().map(|v| y.first_tap + v * conv.stride.0);
        let columns = (0..x.taps).rev().map(|u| x.first_tap + u * conv.stride.1);
        pack(conv, weights, (rows, columns), &mut out);
    }
}

/// Packs the taps at `rows` and `columns`, and moves `out` behind them.
fn pack(
    conv: &Conv,
    weights: &[i8],
    (rows, columns): (impl Iterator<Item = usize> + Clone, impl Iterator<Item = usize> + Clone),
    out: &mut &mut [i16],
) {
    let taps = conv.kernel.0 * conv.kernel.1;
    for first in (0..conv.channels).step_by(COLUMNS) {
        let mut rows = rows.clone();
        while let Some(one) = rows.next() {
            let pair = [Some(one), rows.next()];
            for kx in columns.clone() {
                let (slot, rest) = core::mem::take(out).split_at_mut(2 * COLUMNS);
                *out = rest;
                for (c, numbers) in slot.chunks_exact_mut(2).enumerate() {
                    for (number, ky) in numbers.iter_mut().zip(pair) {
                        let weight = ky.and_then(|ky| weights.get((first + c) * taps + ky * conv.kernel.1 + kx));
                        *number = weight.map_or(0, |&w| i16::from(w));
                    }
                }
            }
        }
    }
}

/// Numbers of two rows of errors.
const fn errors_of_rows(conv: &Conv) -> usize {
    2 * conv.output.width * COLUMNS
}

/// Rows of the output in a block of the weight gradient, an even number.
fn block_rows(conv: &Conv) -> usize {
    (POSITIONS / conv.output.width.max(1)).clamp(2, conv.output.height.max(2)).next_multiple_of(2)
}

/// See [`super::reference::conv_weight_grad`]; summed over all views. The taps are the rows of the tile.
pub(super) struct WeightGrad<'a> {
    pub conv: &'a Conv,
    pub x: Views<'a>,
    pub error: Views<'a>,
    pub grad: &'a mut [i32],
    pub scratch: &'a mut [i16],
}

impl Work for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (conv, padded) = (self.conv, forward_padded(self.conv));
        let Conv { output, kernel, stride, channels, .. } = *conv;
        let taps = kernel.0 * kernel.1;
        let (map, errors) = self.scratch.split_at_mut(in_words::<Quads>(padded.len()));
        let map = &mut cast_slice_mut(map)[..padded.len()];
        let row = padded.map.width * channels;
        let rows = block_rows(conv);
        for view in 0..self.x.count {
            padded.fill::<Quads>(conv.input, self.x.of(view), map);
            let error = self.error.of(view);
            for first in (0..channels).step_by(COLUMNS) {
                let count = COLUMNS.min(channels - first);
                for block in (0..output.height).step_by(rows) {
                    let rows = rows.min(output.height - block);
                    let pairs = errors.chunks_exact_mut(errors_of_rows(conv));
                    for (y, errors) in (block..block + rows).step_by(2).zip(pairs) {
                        pack_errors(isa, error, conv, (y, first), count, errors);
                    }
                    let mut sums: Sums = [[0; COLUMNS]; ROWS];
                    for tap in (0..taps).step_by(ROWS) {
                        let some = ROWS.min(taps - tap);
                        let offsets: [usize; ROWS] = core::array::from_fn(|i| {
                            let (ky, kx) = ((tap + i) / kernel.1, (tap + i) % kernel.1);
                            (block * stride.0 + ky) * row + kx * channels + first
                        });
                        let product = Product {
                            rows: &*map,
                            offsets: &offsets[..some],
                            runs: rows,
                            run_step: stride.0 * row,
                            groups: output.width,
                            group_step: stride.1 * channels,
                            panel: &*errors,
                        };
                        multiply_lanes(isa, &product, &mut sums);
                        for (tap, sums) in (tap..).zip(&sums[..some]) {
                            let of_channels = self.grad[first * taps..].chunks_exact_mut(taps).take(count);
                            of_channels.zip(sums).for_each(|(grad, sum)| grad[tap] += sum);
                        }
                    }
                }
            }
        }
    }
}

/// The errors of `count` channels from `first` on in rows `y` and `y + 1`, zeros where there is no other row.
#[inline(always)]
fn pack_errors<I: Isa>(isa: I, error: &[i8], conv: &Conv, (y, first): (usize, usize), count: usize, out: &mut [i16]) {
    let (width, step) = (conv.output.width, conv.output.channels);
    for (x, out) in out.chunks_exact_mut(2 * COLUMNS).enumerate() {
        let at = (y * width + x) * step + conv.first_filter + first;
        let one: [i8; COLUMNS] = load(&error[at..at + count]);
        let other: [i8; COLUMNS] =
            if y + 1 < conv.output.height { load(&error[at + width * step..][..count]) } else { [0; COLUMNS] };
        isa.interleave::<Pairs>([&one, &other, &one, &other], out);
    }
}
