//! `iio:NAME`, `iio:0`: sensors that a driver of the kernel reads (Industrial I/O), by the kernel's buffer where it has one
//! and a trigger that fills it, else by reading its files when they are due.

mod channel;
mod scan;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::imu::gathered;
use super::sampling::{Burst, Sensor, Timing};
use crate::source::SourceError;
use crate::source::uri::{Fifo, Query, Uri};
use channel::Channel;
use scan::{Layout, ScanType};

/// Scans that the kernel keeps while nobody reads.
const BUFFERED: u32 = 512;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 14;

/// Where the kernel shows its devices; tests have their own.
pub struct Roots {
    pub devices: PathBuf,
    pub nodes: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Roots { devices: "/sys/bus/iio/devices".into(), nodes: "/dev".into() }
    }
}

/// A device that was found.
pub struct Device {
    /// As its driver calls it.
    pub name: String,
    pub folder: PathBuf,
    node: PathBuf,
    number: String,
}

/// The device that `uri` names: by its driver's name, its number, or `iio:deviceN`.
///
/// # Errors
/// [`SourceError::File`] where there is none or more than one.
pub fn find(roots: &Roots, uri: &Uri) -> Result<Device, SourceError> {
    let wanted = uri.paths[0].as_str();
    let devices = devices(roots);
    let told = || {
        let all: Vec<_> = devices.iter().map(|d| format!("{} ({})", d.number, d.name)).collect();
        match all.len() {
            0 => "there is none: its driver is not loaded, or no device tree or overlay names the part".to_owned(),
            _ => format!("there is {}", all.join(", ")),
        }
    };
    let by_number = wanted.strip_prefix("iio:device").unwrap_or(wanted);
    let mut found: Vec<_> = devices.iter().filter(|d| d.name == wanted || d.number == by_number).collect();
    let place = roots.devices.to_string_lossy();
    match found.len() {
        1 => {
            let Device { name, folder, node, number } = found.remove(0);
            Ok(Device { name: name.clone(), folder: folder.clone(), node: node.clone(), number: number.clone() })
        }
        0 => Err(SourceError::file(&place, format!("no IIO device is called '{wanted}'"), told())),
        n => Err(SourceError::file(
            &place,
            format!("{n} devices are called '{wanted}'"),
            format!("name a number; {}", told()),
        )),
    }
}

fn devices(roots: &Roots) -> Vec<Device> {
    let entries = fs::read_dir(&roots.devices).into_iter().flatten().flatten();
    let mut devices: Vec<_> = entries
        .filter_map(|entry| {
            let file = entry.file_name().to_string_lossy().into_owned();
            let number = file.strip_prefix("iio:device")?.to_owned();
            let name = text(&entry.path().join("name")).unwrap_or_default();
            Some(Device { name, folder: entry.path(), node: roots.nodes.join(&file), number })
        })
        .collect();
    devices.sort_by_key(|d| d.number.parse::<u32>().unwrap_or(u32::MAX));
    devices
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// How readings are taken.
enum Way {
    /// One open file a channel, read anew each time.
    Files(Vec<File>),
    Buffer {
        node: File,
        layout: Layout,
        held: Vec<u8>,
    },
}

/// An IIO device that was set up.
pub struct Iio {
    device: Device,
    channels: Vec<Channel>,
    rate: f64,
    way: Way,
    chunk: Vec<u8>,
}

impl Iio {
    /// Sets up the device that `uri` names.
    ///
    /// # Errors
    /// [`SourceError::File`]; [`SourceError::Uri`] for a channel that it does not have.
    pub fn open(roots: &Roots, uri: &Uri) -> Result<Self, SourceError> {
        let device = find(roots, uri)?;
        let q = &uri.query;
        let channels = channels(&device, uri)?;
        let wanted = q.fifo.unwrap_or_default();
        let (rate, buffer) = if wanted == Fifo::Off {
            (None, None)
        } else {
            let rate = set_rate(&device, q)?;
            match buffer(roots, &device, &channels) {
                Ok(buffer) => (rate, Some(buffer)),
                Err(problem) if wanted == Fifo::On => return Err(problem),
                Err(problem) => {
                    eprintln!("nestling: without the buffer of the kernel, by a timer: {problem}");
                    (None, None)
                }
            }
        };
        let way = match buffer {
            Some((node, layout)) => Way::Buffer { node, layout, held: Vec::new() },
            None => Way::Files(files(&channels)?),
        };
        let rate = rate.or(q.rate).unwrap_or(crate::source::signal::RATE);
        Ok(Iio { device, channels, rate, way, chunk: vec![0; CHUNK] })
    }
}

fn channels(device: &Device, uri: &Uri) -> Result<Vec<Channel>, SourceError> {
    let names = channel::names(&device.folder);
    if names.is_empty() {
        let remedy = "it gives events alone, or nothing: name another device";
        return Err(SourceError::file(&device.folder.to_string_lossy(), "the device has no channels to read", remedy));
    }
    let wanted = uri.query.channels.clone().unwrap_or_else(|| channel::usual(&names));
    let found = wanted.iter().map(|name| {
        channel::find(&device.folder, name).filter(|_| names.contains(name)).ok_or_else(|| {
            SourceError::uri(
                &uri.text,
                format!("no channel is called '{name}'"),
                format!("there are {}", names.join(", ")),
            )
        })
    });
    found.collect()
}

fn files(channels: &[Channel]) -> Result<Vec<File>, SourceError> {
    channels.iter().map(|c| File::open(&c.file).map_err(|e| refusal(&c.file, e))).collect()
}

/// Tells the device how many readings a second are wanted, and says how many there will be, where it knows.
fn set_rate(device: &Device, q: &Query) -> Result<Option<f64>, SourceError> {
    let entries = fs::read_dir(&device.folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|p| p.to_string_lossy().ends_with("sampling_frequency")).collect();
    files.sort();
    for file in &files {
        let Some(rate) = q.rate else { break };
        if let Err(e) = put(file, &rate.to_string()) {
            let available = text(&PathBuf::from(format!("{}_available", file.display())));
            return Err(match available {
                Some(rates) if e.kind() == ErrorKind::InvalidInput => {
                    let remedy = format!("give one of rate= {rates}");
                    SourceError::file(&file.to_string_lossy(), format!("{rate} readings a second are refused"), remedy)
                }
                _ => refusal(file, e),
            });
        }
    }
    Ok(files.iter().find_map(|file| channel::number(file)).filter(|rate| *rate > 0.0))
}

/// Turns the buffer on, with the channels and their times in it.
fn buffer(roots: &Roots, device: &Device, channels: &[Channel]) -> Result<(File, Layout), SourceError> {
    let scan = device.folder.join("scan_elements");
    let at = |name: &str| device.folder.join("buffer").join(name);
    let path = device.folder.to_string_lossy();
    let write = |path: &Path, value: &str| put(path, value).map_err(|e| refusal(path, e));
    let element = |name: &str| -> Option<(u32, ScanType)> {
        let index = text(&scan.join(format!("in_{name}_index")))?.parse().ok()?;
        Some((index, ScanType::parse(&text(&scan.join(format!("in_{name}_type")))?)?))
    };
    let none = |problem: String| SourceError::file(&path, problem, "write fifo=off to read it by a timer");
    if !at("enable").exists() {
        return Err(none("its driver has no buffer".into()));
    }
    let wanted: Option<Vec<_>> = channels.iter().map(|c| element(&c.name)).collect();
    let wanted = wanted.ok_or_else(|| none("not all channels are in its buffer, one number each".into()))?;
    write(&at("enable"), "0")?;
    pull_trigger(roots, device)?;
    for entry in fs::read_dir(&scan).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_prefix("in_").and_then(|f| f.strip_suffix("_en")) else { continue };
        let on = name == "timestamp" || channels.iter().any(|c| c.name == name);
        write(&entry.path(), if on { "1" } else { "0" })?;
    }
    let layout = Layout::new(&path, &wanted, element("timestamp"))?;
    write(&at("length"), &BUFFERED.to_string())?;
    let open =
        || OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(&device.node);
    let node = open().map_err(|e| refusal(&device.node, e))?;
    write(&at("enable"), "1")?;
    Ok((node, layout))
}

/// A device that is triggered gets its own trigger where it has none yet.
fn pull_trigger(roots: &Roots, device: &Device) -> Result<(), SourceError> {
    let current = device.folder.join("trigger/current_trigger");
    if !current.exists() || text(&current).is_some_and(|name| !name.is_empty()) {
        return Ok(());
    }
    let entries = fs::read_dir(&roots.devices).into_iter().flatten().flatten();
    let triggers = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("trigger"));
    let mut names: Vec<_> = triggers.filter_map(|entry| text(&entry.path().join("name"))).collect();
    names.sort();
    let own = format!("{}-dev{}", device.name, device.number);
    let Some(name) = names.iter().find(|name| **name == own).or_else(|| names.first()) else {
        let remedy = "`modprobe iio-trig-hrtimer` gives triggers by a timer, or write fifo=off";
        return Err(SourceError::file(&device.folder.to_string_lossy(), "nothing triggers its buffer", remedy));
    };
    put(&current, name).map_err(|e| refusal(&current, e))
}

fn put(path: &Path, value: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(value.as_bytes())
}

/// What the system's error on `path` means, and what to do about it.
fn refusal(path: &Path, error: std::io::Error) -> SourceError {
    let (problem, remedy) = match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
            ("the device is gone, or its driver does not give this", "`ls /sys/bus/iio/devices` shows what there is")
        }
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => (
            "no permission",
            "the package's udev rule gives IIO devices to the group nestling; elsewhere `chgrp` and `chmod g+w` this file",
        ),
        Some(Errno::BUSY) => ("another program reads the device by its buffer", "end it, or read another device"),
        Some(Errno::REMOTEIO | Errno::IO | Errno::TIMEDOUT) => {
            ("the part does not answer its driver", "check its power and its wires; `dmesg` says more")
        }
        _ => return SourceError::io(&path.to_string_lossy(), error),
    };
    SourceError::file(&path.to_string_lossy(), problem, remedy)
}

impl Sensor for Iio {
    fn about(&self) -> String {
        let way = if matches!(self.way, Way::Buffer { .. }) { "the kernel's buffer" } else { "a timer" };
        let names: Vec<_> = self.channels.iter().map(|c| c.name.as_str()).collect();
        let (name, number) = (&self.device.name, &self.device.number);
        format!("{name} (iio:device{number}), {} readings a second of {} by {way}", self.rate, names.join(", "))
    }

    fn channels(&self) -> usize {
        self.channels.len()
    }

    fn timing(&self) -> Timing {
        let period = Duration::from_secs_f64(1.0 / self.rate.clamp(1e-4, 1e6));
        let every = if matches!(self.way, Way::Buffer { .. }) { gathered(period) } else { period };
        Timing { period, every }
    }

    fn look(&mut self, burst: &mut Burst) -> Result<(), SourceError> {
        match &mut self.way {
            Way::Files(files) => {
                for (file, channel) in files.iter().zip(&self.channels) {
                    burst.readings.push(channel.reading(read_number(file, &mut self.chunk, &channel.file)?));
                }
                Ok(())
            }
            Way::Buffer { node, layout, held } => {
                loop {
                    match node.read(&mut self.chunk) {
                        Ok(0) => break,
                        Ok(count) => held.extend_from_slice(&self.chunk[..count]),
                        Err(e) if e.kind() == ErrorKind::Interrupted => {}
                        Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                        Err(e) => return Err(refusal(&self.device.node, e)),
                    }
                    // Of a flood the rest comes with the next look.
                    if held.len() >= 4 * CHUNK {
                        break;
                    }
                }
                let scans = held.chunks_exact(layout.bytes);
                let newest = scans.clone().next_back().and_then(|scan| layout.time(scan));
                for scan in scans {
                    burst.readings.extend(layout.numbers(scan).zip(&self.channels).map(|(n, c)| c.reading(n as f64)));
                    if let (Some(newest), Some(time)) = (newest, layout.time(scan)) {
                        burst.ages.push(newest.saturating_sub(time).max(0) as u64 / 1000);
                    }
                }
                let taken = held.len() / layout.bytes * layout.bytes;
                held.drain(..taken);
                Ok(())
            }
        }
    }
}

/// The number that a file of the kernel's holds now.
fn read_number(file: &File, bytes: &mut [u8], path: &Path) -> Result<f64, SourceError> {
    let count = file.read_at(bytes, 0).map_err(|e| refusal(path, e))?;
    let text = std::str::from_utf8(&bytes[..count.min(64)]).unwrap_or_default();
    let number = text.split_whitespace().next().and_then(|n| n.parse().ok()).filter(|n: &f64| n.is_finite());
    number.ok_or_else(|| {
        SourceError::file(&path.to_string_lossy(), format!("'{}' is no number", text.trim()), "leave the channel out")
    })
}

impl Drop for Iio {
    fn drop(&mut self) {
        if matches!(self.way, Way::Buffer { .. }) {
            // Where the device is gone there is nothing to turn off.
            let _ = put(&self.device.folder.join("buffer/enable"), "0");
        }
    }
}
