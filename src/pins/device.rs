//! Lines by the kernel's GPIO character device: the crate `gpiocdev`.

use std::io;
use std::path::{Path, PathBuf};

use gpiocdev::Request;
use gpiocdev::line::{Bias as LineBias, EdgeDetection, Value};

use super::PinError;
use super::config::{Bias, ButtonTable, Line};
use super::line::Level;

/// The chip of a Pi's header: its number differs between models and kernels.
pub fn header() -> PathBuf {
    let header = |path: &PathBuf| {
        let info = gpiocdev::Chip::from_path(path).and_then(|chip| chip.info());
        info.is_ok_and(|info| info.label.starts_with("pinctrl-bcm2") || info.label == "pinctrl-rp1")
    };
    let chips = gpiocdev::chip::chips().unwrap_or_default();
    chips.into_iter().find(header).unwrap_or_else(|| "/dev/gpiochip0".into())
}

/// A line's name, and whoever has it now. Nothing is taken.
///
/// # Errors
/// In words.
pub fn line_use(path: &Path, number: u32) -> Result<(String, Option<String>), String> {
    let chip = gpiocdev::Chip::from_path(path).map_err(|error| error.to_string())?;
    let lines = chip.info().map_err(|error| error.to_string())?.num_lines;
    if number >= lines {
        return Err(format!("the chip has {lines} lines"));
    }
    let info = chip.line_info(number).map_err(|error| error.to_string())?;
    let consumer = info.used.then(|| if info.consumer.is_empty() { "the kernel".into() } else { info.consumer });
    Ok((info.name, consumer))
}

fn refused(path: &Path, who: &str, error: &gpiocdev::Error) -> PinError {
    match system(error) {
        Some(error) => PinError::on(who, &path.display().to_string(), &error),
        None => {
            PinError::new(who, format!("{}: {error}", path.display()), "`gpiodetect` and `gpioinfo` list what there is")
        }
    }
}

/// The system's own error. The crate hands it out as text only.
fn system(error: &gpiocdev::Error) -> Option<io::Error> {
    let text = error.to_string();
    let number = text.rsplit_once("(os error ")?.1.trim_end_matches([')', '.']);
    number.parse().ok().map(io::Error::from_raw_os_error)
}

struct Output(Request);

impl Level for Output {
    fn write(&mut self, high: bool) -> io::Result<()> {
        let value = if high { Value::Active } else { Value::Inactive };
        self.0.set_lone_value(value).map_err(|error| system(&error).unwrap_or_else(|| io::ErrorKind::Other.into()))
    }
}

pub(super) fn output(path: &Path, who: &str, number: u32, high: bool) -> Result<Box<dyn Level>, PinError> {
    let value = if high { Value::Active } else { Value::Inactive };
    let request =
        Request::builder().on_chip(path).with_consumer("nestling").with_line(number).as_output(value).request();
    Ok(Box::new(Output(request.map_err(|error| refused(path, who, &error))?)))
}

/// All buttons in one request: an edge to active is a press.
pub(super) fn watch(path: &Path, tables: &[ButtonTable]) -> Result<Request, PinError> {
    let mut builder = Request::builder();
    builder.on_chip(path).with_consumer("nestling");
    for table in tables {
        let Line::Gpio(number) = table.line else { continue };
        builder.with_line(number).as_input().with_debounce_period(table.debounce());
        builder.with_bias(match table.resistor() {
            Bias::Up => LineBias::PullUp,
            Bias::Down => LineBias::PullDown,
            Bias::Auto | Bias::None => LineBias::Disabled,
        });
        // Edges are those of the logical level.
        builder.with_edge_detection(EdgeDetection::RisingEdge);
        if table.active_low {
            builder.as_active_low()
        } else {
            builder.as_active_high()
        };
    }
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    builder.request().map_err(|error| refused(path, &format!("buttons {}", names.join(", ")), &error))
}
