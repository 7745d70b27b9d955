//! Log-mel maps `[bands, columns]`, `u8` in steps of 0.376 dB: scales of the bands learned from the stream, and views.
//!
//! Masks and stretching in time are those of SpecAugment (Park et al. 2019, arXiv:1904.08779); frequencies are warped as
//! between vocal tracts of different length (Jaitly and Hinton 2013), and a random equaliser stands for another
//! microphone and room: what is left in common is what was said.

use super::noise;
use super::signal::{ChannelScale, scaled};
use crate::fixed::random::Draws;
use crate::kernels::Map;
use crate::net::spec::ViewSpec;

/// Elements of the draws of one view, kept apart.
mod element {
    pub const STRETCH: u32 = 0;
    pub const SHIFT: u32 = 1;
    pub const WARP: u32 = 2;
    pub const TRANSPOSE: u32 = 3;
    pub const OFFSET: u32 = 4;
    pub const FLOOR: u32 = 5;
    pub const MASK: u32 = 6;
    pub const MASK_BANDS: u32 = 8;
    pub const EQUALISER: u32 = 16;
    pub const NOISE: u32 = 1 << 16;
}

/// Points between which the equaliser is straight.
const POINTS: usize = 5;

/// Takes note of one map; all bands share one factor, and each has its own mean.
pub fn follow(scales: &mut [ChannelScale], levels: &[u8]) {
    let columns = (levels.len() / scales.len().max(1)).max(1);
    for (scale, row) in scales.iter_mut().zip(levels.chunks_exact(columns)) {
        scale.see(row.iter().map(|&v| i64::from(v) << 8), columns as i64);
    }
    ChannelScale::share_factor(scales);
}

/// The encoder's input of a map, without any change.
pub fn to_input(scales: &[ChannelScale], levels: &[u8], out: &mut [i8]) {
    let columns = (levels.len() / scales.len().max(1)).max(1);
    let rows = levels.chunks_exact(columns).zip(out.chunks_exact_mut(columns));
    for (scale, (row, out)) in scales.iter().zip(rows) {
        for (&v, o) in row.iter().zip(out) {
            *o = scaled(scale, i64::from(v) << 8).clamp(-127, 127) as i8;
        }
    }
}

/// Where `at`, in 1/256, lies among `len` places: two of them and the weight of the second in 1/256. Beyond the ends it
/// goes on as at the end.
fn tap(at: i32, len: usize) -> (usize, usize, u32) {
    let at = at.clamp(0, (len as i32 - 1) << 8);
    let first = (at >> 8) as usize;
    (first, (first + 1).min(len - 1), (at & 255) as u32)
}

/// Places of an axis seen at a pace of `pace`/256 about its middle and moved by `moved`/256.
fn place(i: usize, len: usize, pace: i32, moved: i32) -> i32 {
    // In half steps, as the middle may lie between two.
    let from_middle = 2 * i as i32 + 1 - len as i32;
    ((from_middle * pace) >> 1) + (((len as i32 - 1) << 8) >> 1) + moved
}

/// Part of an axis that is masked, at most `share`/256 of it.
fn block(draws: Draws, element: u32, share: u32, len: usize) -> core::ops::Range<usize> {
    let len = len as u32;
    let masked = (len * draws.below(element, share.min(256) + 1)) >> 8;
    let start = draws.below(element + 1, len - masked + 1);
    start as usize..(start + masked) as usize
}

/// What is added to a band by an equaliser through `points`, in 1/256 step.
fn equalised(points: &[i32; POINTS], band: usize, bands: usize) -> i32 {
    let at = (band * (POINTS - 1)) << 8;
    let at = (at / (bands - 1).max(1)) as i32;
    let (first, second, weight) = tap(at, POINTS);
    points[first] * (256 - weight as i32) + points[second] * weight as i32
}

/// One view of a map `[bands, columns]`, as the encoder's input `i8`. Silence stays silent, but for the noise floor.
pub fn view(spec: &ViewSpec, scales: &[ChannelScale], levels: &[u8], map: Map, draws: Draws, out: &mut [i8]) {
    let (bands, columns) = (map.height, map.width);
    let upto = |element, most: u32| draws.between(element, -(most as i32), most as i32);
    let pace = 256 + upto(element::STRETCH, spec.stretch);
    let shift = upto(element::SHIFT, spec.shift) * columns as i32;
    let warp = 256 + upto(element::WARP, spec.warp);
    let transpose = upto(element::TRANSPOSE, spec.transpose << 4);
    let offset = upto(element::OFFSET, spec.offset << 8);
    let points = core::array::from_fn(|i| upto(element::EQUALISER + i as u32, spec.equaliser));
    let floor = draws.below(element::FLOOR, spec.floor + 1) << 8;
    let masked_columns = block(draws, element::MASK, spec.mask, columns);
    let masked_bands = block(draws, element::MASK_BANDS, spec.mask_bands, bands);
    for (band, (scale, out)) in scales.iter().zip(out.chunks_exact_mut(columns)).enumerate() {
        if masked_bands.contains(&band) {
            out.fill(0);
            continue;
        }
        let (low, high, weight) = tap(place(band, bands, warp, transpose), bands);
        let row = |band: usize| &levels[band * columns..][..columns];
        let (low, high) = (row(low), row(high));
        let gain = offset + equalised(&points, band, bands);
        for (column, o) in out.iter_mut().enumerate() {
            if masked_columns.contains(&column) {
                *o = 0;
                continue;
            }
            let (before, after, across) = tap(place(column, columns, pace, shift), columns);
            let blend = |row: &[u8]| u32::from(row[before]) * (256 - across) + u32::from(row[after]) * across;
            let level = (blend(low) * (256 - weight) + blend(high) * weight) >> 8;
            let level = if level == 0 { 0 } else { (level as i32 + gain).clamp(0, 255 << 8) };
            let mut value = scaled(scale, i64::from(level.max(floor as i32)));
            if spec.noise > 0 {
                value += noise(draws, element::NOISE + (band * columns + column) as u32, spec.noise);
            }
            *o = value.clamp(-127, 127) as i8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Seed;

    const MAP: Map = Map { height: 16, width: 24, channels: 1 };

    /// Nothing is changed.
    fn still() -> ViewSpec {
        ViewSpec { crop_area: 256, gain: 0, ..Default::default() }
    }

    /// Scales under which the input is `level − 100`.
    fn scales() -> Vec<ChannelScale> {
        let mut scales = vec![ChannelScale::default(); MAP.height];
        // Half the levels 24 above and half 24 below.
        (0..2000).for_each(|_| follow(&mut scales, &[76, 124].repeat(MAP.len() / 2)));
        scales
    }

    fn levels() -> Vec<u8> {
        (0..MAP.len()).map(|i| (60 + i % 24 * 2 + i / 24 * 3) as u8).collect()
    }

    fn made(spec: &ViewSpec, levels: &[u8], step: u64) -> Vec<i32> {
        let mut out = vec![0; MAP.len()];
        view(spec, &scales(), levels, MAP, Draws::new(Seed(1), step, 0), &mut out);
        out.iter().map(|&v| i32::from(v) + 100).collect()
    }

    #[test]
    fn a_view_without_any_change_is_what_perception_sees() {
        let mut perceived = vec![0; MAP.len()];
        to_input(&scales(), &levels(), &mut perceived);
        let perceived: Vec<i32> = perceived.iter().map(|&v| i32::from(v) + 100).collect();
        assert_eq!(made(&still(), &levels(), 3), perceived);
        assert_eq!(perceived, levels().iter().map(|&v| i32::from(v)).collect::<Vec<_>>());
    }

    /// Column and band of the one loud place.
    fn peak(map: &[i32]) -> (i32, i32) {
        let (at, _) = map.iter().enumerate().max_by_key(|(_, v)| **v).unwrap();
        ((at % 24) as i32, (at / 24) as i32)
    }

    fn spot(column: usize, band: usize) -> Vec<u8> {
        let mut levels = vec![20; MAP.len()];
        levels[band * 24 + column] = 220;
        levels
    }

    #[test]
    fn shifts_and_transpositions_move_by_no_more_than_they_say_and_by_all_of_it() {
        let of = |spec: &ViewSpec| -> Vec<(i32, i32)> {
            (0..300).map(|step| peak(&made(spec, &spot(12, 8), step))).map(|(c, b)| (c - 12, b - 8)).collect()
        };
        let range = |moves: &[i32]| (moves.iter().min().copied(), moves.iter().max().copied());
        let (columns, bands): (Vec<i32>, Vec<i32>) = of(&ViewSpec { shift: 64, ..still() }).into_iter().unzip();
        assert_eq!((range(&columns), range(&bands)), ((Some(-6), Some(6)), (Some(0), Some(0))));
        let (columns, bands): (Vec<i32>, Vec<i32>) = of(&ViewSpec { transpose: 32, ..still() }).into_iter().unzip();
        assert_eq!((range(&columns), range(&bands)), ((Some(0), Some(0)), (Some(-2), Some(2))));
    }

    #[test]
    fn stretching_and_warping_move_what_is_far_from_the_middle() {
        let spread = |spec: &ViewSpec, column, band| -> Vec<(i32, i32)> {
            (0..200).map(|step| peak(&made(spec, &spot(column, band), step))).collect()
        };
        let stretched = ViewSpec { stretch: 64, ..still() };
        assert!(spread(&stretched, 12, 3).iter().all(|&(c, b)| (11..=13).contains(&c) && b == 3));
        let far: Vec<i32> = spread(&stretched, 4, 3).into_iter().map(|(c, _)| c).collect();
        assert!(far.iter().any(|&c| c <= 2) && far.iter().any(|&c| c >= 5), "{far:?}");
        let warped = ViewSpec { warp: 64, ..still() };
        let far: Vec<(i32, i32)> = spread(&warped, 4, 13);
        assert!(far.iter().all(|&(c, _)| c == 4));
        assert!(far.iter().any(|&(_, b)| b <= 12) && far.iter().any(|&(_, b)| b >= 14), "{far:?}");
    }

    #[test]
    fn gain_lifts_all_bands_alike_and_an_equaliser_bends_smoothly() {
        for step in 0..100 {
            let gained = made(&ViewSpec { offset: 20, ..still() }, &levels(), step);
            let lifts: Vec<i32> = gained.iter().zip(levels()).map(|(v, was)| v - i32::from(was)).collect();
            assert!(lifts.iter().all(|lift| (lift - lifts[0]).abs() <= 1 && lift.abs() <= 20), "{lifts:?}");
            let bent = made(&ViewSpec { equaliser: 20, ..still() }, &levels(), step);
            let curve: Vec<i32> = (0..16).map(|b| bent[b * 24 + 5] - i32::from(levels()[b * 24 + 5])).collect();
            // Four straight pieces over sixteen bands: at most 40 up or down in each.
            assert!(curve.windows(2).all(|w| (w[1] - w[0]).abs() <= 40 * 4 / 15 + 1), "{curve:?}");
            assert!(curve.iter().all(|lift| lift.abs() <= 20));
        }
    }

    #[test]
    fn silence_stays_silent_until_there_is_a_noise_floor() {
        let silence = vec![0; MAP.len()];
        let loud = ViewSpec { offset: 40, equaliser: 40, ..still() };
        let quietest = made(&still(), &silence, 0);
        assert!((0..50).all(|step| made(&loud, &silence, step) == quietest));
        let noisy = ViewSpec { floor: 60, ..still() };
        let mut levels = silence;
        levels[100] = 200;
        let floors: Vec<i32> = (0..100)
            .map(|step| made(&noisy, &levels, step))
            .map(|map| {
                assert_eq!(map[100], 200);
                map[0]
            })
            .collect();
        assert!(floors.iter().all(|&floor| (-27..=60).contains(&floor)) && floors.iter().any(|&floor| floor > 50));
    }

    #[test]
    fn masks_are_whole_columns_and_whole_bands_within_their_share() {
        let spec = ViewSpec { mask: 64, mask_bands: 64, ..still() };
        let levels = vec![150; MAP.len()];
        let mut most = (0, 0);
        for step in 0..200 {
            let map = made(&spec, &levels, step);
            let masked = |c: usize, b: usize| map[b * 24 + c] == 100;
            let columns = (0..24).filter(|&c| (0..16).all(|b| masked(c, b))).count();
            let bands = (0..16).filter(|&b| (0..24).all(|c| masked(c, b))).count();
            assert_eq!(map.iter().filter(|&&v| v == 100).count(), columns * 16 + bands * 24 - columns * bands);
            most = (most.0.max(columns), most.1.max(bands));
        }
        assert_eq!(most, (6, 4));
    }
}
