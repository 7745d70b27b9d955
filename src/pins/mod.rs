//! Outputs and buttons of a machine with an operating system: what controllers move, and what people press.
//!
//! A pin is safe from the moment it is opened, whenever [`Pins::make_safe`] is called, and when [`Pins`] is dropped. Setting a
//! pin clamps, never panics and allocates nothing; a write that fails is counted, and told the first time. What a line does
//! when the program is killed or the power goes is told in `docs/pins.md`. The lines are a Pi's (`rppal`), those of a GPIO
//! character device (`gpiocdev`), channels of the kernel's PWM chips, or simulated.

mod buttons;
pub mod check;
mod chip;
pub mod config;
#[cfg(feature = "gpio")]
mod device;
mod line;
#[cfg(feature = "gpio")]
mod pi;
mod pwm;
pub mod simulated;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

pub use buttons::{Buttons, Pressed};
pub use chip::Chip;
use config::{Drives, Line, PinTable, PinsTable, Safe};
#[cfg(feature = "gpio")]
pub use device::{header, line_use};
use line::{Inverted, InvertedPulse, Level, Pulse};
use simulated::Journal;

/// A value that is set after a longer pause moves as far as in this time.
const LONGEST_STEP: Duration = Duration::from_millis(100);

/// Why a line cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{who}: {problem}; {remedy}")]
pub struct PinError {
    /// Whose line it is: `pin steer`.
    pub who: String,
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl PinError {
    fn new(who: &str, problem: impl Into<String>, remedy: &str) -> Self {
        PinError { who: who.into(), problem: problem.into(), remedy: remedy.into() }
    }

    #[cfg(not(feature = "gpio"))]
    fn not_built(who: &str, number: u32) -> Self {
        let remedy = "build it with `cargo build --release --features gpio`, or write [pins] chip = \"simulated\"";
        Self::new(who, format!("GPIO {number}: this program was built without GPIO"), remedy)
    }

    fn of(who: &str, line: Line, error: &io::Error) -> Self {
        Self::on(who, &line.to_string(), error)
    }

    /// What the system said of `place`.
    fn on(who: &str, place: &str, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let pwm = place.starts_with("pwmchip");
        let remedy = match error.kind() {
            Kind::PermissionDenied => "sudo usermod -aG gpio $USER, log in again",
            Kind::ResourceBusy => "another program or a driver has the line: `gpioinfo` says which",
            Kind::NotFound if pwm => {
                "there is no such PWM chip: dtoverlay=pwm-2chan in /boot/firmware/config.txt, then restart"
            }
            Kind::NotFound => "there is no such chip: `gpiodetect` lists them",
            Kind::InvalidInput => "the chip has no such line, or it cannot do this: `gpioinfo` lists them",
            _ => "look whether the device is still there",
        };
        Self::new(who, format!("{place}: {error}"), remedy)
    }
}

/// A pin of [`Pins`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinId(usize);

/// How a pin stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PinState<'a> {
    pub name: &'a str,
    /// The value that was written last; `None` without pulses.
    pub value: Option<f64>,
    /// Writes that failed.
    pub failures: u64,
}

/// The lines of a pin.
enum Output {
    Digital(Box<dyn Level>),
    /// Nanoseconds high at 0 and at 1.
    Pulse {
        pulse: Box<dyn Pulse>,
        at_zero: f64,
        at_one: f64,
    },
    Directed {
        speed: Box<dyn Pulse>,
        forward: Option<Box<dyn Level>>,
        backward: Box<dyn Level>,
        was_backward: Option<bool>,
    },
    Twin {
        forward: Box<dyn Pulse>,
        backward: Box<dyn Pulse>,
    },
}

struct Pin {
    table: PinTable,
    period_ns: u32,
    output: Output,
    value: Option<f64>,
    /// When it was set last.
    set: Instant,
    failures: u64,
}

/// All outputs of a profile.
pub struct Pins {
    pins: Vec<Pin>,
}

impl Pins {
    /// Opens the lines of `tables`, which have been checked, each in its safe state. Without any nothing is opened.
    ///
    /// # Errors
    /// [`PinError`] where a line cannot be had; those that were opened are safe.
    pub fn open(table: &PinsTable, tables: &[PinTable]) -> Result<Self, PinError> {
        match tables {
            [] => Ok(Pins { pins: Vec::new() }),
            _ => Self::open_on(&Chip::choose(table)?, Path::new("/"), tables),
        }
    }

    /// Pins of lines that are none, and what is written to them.
    ///
    /// # Errors
    /// [`PinError`]
    pub fn simulated(tables: &[PinTable]) -> Result<(Self, Journal), PinError> {
        let journal = Journal::in_memory();
        let pins = Self::open_on(&Chip::Simulated(journal.clone()), Path::new("/"), tables)?;
        Ok((pins, journal))
    }

    /// As [`Pins::open`]; `root` is the root of the file system.
    fn open_on(chip: &Chip, root: &Path, tables: &[PinTable]) -> Result<Self, PinError> {
        // What was opened before a failure is dropped, and thereby safe.
        let mut pins = Pins { pins: Vec::with_capacity(tables.len()) };
        for table in tables {
            pins.pins.push(Pin::open(chip, root, table)?);
        }
        Ok(pins)
    }

    /// The pin of this name.
    pub fn find(&self, name: &str) -> Option<PinId> {
        self.pins.iter().position(|pin| pin.table.name == name).map(PinId)
    }

    /// Gives a pin its value, within its limits and its fastest change. What is no number makes it safe.
    pub fn set(&mut self, id: PinId, value: f64) {
        if let Some(pin) = self.pins.get_mut(id.0) {
            pin.set(value, Instant::now());
        }
    }

    /// Puts every pin into its safe state, at once.
    pub fn make_safe(&mut self) {
        self.pins.iter_mut().for_each(Pin::make_safe);
    }

    /// How all pins stand, in the order of the profile.
    pub fn states(&self) -> impl Iterator<Item = PinState<'_>> {
        self.pins.iter().map(|pin| PinState { name: &pin.table.name, value: pin.value, failures: pin.failures })
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.make_safe();
    }
}

impl Pin {
    fn open(chip: &Chip, root: &Path, table: &PinTable) -> Result<Self, PinError> {
        let who = format!("pin {}", table.name);
        let period = 1e9 / table.hz();
        let period_ns = period as u32;
        let level = |line: Line, on: bool| -> Result<Box<dyn Level>, PinError> {
            let level = chip.level(&who, line, on != table.active_low)?;
            Ok(if table.active_low { Box::new(Inverted(level)) } else { level })
        };
        let pulse = |line: Line, high_ns: u32| -> Result<Box<dyn Pulse>, PinError> {
            let high_ns = if table.active_low { period_ns - high_ns } else { high_ns };
            let pulse = chip.pulse(&who, root, line, period_ns, high_ns)?;
            Ok(if table.active_low { Box::new(InvertedPulse { pulse, period_ns }) } else { pulse })
        };
        let safe = match table.safe {
            Safe::Off => None,
            Safe::At(value) => Some(value),
        };
        let share = |value: Option<f64>| (value.unwrap_or(0.0).clamp(0.0, 1.0) * period) as u32;
        let output = match table.drives {
            Drives::Digital => Output::Digital(level(table.line[0], safe.is_some_and(|value| value >= 0.5))?),
            Drives::Pwm => Output::Pulse { pulse: pulse(table.line[0], share(safe))?, at_zero: 0.0, at_one: period },
            Drives::Servo => {
                let (least, most) = (table.min_us * 1e3, table.max_us * 1e3);
                let at_zero = (least + most) / 2.0;
                let high_ns = safe.map_or(0, |value| (at_zero + value * (most - at_zero)) as u32);
                Output::Pulse { pulse: pulse(table.line[0], high_ns)?, at_zero, at_one: most }
            }
            Drives::Motor if table.line.len() == 2 => Output::Twin {
                forward: pulse(table.line[0], share(safe))?,
                backward: pulse(table.line[1], share(safe.map(|value| -value)))?,
            },
            Drives::Motor => {
                let back = safe.is_some_and(|value| value < 0.0);
                let forward = match table.direction[..] {
                    [forward, _] => Some(level(forward, safe.is_some_and(|value| value > 0.0))?),
                    _ => None,
                };
                let backward = level(table.direction[table.direction.len() - 1], back)?;
                let speed = pulse(table.line[0], share(safe.map(f64::abs)))?;
                // At a value of 0 no direction was given yet.
                Output::Directed { speed, forward, backward, was_backward: None }
            }
        };
        let now = Instant::now();
        Ok(Pin { table: table.clone(), period_ns, output, value: safe, set: now, failures: 0 })
    }

    fn set(&mut self, value: f64, now: Instant) {
        let (least, most) = self.table.limits();
        if value.is_nan() {
            return self.make_safe();
        }
        let mut value = value.clamp(least, most);
        if let Some(rate) = self.table.per_second {
            let passed = now.saturating_duration_since(self.set).min(LONGEST_STEP).as_secs_f64();
            let from = self.value.unwrap_or(0.0).clamp(least, most);
            value = value.clamp(from - rate * passed, from + rate * passed);
        }
        self.set = now;
        self.write(Some(value));
    }

    fn make_safe(&mut self) {
        self.set = Instant::now();
        self.write(match self.table.safe {
            Safe::Off => None,
            Safe::At(value) => Some(value),
        });
    }

    fn write(&mut self, value: Option<f64>) {
        match self.output.write(value, self.period_ns) {
            Ok(()) => self.value = value,
            Err(error) => {
                self.failures += 1;
                if self.failures == 1 {
                    let name = &self.table.name;
                    eprintln!("nestling: pin {name} cannot be written: {error}; `nestling status` counts how often");
                }
            }
        }
    }
}

impl Output {
    /// `None` is off: no pulses, and a digital line inactive.
    fn write(&mut self, value: Option<f64>, period_ns: u32) -> io::Result<()> {
        let share = |value: f64| (value.clamp(0.0, 1.0) * f64::from(period_ns)) as u32;
        match self {
            Output::Digital(level) => level.write(value.is_some_and(|value| value >= 0.5)),
            Output::Pulse { pulse, at_zero, at_one } => {
                pulse.write(value.map_or(0, |value| (*at_zero + value * (*at_one - *at_zero)) as u32))
            }
            Output::Twin { forward, backward } => {
                let value = value.unwrap_or(0.0);
                // First the one that ends, so that they are never on together.
                let (mut first, mut second) = ((forward, share(value)), (backward, share(-value)));
                if value > 0.0 {
                    std::mem::swap(&mut first, &mut second);
                }
                let ended = first.0.write(first.1);
                if ended.is_err() && second.1 > 0 {
                    return ended;
                }
                second.0.write(second.1).and(ended)
            }
            Output::Directed { speed, forward, backward, was_backward } => {
                let Some(value) = value else {
                    let ended = speed.write(0);
                    *was_backward = None;
                    let forward = forward.as_mut().map_or(Ok(()), |line| line.write(false));
                    return backward.write(false).and(forward).and(ended);
                };
                let is_backward = value < 0.0;
                if *was_backward != Some(is_backward) {
                    // The bridge is switched without current.
                    speed.write(0)?;
                    match forward {
                        // Never both, which would brake.
                        Some(line) if is_backward => {
                            line.write(false)?;
                            backward.write(true)?;
                        }
                        Some(line) => {
                            backward.write(false)?;
                            line.write(true)?;
                        }
                        None => backward.write(is_backward)?,
                    }
                    *was_backward = Some(is_backward);
                }
                speed.write(share(value.abs()))
            }
        }
    }
}
