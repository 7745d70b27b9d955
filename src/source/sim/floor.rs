//! Paints the floor: materials and patches, what lies about, and the lane's worn markings.

use super::config::WorldConfig;
use super::noise::{Dice, cell, floor, fractal, hash, smoothstep, value, wave};
use super::texture::Texture;
use super::track::Track;

const TEXEL_M: f32 = 0.02;
/// Width of an edge line in metres.
const LINE_M: f32 = 0.055;

#[derive(Clone, Copy)]
enum Grain {
    Carpet,
    Tiles,
    Planks,
    Concrete,
}

#[derive(Clone, Copy)]
struct Material {
    grain: Grain,
    colour: [f32; 3],
    second: [f32; 3],
    scale: f32,
    seed: u64,
}

/// A turned rectangle on the floor: a rug, another floor covering, a sheet of paper, a strip of tape.
struct Patch {
    x: f32,
    y: f32,
    cos: f32,
    sin: f32,
    half_length: f32,
    half_width: f32,
    wavy: f32,
    material: Material,
}

pub(super) fn muted(dice: &mut Dice) -> [f32; 3] {
    let grey = dice.between(0.22, 0.75);
    let mut tint = || grey + dice.between(-0.14, 0.14);
    [tint(), tint(), tint()]
}

pub(super) fn vivid(dice: &mut Dice) -> [f32; 3] {
    let mut colour = [dice.between(0.1, 0.5), dice.between(0.1, 0.6), dice.between(0.1, 0.5)];
    colour[dice.pick(3)] = dice.between(0.5, 0.95);
    let grey = brightness(colour);
    blend(colour, [grey; 3], dice.between(0.2, 0.7))
}

fn blend(a: [f32; 3], b: [f32; 3], weight: f32) -> [f32; 3] {
    [a[0] + (b[0] - a[0]) * weight, a[1] + (b[1] - a[1]) * weight, a[2] + (b[2] - a[2]) * weight]
}

fn brightness(colour: [f32; 3]) -> f32 {
    0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
}

impl Material {
    fn new(dice: &mut Dice) -> Self {
        let grain = [Grain::Carpet, Grain::Tiles, Grain::Planks, Grain::Concrete][dice.pick(4)];
        let (colour, other) = (muted(dice), muted(dice));
        Material { grain, colour, second: blend(colour, other, 0.4), scale: dice.between(0.7, 1.5), seed: dice.bits() }
    }

    fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let (x, y) = (x * self.scale, y * self.scale);
        let dirt = 0.06 * fractal(self.seed, x * 0.8, y * 0.8, 3);
        let (mix, shade) = match self.grain {
            Grain::Carpet => (
                0.5 + 0.5 * fractal(self.seed ^ 1, x * 9.0, y * 9.0, 3),
                0.10 * value(self.seed ^ 2, x * 38.0, y * 38.0),
            ),
            Grain::Tiles => {
                let (u, v) = (x * 2.6, y * 2.6);
                let (iu, iv) = (floor(u), floor(v));
                let edge = (u - iu as f32 - 0.5).abs().max((v - iv as f32 - 0.5).abs());
                let joint = smoothstep(0.465, 0.49, edge);
                (cell(self.seed ^ 3, iu, iv), 0.05 * value(self.seed ^ 4, x * 14.0, y * 14.0) - 0.16 * joint)
            }
            Grain::Planks => {
                let row = floor(y * 7.0);
                let u = x * 0.9 + cell(self.seed ^ 5, row, 0) * 7.0;
                let joint = smoothstep(0.42, 0.5, (y * 7.0 - row as f32 - 0.5).abs());
                let fibre = 0.07 * value(self.seed ^ 6, x * 4.0, y * 50.0);
                (cell(self.seed ^ 7, row, floor(u)), fibre - 0.12 * joint)
            }
            Grain::Concrete => {
                let crack = fractal(self.seed ^ 8, x * 1.1, y * 1.1, 4).abs();
                (0.5 + 0.5 * fractal(self.seed ^ 9, x * 2.5, y * 2.5, 4), -0.13 * (1.0 - smoothstep(0.0, 0.02, crack)))
            }
        };
        blend(self.colour, self.second, mix).map(|c| c + shade + dirt)
    }
}

impl Patch {
    /// 0 outside, 1 inside.
    fn cover(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let (u, v) = (dx * self.cos + dy * self.sin, dy * self.cos - dx * self.sin);
        if u.abs() > self.half_length + 0.3 || v.abs() > self.half_width + 0.3 {
            return 0.0;
        }
        let wave = if self.wavy > 0.0 { self.wavy * fractal(self.material.seed, x * 2.0, y * 2.0, 3) } else { 0.0 };
        let inside = (self.half_length - u.abs()).min(self.half_width - v.abs()) + wave;
        smoothstep(-0.012, 0.012, inside)
    }
}

/// Rugs and coverings below the markings (`over` false), papers, tape and cables above them (`over` true).
fn patches(look: u64, track: &Track, over: bool) -> Vec<Patch> {
    let mut dice = Dice::new(look, 20 + u64::from(over));
    let count = (track.length * if over { 1.6 } else { 0.4 }) as usize;
    (0..count)
        .map(|_| {
            let (x, y, _) = track.at(f64::from(dice.between(0.0, 1.0)) * track.length);
            let spread = if over { 2.0 } else { 1.4 };
            let (x, y) = (x as f32 + dice.between(-spread, spread), y as f32 + dice.between(-spread, spread));
            let turn = dice.between(0.0, core::f32::consts::TAU);
            let mut material = Material::new(&mut dice);
            let (half_length, half_width, wavy) = match (over, dice.pick(4)) {
                (false, 0) => (dice.between(0.8, 2.0), dice.between(0.8, 2.0), 0.35),
                (false, _) => (dice.between(0.4, 1.8), dice.between(0.4, 1.2), 0.0),
                // Stray tape that means nothing, and cables.
                (true, 0) => (dice.between(0.2, 0.8), dice.between(0.015, 0.03), 0.0),
                (true, 1) => (dice.between(0.5, 1.0), 0.012, 0.05),
                (true, _) => (dice.between(0.03, 0.15), dice.between(0.03, 0.12), 0.02),
            };
            if over {
                material.grain = Grain::Concrete;
                material.colour = if dice.pick(3) == 0 { vivid(&mut dice) } else { muted(&mut dice) };
                material.second = material.colour;
            }
            Patch { x, y, cos: libm::cosf(turn), sin: libm::sinf(turn), half_length, half_width, wavy, material }
        })
        .collect()
}

/// Metres left of the centre line and knot of the nearest centre point, for each texel near the lane.
fn lane_map(track: &Track, columns: usize, rows: usize) -> Vec<(f32, u32)> {
    const REACH_M: f64 = 0.9;
    let mut map = vec![(f32::INFINITY, 0u32); columns * rows];
    let mut nearest = vec![f32::INFINITY; columns * rows];
    let texel = f64::from(TEXEL_M);
    for (i, knot) in track.knots.iter().enumerate() {
        let span = |centre: f64, count: usize| {
            let low = ((centre - REACH_M) / texel).max(0.0) as usize;
            (low.min(count), (((centre + REACH_M) / texel).max(0.0) as usize).min(count))
        };
        let ((left, right), (top, bottom)) = (span(knot.x, columns), span(knot.y, rows));
        for row in top..bottom {
            let dy = ((row as f64 + 0.5) * texel - knot.y) as f32;
            for column in left..right {
                let dx = ((column as f64 + 0.5) * texel - knot.x) as f32;
                let square = dx * dx + dy * dy;
                let at = row * columns + column;
                if square < nearest[at] {
                    nearest[at] = square;
                    map[at] = (dy * knot.tx as f32 - dx * knot.ty as f32, i as u32);
                }
            }
        }
    }
    map
}

/// How the lane is marked: lines of tape or paint, worn and dirty.
struct Markings {
    look: u64,
    wear: f32,
    half_lane: f32,
    edge: [f32; 3],
    centre: [f32; 3],
}

impl Markings {
    fn new(config: &WorldConfig, ground: [f32; 3]) -> Self {
        let look = config.look();
        let mut dice = Dice::new(look, 30);
        let tapes = [[0.93, 0.93, 0.9], [0.9, 0.75, 0.15], [0.15, 0.3, 0.7], [0.12, 0.12, 0.13], [0.85, 0.3, 0.15]];
        // Among five tapes some always stand out from the ground.
        let visible: Vec<_> = tapes.into_iter().filter(|&t| (brightness(t) - brightness(ground)).abs() > 0.2).collect();
        let mut choose = || visible.get(dice.pick(visible.len())).copied().unwrap_or(tapes[0]);
        Markings { look, wear: config.marking_wear, half_lane: config.lane_m * 0.5, edge: choose(), centre: choose() }
    }

    /// Colour and opacity of the paint `cross` metres left of the centre, `along` metres into a lap of `laps`.
    fn at(&self, cross: f32, along: f32, lap: f32, x: f32, y: f32) -> ([f32; 3], f32) {
        let line = |centre: f32, width: f32| {
            1.0 - smoothstep(width * 0.5 - 0.012, width * 0.5 + 0.012, (cross - centre).abs())
        };
        let (left, right) = (line(self.half_lane, LINE_M), line(-self.half_lane, LINE_M));
        let dashes = (lap / 0.6) as i32 as f32;
        let phase = along / lap * dashes;
        let dash = line(0.0, 0.04) * (1.0 - smoothstep(0.22, 0.26, (phase - floor(phase) as f32 - 0.5).abs()));
        let (table, paint, colour) = if dash > 0.0 {
            (31, dash, self.centre)
        } else if left > right {
            (32, left, self.edge)
        } else {
            (33, right, self.edge)
        };
        if paint <= 0.0 {
            return (colour, 0.0);
        }
        // Opacity wanders along the line, here and there to nothing; the paint flakes off in spots.
        let fade =
            wave(self.look, table, f64::from(along) * 0.45) + 0.5 * wave(self.look, table + 10, f64::from(along) * 1.7);
        let opacity = (1.0 - self.wear * (0.55 + 0.85 * fade)).clamp(0.0, 1.0);
        let flakes = fractal(hash(self.look, 34, 0), x * 14.0, y * 14.0, 3);
        let kept = smoothstep(-0.25, 0.1, flakes + 0.7 - self.wear * 0.8);
        (colour, paint * opacity * kept * 0.95)
    }
}

/// Paints the whole floor; `shade` is the share of light that clutter lets through at (x, y).
pub(super) fn paint(
    config: &WorldConfig,
    track: &Track,
    width: f32,
    height: f32,
    shade: impl Fn(f32, f32) -> f32,
) -> Texture {
    let look = config.look();
    let mut dice = Dice::new(look, 21);
    let base = Material::new(&mut dice);
    let (below, above) = (patches(look, track, false), patches(look, track, true));
    let markings = Markings::new(config, base.colour);
    let (columns, rows) = ((width / TEXEL_M) as usize, (height / TEXEL_M) as usize);
    let lane = lane_map(track, columns, rows);
    let (step, lap) = (track.step() as f32, track.length as f32);
    let mut texel = 0;
    Texture::paint_marked(width, height, TEXEL_M, |x, y| {
        let mut mark = 0.0;
        let cover = |patches: &[Patch], mut colour: [f32; 3], mark: &mut f32| {
            for patch in patches {
                let cover = patch.cover(x, y);
                if cover > 0.0 {
                    colour = blend(colour, patch.material.at(x, y), cover);
                    *mark *= 1.0 - cover;
                }
            }
            colour
        };
        let mut colour = cover(&below, base.at(x, y), &mut mark);
        let (cross, knot) = lane.get(texel).copied().unwrap_or((f32::INFINITY, 0));
        texel += 1;
        if cross.abs() < 0.9 {
            let along = knot as f32 * step;
            if track.knots[knot as usize].roughness > 0.0 && cross.abs() < 0.62 {
                colour = colour.map(|c| c + 0.09 * value(look ^ 77, x * 16.0, y * 16.0));
            }
            // Tyres leave their dirt where everybody drives.
            let worn = 0.07
                * (1.0 - smoothstep(0.1, 0.3, (cross.abs() - 0.12).abs()))
                * (0.5 + value(look ^ 78, along * 0.7, 0.0));
            colour = colour.map(|c| c - worn);
            let (paint, opacity) = markings.at(cross, along, lap, x, y);
            colour = blend(colour, paint, opacity);
            mark = opacity;
        }
        let colour = cover(&above, colour, &mut mark);
        // Lamps light some places better than others, for good.
        let lamp = 0.93 + 0.14 * fractal(look ^ 79, x * 0.35, y * 0.35, 2);
        let lit = lamp * shade(x, y);
        (colour.map(|c| c * lit), mark)
    })
}
