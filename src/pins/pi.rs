//! A Raspberry Pi's lines by its registers: the crate `rppal`.

use std::io;
use std::path::Path;
use std::sync::mpsc::SyncSender;

use rppal::gpio::{Error, Gpio, InputPin, Mode, OutputPin, Trigger};

use super::buttons::Pressed;
use super::config::{Bias, ButtonTable, Line};
use super::line::Level;
use super::{Chip, PinError};

/// Whether the machine under `root` is a Raspberry Pi.
pub(super) fn is_pi(root: &Path) -> bool {
    // The device tree's strings end with a zero.
    let model = std::fs::read(root.join("proc/device-tree/model")).unwrap_or_default();
    String::from_utf8_lossy(&model).starts_with("Raspberry Pi")
}

pub(super) fn open() -> Result<Chip, PinError> {
    Gpio::new().map(Chip::Pi).map_err(|error| refused("the Pi's pins", &error))
}

fn refused(who: &str, error: &Error) -> PinError {
    let remedy = match error {
        Error::PermissionDenied(_) => {
            "sudo usermod -aG gpio $USER, log in again; or take the kernel's device: [pins] chip = \"gpiochip0\""
        }
        Error::UnknownModel => "this is no Raspberry Pi that is known: [pins] chip = \"gpiochip0\"",
        Error::PinNotAvailable(_) => "name a line that the Pi has, by its BCM number and not by that of the header",
        Error::PinUsed(_) => "name the line once",
        _ => "take the kernel's device: [pins] chip = \"gpiochip0\"",
    };
    PinError::new(who, error.to_string(), remedy)
}

/// The line, unless a bus has it.
fn pin(gpio: &Gpio, who: &str, number: u32) -> Result<rppal::gpio::Pin, PinError> {
    let number = u8::try_from(number).unwrap_or(u8::MAX);
    let pin = gpio.get(number).map_err(|error| refused(who, &error))?;
    match pin.mode() {
        Mode::Input | Mode::Output | Mode::Null => Ok(pin),
        mode => Err(PinError::new(
            who,
            format!("GPIO {number} has another function now ({mode})"),
            "name another line, or switch off the bus that has it in /boot/firmware/config.txt (`pinctrl` shows which)",
        )),
    }
}

struct Output(OutputPin);

impl Level for Output {
    fn write(&mut self, high: bool) -> io::Result<()> {
        self.0.write(high.into());
        Ok(())
    }
}

pub(super) fn output(gpio: &Gpio, who: &str, number: u32, high: bool) -> Result<Box<dyn Level>, PinError> {
    let pin = pin(gpio, who, number)?;
    let mut pin = if high { pin.into_output_high() } else { pin.into_output_low() };
    // The safe state is to stay when the program ends.
    pin.set_reset_on_drop(false);
    Ok(Box::new(Output(pin)))
}

/// Lines that tell of buttons as long as they are kept.
pub(super) fn watch(
    gpio: &Gpio,
    tables: &[ButtonTable],
    presses: &SyncSender<Pressed>,
) -> Result<Vec<InputPin>, PinError> {
    let mut watched = Vec::new();
    for (button, table) in tables.iter().enumerate() {
        let who = format!("button {}", table.name);
        let Line::Gpio(number) = table.line else { continue };
        let pin = pin(gpio, &who, number)?;
        let mut pin = match table.resistor() {
            Bias::Up => pin.into_input_pullup(),
            Bias::Down => pin.into_input_pulldown(),
            Bias::Auto | Bias::None => pin.into_input(),
        };
        let edge = if table.active_low { Trigger::FallingEdge } else { Trigger::RisingEdge };
        let presses = presses.clone();
        pin.set_async_interrupt(edge, Some(table.debounce()), move |_| {
            // Where nobody has read the last ones, one more says nothing new.
            let _ = presses.try_send(Pressed { button });
        })
        .map_err(|error| refused(&who, &error))?;
        watched.push(pin);
    }
    Ok(watched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pi_is_known_by_its_device_tree() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(!is_pi(root.path()));
        let folder = root.path().join("proc/device-tree");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("model"), b"Raspberry Pi 5 Model B Rev 1.0\0").expect("a file");
        assert!(is_pi(root.path()));
        std::fs::write(folder.join("model"), b"Radxa ROCK 4C+\0").expect("a file");
        assert!(!is_pi(root.path()));
    }
}
