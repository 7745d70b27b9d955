//! The register tile for 64-bit ARM: [`Neon`] for every processor, [`NeonDot`] for those that have dot products of four
//! bytes. Both multiply bytes with sign, so nothing need be known of the operands' signs. Only [`super::tile`] calls it.

use core::arch::aarch64::*;
use core::arch::asm;

use super::narrow::{AtRandom, Rows, Tally, ToNearest};
use super::tile::{COLUMNS, Format, Isa, Product, Quads, Sums, Work};
use crate::fixed::random::Draws;

/// NEON, which every processor has that this module is compiled for (Raspberry Pi Zero 2, 3 and 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon;

impl Neon {
    /// Never `None`: the instructions are part of the target.
    pub fn detect() -> Option<Self> {
        Some(Neon)
    }

    /// See [`super::tile::Tile::run`].
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }

    /// The product of `R` rows from row `first` on.
    ///
    /// Products of bytes are added in 16 bits over two groups (2 · 127 · 127 < 2¹⁵) and then, in pairs, to sums of 32
    /// bits. So each column has two half sums, and two rows have 16 registers of them; that leaves room for the operands
    /// and for products under way, and each panel register is used for both rows.
    #[inline(always)]
    fn rows<F: Format, const R: usize>(self, p: &Product<F::Number>, first: usize, sums: &mut Sums) {
        const { assert!(F::NUMBERS == 4) }
        p.check(first + R, 4);
        // SAFETY: NEON is part of the target. `check` proved that every group of every row (4 bytes) and of the panel
        // (64 bytes) lies within its slice; the loads need no alignment. A row of `sums` is 16 numbers, four registers.
        unsafe {
            let mut acc = [[vdupq_n_s32(0); 8]; R];
            let mut panel: *const i8 = p.panel.as_ptr().cast();
            let rows: *const i8 = p.rows.as_ptr().cast();
            for run in 0..p.runs {
                let base: [*const i8; R] = core::array::from_fn(|r| rows.add(p.offsets[first + r] + run * p.run_step));
                let mut at = 0;
                for _ in 0..p.groups / 2 {
                    let row = base.map(|base| (splat(base.add(at)), splat(base.add(at + p.group_step))));
                    for c in 0..4 {
                        let (b0, b1) = (vld1q_s8(panel.add(c * 16)), vld1q_s8(panel.add(64 + c * 16)));
                        for (acc, (a0, a1)) in acc.iter_mut().zip(row) {
                            let low = vmull_s8(vget_low_s8(a0), vget_low_s8(b0));
                            let low = vmlal_s8(low, vget_low_s8(a1), vget_low_s8(b1));
                            let high = vmlal_high_s8(vmull_high_s8(a0, b0), a1, b1);
                            acc[2 * c] = vpadalq_s16(acc[2 * c], low);
                            acc[2 * c + 1] = vpadalq_s16(acc[2 * c + 1], high);
                        }
                    }
                    at += 2 * p.group_step;
                    panel = panel.add(128);
                }
                if p.groups % 2 == 1 {
                    for c in 0..4 {
                        let b = vld1q_s8(panel.add(c * 16));
                        for (acc, base) in acc.iter_mut().zip(base) {
                            let a = splat(base.add(at));
                            acc[2 * c] = vpadalq_s16(acc[2 * c], vmull_s8(vget_low_s8(a), vget_low_s8(b)));
                            acc[2 * c + 1] = vpadalq_s16(acc[2 * c + 1], vmull_high_s8(a, b));
                        }
                    }
                    panel = panel.add(64);
                }
            }
            for (sums, acc) in sums[first..].iter_mut().zip(acc) {
                store16(core::array::from_fn(|c| vpaddq_s32(acc[2 * c], acc[2 * c + 1])), sums);
            }
        }
    }
}

impl Isa for Neon {
    type Signed = Quads;

    #[inline(always)]
    fn multiply<F: Format, const R: usize>(self, p: &Product<F::Number>, sums: &mut Sums) {
        for first in (0..R / 2 * 2).step_by(2) {
            self.rows::<F, 2>(p, first, sums);
        }
        if R % 2 == 1 {
            self.rows::<F, 1>(p, R - 1, sums);
        }
    }

    #[inline(always)]
    fn interleave<F: Format>(self, rows: [&[i8]; 4], out: &mut [F::Number]) {
        let out: &mut [i8] = &mut bytemuck::cast_slice_mut(out)[..64];
        // SAFETY: NEON is part of the target; each row is cut to 16 bytes and `out` to 64.
        unsafe {
            let [r0, r1, r2, r3] = rows.map(|row| vld1q_s8(row[..COLUMNS].as_ptr()));
            let to = out.as_mut_ptr();
            if F::NUMBERS == 2 {
                for (half, pairs) in [vzip1q_s8(r0, r1), vzip2q_s8(r0, r1)].into_iter().enumerate() {
                    vst1q_s16(to.add(half * 32).cast(), vmovl_s8(vget_low_s8(pairs)));
                    vst1q_s16(to.add(half * 32 + 16).cast(), vmovl_high_s8(pairs));
                }
                return;
            }
            for (half, (even, odd)) in
                [(vzip1q_s8(r0, r2), vzip1q_s8(r1, r3)), (vzip2q_s8(r0, r2), vzip2q_s8(r1, r3))].into_iter().enumerate()
            {
                vst1q_s8(to.add(half * 32), vzip1q_s8(even, odd));
                vst1q_s8(to.add(half * 32 + 16), vzip2q_s8(even, odd));
            }
        }
    }

    #[inline(always)]
    fn random_bits(self, draws: Draws, first: u32) -> [u32; COLUMNS] {
        let mut bits = [0; COLUMNS];
        for (four, drawn) in bits.as_chunks_mut::<4>().0.iter_mut().zip(random_bits(draws, first)) {
            // SAFETY: four numbers of 4 bytes are one register.
            unsafe { vst1q_u32(four.as_mut_ptr(), drawn) };
        }
        bits
    }

    #[inline(always)]
    fn narrow_to_nearest(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        narrow_to_nearest::<false>(how, rows, tally);
    }

    #[inline(always)]
    fn narrow_with_sign(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        narrow_to_nearest::<true>(how, rows, tally);
    }

    #[inline(always)]
    fn narrow_at_random(self, how: &AtRandom, rows: Rows, tally: &mut Tally) {
        // SAFETY: NEON is part of the target; `live` is cut to 16 bytes.
        unsafe {
            let shift = vdupq_n_s32(-(how.shift as i32));
            // The upper bits of the draw, as many as are shifted out.
            let draw = vdupq_n_s32(how.shift as i32 - 32);
            let mut counts = Counts::start(tally);
            for (&at, sums) in rows.offsets.iter().zip(rows.sums) {
                let mut s = load16(sums);
                if let Some(active) = how.active {
                    let live = vreinterpretq_s8_u8(vcgtzq_s8(vld1q_s8(active[at..at + COLUMNS].as_ptr())));
                    let (low, high) = (vmovl_s8(vget_low_s8(live)), vmovl_high_s8(live));
                    s[0] = vandq_s32(s[0], vmovl_s16(vget_low_s16(low)));
                    s[1] = vandq_s32(s[1], vmovl_high_s16(low));
                    s[2] = vandq_s32(s[2], vmovl_s16(vget_low_s16(high)));
                    s[3] = vandq_s32(s[3], vmovl_high_s16(high));
                }
                let bits = random_bits(how.draws, how.first.wrapping_add(at as u32));
                let y = quarters(|q| {
                    let drawn = vreinterpretq_s32_u32(vshlq_u32(bits[q], draw));
                    vshlq_s32(vaddq_s32(s[q], drawn), shift)
                });
                let y = halves(y);
                counts.note(quarters(|q| vabsq_s32(s[q])), y.map(|y| vqabsq_s16(y)));
                store_mantissas(y, &mut rows.out[at..at + COLUMNS]);
            }
            counts.end(tally);
        }
    }
}

/// NEON with dot products of four bytes (Raspberry Pi 5). Proof that the processor has them: it can be had from
/// [`NeonDot::detect`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeonDot(());

impl NeonDot {
    /// `None` where the processor lacks the instructions.
    pub fn detect() -> Option<Self> {
        #[cfg(feature = "std")]
        let has = std::arch::is_aarch64_feature_detected!("dotprod");
        #[cfg(not(feature = "std"))]
        let has = cfg!(target_feature = "dotprod");
        has.then_some(NeonDot(()))
    }

    /// See [`super::tile::Tile::run`].
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        #[target_feature(enable = "dotprod")]
        fn with_dot<W: Work>(isa: NeonDot, work: W) -> W::Output {
            work.run(isa)
        }
        // SAFETY: holding a `NeonDot` proves that the processor has the instructions.
        unsafe { with_dot(self, work) }
    }
}

impl Isa for NeonDot {
    type Signed = Quads;

    #[inline(always)]
    fn multiply<F: Format, const R: usize>(self, p: &Product<F::Number>, sums: &mut Sums) {
        const { assert!(F::NUMBERS == 4) }
        p.check(R, 4);
        // SAFETY: holding a `NeonDot` proves that the processor has the instructions. `check` proved that every group of
        // every row (4 bytes) and of the panel (64 bytes) lies within its slice; the loads need no alignment.
        unsafe {
            let mut acc = [[vdupq_n_s32(0); 4]; R];
            let mut panel: *const i8 = p.panel.as_ptr().cast();
            let rows: *const i8 = p.rows.as_ptr().cast();
            for run in 0..p.runs {
                let base: [*const i8; R] = core::array::from_fn(|r| rows.add(p.offsets[r] + run * p.run_step));
                let mut at = 0;
                for _ in 0..p.groups {
                    let columns: [int8x16_t; 4] = core::array::from_fn(|c| vld1q_s8(panel.add(c * 16)));
                    for (acc, base) in acc.iter_mut().zip(base) {
                        // One lane is enough: a broadcast would cost an instruction more on most processors.
                        let row = vcreate_s8(u64::from(base.add(at).cast::<u32>().read_unaligned()));
                        for (acc, columns) in acc.iter_mut().zip(columns) {
                            *acc = dot(*acc, columns, row);
                        }
                    }
                    at += p.group_step;
                    panel = panel.add(64);
                }
            }
            for (sums, acc) in sums.iter_mut().zip(acc) {
                store16(acc, sums);
            }
        }
    }

    #[inline(always)]
    fn interleave<F: Format>(self, rows: [&[i8]; 4], out: &mut [F::Number]) {
        Neon.interleave::<F>(rows, out);
    }

    #[inline(always)]
    fn random_bits(self, draws: Draws, first: u32) -> [u32; COLUMNS] {
        Neon.random_bits(draws, first)
    }

    #[inline(always)]
    fn narrow_to_nearest(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        Neon.narrow_to_nearest(how, rows, tally);
    }

    #[inline(always)]
    fn narrow_with_sign(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        Neon.narrow_with_sign(how, rows, tally);
    }

    #[inline(always)]
    fn narrow_at_random(self, how: &AtRandom, rows: Rows, tally: &mut Tally) {
        Neon.narrow_at_random(how, rows, tally);
    }
}

/// `sums[c] + Σ_i columns[4c + i] · row[i]`. Written in assembly because the intrinsic is not stable. Not a function with the
/// feature `dotprod`: the compiler would not inline that into closures that do not have it, and a call for each product
/// takes three times the instructions (`benches/arm/count.sh`).
///
/// # Safety
/// The processor has `dotprod`.
#[inline(always)]
unsafe fn dot(mut sums: int32x4_t, columns: int8x16_t, row: int8x8_t) -> int32x4_t {
    // SAFETY: the caller's promise; the instruction touches nothing but these registers.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {columns:v}.16b, {row:v}.4b[0]",
            sums = inout(vreg) sums, columns = in(vreg) columns, row = in(vreg) row,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Four bytes from `from` on, in each lane. In assembly, so that the compiler does not know that both halves are equal:
/// it would move the upper half of every panel register down rather than multiply the upper halves.
///
/// # Safety
/// The four bytes may be read.
#[inline(always)]
unsafe fn splat(from: *const i8) -> int8x16_t {
    let lanes;
    // SAFETY: the caller's promise; the load needs no alignment and NEON is part of the target.
    unsafe {
        asm!(
            "ld1r {{{lanes:v}.4s}}, [{from}]", lanes = out(vreg) lanes, from = in(reg) from,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    lanes
}

/// See [`ToNearest`]; what is negative stays where `SIGNED`.
#[inline(always)]
fn narrow_to_nearest<const SIGNED: bool>(how: &ToNearest, rows: Rows, tally: &mut Tally) {
    // SAFETY: NEON is part of the target.
    unsafe {
        let thresholds = load16(&how.thresholds);
        // A shift to the left by a negative number is a rounding one to the right.
        let shift = vdupq_n_s32(-(how.shift as i32));
        let mut counts = Counts::start(tally);
        for (&at, sums) in rows.offsets.iter().zip(rows.sums) {
            let s = load16(sums);
            let mut a = quarters(|q| vsubq_s32(s[q], thresholds[q]));
            if !SIGNED {
                a = a.map(|a| vmaxq_s32(a, vdupq_n_s32(0)));
            }
            let y = halves(a.map(|a| vrshlq_s32(a, shift)));
            if SIGNED {
                counts.note(a.map(|a| vabsq_s32(a)), y.map(|y| vqabsq_s16(y)));
            } else {
                counts.note(a, y);
            }
            store_mantissas(y, &mut rows.out[at..at + COLUMNS]);
        }
        counts.end(tally);
    }
}

/// `f` of each register of a row of 32 bits.
#[inline(always)]
fn quarters<T>(f: impl FnMut(usize) -> T) -> [T; 4] {
    core::array::from_fn(f)
}

/// A row of numbers as four registers.
#[inline(always)]
fn load16(numbers: &[i32; COLUMNS]) -> [int32x4_t; 4] {
    // SAFETY: register `q` is numbers 4q..4q + 4 of 16.
    quarters(|q| unsafe { vld1q_s32(numbers.as_ptr().add(4 * q)) })
}

#[inline(always)]
fn store16(row: [int32x4_t; 4], numbers: &mut [i32; COLUMNS]) {
    for (q, row) in row.into_iter().enumerate() {
        // SAFETY: as in `load16`.
        unsafe { vst1q_s32(numbers.as_mut_ptr().add(4 * q), row) }
    }
}

/// A row of 32 bits narrowed to 16, saturating.
#[inline(always)]
fn halves(y: [int32x4_t; 4]) -> [int16x8_t; 2] {
    // SAFETY: NEON is part of the target.
    [0, 1].map(|h| unsafe { vqmovn_high_s32(vqmovn_s32(y[2 * h]), y[2 * h + 1]) })
}

/// Stores a row as mantissas within ±127.
#[inline(always)]
fn store_mantissas(y: [int16x8_t; 2], out: &mut [i8]) {
    let out = &mut out[..COLUMNS];
    // SAFETY: NEON is part of the target; `out` is 16 bytes.
    unsafe {
        let bytes = vqmovn_high_s16(vqmovn_s16(y[0]), y[1]);
        vst1q_s8(out.as_mut_ptr(), vmaxq_s8(bytes, vdupq_n_s8(-127)));
    }
}

/// Sixteen draws from `first` on; see [`crate::fixed::random::Draws::bits`].
#[inline(always)]
fn random_bits(draws: Draws, first: u32) -> [uint32x4_t; 4] {
    use crate::fixed::random::{MULTIPLIERS, PLACE};
    const LANES: [u32; 4] = [0, PLACE, PLACE.wrapping_mul(2), PLACE.wrapping_mul(3)];
    let (a, b) = draws.keys();
    // SAFETY: NEON is part of the target; `LANES` is one register.
    unsafe {
        let lanes = vld1q_u32(LANES.as_ptr());
        quarters(|q| {
            let x = vaddq_u32(lanes, vdupq_n_u32(first.wrapping_add(4 * q as u32).wrapping_mul(PLACE)));
            let x = veorq_u32(x, vdupq_n_u32(a));
            let x = vmulq_u32(veorq_u32(x, vshrq_n_u32::<16>(x)), vdupq_n_u32(MULTIPLIERS[0]));
            let x = vaddq_u32(veorq_u32(x, vshrq_n_u32::<15>(x)), vdupq_n_u32(b));
            let x = vmulq_u32(x, vdupq_n_u32(MULTIPLIERS[1]));
            veorq_u32(x, vshrq_n_u32::<15>(x))
        })
    }
}

/// The part of a [`Tally`] that changes with every row. Sixteen bits are enough for the rows of one call.
struct Counts {
    max: int32x4_t,
    clamped: int16x8_t,
    upper_half: int16x8_t,
}

impl Counts {
    #[inline(always)]
    fn start(tally: &Tally) -> Self {
        // SAFETY: NEON is part of the target.
        let zero = unsafe { vdupq_n_s16(0) };
        Counts { max: load16(&tally.max)[0], clamped: zero, upper_half: zero }
    }

    /// Notes magnitudes of 32 bits before and of 16 bits after the shift.
    #[inline(always)]
    fn note(&mut self, a: [int32x4_t; 4], y: [int16x8_t; 2]) {
        // SAFETY: NEON is part of the target.
        unsafe {
            self.max = vmaxq_s32(self.max, vmaxq_s32(vmaxq_s32(a[0], a[1]), vmaxq_s32(a[2], a[3])));
            for y in y {
                // A comparison that holds gives −1.
                let above = |limit| vreinterpretq_s16_u16(vcgtq_s16(y, vdupq_n_s16(limit)));
                self.clamped = vsubq_s16(self.clamped, above(127));
                self.upper_half = vsubq_s16(self.upper_half, above(63));
            }
        }
    }

    #[inline(always)]
    fn end(self, tally: &mut Tally) {
        // SAFETY: NEON is part of the target; four numbers of 16 are read and written.
        unsafe {
            vst1q_s32(tally.max.as_mut_ptr(), self.max);
            for (lanes, counts) in [(&mut tally.clamped, self.clamped), (&mut tally.upper_half, self.upper_half)] {
                vst1q_s32(lanes.as_mut_ptr(), vpadalq_s16(load16(lanes)[0], counts));
            }
        }
    }
}
