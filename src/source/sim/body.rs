//! How the rover moves: a kinematic bicycle with a lagging, slipping steering, a body on springs, and what its IMU reads.

use super::noise::{hash, normal, signed, wave};
use super::rover::{IMU_PER_G, IMU_PER_RAD_S, Pose, READINGS_PER_STEP};
use super::track::{Place, wrap};
use super::world::World;

pub(super) const TICK_S: f64 = 0.01;
pub(super) const WHEELBASE_M: f64 = 0.26;
/// Wheel angle at full steering, in radians.
pub(super) const FULL_LOCK_RAD: f64 = 0.45;
const STEERING_LAG_S: f64 = 0.09;
const SPEED_LAG_S: f64 = 0.25;
const G: f64 = 9.81;
/// Square of the body's own frequency on its springs (about 4 a second), and twice its damping.
const SPRING: f64 = 630.0;
const DAMPING: f64 = 9.0;

/// All that moves.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) tick: u64,
    pub(super) pose: Pose,
    pub(super) backwards: bool,
    pub(super) place: Place,
    pub(super) progress: f64,
    pub(super) speed: f64,
    pub(super) wanted_speed: f64,
    pub(super) wheel: f64,
    pub(super) yaw_rate: f64,
    pub(super) mean_yaw_rate: f64,
    /// Angle and rate of the body on its springs: nose down, left side up.
    pub(super) pitch: (f64, f64),
    pub(super) roll: (f64, f64),
    pub(super) readings: [[i16; 6]; READINGS_PER_STEP],
}

impl State {
    pub(super) fn at_start(world: &World) -> Self {
        let track = &world.tracks[0];
        let (x, y, heading) = track.at(0.0);
        let speed = f64::from(world.config.speed_mps);
        let rest = [0, 0, IMU_PER_G as i16, 0, 0, 0];
        State {
            tick: 0,
            pose: Pose { x_m: x, y_m: y, heading_rad: heading },
            backwards: false,
            place: track.place(x, y, 0),
            progress: 0.0,
            speed,
            wanted_speed: speed,
            wheel: 0.0,
            yaw_rate: 0.0,
            mean_yaw_rate: 0.0,
            pitch: (0.0, 0.0),
            roll: (0.0, 0.0),
            readings: [rest; READINGS_PER_STEP],
        }
    }

    /// Drives 10 ms; gives the turning rate in rad/s.
    pub(super) fn advance(&mut self, world: &World, steering: f64, part: usize) -> f64 {
        let seed = world.config.seed;
        let instant = self.tick * READINGS_PER_STEP as u64 + part as u64;
        let seconds = instant as f64 * TICK_S;
        let slip = f64::from(world.config.slip);
        let slow = |table: u64, period: f64| f64::from(wave(seed, table, seconds / period));

        let trim = 0.012 * slip * slow(80, 15.0);
        self.wheel += (steering * FULL_LOCK_RAD + trim - self.wheel) * (TICK_S / STEERING_LAG_S);
        let wanted = self.wanted_speed * (1.0 + 0.08 * slip * slow(81, 3.0));
        let push = ((wanted - self.speed) / SPEED_LAG_S).clamp(-4.0, 2.5);
        self.speed = (self.speed + push * TICK_S).max(0.0);
        let grip = 1.0 + 0.12 * slip * slow(82, 0.8);
        let yaw_rate = self.speed * (libm::tan(self.wheel) / WHEELBASE_M * grip + 0.08 * slip * slow(83, 0.5));
        let heading = self.pose.heading_rad + 0.5 * yaw_rate * TICK_S;
        self.pose.x_m += self.speed * TICK_S * libm::cos(heading);
        self.pose.y_m += self.speed * TICK_S * libm::sin(heading);
        self.pose.heading_rad = wrap(self.pose.heading_rad + yaw_rate * TICK_S);
        self.yaw_rate = yaw_rate;

        let sideways = self.speed * yaw_rate;
        let rough = world.tracks[usize::from(self.backwards)].knots[self.place.knot].roughness;
        let jolt = f64::from(world.config.shake) * self.speed * (0.02 + 0.22 * rough);
        let knock = |table: u64| f64::from(normal(hash(seed, table, instant))) * jolt;
        // Braking dips the nose, a curve leans the body outwards, bumps shake it.
        swing(&mut self.pitch, -0.5 * push + 120.0 * knock(84));
        swing(&mut self.roll, 1.6 * sideways + 120.0 * knock(85));
        let exact = [
            push / G - libm::sin(self.pitch.0) + 0.3 * knock(86),
            sideways / G + libm::sin(self.roll.0) + 0.3 * knock(87),
            libm::cos(self.pitch.0) * libm::cos(self.roll.0) + knock(88),
            self.roll.1,
            self.pitch.1,
            yaw_rate,
        ];
        self.readings[part] = measured(seed, instant, exact);
        yaw_rate
    }
}

/// Semi-implicit step of a damped spring.
fn swing(body: &mut (f64, f64), force: f64) {
    body.1 += (force - SPRING * body.0 - DAMPING * body.1) * TICK_S;
    body.0 += body.1 * TICK_S;
}

/// Adds the sensor's bias and noise to g and rad/s, and counts in its units.
fn measured(seed: u64, instant: u64, exact: [f64; 6]) -> [i16; 6] {
    let mut reading = [0; 6];
    for (axis, out) in reading.iter_mut().enumerate() {
        let (unit, bias, noise) = if axis < 3 { (IMU_PER_G, 0.02, 0.006) } else { (IMU_PER_RAD_S, 0.01, 0.006) };
        let axis_table = 90 + axis as u64;
        let off = bias * f64::from(signed(hash(seed, axis_table, u64::MAX)));
        let random = noise * f64::from(normal(hash(seed, axis_table, instant)));
        let counts = libm::round((exact[axis] + off + random) * unit);
        *out = counts.clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16;
    }
    reading
}
