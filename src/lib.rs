#![cfg_attr(not(feature = "std"), no_std)]

pub mod augment;
pub mod fixed;
pub mod kernels;
pub mod net;
pub mod pretext;
pub mod sample;
#[cfg(feature = "std")]
pub mod source;
