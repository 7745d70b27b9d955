//! Recordings as MCAP files, which is what ROS 2 writes and viewers open. [`bag`] reads any of them, from front to back in
//! little memory; [`writer`] writes samples, features, health and decisions; [`contents`] lists what is in a file.
//!
//! A recording of ours has every sample as it was taken in, so that learning from it gives the same bits: its numbers on
//! [`IMAGES`] or [`WINDOWS`], and right before them on [`SAMPLES`] what else is known of it.

pub mod bag;
mod chunk;
pub mod contents;
pub mod writer;

/// What is known of a sample beside its numbers (`nestling_msgs/msg/Sample`).
pub const SAMPLES: &str = "/nestling/sample";
/// Samples that are images (`sensor_msgs/msg/Image`).
pub const IMAGES: &str = "/nestling/image";
/// Samples that are windows of readings (`nestling_msgs/msg/Window`).
pub const WINDOWS: &str = "/nestling/window";
/// Features (`nestling_msgs/msg/Feature`).
pub const FEATURES: &str = "/nestling/feature";
/// How the encoder stands (`nestling_msgs/msg/Health`).
pub const HEALTH: &str = "/nestling/health";
/// Decisions of one controller (`nestling_msgs/msg/Decision`) are on this and its name.
pub const DECISIONS: &str = "/nestling/decision/";

/// Name of the metadata record that tells what the source knows of itself.
pub(crate) const ABOUT: &str = "nestling";
/// Its keys: what the source calls itself, the names of its classes (a JSON array), its samples of sound a second, and
/// whether its samples are in order.
pub(crate) const SOURCE: &str = "source";
pub(crate) const CLASSES: &str = "classes";
pub(crate) const SOUND_RATE: &str = "sound_rate";
pub(crate) const IN_ORDER: &str = "in_order";
/// Samples that the source was to have: what is learned depends on it, and a faulty source gives fewer.
pub(crate) const EXPECTED: &str = "expected_samples";

/// The word for messages as ROS 2 writes them, and the one for how their types are described.
pub(crate) const CDR: &str = "cdr";
const ROS2MSG: &str = "ros2msg";
