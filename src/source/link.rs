//! Boards as sources: `link:FILE`, a recorded stream of the link's frames, and [`Board`], one that is there now (on
//! `serial:PORT`, or in an emulator), to which the host can also speak.
//!
//! A recording plays the samples that the board's learner took in, in their order; with the model and the options of its
//! `Hello` the host learns the same bits. What went missing is counted and said.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};

use super::{Record, Source, SourceError};
use crate::image::decode_spec;
use crate::link::{self, Bytes, Decoder, Hello, RawSample, Shape, StateHash, ToDevice, ToHost};
use crate::net::spec::Spec;
use crate::sample::{Micros, Seed};

/// A longer frame is taken for garbage.
const MOST_FRAME: usize = 8 << 20;
const REMEDY: &str = "record it with `nestling record --source serial:PORT --out FILE.link`";

/// What a board said of its learner.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    pub board: String,
    pub firmware: String,
    pub kernels: String,
    pub memory: link::Memory,
    pub spec: Spec,
    pub seed: Seed,
    pub expected_samples: Option<u64>,
    /// Samples that it had taken in before the first one of this source.
    pub first: u64,
    /// Hashes of its state that a recording holds.
    pub hashes: Vec<StateHash>,
    /// Samples that it took in and that are not in the recording.
    pub missing: u64,
}

impl DeviceInfo {
    fn of(name: &str, hello: &Hello) -> Result<Self, SourceError> {
        let ours = link::PROTOCOL;
        if hello.protocol != ours {
            let problem = format!("the board speaks protocol {} and this program {ours}", hello.protocol);
            return Err(SourceError::file(name, problem, "build both from the same version of nestling"));
        }
        let spec = decode_spec(hello.spec.0).map_err(|_| {
            let problem = "the board's model cannot be read";
            SourceError::file(name, problem, "build firmware and program from the same version of nestling")
        })?;
        Ok(DeviceInfo {
            board: hello.board.into(),
            firmware: hello.firmware.into(),
            kernels: hello.kernels.into(),
            memory: hello.memory,
            spec,
            seed: Seed(hello.seed),
            expected_samples: hello.expected_samples,
            first: hello.samples,
            hashes: Vec::new(),
            missing: 0,
        })
    }
}

/// Frames of a byte stream.
struct Frames<R> {
    input: R,
    buffer: Box<[u8]>,
    /// The part of `buffer` that was read and not yet decoded.
    unread: std::ops::Range<usize>,
    decoder: Decoder<Vec<u8>>,
}

impl<R: Read> Frames<R> {
    fn new(input: R) -> Self {
        let buffer = vec![0; 1 << 14].into_boxed_slice();
        Frames { input, buffer, unread: 0..0, decoder: Decoder::new(vec![0; MOST_FRAME]) }
    }

    /// Reads on to the end of the next whole frame; `false` at the end of the stream.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            for at in self.unread.by_ref() {
                if self.decoder.push(self.buffer[at]) {
                    return Ok(true);
                }
            }
            match self.input.read(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => self.unread = 0..n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The message in that frame, if it is one.
    fn message(&mut self) -> Option<ToHost<'_>> {
        self.decoder.message()
    }
}

/// Copies a raw sample into `record`; `false` where its shape and its values disagree.
fn fill(record: &mut Record, raw: &RawSample) -> bool {
    let RawSample { time, segment, shape, values: Bytes(values), .. } = *raw;
    let product = |parts: &[u32]| parts.iter().try_fold(1usize, |product, &n| product.checked_mul(n as usize));
    match shape {
        Shape::Image { height, width, channels } => {
            if product(&[height, width, channels]) != Some(values.len()) {
                return false;
            }
            record.image_mut(height as usize, width as usize, channels as usize).copy_from_slice(values);
        }
        Shape::Window { length, channels } => {
            if product(&[length, channels, 2]) != Some(values.len()) {
                return false;
            }
            let readings = record.window_mut(length as usize, channels as usize);
            let pairs = values.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
            readings.iter_mut().zip(pairs).for_each(|(reading, value)| *reading = value);
        }
    }
    (record.time, record.segment, record.group, record.label) = (Micros(time), segment, segment, None);
    true
}

/// A recording.
pub struct LinkFile {
    path: String,
    frames: Frames<File>,
    device: DeviceInfo,
    samples: u64,
    skipped: u64,
}

impl LinkFile {
    /// Reads the recording through once, for what the board said and for what is missing.
    ///
    /// # Errors
    /// [`SourceError`]: a file that cannot be read, without `Hello`, of another protocol, or without samples.
    pub fn open(path: &str) -> Result<Self, SourceError> {
        let io = |e| SourceError::io(path, e);
        let mut frames = Frames::new(File::open(path).map_err(io)?);
        let mut device: Option<DeviceInfo> = None;
        let (mut hashes, mut samples, mut next) = (Vec::new(), 0, None::<u64>);
        while frames.advance().map_err(io)? {
            match frames.message() {
                Some(ToHost::Hello(hello)) => {
                    let said = DeviceInfo::of(path, &hello)?;
                    if device.is_some() && samples > 0 {
                        let problem = format!("the board started anew after {samples} samples");
                        return Err(SourceError::file(path, problem, "record again, from one start to the end"));
                    }
                    device = Some(said);
                }
                Some(ToHost::Sample(raw)) => {
                    let Some(device) = &mut device else { continue };
                    let due = next.unwrap_or(device.first);
                    if raw.number < due {
                        let problem = format!("sample {} comes after sample {}", raw.number, due.saturating_sub(1));
                        return Err(SourceError::file(path, problem, "record again, from one start to the end"));
                    }
                    device.missing += raw.number - due;
                    next = Some(raw.number.saturating_add(1));
                    samples += 1;
                }
                Some(ToHost::Hash(hash)) => hashes.push(hash),
                _ => {}
            }
        }
        let skipped = u64::from(frames.decoder.dropped());
        let Some(mut device) = device else {
            return Err(SourceError::file(path, "no Hello of a board is in it", REMEDY));
        };
        if samples == 0 {
            return Err(SourceError::file(path, "no sample is in it", REMEDY));
        }
        device.hashes = hashes;
        let mut file = LinkFile { path: path.into(), frames, device, samples, skipped };
        file.rewind()?;
        Ok(file)
    }
}

impl Source for LinkFile {
    fn describe(&self) -> String {
        format!("link: {}, {} samples of board {}", self.path, self.samples, self.device.board)
    }

    fn len_hint(&self) -> Option<u64> {
        Some(self.samples)
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        while self.frames.advance().map_err(|e| SourceError::io(&self.path, e))? {
            let Some(ToHost::Sample(raw)) = self.frames.message() else { continue };
            if fill(record, &raw) {
                return Ok(true);
            }
            self.skipped += 1;
        }
        Ok(false)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        let mut file = self.frames.input.try_clone().map_err(|e| SourceError::io(&self.path, e))?;
        file.rewind().map_err(|e| SourceError::io(&self.path, e))?;
        self.frames = Frames::new(file);
        Ok(())
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn device(&self) -> Option<&DeviceInfo> {
        Some(&self.device)
    }
}

/// A board that is there now, over a port that gives up waiting after a while ([`ErrorKind::TimedOut`]).
pub struct Board<P: Read + Write> {
    name: String,
    frames: Frames<P>,
    device: DeviceInfo,
}

impl<P: Read + Write> Board<P> {
    /// Asks the board on `port` who it is; `name` is the port's in messages.
    ///
    /// # Errors
    /// [`SourceError`] where nothing that speaks this protocol answers.
    pub fn attach(port: P, name: &str) -> Result<Self, SourceError> {
        let mut frames = Frames::new(port);
        // A zero ends whatever the board has received of a frame so far.
        let asked = frames.input.write_all(&[0]).and_then(|()| write(&mut frames.input, &ToDevice::Hello));
        asked.map_err(|e| SourceError::io(name, e))?;
        let silent = |problem: &str| {
            let remedy = "flash the board with `nestling flash`, check the cable and ?baud=, close other programs on \
                          this port, and reset the board";
            SourceError::file(name, problem, remedy)
        };
        loop {
            match frames.advance() {
                Ok(true) => {}
                Ok(false) => return Err(silent("the board hung up")),
                Err(e) if is_timeout(&e) => {
                    let noise = frames.decoder.dropped();
                    return Err(silent(&format!("no board says Hello; {noise} damaged frames came")));
                }
                Err(e) => return Err(SourceError::io(name, e)),
            }
            if let Some(ToHost::Hello(hello)) = frames.message() {
                let device = DeviceInfo::of(name, &hello)?;
                return Ok(Board { name: name.into(), frames, device });
            }
        }
    }

    pub fn device(&self) -> &DeviceInfo {
        &self.device
    }

    /// Frames that arrived damaged.
    pub fn dropped(&self) -> u32 {
        self.frames.decoder.dropped()
    }

    /// Says `message` to the board.
    ///
    /// # Errors
    /// [`SourceError::Io`].
    pub fn say(&mut self, message: &ToDevice) -> Result<(), SourceError> {
        write(&mut self.frames.input, message).map_err(|e| SourceError::io(&self.name, e))
    }

    /// Waits for what the board says next; `None` where it hung up. A frame that is no message is passed over.
    ///
    /// # Errors
    /// [`SourceError`], also where the board says nothing until the port's timeout.
    pub fn hear(&mut self) -> Result<Option<ToHost<'_>>, SourceError> {
        match self.frames.advance() {
            Ok(true) => Ok(self.frames.message().or(Some(ToHost::Log("a message of another version")))),
            Ok(false) => Ok(None),
            Err(e) if is_timeout(&e) => Err(SourceError::file(
                &self.name,
                "the board says nothing any more",
                "reset it; where its input is the link, it waits for samples: use `nestling flash --source`",
            )),
            Err(e) => Err(SourceError::io(&self.name, e)),
        }
    }

    /// The bytes of the message heard last, for a recording.
    pub fn heard(&self) -> &[u8] {
        self.frames.decoder.frame()
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn write(port: &mut impl Write, message: &ToDevice) -> io::Result<()> {
    // One write a frame: a USB packet holds a whole short one.
    let mut bytes = Vec::new();
    let sent: Result<(), std::convert::Infallible> = link::send(message, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    let Ok(()) = sent;
    port.write_all(&bytes).and_then(|()| port.flush())
}

/// The samples of a board's own sensor, as they come.
pub struct Live<P: Read + Write> {
    board: Board<P>,
    skipped: u64,
}

impl<P: Read + Write> Live<P> {
    /// Asks `board` for what its learner takes in from now on.
    ///
    /// # Errors
    /// [`SourceError::Io`].
    pub fn new(mut board: Board<P>) -> Result<Self, SourceError> {
        board.say(&ToDevice::Record(true))?;
        Ok(Live { board, skipped: 0 })
    }
}

impl<P: Read + Write + Send> Source for Live<P> {
    fn describe(&self) -> String {
        format!("serial: {}, board {}", self.board.name, self.board.device.board)
    }

    fn len_hint(&self) -> Option<u64> {
        None
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        loop {
            match self.board.hear()? {
                Some(ToHost::Sample(raw)) => {
                    if fill(record, &raw) {
                        return Ok(true);
                    }
                    self.skipped += 1;
                }
                Some(ToHost::Log(line)) => eprintln!("the board says: {line}"),
                Some(_) => {}
                None => return Ok(false),
            }
        }
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        Err(SourceError::CannotRewind(self.describe()))
    }

    fn skipped(&self) -> u64 {
        self.skipped + u64::from(self.board.dropped())
    }

    fn device(&self) -> Option<&DeviceInfo> {
        Some(&self.board.device)
    }
}

impl<P: Read + Write> Drop for Live<P> {
    fn drop(&mut self) {
        // Where the port is gone the board has nobody to send to anyway.
        let _ = self.board.say(&ToDevice::Record(false));
    }
}

/// The board on a serial port.
///
/// # Errors
/// As [`Board::attach`], or where the port cannot be opened.
#[cfg(feature = "serial")]
pub fn attach_serial(path: &str, baud: u32) -> Result<Board<serial2::SerialPort>, SourceError> {
    /// A board that says nothing for as long is taken for dead.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
    let opened = serial2::SerialPort::open(path, baud).and_then(|mut port| {
        port.set_read_timeout(PATIENCE)?;
        port.set_write_timeout(PATIENCE)?;
        // A board on USB takes this for the sign that a program listens.
        port.set_dtr(true)?;
        port.discard_buffers()?;
        Ok(port)
    });
    let port = opened.map_err(|e| {
        let ports = serial2::SerialPort::available_ports().unwrap_or_default();
        let names: Vec<_> = ports.iter().map(|port| port.display().to_string()).collect();
        let there = if names.is_empty() { "there is none".into() } else { format!("there are {}", names.join(", ")) };
        SourceError::file(path, e.to_string(), format!("name a serial port that you may use; {there}"))
    })?;
    Board::attach(port, path)
}

#[cfg(test)]
mod tests;
