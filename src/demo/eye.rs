//! The kinds of features that the demo compares: each turns a frame into numbers.

use crate::augment::fit;
use crate::kernels::Map;
use crate::learner::{Learner, SampleError};
use crate::runtime::perceiver::{Exchange, Perceiver};
use crate::sample::{Micros, Sample, Values};

/// Size that raw frames are pooled to.
pub(super) const RAW: (usize, usize) = (12, 16);

/// A kind of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All of the learned encoder.
    Learned,
    /// The learned dictionary layer's block of it alone.
    Stem,
    /// An encoder of the same shape that has learned nothing.
    Untrained,
    /// Pixels, pooled, with 1 (grey) or 3 channels.
    Raw(usize),
}

impl Kind {
    /// Its name in the JSON and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Learned => "learned",
            Kind::Stem => "stem",
            Kind::Untrained => "untrained",
            Kind::Raw(_) => "raw",
        }
    }
}

/// Turns frames into features of one kind.
pub struct Eye {
    frame: (usize, usize),
    sight: Sight,
}

enum Sight {
    Encoder { perceiver: Box<Perceiver>, feature: Vec<i8>, keep: usize },
    Pixels { map: Map, small: Vec<u8> },
}

impl Eye {
    /// Eyes of `kind` for frames `(height, width)`; `learner` is the one whose encoder is meant.
    pub fn new(kind: Kind, learner: &Learner, frame: (usize, usize)) -> Self {
        if let Kind::Raw(channels) = kind {
            let map = Map::new(RAW.0.min(frame.0), RAW.1.min(frame.1), channels);
            return Eye { frame, sight: Sight::Pixels { map, small: vec![0; map.len()] } };
        }
        let (_, perceiver) = Exchange::new(learner);
        let network = learner.network();
        let keep = match (kind, network.feature.first()) {
            (Kind::Stem, Some((_, grid))) => grid.len(),
            _ => network.feature_dim,
        };
        let feature = vec![0; network.feature_dim];
        Eye { frame, sight: Sight::Encoder { perceiver: Box::new(perceiver), feature, keep } }
    }

    /// Numbers of a feature.
    pub fn dim(&self) -> usize {
        match &self.sight {
            Sight::Encoder { keep, .. } => *keep,
            Sight::Pixels { map, .. } => map.len(),
        }
    }

    /// Adds the feature of `frame` to `out`.
    ///
    /// # Errors
    /// [`SampleError`] where the encoder takes no images.
    pub fn look(&mut self, frame: &[u8], out: &mut Vec<f32>) -> Result<(), SampleError> {
        let (height, width) = self.frame;
        match &mut self.sight {
            Sight::Encoder { perceiver, feature, keep } => {
                let values = Values::Image { pixels: frame, height, width, channels: 3 };
                perceiver.perceive(&Sample { values, time: Micros(0), segment: 0 }, feature)?;
                out.extend(feature[..*keep].iter().map(|&v| f32::from(v)));
            }
            Sight::Pixels { map, small } => {
                fit::resize(frame, height, width, 3, *map, small);
                out.extend(small.iter().map(|&v| f32::from(v)));
            }
        }
        Ok(())
    }
}
