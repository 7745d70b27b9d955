//! Dense products and Gram matrices for the probes. All matrices are row-major slices.
//!
//! The products are nalgebra's, which hands them to `matrixmultiply`. Work is cut into fixed tiles, so the
//! result does not depend on how many threads share it.

use nalgebra::{Dyn, MatrixView, MatrixViewMut, RealField};
use rayon::prelude::*;

/// Side of the tiles of a Gram matrix, and the depth after which `f32` sums move to `f64`.
const TILE: usize = 512;
/// Products with a side up to this are summed here: nalgebra does them without `matrixmultiply`, and its code
/// for that case indexes out of bounds where a view has strides (0.35).
const SMALL: usize = 5;

/// A matrix `[rows, cols]` in a slice, whose elements lie `down` and `right` apart.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    down: usize,
    right: usize,
}

/// `data` as `[rows, cols]`, one row every `stride` elements.
pub(crate) fn view<T>(data: &[T], rows: usize, cols: usize, stride: usize) -> View<'_, T> {
    View { data, rows, cols, down: stride, right: 1 }
}

/// The transpose of row-major `data`: `[rows, cols]` where a column lies in one piece.
pub(crate) fn turned<T>(data: &[T], rows: usize, cols: usize, stride: usize) -> View<'_, T> {
    View { data, rows, cols, down: 1, right: stride }
}

/// `out = alpha · a · b + beta · out`; a row of `out` lies every `stride` elements.
pub(crate) fn multiply<T: RealField + Copy>(
    out: &mut [T],
    stride: usize,
    alpha: T,
    a: View<'_, T>,
    b: View<'_, T>,
    beta: T,
) {
    assert_eq!(a.cols, b.rows, "inner sides of a product");
    let strided = |v: View<'_, T>| (Dyn(v.rows), Dyn(v.cols), Dyn(v.down), Dyn(v.right));
    if a.rows.min(a.cols).min(b.cols) > SMALL {
        let ((ar, ac, ad, ax), (br, bc, bd, bx)) = (strided(a), strided(b));
        let left = MatrixView::from_slice_with_strides_generic(a.data, ar, ac, ad, ax);
        let right = MatrixView::from_slice_with_strides_generic(b.data, br, bc, bd, bx);
        let mut out = MatrixViewMut::from_slice_with_strides_generic(out, ar, bc, Dyn(stride), Dyn(1));
        return out.gemm(alpha, &left, &right, beta);
    }
    for i in 0..a.rows {
        let row = &mut out[i * stride..][..b.cols];
        row.iter_mut().for_each(|v| *v = if beta == T::zero() { T::zero() } else { *v * beta });
        if a.right == 1 && b.down == 1 {
            for (j, v) in row.iter_mut().enumerate() {
                *v += alpha * dot(&a.data[i * a.down..][..a.cols], &b.data[j * b.right..][..a.cols]);
            }
            continue;
        }
        for d in 0..a.cols {
            let factor = alpha * a.data[i * a.down + d * a.right];
            let other = b.data[d * b.down..].iter().step_by(b.right);
            row.iter_mut().zip(other).for_each(|(v, &b)| *v += factor * b);
        }
    }
}

/// `xᵀ x`, `[cols, cols]`, of `x` `[rows, cols]`.
pub(super) fn gram(x: &[f32], rows: usize, cols: usize) -> Vec<f64> {
    inner_products(x, (cols, 1), (rows, cols))
}

/// `x xᵀ`, `[rows, rows]`, of `x` `[rows, cols]`.
pub(super) fn kernel(x: &[f32], rows: usize, cols: usize) -> Vec<f64> {
    inner_products(x, (rows, cols), (cols, 1))
}

/// All inner products along `depth` of the vectors counted by `size`; both are (count, stride).
fn inner_products(x: &[f32], size: (usize, usize), depth: (usize, usize)) -> Vec<f64> {
    let ((size, across), (depth, along)) = (size, depth);
    let tiles = size.div_ceil(TILE);
    let pairs: Vec<(usize, usize)> = (0..tiles).flat_map(|i| (0..=i).map(move |j| (i * TILE, j * TILE))).collect();
    let done: Vec<Vec<f64>> = pairs
        .par_iter()
        .map(|&(i, j)| {
            let (high, wide) = (TILE.min(size - i), TILE.min(size - j));
            let mut sum = vec![0.0_f64; high * wide];
            let mut part = vec![0.0_f32; high * wide];
            for d in (0..depth).step_by(TILE) {
                let deep = TILE.min(depth - d);
                let here =
                    View { data: &x[i * across + d * along..], rows: high, cols: deep, down: across, right: along };
                let there =
                    View { data: &x[j * across + d * along..], rows: deep, cols: wide, down: along, right: across };
                multiply(&mut part, wide, 1.0, here, there, 0.0);
                sum.iter_mut().zip(&part).for_each(|(s, &p)| *s += f64::from(p));
            }
            sum
        })
        .collect();
    let mut out = vec![0.0; size * size];
    for (&(i, j), tile) in pairs.iter().zip(&done) {
        let wide = TILE.min(size - j);
        for (r, row) in tile.chunks_exact(wide).enumerate() {
            out[(i + r) * size + j..][..wide].copy_from_slice(row);
            for (c, &value) in row.iter().enumerate() {
                out[(j + c) * size + i + r] = value;
            }
        }
    }
    out
}

/// Eight running sums, so that the compiler may use vectors.
pub(super) fn dot<T: RealField + Copy>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::zero(); 8];
    let (parts_a, parts_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = parts_a.remainder().iter().zip(parts_b.remainder()).fold(T::zero(), |sum, (&x, &y)| sum + x * y);
    for (x, y) in parts_a.zip(parts_b) {
        (0..8).for_each(|i| sums[i] += x[i] * y[i]);
    }
    sums.into_iter().fold(rest, |sum, part| sum + part)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::evaluate::random::Random;

    pub fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..count).map(|_| random.normal() as f32).collect()
    }

    #[test]
    fn gram_and_kernel_are_the_plain_sums_across_tile_borders() {
        let (rows, cols) = (521, 530);
        let x = noise(rows * cols, 1);
        let (gram, kernel) = (gram(&x, rows, cols), kernel(&x, rows, cols));
        for (i, j) in [(0, 0), (511, 512), (529, 3), (3, 529), (520, 513)] {
            let plain: f64 = (0..rows).map(|r| f64::from(x[r * cols + i]) * f64::from(x[r * cols + j])).sum();
            assert!((gram[i * cols + j] - plain).abs() < 1e-2, "gram {i} {j}");
            let (i, j) = (i.min(rows - 1), j.min(rows - 1));
            let plain: f64 = (0..cols).map(|c| f64::from(x[i * cols + c]) * f64::from(x[j * cols + c])).sum();
            assert!((kernel[i * rows + j] - plain).abs() < 1e-2, "kernel {i} {j}");
        }
    }
}
