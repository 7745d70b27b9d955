//! An inertial sensor of the MPU-6050 family: MPU-6000, 6050, 6500, 6515, 9250, 9255.
//!
//! Its FIFO holds 85 readings (42 of the 6500 and later). Whoever empties it in time loses none.

use embedded_hal::i2c::I2c;

use super::{Identity, PartError, Reading, Registers};

const PART: &str = "MPU-6050";
/// Identities of the family.
const IDENTITIES: &[u16] = &[0x68, 0x70, 0x71, 0x73, 0x74];
/// Readings a second that can be asked for.
const RATES: core::ops::RangeInclusive<u16> = 4..=1000;
/// Bytes that the largest FIFO of the family holds.
const FIFO_BYTES: usize = 1024;
/// Readings that are taken out of the FIFO at a time: what an SMBus block holds.
pub const BURST: usize = 2;

/// Registers of the sensor.
mod register {
    pub const RATE_DIVIDER: u8 = 0x19;
    pub const ACCELEROMETER_FILTER: u8 = 0x1D;
    pub const FIFO_ENABLE: u8 = 0x23;
    pub const INTERRUPT_STATUS: u8 = 0x3A;
    pub const READINGS: u8 = 0x3B;
    pub const USER_CONTROL: u8 = 0x6A;
    pub const POWER: u8 = 0x6B;
    pub const FIFO_COUNT: u8 = 0x72;
    pub const FIFO: u8 = 0x74;
    pub const WHO_AM_I: u8 = 0x75;
}

/// Awake, clocked by the gyroscope.
const AWAKE: u8 = 0x01;

/// The sensor on its bus.
pub struct Mpu6050<B> {
    registers: Registers<B>,
    identity: Identity,
    divider: u8,
}

impl<B: I2c> Mpu6050<B> {
    /// What answers at `address`. Writes nothing.
    ///
    /// # Errors
    /// [`PartError::Bus`], and [`PartError::Other`] where it is none of the family.
    pub fn identify(bus: B, address: u8) -> Result<Identity, PartError<B::Error>> {
        let value = Registers { bus, address }.read(register::WHO_AM_I)?;
        let part = match value {
            0x68 => PART,
            0x70 => "MPU-6500",
            0x71 => "MPU-9250",
            0x73 => "MPU-9255",
            0x74 => "MPU-6515",
            _ => {
                let (register, found) = (register::WHO_AM_I.into(), value.into());
                return Err(PartError::Other { part: PART, register, found, expected: IDENTITIES });
            }
        };
        Ok(Identity { part, register: register::WHO_AM_I.into(), value: value.into() })
    }

    /// Wakes the sensor at `address` (0x68, or 0x69 with AD0 high) and starts its FIFO at about `hertz` readings a second:
    /// 1000 divided by a whole number.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn new(mut bus: B, address: u8, hertz: u16) -> Result<Self, PartError<B::Error>> {
        if !RATES.contains(&hertz) {
            return Err(PartError::Rate { part: PART, least: *RATES.start(), most: *RATES.end() });
        }
        let identity = Mpu6050::identify(&mut bus, address)?;
        let divider = (1000 / hertz - 1) as u8;
        let mut sensor = Mpu6050 { registers: Registers { bus, address }, identity, divider };
        sensor.registers.write(register::POWER, AWAKE)?;
        // 1 kHz divided, filtered at 44 Hz, ±500 °/s, ±4 g: four registers in a row.
        sensor.registers.bus.write(address, &[register::RATE_DIVIDER, divider, 0x03, 0x08, 0x08])?;
        if identity.value != 0x68 {
            // The later ones filter the accelerometer apart.
            sensor.registers.write(register::ACCELEROMETER_FILTER, 0x03)?;
        }
        // Both sensors, without the temperature.
        sensor.registers.write(register::FIFO_ENABLE, 0x78)?;
        sensor.empty()?;
        Ok(sensor)
    }

    /// What it said it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Microseconds from one reading to the next.
    pub fn period(&self) -> u32 {
        1000 * (u32::from(self.divider) + 1)
    }

    /// Throws away what the FIFO holds and starts it anew.
    ///
    /// # Errors
    /// The bus's.
    pub fn empty(&mut self) -> Result<(), B::Error> {
        self.registers.write(register::USER_CONTROL, 0x04)?;
        self.registers.write(register::USER_CONTROL, 0x40)
    }

    /// The FIFO ran over since this was asked last: its oldest bytes are gone, and with them the beginning of a reading.
    /// What was taken out since then is not to be trusted; [`Mpu6050::empty`] goes on.
    ///
    /// # Errors
    /// The bus's.
    pub fn overflown(&mut self) -> Result<bool, B::Error> {
        Ok(self.registers.read(register::INTERRUPT_STATUS)? & 0x10 != 0)
    }

    /// Whole readings that wait in the FIFO.
    ///
    /// # Errors
    /// The bus's; the readings stay in the sensor.
    pub fn waiting(&mut self) -> Result<usize, B::Error> {
        let mut count = [0; 2];
        self.registers.read_to(register::FIFO_COUNT, &mut count)?;
        Ok(usize::from(u16::from_be_bytes(count)).min(FIFO_BYTES) / size_of::<Reading>())
    }

    /// Takes up to [`BURST`] readings out of the FIFO; as many must be waiting.
    ///
    /// # Errors
    /// The bus's.
    pub fn take(&mut self, readings: &mut [Reading]) -> Result<(), B::Error> {
        let mut bytes = [0; BURST * size_of::<Reading>()];
        let bytes = &mut bytes[..size_of::<Reading>() * readings.len().min(BURST)];
        self.registers.read_to(register::FIFO, bytes)?;
        for (reading, bytes) in readings.iter_mut().zip(bytes.chunks_exact(size_of::<Reading>())) {
            reading.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(r, b)| *r = i16::from_be_bytes([b[0], b[1]]));
        }
        Ok(())
    }

    /// The reading that the registers hold now, without the FIFO.
    ///
    /// # Errors
    /// The bus's.
    pub fn read(&mut self) -> Result<Reading, B::Error> {
        // The temperature lies between the two.
        let mut bytes = [0; 14];
        self.registers.read_to(register::READINGS, &mut bytes)?;
        let word = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Ok([word(0), word(2), word(4), word(8), word(10), word(12)])
    }

    /// It is still the part that was set up: awake, and with its identity. A dip of its supply puts it to sleep.
    ///
    /// # Errors
    /// The bus's.
    pub fn is_well(&mut self) -> Result<bool, B::Error> {
        Ok(u16::from(self.registers.read(register::WHO_AM_I)?) == self.identity.value
            && self.registers.read(register::POWER)? == AWAKE)
    }
}
