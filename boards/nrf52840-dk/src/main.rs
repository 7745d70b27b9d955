//! An nRF52840 DK: pins, interrupts, flash. The link is the nRF's own USB port; an MPU-6050 is at SDA P0.26, SCL P0.27.
#![no_std]
#![no_main]

use defmt_rtt as _;
use embassy_executor::InterruptExecutor;
use embassy_nrf::interrupt::{InterruptExt, Priority};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::peripherals::USBD;
use embassy_nrf::usb::vbus_detect::HardwareVbusDetect;
use embassy_nrf::usb::{Driver, vbus_detect};
use embassy_nrf::{bind_interrupts, config, interrupt, usb};
use nestling_firmware::board;
use panic_probe as _;
#[cfg(input = "imu")]
use {
    embassy_nrf::peripherals::TWISPI0,
    embassy_nrf::twim::{self, Twim},
    heapless::spsc::Producer,
    nestling_firmware::board::{HERTZ, Readings},
    nestling_firmware::imu::{Reading, Windows},
    static_cell::{ConstStaticCell, StaticCell},
};
#[cfg(input = "camera")]
compile_error!("this board has no camera: set input to imu or link in board.toml");

include!(concat!(env!("OUT_DIR"), "/firmware.rs"));

bind_interrupts!(struct Interrupts {
    USBD => usb::InterruptHandler<USBD>;
    CLOCK_POWER => vbus_detect::InterruptHandler;
});
#[cfg(input = "imu")]
bind_interrupts!(struct BusInterrupts {
    TWISPI0 => twim::InterruptHandler<TWISPI0>;
});

/// Bytes of flash, of which the last are the learner's; memory.x leaves them out.
const FLASH_BYTES: u32 = 1 << 20;
const STORE_BYTES: u32 = 128 << 10;

/// Runs what must not wait for the learner.
static TASKS: InterruptExecutor = InterruptExecutor::new();

#[interrupt]
unsafe fn EGU0_SWI0() {
    // SAFETY: called from nowhere else.
    unsafe { TASKS.on_interrupt() }
}

#[embassy_executor::task]
async fn link(driver: Driver<'static, HardwareVbusDetect>) {
    nestling_firmware::usb::serve(driver, env!("CARGO_PKG_NAME")).await;
}

#[cfg(input = "imu")]
#[embassy_executor::task]
async fn sense(bus: Twim<'static>, queue: Producer<'static, Reading>) {
    board::sense(bus, queue, |problem| defmt::error!("{}", defmt::Display2Format(problem))).await;
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut config = config::Config::default();
    // USB wants the crystal.
    config.hfclk_source = config::HfclkSource::ExternalXtal;
    let p = embassy_nrf::init(config);
    interrupt::EGU0_SWI0.set_priority(Priority::P6);
    let spawner = TASKS.start(interrupt::EGU0_SWI0);
    let driver = Driver::new(p.USBD, Interrupts, HardwareVbusDetect::new(Interrupts));
    spawner.spawn(defmt::unwrap!(link(driver)));

    #[cfg(input = "link")]
    let input = nestling_firmware::FromLink;
    #[cfg(input = "imu")]
    let input = {
        static READINGS: StaticCell<Readings> = StaticCell::new();
        static SENT: ConstStaticCell<[u8; 8]> = ConstStaticCell::new([0; 8]);
        let mut config = twim::Config::default();
        config.frequency = twim::Frequency::K400;
        let bus = Twim::new(p.TWISPI0, BusInterrupts, p.P0_26, p.P0_27, config, SENT.take());
        let (producer, consumer) = READINGS.init(Readings::new()).split();
        spawner.spawn(defmt::unwrap!(sense(bus, producer)));
        // A window begins a second after the one before.
        Windows::<WINDOW>::new(consumer, HERTZ.into(), HERTZ)
    };
    board::learn(firmware(), input, Nvmc::new(p.NVMC), FLASH_BYTES - STORE_BYTES..FLASH_BYTES)
}
