//! What the firmware takes of RAM and flash, and how much of the stack was used, by the symbols of `cortex-m-rt`.
//!
//! The board builds `cortex-m-rt` with `paint-stack`, which fills the free memory with one value before anything runs.

use core::ptr::{addr_of, read_volatile};

use nestling::link::Memory;

/// The value of `cortex_m_rt::STACK_PAINT_VALUE`.
const PAINT: u32 = 0xCCCC_CCCC;

unsafe extern "C" {
    static __vector_table: u32;
    static __sidata: u32;
    static __sdata: u32;
    static __edata: u32;
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Bytes of the stack that were ever written.
pub fn used() -> usize {
    let (mut at, start) = (addr_of!(_stack_end), addr_of!(_stack_start));
    // SAFETY: the words between the linker's two symbols are RAM, and reading them changes nothing.
    while at < start && unsafe { read_volatile(at) } == PAINT {
        at = at.wrapping_add(1);
    }
    start as usize - at as usize
}

/// What `Hello` says of a firmware whose learner has a block of `learner` bytes.
pub fn memory(learner: usize) -> Memory {
    let between = |from: *const u32, to: *const u32| (to as usize - from as usize) as u32;
    let data = between(addr_of!(__sdata), addr_of!(__edata));
    Memory {
        learner: learner as u32,
        // `.data`, `.bss` and `.uninit`.
        statics: between(addr_of!(__sdata), addr_of!(_stack_end)),
        stack: between(addr_of!(_stack_end), addr_of!(_stack_start)),
        // The first values of `.data` stand last.
        flash: between(addr_of!(__vector_table), addr_of!(__sidata)) + data,
    }
}
