//! Who acts by what it sees, as the daemon does it: the same controllers, taught the same way, over learned, untrained or raw
//! features.

use super::DemoError;
use super::eye::RAW;
use crate::augment::fit;
use crate::control::config::ControllerTable;
use crate::control::taught::{Answer, Taught};
use crate::control::{Controllers, Decision, FEWEST_BACKGROUND, Fitted, Values};
use crate::kernels::{Grid, Map};
use crate::learner::{Did, Join, Learner};
use crate::runtime::perceiver::{Exchange, Perceiver};
use crate::sample::{EncoderVersion, Sample, Values as SampleValues};

/// One background sample in so many: twice a second at 20 a second, as in the daemon.
pub const BACKGROUND_EVERY: usize = 10;

/// How frames become features.
pub enum Sight<'a, 'm> {
    Learning { learner: &'a mut Learner<'m>, exchange: Exchange, perceiver: Box<Perceiver> },
    Fixed(Box<Perceiver>),
    Pixels { map: Map, small: Vec<u8> },
}

impl Sight<'_, '_> {
    /// Pixels of frames `(height, width)`, pooled, with 1 (grey) or 3 channels.
    pub fn pixels(frame: (usize, usize), channels: usize) -> Self {
        let map = Map::new(RAW.0.min(frame.0), RAW.1.min(frame.1), channels);
        Sight::Pixels { map, small: vec![0; map.len()] }
    }

    fn dim(&self) -> usize {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.feature_dim(),
            Sight::Pixels { map, .. } => map.len(),
        }
    }

    fn stored_len(&self) -> usize {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.stored_len(),
            Sight::Pixels { map, .. } => map.len(),
        }
    }

    fn grids(&self) -> Vec<Grid> {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.grids().collect(),
            Sight::Pixels { map, .. } => vec![Grid::new(*map, (map.height, map.width), false)],
        }
    }

    pub fn version(&self) -> EncoderVersion {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.version(),
            Sight::Pixels { .. } => EncoderVersion(0),
        }
    }

    /// The feature of a frame.
    fn see(&mut self, sample: &Sample, feature: &mut [i8]) -> Result<(), DemoError> {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.perceive(sample, feature)?,
            Sight::Pixels { map, small } => {
                let SampleValues::Image { pixels, height, width, channels } = sample.values else {
                    return Err(DemoError::NoCamera);
                };
                fit::resize(pixels, height, width, channels, *map, small);
                signed(small, feature);
            }
        }
        Ok(())
    }

    /// The newest frame as it is kept.
    fn stored(&self) -> &[u8] {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.stored(),
            Sight::Pixels { small, .. } => small,
        }
    }

    /// The feature of a frame that was kept.
    fn embed(&mut self, stored: &[u8], feature: &mut [i8]) {
        match self {
            Sight::Learning { perceiver, .. } | Sight::Fixed(perceiver) => perceiver.embed(stored, feature),
            Sight::Pixels { .. } => signed(stored, feature),
        }
    }

    /// Learns from a frame; whether another encoder came of it.
    fn learn(&mut self, sample: &Sample, workers: &impl Join) -> Result<bool, DemoError> {
        let Sight::Learning { learner, exchange, perceiver } = self else { return Ok(false) };
        let before = learner.version();
        learner.observe(sample)?;
        while learner.step(workers) != Did::Idle {}
        if learner.version() == before {
            return Ok(false);
        }
        exchange.publish(learner);
        Ok(perceiver.refresh(exchange))
    }
}

fn signed(pixels: &[u8], feature: &mut [i8]) {
    feature.iter_mut().zip(pixels).for_each(|(f, p)| *f = (p ^ 0x80) as i8);
}

/// Acts by what it sees, through the daemon's controllers.
pub struct Pilot<'a, 'm> {
    pub sight: Sight<'a, 'm>,
    tables: Vec<ControllerTable>,
    controllers: Controllers,
    taught: Taught,
    feature: Vec<i8>,
    seen: usize,
    /// Background samples that came since the last fit.
    unfitted: usize,
}

impl<'a, 'm> Pilot<'a, 'm> {
    /// One with the controllers of `tables`, untaught.
    pub fn new(sight: Sight<'a, 'm>, tables: Vec<ControllerTable>) -> Self {
        let controllers = Controllers::new(&tables, sight.dim(), std::time::Duration::from_secs(1));
        let (feature, taught) = (vec![0; sight.dim()], Taught::new(sight.stored_len()));
        Pilot { sight, tables, controllers, taught, feature, seen: 0, unfitted: 0 }
    }

    /// Looks at a sample, with what the first controller is to do there, or as one of the background.
    ///
    /// # Errors
    /// Where it does not fit the model.
    pub fn show(&mut self, sample: &Sample, steering: Option<f64>, teaching: u32) -> Result<(), DemoError> {
        self.sight.see(sample, &mut self.feature)?;
        match steering {
            Some(steering) => {
                let answer = Answer::Values(self.tables[0].name.as_str().into(), Values::from_iter([steering]));
                self.taught.learn(answer, self.sight.stored(), teaching);
            }
            None => {
                self.taught.offer(self.sight.stored());
            }
        }
        Ok(())
    }

    /// Fits the controller to what was shown.
    pub fn fit(&mut self) {
        let (version, dim, grids) = (self.sight.version(), self.sight.dim(), self.sight.grids());
        let sight = &mut self.sight;
        self.taught.embed(version, dim, |stored, feature| sight.embed(stored, feature), || true);
        self.unfitted = 0;
        self.controllers.adopt(Fitted::of(&self.tables, &grids, &self.taught, version).into());
    }

    /// What the first controller does about a sample.
    ///
    /// # Errors
    /// Where it does not fit the model.
    pub fn steer(&mut self, sample: &Sample, workers: &impl Join) -> Result<f64, DemoError> {
        self.act(sample, workers)?;
        Ok(self.decisions().next().map_or(0.0, |decision| decision.values[0]))
    }

    /// Decides by a sample, and then learns from it.
    ///
    /// # Errors
    /// Where it does not fit the model.
    pub fn act(&mut self, sample: &Sample, workers: &impl Join) -> Result<(), DemoError> {
        self.sight.see(sample, &mut self.feature)?;
        self.controllers.decide(sample.time, &self.feature);
        self.seen += 1;
        if self.seen.is_multiple_of(BACKGROUND_EVERY) {
            self.unfitted += usize::from(self.taught.offer(self.sight.stored()));
        }
        // As in the daemon: with each encoder, and when a quarter of the background is new.
        let len = self.taught.background.len();
        let grown = len >= FEWEST_BACKGROUND && self.unfitted * 4 >= len;
        if self.sight.learn(sample, workers)? || grown {
            self.fit();
        }
        Ok(())
    }

    /// What the controllers do, in the order of their tables.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.controllers.decisions().map(|(_, decision, _)| decision)
    }
}
