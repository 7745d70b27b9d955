//! Instructions, counted by the processor's timer in an emulator whose clock is told to follow them.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::{SYST, syst::SystClkSource};
use cortex_m_rt::exception;

/// Times that the timer of 24 bits has run down. Only the exception writes it.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    ROUNDS.store(ROUNDS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Starts the timer.
pub fn start(mut timer: SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(0xFF_FFFF);
    timer.clear_current();
    timer.enable_counter();
    timer.enable_interrupt();
}

/// Ticks since the start.
fn ticks() -> u64 {
    loop {
        let rounds = ROUNDS.load(Ordering::Relaxed);
        let left = SYST::get_current();
        if rounds == ROUNDS.load(Ordering::Relaxed) {
            return u64::from(rounds) * (1 << 24) + u64::from(0xFF_FFFF - left);
        }
    }
}

/// What `work` gives, and its instructions: with `-icount shift=10` each takes 25.6 ticks on the boards used here.
pub fn instructions<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ticks();
    let result = work();
    (result, (ticks() - before) * 10 / 256)
}
