//! Through what GPIO lines are reached: a Pi's registers (`rppal`), the kernel's character device (`gpiocdev`), nothing.

use std::io;
use std::path::Path;

use super::PinError;
use super::config::{Line, PinsTable};
use super::line::{Level, Pulse, Soft};
use super::pwm::Channel;
use super::simulated::{Journal, Simulated};
#[cfg(feature = "gpio")]
use super::{device, pi};

/// Through what GPIO lines are reached.
pub enum Chip {
    /// Nothing is driven; changes are written down.
    Simulated(Journal),
    /// A Raspberry Pi's own lines.
    #[cfg(feature = "gpio")]
    Pi(rppal::gpio::Gpio),
    /// A GPIO character device.
    #[cfg(feature = "gpio")]
    Device(std::path::PathBuf),
    /// This program was built without the feature `gpio`.
    #[cfg(not(feature = "gpio"))]
    None,
}

impl Chip {
    /// What `table` names. Where it names nothing: on a Raspberry Pi its registers, or if those are not ours to use the
    /// chip of its header; elsewhere `gpiochip0`.
    ///
    /// # Errors
    /// [`PinError`]
    pub fn choose(table: &PinsTable) -> Result<Self, PinError> {
        if table.chip.as_deref() == Some("simulated") {
            let journal = Journal::in_folder(table.folder.as_deref()).map_err(|error| {
                PinError::new(
                    "the file of simulated pins",
                    error.to_string(),
                    "make the folder of [pins] and let it be written",
                )
            })?;
            return Ok(Chip::Simulated(journal));
        }
        #[cfg(not(feature = "gpio"))]
        return Ok(Chip::None);
        #[cfg(feature = "gpio")]
        match table.chip.as_deref() {
            Some("pi") => pi::open(),
            Some(name) => Ok(Chip::Device(Path::new("/dev").join(name))),
            None if pi::is_pi(Path::new("/")) => Ok(pi::open().unwrap_or_else(|_| Chip::Device(device::header()))),
            None => Ok(Chip::Device("/dev/gpiochip0".into())),
        }
    }

    /// For messages: `gpiochip0`.
    pub fn name(&self) -> String {
        match self {
            Chip::Simulated(_) => "simulated".into(),
            #[cfg(feature = "gpio")]
            Chip::Pi(_) => "the Pi's registers".into(),
            #[cfg(feature = "gpio")]
            Chip::Device(path) => path.display().to_string(),
            #[cfg(not(feature = "gpio"))]
            Chip::None => "no chip".into(),
        }
    }

    /// `line` as an output that is `high` from the start; `who` is for messages.
    pub(super) fn level(&self, who: &str, line: Line, high: bool) -> Result<Box<dyn Level>, PinError> {
        let Line::Gpio(number) = line else {
            return Err(PinError::new(who, format!("{line} gives pulses only"), "name a GPIO number"));
        };
        let mut level: Box<dyn Level> = match self {
            Chip::Simulated(journal) => Box::new(Simulated::new(journal.clone(), line)),
            #[cfg(feature = "gpio")]
            Chip::Pi(gpio) => pi::output(gpio, who, number, high)?,
            #[cfg(feature = "gpio")]
            Chip::Device(path) => device::output(path, who, number, high)?,
            #[cfg(not(feature = "gpio"))]
            Chip::None => return Err(PinError::not_built(who, number)),
        };
        level.write(high).map_err(|error| PinError::of(who, line, &error))?;
        Ok(level)
    }

    /// `line` with pulses of `high_ns` each `period_ns` from the start: by hardware where it is a channel of a PWM chip.
    pub(super) fn pulse(
        &self,
        who: &str,
        root: &Path,
        line: Line,
        period_ns: u32,
        high_ns: u32,
    ) -> Result<Box<dyn Pulse>, PinError> {
        let failed = |error: io::Error| PinError::of(who, line, &error);
        match (self, line) {
            (Chip::Simulated(journal), _) => {
                let mut pulse = Box::new(Simulated::new(journal.clone(), line));
                Pulse::write(&mut *pulse, high_ns).map_err(failed)?;
                Ok(pulse)
            }
            (_, Line::Pwm { chip, channel }) => {
                Ok(Box::new(Channel::open(root, chip, channel, period_ns, high_ns).map_err(failed)?))
            }
            (_, Line::Gpio(_)) => {
                let level = self.level(who, line, high_ns >= period_ns)?;
                Ok(Box::new(Soft::start(level, period_ns, high_ns).map_err(failed)?))
            }
        }
    }
}
