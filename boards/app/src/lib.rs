//! The firmware of every board, without its pins.
//!
//! [`Device`] is the loop: a sample comes from the board's [`Input`] or over the link, is perceived, sent on as a feature
//! and learned from; at the end of a lesson the state goes to flash. What the host asks for is answered in between. A
//! board gives it memory, bytes in and out, a flash and an input; see `boards/README.md`.
#![cfg_attr(not(test), no_std)]

pub mod device;
pub mod imu;
mod newest;
#[cfg(target_os = "none")]
pub mod stack;

#[cfg(all(feature = "embassy", target_os = "none"))]
pub mod board;
#[cfg(feature = "embassy")]
pub mod camera;
#[cfg(feature = "embassy")]
pub mod port;
#[cfg(feature = "embassy")]
pub mod usb;

use nestling::sample::Sample;

/// For the source that a board's build script writes.
pub use nestling::{image::Aligned, kernels::Kernels, learner::Learner};
pub use static_cell::ConstStaticCell;

pub use device::{Device, Parts};

/// What a board's build script made of `board.toml` and the image; its `firmware.rs` holds the function that gives it.
pub struct Firmware {
    /// The board's name, that of its folder.
    pub board: &'static str,
    pub kernels: Kernels,
    /// The model, and what it has learned already.
    pub image: &'static [u8],
    /// For the learner itself, and its block of the planned length.
    pub learner: &'static mut Option<Learner<'static>>,
    pub block: &'static mut [u8],
    /// For the longest frame that comes over the link; empty where samples come over it, which arrive in the learner's
    /// inbox.
    pub frame: &'static mut [u8],
    /// For one feature, where lessons are judged; empty elsewhere.
    pub feature: &'static mut [i8],
}

/// Where a board's samples come from.
pub trait Input {
    /// Samples come over the link, each in answer to a `Ready`.
    const LINK: bool = false;

    /// The next sample, where there is one. The loop calls again once it has learned from it.
    fn next(&mut self) -> Option<Sample<'_>>;
}

/// No sensor: samples come over the link.
pub struct FromLink;

impl Input for FromLink {
    const LINK: bool = true;

    fn next(&mut self) -> Option<Sample<'_>> {
        None
    }
}
