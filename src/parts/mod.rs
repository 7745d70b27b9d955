//! Register drivers of sensors over `embedded-hal` 1.0, for firmware and for Linux boards alike: a model that was learned on
//! the one reads the same numbers on the other.
//!
//! A driver wakes its part, sets it up and reads it. It never waits for a reading, holds no clock and no state but what it set
//! up, and no byte that the bus gives makes it panic. Whoever calls it decides when to look.
//!
//! **Inertial sensors** all give accelerometer x, y, z and gyroscope x, y, z in the units of an MPU-6050 at ±4 g and
//! ±500 °/s: 8192 a g, 65.5 a °/s. **Time-of-flight sensors** give mm.

use core::fmt;

use embedded_hal::i2c::I2c;

pub mod lsm6ds;
pub mod mpu6050;
pub mod vl53l0x;
pub mod vl53l1x;

/// Accelerometer x, y, z (8192 a g) and gyroscope x, y, z (65.5 a °/s).
pub type Reading = [i16; 6];

/// What a time-of-flight sensor gives, in mm, where nothing came back.
pub const FAR: u16 = 8190;

/// What a part says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The part, as its maker writes it.
    pub part: &'static str,
    /// Where it says so.
    pub register: u16,
    pub value: u16,
}

/// Why a part cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartError<E> {
    /// The bus refused.
    Bus(E),
    /// Something else answers at this address, or nothing sensible does.
    Other { part: &'static str, register: u16, found: u16, expected: &'static [u16] },
    /// The part cannot give this many readings a second.
    Rate { part: &'static str, least: u16, most: u16 },
    /// It never came to an end with what it was told to do.
    Stuck { part: &'static str, doing: &'static str },
}

impl<E: fmt::Debug> fmt::Display for PartError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartError::Bus(problem) => write!(f, "no answer on I2C ({problem:?}); check SDA, SCL, power and pull-ups"),
            PartError::Other { part, register, found, expected } => {
                write!(f, "register 0x{register:02x} holds 0x{found:02x}, and a {part} has")?;
                for (place, value) in expected.iter().enumerate() {
                    write!(f, "{} 0x{value:02x}", if place == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            PartError::Rate { part, least, most } => {
                write!(f, "a {part} gives {least} to {most} readings a second")
            }
            PartError::Stuck { part, doing } => write!(f, "the {part} does not come to an end with {doing}"),
        }
    }
}

impl<E> From<E> for PartError<E> {
    fn from(problem: E) -> Self {
        PartError::Bus(problem)
    }
}

/// A part with 8-bit register numbers on its bus.
struct Registers<B> {
    bus: B,
    address: u8,
}

impl<B: I2c> Registers<B> {
    fn read(&mut self, register: u8) -> Result<u8, B::Error> {
        let mut value = [0];
        self.read_to(register, &mut value)?;
        Ok(value[0])
    }

    fn read_to(&mut self, register: u8, into: &mut [u8]) -> Result<(), B::Error> {
        self.bus.write_read(self.address, &[register], into)
    }

    fn write(&mut self, register: u8, value: u8) -> Result<(), B::Error> {
        self.bus.write(self.address, &[register, value])
    }
}
