//! What is fuzzed, one function a target, and the inputs that fuzzing begins with.

pub mod seeds;
pub mod targets;
