//! The ways out that a profile names, opened.

use std::path::Path;
use std::sync::Arc;

use super::DaemonError;
use super::control::Doers;
use super::status::Shared;
use super::tap::Tap;
use crate::board::Profile;
use crate::bus::lines::Lines;
use crate::bus::socket::{Format, MessageSocket};
use crate::bus::{Bus, Terms, Transport};
use crate::control::config::Does;
use crate::control::log::Log;
use crate::source::Source;

/// What the source knows of itself, where it was opened before.
#[cfg_attr(not(feature = "mcap"), allow(dead_code, reason = "only recordings tell of it"))]
pub struct About {
    source: String,
    classes: Vec<String>,
    sound_rate: Option<u32>,
    in_order: bool,
}

impl About {
    pub fn of(profile: &Profile, opened: Option<&dyn Source>) -> About {
        About {
            source: opened.map_or_else(|| profile.source.join("; then "), |source| source.describe()),
            classes: opened.map(|source| source.class_names().to_vec()).unwrap_or_default(),
            sound_rate: opened.and_then(|source| source.sound_rate()),
            in_order: opened.is_none_or(|source| source.in_order()),
        }
    }
}

/// Opens them all and adds them to `bus`.
///
/// # Errors
/// Of a socket in use, a log that cannot be written, a way out that this program was built without, or a thread that the
/// system does not give.
pub fn open(profile: &Profile, shared: &Arc<Shared>, doers: &Doers, bus: &mut Bus) -> Result<(), DaemonError> {
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
    #[cfg(feature = "zenoh")]
    if let Some(table) = &profile.zenoh {
        add(bus, "zenoh", crate::bus::zenoh::Zenoh::new(table, answer(shared, doers)), never)?;
    }
    #[cfg(feature = "shm")]
    if let Some(table) = &profile.shm {
        let memory = crate::bus::shm::SharedMemory::open(&table.service).map_err(DaemonError::System)?;
        add(bus, "shm", memory, never)?;
    }
    #[cfg(feature = "mqtt")]
    if let Some(table) = &profile.mqtt {
        let mqtt = crate::bus::mqtt::Mqtt::open(table, &profile.name, answer(shared, doers));
        add(bus, "mqtt", mqtt.map_err(DaemonError::System)?, never)?;
    }
    #[cfg(not(any(feature = "mqtt", feature = "zenoh")))]
    let _ = doers;
    for (table, asked, built) in [
        ("zenoh", profile.zenoh.is_some(), cfg!(feature = "zenoh")),
        ("shm", profile.shm.is_some(), cfg!(feature = "shm")),
        ("mqtt", profile.mqtt.is_some(), cfg!(feature = "mqtt")),
    ] {
        if asked && !built {
            let remedy = format!("build nestling with --features {table}, or take the table out");
            let problem = format!("[{table}] is in the profile, and this nestling was built without it");
            return Err(DaemonError::System(format!("{problem}\n  what to do: {remedy}")));
        }
    }
    Ok(())
}

/// Who answers commands that come by a way out.
#[cfg(any(feature = "mqtt", feature = "zenoh"))]
fn answer(shared: &Arc<Shared>, doers: &Doers) -> crate::bus::command::Answer {
    let entry = super::control::Entry { shared: shared.clone(), doers: doers.clone() };
    Arc::new(move |command: &[u8]| entry.answer(command))
}

/// Opens the recording, where the profile names one, and adds it to `bus`. The way of samples to it; where the stream is not
/// `live`, it waits for that.
///
/// # Errors
/// Of a recording that cannot be written, or a thread that the system does not give.
pub fn record(profile: &Profile, about: &About, live: bool, bus: &mut Bus) -> Result<Option<Tap>, DaemonError> {
    match &profile.record.path {
        Some(path) => open_recording(profile, path, about, live, bus).map(Some),
        None => Ok(None),
    }
}

#[cfg(feature = "mcap")]
fn open_recording(
    profile: &Profile,
    path: &Path,
    about: &About,
    live: bool,
    bus: &mut Bus,
) -> Result<Tap, DaemonError> {
    use super::recorder::Recorder;
    use crate::recording::writer;
    let About { source, classes, sound_rate, in_order } = about;
    let (source, classes) = (source.clone(), classes.clone());
    let about = writer::About { source, classes, sound_rate: *sound_rate, in_order: *in_order, expected: None };
    let (tap, tapped) = super::tap::tap(live);
    let recorder = Recorder::open(&profile.record, path, &about, tapped).map_err(DaemonError::System)?;
    add(bus, "recording", recorder, Terms { waits: true, ..Terms::default() })?;
    Ok(tap)
}

#[cfg(not(feature = "mcap"))]
fn open_recording(_: &Profile, path: &Path, _: &About, _: bool, _: &mut Bus) -> Result<Tap, DaemonError> {
    let remedy = "build it with `--features mcap`, or leave [record] out";
    Err(DaemonError::System(format!("{}: this program was built without MCAP files: {remedy}", path.display())))
}

fn add(bus: &mut Bus, name: &str, transport: impl Transport + 'static, terms: Terms) -> Result<(), DaemonError> {
    bus.add(name, transport, terms).map_err(DaemonError::System)
}
