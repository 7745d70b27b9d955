//! `adc:`: an ADS1115, by a timer: one conversion an input, 125 µV a step, by the crate `ads1x1x`.

use std::time::{Duration, Instant};

use ads1x1x::ic::{Ads1115, Resolution16Bit};
use ads1x1x::mode::OneShot;
use ads1x1x::{Ads1x1x, DataRate16Bit as Rate, Error, FullScaleRange, TargetAddr, channel};
use embedded_hal::i2c::I2c;

use super::bus::BusError;
use super::fault::refusal;
use super::place::Place;
use super::sampling::{Burst, Sensor, Timing};
use crate::parts::{Identity, PartError};
use crate::source::SourceError;

const PART: &str = "ADS1115";
/// Where it keeps how it is set up; it has no register that says what it is.
const CONFIGURATION: u8 = 0x01;
/// What that holds after a reset.
const RESET: &[u16] = &[0x8583];
/// Conversions a second that it can make.
const RATES: [(u16, Rate); 8] = [
    (8, Rate::Sps8),
    (16, Rate::Sps16),
    (32, Rate::Sps32),
    (64, Rate::Sps64),
    (128, Rate::Sps128),
    (250, Rate::Sps250),
    (475, Rate::Sps475),
    (860, Rate::Sps860),
];
/// Of those, the share that is asked for at the most: each also takes transfers and a wait.
const SHARE: f64 = 0.6;

/// An ADS1115 on `B`.
pub struct Ads<B> {
    place: Place,
    adc: Ads1x1x<B, Ads1115, Resolution16Bit, OneShot>,
    inputs: Vec<u8>,
    rate: f64,
    /// What a conversion takes.
    conversion: Duration,
}

/// What answers at `place`. It can only be told from what is no ADC at all.
///
/// # Errors
/// [`PartError`].
pub fn identify<B: I2c<Error = BusError>>(bus: &mut B, place: &Place) -> Result<Identity, PartError<BusError>> {
    let mut value = [0; 2];
    bus.write_read(place.address, &[CONFIGURATION], &mut value)?;
    let (register, value) = (CONFIGURATION.into(), u16::from_be_bytes(value));
    if matches!(value, 0 | 0xFFFF) {
        return Err(PartError::Other { part: PART, register, found: value, expected: RESET });
    }
    Ok(Identity { part: PART, register, value })
}

impl<B: I2c<Error = BusError>> Ads<B> {
    /// Sets up the ADC at `place` of `bus` for `rate` readings of its `inputs` a second.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn open(mut bus: B, place: Place, inputs: Vec<u8>, rate: f64) -> Result<Self, SourceError> {
        identify(&mut bus, &place).map_err(|e| refusal(&place, e))?;
        let needed = rate * inputs.len() as f64 / SHARE;
        let Some((conversions, setting)) = RATES.into_iter().find(|(hertz, _)| f64::from(*hertz) >= needed) else {
            let most = (f64::from(RATES[7].0) * SHARE / inputs.len() as f64) as u16;
            return Err(refusal(&place, PartError::Rate { part: PART, least: 1, most }));
        };
        let address = match place.address {
            0x48 => TargetAddr::Gnd,
            0x49 => TargetAddr::Vdd,
            0x4A => TargetAddr::Sda,
            _ => TargetAddr::Scl,
        };
        let mut adc = Ads1x1x::new_ads1115(bus, address);
        adc.set_full_scale_range(FullScaleRange::Within4_096V)
            .and_then(|()| adc.set_data_rate(setting))
            .map_err(|e| refusal(&place, part_error(e)))?;
        // Its oscillator may be 10 % slow.
        let conversion = Duration::from_secs_f64(1.1 / f64::from(conversions));
        Ok(Ads { place, adc, inputs, rate, conversion })
    }

    /// Converts what lies at one input.
    fn convert(&mut self, input: u8) -> Result<i16, PartError<BusError>> {
        let until = Instant::now() + 4 * self.conversion + Duration::from_millis(20);
        loop {
            let read = match input {
                0 => self.adc.read(channel::SingleA0),
                1 => self.adc.read(channel::SingleA1),
                2 => self.adc.read(channel::SingleA2),
                _ => self.adc.read(channel::SingleA3),
            };
            match read {
                Ok(value) => return Ok(value),
                Err(nb::Error::Other(e)) => return Err(part_error(e)),
                Err(nb::Error::WouldBlock) if Instant::now() > until => {
                    return Err(PartError::Stuck { part: PART, doing: "a conversion" });
                }
                Err(nb::Error::WouldBlock) => std::thread::sleep(self.conversion),
            }
        }
    }
}

fn part_error(error: Error<BusError>) -> PartError<BusError> {
    match error {
        Error::I2C(problem) => PartError::Bus(problem),
        // Only thresholds of the comparator, which is not used, are checked.
        Error::InvalidInputData => PartError::Stuck { part: PART, doing: "its set-up" },
    }
}

impl<B: I2c<Error = BusError> + Send> Sensor for Ads<B> {
    fn about(&self) -> String {
        let Place { bus, address, .. } = &self.place;
        format!("{PART} at 0x{address:02x} of {bus}, {} readings a second by a timer", self.rate)
    }

    fn channels(&self) -> usize {
        self.inputs.len()
    }

    fn timing(&self) -> Timing {
        let period = Duration::from_secs_f64(1.0 / self.rate);
        Timing { period, every: period }
    }

    fn look(&mut self, burst: &mut Burst) -> Result<(), SourceError> {
        for place in 0..self.inputs.len() {
            let value = self.convert(self.inputs[place]).map_err(|e| refusal(&self.place, e))?;
            burst.readings.push(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sensor::fake::{Chip, FakeBus, Noise, place};
    use crate::source::sensor::place::Part;
    use rustix::io::Errno;

    /// An ADS1115 with a voltage at each input that has converted as soon as it is asked.
    struct Converter {
        inputs: [i16; 4],
        pointer: u8,
        configuration: u16,
        /// It never comes to an end.
        busy: bool,
    }

    impl Chip for Converter {
        fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
            self.pointer = bytes[0];
            if let [1, high, low] = bytes {
                self.configuration = u16::from_be_bytes([*high, *low]);
            }
            Ok(())
        }

        fn read(&mut self, into: &mut [u8]) -> Result<(), Errno> {
            let input = usize::from(self.configuration >> 12 & 0x3);
            let value = match self.pointer {
                0 => self.inputs[input] as u16,
                _ if self.busy => self.configuration & 0x7FFF,
                _ => self.configuration | 0x8000,
            };
            into.copy_from_slice(&value.to_be_bytes());
            Ok(())
        }
    }

    fn converter() -> FakeBus<Converter> {
        FakeBus::new(Converter { inputs: [100, -200, 300, 32_767], pointer: 0, configuration: 0x8583, busy: false })
    }

    fn opened<C: Chip>(bus: &FakeBus<C>, inputs: &[u8], rate: f64) -> Result<Ads<FakeBus<C>>, String> {
        let place = Place { address: 0x48, ..place(Part::Ads1115) };
        Ads::open(bus.clone(), place, inputs.to_vec(), rate).map_err(|e| e.to_string())
    }

    #[test]
    fn a_reading_is_a_conversion_of_each_input_in_the_order_asked_for() {
        let bus = converter();
        let mut adc = opened(&bus, &[3, 0, 1], 100.0).expect("opened");
        let mut burst = Burst::default();
        adc.look(&mut burst).expect("a reading");
        assert_eq!(burst.readings, [32_767, 100, -200]);
        // ±4.096 V, and the 860 conversions a second that 300 readings need.
        let configuration = bus.chip().configuration;
        assert_eq!((configuration >> 9 & 0x7, configuration >> 5 & 0x7), (1, 7));
        assert_eq!(adc.timing().every, Duration::from_millis(10));
    }

    #[test]
    fn what_is_too_fast_stuck_or_no_adc_is_refused() {
        assert!(opened(&converter(), &[0, 1, 2, 3], 200.0).err().expect("refused").contains("1 to 129"));
        let bus = converter();
        let mut adc = opened(&bus, &[0], 400.0).expect("opened");
        bus.chip().busy = true;
        let problem = adc.look(&mut Burst::default()).expect_err("stuck").to_string();
        assert!(problem.contains("does not come to an end with a conversion"), "{problem}");
        let idle = FakeBus::new(Noise { bytes: vec![0xFF], next: 0 });
        assert!(opened(&idle, &[0], 1.0).err().expect("refused").contains("all ones"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
        #[test]
        fn no_byte_of_the_bus_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..40)) {
            let bus = FakeBus::new(Noise { bytes: [vec![0x85, 0x83], bytes].concat(), next: 0 });
            if let Ok(mut adc) = opened(&bus, &[0, 1], 200.0) {
                let _ = adc.look(&mut Burst::default());
            }
        }
    }
}
