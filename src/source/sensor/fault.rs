//! What goes wrong on a bus, in words with a remedy.

use rustix::io::Errno;

use super::bus::{self, BusError};
use super::place::Place;
use crate::parts::PartError;
use crate::source::SourceError;

/// What the error of `place` means, and what to do about it.
pub fn refusal(place: &Place, error: PartError<BusError>) -> SourceError {
    let at = format!("{}, 0x{:02x}", place.bus, place.address);
    let (problem, remedy) = match &error {
        PartError::Bus(error) => return bus_refusal(place, error),
        PartError::Other { found, .. } => {
            let remedy = match found {
                0xFF | 0xFFFF => "all ones is what an idle bus reads: check the part's power, SDA and SCL",
                0x00 => "all zeros is what a part without power or held in reset reads: check its supply and its reset",
                _ => "is it another part, or a clone? is the address right? a clone with other registers is not read",
            };
            (error.to_string(), remedy)
        }
        PartError::Rate { .. } => (error.to_string(), "give another rate="),
        PartError::Stuck { .. } => (error.to_string(), "take its power away for a moment, and check the supply"),
    };
    SourceError::file(&at, problem, remedy)
}

/// As [`refusal`], of the bus alone.
pub fn bus_refusal(place: &Place, error: &BusError) -> SourceError {
    let Place { bus, address, .. } = place;
    let number = bus.trim_start_matches("/dev/i2c-");
    let at = format!("{bus}, 0x{address:02x}");
    match error.errno() {
        Some(Errno::NOENT | Errno::NODEV) => {
            let remedy = format!(
                "on a Raspberry Pi write dtparam=i2c_arm=on into /boot/firmware/config.txt and start it again; elsewhere \
                 `modprobe i2c-dev`; {}",
                bus::others(bus)
            );
            SourceError::file(bus, "there is no such bus", remedy)
        }
        Some(Errno::ACCESS | Errno::PERM) => SourceError::file(
            bus,
            "no permission",
            "add the user to the group i2c (`sudo usermod -aG i2c USER`) and log in again",
        ),
        Some(Errno::BUSY) => SourceError::file(
            &at,
            "a driver of the kernel has this device",
            "read it by iio:NAME (`cat /sys/bus/iio/devices/*/name` tells names), or unbind the driver",
        ),
        Some(Errno::NXIO | Errno::REMOTEIO | Errno::IO | Errno::TIMEDOUT | Errno::AGAIN) => {
            let problem = format!("nothing answers there ({})", error.0);
            let remedy = format!(
                "check power, SDA, SCL, pull-ups and the address; `i2cdetect -y {number}` shows what answers on the bus"
            );
            SourceError::file(&at, problem, remedy)
        }
        Some(Errno::OPNOTSUPP) => SourceError::file(
            &at,
            "the adapter cannot carry what the part needs",
            "it speaks SMBus alone: put the part on another bus",
        ),
        _ => SourceError::file(&at, error.0.to_string(), "`dmesg` says what the bus's driver met"),
    }
}

/// No reading came for as long as is waited.
pub fn silent(about: &str) -> SourceError {
    let remedy = "check its power and its wires: a part that was reset waits to be set up, which opening it again does";
    SourceError::file(about, "no reading came in time", remedy)
}

/// The part has forgotten how it was set up.
pub fn reset(about: &str) -> SourceError {
    let remedy = "its supply dipped: check it. Opening it again sets it up anew";
    SourceError::file(about, "it was reset, and gives the same reading for ever", remedy)
}
