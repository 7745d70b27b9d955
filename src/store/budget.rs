//! How much is written: a flash card takes each of its cells some hundreds of times.

use std::time::{Duration, Instant};

const HOUR: u64 = 3600;
const MINUTES: usize = 60;

/// Spaces saves so that no more than so many bytes an hour are written, and counts what was.
pub struct Budget {
    bytes_per_hour: Option<u64>,
    begun: Instant,
    /// When the last save is paid off.
    due: Instant,
    /// Bytes of the minutes of the last hour, and the number of the newest minute.
    minutes: [u64; MINUTES],
    minute: u64,
    pub bytes: u64,
}

impl Budget {
    pub fn new(bytes_per_hour: Option<u64>, now: Instant) -> Self {
        Budget { bytes_per_hour, begun: now, due: now, minutes: [0; MINUTES], minute: 0, bytes: 0 }
    }

    /// As if a save of `bytes` had just been made: a process that is started again and again writes no more than one that
    /// stays.
    pub fn owe(&mut self, bytes: u64, now: Instant) {
        let nanos = self
            .bytes_per_hour
            .map_or(0, |rate| u128::from(bytes) * u128::from(HOUR) * 1_000_000_000 / u128::from(rate.max(1)));
        let owed = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // A century is as good as never, and an `Instant` can hold it.
        self.due = self.due.max(now) + owed.min(Duration::from_secs(HOUR * 24 * 36_525));
    }

    /// Counts `bytes` that were written.
    pub fn wrote(&mut self, bytes: u64, now: Instant) {
        self.turn(now);
        self.minutes[(self.minute % MINUTES as u64) as usize] += bytes;
        self.bytes += bytes;
        self.owe(bytes, now);
    }

    /// How long until the next save is within the budget.
    pub fn wait(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// Bytes written within the last hour, to the minute.
    pub fn last_hour(&mut self, now: Instant) -> u64 {
        self.turn(now);
        self.minutes.iter().sum()
    }

    fn turn(&mut self, now: Instant) {
        let minute = now.saturating_duration_since(self.begun).as_secs() / 60;
        for passed in (self.minute + 1..=minute).take(MINUTES) {
            self.minutes[(passed % MINUTES as u64) as usize] = 0;
        }
        if minute.saturating_sub(self.minute) > MINUTES as u64 {
            self.minutes = [0; MINUTES];
        }
        self.minute = self.minute.max(minute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saves_are_spaced_so_that_a_day_stays_within_the_budget() {
        let begun = Instant::now();
        let mut budget = Budget::new(Some(1000), begun);
        // One that asks each second, whatever it wrote before.
        for second in 0..24 * HOUR {
            let now = begun + Duration::from_secs(second);
            if budget.wait(now).is_zero() {
                budget.wrote(70, now);
            }
            assert!(budget.last_hour(now) <= 1000 + 70, "second {second}: {}", budget.last_hour(now));
        }
        assert!((23_800..=24_070).contains(&budget.bytes), "{}", budget.bytes);
    }

    #[test]
    fn what_is_larger_than_an_hours_budget_is_saved_more_seldom() {
        let begun = Instant::now();
        let mut budget = Budget::new(Some(1000), begun);
        budget.wrote(2500, begun);
        assert_eq!(budget.wait(begun), Duration::from_secs(9000));
        // One that could not wait is paid off too.
        budget.wrote(1000, begun + Duration::from_secs(9000 - 10));
        assert_eq!(budget.wait(begun + Duration::from_secs(9000)), Duration::from_secs(3600));
        assert_eq!(budget.last_hour(begun + Duration::from_secs(9000)), 1000);
        assert_eq!(budget.last_hour(begun + Duration::from_secs(900_000)), 0);
    }

    #[test]
    fn without_a_budget_there_is_no_wait() {
        let begun = Instant::now();
        let mut budget = Budget::new(None, begun);
        budget.wrote(u64::MAX / 2, begun);
        assert!(budget.wait(begun).is_zero());
    }
}
