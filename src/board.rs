//! Board profiles: what `nestling run --board FILE` reads. Plain data with defaults; unknown keys are refused with their
//! line. What a microcontroller's firmware needs stands in `boards/NAME/board.toml` instead.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bus::config::MqttTable;
use crate::control::config::ControllerTable;
use crate::pins::check;
use crate::pins::config::{ButtonTable, PinTable, PinsTable};
use crate::ros::config::ZenohTable;

/// A profile larger than this is not read.
const MOST_BYTES: u64 = 1 << 20;

/// Why a profile cannot be used, or not without a restart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: {problem}")]
    Syntax { path: String, problem: String },
    #[error("{path}: {key} = {value}: {wanted}")]
    Value { path: String, key: &'static str, value: String, wanted: &'static str },
    #[error(
        "memory_mb = {cap_mb} and {wanted} MB are planned: {parts}\n  what to do: a smaller model, fewer samples in replay \
         (`[replay] capacity` of the model), fewer lessons to go back to ([learn] lessons), smaller frames (width and height \
         of the source), or a higher memory_mb"
    )]
    Memory { cap_mb: u64, wanted: String, parts: String },
    #[error("{keys} cannot change while running; restart nestling for that")]
    NeedsRestart { keys: String },
}

/// Derives for a table of the profile.
macro_rules! table {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }
        impl Default for $name {
            fn default() -> Self { $name { $($field: $default,)* } }
        }
    };
}

/// One string, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

pub(crate) fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

table! {
    /// `[perceive]`
    pub struct Perceive {
        /// Features a second at most; what comes faster is passed over and counted. 0: as many as there are samples.
        pub rate: f64 = 0.0,
        /// Milliseconds from the arrival of a sample to its feature. Where features are later than that, learning yields.
        pub deadline_ms: u64 = 50,
        /// Milliseconds after which the newest feature is stale.
        pub stale_ms: u64 = 500,
        /// Play a recording or the simulator at the pace of its timestamps, as a live stream.
        pub pace: bool = false,
        /// Perceive and learn from every sample, and let the source wait for that: for a recording that comes through a pipe.
        pub every: bool = false,
        /// Open a source that has vanished again after so many milliseconds at most; the first try comes after a tenth of
        /// a second, and each one waits twice as long as the one before.
        pub reopen_ms: u64 = 10_000,
    }
}

table! {
    /// `[learn]`
    pub struct Learn {
        /// Perceive only; the encoder stays as it is.
        pub frozen: bool = false,
        /// Share of all processors that learning may take.
        pub share: f64 = 1.0,
        /// Threads that a step is split over. 0: as many as there are processors and the step is worth.
        pub threads: usize = 0,
        /// Niceness of these threads.
        pub nice: i32 = 5,
        /// °C of the hottest zone at which learning stops; it slows down over the 8 degrees below.
        pub temperature: f64 = 75.0,
        /// Load of each processor, averaged over a minute, above which learning yields. 0: whatever the load.
        pub load: f64 = 0.0,
        /// Published lessons that are kept in memory, to go back to.
        pub lessons: usize = 8,
    }
}

table! {
    /// `[store]`
    pub struct Store {
        /// The checkpoint to go on from, where it exists, and to write. Absent: nothing is written.
        pub path: Option<PathBuf> = None,
        /// Seconds from one checkpoint to the next.
        pub every_s: u64 = 60,
        /// Generations kept.
        pub generations: usize = 3,
        /// Bytes written an hour at most, for the life of a flash card.
        pub bytes_per_hour: u64 = 100_000_000,
    }
}

table! {
    /// `[output]`
    pub struct Output {
        /// Unix socket on which everyone who may connect gets every feature, one JSON object a line. Its user and group may.
        pub socket: Option<PathBuf> = None,
        /// Likewise, in frames of postcard (docs/bus.md).
        pub postcard: Option<PathBuf> = None,
    }
}

table! {
    /// `[record]`
    pub struct Record {
        /// MCAP file to which samples, features, health and decisions are written; a number is added to a name that is taken.
        /// Absent: nothing is recorded.
        pub path: Option<PathBuf> = None,
        /// Megabytes after which nothing more is recorded.
        pub most_mb: u64 = 1000,
    }
}

table! {
    /// `[control]`
    pub struct Control {
        /// Unix socket for `status`, `freeze`, `thaw` and `rollback`. Absent: see `runtime::daemon::control`.
        pub socket: Option<PathBuf> = None,
        /// Address of metrics for Prometheus. Absent: no such port is opened.
        pub metrics: Option<SocketAddr> = None,
        /// Metrics may be given out beyond this machine.
        pub remote: bool = false,
    }
}

table! {
    /// `[shm]`
    pub struct Shm {
        /// Service of iceoryx2 by which other programs find features in shared memory.
        pub service: String = "nestling/feature".into(),
    }
}

/// `[backbone]`: a frozen network before the learner, which then learns from its output (docs/onnx.md).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackboneTable {
    /// A network that `nestling import` wrote, or a checkpoint whose encoder is to be the backbone.
    pub network: Option<PathBuf>,
    /// An ONNX file, run by tract.
    pub onnx: Option<PathBuf>,
    /// The tensor (ONNX) or node (network) that is taken, where it is not the output.
    pub output: Option<String>,
    /// Of an ONNX file: height and width of its input, where it leaves them free.
    pub size: Option<(usize, usize)>,
    /// Of an ONNX file: it takes `(pixel / 255 − mean) / deviation`, by channel.
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
}

/// A whole profile.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    pub name: String,
    /// Where samples come from: one URI, or several that follow one another.
    #[serde(deserialize_with = "one_or_many")]
    pub source: Vec<String>,
    /// A shipped model or a model file, from the profile's folder.
    pub model: Option<String>,
    /// Absent: the learner takes samples as they come.
    pub backbone: Option<BackboneTable>,
    pub seed: Option<u64>,
    /// Megabytes that may be planned; what wants more is refused at the start. Absent: as many as the machine has.
    pub memory_mb: Option<u64>,
    pub perceive: Perceive,
    pub learn: Learn,
    pub store: Store,
    pub output: Output,
    pub record: Record,
    pub mqtt: Option<MqttTable>,
    pub control: Control,
    /// Absent: no part in a ROS 2 graph.
    pub zenoh: Option<ZenohTable>,
    /// Absent: no shared memory.
    pub shm: Option<Shm>,
    /// What is made of features.
    pub controller: Vec<ControllerTable>,
    pub pins: PinsTable,
    /// Outputs.
    pub pin: Vec<PinTable>,
    /// Inputs.
    pub button: Vec<ButtonTable>,
}

impl Profile {
    /// Reads the profile at `path`. Paths in it are taken from its folder.
    ///
    /// # Errors
    /// [`BoardError`]
    pub fn read(path: &Path) -> Result<Self, BoardError> {
        use std::io::Read;
        let name = || path.display().to_string();
        let io = |source| BoardError::Io { path: name(), source };
        let mut text = String::new();
        std::fs::File::open(path).map_err(io)?.take(MOST_BYTES).read_to_string(&mut text).map_err(io)?;
        let mut profile = Self::parse(&name(), &text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let Profile { store, output, record, mqtt, control, controller, pins, .. } = &mut profile;
        let password = mqtt.iter_mut().map(|mqtt| &mut mqtt.password_file);
        for path in [
            &mut store.path,
            &mut output.socket,
            &mut output.postcard,
            &mut record.path,
            &mut control.socket,
            &mut pins.folder,
        ]
        .into_iter()
        .chain(password)
        .chain(controller.iter_mut().map(|controller| &mut controller.file))
        .flatten()
        {
            *path = folder.join(&*path);
        }
        for path in profile.backbone.iter_mut().flat_map(|b| [&mut b.network, &mut b.onnx]).flatten() {
            *path = folder.join(&*path);
        }
        // A model is a shipped one unless there is such a file.
        if let Some(model) = profile.model.as_mut().filter(|model| folder.join(model).is_file()) {
            *model = folder.join(&*model).display().to_string();
        }
        Ok(profile)
    }

    /// The profile that `text` holds; `path` is what errors name.
    ///
    /// # Errors
    /// [`BoardError::Syntax`] with line and key, [`BoardError::Value`].
    pub fn parse(path: &str, text: &str) -> Result<Self, BoardError> {
        let syntax = |e: toml::de::Error| BoardError::Syntax { path: path.into(), problem: e.to_string() };
        let profile: Profile = toml::from_str(text).map_err(syntax)?;
        profile.check(path)?;
        Ok(profile)
    }

    /// Refuses values that cannot be; `path` is what the error names.
    ///
    /// # Errors
    /// [`BoardError::Value`]
    pub fn check(&self, path: &str) -> Result<(), BoardError> {
        let Profile { perceive, learn, store, control, .. } = self;
        let from = |key, value: f64, sound: bool, wanted| match sound {
            true => Ok(()),
            false => Err(BoardError::Value { path: path.into(), key, value: value.to_string(), wanted }),
        };
        from(
            "perceive.rate",
            perceive.rate,
            (0.0..=10_000.0).contains(&perceive.rate),
            "features a second, 0 to 10000",
        )?;
        let ms = |n: u64| (1..=3_600_000).contains(&n);
        for (key, n) in [
            ("perceive.deadline_ms", perceive.deadline_ms),
            ("perceive.stale_ms", perceive.stale_ms),
            ("perceive.reopen_ms", perceive.reopen_ms),
        ] {
            from(key, n as f64, ms(n), "milliseconds, 1 to 3600000")?;
        }
        let share = learn.share > 0.0 && learn.share <= 1.0;
        from("learn.share", learn.share, share, "a share above 0, up to 1; to learn nothing say frozen = true")?;
        let temperature = (30.0..=120.0).contains(&learn.temperature);
        from("learn.temperature", learn.temperature, temperature, "°C, 30 to 120")?;
        from("learn.load", learn.load, (0.0..=100.0).contains(&learn.load), "0 to 100")?;
        from("memory_mb", self.memory_mb.unwrap_or(1) as f64, self.memory_mb != Some(0), "megabytes, 1 or more")?;
        from("learn.nice", f64::from(learn.nice), (0..=19).contains(&learn.nice), "0 to 19")?;
        from("learn.lessons", learn.lessons as f64, learn.lessons <= 1000, "0 to 1000")?;
        from("record.most_mb", self.record.most_mb as f64, self.record.most_mb >= 1, "megabytes, 1 or more")?;
        from("store.every_s", store.every_s as f64, store.every_s >= 1, "seconds, 1 or more")?;
        self.check_controllers(path)?;
        let wrong = |(key, value, wanted)| BoardError::Value { path: path.into(), key, value, wanted };
        self.mqtt.iter().try_for_each(|mqtt| mqtt.check(&self.name)).map_err(wrong)?;
        let generations = (2..=100).contains(&store.generations);
        from("store.generations", store.generations as f64, generations, "2 to 100")?;
        check::tables(&self.pins, &self.pin, &self.button)
            .and_then(|()| check::names(&self.controller, &self.pin, &self.button))
            .map_err(|(name, (key, value, wanted))| BoardError::Value {
                path: format!("{path}: {name}"),
                key,
                value,
                wanted,
            })?;
        if let Some(table) = &self.zenoh {
            let wrong = |(key, value, wanted)| BoardError::Value { path: path.into(), key, value, wanted };
            table.check().map_err(wrong)?;
        }
        match control.metrics {
            Some(address) if !address.ip().is_loopback() && !control.remote => Err(BoardError::Value {
                path: path.into(),
                key: "control.metrics",
                value: address.to_string(),
                wanted: "an address of this machine alone, such as 127.0.0.1:9464; or say remote = true",
            }),
            _ => Ok(()),
        }
    }

    fn check_controllers(&self, path: &str) -> Result<(), BoardError> {
        for (i, table) in self.controller.iter().enumerate() {
            let wrong = |(key, value, wanted)| BoardError::Value {
                path: format!("{path}: {}", table.name),
                key,
                value,
                wanted,
            };
            table.check().map_err(wrong)?;
            if self.controller[..i].iter().any(|other| other.name == table.name) {
                return Err(wrong(("controller.name", table.name.clone(), "a name that no other controller has")));
            }
        }
        Ok(())
    }

    /// Refuses a plan that is larger than `memory_mb`; `planned` are its parts, `(name, bytes)`.
    ///
    /// # Errors
    /// [`BoardError::Memory`] with the parts and what to change.
    pub fn check_memory(&self, planned: &[(&str, usize)]) -> Result<(), BoardError> {
        let wanted: usize = planned.iter().map(|(_, bytes)| bytes).sum();
        match self.memory_mb {
            Some(cap_mb) if wanted as u64 > cap_mb.saturating_mul(1_000_000) => {
                let mb = |bytes: usize| format!("{:.1}", bytes as f64 / 1e6);
                let parts = planned.iter().filter(|(_, bytes)| *bytes > 0);
                let parts = parts.map(|(name, bytes)| format!("{name} {}", mb(*bytes)));
                Err(BoardError::Memory { cap_mb, wanted: mb(wanted), parts: parts.collect::<Vec<_>>().join(", ") })
            }
            _ => Ok(()),
        }
    }

    /// Whether a running daemon can take `new` over from `self`.
    ///
    /// # Errors
    /// [`BoardError::NeedsRestart`] with the keys that stand in the way.
    pub fn may_become(&self, new: &Profile) -> Result<(), BoardError> {
        let fixed = [
            ("source", self.source != new.source),
            ("model", self.model != new.model),
            ("seed", self.seed != new.seed),
            ("memory_mb", self.memory_mb != new.memory_mb),
            ("perceive.every", self.perceive.every != new.perceive.every),
            ("perceive.pace", self.perceive.pace != new.perceive.pace),
            ("learn.threads", self.learn.threads != new.learn.threads),
            ("learn.nice", self.learn.nice != new.learn.nice),
            ("learn.lessons", self.learn.lessons != new.learn.lessons),
            ("store.path", self.store.path != new.store.path),
            ("store.generations", self.store.generations != new.store.generations),
            ("output", self.output != new.output),
            ("mqtt", self.mqtt != new.mqtt),
            ("record", self.record != new.record),
            ("control", self.control != new.control),
            ("zenoh", self.zenoh != new.zenoh),
            ("shm", self.shm != new.shm),
            ("controller", self.controller != new.controller),
            ("pins", self.pins != new.pins),
            ("pin", self.pin != new.pin),
            ("button", self.button != new.button),
        ];
        let keys: Vec<&str> = fixed.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        if keys.is_empty() { Ok(()) } else { Err(BoardError::NeedsRestart { keys: keys.join(", ") }) }
    }
}

impl Perceive {
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    pub fn stale(&self) -> Duration {
        Duration::from_millis(self.stale_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_answered_with_its_line_and_key() {
        for (text, wanted) in [
            ("name = 'x'\n[learn]\nshares = 1", ["line 3", "shares", "share"]),
            ("[learn]\nshare = 'half'", ["line 2", "share", "string"]),
            ("[learn]\nshare = 0.0", ["b.toml", "learn.share", "frozen = true"]),
            ("[mqtt]\nbroker = 'mqtt://home'", ["b.toml", "mqtt.broker", "host:port"]),
            ("name = 'a#b'\n[mqtt]\nbroker = 'home'", ["b.toml", "mqtt.name", "a#b"]),
            ("[mqtt]\nbroker = 'home'\nqos = 2", ["b.toml", "mqtt.qos", "0 or 1"]),
            ("[control]\nmetrics = '0.0.0.0:9464'", ["control.metrics", "0.0.0.0:9464", "remote = true"]),
            ("[store]\ngenerations = 1", ["b.toml", "store.generations", "2 to 100"]),
            ("[[controller]]\nname = 'eye'\ndoes = 'follow'", ["b.toml: eye", "controller.label", "class"]),
            ("[[controller]]\nname = 'eye'\ndoes = 'stare'", ["line 3", "stare", "classify"]),
            ("source = 3", ["line 1", "source", "b.toml"]),
        ] {
            let problem = Profile::parse("b.toml", text).expect_err(text).to_string();
            wanted.iter().for_each(|part| assert!(problem.contains(part), "{text}: {part} in: {problem}"));
        }
    }

    #[test]
    fn the_shipped_profile_says_the_defaults_but_where_it_says_otherwise() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards/linux.toml");
        let shipped = Profile::read(&path).expect("a sound profile");
        let default = Profile {
            name: "linux".into(),
            source: shipped.source.clone(),
            model: Some("robot".into()),
            learn: Learn { share: 0.5, ..Learn::default() },
            store: Store { path: shipped.store.path.clone(), ..Store::default() },
            ..Profile::default()
        };
        assert_eq!(shipped, default);
    }

    #[test]
    fn what_a_running_daemon_can_take_over_is_taken_and_the_rest_is_named() {
        let old = Profile::parse("b", "source = 'sim:rover'\n[learn]\nshare = 0.5").expect("sound");
        let sound =
            Profile::parse("b", "source = ['sim:rover']\n[learn]\nshare = 0.25\ntemperature = 60").expect("sound");
        old.may_become(&sound).expect("only budgets change");
        let other = Profile::parse("b", "source = 'sim:log'\nmodel = 'n5'\n[learn]\nshare = 0.25").expect("sound");
        let problem = old.may_become(&other).expect_err("the source changes").to_string();
        assert!(problem.contains("source, model") && problem.contains("restart"), "{problem}");
    }
}
