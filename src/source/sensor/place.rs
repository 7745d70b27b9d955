//! `mpu6050@i2c-1:0x68`: which part is where, as a source URI writes it. Nothing here touches a bus.

use crate::source::SourceError;
use crate::source::uri::{Scheme, Uri};

/// A part, or a family of parts with the same registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Mpu6050,
    Lsm6ds,
    Vl53l0x,
    Vl53l1x,
    Ads1115,
}

struct PartRow {
    part: Part,
    scheme: Scheme,
    names: &'static [&'static str],
    /// Addresses that it can have; the first is the usual one.
    addresses: &'static [u8],
}

/// Time-of-flight sensors take any address by software; it is lost with their power.
const ANY: &[u8] = &[];

const PARTS: &[PartRow] = &[
    PartRow {
        part: Part::Mpu6050,
        scheme: Scheme::Imu,
        names: &["mpu6050", "mpu6000", "mpu6500", "mpu6515", "mpu9250", "mpu9255"],
        addresses: &[0x68, 0x69],
    },
    PartRow {
        part: Part::Lsm6ds,
        scheme: Scheme::Imu,
        names: &["lsm6ds3", "lsm6ds3tr", "lsm6dsl", "lsm6dsm", "lsm6dsr", "lsm6dso", "lsm6dsox"],
        addresses: &[0x6A, 0x6B],
    },
    PartRow { part: Part::Vl53l0x, scheme: Scheme::Tof, names: &["vl53l0x"], addresses: ANY },
    PartRow { part: Part::Vl53l1x, scheme: Scheme::Tof, names: &["vl53l1x"], addresses: ANY },
    PartRow { part: Part::Ads1115, scheme: Scheme::Adc, names: &["ads1115"], addresses: &[0x48, 0x49, 0x4A, 0x4B] },
];

/// A part on a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub part: Part,
    /// The bus, for example `/dev/i2c-1`.
    pub bus: String,
    /// Its 7-bit address.
    pub address: u8,
}

impl Place {
    /// The place that a URI of `imu:`, `tof:` or `adc:` names: `PART[@BUS[:ADDRESS]]`, bus `i2c-1` and the part's usual
    /// address where it does not say.
    ///
    /// # Errors
    /// [`SourceError::Uri`] with the parts that there are.
    pub fn of(uri: &Uri) -> Result<Place, SourceError> {
        let refuse = |problem: String, remedy: String| Err(SourceError::uri(&uri.text, problem, remedy));
        let (name, rest) = match uri.paths[0].split_once('@') {
            Some((name, rest)) => (name, Some(rest)),
            None => (uri.paths[0].as_str(), None),
        };
        let Some(row) = PARTS.iter().find(|row| row.scheme == uri.scheme && row.names.contains(&name)) else {
            let rows = PARTS.iter().filter(|row| row.scheme == uri.scheme);
            let names: Vec<_> = rows.flat_map(|row| row.names).copied().collect();
            return refuse(format!("no part is called '{name}' here"), format!("there are {}", names.join(", ")));
        };
        let (bus, address) = match rest.map(|rest| rest.rsplit_once(':').map_or((rest, None), |(b, a)| (b, Some(a)))) {
            Some((bus, address)) => (bus, address),
            None => ("i2c-1", None),
        };
        let number = bus.strip_prefix("/dev/").unwrap_or(bus).strip_prefix("i2c-").map(str::parse::<u16>);
        let Some(Ok(number)) = number else {
            return refuse(format!("'{bus}' is no bus"), format!("write {name}@i2c-1, or the number of another bus"));
        };
        let usual = row.addresses.first().copied().unwrap_or(0x29);
        let address = match address.map(parse_address) {
            None => usual,
            Some(Some(address)) if row.addresses.is_empty() || row.addresses.contains(&address) => address,
            Some(_) => {
                let all: Vec<_> = row.addresses.iter().map(|a| format!("0x{a:02x}")).collect();
                let remedy = match all.len() {
                    0 => format!("write {name}@i2c-{number}:0x{usual:02x}, or the address that it was given"),
                    _ => format!("a {name} is at one of {}", all.join(", ")),
                };
                return refuse("no address that the part can have".into(), remedy);
            }
        };
        Ok(Place { part: row.part, bus: format!("/dev/i2c-{number}"), address })
    }
}

/// The inputs that `?channels=` of an `adc:` URI names; all of them where it does not.
///
/// # Errors
/// [`SourceError::Uri`] where there is no such input.
pub fn inputs(uri: &Uri) -> Result<Vec<u8>, SourceError> {
    let Some(names) = &uri.query.channels else { return Ok(vec![0, 1, 2, 3]) };
    let numbers: Option<Vec<u8>> = names.iter().map(|name| name.parse().ok().filter(|n| *n < 4)).collect();
    numbers.filter(|numbers| numbers.len() <= 4).ok_or_else(|| {
        let problem = format!("channels={} are no inputs", names.join(","));
        SourceError::uri(&uri.text, problem, "there are 0, 1, 2 and 3: write for example channels=0,1")
    })
}

/// Addresses below 0x08 and above 0x77 are the bus's own.
fn parse_address(text: &str) -> Option<u8> {
    let address = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).ok()?,
        None => text.parse().ok()?,
    };
    (0x08..=0x77).contains(&address).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, String> {
        Place::of(&text.parse::<Uri>().map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    }

    #[test]
    fn a_place_is_a_part_a_bus_and_an_address() {
        let at = |part, bus: &str, address| Ok(Place { part, bus: bus.to_owned(), address });
        assert_eq!(place("imu:mpu6050@i2c-1:0x68"), at(Part::Mpu6050, "/dev/i2c-1", 0x68));
        assert_eq!(place("imu:mpu9250@/dev/i2c-10:105"), at(Part::Mpu6050, "/dev/i2c-10", 0x69));
        assert_eq!(place("imu:lsm6dso"), at(Part::Lsm6ds, "/dev/i2c-1", 0x6A));
        assert_eq!(place("tof:vl53l1x@i2c-3?rate=10"), at(Part::Vl53l1x, "/dev/i2c-3", 0x29));
        assert_eq!(place("tof:vl53l0x@i2c-3:0x30"), at(Part::Vl53l0x, "/dev/i2c-3", 0x30));
        assert_eq!(place("adc:ads1115?channels=0,1"), at(Part::Ads1115, "/dev/i2c-1", 0x48));
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_there_is() {
        for (text, part) in [
            ("imu:mpu6051@i2c-1", "mpu6050, mpu6000"),
            ("imu:vl53l1x@i2c-1", "no part is called 'vl53l1x' here"),
            ("imu:mpu6050@spi-1", "'spi-1' is no bus"),
            ("imu:mpu6050@i2c-", "is no bus"),
            ("imu:mpu6050@i2c-1:0x29", "one of 0x68, 0x69"),
            ("tof:vl53l1x@i2c-1:0x78", "the address that it was given"),
            ("adc:ads1115?channels=0,4", "channels=0,4"),
            ("imu:mpu6050?fifo=yes", "auto, on, off"),
            ("imu:mpu6050?channels=0", "unknown query"),
        ] {
            let message = place(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
