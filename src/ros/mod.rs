//! ROS 2: what messages hold ([`messages`]), their bytes ([`cdr`]), and what their types are called, described by and hashed to
//! ([`types`]). Whoever writes or reads recordings or speaks to a robot's middleware calls these; they open nothing. [`node`] is a
//! place in a ROS 2 graph over zenoh, as [`config`] says.

#[cfg(feature = "ros")]
pub mod cdr;
pub mod config;
#[cfg(feature = "ros")]
pub mod messages;
#[cfg(feature = "zenoh")]
pub mod node;
#[cfg(feature = "ros")]
pub mod types;

#[cfg(feature = "ros")]
pub use cdr::{CdrError, decode, encode};
#[cfg(feature = "ros")]
pub use messages::Message;
#[cfg(feature = "ros")]
pub use types::Type;
