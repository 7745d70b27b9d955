//! The register tile for x86-64: `vpmaddwd` on pairs of `i16`, `vpmaddubsw` on quads of which one side is never negative;
//! or their successors of VNNI. Only [`super::tile`] calls it.

use core::arch::x86_64::*;

use super::narrow::{AtRandom, Rows, Tally, ToNearest};
use super::tile::{COLUMNS, Format, Isa, Pairs, Product, Signs, Sums, Work};
use crate::fixed::random::Draws;

/// Proof that the processor has AVX2: it can be had by detection alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// The processor has all of these, or the build takes them for granted.
macro_rules! has {
    ($($feature:tt),*) => {{
        #[cfg(feature = "std")]
        let has = $(std::arch::is_x86_feature_detected!($feature) &&)* true;
        #[cfg(not(feature = "std"))]
        let has = $(cfg!(target_feature = $feature) &&)* true;
        has
    }};
}

impl Avx2 {
    /// `None` where the processor lacks the instructions.
    pub fn detect() -> Option<Self> {
        has!("avx2").then_some(Avx2(()))
    }

    /// See [`super::tile::Tile::run`].
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2")]
        fn with_avx2<W: Work>(isa: Avx2, work: W) -> W::Output {
            work.run(isa)
        }
        // SAFETY: holding an `Avx2` proves that the processor has the instructions.
        unsafe { with_avx2(self, work) }
    }
}

/// See [`Isa::multiply`]: one function for each kind of products, compiled once for each format and number of rows.
///
/// `$words` adds the products of two `i16` to each lane of 32 bits, `$bytes` those of four mantissas, of which the first
/// factor is taken as unsigned.
macro_rules! tile {
    ($name:ident: [$($feature:tt),*], $words:expr, $bytes:expr) => {
        $(#[target_feature(enable = $feature)])*
        fn $name<F: Format, const R: usize>(p: &Product<F::Number>, sums: &mut Sums) {
            // Quads of any sign are none of this set's formats.
            const { assert!(F::NUMBERS == 2 || !matches!(F::SIGNS, Signs::Any)) }
            p.check_format::<F>(R);
            let size = size_of::<F::Number>();
            let multiply_add = |sums, row, panel| match F::SIGNS {
                Signs::Any => $words(sums, row, panel),
                Signs::RowsUnsigned | Signs::RowsOffset => $bytes(sums, row, panel),
                Signs::PanelUnsigned => $bytes(sums, panel, row),
            };
            // SAFETY: `check` proved that every group of every row (4 bytes) and of the panel (64 bytes) lies within its
            // slice; the loads need no alignment. A row of `sums` is 16 numbers, two registers.
            unsafe {
                let mut acc = [[_mm256_setzero_si256(); 2]; R];
                let mut panel: *const u8 = p.panel.as_ptr().cast();
                if F::STARTS > 0 {
                    acc = [[_mm256_loadu_si256(panel.cast()), _mm256_loadu_si256(panel.add(32).cast())]; R];
                    panel = panel.add(64);
                }
                let rows: *const u8 = p.rows.as_ptr().cast();
                for run in 0..p.runs {
                    let base: [*const u8; R] =
                        core::array::from_fn(|r| rows.add((p.offsets[r] + run * p.run_step) * size));
                    let mut at = 0;
                    for _ in 0..p.groups {
                        let left = _mm256_loadu_si256(panel.cast());
                        let right = _mm256_loadu_si256(panel.add(32).cast());
                        for r in 0..R {
                            let row = _mm256_set1_epi32(base[r].add(at).cast::<i32>().read_unaligned());
                            acc[r][0] = multiply_add(acc[r][0], row, left);
                            acc[r][1] = multiply_add(acc[r][1], row, right);
                        }
                        at += p.group_step * size;
                        panel = panel.add(64);
                    }
                }
                for (sums, acc) in sums.iter_mut().zip(acc) {
                    let to: *mut i32 = sums.as_mut_ptr();
                    _mm256_storeu_si256(to.cast(), acc[0]);
                    _mm256_storeu_si256(to.add(8).cast(), acc[1]);
                }
            }
        }
    };
}

/// `vpmaddubsw` adds two products in 16 bits: 2 · 127 · 127 < 2¹⁵, so nothing saturates where one side is within 0..=127
/// and the other within ±127.
#[target_feature(enable = "avx2")]
#[inline]
fn add_quads(sums: __m256i, unsigned: __m256i, other: __m256i) -> __m256i {
    let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, other), _mm256_set1_epi16(1));
    _mm256_add_epi32(sums, pairs)
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_pairs(sums: __m256i, row: __m256i, panel: __m256i) -> __m256i {
    _mm256_add_epi32(sums, _mm256_madd_epi16(row, panel))
}

/// See [`Isa::multiply_lanes`]: two runs at a time, their mantissas interleaved and widened to 16 bits.
macro_rules! lanes_tile {
    ($name:ident: [$($feature:tt),*], $words:expr) => {
        $(#[target_feature(enable = $feature)])*
        fn $name<const R: usize>(p: &Product<i8, i16>, sums: &mut Sums) {
            p.check_lanes(R);
            // SAFETY: `check_lanes` proved that 16 mantissas of every group of every row, and 64 bytes of the panel for
            // every group of two runs, lie within their slices. A row of `sums` is 16 numbers, two registers.
            unsafe {
                let mut acc = [[_mm256_setzero_si256(); 2]; R];
                let mut panel: *const u8 = p.panel.as_ptr().cast();
                // Kernels of three taps on neighbours: each column is read once for the three rows that it belongs to.
                let neighbours = p.groups == 3 && (1..R).all(|r| p.offsets[r] == p.offsets[0] + r * p.group_step);
                for run in (0..p.runs).step_by(2) {
                    let operand = |at: usize| {
                        let from = p.rows.as_ptr().add(at + run * p.run_step);
                        if run + 1 < p.runs {
                            let (one, other) =
                                (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(p.run_step).cast()));
                            [
                                _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(one, other)),
                                _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(one, other)),
                            ]
                        } else {
                            // The upper half of each lane is the sign, and meets a weight of 0.
                            [
                                _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())),
                                _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast())),
                            ]
                        }
                    };
                    let weights = |panel: *const u8| {
                        [_mm256_loadu_si256(panel.cast()), _mm256_loadu_si256(panel.add(32).cast())]
                    };
                    if neighbours {
                        let taps = [weights(panel), weights(panel.add(64)), weights(panel.add(128))];
                        for column in 0..R + 2 {
                            let x = operand(p.offsets[0] + column * p.group_step);
                            for (tap, w) in taps.iter().enumerate() {
                                if column >= tap && column - tap < R {
                                    let acc = &mut acc[column - tap];
                                    *acc = [$words(acc[0], x[0], w[0]), $words(acc[1], x[1], w[1])];
                                }
                            }
                        }
                    } else {
                        for group in 0..p.groups {
                            let w = weights(panel.add(group * 64));
                            for (acc, offset) in acc.iter_mut().zip(p.offsets) {
                                let x = operand(offset + group * p.group_step);
                                *acc = [$words(acc[0], x[0], w[0]), $words(acc[1], x[1], w[1])];
                            }
                        }
                    }
                    panel = panel.add(p.groups * 64);
                }
                for (sums, acc) in sums.iter_mut().zip(acc) {
                    let to: *mut i32 = sums.as_mut_ptr();
                    _mm256_storeu_si256(to.cast(), acc[0]);
                    _mm256_storeu_si256(to.add(8).cast(), acc[1]);
                }
            }
        }
    };
}

tile!(avx2: ["avx2"], add_pairs, add_quads);
lanes_tile!(avx2_lanes: ["avx2"], add_pairs);

mod vnni;
pub use vnni::Vnni;

impl Isa for Avx2 {
    type Signed = Pairs;

    #[inline(always)]
    fn multiply<F: Format, const R: usize>(self, product: &Product<F::Number>, sums: &mut Sums) {
        // `vpmaddubsw` would saturate.
        const { assert!(F::OFFSET == 0) }
        // SAFETY: holding an `Avx2` proves that the processor has the instructions.
        unsafe { avx2::<F, R>(product, sums) }
    }

    #[inline(always)]
    fn multiply_lanes<const R: usize>(self, product: &Product<i8, i16>, sums: &mut Sums) {
        // SAFETY: as above.
        unsafe { avx2_lanes::<R>(product, sums) }
    }

    #[inline(always)]
    fn interleave<F: Format>(self, rows: [&[i8]; 4], out: &mut [F::Number]) {
        let out: &mut [i8] = &mut bytemuck::cast_slice_mut(out)[..64];
        // SAFETY: holding an `Avx2` proves that the processor has the instructions; each row is cut to 16 bytes and
        // `out` to 64.
        unsafe {
            let load = |row: &[i8]| _mm_loadu_si128(row[..COLUMNS].as_ptr().cast());
            let to: *mut __m256i = out.as_mut_ptr().cast();
            let (r0, r1) = (load(rows[0]), load(rows[1]));
            let (low, high) = (_mm_unpacklo_epi8(r0, r1), _mm_unpackhi_epi8(r0, r1));
            if F::NUMBERS == 2 {
                _mm256_storeu_si256(to, _mm256_cvtepi8_epi16(low));
                _mm256_storeu_si256(to.add(1), _mm256_cvtepi8_epi16(high));
            } else {
                let (r2, r3) = (load(rows[2]), load(rows[3]));
                let (low2, high2) = (_mm_unpacklo_epi8(r2, r3), _mm_unpackhi_epi8(r2, r3));
                let quads = |a, b| _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b));
                _mm256_storeu_si256(to, quads(low, low2));
                _mm256_storeu_si256(to.add(1), quads(high, high2));
            }
        }
    }

    #[inline(always)]
    fn random_bits(self, draws: Draws, first: u32) -> [u32; COLUMNS] {
        // SAFETY: holding an `Avx2` proves that the processor has the instructions; two registers are 64 bytes.
        unsafe {
            core::mem::transmute::<[__m256i; 2], [u32; COLUMNS]>([
                random_bits(draws, first),
                random_bits(draws, first.wrapping_add(8)),
            ])
        }
    }

    #[inline(always)]
    fn narrow_to_nearest(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        // SAFETY: holding an `Avx2` proves that the processor has the instructions.
        unsafe { narrow_to_nearest(how, rows, tally) }
    }

    #[inline(always)]
    fn narrow_with_sign(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        // SAFETY: as above.
        unsafe { narrow_with_sign(how, rows, tally) }
    }

    #[inline(always)]
    fn narrow_at_random(self, how: &AtRandom, rows: Rows, tally: &mut Tally) {
        // SAFETY: as above.
        unsafe {
            let shift = _mm_cvtsi32_si128(how.shift as i32);
            // As many upper bits of the draw as are shifted out; a shift by 32 leaves 0.
            let draw = _mm_cvtsi32_si128(32 - how.shift as i32);
            let mut counts = Counts::start(tally);
            for (&at, sums) in rows.offsets.iter().zip(rows.sums) {
                let (mut s0, mut s1) = load16(sums);
                if let Some(active) = how.active {
                    let live: __m128i = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&active[at..at + COLUMNS]));
                    let live = _mm_cmpgt_epi8(live, _mm_setzero_si128());
                    s0 = _mm256_and_si256(s0, _mm256_cvtepi8_epi32(live));
                    s1 = _mm256_and_si256(s1, _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(live, live)));
                }
                let first = how.first.wrapping_add(at as u32);
                let r0 = random_bits(how.draws, first);
                let r1 = random_bits(how.draws, first.wrapping_add(8));
                let y0 = _mm256_add_epi32(s0, _mm256_srl_epi32(r0, draw));
                let y1 = _mm256_add_epi32(s1, _mm256_srl_epi32(r1, draw));
                let y = _mm256_packs_epi32(_mm256_sra_epi32(y0, shift), _mm256_sra_epi32(y1, shift));
                // The most negative number has no magnitude.
                let y = _mm256_max_epi16(y, _mm256_set1_epi16(-i16::MAX));
                counts.note(_mm256_max_epi32(_mm256_abs_epi32(s0), _mm256_abs_epi32(s1)), _mm256_abs_epi16(y));
                let y = _mm256_max_epi16(y, _mm256_set1_epi16(-127));
                store_mantissas(y, &mut rows.out[at..at + COLUMNS]);
            }
            counts.end(tally);
        }
    }
}

/// See [`ToNearest::plain`]. Two rows at a time, whose mantissas fill a register.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn narrow_to_nearest(how: &ToNearest, rows: Rows, tally: &mut Tally) {
    // SAFETY: the caller's promise; the arrays of the tally hold 64 bytes each.
    unsafe {
        let shift = _mm_cvtsi32_si128(how.shift as i32);
        let half = _mm256_set1_epi32(((1u32 << how.shift) >> 1) as i32);
        // What is added for rounding is added beforehand: max(s − t, 0) + h = max(s − (t − h), h).
        let (t0, t1) = load16(&how.thresholds);
        let (t0, t1) = (_mm256_sub_epi32(t0, half), _mm256_sub_epi32(t1, half));
        let raised = |sums: &[i32; COLUMNS]| {
            let (s0, s1) = load16(sums);
            let a0 = _mm256_max_epi32(_mm256_sub_epi32(s0, t0), half);
            (a0, _mm256_max_epi32(_mm256_sub_epi32(s1, t1), half))
        };
        let words = |(a0, a1)| _mm256_packs_epi32(_mm256_sra_epi32(a0, shift), _mm256_sra_epi32(a1, shift));
        let zero = _mm256_setzero_si256();
        let (mut max, mut clamped, mut upper_half) = (half, zero, zero);
        for (offsets, sums) in rows.offsets.chunks(2).zip(rows.sums.chunks(2)) {
            let one = raised(&sums[0]);
            // A row that is missing narrows to 0 and counts nothing.
            let other = sums.get(1).map_or((half, half), raised);
            max = _mm256_max_epi32(max, _mm256_max_epi32(one.0, one.1));
            max = _mm256_max_epi32(max, _mm256_max_epi32(other.0, other.1));
            // Above 127 is what has a sign as a byte.
            let y = _mm256_packus_epi16(words(one), words(other));
            clamped = _mm256_sub_epi8(clamped, _mm256_cmpgt_epi8(zero, y));
            let y = _mm256_min_epu8(y, _mm256_set1_epi8(127));
            upper_half = _mm256_sub_epi8(upper_half, _mm256_cmpgt_epi8(y, _mm256_set1_epi8(63)));
            let y = _mm256_permutevar8x32_epi32(y, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            let out = &mut rows.out[offsets[0]..][..COLUMNS];
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_castsi256_si128(y));
            if let Some(&at) = offsets.get(1) {
                let out = &mut rows.out[at..][..COLUMNS];
                _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_extracti128_si256::<1>(y));
            }
        }
        let max = _mm256_max_epi32(load16(&tally.max).0, _mm256_sub_epi32(max, half));
        _mm256_storeu_si256(tally.max.as_mut_ptr().cast(), max);
        for (lanes, counts) in [(&mut tally.clamped, clamped), (&mut tally.upper_half, upper_half)] {
            let sum = _mm256_add_epi32(load16(lanes).0, _mm256_sad_epu8(counts, zero));
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum);
        }
    }
}

/// See [`ToNearest::plain_with_sign`].
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn narrow_with_sign(how: &ToNearest, rows: Rows, tally: &mut Tally) {
    // SAFETY: the caller's promise.
    unsafe {
        let shift = _mm_cvtsi32_si128(how.shift as i32);
        let half = _mm256_set1_epi32(((1u32 << how.shift) >> 1) as i32);
        let (t0, t1) = load16(&how.thresholds);
        let mut counts = Counts::start(tally);
        for (&at, sums) in rows.offsets.iter().zip(rows.sums) {
            let (s0, s1) = load16(sums);
            let (a0, a1) = (_mm256_sub_epi32(s0, t0), _mm256_sub_epi32(s1, t1));
            let y0 = _mm256_sra_epi32(_mm256_add_epi32(a0, half), shift);
            let y1 = _mm256_sra_epi32(_mm256_add_epi32(a1, half), shift);
            // The most negative number has no magnitude.
            let y = _mm256_max_epi16(_mm256_packs_epi32(y0, y1), _mm256_set1_epi16(-i16::MAX));
            counts.note(_mm256_max_epi32(_mm256_abs_epi32(a0), _mm256_abs_epi32(a1)), _mm256_abs_epi16(y));
            store_mantissas(_mm256_max_epi16(y, _mm256_set1_epi16(-127)), &mut rows.out[at..at + COLUMNS]);
        }
        counts.end(tally);
    }
}

/// Sixteen numbers as two registers.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn load16(numbers: &[i32; COLUMNS]) -> (__m256i, __m256i) {
    let from: *const i32 = numbers.as_ptr();
    // SAFETY: 16 numbers of 4 bytes are 64 bytes; the caller promises the instructions.
    unsafe { (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())) }
}

/// Stores sixteen `i16`, as `_mm256_packs_epi32` orders them, as mantissas of at most 127.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn store_mantissas(y: __m256i, out: &mut [i8]) {
    let out = &mut out[..COLUMNS];
    // SAFETY: `out` is 16 bytes; the caller promises the instructions.
    unsafe {
        let bytes = _mm256_packs_epi16(y, y);
        let ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
        _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_castsi256_si128(ordered));
    }
}

/// Eight draws from `first` on; see [`crate::fixed::random::Draws::bits`].
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn random_bits(draws: Draws, first: u32) -> __m256i {
    use crate::fixed::random::{MULTIPLIERS, PLACE};
    let (a, b) = draws.keys();
    // SAFETY: the caller's promise.
    unsafe {
        let splat = |x: u32| _mm256_set1_epi32(x as i32);
        let lanes = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), splat(PLACE));
        let x = _mm256_add_epi32(lanes, splat(first.wrapping_mul(PLACE)));
        let x = _mm256_xor_si256(x, splat(a));
        let x = _mm256_mullo_epi32(_mm256_xor_si256(x, _mm256_srli_epi32::<16>(x)), splat(MULTIPLIERS[0]));
        let x = _mm256_add_epi32(_mm256_xor_si256(x, _mm256_srli_epi32::<15>(x)), splat(b));
        let x = _mm256_mullo_epi32(x, splat(MULTIPLIERS[1]));
        _mm256_xor_si256(x, _mm256_srli_epi32::<15>(x))
    }
}

/// The part of a [`Tally`] that changes with every row. Sixteen bits are enough for the rows of one call.
struct Counts {
    max: __m256i,
    clamped: __m256i,
    upper_half: __m256i,
}

impl Counts {
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn start(tally: &Tally) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = _mm256_setzero_si256();
            Counts { max: load16(&tally.max).0, clamped: zero, upper_half: zero }
        }
    }

    /// Notes magnitudes of 32 bits before and of 16 bits after the shift.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn note(&mut self, a: __m256i, y: __m256i) {
        // SAFETY: the caller's promise.
        unsafe {
            self.max = _mm256_max_epi32(self.max, a);
            self.clamped = _mm256_sub_epi16(self.clamped, _mm256_cmpgt_epi16(y, _mm256_set1_epi16(127)));
            self.upper_half = _mm256_sub_epi16(self.upper_half, _mm256_cmpgt_epi16(y, _mm256_set1_epi16(63)));
        }
    }

    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn end(self, tally: &mut Tally) {
        // SAFETY: the caller's promise; the arrays hold 64 bytes each.
        unsafe {
            _mm256_storeu_si256(tally.max.as_mut_ptr().cast(), self.max);
            for (lanes, counts) in [(&mut tally.clamped, self.clamped), (&mut tally.upper_half, self.upper_half)] {
                let pairs = _mm256_madd_epi16(counts, _mm256_set1_epi16(1));
                let sum = _mm256_add_epi32(load16(lanes).0, pairs);
                _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum);
            }
        }
    }
}
