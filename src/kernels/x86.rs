//! The register tile for x86-64 with AVX2: `vpmaddwd` and add. Only [`super::packed`] calls it.

use core::arch::x86_64::*;

use super::packed::{COLUMNS, ROWS, Rows, Sums};

/// Proof that the processor has AVX2: it can be had from [`Avx2::detect`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// `None` where the processor lacks the instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(feature = "std")]
        let has = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(feature = "std"))]
        let has = cfg!(target_feature = "avx2");
        has.then_some(Avx2(()))
    }

    /// See [`super::packed::Tile::multiply`].
    ///
    /// # Panics
    /// Where a row or the panel reaches past its slice.
    #[inline]
    pub fn multiply(self, rows: Rows, panel: &[i16], sums: &mut Sums) {
        assert!(rows.runs > 0 && panel.len() >= rows.runs * rows.pairs * 2 * COLUMNS);
        let reach = (rows.runs - 1) * rows.run_stride + 2 * rows.pairs;
        assert!(rows.offsets.iter().all(|offset| offset + reach <= rows.values.len()));
        // SAFETY: holding an `Avx2` proves that the processor has the instructions, and the assertions above are the
        // bounds that `multiply_avx2` asks for.
        unsafe { multiply_avx2(rows, panel.as_ptr(), sums) }
    }
}

/// # Safety
/// The processor has AVX2; every row stays within `rows.values`; `panel` holds `runs · pairs · 2 · COLUMNS` numbers.
#[target_feature(enable = "avx2")]
unsafe fn multiply_avx2(rows: Rows, panel: *const i16, sums: &mut Sums) {
    let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
    let mut b = panel;
    for run in 0..rows.runs {
        // SAFETY: the caller proved that offset + run · run_stride + 2 · pairs lies within the slice.
        let base: [*const i16; ROWS] =
            core::array::from_fn(|r| unsafe { rows.values.as_ptr().add(rows.offsets[r] + run * rows.run_stride) });
        for pair in 0..rows.pairs {
            // SAFETY: 32 numbers of the panel for each pair, by the caller's proof; loads need no alignment.
            let (b0, b1) = unsafe { (_mm256_loadu_si256(b.cast()), _mm256_loadu_si256(b.add(16).cast())) };
            for r in 0..ROWS {
                // SAFETY: one pair of numbers of row r, within bounds by the caller's proof.
                let a = _mm256_set1_epi32(unsafe { base[r].add(2 * pair).cast::<i32>().read_unaligned() });
                acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(a, b0));
                acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(a, b1));
            }
            // SAFETY: at most one past the end of the panel, after its last pair.
            b = unsafe { b.add(2 * COLUMNS) };
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        let to: *mut i32 = sums.as_mut_ptr();
        // SAFETY: `sums` is 16 numbers, two registers of eight.
        unsafe {
            _mm256_storeu_si256(to.cast(), acc[0]);
            _mm256_storeu_si256(to.add(8).cast(), acc[1]);
        }
    }
}
