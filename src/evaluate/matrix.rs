//! Dense products, Gram matrices and a blocked Cholesky factor for the linear probes. All matrices are row-major slices.
//!
//! The products are nalgebra's, which hands them to `matrixmultiply`. Work is cut into fixed tiles, so the
//! result does not depend on how many threads share it.

use nalgebra::{Dyn, MatrixView, MatrixViewMut, RealField};
use rayon::prelude::*;

/// Side of the tiles of a Gram matrix, and the depth after which `f32` sums move to `f64`.
const TILE: usize = 512;
/// Side of the blocks of a triangular factor.
const BLOCK: usize = 128;
/// Products with a side up to this are summed here: nalgebra does them without `matrixmultiply`, and its code
/// for that case indexes out of bounds where a view has strides (0.35).
const SMALL: usize = 5;

/// A matrix `[rows, cols]` in a slice, whose elements lie `down` and `right` apart.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    down: usize,
    right: usize,
}

/// `data` as `[rows, cols]`, one row every `stride` elements.
pub(super) fn view<T>(data: &[T], rows: usize, cols: usize, stride: usize) -> View<'_, T> {
    View { data, rows, cols, down: stride, right: 1 }
}

/// The transpose of row-major `data`: `[rows, cols]` where a column lies in one piece.
pub(super) fn turned<T>(data: &[T], rows: usize, cols: usize, stride: usize) -> View<'_, T> {
    View { data, rows, cols, down: 1, right: stride }
}

/// `out = alpha · a · b + beta · out`; a row of `out` lies every `stride` elements.
pub(super) fn multiply<T: RealField + Copy>(
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

/// The lower factor of a symmetric positive definite matrix.
pub(super) struct Cholesky {
    lower: Vec<f64>,
    size: usize,
}

impl Cholesky {
    /// Factors `matrix + ridge · I`; `None` where that is not positive definite in `f64`.
    pub fn of(mut matrix: Vec<f64>, size: usize, ridge: f64) -> Option<Self> {
        for i in 0..size {
            matrix[i * size + i] += ridge;
        }
        for k in (0..size).step_by(BLOCK) {
            let end = (k + BLOCK).min(size);
            for i in k..size {
                for j in k..end.min(i + 1) {
                    let done = dot(&matrix[i * size + k..][..j - k], &matrix[j * size + k..][..j - k]);
                    let rest = matrix[i * size + j] - done;
                    if i == j {
                        if rest.is_nan() || rest <= 0.0 || !rest.is_finite() {
                            return None;
                        }
                        matrix[i * size + i] = rest.sqrt();
                    } else {
                        matrix[i * size + j] = rest / matrix[j * size + j];
                    }
                }
            }
            let deep = end - k;
            let panel: Vec<f64> = (end..size).flat_map(|i| matrix[i * size + k..][..deep].to_vec()).collect();
            for j in (end..size).step_by(BLOCK) {
                let (high, wide) = (size - j, BLOCK.min(size - j));
                let below = view(&panel[(j - end) * deep..], high, deep, deep);
                let beside = turned(&panel[(j - end) * deep..], deep, wide, deep);
                multiply(&mut matrix[j * size + j..], size, -1.0, below, beside, 1.0);
            }
        }
        Some(Self { lower: matrix, size })
    }

    /// Solves for `[size, cols]` right-hand sides in place.
    pub fn solve(&self, b: &mut [f64], cols: usize) {
        self.solve_lower(0, b, cols);
        let n = self.size;
        for k in (0..n).step_by(BLOCK).rev() {
            let end = (k + BLOCK).min(n);
            let (before, here) = b.split_at_mut(k * cols);
            for i in (k..end).rev() {
                let (above, row) = here.split_at_mut((i - k) * cols);
                let row = &mut row[..cols];
                row.iter_mut().for_each(|v| *v /= self.lower[i * n + i]);
                for j in k..i {
                    let factor = self.lower[i * n + j];
                    above[(j - k) * cols..][..cols].iter_mut().zip(&*row).for_each(|(a, r)| *a -= factor * r);
                }
            }
            if k > 0 {
                let left = turned(&self.lower[k * n..], k, end - k, n);
                let right = view(here, end - k, cols, cols);
                multiply(before, cols, -1.0, left, right, 1.0);
            }
        }
    }

    /// Solves `L z = b` in place, for the factor's rows and columns from `start` on; `b` is `[size − start, cols]`.
    fn solve_lower(&self, start: usize, b: &mut [f64], cols: usize) {
        let n = self.size;
        for k in (start..n).step_by(BLOCK) {
            let end = (k + BLOCK).min(n);
            let (before, here) = b.split_at_mut((k - start) * cols);
            if k > start {
                let left = view(&self.lower[k * n + start..], end - k, k - start, n);
                let right = view(before, k - start, cols, cols);
                multiply(here, cols, -1.0, left, right, 1.0);
            }
            for i in k..end {
                let (above, row) = here.split_at_mut((i - k) * cols);
                let row = &mut row[..cols];
                for j in k..i {
                    let factor = self.lower[i * n + j];
                    row.iter_mut().zip(&above[(j - k) * cols..][..cols]).for_each(|(r, a)| *r -= factor * a);
                }
                row.iter_mut().for_each(|v| *v /= self.lower[i * n + i]);
            }
        }
    }

    /// The diagonal of the inverse.
    pub fn inverse_diagonal(&self) -> Vec<f64> {
        let starts: Vec<usize> = (0..self.size).step_by(BLOCK).collect();
        let parts: Vec<Vec<f64>> = starts
            .par_iter()
            .map(|&start| {
                let wide = BLOCK.min(self.size - start);
                let mut b = vec![0.0; (self.size - start) * wide];
                (0..wide).for_each(|i| b[i * wide + i] = 1.0);
                self.solve_lower(start, &mut b, wide);
                column_squares(&b, wide)
            })
            .collect();
        parts.concat()
    }

    /// `vᵀ A⁻¹ v` for every row `v` of `rows` `[count, size]`.
    pub fn quadratic_forms(&self, rows: &[f64]) -> Vec<f64> {
        let parts: Vec<Vec<f64>> = rows
            .par_chunks(BLOCK * self.size)
            .map(|rows| {
                let wide = rows.len() / self.size;
                let mut b = vec![0.0; rows.len()];
                for (c, row) in rows.chunks_exact(self.size).enumerate() {
                    row.iter().enumerate().for_each(|(i, &v)| b[i * wide + c] = v);
                }
                self.solve_lower(0, &mut b, wide);
                column_squares(&b, wide)
            })
            .collect();
        parts.concat()
    }
}

fn column_squares(b: &[f64], cols: usize) -> Vec<f64> {
    let mut sums = vec![0.0; cols];
    for row in b.chunks_exact(cols) {
        sums.iter_mut().zip(row).for_each(|(s, v)| *s += v * v);
    }
    sums
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
mod tests {
    use super::*;
    use crate::evaluate::random::Random;

    fn noise(count: usize, seed: u64) -> Vec<f32> {
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

    #[test]
    fn cholesky_solves_inverts_and_measures_over_several_blocks() {
        let size = 300;
        let matrix = gram(&noise(400 * size, 2), 400, size);
        let factor = Cholesky::of(matrix.clone(), size, 5.0).unwrap();
        let want: Vec<f64> = noise(size * 3, 3).into_iter().map(f64::from).collect();
        let mut b = vec![0.0; size * 3];
        for i in 0..size {
            for c in 0..3 {
                b[i * 3 + c] = (0..size).map(|j| matrix[i * size + j] * want[j * 3 + c]).sum::<f64>();
                b[i * 3 + c] += 5.0 * want[i * 3 + c];
            }
        }
        factor.solve(&mut b, 3);
        assert!(b.iter().zip(&want).all(|(a, w)| (a - w).abs() < 1e-8));
        let diagonal = factor.inverse_diagonal();
        for i in [0, 127, 128, 299] {
            let mut unit = vec![0.0; size];
            unit[i] = 1.0;
            let form = factor.quadratic_forms(&unit)[0];
            factor.solve(&mut unit, 1);
            assert!((unit[i] - diagonal[i]).abs() < 1e-10 && (form - diagonal[i]).abs() < 1e-10);
        }
    }

    #[test]
    fn cholesky_refuses_what_is_not_positive_definite() {
        assert!(Cholesky::of(vec![1.0, 2.0, 2.0, 1.0], 2, 0.0).is_none());
        assert!(Cholesky::of(vec![f64::NAN], 1, 0.0).is_none());
    }
}
