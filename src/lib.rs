#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod evaluate;
#[cfg(feature = "std")]
pub mod report;
pub mod sample;
#[cfg(feature = "std")]
pub mod source;
