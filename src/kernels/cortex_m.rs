//! The register tile and the inner loops of [`super::lean`] for Cortex-M with the DSP extension (M4, M7, M33): `SMLAD`
//! adds two products of 16 bits at a time, `SXTB16` widens two of the four mantissas of a word.

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
    const ONE_BY_ONE: bool = true;

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

/// See [`super::dot`]. Two products at a time.
#[inline]
pub fn dot(a: &[i16], b: &[i16]) -> i32 {
    let pair = |pair: &[i16; 2]| u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16;
    let ((a, last_a), (b, last_b)) = (a.as_chunks(), b.as_chunks());
    let sum = a.iter().zip(b).fold(0, |sum, (a, b)| multiply_add(sum, pair(a), pair(b)));
    last_a.iter().zip(last_b).fold(sum, |sum, (&a, &b)| sum + i32::from(a) * i32::from(b))
}

/// The inner loops of [`super::lean`], each by itself: so all that it needs stays in registers.
pub mod lean {
    use core::arch::asm;

    use bytemuck::cast_slice_mut;

    use super::super::lean::{CHANNELS, OUTER, PATCHES, Patch};
    use super::{COLUMNS, widen};

    pub const NAME: &str = "lean/dsp";

    /// As in plain code, but in groups of four numbers, each in the order in which [`widen`] gives them.
    pub struct OneOfPatches<'a> {
        pub patches: &'a mut [u32],
        pub patch: usize,
    }

    /// The place in its group of number `k`.
    const fn in_group(k: usize) -> usize {
        (k & 1) << 1 | (k & 2) >> 1
    }

    impl Patch for OneOfPatches<'_> {
        #[inline(always)]
        fn put(&mut self, k: usize, values: &[i8]) {
            let (before, groups) = (values.len().min(k.wrapping_neg() % 4), values.len() / 4);
            let (first, values) = values.split_at(if groups > 1 { before } else { values.len() });
            let numbers: &mut [i16] = cast_slice_mut(self.patches);
            let mut one = |k: usize, v: i8| {
                if let Some(place) = numbers.get_mut((k & !3) * PATCHES + 4 * self.patch + in_group(k)) {
                    *place = i16::from(v);
                }
            };
            first.iter().zip(k..).for_each(|(&v, k)| one(k, v));
            let k = k + first.len();
            let (groups, rest) = values.as_chunks();
            rest.iter().zip(k + 4 * groups.len()..).for_each(|(&v, k)| one(k, v));
            let places = self.patches.get_mut(k / 4 * 2 * PATCHES + 2 * self.patch..).unwrap_or_default();
            for (group, places) in groups.iter().zip(places.chunks_mut(2 * PATCHES)) {
                if let [even, odd, ..] = places {
                    (*even, *odd) = widen(word(*group));
                }
            }
        }
    }

    const fn word([a, b, c, d]: [i8; 4]) -> u32 {
        u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
    }

    /// As in plain code.
    #[inline(never)]
    pub fn dots(patches: &[u32], weights: &[i8], fan_in: usize, filters: usize, sums: &mut [[i32; COLUMNS]; PATCHES]) {
        let [sums0, sums1] = sums;
        for first in (0..filters.min(COLUMNS)).step_by(2) {
            // Of an odd number of filters the last one is taken twice.
            let second = (first + 1).min(filters - 1);
            let (a, b) = (&weights[first * fan_in..], &weights[second * fan_in..]);
            let (whole, groups) = (fan_in / 4, fan_in.div_ceil(4));
            let products = if b.len() >= 4 * groups {
                // The last word may hold weights of the next filter: the patches are 0 there.
                two_by_two(patches, a, b, groups, [[0; 2]; PATCHES])
            } else {
                let last = |weights: &[i8]| {
                    let mut last = [0; 4];
                    last.iter_mut().zip(&weights[4 * whole..fan_in]).for_each(|(to, &w)| *to = w);
                    last
                };
                let products = two_by_two(patches, a, b, whole, [[0; 2]; PATCHES]);
                two_by_two(&patches[2 * PATCHES * whole..], &last(a), &last(b), 1, products)
            };
            (sums0[first], sums1[first]) = (products[0][0], products[1][0]);
            (sums0[(first + 1) % COLUMNS], sums1[(first + 1) % COLUMNS]) = (products[0][1], products[1][1]);
        }
    }

    /// Adds to `sums` the products of two patches and two filters.
    #[inline(always)]
    fn two_by_two(
        patches: &[u32],
        a: &[i8],
        b: &[i8],
        groups: usize,
        sums: [[i32; 2]; PATCHES],
    ) -> [[i32; 2]; PATCHES] {
        assert!(a.len() >= 4 * groups && b.len() >= 4 * groups && patches.len() >= 2 * PATCHES * groups);
        if groups == 0 {
            return sums;
        }
        let [[mut s00, mut s01], [mut s10, mut s11]] = sums;
        // SAFETY: the loop reads `groups` times one word of `a` and of `b` and four of the patches, as was checked.
        // These processors load words of weights from any address.
        unsafe {
            asm!(
                "2:",
                "ldr {ae}, [{a}], #4",
                "ldr {be}, [{b}], #4",
                "sxtb16 {ao}, {ae}, ror #8",
                "sxtb16 {ae}, {ae}",
                "sxtb16 {bo}, {be}, ror #8",
                "sxtb16 {be}, {be}",
                "ldr {x}, [{patches}], #4",
                "smlad {s00}, {x}, {ae}, {s00}",
                "smlad {s01}, {x}, {be}, {s01}",
                "ldr {x}, [{patches}], #4",
                "smlad {s00}, {x}, {ao}, {s00}",
                "smlad {s01}, {x}, {bo}, {s01}",
                "ldr {x}, [{patches}], #4",
                "smlad {s10}, {x}, {ae}, {s10}",
                "smlad {s11}, {x}, {be}, {s11}",
                "ldr {x}, [{patches}], #4",
                "smlad {s10}, {x}, {ao}, {s10}",
                "smlad {s11}, {x}, {bo}, {s11}",
                "subs {groups}, {groups}, #1",
                "bne 2b",
                a = inout(reg) a.as_ptr() => _, b = inout(reg) b.as_ptr() => _,
                patches = inout(reg) patches.as_ptr() => _, groups = inout(reg) groups => _,
                s00 = inout(reg) s00, s01 = inout(reg) s01, s10 = inout(reg) s10, s11 = inout(reg) s11,
                ae = out(reg) _, ao = out(reg) _, be = out(reg) _, bo = out(reg) _, x = out(reg) _,
                options(pure, readonly, nostack),
            );
        }
        [[s00, s01], [s10, s11]]
    }

    /// As in plain code, but in groups of four filters, the weights of a channel as errors are widened.
    #[inline(never)]
    pub fn hold(wide: &mut [u32], weights: &[i8], fan_in: usize, filters: usize, count: usize) {
        let mut rows = weights.chunks(fan_in).take(filters);
        for wide in wide.chunks_exact_mut(2 * CHANNELS) {
            let rows: [&[i8]; 4] = core::array::from_fn(|_| rows.next().unwrap_or_default());
            if let [Some(a), Some(b), Some(c), Some(d)] = rows.map(|row| row.first_chunk())
                && count == CHANNELS
            {
                let [a, b, c, d] = [*a, *b, *c, *d].map(|row| widen(word(row)));
                let low = |x: u32, y: u32| x & 0xFFFF | y << 16;
                let high = |x: u32, y: u32| x >> 16 | y & 0xFFFF_0000;
                wide.copy_from_slice(&[
                    low(a.0, c.0),
                    low(b.0, d.0),
                    low(a.1, c.1),
                    low(b.1, d.1),
                    high(a.0, c.0),
                    high(b.0, d.0),
                    high(a.1, c.1),
                    high(b.1, d.1),
                ]);
                continue;
            }
            let wide: &mut [i16] = cast_slice_mut(wide);
            for (filter, row) in rows.iter().enumerate() {
                let places = wide[in_group(filter)..].iter_mut().step_by(4);
                places.zip(row.iter().take(count)).for_each(|(place, &w)| *place = i16::from(w));
            }
        }
    }

    /// As in plain code.
    #[inline(never)]
    pub fn gather(errors: &[i8], weights: &[u32], sums: &mut [i32; CHANNELS]) {
        let groups = (errors.len() / 4).min(weights.len() / (2 * CHANNELS));
        add_groups(errors, weights, groups, sums);
        let (rest, weights) = (&errors[4 * groups..], &weights[2 * CHANNELS * groups..]);
        if !rest.is_empty() && weights.len() >= 2 * CHANNELS {
            // The weights of errors that there are not are 0.
            let mut last = [0; 4];
            last.iter_mut().zip(rest).for_each(|(to, &e)| *to = e);
            add_groups(&last, weights, 1, sums);
        }
    }

    #[inline(always)]
    fn add_groups(errors: &[i8], weights: &[u32], groups: usize, sums: &mut [i32; CHANNELS]) {
        assert!(errors.len() >= 4 * groups && weights.len() >= 2 * CHANNELS * groups);
        if groups == 0 {
            return;
        }
        let [s0, s1, s2, s3] = sums;
        // SAFETY: the loop reads `groups` times one word of errors and eight of weights, as was checked. Words of
        // errors are loaded from any address, pairs of words from aligned ones.
        unsafe {
            asm!(
                "2:",
                "ldr {e}, [{errors}], #4",
                "sxtb16 {o}, {e}, ror #8",
                "sxtb16 {e}, {e}",
                "ldrd {x}, {y}, [{weights}], #8",
                "smlad {s0}, {x}, {e}, {s0}",
                "smlad {s0}, {y}, {o}, {s0}",
                "ldrd {x}, {y}, [{weights}], #8",
                "smlad {s1}, {x}, {e}, {s1}",
                "smlad {s1}, {y}, {o}, {s1}",
                "ldrd {x}, {y}, [{weights}], #8",
                "smlad {s2}, {x}, {e}, {s2}",
                "smlad {s2}, {y}, {o}, {s2}",
                "ldrd {x}, {y}, [{weights}], #8",
                "smlad {s3}, {x}, {e}, {s3}",
                "smlad {s3}, {y}, {o}, {s3}",
                "subs {groups}, {groups}, #1",
                "bne 2b",
                errors = inout(reg) errors.as_ptr() => _, weights = inout(reg) weights.as_ptr() => _,
                groups = inout(reg) groups => _,
                s0 = inout(reg) *s0, s1 = inout(reg) *s1, s2 = inout(reg) *s2, s3 = inout(reg) *s3,
                e = out(reg) _, o = out(reg) _, x = out(reg) _, y = out(reg) _,
                options(pure, readonly, nostack),
            );
        }
    }

    /// The errors as words of two halves: of the first two outputs, and of the others.
    fn halves(errors: [i8; OUTER]) -> [u32; 2] {
        let word = |low: i8, high: i8| u32::from(i16::from(low) as u16) | (i32::from(high) as u32) << 16;
        [word(errors[0], errors[1]), word(errors[2], errors[3])]
    }

    /// As in plain code.
    #[inline(never)]
    pub fn add_outer(patches: &[u32], errors: [[i8; OUTER]; 2], a: &mut [i32], b: &mut [i32]) {
        let len = a.len().min(b.len()).min(patches.len() / 2);
        if len == 0 {
            return;
        }
        let ([a0, a1], [b0, b1]) = (halves(errors[0]), halves(errors[1]));
        // SAFETY: the loop reads `len` pairs of words of the patches and adds to as many numbers of `a` and `b`, which
        // lie within their slices.
        unsafe {
            asm!(
                "2:",
                "ldrd {x}, {y}, [{patches}], #8",
                "ldr {g}, [{a}]",
                "smlad {g}, {x}, {a0}, {g}",
                "smlad {g}, {y}, {a1}, {g}",
                "str {g}, [{a}], #4",
                "ldr {g}, [{b}]",
                "smlad {g}, {x}, {b0}, {g}",
                "smlad {g}, {y}, {b1}, {g}",
                "str {g}, [{b}], #4",
                "subs {len}, {len}, #1",
                "bne 2b",
                patches = inout(reg) patches.as_ptr() => _,
                a = inout(reg) a.as_mut_ptr() => _, b = inout(reg) b.as_mut_ptr() => _, len = inout(reg) len => _,
                a0 = in(reg) a0, a1 = in(reg) a1, b0 = in(reg) b0, b1 = in(reg) b1,
                x = out(reg) _, y = out(reg) _, g = out(reg) _,
                options(nostack),
            );
        }
    }
}
