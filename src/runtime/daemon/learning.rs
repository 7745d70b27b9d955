//! The learning thread: all that is due after each sample, as far as the budget goes; publishing, saving, and what the
//! daemon is told to do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use serde_json::json;

use super::control::{Command, Reply, Request};
use super::history::History;
use super::saver::Saver;
use super::status::{Shared, Watched};
use crate::board::Profile;
use crate::guard::Frozen;
use crate::guard::integrity::Part;
use crate::learner::{Did, Join, Learner};
use crate::runtime::budget::Budget;
use crate::runtime::machine::{Machine, processors, thread_time};
use crate::runtime::meters::GuardStatus;
use crate::runtime::perceiver::Exchange;
use crate::source::Record;

/// Longest that a command, or the end, waits for an idle learner.
const TICK: Duration = Duration::from_millis(20);
/// The machine is felt this often.
const FEEL: Duration = Duration::from_secs(2);
/// Features that come late within this time count once.
const LATE: Duration = Duration::from_millis(100);

/// What the threads share beside what they tell.
pub struct Links<'a> {
    pub exchange: &'a Exchange,
    pub shared: &'a Shared,
    pub profile: &'a Watched<Profile>,
    /// Features that came late so far.
    pub late: &'a AtomicU64,
    pub stop: &'a AtomicBool,
}

/// See the module.
pub struct Learning<'a, 'm> {
    learner: &'a mut Learner<'m>,
    links: Links<'a>,
    saver: Option<Saver>,
    history: History,
    machine: Machine,
    budget: Budget,
    lanes: u32,
    begun: Instant,
    felt: Instant,
    late: (u64, Instant),
    told: Instant,
    told_frozen: Option<Frozen>,
    refused: u64,
    /// Times that damaged memory was restored.
    restored: u64,
}

impl<'a, 'm> Learning<'a, 'm> {
    pub fn new(learner: &'a mut Learner<'m>, links: Links<'a>, saver: Option<Saver>, lanes: usize) -> Self {
        let limits = links.profile.get().learn;
        let now = Instant::now();
        let mut learning = Learning {
            history: History::new(limits.lessons),
            machine: Machine::new(),
            budget: Budget::new(&limits, processors(), Duration::ZERO),
            lanes: lanes as u32,
            begun: now,
            felt: now.checked_sub(FEEL).unwrap_or(now),
            late: (0, now),
            told: now,
            told_frozen: None,
            refused: 0,
            restored: 0,
            learner,
            links,
            saver,
        };
        learning.history.keep(learning.learner);
        learning.tell();
        learning
    }

    /// Learns from what comes until nothing comes any more or it is told to stop; then saves.
    pub fn run(
        mut self,
        from_stream: &Receiver<Record>,
        give_back: &SyncSender<Record>,
        requests: &Receiver<Request>,
        workers: &impl Join,
    ) {
        loop {
            self.obey(requests);
            if self.links.stop.load(Ordering::Relaxed) {
                break;
            }
            self.feel();
            if self.links.exchange.is_wanted() {
                self.links.exchange.publish(self.learner);
            }
            match from_stream.recv_timeout(TICK) {
                Ok(record) => {
                    self.take(&record, requests, workers);
                    let _ = give_back.try_send(record);
                }
                // Nothing to learn from, and yet things change: heat, the profile.
                Err(RecvTimeoutError::Timeout) => self.tell(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(saver) = self.saver.as_mut().filter(|_| self.learner.frozen() != Some(Frozen::Damaged)) {
                saver.save_if_due(self.learner, self.links.profile.change(|p| p.store.every_s));
            }
        }
        // What is damaged must not take the place of what is whole.
        if let Some(saver) = self.saver.take().filter(|_| self.learner.frozen() != Some(Frozen::Damaged)) {
            saver.finish(self.learner);
        }
        self.tell();
    }

    /// Feels the machine, and what became of the features meanwhile.
    fn feel(&mut self) {
        if self.felt.elapsed() >= FEEL {
            self.felt = Instant::now();
            self.budget.feel(self.machine.feel());
            self.budget.set_limits(&self.links.profile.get().learn);
        }
        let late = self.links.late.load(Ordering::Relaxed);
        if late > self.late.0 && self.late.1.elapsed() > LATE {
            self.late = (late, Instant::now());
            self.budget.late();
        }
    }

    /// Waits until learning may go on; `false` where it is to stop meanwhile.
    fn may_go_on(&mut self, requests: &Receiver<Request>) -> bool {
        loop {
            self.feel();
            let wait = self.budget.wait(self.begun.elapsed());
            if self.links.stop.load(Ordering::Relaxed) || self.learner.frozen().is_some() {
                return false;
            }
            if wait.is_zero() {
                return true;
            }
            std::thread::sleep(wait.min(TICK));
            self.obey(requests);
        }
    }

    fn take(&mut self, record: &Record, requests: &Receiver<Request>, workers: &impl Join) {
        let version = self.learner.version();
        let taken = self.learner.stand_beside(&record.beside).and_then(|()| self.learner.observe(&record.sample()));
        if taken.is_err() {
            self.refused += 1;
            return;
        }
        while self.may_go_on(requests) {
            let (before, begun) = (thread_time(), Instant::now());
            let did = self.learner.step(workers);
            self.budget.spend((thread_time() - before) * self.lanes);
            match did {
                Did::Idle => break,
                Did::Trained { .. } => {
                    let micros = begun.elapsed().as_micros() as u64;
                    self.links.shared.learning.change(|s| s.step_us.add(micros));
                }
                Did::Published { .. } => self.history.keep(self.learner),
                Did::Undone { .. } => {}
                Did::Damaged { part } => self.mend(part),
            }
        }
        if self.learner.version() != version {
            self.links.exchange.publish(self.learner);
        }
        if self.told.elapsed() >= TICK {
            self.tell();
        }
    }

    fn obey(&mut self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.try_recv() {
            let reply = self.do_as_told(request.command);
            self.tell();
            let _ = request.reply.try_send(reply);
        }
    }

    fn do_as_told(&mut self, command: Command) -> Reply {
        match command {
            Command::Status | Command::Teach { .. } | Command::Forget { .. } => {
                return Err("that is answered elsewhere".into());
            }
            Command::Freeze => self.learner.freeze(),
            Command::Thaw if !self.learner.thaw() => {
                return Err("what lies in memory was damaged; go back to a checkpoint first (nestling rollback)".into());
            }
            Command::Thaw => {}
            Command::Save if self.learner.frozen() == Some(Frozen::Damaged) => {
                return Err("what lies in memory was damaged and is not saved".into());
            }
            Command::Save => {
                let saver = self.saver.as_mut().ok_or("no checkpoint is kept: start it with --state FILE")?;
                saver.save_now(self.learner)?;
            }
            Command::Rollback { lessons, generation } => {
                self.go_back(lessons, generation)?;
                self.links.exchange.publish(self.learner);
                self.history.keep(self.learner);
                // A restart is not to bring the lesson back.
                if let Some(saver) = &mut self.saver {
                    saver.save_now(self.learner)?;
                }
            }
        }
        Ok(json!({ "encoder": self.learner.version().0, "frozen": self.learner.frozen().is_some() }))
    }

    fn go_back(&mut self, lessons: Option<usize>, generation: Option<usize>) -> Result<(), String> {
        let after = self.learner.version();
        let frozen = self.learner.frozen().is_some_and(|why| why != Frozen::Damaged);
        match (lessons, generation) {
            (Some(_), Some(_)) => return Err("go back by lessons or to a generation, not both".into()),
            (_, Some(generation)) => {
                let saver = self.saver.as_ref().ok_or("no checkpoint is kept: start it with --state FILE")?;
                saver.restore(generation, self.learner)?;
            }
            (lessons, None) => {
                let back = lessons.unwrap_or(1);
                let kept = self.history.kept();
                if !self.history.go_back(back, self.learner) {
                    return Err(format!(
                        "{kept} lessons are kept in memory ([learn] lessons); for older ones go back to a generation of the \
                         store (--generation N)"
                    ));
                }
            }
        }
        self.learner.republish(after);
        // Going back is no thaw: the older state has its own word on that.
        if frozen {
            self.learner.freeze();
        }
        Ok(())
    }

    /// Goes on from the newest checkpoint, or from the newest lesson in memory, as what lies in memory was damaged.
    fn mend(&mut self, part: Part) {
        eprintln!("nestling: bits have flipped in memory ({}); going on from what was saved", part.name());
        let after = self.learner.version();
        let restored = match &self.saver {
            Some(saver) => saver.restore(0, self.learner),
            None => Err("no checkpoint is kept".into()),
        };
        if let Err(problem) = restored
            && !self.history.go_back(0, self.learner)
        {
            eprintln!("nestling: learning stands still, features go on: {problem}");
            return;
        }
        self.restored += 1;
        self.learner.republish(after);
    }

    /// Writes down how learning stands.
    fn tell(&mut self) {
        self.told = Instant::now();
        let (c, meters) = (*self.learner.counters(), self.learner.meters());
        let (pressure, slowed_by) = self.budget.pressure();
        let frozen = self.learner.frozen();
        let by_profile = self.links.profile.change(|p| p.learn.frozen);
        if frozen != self.told_frozen {
            // Also at the start: a restart does not thaw.
            self.told_frozen = frozen;
            match frozen {
                Some(why) => eprintln!("nestling: learning is frozen, features go on: {}", words(why)),
                None => eprintln!("nestling: learning goes on"),
            }
        }
        let temperature = self.budget.temperature();
        self.links.shared.health.store(meters.standing_rank.min(meters.standing_spread), Ordering::Relaxed);
        self.links.shared.learning.change(|s| {
            (s.state, s.why) = match (frozen, slowed_by) {
                _ if by_profile => ("frozen", Some("the profile says so".to_string())),
                (Some(why), _) => ("frozen", Some(words(why).to_string())),
                (None, Some(why)) => ("yielding", Some(why.to_string())),
                (None, None) => ("learning", None),
            };
            s.observed = c.observed;
            s.refused = self.refused;
            s.steps = c.steps;
            s.loss = c.loss_running as f64 / 4096.0;
            s.encoder = c.version;
            s.lessons_published = c.lessons_published;
            s.lessons_rolled_back = c.lessons_rolled_back;
            s.lessons_kept = self.history.kept();
            s.pressure = pressure;
            s.temperature = temperature;
            s.restored = self.restored;
            s.guard = GuardStatus::of(&meters);
        });
    }
}

/// Why learning stands still, for people.
const fn words(why: Frozen) -> &'static str {
    match why {
        Frozen::Guard => "the guard undid too many lessons in a row; `nestling thaw` begins again",
        Frozen::Damaged => "memory was damaged and nothing could be restored; `nestling rollback` or a restart",
        _ => "asked for",
    }
}
