//! Messages of the bus as messages of ROS 2.

use super::message::{Block, Decision, Feature};
use crate::ros::messages::{self, ALARM_NONE, ALARM_QUIET, ALARM_RAISED, Header};

impl Feature {
    /// The same for ROS 2. What is not known is no number there.
    pub fn to_ros(&self, header: Header) -> messages::Feature<'_> {
        messages::Feature {
            header,
            age: self.age.into(),
            encoder: self.encoder.0,
            novelty: self.novelty.unwrap_or(f32::NAN),
            health: self.health.unwrap_or(f32::NAN),
            lengths: self.blocks.iter().map(|Block { len, .. }| *len).collect(),
            exponents: self.blocks.iter().map(|Block { exponent, .. }| *exponent).collect(),
            values: &self.values,
        }
    }
}

impl Decision {
    /// The same for ROS 2. What a controller does not tell is empty there.
    pub fn to_ros(&self, header: Header) -> messages::Decision {
        messages::Decision {
            header,
            age: self.age.into(),
            controller: (*self.controller).into(),
            values: self.values.to_vec(),
            confidence: self.confidence,
            label: self.label.as_deref().unwrap_or_default().into(),
            alarm: match self.alarm {
                None => ALARM_NONE,
                Some(false) => ALARM_QUIET,
                Some(true) => ALARM_RAISED,
            },
            safe: self.safe.as_deref().unwrap_or_default().into(),
        }
    }
}
