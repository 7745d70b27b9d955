//! `imu:`, `tof:`, `adc:` and `iio:`: sensors on a Linux board, as windows of readings.
//!
//! A thread takes readings from the sensor when they are due (`sampling`) and whoever reads cuts windows out of
//! them (`windows`). The registers are those of [`crate::parts`]; the bus is the kernel's.

mod place;
pub use place::{Part, Place, inputs};

#[cfg(feature = "sensors")]
mod adc;
#[cfg(feature = "sensors")]
mod bus;
#[cfg(all(test, feature = "sensors"))]
mod fake;
#[cfg(feature = "sensors")]
mod fault;
#[cfg(feature = "sensors")]
mod iio;
#[cfg(feature = "sensors")]
mod imu;
#[cfg(feature = "sensors")]
mod sampling;
#[cfg(feature = "sensors")]
mod tof;
#[cfg(feature = "sensors")]
mod windows;

#[cfg(feature = "sensors")]
pub use live::{Identity, identify, open};

#[cfg(feature = "sensors")]
mod live;
