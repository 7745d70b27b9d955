//! What learning may take of the machine: a token bucket of processor time, filled more slowly where the machine is hot or
//! busy or features come late. Knows no clock: times are given to it.

use std::time::Duration;

use crate::board::Learn;

/// Time that the bucket holds at most, at full share.
const BURST: f64 = 0.25;
/// Degrees below the limit over which learning slows down.
const COOLING: f64 = 8.0;
/// Least courtesy to features that come late: learning never quite stops for them.
const LEAST_COURTESY: f64 = 1.0 / 16.0;
/// Courtesy that comes back in a second without a late feature.
const RECOVERY: f64 = 0.1;

/// What the machine feels like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Feel {
    /// °C of the hottest zone, where the machine tells.
    pub temperature: Option<f64>,
    /// Load of each processor, averaged over a minute.
    pub load: Option<f64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Budget {
    processors: f64,
    share: f64,
    temperature_limit: f64,
    load_limit: f64,
    feel: Feel,
    courtesy: f64,
    /// Seconds of processor time; negative after a step that cost more than there was.
    tokens: f64,
    filled: Duration,
}

impl Budget {
    /// A full bucket at time `now`, on a machine of so many processors.
    pub fn new(limits: &Learn, processors: usize, now: Duration) -> Self {
        let mut budget = Budget {
            processors: processors.max(1) as f64,
            share: limits.share,
            temperature_limit: 0.0,
            load_limit: 0.0,
            feel: Feel::default(),
            courtesy: 1.0,
            tokens: 0.0,
            filled: now,
        };
        budget.set_limits(limits);
        budget.tokens = BURST * budget.rate();
        budget
    }

    /// Takes other limits over.
    pub fn set_limits(&mut self, limits: &Learn) {
        self.share = limits.share;
        self.temperature_limit = limits.temperature;
        self.load_limit = limits.load;
    }

    /// Tells how the machine feels.
    pub fn feel(&mut self, feel: Feel) {
        self.feel = feel;
    }

    /// The temperature that was felt last.
    pub fn temperature(&self) -> Option<f64> {
        self.feel.temperature
    }

    /// Tells that a feature came later than it should: learning takes half as much until features are in time.
    pub fn late(&mut self) {
        self.courtesy = (self.courtesy / 2.0).max(LEAST_COURTESY);
    }

    /// Share of what it may take that learning takes now, 0 to 1, and why it is no more.
    pub fn pressure(&self) -> (f64, Option<&'static str>) {
        let heat = self.feel.temperature.map_or(1.0, |t| ((self.temperature_limit - t) / COOLING).clamp(0.0, 1.0));
        let load = match self.feel.load {
            Some(load) if self.load_limit > 0.0 && load > self.load_limit => self.load_limit / load,
            _ => 1.0,
        };
        let (factor, why) = [(heat, "heat"), (load, "load"), (self.courtesy, "late features")]
            .into_iter()
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or((1.0, ""));
        (heat * load * self.courtesy, (factor < 1.0).then_some(why))
    }

    /// Seconds of processor time in a second.
    pub fn rate(&self) -> f64 {
        self.processors * self.share * self.pressure().0
    }

    /// Takes what a piece of work cost: processor time of all its threads.
    pub fn spend(&mut self, cost: Duration) {
        // On all processors there is nothing to share.
        if self.share < 1.0 || self.pressure().0 < 1.0 {
            self.tokens -= cost.as_secs_f64();
        }
    }

    /// How long learning must wait before its next piece of work; zero: not at all.
    pub fn wait(&mut self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.filled = now;
        self.courtesy = (self.courtesy + RECOVERY * passed).min(1.0);
        let rate = self.rate();
        self.tokens = (self.tokens + rate * passed).min(BURST * rate);
        if self.tokens > 0.0 {
            Duration::ZERO
        } else if rate <= 0.0 {
            // Too hot: ask again when the machine was felt again.
            Duration::from_secs(1)
        } else {
            Duration::from_secs_f64((-self.tokens / rate).clamp(1e-3, 1.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Works in pieces of `cost` on all `processors` for `seconds`; processor time taken, of all there was.
    fn taken(
        budget: &mut Budget,
        processors: f64,
        cost: f64,
        seconds: f64,
        mut on_piece: impl FnMut(&mut Budget),
    ) -> f64 {
        let (mut now, mut spent) = (0.0, 0.0);
        while now < seconds {
            let wait = budget.wait(Duration::from_secs_f64(now)).as_secs_f64();
            if wait > 0.0 {
                now += wait;
                continue;
            }
            budget.spend(Duration::from_secs_f64(cost));
            spent += cost;
            now += cost / processors;
            on_piece(budget);
        }
        spent / (seconds * processors)
    }

    proptest! {
        #[test]
        fn learning_takes_its_share_whatever_a_step_costs(share in 0.02f64..0.95, cost in 1e-4f64..0.5, processors in 1usize..9) {
            let limits = Learn { share, ..Learn::default() };
            let mut budget = Budget::new(&limits, processors, Duration::ZERO);
            let seconds = 300.0;
            let took = taken(&mut budget, processors as f64, cost, seconds, |_| {});
            // One piece more and the burst may be taken at the edges.
            let edge = (cost / processors as f64 + BURST) / seconds;
            prop_assert!(took < share + edge + 1e-3 && took > share * 0.97 - edge, "{took} of {share}");
        }

        #[test]
        fn the_hotter_the_less_and_at_the_limit_nothing(limit in 40.0f64..100.0, below in 0.0f64..20.0) {
            let limits = Learn { temperature: limit, ..Learn::default() };
            let at = |temperature: f64| {
                let mut budget = Budget::new(&limits, 1, Duration::ZERO);
                budget.feel(Feel { temperature: Some(temperature), load: None });
                budget.pressure().0
            };
            prop_assert!(at(limit - below) >= at(limit - below + 1.0));
            prop_assert_eq!(at(limit), 0.0);
            prop_assert_eq!(at(limit - COOLING), 1.0);
        }
    }

    #[test]
    fn at_the_limit_of_heat_learning_stops_and_comes_back_when_it_is_cool() {
        let mut budget = Budget::new(&Learn { share: 0.5, ..Learn::default() }, 2, Duration::ZERO);
        budget.feel(Feel { temperature: Some(80.0), load: None });
        budget.spend(Duration::from_secs(1));
        assert!(budget.wait(Duration::from_secs(100)) > Duration::ZERO);
        assert_eq!(budget.pressure(), (0.0, Some("heat")));
        budget.feel(Feel { temperature: Some(50.0), load: None });
        budget.wait(Duration::from_secs(101));
        assert_eq!(budget.wait(Duration::from_secs(103)), Duration::ZERO);
    }

    #[test]
    fn late_features_slow_learning_down_and_features_in_time_bring_it_back() {
        let limits = Learn { share: 0.8, ..Learn::default() };
        let mut budget = Budget::new(&limits, 1, Duration::ZERO);
        let slowed = taken(&mut budget, 1.0, 0.02, 60.0, Budget::late);
        assert!(slowed < 0.2, "{slowed}");
        let mut budget = Budget { filled: Duration::ZERO, ..budget };
        let back = taken(&mut budget, 1.0, 0.02, 120.0, |_| {});
        assert!(back > 0.7, "{back}");
    }
}
