//! Minimises a smooth function by L-BFGS (Nocedal 1980) with a backtracking line search.

use std::collections::VecDeque;

use super::matrix::dot;

/// Steps whose curvature is remembered.
const MEMORY: usize = 12;

/// How a descent ended; fits are used as they are, tests read this.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "read by tests"))]
pub(super) struct Outcome {
    pub iterations: usize,
    /// Largest component of the gradient at the end.
    pub gradient: f64,
}

/// Moves `x` downhill until the largest gradient component is at most `tolerance`, `iterations` are spent, or the
/// line search finds nothing lower (the limit of `f32` sums). `f` fills the gradient and returns the value.
pub(super) fn minimise(
    x: &mut [f64],
    tolerance: f64,
    iterations: usize,
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Outcome {
    let n = x.len();
    let (mut gradient, mut next, mut next_gradient) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let mut value = f(x, &mut gradient);
    let mut past: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::with_capacity(MEMORY);
    let mut done = 0;
    while done < iterations && largest(&gradient) > tolerance {
        let mut direction = direction(&gradient, &past);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 || !slope.is_finite() {
            past.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        let mut step = if past.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let mut lower = false;
        for _ in 0..20 {
            next.iter_mut().zip(x.iter().zip(&direction)).for_each(|(n, (x, d))| *n = x + step * d);
            let reached = f(&next, &mut next_gradient);
            if reached <= value + 1e-4 * step * slope {
                value = reached;
                lower = true;
                break;
            }
            step *= 0.4;
        }
        if !lower {
            if past.is_empty() {
                break;
            }
            past.clear();
            continue;
        }
        done += 1;
        let s: Vec<f64> = next.iter().zip(x.iter()).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&s, &y);
        if curvature > 1e-10 * dot(&y, &y) {
            if past.len() == MEMORY {
                past.pop_front();
            }
            past.push_back((s, y, curvature));
        }
        x.copy_from_slice(&next);
        gradient.copy_from_slice(&next_gradient);
    }
    Outcome { iterations: done, gradient: largest(&gradient) }
}

fn largest(v: &[f64]) -> f64 {
    v.iter().fold(0.0, |most, g| most.max(g.abs()))
}

/// The two-loop recursion: minus the inverse curvature times the gradient.
fn direction(gradient: &[f64], past: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(past.len());
    for (s, y, curvature) in past.iter().rev() {
        let alpha = dot(s, &q) / curvature;
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((_, y, curvature)) = past.back() {
        let scale = curvature / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y, curvature), alpha) in past.iter().zip(alphas.iter().rev()) {
        let beta = dot(y, &q) / curvature;
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_bottom_of_the_rosenbrock_valley() {
        let mut x = [-1.2, 1.0];
        let outcome = minimise(&mut x, 1e-8, 200, |x, g| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            g[0] = -2.0 * a - 400.0 * x[0] * b;
            g[1] = 200.0 * b;
            a * a + 100.0 * b * b
        });
        assert!((x[0] - 1.0).abs() < 1e-6 && (x[1] - 1.0).abs() < 1e-6, "{x:?} {outcome:?}");
    }
}
