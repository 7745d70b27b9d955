//! Coarse masks: what each part of a frame shows, taught on a few frames, by the cells of the encoder's maps before they
//! are pooled, beside those of the untrained encoder, plain colours, and the place in the frame alone.

use super::DemoError;
use super::drive::Lookouts;
use crate::kernels::{Kernels, Map};
use crate::learner::Learner;
use crate::probe::cells::{self, Layer};
use crate::probe::prototypes::Prototypes;
use crate::probe::{block_len, over};
use crate::sample::{Micros, Sample, Values};
use crate::source::sim::{Surface, coarse};

/// Frames whose masks are taught.
pub const TAUGHT: usize = 10;
/// Test frames that are shown.
const SHOWN: usize = 4;

/// How well masks of one kind cover the true ones over all test frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// `learned`, `untrained`, `raw`, or `place`: the commonest surface at each place of the taught frames.
    pub name: &'static str,
    /// Intersection over union for each of [`Surface::ALL`].
    pub overlap: [f64; Surface::ALL.len()],
}

impl Score {
    pub fn mean(&self) -> f64 {
        self.overlap.iter().sum::<f64>() / self.overlap.len() as f64
    }
}

/// A frame with its true mask and that of the learned encoder, for a picture.
#[derive(Clone, Debug)]
pub struct Shown {
    pub pixels: Vec<u8>,
    pub truth: Vec<Surface>,
    pub answer: Vec<Surface>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    /// (rows, columns)
    pub grid: (usize, usize),
    pub scores: Vec<Score>,
    pub shown: Vec<Shown>,
}

/// Features of the cells of a frame, one after the other.
struct Cells<'a, 'm> {
    /// Plain colours where there is none.
    learner: Option<&'a mut Learner<'m>>,
    frame: (usize, usize),
    grid: (usize, usize),
    /// Layers that are read, and their maps.
    maps: Vec<(usize, Map, Vec<i8>)>,
}

impl<'a, 'm> Cells<'a, 'm> {
    fn new(learner: Option<&'a mut Learner<'m>>, frame: (usize, usize), grid: (usize, usize)) -> Self {
        let maps = match &learner {
            Some(learner) => (0..).map_while(|layer| Some((layer, learner.map_of(layer)?))).collect(),
            // Each pixel of a cell has its own numbers.
            None => {
                let (rows, columns) = (frame.0 / grid.0, frame.1 / grid.1);
                vec![(0, Map::new(grid.0, grid.1, 3 * rows * columns))]
            }
        };
        let maps = maps.into_iter().map(|(layer, map)| (layer, map, vec![0; map.len()])).collect();
        Cells { learner, frame, grid, maps }
    }

    fn dim(&self) -> usize {
        cells::dim(&self.maps.iter().map(|(_, map, _)| *map).collect::<Vec<_>>())
    }

    fn look(&mut self, pixels: &[u8]) -> Result<Vec<i8>, DemoError> {
        let (height, width) = self.frame;
        for (layer, map, values) in &mut self.maps {
            match &mut self.learner {
                Some(learner) => {
                    let of_frame = Values::Image { pixels, height, width, channels: 3 };
                    learner.perceive_map(&Sample { values: of_frame, time: Micros(0), segment: 0 }, *layer, values)?;
                }
                None => {
                    let (rows, columns) = (height / self.grid.0, width / self.grid.1);
                    for (number, out) in values.iter_mut().enumerate() {
                        let (cell, within) = (number / map.channels, number % map.channels);
                        let (y, x) = (within / (3 * columns), within / 3 % columns);
                        let at = (cell / self.grid.1 * rows + y) * width + cell % self.grid.1 * columns + x;
                        *out = (i16::from(pixels[3 * at + within % 3]) - 128).max(-127) as i8;
                    }
                }
            }
        }
        let layers: Vec<Layer> = self.maps.iter().map(|(_, map, values)| Layer { map: *map, values }).collect();
        let dim = self.dim();
        let mut out = vec![0; self.grid.0 * self.grid.1 * dim];
        for (cell, out) in out.chunks_exact_mut(dim).enumerate() {
            cells::feature(&layers, self.grid, cell / self.grid.1, cell % self.grid.1, out);
        }
        Ok(out)
    }
}

/// Teaches and tests masks. Frames are of (height, width) `frame`.
pub(super) fn study(
    learned: &mut Learner,
    untrained: &mut Learner,
    frame: (usize, usize),
    taught: &Lookouts,
    tested: &Lookouts,
) -> Result<Masks, DemoError> {
    // The cells of the second layer, where there is one: 4 x 4 pixels in the shipped models.
    let fine = learned.map_of(1).or(learned.map_of(0));
    let Some(grid) = fine.map(|map| (map.height, map.width)) else { return Ok(Masks::default()) };
    let truth = |lookouts: &Lookouts, n: usize| coarse(&lookouts.surfaces[n], frame, grid);
    let lessons: Vec<Lesson> = (0..TAUGHT)
        .map(|n| n * taught.frames.len() / TAUGHT)
        .map(|n| Lesson { pixels: &taught.frames[n], mask: truth(taught, n) })
        .collect();
    let wanted: Vec<Vec<Surface>> = (0..tested.frames.len()).map(|n| truth(tested, n)).collect();
    let by_learned = answers(Cells::new(Some(learned), frame, grid), &lessons, &tested.frames)?;
    let by_untrained = answers(Cells::new(Some(untrained), frame, grid), &lessons, &tested.frames)?;
    let by_colours = answers(Cells::new(None, frame, grid), &lessons, &tested.frames)?;
    let usual = |cell: usize| {
        let count = |surface: Surface| lessons.iter().filter(|lesson| lesson.mask[cell] == surface).count();
        Surface::ALL.into_iter().max_by_key(|&surface| count(surface)).unwrap_or(Surface::Floor)
    };
    let usual: Vec<Surface> = (0..grid.0 * grid.1).map(usual).collect();
    let by_place = vec![usual; wanted.len()];
    let shown = (0..SHOWN).map(|k| k * tested.frames.len() / SHOWN).map(|n| Shown {
        pixels: tested.frames[n].clone(),
        truth: wanted[n].clone(),
        answer: by_learned[n].clone(),
    });
    Ok(Masks {
        grid,
        shown: shown.collect(),
        scores: [("learned", by_learned), ("untrained", by_untrained), ("raw", by_colours), ("place", by_place)]
            .into_iter()
            .map(|(name, answers)| score(name, &answers, &wanted))
            .collect(),
    })
}

/// A frame whose mask is taught.
struct Lesson<'a> {
    pixels: &'a [u8],
    mask: Vec<Surface>,
}

/// Masks of `frames`, by prototypes of cells taught on `lessons`.
fn answers(mut cells: Cells, lessons: &[Lesson], frames: &[Vec<u8>]) -> Result<Vec<Vec<Surface>>, DemoError> {
    let (dim, kernels, classes) = (cells.dim(), Kernels::detect(), Surface::ALL.len());
    let mut memory = vec![0; block_len(|arena| Prototypes::take(kernels, dim, dim, classes, arena))?];
    let mut probe = over(&mut memory, |arena| Prototypes::take(kernels, dim, dim, classes, arena))?;
    for Lesson { pixels, mask } in lessons {
        for (feature, &surface) in cells.look(pixels)?.chunks_exact(dim).zip(mask) {
            probe.learn(feature, surface as usize)?;
        }
    }
    probe.relearn();
    let mut named = |pixels: &Vec<u8>| {
        let features = cells.look(pixels)?;
        features.chunks_exact(dim).map(|f| Ok(Surface::ALL[probe.predict(f)?.unwrap_or(0)])).collect()
    };
    frames.iter().map(&mut named).collect()
}

fn score(name: &'static str, answers: &[Vec<Surface>], wanted: &[Vec<Surface>]) -> Score {
    let flat = |masks: &[Vec<Surface>]| masks.iter().flatten().map(|&s| s as u8).collect::<Vec<u8>>();
    let (answers, wanted) = (flat(answers), flat(wanted));
    let of = |surface: Surface| {
        let overlap = cells::overlap(&answers, &wanted, surface as u8);
        overlap.map_or(0.0, |(both, either)| f64::from(both) / f64::from(either))
    };
    Score { name, overlap: Surface::ALL.map(of) }
}

/// A mask as a picture of (height, width) pixels.
pub(super) fn painted(mask: &[Surface], grid: (usize, usize), frame: (usize, usize)) -> Vec<u8> {
    let colour = |surface| match surface {
        Surface::Floor => [96, 110, 124],
        Surface::Line => [250, 220, 60],
        Surface::Wall => [40, 60, 110],
        Surface::Object => [220, 70, 60],
    };
    let pixel = |n: usize| mask[n / frame.1 * grid.0 / frame.0 * grid.1 + n % frame.1 * grid.1 / frame.1];
    (0..frame.0 * frame.1).flat_map(|n| colour(pixel(n))).collect()
}
