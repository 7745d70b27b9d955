//! Source URIs: `scheme:path[,path...]?key=value&key=value`, parsed into a typed [`Uri`].
//!
//! The command line and board profiles write them; [`super::open`] turns them into sources. Nothing here touches a file.
//! `%2C`, `%3F`, `%26` and `%25` stand for a comma, a question mark, an ampersand and a percent sign inside a path or value.

use super::SourceError;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What reads the paths of a [`Uri`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Npy,
    Csv,
    Mjpeg,
    Pipe,
    Images,
    Sim,
}

struct SchemeRow {
    name: &'static str,
    scheme: Scheme,
    form: &'static str,
    paths: RangeInclusive<usize>,
    queries: &'static [&'static str],
}

const SCHEMES: &[SchemeRow] = &[
    SchemeRow {
        name: "npy",
        scheme: Scheme::Npy,
        form: "npy:X.npy[,Y.npy]",
        paths: 1..=2,
        queries: &[
            "label", "labels", "group", "segments", "window", "stride", "rate", "nan", "order", "seed", "range",
            "range_of",
        ],
    },
    SchemeRow {
        name: "csv",
        scheme: Scheme::Csv,
        form: "csv:FILE.csv",
        paths: 1..=1,
        queries: &[
            "label", "labels", "group", "channels", "smooth", "window", "stride", "rate", "nan", "order", "seed",
            "range", "range_of",
        ],
    },
    SchemeRow {
        name: "mjpeg",
        scheme: Scheme::Mjpeg,
        form: "mjpeg:FRAMES.jpegs[,TABLE.csv]",
        paths: 1..=2,
        queries: &["label", "labels", "group", "smooth", "rate", "order", "seed", "range", "range_of"],
    },
    SchemeRow {
        name: "pipe",
        scheme: Scheme::Pipe,
        form: "pipe:- or pipe:PATH",
        paths: 1..=1,
        queries: &["format", "width", "height", "rate"],
    },
    SchemeRow {
        name: "images",
        scheme: Scheme::Images,
        form: "images:DIR",
        paths: 1..=1,
        queries: &["order", "seed", "range", "range_of"],
    },
    SchemeRow {
        name: "sim",
        scheme: Scheme::Sim,
        form: "sim:rover",
        paths: 1..=1,
        queries: &["seed", "samples", "sensor", "window", "stride", "width", "height"],
    },
];

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

/// What arrives on a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Mjpeg,
    Rgb24,
    Gray8,
}

/// Which of the simulated rover's sensors is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sensor {
    #[default]
    Camera,
    Imu,
}

/// The queries of a URI. Every field is what was written, `None` where nothing was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
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
    pub channels: Option<Vec<String>>,
    pub skip_nan: bool,
    pub format: Option<Format>,
    pub width: Option<usize>,
    pub height: Option<usize>,
    pub samples: Option<u64>,
    pub sensor: Option<Sensor>,
}

/// A parsed source URI.
#[derive(Clone, Debug, PartialEq)]
pub struct Uri {
    /// As it was written, for messages.
    pub text: String,
    pub scheme: Scheme,
    pub paths: Vec<String>,
    pub query: Query,
}

impl FromStr for Uri {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let forms = || format!("write one of {}", SCHEMES.iter().map(|r| r.form).collect::<Vec<_>>().join(", "));
        let (name, rest) =
            text.split_once(':').ok_or_else(|| SourceError::uri(text, "no scheme before a colon", forms()))?;
        let row = SCHEMES
            .iter()
            .find(|row| row.name == name)
            .ok_or_else(|| SourceError::uri(text, format!("unknown scheme '{name}'"), forms()))?;
        let (paths, queries) = match rest.split_once('?') {
            Some((paths, queries)) => (paths, Some(queries)),
            None => (rest, None),
        };
        let paths = paths.split(',').map(|p| unescape(text, p)).collect::<Result<Vec<_>, _>>()?;
        if !row.paths.contains(&paths.len()) || paths.iter().any(String::is_empty) {
            let problem = format!("{} paths, or an empty one", paths.len());
            let remedy = format!("write {}; a comma inside a path is written %2C", row.form);
            return Err(SourceError::uri(text, problem, remedy));
        }
        let mut query = Query::default();
        let mut seen: Vec<&str> = Vec::new();
        for part in queries.into_iter().flat_map(|q| q.split('&')) {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                SourceError::uri(text, format!("query '{part}' has no value"), "write ?key=value&key=value")
            })?;
            if !row.queries.contains(&key) {
                return Err(unknown_key(text, row, key));
            }
            if seen.contains(&key) {
                return Err(SourceError::uri(text, format!("query '{key}' is given twice"), "leave one of them out"));
            }
            seen.push(key);
            query.set(text, key, unescape(text, value)?)?;
        }
        let uri = Uri { text: text.to_owned(), scheme: row.scheme, paths, query };
        uri.check()?;
        Ok(uri)
    }
}

fn unknown_key(text: &str, row: &SchemeRow, key: &str) -> SourceError {
    let mut remedy = format!("{}: knows {}", row.name, row.queries.join(", "));
    if row.scheme == Scheme::Pipe && matches!(key, "order" | "range" | "range_of" | "seed") {
        remedy += "; a pipe is played once, as it comes: record it to a file to reorder it";
    }
    SourceError::uri(text, format!("unknown query '{key}'"), remedy)
}

impl Uri {
    /// Queries that say nothing without another one.
    fn check(&self) -> Result<(), SourceError> {
        let q = &self.query;
        let raw = matches!(q.format, Some(Format::Rgb24 | Format::Gray8));
        let dims = q.width.is_some() || q.height.is_some();
        let (problem, remedy) = if self.scheme == Scheme::Pipe && raw && (q.width.is_none() || q.height.is_none()) {
            ("raw frames without their size", "add &width=W&height=H")
        } else if self.scheme == Scheme::Pipe && !raw && dims {
            ("width and height are given for motion JPEG", "leave them out, or add &format=rgb24 or gray8")
        } else if self.scheme != Scheme::Sim && q.seed.is_some() && q.order != Some(Order::Shuffled) {
            ("seed without order=shuffled", "add &order=shuffled or leave seed out")
        } else if q.range_of.is_some() && q.range.is_none() {
            ("range_of without range", "add &range=0.0..0.8")
        } else if self.scheme == Scheme::Sim && self.paths[0] != "rover" {
            ("unknown simulator", "write sim:rover")
        } else if self.scheme != Scheme::Npy && (q.labels.is_some() || q.smooth.is_some()) && q.label.is_none() {
            ("labels or smooth without label", "add &label=COLUMN")
        } else if q.labels == Some(Labels::Class) && q.smooth.is_some() {
            ("classes cannot be averaged", "leave smooth out, or add &labels=value")
        } else {
            return Ok(());
        };
        Err(SourceError::uri(&self.text, problem, remedy))
    }
}

impl Query {
    fn set(&mut self, uri: &str, key: &str, value: String) -> Result<(), SourceError> {
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
            "label" => self.label = Some(value),
            "group" => self.group = Some(value),
            "segments" => self.segments = Some(value),
            "channels" => self.channels = Some(value.split(',').map(str::to_owned).collect()),
            "labels" => self.labels = Some([Labels::Class, Labels::Value][choice(&["class", "value"])?]),
            "order" => {
                let orders = [Order::Given, Order::Shuffled, Order::ByLabel];
                self.order = Some(orders[choice(&["given", "shuffled", "by-label"])?]);
            }
            "range_of" => self.range_of = Some([RangeOf::Samples, RangeOf::Groups][choice(&["samples", "groups"])?]),
            "nan" => self.skip_nan = choice(&["error", "skip"])? == 1,
            "format" => {
                self.format =
                    Some([Format::Mjpeg, Format::Rgb24, Format::Gray8][choice(&["mjpeg", "rgb24", "gray8"])?]);
            }
            "sensor" => self.sensor = Some([Sensor::Camera, Sensor::Imu][choice(&["camera", "imu"])?]),
            "seed" => self.seed = Some(number(0..=u64::MAX)?),
            "samples" => self.samples = Some(number(1..=u64::MAX)?),
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

fn unescape(uri: &str, text: &str) -> Result<String, SourceError> {
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('%');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let escapes = [("2C", ','), ("2c", ','), ("3F", '?'), ("3f", '?'), ("26", '&'), ("25", '%')];
        let (code, c) = escapes.iter().find(|(code, _)| part.starts_with(code)).ok_or_else(|| {
            SourceError::uri(
                uri,
                "a percent sign that escapes nothing",
                "write %25 for a percent sign; %2C, %3F, %26 for , ? &",
            )
        })?;
        out.push(*c);
        out.push_str(&part[code.len()..]);
    }
    Ok(out)
}
