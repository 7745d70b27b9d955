//! An inertial sensor of the MPU-6050 family (MPU-6000, 6050, 6500, 9250) on I²C, and windows made of its readings.
//!
//! The board's timer interrupt calls [`Mpu6050::poll`], which moves readings from the sensor's own FIFO (85 of them) into
//! a queue; the loop takes them out through [`Windows`]. A reading that found the queue full begins a new segment.

use core::fmt;

use embedded_hal::i2c::I2c;
use heapless::spsc::{Consumer, Producer};
use nestling::sample::{Micros, Sample, Values};
use portable_atomic::{AtomicBool, Ordering};

use crate::Input;

/// Accelerometer x, y, z (±4 g) and gyroscope x, y, z (±500 °/s), as the sensor gives them.
pub type Reading = [i16; 6];

/// Channels of a reading.
pub const CHANNELS: usize = 6;

/// Readings were lost since the loop looked last; written by the interrupt.
static LOST: AtomicBool = AtomicBool::new(false);

/// Registers of the sensor.
mod register {
    pub const RATE_DIVIDER: u8 = 0x19;
    pub const FIFO_ENABLE: u8 = 0x23;
    pub const INTERRUPT_STATUS: u8 = 0x3A;
    pub const USER_CONTROL: u8 = 0x6A;
    pub const POWER: u8 = 0x6B;
    pub const FIFO_COUNT: u8 = 0x72;
    pub const FIFO: u8 = 0x74;
    pub const WHO_AM_I: u8 = 0x75;
}

/// Why the sensor cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImuError<E> {
    /// The bus refused.
    Bus(E),
    /// Something else answers at this address.
    Other { address: u8, identity: u8 },
    /// The sensor cannot give this many readings a second.
    Rate { hertz: u16 },
}

impl<E: fmt::Debug> fmt::Display for ImuError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImuError::Bus(problem) => write!(f, "no answer on I2C ({problem:?}); check SDA, SCL, power and pull-ups"),
            ImuError::Other { address, identity } => {
                write!(f, "0x{address:02x} answers as 0x{identity:02x}, which is no MPU-6050; check AD0 and the part")
            }
            ImuError::Rate { hertz } => write!(f, "{hertz} readings a second; choose 4 to 1000"),
        }
    }
}

impl<E> From<E> for ImuError<E> {
    fn from(problem: E) -> Self {
        ImuError::Bus(problem)
    }
}

/// The sensor on its bus.
pub struct Mpu6050<B> {
    bus: B,
    address: u8,
}

impl<B: I2c> Mpu6050<B> {
    /// Wakes the sensor at `address` (0x68, or 0x69 with AD0 high) and starts its FIFO at `hertz` readings a second.
    ///
    /// # Errors
    /// [`ImuError`].
    pub fn new(bus: B, address: u8, hertz: u16) -> Result<Self, ImuError<B::Error>> {
        if !(4..=1000).contains(&hertz) {
            return Err(ImuError::Rate { hertz });
        }
        let mut sensor = Mpu6050 { bus, address };
        let mut identity = [0];
        sensor.bus.write_read(address, &[register::WHO_AM_I], &mut identity)?;
        if !matches!(identity[0], 0x68 | 0x70 | 0x71 | 0x73) {
            return Err(ImuError::Other { address, identity: identity[0] });
        }
        // Awake, clocked by the gyroscope.
        sensor.bus.write(address, &[register::POWER, 0x01])?;
        // 1 kHz divided, filtered at 44 Hz, ±500 °/s, ±4 g: four registers in a row.
        let divider = (1000 / hertz - 1) as u8;
        sensor.bus.write(address, &[register::RATE_DIVIDER, divider, 0x03, 0x08, 0x08])?;
        // Both sensors, without the temperature.
        sensor.bus.write(address, &[register::FIFO_ENABLE, 0x78])?;
        sensor.empty()?;
        Ok(sensor)
    }

    /// Throws away what the FIFO holds and starts it anew.
    fn empty(&mut self) -> Result<(), B::Error> {
        self.bus.write(self.address, &[register::USER_CONTROL, 0x04])?;
        self.bus.write(self.address, &[register::USER_CONTROL, 0x40])
    }

    /// Moves what the sensor's FIFO holds into `queue`. Readings that find no room are dropped and noted.
    ///
    /// # Errors
    /// The bus's; the readings stay in the sensor.
    pub fn poll(&mut self, queue: &mut Producer<'_, Reading>) -> Result<(), B::Error> {
        const OVERFLOWN: u8 = 0x10;
        let mut status = [0];
        self.bus.write_read(self.address, &[register::INTERRUPT_STATUS], &mut status)?;
        if status[0] & OVERFLOWN != 0 {
            // The oldest bytes are gone, and with them the beginning of a reading.
            LOST.store(true, Ordering::Relaxed);
            return self.empty();
        }
        let mut count = [0; 2];
        self.bus.write_read(self.address, &[register::FIFO_COUNT], &mut count)?;
        for _ in 0..usize::from(u16::from_be_bytes(count)) / size_of::<Reading>() {
            let mut bytes = [0; size_of::<Reading>()];
            self.bus.write_read(self.address, &[register::FIFO], &mut bytes)?;
            let mut reading = [0; CHANNELS];
            reading.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(r, b)| *r = i16::from_be_bytes([b[0], b[1]]));
            if queue.enqueue(reading).is_err() {
                LOST.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }
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
    use core::convert::Infallible;
    use embedded_hal::i2c::{ErrorType, Operation};
    use heapless::spsc::Queue;

    /// A sensor that answers with its registers and a FIFO that counts up.
    #[derive(Default)]
    struct Fake {
        identity: u8,
        waiting: u16,
        next: i16,
        overflown: bool,
        written: Vec<Vec<u8>>,
    }

    impl ErrorType for Fake {
        type Error = Infallible;
    }

    impl I2c for Fake {
        fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), Infallible> {
            let mut register = 0;
            for operation in operations {
                match operation {
                    Operation::Write(bytes) => {
                        register = bytes[0];
                        if bytes.len() > 1 {
                            self.written.push(bytes.to_vec());
                            self.overflown &= **bytes != [register::USER_CONTROL, 0x04];
                        }
                    }
                    Operation::Read(into) => match register {
                        register::WHO_AM_I => into[0] = self.identity,
                        register::INTERRUPT_STATUS => into[0] = if self.overflown { 0x10 } else { 0 },
                        register::FIFO_COUNT => into.copy_from_slice(&self.waiting.to_be_bytes()),
                        register::FIFO => {
                            for pair in into.chunks_exact_mut(2) {
                                pair.copy_from_slice(&self.next.to_be_bytes());
                                self.next += 1;
                            }
                            self.waiting -= into.len() as u16;
                        }
                        other => panic!("register {other:#x} is read"),
                    },
                }
            }
            Ok(())
        }
    }

    #[test]
    fn another_part_at_the_address_is_refused_by_its_identity() {
        let mut fake = Fake { identity: 0x24, ..Fake::default() };
        let refused = Mpu6050::new(&mut fake, 0x68, 50).err().expect("refused");
        assert_eq!(refused, ImuError::Other { address: 0x68, identity: 0x24 });
        assert!(fake.written.is_empty(), "nothing may be written to a part that is not ours");
    }

    #[test]
    fn windows_overlap_by_what_the_stride_leaves_and_a_loss_begins_a_segment() {
        let mut queue: Queue<Reading, 16> = Queue::new();
        let (mut producer, consumer) = queue.split();
        let mut windows: Windows<24> = Windows::new(consumer, 2, 50);
        let mut fake = Fake { identity: 0x68, ..Fake::default() };
        // 4 readings, of which the last byte of a fifth has not come yet.
        fake.waiting = 4 * 12 + 11;
        Mpu6050 { bus: &mut fake, address: 0x68 }.poll(&mut producer).expect("the bus works");
        let first = windows.next().expect("a window");
        let Values::Window { readings, length: 4, channels: 6 } = first.values else { panic!("{first:?}") };
        assert_eq!((readings[0], readings[23], first.time, first.segment), (0, 23, Micros(80_000), 0));
        assert!(windows.next().is_none(), "two readings are missing");

        fake.waiting = 24;
        Mpu6050 { bus: &mut fake, address: 0x68 }.poll(&mut producer).expect("the bus works");
        let second = windows.next().expect("a window");
        let Values::Window { readings, .. } = second.values else { panic!("{second:?}") };
        assert_eq!((readings[0], readings[23], second.time), (12, 35, Micros(120_000)));

        (fake.waiting, fake.overflown) = (1024, true);
        Mpu6050 { bus: &mut fake, address: 0x68 }.poll(&mut producer).expect("the bus works");
        assert!(!fake.overflown, "the FIFO was started anew");
        fake.waiting = 48;
        Mpu6050 { bus: &mut fake, address: 0x68 }.poll(&mut producer).expect("the bus works");
        assert!(windows.next().is_none(), "what was queued before the loss was known is not to be trusted");
        fake.waiting = 48;
        Mpu6050 { bus: &mut fake, address: 0x68 }.poll(&mut producer).expect("the bus works");
        assert_eq!(windows.next().map(|sample| sample.segment), Some(1));
    }
}
