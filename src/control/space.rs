//! Features as controllers see them: standardised by what the stream has shown so far, with a few of its samples as the
//! background that everything taught, and everything new, is held against.

/// Variance that the rounding of mantissas, and little else, may make.
const LEAST_VARIANCE: f32 = 0.25;
/// The background is this far from itself at least: before a camera that stands still, noise is nothing new.
const LEAST_USUAL: f32 = 0.1;
/// Background samples that are nearest make the novelty together.
const NEAREST: usize = 3;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// Length of a feature.
    pub dim: usize,
    mean: Vec<f32>,
    /// One over the standard deviation.
    inverse: Vec<f32>,
    /// `[background, dim]`, standardised.
    pub rows: Vec<f32>,
    squares: Vec<f32>,
    /// Median of the background's own distances to the nearest of the others.
    usual: f32,
}

/// The product of two rows, in sixteen sums that a compiler makes vectors of.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

impl Space {
    /// The space of `background`, features of `dim` numbers.
    pub fn of<'a>(dim: usize, background: impl Iterator<Item = &'a [i8]> + Clone) -> Self {
        let count = background.clone().count();
        let share = 1.0 / count.max(1) as f32;
        let mut mean = vec![0f32; dim];
        for row in background.clone() {
            mean.iter_mut().zip(row).for_each(|(m, &v)| *m += share * f32::from(v));
        }
        let mut inverse = vec![0f32; dim];
        for row in background.clone() {
            let each = inverse.iter_mut().zip(row.iter().zip(&mean));
            each.for_each(|(s, (&v, m))| *s += share * (f32::from(v) - m).powi(2));
        }
        inverse.iter_mut().for_each(|s| *s = 1.0 / (*s + LEAST_VARIANCE).sqrt());
        let mut space = Space { dim, mean, inverse, ..Space::default() };
        let mut row = vec![0f32; dim];
        for feature in background {
            space.standardise(feature, &mut row);
            space.squares.push(dot(&row, &row));
            space.rows.extend_from_slice(&row);
        }
        space.measure();
        space
    }

    /// The space of rows that are standardised already, `[rows, dim]`.
    pub fn standard(dim: usize, rows: Vec<f32>) -> Self {
        let squares = rows.chunks_exact(dim.max(1)).map(|row| dot(row, row)).collect();
        let mut space = Space { dim, rows, squares, ..Space::default() };
        space.measure();
        space
    }

    /// Finds out how far the rows usually are from each other.
    fn measure(&mut self) {
        let mut own: Vec<f32> = (0..self.len()).map(|i| self.distance(self.row(i), Some(i))).collect();
        own.sort_by(f32::total_cmp);
        self.usual = own.get(own.len() / 2).copied().unwrap_or(1.0).max(LEAST_USUAL);
    }

    /// Background samples.
    pub fn len(&self) -> usize {
        self.squares.len()
    }

    pub fn is_empty(&self) -> bool {
        self.squares.is_empty()
    }

    /// Background sample `i`, standardised.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.rows[i * self.dim..][..self.dim]
    }

    /// `feature` standardised.
    pub fn standardise(&self, feature: &[i8], out: &mut [f32]) {
        let numbers = feature.iter().zip(self.mean.iter().zip(&self.inverse));
        out.iter_mut().zip(numbers).for_each(|(o, (&v, (m, s)))| *o = (f32::from(v) - m) * s);
    }

    /// Root mean square distance of a number to the nearest background samples but `except`.
    fn distance(&self, standard: &[f32], except: Option<usize>) -> f32 {
        let own = dot(standard, standard);
        let mut nearest = [f32::INFINITY; NEAREST];
        for (i, square) in self.squares.iter().enumerate().filter(|(i, _)| Some(*i) != except) {
            let mut apart = (own + square - 2.0 * dot(standard, self.row(i))).max(0.0);
            // The nearest few, in order.
            for place in &mut nearest {
                if apart < *place {
                    std::mem::swap(place, &mut apart);
                }
            }
        }
        let found = nearest.iter().filter(|d| d.is_finite());
        let (sum, count) = found.fold((0.0, 0), |(sum, n), d| (sum + (d / self.dim as f32).sqrt(), n + 1));
        if count == 0 { 0.0 } else { sum / count as f32 }
    }

    /// How far `standard` is from all background samples; 1 is as far as these are from each other.
    pub fn novelty(&self, standard: &[f32]) -> f32 {
        self.distance(standard, None) / self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_like_the_background_has_a_novelty_of_one_and_what_is_not_has_more() {
        let mut random = 1u32;
        let mut noise = move || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 27) as i8 - 16
        };
        let rows: Vec<Vec<i8>> = (0..60).map(|_| (0..64).map(|_| noise()).collect()).collect();
        let space = Space::of(64, rows[..50].iter().map(Vec::as_slice));
        let mut standard = vec![0.0; 64];
        for row in &rows[50..] {
            space.standardise(row, &mut standard);
            let usual = space.novelty(&standard);
            assert!((0.8..1.25).contains(&usual), "{usual}");
            let shifted: Vec<i8> = row.iter().map(|v| v + 40).collect();
            space.standardise(&shifted, &mut standard);
            assert!(space.novelty(&standard) > 2.0);
        }
    }
}
