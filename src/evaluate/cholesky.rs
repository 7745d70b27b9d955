//! A blocked Cholesky factor: solutions, and diagonals of the inverse, for ridge regression.

use rayon::prelude::*;

use super::matrix::{dot, multiply, turned, view};

/// Side of the blocks of a triangular factor.
const BLOCK: usize = 128;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::matrix::{gram, tests::noise};

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
