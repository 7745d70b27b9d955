#![cfg_attr(not(feature = "std"), no_std)]

pub mod augment;
pub mod fixed;
pub mod guard;
pub mod kernels;
pub mod learner;
pub mod net;
pub mod pretext;
pub mod replay;
pub mod sample;

#[cfg(feature = "cli")]
pub mod cli;

#[cfg(feature = "std")]
pub mod evaluate;
#[cfg(feature = "std")]
pub mod model;
#[cfg(feature = "std")]
pub mod report;
#[cfg(feature = "std")]
pub mod runtime;
#[cfg(feature = "std")]
pub mod source;
#[cfg(feature = "std")]
pub mod store;
#[cfg(feature = "std")]
pub mod twin;
