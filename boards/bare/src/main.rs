//! Runs the self-test on a Cortex-M and prints whether the bits are the expected ones.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use nestling::kernels::Kernels;
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

fn run(kernels: Kernels, memory: &mut [u8]) -> bool {
    let planned = Learner::plan(&selftest::spec(), &selftest::options(1, kernels)).map(|plan| plan.ram_bytes);
    match (selftest::digest(memory, 1, kernels, &Alone), planned) {
        (Ok(digest), Ok(bytes)) => {
            let same = digest == selftest::EXPECTED;
            let verdict = if same { "the expected bits" } else { "OTHER BITS" };
            hprintln!("{}: {:016x}, {}, {} bytes planned", kernels.name(), digest, verdict, bytes);
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
    let passed = run(Kernels::Reference, memory) & run(Kernels::detect(), memory);
    debug::exit(if passed { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {}
}
