#![cfg_attr(not(feature = "std"), no_std)]

pub mod fixed;
pub mod kernels;
pub mod sample;
#[cfg(feature = "std")]
pub mod source;
