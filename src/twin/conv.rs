//! Convolutions and pooling in `f32`: unfolded patches and products. `net` calls these; shapes are those of `kernels`.

use crate::evaluate::matrix::{multiply, turned, view};
use crate::kernels::reference::for_each_product;
use crate::kernels::{Conv, Grid};

/// Calls `f(place in the unfolded patches, place in the input)` for each run of `conv.channels` numbers that lie inside.
fn for_each_run(conv: &Conv, mut f: impl FnMut(usize, usize)) {
    let fan_in = conv.fan_in();
    for position in 0..conv.output.positions() {
        let (oy, ox) = (position / conv.output.width, position % conv.output.width);
        for tap in 0..conv.kernel.0 * conv.kernel.1 {
            let (ky, kx) = (tap / conv.kernel.1, tap % conv.kernel.1);
            let y = (oy * conv.stride.0 + ky).checked_sub(conv.padding.0).filter(|&y| y < conv.input.height);
            let x = (ox * conv.stride.1 + kx).checked_sub(conv.padding.1).filter(|&x| x < conv.input.width);
            if let (Some(y), Some(x)) = (y, x) {
                let input = (y * conv.input.width + x) * conv.input.channels + conv.first_channel;
                f(position * fan_in + tap * conv.channels, input);
            }
        }
    }
}

/// The patches of `x`, `[positions, fan_in]`, zeros where they reach over the border.
fn unfold(conv: &Conv, x: &[f32], columns: &mut Vec<f32>) {
    columns.clear();
    columns.resize(conv.output.positions() * conv.fan_in(), 0.0);
    let n = conv.channels;
    for_each_run(conv, |place, input| columns[place..place + n].copy_from_slice(&x[input..input + n]));
}

/// `out[oy, ox, first_filter + f] = Σ x · w[f]`; channels that other convolutions fill are left alone.
pub(super) fn forward(conv: &Conv, x: &[f32], weights: &[f32], out: &mut [f32], columns: &mut Vec<f32>) {
    let (positions, fan_in, channels) = (conv.output.positions(), conv.fan_in(), conv.output.channels);
    if conv.is_dense() {
        unfold(conv, x, columns);
        let filters = turned(weights, fan_in, conv.filters, fan_in);
        let out = &mut out[conv.first_filter..];
        return multiply(out, channels, 1.0, view(columns, positions, fan_in, fan_in), filters, 0.0);
    }
    for position in out.chunks_exact_mut(channels) {
        position[conv.first_filter..conv.first_filter + conv.filters].fill(0.0);
    }
    for_each_product(conv, |w, i, o| out[o] += x[i] * weights[w]);
}

/// Adds the gradient of the weights, `[filters, fan_in]`.
pub(super) fn weight_grad(conv: &Conv, x: &[f32], error: &[f32], grad: &mut [f32], columns: &mut Vec<f32>) {
    if !conv.is_dense() {
        return for_each_product(conv, |w, i, o| grad[w] += x[i] * error[o]);
    }
    let (positions, fan_in) = (conv.output.positions(), conv.fan_in());
    unfold(conv, x, columns);
    let errors = turned(&error[conv.first_filter..], conv.filters, positions, conv.output.channels);
    multiply(grad, fan_in, 1.0, errors, view(columns, positions, fan_in, fan_in), 1.0);
}

/// Adds the gradient of the input.
pub(super) fn input_grad(conv: &Conv, error: &[f32], weights: &[f32], dx: &mut [f32], columns: &mut Vec<f32>) {
    if !conv.is_dense() {
        return for_each_product(conv, |w, i, o| dx[i] += weights[w] * error[o]);
    }
    let (positions, fan_in, n) = (conv.output.positions(), conv.fan_in(), conv.channels);
    columns.clear();
    columns.resize(positions * fan_in, 0.0);
    let errors = view(&error[conv.first_filter..], positions, conv.filters, conv.output.channels);
    multiply(columns, fan_in, 1.0, errors, view(weights, conv.filters, fan_in, fan_in), 0.0);
    for_each_run(conv, |place, input| {
        dx[input..input + n].iter_mut().zip(&columns[place..place + n]).for_each(|(d, c)| *d += c);
    });
}

/// Calls `f(place in the pooled numbers, place in the map)` for each run of channels that a cell covers.
fn for_each_cell(grid: &Grid, mut f: impl FnMut(usize, usize)) {
    for cell in 0..grid.cells.0 * grid.cells.1 {
        for y in grid.rows(cell / grid.cells.1) {
            for x in grid.columns(cell % grid.cells.1) {
                f(cell * grid.map.channels, (y * grid.map.width + x) * grid.map.channels);
            }
        }
    }
}

/// Sums over the windows of `grid`.
pub(super) fn pool(grid: &Grid, x: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    let n = grid.map.channels;
    for_each_cell(grid, |cell, at| {
        out[cell..cell + n].iter_mut().zip(&x[at..at + n]).for_each(|(o, v)| *o += v);
    });
}

/// Backward of [`pool`], added to `dx`.
pub(super) fn pool_grad(grid: &Grid, error: &[f32], dx: &mut [f32]) {
    let n = grid.map.channels;
    for_each_cell(grid, |cell, at| {
        dx[at..at + n].iter_mut().zip(&error[cell..cell + n]).for_each(|(d, e)| *d += e);
    });
}
