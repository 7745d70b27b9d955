//! Source URIs: `scheme:path[,path...]?key=value&key=value`, parsed into a typed [`Uri`].
//!
//! The command line and board profiles write them; [`super::open`] turns them into sources. Nothing here touches a file.
//! `%2C`, `%3F`, `%26` and `%25` stand for a comma, a question mark, an ampersand and a percent sign inside a path or value.

use super::SourceError;
pub use super::query::{By, Fifo, Format, Labels, Nan, Order, Query, RangeOf, Sensor};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What reads the paths of a [`Uri`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Npy,
    Csv,
    Tokens,
    Mjpeg,
    Tub,
    Mcap,
    Pipe,
    Camera,
    Rpicam,
    Alsa,
    Images,
    Pcm,
    Wav,
    Sim,
    Zenoh,
    Link,
    Serial,
    Imu,
    Tof,
    Adc,
    Iio,
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
            "label", "labels", "group", "segments", "window", "stride", "each", "stack", "times", "combine", "diff",
            "smooth", "rate", "nan", "missing", "order", "seed", "range", "range_of",
        ],
    },
    SchemeRow {
        name: "csv",
        scheme: Scheme::Csv,
        form: "csv:FILE.csv",
        paths: 1..=1,
        queries: &[
            "label", "labels", "group", "channels", "smooth", "window", "stride", "rate", "nan", "missing", "order",
            "seed", "range", "range_of",
        ],
    },
    SchemeRow {
        name: "tokens",
        scheme: Scheme::Tokens,
        form: "tokens:FILE[,FILE...]",
        paths: 1..=64,
        queries: &[
            "by",
            "column",
            "vocabulary",
            "label",
            "labels",
            "group",
            "window",
            "stride",
            "rate",
            "nan",
            "order",
            "seed",
            "range",
            "range_of",
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
        name: "tub",
        scheme: Scheme::Tub,
        form: "tub:DIR",
        paths: 1..=1,
        queries: &["label", "labels", "smooth", "rate", "order", "seed", "range", "range_of"],
    },
    SchemeRow {
        name: "mcap",
        scheme: Scheme::Mcap,
        form: "mcap:FILE.mcap[,FILE.mcap...]",
        paths: 1..=4096,
        queries: &["topic", "window", "stride"],
    },
    SchemeRow {
        name: "pipe",
        scheme: Scheme::Pipe,
        form: "pipe:- or pipe:PATH",
        paths: 1..=1,
        queries: &["format", "width", "height", "rate", "window", "stride"],
    },
    SchemeRow {
        name: "camera",
        scheme: Scheme::Camera,
        form: "camera:NUMBER or camera:/dev/videoNUMBER",
        paths: 1..=1,
        queries: &["format", "width", "height", "rate"],
    },
    SchemeRow {
        name: "rpicam",
        scheme: Scheme::Rpicam,
        form: "rpicam:NUMBER",
        paths: 1..=1,
        queries: &["width", "height", "rate"],
    },
    SchemeRow {
        name: "alsa",
        scheme: Scheme::Alsa,
        form: "alsa:DEVICE, for example alsa:plughw:1,0",
        paths: 1..=1,
        queries: &["rate", "window", "stride"],
    },
    SchemeRow {
        name: "images",
        scheme: Scheme::Images,
        form: "images:DIR",
        paths: 1..=1,
        queries: &["order", "seed", "range", "range_of"],
    },
    SchemeRow {
        name: "pcm",
        scheme: Scheme::Pcm,
        form: "pcm:RAW[,CLIPS.csv]",
        paths: 1..=2,
        queries: &["rate", "label", "labels", "group", "window", "stride", "order", "seed", "range", "range_of"],
    },
    SchemeRow {
        name: "wav",
        scheme: Scheme::Wav,
        form: "wav:DIR or wav:FILE.wav[,FILE.wav...]",
        paths: 1..=4096,
        queries: &["name", "label", "labels", "group", "window", "stride", "order", "seed", "range", "range_of"],
    },
    SchemeRow {
        name: "sim",
        scheme: Scheme::Sim,
        form: "sim:rover or sim:log",
        paths: 1..=1,
        queries: &["seed", "samples", "sensor", "window", "stride", "width", "height", "form", "beside"],
    },
    SchemeRow {
        name: "zenoh",
        scheme: Scheme::Zenoh,
        form: "zenoh:/TOPIC",
        paths: 1..=1,
        queries: &["type", "domain", "connect", "window", "stride"],
    },
    SchemeRow { name: "link", scheme: Scheme::Link, form: "link:FILE", paths: 1..=1, queries: &[] },
    SchemeRow { name: "serial", scheme: Scheme::Serial, form: "serial:PORT", paths: 1..=1, queries: &["baud"] },
    SchemeRow {
        name: "imu",
        scheme: Scheme::Imu,
        form: "imu:PART@i2c-1:0x68",
        paths: 1..=1,
        queries: &["rate", "window", "stride", "fifo"],
    },
    SchemeRow {
        name: "tof",
        scheme: Scheme::Tof,
        form: "tof:PART@i2c-1:0x29",
        paths: 1..=1,
        queries: &["rate", "window", "stride"],
    },
    SchemeRow {
        name: "adc",
        scheme: Scheme::Adc,
        form: "adc:PART@i2c-1:0x48",
        paths: 1..=1,
        queries: &["channels", "rate", "window", "stride"],
    },
    SchemeRow {
        name: "iio",
        scheme: Scheme::Iio,
        form: "iio:NAME or iio:NUMBER",
        paths: 1..=1,
        queries: &["channels", "rate", "window", "stride", "fifo"],
    },
];

/// What every scheme knows.
const OF_ALL: [&str; 2] = ["fault", "fault_seed"];

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
        // A comma in the name of a sound device parts no paths: `plughw:1,0` is written as every other program takes it.
        let parted = if row.scheme == Scheme::Alsa { vec![paths] } else { paths.split(',').collect() };
        let paths = parted.into_iter().map(|p| unescape(text, p)).collect::<Result<Vec<_>, _>>()?;
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
            if !row.queries.contains(&key) && !OF_ALL.contains(&key) {
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
    let mut remedy = format!("{}: knows {}", row.name, [row.queries, &OF_ALL].concat().join(", "));
    if row.scheme == Scheme::Pipe && matches!(key, "order" | "range" | "range_of" | "seed") {
        remedy += "; a pipe is played once, as it comes: record it to a file to reorder it";
    }
    SourceError::uri(text, format!("unknown query '{key}'"), remedy)
}

impl Uri {
    /// Queries that say nothing without another one.
    fn check(&self) -> Result<(), SourceError> {
        let q = &self.query;
        if matches!(self.scheme, Scheme::Imu | Scheme::Tof | Scheme::Adc) {
            super::sensor::Place::of(self)?;
        }
        if self.scheme == Scheme::Adc {
            super::sensor::inputs(self)?;
        }
        let raw = matches!(q.format, Some(Format::Rgb24 | Format::Gray8));
        let dims = q.width.is_some() || q.height.is_some();
        let derived = q.combine.is_some() || q.diff.is_some() || q.smooth.is_some();
        let sound = q.format == Some(Format::S16le);
        let of_columns = q.label.is_some() || q.group.is_some();
        let (problem, remedy) = if self.scheme == Scheme::Pipe && q.format == Some(Format::Yuyv) {
            ("no pipe carries YUYV frames", "have the program before the pipe write rgb24, gray8 or motion JPEG")
        } else if self.scheme == Scheme::Camera && matches!(q.format, Some(Format::Rgb24 | Format::S16le)) {
            ("no camera gives such frames", "write format=yuyv, mjpeg or gray8, or leave it out")
        } else if self.scheme == Scheme::Rpicam && self.paths[0].parse::<u8>().is_err() {
            ("no number of a camera", "write rpicam:0; `rpicam-hello --list-cameras` lists the cameras")
        } else if self.scheme == Scheme::Alsa && q.rate.is_some_and(|r| r.fract() != 0.0) {
            ("no whole number of samples a second", "write for example rate=16000, or leave it out")
        } else if (self.scheme == Scheme::Pcm || sound) && q.rate.is_none_or(|r| r.fract() != 0.0) {
            ("raw samples without a whole number of them a second", "add &rate=8000, or what the sound was taken with")
        } else if self.scheme == Scheme::Pipe && !sound && (q.window.is_some() || q.stride.is_some()) {
            ("window and stride are given for frames", "leave them out, or add &format=s16le for sound")
        } else if self.scheme == Scheme::Pcm && self.paths.len() == 1 && of_columns {
            ("label or group without a table that has the column", "write pcm:RAW,CLIPS.csv")
        } else if self.scheme == Scheme::Wav && of_columns && q.name.is_none() {
            ("label or group without names for the parts of file names", "add for example &name=label_speaker_take")
        } else if self.scheme == Scheme::Pipe && raw && (q.width.is_none() || q.height.is_none()) {
            ("raw frames without their size", "add &width=W&height=H")
        } else if self.scheme == Scheme::Pipe && !raw && dims {
            (
                "width and height are given for what has none or says them",
                "leave them out, or add &format=rgb24 or gray8",
            )
        } else if self.scheme != Scheme::Sim && q.seed.is_some() && q.order != Some(Order::Shuffled) {
            ("seed without order=shuffled", "add &order=shuffled or leave seed out")
        } else if q.fault_seed.is_some() && q.fault.is_none() {
            ("fault_seed without fault", "add &fault=drop:0.01")
        } else if q.range_of.is_some() && q.range.is_none() {
            ("range_of without range", "add &range=0.0..0.8")
        } else if self.scheme == Scheme::Sim && !matches!(self.paths[0].as_str(), "rover" | "log") {
            ("unknown simulator", "write sim:rover or sim:log")
        } else if self.scheme == Scheme::Sim && self.paths[0] == "log" && (dims || q.sensor.is_some() || q.beside_imu) {
            ("width, height, sensor and beside are the rover's", "write sim:rover, or leave them out")
        } else if q.beside_imu && q.sensor == Some(Sensor::Imu) {
            ("the IMU beside itself", "leave beside or sensor=imu out")
        } else if self.scheme == Scheme::Sim && self.paths[0] == "rover" && q.form.is_some() {
            ("form is the log's", "write sim:log, or leave it out")
        } else if self.scheme == Scheme::Npy && self.paths.len() == 2 && q.label.is_some() {
            ("labels come from Y.npy and from a column at once", "leave one of them out")
        } else if self.scheme == Scheme::Npy && self.paths.len() == 1 && q.labels.is_some() && q.label.is_none() {
            ("labels= without labels", "write npy:X.npy,Y.npy, or add &label=COLUMN&segments=FILE.csv")
        } else if !matches!(self.scheme, Scheme::Npy | Scheme::Tub)
            && (q.labels.is_some() || q.smooth.is_some())
            && q.label.is_none()
        {
            ("labels or smooth without label", "add &label=COLUMN")
        } else if self.scheme == Scheme::Npy && self.paths.len() == 1 && derived {
            ("combine, diff or smooth without labels", "write npy:X.npy,Y.npy")
        } else if q.labels == Some(Labels::Class) && (q.diff.is_some() || q.smooth.is_some()) {
            ("classes have no change and no mean", "leave diff and smooth out, or add &labels=value")
        } else if (q.times.is_some() || q.stack.is_some()) && !q.each_row {
            ("times or stack without each=row", "add &each=row")
        } else if q.missing.is_some() && q.nan == Nan::Error {
            ("missing= without what becomes of such readings", "add &nan=hold or &nan=skip")
        } else if self.scheme == Scheme::Tokens && q.nan == Nan::Hold {
            ("an event that is missing cannot be held", "write nan=skip")
        } else {
            return Ok(());
        };
        Err(SourceError::uri(&self.text, problem, remedy))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Uri>().unwrap_err().to_string()
    }

    #[test]
    fn a_uri_is_scheme_paths_and_typed_queries() {
        let uri: Uri = "npy:a/x.npy,y%2C1.npy?window=64&range=0.0..0.8&order=shuffled&seed=7&nan=skip".parse().unwrap();
        assert_eq!((uri.scheme, uri.paths), (Scheme::Npy, vec!["a/x.npy".to_owned(), "y,1.npy".to_owned()]));
        let q = uri.query;
        assert_eq!((q.window, q.range, q.order, q.seed), (Some(64), Some((0.0, 0.8)), Some(Order::Shuffled), Some(7)));
        assert_eq!(q.nan, Nan::Skip);
        for text in ["alsa:hw:CARD=Mic,DEV=0?rate=8000", "alsa:hw:CARD=Mic%2CDEV=0?rate=8000"] {
            assert_eq!(text.parse::<Uri>().unwrap().paths, ["hw:CARD=Mic,DEV=0"]);
        }
        let uri: Uri = "csv:f.csv?channels=a,b&label=c".parse().unwrap();
        assert_eq!(uri.query.channels.unwrap(), ["a", "b"]);
        let uri: Uri = "npy:x,y?combine=-12+0-3".parse().unwrap();
        assert_eq!(uri.query.combine.unwrap(), [(12, -1.0), (0, 1.0), (3, -1.0)]);
        let uri: Uri = "sim:rover?seed=3&sensor=imu&samples=100&width=64".parse().unwrap();
        assert_eq!((uri.query.seed, uri.query.sensor, uri.query.samples), (Some(3), Some(Sensor::Imu), Some(100)));
    }

    #[test]
    fn a_refusal_names_the_key_and_what_is_allowed() {
        for (text, parts) in [
            ("tape:x", &["unknown scheme 'tape'", "mjpeg:FRAMES.jpegs"][..]),
            ("npy", &["no scheme"]),
            ("npy:", &["npy:X.npy[,Y.npy]"]),
            ("npy:a,b,c", &["3 paths"]),
            ("mjpeg:f?window=3", &["unknown query 'window'", "label, labels, group, smooth"]),
            ("pipe:-?order=shuffled", &["unknown query 'order'", "record it to a file"]),
            ("npy:f?window=0", &["window=0 is not a whole number from 1"]),
            ("npy:f?window=1&window=2", &["'window' is given twice"]),
            ("npy:f?order=random", &["given, shuffled, by-label"]),
            ("npy:f?range=0.8..0.2", &["range=0.8..0.2", "range=0.0..0.8"]),
            ("npy:f?seed=1", &["order=shuffled"]),
            ("npy:f?window", &["'window' has no value"]),
            ("sim:rover?fault=dorp:0.1", &["no fault is called 'dorp'", "there are drop, repeat, delay"]),
            ("link:f?fault_seed=1", &["fault_seed without fault"]),
            ("csv:f?rate=nan", &["rate=nan"]),
            ("pcm:f", &["rate=8000"]),
            ("pcm:f?rate=8000.5", &["a whole number"]),
            ("pcm:f?rate=8000&label=x", &["pcm:RAW,CLIPS.csv"]),
            ("wav:d?label=x", &["name=label_speaker_take"]),
            ("pipe:-?format=s16le", &["rate=8000"]),
            ("pipe:-?window=8000", &["format=s16le"]),
            ("csv:f?smooth=2", &["add &label=COLUMN"]),
            ("pipe:-?format=rgb24&width=3", &["&width=W&height=H"]),
            ("pipe:-?width=3", &["format=rgb24"]),
            ("npy:x,y?label=z&segments=s", &["leave one of them out"]),
            ("npy:x?labels=class", &["npy:X.npy,Y.npy"]),
            ("npy:x?diff=1", &["npy:X.npy,Y.npy"]),
            ("npy:x,y?combine=1-", &["combine=1- is no sum of columns", "combine=1-0"]),
            ("npy:x,y?diff=1&labels=class", &["no change and no mean"]),
            ("npy:x?times=t.npy", &["add &each=row"]),
            ("npy:x?missing=0", &["nan=hold"]),
            ("tokens:x?nan=hold", &["nan=skip"]),
            ("sim:boat", &["sim:rover"]),
            ("pipe:-?format=yuyv", &["no pipe carries YUYV"]),
            ("camera:0?format=rgb24", &["format=yuyv, mjpeg or gray8"]),
            ("camera:0?window=3", &["format, width, height, rate"]),
            ("rpicam:/dev/video0", &["no number of a camera", "rpicam:0", "--list-cameras"]),
            ("rpicam:0?format=gray8", &["width, height, rate"]),
            ("alsa:hw:1,0?rate=8000.5", &["no whole number"]),
            ("alsa:?rate=8000", &["alsa:plughw:1,0"]),
            ("csv:100%.csv", &["%25"]),
        ] {
            let message = refusal(text);
            for part in parts {
                assert!(message.contains(part), "{text}: {message}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(
            text in "(npy|csv|tokens|mjpeg|pipe|camera|rpicam|alsa|images|pcm|wav|sim|imu:mpu6050|adc:ads1115|iio)?[:@]?[a-z0-9,%:?-]{0,8}([?&]?(window|range|rate|seed|nan|channels|order|smooth|combine|missing)?=?[0-9.e%,é+-]{0,6}){0,3}",
        ) {
            let _ = text.parse::<Uri>();
        }
    }
}
