//! Runs the self-test on a Cortex-M and prints whether the bits are the expected ones; then compares the products of
//! all kernels, and counts instructions.
#![no_std]
#![no_main]

mod count;
mod kernels;
mod learner;
mod path;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
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
    loop {
        cortex_m::asm::wfi();
    }
}

/// Every way that this processor has.
fn ways() -> impl Iterator<Item = Kernels> {
    [Kernels::Reference, Kernels::Lean].into_iter().chain(Tile::all().into_iter().map(Kernels::Packed))
}

fn selftest(kernels: Kernels, memory: &mut [u8]) -> bool {
    let planned = Learner::plan(&selftest::spec(), &selftest::options(1, kernels)).map(|plan| plan.ram_bytes);
    let (digest, instructions) = count::instructions(|| selftest::digest(memory, 1, kernels, &Alone));
    match (digest, planned) {
        (Ok(digest), Ok(bytes)) => {
            let same = digest == selftest::EXPECTED;
            let verdict = if same { "the expected bits" } else { "OTHER BITS" };
            hprintln!("{}: {:016x}, {}, {} bytes planned", kernels.name(), digest, verdict, bytes);
            hprintln!("count: self-test, {}: {} thousand instructions", kernels.name(), instructions / 1000);
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
    let Some(peripherals) = cortex_m::Peripherals::take() else { panic!("entered twice") };
    count::start(peripherals.SYST);
    let mut passed = true;
    for kernels in ways() {
        passed &= selftest(kernels, memory);
    }
    passed &= kernels::compare_and_count(memory);
    passed &= learner::count(memory);
    debug::exit(if passed { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}
