//! What each pixel of a frame really shows: for judges and teachers, never for a learner.

use super::camera::Camera;
use super::clutter::Ray;
use super::lens::{Axes, View};
use super::rover::Rover;
use super::world::World;

/// A marking counts where this share of its paint is left.
const PAINTED: f32 = 0.35;

/// What a ray of the camera hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Surface {
    /// Floor, and what lies flat on it.
    Floor,
    /// The lane's markings, where paint is left of them.
    Line,
    /// Walls and the ceiling.
    Wall,
    /// A box or a post.
    Object,
}

impl Surface {
    pub const ALL: [Surface; 4] = [Surface::Floor, Surface::Line, Surface::Wall, Surface::Object];

    pub const fn name(self) -> &'static str {
        match self {
            Surface::Floor => "floor",
            Surface::Line => "line",
            Surface::Wall => "wall",
            Surface::Object => "object",
        }
    }
}

impl Rover {
    /// What each pixel of the frame that [`Rover::render`] gives now shows, row by row; one for each in `out`.
    pub fn surfaces(&self, out: &mut [Surface]) {
        let (world, camera, view) = self.sight();
        camera.surfaces(world, &view, out);
    }
}

impl Camera {
    fn surfaces(&self, world: &World, view: &View, out: &mut [Surface]) {
        let axes = Axes::new(world, view, 0.0);
        for (out, &(left, up)) in out.iter_mut().zip(self.slopes()) {
            let ray = Ray { origin: axes.origin, direction: axes.direction(left, up) };
            let hits = |thing: &super::clutter::Clutter| thing.hit(&ray).is_some();
            *out = if world.clutter.iter().any(hits) { Surface::Object } else { behind(world, &ray) };
        }
    }
}

/// What a ray hits behind all clutter.
fn behind(world: &World, ray: &Ray) -> Surface {
    let (o, d) = (ray.origin, ray.direction);
    if d[2] >= -1e-4 {
        return Surface::Wall;
    }
    let t = -o[2] / d[2];
    let (x, y) = (o[0] + t * d[0], o[1] + t * d[1]);
    let inside = x >= 0.0 && y >= 0.0 && x < world.width && y < world.height;
    match inside {
        false => Surface::Wall,
        true if world.floor.mark(x, y) > PAINTED => Surface::Line,
        true => Surface::Floor,
    }
}

/// The mask of a frame of (height, width) pixels, coarse to a `grid` of (rows, columns), row by row: a cell shows a line
/// or an object where a quarter of its pixels do, as either is rarely as large as a cell; else what most of it shows.
pub fn coarse(pixels: &[Surface], frame: (usize, usize), grid: (usize, usize)) -> Vec<Surface> {
    let cell = |index: usize| {
        let (row, column) = (index / grid.1, index % grid.1);
        let mut counts = [0usize; Surface::ALL.len()];
        let rows = row * frame.0 / grid.0..(row + 1) * frame.0 / grid.0;
        for y in rows {
            let columns = column * frame.1 / grid.1..(column + 1) * frame.1 / grid.1;
            pixels[y * frame.1..][columns].iter().for_each(|&surface| counts[surface as usize] += 1);
        }
        let all: usize = counts.iter().sum();
        let small = [Surface::Object, Surface::Line].into_iter().find(|&s| counts[s as usize] * 4 >= all.max(1));
        let most = if counts[Surface::Wall as usize] > counts[Surface::Floor as usize] {
            Surface::Wall
        } else {
            Surface::Floor
        };
        small.unwrap_or(most)
    };
    (0..grid.0 * grid.1).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::super::WorldConfig;
    use super::*;

    fn drive(config: &WorldConfig, steps: usize, mut each: impl FnMut(&[Surface], &[u8])) {
        let mut rover = Rover::new(config);
        let mut frame = vec![0; rover.frame_len()];
        let mut truth = vec![Surface::Floor; rover.frame_len() / 3];
        for _ in 0..steps {
            rover.render(&mut frame);
            rover.surfaces(&mut truth);
            each(&truth, &frame);
            rover.step(rover.expert_steering());
        }
    }

    #[test]
    fn everything_is_seen_on_a_lap_and_nothing_that_the_world_lacks() {
        let count = |config: &WorldConfig| {
            let mut counts = [0usize; 4];
            drive(config, 200, |truth, _| truth.iter().for_each(|&s| counts[s as usize] += 1));
            counts
        };
        let usual = count(&WorldConfig::with_seed(3));
        assert!(usual.iter().all(|&n| n > 2000), "{usual:?}");
        let bare = count(&WorldConfig { clutter_per_m: 0.0, marking_wear: 0.0, ..WorldConfig::with_seed(3) });
        assert!(bare[3] == 0 && bare[1] > usual[1], "{bare:?} {usual:?}");
    }

    #[test]
    fn floor_lies_below_walls_where_the_camera_sees_both_in_one_column() {
        let config = WorldConfig { clutter_per_m: 0.0, shake: 0.0, ..WorldConfig::with_seed(4) };
        drive(&config, 40, |truth, _| {
            for column in 0..64 {
                let walls = (0..48).filter(|row| truth[row * 64 + column] == Surface::Wall);
                let floors = (0..48).filter(|row| truth[row * 64 + column] != Surface::Wall);
                assert!(walls.max() < floors.clone().min().or(Some(48)), "column {column}");
            }
        });
    }

    #[test]
    fn a_cell_shows_small_things_from_a_quarter_on() {
        use Surface::{Floor, Line, Object, Wall};
        let pixels = [Floor, Line, Wall, Wall, Floor, Floor, Wall, Object, Floor, Wall, Wall, Wall];
        assert_eq!(coarse(&pixels, (2, 6), (1, 3)), [Object, Wall, Floor]);
        assert_eq!(coarse(&[Floor, Line, Floor, Floor], (2, 2), (1, 1)), [Line]);
        assert_eq!(coarse(&[Wall, Line, Object, Wall], (2, 2), (1, 1)), [Object]);
    }
}
