//! Sources: is the device there, may we, does it answer.

use std::str::FromStr;

use super::root::{READ, WRITE};
use super::{Check, Hardware, Root};
use crate::board::Profile;
use crate::source::SourceError;
use crate::source::uri::{Scheme, Uri};

pub(super) fn check(profile: &Profile, root: &Root, hardware: &dyn Hardware) -> Vec<Check> {
    if profile.source.is_empty() {
        return vec![Check::fail("source", "the profile names none", "write source = \"camera:0\" or what you have")];
    }
    profile.source.iter().map(|text| one(text, root, hardware)).collect()
}

/// A source's error, in two.
fn told(name: &str, error: &SourceError) -> Check {
    match error {
        SourceError::Uri { problem, remedy, .. } => Check::fail(name, problem, remedy),
        SourceError::File { path, problem, remedy } => Check::fail(name, format!("{path}: {problem}"), remedy),
        other => Check::fail(name, other.to_string(), "try the same with `nestling run --source`"),
    }
}

fn one(text: &str, root: &Root, hardware: &dyn Hardware) -> Check {
    let uri = match Uri::from_str(text) {
        Ok(uri) => uri,
        Err(error) => return told("source", &error),
    };
    // Its query is no part of the name.
    let name = text.split_once('?').map_or(text, |(name, _)| name).to_string();
    let path = &uri.paths[0];
    match uri.scheme {
        Scheme::Camera => {
            let device = if path.parse::<u32>().is_ok() { format!("/dev/video{path}") } else { path.clone() };
            device_check(root, &device, "video", || missing_camera(root)).map_or_else(
                |(found, remedy)| Check::fail(&name, found, remedy),
                |()| answered(&name, hardware.camera(&uri)),
            )
        }
        Scheme::Imu | Scheme::Tof | Scheme::Adc => bus(&name, &uri, root, hardware),
        Scheme::Iio => match root.names("/sys/bus/iio/devices", "iio:device").is_empty() {
            false => answered(&name, hardware.part(&uri)),
            true => Check::fail(
                &name,
                "the kernel has no IIO device",
                "load the driver of the part: a dtoverlay in /boot/firmware/config.txt, or modprobe",
            ),
        },
        Scheme::Rpicam => ribbon(&name, path, root, hardware),
        Scheme::Alsa => program(&name, "arecord", "alsa-utils", root).unwrap_or_else(|| {
            let cards =
                root.names("/dev/snd", "pcm").into_iter().filter(|name| name.ends_with('c')).collect::<Vec<_>>();
            match cards.first() {
                None => Check::fail(&name, "there is no microphone", "plug it in; `arecord -l` lists what there is"),
                Some(card) if !root.permits(format!("/dev/snd/{card}"), READ | WRITE) => {
                    Check::fail(&name, format!("no permission for /dev/snd/{card}"), root.join_group("audio"))
                }
                Some(_) => Check::ok(&name, format!("arecord is there, and {}", cards.join(", "))),
            }
        }),
        Scheme::Serial => {
            device_check(root, path, "dialout", || "plug the board in; `ls /dev/serial/by-id` lists them".into())
                .map_or_else(
                    |(found, remedy)| Check::fail(&name, found, remedy),
                    |()| Check::ok(&name, format!("{path} can be opened")),
                )
        }
        Scheme::Sim => Check::ok(&name, "the simulator needs nothing"),
        Scheme::Zenoh => Check::ok(&name, "a topic; whether its router answers shows when it runs"),
        Scheme::Pipe if path == "-" => Check::ok(&name, "standard input"),
        Scheme::Pipe if !root.exists(path) => Check::warn(
            &name,
            format!("{path} is not there yet; it is waited for"),
            "start the program that writes to it, after mkfifo",
        ),
        _ => match uri.paths.iter().find(|path| !root.permits(path, READ)) {
            None => Check::ok(&name, format!("{} can be read", uri.paths.join(", "))),
            Some(path) if root.exists(path) => {
                Check::fail(&name, format!("no permission to read {path}"), format!("chmod o+r {path}"))
            }
            Some(path) => Check::fail(
                &name,
                format!("{path} is not there"),
                "write where it is; paths are taken from where nestling runs",
            ),
        },
    }
}

fn answered(name: &str, answer: Result<String, SourceError>) -> Check {
    match answer {
        Ok(found) => Check::ok(name, found),
        Err(error) => told(name, &error),
    }
}

/// That a device is there and may be opened; else what was found, and what to do.
pub(super) fn device_check(
    root: &Root,
    device: &str,
    group: &str,
    missing: impl FnOnce() -> String,
) -> Result<(), (String, String)> {
    if !root.exists(device) {
        return Err((format!("{device} is not there"), missing()));
    }
    match root.permits(device, READ | WRITE) {
        true => Ok(()),
        false => Err((format!("no permission for {device}"), root.join_group(group))),
    }
}

fn missing_camera(root: &Root) -> String {
    match &root.names("/dev", "video")[..] {
        [] => "plug the camera in; `v4l2-ctl --list-devices` lists them. One on a Pi's ribbon is rpicam:0".into(),
        others => format!("plug the camera in, or name one of /dev/{}", others.join(", /dev/")),
    }
}

/// What is installed, or the check that fails.
fn program(name: &str, program: &str, package: &str, root: &Root) -> Option<Check> {
    (!root.has_program(program)).then(|| {
        Check::fail(name, format!("the program {program} is not installed"), format!("sudo apt install {package}"))
    })
}

fn ribbon(name: &str, number: &str, root: &Root, hardware: &dyn Hardware) -> Check {
    if !root.has_program("libcamera-vid")
        && let Some(failed) = program(name, "rpicam-vid", "rpicam-apps", root)
    {
        return failed;
    }
    if let Some(device) = root.names("/dev", "media").first()
        && !root.permits(format!("/dev/{device}"), READ | WRITE)
    {
        return Check::fail(name, format!("no permission for /dev/{device}"), root.join_group("video"));
    }
    let remedy = "shut down, push the ribbon in at both ends (contacts to the contacts), and start again; \
                  /boot/firmware/config.txt needs camera_auto_detect=1, or the dtoverlay of your camera";
    match hardware.ribbon() {
        Err(problem) => Check::fail(name, problem, "sudo apt install rpicam-apps"),
        Ok(lines) => {
            let cameras: Vec<&String> = lines.iter().filter(|l| l.starts_with(|c: char| c.is_ascii_digit())).collect();
            match cameras.iter().find(|line| line.split([' ', ':']).next() == Some(number)) {
                Some(camera) => Check::ok(name, format!("rpicam-hello lists it: {camera}")),
                None if cameras.is_empty() => Check::fail(name, "rpicam-hello finds no camera", remedy),
                None => Check::fail(
                    name,
                    format!("rpicam-hello lists no camera {number}"),
                    format!("there is rpicam:{}", cameras[0]),
                ),
            }
        }
    }
}

/// A part on an I2C bus.
fn bus(name: &str, uri: &Uri, root: &Root, hardware: &dyn Hardware) -> Check {
    let place = match crate::source::sensor::Place::of(uri) {
        Ok(place) => place,
        Err(error) => return told(name, &error),
    };
    match device_check(root, &place.bus, "i2c", || missing_bus(root)) {
        Err((found, remedy)) => Check::fail(name, found, remedy),
        Ok(()) => answered(name, hardware.part(uri)),
    }
}

/// What brings an I2C bus.
fn missing_bus(root: &Root) -> String {
    let others = match &root.names("/dev", "i2c-")[..] {
        [] => String::new(),
        others => format!("; there is /dev/{}", others.join(", /dev/")),
    };
    if !root.is_pi() {
        return format!("sudo modprobe i2c-dev, and its name in /etc/modules for the next start{others}");
    }
    match switched_on(root, "dtparam=i2c_arm=on") {
        Some(true) => format!(
            "restart: dtparam=i2c_arm=on is in {}; if that is done, sudo modprobe i2c-dev{others}",
            config(root)
        ),
        _ => format!("add the line dtparam=i2c_arm=on to {} and restart{others}", config(root)),
    }
}

/// The file that says which buses a Pi has.
pub(super) fn config(root: &Root) -> &'static str {
    match root.exists("/boot/config.txt") && !root.exists("/boot/firmware/config.txt") {
        true => "/boot/config.txt",
        false => "/boot/firmware/config.txt",
    }
}

/// Whether a line of the Pi's configuration begins so; `None` where there is no such file.
pub(super) fn switched_on(root: &Root, line: &str) -> Option<bool> {
    let file = config(root);
    root.exists(file).then(|| root.read(file).lines().any(|l| l.trim().starts_with(line)))
}
