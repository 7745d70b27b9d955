//! The register tile for Cortex-M with the DSP extension (M4, M7, M33): `SMLAD` adds two products of 16 bits at a time,
//! `SXTB16` widens two of the four mantissas of a word. Only [`super::tile`] calls it.

use core::arch::asm;

use super::tile::{COLUMNS, Format, Isa, Pairs, Product, Sums, Work};

/// That the processor has the DSP extension: the feature `cortex-m-dsp` promises it when the crate is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dsp(());

impl Dsp {
    /// Always, by the build's promise.
    pub fn detect() -> Option<Self> {
        Some(Dsp(()))
    }

    /// See [`super::tile::Tile::run`].
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }
}

/// Rows and columns whose sums fit the registers.
const ROWS: usize = 2;
const BLOCK: usize = 4;

/// `sum + a.low · b.low + a.high · b.high` over the halves of both words.
#[inline(always)]
fn multiply_add(sum: i32, a: u32, b: u32) -> i32 {
    let result: i32;
    // SAFETY: the extension was promised; the instruction touches its operands alone (and the sticky flag of
    // saturation, which nothing reads).
    unsafe {
        asm!("smlad {result}, {a}, {b}, {sum}", result = lateout(reg) result, a = in(reg) a, b = in(reg) b,
             sum = in(reg) sum, options(pure, nomem, nostack));
    }
    result
}

/// Bytes 0 and 2 of a word, and bytes 1 and 3, as signed halves.
#[inline(always)]
fn widen(word: u32) -> (u32, u32) {
    let (even, odd): (u32, u32);
    // SAFETY: as above.
    unsafe {
        asm!("sxtb16 {even}, {word}", "sxtb16 {odd}, {word}, ror #8", even = out(reg) even, odd = lateout(reg) odd,
             word = in(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    (even, odd)
}

/// The product of one group of four bytes.
#[inline(always)]
fn add_group<F: Format>(sum: i32, a: (u32, u32), b: (u32, u32)) -> i32 {
    let sum = multiply_add(sum, a.0, b.0);
    if F::NUMBERS == 4 { multiply_add(sum, a.1, b.1) } else { sum }
}

/// Sums of `R` rows from `row` on and [`BLOCK`] columns from `column` on.
#[inline(always)]
fn block<F: Format, const R: usize>(p: &Product<F::Number>, row: usize, column: usize, sums: &mut Sums) {
    let size = size_of::<F::Number>();
    let mut acc = [[0; BLOCK]; R];
    let rows: *const u8 = p.rows.as_ptr().cast();
    let panel: *const u8 = p.panel.as_ptr().cast();
    // SAFETY: `Product::check` proved that each group of each row and of the panel lies within its slice, and columns
    // stay below `COLUMNS`. These processors load words from any address.
    let word = |from: *const u8, at: usize| unsafe { from.add(at).cast::<u32>().read_unaligned() };
    let operand = |word| if F::NUMBERS == 4 { widen(word) } else { (word, 0) };
    let mut group = 0;
    for run in 0..p.runs {
        let mut at = run * p.run_step * size;
        for _ in 0..p.groups {
            let mut a = [(0, 0); R];
            for (r, a) in a.iter_mut().enumerate() {
                *a = operand(word(rows, p.offsets[row + r] * size + at));
            }
            for c in 0..BLOCK {
                let b = operand(word(panel, (group * COLUMNS + column + c) * 4));
                for (acc, &a) in acc.iter_mut().zip(&a) {
                    acc[c] = add_group::<F>(acc[c], a, b);
                }
            }
            at += p.group_step * size;
            group += 1;
        }
    }
    for (sums, acc) in sums[row..].iter_mut().zip(acc) {
        sums[column..column + BLOCK].copy_from_slice(&acc);
    }
}

impl Isa for Dsp {
    type Signed = Pairs;

    #[inline]
    fn multiply<F: Format, const R: usize>(self, product: &Product<F::Number>, sums: &mut Sums) {
        product.check(R, F::NUMBERS);
        for column in (0..COLUMNS).step_by(BLOCK) {
            for row in (0..R / ROWS * ROWS).step_by(ROWS) {
                block::<F, ROWS>(product, row, column, sums);
            }
            if R % ROWS > 0 {
                block::<F, 1>(product, R - 1, column, sums);
            }
        }
    }
}
