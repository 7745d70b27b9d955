//! The perceiving loop: a feature for each sample, at the sample's own pace; staleness, the watchdog, and what signals ask
//! for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::acting::Acting;
use super::reader::Arrived;
use super::status::{Shared, Watched};
use super::tap::Tap;
use super::{Behind, DaemonError, Signals};
use crate::board::Profile;
use crate::bus::{Block, Bus, Message, Stale};
use crate::runtime::mailbox::{Mailbox, Taken};
use crate::runtime::perceiver::{Exchange, Perceiver};
use crate::source::Record;

/// Longest wait for a sample before signals and staleness are looked at.
const TICK: Duration = Duration::from_millis(20);
/// The encoder in use is looked over this often for bits that flipped.
const LOOK_OVER: Duration = Duration::from_secs(1);

/// See the module.
pub struct Perceive<'a> {
    pub behind: Behind,
    pub perceiver: Perceiver,
    pub exchange: &'a Exchange,
    pub shared: &'a Shared,
    pub profile: &'a Watched<Profile>,
    pub reload: Box<dyn Fn() -> Result<Profile, String>>,
    /// Features that came late so far.
    pub late: &'a AtomicU64,
    pub signals: &'a Signals,
    pub samples: Option<u64>,
    pub live: bool,
    /// Whoever reads features.
    pub bus: Bus,
    /// The way to the recording; `None` where nothing is recorded.
    pub tap: Option<Tap>,
    /// None without controllers.
    pub acting: Option<Acting>,
    pub to_learner: &'a SyncSender<Record>,
    pub spare: &'a Receiver<Record>,
}

/// When the encoder in use was looked over, and whether it was whole then.
struct LookOver {
    at: Instant,
    whole: bool,
}

/// What became of a record that was to be learned from.
enum Passed {
    Learned,
    Missed,
    /// Nobody learns any more.
    Nobody,
}

/// What the service manager is told.
struct Manager {
    watchdog: Option<Duration>,
    fed: Instant,
}

impl Manager {
    fn new() -> Self {
        tell_manager(&[NotifyState::Ready]);
        let watchdog = sd_notify::watchdog_enabled();
        Manager { watchdog, fed: Instant::now() }
    }

    /// Tells that this loop is alive, four times as often as it must.
    fn feed(&mut self) {
        if self.watchdog.is_some_and(|patience| self.fed.elapsed() >= patience / 4) {
            self.fed = Instant::now();
            tell_manager(&[NotifyState::Watchdog]);
        }
    }
}

/// Without a service manager nobody is told.
fn tell_manager(what: &[NotifyState]) {
    let _ = sd_notify::notify(what);
}

impl Perceive<'_> {
    /// Perceives until the source ends, its reader leaves, enough was perceived, or a signal comes.
    ///
    /// # Errors
    /// [`DaemonError::Sample`] where the first sample does not fit the model.
    pub fn run(mut self, mailbox: &Mailbox<Arrived>) -> Result<(), DaemonError> {
        let mut feature = vec![0i8; self.perceiver.feature_dim()];
        let mut hand = Arrived::default();
        let (mut limits, mut frozen) = self.limits();
        let mut perceived = 0;
        let mut next_due = None;
        let mut look_over = LookOver { at: Instant::now(), whole: true };
        let mut looked_for_staleness = Instant::now();
        let mut manager = Manager::new();
        while self.samples.is_none_or(|most| perceived < most) && !self.bus.is_left() {
            manager.feed();
            if self.signals.stop.load(Ordering::Relaxed) {
                break;
            }
            if self.signals.reload.swap(false, Ordering::Relaxed) {
                self.reload();
                (limits, frozen) = self.limits();
                self.acting.iter_mut().for_each(|acting| acting.set_stale(limits.stale()));
            }
            // Samples that give no feature keep nothing fresh.
            if looked_for_staleness.elapsed() >= TICK {
                looked_for_staleness = Instant::now();
                self.look_for_staleness(limits.stale());
            }
            hand = match mailbox.take(hand, TICK) {
                Taken::Item(item) => item,
                Taken::Nothing(back) => {
                    hand = back;
                    continue;
                }
                Taken::Closed => break,
            };
            if limits.rate > 0.0 && self.live && !is_due(&mut next_due, limits.rate) {
                self.shared.features.change(|s| s.passed_over += 1);
                continue;
            }
            // As it came, before a backbone works on it.
            let copy = self.tap.as_ref().and_then(|tap| tap.copy(&hand.record));
            let passed = match self.see(&mut hand.record, &mut feature, &mut look_over, perceived == 0)? {
                false => Passed::Missed,
                true => {
                    perceived += 1;
                    self.give_out(&hand, &feature, limits.deadline());
                    if frozen { Passed::Missed } else { self.pass_on(&mut hand.record) }
                }
            };
            self.record(copy, matches!(passed, Passed::Learned));
            if matches!(passed, Passed::Nobody) {
                break;
            }
        }
        if let Some(acting) = self.acting.take() {
            acting.finish(&mut self.bus);
        }
        tell_manager(&[NotifyState::Stopping]);
        self.bus.finish();
        Ok(())
    }

    /// Makes the feature of a record by the newest encoder. `false`: there is none, and why was counted.
    ///
    /// # Errors
    /// Where the `first` sample does not fit the model: it tells whether model and source fit. A later misfit is a fault of the
    /// stream.
    fn see(
        &mut self,
        record: &mut Record,
        feature: &mut [i8],
        look_over: &mut LookOver,
        first: bool,
    ) -> Result<bool, DaemonError> {
        let refuse = |problem: DaemonError| if first { Err(problem) } else { Ok(false) };
        match self.apply_backbone(record) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(problem) => {
                self.shared.features.change(|s| s.refused += 1);
                return refuse(DaemonError::System(problem));
            }
        }
        match &mut self.acting {
            Some(acting) => acting.refresh(&mut self.perceiver),
            None => {
                self.perceiver.refresh(self.exchange);
            }
        }
        if look_over.at.elapsed() >= LOOK_OVER || !look_over.whole {
            look_over.at = Instant::now();
            let was_whole = std::mem::replace(&mut look_over.whole, self.perceiver.is_whole(self.exchange));
            if !look_over.whole {
                // No feature is better than one of damaged weights; the learner sends others at once.
                self.shared.features.change(|s| {
                    s.damaged_encoders += u64::from(was_whole);
                    s.withheld += 1;
                });
                self.acting.iter().for_each(Acting::hurry);
                return Ok(false);
            }
        }
        if let Err(problem) = self.perceiver.perceive(&record.sample(), feature) {
            self.shared.features.change(|s| s.refused += 1);
            return refuse(problem.into());
        }
        Ok(true)
    }

    /// Puts latents in place of a frame, where there is a backbone. `false`: there are none yet.
    fn apply_backbone(&mut self, record: &mut Record) -> Result<bool, String> {
        if !self.behind.is_there() {
            return Ok(true);
        }
        let begun = Instant::now();
        let made = self.behind.apply(record)?;
        self.shared.features.change(|s| {
            s.withheld += u64::from(!made);
            s.backbone_us.add(begun.elapsed().as_micros() as u64);
        });
        Ok(made)
    }

    /// What the profile says of perceiving, and whether it forbids learning.
    fn limits(&self) -> (crate::board::Perceive, bool) {
        let profile = self.profile.get();
        (profile.perceive, profile.learn.frozen)
    }

    /// Gives a feature out and notes when it came.
    fn give_out(&mut self, hand: &Arrived, values: &[i8], deadline: Duration) {
        let (time, encoder) = (hand.record.time, self.perceiver.version());
        let novelty = self.acting.as_mut().and_then(|acting| acting.decide(time, hand.at, values, &self.perceiver));
        let health = match self.shared.health.load(Ordering::Relaxed) {
            0 => None,
            share => Some((share as f32 / 65536.0).min(1.0)),
        };
        let age = hand.at.elapsed();
        let exponents = self.perceiver.exponents();
        let mut read = self.bus.send_feature(|feature| {
            (feature.time, feature.age, feature.encoder) = (time, age, encoder);
            (feature.novelty, feature.health) = (novelty, health);
            feature.blocks.clear();
            feature.blocks.extend(exponents.map(|(len, exponent)| Block { len: len as u32, exponent }));
            feature.values.clear();
            feature.values.extend_from_slice(values);
        });
        if let Some(acting) = &self.acting {
            read &= acting.send(&mut self.bus, age);
        }
        let latency = hand.at.elapsed();
        // A recording is no live stream: its features are as old as its reader lets them be.
        let late = self.live && latency > deadline;
        if late {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.features.change(|s| {
            s.perceived += 1;
            s.late += u64::from(late);
            s.unread += u64::from(!read);
            s.stale = false;
            s.encoder = self.perceiver.version().0;
            s.latency_us.add(latency.as_micros() as u64);
            s.newest = Some(hand.at);
        });
    }

    /// Hands a copy of a sample to the recording, where there is one.
    fn record(&self, copy: Option<Record>, learned: bool) {
        let Some(tap) = &self.tap else { return };
        if !copy.is_some_and(|copy| tap.put(copy, learned)) {
            self.shared.features.change(|s| s.not_recorded += 1);
        }
    }

    /// Passes a record on to be learned from, in exchange for another.
    fn pass_on(&self, record: &mut Record) -> Passed {
        // Records circulate, so that a running stream allocates nothing.
        let next = if self.live { self.spare.try_recv().ok() } else { self.spare.recv().ok() };
        let Some(next) = next else {
            self.shared.learning.change(|s| s.not_learned += 1);
            return Passed::Missed;
        };
        let full = std::mem::replace(record, next);
        match self.to_learner.try_send(full) {
            Ok(()) => Passed::Learned,
            Err(TrySendError::Full(full)) if !self.live => match self.to_learner.send(full) {
                Ok(()) => Passed::Learned,
                Err(_) => Passed::Nobody,
            },
            Err(TrySendError::Full(_)) => {
                self.shared.learning.change(|s| s.not_learned += 1);
                Passed::Missed
            }
            Err(TrySendError::Disconnected(_)) => Passed::Nobody,
        }
    }

    /// Tells readers when the newest feature is older than it may be, and makes safe what was decided by it.
    fn look_for_staleness(&mut self, bound: Duration) {
        if !self.live {
            return;
        }
        let (age, goes_stale) = self.shared.features.change(|s| {
            let age = s.newest.map(|at| at.elapsed());
            let is_stale = age.is_some_and(|age| age > bound);
            let goes_stale = is_stale && !s.stale;
            s.stale |= is_stale;
            s.went_stale += u64::from(goes_stale);
            (age, goes_stale)
        });
        let Some(age) = age else { return };
        let made_safe = self.acting.as_mut().is_some_and(|acting| acting.look_for_staleness(age));
        if goes_stale {
            self.bus.send(Message::Stale(Stale { age }));
        }
        if let Some(acting) = self.acting.as_ref().filter(|_| made_safe) {
            acting.send(&mut self.bus, age);
        }
    }

    fn reload(&self) {
        let old = self.profile.get();
        let new = (self.reload)().and_then(|new| old.may_become(&new).map(|()| new).map_err(|e| e.to_string()));
        match new {
            Ok(new) => {
                self.profile.change(|profile| *profile = new);
                eprintln!("nestling: the profile was read again");
            }
            Err(problem) => eprintln!("nestling: going on as before: {problem}"),
        }
    }
}

/// Whether a feature is due at `rate` a second; the next one is then planned.
fn is_due(next: &mut Option<Instant>, rate: f64) -> bool {
    let now = Instant::now();
    let interval = Duration::from_secs_f64(1.0 / rate);
    match *next {
        // An eighth of grace: samples come with some unrest.
        Some(due) if now + interval / 8 < due => false,
        Some(due) => {
            *next = Some((due + interval).max(now));
            true
        }
        None => {
            *next = Some(now + interval);
            true
        }
    }
}
