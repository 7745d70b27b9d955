//! An inertial sensor of the LSM6DS family: LSM6DS3, DS3TR-C, DSL, DSM, DSR, DSO, DSOX.
//!
//! The DSR, DSO and DSOX have a FIFO whose words say what they are; it is used, and holds 256 readings. The FIFO of the
//! others is not: they say when a reading is new.

use embedded_hal::i2c::I2c;

use super::{Identity, PartError, Reading, Registers};

const PART: &str = "LSM6DS";
const IDENTITIES: &[u16] = &[0x69, 0x6A, 0x6B, 0x6C];
/// Microseconds between readings, and what the registers call it.
const RATES: [(u32, u8); 7] = [(80_000, 1), (38_462, 2), (19_231, 3), (9_615, 4), (4_808, 5), (2_404, 6), (1_200, 7)];
/// Times that its reset is looked for.
const RESET_LOOKS: u32 = 1000;
/// A word of the FIFO: what it is, then three axes.
const WORD: usize = 7;
/// Words that the FIFO counts at the most.
const WORDS: u16 = 0x3FF;

/// Registers of the sensor.
mod register {
    pub const FIFO_RATES: u8 = 0x09;
    pub const FIFO_MODE: u8 = 0x0A;
    pub const WHO_AM_I: u8 = 0x0F;
    pub const ACCELEROMETER: u8 = 0x10;
    pub const GYROSCOPE: u8 = 0x11;
    pub const CONTROL: u8 = 0x12;
    pub const STATUS: u8 = 0x1E;
    pub const READINGS: u8 = 0x22;
    pub const FIFO_STATUS: u8 = 0x3A;
    pub const FIFO: u8 = 0x78;
}

/// What was found in the FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub words: u16,
    /// It ran over: the oldest words are gone.
    pub overflown: bool,
}

/// The sensor on its bus.
pub struct Lsm6ds<B> {
    registers: Registers<B>,
    identity: Identity,
    period: u32,
    rate: u8,
    /// The gyroscope's word of a reading whose accelerometer's has not come yet.
    turn: Option<[i16; 3]>,
}

impl<B: I2c> Lsm6ds<B> {
    /// What answers at `address`. Writes nothing.
    ///
    /// # Errors
    /// [`PartError::Bus`], and [`PartError::Other`] where it is none of the family.
    pub fn identify(bus: B, address: u8) -> Result<Identity, PartError<B::Error>> {
        let (register, value) =
            (register::WHO_AM_I.into(), Registers { bus, address }.read(register::WHO_AM_I)?.into());
        let part = match value {
            0x69 => "LSM6DS3",
            0x6A => "LSM6DS3TR-C, DSL or DSM",
            0x6B => "LSM6DSR",
            0x6C => "LSM6DSO or DSOX",
            _ => return Err(PartError::Other { part: PART, register, found: value, expected: IDENTITIES }),
        };
        Ok(Identity { part, register, value })
    }

    /// Resets the sensor at `address` (0x6A, or 0x6B with SA0 high) and starts it at the first of 12.5, 26, 52, 104, 208,
    /// 416 and 833 readings a second that is at least `hertz`; with its FIFO where that is used.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn new(mut bus: B, address: u8, hertz: u16) -> Result<Self, PartError<B::Error>> {
        let enough = RATES.into_iter().find(|(period, _)| u32::from(hertz) * period <= 1_000_100);
        let Some((period, rate)) = enough.filter(|_| hertz > 0) else {
            return Err(PartError::Rate { part: PART, least: 1, most: 833 });
        };
        let identity = Lsm6ds::identify(&mut bus, address)?;
        let mut sensor = Lsm6ds { registers: Registers { bus, address }, identity, period, rate, turn: None };
        sensor.registers.write(register::CONTROL, 0x01)?;
        let mut looks = 0;
        while sensor.registers.read(register::CONTROL)? & 0x01 != 0 {
            looks += 1;
            if looks == RESET_LOOKS {
                return Err(PartError::Stuck { part: PART, doing: "its reset" });
            }
        }
        // No reading changes while it is read; registers count up in a block.
        sensor.registers.write(register::CONTROL, 0x44)?;
        // ±4 g, ±500 °/s.
        sensor.registers.write(register::ACCELEROMETER, rate << 4 | 0x08)?;
        sensor.registers.write(register::GYROSCOPE, rate << 4 | 0x04)?;
        if sensor.has_fifo() {
            sensor.registers.write(register::FIFO_RATES, rate << 4 | rate)?;
            sensor.empty()?;
        }
        Ok(sensor)
    }

    /// What it said it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Microseconds from one reading to the next.
    pub fn period(&self) -> u32 {
        self.period
    }

    /// It has a FIFO that is used.
    pub fn has_fifo(&self) -> bool {
        matches!(self.identity.value, 0x6B | 0x6C)
    }

    /// Throws away what the FIFO holds and starts it anew.
    ///
    /// # Errors
    /// The bus's.
    pub fn empty(&mut self) -> Result<(), B::Error> {
        self.turn = None;
        self.registers.write(register::FIFO_MODE, 0x00)?;
        self.registers.write(register::FIFO_MODE, 0x06)
    }

    /// How much is in the FIFO.
    ///
    /// # Errors
    /// The bus's; the readings stay in the sensor.
    pub fn waiting(&mut self) -> Result<Waiting, B::Error> {
        let mut status = [0; 2];
        self.registers.read_to(register::FIFO_STATUS, &mut status)?;
        Ok(Waiting { words: u16::from_le_bytes(status) & WORDS, overflown: status[1] & 0x48 != 0 })
    }

    /// Takes a word out of the FIFO; the reading that it completes, where it does.
    ///
    /// # Errors
    /// The bus's.
    pub fn take(&mut self) -> Result<Option<Reading>, B::Error> {
        let mut word = [0; WORD];
        self.registers.read_to(register::FIFO, &mut word)?;
        let axes = [1, 3, 5].map(|at| i16::from_le_bytes([word[at], word[at + 1]]));
        match word[0] >> 3 {
            0x01 => self.turn = Some(axes),
            0x02 => return Ok(self.turn.take().map(|turn| reading(axes, turn))),
            _ => {}
        }
        Ok(None)
    }

    /// Both sensors have a reading that was not read yet.
    ///
    /// # Errors
    /// The bus's.
    pub fn is_ready(&mut self) -> Result<bool, B::Error> {
        Ok(self.registers.read(register::STATUS)? & 0x03 == 0x03)
    }

    /// The reading that the registers hold now.
    ///
    /// # Errors
    /// The bus's.
    pub fn read(&mut self) -> Result<Reading, B::Error> {
        let mut bytes = [0; 12];
        self.registers.read_to(register::READINGS, &mut bytes)?;
        let word = |at: usize| i16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Ok(reading([6, 8, 10].map(word), [0, 2, 4].map(word)))
    }

    /// It is still the part that was set up: with its identity, at its rate. A dip of its supply puts it to sleep.
    ///
    /// # Errors
    /// The bus's.
    pub fn is_well(&mut self) -> Result<bool, B::Error> {
        Ok(u16::from(self.registers.read(register::WHO_AM_I)?) == self.identity.value
            && self.registers.read(register::GYROSCOPE)? >> 4 == self.rate)
    }
}

/// The part's own units (0.122 mg, 17.5 m°/s) as those of every inertial sensor.
fn reading(accelerometer: [i16; 3], turn: [i16; 3]) -> Reading {
    let scaled = |x: i16, by: i32| ((i32::from(x) * by + 2048) >> 12).clamp(-32767, 32767) as i16;
    // 0.000122 · 8192 and 0.0175 · 65.5, in 4096ths.
    let ([ax, ay, az], [gx, gy, gz]) = (accelerometer.map(|x| scaled(x, 4094)), turn.map(|x| scaled(x, 4695)));
    [ax, ay, az, gx, gy, gz]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_g_and_a_turn_have_the_numbers_of_an_mpu_6050() {
        let g = (1.0 / 0.000_122f64).round() as i16;
        let turn = (100.0 / 0.0175f64).round() as i16;
        let [x, _, z, roll, pitch, _] = reading([g, 0, -g], [turn, -turn, 0]);
        assert!((x - 8192).abs() <= 2 && (z + 8192).abs() <= 2, "{x}, {z}");
        assert!((roll - 6550).abs() <= 1 && (pitch + 6550).abs() <= 1, "{roll}, {pitch}");
        assert_eq!(reading([i16::MIN; 3], [i16::MIN; 3])[3], -32767);
    }
}
