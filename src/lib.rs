#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod evaluate;
pub mod sample;
#[cfg(feature = "std")]
pub mod source;
