//! The ways out that a profile names, opened.

use super::DaemonError;
use super::status::Shared;
use crate::board::Profile;
use crate::bus::lines::Lines;
use crate::bus::socket::{Format, MessageSocket};
use crate::bus::{Bus, Terms, Transport};
use crate::control::config::Does;
use crate::control::log::Log;

/// Opens them all and adds them to `bus`.
///
/// # Errors
/// Of a socket in use, a log that cannot be written, or a thread that the system does not give.
pub fn open(profile: &Profile, shared: &Shared, bus: &mut Bus) -> Result<(), DaemonError> {
    // Nobody waits for readers of a socket, whatever the stream.
    let never = Terms::default();
    let output = &profile.output;
    for (name, path, format) in
        [("socket", &output.socket, Format::Json), ("postcard", &output.postcard, Format::Packed)]
    {
        if let Some(path) = path {
            add(bus, name, MessageSocket::open(path, format, shared.readers.clone())?, never)?;
        }
    }
    for table in profile.controller.iter().filter(|table| table.does == Does::Log) {
        let log = Lines::of_decisions(Log::open(table).map_err(DaemonError::System)?);
        add(bus, &format!("log {}", table.name), log, never)?;
    }
    Ok(())
}

fn add(bus: &mut Bus, name: &str, transport: impl Transport + 'static, terms: Terms) -> Result<(), DaemonError> {
    bus.add(name, transport, terms).map_err(DaemonError::System)
}
