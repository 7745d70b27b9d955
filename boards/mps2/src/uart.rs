//! The UART of Arm's CMSDK: an interrupt moves what arrives into a queue, from which the loop reads. Where the queue is
//! full the interrupt rests and the emulator holds the rest back, so that nothing is lost.

use core::cell::RefCell;
use core::convert::Infallible;
use core::ptr::{read_volatile, write_volatile};

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use critical_section::Mutex;
use embedded_io::{ErrorType, Read, ReadReady, Write};
use heapless::Deque;

/// Registers, as words from the base on.
const DATA: usize = 0;
const STATE: usize = 1;
const CONTROL: usize = 2;
const INTERRUPT: usize = 3;
const DIVIDER: usize = 4;

/// Bits of the state and of the control register.
const SEND_FULL: u32 = 1;
const RECEIVED: u32 = 2;
const ENABLE_BOTH: u32 = 3;
const INTERRUPT_ON_RECEIVED: u32 = 8;

/// Bytes that wait between the interrupt and the loop.
const QUEUE: usize = 256;

struct Shared {
    base: usize,
    queue: Deque<u8, QUEUE>,
}

static SHARED: Mutex<RefCell<Shared>> = Mutex::new(RefCell::new(Shared { base: 0, queue: Deque::new() }));

#[derive(Clone, Copy)]
struct Line(u16);

// SAFETY: the number is that of the machine's interrupt, which is always the same.
unsafe impl InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}

fn read(base: usize, register: usize) -> u32 {
    // SAFETY: `base` is that of a UART of this machine, whose registers are words.
    unsafe { read_volatile((base as *const u32).add(register)) }
}

fn write(base: usize, register: usize, value: u32) {
    // SAFETY: as above.
    unsafe { write_volatile((base as *mut u32).add(register), value) }
}

/// The one UART that is the link. Its interrupt is served by [`received`].
pub struct Uart {
    base: usize,
}

impl Uart {
    /// The UART at `base`, whose interrupt on reception has number `line`.
    ///
    /// # Safety
    /// There is such a UART at `base`, and nobody else uses it.
    pub unsafe fn new(base: usize, line: u16) -> Self {
        critical_section::with(|cs| SHARED.borrow_ref_mut(cs).base = base);
        write(base, DIVIDER, 16);
        write(base, CONTROL, ENABLE_BOTH | INTERRUPT_ON_RECEIVED);
        // SAFETY: the handler takes its own critical section; no other is broken by it.
        unsafe { NVIC::unmask(Line(line)) };
        Uart { base }
    }
}

/// What the interrupt does.
pub fn received() {
    critical_section::with(|cs| {
        let shared = &mut *SHARED.borrow_ref_mut(cs);
        write(shared.base, INTERRUPT, 2);
        while read(shared.base, STATE) & RECEIVED != 0 {
            if shared.queue.is_full() {
                write(shared.base, CONTROL, ENABLE_BOTH);
                break;
            }
            let _ = shared.queue.push_back(read(shared.base, DATA) as u8);
        }
    });
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(critical_section::with(|cs| !SHARED.borrow_ref(cs).queue.is_empty()))
    }
}

impl Read for Uart {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        loop {
            let count = critical_section::with(|cs| {
                let queue = &mut SHARED.borrow_ref_mut(cs).queue;
                let mut count = 0;
                while count < into.len() {
                    let Some(byte) = queue.pop_front() else { break };
                    into[count] = byte;
                    count += 1;
                }
                count
            });
            if count > 0 || into.is_empty() {
                write(self.base, CONTROL, ENABLE_BOTH | INTERRUPT_ON_RECEIVED);
                // What arrived while the interrupt rested.
                received();
                return Ok(count);
            }
        }
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            while read(self.base, STATE) & SEND_FULL != 0 {}
            write(self.base, DATA, u32::from(byte));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
