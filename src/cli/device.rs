//! The same bits on a board and here: comparing state hashes.

use serde_json::json;

use super::Told;
use super::settings::UsageError;
use crate::learner::Learner;
use crate::link::StateHash;
use crate::source::link::DeviceInfo;
use crate::state;

/// A learner that follows a board's, and what became of their hashes.
pub struct Comparison {
    device: DeviceInfo,
    /// The last hash of the board's for which there is one here too.
    last: Option<StateHash>,
    compared: u64,
    different: Option<StateHash>,
}

impl Comparison {
    /// Of `learner` before the first sample of the board's recording.
    pub fn begin(device: &DeviceInfo, learner: &Learner) -> Result<Self, UsageError> {
        let has = learner.counters().observed;
        if has < device.first {
            return Err(UsageError(format!(
                "the board had taken in {} samples before the recording began, and this learner {has}\n  what to do: \
                 record from the board's start with `nestling record --restart`, or go on from the board's own state: \
                 `nestling import IMAGE --out C`, then --resume C",
                device.first
            )));
        }
        Ok(Comparison { device: device.clone(), last: None, compared: 0, different: None })
    }

    /// Compares where the board took a hash at this point.
    pub fn compare(&mut self, learner: &mut Learner, finished: bool) {
        let samples = learner.counters().observed;
        let here = |hash: &&StateHash| hash.samples == samples && hash.finished == finished;
        let Some(hash) = self.device.hashes.iter().find(here) else { return };
        self.compared += 1;
        self.last = Some(*hash);
        if self.different.is_none() && state::hash(learner) != hash.hash {
            self.different = Some(*hash);
        }
    }

    /// Whether all hashes that could be compared were the same; `None`: there was none.
    fn same(&self) -> Option<bool> {
        (self.compared > 0).then_some(self.different.is_none())
    }

    /// Adds what was found.
    pub fn tell(&self, told: &mut Told) {
        told.json["device"] = json!(self.device.board);
        told.json["device_state_hash"] = json!(self.last.map(|hash| hash.hash.to_string()));
        told.json["device_hashes_compared"] = json!(self.compared);
        told.json["device_samples_missing"] = json!(self.device.missing);
        told.json["same_bits"] = json!(self.same());
        let missing = match self.device.missing {
            0 => String::new(),
            n => format!("; {n} samples of the board's are missing in the recording"),
        };
        told.text += &match (self.same(), self.different) {
            (_, Some(hash)) => format!(
                "\n  board {}   OTHER BITS after {} samples: its hash is {}{missing}",
                self.device.board, hash.samples, hash.hash
            ),
            (Some(_), _) => {
                format!("\n  board {}   the same bits at {} hashes{missing}", self.device.board, self.compared)
            }
            (None, _) => format!("\n  board {}   no hash of it to compare with{missing}", self.device.board),
        };
    }
}
