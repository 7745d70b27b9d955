//! An inertial sensor of the MPU-6050 family on I²C, and windows made of its readings.
//!
//! The board's timer interrupt calls [`poll`], which moves readings from the sensor's own FIFO (85 of them) into
//! a queue; the loop takes them out through [`Windows`]. A reading that found the queue full begins a new segment.

use embedded_hal::i2c::I2c;
use heapless::spsc::{Consumer, Producer};
use nestling::sample::{Micros, Sample, Values};
use portable_atomic::{AtomicBool, Ordering};

use crate::Input;

pub use nestling::parts::mpu6050::Mpu6050;
pub use nestling::parts::{PartError, Reading};

/// Channels of a reading.
pub const CHANNELS: usize = 6;

/// Readings were lost since the loop looked last; written by the interrupt.
static LOST: AtomicBool = AtomicBool::new(false);

/// Moves what the FIFO of `sensor` holds into `queue`. Readings that find no room are dropped and noted.
///
/// # Errors
/// The bus's; the readings stay in the sensor.
pub fn poll<B: I2c>(sensor: &mut Mpu6050<B>, queue: &mut Producer<'_, Reading>) -> Result<(), B::Error> {
    if sensor.overflown()? {
        LOST.store(true, Ordering::Relaxed);
        return sensor.empty();
    }
    for _ in 0..sensor.waiting()? {
        let mut reading = [[0; CHANNELS]];
        sensor.take(&mut reading)?;
        let [reading] = reading;
        if queue.enqueue(reading).is_err() {
            LOST.store(true, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Windows of the last readings, each `stride` readings after the one before; `NUMBERS` is readings times channels.
pub struct Windows<'q, const NUMBERS: usize> {
    queue: Consumer<'q, Reading>,
    numbers: [i16; NUMBERS],
    held: usize,
    stride: usize,
    /// Readings taken in all, which is their time.
    taken: u64,
    period: u64,
    segment: u32,
}

impl<'q, const NUMBERS: usize> Windows<'q, NUMBERS> {
    /// Windows from `queue`, into which `hertz` readings a second come; `stride` is in readings.
    pub fn new(queue: Consumer<'q, Reading>, stride: usize, hertz: u16) -> Self {
        let period = 1_000_000 / u64::from(hertz.max(1));
        Windows { queue, numbers: [0; NUMBERS], held: 0, stride: stride * CHANNELS, taken: 0, period, segment: 0 }
    }
}

impl<const NUMBERS: usize> Input for Windows<'_, NUMBERS> {
    fn next(&mut self) -> Option<Sample<'_>> {
        if LOST.swap(false, Ordering::Relaxed) {
            while self.queue.dequeue().is_some() {}
            self.held = 0;
            self.segment += 1;
        }
        if self.held == NUMBERS {
            self.numbers.copy_within(self.stride.min(NUMBERS).., 0);
            self.held = NUMBERS.saturating_sub(self.stride);
        }
        while self.held < NUMBERS {
            let reading = self.queue.dequeue()?;
            let place = self.numbers[self.held..].iter_mut();
            self.held += place.zip(reading).map(|(to, from)| *to = from).count();
            self.taken += 1;
        }
        Some(Sample {
            values: Values::Window { readings: &self.numbers, length: NUMBERS / CHANNELS, channels: CHANNELS },
            time: Micros(self.taken * self.period),
            segment: self.segment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::RefCell;
    use core::convert::Infallible;
    use embedded_hal::i2c::{ErrorType, Operation};
    use heapless::spsc::Queue;

    mod register {
        pub const INTERRUPT_STATUS: u8 = 0x3A;
        pub const USER_CONTROL: u8 = 0x6A;
        pub const FIFO_COUNT: u8 = 0x72;
        pub const FIFO: u8 = 0x74;
        pub const WHO_AM_I: u8 = 0x75;
    }

    /// A sensor that answers with its registers and a FIFO that counts up.
    struct Fake {
        waiting: u16,
        next: i16,
        overflown: bool,
    }

    struct Bus<'f>(&'f RefCell<Fake>);

    impl ErrorType for Bus<'_> {
        type Error = Infallible;
    }

    impl I2c for Bus<'_> {
        fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), Infallible> {
            let (mut fake, mut register) = (self.0.borrow_mut(), 0);
            for operation in operations {
                match operation {
                    Operation::Write(bytes) => {
                        register = bytes[0];
                        fake.overflown &= **bytes != [register::USER_CONTROL, 0x04];
                    }
                    Operation::Read(into) => match register {
                        register::WHO_AM_I => into[0] = 0x68,
                        register::INTERRUPT_STATUS => into[0] = if fake.overflown { 0x10 } else { 0 },
                        register::FIFO_COUNT => into.copy_from_slice(&fake.waiting.to_be_bytes()),
                        register::FIFO => {
                            for pair in into.chunks_exact_mut(2) {
                                pair.copy_from_slice(&fake.next.to_be_bytes());
                                fake.next += 1;
                            }
                            fake.waiting -= into.len() as u16;
                        }
                        other => panic!("register {other:#x} is read"),
                    },
                }
            }
            Ok(())
        }
    }

    #[test]
    fn windows_overlap_by_what_the_stride_leaves_and_a_loss_begins_a_segment() {
        let mut queue: Queue<Reading, 16> = Queue::new();
        let (mut producer, consumer) = queue.split();
        let mut windows: Windows<24> = Windows::new(consumer, 2, 50);
        let fake = RefCell::new(Fake { waiting: 0, next: 0, overflown: false });
        let mut sensor = Mpu6050::new(Bus(&fake), 0x68, 50).expect("a sensor");
        // 4 readings, of which the last byte of a fifth has not come yet.
        fake.borrow_mut().waiting = 4 * 12 + 11;
        poll(&mut sensor, &mut producer).expect("the bus works");
        let first = windows.next().expect("a window");
        let Values::Window { readings, length: 4, channels: 6 } = first.values else { panic!("{first:?}") };
        assert_eq!((readings[0], readings[23], first.time, first.segment), (0, 23, Micros(80_000), 0));
        assert!(windows.next().is_none(), "two readings are missing");

        fake.borrow_mut().waiting = 24;
        poll(&mut sensor, &mut producer).expect("the bus works");
        let second = windows.next().expect("a window");
        let Values::Window { readings, .. } = second.values else { panic!("{second:?}") };
        assert_eq!((readings[0], readings[23], second.time), (12, 35, Micros(120_000)));

        fake.borrow_mut().waiting = 1024;
        fake.borrow_mut().overflown = true;
        poll(&mut sensor, &mut producer).expect("the bus works");
        assert!(!fake.borrow().overflown, "the FIFO was started anew");
        fake.borrow_mut().waiting = 48;
        poll(&mut sensor, &mut producer).expect("the bus works");
        assert!(windows.next().is_none(), "what was queued before the loss was known is not to be trusted");
        fake.borrow_mut().waiting = 48;
        poll(&mut sensor, &mut producer).expect("the bus works");
        assert_eq!(windows.next().map(|sample| sample.segment), Some(1));
    }
}
