//! The register tile: the innermost product of everything that `packed` computes, one form an instruction set.
//!
//! Both operands are read in groups of four bytes, as the multiply-and-add instructions of processors want them: two
//! `i16` or four `i8`. The left operand is read in place, row by row; the right one is packed in panels of [`COLUMNS`]
//! columns. Sums of `i32` do not depend on order, so every form gives the bits of [`super::reference`].

use bytemuck::Pod;

use super::narrow::{AtRandom, Rows, Tally, ToNearest};
use crate::fixed::random::Draws;

/// Rows of the register tile.
pub const ROWS: usize = 6;
/// Columns of the register tile, and of a packed panel.
pub const COLUMNS: usize = 16;

/// Sums of one register tile.
pub type Sums = [[i32; COLUMNS]; ROWS];

/// How numbers stand in a group of four bytes, and what is known of their sign.
pub trait Format: Copy {
    type Number: Pod + Into<i32> + PartialEq + core::fmt::Debug;
    /// Numbers in a group.
    const NUMBERS: usize;
    const SIGNS: Signs;
    /// What is added to every number of the rows.
    const OFFSET: i32 = if matches!(Self::SIGNS, Signs::RowsOffset) { 128 } else { 0 };
    /// Groups at the start of a panel that hold no numbers but [`COLUMNS`] sums to start from, in `i32`: what takes the
    /// offset off again.
    const STARTS: usize = if Self::OFFSET == 0 { 0 } else { 1 };
    /// A mantissa as it stands in a panel.
    fn number(mantissa: i8) -> Self::Number;
    /// A mantissa as it stands in the rows.
    #[inline(always)]
    fn row(mantissa: i8) -> Self::Number {
        Self::number(if Self::OFFSET == 0 { mantissa } else { mantissa ^ i8::MIN })
    }
}

/// What an instruction may take for granted about the operands of a [`Format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    Any,
    /// The rows are never negative: activations after ReLU.
    RowsUnsigned,
    /// The panel is never negative.
    PanelUnsigned,
    /// The rows are of any sign, with 128 added to each number: the bits of a `u8`.
    RowsOffset,
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident: $numbers:literal of $number:ty, $signs:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name;
        impl Format for $name {
            type Number = $number;
            const NUMBERS: usize = $numbers;
            const SIGNS: Signs = Signs::$signs;
            #[inline(always)]
            fn number(mantissa: i8) -> $number {
                <$number>::from(mantissa)
            }
        }
    )* };
}

formats! {
    /// Two numbers widened to 16 bits, of any sign.
    Pairs: 2 of i16, Any;
    /// Four mantissas of any sign.
    Quads: 4 of i8, Any;
    /// Four mantissas; those of the rows are never negative.
    QuadsOfUnsignedRows: 4 of i8, RowsUnsigned;
    /// Four mantissas; those of the panel are never negative.
    QuadsOfUnsignedPanel: 4 of i8, PanelUnsigned;
    /// Four mantissas of any sign for an instruction whose one factor is unsigned: `Σ (a + 128) · b − 128 · Σ b`. Sums
    /// wrap, so that they are exact, modulo 2³², whatever stands in between, and equal where the plan proves that
    /// `Σ a · b` fits. (What stands in between stays below `n · 255 · 127` for n products, which passes 2³¹ after 66,311.)
    OffsetQuads: 4 of i8, RowsOffset;
}

/// What the lengths of packed operands depend on: the format of an instruction set for operands that may both be
/// negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As [`Pairs`].
    Pairs,
    /// As [`Quads`].
    Quads,
    /// As [`OffsetQuads`].
    OffsetQuads,
}

impl Layout {
    const fn of<F: Format>() -> Self {
        match (F::NUMBERS, F::STARTS) {
            (2, _) => Layout::Pairs,
            (_, 0) => Layout::Quads,
            _ => Layout::OffsetQuads,
        }
    }
}

/// The operands of one tile: `sums[r][c] = Σ_g Σ_i rows[r][g][i] · panel[g][c][i]` over all groups `g` of all runs; or,
/// for [`Isa::multiply_lanes`], `Σ_g rows[r][g][c] · panel[g][c]`.
#[derive(Clone, Copy)]
pub struct Product<'a, N, P = N> {
    pub rows: &'a [N],
    /// Where each row starts; at most [`ROWS`].
    pub offsets: &'a [usize],
    /// Runs of groups in a row, and the numbers from one to the next.
    pub runs: usize,
    pub run_step: usize,
    /// Groups in a run, and the numbers from one to the next.
    pub groups: usize,
    pub group_step: usize,
    /// `[runs · groups, COLUMNS, numbers of a group]`, behind the sums to start from where the format has them; of lanes
    /// `[runs / 2, groups, COLUMNS, 2]`, with zeros where a last run has no other.
    pub panel: &'a [P],
}

impl<N, P> Product<'_, N, P> {
    /// What kernels without checks of their own rely on.
    ///
    /// # Panics
    /// Where one of the first `rows` rows or the panel reaches past its slice.
    #[inline(always)]
    #[allow(dead_code)] // Portable code checks every index.
    pub(super) fn check(&self, rows: usize, numbers: usize) {
        self.check_reach(rows, numbers, self.runs * self.groups * numbers);
    }

    /// As [`Product::check`], for a format that has sums to start from.
    #[inline(always)]
    #[allow(dead_code)]
    pub(super) fn check_format<F: Format>(&self, rows: usize) {
        self.check_reach(rows, F::NUMBERS, (F::STARTS + self.runs * self.groups) * F::NUMBERS);
    }

    /// As [`Product::check`], for a product of lanes.
    #[inline(always)]
    #[allow(dead_code)]
    pub(super) fn check_lanes(&self, rows: usize) {
        self.check_reach(rows, COLUMNS, self.runs.div_ceil(2) * 2 * self.groups);
    }

    #[inline(always)]
    fn check_reach(&self, rows: usize, group: usize, panel_rows: usize) {
        assert!(self.runs > 0 && self.groups > 0);
        assert!(self.panel.len() >= panel_rows * COLUMNS);
        let reach = (self.runs - 1) * self.run_step + (self.groups - 1) * self.group_step + group;
        for offset in &self.offsets[..rows] {
            assert!(offset + reach <= self.rows.len());
        }
    }
}

/// `f` of every lane.
#[inline(always)]
pub fn lanes<T: Copy + Default>(mut f: impl FnMut(usize) -> T) -> [T; COLUMNS] {
    let mut row = [T::default(); COLUMNS];
    for (lane, value) in row.iter_mut().enumerate() {
        *value = f(lane);
    }
    row
}

/// The first [`COLUMNS`] numbers, or all that there are and zeros.
#[inline(always)]
pub fn load<T: Copy + Default>(values: &[T]) -> [T; COLUMNS] {
    if let Some(row) = values.first_chunk() {
        return *row;
    }
    let mut row = [T::default(); COLUMNS];
    row[..values.len()].copy_from_slice(values);
    row
}

/// One instruction set.
pub trait Isa: Copy {
    /// The format for operands that may both be negative.
    type Signed: Format;
    /// Sums are best narrowed one by one: there are no vector registers.
    const ONE_BY_ONE: bool = false;

    /// The product of the first `R` rows; the other sums are left alone.
    fn multiply<F: Format, const R: usize>(self, product: &Product<F::Number>, sums: &mut Sums);

    /// The product of the first `R` rows where each lane has a channel of its own; the other sums are left alone.
    #[inline(always)]
    fn multiply_lanes<const R: usize>(self, p: &Product<i8, i16>, sums: &mut Sums) {
        sums[..R].fill([0; COLUMNS]);
        for run in 0..p.runs {
            for group in 0..p.groups {
                let pair = run / 2 * p.groups + group;
                let panel = &p.panel[pair * 2 * COLUMNS..][..2 * COLUMNS];
                for (sums, offset) in sums[..R].iter_mut().zip(p.offsets) {
                    let row: [i8; COLUMNS] = load(&p.rows[offset + run * p.run_step + group * p.group_step..]);
                    *sums = lanes(|c| sums[c] + i32::from(row[c]) * i32::from(panel[2 * c + run % 2]));
                }
            }
        }
    }

    /// Interleaves the first [`COLUMNS`] mantissas of the rows to groups: `out[c][i] = rows[i][c]`.
    #[inline(always)]
    fn interleave<F: Format>(self, rows: [&[i8]; 4], out: &mut [F::Number]) {
        for (c, group) in out[..COLUMNS * F::NUMBERS].chunks_exact_mut(F::NUMBERS).enumerate() {
            for (i, number) in group.iter_mut().enumerate() {
                *number = F::number(rows[i][c]);
            }
        }
    }

    /// The draws of [`COLUMNS`] elements from `first` on.
    #[inline(always)]
    fn random_bits(self, draws: Draws, first: u32) -> [u32; COLUMNS] {
        let mut bits = [0; COLUMNS];
        bits.iter_mut().zip(0..).for_each(|(bits, lane)| *bits = draws.bits(first.wrapping_add(lane)));
        bits
    }

    /// Narrows full rows; see [`ToNearest`].
    #[inline(always)]
    fn narrow_to_nearest(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        how.plain(rows, COLUMNS, tally);
    }

    /// Narrows full rows; see [`ToNearest::plain_with_sign`].
    #[inline(always)]
    fn narrow_with_sign(self, how: &ToNearest, rows: Rows, tally: &mut Tally) {
        how.plain_with_sign(rows, COLUMNS, tally);
    }

    /// Narrows full rows; see [`AtRandom`].
    #[inline(always)]
    fn narrow_at_random(self, how: &AtRandom, rows: Rows, tally: &mut Tally) {
        how.plain(rows, COLUMNS, tally);
    }
}

/// Code that is compiled once for each instruction set; mark `run` `#[inline(always)]`.
pub trait Work {
    type Output;
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// Plain code, for any processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portable;

impl Isa for Portable {
    type Signed = Pairs;

    #[inline(always)]
    fn multiply<F: Format, const R: usize>(self, p: &Product<F::Number>, sums: &mut Sums) {
        let mut panel = p.panel.chunks_exact(COLUMNS * F::NUMBERS);
        let start = if F::STARTS == 0 { None } else { panel.next() };
        sums[..R].fill(start.map_or([0; COLUMNS], |start| bytemuck::pod_read_unaligned(bytemuck::cast_slice(start))));
        let row_number = |number: F::Number| {
            let number: i32 = number.into();
            if F::OFFSET == 0 { number } else { number & 0xFF }
        };
        for run in 0..p.runs {
            for (group, columns) in panel.by_ref().take(p.groups).enumerate() {
                for (row, sums) in sums[..R].iter_mut().enumerate() {
                    let at = p.offsets[row] + run * p.run_step + group * p.group_step;
                    let row = &p.rows[at..at + F::NUMBERS];
                    for (sum, column) in sums.iter_mut().zip(columns.chunks_exact(F::NUMBERS)) {
                        let products = row.iter().zip(column).map(|(&a, &b)| row_number(a) * b.into());
                        *sum = sum.wrapping_add(products.sum());
                    }
                }
            }
        }
    }
}

/// Plain code for processors without vector registers: sums are narrowed one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneByOne;

impl Isa for OneByOne {
    type Signed = Pairs;
    const ONE_BY_ONE: bool = true;

    #[inline(always)]
    fn multiply<F: Format, const R: usize>(self, product: &Product<F::Number>, sums: &mut Sums) {
        Portable.multiply::<F, R>(product, sums);
    }
}

/// [`Isa::multiply`] for all rows.
#[inline(always)]
pub(super) fn multiply<I: Isa, F: Format>(isa: I, product: &Product<F::Number>, sums: &mut Sums) {
    match product.offsets.len() {
        6.. => isa.multiply::<F, 6>(product, sums),
        5 => isa.multiply::<F, 5>(product, sums),
        4 => isa.multiply::<F, 4>(product, sums),
        3 => isa.multiply::<F, 3>(product, sums),
        2 => isa.multiply::<F, 2>(product, sums),
        _ => isa.multiply::<F, 1>(product, sums),
    }
}

/// [`Isa::multiply_lanes`] for all rows.
#[inline(always)]
pub(super) fn multiply_lanes<I: Isa>(isa: I, product: &Product<i8, i16>, sums: &mut Sums) {
    match product.offsets.len() {
        6.. => isa.multiply_lanes::<6>(product, sums),
        5 => isa.multiply_lanes::<5>(product, sums),
        4 => isa.multiply_lanes::<4>(product, sums),
        3 => isa.multiply_lanes::<3>(product, sums),
        2 => isa.multiply_lanes::<2>(product, sums),
        _ => isa.multiply_lanes::<1>(product, sums),
    }
}

macro_rules! tiles {
    ($($(#[$cfg:meta])* $tile:ident($isa:ty) by $detect:ident: $name:literal in $layout:ident;)*) => {
        /// Names and layouts of all tiles, those of other processors too.
        #[cfg(feature = "std")]
        pub(super) const TILES: &[(&str, Layout)] =
            &[("packed/portable", Layout::of::<<Portable as Isa>::Signed>()), $(($name, Layout::$layout),)*];
        $($(#[$cfg])* const _: () = assert!(matches!(Layout::of::<<$isa as Isa>::Signed>(), Layout::$layout));)*

        /// Which instruction set is used. Chosen once, when the plan is built. In firmware without the feature `packed`
        /// there is none, and the compiler leaves the packed products out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Tile {
            #[cfg(any(not(target_os = "none"), feature = "packed"))]
            Portable,
            $($(#[$cfg])* $tile($isa),)*
        }

        impl Tile {
            /// Every one that this processor has, faster ones later: for tests and benchmarks.
            pub fn all() -> heapless::Vec<Self, 8> {
                #[allow(unused_mut, reason = "firmware may have none")]
                let mut all = heapless::Vec::new();
                #[cfg(any(not(target_os = "none"), feature = "packed"))]
                let _ = all.push(Tile::Portable);
                $($(#[$cfg])* if let Some(isa) = <$isa>::$detect() {
                    let _ = all.push(Tile::$tile(isa));
                })*
                all
            }

            /// Name for reports.
            pub fn name(self) -> &'static str {
                match self {
                    #[cfg(any(not(target_os = "none"), feature = "packed"))]
                    Tile::Portable => "packed/portable",
                    $($(#[$cfg])* Tile::$tile(_) => $name,)*
                }
            }

            pub(super) fn layout(self) -> Layout {
                match self {
                    #[cfg(any(not(target_os = "none"), feature = "packed"))]
                    Tile::Portable => Layout::of::<<Portable as Isa>::Signed>(),
                    $($(#[$cfg])* Tile::$tile(_) => Layout::$layout,)*
                }
            }

            /// Runs `work` as it was compiled for this instruction set.
            #[inline]
            #[allow(unused_variables, reason = "firmware may have none")]
            pub fn run<W: Work>(self, work: W) -> W::Output {
                match self {
                    #[cfg(any(not(target_os = "none"), feature = "packed"))]
                    Tile::Portable => work.run(Portable),
                    $($(#[$cfg])* Tile::$tile(isa) => isa.run(work),)*
                }
            }
        }
    };
}

// From the slowest to the fastest.
tiles! {
    #[cfg(target_arch = "x86_64")]
    Avx2(super::x86::Avx2) by detect: "packed/avx2" in Pairs;
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(super::x86::Vnni) by detect_avx512: "packed/avx512-vnni" in OffsetQuads;
    #[cfg(target_arch = "x86_64")]
    AvxVnni(super::x86::Vnni) by detect_avx: "packed/avx-vnni" in OffsetQuads;
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
    Neon(super::neon::Neon) by detect: "packed/neon" in Quads;
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
    NeonDot(super::neon::NeonDot) by detect: "packed/neon-dot" in Quads;
    #[cfg(all(target_arch = "arm", feature = "cortex-m-dsp", feature = "packed"))]
    Dsp(super::cortex_m::Dsp) by detect: "packed/dsp" in Pairs;
}

#[cfg(any(not(target_os = "none"), feature = "packed"))]
impl Tile {
    /// The fastest one of this processor.
    pub fn detect() -> Self {
        Self::all().last().copied().unwrap_or(Tile::Portable)
    }
}
