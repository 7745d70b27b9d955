//! What is computed, in the plainest loops. Every faster kernel must give these bits.
//!
//! All products are of `i8` mantissas within ±127 and are summed in `i32`; the plan proves that no sum overflows.

use super::narrow::Sink;
use super::tile::{COLUMNS, OneByOne};
use super::{Conv, Grid, Residual};
use crate::fixed::{round_nearest, saturate_i8};

/// Calls `f(weight index, input index, output index)` for every product of one convolution.
pub(crate) fn for_each_product(conv: &Conv, mut f: impl FnMut(usize, usize, usize)) {
    let per_group = conv.channels / conv.groups;
    for oy in 0..conv.output.height {
        for ox in 0..conv.output.width {
            for filter in 0..conv.filters {
                let output = (oy * conv.output.width + ox) * conv.output.channels + conv.first_filter + filter;
                for ky in 0..conv.kernel.0 {
                    for kx in 0..conv.kernel.1 {
                        let Some(position) = conv.input_position(oy, ox, ky, kx) else { continue };
                        let input = position * conv.input.channels + conv.first_channel_of(filter);
                        let weight = ((filter * conv.kernel.0 + ky) * conv.kernel.1 + kx) * per_group;
                        for c in 0..per_group {
                            f(weight + c, input + c, output);
                        }
                    }
                }
            }
        }
    }
}

fn give(sink: &mut impl Sink, offset: usize, channel: usize, sum: i32) {
    sink.take(OneByOne, &[offset], channel, 1, &[[sum; COLUMNS]]);
}

/// `sum[oy, ox, first_filter + f] = Σ_{ky,kx,c} x[oy·s + ky − p, ox·s + kx − p, c] · w[f, ky, kx, c]`, into `sink`.
///
/// `x` is `[height, width, channels]`; channels of the output that other convolutions fill are left alone.
pub fn conv_forward(conv: &Conv, x: &[i8], weights: &[i8], sink: &mut impl Sink) {
    let per_group = conv.channels / conv.groups;
    for oy in 0..conv.output.height {
        for ox in 0..conv.output.width {
            let offset = (oy * conv.output.width + ox) * conv.output.channels + conv.first_filter;
            for filter in 0..conv.filters {
                let mut sum = 0;
                for ky in 0..conv.kernel.0 {
                    for kx in 0..conv.kernel.1 {
                        let Some(position) = conv.input_position(oy, ox, ky, kx) else { continue };
                        let x = &x[position * conv.input.channels + conv.first_channel_of(filter)..][..per_group];
                        let weight = ((filter * conv.kernel.0 + ky) * conv.kernel.1 + kx) * per_group;
                        let weights = &weights[weight..weight + per_group];
                        sum += x.iter().zip(weights).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum::<i32>();
                    }
                }
                give(sink, offset + filter, conv.first_filter + filter, sum);
            }
        }
    }
}

/// `grad[f, ky, kx, c] += Σ_{oy,ox} error[oy, ox, f] · x[oy·s + ky − p, ox·s + kx − p, c]`.
pub fn conv_weight_grad(conv: &Conv, x: &[i8], error: &[i8], grad: &mut [i32]) {
    for_each_product(conv, |w, i, o| grad[w] += i32::from(x[i]) * i32::from(error[o]));
}

/// `sum[y, x, c] = Σ error[oy, ox, f] · w[f, ky, kx, c]` over all outputs that read `(y, x, c)`, into `sink`.
///
/// Channels that the convolution does not read are left alone.
pub fn conv_input_grad(conv: &Conv, error: &[i8], weights: &[i8], sink: &mut impl Sink) {
    let per_group = conv.channels / conv.groups;
    let filters_per_group = conv.filters / conv.groups;
    for y in 0..conv.input.height {
        for x in 0..conv.input.width {
            for c in 0..conv.channels {
                let filters = c / per_group * filters_per_group..(c / per_group + 1) * filters_per_group;
                let mut sum = 0;
                for ky in 0..conv.kernel.0 {
                    for kx in 0..conv.kernel.1 {
                        let Some(position) = conv.output_position(y, x, ky, kx) else { continue };
                        let errors = &error[position * conv.output.channels + conv.first_filter..];
                        for filter in filters.clone() {
                            let tap = (filter * conv.kernel.0 + ky) * conv.kernel.1 + kx;
                            let weight = weights[tap * per_group + c % per_group];
                            sum += i32::from(errors[filter]) * i32::from(weight);
                        }
                    }
                }
                let channel = conv.first_channel + c;
                give(sink, (y * conv.input.width + x) * conv.input.channels + channel, channel, sum);
            }
        }
    }
}

/// `out = clamp(RN(a · 2^up.0 + b · 2^up.1, down), ±127)`.
#[inline(always)]
pub fn add(how: &Residual, a: &[i8], b: &[i8], out: &mut [i8]) {
    for ((&a, &b), out) in a.iter().zip(b).zip(out) {
        *out = saturate_i8(round_nearest((i32::from(a) << how.up.0) + (i32::from(b) << how.up.1), how.down));
    }
}

/// Sums over the windows of `grid`: `out[gy, gx, c] = Σ_{window} x[y, x, c]`.
pub fn pool_sums(grid: &Grid, x: &[i8], out: &mut [i32]) {
    let channels = grid.map.channels;
    for (cell, sums) in out.chunks_exact_mut(channels).enumerate() {
        sums.fill(0);
        for y in grid.rows(cell / grid.cells.1) {
            for column in grid.columns(cell % grid.cells.1) {
                let at = (y * grid.map.width + column) * channels;
                for (sum, &v) in sums.iter_mut().zip(&x[at..at + channels]) {
                    *sum += i32::from(v);
                }
            }
        }
    }
}

/// Backward of [`pool_sums`] for a partition: every position gets the error of its one cell.
pub fn pool_sums_grad(grid: &Grid, error: &[i8], dx: &mut [i8]) {
    debug_assert!(!grid.overlapping);
    let channels = grid.map.channels;
    for (cell, cell_error) in error.chunks_exact(channels).enumerate() {
        for y in grid.rows(cell / grid.cells.1) {
            for column in grid.columns(cell % grid.cells.1) {
                let at = (y * grid.map.width + column) * channels;
                dx[at..at + channels].copy_from_slice(cell_error);
            }
        }
    }
}
