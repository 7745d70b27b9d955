//! What messages hold: those of ROS 2 that nestling reads and writes, and its own. Fields, their order and their names are
//! those of the `.msg` files.

use std::time::Duration as Elapsed;

use serde::{Deserialize, Serialize};

use super::cdr::octets;
use super::types::{self, Type};
use crate::sample::Micros;

/// What has a place in a recording or on a topic.
pub trait Message: Serialize {
    const TYPE: &'static Type;
}

macro_rules! message {
    ($($name:ident $(<$life:lifetime>)? = $of:ident),+ $(,)?) => {
        $(impl $(<$life>)? Message for $name $(<$life>)? {
            const TYPE: &'static Type = &types::$of;
        })+
    };
}

message! {
    Time = TIME, Duration = DURATION, Header = HEADER, Text = STRING, Image<'a> = IMAGE, CompressedImage<'a> = COMPRESSED_IMAGE,
    Quaternion = QUATERNION, Vector3 = VECTOR3, Imu = IMU, Feature<'a> = FEATURE, Decision = DECISION, Health = HEALTH,
    Sample<'a> = SAMPLE, Window = WINDOW,
}

/// `builtin_interfaces/msg/Time`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    pub sec: i32,
    pub nanosec: u32,
}

impl From<Micros> for Time {
    /// Times past 2038 stop there: ROS 2 has no word for them.
    fn from(time: Micros) -> Self {
        Time { sec: i32::try_from(time.0 / 1_000_000).unwrap_or(i32::MAX), nanosec: (time.0 % 1_000_000) as u32 * 1000 }
    }
}

impl Time {
    /// `None` before the epoch, and where a second has more than 10⁹ nanoseconds.
    pub fn micros(self) -> Option<Micros> {
        let sec = u64::try_from(self.sec).ok()?;
        (self.nanosec < 1_000_000_000).then(|| Micros(sec * 1_000_000 + u64::from(self.nanosec / 1000)))
    }
}

/// `builtin_interfaces/msg/Duration`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duration {
    pub sec: i32,
    pub nanosec: u32,
}

impl From<Elapsed> for Duration {
    fn from(time: Elapsed) -> Self {
        Duration { sec: i32::try_from(time.as_secs()).unwrap_or(i32::MAX), nanosec: time.subsec_nanos() }
    }
}

/// `std_msgs/msg/Header`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub stamp: Time,
    pub frame_id: String,
}

/// `std_msgs/msg/String`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    pub data: String,
}

/// `sensor_msgs/msg/Image`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image<'a> {
    pub header: Header,
    pub height: u32,
    pub width: u32,
    /// `rgb8`, `bgr8`, `mono8` and others.
    pub encoding: String,
    pub is_bigendian: u8,
    /// Bytes of a row.
    pub step: u32,
    #[serde(with = "octets", borrow)]
    pub data: &'a [u8],
}

/// `sensor_msgs/msg/CompressedImage`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressedImage<'a> {
    pub header: Header,
    /// `jpeg`, `png`, or `ENCODING; jpeg compressed ENCODING`.
    pub format: String,
    #[serde(with = "octets", borrow)]
    pub data: &'a [u8],
}

/// `geometry_msgs/msg/Quaternion`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quaternion {
    pub x: f64,
    pub y: f64,
    pub z: f64,
    pub w: f64,
}

/// `geometry_msgs/msg/Vector3`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vector3 {
    pub x: f64,
    pub y: f64,
    pub z: f64,
}

/// `sensor_msgs/msg/Imu`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Imu {
    pub header: Header,
    pub orientation: Quaternion,
    /// `[3, 3]`; the first is −1 where there is no orientation. Likewise below.
    pub orientation_covariance: [f64; 9],
    /// rad/s
    pub angular_velocity: Vector3,
    pub angular_velocity_covariance: [f64; 9],
    /// m/s²
    pub linear_acceleration: Vector3,
    pub linear_acceleration_covariance: [f64; 9],
}

/// `nestling_msgs/msg/Feature`; what its fields mean is in `Feature.msg`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Feature<'a> {
    pub header: Header,
    pub age: Duration,
    pub encoder: u32,
    pub novelty: f32,
    pub health: f32,
    pub lengths: Vec<u32>,
    pub exponents: Vec<u32>,
    #[serde(with = "octets", borrow)]
    pub values: &'a [i8],
}

/// `nestling_msgs/msg/Decision`; what its fields mean is in `Decision.msg`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub header: Header,
    pub age: Duration,
    pub controller: String,
    pub values: Vec<f64>,
    pub confidence: f32,
    pub label: String,
    /// [`ALARM_NONE`], [`ALARM_QUIET`] or [`ALARM_RAISED`].
    pub alarm: u8,
    pub safe: String,
}

pub const ALARM_NONE: u8 = 0;
pub const ALARM_QUIET: u8 = 1;
pub const ALARM_RAISED: u8 = 2;

/// `nestling_msgs/msg/Sample`; what its fields mean is in `Sample.msg`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample<'a> {
    pub header: Header,
    pub time_us: u64,
    pub segment: u32,
    pub group: u32,
    pub learned: bool,
    /// [`LABEL_NONE`], [`LABEL_CLASS`] or [`LABEL_VALUE`].
    pub label_kind: u8,
    pub label: f64,
    #[serde(with = "octets", borrow)]
    pub beside: &'a [i8],
}

pub const LABEL_NONE: u8 = 0;
pub const LABEL_CLASS: u8 = 1;
pub const LABEL_VALUE: u8 = 2;

/// `nestling_msgs/msg/Window`; what its fields mean is in `Window.msg`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub header: Header,
    pub length: u32,
    pub channels: u32,
    pub readings: Vec<i16>,
}

/// `nestling_msgs/msg/Health`; what its fields mean is in `Health.msg`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub header: Header,
    pub stale: bool,
    pub age: Duration,
    pub encoder: u32,
    pub health: f32,
}
