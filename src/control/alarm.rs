//! Whether something is unlike all that the stream has shown, with a rate of false alarms that the stream itself sets.
//!
//! The novelty of a feature ([`super::space::Space::novelty`]) has no unit that anyone knows. So the stream is cut into short
//! blocks, and of each the largest novelty is kept. The threshold is the one that so many blocks pass as alarms may come:
//! their quantile, or, where alarms are to be rarer than what was seen can show, the quantile of an exponential tail
//! fitted to the blocks above their ninth decile (peaks over threshold: Pickands 1975). It is the larger one of all blocks'
//! and of the last half hour's.
//!
//! That holds for a stream that stays what it was, and an encoder that learns is none. So each alarm puts a margin on top, which
//! goes down by itself in the time that one alarm may take (online tracking of a quantile: Gibbs and Candès 2021, "Adaptive
//! conformal inference under distribution shift"). In the long run no more alarms come than may, as long as the spread of the
//! novelties, which is a margin's unit, does not shrink for ever.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Choice, Controller, Fitted, Seen};
use crate::sample::Micros;

/// Length of a block.
const BLOCK: Duration = Duration::from_secs(5);
/// Blocks kept: nearly six hours.
const MOST_BLOCKS: usize = 4096;
/// The last half hour: an encoder that goes on learning moves what is novel, and old blocks say little of that.
const RECENT: usize = 360;
/// Blocks before the first alarm.
const FEWEST_BLOCKS: usize = 12;
/// Blocks that pass a quantile for it to be believed without a tail.
const ENOUGH: f64 = 8.0;
/// The tail begins at this quantile.
const TAIL: f64 = 0.9;
/// An alarm ends when for so long nothing was above the threshold.
const QUIET: Duration = Duration::from_secs(2);

/// See the module.
pub struct Alarm {
    per_hour: f64,
    /// Largest novelty of each block, in order of time.
    blocks: VecDeque<f32>,
    sorted: Vec<f32>,
    /// End of the block at hand, and its largest novelty so far.
    ends: Option<(u64, f32)>,
    threshold: f32,
    /// What alarms have put on top of the quantile.
    margin: f32,
    /// An alarm was raised in the block at hand.
    raised_now: bool,
    /// When something was last above the threshold.
    last: Option<u64>,
    /// Alarms so far.
    pub raised: u64,
}

impl Alarm {
    /// At most `per_hour` false alarms an hour.
    pub fn new(per_hour: f64) -> Self {
        Alarm {
            per_hour,
            blocks: VecDeque::with_capacity(MOST_BLOCKS),
            sorted: Vec::with_capacity(MOST_BLOCKS),
            ends: None,
            threshold: f32::INFINITY,
            margin: 0.0,
            raised_now: false,
            last: None,
            raised: 0,
        }
    }

    /// Takes in the novelty of a sample at `time`. `None`: the stream is not known well enough yet; else whether this is an
    /// alarm, and how far above the threshold.
    pub fn observe(&mut self, time: Micros, novelty: f32) -> Option<(bool, f32)> {
        let block = BLOCK.as_micros() as u64;
        match &mut self.ends {
            // A clock that went back begins a new block.
            Some((end, most)) if time.0 < *end && time.0 + 2 * block > *end => *most = most.max(novelty),
            ends => {
                let whole = ends.replace((time.0 + block, novelty));
                if let Some((_, most)) = whole {
                    self.close(most);
                }
            }
        }
        if self.blocks.len() < FEWEST_BLOCKS {
            return None;
        }
        let above = novelty > self.threshold;
        let quiet = self.last.is_none_or(|last| time.0.abs_diff(last) > QUIET.as_micros() as u64);
        if above && quiet {
            self.raised += 1;
            self.raised_now = true;
        }
        if above {
            self.last = Some(time.0);
        }
        Some((above || !quiet, novelty / self.threshold))
    }

    fn close(&mut self, most: f32) {
        if self.blocks.len() == MOST_BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back(most);
        let quantile = self.quantile();
        // What was sorted last are the newest: an alarm counts as much as the largest of them is above the middle.
        let recent = &self.sorted;
        let step = recent.last().unwrap_or(&0.0) - recent[recent.len() / 2];
        let raised = f32::from(u8::from(std::mem::take(&mut self.raised_now)));
        self.margin = (self.margin + step * (raised - self.passing() as f32)).max(0.0);
        self.threshold = quantile + self.margin;
    }

    /// Share of blocks in which an alarm may be raised.
    fn passing(&self) -> f64 {
        (self.per_hour * BLOCK.as_secs_f64() / 3600.0).min(1.0)
    }

    /// The novelty that as many blocks pass as there may be alarms.
    fn quantile(&mut self) -> f32 {
        self.quantile_of(self.blocks.len()).max(self.quantile_of(RECENT))
    }

    /// Of so many blocks, the newest.
    fn quantile_of(&mut self, newest: usize) -> f32 {
        self.sorted.clear();
        self.sorted.extend(self.blocks.iter().rev().take(newest));
        self.sorted.sort_by(f32::total_cmp);
        let count = self.sorted.len();
        let passing = self.passing();
        let at = |q: f64| self.sorted[((count as f64 * q) as usize).min(count - 1)];
        if passing * count as f64 >= ENOUGH {
            return at(1.0 - passing);
        }
        let begins = at(TAIL.min(1.0 - passing));
        let tail: Vec<f64> = self.sorted.iter().filter(|&&v| v > begins).map(|&v| f64::from(v - begins)).collect();
        let mean = tail.iter().sum::<f64>() / tail.len().max(1) as f64;
        let share = tail.len() as f64 / count as f64;
        begins + (mean * (share / passing).max(1.0).ln()) as f32
    }
}

impl Controller for Alarm {
    fn decide(&mut self, seen: &Seen, _: &Fitted) -> Choice {
        match self.observe(seen.time, seen.novelty) {
            None => Choice::not_yet("the stream is not known yet"),
            Some((alarm, share)) => {
                Choice { alarm: Some(alarm), ..Choice::value(f64::from(u8::from(alarm)), share.clamp(0.0, 2.0) / 2.0) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with an exponential tail, and their alarms an hour in the second half of so many hours. They grow by the share
    /// `growth` each minute, as an encoder that learns may have it.
    fn alarms_an_hour(per_hour: f64, hours: u64, seed: u64, growth: f32) -> f64 {
        let mut alarm = Alarm::new(per_hour);
        let mut state = seed;
        let (mut at_half, mut level) = (0, 1.0);
        let samples = hours * 3600 * 10;
        for n in 0..samples {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = ((state >> 40) as f64 + 1.0) / 16_777_217.0;
            if n % 600 == 0 {
                level *= 1.0 + growth;
            }
            alarm.observe(Micros(n * 100_000), level * (1.0 - 0.1 * uniform.ln() as f32));
            if n == samples / 2 {
                at_half = alarm.raised;
            }
        }
        (alarm.raised - at_half) as f64 / (hours as f64 / 2.0)
    }

    #[test]
    fn false_alarms_come_no_more_often_than_was_asked_and_not_much_less() {
        for asked in [2.0, 12.0, 60.0] {
            let mean = (1..=6).map(|seed| alarms_an_hour(asked, 6, seed, 0.0)).sum::<f64>() / 6.0;
            assert!((asked / 4.0..asked).contains(&mean), "{asked} asked, {mean} came");
        }
    }

    /// By the quantile alone about six times as many come.
    #[test]
    fn hardly_more_come_where_all_becomes_ever_more_novel() {
        for asked in [2.0, 12.0, 60.0] {
            let mean = (1..=3).map(|seed| alarms_an_hour(asked, 6, seed, 0.01)).sum::<f64>() / 3.0;
            assert!(mean < 1.5 * asked, "{asked} asked, {mean} came");
        }
    }

    #[test]
    fn what_stands_out_is_an_alarm_until_it_is_quiet_again() {
        let mut alarm = Alarm::new(1.0);
        let mut at = |time_ms: u64, novelty| alarm.observe(Micros(time_ms * 1000), novelty);
        for n in 0..2000 {
            let answer = at(n * 100, 1.0 + 0.01 * (n % 7) as f32);
            assert!(answer.is_none_or(|(on, _)| !on), "{n}");
        }
        let on = |answer: Option<(bool, f32)>| answer.expect("it is calibrated").0;
        assert!(on(at(200_000, 3.0)) && on(at(201_900, 1.0)) && !on(at(202_100, 1.0)));
        assert_eq!(alarm.raised, 1);
    }
}
