//! An Arm MPS2 with a Cortex-M7: where it has what the firmware uses.
#![no_std]
#![no_main]

use nestling_mps2::Machine;

include!(concat!(env!("OUT_DIR"), "/firmware.rs"));

const MACHINE: Machine = Machine { uart: 0x4000_4000, line: 0, nor: 0x6000_0000 };

#[cortex_m_rt::entry]
fn main() -> ! {
    // SAFETY: the addresses are those of the machine's manual, and the entry runs once.
    unsafe { nestling_mps2::run(MACHINE, firmware()) }
}
