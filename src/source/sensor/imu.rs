//! `imu:`: inertial sensors, by their FIFO where they have one that moves, else by a timer.

use std::time::Duration;

use embedded_hal::i2c::I2c;

use super::bus::BusError;
use super::fault::refusal;
use super::place::Place;
use super::sampling::{Burst, Sensor, Timing};
use crate::parts::mpu6050::{BURST, Mpu6050};
use crate::source::SourceError;
use crate::source::uri::Fifo;

/// Readings that are let gather in a FIFO before it is looked at.
const GATHERED: u32 = 10;
/// A FIFO that holds nothing for as long never will: it is not there.
const FIFO_PATIENCE: Duration = Duration::from_millis(100);
/// Readings in a row that are all the same before the part is asked whether it is well.
const SAME: u32 = 64;

/// An MPU-6050 on `B`.
pub struct Mpu<B> {
    place: Place,
    sensor: Mpu6050<B>,
    fifo: bool,
    last: [i16; 6],
    same: u32,
}

impl<B: I2c<Error = BusError>> Mpu<B> {
    /// Sets up the sensor at `place` of `bus`.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn open(bus: B, place: Place, hertz: u16, fifo: Fifo) -> Result<Self, SourceError> {
        let mut sensor = Mpu6050::new(bus, place.address, hertz).map_err(|e| refusal(&place, e))?;
        let fifo = match fifo {
            Fifo::Off => false,
            Fifo::On => true,
            Fifo::Auto => {
                let moves = moves(&mut sensor).map_err(|e| refusal(&place, e.into()))?;
                if !moves {
                    eprintln!(
                        "nestling: the FIFO of the {} at 0x{:02x} of {} never fills; it is read by a timer",
                        sensor.identity().part,
                        place.address,
                        place.bus
                    );
                }
                moves
            }
        };
        Ok(Mpu { place, sensor, fifo, last: [0; 6], same: 0 })
    }

    fn drain(&mut self, burst: &mut Burst) -> Result<(), BusError> {
        let mut waiting = self.sensor.waiting()?;
        while waiting > 0 {
            let mut readings = [[0; 6]; BURST];
            let readings = &mut readings[..waiting.min(BURST)];
            self.sensor.take(readings)?;
            burst.readings.extend(readings.iter().flatten());
            waiting -= readings.len();
        }
        // Asked last: whether it ran over before or meanwhile, what was taken out may begin in the midst of a reading.
        if self.sensor.overflown()? {
            burst.readings.clear();
            burst.lost = true;
            self.sensor.empty()?;
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
        Ok(!self.sensor.is_well()?)
    }
}

/// How long readings, `period` apart, are let gather in a store of them.
pub fn gathered(period: Duration) -> Duration {
    (GATHERED * period).clamp(Duration::from_millis(5), Duration::from_millis(50))
}

/// Whether something comes into the FIFO at all.
fn moves<B: I2c<Error = BusError>>(sensor: &mut Mpu6050<B>) -> Result<bool, BusError> {
    let patience = FIFO_PATIENCE + 5 * Duration::from_micros(sensor.period().into());
    let until = std::time::Instant::now() + patience;
    loop {
        if sensor.waiting()? > 0 {
            return Ok(true);
        }
        if std::time::Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl<B: I2c<Error = BusError> + Send> Sensor for Mpu<B> {
    fn about(&self) -> String {
        let rate = (1e8 / f64::from(self.sensor.period())).round() / 100.0;
        let way = if self.fifo { "its FIFO" } else { "a timer" };
        let (part, Place { bus, address, .. }) = (self.sensor.identity().part, &self.place);
        format!("{part} at 0x{address:02x} of {bus}, {rate} readings a second by {way}")
    }

    fn channels(&self) -> usize {
        6
    }

    fn timing(&self) -> Timing {
        let period = Duration::from_micros(self.sensor.period().into());
        Timing { period, every: if self.fifo { gathered(period) } else { period } }
    }

    fn look(&mut self, burst: &mut Burst) -> Result<(), SourceError> {
        let done = if self.fifo {
            self.drain(burst)
        } else {
            self.sensor.read().map(|reading| burst.readings.extend(reading))
        };
        match done.and_then(|()| self.is_reset(&burst.readings)) {
            Ok(false) => Ok(()),
            Ok(true) => Err(super::fault::reset(&self.about())),
            Err(problem) => Err(refusal(&self.place, problem.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::source::sensor::fake::{FakeBus, Noise, Registers, place};
    use crate::source::sensor::place::Part;

    const STATUS: u8 = 0x3A;
    const OVERFLOWN: u8 = 0x10;
    const USER_CONTROL: u8 = 0x6A;
    const COUNT: u8 = 0x72;

    /// An MPU-6050 that says how many bytes wait in its FIFO; a test puts them there.
    fn mpu() -> FakeBus<Registers> {
        let mut chip = Registers::new();
        chip.held[0x75] = 0x68;
        chip.fifo_at = Some(0x74);
        chip.cleared_by_reading = vec![STATUS];
        chip.before = |chip, register| {
            if register == COUNT {
                let count = chip.fifo.len() as u16;
                chip.held[0x72..0x74].copy_from_slice(&count.to_be_bytes());
            }
        };
        chip.after = |chip, register, value| {
            if (register, value) == (USER_CONTROL, 0x04) {
                chip.fifo.clear();
            }
        };
        FakeBus::new(chip)
    }

    fn numbers(readings: std::ops::Range<i16>) -> Vec<i16> {
        readings.flat_map(|n| (0..6).map(move |axis| 10 * n + axis)).collect()
    }

    fn put(bus: &FakeBus<Registers>, readings: std::ops::Range<i16>) {
        bus.chip().fifo.extend(numbers(readings).into_iter().flat_map(i16::to_be_bytes));
    }

    fn opened(bus: &FakeBus<Registers>, hertz: u16, fifo: Fifo) -> Result<Mpu<FakeBus<Registers>>, String> {
        Mpu::open(bus.clone(), place(Part::Mpu6050), hertz, fifo).map_err(|e| e.to_string())
    }

    fn look(sensor: &mut dyn Sensor) -> Result<(Vec<i16>, bool), String> {
        let mut burst = Burst::default();
        sensor.look(&mut burst).map_err(|e| e.to_string())?;
        Ok((burst.readings, burst.lost))
    }

    #[test]
    fn whole_readings_are_taken_out_of_the_fifo_in_order() {
        let bus = mpu();
        let mut sensor = opened(&bus, 200, Fifo::On).expect("opened");
        let set_up = [(0x6B, 1), (0x19, 4), (0x1A, 3), (0x1B, 8), (0x1C, 8), (0x23, 0x78), (0x6A, 4), (0x6A, 0x40)];
        assert_eq!(bus.chip().written, set_up);
        assert_eq!((sensor.timing().period, sensor.channels()), (Duration::from_millis(5), 6));
        assert_eq!(look(&mut sensor), Ok((vec![], false)));
        put(&bus, 0..7);
        // Of an eighth a part only.
        bus.chip().fifo.extend([0; 11]);
        assert_eq!(look(&mut sensor), Ok((numbers(0..7), false)));
        assert_eq!(bus.chip().fifo.len(), 11);
    }

    #[test]
    fn a_fifo_that_ran_over_is_started_anew_and_nothing_of_it_is_kept() {
        let bus = mpu();
        let mut sensor = opened(&bus, 200, Fifo::On).expect("opened");
        bus.chip().fifo.extend([1; 1024]);
        bus.chip().held[usize::from(STATUS)] = OVERFLOWN;
        assert_eq!(look(&mut sensor), Ok((vec![], true)));
        assert!(bus.chip().fifo.is_empty());
        put(&bus, 3..5);
        assert_eq!(look(&mut sensor), Ok((numbers(3..5), false)));
    }

    #[test]
    fn a_fifo_that_never_fills_is_done_without() {
        let bus = mpu();
        let mut sensor = opened(&bus, 1000, Fifo::Auto).expect("opened");
        assert!(sensor.about().contains("1000 readings a second by a timer"), "{}", sensor.about());
        for (place, number) in [1i16, -2, 3, 99, 4, -5, 6].into_iter().enumerate() {
            bus.chip().held[0x3B + 2 * place..][..2].copy_from_slice(&number.to_be_bytes());
        }
        assert_eq!(look(&mut sensor), Ok((vec![1, -2, 3, 4, -5, 6], false)));

        let filling = mpu();
        filling.chip().before = |chip, register| {
            if register == COUNT {
                chip.fifo.extend([0; 12]);
                chip.held[0x73] = chip.fifo.len() as u8;
            }
        };
        assert!(opened(&filling, 1000, Fifo::Auto).expect("opened").about().contains("by its FIFO"));
    }

    #[test]
    fn a_reading_that_never_changes_is_a_part_that_was_reset_or_one_at_rest() {
        let bus = mpu();
        let mut sensor = opened(&bus, 100, Fifo::Off).expect("opened");
        for _ in 0..200 {
            assert_eq!(look(&mut sensor), Ok((vec![0; 6], false)), "it is awake: a stub, perhaps");
        }
        // Asleep, as after its power was gone.
        bus.chip().held[0x6B] = 0x40;
        let problem = (0..200).find_map(|_| look(&mut sensor).err()).expect("found out");
        assert!(problem.contains("it was reset"), "{problem}");
    }

    #[test]
    fn what_is_no_such_part_is_refused_with_what_was_found() {
        for (identity, words) in [(0x24, "is it another part, or a clone?"), (0xFF, "all ones"), (0, "all zeros")] {
            let bus = mpu();
            bus.chip().held[0x75] = identity;
            let problem = opened(&bus, 50, Fifo::On).err().expect("refused");
            assert!(problem.contains(&format!("0x{identity:02x}")) && problem.contains("0x68, 0x70"), "{problem}");
            assert!(problem.contains(words) && bus.chip().written.is_empty(), "{problem}");
        }
        assert!(opened(&mpu(), 3, Fifo::On).err().expect("refused").contains("4 to 1000"));
    }

    #[test]
    fn a_sensor_that_vanishes_says_where_it_was() {
        let bus = mpu();
        let mut sensor = opened(&bus, 50, Fifo::On).expect("opened");
        bus.chip().fails = Some(Errno::REMOTEIO);
        let problem = look(&mut sensor).expect_err("gone");
        assert!(
            problem.contains("/dev/i2c-9, 0x68: nothing answers") && problem.contains("i2cdetect -y 9"),
            "{problem}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_byte_of_the_bus_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..80)) {
            let noise = || FakeBus::new(Noise { bytes: bytes.clone(), next: 0 });
            let _ = Mpu::open(noise(), place(Part::Mpu6050), 1000, Fifo::On);
            // As if it had been the right part before.
            let calm = FakeBus::new(Noise { bytes: vec![0x68], next: 0 });
            let mut sensor = Mpu::open(calm.clone(), place(Part::Mpu6050), 1000, Fifo::On).expect("opened");
            calm.chip().bytes.clone_from(&bytes);
            for _ in 0..4 {
                let _ = look(&mut sensor);
            }
        }
    }
}
