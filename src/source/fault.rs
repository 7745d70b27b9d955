//! Faults on purpose: [`FaultSource`] is a source that drops, repeats, delays, swaps, damages, cuts off and freezes the
//! samples of another one, and that stalls, fails, vanishes and comes back. `?fault=drop:0.01,corrupt:0.001` on any URI.
//!
//! Which sample meets which fault is a pure function of the seed and the sample's number, so that a run with faults can
//! be repeated bit for bit. Every fault is counted. Nothing here is on the path of a sample unless it is asked for.

use std::time::Duration;

use super::link::DeviceInfo;
use super::{Data, Record, Source, SourceError};
use crate::fixed::random::Draws;
use crate::sample::Seed;

/// How long a stalled source gives nothing.
const STALL: Duration = Duration::from_millis(250);
/// A delayed sample comes after so many later ones.
const DELAY: (i32, i32) = (2, 8);
/// A lens is covered, a strobe flashes, a sensor is stuck for so many samples.
const RUN: (i32, i32) = (4, 35);
/// A damaged sample has one wrong value, and one more for each so many values at most.
const VALUES_PER_HIT: usize = 64;

/// What can happen to a sample or to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The sample is lost.
    Drop,
    /// The sample comes twice.
    Repeat,
    /// The sample comes 2 to 8 samples late, with the time at which it was taken.
    Delay,
    /// The sample and the one after it change places.
    Reorder,
    /// Some of the sample's values are wrong.
    Corrupt,
    /// The sample has fewer values than its shape says.
    Truncate,
    /// The sensor is stuck: some samples repeat the values of the last one, with times of their own.
    Freeze,
    /// The lens is covered, the sensor unplugged: some samples hold one value only.
    Cover,
    /// Some samples hold the largest and the smallest value in turn.
    Strobe,
    /// The source gives nothing for a quarter of a second.
    Stall,
    /// The stream ends. Read on, and it is back.
    Vanish,
    /// The source fails. Read on, and it goes on.
    Error,
}

const KINDS: usize = Fault::ALL.len();

impl Fault {
    pub const ALL: [Fault; 12] = [
        Fault::Drop,
        Fault::Repeat,
        Fault::Delay,
        Fault::Reorder,
        Fault::Corrupt,
        Fault::Truncate,
        Fault::Freeze,
        Fault::Cover,
        Fault::Strobe,
        Fault::Stall,
        Fault::Vanish,
        Fault::Error,
    ];

    /// As a URI names it.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Drop => "drop",
            Fault::Repeat => "repeat",
            Fault::Delay => "delay",
            Fault::Reorder => "reorder",
            Fault::Corrupt => "corrupt",
            Fault::Truncate => "truncate",
            Fault::Freeze => "freeze",
            Fault::Cover => "cover",
            Fault::Strobe => "strobe",
            Fault::Stall => "stall",
            Fault::Vanish => "vanish",
            Fault::Error => "error",
        }
    }
}

/// How often each fault begins: a probability for every sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates([u64; KINDS]);

impl Rates {
    /// One in this many parts.
    const WHOLE: f64 = (1u64 << 32) as f64;

    /// The same with `fault` at every sample with probability `rate`, 0 to 1.
    #[must_use]
    pub fn with(mut self, fault: Fault, rate: f64) -> Self {
        self.0[fault as usize] = (rate.clamp(0.0, 1.0) * Self::WHOLE) as u64;
        self
    }

    /// `drop:0.01,corrupt:0.001`; what is wrong with it otherwise.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rates = Rates::default();
        for part in text.split(',') {
            let (name, rate) = part.split_once(':').ok_or_else(|| format!("'{part}' is no NAME:RATE"))?;
            let fault = Fault::ALL.into_iter().find(|fault| fault.name() == name);
            let fault = fault.ok_or_else(|| format!("no fault is called '{name}'"))?;
            let rate = rate.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
            let rate = rate.ok_or_else(|| format!("the rate of {name} is not from 0 to 1"))?;
            if rates.has(fault) {
                return Err(format!("{name} is given twice"));
            }
            rates = rates.with(fault, rate);
        }
        Ok(rates)
    }

    fn has(&self, fault: Fault) -> bool {
        self.0[fault as usize] > 0
    }
}

impl std::fmt::Display for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = Fault::ALL.into_iter().filter(|fault| self.has(*fault));
        let text: Vec<_> =
            named.map(|fault| format!("{}:{}", fault.name(), self.0[fault as usize] as f64 / Self::WHOLE)).collect();
        f.write_str(&text.join(","))
    }
}

/// What was done so far. `read + repeated = delivered + dropped + held`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples that the source itself gave.
    pub read: u64,
    /// Samples that were passed on.
    pub delivered: u64,
    /// Samples that are to come later.
    pub held: u64,
    faults: [u64; KINDS],
}

impl Counts {
    /// Samples that met `fault`; for [`Fault::Stall`], [`Fault::Vanish`] and [`Fault::Error`], how often it happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// The same and what `other` counted.
    #[must_use]
    pub fn and(mut self, other: Counts) -> Self {
        self.read += other.read;
        self.delivered += other.delivered;
        self.held += other.held;
        self.faults.iter_mut().zip(other.faults).for_each(|(mine, theirs)| *mine += theirs);
        self
    }
}

/// A source with faults.
pub struct FaultSource<S> {
    inner: S,
    rates: Rates,
    seed: Seed,
    counts: Counts,
    /// The source's own sample before which it last stalled, failed or vanished, or could have.
    faced: Option<u64>,
    /// A run of samples that are all alike: its fault, and how many are left.
    run: Option<(Fault, u32)>,
    /// Samples that come later: each when so many were delivered.
    held: Vec<(u64, Record)>,
    /// The sample delivered last, where a fault needs it.
    last: Record,
    again: bool,
}

impl<S: Source> FaultSource<S> {
    /// `inner`, whose samples meet faults at `rates`, drawn from `seed`.
    pub fn new(inner: S, rates: Rates, seed: Seed) -> Self {
        let (faced, run, held, last) = (None, None, Vec::new(), Record::default());
        FaultSource { inner, rates, seed, counts: Counts::default(), faced, run, held, last, again: false }
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        Counts { held: self.held.len() as u64, ..self.counts }
    }

    /// The draws of `fault` for the source's own sample `number`; element 0 decides whether it happens.
    fn draws(&self, fault: Fault, number: u64) -> Draws {
        Draws::new(self.seed, number, fault as u32)
    }

    fn happens(&self, fault: Fault, number: u64) -> bool {
        u64::from(self.draws(fault, number).bits(0)) < self.rates.0[fault as usize]
    }

    fn count(&mut self, fault: Fault) {
        self.counts.faults[fault as usize] += 1;
    }

    /// What befalls the source itself before it gives sample `number`.
    fn before(&mut self, number: u64) -> Result<bool, SourceError> {
        if self.faced.replace(number) == Some(number) {
            return Ok(true);
        }
        if self.happens(Fault::Stall, number) {
            self.count(Fault::Stall);
            std::thread::sleep(STALL);
        }
        if self.happens(Fault::Error, number) {
            self.count(Fault::Error);
            let problem = format!("a fault on purpose before sample {number}");
            return Err(SourceError::file(&self.inner.describe(), problem, "leave error out of ?fault="));
        }
        if self.happens(Fault::Vanish, number) {
            self.count(Fault::Vanish);
            return Ok(false);
        }
        Ok(true)
    }

    /// Changes the values of sample `number`.
    fn change(&mut self, number: u64, data: &mut Data) {
        if self.run.is_none() {
            let begins = |fault: &Fault| self.happens(*fault, number);
            let started = [Fault::Freeze, Fault::Cover, Fault::Strobe].into_iter().find(begins);
            self.run = started.map(|fault| (fault, self.draws(fault, number).between(1, RUN.0, RUN.1) as u32));
        }
        if let Some((fault, left)) = self.run {
            self.run = (left > 1).then_some((fault, left - 1));
            let changed = match fault {
                Fault::Freeze => stick(data, &self.last.data, self.counts.delivered > 0),
                Fault::Cover => fill(data, 8, 0),
                _ if number.is_multiple_of(2) => fill(data, u8::MAX, i16::MAX),
                _ => fill(data, 0, i16::MIN),
            };
            if changed {
                self.count(fault);
            }
        }
        if self.happens(Fault::Corrupt, number) && corrupt(data, self.draws(Fault::Corrupt, number)) {
            self.count(Fault::Corrupt);
        }
        if self.happens(Fault::Truncate, number) && truncate(data, self.draws(Fault::Truncate, number)) {
            self.count(Fault::Truncate);
        }
    }

    fn deliver(&mut self, record: &Record) -> bool {
        self.counts.delivered += 1;
        if self.rates.has(Fault::Freeze) || self.again {
            self.last.clone_from(record);
        }
        true
    }
}

fn len(data: &Data) -> usize {
    match data {
        Data::Image { pixels, .. } => pixels.len(),
        Data::Window { readings, .. } => readings.len(),
    }
}

/// The values of `last`, where there are any.
fn stick(data: &mut Data, last: &Data, there: bool) -> bool {
    if there {
        data.clone_from(last);
    }
    there
}

fn fill(data: &mut Data, pixel: u8, reading: i16) -> bool {
    match data {
        Data::Image { pixels, .. } => pixels.fill(pixel),
        Data::Window { readings, .. } => readings.fill(reading),
    }
    true
}

/// Flips bits; `false` where there are none.
fn corrupt(data: &mut Data, draws: Draws) -> bool {
    let values = len(data);
    let Some(most) = u32::try_from(values).ok().filter(|&n| n > 0) else { return false };
    let hits = 1 + draws.below(1, (values / VALUES_PER_HIT + 1) as u32);
    for hit in 0..hits {
        let (at, bits) = (draws.below(2 * hit + 2, most) as usize, draws.bits(2 * hit + 3));
        match data {
            // At least one bit is another.
            Data::Image { pixels, .. } => pixels[at] ^= bits as u8 | 1,
            Data::Window { readings, .. } => readings[at] ^= bits as i16 | 1,
        }
    }
    true
}

/// Leaves fewer values than the shape says; `false` where there are none.
fn truncate(data: &mut Data, draws: Draws) -> bool {
    let Some(most) = u32::try_from(len(data)).ok().filter(|&n| n > 0) else { return false };
    let kept = draws.below(1, most) as usize;
    match data {
        Data::Image { pixels, .. } => pixels.truncate(kept),
        Data::Window { readings, .. } => readings.truncate(kept),
    }
    true
}

impl<S: Source> Source for FaultSource<S> {
    fn describe(&self) -> String {
        format!("{}, with faults {} of seed {}", self.inner.describe(), self.rates, self.seed.0)
    }

    /// Of the source itself: what is dropped is counted in, what is repeated is not.
    fn len_hint(&self) -> Option<u64> {
        self.inner.len_hint()
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        if std::mem::take(&mut self.again) {
            record.clone_from(&self.last);
            self.count(Fault::Repeat);
            self.counts.delivered += 1;
            return Ok(true);
        }
        loop {
            if let Some(due) = self.held.iter().position(|(due, _)| *due <= self.counts.delivered) {
                *record = self.held.remove(due).1;
                return Ok(self.deliver(record));
            }
            let number = self.counts.read;
            if !self.before(number)? {
                return Ok(false);
            }
            if !self.inner.read_next(record)? {
                if self.held.is_empty() {
                    return Ok(false);
                }
                *record = self.held.remove(0).1;
                return Ok(self.deliver(record));
            }
            self.counts.read += 1;
            if self.happens(Fault::Drop, number) {
                self.count(Fault::Drop);
                continue;
            }
            self.change(number, &mut record.data);
            let late = if self.happens(Fault::Delay, number) {
                self.count(Fault::Delay);
                self.draws(Fault::Delay, number).between(1, DELAY.0, DELAY.1) as u64
            } else if self.happens(Fault::Reorder, number) {
                self.count(Fault::Reorder);
                1
            } else {
                self.again = self.happens(Fault::Repeat, number);
                return Ok(self.deliver(record));
            };
            self.held.push((self.counts.delivered + late, record.clone()));
        }
    }

    /// Samples that were to come later are dropped.
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.inner.rewind()?;
        self.counts.faults[Fault::Drop as usize] += self.held.len() as u64;
        self.held.clear();
        (self.run, self.again) = (None, false);
        Ok(())
    }

    fn in_order(&self) -> bool {
        self.inner.in_order()
    }

    fn skipped(&self) -> u64 {
        self.inner.skipped()
    }

    fn class_names(&self) -> &[String] {
        self.inner.class_names()
    }

    fn sound_rate(&self) -> Option<u32> {
        self.inner.sound_rate()
    }

    fn device(&self) -> Option<&DeviceInfo> {
        self.inner.device()
    }

    fn injected(&self) -> Option<Counts> {
        Some(self.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Micros;

    /// Windows of ten readings, numbered by their time.
    struct Count(u64, u64);

    impl Source for Count {
        fn describe(&self) -> String {
            "count".into()
        }
        fn len_hint(&self) -> Option<u64> {
            Some(self.1)
        }
        fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
            if self.0 == self.1 {
                return Ok(false);
            }
            record.window_mut(10, 1).fill(self.0 as i16);
            record.time = Micros(self.0);
            self.0 += 1;
            Ok(true)
        }
        fn rewind(&mut self) -> Result<(), SourceError> {
            self.0 = 0;
            Ok(())
        }
    }

    fn faulty(fault: &str, samples: u64) -> FaultSource<Count> {
        FaultSource::new(Count(0, samples), Rates::parse(fault).expect("rates"), Seed(3))
    }

    fn play(source: &mut impl Source) -> Vec<(u64, Vec<i16>)> {
        let mut record = Record::default();
        let mut out = Vec::new();
        while source.read_next(&mut record).expect("no error") {
            let Data::Window { readings, .. } = &record.data else { panic!("a window") };
            out.push((record.time.0, readings.clone()));
        }
        out
    }

    fn times(source: &mut impl Source) -> Vec<u64> {
        play(source).into_iter().map(|(time, _)| time).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_rates_are_kept() {
        let rates = "drop:0.1,repeat:0.1,delay:0.1,reorder:0.1,corrupt:0.1,truncate:0.1,freeze:0.01";
        let (mut a, mut b) = (faulty(rates, 5000), faulty(rates, 5000));
        assert_eq!(play(&mut a), play(&mut b));
        assert_eq!(a.counts(), b.counts());
        let counts = a.counts();
        assert_eq!(counts.read + counts.of(Fault::Repeat), counts.delivered + counts.of(Fault::Drop));
        assert!((400..600).contains(&counts.of(Fault::Drop)), "{counts:?}");
        assert!((300..500).contains(&counts.of(Fault::Repeat)), "of those neither dropped nor late: {counts:?}");
        let mut other = FaultSource::new(Count(0, 5000), Rates::parse(rates).expect("rates"), Seed(4));
        assert_ne!(times(&mut other), times(&mut faulty(rates, 5000)));
    }

    #[test]
    fn what_is_late_comes_late_and_nothing_is_lost() {
        for fault in [Fault::Delay, Fault::Reorder] {
            let mut source = faulty(&format!("{}:0.2", fault.name()), 1000);
            let mut times = times(&mut source);
            let backwards = times.windows(2).filter(|pair| pair[0] > pair[1]).count();
            assert!(backwards > 50, "{backwards}");
            let farthest = times.iter().enumerate().map(|(at, &time)| (at as u64).abs_diff(time)).max();
            assert!(farthest <= Some(20), "{farthest:?}");
            times.sort_unstable();
            assert_eq!(times, (0..1000).collect::<Vec<_>>());
            assert!(source.counts().of(fault) > 150);
        }
    }

    #[test]
    fn damage_is_seen_and_counted() {
        let good = |(time, readings): &(u64, Vec<i16>)| *readings == [*time as i16; 10];
        for fault in [Fault::Corrupt, Fault::Truncate, Fault::Freeze, Fault::Cover, Fault::Strobe] {
            let mut source = faulty(&format!("{}:0.05", fault.name()), 1000);
            let played = play(&mut source);
            // A cover is no change where the reading was 0 before.
            let bad = played.iter().skip(1).filter(|sample| !good(sample)).count() as u64;
            let counted = source.counts().of(fault);
            assert!(counted > 20 && counted.abs_diff(bad) <= 1, "{fault:?}: {counted} counted, {bad} seen");
        }
    }

    #[test]
    fn a_source_that_fails_or_vanishes_goes_on_where_it_was() {
        let mut source = faulty("error:0.1,vanish:0.1,repeat:0.1", 300);
        let (mut record, mut seen, mut failed, mut gone) = (Record::default(), Vec::new(), 0, 0);
        while source.counts().read < 300 {
            match source.read_next(&mut record) {
                Ok(true) => seen.push(record.time.0),
                Ok(false) => gone += 1,
                Err(error) => {
                    assert!(error.to_string().contains("on purpose"), "{error}");
                    failed += 1;
                }
            }
        }
        seen.dedup();
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
        assert_eq!((failed, gone), (source.counts().of(Fault::Error), source.counts().of(Fault::Vanish)));
        assert!(failed > 10 && gone > 10);
    }

    #[test]
    fn a_rate_of_one_meets_every_sample_and_wrong_rates_are_refused() {
        let mut source = faulty("drop:1", 100);
        assert_eq!((play(&mut source).len(), source.counts().of(Fault::Drop)), (0, 100));
        for (text, says) in [
            ("drop", "'drop' is no NAME:RATE"),
            ("dorp:0.1", "no fault is called 'dorp'"),
            ("drop:1.5", "the rate of drop is not from 0 to 1"),
            ("drop:nan", "not from 0 to 1"),
            ("drop:0.1,drop:0.2", "drop is given twice"),
            ("", "'' is no NAME:RATE"),
        ] {
            let problem = Rates::parse(text).expect_err(text);
            assert!(problem.contains(says), "{text}: {problem}");
        }
        assert_eq!(Rates::parse("corrupt:0.25,drop:0.5").expect("rates").to_string(), "drop:0.5,corrupt:0.25");
    }
}
