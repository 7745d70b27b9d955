//! What the boards with an embassy HAL share: the loop that never ends, and the task that reads the inertial sensor.

use core::fmt::Display;
use core::ops::Range;

use embassy_time::{Duration, Ticker, Timer};
use embedded_hal::i2c::I2c;
use embedded_storage::nor_flash::NorFlash;
use heapless::spsc::{Producer, Queue};
use nestling::flash::Blocking;

use crate::imu::{Mpu6050, Reading, poll};
use crate::{Device, Firmware, Input, Parts, port, stack};

/// Readings a second: what people's and robots' motion needs.
pub const HERTZ: u16 = 50;
/// Readings that wait while the loop learns: 5 seconds.
pub type Readings = Queue<Reading, 256>;

/// The whole life of a board: learns from `input`, speaks over [`crate::port`], keeps its state in `range` of `flash`.
///
/// # Panics
/// Where the image does not fit the firmware.
pub fn learn(firmware: Firmware, input: impl Input, flash: impl NorFlash, range: Range<u32>) -> ! {
    let memory = stack::memory(firmware.block.len());
    let parts = Parts {
        firmware,
        port: port::Port,
        input,
        flash: Blocking(flash),
        range,
        memory,
        stack_used: stack::used,
        reset: || cortex_m::peripheral::SCB::sys_reset(),
    };
    let mut device = match Device::new(parts) {
        Ok(device) => device,
        Err(problem) => panic!("{problem}"),
    };
    loop {
        if !device.poll() {
            cortex_m::asm::wfi();
        }
    }
}

/// Moves the readings of an MPU-6050 at 0x68 of `bus` into `queue` for ever; `report` is told what goes wrong. The board
/// spawns it in an executor that interrupts the loop.
pub async fn sense(mut bus: impl I2c, mut queue: Producer<'static, Reading>, report: fn(&dyn Display)) {
    loop {
        match Mpu6050::new(&mut bus, 0x68, HERTZ) {
            Ok(mut sensor) => {
                let mut ticker = Ticker::every(Duration::from_millis(100));
                while let Ok(()) = poll(&mut sensor, &mut queue) {
                    ticker.next().await;
                }
                report(&"the inertial sensor stopped to answer; it is started again");
            }
            Err(problem) => report(&problem),
        }
        Timer::after_secs(1).await;
    }
}
