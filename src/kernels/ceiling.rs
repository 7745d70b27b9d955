//! The multiply-add ceiling of one core: loops over registers alone, for benchmarks to be held against.

use super::tile::Tile;

/// One instruction sequence that multiplies and adds, without any memory.
pub struct Ceiling {
    /// Its instructions, as people write them.
    pub instructions: &'static str,
    run: fn(u64) -> u64,
}

impl Ceiling {
    /// Runs the sequence `rounds` times (at least once) and gives the multiply-adds done.
    pub fn run(&self, rounds: u64) -> u64 {
        (self.run)(rounds.max(1))
    }
}

impl Tile {
    /// The ceilings of the instructions that this tile uses, that for operands of any sign first. Empty where none is
    /// measured.
    pub fn ceilings(self) -> &'static [Ceiling] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Tile::Avx2(_) => &x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            Tile::Avx512Vnni(_) => &x86::AVX512_VNNI,
            #[cfg(target_arch = "x86_64")]
            Tile::AvxVnni(_) => &x86::AVX_VNNI,
            _ => &[],
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Ceiling;
    use core::arch::asm;

    pub(super) const AVX2: [Ceiling; 2] = [
        Ceiling { instructions: "vpmaddwd + vpaddd", run: pairs },
        Ceiling { instructions: "vpmaddubsw + vpmaddwd + vpaddd", run: quads },
    ];
    pub(super) const AVX512_VNNI: [Ceiling; 2] =
        [Ceiling { instructions: "vpdpbusd", run: evex_bytes }, Ceiling { instructions: "vpdpwssd", run: evex_words }];
    pub(super) const AVX_VNNI: [Ceiling; 2] =
        [Ceiling { instructions: "vpdpbusd", run: vex_bytes }, Ceiling { instructions: "vpdpwssd", run: vex_words }];

    /// Independent sums, fed by `$body`, in a loop of `$rounds` rounds.
    macro_rules! rounds {
        ($rounds:expr; $($body:expr),*) => {
            asm!(
                "2:", $($body,)* "sub {n}, 1", "jnz 2b",
                n = inout(reg) $rounds => _,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                options(nomem, nostack),
            )
        };
    }

    fn pairs(rounds: u64) -> u64 {
        // SAFETY: only a tile that was detected as AVX2 hands this function out; it touches named registers alone.
        unsafe {
            rounds!(rounds;
                "vpmaddwd ymm8, ymm10, ymm11", "vpaddd ymm0, ymm0, ymm8",
                "vpmaddwd ymm9, ymm10, ymm11", "vpaddd ymm1, ymm1, ymm9",
                "vpmaddwd ymm8, ymm10, ymm11", "vpaddd ymm2, ymm2, ymm8",
                "vpmaddwd ymm9, ymm10, ymm11", "vpaddd ymm3, ymm3, ymm9",
                "vpmaddwd ymm8, ymm10, ymm11", "vpaddd ymm4, ymm4, ymm8",
                "vpmaddwd ymm9, ymm10, ymm11", "vpaddd ymm5, ymm5, ymm9",
                "vpmaddwd ymm8, ymm10, ymm11", "vpaddd ymm6, ymm6, ymm8",
                "vpmaddwd ymm9, ymm10, ymm11", "vpaddd ymm7, ymm7, ymm9"
            );
        }
        rounds * 8 * 16
    }

    fn quads(rounds: u64) -> u64 {
        // SAFETY: as above. Where an upper half held numbers of a wider register, only time would be lost.
        unsafe {
            rounds!(rounds;
                "vpmaddubsw ymm8, ymm10, ymm11", "vpmaddwd ymm8, ymm8, ymm11", "vpaddd ymm0, ymm0, ymm8",
                "vpmaddubsw ymm9, ymm10, ymm11", "vpmaddwd ymm9, ymm9, ymm11", "vpaddd ymm1, ymm1, ymm9",
                "vpmaddubsw ymm8, ymm10, ymm11", "vpmaddwd ymm8, ymm8, ymm11", "vpaddd ymm2, ymm2, ymm8",
                "vpmaddubsw ymm9, ymm10, ymm11", "vpmaddwd ymm9, ymm9, ymm11", "vpaddd ymm3, ymm3, ymm9",
                "vpmaddubsw ymm8, ymm10, ymm11", "vpmaddwd ymm8, ymm8, ymm11", "vpaddd ymm4, ymm4, ymm8",
                "vpmaddubsw ymm9, ymm10, ymm11", "vpmaddwd ymm9, ymm9, ymm11", "vpaddd ymm5, ymm5, ymm9",
                "vpmaddubsw ymm8, ymm10, ymm11", "vpmaddwd ymm8, ymm8, ymm11", "vpaddd ymm6, ymm6, ymm8",
                "vpmaddubsw ymm9, ymm10, ymm11", "vpmaddwd ymm9, ymm9, ymm11", "vpaddd ymm7, ymm7, ymm9"
            );
        }
        rounds * 8 * 32
    }

    /// Twelve independent sums of one instruction, `$macs` multiply-adds each.
    macro_rules! fused {
        ($name:ident: $macs:literal by $instruction:literal) => {
            fn $name(rounds: u64) -> u64 {
                // SAFETY: as above, for a tile of VNNI in this encoding.
                unsafe {
                    rounds!(rounds;
                        concat!($instruction, " ymm0, ymm12, ymm13"), concat!($instruction, " ymm1, ymm12, ymm13"),
                        concat!($instruction, " ymm2, ymm12, ymm13"), concat!($instruction, " ymm3, ymm12, ymm13"),
                        concat!($instruction, " ymm4, ymm12, ymm13"), concat!($instruction, " ymm5, ymm12, ymm13"),
                        concat!($instruction, " ymm6, ymm12, ymm13"), concat!($instruction, " ymm7, ymm12, ymm13"),
                        concat!($instruction, " ymm8, ymm12, ymm13"), concat!($instruction, " ymm9, ymm12, ymm13"),
                        concat!($instruction, " ymm10, ymm12, ymm13"), concat!($instruction, " ymm11, ymm12, ymm13")
                    );
                }
                rounds * 12 * $macs
            }
        };
    }

    fused!(evex_bytes: 32 by "vpdpbusd");
    fused!(evex_words: 16 by "vpdpwssd");
    fused!(vex_bytes: 32 by "{{vex}} vpdpbusd");
    fused!(vex_words: 16 by "{{vex}} vpdpwssd");
}
