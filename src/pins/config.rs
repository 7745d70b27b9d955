//! `[pins]`, `[[pin]]` and `[[button]]` of a board's profile: lines of the machine, what they drive and what they ask for.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Highest GPIO number of a chip, and of a PWM chip and its channels.
const MOST_LINE: u32 = 1023;
/// Software makes no faster pulses than this.
const MOST_SOFT_HZ: f64 = 500.0;

/// What is wrong with a table: the key, its value, and what would be right.
pub type Wrong = (&'static str, String, &'static str);

pub(super) fn wrong(key: &'static str, value: impl fmt::Display, wanted: &'static str) -> Result<(), Wrong> {
    Err((key, value.to_string(), wanted))
}

/// `[pins]`: through what the lines are reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PinsTable {
    /// `pi`, `simulated`, or the name of a GPIO character device such as `gpiochip0`. Absent: see [`super::Chip::choose`].
    pub chip: Option<String>,
    /// With `simulated`: a folder with the file `writes`, which gets a line for each change of a line, and the FIFO
    /// `buttons`, from which the names of pressed buttons are read.
    pub folder: Option<PathBuf>,
}

impl PinsTable {
    /// # Errors
    /// [`Wrong`]
    pub fn check(&self) -> Result<(), Wrong> {
        if let Some(chip) = &self.chip
            && !(chip == "pi" || chip == "simulated" || chip.trim_start_matches("/dev/").starts_with("gpiochip"))
        {
            return wrong("pins.chip", chip, "pi, simulated, or a device such as gpiochip0");
        }
        match &self.folder {
            Some(folder) if self.chip.as_deref() != Some("simulated") => {
                wrong("pins.folder", folder.display(), "no folder, or chip = \"simulated\"")
            }
            _ => Ok(()),
        }
    }
}

/// A line of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Line {
    /// A number on the GPIO chip: the BCM number on a Pi, not that of the header.
    Gpio(u32),
    /// A channel of a PWM chip under `/sys/class/pwm`.
    Pwm { chip: u32, channel: u32 },
}

/// How a line is written in a profile.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "a line is a GPIO number, or \"pwmchip0/1\" for a channel of a PWM chip")]
enum Written {
    Number(u32),
    Name(String),
}

impl TryFrom<Written> for Line {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let line = match &written {
            Written::Number(n) => Some(Line::Gpio(*n)),
            Written::Name(name) => name.strip_prefix("pwmchip").and_then(|rest| {
                let (chip, channel) = rest.split_once('/')?;
                Some(Line::Pwm { chip: chip.parse().ok()?, channel: channel.parse().ok()? })
            }),
        };
        let small = |line: &Line| match *line {
            Line::Gpio(n) => n <= MOST_LINE,
            Line::Pwm { chip, channel } => chip.max(channel) <= MOST_LINE,
        };
        line.filter(small)
            .ok_or_else(|| "a line is a GPIO number, or \"pwmchip0/1\" for a channel of a PWM chip".into())
    }
}

impl From<Line> for Written {
    fn from(line: Line) -> Self {
        match line {
            Line::Gpio(n) => Written::Number(n),
            pwm => Written::Name(pwm.to_string()),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Gpio(n) => write!(f, "GPIO {n}"),
            Line::Pwm { chip, channel } => write!(f, "pwmchip{chip}/{channel}"),
        }
    }
}

/// What a pin drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Drives {
    /// High or low: 0 or 1, with the border at one half.
    Digital,
    /// High for a share of the time, 0 to 1.
    Pwm,
    /// A servo: -1 to 1 are pulses of `min_us` to `max_us`.
    Servo,
    /// A motor's driver: -1 (full speed backward) to 1.
    Motor,
}

/// The state of a pin while nobody decides.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "SafeWritten", into = "SafeWritten")]
pub enum Safe {
    /// No pulses: a servo goes limp, a motor coasts, a digital line is inactive.
    Off,
    At(f64),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "safe is a number or \"off\"")]
enum SafeWritten {
    Value(f64),
    Word(String),
}

impl TryFrom<SafeWritten> for Safe {
    type Error = &'static str;

    fn try_from(written: SafeWritten) -> Result<Self, &'static str> {
        match written {
            SafeWritten::Value(value) => Ok(Safe::At(value)),
            SafeWritten::Word(word) if word == "off" => Ok(Safe::Off),
            SafeWritten::Word(_) => Err("safe is a number or \"off\""),
        }
    }
}

impl From<Safe> for SafeWritten {
    fn from(safe: Safe) -> Self {
        match safe {
            Safe::Off => SafeWritten::Word("off".into()),
            Safe::At(value) => SafeWritten::Value(value),
        }
    }
}

/// One line, or a list of them.
fn lines<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Line>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a line is a GPIO number or \"pwmchip0/1\"; two lines stand in a list")]
    enum Lines {
        One(Written),
        Many(Vec<Written>),
    }
    let written = match Lines::deserialize(from)? {
        Lines::One(one) => vec![one],
        Lines::Many(many) => many,
    };
    written.into_iter().map(|w| Line::try_from(w).map_err(serde::de::Error::custom)).collect()
}

/// `[[pin]]`: one output.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PinTable {
    /// What `pin = …` of a `[[controller]]` says.
    pub name: String,
    /// The line; two PWM lines, forward and backward, for motor drivers that have no other input (DRV8833).
    #[serde(deserialize_with = "lines")]
    pub line: Vec<Line>,
    pub drives: Drives,
    /// Of a motor: one line that is high backward, or two of which the first is high forward and the second backward
    /// (L298N, TB6612).
    #[serde(default, deserialize_with = "lines", skip_serializing_if = "Vec::is_empty")]
    pub direction: Vec<Line>,
    /// The state at the start, at the end, and while nobody decides. Absent: no pulses.
    #[serde(default = "off")]
    pub safe: Safe,
    /// Limits of a value. Absent: those of its kind.
    #[serde(default)]
    pub least: Option<f64>,
    #[serde(default)]
    pub most: Option<f64>,
    /// Fastest change of a value in a second. Absent: at once.
    #[serde(default)]
    pub per_second: Option<f64>,
    /// Pulses a second. Absent: 50 for a servo, else 1000 where hardware makes them and 100 where software does.
    #[serde(default)]
    pub hz: Option<f64>,
    /// Of a servo: microseconds of a pulse at -1 and at 1.
    #[serde(default = "min_us")]
    pub min_us: f64,
    #[serde(default = "max_us")]
    pub max_us: f64,
    /// Low is on: relay boards and the like.
    #[serde(default)]
    pub active_low: bool,
}

fn off() -> Safe {
    Safe::Off
}
fn min_us() -> f64 {
    1000.0
}
fn max_us() -> f64 {
    2000.0
}

impl PinTable {
    /// Smallest and largest value that it takes.
    pub fn limits(&self) -> (f64, f64) {
        let (least, most) = self.kind_limits();
        (self.least.unwrap_or(least), self.most.unwrap_or(most))
    }

    fn kind_limits(&self) -> (f64, f64) {
        match self.drives {
            Drives::Digital | Drives::Pwm => (0.0, 1.0),
            Drives::Servo | Drives::Motor => (-1.0, 1.0),
        }
    }

    /// Pulses a second.
    pub fn hz(&self) -> f64 {
        self.hz.unwrap_or(match (self.drives, self.software()) {
            (Drives::Servo, _) => 50.0,
            (_, false) => 1000.0,
            (_, true) => 100.0,
        })
    }

    /// Whether its pulses are made by software.
    pub fn software(&self) -> bool {
        self.drives != Drives::Digital && self.line.iter().any(|line| matches!(line, Line::Gpio(_)))
    }

    /// # Errors
    /// [`Wrong`]
    pub fn check(&self) -> Result<(), Wrong> {
        check_name("pin.name", &self.name)?;
        let motor = self.drives == Drives::Motor;
        match (motor, self.line.len(), self.direction.len()) {
            (_, 1, 0) if !motor => {}
            (true, 1, 1 | 2) | (true, 2, 0) => {}
            (true, ..) => {
                let wanted = "one PWM line and one or two direction lines, or two PWM lines and no direction";
                return wrong("pin.direction", format!("{} lines", self.direction.len()), wanted);
            }
            (false, 1, _) => return wrong("pin.direction", self.direction[0], "none: only a motor has directions"),
            (false, n, _) => return wrong("pin.line", format!("{n} lines"), "one line: only a motor has two"),
        }
        if let Some(pwm) = self.direction.iter().find(|line| matches!(line, Line::Pwm { .. })) {
            return wrong("pin.direction", pwm, "GPIO numbers");
        }
        if self.drives == Drives::Digital && matches!(self.line[0], Line::Pwm { .. }) {
            return wrong("pin.line", self.line[0], "a GPIO number, as it is digital");
        }
        let ((least, most), (lowest, highest)) = (self.limits(), self.kind_limits());
        if !(lowest..=highest).contains(&least) {
            return wrong("pin.least", least, "0 to 1; -1 to 1 of a servo or motor");
        }
        if !(lowest..=highest).contains(&most) || least >= most {
            return wrong("pin.most", most, "0 to 1, -1 to 1 of a servo or motor; above pin.least");
        }
        if let Safe::At(value) = self.safe
            && !(least..=most).contains(&value)
        {
            return wrong("pin.safe", value, "\"off\", or a value from pin.least to pin.most");
        }
        if let Some(rate) = self.per_second
            && !(rate > 0.0 && rate.is_finite())
        {
            return wrong("pin.per_second", rate, "a change a second above 0; leave it out for no limit");
        }
        let (hz, most_hz) = (self.hz(), if self.software() { MOST_SOFT_HZ } else { 100_000.0 });
        if !(1.0..=most_hz).contains(&hz) {
            return wrong(
                "pin.hz",
                hz,
                "pulses a second, 1 to 100000; to 500 on a GPIO number, as software makes them",
            );
        }
        if self.drives == Drives::Servo {
            let pulse = 100.0..=10_000.0;
            if !pulse.contains(&self.min_us) {
                return wrong("pin.min_us", self.min_us, "microseconds, 100 to 10000");
            }
            if !pulse.contains(&self.max_us) || self.max_us <= self.min_us || self.max_us * hz > 1e6 {
                return wrong(
                    "pin.max_us",
                    self.max_us,
                    "microseconds, above pin.min_us and within a period of pin.hz",
                );
            }
        }
        if self.active_low && matches!(self.drives, Drives::Servo | Drives::Motor) {
            return wrong("pin.active_low", true, "false, or drives = \"digital\" or \"pwm\"");
        }
        Ok(())
    }
}

/// What a button asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Asks {
    /// What is seen now is an example: of the class `label`, or of `value` for a `controller`.
    Teach,
    /// Learning stops; at the next press it goes on.
    Freeze,
    /// A checkpoint is written.
    Save,
}

/// The resistor of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bias {
    /// Towards the level of a button that is not pressed.
    #[default]
    Auto,
    Up,
    Down,
    /// None, as there is one outside.
    None,
}

/// `[[button]]`: one input.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ButtonTable {
    pub name: String,
    /// A GPIO number.
    pub line: Line,
    pub does: Asks,
    /// Of `teach`: the class that is shown.
    #[serde(default)]
    pub label: Option<String>,
    /// Of `teach`: the values that are shown, and to which controller.
    #[serde(default, deserialize_with = "values", skip_serializing_if = "Vec::is_empty")]
    pub value: Vec<f64>,
    #[serde(default)]
    pub controller: Option<String>,
    /// A pressed button pulls its line low: the usual wiring, to ground.
    #[serde(default = "yes")]
    pub active_low: bool,
    #[serde(default)]
    pub bias: Bias,
    /// Milliseconds for which a level must last.
    #[serde(default = "debounce_ms")]
    pub debounce_ms: u64,
}

fn yes() -> bool {
    true
}
fn debounce_ms() -> u64 {
    20
}

/// One number, or a list of them.
fn values<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number, or a list of them")]
    enum Values {
        One(f64),
        Many(Vec<f64>),
    }
    Ok(match Values::deserialize(from)? {
        Values::One(one) => vec![one],
        Values::Many(many) => many,
    })
}

impl ButtonTable {
    pub fn debounce(&self) -> Duration {
        Duration::from_millis(self.debounce_ms)
    }

    /// The resistor, where `auto` is made one.
    pub fn resistor(&self) -> Bias {
        match (self.bias, self.active_low) {
            (Bias::Auto, true) => Bias::Up,
            (Bias::Auto, false) => Bias::Down,
            (bias, _) => bias,
        }
    }

    /// # Errors
    /// [`Wrong`]
    pub fn check(&self) -> Result<(), Wrong> {
        check_name("button.name", &self.name)?;
        if matches!(self.line, Line::Pwm { .. }) {
            return wrong("button.line", self.line, "a GPIO number");
        }
        let teaches = self.does == Asks::Teach;
        if teaches && self.label.is_some() != self.value.is_empty() {
            return wrong("button.does", "teach", "either label = \"…\", or value = … with controller = \"…\"");
        }
        if let (false, Some(label)) = (teaches, &self.label) {
            return wrong("button.label", label, "none: only does = \"teach\" has a label");
        }
        if !self.value.is_empty() && (!teaches || self.controller.is_none()) {
            return wrong("button.value", self.value[0], "only with does = \"teach\" and controller = \"…\"");
        }
        if let (true, Some(controller)) = (self.value.is_empty(), &self.controller) {
            return wrong("button.controller", controller, "only with value = …: classes are all controllers' own");
        }
        if let Some(value) = self.value.iter().find(|value| !value.is_finite()) {
            return wrong("button.value", value, "a number");
        }
        if !(1..=1000).contains(&self.debounce_ms) {
            return wrong("button.debounce_ms", self.debounce_ms, "milliseconds, 1 to 1000");
        }
        Ok(())
    }
}

fn check_name(key: &'static str, name: &str) -> Result<(), Wrong> {
    let sound = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if sound { Ok(()) } else { wrong(key, name, "letters, digits, - and _") }
}
