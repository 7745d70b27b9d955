#![cfg_attr(not(feature = "std"), no_std)]

pub mod sample;
#[cfg(feature = "std")]
pub mod source;
