//! `imu:`: inertial sensors, by their FIFO where they have one that fills, by their sign that a reading is new, or by a timer.

use std::time::{Duration, Instant};

use embedded_hal::i2c::I2c;

use super::bus::BusError;
use super::fault::{refusal, reset};
use super::place::Place;
use super::sampling::{Burst, Sensor, Timing};
use crate::parts::lsm6ds::Lsm6ds;
use crate::parts::mpu6050::{BURST, Mpu6050};
use crate::parts::{Identity, Reading};
use crate::source::SourceError;
use crate::source::uri::Fifo;

/// Readings that are let gather in a FIFO before it is looked at.
const GATHERED: u32 = 10;
/// A FIFO that holds nothing for as long never will: it is not there.
const FIFO_PATIENCE: Duration = Duration::from_millis(100);
/// Readings in a row that are all the same before the part is asked whether it is well.
const SAME: u32 = 64;

/// An inertial sensor that was set up.
pub trait Inertial: Send {
    fn identity(&self) -> Identity;
    /// Microseconds from one reading to the next.
    fn period(&self) -> u32;
    /// It has a FIFO that is used.
    fn has_fifo(&self) -> bool;
    /// Something is in the FIFO.
    fn holds(&mut self) -> Result<bool, BusError>;
    /// Takes out what the FIFO holds.
    fn drain(&mut self, burst: &mut Burst) -> Result<(), BusError>;
    /// Whether it has a reading that was not read yet; `None` where it does not say.
    fn is_ready(&mut self) -> Result<Option<bool>, BusError>;
    /// The reading of now.
    fn now(&mut self) -> Result<Reading, BusError>;
    /// It is still as it was set up.
    fn is_well(&mut self) -> Result<bool, BusError>;
}

impl<B: I2c<Error = BusError> + Send> Inertial for Mpu6050<B> {
    fn identity(&self) -> Identity {
        self.identity()
    }
    fn period(&self) -> u32 {
        self.period()
    }
    fn has_fifo(&self) -> bool {
        true
    }
    fn holds(&mut self) -> Result<bool, BusError> {
        Ok(self.waiting()? > 0)
    }
    fn drain(&mut self, burst: &mut Burst) -> Result<(), BusError> {
        let mut waiting = self.waiting()?;
        while waiting > 0 {
            let mut readings = [[0; 6]; BURST];
            let readings = &mut readings[..waiting.min(BURST)];
            self.take(readings)?;
            burst.readings.extend(readings.iter().flatten());
            waiting -= readings.len();
        }
        // Asked last: whether it ran over before or meanwhile, what was taken out may begin in the midst of a reading.
        if self.overflown()? {
            burst.readings.clear();
            burst.lost = true;
            self.empty()?;
        }
        Ok(())
    }
    fn is_ready(&mut self) -> Result<Option<bool>, BusError> {
        Ok(None)
    }
    fn now(&mut self) -> Result<Reading, BusError> {
        self.read()
    }
    fn is_well(&mut self) -> Result<bool, BusError> {
        self.is_well()
    }
}

impl<B: I2c<Error = BusError> + Send> Inertial for Lsm6ds<B> {
    fn identity(&self) -> Identity {
        self.identity()
    }
    fn period(&self) -> u32 {
        self.period()
    }
    fn has_fifo(&self) -> bool {
        self.has_fifo()
    }
    fn holds(&mut self) -> Result<bool, BusError> {
        Ok(self.waiting()?.words > 0)
    }
    fn drain(&mut self, burst: &mut Burst) -> Result<(), BusError> {
        let waiting = self.waiting()?;
        if waiting.overflown {
            // Words are whole, but nobody knows how many readings are gone.
            burst.lost = true;
            return self.empty();
        }
        for _ in 0..waiting.words {
            burst.readings.extend(self.take()?.into_iter().flatten());
        }
        Ok(())
    }
    fn is_ready(&mut self) -> Result<Option<bool>, BusError> {
        self.is_ready().map(Some)
    }
    fn now(&mut self) -> Result<Reading, BusError> {
        self.read()
    }
    fn is_well(&mut self) -> Result<bool, BusError> {
        self.is_well()
    }
}

/// How readings are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Fifo,
    /// When the part says that one is new.
    Ready,
    Timer,
}

/// An inertial sensor as readings.
pub struct Imu<P> {
    place: Place,
    part: P,
    way: Way,
    last: Reading,
    same: u32,
}

impl<P: Inertial> Imu<P> {
    /// Readings of `part`, which is at `place`.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn new(mut part: P, place: Place, fifo: Fifo) -> Result<Self, SourceError> {
        let name = part.identity().part;
        let failed = |e: BusError| refusal(&place, e.into());
        let way = match fifo {
            Fifo::Off => Way::Timer,
            Fifo::On if part.has_fifo() => Way::Fifo,
            Fifo::On => {
                let at = format!("{}, 0x{:02x}", place.bus, place.address);
                return Err(SourceError::file(&at, format!("no FIFO of the {name} is used"), "leave fifo=on out"));
            }
            Fifo::Auto if part.has_fifo() => {
                if fills(&mut part).map_err(failed)? {
                    Way::Fifo
                } else {
                    let Place { bus, address, .. } = &place;
                    eprintln!(
                        "nestling: the FIFO of the {name} at 0x{address:02x} of {bus} never fills; it is read by a timer"
                    );
                    Way::Timer
                }
            }
            Fifo::Auto if part.is_ready().map_err(failed)?.is_some() => Way::Ready,
            Fifo::Auto => Way::Timer,
        };
        Ok(Imu { place, part, way, last: [0; 6], same: 0 })
    }

    fn take(&mut self, burst: &mut Burst) -> Result<(), BusError> {
        if self.way == Way::Fifo {
            return self.part.drain(burst);
        }
        if self.way == Way::Timer || self.part.is_ready()? != Some(false) {
            burst.readings.extend(self.part.now()?);
        }
        Ok(())
    }

    /// Readings that stay the same are no rest: a real sensor has noise. Whether the part can have been reset.
    fn is_reset(&mut self, readings: &[i16]) -> Result<bool, BusError> {
        for reading in readings.chunks_exact(6) {
            self.same = if *reading == self.last { self.same + 1 } else { 0 };
            self.last.copy_from_slice(reading);
        }
        if self.same < SAME {
            return Ok(false);
        }
        self.same = 0;
        Ok(!self.part.is_well()?)
    }
}

/// How long readings, `period` apart, are let gather in a store of them.
pub fn gathered(period: Duration) -> Duration {
    (GATHERED * period).clamp(Duration::from_millis(5), Duration::from_millis(50))
}

/// Whether something comes into the FIFO at all.
fn fills(part: &mut impl Inertial) -> Result<bool, BusError> {
    let until = Instant::now() + FIFO_PATIENCE + 5 * Duration::from_micros(part.period().into());
    loop {
        if part.holds()? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl<P: Inertial> Sensor for Imu<P> {
    fn about(&self) -> String {
        let rate = (1e8 / f64::from(self.part.period())).round() / 100.0;
        let way = match self.way {
            Way::Fifo => "its FIFO",
            Way::Ready => "its sign that one is new",
            Way::Timer => "a timer",
        };
        let (part, Place { bus, address, .. }) = (self.part.identity().part, &self.place);
        format!("{part} at 0x{address:02x} of {bus}, {rate} readings a second by {way}")
    }

    fn channels(&self) -> usize {
        6
    }

    fn timing(&self) -> Timing {
        let period = Duration::from_micros(self.part.period().into());
        let every = match self.way {
            Way::Fifo => gathered(period),
            Way::Ready => period / 4,
            Way::Timer => period,
        };
        Timing { period, every }
    }

    fn look(&mut self, burst: &mut Burst) -> Result<(), SourceError> {
        match self.take(burst).and_then(|()| self.is_reset(&burst.readings)) {
            Ok(false) => Ok(()),
            Ok(true) => Err(reset(&self.about())),
            Err(problem) => Err(refusal(&self.place, problem.into())),
        }
    }
}

#[cfg(test)]
mod tests;
