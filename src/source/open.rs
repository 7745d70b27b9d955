//! From URIs to a source: the one place that knows every scheme.

use super::chain::Chain;
use super::fault::FaultSource;
use super::images::Images;
use super::link::LinkFile;
use super::mjpeg::Mjpeg;
use super::npy::Npy;
use super::npy_images::NpyImages;
use super::npy_rows::NpyRowSamples;
use super::order::Ordered;
use super::pipe::Pipe;
use super::sim::{LogSource, RoverSource, WorldConfig};
use super::sound_pipe::SoundPipe;
use super::tub::TubImages;
use super::uri::{Format, Scheme, Sensor, Uri};
use super::{Indexed, Source, SourceError, child, signal_csv, signal_npy, sound, tokens};
use crate::sample::Seed;
use std::fs::File;

/// What the caller, not the URI, decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Seed of `?order=shuffled` where the URI gives none.
    pub seed: u64,
}

/// Opens the sources that `uris` name; several follow one another.
///
/// # Errors
/// A URI that cannot be parsed, a file that is not what it should be, no URI at all.
pub fn open(uris: &[String], options: &OpenOptions) -> Result<Box<dyn Source>, SourceError> {
    let parsed = uris.iter().map(|uri| uri.parse::<Uri>()).collect::<Result<Vec<_>, _>>()?;
    let mut sources = parsed.iter().map(|uri| open_one(uri, options)).collect::<Result<Vec<_>, _>>()?;
    match sources.len() {
        0 => Err(SourceError::uri("", "no source is given", "give at least one --source URI, for example sim:rover")),
        1 => Ok(sources.remove(0)),
        _ => Ok(Box::new(Chain::new(sources))),
    }
}

fn open_one(uri: &Uri, options: &OpenOptions) -> Result<Box<dyn Source>, SourceError> {
    let source = open_whole(uri, options)?;
    let Some(rates) = uri.query.fault else { return Ok(source) };
    let seed = Seed(uri.query.fault_seed.unwrap_or(options.seed));
    Ok(Box::new(FaultSource::new(source, rates, seed)))
}

fn open_whole(uri: &Uri, options: &OpenOptions) -> Result<Box<dyn Source>, SourceError> {
    match uri.scheme {
        Scheme::Pipe => match uri.paths[0].as_str() {
            "-" => pipe(std::io::stdin(), uri),
            path => pipe(File::open(path).map_err(|e| SourceError::io(path, e))?, uri),
        },
        Scheme::Sim => {
            let q = &uri.query;
            let seed = q.seed.unwrap_or(options.seed);
            if uri.paths[0] == "log" {
                let window = q.window.unwrap_or(64);
                let (form, stride) = (q.form.unwrap_or_default(), q.stride.unwrap_or(window.div_ceil(2)));
                return Ok(Box::new(LogSource::new(seed, q.samples, form, window, stride)?));
            }
            let config = WorldConfig::with_seed(seed);
            Ok(Box::new(match q.sensor.unwrap_or_default() {
                Sensor::Camera => {
                    let (height, width) = (q.height.unwrap_or(48), q.width.unwrap_or(64));
                    let source = RoverSource::camera(&config, q.samples, height, width)?;
                    if q.beside_imu { source.with_imu_beside() } else { source }
                }
                Sensor::Imu => {
                    let window = q.window.unwrap_or(128);
                    RoverSource::imu(&config, q.samples, window, q.stride.unwrap_or(window / 2))?
                }
            }))
        }
        #[cfg(all(feature = "camera", target_pointer_width = "64"))]
        Scheme::Camera => Ok(Box::new(super::camera::Camera::open(uri)?)),
        #[cfg(not(all(feature = "camera", target_pointer_width = "64")))]
        Scheme::Camera => Err(SourceError::uri(
            &uri.text,
            "this program was built without cameras",
            if cfg!(target_pointer_width = "64") {
                "build it with `cargo build --release --features camera`"
            } else {
                "what speaks to cameras does not build for 32 bits: read it by a pipe or by rpicam:"
            },
        )),
        Scheme::Rpicam => Ok(Box::new(child::rpicam(uri)?)),
        Scheme::Alsa => Ok(Box::new(child::alsa(uri)?)),
        #[cfg(feature = "sensors")]
        Scheme::Imu | Scheme::Tof | Scheme::Adc | Scheme::Iio => super::sensor::open(uri),
        #[cfg(not(feature = "sensors"))]
        Scheme::Imu | Scheme::Tof | Scheme::Adc | Scheme::Iio => Err(SourceError::uri(
            &uri.text,
            "this program was built without sensors",
            "build it with `cargo build --release --features sensors`",
        )),
        #[cfg(feature = "zenoh")]
        Scheme::Zenoh => Ok(Box::new(super::zenoh::Topic::open(uri)?)),
        #[cfg(not(feature = "zenoh"))]
        Scheme::Zenoh => Err(SourceError::uri(
            &uri.text,
            "this program was built without zenoh",
            "build it with `cargo build --release --features zenoh`",
        )),
        Scheme::Link => Ok(Box::new(LinkFile::open(&uri.paths[0])?)),
        #[cfg(feature = "serial")]
        Scheme::Serial => Ok(Box::new(super::link::Live::new(attach(uri)?)?)),
        #[cfg(not(feature = "serial"))]
        Scheme::Serial => Err(SourceError::uri(
            &uri.text,
            "this program was built without serial ports",
            "build it with `cargo build --release --features serial`",
        )),
        #[cfg(feature = "mcap")]
        Scheme::Mcap => Ok(Box::new(super::mcap::McapSource::open(uri)?)),
        #[cfg(not(feature = "mcap"))]
        Scheme::Mcap => Err(SourceError::uri(
            &uri.text,
            "this program was built without MCAP files",
            "build it with `cargo build --release --features mcap`",
        )),
        Scheme::Npy
        | Scheme::Csv
        | Scheme::Tokens
        | Scheme::Mjpeg
        | Scheme::Tub
        | Scheme::Images
        | Scheme::Pcm
        | Scheme::Wav => {
            let inner = open_indexed(uri)?;
            let path = &uri.paths[0];
            let ordered = Ordered::from_query(inner, &uri.query, options.seed);
            if ordered.len_hint() == Some(0) {
                return Err(SourceError::uri(
                    &uri.text,
                    format!("the range holds none of the samples of {path}"),
                    "widen range=",
                ));
            }
            Ok(Box::new(ordered))
        }
    }
}

fn pipe(input: impl std::io::Read + Send + 'static, uri: &Uri) -> Result<Box<dyn Source>, SourceError> {
    match uri.query.format {
        Some(Format::S16le) => Ok(Box::new(SoundPipe::new(input, uri)?)),
        _ => Ok(Box::new(Pipe::new(input, uri)?)),
    }
}

/// The board that a `serial:` URI names.
///
/// # Errors
/// As [`super::link::attach_serial`].
#[cfg(feature = "serial")]
pub fn attach(uri: &Uri) -> Result<super::link::Board<serial2::SerialPort>, SourceError> {
    super::link::attach_serial(&uri.paths[0], uri.query.baud.unwrap_or(115_200))
}

/// Opens a data set with random access: `npy:`, `csv:`, `tokens:`, `mjpeg:`, `tub:`, `images:`, `pcm:` and `wav:`. `order`,
/// `range` and `fault` are not applied.
///
/// # Errors
/// As [`open`]; other schemes have no random access.
pub fn open_indexed(uri: &Uri) -> Result<Box<dyn Indexed>, SourceError> {
    match uri.scheme {
        Scheme::Npy => {
            let npy = Npy::open(&uri.paths[0])?;
            if uri.query.each_row {
                return Ok(Box::new(NpyRowSamples::new(npy, uri)?));
            }
            let images = npy.shape.len() == 4 || (npy.shape.len() == 3 && npy.byte);
            if images { Ok(Box::new(NpyImages::new(npy, uri)?)) } else { Ok(Box::new(signal_npy::open(npy, uri)?)) }
        }
        Scheme::Csv => Ok(Box::new(signal_csv::open(uri)?)),
        Scheme::Tokens => Ok(Box::new(tokens::open(uri)?)),
        Scheme::Mjpeg => Ok(Box::new(Mjpeg::open(uri)?)),
        Scheme::Tub => Ok(Box::new(TubImages::open(uri)?)),
        Scheme::Images => Ok(Box::new(Images::open(&uri.paths[0])?)),
        Scheme::Pcm => Ok(Box::new(sound::open_pcm(uri)?)),
        Scheme::Wav => Ok(Box::new(sound::open_wav(uri)?)),
        Scheme::Pipe
        | Scheme::Camera
        | Scheme::Rpicam
        | Scheme::Alsa
        | Scheme::Sim
        | Scheme::Mcap
        | Scheme::Link
        | Scheme::Zenoh
        | Scheme::Serial
        | Scheme::Imu
        | Scheme::Tof
        | Scheme::Adc
        | Scheme::Iio => Err(SourceError::uri(
            &uri.text,
            "a stream cannot be read at any place",
            "give npy:, csv:, tokens:, mjpeg:, tub:, images:, pcm: or wav:",
        )),
    }
}
