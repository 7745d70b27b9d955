//! Where the camera's lens is, how it is turned, and how it bends rays.

use super::world::World;

/// Barrel distortion: a pixel at radius r looks along r (1 + DISTORTION r²).
pub(super) const DISTORTION: f32 = 0.10;
/// Where the lens is and how it moves; x forward, y left, z up, angles by the right hand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) yaw: f32,
    /// Nose down is positive.
    pub(super) pitch: f32,
    /// Left side up is positive.
    pub(super) roll: f32,
    /// Metres per second forward.
    pub(super) speed: f32,
    pub(super) yaw_rate: f32,
    pub(super) pitch_rate: f32,
    pub(super) roll_rate: f32,
}

/// Lens position and axes in the world.
pub(super) struct Axes {
    pub(super) origin: [f32; 3],
    pub(super) forward: [f32; 3],
    pub(super) left: [f32; 3],
    pub(super) up: [f32; 3],
}

impl Axes {
    /// Where the lens was `ago` seconds before the instant of `view`.
    pub(super) fn new(world: &World, view: &View, ago: f32) -> Self {
        let yaw = view.yaw - view.yaw_rate * ago;
        let pitch = view.pitch - view.pitch_rate * ago + world.config.camera_pitch_rad;
        let roll = view.roll - view.roll_rate * ago;
        let (sy, cy) = (libm::sinf(yaw), libm::cosf(yaw));
        let (sp, cp) = (libm::sinf(pitch), libm::cosf(pitch));
        let (sr, cr) = (libm::sinf(roll), libm::cosf(roll));
        let (level_left, level_up) = ([-sy, cy, 0.0], [sp * cy, sp * sy, cp]);
        let mixed = |a: f32, b: f32| {
            [
                a * level_left[0] + b * level_up[0],
                a * level_left[1] + b * level_up[1],
                a * level_left[2] + b * level_up[2],
            ]
        };
        let back = view.speed * ago;
        let x = (view.x - back * cy).clamp(0.05, world.width - 0.05);
        let y = (view.y - back * sy).clamp(0.05, world.height - 0.05);
        Axes {
            origin: [x, y, world.config.camera_height_m],
            forward: [cp * cy, cp * sy, -sp],
            left: mixed(cr, sr),
            up: mixed(-sr, cr),
        }
    }

    pub(super) fn direction(&self, left: f32, up: f32) -> [f32; 3] {
        let (f, l, u) = (&self.forward, &self.left, &self.up);
        [f[0] + l[0] * left + u[0] * up, f[1] + l[1] * left + u[1] * up, f[2] + l[2] * left + u[2] * up]
    }
}

/// Inverse of r (1 + DISTORTION r²), by Newton's steps.
pub(super) fn undistort(seen: f32) -> f32 {
    let mut r = seen;
    for _ in 0..8 {
        r -= (r + DISTORTION * r * r * r - seen) / (1.0 + 3.0 * DISTORTION * r * r);
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undistorting_inverts_the_lens() {
        for i in 0..60 {
            let r = 0.1 * i as f32;
            let seen = r * (1.0 + DISTORTION * r * r);
            assert!((undistort(seen) - r).abs() < 1e-3 * (1.0 + r), "{r}");
        }
    }
}
