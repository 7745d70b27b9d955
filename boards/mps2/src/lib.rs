//! The emulated MPS2 boards: [`run`] is their whole program. Semihosting is used for the exit code and for panics only.
#![no_std]

mod nor;
mod uart;

use core::panic::PanicInfo;

use cortex_m::asm;
use cortex_m::peripheral::SCB;
use cortex_m_rt::exception;
use cortex_m_semihosting::{debug, hprintln};
use nestling::flash::Blocking;
use nestling_firmware::{Device, Firmware, FromLink, Parts, stack};

use nor::Nor;
use uart::Uart;

/// Where a machine has what is used of it.
pub struct Machine {
    /// UART 0, and the number of its interrupt on reception.
    pub uart: usize,
    pub line: u16,
    /// The RAM that is used as flash.
    pub nor: usize,
}

/// Pages of the flash.
const PAGES: usize = 128;

/// Learns from what comes over the link until the host says that it is done; ends the emulator then.
///
/// # Safety
/// `machine` describes the machine that this runs on, and `run` is called once.
pub unsafe fn run(machine: Machine, firmware: Firmware) -> ! {
    let memory = stack::memory(firmware.block.len());
    // SAFETY: the caller's promise.
    let (port, nor) = unsafe { (Uart::new(machine.uart, machine.line), Nor::new(machine.nor, PAGES)) };
    let parts = Parts {
        firmware,
        port,
        input: FromLink,
        range: 0..nor.len() as u32,
        flash: Blocking(nor),
        memory,
        stack_used: stack::used,
        reset: || SCB::sys_reset(),
    };
    let mut device = match Device::new(parts) {
        Ok(device) => device,
        Err(problem) => panic!("{problem}"),
    };
    while !device.finished() {
        if !device.poll() {
            asm::wfi();
        }
    }
    debug::exit(debug::EXIT_SUCCESS);
    asm::udf()
}

/// Of the interrupts only the UART's is enabled.
#[exception]
unsafe fn DefaultHandler(_line: i16) {
    uart::received();
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    asm::udf()
}
