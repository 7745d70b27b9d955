//! Lines as pins see them, whoever drives them: levels and pulses; and pulses made of levels by a thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A line that is high or low.
pub(super) trait Level: Send {
    fn write(&mut self, high: bool) -> io::Result<()>;
}

/// A line that is high for the first part of each period: so many nanoseconds, from 0 to the period.
pub(super) trait Pulse: Send {
    fn write(&mut self, high_ns: u32) -> io::Result<()>;
}

/// A level that is the other way round.
pub(super) struct Inverted(pub Box<dyn Level>);

impl Level for Inverted {
    fn write(&mut self, high: bool) -> io::Result<()> {
        self.0.write(!high)
    }
}

/// Pulses that are the other way round.
pub(super) struct InvertedPulse {
    pub pulse: Box<dyn Pulse>,
    pub period_ns: u32,
}

impl Pulse for InvertedPulse {
    fn write(&mut self, high_ns: u32) -> io::Result<()> {
        self.pulse.write(self.period_ns.saturating_sub(high_ns))
    }
}

struct Shared {
    high_ns: AtomicU32,
    stop: AtomicBool,
    /// What the last write that failed said, 0 where none did since it was told.
    error: AtomicI32,
}

/// Pulses that a thread makes. It sleeps while the line is only high or only low. At the end a line that pulsed is low.
pub(super) struct Soft {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Soft {
    pub fn start(mut line: Box<dyn Level>, period_ns: u32, high_ns: u32) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            high_ns: AtomicU32::new(high_ns),
            stop: AtomicBool::new(false),
            error: AtomicI32::new(0),
        });
        let own = shared.clone();
        let thread =
            std::thread::Builder::new().name("pulses".into()).spawn(move || pulse(&mut *line, period_ns, &own))?;
        Ok(Soft { shared, thread: Some(thread) })
    }
}

impl Pulse for Soft {
    fn write(&mut self, high_ns: u32) -> io::Result<()> {
        self.shared.high_ns.store(high_ns, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        match self.shared.error.swap(0, Ordering::AcqRel) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Drop for Soft {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn pulse(line: &mut dyn Level, period_ns: u32, shared: &Shared) {
    let write = |line: &mut dyn Level, high| {
        if let Err(error) = line.write(high) {
            // An error without a number is told as one of input and output.
            shared.error.store(error.raw_os_error().unwrap_or(5), Ordering::Release);
        }
    };
    let period = Duration::from_nanos(period_ns.into());
    let mut begins = Instant::now();
    loop {
        let high_ns = shared.high_ns.load(Ordering::Acquire);
        let constant = high_ns == 0 || high_ns >= period_ns;
        if shared.stop.load(Ordering::Acquire) {
            return write(line, constant && high_ns > 0);
        }
        write(line, high_ns > 0);
        if constant {
            // A change since it was read has unparked already, so that this returns at once.
            std::thread::park();
            begins = Instant::now();
            continue;
        }
        sleep_until(begins + Duration::from_nanos(high_ns.into()));
        write(line, false);
        begins += period;
        let now = Instant::now();
        // After a pause no pulses are made up for.
        if begins < now {
            begins = now;
        }
        sleep_until(begins);
    }
}

fn sleep_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    type Seen = Arc<Mutex<Vec<(Instant, bool)>>>;

    struct Watched(Seen);

    impl Level for Watched {
        fn write(&mut self, high: bool) -> io::Result<()> {
            self.0.lock().expect("no panic").push((Instant::now(), high));
            Ok(())
        }
    }

    struct Broken;

    impl Level for Broken {
        fn write(&mut self, _: bool) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(19))
        }
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Times in which the line was high between two times it went high, as a share, over all that was seen.
    fn share(seen: &[(Instant, bool)]) -> f64 {
        let time = |level: bool| -> f64 {
            let spans = seen.windows(2).filter(|pair| pair[0].1 == level);
            spans.map(|pair| (pair[1].0 - pair[0].0).as_secs_f64()).sum()
        };
        time(true) / (time(true) + time(false))
    }

    #[test]
    fn pulses_take_their_share_of_the_time_and_end_low() {
        let seen = Seen::default();
        // 20 ms are long beside what a busy machine adds to a sleep.
        let mut soft = Soft::start(Box::new(Watched(seen.clone())), 20_000_000, 0).expect("a thread");
        soft.write(15_000_000).expect("it writes");
        until("ten pulses", || seen.lock().expect("no panic").len() > 21);
        drop(soft);
        let seen = seen.lock().expect("no panic");
        let first = seen.iter().position(|(_, high)| *high).expect("a pulse");
        let share = share(&seen[first..]);
        assert!((0.55..0.95).contains(&share), "high for {share} of the time where 0.75 was asked for");
        assert!(!seen.last().expect("a write").1, "the line stayed high");
    }

    #[test]
    fn a_line_that_is_only_high_or_low_is_written_once_a_change() {
        let seen = Seen::default();
        let mut soft = Soft::start(Box::new(Watched(seen.clone())), 1_000_000, 0).expect("a thread");
        until("the first level", || seen.lock().expect("no panic").len() == 1);
        soft.write(1_000_000).expect("it writes");
        until("the second level", || seen.lock().expect("no panic").len() == 2);
        std::thread::sleep(Duration::from_millis(20));
        drop(soft);
        let levels: Vec<bool> = seen.lock().expect("no panic").iter().map(|(_, high)| *high).collect();
        // The last one is that of the end: the level that is the safe one stays.
        assert_eq!(levels, [false, true, true]);
    }

    #[test]
    fn a_write_that_fails_in_the_thread_is_told_at_the_next_one() {
        let mut soft = Soft::start(Box::new(Broken), 1_000_000, 0).expect("a thread");
        until("the error", || soft.write(0).is_err_and(|error| error.raw_os_error() == Some(19)));
    }
}
