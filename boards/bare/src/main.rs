//! Runs the self-test on a Cortex-M and prints whether the bits are the expected ones.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_rt::{entry, exception};
use cortex_m_semihosting::{debug, hprintln};
use nestling::kernels::Kernels;
use nestling::kernels::tile::Tile;
use nestling::learner::{Alone, Learner};
use nestling::selftest;

/// Memory of the learner; more than the plan wants.
const MEMORY: usize = 512 * 1024;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    hprintln!("panic: {}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}

/// Times that the timer of 24 bits has run down.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    ROUNDS.fetch_add(1, Ordering::Relaxed);
}

/// Ticks of the processor's timer since the start. An emulator told to count instructions (`-icount shift=10`) gives
/// 25.6 ticks for each on the boards used here.
fn ticks() -> u64 {
    loop {
        let rounds = ROUNDS.load(Ordering::Relaxed);
        let left = SYST::get_current();
        if rounds == ROUNDS.load(Ordering::Relaxed) {
            return u64::from(rounds) * (1 << 24) + u64::from(0xFF_FFFF - left);
        }
    }
}

fn run(kernels: Kernels, memory: &mut [u8]) -> bool {
    let planned = Learner::plan(&selftest::spec(), &selftest::options(1, kernels)).map(|plan| plan.ram_bytes);
    let before = ticks();
    let digest = selftest::digest(memory, 1, kernels, &Alone);
    let instructions = (ticks() - before) * 10 / 256;
    match (digest, planned) {
        (Ok(digest), Ok(bytes)) => {
            let same = digest == selftest::EXPECTED;
            let verdict = if same { "the expected bits" } else { "OTHER BITS" };
            let millions = instructions / 1_000_000;
            let name = kernels.name();
            hprintln!("{}: {:016x}, {}, {} bytes planned, {} M instructions", name, digest, verdict, bytes, millions);
            same
        }
        (Err(problem), _) | (_, Err(problem)) => {
            hprintln!("{}: {}", kernels.name(), problem);
            false
        }
    }
}

#[entry]
fn main() -> ! {
    let Some(memory) = cortex_m::singleton!(: [u8; MEMORY] = [0; MEMORY]) else { panic!("entered twice") };
    let Some(mut peripherals) = cortex_m::Peripherals::take() else { panic!("entered twice") };
    peripherals.SYST.set_clock_source(SystClkSource::Core);
    peripherals.SYST.set_reload(0xFF_FFFF);
    peripherals.SYST.clear_current();
    peripherals.SYST.enable_counter();
    peripherals.SYST.enable_interrupt();
    let passed = Tile::all()
        .iter()
        .fold(run(Kernels::Reference, memory), |passed, &tile| run(Kernels::Packed(tile), memory) && passed);
    debug::exit(if passed { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {}
}
