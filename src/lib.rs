//! nestling: an on-device self-supervised learner in integer arithmetic only.
//!
//! From top to bottom, each layer knowing only those below it:
//!
//! - [`cli`], [`demo`] and [`report`] show things to people; [`evaluate`] tells how good features are; [`twin`] is the
//!   same algorithm in `f32`, to know the price of integers;
//! - [`runtime`] drives a learner on a machine with threads; [`store`] keeps its state; [`source`] gives it samples;
//!   [`model`] reads its specification; `ros` knows the messages of ROS 2;
//! - [`learner`] is the whole of it behind `observe` and `step`, over one block of memory planned beforehand. From here
//!   down the crate is `no_std`, does not allocate and holds no float; [`selftest`] proves it on any processor;
//! - [`guard`] judges lessons, [`replay`] remembers the stream, [`pretext`] holds the self-supervised tasks, [`augment`]
//!   makes views;
//! - [`net`] lays an encoder out, takes it forward and back and updates it;
//! - [`audio`] turns sound into maps; [`kernels`] are the integer products, [`fixed`] the numbers, [`sample`] the words.
//!
//! Without the feature `std` the crate ends at [`learner`]; for firmware the feature `link` adds [`mod@state`], [`image`] and
//! [`link`], `flash` adds [`flash`], and `parts` adds [`parts`], drivers of sensors.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(target_endian = "big")]
compile_error!("nestling stores its state little-endian and has no byte order conversion; use a little-endian target");

pub mod audio;
pub mod augment;
pub mod fixed;
pub mod guard;
pub mod kernels;
pub mod learner;
pub mod net;
pub mod pretext;
pub mod probe;
pub mod replay;
pub mod sample;
pub mod selftest;

#[cfg(feature = "flash")]
pub mod flash;
#[cfg(feature = "link")]
pub mod image;
#[cfg(feature = "link")]
pub mod link;
#[cfg(feature = "parts")]
pub mod parts;
#[cfg(feature = "link")]
pub mod state;

#[cfg(feature = "cli")]
pub mod cli;

#[cfg(feature = "std")]
pub mod board;
#[cfg(feature = "std")]
pub mod bus;
#[cfg(feature = "std")]
pub mod control;
#[cfg(feature = "std")]
pub mod demo;
#[cfg(feature = "std")]
pub mod doctor;
#[cfg(feature = "std")]
pub mod evaluate;
#[cfg(feature = "std")]
pub mod model;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "std")]
pub mod pins;
#[cfg(feature = "mcap")]
pub mod recording;
#[cfg(feature = "std")]
pub mod report;
#[cfg(feature = "std")]
pub mod ros;
#[cfg(feature = "std")]
pub mod runtime;
#[cfg(feature = "std")]
pub mod source;
#[cfg(feature = "std")]
pub mod store;
#[cfg(feature = "std")]
pub mod twin;

/// The examples of the README are tests.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
