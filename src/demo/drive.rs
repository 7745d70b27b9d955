//! Drives of the rover: the expert's, disturbed, from which frames are labelled; and those of a controller that steers
//! by what it sees, which is judged and put back on the track where it leaves it.

use crate::fixed::random::Draws;
use crate::sample::Seed;
use crate::source::sim::{Rover, Surface};

/// Laps of the expert before it is put elsewhere, facing the other way; as in the source `sim:rover`.
const LAPS_PER_TURN: u32 = 2;
/// Farthest that the steering moves in one step of 50 ms, full lock = 1: a servo of 0.2 s from the middle to the stop.
const STEERING_PER_STEP: f32 = 0.25;
/// Steps that the expert drives before it hands over, in which the camera's exposure settles.
const HAND_OVER: usize = 20;

/// Frames with the steering that the expert chose there.
#[derive(Clone, Debug, Default)]
pub struct Lookouts {
    /// `[height, width, 3]` each.
    pub frames: Vec<Vec<u8>>,
    /// What each pixel of them shows.
    pub surfaces: Vec<Vec<Surface>>,
    pub steering: Vec<f64>,
}

/// Drives `rover` by the expert, pushed about by disturbances of `seed`, and keeps every `every`-th frame until there
/// are `count`. The label is what the expert wants there, not what the disturbance made of it.
pub fn expert(rover: &mut Rover, seed: u64, count: usize, every: usize, mut kept: impl FnMut(u64)) -> Lookouts {
    let mut lookouts = Lookouts::default();
    let (mut turns, mut step) = (0, 0u64);
    turn(rover, seed, turns);
    while lookouts.frames.len() < count {
        // Every frame is taken, as a camera does: its exposure follows the light.
        let mut frame = vec![0; rover.frame_len()];
        rover.render(&mut frame);
        let wanted = rover.expert_steering();
        if step.is_multiple_of(every as u64) {
            let mut surfaces = vec![Surface::Floor; frame.len() / 3];
            rover.surfaces(&mut surfaces);
            lookouts.surfaces.push(surfaces);
            lookouts.frames.push(frame);
            lookouts.steering.push(f64::from(wanted));
            kept(lookouts.frames.len() as u64);
        }
        let truth = rover.step(wanted + disturbance(seed, step as f32 * 0.05));
        if truth.off_track || truth.laps >= LAPS_PER_TURN {
            turns += 1;
            turn(rover, seed, turns);
        }
        step += 1;
    }
    lookouts
}

/// Puts the rover somewhere on the track; every other time it drives the other way round.
fn turn(rover: &mut Rover, seed: u64, turns: u32) {
    let draws = Draws::new(Seed(seed), u64::from(turns), 0);
    let spread = |element: u32| f64::from(draws.between(element, -300, 300)) * 1e-3;
    rover.drive_backwards(turns % 2 == 1);
    let along = f64::from(draws.below(0, 1000)) * 1e-3 * rover.lap_m();
    rover.reset(along, spread(1), spread(2));
}

/// What is added to the expert's steering: slow pushes carry the rover off the centre, quick ones turn it, and both
/// come and go.
fn disturbance(seed: u64, seconds: f32) -> f32 {
    let push = 0.9 * wave(seed, 1, seconds / 1.3) + 0.35 * wave(seed, 2, seconds / 0.4);
    push * (0.5 + 0.5 * wave(seed, 3, seconds / 6.0))
}

/// Smooth noise in `[-1, 1]`, one knot per unit of `at`, which is not negative.
fn wave(seed: u64, table: u32, at: f32) -> f32 {
    let (knot, part) = (at as u32, at.fract());
    let draws = Draws::new(Seed(seed), u64::MAX, table);
    let value = |knot: u32| draws.between(knot, -32_768, 32_768) as f32 / 32_768.0;
    let weight = part * part * (3.0 - 2.0 * part);
    value(knot) + (value(knot + 1) - value(knot)) * weight
}

/// Where a drive of a controller begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// Steps that pass before, in which the light changes.
    pub wait: usize,
    /// Place on the lap, 0 to 1.
    pub lap_share: f64,
    pub backwards: bool,
}

/// What came of a drive.
#[derive(Clone, Debug, Default)]
pub struct Driven {
    pub path: Vec<[f64; 2]>,
    /// Where it left the track and was put back.
    pub lost: Vec<[f64; 2]>,
    /// Distances from the centre line, summed over the steps, in metres.
    pub cross_track_sum: f64,
    pub steps: usize,
    /// Whole laps without leaving the track.
    pub laps: u32,
}

/// Drives a rover of its own from `start` for `steps` steps; `steer` answers a frame.
pub fn controlled(
    rover: &Rover,
    start: Start,
    steps: usize,
    mut steer: impl FnMut(&[u8]) -> f32,
    mut stepped: impl FnMut(),
) -> Driven {
    let mut rover = rover.clone();
    for _ in 0..start.wait {
        rover.step(rover.expert_steering());
    }
    rover.drive_backwards(start.backwards);
    rover.reset(start.lap_share * rover.lap_m(), 0.0, 0.0);
    let mut frame = vec![0; rover.frame_len()];
    for _ in 0..HAND_OVER {
        rover.render(&mut frame);
        rover.step(rover.expert_steering());
    }
    let mut driven = Driven::default();
    let mut held = rover.expert_steering();
    let mut laps = 0;
    for _ in 0..steps {
        rover.render(&mut frame);
        let wanted = steer(&frame);
        let wanted = if wanted.is_finite() { wanted.clamp(-1.0, 1.0) } else { 0.0 };
        held += (wanted - held).clamp(-STEERING_PER_STEP, STEERING_PER_STEP);
        let truth = rover.step(held);
        let pose = rover.pose();
        driven.path.push([pose.x_m, pose.y_m]);
        driven.cross_track_sum += truth.cross_track_m.abs();
        driven.steps += 1;
        driven.laps += truth.laps.saturating_sub(laps);
        laps = laps.max(truth.laps);
        if truth.off_track {
            driven.lost.push([pose.x_m, pose.y_m]);
            rover.reset(truth.along_m, 0.0, 0.0);
            (laps, held) = (0, 0.0);
        }
        stepped();
    }
    driven
}
