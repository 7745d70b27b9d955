//! The time-of-flight sensor VL53L1X, in its long mode, measuring on its own at a set rate.
//!
//! Its set-up is that of ST's Ultra Lite Driver (STSW-IMG009): most of what the registers mean is not published.

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{FAR, Identity, PartError};

const PART: &str = "VL53L1X";
const IDENTITY: u16 = 0xEACC;
/// Milliseconds that it is given to start, and to measure for the first time.
const PATIENCE: u32 = 1000;
/// It needs this long between measurements, in milliseconds.
const PAUSE: u32 = 4;

/// Registers of the sensor.
mod register {
    pub const CALIBRATION_LOOPS: u16 = 0x0008;
    pub const CALIBRATION_START: u16 = 0x000B;
    pub const PADS: u16 = 0x002D;
    pub const CONFIGURATION: u16 = 0x0030;
    pub const READY: u16 = 0x0031;
    pub const TIMEOUT_A: u16 = 0x005E;
    pub const TIMEOUT_B: u16 = 0x0061;
    pub const PERIOD: u16 = 0x006C;
    pub const CLEAR: u16 = 0x0086;
    pub const START: u16 = 0x0087;
    pub const RESULT: u16 = 0x0089;
    pub const OSCILLATOR: u16 = 0x00DE;
    pub const SYSTEM_STATUS: u16 = 0x00E5;
    pub const MODEL: u16 = 0x010F;
}

/// Registers 0x30 to 0x87.
#[rustfmt::skip]
const CONFIGURATION: [u8; 88] = [
    0x01, 0x02, 0x00, 0x02, 0x08, 0x00, 0x08, 0x10, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0xff, 0x00,
    0x0f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x0b, 0x00, 0x00, 0x02, 0x0a, 0x21, 0x00, 0x00, 0x05,
    0x00, 0x00, 0x00, 0x00, 0xc8, 0x00, 0x00, 0x38, 0xff, 0x01, 0x00, 0x08, 0x00, 0x00, 0x01, 0xcc,
    0x0f, 0x01, 0xf1, 0x0d, 0x01, 0x68, 0x00, 0x80, 0x08, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x0f, 0x89,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x0f, 0x0d, 0x0e, 0x0e, 0x00, 0x00, 0x02, 0xc7,
    0xff, 0x9b, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00,
];
/// Bytes of it that are written at a time: an SMBus block carries them.
const CHUNK: usize = 16;

/// Milliseconds that a measurement takes, and the two timeouts that make it so.
const BUDGETS: [(u32, u16, u16); 6] = [
    (500, 0x048F, 0x04A4),
    (200, 0x02D9, 0x02F8),
    (100, 0x01CC, 0x01EA),
    (50, 0x00AD, 0x00C6),
    (33, 0x0060, 0x006E),
    (20, 0x001E, 0x0022),
];

/// The sensor on its bus.
pub struct Vl53l1x<B> {
    bus: B,
    address: u8,
    hertz: u16,
}

impl<B: I2c> Vl53l1x<B> {
    /// What answers at `address`. Writes nothing.
    ///
    /// # Errors
    /// [`PartError::Bus`], and [`PartError::Other`] where it is another part.
    pub fn identify(bus: B, address: u8) -> Result<Identity, PartError<B::Error>> {
        let value = Vl53l1x { bus, address, hertz: 0 }.word(register::MODEL)?;
        if value != IDENTITY {
            return Err(PartError::Other {
                part: PART,
                register: register::MODEL,
                found: value,
                expected: &[IDENTITY],
            });
        }
        Ok(Identity { part: PART, register: register::MODEL, value })
    }

    /// Sets up the sensor at `address` (0x29, unless it was given another one) and starts it at `hertz` measurements a
    /// second.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn new(mut bus: B, address: u8, hertz: u16, delay: &mut impl DelayNs) -> Result<Self, PartError<B::Error>> {
        let period = 1000u32.checked_div(hertz.into()).unwrap_or(0);
        let Some((_, a, b)) = BUDGETS.into_iter().find(|(budget, ..)| budget + PAUSE <= period) else {
            return Err(PartError::Rate { part: PART, least: 1, most: 41 });
        };
        Vl53l1x::identify(&mut bus, address)?;
        let mut sensor = Vl53l1x { bus, address, hertz };
        sensor.wait(delay, "its start", |sensor| Ok(sensor.byte(register::SYSTEM_STATUS)? & 1 != 0))?;
        // Wires at the part's own voltage, as boards with a regulator have them.
        sensor.write(register::PADS, &[0, 1, 1])?;
        for (place, values) in CONFIGURATION.chunks(CHUNK).enumerate() {
            sensor.write(register::CONFIGURATION + (place * CHUNK) as u16, values)?;
        }
        // One measurement calibrates it to its temperature; those after it go on from there.
        sensor.write(register::START, &[0x40])?;
        sensor.wait(delay, "its first measurement", Self::is_ready)?;
        sensor.write(register::CLEAR, &[0x01])?;
        sensor.write(register::START, &[0x00])?;
        sensor.write(register::CALIBRATION_LOOPS, &[0x09])?;
        sensor.write(register::CALIBRATION_START, &[0x00])?;

        sensor.write(register::TIMEOUT_A, &a.to_be_bytes())?;
        sensor.write(register::TIMEOUT_B, &b.to_be_bytes())?;
        let clock = u32::from(sensor.word(register::OSCILLATOR)? & 0x3FF);
        if clock == 0 {
            return Err(PartError::Stuck { part: PART, doing: "its clock's calibration" });
        }
        sensor.write(register::PERIOD, &(clock * period * 43 / 40).to_be_bytes())?;
        sensor.write(register::START, &[0x40])?;
        Ok(sensor)
    }

    /// Measurements a second.
    pub fn hertz(&self) -> u16 {
        self.hertz
    }

    /// The distance in mm, where a new one was measured; [`FAR`] where nothing came back that it would trust.
    ///
    /// # Errors
    /// The bus's.
    pub fn read(&mut self) -> Result<Option<u16>, B::Error> {
        const VALID: u8 = 9;
        if !self.is_ready()? {
            return Ok(None);
        }
        let mut result = [0; 15];
        self.read_to(register::RESULT, &mut result)?;
        self.write(register::CLEAR, &[0x01])?;
        let distance = u16::from_be_bytes([result[13], result[14]]);
        Ok(Some(if result[0] & 0x1F == VALID { distance.min(FAR) } else { FAR }))
    }

    fn is_ready(&mut self) -> Result<bool, B::Error> {
        Ok(self.byte(register::READY)? & 1 != 0)
    }

    fn wait(
        &mut self,
        delay: &mut impl DelayNs,
        doing: &'static str,
        mut done: impl FnMut(&mut Self) -> Result<bool, B::Error>,
    ) -> Result<(), PartError<B::Error>> {
        for _ in 0..PATIENCE {
            if done(self)? {
                return Ok(());
            }
            delay.delay_ms(1);
        }
        Err(PartError::Stuck { part: PART, doing })
    }

    fn read_to(&mut self, register: u16, into: &mut [u8]) -> Result<(), B::Error> {
        self.bus.write_read(self.address, &register.to_be_bytes(), into)
    }

    fn byte(&mut self, register: u16) -> Result<u8, B::Error> {
        let mut value = [0];
        self.read_to(register, &mut value)?;
        Ok(value[0])
    }

    fn word(&mut self, register: u16) -> Result<u16, B::Error> {
        let mut value = [0; 2];
        self.read_to(register, &mut value)?;
        Ok(u16::from_be_bytes(value))
    }

    /// Writes up to [`CHUNK`] bytes.
    fn write(&mut self, register: u16, values: &[u8]) -> Result<(), B::Error> {
        let mut bytes = [0; 2 + CHUNK];
        bytes[..2].copy_from_slice(&register.to_be_bytes());
        let length = values.len().min(CHUNK);
        bytes[2..2 + length].copy_from_slice(&values[..length]);
        self.bus.write(self.address, &bytes[..2 + length])
    }
}
