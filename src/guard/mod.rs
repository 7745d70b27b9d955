//! The guard: health meters over a few canary samples, the decision to publish a lesson or to undo it, what is seen of
//! the input itself, and checksums of what lies in memory.
//!
//! `learner` measures the published and the new encoder on the same canaries at the end of each lesson and asks
//! [`Standing::judge`]. Nothing here needs labels.

pub mod integrity;
pub mod watch;

use bytemuck::{Pod, Zeroable};

use crate::fixed::math::{EXP_STEPS_PER_NAT, EXP_TABLE, isqrt, log2_q8};
use crate::fixed::shift_for;
use crate::kernels::narrow::largest;
use crate::pretext::softmax::LN2_Q16;

/// Lessons undone in a row after which learning is frozen: the last two had a 64th of the step size, and what spoils a
/// lesson that small is no matter of its size.
pub const FREEZE_AFTER: u64 = 8;

/// What was measured of an encoder on the canaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Effective rank of the last layer's pooled activations, in 1/256: the participation ratio `(tr C)² / ‖C‖²` of
    /// their covariance C (the effective rank of order 2; 1 means collapsed).
    pub effective_rank: u32,
    /// Variance of the unit vectors of those activations, `1 − |mean|²`, Q15; 0 means all alike.
    pub spread: u32,
    /// Loss of the pretext on fixed views of the canaries, in 1/256 nat; 0 without a pretext.
    pub loss: u32,
    /// Weights at ±127, of 65536.
    pub saturation: u32,
}

/// Why a lesson was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The effective rank fell below half of the best encoder's, or below 1.25 where the directions are lost too.
    RankLost,
    /// The spread fell below a quarter of the best encoder's.
    SpreadLost,
    /// The loss on replay rose by more than half a nat above the best encoder's.
    LossRose,
    /// More than 1 weight in 20 is saturated.
    Saturated,
    /// Weights or optimizer state were not what the last step left.
    Damaged,
}

impl Fault {
    pub const ALL: [Fault; 5] = [Fault::RankLost, Fault::SpreadLost, Fault::LossRose, Fault::Saturated, Fault::Damaged];

    /// The name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::RankLost => "rank_lost",
            Fault::SpreadLost => "spread_lost",
            Fault::LossRose => "loss_rose",
            Fault::Saturated => "saturated",
            Fault::Damaged => "damaged",
        }
    }
}

/// Why learning stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frozen {
    /// Somebody asked for it.
    Asked,
    /// [`FREEZE_AFTER`] lessons in a row were undone.
    Guard,
    /// What lies in memory was damaged and could not be repaired: a checkpoint has to be restored.
    Damaged,
}

impl Frozen {
    pub(crate) const fn of(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Frozen::Asked),
            2 => Some(Frozen::Guard),
            _ => Some(Frozen::Damaged),
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Frozen::Asked => 1,
            Frozen::Guard => 2,
            Frozen::Damaged => 3,
        }
    }

    /// The name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Frozen::Asked => "asked",
            Frozen::Guard => "guard",
            Frozen::Damaged => "damaged",
        }
    }
}

/// What the guard knows without labels. All of it is whole numbers; the last lesson's where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meters {
    /// Of the published encoder when it was published.
    pub health: Health,
    /// Of the last lesson that was judged, published or not, where there are canaries.
    pub judged: Option<Judged>,
    /// Of the best encoder's effective rank, the published one's share, of 65536; each pair of encoders was measured on
    /// the same canaries.
    pub standing_rank: u32,
    /// As `standing_rank`, of the spread.
    pub standing_spread: u32,
    /// Loss above the best encoder's, in 1/256 nat.
    pub standing_loss: u32,
    /// Activations and errors that were clamped in the last lesson, of 65536; 0 where there are no canaries.
    pub activations_clamped: u32,
    pub errors_clamped: u32,
    /// Lessons undone, by [`Fault::ALL`].
    pub faults: [u32; Fault::ALL.len()],
    /// Packed weights or published weights that were repaired in place, and entries of the replay buffer that were
    /// damaged and dropped.
    pub repaired: u32,
    pub entries_dropped: u32,
    /// Samples that were gated: no contrast, and stuck.
    pub flat: u64,
    pub stuck: u64,
    /// Exact repeats of the newest sample so far.
    pub repeats: u32,
    /// Exposure against its slow running mean, of the brightness (or of the readings as the encoder takes them): mean
    /// and mean absolute deviation, in 1/256 of a mantissa.
    pub exposure_mean: i32,
    pub exposure_contrast: i32,
    /// Distance of a histogram of the last samples from a slow one, Q15: half the sum of the differences; where there
    /// are canaries.
    pub distribution: Option<u32>,
}

/// What the end of a lesson found of the encoder that had learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Judged {
    /// Effective rank of the unit vectors of the canaries' pooled activations, in 1/256; of a predictor at most that of
    /// its embeddings.
    pub directions: u32,
    /// `ln E exp(−2 ‖f(x) − f(y)‖²)` over pairs of those unit vectors, in 1/256 nat: 0 where all are alike, less the
    /// more evenly they lie (Wang & Isola 2020).
    pub uniformity: i32,
    /// `E ‖f(x) − f(x′)‖²` of the unit embeddings of two views of a canary, Q15: 0 to 4 (Wang & Isola 2020). 0 for tasks
    /// without embeddings.
    pub alignment: u32,
    /// `1 − cos` between a canary's activations by this encoder and by the one published before, on average, Q15.
    pub distance: u32,
}

/// How the published encoder stands against the best one so far.
///
/// A floor relative to the encoder before alone could be walked down, half of half of half. One relative to the best
/// health ever measured would compare numbers of different canaries, which change with the world: so the ratios of
/// encoders that were measured side by side are multiplied up. The best is forgotten slowly, by a 64th of the gap a
/// lesson (a 16th of the loss's), so that what the world really took from an encoder is not held against it for ever;
/// what creeps down more slowly than that ends at the absolute limits. The first lessons forget by 1, 1/2, 1/3 …: layers
/// that are hardly trained are no measure, and some tasks give up much of the rank of random ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Standing {
    /// Shares of the best one's, of 65536.
    pub rank: u32,
    pub spread: u32,
    /// Above the best one's, in 1/256 nat.
    pub loss: u32,
    /// Lessons that were published since there was nothing to stand against, up to where they count.
    pub lessons: u32,
}

impl Standing {
    /// The best so far, and the only one.
    pub const FIRST: Standing = Standing { rank: ONE, spread: ONE, loss: 0, lessons: 0 };

    /// The standing of `new`, measured on the canaries on which the published encoder, whose standing this is, was found
    /// to be `published`, if the lesson may be published. `directions` is the new encoder's effective rank of unit
    /// vectors.
    ///
    /// # Errors
    /// The first [`Fault`] found.
    pub fn judge(&self, published: &Health, new: &Health, directions: u32) -> Result<Standing, Fault> {
        // A rank near 1 may be one of lengths alone: of lines of text, how much of the line is filled. As long as the
        // directions differ, and by more than rounding, that is no collapse.
        let only_lengths = directions >= LEAST_RANK && new.spread >= LEAST_SPREAD;
        if new.effective_rank < LEAST_RANK && !only_lengths {
            return Err(Fault::RankLost);
        }
        let lessons = (self.lessons + 1).min(64);
        let share = |before, new, old| share(before, lessons, new, old);
        let rank = share(self.rank, new.effective_rank, published.effective_rank);
        if rank < ONE / 2 {
            return Err(Fault::RankLost);
        }
        // Of a scene in which nothing moves there is next to none, and nothing to lose.
        let spread = share(self.spread, new.spread + LEAST_SPREAD, published.spread + LEAST_SPREAD);
        if spread < ONE / 4 {
            return Err(Fault::SpreadLost);
        }
        let loss = (self.loss - self.loss / lessons.min(16) + new.loss).saturating_sub(published.loss);
        if loss > 128 {
            return Err(Fault::LossRose);
        }
        if new.saturation > 65536 / 20 {
            return Err(Fault::Saturated);
        }
        Ok(Standing { rank, spread, loss, lessons })
    }
}

const ONE: u32 = 1 << 16;
const ONE_Q15: u32 = 1 << 15;
/// Variance of unit vectors, Q15, that is more than rounding.
const LEAST_SPREAD: u32 = ONE_Q15 / 512;
/// 1.25, below which a rank is as good as 1.
pub const LEAST_RANK: u32 = 320;

/// `before`, of which a part of the gap is forgotten, times `new / old`.
fn share(before: u32, part: u32, new: u32, old: u32) -> u32 {
    let before = u64::from(before + (ONE - before) / part);
    (before * u64::from(new) / u64::from(old.max(1))).min(u64::from(ONE)) as u32
}

/// What the guard keeps from lesson to lesson, where there is a judge. Part of the learner's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Record {
    /// Activations and errors of the lesson that is on: clamped, and all.
    pub activations: [u64; 2],
    pub errors: [u64; 2],
    pub standing: Standing,
    pub judged: Judged,
    /// Whether there is a `judged`.
    pub has_judged: u32,
    /// Of the last lesson, of 65536.
    pub clamped: [u32; 2],
    pub faults: [u32; Fault::ALL.len()],
    pub repaired: u32,
    pub dropped: u32,
    pub histogram: watch::Histogram,
}

impl Record {
    pub fn at_start() -> Self {
        Record { standing: Standing::FIRST, ..Zeroable::zeroed() }
    }

    /// Ends the lesson's counts.
    pub fn close_lesson(&mut self) {
        let of_all = |[clamped, all]: [u64; 2]| (clamped * 65536).checked_div(all).unwrap_or(0) as u32;
        self.clamped = [of_all(self.activations), of_all(self.errors)];
        (self.activations, self.errors) = ([0; 2], [0; 2]);
    }
}

/// Cosine of two rows, Q15. A row of zeros has the cosine 1 with another one, and 0 with all others.
pub fn cosine(a: &[i32], b: &[i32]) -> i32 {
    // 20 bits each, so that no sum of squares passes 64.
    let [by_a, by_b] = [a, b].map(|row| shift_for(largest(row), 20));
    let dot = |a: &[i32], by_a: u32, b: &[i32], by_b: u32| -> i64 {
        a.iter().zip(b).map(|(&a, &b)| i64::from(a >> by_a) * i64::from(b >> by_b)).sum()
    };
    let squares = [dot(a, by_a, a, by_a), dot(b, by_b, b, by_b)];
    let [long, short] = squares.map(|square| i64::from(isqrt(square.unsigned_abs())));
    match (long, short) {
        (0, 0) => 1 << 15,
        (0, _) | (_, 0) => 0,
        _ => {
            let product = i128::from(dot(a, by_a, b, by_b)) << 15;
            (product / (i128::from(long) * i128::from(short))).clamp(-(1 << 15), 1 << 15) as i32
        }
    }
}

/// Effective rank, in 1/256, of the unit vectors of `rows` of `dim` numbers, and their uniformity, in 1/256 nat.
pub fn directions(rows: &[i32], dim: usize) -> (u32, i32) {
    let count = (rows.len() / dim) as i64;
    if count < 2 {
        return (256, 0);
    }
    // The Gram matrix is centred by its sums: tr HGH = tr G − Σ/n, ‖HGH‖² = ‖G‖² − 2 Σ rᵢ²/n + (Σ/n)².
    let (mut all, mut squares, mut row_squares, mut exponentials) = (0i64, 0i128, 0i128, 0u64);
    for (i, a) in rows.chunks_exact(dim).enumerate() {
        let mut sum = 0i64;
        for (j, b) in rows.chunks_exact(dim).enumerate() {
            let cosine = i64::from(if i == j { 1 << 15 } else { cosine(a, b) });
            sum += cosine;
            squares += i128::from(cosine * cosine);
            if j < i {
                // exp(−2 (2 − 2 cos)), by a table whose 8 nats are all that can be.
                let steps = ((ONE_Q15 as i64 - cosine) * i64::from(4 * EXP_STEPS_PER_NAT)) >> 15;
                exponentials += u64::from(EXP_TABLE.get(steps as usize).copied().unwrap_or(0));
            }
        }
        all += sum;
        row_squares += i128::from(sum) * i128::from(sum);
    }
    let n = i128::from(count);
    let trace = (n << 15) - i128::from(all) / n;
    let squares = squares - 2 * row_squares / n + i128::from(all) * i128::from(all) / (n * n);
    let rank = if squares < 256 { 256 } else { (trace * trace / (squares >> 8)) as u32 };
    let pairs = (count * (count - 1) / 2) as u64;
    let nats = |x: u64| (u64::from(log2_q8(x.max(1))) * LN2_Q16) >> 16;
    (rank, nats(exponentials) as i32 - nats(pairs * 32767) as i32)
}

/// Effective rank (1/256) and spread (Q15) of `rows` of `dim` numbers each. `rows` is overwritten.
pub fn rank_and_spread(rows: &mut [i32], dim: usize) -> (u32, u32) {
    let count = rows.len() / dim;
    if count < 2 {
        return (256, 0);
    }
    // 10 bits are enough for a meter and keep every product below within 64 bits.
    let shift = shift_for(largest(rows), 11);
    rows.iter_mut().for_each(|v| *v >>= shift);
    let spread = spread(rows, dim);
    for k in 0..dim {
        let sum: i64 = rows.iter().skip(k).step_by(dim).map(|&v| i64::from(v)).sum();
        // Centred at 16 times the precision.
        let mean = (16 * sum).div_euclid(count as i64) as i32;
        rows.iter_mut().skip(k).step_by(dim).for_each(|v| *v = 16 * *v - mean);
    }
    // The Gram matrix of the rows has the covariance's non-zero spectrum.
    let (mut trace, mut squares) = (0u128, 0u128);
    for (i, a) in rows.chunks_exact(dim).enumerate() {
        for (j, b) in rows.chunks_exact(dim).enumerate() {
            let product: i64 = a.iter().zip(b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
            squares += u128::from(product.unsigned_abs()).pow(2);
            if i == j {
                trace += product as u128;
            }
        }
    }
    // All rows equal: the covariance is zero, and so collapsed.
    let rank = (trace * trace).checked_div(squares >> 8).unwrap_or(256);
    (rank as u32, spread)
}

/// `1 − |mean of the unit vectors|²`, Q15.
fn spread(rows: &[i32], dim: usize) -> u32 {
    let count = (rows.len() / dim) as i64;
    let norm = |row: &[i32]| i64::from(isqrt(row.iter().map(|&v| u64::from(v.unsigned_abs()).pow(2)).sum())).max(1);
    let mut squares = 0i64;
    for k in 0..dim {
        let sum: i64 = rows.chunks_exact(dim).map(|row| (i64::from(row[k]) << 15) / norm(row)).sum();
        let mean = sum / count;
        squares += mean * mean;
    }
    (1i64 << 15).saturating_sub(squares >> 15).max(0) as u32
}

/// Share of `weights` at ±127, of 65536.
pub fn saturation(weights: &[i8]) -> u32 {
    let saturated = weights.iter().filter(|w| w.unsigned_abs() == 127).count() as u64;
    (saturated * 65536 / weights.len().max(1) as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::random::Draws;
    use crate::sample::Seed;

    /// `directions` independent directions of equal strength, around a common offset.
    fn rows(count: usize, dim: usize, directions: usize, offset: i32) -> Vec<i32> {
        let draws = Draws::new(Seed(5), 0, 0);
        (0..count * dim)
            .map(|i| offset + if i % dim < directions { draws.between(i as u32, -3000, 3000) } else { 0 })
            .collect()
    }

    #[test]
    fn the_effective_rank_counts_equal_directions() {
        for directions in [1, 2, 5, 10] {
            let (rank, _) = rank_and_spread(&mut rows(400, 24, directions, 5000), 24);
            let rank = f64::from(rank) / 256.0;
            assert!((rank - directions as f64).abs() < 0.1 * directions as f64, "{directions}: {rank}");
        }
    }

    #[test]
    fn collapsed_features_have_rank_one_and_no_spread_and_are_refused() {
        let (rank, spread) = rank_and_spread(&mut rows(32, 16, 0, 700), 16);
        assert!(rank <= 256 && spread < 200, "{rank} {spread}");
        let healthy = Health { effective_rank: 1500, spread: 9000, loss: 700, saturation: 100 };
        let judge = |new: Health| Standing::FIRST.judge(&healthy, &new, 1500);
        assert_eq!(judge(Health { effective_rank: 700, ..healthy }), Err(Fault::RankLost));
        assert_eq!(judge(Health { spread, ..healthy }), Err(Fault::SpreadLost));
        assert_eq!(judge(Health { loss: 840, ..healthy }), Err(Fault::LossRose));
        assert_eq!(judge(Health { saturation: 9000, ..healthy }), Err(Fault::Saturated));
        assert_eq!(judge(healthy), Ok(Standing { lessons: 1, ..Standing::FIRST }));
        // A scene in which nothing moves: what differs is the sensor's noise.
        let still = Health { spread: 0, ..healthy };
        assert!(Standing::FIRST.judge(&still, &still, 2000).is_ok());
        // Against an encoder that is as low already.
        let low = Health { effective_rank: rank, ..healthy };
        let (directions, _) = directions(&rows(32, 16, 0, 700), 16);
        assert_eq!(Standing::FIRST.judge(&low, &low, directions), Err(Fault::RankLost));
    }

    #[test]
    fn the_floor_cannot_be_walked_down() {
        let walk = |mut new: Health, each: fn(&mut Health)| {
            let (first, mut standing) = (new, Standing { lessons: 64, ..Standing::FIRST });
            for _ in 0..200 {
                let before = new;
                each(&mut new);
                match standing.judge(&before, &new, 2000) {
                    Ok(next) => standing = next,
                    Err(_) => return (first, before),
                }
            }
            (first, new)
        };
        let healthy = Health { effective_rank: 8000, spread: 20000, loss: 700, saturation: 100 };
        let (first, last) = walk(healthy, |h| h.effective_rank = h.effective_rank * 9 / 10);
        assert!(3 * last.effective_rank > first.effective_rank, "{last:?}");
        let (first, last) = walk(healthy, |h| h.spread = h.spread * 8 / 10);
        assert!(6 * last.spread > first.spread, "{last:?}");
        let (first, last) = walk(healthy, |h| h.loss += 40);
        assert!(last.loss < first.loss + 256, "{last:?}");
        // What is lost slowly enough is the world's, down to the absolute limits.
        let (_, last) = walk(healthy, |h| h.effective_rank -= h.effective_rank / 200);
        assert!(last.effective_rank < healthy.effective_rank / 2, "{last:?}");
    }

    #[test]
    fn early_lessons_may_give_up_what_random_layers_had() {
        // 0.7 to 0.9 of the rank in each of six lessons, as where windows are rebuilt: too much for one that has stood.
        let walk = |mut standing: Standing| {
            let mut new = Health { effective_rank: 8000, spread: 20000, loss: 700, saturation: 100 };
            for lesson in 0..6 {
                let before = new;
                new.effective_rank = new.effective_rank * (7 + lesson / 2) / 10;
                standing = standing.judge(&before, &new, 2000)?;
            }
            Ok(standing)
        };
        assert!(walk(Standing::FIRST).is_ok());
        assert_eq!(walk(Standing { lessons: 64, ..Standing::FIRST }), Err(Fault::RankLost));
    }

    #[test]
    fn lines_that_differ_in_length_alone_are_told_from_a_collapse() {
        let draws = Draws::new(Seed(9), 0, 0);
        let line = |scale: i32, noise: i32| -> Vec<i32> {
            let one = |i: u32| 800 + draws.between(1000 + i % 16, 0, 300) + draws.between(i, -noise, noise);
            (0..32 * 16).map(|i| one(i) * (1 + (i / 16) as i32 % 9 * scale)).collect()
        };
        let (filled, collapsed) = (line(3, 250), line(3, 0));
        let [(rank, spread), (low, none)] = [&filled, &collapsed].map(|r| rank_and_spread(&mut r.clone(), 16));
        assert!(rank < LEAST_RANK && low < LEAST_RANK, "{rank} {low}");
        let judge = |effective_rank, spread, rows: &[i32]| {
            let health = Health { effective_rank, spread, ..Health::default() };
            Standing::FIRST.judge(&health, &health, directions(rows, 16).0)
        };
        assert_eq!(judge(rank, spread, &filled), Ok(Standing { lessons: 1, ..Standing::FIRST }));
        assert_eq!(judge(low, none, &collapsed), Err(Fault::RankLost));
    }

    #[test]
    fn directions_and_uniformity_are_what_floating_point_finds() {
        let rows = rows(60, 24, 10, 900);
        let unit: Vec<Vec<f64>> = rows
            .chunks_exact(24)
            .map(|row| {
                let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                row.iter().map(|&v| f64::from(v) / norm).collect()
            })
            .collect();
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (i, a) in unit.iter().enumerate() {
            for b in &unit[..i] {
                let square: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
                sum += (-2.0 * square).exp();
                pairs += 1.0;
            }
        }
        let mut scaled: Vec<i32> = unit.iter().flatten().map(|v| (v * 16384.0) as i32).collect();
        let (rank, uniformity) = directions(&rows, 24);
        assert!((f64::from(uniformity) / 256.0 - f64::ln(sum / pairs)).abs() < 0.05, "{uniformity}");
        let exact = rank_and_spread(&mut scaled, 24).0;
        assert!(rank.abs_diff(exact) < exact / 20, "{rank} {exact}");
    }
}
