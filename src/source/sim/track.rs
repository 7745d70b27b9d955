//! The lane's centre line: a smooth closed curve of a few harmonics, and where a point lies beside it.
//!
//! Curves stay above a radius of about 1 m and parts of the track keep 2.2 m from each other, whatever the seed.

use super::noise::Dice;

/// Distance between neighbouring points of the centre line in metres, about.
const SPACING_M: f64 = 0.05;
const MAX_CURVATURE: f64 = 0.95;
const MIN_GAP_M: f64 = 2.2;

/// One point of the centre line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Knot {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Unit tangent.
    pub(super) tx: f64,
    pub(super) ty: f64,
    /// Signed curvature in 1/m, left turns are positive.
    pub(super) curvature: f64,
    /// How bumpy the floor is here, 0 to 1.
    pub(super) roughness: f64,
}

/// Where a point lies as seen from the track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) knot: usize,
    /// Metres along the lap from its start.
    pub(super) along: f64,
    /// Metres left of the centre line.
    pub(super) cross: f64,
    /// Direction of the track in radians.
    pub(super) heading: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) knots: Vec<Knot>,
    pub(super) length: f64,
}

impl Track {
    pub(super) fn new(seed: u64, lap_m: f32) -> Self {
        let mut dice = Dice::new(seed, 1);
        let harmonics: Vec<(f64, f64, f64)> = [(2, 0.34), (3, 0.26), (4, 0.14), (5, 0.08)]
            .iter()
            .map(|&(k, most)| (f64::from(k), f64::from(dice.between(-most, most)), angle(&mut dice)))
            .collect();
        let mut scale = 1.2;
        loop {
            // At scale 0 the track is a circle, which always fits: the loop ends.
            scale = if scale < 0.05 { 0.0 } else { scale * 0.94 };
            let track = Track::from_polygon(&polygon(&harmonics, scale), f64::from(lap_m));
            if scale == 0.0 || track.fits() {
                return track.with_rough_stretches(&mut dice);
            }
        }
    }

    /// Scales a polygon to `length` and walks it in equal steps.
    fn from_polygon(corners: &[(f64, f64)], length: f64) -> Self {
        let side = |i: usize| {
            let ((x0, y0), (x1, y1)) = (corners[i], corners[(i + 1) % corners.len()]);
            ((x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0)).sqrt()
        };
        let perimeter: f64 = (0..corners.len()).map(side).sum();
        let count = (length / SPACING_M) as usize;
        let step = perimeter / count as f64;
        let zoom = length / perimeter;
        let mut points = Vec::with_capacity(count);
        let mut walked = 0.0;
        for i in 0..corners.len() {
            let ((x0, y0), (x1, y1)) = (corners[i], corners[(i + 1) % corners.len()]);
            let this = side(i);
            while points.len() < count && points.len() as f64 * step <= walked + this {
                let f = (points.len() as f64 * step - walked) / this;
                points.push(((x0 + (x1 - x0) * f) * zoom, (y0 + (y1 - y0) * f) * zoom));
            }
            walked += this;
        }
        let n = points.len();
        let tangent = |i: usize| {
            let ((x0, y0), (x1, y1)) = (points[(i + n - 2) % n], points[(i + 2) % n]);
            let (dx, dy) = (x1 - x0, y1 - y0);
            let d = (dx * dx + dy * dy).sqrt();
            (dx / d, dy / d)
        };
        let knots = (0..n)
            .map(|i| {
                let (tx, ty) = tangent(i);
                let ((ax, ay), (bx, by)) = (tangent((i + n - 3) % n), tangent((i + 3) % n));
                let curvature = (ax * by - ay * bx) / (6.0 * length / n as f64);
                Knot { x: points[i].0, y: points[i].1, tx, ty, curvature, roughness: 0.0 }
            })
            .collect();
        Track { knots, length }
    }

    fn fits(&self) -> bool {
        if self.knots.iter().any(|k| k.curvature.abs() > MAX_CURVATURE) {
            return false;
        }
        let n = self.knots.len();
        // A half circle of the gap's width may pass; anything farther along the lap must keep the gap.
        let apart = (MIN_GAP_M * 1.7 / self.step()) as usize;
        (0..n).step_by(4).all(|i| {
            (i + apart..(i + n).saturating_sub(apart).min(n)).step_by(4).all(|j| {
                let (dx, dy) = (self.knots[i].x - self.knots[j].x, self.knots[i].y - self.knots[j].y);
                dx * dx + dy * dy > MIN_GAP_M * MIN_GAP_M
            })
        })
    }

    /// Two stretches of every lap are bumpy, each about a tenth of it.
    fn with_rough_stretches(mut self, dice: &mut Dice) -> Self {
        let n = self.knots.len();
        for part in 0..2 {
            let first = (n as f32 * (0.5 * part as f32 + dice.between(0.1, 0.35))) as usize;
            let count = (n as f32 * dice.between(0.08, 0.12)) as usize;
            let strength = f64::from(dice.between(0.6, 1.0));
            for i in first..first + count {
                self.knots[i % n].roughness = strength;
            }
        }
        self
    }

    pub(super) fn shift(&mut self, dx: f64, dy: f64) {
        for knot in &mut self.knots {
            knot.x += dx;
            knot.y += dy;
        }
    }

    /// The same line driven the other way.
    pub(super) fn reversed(&self) -> Self {
        let turn = |k: &Knot| Knot { tx: -k.tx, ty: -k.ty, curvature: -k.curvature, ..*k };
        Track { knots: self.knots.iter().rev().map(turn).collect(), length: self.length }
    }

    /// Metres between neighbouring knots.
    pub(super) fn step(&self) -> f64 {
        self.length / self.knots.len() as f64
    }

    /// The point `along` metres into the lap, taken around as often as needed, and the track's direction there.
    pub(super) fn at(&self, along: f64) -> (f64, f64, f64) {
        let n = self.knots.len();
        let along = if along.is_finite() { along } else { 0.0 };
        let laps = along / self.length;
        let place = (laps - libm::floor(laps)) * n as f64;
        let i = (place as usize).min(n - 1);
        let f = place - i as f64;
        let (a, b) = (&self.knots[i], &self.knots[(i + 1) % n]);
        let (tx, ty) = (a.tx + (b.tx - a.tx) * f, a.ty + (b.ty - a.ty) * f);
        (a.x + (b.x - a.x) * f, a.y + (b.y - a.y) * f, libm::atan2(ty, tx))
    }

    /// The knot that lies `along` metres into the lap.
    pub(super) fn knot_at(&self, along: f64) -> usize {
        let laps = along / self.length;
        let i = ((laps - libm::floor(laps)) * self.knots.len() as f64) as usize;
        i.min(self.knots.len() - 1)
    }

    /// Where (x, y) lies, searched within 0.6 m along the track around knot `near`.
    pub(super) fn place(&self, x: f64, y: f64, near: usize) -> Place {
        let n = self.knots.len();
        let mut best = (f64::INFINITY, near % n);
        for offset in 0..25 {
            let i = (near + n + offset - 12) % n;
            let (dx, dy) = (x - self.knots[i].x, y - self.knots[i].y);
            let d = dx * dx + dy * dy;
            if d < best.0 {
                best = (d, i);
            }
        }
        let k = &self.knots[best.1];
        let (dx, dy) = (x - k.x, y - k.y);
        let ahead = (dx * k.tx + dy * k.ty).clamp(-0.1, 0.1);
        Place {
            knot: best.1,
            along: best.1 as f64 * self.step() + ahead,
            cross: dy * k.tx - dx * k.ty,
            heading: libm::atan2(k.ty, k.tx) + k.curvature * ahead,
        }
    }

    /// Metres from (x, y) to the nearest point of the centre line.
    pub(super) fn distance(&self, x: f64, y: f64) -> f64 {
        let square = |k: &Knot| (x - k.x) * (x - k.x) + (y - k.y) * (y - k.y);
        self.knots.iter().map(square).fold(f64::INFINITY, f64::min).sqrt()
    }

    /// Mean curvature of the metre that begins at knot `from`, in 1/m.
    pub(super) fn curvature_ahead(&self, from: usize) -> f64 {
        let count = ((1.0 / self.step()) as usize).max(1);
        let n = self.knots.len();
        (from..from + count).map(|i| self.knots[i % n].curvature).sum::<f64>() / count as f64
    }
}

fn angle(dice: &mut Dice) -> f64 {
    f64::from(dice.between(0.0, core::f32::consts::TAU))
}

fn polygon(harmonics: &[(f64, f64, f64)], scale: f64) -> Vec<(f64, f64)> {
    const CORNERS: u32 = 2048;
    (0..CORNERS)
        .map(|i| {
            let a = f64::from(i) * (core::f64::consts::TAU / f64::from(CORNERS));
            let r = harmonics
                .iter()
                .fold(1.0, |r, &(k, amplitude, phase)| r + scale * amplitude * libm::cos(k * a + phase));
            (r.max(0.2) * libm::cos(a), r.max(0.2) * libm::sin(a))
        })
        .collect()
}

/// `angle` brought into `[-pi, pi]`.
pub(super) fn wrap(angle: f64) -> f64 {
    let turns = angle / core::f64::consts::TAU;
    angle - libm::floor(turns + 0.5) * core::f64::consts::TAU
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_gives_a_closed_track_of_the_asked_length_that_the_rover_can_steer() {
        for seed in 0..40 {
            let track = Track::new(seed, 24.0);
            assert!(track.fits(), "seed {seed}");
            let n = track.knots.len();
            for i in 0..n {
                let (a, b) = (&track.knots[i], &track.knots[(i + 1) % n]);
                let d = ((a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y)).sqrt();
                assert!((d - track.step()).abs() < 0.01, "seed {seed} knot {i} {d}");
            }
        }
    }

    #[test]
    fn a_point_beside_the_track_is_found_there() {
        let track = Track::new(3, 24.0);
        for i in 0..48 {
            let along = 0.5 * f64::from(i);
            let (x, y, heading) = track.at(along);
            let (x, y) = (x - 0.3 * libm::sin(heading), y + 0.3 * libm::cos(heading));
            let place = track.place(x, y, track.knot_at(along));
            assert!((place.cross - 0.3).abs() < 0.01, "{along}: {place:?}");
            assert!((place.along - along).abs() < 0.05 || along < 0.1);
            assert!(wrap(place.heading - heading).abs() < 0.03);
        }
    }

    #[test]
    fn driven_the_other_way_left_becomes_right() {
        let track = Track::new(5, 24.0);
        let back = track.reversed();
        let sum: f64 = track.knots.iter().map(|k| k.curvature).sum();
        let back_sum: f64 = back.knots.iter().map(|k| k.curvature).sum();
        assert!((sum + back_sum).abs() < 1e-9);
        assert!((sum * track.step() - core::f64::consts::TAU).abs() < 0.02);
    }
}
