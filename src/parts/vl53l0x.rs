//! The time-of-flight sensor VL53L0X, measuring on its own at a set rate.
//!
//! Its set-up is that of ST's API (STSW-IMG005) with the default tuning: most of what the registers mean is not published.

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{FAR, Identity, PartError, Registers};

const PART: &str = "VL53L0X";
const IDENTITIES: &[u16] = &[0xEE];
/// Milliseconds that it is given for each step of its calibration.
const PATIENCE: u32 = 500;
/// A measurement takes up to 33 ms.
const RATES: core::ops::RangeInclusive<u16> = 1..=30;
/// Single-photon diodes for the reference.
const SPADS: u8 = 48;
/// The first of them behind a small aperture.
const FIRST_APERTURE: u8 = 12;

/// Registers of the sensor's first page.
mod register {
    pub const START: u8 = 0x00;
    pub const SEQUENCE: u8 = 0x01;
    pub const PERIOD: u8 = 0x04;
    pub const INTERRUPT: u8 = 0x0A;
    pub const CLEAR: u8 = 0x0B;
    pub const STATUS: u8 = 0x13;
    pub const RESULT: u8 = 0x14;
    pub const SIGNAL_LIMIT: u8 = 0x44;
    pub const LIMIT_CHECKS: u8 = 0x60;
    pub const POLARITY: u8 = 0x84;
    pub const PADS: u8 = 0x89;
    pub const STOP: u8 = 0x91;
    pub const SPAD_MAP: u8 = 0xB0;
    pub const SPAD_START: u8 = 0xB6;
    pub const MODEL: u8 = 0xC0;
    pub const OSCILLATOR: u8 = 0xF8;
}

/// Opens the page that holds what a measurement is stopped with, and closes it again.
const OPEN: [(u8, u8); 3] = [(0x80, 0x01), (0xFF, 0x01), (0x00, 0x00)];
const CLOSE: [(u8, u8); 3] = [(0x00, 0x01), (0xFF, 0x00), (0x80, 0x00)];

/// The default tuning: register and value, in this order; 0xFF turns the page.
#[rustfmt::skip]
const TUNING: [(u8, u8); 80] = [
    (0xFF, 0x01), (0x00, 0x00), (0xFF, 0x00), (0x09, 0x00), (0x10, 0x00), (0x11, 0x00), (0x24, 0x01), (0x25, 0xFF),
    (0x75, 0x00), (0xFF, 0x01), (0x4E, 0x2C), (0x48, 0x00), (0x30, 0x20), (0xFF, 0x00), (0x30, 0x09), (0x54, 0x00),
    (0x31, 0x04), (0x32, 0x03), (0x40, 0x83), (0x46, 0x25), (0x60, 0x00), (0x27, 0x00), (0x50, 0x06), (0x51, 0x00),
    (0x52, 0x96), (0x56, 0x08), (0x57, 0x30), (0x61, 0x00), (0x62, 0x00), (0x64, 0x00), (0x65, 0x00), (0x66, 0xA0),
    (0xFF, 0x01), (0x22, 0x32), (0x47, 0x14), (0x49, 0xFF), (0x4A, 0x00), (0xFF, 0x00), (0x7A, 0x0A), (0x7B, 0x00),
    (0x78, 0x21), (0xFF, 0x01), (0x23, 0x34), (0x42, 0x00), (0x44, 0xFF), (0x45, 0x26), (0x46, 0x05), (0x40, 0x40),
    (0x0E, 0x06), (0x20, 0x1A), (0x43, 0x40), (0xFF, 0x00), (0x34, 0x03), (0x35, 0x44), (0xFF, 0x01), (0x31, 0x04),
    (0x4B, 0x09), (0x4C, 0x05), (0x4D, 0x04), (0xFF, 0x00), (0x44, 0x00), (0x45, 0x20), (0x47, 0x08), (0x48, 0x28),
    (0x67, 0x00), (0x70, 0x04), (0x71, 0x01), (0x72, 0xFE), (0x76, 0x00), (0x77, 0x00), (0xFF, 0x01), (0x0D, 0x01),
    (0xFF, 0x00), (0x80, 0x01), (0x01, 0xF8), (0xFF, 0x01), (0x8E, 0x01), (0x00, 0x01), (0xFF, 0x00), (0x80, 0x00),
];

/// The sensor on its bus.
pub struct Vl53l0x<B> {
    registers: Registers<B>,
    hertz: u16,
}

impl<B: I2c> Vl53l0x<B> {
    /// What answers at `address`. Writes nothing.
    ///
    /// # Errors
    /// [`PartError::Bus`], and [`PartError::Other`] where it is another part.
    pub fn identify(bus: B, address: u8) -> Result<Identity, PartError<B::Error>> {
        let (register, value) = (register::MODEL.into(), Registers { bus, address }.read(register::MODEL)?.into());
        if !IDENTITIES.contains(&value) {
            return Err(PartError::Other { part: PART, register, found: value, expected: IDENTITIES });
        }
        Ok(Identity { part: PART, register, value })
    }

    /// Sets up the sensor at `address` (0x29, unless it was given another one) and starts it at `hertz` measurements a
    /// second.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn new(mut bus: B, address: u8, hertz: u16, delay: &mut impl DelayNs) -> Result<Self, PartError<B::Error>> {
        if !RATES.contains(&hertz) {
            return Err(PartError::Rate { part: PART, least: *RATES.start(), most: *RATES.end() });
        }
        Vl53l0x::identify(&mut bus, address)?;
        let mut sensor = Vl53l0x { registers: Registers { bus, address }, hertz };
        let stop = sensor.prepare()?;
        let (count, aperture) = sensor.reference_spads(delay)?;
        sensor.choose_spads(count, aperture)?;
        sensor.write_all(&TUNING)?;
        // A new measurement pulls the pin low.
        sensor.registers.write(register::INTERRUPT, 0x04)?;
        let polarity = sensor.registers.read(register::POLARITY)?;
        sensor.write_all(&[(register::POLARITY, polarity & !0x10), (register::CLEAR, 0x01)])?;
        // Calibrates voltage and phase, each as the only step of a measurement.
        sensor.registers.write(register::SEQUENCE, 0x01)?;
        sensor.calibrate(0x40, delay)?;
        sensor.registers.write(register::SEQUENCE, 0x02)?;
        sensor.calibrate(0x00, delay)?;
        // From now on with the two range steps, without the checks before them.
        sensor.registers.write(register::SEQUENCE, 0xE8)?;
        sensor.start(stop)?;
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
        const VALID: u8 = 11;
        if !self.is_ready()? {
            return Ok(None);
        }
        let mut result = [0; 12];
        self.registers.read_to(register::RESULT, &mut result)?;
        self.registers.write(register::CLEAR, 0x01)?;
        let distance = u16::from_be_bytes([result[10], result[11]]);
        Ok(Some(if result[0] >> 3 & 0x0F == VALID { distance.min(FAR) } else { FAR }))
    }

    /// Returns what a measurement is stopped with, which its start needs.
    fn prepare(&mut self) -> Result<u8, B::Error> {
        // Wires at the part's own voltage, as boards with a regulator have them.
        let pads = self.registers.read(register::PADS)?;
        self.write_all(&[(register::PADS, pads | 0x01), (0x88, 0x00)])?;
        self.write_all(&OPEN)?;
        let stop = self.registers.read(register::STOP)?;
        self.write_all(&CLOSE)?;
        // Without the checks of the signal before the range steps.
        let checks = self.registers.read(register::LIMIT_CHECKS)?;
        self.registers.write(register::LIMIT_CHECKS, checks | 0x12)?;
        // A return of 0.25 million counts a second is enough, in 128ths.
        self.write_all(&[(register::SIGNAL_LIMIT, 0x00), (register::SIGNAL_LIMIT + 1, 0x20)])?;
        self.registers.write(register::SEQUENCE, 0xFF)?;
        Ok(stop)
    }

    /// How many reference diodes were found good in the factory, and whether they are those behind the aperture.
    fn reference_spads(&mut self, delay: &mut impl DelayNs) -> Result<(u8, bool), PartError<B::Error>> {
        self.write_all(&OPEN)?;
        self.registers.write(0xFF, 0x06)?;
        let strobe = self.registers.read(0x83)?;
        self.write_all(&[(0x83, strobe | 0x04), (0xFF, 0x07), (0x81, 0x01), (0x80, 0x01), (0x94, 0x6B), (0x83, 0x00)])?;
        self.wait(delay, "reading its memory", |sensor| Ok(sensor.registers.read(0x83)? != 0))?;
        self.registers.write(0x83, 0x01)?;
        let found = self.registers.read(0x92)?;
        self.write_all(&[(0x81, 0x00), (0xFF, 0x06)])?;
        let strobe = self.registers.read(0x83)?;
        self.write_all(&[(0x83, strobe & !0x04), (0xFF, 0x01)])?;
        self.write_all(&CLOSE)?;
        Ok((found & 0x7F, found & 0x80 != 0))
    }

    /// Turns on the first `count` good reference diodes of their kind.
    fn choose_spads(&mut self, count: u8, aperture: bool) -> Result<(), B::Error> {
        let mut map = [0; SPADS as usize / 8];
        self.registers.read_to(register::SPAD_MAP, &mut map)?;
        self.write_all(&[(0xFF, 0x01), (0x4F, 0x00), (0x4E, 0x2C), (0xFF, 0x00), (register::SPAD_START, 0xB4)])?;
        let first = if aperture { FIRST_APERTURE } else { 0 };
        let mut on = 0;
        for spad in 0..SPADS {
            let (byte, bit) = (usize::from(spad / 8), 1 << (spad % 8));
            if spad < first || on == count {
                map[byte] &= !bit;
            } else if map[byte] & bit != 0 {
                on += 1;
            }
        }
        let [a, b, c, d, e, f] = map;
        self.registers.bus.write(self.registers.address, &[register::SPAD_MAP, a, b, c, d, e, f])
    }

    fn calibrate(&mut self, what: u8, delay: &mut impl DelayNs) -> Result<(), PartError<B::Error>> {
        self.registers.write(register::START, 0x01 | what)?;
        self.wait(delay, "its calibration", Self::is_ready)?;
        self.write_all(&[(register::CLEAR, 0x01), (register::START, 0x00)])?;
        Ok(())
    }

    /// Measurements by its own clock.
    fn start(&mut self, stop: u8) -> Result<(), PartError<B::Error>> {
        self.write_all(&OPEN)?;
        self.registers.write(register::STOP, stop)?;
        self.write_all(&CLOSE)?;
        let mut clock = [0; 2];
        self.registers.read_to(register::OSCILLATOR, &mut clock)?;
        let clock = u32::from(u16::from_be_bytes(clock));
        if clock == 0 {
            return Err(PartError::Stuck { part: PART, doing: "its clock's calibration" });
        }
        let period = 1000 / u32::from(self.hertz.max(1)) * clock;
        let [a, b, c, d] = period.to_be_bytes();
        self.registers.bus.write(self.registers.address, &[register::PERIOD, a, b, c, d])?;
        self.registers.write(register::START, 0x04)?;
        Ok(())
    }

    fn is_ready(&mut self) -> Result<bool, B::Error> {
        Ok(self.registers.read(register::STATUS)? & 0x07 != 0)
    }

    fn write_all(&mut self, values: &[(u8, u8)]) -> Result<(), B::Error> {
        values.iter().try_for_each(|(register, value)| self.registers.write(*register, *value))
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
}
