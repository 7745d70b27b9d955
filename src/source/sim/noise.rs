//! Random numbers of the simulator: pure functions of (seed, place), never a running generator.
//!
//! Everything here is integer hashing followed by exact float steps, so that it gives the same bits on every platform.

/// Finaliser of splitmix64: every output bit depends on every input bit.
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 64 random bits for one place in one table of random numbers.
pub(super) fn hash(seed: u64, table: u64, place: u64) -> u64 {
    mix(mix(seed ^ table.wrapping_mul(0xd6e8_feb8_6659_fd93)) ^ place)
}

/// Uniform in `[0, 1)` from the top 24 bits, exact in `f32`.
pub(super) fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 * (1.0 / 16_777_216.0)
}

/// Uniform in `[-1, 1)`.
pub(super) fn signed(bits: u64) -> f32 {
    unit(bits) * 2.0 - 1.0
}

/// About normal, mean 0 and standard deviation 1: the sum of four 16-bit uniforms.
pub(super) fn normal(bits: u64) -> f32 {
    let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
    (sum as f32 * (1.0 / 65_536.0) - 2.0) * 1.732_050_8
}

/// Largest integer not above `x`.
pub(super) fn floor(x: f32) -> i32 {
    let whole = x as i32;
    if whole as f32 > x { whole.saturating_sub(1) } else { whole }
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Smooth noise along one axis in `[-1, 1]`, one knot per unit of `t`.
pub(super) fn wave(seed: u64, table: u64, t: f64) -> f32 {
    let knot = t as i64 - i64::from(t < 0.0);
    let f = (t - knot as f64) as f32;
    let weight = f * f * (3.0 - 2.0 * f);
    let a = signed(hash(seed, table, knot as u64));
    let b = signed(hash(seed, table, knot.wrapping_add(1) as u64));
    a + (b - a) * weight
}

/// Smooth noise over the plane in `[-1, 1]`, one knot per unit square.
pub(super) fn value(seed: u64, x: f32, y: f32) -> f32 {
    let (ix, iy) = (floor(x), floor(y));
    let (fx, fy) = (x - ix as f32, y - iy as f32);
    let (wx, wy) = (fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy));
    let knot = |dx: i32, dy: i32| cell(seed, ix.wrapping_add(dx), iy.wrapping_add(dy)) * 2.0 - 1.0;
    let top = knot(0, 0) + (knot(1, 0) - knot(0, 0)) * wx;
    let bottom = knot(0, 1) + (knot(1, 1) - knot(0, 1)) * wx;
    top + (bottom - top) * wy
}

/// One uniform number in `[0, 1)` for each unit square.
pub(super) fn cell(seed: u64, ix: i32, iy: i32) -> f32 {
    unit(mix(seed ^ (u64::from(ix as u32) << 32 | u64::from(iy as u32))))
}

/// Sum of `octaves` layers of [`value`], each of half the size and half the strength; about `[-1, 1]`.
pub(super) fn fractal(seed: u64, x: f32, y: f32, octaves: u32) -> f32 {
    let (mut sum, mut weight, mut scale, mut total) = (0.0, 1.0, 1.0, 0.0);
    for octave in 0..octaves {
        sum += weight * value(seed.wrapping_add(u64::from(octave)), x * scale, y * scale);
        total += weight;
        weight *= 0.5;
        scale *= 2.0;
    }
    sum / total
}

/// Draws one after another, for laying out a world.
pub(super) struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    pub(super) fn new(seed: u64, table: u64) -> Self {
        Dice { seed: hash(seed, table, 0), drawn: 0 }
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.drawn += 1;
        hash(self.seed, 1, self.drawn)
    }

    /// Uniform in `[low, high)`.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * unit(self.bits())
    }

    /// One of `0..n`.
    pub(super) fn pick(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_stays_in_its_range_and_fills_it() {
        let (mut low, mut high, mut sum, mut squares) = (1.0f32, -1.0f32, 0.0f64, 0.0f64);
        for i in 0..20_000 {
            let v = value(7, i as f32 * 0.37 - 3000.0, i as f32 * 0.11);
            assert!((-1.0..=1.0).contains(&v));
            assert!((-1.0..=1.0).contains(&wave(7, 1, f64::from(i) * 0.3 - 2000.0)));
            (low, high) = (low.min(v), high.max(v));
            let n = f64::from(normal(hash(1, 2, i as u64)));
            sum += n;
            squares += n * n;
        }
        assert!(low < -0.8 && high > 0.8);
        assert!((sum / 20_000.0).abs() < 0.03);
        assert!((squares / 20_000.0 - 1.0).abs() < 0.05);
    }

    #[test]
    fn smooth_noise_does_not_jump() {
        for i in 0..5000 {
            let t = f64::from(i) * 0.01 - 20.0;
            assert!((wave(3, 4, t) - wave(3, 4, t + 0.01)).abs() < 0.05);
        }
    }
}
