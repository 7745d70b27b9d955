//! `camera:0`, `camera:/dev/video2`: a V4L2 camera (USB webcams, capture cards), by the crate `linuxvideo`.
//!
//! It takes the mode nearest to what the URI asks for, says which, and never sleeps for long: a camera that is silent or
//! has vanished is an error, and whoever reads opens it again. Samples are timed on arrival. Damaged frames are passed
//! over and counted.

mod mode;
mod pixels;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use linuxvideo::format::{FrameIntervals, FrameSizes, PixFormat, PixelFormat};
use linuxvideo::stream::ReadStream;
use linuxvideo::{BufType, CapabilityFlags, Device, Fract};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use super::uri::{Format, Uri};
use super::{MAX_PIXELS, Record, Source, SourceError};
use crate::sample::Micros;
use mode::{Mode, Pixels, Wanted};
use pixels::Layout;

/// A camera that gives no whole frame for so long is taken to be gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first frame takes longer: webcams set their exposure first.
const FIRST_PATIENCE: Duration = Duration::from_secs(4);

/// Nothing is waited for longer, however slow the camera says it is.
const SLOWEST: Duration = Duration::from_secs(60);

/// A camera, streaming.
pub struct Camera {
    path: String,
    stream: ReadStream,
    mode: Mode,
    layout: Layout,
    /// When the first frame came.
    begun: Option<Instant>,
    skipped: u64,
    frame: Vec<u8>,
    scratch: Vec<u8>,
}

impl Camera {
    /// Opens the camera that `uri` names and starts it.
    ///
    /// # Errors
    /// [`SourceError::File`] where there is no such camera, it is not ours to use, or it has no format that is read.
    pub fn open(uri: &Uri) -> Result<Self, SourceError> {
        let Found { path, device, mode, .. } = find(uri)?;
        let failed = |error: std::io::Error| refusal(&path, &error);
        let asked = PixFormat::new(mode.width, mode.height, PixelFormat::from_fourcc(mode.pixels.code()));
        let device = device.video_capture(asked).map_err(failed)?;
        let got = device.format();
        let layout = Layout {
            pixels: mode.pixels,
            width: got.width() as usize,
            height: got.height() as usize,
            stride: got.bytes_per_line() as usize,
        };
        let agreed = got.pixel_format().as_fourcc() == mode.pixels.code();
        // Pixels of YUYV come in pairs.
        let odd = mode.pixels == Pixels::Yuyv && !layout.width.is_multiple_of(2);
        if !agreed
            || odd
            || layout.width * layout.height == 0
            || layout.width.saturating_mul(layout.height) > MAX_PIXELS
        {
            let problem =
                format!("it takes up {}x{} {} where {mode} was agreed", got.width(), got.height(), got.pixel_format());
            return Err(SourceError::file(&path, problem, "ask for another mode by ?format=, width= and height="));
        }
        // A camera that knows no rates keeps its own.
        let interval = mode.interval.and_then(|(n, d)| device.set_frame_interval(Fract::new(n, d.max(1))).ok());
        let mode = Mode {
            width: got.width(),
            height: got.height(),
            interval: interval.map_or(mode.interval, |i| Some((i.numerator(), i.denominator()))),
            ..mode
        };
        let stream = device.into_stream().map_err(failed)?;
        fcntl_setfl(&stream, OFlags::RDWR | OFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
        Ok(Camera { path, stream, mode, layout, begun: None, skipped: 0, frame: Vec::new(), scratch: Vec::new() })
    }

    /// Waits for a frame and copies it: whether the driver says that it is whole; `None` where none came in time, or none
    /// after all.
    fn fetch(&mut self, until: Instant) -> Result<Option<bool>, SourceError> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) if !fds[0].revents().contains(PollFlags::IN) => return Err(gone(&self.path)),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(None),
            Err(error) => return Err(refusal(&self.path, &error.into())),
        }
        // Copied at once, so that the driver has its buffer back while the frame is decoded.
        let frame = &mut self.frame;
        let taken = self.stream.dequeue(|view| {
            frame.clear();
            frame.extend_from_slice(&view);
            Ok(!view.is_error())
        });
        match taken {
            Ok(whole) => Ok(Some(whole)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(refusal(&self.path, &error)),
        }
    }

    /// Nothing but `damaged` frames came in time.
    fn silent(&self, damaged: u64) -> SourceError {
        let problem = match damaged {
            0 => format!("no frame came in time ({})", self.mode),
            _ => format!("no whole frame came in time ({}; {damaged} damaged)", self.mode),
        };
        let remedy = "plug the camera in again, or ask for a smaller size or rate: the USB bus may be too slow for it";
        SourceError::file(&self.path, problem, remedy)
    }
}

impl Source for Camera {
    fn describe(&self) -> String {
        format!("camera: {}, {}", self.path, self.mode)
    }

    fn len_hint(&self) -> Option<u64> {
        None
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        let patience = if self.begun.is_none() { FIRST_PATIENCE } else { PATIENCE };
        // Slow cameras are given three of their frames' time.
        let slow = self.mode.rate().map_or(0.0, |rate| (3.0 / rate).min(SLOWEST.as_secs_f64()));
        let until = Instant::now() + patience.max(Duration::from_secs_f64(slow));
        let damaged_before = self.skipped;
        loop {
            let fetched = self.fetch(until)?;
            let arrived = Instant::now();
            if let Some(whole) = fetched {
                if whole && self.layout.read(&self.frame, &mut self.scratch, record) {
                    let begun = *self.begun.get_or_insert(arrived);
                    record.time = Micros((arrived - begun).as_micros() as u64);
                    (record.segment, record.group, record.label) = (0, 0, None);
                    return Ok(true);
                }
                self.skipped += 1;
            }
            if arrived >= until {
                return Err(self.silent(self.skipped - damaged_before));
            }
        }
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        Err(SourceError::CannotRewind(format!("camera:{}", self.path)))
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// A camera that is there, and how it would be read.
struct Found {
    path: String,
    device: Device,
    modes: Vec<Mode>,
    mode: Mode,
}

fn find(uri: &Uri) -> Result<Found, SourceError> {
    let path = match uri.paths[0].parse::<u32>() {
        Ok(number) => format!("/dev/video{number}"),
        Err(_) => uri.paths[0].clone(),
    };
    let failed = |error: std::io::Error| refusal(&path, &error);
    let device = Device::open(&path).map_err(failed)?;
    let capabilities = device.capabilities().map_err(failed)?.device_capabilities();
    if !capabilities.contains(CapabilityFlags::VIDEO_CAPTURE | CapabilityFlags::STREAMING) {
        let remedy = format!("name another device ({}); read a camera on the board's ribbon by a pipe", others(&path));
        return Err(SourceError::file(&path, "the device gives no frames", remedy));
    }
    let wanted = wanted(uri);
    let modes = modes(&device, &wanted);
    match mode::choose(&modes, &wanted) {
        Some(mode) => Ok(Found { path, device, modes, mode }),
        None => Err(no_format(&path, &device, &modes)),
    }
}

/// How the camera that `uri` names would be read, and all that it has. Its stream is not started.
///
/// # Errors
/// As [`Camera::open`].
pub fn look(uri: &Uri) -> Result<String, SourceError> {
    let Found { path, modes, mode, .. } = find(uri)?;
    Ok(format!("{path} answers and is read as {mode}; it has {}", mode::list(&modes)))
}

fn wanted(uri: &Uri) -> Wanted {
    let q = &uri.query;
    Wanted {
        pixels: q.format.and_then(|format| match format {
            Format::Yuyv => Some(Pixels::Yuyv),
            Format::Mjpeg => Some(Pixels::Mjpeg),
            Format::Gray8 => Some(Pixels::Grey),
            Format::Rgb24 | Format::S16le => None,
        }),
        width: q.width.map(|w| w as u32),
        height: q.height.map(|h| h as u32),
        rate: q.rate,
    }
}

/// The modes of the formats that are read. Of sizes and rates between bounds it is the one nearest to what is wanted.
fn modes(device: &Device, wanted: &Wanted) -> Vec<Mode> {
    let offered: Vec<_> = codes(device);
    let mut modes = Vec::new();
    for pixels in Pixels::ALL.into_iter().filter(|p| offered.contains(&p.code())) {
        let code = PixelFormat::from_fourcc(pixels.code());
        let sizes = match device.frame_sizes(code) {
            Ok(FrameSizes::Discrete(sizes)) => sizes.iter().map(|s| (s.width(), s.height())).collect(),
            Ok(FrameSizes::Stepwise(s) | FrameSizes::Continuous(s)) => {
                let width = (s.min_width(), s.max_width(), s.step_width());
                vec![mode::fit(wanted, width, (s.min_height(), s.max_height(), s.step_height()))]
            }
            // The driver cannot say. It will take up the nearest size that it has.
            Err(_) => vec![mode::fit(wanted, (1, 1 << 16, 2), (1, 1 << 16, 2))],
        };
        for (width, height) in sizes {
            let intervals = match device.frame_intervals(code, width, height) {
                Ok(FrameIntervals::Discrete(list)) => {
                    list.iter().map(|i| Some((i.fract().numerator(), i.fract().denominator()))).collect()
                }
                Ok(FrameIntervals::Stepwise(_) | FrameIntervals::Continuous(_)) => {
                    vec![Some((1000, (1000.0 * wanted.rate()).clamp(1.0, 1e9) as u32))]
                }
                Err(_) => vec![None],
            };
            modes.extend(intervals.into_iter().map(|interval| Mode { pixels, width, height, interval }));
        }
    }
    modes
}

/// The four-character codes of all formats that the camera has.
fn codes(device: &Device) -> Vec<[u8; 4]> {
    let formats = device.formats(BufType::VIDEO_CAPTURE).map_while(Result::ok);
    formats.map(|format| format.pixel_format().as_fourcc()).collect()
}

fn no_format(path: &str, device: &Device, modes: &[Mode]) -> SourceError {
    if !modes.is_empty() {
        let remedy = format!("leave format= out, or name one of {}", mode::list(modes));
        return SourceError::file(path, "the camera does not have the format that is asked for", remedy);
    }
    let names: Vec<_> = codes(device).iter().map(|code| code.escape_ascii().to_string()).collect();
    let problem = format!("the camera has none of YUYV, MJPEG and grey, only {}", names.join(", "));
    SourceError::file(path, problem, "use a pipe from a program that reads it, as rpicam-vid or ffmpeg")
}

/// What the system's error means, and what to do about it.
fn refusal(path: &str, error: &std::io::Error) -> SourceError {
    let (problem, remedy) = match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => return gone(path),
        Some(Errno::ACCESS | Errno::PERM) => (
            "no permission".to_owned(),
            "add the user to the group video (`sudo usermod -aG video USER`) and log in again".to_owned(),
        ),
        Some(Errno::BUSY) => {
            ("another program uses the camera".to_owned(), format!("end it; `fuser -v {path}` says which one it is"))
        }
        Some(Errno::NOTTY | Errno::INVAL) => {
            (format!("this is no camera ({error})"), format!("name another device ({})", others(path)))
        }
        _ => (error.to_string(), "plug the camera in again; `dmesg` says what its driver met".to_owned()),
    };
    SourceError::file(path, problem, remedy)
}

fn gone(path: &str) -> SourceError {
    SourceError::file(
        path,
        "there is no such camera, or not any more",
        format!("plug it in, or name another device; {}", others(path)),
    )
}

/// The other devices that there are, for messages.
fn others(path: &str) -> String {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.path().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("/dev/video") && name != path).collect();
    names.sort();
    if names.is_empty() { "there is none now".to_owned() } else { format!("there is {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(uri: &str) -> String {
        let uri: Uri = uri.parse().expect("a URI");
        Camera::open(&uri).err().expect("no camera").to_string()
    }

    #[test]
    fn what_is_no_camera_is_refused_with_its_name_and_a_remedy() {
        let missing = refused("camera:987654");
        assert!(missing.contains("/dev/video987654: there is no such camera") && missing.contains("what to do"));
        assert!(refused("camera:/dev/null").contains("/dev/null: this is no camera"));
    }

    #[test]
    fn refusals_say_who_may_and_who_does() {
        let said = |errno: Errno| refusal("/dev/video0", &errno.into()).to_string();
        assert!(said(Errno::ACCESS).contains("group video"));
        assert!(said(Errno::BUSY).contains("fuser -v /dev/video0"));
        assert!(said(Errno::NODEV).contains("plug it in"));
        assert!(said(Errno::IO).contains("dmesg"));
    }
}
