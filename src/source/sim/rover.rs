//! The rover as its driver sees it: render, read the IMU, step, be judged, be put back on the track.

use std::sync::Arc;

use super::body::{FULL_LOCK_RAD, State, TICK_S, WHEELBASE_M};
use super::camera::Camera;
use super::config::WorldConfig;
use super::lens::View;
use super::track::{Track, wrap};
use super::world::World;

/// Microseconds of one [`Rover::step`].
pub const STEP_US: u64 = 50_000;
/// IMU readings in one step: 100 a second.
pub const READINGS_PER_STEP: usize = 5;
/// One g of acceleration in an IMU reading.
pub const IMU_PER_G: f64 = 2048.0;
/// One radian per second in an IMU reading.
pub const IMU_PER_RAD_S: f64 = 1024.0;
/// Farther than this from the centre line the rover counts as off the track, in metres.
pub const OFF_TRACK_M: f64 = 1.0;

/// How far ahead the expert looks along the track, in metres.
const LOOK_AHEAD_M: f64 = 0.65;
/// Where the rover stands: metres in the room, and its direction in radians, counter-clockwise from x.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pose {
    pub x_m: f64,
    pub y_m: f64,
    pub heading_rad: f64,
}

/// What is true after a step; no controller may see it, only judges and teachers do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTruth {
    /// Metres left of the centre line; negative is right.
    pub cross_track_m: f64,
    /// Direction against the track's, in `[-pi, pi]`; positive points to the left.
    pub heading_error_rad: f64,
    /// Mean curvature of the next metre of the track; left is positive.
    pub curvature_ahead_per_m: f64,
    /// What the expert steers here, -1 (right) to 1 (left).
    pub true_steering: f32,
    /// Position on the lap, 0 to its length.
    pub along_m: f64,
    /// Metres driven along the track since the last reset; driving back subtracts.
    pub progress_m: f64,
    /// Whole laps in `progress_m`.
    pub laps: u32,
    pub speed_mps: f64,
    /// Mean turning rate during the step; left is positive.
    pub yaw_rate_rad_s: f64,
    /// How bumpy the floor is here, 0 to 1.
    pub roughness: f64,
    /// Farther than [`OFF_TRACK_M`] from the centre line.
    pub off_track: bool,
}

/// A rover in its world. A clone shares the world and goes its own way.
#[derive(Clone, Debug)]
pub struct Rover {
    world: Arc<World>,
    camera: Camera,
    state: State,
}

impl Rover {
    /// Builds the world (some tenths of a second) and puts the rover at the start of the lap.
    pub fn new(config: &WorldConfig) -> Self {
        let world = Arc::new(World::new(config));
        let camera = Camera::new(&world.config);
        let state = State::at_start(&world);
        Rover { world, camera, state }
    }

    /// Begins anew: the same drive will give the same frames and readings.
    pub fn restart(&mut self) {
        self.camera.restart();
        self.state = State::at_start(&self.world);
    }

    /// Puts the rover on the track: `along_m` metres into the lap, `lateral_m` left of its centre, turned
    /// `heading_error_rad` to the left. Time and light go on; progress begins at 0 again. It rolls at its wanted speed.
    pub fn reset(&mut self, along_m: f64, lateral_m: f64, heading_error_rad: f64) {
        let finite = |v: f64| if v.is_finite() { v } else { 0.0 };
        let track = self.track();
        let (x, y, heading) = track.at(along_m);
        let lateral = finite(lateral_m);
        let (x, y) = (x - lateral * libm::sin(heading), y + lateral * libm::cos(heading));
        let place = track.place(x, y, track.knot_at(finite(along_m)));
        let old = &self.state;
        self.state = State {
            pose: Pose { x_m: x, y_m: y, heading_rad: wrap(heading + finite(heading_error_rad)) },
            place,
            progress: 0.0,
            speed: old.wanted_speed,
            wheel: 0.0,
            yaw_rate: 0.0,
            mean_yaw_rate: 0.0,
            pitch: (0.0, 0.0),
            roll: (0.0, 0.0),
            ..old.clone()
        };
    }

    /// Drives laps the other way round (`true`) or as the track was laid (`false`): where that is a change the rover is
    /// turned about on the spot, as by a [`reset`](Self::reset). Left of the track then is what was right of it.
    pub fn drive_backwards(&mut self, backwards: bool) {
        if self.state.backwards != backwards {
            self.state.backwards = backwards;
            let (along, lateral) = (self.track().length - self.state.place.along, -self.state.place.cross);
            self.reset(along, lateral, 0.0);
        }
    }

    /// Metres per second to hold from now on, clamped to 0 to 2.5; the motor follows with a lag.
    pub fn set_speed(&mut self, speed_mps: f64) {
        self.state.wanted_speed = if speed_mps.is_nan() { 0.0 } else { speed_mps.clamp(0.0, 2.5) };
    }

    /// Drives 50 ms with the steering held at `steering`, -1 (right) to 1 (left).
    pub fn step(&mut self, steering: f32) -> StepTruth {
        let steering = if steering.is_nan() { 0.0 } else { f64::from(steering.clamp(-1.0, 1.0)) };
        let before = self.state.pose.heading_rad;
        let mut turned = 0.0;
        for part in 0..READINGS_PER_STEP {
            turned += self.state.advance(&self.world, steering, part) * TICK_S;
        }
        debug_assert!(wrap(before + turned - self.state.pose.heading_rad).abs() < 1e-6);
        self.state.mean_yaw_rate = turned / (TICK_S * READINGS_PER_STEP as f64);
        let track = &self.world.tracks[usize::from(self.state.backwards)];
        let place = track.place(self.state.pose.x_m, self.state.pose.y_m, self.state.place.knot);
        let driven = (place.along - self.state.place.along) / track.length;
        self.state.progress += (driven - libm::floor(driven + 0.5)) * track.length;
        self.state.place = place;
        self.state.tick += 1;
        self.truth()
    }

    /// What is true now.
    pub fn truth(&self) -> StepTruth {
        let (state, track) = (&self.state, self.track());
        StepTruth {
            cross_track_m: state.place.cross,
            heading_error_rad: wrap(state.pose.heading_rad - state.place.heading),
            curvature_ahead_per_m: track.curvature_ahead(state.place.knot),
            true_steering: self.expert_steering(),
            along_m: state.place.along,
            progress_m: state.progress,
            laps: (state.progress / track.length).max(0.0) as u32,
            speed_mps: state.speed,
            yaw_rate_rad_s: state.mean_yaw_rate,
            roughness: track.knots[state.place.knot].roughness,
            off_track: state.place.cross.abs() > OFF_TRACK_M,
        }
    }

    /// Steering that a pure pursuit of the centre line chooses here, -1 (right) to 1 (left).
    pub fn expert_steering(&self) -> f32 {
        let pose = &self.state.pose;
        let (x, y, _) = self.track().at(self.state.place.along + LOOK_AHEAD_M);
        let (dx, dy) = (x - pose.x_m, y - pose.y_m);
        let (sin, cos) = (libm::sin(pose.heading_rad), libm::cos(pose.heading_rad));
        let (ahead, left) = (dx * cos + dy * sin, dy * cos - dx * sin);
        let square = (dx * dx + dy * dy).max(1e-6);
        if ahead <= 0.0 {
            // The track runs behind: turn back the shorter way.
            return if left >= 0.0 { 1.0 } else { -1.0 };
        }
        let wheel = libm::atan(2.0 * WHEELBASE_M * left / square);
        (wheel / FULL_LOCK_RAD).clamp(-1.0, 1.0) as f32
    }

    /// Renders what the camera sees now into `[height, width, 3]` bytes: [`frame_len`](Self::frame_len) of them. A
    /// shorter buffer gets the upper rows, a longer one keeps its rest. Twice in one step gives the same frame.
    pub fn render(&mut self, frame: &mut [u8]) {
        let (_, _, view) = self.sight();
        let tick = self.state.tick;
        let seconds = tick as f64 * (STEP_US as f64 * 1e-6);
        self.camera.render(&self.world, &view, tick, seconds, frame);
    }

    /// The world, the camera, and where it stands now.
    pub(super) fn sight(&self) -> (&World, &Camera, View) {
        let s = &self.state;
        let view = View {
            x: s.pose.x_m as f32,
            y: s.pose.y_m as f32,
            yaw: s.pose.heading_rad as f32,
            pitch: s.pitch.0 as f32,
            roll: s.roll.0 as f32,
            speed: s.speed as f32,
            yaw_rate: s.yaw_rate as f32,
            pitch_rate: s.pitch.1 as f32,
            roll_rate: s.roll.1 as f32,
        };
        (&self.world, &self.camera, view)
    }

    /// Height and width of a frame in pixels.
    pub fn frame_size(&self) -> (usize, usize) {
        (self.world.config.frame_height, self.world.config.frame_width)
    }

    /// Bytes of a frame.
    pub fn frame_len(&self) -> usize {
        self.world.config.frame_height * self.world.config.frame_width * 3
    }

    /// The latest IMU reading: acceleration x (forward), y (left), z (up) in 1/2048 g, at rest (0, 0, 1 g); turning
    /// rate about x, y, z in 1/1024 rad/s. It has bias and noise.
    pub fn imu(&self) -> [i16; 6] {
        self.state.readings[READINGS_PER_STEP - 1]
    }

    /// All readings of the last step, 10 ms apart, in the units of [`imu`](Self::imu).
    pub fn imu_readings(&self) -> &[[i16; 6]; READINGS_PER_STEP] {
        &self.state.readings
    }

    pub fn pose(&self) -> Pose {
        self.state.pose
    }

    /// Steps driven since the beginning.
    pub fn steps(&self) -> u64 {
        self.state.tick
    }

    /// Length of a lap in metres.
    pub fn lap_m(&self) -> f64 {
        self.track().length
    }

    /// Centre line in metres, about 5 cm from point to point; the last joins the first. For drawing a map.
    pub fn track_polyline(&self) -> Vec<(f64, f64)> {
        self.track().knots.iter().map(|k| (k.x, k.y)).collect()
    }

    /// Width and depth of the room in metres; one corner is the origin.
    pub fn room_m(&self) -> (f64, f64) {
        (f64::from(self.world.width), f64::from(self.world.height))
    }

    /// What the world was made from, every field within its range.
    pub fn config(&self) -> &WorldConfig {
        &self.world.config
    }

    fn track(&self) -> &Track {
        &self.world.tracks[usize::from(self.state.backwards)]
    }
}
