//! A Raspberry Pi Pico or Pico 2: pins, interrupts, flash. The link is the USB port.
//!
//! | sensor | pins |
//! |---|---|
//! | MPU-6050 | SDA GP4, SCL GP5 |
//! | HM01B0, one data line (as on Arducam's boards) | SDA GP4, SCL GP5, data GP6, PCLK GP14, HREF GP15, VSYNC GP16 |
#![no_std]
#![no_main]

#[cfg(input = "camera")]
mod hm01b0;

use defmt_rtt as _;
use embassy_executor::InterruptExecutor;
use embassy_rp::flash::{Blocking as BlockingMode, Flash};
#[cfg(not(input = "link"))]
use embassy_rp::i2c::I2c;
use embassy_rp::interrupt::{InterruptExt, Priority};
use embassy_rp::peripherals::USB;
use embassy_rp::{bind_interrupts, interrupt, usb};
use nestling_firmware::board;
use panic_probe as _;
#[cfg(input = "imu")]
use {
    embassy_rp::{i2c::Blocking as I2cBlocking, peripherals::I2C0},
    heapless::spsc::Producer,
    nestling_firmware::board::{HERTZ, Readings},
    nestling_firmware::imu::{Reading, Windows},
    static_cell::StaticCell,
};

include!(concat!(env!("OUT_DIR"), "/firmware.rs"));

bind_interrupts!(struct UsbInterrupts {
    USBCTRL_IRQ => usb::InterruptHandler<USB>;
});

/// Bytes of flash, of which the last are the learner's; memory.x leaves them out.
const FLASH_BYTES: usize = 2 << 20;
const STORE_BYTES: u32 = 256 << 10;

/// Runs what must not wait for the learner.
static TASKS: InterruptExecutor = InterruptExecutor::new();

#[interrupt]
unsafe fn SWI_IRQ_1() {
    // SAFETY: called from nowhere else.
    unsafe { TASKS.on_interrupt() }
}

#[embassy_executor::task]
async fn link(driver: usb::Driver<'static, USB>) {
    nestling_firmware::usb::serve(driver, env!("CARGO_PKG_NAME")).await;
}

#[cfg(input = "imu")]
#[embassy_executor::task]
async fn sense(bus: I2c<'static, I2C0, I2cBlocking>, queue: Producer<'static, Reading>) {
    board::sense(bus, queue, |problem| defmt::error!("{}", defmt::Display2Format(problem))).await;
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let p = embassy_rp::init(Default::default());
    interrupt::SWI_IRQ_1.set_priority(Priority::P3);
    let spawner = TASKS.start(interrupt::SWI_IRQ_1);
    spawner.spawn(defmt::unwrap!(link(usb::Driver::new(p.USB, UsbInterrupts))));
    let flash = Flash::<_, BlockingMode, FLASH_BYTES>::new_blocking(p.FLASH);

    #[cfg(input = "link")]
    let input = nestling_firmware::FromLink;
    #[cfg(not(input = "link"))]
    let bus = {
        let mut config = embassy_rp::i2c::Config::default();
        config.frequency = 400_000;
        I2c::new_blocking(p.I2C0, p.PIN_5, p.PIN_4, config)
    };
    #[cfg(input = "imu")]
    let input = {
        static READINGS: StaticCell<Readings> = StaticCell::new();
        let (producer, consumer) = READINGS.init(Readings::new()).split();
        spawner.spawn(defmt::unwrap!(sense(bus, producer)));
        // A window begins a second after the one before.
        Windows::<WINDOW>::new(consumer, HERTZ.into(), HERTZ)
    };
    #[cfg(input = "camera")]
    let input = {
        let pins = hm01b0::Pins { data: p.PIN_6, pixel_clock: p.PIN_14, row: p.PIN_15, frame: p.PIN_16 };
        hm01b0::start(spawner, bus, p.PIO0, p.DMA_CH0, pins)
    };
    board::learn(firmware(), input, flash, FLASH_BYTES as u32 - STORE_BYTES..FLASH_BYTES as u32)
}
