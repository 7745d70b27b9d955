//! What is computed, in the plainest loops. Every faster kernel must give these bits.
//!
//! All products are of `i8` mantissas within ±127 and are summed in `i32`; the plan proves that no sum overflows.

use super::{Conv, Grid};

/// Calls `f(weight index, input index, output index)` for every product of one convolution.
pub(crate) fn for_each_product(conv: &Conv, mut f: impl FnMut(usize, usize, usize)) {
    let per_group = conv.channels / conv.groups;
    let filters_per_group = conv.filters / conv.groups;
    for oy in 0..conv.output.height {
        for ox in 0..conv.output.width {
            for filter in 0..conv.filters {
                let output = (oy * conv.output.width + ox) * conv.output.channels + conv.first_filter + filter;
                let first = conv.first_channel + filter / filters_per_group * per_group;
                for ky in 0..conv.kernel.0 {
                    let Some(y) = (oy * conv.stride.0 + ky).checked_sub(conv.padding.0) else { continue };
                    for kx in 0..conv.kernel.1 {
                        let Some(x) = (ox * conv.stride.1 + kx).checked_sub(conv.padding.1) else { continue };
                        if y >= conv.input.height || x >= conv.input.width {
                            continue;
                        }
                        let input = (y * conv.input.width + x) * conv.input.channels + first;
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

/// `acc[oy, ox, first_filter + f] = Σ_{ky,kx,c} x[oy·s + ky − p, ox·s + kx − p, c] · w[f, ky, kx, c]`.
///
/// `x` is `[height, width, channels]`; channels of `acc` that other convolutions fill are left alone.
pub fn conv_forward(conv: &Conv, x: &[i8], weights: &[i8], acc: &mut [i32]) {
    for position in acc.chunks_exact_mut(conv.output.channels) {
        position[conv.first_filter..conv.first_filter + conv.filters].fill(0);
    }
    for_each_product(conv, |w, i, o| acc[o] += i32::from(x[i]) * i32::from(weights[w]));
}

/// `grad[f, ky, kx, c] += Σ_{oy,ox} error[oy, ox, f] · x[oy·s + ky − p, ox·s + kx − p, c]`.
pub fn conv_weight_grad(conv: &Conv, x: &[i8], error: &[i8], grad: &mut [i32]) {
    for_each_product(conv, |w, i, o| grad[w] += i32::from(x[i]) * i32::from(error[o]));
}

/// `dx[y, x, c] += Σ error[oy, ox, f] · w[f, ky, kx, c]` over all outputs that read `(y, x, c)`.
pub fn conv_input_grad(conv: &Conv, error: &[i8], weights: &[i8], dx: &mut [i32]) {
    for_each_product(conv, |w, i, o| dx[i] += i32::from(weights[w]) * i32::from(error[o]));
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
