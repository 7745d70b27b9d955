//! Encoders: what a specification says ([`spec`]), the geometry and memory that follow from it ([`network`],
//! [`arena`]), and the passes over it ([`forward`], [`backward`], [`update`]).
//!
//! `pretext` and `learner` drive it; it knows nothing of samples, views or losses.

pub mod arena;
pub mod backward;
pub mod error;
pub mod forward;
pub mod head;
pub mod network;
pub mod sparse;
pub mod spec;
pub mod task;
pub mod update;
