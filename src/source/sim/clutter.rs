//! Boxes and posts that stand beside the track: where they are, and where a ray hits them.

use super::config::WorldConfig;
use super::floor::vivid;
use super::noise::{Dice, cell, floor, smoothstep};
use super::track::Track;

/// What stands at the side of the track; upright on the floor.
#[derive(Clone, Debug)]
pub(super) struct Clutter {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) height: f32,
    /// Half of the diagonal on the floor, in metres.
    pub(super) radius: f32,
    shape: Shape,
    /// Square roots of the reflectance, as in a texture.
    colours: [[f32; 3]; 2],
    pattern: u64,
}

#[derive(Clone, Debug)]
enum Shape {
    Box { half_length: f32, half_width: f32, cos: f32, sin: f32 },
    Post,
}

/// A ray that was bent to nothing: from `origin` along `direction`, both in metres.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ray {
    pub(super) origin: [f32; 3],
    pub(super) direction: [f32; 3],
}

/// Scatters clutter, never closer to the track than a rover needs.
pub(super) fn scatter(config: &WorldConfig, track: &Track, width: f32, height: f32) -> Vec<Clutter> {
    let mut dice = Dice::new(config.look(), 10);
    let wanted = (f64::from(config.clutter_per_m) * track.length) as usize;
    let clear = f64::from(config.lane_m) * 0.5 + 0.25;
    let mut placed = Vec::new();
    for _ in 0..wanted * 4 {
        if placed.len() >= wanted {
            break;
        }
        let (x, y, heading) = track.at(f64::from(dice.between(0.0, 1.0)) * track.length);
        let side = f64::from(dice.between(0.7, 2.0)) * if dice.pick(2) == 0 { 1.0 } else { -1.0 };
        let (x, y) = (x - side * libm::sin(heading), y + side * libm::cos(heading));
        let thing = Clutter::new(&mut dice, x as f32, y as f32);
        let r = thing.radius;
        let inside = thing.x > r && thing.x < width - r && thing.y > r && thing.y < height - r;
        if inside && track.distance(x, y) > clear + f64::from(r) {
            placed.push(thing);
        }
    }
    placed
}

impl Clutter {
    fn new(dice: &mut Dice, x: f32, y: f32) -> Self {
        let colours = [vivid(dice), vivid(dice)];
        let pattern = dice.bits();
        if dice.pick(3) == 0 {
            let radius = dice.between(0.025, 0.09);
            return Clutter { x, y, height: dice.between(0.25, 1.2), radius, shape: Shape::Post, colours, pattern };
        }
        let (half_length, half_width) = (dice.between(0.06, 0.3), dice.between(0.05, 0.25));
        let turn = dice.between(0.0, core::f32::consts::TAU);
        let radius = (half_length * half_length + half_width * half_width).sqrt();
        let shape = Shape::Box { half_length, half_width, cos: libm::cosf(turn), sin: libm::sinf(turn) };
        Clutter { x, y, height: dice.between(0.08, 0.6), radius, shape, colours, pattern }
    }

    /// How much of the light reaches the floor at (x, y) beside this thing, 0 to 1.
    pub(super) fn contact_shadow(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let square = dx * dx + dy * dy;
        let reach = self.radius + 0.25;
        if square > reach * reach {
            return 1.0;
        }
        0.55 + 0.45 * smoothstep(self.radius * 0.7, reach, square.sqrt())
    }

    /// Reflectance of what the ray hits, if it hits.
    pub(super) fn hit(&self, ray: &Ray) -> Option<[f32; 3]> {
        let [dx, dy, dz] = ray.direction;
        let (ox, oy) = (ray.origin[0] - self.x, ray.origin[1] - self.y);
        match self.shape {
            Shape::Post => {
                let (a, b) = (dx * dx + dy * dy, ox * dx + oy * dy);
                let c = ox * ox + oy * oy - self.radius * self.radius;
                let d = b * b - a * c;
                if d <= 0.0 || b >= 0.0 || c <= 0.0 {
                    return None;
                }
                let t = (-b - d.sqrt()) / a;
                let z = ray.origin[2] + t * dz;
                if z < 0.0 || z > self.height {
                    return None;
                }
                let band = floor(z * 7.0) & 1;
                let normal = (ox + t * dx) / self.radius;
                Some(self.paint(band as usize, 0.8 + 0.25 * normal))
            }
            Shape::Box { half_length, half_width, cos, sin } => {
                let (u, v) = (ox * cos + oy * sin, oy * cos - ox * sin);
                let (du, dv) = (dx * cos + dy * sin, dy * cos - dx * sin);
                let slab = |from: f32, along: f32, half: f32| {
                    let inverse = if along.abs() < 1e-9 { 1e9 } else { 1.0 / along };
                    let (a, b) = ((-half - from) * inverse, (half - from) * inverse);
                    if a < b { (a, b) } else { (b, a) }
                };
                let half_height = self.height * 0.5;
                let (near_u, far_u) = slab(u, du, half_length);
                let (near_v, far_v) = slab(v, dv, half_width);
                let (near_z, far_z) = slab(ray.origin[2] - half_height, dz, half_height);
                let near = near_u.max(near_v).max(near_z);
                if near <= 0.0 || near > far_u.min(far_v).min(far_z) {
                    return None;
                }
                // Faces differ in light; a printed pattern covers them.
                let (a, b, light) = if near == near_z {
                    (u + near * du, v + near * dv, 1.05)
                } else if near == near_u {
                    (v + near * dv, ray.origin[2] + near * dz, if du > 0.0 { 0.92 } else { 0.66 })
                } else {
                    (u + near * du, ray.origin[2] + near * dz, if dv > 0.0 { 0.8 } else { 0.55 })
                };
                let printed = cell(self.pattern, floor(a * 9.0), floor(b * 9.0)) < 0.25;
                Some(self.paint(usize::from(printed), light))
            }
        }
    }

    fn paint(&self, colour: usize, light: f32) -> [f32; 3] {
        self.colours[colour].map(|c| c * c * light)
    }
}
