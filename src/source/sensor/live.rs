//! From the URI of a sensor to what answers there, and to the source.

use std::fmt;

use super::adc::{self, Ads};
use super::bus::Bus;
use super::fault::{bus_refusal, refusal};
use super::iio::{self, Iio, Roots};
use super::imu::Imu;
use super::place::{Part, Place, inputs};
use super::sampling::{Sampling, Sensor};
use super::tof::{self, Sleep, Tof};
use crate::parts::lsm6ds::Lsm6ds;
use crate::parts::mpu6050::Mpu6050;
use crate::parts::vl53l0x::Vl53l0x;
use crate::parts::vl53l1x::Vl53l1x;
use crate::source::signal::{MAX_READINGS, RATE, WINDOW};
use crate::source::uri::{Scheme, Uri};
use crate::source::{Source, SourceError};

/// What answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The part, as its maker writes it; of an IIO device its name.
    pub part: String,
    /// Where it is: `/dev/i2c-1, 0x68`, or an IIO device's folder.
    pub place: String,
    /// The register that says what it is, and what it holds.
    pub register: Option<(u16, u16)>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.part, self.place)?;
        match self.register {
            Some((register, value)) => write!(f, " (register 0x{register:02x} holds 0x{value:02x})"),
            None => Ok(()),
        }
    }
}

/// Asks what is at the place that `uri`, of `imu:`, `tof:`, `adc:` or `iio:`, names. Sets nothing up.
///
/// # Errors
/// [`SourceError`]: no such bus, no permission, no answer, another part than is named.
pub fn identify(uri: &Uri) -> Result<Identity, SourceError> {
    if uri.scheme == Scheme::Iio {
        let device = iio::find(&Roots::default(), uri)?;
        let place = device.folder.to_string_lossy().into_owned();
        return Ok(Identity { part: device.name, place, register: None });
    }
    let place = Place::of(uri)?;
    let mut bus = bus(&place)?;
    let identity = match place.part {
        Part::Mpu6050 => Mpu6050::identify(&mut bus, place.address),
        Part::Lsm6ds => Lsm6ds::identify(&mut bus, place.address),
        Part::Vl53l0x => Vl53l0x::identify(&mut bus, place.address),
        Part::Vl53l1x => Vl53l1x::identify(&mut bus, place.address),
        Part::Ads1115 => adc::identify(&mut bus, &place),
    };
    let identity = identity.map_err(|e| refusal(&place, e))?;
    Ok(Identity {
        part: identity.part.into(),
        place: format!("{}, 0x{:02x}", place.bus, place.address),
        register: Some((identity.register, identity.value)),
    })
}

/// Opens the sensor that `uri`, of `imu:`, `tof:`, `adc:` or `iio:`, names and starts it.
///
/// # Errors
/// As [`identify`], and what the part cannot do.
pub fn open(uri: &Uri) -> Result<Box<dyn Source>, SourceError> {
    let q = &uri.query;
    let sensor = sensor(uri)?;
    let length = q.window.unwrap_or(WINDOW);
    let stride = q.stride.unwrap_or((length / 2).max(1));
    if sensor.channels().checked_mul(length).is_none_or(|n| n > MAX_READINGS) {
        let problem = format!("windows of {length} x {} are beyond {MAX_READINGS} readings", sensor.channels());
        return Err(SourceError::uri(&uri.text, problem, "give a smaller window="));
    }
    let scheme = match uri.scheme {
        Scheme::Imu => "imu",
        Scheme::Tof => "tof",
        Scheme::Adc => "adc",
        _ => "iio",
    };
    Ok(Box::new(Sampling::start(scheme, sensor, length, stride)?))
}

fn sensor(uri: &Uri) -> Result<Box<dyn Sensor>, SourceError> {
    if uri.scheme == Scheme::Iio {
        return Ok(Box::new(Iio::open(&Roots::default(), uri)?));
    }
    let place = Place::of(uri)?;
    let bus = bus(&place)?;
    let rate = uri.query.rate;
    // Parts refuse what is beyond theirs.
    let hertz = |usual: f64| rate.unwrap_or(usual).round().clamp(0.0, f64::from(u16::MAX)) as u16;
    let fifo = uri.query.fifo.unwrap_or_default();
    Ok(match place.part {
        Part::Mpu6050 => {
            let part = Mpu6050::new(bus, place.address, hertz(RATE)).map_err(|e| refusal(&place, e))?;
            Box::new(Imu::new(part, place, fifo)?)
        }
        Part::Lsm6ds => {
            let part = Lsm6ds::new(bus, place.address, hertz(RATE)).map_err(|e| refusal(&place, e))?;
            Box::new(Imu::new(part, place, fifo)?)
        }
        Part::Vl53l0x | Part::Vl53l1x => Box::new(Tof::open(bus, place, hertz(tof::RATE), &mut Sleep)?),
        Part::Ads1115 => Box::new(Ads::open(bus, place, inputs(uri)?, rate.unwrap_or(RATE))?),
    })
}

fn bus(place: &Place) -> Result<Bus, SourceError> {
    Bus::open(&place.bus, place.address).map_err(|e| bus_refusal(place, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect("a URI")
    }

    #[test]
    fn where_there_is_no_bus_or_device_the_message_says_how_to_get_one() {
        let problem = identify(&uri("imu:mpu6050@i2c-65000")).expect_err("no bus").to_string();
        assert!(
            problem.contains("/dev/i2c-65000: there is no such bus") && problem.contains("i2c_arm=on"),
            "{problem}"
        );
        assert!(open(&uri("tof:vl53l1x@i2c-65000")).err().expect("no bus").to_string().contains("no such bus"));
        let problem = identify(&uri("iio:no-such-part")).expect_err("no device").to_string();
        assert!(problem.contains("no IIO device is called 'no-such-part'"), "{problem}");
    }

    #[test]
    fn an_identity_says_what_and_where() {
        let register = Some((0x75, 0x70));
        let identity = Identity { part: "MPU-6500".into(), place: "/dev/i2c-1, 0x68".into(), register };
        assert_eq!(identity.to_string(), "MPU-6500 at /dev/i2c-1, 0x68 (register 0x75 holds 0x70)");
    }
}
