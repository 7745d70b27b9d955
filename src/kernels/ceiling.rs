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
            Tile::Avx2(_) => &x86::CEILINGS,
            _ => &[],
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Ceiling;
    use core::arch::asm;

    pub(super) const CEILINGS: [Ceiling; 2] = [
        Ceiling { instructions: "vpmaddwd + vpaddd", run: pairs },
        Ceiling { instructions: "vpmaddubsw + vpmaddwd + vpaddd", run: quads },
    ];

    /// Eight independent sums, each fed by `$body`, in a loop of `$rounds` rounds.
    macro_rules! rounds {
        ($rounds:expr; $($body:literal),*) => {
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
}
