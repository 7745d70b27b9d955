//! `tof:`: time-of-flight sensors, that measure on their own and say when they have.

use std::time::Duration;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::bus::BusError;
use super::fault::refusal;
use super::place::{Part, Place};
use super::sampling::{Burst, Sensor, Timing};
use crate::parts::PartError;
use crate::parts::vl53l0x::Vl53l0x;
use crate::parts::vl53l1x::Vl53l1x;
use crate::source::SourceError;

/// Measurements a second where the URI does not say.
pub const RATE: f64 = 20.0;

/// Waits by sleeping.
pub struct Sleep;

impl DelayNs for Sleep {
    fn delay_ns(&mut self, ns: u32) {
        std::thread::sleep(Duration::from_nanos(ns.into()));
    }
}

enum Finder<B> {
    L0(Vl53l0x<B>),
    L1(Vl53l1x<B>),
}

/// A time-of-flight sensor on `B`.
pub struct Tof<B> {
    place: Place,
    finder: Finder<B>,
}

impl<B: I2c<Error = BusError>> Tof<B> {
    /// Sets up the sensor at `place` of `bus` for `hertz` measurements a second.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn open(bus: B, place: Place, hertz: u16, delay: &mut impl DelayNs) -> Result<Self, SourceError> {
        let finder = match place.part {
            Part::Vl53l0x => Vl53l0x::new(bus, place.address, hertz, delay).map(Finder::L0),
            _ => Vl53l1x::new(bus, place.address, hertz, delay).map(Finder::L1),
        };
        match finder {
            Ok(finder) => Ok(Tof { place, finder }),
            Err(problem) => Err(refusal(&place, problem)),
        }
    }

    fn hertz(&self) -> u16 {
        match &self.finder {
            Finder::L0(sensor) => sensor.hertz(),
            Finder::L1(sensor) => sensor.hertz(),
        }
    }
}

impl<B: I2c<Error = BusError> + Send> Sensor for Tof<B> {
    fn about(&self) -> String {
        let name = if matches!(self.finder, Finder::L0(_)) { "VL53L0X" } else { "VL53L1X" };
        let Place { bus, address, .. } = &self.place;
        format!("{name} at 0x{address:02x} of {bus}, {} measurements a second by its own clock", self.hertz())
    }

    fn channels(&self) -> usize {
        1
    }

    fn timing(&self) -> Timing {
        let period = Duration::from_secs(1) / u32::from(self.hertz().max(1));
        Timing { period, every: period / 4 }
    }

    fn look(&mut self, burst: &mut Burst) -> Result<(), SourceError> {
        let read = match &mut self.finder {
            Finder::L0(sensor) => sensor.read(),
            Finder::L1(sensor) => sensor.read(),
        };
        let distance = read.map_err(|e| refusal(&self.place, PartError::Bus(e)))?;
        burst.readings.extend(distance.map(|mm| mm as i16));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sensor::fake::{Chip, FakeBus, Noise, Registers, place};
    use rustix::io::Errno;

    /// Never waits: what a fake does it has done at once.
    struct NoWait;

    impl DelayNs for NoWait {
        fn delay_ns(&mut self, _: u32) {}
    }

    /// Registers with numbers of 16 bits.
    struct Wide {
        held: Vec<u8>,
        pointer: usize,
        written: Vec<(u16, Vec<u8>)>,
    }

    impl Chip for Wide {
        fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
            let [high, low, values @ ..] = bytes else { return Err(Errno::INVAL) };
            self.pointer = usize::from(*high) << 8 | usize::from(*low);
            if !values.is_empty() {
                self.written.push((self.pointer as u16, values.to_vec()));
            }
            for (place, value) in values.iter().enumerate() {
                self.held[self.pointer + place] = *value;
            }
            // Started: a measurement is there at once, and stays until it is cleared.
            self.held[0x31] = match (self.pointer, values) {
                (0x87, [0x40]) => 1,
                (0x86, [0x01]) => 0,
                _ => self.held[0x31],
            };
            Ok(())
        }

        fn read(&mut self, into: &mut [u8]) -> Result<(), Errno> {
            into.copy_from_slice(&self.held[self.pointer..][..into.len()]);
            Ok(())
        }
    }

    fn vl53l1x() -> FakeBus<Wide> {
        let mut held = vec![0; 0x200];
        held[0x10F..0x111].copy_from_slice(&[0xEA, 0xCC]);
        held[0xE5] = 3;
        held[0xDE..0xE0].copy_from_slice(&600u16.to_be_bytes());
        FakeBus::new(Wide { held, pointer: 0, written: Vec::new() })
    }

    fn look<B: I2c<Error = BusError> + Send>(sensor: &mut Tof<B>) -> Result<Vec<i16>, String> {
        let mut burst = Burst::default();
        sensor.look(&mut burst).map(|()| burst.readings).map_err(|e| e.to_string())
    }

    #[test]
    fn a_vl53l1x_is_set_up_and_gives_each_distance_once() {
        let bus = vl53l1x();
        let mut sensor = Tof::open(bus.clone(), place(Part::Vl53l1x), 20, &mut NoWait).expect("opened");
        assert_eq!(sensor.timing().period, Duration::from_millis(50));
        {
            let chip = bus.chip();
            let last = |register: u16| chip.written.iter().rev().find(|(r, _)| *r == register).map(|(_, v)| v.clone());
            // 33 ms of measurement fit into the 50; 600 ticks a ms, times 1.075.
            assert_eq!((last(0x5E), last(0x61)), (Some(vec![0x00, 0x60]), Some(vec![0x00, 0x6E])));
            assert_eq!(last(0x6C), Some(32_250u32.to_be_bytes().to_vec()));
            assert_eq!(chip.held[0x46], 0x20, "an interrupt for each measurement");
            assert_eq!(chip.written.last(), Some(&(0x87, vec![0x40])));
        }
        let put = |status: u8, mm: u16| {
            let mut chip = bus.chip();
            (chip.held[0x89], chip.held[0x31]) = (status, 1);
            chip.held[0x96..0x98].copy_from_slice(&mm.to_be_bytes());
        };
        put(9, 1234);
        assert_eq!((look(&mut sensor), look(&mut sensor)), (Ok(vec![1234]), Ok(vec![])));
        put(4, 55);
        assert_eq!(look(&mut sensor), Ok(vec![8190]), "nothing came back that it would trust");
        put(9, 60_000);
        assert_eq!(look(&mut sensor), Ok(vec![8190]));
    }

    /// A VL53L0X that has always finished what it was told.
    fn vl53l0x() -> FakeBus<Registers> {
        let mut chip = Registers::new();
        (chip.held[0xC0], chip.held[0x13], chip.held[0x92], chip.held[0x91]) = (0xEE, 0x07, 0x80 | 5, 0x3C);
        chip.held[0xB0..0xB6].copy_from_slice(&[0xFF; 6]);
        chip.held[0xF8..0xFA].copy_from_slice(&1000u16.to_be_bytes());
        chip.before = |chip, register| {
            if register == 0x83 {
                chip.held[0x83] |= 1;
            }
        };
        FakeBus::new(chip)
    }

    #[test]
    fn a_vl53l0x_is_set_up_and_gives_each_distance_once() {
        let bus = vl53l0x();
        let mut sensor = Tof::open(bus.clone(), place(Part::Vl53l0x), 20, &mut NoWait).expect("opened");
        {
            let chip = bus.chip();
            // Five diodes from the first behind the aperture on: numbers 12 to 16.
            assert_eq!(chip.held[0xB0..0xB6], [0, 0xF0, 0x01, 0, 0, 0]);
            assert_eq!(chip.held[0x04..0x08], 50_000u32.to_be_bytes());
            // What a measurement is stopped with was kept and given back.
            assert!(chip.written.contains(&(0x91, 0x3C)));
            assert_eq!((chip.held[0x01], chip.written.last()), (0xE8, Some(&(0x00, 0x04))));
        }
        let put = |status: u8, mm: u16| {
            let mut chip = bus.chip();
            (chip.held[0x14], chip.held[0x13]) = (status << 3, 0x44);
            chip.held[0x1E..0x20].copy_from_slice(&mm.to_be_bytes());
        };
        put(11, 432);
        assert_eq!(look(&mut sensor), Ok(vec![432]));
        bus.chip().held[0x13] = 0x40;
        assert_eq!(look(&mut sensor), Ok(vec![]));
        put(4, 20);
        assert_eq!(look(&mut sensor), Ok(vec![8190]));
    }

    #[test]
    fn what_never_ends_and_what_is_another_part_are_refused() {
        let refused = |part, bus: FakeBus<Registers>| {
            Tof::open(bus, place(part), 20, &mut NoWait).err().expect("refused").to_string()
        };
        let bus = vl53l0x();
        bus.chip().held[0x13] = 0;
        assert!(refused(Part::Vl53l0x, bus).contains("does not come to an end with its calibration"));
        let bus = vl53l0x();
        bus.chip().held[0xC0] = 0xAA;
        let problem = refused(Part::Vl53l0x, bus);
        assert!(problem.contains("register 0xc0 holds 0xaa, and a VL53L0X has 0xee"), "{problem}");
        let wide = vl53l1x();
        wide.chip().held[0xE5] = 0;
        let stuck = Tof::open(wide, place(Part::Vl53l1x), 20, &mut NoWait).err().expect("refused").to_string();
        assert!(stuck.contains("with its start"), "{stuck}");
        let fast = Tof::open(vl53l1x(), place(Part::Vl53l1x), 50, &mut NoWait).err().expect("refused").to_string();
        assert!(fast.contains("1 to 41"), "{fast}");
    }

    proptest::proptest! {
        #[test]
        fn no_byte_of_the_bus_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..60)) {
            for (part, identity) in [(Part::Vl53l0x, vec![0xEE]), (Part::Vl53l1x, vec![0xEA, 0xCC])] {
                // Noise from the identity on.
                let all = [identity.clone(), bytes.clone()].concat();
                let bus = FakeBus::new(Noise { bytes: all, next: 0 });
                if let Ok(mut sensor) = Tof::open(bus, place(part), 20, &mut NoWait) {
                    for _ in 0..4 {
                        let _ = look(&mut sensor);
                    }
                }
            }
        }
    }
}
