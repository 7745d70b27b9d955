//! A simulated rover: a small car with a camera and an IMU that drives laps in a textured room whose light drifts.
//!
//! It needs no hardware, is the source `sim:rover`, and can be driven in a closed loop: [`Rover::render`] what the
//! camera sees, decide, [`Rover::step`], judge by the [`StepTruth`]. It is meant to be as hard as a real robot's camera:
//! worn markings of uneven contrast, patches of other floors, clutter, shadows that move, light that changes in strength
//! and colour while the exposure lags, blur, shake and noise.
//!
//! Beside it stands the event log of a robot, `sim:log`, which has no world: [`EventLog`].
//!
//! Everything of the rover is a function of the [`WorldConfig`] and the steering: the same on every platform (only exact float
//! operations and `libm`), drawn from counter-based hashes. The parts, each naming only those before it:
//! `noise`, `config`, `track`, `texture`, `clutter` and `floor`, `world`, `lens`, `camera`, `body`, `rover`, `truth`, `source`.
//!
//! ```
//! use nestling::source::sim::{Rover, WorldConfig};
//!
//! let mut rover = Rover::new(&WorldConfig::with_seed(7));
//! let mut frame = vec![0; rover.frame_len()];
//! for _ in 0..20 {
//!     rover.render(&mut frame);
//!     let truth = rover.step(rover.expert_steering());
//!     assert!(!truth.off_track);
//! }
//! ```

mod body;
mod camera;
mod clutter;
mod config;
mod floor;
mod lens;
mod log;
mod noise;
mod rover;
mod source;
mod texture;
mod track;
mod truth;
mod world;

pub use config::WorldConfig;
pub use log::{EVENTS, Event, EventLog, LogForm, LogSource, TASKS};
pub use rover::{IMU_PER_G, IMU_PER_RAD_S, OFF_TRACK_M, Pose, READINGS_PER_STEP, Rover, STEP_US, StepTruth};
pub use source::RoverSource;
pub use truth::{Surface, coarse};

#[cfg(test)]
mod tests;
