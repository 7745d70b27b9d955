//! Networks in the ONNX format: a learned encoder goes out ([`encoder`], [`export`]) and comes back ([`back`]); a network
//! that others trained comes in ([`graph`], [`lower`], [`calibrate`]).
//!
//! Between the two stands [`network`]: a frozen network in integers, run by the kernels of the crate ([`runner`]). `cli`
//! calls this; a learner knows nothing of it. Floats stand here only where a format or a foreign network has them.

pub mod back;
pub mod backbone;
pub(crate) mod build;
pub mod calibrate;
pub mod encoder;
pub mod error;
pub mod export;
pub mod file;
pub mod float;
#[cfg(feature = "tract")]
mod float_backbone;
pub mod graph;
pub mod lower;
pub mod network;
mod ops;
#[cfg(feature = "tract")]
pub mod original;
pub mod proto;
pub mod runner;

pub use error::OnnxError;
pub use network::Network;
pub use runner::Runner;
