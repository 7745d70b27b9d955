//! Narrowing of `i32` sums to 8-bit mantissas, with the scan for the next shift in the same pass.
//!
//! Kernels hand finished sums to a [`Sink`] while they are still in registers or the nearest cache, so no map of
//! accumulators exists. What a sink does with a sum is the same whichever kernel made it.

use core::ops::{AddAssign, Range};

use super::tile::{COLUMNS, Isa, Portable, ROWS, lanes, load};
use super::{Grid, Map};
use crate::fixed::random::Draws;
use crate::fixed::{I8_MAX, Seen, round_nearest, saturate_i8};

/// Takes sums as they are finished, each once, in any order.
pub trait Sink {
    /// Row `i` of `sums`, of at most [`ROWS`], holds `count` sums of consecutive channels from `channel` on, for the
    /// elements of the map from `offsets[i]` on.
    fn take<I: Isa>(&mut self, isa: I, offsets: &[usize], channel: usize, count: usize, sums: &[[i32; COLUMNS]]);
}

/// Keeps the sums themselves.
pub struct Keep<'a>(pub &'a mut [i32]);

impl Sink for Keep<'_> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, _: I, offsets: &[usize], _: usize, count: usize, sums: &[[i32; COLUMNS]]) {
        for (&at, sums) in offsets.iter().zip(sums) {
            self.0[at..at + count].copy_from_slice(&sums[..count]);
        }
    }
}

/// Keeps nothing but the largest magnitude: for the exact shift of a tensor that was never seen before.
#[derive(Default)]
pub struct Largest<'a> {
    pub magnitude: u32,
    /// Elements whose activation is 0 do not count.
    pub active: Option<&'a [i8]>,
}

impl Sink for Largest<'_> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, _: I, offsets: &[usize], _: usize, count: usize, sums: &[[i32; COLUMNS]]) {
        for (&at, sums) in offsets.iter().zip(sums) {
            for (lane, sum) in sums[..count].iter().enumerate() {
                if self.active.is_none_or(|active| active[at + lane] > 0) {
                    self.magnitude = self.magnitude.max(sum.unsigned_abs());
                }
            }
        }
    }
}

/// What narrowing saw, lane by lane so that it stays in vector registers; which lane does not matter.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub max: [i32; COLUMNS],
    pub clamped: [i32; COLUMNS],
    pub upper_half: [i32; COLUMNS],
}

impl Tally {
    /// Notes magnitudes `a` before and mantissas `y` after the shift. Lanes beyond a row hold 0 and count nothing.
    #[inline(always)]
    fn note(&mut self, a: &[i32; COLUMNS], y: &[i32; COLUMNS]) {
        self.max = lanes(|l| self.max[l].max(a[l]));
        self.clamped = lanes(|l| self.clamped[l] + i32::from(y[l] > I8_MAX));
        self.upper_half = lanes(|l| self.upper_half[l] + i32::from(y[l] > I8_MAX / 2));
    }

    /// Notes what was seen one by one: in the first lane.
    #[inline(always)]
    fn note_one(&mut self, max: i32, clamped: i32, upper_half: i32) {
        self.max[0] = self.max[0].max(max);
        self.clamped[0] += clamped;
        self.upper_half[0] += upper_half;
    }

    /// Of `total` numbers.
    pub fn seen(&self, total: usize) -> Seen {
        let sum = |lanes: &[i32; COLUMNS]| lanes.iter().map(|&n| n as u32).sum();
        Seen {
            max: self.max.iter().copied().max().unwrap_or(0) as u32,
            clamped: sum(&self.clamped),
            upper_half: sum(&self.upper_half),
            total: total as u32,
        }
    }
}

/// Rows of sums that are narrowed at a time: as a [`Sink`] gets them, all [`COLUMNS`] wide.
pub struct Rows<'a> {
    pub offsets: &'a [usize],
    pub sums: &'a [[i32; COLUMNS]],
    pub out: &'a mut [i8],
}

/// How [`Relu`] narrows: `out = clamp(RN(sum − threshold, shift), 0, 127)`; and [`Linear`], to ±127.
#[derive(Clone, Copy)]
pub struct ToNearest {
    pub shift: u32,
    pub thresholds: [i32; COLUMNS],
}

/// How [`Random`] narrows: `out = clamp(SR(sum, shift), ±127)`, and 0 where not active.
#[derive(Clone, Copy)]
pub struct AtRandom<'a> {
    pub shift: u32,
    pub draws: Draws,
    /// Number of the draw for the element at offset 0.
    pub first: u32,
    pub active: Option<&'a [i8]>,
}

/// What is added before a shift to the right, to round to nearest.
const fn half(shift: u32) -> i32 {
    if shift == 0 { 0 } else { 1 << (shift - 1) }
}

/// Narrows as [`ToNearest`], one sum after the other: for processors without vector registers.
#[inline(always)]
fn relu_one_by_one(shift: u32, thresholds: &[i32], sums: &[i32], out: &mut [i8], tally: &mut Tally) {
    let half = half(shift);
    let (mut max, mut clamped, mut upper_half) = (0, 0, 0);
    for ((out, &sum), &threshold) in out.iter_mut().zip(sums).zip(thresholds) {
        *out = 0;
        // Most sums end here.
        if sum <= threshold {
            continue;
        }
        let a = sum - threshold;
        let y = (a + half) >> shift;
        max = a.max(max);
        if y > I8_MAX / 2 {
            upper_half += 1;
            clamped += i32::from(y > I8_MAX);
        }
        *out = y.min(I8_MAX) as i8;
    }
    tally.note_one(max, clamped, upper_half);
}

/// The thresholds of `count` channels from `channel` on; where there are none they are 0.
fn thresholds_of(thresholds: &[i32], channel: usize, count: usize) -> &[i32] {
    static NONE: [i32; COLUMNS] = [0; COLUMNS];
    thresholds.get(channel..channel + count).unwrap_or(&NONE)
}

impl ToNearest {
    /// In plain code, for the first `count` sums of each row.
    #[inline(always)]
    pub fn plain(&self, rows: Rows, count: usize, tally: &mut Tally) {
        self.narrow::<false>(rows, count, tally);
    }

    /// As [`ToNearest::plain`], but what is negative stays.
    #[inline(always)]
    pub fn plain_with_sign(&self, rows: Rows, count: usize, tally: &mut Tally) {
        self.narrow::<true>(rows, count, tally);
    }

    #[inline(always)]
    fn narrow<const SIGNED: bool>(&self, rows: Rows, count: usize, tally: &mut Tally) {
        let half = half(self.shift);
        let least = if SIGNED { i32::MIN } else { 0 };
        for (&at, sums) in rows.offsets.iter().zip(rows.sums) {
            let a = lanes(|l| if l < count { (sums[l] - self.thresholds[l]).max(least) } else { 0 });
            let y = lanes(|l| (a[l] + half) >> self.shift);
            tally.note(&lanes(|l| a[l].abs()), &lanes(|l| y[l].abs()));
            rows.out[at..at + count].copy_from_slice(&lanes(|l| y[l].clamp(-I8_MAX, I8_MAX) as i8)[..count]);
        }
    }
}

impl AtRandom<'_> {
    /// One sum after the other, for processors without vector registers.
    #[inline(always)]
    fn one_by_one(&self, rows: Rows, count: usize, tally: &mut Tally) {
        let (mut max, mut clamped, mut upper_half) = (0, 0, 0);
        for (&at, sums) in rows.offsets.iter().zip(rows.sums) {
            let out = &mut rows.out[at..at + count];
            for (lane, (out, &sum)) in out.iter_mut().zip(sums).enumerate() {
                *out = 0;
                if self.active.is_some_and(|active| active[at + lane] <= 0) {
                    continue;
                }
                // As in `plain`.
                let bits = self.draws.bits(self.first.wrapping_add((at + lane) as u32));
                let y = (sum + ((bits >> 1) >> (31 - self.shift)) as i32) >> self.shift;
                max = sum.abs().max(max);
                clamped += i32::from(y.abs() > I8_MAX);
                upper_half += i32::from(y.abs() > I8_MAX / 2);
                *out = saturate_i8(y);
            }
        }
        tally.note_one(max, clamped, upper_half);
    }

    /// In plain code, for the first `count` sums of each row.
    #[inline(always)]
    pub fn plain(&self, rows: Rows, count: usize, tally: &mut Tally) {
        for (&at, sums) in rows.offsets.iter().zip(rows.sums) {
            // A sum of 0 narrows to 0 whatever is drawn.
            let live = |l| l < count && self.active.is_none_or(|active| active[at + l] > 0);
            let a = lanes(|l| if live(l) { sums[l] } else { 0 });
            // As `fixed::round_random`; |sum| < 2^31 − 2^shift by the plan, so 32 bits are enough.
            let y = lanes(|l| {
                let bits = self.draws.bits(self.first.wrapping_add((at + l) as u32));
                (a[l] + ((bits >> 1) >> (31 - self.shift)) as i32) >> self.shift
            });
            tally.note(&lanes(|l| a[l].abs()), &lanes(|l| y[l].abs()));
            rows.out[at..at + count].copy_from_slice(&lanes(|l| y[l].clamp(-I8_MAX, I8_MAX) as i8)[..count]);
        }
    }
}

#[inline(always)]
fn narrow_full<I: Isa, const SIGNED: bool>(isa: I, how: &ToNearest, rows: Rows, tally: &mut Tally) {
    if SIGNED {
        isa.narrow_with_sign(how, rows, tally);
    } else {
        isa.narrow_to_nearest(how, rows, tally);
    }
}

/// Narrows the first `count` sums of each row, row after row.
#[inline(always)]
fn narrow_aside<I: Isa, const SIGNED: bool>(
    isa: I,
    how: &ToNearest,
    sums: &[[i32; COLUMNS]],
    count: usize,
    tally: &mut Tally,
) -> [i8; ROWS * COLUMNS] {
    let mut out = [0; ROWS * COLUMNS];
    const OFFSETS: [usize; ROWS] = [0, COLUMNS, 2 * COLUMNS, 3 * COLUMNS, 4 * COLUMNS, 5 * COLUMNS];
    let mut cut = [[0; COLUMNS]; ROWS];
    let mut rows = Rows { offsets: &OFFSETS[..sums.len()], sums, out: &mut out };
    if count < COLUMNS {
        // What stands in the other lanes is no sum; 0 counts nothing.
        let live: [i32; COLUMNS] = lanes(|l| if l < count { -1 } else { 0 });
        for (cut, sums) in cut.iter_mut().zip(sums) {
            *cut = lanes(|l| sums[l] & live[l]);
        }
        rows.sums = &cut[..sums.len()];
    }
    narrow_full::<I, SIGNED>(isa, how, rows, tally);
    out
}

/// ReLU and narrowing: `out = clamp(RN(sum − threshold, shift), 0, 127)`.
pub type Relu<'a> = Nearest<'a, false>;

/// Narrowing alone, of a layer without an activation: `out = clamp(RN(sum − threshold, shift), ±127)`.
pub type Linear<'a> = Nearest<'a, true>;

/// [`Linear`] where `SIGNED`, otherwise [`Relu`].
pub struct Nearest<'a, const SIGNED: bool> {
    shift: u32,
    /// One number a channel; empty: 0.
    thresholds: &'a [i32],
    out: &'a mut [i8],
    tally: Tally,
}

impl<'a, const SIGNED: bool> Nearest<'a, SIGNED> {
    pub fn new(shift: u32, thresholds: &'a [i32], out: &'a mut [i8]) -> Self {
        Nearest { shift, thresholds, out, tally: Tally::default() }
    }

    /// What was seen, once all of the map is written.
    pub fn seen(&self) -> Seen {
        self.tally.seen(self.out.len())
    }
}

impl<const SIGNED: bool> Sink for Nearest<'_, SIGNED> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, isa: I, offsets: &[usize], channel: usize, count: usize, sums: &[[i32; COLUMNS]]) {
        let thresholds = thresholds_of(self.thresholds, channel, count);
        if I::ONE_BY_ONE && !SIGNED {
            for (&at, sums) in offsets.iter().zip(sums) {
                relu_one_by_one(self.shift, thresholds, sums, &mut self.out[at..at + count], &mut self.tally);
            }
            return;
        }
        let how = ToNearest { shift: self.shift, thresholds: load(thresholds) };
        let rows = Rows { offsets, sums, out: self.out };
        if count == COLUMNS {
            narrow_full::<I, SIGNED>(isa, &how, rows, &mut self.tally);
        } else {
            let narrowed = narrow_aside::<I, SIGNED>(isa, &how, sums, count, &mut self.tally);
            for (&at, narrowed) in offsets.iter().zip(narrowed.as_chunks::<COLUMNS>().0) {
                rows.out[at..at + count].copy_from_slice(&narrowed[..count]);
            }
        }
    }
}

/// The window sums of a map whose values are not kept, in 16 or 32 bits.
pub struct Windows<'a, T> {
    pub grid: Grid,
    /// `[cells down, cells across, channels]`.
    pub sums: &'a mut [T],
    /// The places added last: channels of a position come a block after the other.
    recent: [Place; 2],
}

/// Where a position of the map begins, and the cells down and across whose windows hold it; they are neighbours.
#[derive(Clone)]
struct Place {
    at: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<'a, T: Copy + Default + AddAssign + From<i8>> Windows<'a, T> {
    pub fn new(grid: Grid, sums: &'a mut [T]) -> Self {
        let none = Place { at: usize::MAX, rows: 0..0, columns: 0..0 };
        Windows { grid, sums, recent: [none.clone(), none] }
    }

    /// The place of the position that begins `at`.
    fn place(&self, at: usize) -> Place {
        let (Grid { map, cells, .. }, position) = (self.grid, at / self.grid.map.channels);
        let (y, x) = (position / map.width, position % map.width);
        let holding = |cells: usize, holds: &dyn Fn(usize) -> bool| {
            let first = (0..cells).find(|&cell| holds(cell)).unwrap_or(cells);
            first..first + (first..cells).take_while(|&cell| holds(cell)).count()
        };
        let rows = holding(cells.0, &|row| self.grid.rows(row).contains(&y));
        let columns = holding(cells.1, &|column| self.grid.columns(column).contains(&x));
        Place { at, rows, columns }
    }

    /// Adds `values`, the channels from `channel` on of the position that begins `at`, to all windows that hold it.
    /// `number` tells the positions apart that come by turns.
    #[inline(always)]
    fn add(&mut self, number: usize, at: usize, channel: usize, values: &[i8]) {
        let recent = number % self.recent.len();
        if self.recent[recent].at != at {
            self.recent[recent] = self.place(at);
        }
        let Place { rows, columns, .. } = &self.recent[recent];
        for row in rows.clone() {
            for column in columns.clone() {
                let cell = row * self.grid.cells.1 + column;
                let sums = &mut self.sums[cell * self.grid.map.channels + channel..][..values.len()];
                sums.iter_mut().zip(values).for_each(|(sum, &v)| *sum += T::from(v));
            }
        }
    }
}

/// ReLU and narrowing as by [`Relu`], into sums over windows: the map itself is never stored.
pub struct Pool<'a, 'w, T> {
    shift: u32,
    thresholds: &'a [i32],
    map: Map,
    windows: &'a mut [Windows<'w, T>],
    tally: Tally,
}

impl<'a, 'w, T: Copy + Default> Pool<'a, 'w, T> {
    /// Over `map`; the sums of `windows` start at 0.
    pub fn new(shift: u32, thresholds: &'a [i32], map: Map, windows: &'a mut [Windows<'w, T>]) -> Self {
        windows.iter_mut().for_each(|w| w.sums.fill(T::default()));
        Pool { shift, thresholds, map, windows, tally: Tally::default() }
    }

    /// What was seen, once all of the map went by.
    pub fn seen(&self) -> Seen {
        self.tally.seen(self.map.len())
    }
}

impl<T: Copy + Default + AddAssign + From<i8>> Sink for Pool<'_, '_, T> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, isa: I, offsets: &[usize], channel: usize, count: usize, sums: &[[i32; COLUMNS]]) {
        let thresholds = thresholds_of(self.thresholds, channel, count);
        let mut add = |number: usize, at: usize, row: &[i8]| {
            self.windows.iter_mut().for_each(|windows| windows.add(number, at - channel, channel, row));
        };
        if I::ONE_BY_ONE {
            let mut row = [0; COLUMNS];
            for (number, (&at, sums)) in offsets.iter().zip(sums).enumerate() {
                relu_one_by_one(self.shift, thresholds, sums, &mut row[..count], &mut self.tally);
                add(number, at, &row[..count]);
            }
            return;
        }
        let how = ToNearest { shift: self.shift, thresholds: load(thresholds) };
        let narrowed = narrow_aside::<I, false>(isa, &how, sums, count, &mut self.tally);
        for (number, (&at, row)) in offsets.iter().zip(narrowed.as_chunks::<COLUMNS>().0).enumerate() {
            add(number, at, &row[..count]);
        }
    }
}

/// Narrowing of errors at random: `out = clamp(SR(sum, shift), ±127)`, drawn for element `first + offset` of a tensor.
///
/// Where `active` is given (the activations that the errors belong to), an error is 0 wherever its activation is: the
/// ReLU mask.
pub struct Random<'a> {
    how: AtRandom<'a>,
    out: &'a mut [i8],
    tally: Tally,
}

impl<'a> Random<'a> {
    pub fn new(shift: u32, draws: Draws, first: u32, active: Option<&'a [i8]>, out: &'a mut [i8]) -> Self {
        Random { how: AtRandom { shift, draws, first, active }, out, tally: Tally::default() }
    }

    /// What was seen, once all of the map is written.
    pub fn seen(&self) -> Seen {
        self.tally.seen(self.out.len())
    }
}

impl Sink for Random<'_> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, isa: I, offsets: &[usize], _: usize, count: usize, sums: &[[i32; COLUMNS]]) {
        let rows = Rows { offsets, sums, out: self.out };
        if I::ONE_BY_ONE {
            self.how.one_by_one(rows, count, &mut self.tally);
        } else if count == COLUMNS {
            isa.narrow_at_random(&self.how, rows, &mut self.tally);
        } else {
            self.how.plain(rows, count, &mut self.tally);
        }
    }
}

/// Feeds `sums`, a whole map of `channels` channels, to `sink`.
pub fn feed(sums: &[i32], sink: &mut impl Sink) {
    for (chunk, sums) in sums.chunks(COLUMNS).enumerate() {
        let mut row = [[0; COLUMNS]];
        row[0][..sums.len()].copy_from_slice(sums);
        sink.take(Portable, &[chunk * COLUMNS], 0, sums.len(), &row);
    }
}

/// Narrowing to nearest, with sign: `out = clamp(RN(sum, shift), ±127)`.
pub fn nearest<T: Copy + Into<i32>>(sums: &[T], shift: u32, out: &mut [i8]) -> Seen {
    let mut out = out.iter_mut();
    nearest_each(sums, shift, |y| {
        if let Some(out) = out.next() {
            *out = y;
        }
    })
}

/// As [`nearest`], the mantissas to `each` in order.
#[inline(always)]
pub fn nearest_each<T: Copy + Into<i32>>(sums: &[T], shift: u32, mut each: impl FnMut(i8)) -> Seen {
    let mut seen = Seen { total: sums.len() as u32, ..Seen::default() };
    for &a in sums {
        let a = a.into();
        seen.max = seen.max.max(a.unsigned_abs());
        let y = round_nearest(a, shift);
        seen.clamped += u32::from(y.abs() > I8_MAX);
        seen.upper_half += u32::from(y.abs() > I8_MAX / 2);
        each(saturate_i8(y));
    }
    seen
}

/// Largest magnitude.
#[inline(always)]
pub fn largest<T: Copy + Into<i32>>(values: &[T]) -> u32 {
    values.iter().fold(0, |m, &v| m.max(v.into().unsigned_abs()))
}
