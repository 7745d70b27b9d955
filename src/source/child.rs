//! Sources that a program of the system feeds: `rpicam:0`, a camera on the ribbon of a Raspberry Pi, by `rpicam-vid`, and
//! `alsa:plughw:1,0`, a microphone, by `arecord`. We start the program, watch it and end it; whoever reads opens the
//! source again after an error, which starts it again.

mod process;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::pipe::Pipe;
use super::sound_pipe::SoundPipe;
use super::uri::{Format, Uri};
use super::{Record, Source, SourceError};
use crate::sample::Micros;
use process::{Deadline, Output, Running};

/// What a program has for its first sample, a camera with its exposure to set, and for each one after that.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));
/// Slow sources are waited for longer, but no longer than this.
const SLOWEST: Duration = Duration::from_secs(60);

/// What is run.
struct Program<'a> {
    /// Names that it goes by: the first that there is, is run.
    names: &'a [&'a str],
    /// The Debian package that has it.
    package: &'static str,
    arguments: Vec<String>,
}

/// How to get on with a program.
struct Manner {
    /// Its samples are called so.
    what: &'static str,
    /// Samples are timed when they come; sound has the clock of its samples.
    timed: bool,
    patience: (Duration, Duration),
    /// What it may say before it ends, and what to do then.
    remedies: &'static [(&'static str, &'static str)],
    /// What to do where it says nothing of these.
    otherwise: &'static str,
    /// What it says where it gives something else than was asked for, and what to do.
    mistaken: Option<(&'static str, &'static str)>,
}

/// A program's samples.
pub struct Fed {
    inner: Box<dyn Source>,
    running: Running,
    deadline: Deadline,
    manner: Manner,
    /// The program's name.
    name: String,
    about: String,
    uri: String,
    /// When the first sample came.
    begun: Option<Instant>,
}

/// A camera that `rpicam-vid` reads: 320x240 at 30 frames a second, or what the URI says.
///
/// # Errors
/// [`SourceError::File`] where the program is not installed, ends, or gives nothing; its last words are quoted.
pub fn rpicam(uri: &Uri) -> Result<Fed, SourceError> {
    camera(uri, &["rpicam-vid", "libcamera-vid"], PATIENCE)
}

fn camera(uri: &Uri, names: &[&str], patience: (Duration, Duration)) -> Result<Fed, SourceError> {
    let q = &uri.query;
    let (width, height, rate) = (q.width.unwrap_or(320), q.height.unwrap_or(240), q.rate.unwrap_or(30.0));
    let (camera, slow) = (&uri.paths[0], Duration::from_secs_f64((3.0 / rate).min(SLOWEST.as_secs_f64())));
    let arguments = format!(
        "--codec mjpeg -t 0 -n --camera {camera} --width {width} --height {height} --framerate {rate} --flush -o -"
    );
    let arguments = arguments.split(' ').map(str::to_owned).collect();
    let manner = Manner {
        what: "frame",
        timed: true,
        patience: (patience.0.max(slow), patience.1.max(slow)),
        remedies: &[
            (
                "no cameras available",
                "check the ribbon and its contacts, and that no other program has the camera; `rpicam-hello --list-cameras` lists what there is",
            ),
            ("selected camera is not available", "`rpicam-hello --list-cameras` lists the numbers that there are"),
            ("in use", "end the program that has the camera; `fuser -v /dev/media*` says which"),
            ("Permission denied", "add the user to the group video (`sudo usermod -aG video USER`) and log in again"),
        ],
        otherwise: "`rpicam-hello --list-cameras` tries the camera without us",
        mistaken: None,
    };
    // The pipe's own words for it: what it holds says its size.
    let mut frames = uri.clone();
    (frames.query.format, frames.query.width, frames.query.height) = (None, None, None);
    Fed::start(
        uri,
        Program { names, package: "rpicam-apps", arguments },
        manner,
        |output| Ok(Box::new(Pipe::new(output, &frames)?)),
        |name| format!("rpicam: camera {camera} by {name}, {width}x{height} at {rate} frames a second"),
    )
}

/// A microphone that `arecord` reads: 16000 samples a second, in windows as of `pipe:-?format=s16le`.
///
/// # Errors
/// As [`rpicam`].
pub fn alsa(uri: &Uri) -> Result<Fed, SourceError> {
    microphone(uri, &["arecord"], PATIENCE)
}

fn microphone(uri: &Uri, names: &[&str], patience: (Duration, Duration)) -> Result<Fed, SourceError> {
    let mut sound = uri.clone();
    let rate = *sound.query.rate.get_or_insert(16_000.0);
    sound.query.format = Some(Format::S16le);
    let device = &uri.paths[0];
    let mut arguments = vec!["-D".to_owned(), device.clone()];
    arguments.extend(format!("-f S16_LE -r {rate} -c 1 -t raw").split(' ').map(str::to_owned));
    let window = sound.query.window.map_or(1.0, |window| window as f64 / rate);
    let stride = sound.query.stride.map_or(window, |stride| stride as f64 / rate);
    let longer = |time: Duration, by: f64| time + Duration::from_secs_f64(by.min(SLOWEST.as_secs_f64()));
    let manner = Manner {
        what: "window",
        timed: false,
        patience: (longer(patience.0, window), longer(patience.1, stride)),
        remedies: &[
            ("No such file or directory", "`arecord -l` lists the cards and devices: card 1, device 0 is plughw:1,0"),
            ("No such device", "plug the microphone in; `arecord -l` lists the cards and devices that there are"),
            ("resource busy", "end the program that has the microphone; `fuser -v /dev/snd/*` says which"),
            ("Permission denied", "add the user to the group audio (`sudo usermod -aG audio USER`) and log in again"),
            ("non available", "write plughw: for hw:, so that the sound is converted to one channel of 16 bits"),
        ],
        otherwise: "`arecord -l` lists the cards and devices that there are",
        mistaken: Some((
            "rate is not accurate",
            "write plughw: for hw:, so that the sound is converted, or the rate that it gives",
        )),
    };
    Fed::start(
        uri,
        Program { names, package: "alsa-utils", arguments },
        manner,
        |output| Ok(Box::new(SoundPipe::new(output, &sound)?)),
        |name| {
            let (window, stride) =
                (window * rate, sound.query.stride.map_or((window * rate / 2.0).floor(), |s| s as f64));
            format!("alsa: {device} by {name}, windows of {window} at {rate} Hz, {stride} apart")
        },
    )
}

impl Fed {
    fn start(
        uri: &Uri,
        program: Program<'_>,
        manner: Manner,
        read: impl FnOnce(Output) -> Result<Box<dyn Source>, SourceError>,
        about: impl FnOnce(&str) -> String,
    ) -> Result<Self, SourceError> {
        let Program { names, package, arguments } = program;
        let Some(path) = names.iter().find_map(|name| process::find(name)) else {
            let problem = format!("there is no program {} in PATH", names.join(" nor "));
            return Err(SourceError::file(&uri.text, problem, format!("sudo apt install {package}")));
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (running, stdout) = Running::start(&path, &arguments).map_err(|error| {
            let problem = format!("{} cannot be started: {error}", path.display());
            SourceError::file(&uri.text, problem, format!("sudo apt install --reinstall {package}"))
        })?;
        let deadline = Deadline::after(manner.patience.0);
        let mut output = Output::new(stdout, deadline.clone());
        let begins = output.begins().unwrap_or(false);
        let (inner, about, uri) = (read(output)?, about(&name), uri.text.clone());
        let mut fed = Fed { inner, running, deadline, manner, name, about, uri, begun: None };
        // Whoever opens a camera that is not there is to hear so now.
        if begins { Ok(fed) } else { Err(fed.over(0)) }
    }

    /// Why there is no next sample; the program has ended or is ended. `damaged` samples came instead of it.
    fn over(&mut self, damaged: u64) -> SourceError {
        let (name, what) = (&self.name, self.manner.what);
        let missed = self.deadline.missed();
        let how = if missed {
            self.running.end();
            let whole = if damaged > 0 { format!(" whole {what} ({damaged} damaged)") } else { format!(" {what}") };
            format!("{name} gave no{whole} in time and was ended")
        } else {
            match self.running.finish() {
                Some(status) => format!("{name} ended ({status})"),
                None => format!("{name} closed its output and was ended"),
            }
        };
        let said = self.running.said();
        let words =
            if said.is_empty() { "it said nothing".to_owned() } else { format!("it said: {}", said.join(" | ")) };
        let known = self.manner.remedies.iter().find(|(part, _)| said.iter().any(|line| line.contains(part)));
        let remedy = known.map_or(self.manner.otherwise, |(_, remedy)| remedy);
        SourceError::file(&self.uri, format!("{how}; {words}"), remedy)
    }
}

impl Source for Fed {
    fn describe(&self) -> String {
        self.about.clone()
    }

    fn len_hint(&self) -> Option<u64> {
        None
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        let (first, then) = self.manner.patience;
        self.deadline.set(if self.begun.is_none() { first } else { then });
        let before = self.inner.skipped();
        if !matches!(self.inner.read_next(record), Ok(true)) {
            return Err(self.over(self.inner.skipped() - before));
        }
        let arrived = Instant::now();
        if let (None, Some((words, remedy))) = (self.begun, self.manner.mistaken)
            && let Some(line) = self.running.has_said(words)
        {
            return Err(SourceError::uri(&self.uri, format!("{}: {line}", self.name), remedy));
        }
        let begun = *self.begun.get_or_insert(arrived);
        if self.manner.timed {
            record.time = Micros((arrived - begun).as_micros() as u64);
        }
        Ok(true)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        Err(SourceError::CannotRewind(self.uri.clone()))
    }

    fn skipped(&self) -> u64 {
        self.inner.skipped()
    }

    fn sound_rate(&self) -> Option<u32> {
        self.inner.sound_rate()
    }
}
