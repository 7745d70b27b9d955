//! The thread that takes readings when they are due, so that no reader's pause loses any, and the source that cuts them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::fault;
use super::windows::{Stamp, Windows};
use crate::source::{Record, Source, SourceError};

/// A sensor that gives no reading for so long, and for as many readings' time, is taken to be gone.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_READINGS: u32 = 10;
/// Readings that are kept for a reader who is late.
const KEPT: usize = 8192;

/// What a sensor gave when it was looked at.
#[derive(Debug, Default)]
pub struct Burst {
    /// `[readings, channels]`, the newest last.
    pub readings: Vec<i16>,
    /// Microseconds of each before the newest; empty where nobody knows, and they are a period apart.
    pub ages: Vec<u64>,
    /// Readings before these are lost.
    pub lost: bool,
}

/// When a sensor gives readings and when it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From one reading to the next.
    pub period: Duration,
    /// From one look to the next.
    pub every: Duration,
}

/// A sensor that was set up.
pub trait Sensor: Send {
    /// What it is and how it is read, for people: `MPU-6050 at 0x68 of /dev/i2c-1, 50 readings a second by its FIFO`.
    fn about(&self) -> String;
    /// Numbers in a reading.
    fn channels(&self) -> usize;
    fn timing(&self) -> Timing;
    /// Adds to `burst`, which is empty, the readings since the last look.
    ///
    /// # Errors
    /// What ends the stream: the sensor must be opened again.
    fn look(&mut self, burst: &mut Burst) -> Result<(), SourceError>;
}

/// Readings on their way from the thread to the reader.
#[derive(Default)]
struct Queue {
    readings: VecDeque<i16>,
    stamps: VecDeque<Stamp>,
    /// Times that readings were lost.
    lost: u64,
    failed: Option<SourceError>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Readings have come, or the end.
    news: Condvar,
    /// The reader has gone.
    stop: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives every reading its time.
pub struct Clerk {
    channels: usize,
    timing: Timing,
    /// Time of the newest reading, in microseconds; of the start, before the first.
    newest: Option<u64>,
    heard: u64,
    breaks: bool,
}

impl Clerk {
    pub fn new(sensor: &dyn Sensor) -> Self {
        let (channels, timing) = (sensor.channels(), sensor.timing());
        Clerk { channels, timing, newest: None, heard: 0, breaks: false }
    }

    /// Stamps the readings of `burst`, that came at `now`: the newest with `now`, those before it a period apart. Returns
    /// how many times readings were lost.
    fn stamp(&mut self, burst: &Burst, now: u64, mut put: impl FnMut(&[i16], Stamp)) -> u64 {
        let period = self.timing.period.as_micros() as u64;
        // Readings further apart than that are no neighbours.
        let gap = 3 * period + self.timing.every.as_micros() as u64;
        let mut lost = u64::from(burst.lost);
        self.breaks |= burst.lost;
        let count = burst.readings.len() / self.channels;
        for (place, reading) in burst.readings.chunks_exact(self.channels).enumerate() {
            let age = burst.ages.get(place).copied().unwrap_or((count - 1 - place) as u64 * period);
            let time = now.saturating_sub(age).max(self.newest.map_or(0, |newest| newest + 1));
            if self.newest.is_some_and(|newest| time - newest > gap) && !self.breaks {
                self.breaks = true;
                lost += 1;
            }
            put(reading, Stamp { time, breaks: std::mem::take(&mut self.breaks) });
            self.newest = Some(time);
        }
        if count > 0 {
            self.heard = now;
        }
        lost
    }

    fn is_silent(&self, now: u64) -> bool {
        let patience = PATIENCE.max(PATIENCE_READINGS * self.timing.period);
        now.saturating_sub(self.heard) > patience.as_micros() as u64
    }
}

/// A sensor as a source of windows.
pub struct Sampling {
    scheme: &'static str,
    about: String,
    windows: Windows,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sampling {
    /// Starts the thread that reads `sensor`.
    ///
    /// # Errors
    /// [`SourceError::Io`] where there is no thread to be had.
    pub fn start(
        scheme: &'static str,
        sensor: Box<dyn Sensor>,
        length: usize,
        stride: usize,
    ) -> Result<Self, SourceError> {
        let channels = sensor.channels();
        let shared = Arc::new(Shared::default());
        {
            let mut queue = shared.lock();
            queue.readings.reserve(KEPT * channels);
            queue.stamps.reserve(KEPT);
        }
        let about = format!("{}, windows of {length} x {channels}, {stride} apart", sensor.about());
        let of_thread = shared.clone();
        // A look comes at least as often as a window is due.
        let every = sensor.timing().every.min(sensor.timing().period * stride.min(1 << 16) as u32);
        let thread = std::thread::Builder::new()
            .name("nestling-sensor".into())
            .spawn(move || sample(sensor, every, &of_thread))
            .map_err(|e| SourceError::io("a thread for the sensor", e))?;
        let windows = Windows::new(length, stride, channels);
        Ok(Sampling { scheme, about, windows, shared, thread: Some(thread) })
    }
}

/// Looks at the sensor every `every` until the reader has gone or the sensor fails.
fn sample(mut sensor: Box<dyn Sensor>, every: Duration, shared: &Shared) {
    let begun = Instant::now();
    let mut clerk = Clerk::new(&*sensor);
    let mut burst = Burst::default();
    let mut due = begun;
    loop {
        burst.readings.clear();
        burst.ages.clear();
        burst.lost = false;
        let result = sensor.look(&mut burst);
        let now = begun.elapsed().as_micros() as u64;
        let mut queue = shared.lock();
        if queue.stamps.len() + burst.readings.len() / clerk.channels > KEPT {
            // The reader is too late for these.
            burst.readings.clear();
            burst.lost = true;
            clerk.heard = now;
        }
        let Queue { readings, stamps, .. } = &mut *queue;
        let lost = clerk.stamp(&burst, now, |reading, stamp| {
            readings.extend(reading);
            stamps.push_back(stamp);
        });
        queue.lost += lost;
        let silent = clerk.is_silent(now).then(|| fault::silent(&sensor.about()));
        queue.failed = result.err().or(silent);
        shared.news.notify_one();
        if queue.failed.is_some() {
            return;
        }
        // On a grid from the start on, so that a timer does not wander; looks that were missed are not made up for.
        due += every;
        due = due.max(Instant::now());
        while !queue.closed {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = shared.stop.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if queue.closed {
            return;
        }
    }
}

impl Source for Sampling {
    fn describe(&self) -> String {
        format!("{}: {}", self.scheme, self.about)
    }

    fn len_hint(&self) -> Option<u64> {
        None
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        let mut queue = self.shared.lock();
        loop {
            while let Some(stamp) = queue.stamps.pop_front() {
                let channels = queue.readings.len() / (queue.stamps.len() + 1);
                if self.windows.push(queue.readings.drain(..channels), stamp, record) {
                    return Ok(true);
                }
            }
            if let Some(problem) = queue.failed.take() {
                return Err(problem);
            }
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return Err(fault::silent(&self.about));
            }
            // The thread could end without a word only by a panic, which the time-out finds out.
            queue = self.shared.news.wait_timeout(queue, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        Err(SourceError::CannotRewind(self.describe()))
    }

    fn skipped(&self) -> u64 {
        self.shared.lock().lost
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told by the missing readings.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Data;

    const PERIOD: Duration = Duration::from_millis(5);

    /// Gives `bursts` of so many readings that count up, one a look; 0 stands for a burst that was lost, the end for a
    /// failure.
    struct Counting {
        bursts: Vec<usize>,
        looks: usize,
        next: i16,
    }

    fn counting(bursts: &[usize]) -> Box<Counting> {
        Box::new(Counting { bursts: bursts.to_vec(), looks: 0, next: 0 })
    }

    impl Sensor for Counting {
        fn about(&self) -> String {
            "a counter".into()
        }
        fn channels(&self) -> usize {
            1
        }
        fn timing(&self) -> Timing {
            Timing { period: PERIOD, every: Duration::from_millis(1) }
        }
        fn look(&mut self, burst: &mut Burst) -> Result<(), SourceError> {
            let Some(&count) = self.bursts.get(self.looks) else {
                return Err(SourceError::file("a counter", "gone", ""));
            };
            self.looks += 1;
            burst.lost = count == 0;
            burst.readings.extend((self.next..).take(count));
            self.next += count as i16;
            Ok(())
        }
    }

    #[test]
    fn a_burst_is_spread_by_the_period_and_time_never_goes_back() {
        let mut clerk = Clerk::new(&*counting(&[]));
        let mut all = Vec::new();
        let mut look = |readings: &[i16], lost, now| {
            let burst = Burst { readings: readings.to_vec(), lost, ..Burst::default() };
            let before = all.len();
            let lost = clerk.stamp(&burst, now, |_, stamp| all.push((stamp.time, stamp.breaks)));
            (all[before..].to_vec(), lost)
        };
        assert_eq!(look(&[1, 2, 3], false, 20_000), (vec![(10_000, false), (15_000, false), (20_000, false)], 0));
        // Two readings in the time of one: the sensor's clock is a bit faster than ours.
        assert_eq!(look(&[4, 5], false, 24_000), (vec![(20_001, false), (24_000, false)], 0));
        assert_eq!(look(&[], false, 29_000), (vec![], 0));
        assert_eq!(look(&[], true, 34_000), (vec![], 1));
        assert_eq!(look(&[6], false, 39_000), (vec![(39_000, true)], 0));
        // Nobody looked for a while.
        assert_eq!(look(&[7], false, 56_000), (vec![(56_000, true)], 1));
    }

    #[test]
    fn windows_come_until_the_sensor_fails_and_its_words_come_through() {
        let mut source = Sampling::start("imu", counting(&[1, 2, 1, 0, 4, 1]), 2, 2).expect("a thread");
        let (mut record, mut firsts) = (Record::default(), Vec::new());
        let problem = loop {
            match source.read_next(&mut record) {
                Ok(true) => {}
                Ok(false) => panic!("a live stream has no end"),
                Err(problem) => break problem.to_string(),
            }
            let Data::Window { readings, length: 2, channels: 1 } = &record.data else { panic!("{record:?}") };
            firsts.push((readings[0], record.segment));
        };
        assert_eq!(firsts, [(0, 0), (2, 0), (4, 1), (6, 1)]);
        assert_eq!(source.skipped(), 1);
        assert!(problem.contains("gone"), "{problem}");
        assert!(source.describe().starts_with("imu: a counter, windows of 2 x 1"));
    }

    #[test]
    fn a_sensor_that_says_nothing_any_more_is_an_error() {
        let clerk = Clerk { newest: Some(5), heard: 5, ..Clerk::new(&*counting(&[])) };
        assert!(!clerk.is_silent(2_000_000) && clerk.is_silent(2_000_006));
    }

    #[test]
    fn whoever_drops_the_source_ends_its_thread() {
        let begun = Instant::now();
        drop(Sampling::start("imu", counting(&[0; 100_000]), 64, 64).expect("a thread"));
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
