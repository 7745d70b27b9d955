//! A world: track, floor, walls, clutter and light, laid out from a [`WorldConfig`] and never changed afterwards.

use super::clutter::{Clutter, scatter};
use super::config::WorldConfig;
use super::floor;
use super::noise::{Dice, fractal, hash, smoothstep, unit, wave};
use super::texture::Texture;
use super::track::Track;

/// Clear floor around the track in metres.
const MARGIN_M: f32 = 2.0;
/// Texels of the shadow picture along each side, a power of two; it repeats.
const SHADOW_SIDE: usize = 256;
/// Texels of the shadow picture per metre.
const SHADOW_DENSITY: f32 = 24.0;

#[derive(Debug)]
pub(super) struct World {
    pub(super) config: WorldConfig,
    /// The track driven forwards and driven backwards.
    pub(super) tracks: [Track; 2],
    /// Size of the room in metres; one corner is the origin.
    pub(super) width: f32,
    pub(super) height: f32,
    pub(super) wall_height: f32,
    pub(super) floor: Texture,
    /// The four walls in a row: metres along them, metres up.
    pub(super) walls: Texture,
    pub(super) ceiling: [f32; 3],
    pub(super) clutter: Vec<Clutter>,
    /// Light that comes through, 0 to 255: panes of a window, and something like foliage.
    panes: Vec<u8>,
    leaves: Vec<u8>,
}

/// The light at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Light {
    /// Strength of red, green and blue; 1 is the usual light.
    pub(super) colour: [f32; 3],
    /// Offsets of the two shadow pictures in metres, never negative.
    panes: (f32, f32),
    leaves: (f32, f32),
    depth: f32,
}

impl World {
    pub(super) fn new(config: &WorldConfig) -> Self {
        let config = config.clamped();
        let look = config.look();
        let mut track = Track::new(config.seed, config.lap_m);
        let bound = |pick: fn(f64, f64) -> f64, start: f64| {
            track.knots.iter().fold((start, start), |(x, y), k| (pick(x, k.x), pick(y, k.y)))
        };
        let ((x0, y0), (x1, y1)) = (bound(f64::min, f64::INFINITY), bound(f64::max, f64::NEG_INFINITY));
        let margin = f64::from(MARGIN_M);
        track.shift(margin - x0, margin - y0);
        let (width, height) = ((x1 - x0 + 2.0 * margin) as f32, (y1 - y0 + 2.0 * margin) as f32);
        let clutter = scatter(&config, &track, width, height);
        let floor = floor::paint(&config, &track, width, height, |x, y| {
            clutter.iter().map(|c| c.contact_shadow(x, y)).fold(1.0, |a, b| a * b)
        });
        let mut dice = Dice::new(look, 40);
        let wall_height = dice.between(1.8, 3.2);
        let grey = dice.between(0.6, 0.9);
        let tracks = [track.clone(), track.reversed()];
        let (panes, leaves) = shadow_pictures(look);
        World {
            tracks,
            width,
            height,
            wall_height,
            floor,
            walls: paint_walls(look, width, height, wall_height),
            ceiling: [grey + dice.between(-0.06, 0.06), grey, grey + dice.between(-0.06, 0.06)],
            clutter,
            panes,
            leaves,
            config,
        }
    }

    /// The light `seconds` after the beginning.
    pub(super) fn light(&self, seconds: f64) -> Light {
        let drift = self.config.light_drift;
        let slow = |table: u64, period: f64| wave(self.config.seed, table, seconds / period);
        // Brightness wanders by about two stops each way; a cloud or a lamp takes a further one at times.
        let cloud = smoothstep(0.25, 0.45, slow(50, 9.0));
        let stops = drift * (2.0 * slow(51, 23.0) + 1.0 * slow(52, 7.0) - 1.4 * cloud);
        let warmth = drift * (0.5 * slow(53, 41.0) + 0.2 * slow(54, 11.0));
        let green = 1.0 + drift * 0.12 * slow(55, 31.0);
        let strength = libm::exp2f(stops);
        let sway = |table: u64, period: f64, reach: f32| reach * (1.0 + slow(table, period));
        Light {
            colour: [strength * (1.0 + warmth), strength * green, strength * (1.0 - warmth)],
            panes: (sway(56, 40.0, 3.0), sway(57, 47.0, 3.0)),
            leaves: (sway(58, 3.0, 0.5) + sway(60, 60.0, 6.0), sway(59, 3.7, 0.5) + sway(61, 50.0, 6.0)),
            depth: self.config.shadows * (1.0 - 0.8 * cloud),
        }
    }

    /// Share of the light that reaches (x, y) on the floor, 0 to 1.
    pub(super) fn shadow(&self, light: &Light, x: f32, y: f32) -> f32 {
        let look_up = |picture: &[u8], x: f32, y: f32| {
            let column = (x * SHADOW_DENSITY) as i32 as usize % SHADOW_SIDE;
            let row = (y * SHADOW_DENSITY) as i32 as usize % SHADOW_SIDE;
            picture[row * SHADOW_SIDE + column]
        };
        let through = u32::from(look_up(&self.panes, x + light.panes.0, y + light.panes.1))
            * u32::from(look_up(&self.leaves, x + light.leaves.0, y + light.leaves.1));
        1.0 - light.depth * (1.0 - through as f32 * (1.0 / 65_025.0))
    }
}

/// Both repeat without a seam.
fn shadow_pictures(look: u64) -> (Vec<u8>, Vec<u8>) {
    let mut dice = Dice::new(look, 41);
    let bars = [1.0, 2.0][dice.pick(2)];
    let (mut panes, mut leaves) = (Vec::new(), Vec::new());
    let round = |seed: u64, x: f32, y: f32, scale: f32| {
        // Noise on a grid that repeats: fade the picture into its own copy one side away.
        let (u, v) = (x * scale, y * scale);
        let n = |du: f32, dv: f32| fractal(seed, u - du * scale, v - dv * scale, 3);
        let top = n(0.0, 0.0) * (1.0 - x) + n(1.0, 0.0) * x;
        let bottom = n(0.0, 1.0) * (1.0 - x) + n(1.0, 1.0) * x;
        top * (1.0 - y) + bottom * y
    };
    for row in 0..SHADOW_SIDE {
        for column in 0..SHADOW_SIDE {
            let (x, y) = (column as f32 / SHADOW_SIDE as f32, row as f32 / SHADOW_SIDE as f32);
            // A slanted window: a lit field that its frame and bars cross.
            let across = |t: f32| (t - super::noise::floor(t) as f32 - 0.5).abs();
            let (u, v) = (x * 3.0 * bars + y, y * 2.0 * bars);
            let frame = smoothstep(0.40, 0.44, across(u)).max(smoothstep(0.42, 0.46, across(v)));
            let field = smoothstep(-0.08, 0.02, round(look ^ 1, x, y, 3.0));
            let lit = 1.0 - 0.8 * (1.0 - field * (1.0 - frame));
            panes.push((lit * 255.0) as u8);
            let leaf = smoothstep(-0.12, 0.10, round(look ^ 2, x, y, 9.0));
            leaves.push(((0.4 + 0.6 * leaf) * 255.0) as u8);
        }
    }
    (panes, leaves)
}

/// Walls with a base board, doors, windows and pictures.
fn paint_walls(look: u64, width: f32, height: f32, wall_height: f32) -> Texture {
    let mut dice = Dice::new(look, 42);
    let round = 2.0 * (width + height);
    let plain = floor::muted(&mut dice).map(|c| (c + 0.2).min(0.95));
    let lower = floor::muted(&mut dice);
    let board = dice.between(0.15, 0.6);
    let split = if dice.pick(2) == 0 { dice.between(0.5, 1.1) } else { 0.12 };
    let things: Vec<(f32, f32, f32, f32, [f32; 3])> = (0..(round * 0.7) as usize)
        .map(|_| {
            let (u, door) = (dice.between(0.0, round), dice.pick(3) == 0);
            let (low, high) = if door { (0.0, 1.75) } else { (dice.between(0.4, 1.2), dice.between(1.3, wall_height)) };
            let colour = if dice.pick(5) == 0 { floor::vivid(&mut dice) } else { floor::muted(&mut dice) };
            let bright = if door { 0.0 } else { dice.between(0.0, 0.3) };
            (u, dice.between(0.2, 0.6), low, high, colour.map(|c| c + bright))
        })
        .collect();
    let seed = hash(look, 43, 0);
    Texture::paint(round, wall_height, 0.05, |u, z| {
        let mut colour = if z < 0.1 {
            [board; 3]
        } else if z < split {
            lower
        } else {
            plain
        };
        for &(centre, half, low, high, paint) in &things {
            if (u - centre).abs() < half && z > low && z < high {
                let rim = (u - centre).abs() > half - 0.06 || z > high - 0.06;
                colour = if rim { paint.map(|c| c * 0.6) } else { paint };
            }
        }
        let stain = 0.06 * fractal(seed, u * 1.5, z * 1.5, 3)
            + 0.03 * (unit(hash(seed, u.to_bits().into(), z.to_bits().into())) - 0.5);
        colour.map(|c| (c + stain) * (0.8 + 0.2 * (z / wall_height)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_drift_the_light_is_constant_and_with_drift_it_is_not() {
        let still = World::new(&WorldConfig { light_drift: 0.0, lap_m: 14.0, ..WorldConfig::default() });
        let moving = World::new(&WorldConfig { light_drift: 1.0, lap_m: 14.0, ..WorldConfig::default() });
        let strengths: Vec<f32> = (0..600).map(|s| moving.light(f64::from(s)).colour[1]).collect();
        assert!((0..600).all(|s| still.light(f64::from(s)).colour == [1.0; 3]));
        let (low, high) = strengths.iter().fold((9.0f32, 0.0f32), |(l, h), &s| (l.min(s), h.max(s)));
        assert!(low < 0.5 && high > 2.0, "{low} {high}");
    }
}
