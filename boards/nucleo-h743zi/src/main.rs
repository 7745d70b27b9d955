//! A NUCLEO-H743ZI: pins, interrupts, flash. The link is the serial port of the ST-LINK (115200 baud); an MPU-6050 is at
//! SDA PB9, SCL PB8.
#![no_std]
#![no_main]

use defmt_rtt as _;
use embassy_executor::InterruptExecutor;
use embassy_stm32::flash::Flash;
use embassy_stm32::interrupt::{InterruptExt, Priority};
use embassy_stm32::peripherals::USART3;
use embassy_stm32::usart::{self, BufferedUart, BufferedUartRx, BufferedUartTx};
use embassy_stm32::{bind_interrupts, interrupt};
use nestling_firmware::board;
use panic_probe as _;
use static_cell::ConstStaticCell;
#[cfg(input = "imu")]
use {
    embassy_stm32::i2c::{self, I2c},
    embassy_stm32::mode::Blocking,
    embassy_stm32::time::Hertz,
    heapless::spsc::Producer,
    nestling_firmware::board::{HERTZ, Readings},
    nestling_firmware::imu::{Reading, Windows},
    static_cell::StaticCell,
};
#[cfg(input = "camera")]
compile_error!("this board has no camera: set input to imu or link in board.toml");

include!(concat!(env!("OUT_DIR"), "/firmware.rs"));

bind_interrupts!(struct Interrupts {
    USART3 => usart::BufferedInterruptHandler<USART3>;
});

/// Bytes of flash, of which the last four sectors are the learner's; memory.x leaves them out.
const FLASH_BYTES: u32 = 2 << 20;
const STORE_BYTES: u32 = 512 << 10;

/// Runs what must not wait for the learner.
static TASKS: InterruptExecutor = InterruptExecutor::new();

/// An interrupt whose own purpose, a second CAN bus, is not used.
#[interrupt]
unsafe fn FDCAN2_IT1() {
    // SAFETY: called from nowhere else.
    unsafe { TASKS.on_interrupt() }
}

#[embassy_executor::task]
async fn link(from_host: BufferedUartRx<'static>, to_host: BufferedUartTx<'static>) {
    nestling_firmware::port::serve(from_host, to_host).await;
}

#[cfg(input = "imu")]
#[embassy_executor::task]
async fn sense(bus: I2c<'static, Blocking, i2c::Master>, queue: Producer<'static, Reading>) {
    board::sense(bus, queue, |problem| defmt::error!("{}", defmt::Display2Format(problem))).await;
}

#[cortex_m_rt::entry]
fn main() -> ! {
    static SENT: ConstStaticCell<[u8; 256]> = ConstStaticCell::new([0; 256]);
    static RECEIVED: ConstStaticCell<[u8; 256]> = ConstStaticCell::new([0; 256]);

    let p = embassy_stm32::init(Default::default());
    interrupt::FDCAN2_IT1.set_priority(Priority::P6);
    let spawner = TASKS.start(interrupt::FDCAN2_IT1);
    let (sent, received) = (SENT.take(), RECEIVED.take());
    let uart = BufferedUart::new(p.USART3, p.PD9, p.PD8, sent, received, Interrupts, usart::Config::default());
    let (to_host, from_host) = defmt::unwrap!(uart).split();
    spawner.spawn(defmt::unwrap!(link(from_host, to_host)));

    #[cfg(input = "link")]
    let input = nestling_firmware::FromLink;
    #[cfg(input = "imu")]
    let input = {
        static READINGS: StaticCell<Readings> = StaticCell::new();
        let mut config = i2c::Config::default();
        config.frequency = Hertz(400_000);
        let bus = I2c::new_blocking(p.I2C1, p.PB8, p.PB9, config);
        let (producer, consumer) = READINGS.init(Readings::new()).split();
        spawner.spawn(defmt::unwrap!(sense(bus, producer)));
        // A window begins a second after the one before.
        Windows::<WINDOW>::new(consumer, HERTZ.into(), HERTZ)
    };
    board::learn(firmware(), input, Flash::new_blocking(p.FLASH), FLASH_BYTES - STORE_BYTES..FLASH_BYTES)
}
