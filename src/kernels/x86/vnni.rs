//! VNNI: a product of quads and its addition in one instruction, exact for any `u8` and `i8`. So operands that may both
//! be negative go by quads too, one of them offset. All the rest is AVX2's.

use core::arch::x86_64::*;

use super::Avx2;
use crate::fixed::random::Draws;
use crate::kernels::narrow::{AtRandom, Rows, Tally, ToNearest};
use crate::kernels::tile::{
    COLUMNS, Format, Isa, OffsetQuads, Pairs, Portable, Product, QuadsOfUnsignedPanel, QuadsOfUnsignedRows, ROWS,
    Signs, Sums, Work, multiply,
};

/// Proof that the processor has AVX2 and one of the two kinds of VNNI: it can be had by detection alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vnni {
    avx2: Avx2,
    encoding: Encoding,
}

/// The same instructions, in the two forms that processors know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// AVX-512 VNNI, with registers of 256 bits.
    Avx512,
    /// AVX-VNNI.
    Avx,
}

impl Vnni {
    /// AVX-512 VNNI; `None` where the processor lacks it.
    pub fn detect_avx512() -> Option<Self> {
        let avx2 = Avx2::detect()?;
        has!("avx512vnni", "avx512vl").then_some(Vnni { avx2, encoding: Encoding::Avx512 })
    }

    /// AVX-VNNI; `None` where the processor lacks it, or it does not give the portable products: it has been run on
    /// one kind of processor (AMD EPYC, Zen 5) only, hence the trial.
    pub fn detect_avx() -> Option<Self> {
        let avx2 = Avx2::detect()?;
        let vnni = has!("avxvnni").then_some(Vnni { avx2, encoding: Encoding::Avx })?;
        vnni.run(Trial).then_some(vnni)
    }

    /// See [`crate::kernels::tile::Tile::run`].
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2")]
        fn with_avx2<W: Work>(isa: Vnni, work: W) -> W::Output {
            work.run(isa)
        }
        // SAFETY: holding a `Vnni` proves that the processor has the instructions.
        unsafe { with_avx2(self, work) }
    }
}

tile!(avx512: ["avx2", "avx512vnni", "avx512vl"], _mm256_dpwssd_epi32, _mm256_dpbusd_epi32);
tile!(avx: ["avx2", "avxvnni"], _mm256_dpwssd_avx_epi32, _mm256_dpbusd_avx_epi32);
lanes_tile!(avx512_lanes: ["avx2", "avx512vnni", "avx512vl"], _mm256_dpwssd_epi32);
lanes_tile!(avx_lanes: ["avx2", "avxvnni"], _mm256_dpwssd_avx_epi32);

impl Isa for Vnni {
    type Signed = OffsetQuads;

    #[inline(always)]
    fn multiply<F: Format, const R: usize>(self, product: &Product<F::Number>, sums: &mut Sums) {
        // SAFETY: holding a `Vnni` of an encoding proves that the processor knows it.
        unsafe {
            match self.encoding {
                Encoding::Avx512 => avx512::<F, R>(product, sums),
                Encoding::Avx => avx::<F, R>(product, sums),
            }
        }
    }

    #[inline(always)]
    fn multiply_lanes<const R: usize>(self, product: &Product<i8, i16>, sums: &mut Sums) {
        // SAFETY: as above.
        unsafe {
            match self.encoding {
                Encoding::Avx512 => avx512_lanes::<R>(product, sums),
                Encoding::Avx => avx_lanes::<R>(product, sums),
            }
        }
    }

    #[inline(always)]
    fn interleave<F: Format>(self, rows: [&[i8]; 4], out: &mut [F::Number]) {
        self.avx2.interleave::<F>(rows, out);
    }

    #[inline(always)]
    fn random_bits(self, draws: Draws, first: u32) -> [u32; COLUMNS] {
        self.avx2.random_bits(draws, first)
    }

    #[inline(always)]
    fn narrow_to_nearest(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        self.avx2.narrow_to_nearest(how, rows, tally);
    }

    #[inline(always)]
    fn narrow_with_sign(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        self.avx2.narrow_with_sign(how, rows, tally);
    }

    #[inline(always)]
    fn narrow_at_random(self, how: &AtRandom, rows: Rows, tally: &mut Tally) {
        self.avx2.narrow_at_random(how, rows, tally);
    }
}

/// Whether products are the portable ones, for a fixed pattern in every format.
struct Trial;

impl Work for Trial {
    type Output = bool;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        same_product::<I, Pairs>(isa)
            && same_product::<I, OffsetQuads>(isa)
            && same_product::<I, QuadsOfUnsignedRows>(isa)
            && same_product::<I, QuadsOfUnsignedPanel>(isa)
    }
}

#[inline(always)]
fn same_product<I: Isa, F: Format>(isa: I) -> bool {
    const GROUPS: usize = 5;
    // The largest magnitudes, among others, of either sign.
    let pattern = |i: usize, unsigned: bool| {
        let mantissa = [127, -127, (i * 37 % 255) as i8 ^ -128][i % 3].max(-127);
        if unsigned { mantissa.abs() } else { mantissa }
    };
    let mut rows = [F::row(0); ROWS * GROUPS * 4];
    let mut panel = [F::number(0); (1 + GROUPS) * COLUMNS * 4];
    let (rows_unsigned, panel_unsigned) =
        (matches!(F::SIGNS, Signs::RowsUnsigned), matches!(F::SIGNS, Signs::PanelUnsigned));
    rows.iter_mut().enumerate().for_each(|(i, n)| *n = F::row(pattern(i, rows_unsigned)));
    panel.iter_mut().enumerate().for_each(|(i, n)| *n = F::number(pattern(i / 2, panel_unsigned)));
    let offsets: [usize; ROWS] = core::array::from_fn(|r| r * GROUPS * F::NUMBERS);
    let product = Product {
        rows: &rows,
        offsets: &offsets,
        runs: 1,
        run_step: 0,
        groups: GROUPS,
        group_step: F::NUMBERS,
        panel: &panel,
    };
    let (mut sums, mut expected): (Sums, Sums) = ([[0; COLUMNS]; ROWS], [[0; COLUMNS]; ROWS]);
    multiply::<I, F>(isa, &product, &mut sums);
    multiply::<Portable, F>(Portable, &product, &mut expected);
    sums == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The portable product with one sum off by one.
    #[derive(Clone, Copy)]
    struct Wrong;

    impl Isa for Wrong {
        type Signed = Pairs;
        fn multiply<F: Format, const R: usize>(self, p: &Product<F::Number>, sums: &mut Sums) {
            Portable.multiply::<F, R>(p, sums);
            sums[R - 1][COLUMNS - 1] += 1;
        }
    }

    #[test]
    fn the_trial_passes_what_this_processor_has_and_not_a_wrong_product() {
        assert!(Vnni::detect_avx512().is_none_or(|vnni| vnni.run(Trial)));
        assert!(Trial.run(Portable));
        assert!(!Trial.run(Wrong));
    }
}
