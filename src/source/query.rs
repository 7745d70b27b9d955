//! The queries of a source URI, typed: what `?key=value` may say, whatever the scheme. [`super::uri`] decides which scheme knows which.

use super::SourceError;
use super::fault::{Fault, Rates};
use super::sim::LogForm;
use std::ops::RangeInclusive;

/// Order in which an indexed source is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Given,
    Shuffled,
    ByLabel,
}

/// What `?range=` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RangeOf {
    #[default]
    Samples,
    Groups,
}

/// How the numbers of a label column are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    Class,
    Value,
}

/// What arrives on a pipe or from a camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Mjpeg,
    Rgb24,
    Gray8,
    Yuyv,
    /// Sound.
    S16le,
}

/// What the messages of a topic are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Message {
    #[default]
    Image,
    Compressed,
    Imu,
}

/// Which of the simulated rover's sensors is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sensor {
    #[default]
    Camera,
    Imu,
}

/// Whether readings are taken from a sensor's own store of them, or one by one by a timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fifo {
    /// By the store, where there is one that fills.
    #[default]
    Auto,
    On,
    Off,
}

/// What becomes of a reading that is missing: a NaN, an infinity, or the number that `missing=` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nan {
    /// The source is refused.
    #[default]
    Error,
    /// The window that holds it is passed over.
    Skip,
    /// It takes the value of the reading before it in its channel, or of the first that there is.
    Hold,
}

/// How a token source is cut into samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    #[default]
    Window,
    Line,
}

/// The queries of a URI. Every field is what was written, `None` where nothing was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Topic of a recording.
    pub topic: Option<String>,
    pub label: Option<String>,
    pub labels: Option<Labels>,
    pub group: Option<String>,
    pub order: Option<Order>,
    pub seed: Option<u64>,
    /// Fraction of the samples (or groups) in given order, `start..end` within `0..1`.
    pub range: Option<(f64, f64)>,
    pub range_of: Option<RangeOf>,
    /// Labels are averaged over this many rows on either side.
    pub smooth: Option<usize>,
    pub window: Option<usize>,
    pub stride: Option<usize>,
    /// Samples (rows, frames) a second.
    pub rate: Option<f64>,
    pub segments: Option<String>,
    /// What the parts of file names are called, as in `label_speaker_take`.
    pub name: Option<String>,
    pub channels: Option<Vec<String>>,
    /// Column whose cells are event codes, or with `by=line` texts.
    pub column: Option<String>,
    /// CSV file whose column gives the event codes their numbers.
    pub vocabulary: Option<String>,
    pub by: Option<By>,
    pub nan: Nan,
    /// The number that stands for a missing reading.
    pub missing: Option<f64>,
    /// Every row of a NumPy file is a sample.
    pub each_row: bool,
    /// Rows that make a sample.
    pub stack: Option<usize>,
    /// NumPy file with the time of every sample.
    pub times: Option<String>,
    /// Columns that are summed to a label, with their signs.
    pub combine: Option<Vec<(usize, f64)>>,
    /// The label is its change since so many rows before.
    pub diff: Option<usize>,
    pub format: Option<Format>,
    pub width: Option<usize>,
    pub height: Option<usize>,
    pub samples: Option<u64>,
    /// Bits a second of a serial port.
    pub baud: Option<u32>,
    /// Of a ROS 2 graph: what a topic's messages are, its domain, and the router.
    pub message: Option<Message>,
    pub domain: Option<u32>,
    pub connect: Option<String>,
    pub sensor: Option<Sensor>,
    pub fifo: Option<Fifo>,
    pub form: Option<LogForm>,
    /// Faults on purpose, and the seed that they are drawn from.
    pub fault: Option<Rates>,
    pub fault_seed: Option<u64>,
    /// The simulated camera's frames come with what the IMU says.
    pub beside_imu: bool,
}

impl Query {
    pub(super) fn set(&mut self, uri: &str, key: &str, value: String) -> Result<(), SourceError> {
        let choice = |names: &[&str]| {
            names.iter().position(|n| *n == value).ok_or_else(|| {
                SourceError::uri(
                    uri,
                    format!("{key}={value} is not known"),
                    format!("{key} is one of {}", names.join(", ")),
                )
            })
        };
        let number = |range: RangeInclusive<u64>| match value.parse::<u64>() {
            Ok(n) if range.contains(&n) => Ok(n),
            _ => Err(SourceError::uri(
                uri,
                format!("{key}={value} is not a whole number from {} to {}", range.start(), range.end()),
                format!("write for example {key}={}", (*range.start()).max(1)),
            )),
        };
        match key {
            "topic" => self.topic = Some(value),
            "label" => self.label = Some(value),
            "group" => self.group = Some(value),
            "column" => self.column = Some(value),
            "vocabulary" => self.vocabulary = Some(value),
            "by" => self.by = Some([By::Window, By::Line][choice(&["window", "line"])?]),
            "segments" => self.segments = Some(value),
            "name" => self.name = Some(value),
            "channels" => self.channels = Some(value.split(',').map(str::to_owned).collect()),
            "labels" => self.labels = Some([Labels::Class, Labels::Value][choice(&["class", "value"])?]),
            "order" => {
                let orders = [Order::Given, Order::Shuffled, Order::ByLabel];
                self.order = Some(orders[choice(&["given", "shuffled", "by-label"])?]);
            }
            "range_of" => self.range_of = Some([RangeOf::Samples, RangeOf::Groups][choice(&["samples", "groups"])?]),
            "nan" => self.nan = [Nan::Error, Nan::Skip, Nan::Hold][choice(&["error", "skip", "hold"])?],
            "missing" => match value.parse::<f64>() {
                Ok(number) if number.is_finite() => self.missing = Some(number),
                _ => {
                    let problem = format!("missing={value} is not a number");
                    return Err(SourceError::uri(uri, problem, "write for example missing=0"));
                }
            },
            "each" => self.each_row = choice(&["row"])? == 0,
            "stack" => self.stack = Some(number(1..=64)? as usize),
            "times" => self.times = Some(value),
            "combine" => self.combine = Some(terms(uri, &value)?),
            "diff" => self.diff = Some(number(1..=1 << 20)? as usize),
            "format" => {
                let formats = [Format::Mjpeg, Format::Rgb24, Format::Gray8, Format::Yuyv, Format::S16le];
                self.format = Some(formats[choice(&["mjpeg", "rgb24", "gray8", "yuyv", "s16le"])?]);
            }
            "sensor" => self.sensor = Some([Sensor::Camera, Sensor::Imu][choice(&["camera", "imu"])?]),
            "fifo" => self.fifo = Some([Fifo::Auto, Fifo::On, Fifo::Off][choice(&["auto", "on", "off"])?]),
            "type" => {
                let messages = [Message::Image, Message::Compressed, Message::Imu];
                self.message = Some(messages[choice(&["image", "compressed", "imu"])?]);
            }
            "domain" => self.domain = Some(number(0..=232)? as u32),
            "connect" => self.connect = Some(value),
            "beside" => self.beside_imu = choice(&["imu"])? == 0,
            "form" => self.form = Some([LogForm::Codes, LogForm::Text][choice(&["codes", "text"])?]),
            "fault" => {
                self.fault = Some(Rates::parse(&value).map_err(|problem| {
                    let names = Fault::ALL.map(Fault::name).join(", ");
                    let remedy = format!("write for example fault=drop:0.01,corrupt:0.001; there are {names}");
                    SourceError::uri(uri, format!("fault={value}: {problem}"), remedy)
                })?);
            }
            "fault_seed" => self.fault_seed = Some(number(0..=u64::MAX)?),
            "seed" => self.seed = Some(number(0..=u64::MAX)?),
            "samples" => self.samples = Some(number(1..=u64::MAX)?),
            "baud" => self.baud = Some(number(1..=100_000_000)? as u32),
            "smooth" => self.smooth = Some(number(0..=10_000)? as usize),
            "window" => self.window = Some(number(1..=1 << 20)? as usize),
            "stride" => self.stride = Some(number(1..=1 << 30)? as usize),
            "width" => self.width = Some(number(1..=1 << 16)? as usize),
            "height" => self.height = Some(number(1..=1 << 16)? as usize),
            "rate" => match value.parse::<f64>() {
                Ok(rate) if (1e-6..=1e6).contains(&rate) => self.rate = Some(rate),
                _ => {
                    let problem = format!("rate={value} is not a number of samples a second from 1e-6 to 1e6");
                    return Err(SourceError::uri(uri, problem, "write for example rate=50"));
                }
            },
            "range" => self.range = Some(fractions(uri, &value)?),
            _ => unreachable!("the scheme's list of queries was checked"),
        }
        Ok(())
    }
}

/// `1-0+2`: columns with their signs.
fn terms(uri: &str, value: &str) -> Result<Vec<(usize, f64)>, SourceError> {
    let parts = value.split_inclusive(|c: char| c.is_ascii_digit());
    let mut terms: Vec<(String, f64)> = Vec::new();
    for part in parts {
        match (part.strip_prefix('+'), part.strip_prefix('-'), terms.last_mut()) {
            (Some(digit), ..) => terms.push((digit.to_owned(), 1.0)),
            (_, Some(digit), _) => terms.push((digit.to_owned(), -1.0)),
            (.., None) => terms.push((part.to_owned(), 1.0)),
            (.., Some((digits, _))) => digits.push_str(part),
        }
    }
    let parsed = terms.iter().map(|(digits, sign)| Some((digits.parse::<usize>().ok()?, *sign))).collect();
    let parsed: Option<Vec<_>> = parsed;
    parsed.filter(|terms| !terms.is_empty()).ok_or_else(|| {
        let problem = format!("combine={value} is no sum of columns");
        SourceError::uri(uri, problem, "write the columns' numbers with their signs, for example combine=1-0")
    })
}

fn fractions(uri: &str, value: &str) -> Result<(f64, f64), SourceError> {
    let parse = |text: &str, default: f64| if text.is_empty() { Ok(default) } else { text.parse::<f64>() };
    let bounds = value.split_once("..").and_then(|(a, b)| Some((parse(a, 0.0).ok()?, parse(b, 1.0).ok()?)));
    bounds.filter(|(a, b)| (0.0..1.0).contains(a) && *b > *a && *b <= 1.0).ok_or_else(|| {
        let problem = format!("range={value} is not a part of 0.0..1.0");
        SourceError::uri(
            uri,
            problem,
            "write for example range=0.0..0.8 for the first four fifths, range=0.8..1.0 for the rest",
        )
    })
}
