//! Readings of an IMU, one a message, cut into windows `[length, 6]`: accelerometer x, y, z, gyroscope x, y, z.
//!
//! The units are those of every inertial sensor here ([`crate::parts`]): 8192 a g, 65.5 a °/s; what is beyond ±4 g or
//! ±500 °/s stays at that.

use super::super::Record;
use super::super::signal::WINDOW;
use crate::ros::messages::Imu;
use crate::sample::Micros;

/// Units a m/s², and a rad/s.
const ACCELERATION: f64 = 8192.0 / 9.806_65;
const TURNING: f64 = 65.5 * 180.0 / std::f64::consts::PI;

const AXES: usize = 6;

/// The six axes of a reading; `None` where one of them is no number.
pub fn axes(imu: &Imu) -> Option<[i16; AXES]> {
    let (a, w) = (&imu.linear_acceleration, &imu.angular_velocity);
    let values =
        [(a.x, ACCELERATION), (a.y, ACCELERATION), (a.z, ACCELERATION), (w.x, TURNING), (w.y, TURNING), (w.z, TURNING)];
    values
        .iter()
        .all(|(value, _)| value.is_finite())
        .then(|| values.map(|(value, unit)| (value * unit).round().clamp(-32767.0, 32767.0) as i16))
}

/// See the module.
pub struct Windows {
    length: usize,
    stride: usize,
    /// Readings since the last window's start, and the time of each.
    readings: Vec<[i16; AXES]>,
    times: Vec<Micros>,
    segment: u32,
    /// Readings that lie between two windows and are still to be passed over.
    passing: usize,
}

impl Windows {
    pub fn new(window: Option<usize>, stride: Option<usize>) -> Self {
        let length = window.unwrap_or(WINDOW);
        let stride = stride.unwrap_or((length / 2).max(1));
        Windows { length, stride, readings: Vec::new(), times: Vec::new(), segment: 0, passing: 0 }
    }

    pub fn clear(&mut self) {
        self.readings.clear();
        self.times.clear();
        self.passing = 0;
    }

    /// Windows of so many readings without a pause.
    #[cfg(feature = "mcap")]
    pub fn count_of(&self, readings: u64) -> u64 {
        readings.checked_sub(self.length as u64).map_or(0, |more| more / self.stride as u64 + 1)
    }

    /// Adds a reading; `true` where it completes a window, which is then in `record`.
    pub fn add(&mut self, axes: [i16; AXES], time: Micros, segment: u32, record: &mut Record) -> bool {
        if segment != self.segment {
            self.clear();
            self.segment = segment;
        }
        if self.passing > 0 {
            self.passing -= 1;
            return false;
        }
        self.readings.push(axes);
        self.times.push(time);
        if self.readings.len() < self.length {
            return false;
        }
        let into = record.window_mut(self.length, AXES);
        into.copy_from_slice(self.readings.as_flattened());
        // The time of a window is that of its first reading, as of every signal.
        (record.time, record.segment, record.group, record.label) = (self.times[0], segment, segment, None);
        record.beside.clear();
        let gone = self.stride.min(self.length);
        self.readings.drain(..gone);
        self.times.drain(..gone);
        self.passing = self.stride - gone;
        true
    }
}
