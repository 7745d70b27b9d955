//! The rover's camera: casts one ray a pixel onto floor, walls and clutter, then does what a cheap sensor does to it.
//!
//! Order of a frame: two sub-frames half a pixel apart, spread over the exposure (motion blur, shake), lens shading,
//! automatic exposure that lags, gamma, sensor noise that grows with the gain.

use super::clutter::Ray;
use super::config::WorldConfig;
use super::lens::{Axes, DISTORTION, View, undistort};
use super::noise::{hash, mix};
use super::texture::LEVELS;
use super::world::{Light, World};

/// Mean brightness that the exposure aims at, linear.
const EXPOSURE_TARGET: f32 = 0.2;
const FAR_M: f32 = 8.0;

#[derive(Clone, Debug)]
pub(super) struct Camera {
    columns: usize,
    rows: usize,
    /// Left and up for 1 forward, for each pixel.
    slopes: Vec<(f32, f32)>,
    shading: Vec<f32>,
    /// Image radius of the frame's left edge, before distortion.
    edge: f32,
    /// Forward distances in metres at which the next coarser level of a texture begins.
    coarser: [f32; LEVELS - 1],
    shot: Vec<[f32; 3]>,
    sum: Vec<[f32; 3]>,
    /// Square distance and index of the clutter in reach, farthest first.
    near: Vec<(f32, usize)>,
    meter: Meter,
}

/// The automatic exposure; it moves on once per tick, however often a tick is rendered.
#[derive(Clone, Copy, Debug)]
struct Meter {
    tick: Option<u64>,
    gain: f32,
    exposure_s: f32,
    /// Mean brightness of the last frame before the gain.
    mean: f32,
}

const FRESH: Meter = Meter { tick: None, gain: 1.0, exposure_s: 0.012, mean: EXPOSURE_TARGET };

impl Camera {
    pub(super) fn new(config: &WorldConfig) -> Self {
        let (columns, rows) = (config.frame_width, config.frame_height);
        let half = (config.camera_fov_rad * 0.5).min(1.2);
        let edge = undistort(libm::sinf(half) / libm::cosf(half));
        let pixel = 2.0 * edge / columns as f32;
        let (mut slopes, mut shading) = (Vec::new(), Vec::new());
        for row in 0..rows {
            for column in 0..columns {
                let u = (columns as f32 * 0.5 - column as f32 - 0.5) * pixel;
                let v = (rows as f32 * 0.5 - row as f32 - 0.5) * pixel;
                let square = u * u + v * v;
                let stretch = 1.0 + DISTORTION * square;
                slopes.push((u * stretch, v * stretch));
                shading.push(1.0 / (1.0 + 0.22 * square));
            }
        }
        let mut coarser = [0.0; LEVELS - 1];
        let mut footprint = 0.02;
        for distance in &mut coarser {
            // A pixel covers t·pixel across and t²·pixel/height along; their geometric mean is the footprint.
            *distance = libm::cbrtf(footprint * footprint * config.camera_height_m / (pixel * pixel));
            footprint *= 2.0;
        }
        let blank = vec![[0.0; 3]; columns * rows];
        Camera {
            columns,
            rows,
            slopes,
            shading,
            edge,
            coarser,
            shot: blank.clone(),
            sum: blank,
            near: Vec::new(),
            meter: FRESH,
        }
    }

    /// Left and up for 1 forward, of the middle of each pixel.
    pub(super) fn slopes(&self) -> &[(f32, f32)] {
        &self.slopes
    }

    /// Forgets the exposure: the next frame is exposed as if the camera had just been opened.
    pub(super) fn restart(&mut self) {
        self.meter = FRESH;
    }

    /// Writes `[height, width, 3]`.
    pub(super) fn render(&mut self, world: &World, view: &View, tick: u64, seconds: f64, frame: &mut [u8]) {
        let opened = self.meter.tick.is_none();
        self.follow_light(tick);
        let light = world.light(seconds);
        let pixel = 2.0 * self.edge / self.columns as f32;
        for (sub_frame, shift) in [(0, 0.25 * pixel), (1, -0.25 * pixel)] {
            let axes = Axes::new(world, view, self.meter.exposure_s * sub_frame as f32);
            self.shoot(world, &light, &axes, shift);
            if sub_frame == 0 {
                core::mem::swap(&mut self.shot, &mut self.sum);
            } else {
                for (sum, shot) in self.sum.iter_mut().zip(&self.shot) {
                    *sum = [sum[0] + shot[0], sum[1] + shot[1], sum[2] + shot[2]];
                }
            }
        }
        let total: f32 = self.sum.iter().map(|c| c[0] + 2.0 * c[1] + c[2]).sum();
        self.meter.mean = (total / (8.0 * self.sum.len() as f32)).max(1e-4);
        if opened {
            self.meter.gain = (EXPOSURE_TARGET / self.meter.mean).clamp(0.1, 12.0);
        }
        self.develop(world.config.image_noise, hash(world.config.seed, 70, tick), frame);
    }

    fn follow_light(&mut self, tick: u64) {
        let meter = &mut self.meter;
        let Some(last) = meter.tick.replace(tick) else { return };
        for _ in 0..tick.saturating_sub(last).min(60) {
            let wanted = (EXPOSURE_TARGET / (meter.mean * meter.gain)).clamp(0.3, 3.0);
            meter.gain = (meter.gain * (1.0 + 0.09 * (wanted - 1.0))).clamp(0.1, 12.0);
        }
        if tick != last {
            meter.exposure_s = (0.012 * meter.gain).clamp(0.003, 0.035);
        }
    }

    /// One sub-frame into `shot`: linear light.
    fn shoot(&mut self, world: &World, light: &Light, axes: &Axes, shift: f32) {
        for (out, &(left, up)) in self.shot.iter_mut().zip(&self.slopes) {
            let direction = axes.direction(left + shift, up + shift);
            *out = surface(world, light, axes.origin, direction, &self.coarser);
        }
        let mut near = core::mem::take(&mut self.near);
        near.clear();
        for (i, thing) in world.clutter.iter().enumerate() {
            let (dx, dy) = (thing.x - axes.origin[0], thing.y - axes.origin[1]);
            let square = dx * dx + dy * dy;
            if square < FAR_M * FAR_M {
                near.push((square, i));
            }
        }
        near.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, i) in &near {
            let thing = &world.clutter[i];
            let Some((columns, rows)) = self.window(axes, thing.x, thing.y, thing.radius, thing.height) else {
                continue;
            };
            let shade = world.shadow(light, thing.x, thing.y);
            for row in rows {
                for column in columns.clone() {
                    let pixel = row * self.columns + column;
                    let (left, up) = self.slopes[pixel];
                    let ray = Ray { origin: axes.origin, direction: axes.direction(left + shift, up + shift) };
                    if let Some(colour) = thing.hit(&ray) {
                        self.shot[pixel] = tinted(colour, light, shade);
                    }
                }
            }
        }
        self.near = near;
    }

    /// Columns and rows in which an upright thing may be seen; `None` where it is out of the frame.
    fn window(&self, axes: &Axes, x: f32, y: f32, radius: f32, height: f32) -> Option<(Span, Span)> {
        let per_pixel = self.columns as f32 / (2.0 * self.edge);
        let (mut low, mut high, mut behind) = ((f32::MAX, f32::MAX), (f32::MIN, f32::MIN), 0);
        // Left of the lens, and right of it, as far as the part behind the image plane goes.
        let (mut to_left, mut to_right) = (false, false);
        for corner in 0..8 {
            let side = |bit: usize| if corner & bit == 0 { -radius } else { radius };
            let z = if corner & 4 == 0 { 0.0 } else { height };
            let offset = [x + side(1) - axes.origin[0], y + side(2) - axes.origin[1], z - axes.origin[2]];
            let along = |axis: [f32; 3]| axis[0] * offset[0] + axis[1] * offset[1] + axis[2] * offset[2];
            let (depth, left) = (along(axes.forward), along(axes.left));
            if depth < 0.05 {
                behind += 1;
                to_left |= left > 0.0;
                to_right |= left <= 0.0;
                continue;
            }
            let (u, v) = (left / depth, along(axes.up) / depth);
            let r = (u * u + v * v).sqrt().max(1e-6);
            let shrink = undistort(r) / r;
            let column = self.columns as f32 * 0.5 - u * shrink * per_pixel;
            let row = self.rows as f32 * 0.5 - v * shrink * per_pixel;
            low = (low.0.min(column), low.1.min(row));
            high = (high.0.max(column), high.1.max(row));
        }
        if behind == 8 {
            return None;
        }
        if behind > 0 {
            low = (if to_left { 0.0 } else { low.0 }, 0.0);
            high = (if to_right { self.columns as f32 } else { high.0 }, self.rows as f32);
        }
        let (columns, rows) = (span(low.0, high.0, self.columns), span(low.1, high.1, self.rows));
        (!columns.is_empty() && !rows.is_empty()).then_some((columns, rows))
    }

    /// Lens shading, gain, gamma and noise: light to bytes.
    fn develop(&self, noise: f32, key: u64, frame: &mut [u8]) {
        let grain = 2.2 * noise * (0.5 + 0.5 * self.meter.gain).sqrt().min(3.0) * (1.0 / 65_536.0);
        let gain = 0.5 * self.meter.gain;
        for (i, (out, colour)) in frame.chunks_exact_mut(3).zip(&self.sum).enumerate() {
            let light = gain * self.shading[i];
            let mut bits = mix(key ^ i as u64);
            for (byte, &c) in out.iter_mut().zip(colour) {
                // Triangular noise from 20 bits a channel, of standard deviation 0.4 per unit.
                let random = (bits & 0x3ff) as i32 + ((bits >> 10) & 0x3ff) as i32 - 1023;
                bits >>= 20;
                let value = (c * light).sqrt() * 255.0 + random as f32 * 64.0 * 2.4 * grain;
                *byte = (value + 0.5) as u8;
            }
        }
    }
}

type Span = core::ops::Range<usize>;

fn span(low: f32, high: f32, count: usize) -> Span {
    let (low, high) = ((low - 2.0).max(0.0) as usize, (high + 3.0).max(0.0) as usize);
    low.min(count)..high.min(count)
}

fn tinted(colour: [f32; 3], light: &Light, shade: f32) -> [f32; 3] {
    [colour[0] * light.colour[0] * shade, colour[1] * light.colour[1] * shade, colour[2] * light.colour[2] * shade]
}

/// What a ray sees of floor, walls and ceiling.
fn surface(world: &World, light: &Light, o: [f32; 3], d: [f32; 3], coarser: &[f32; LEVELS - 1]) -> [f32; 3] {
    if d[2] < -1e-4 {
        let t = -o[2] / d[2];
        let (x, y) = (o[0] + t * d[0], o[1] + t * d[1]);
        if x >= 0.0 && y >= 0.0 && x < world.width && y < world.height {
            let level = coarser.iter().map(|&from| usize::from(t > from)).sum();
            return tinted(world.floor.at(x, y, level), light, world.shadow(light, x, y));
        }
    }
    let reach = |from: f32, along: f32, size: f32| {
        if along > 1e-6 {
            (size - from) / along
        } else if along < -1e-6 {
            -from / along
        } else {
            f32::MAX
        }
    };
    let (tx, ty) = (reach(o[0], d[0], world.width), reach(o[1], d[1], world.height));
    let t = tx.min(ty);
    let z = o[2] + t * d[2];
    if z > world.wall_height {
        let t = (world.wall_height - o[2]) / d[2];
        let (x, y) = (o[0] + t * d[0] + 64.0, o[1] + t * d[1] + 64.0);
        let (fx, fy) = (x * 0.45 - (x * 0.45) as i32 as f32, y * 0.3 - (y * 0.3) as i32 as f32);
        let lamp = if fx < 0.12 && fy < 0.4 { 3.0 } else { 0.85 };
        return tinted(world.ceiling.map(|c| c * c), light, lamp);
    }
    let (x, y) = (o[0] + t * d[0], o[1] + t * d[1]);
    let along = match (tx < ty, d[0] > 0.0, d[1] > 0.0) {
        (true, true, _) => world.width + y,
        (true, false, _) => 2.0 * world.width + 2.0 * world.height - y,
        (false, _, true) => 2.0 * world.width + world.height - x,
        (false, _, false) => x,
    };
    let level = usize::from(t > coarser[2]) + usize::from(t > coarser[4]);
    tinted(world.walls.at(along, z, level), light, 0.9)
}
