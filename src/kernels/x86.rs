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

/// See [`Isa::multiply_lanes`]: two taps at a time, their mantissas interleaved and widened to 16 bits.
macro_rules! lanes_tile {
    ($name:ident: [$($feature:tt),*], $words:expr) => {
        $(#[target_feature(enable = $feature)])*
        fn $name<const R: usize>(p: &Product<i8, i16>, sums: &mut Sums) {
            p.check_lanes(R);
            // SAFETY: `check_lanes` proved that 16 mantissas of every tap of every row, and 64 bytes of the panel for
            // every two taps of a run, lie within their slices. A row of `sums` is 16 numbers, two registers.
            unsafe {
                let mut acc = [[_mm256_setzero_si256(); 2]; R];
                let mut panel: *const u8 = p.panel.as_ptr().cast();
                for run in 0..p.runs {
                    let base: [*const i8; R] =
                        core::array::from_fn(|r| p.rows.as_ptr().add(p.offsets[r] + run * p.run_step));
                    let mut at = 0;
                    for _ in 0..p.groups / 2 {
                        let left = _mm256_loadu_si256(panel.cast());
                        let right = _mm256_loadu_si256(panel.add(32).cast());
                        for r in 0..R {
                            let one = _mm_loadu_si128(base[r].add(at).cast());
                            let other = _mm_loadu_si128(base[r].add(at + p.group_step).cast());
                            let low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(one, other));
                            let high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(one, other));
                            acc[r][0] = $words(acc[r][0], low, left);
                            acc[r][1] = $words(acc[r][1], high, right);
                        }
                        at += 2 * p.group_step;
                        panel = panel.add(64);
                    }
                    if p.groups % 2 == 1 {
                        let left = _mm256_loadu_si256(panel.cast());
                        let right = _mm256_loadu_si256(panel.add(32).cast());
                        for r in 0..R {
                            // The upper half of each lane is the sign, and meets a weight of 0.
                            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(base[r].add(at).cast()));
                            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(base[r].add(at + 8).cast()));
                            acc[r][0] = $words(acc[r][0], low, left);
                            acc[r][1] = $words(acc[r][1], high, right);
                        }
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
        unsafe { narrow_to_nearest::<false>(how, rows, tally) }
    }

    #[inline(always)]
    fn narrow_with_sign(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        // SAFETY: as above.
        unsafe { narrow_to_nearest::<true>(how, rows, tally) }
    }

    #[inline(always)]
    fn narrow_at_random(self, how: &AtRandom, rows: Rows, tally: &mut Tally) {
        // SAFETY: as above.
        unsafe {
            let shift = _mm_cvtsi32_si128(how.shift as i32);
            let draw = _mm_cvtsi32_si128(31 - how.shift as i32);
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
                let y0 = _mm256_add_epi32(s0, _mm256_srl_epi32(_mm256_srli_epi32::<1>(r0), draw));
                let y1 = _mm256_add_epi32(s1, _mm256_srl_epi32(_mm256_srli_epi32::<1>(r1), draw));
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

/// See [`ToNearest`]; what is negative stays where `SIGNED`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn narrow_to_nearest<const SIGNED: bool>(how: &ToNearest, rows: Rows, tally: &mut Tally) {
    // SAFETY: the caller's promise.
    unsafe {
        let (t0, t1) = load16(&how.thresholds);
        let shift = _mm_cvtsi32_si128(how.shift as i32);
        let half = _mm256_set1_epi32(((1u32 << how.shift) >> 1) as i32);
        let zero = _mm256_setzero_si256();
        let mut counts = Counts::start(tally);
        for (&at, sums) in rows.offsets.iter().zip(rows.sums) {
            let (s0, s1) = load16(sums);
            let (mut a0, mut a1) = (_mm256_sub_epi32(s0, t0), _mm256_sub_epi32(s1, t1));
            if !SIGNED {
                (a0, a1) = (_mm256_max_epi32(a0, zero), _mm256_max_epi32(a1, zero));
            }
            let y0 = _mm256_sra_epi32(_mm256_add_epi32(a0, half), shift);
            let y1 = _mm256_sra_epi32(_mm256_add_epi32(a1, half), shift);
            let mut y = _mm256_packs_epi32(y0, y1);
            if SIGNED {
                // The most negative number has no magnitude.
                y = _mm256_max_epi16(y, _mm256_set1_epi16(-i16::MAX));
                counts.note(_mm256_max_epi32(_mm256_abs_epi32(a0), _mm256_abs_epi32(a1)), _mm256_abs_epi16(y));
                y = _mm256_max_epi16(y, _mm256_set1_epi16(-127));
            } else {
                counts.note(_mm256_max_epi32(a0, a1), y);
            }
            store_mantissas(y, &mut rows.out[at..at + COLUMNS]);
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
