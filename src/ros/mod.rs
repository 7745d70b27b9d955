//! ROS 2 messages: what they hold ([`messages`]), their bytes ([`cdr`]), and what their types are called, described by and
//! hashed to ([`types`]). Whoever writes or reads recordings or speaks to a robot's middleware calls this; it opens nothing.

pub mod cdr;
pub mod messages;
pub mod types;

pub use cdr::{CdrError, decode, encode};
pub use messages::Message;
pub use types::Type;
