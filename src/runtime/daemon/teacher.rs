//! The teaching thread: keeps what was taught and a background of the stream, and makes of them, for each encoder that is
//! published, what controllers decide by.
//!
//! It stands between learner and perceiver: a new encoder reaches the perceiving side with what was fitted to its features,
//! in one step, so that no feature meets what was fitted to another encoder. Making features anew takes time; so a newer
//! encoder waits for a multiple of what the last one took.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::control::{Command, Reply, Request};
use super::status::{Confusion, Shared, TaughtStatus};
use crate::control::config::{ControllerTable, Does};
use crate::control::store::{TaughtStore, is_label};
use crate::control::taught::{Answer, MOST_CLASSES, MOST_OF_CLASSES, Taught};
use crate::control::{FEWEST_BACKGROUND, Fitted, Values};
use crate::runtime::machine;
use crate::runtime::perceiver::{Exchange, Perceiver, Published};

/// Longest that a request waits for an idle teacher.
const TICK: Duration = Duration::from_millis(10);
/// Time between two examples of one teaching, so that they differ.
const APART: Duration = Duration::from_millis(200);
/// A teaching without a fresh sample for so long fails.
const PATIENCE: Duration = Duration::from_secs(3);
/// A background sample is taken this often.
const BACKGROUND_EVERY: Duration = Duration::from_millis(500);
/// Features are made anew for so long before requests are looked at again.
const SLICE: Duration = Duration::from_millis(50);
/// A newer encoder waits for so many times what the last one took, and no longer than this.
const REST: u32 = 4;
const MOST_REST: Duration = Duration::from_secs(30);
/// After a demonstration's newest value, what was taught is fitted and saved when no other comes for so long.
const QUIET: Duration = Duration::from_millis(400);
/// And no later than this after the first.
const AT_LAST: Duration = Duration::from_secs(5);
/// The background is saved this often.
const SAVE_EVERY: Duration = Duration::from_secs(600);
/// Examples of a teaching that does not say how many, and the most.
pub const EXAMPLES: u32 = 5;
pub const MOST_EXAMPLES: u32 = 20;

/// An encoder and what was fitted to its features.
pub struct Handover {
    pub encoder: Box<Published>,
    pub fitted: Arc<Fitted>,
}

/// A sample on its way from the perceiving side.
pub struct Shown {
    pub stored: Vec<u8>,
    /// When it came.
    pub at: Instant,
}

/// The perceiving side's end of what passes between the two.
pub struct Desk {
    newest: Arc<Mutex<Option<Handover>>>,
    used: SyncSender<Handover>,
    asked: Receiver<Vec<u8>>,
    show: SyncSender<Shown>,
    urgent: Arc<AtomicBool>,
}

impl Desk {
    /// A newer encoder with what was fitted to it.
    pub fn newer(&self) -> Option<Handover> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives back what is no longer used: it is freed on the other side.
    pub fn give_back(&self, used: Handover) {
        let _ = self.used.try_send(used);
    }

    /// Asks for an encoder at once, as the one in use is damaged.
    pub fn hurry(&self) {
        self.urgent.store(true, Ordering::Relaxed);
    }

    /// Shows a sample that came `at` to the teacher, where it has asked for one.
    pub fn show(&self, stored: &[u8], at: Instant) {
        if let Ok(mut copy) = self.asked.try_recv() {
            copy.clear();
            copy.extend_from_slice(stored);
            let _ = self.show.try_send(Shown { stored: copy, at });
        }
    }
}

/// Somebody is showing something.
struct Teaching {
    answer: Answer,
    number: u32,
    wanted: u32,
    taken: u32,
    began: Instant,
    /// When the next example may be taken, and when the newest was.
    due: Instant,
    last: Instant,
    reply: SyncSender<Reply>,
}

/// Where the stream of encoders and samples comes from.
pub struct Links<'a> {
    pub exchange: &'a Exchange,
    pub shared: &'a Arc<Shared>,
    pub requests: Receiver<Request>,
    pub nice: i32,
}

/// See the module.
pub struct Teacher<'a> {
    tables: Vec<ControllerTable>,
    perceiver: Perceiver,
    links: Links<'a>,
    newest: Arc<Mutex<Option<Handover>>>,
    used: Receiver<Handover>,
    ask: SyncSender<Vec<u8>>,
    shown: Receiver<Shown>,
    urgent: Arc<AtomicBool>,
    spare: Option<Vec<u8>>,

    taught: Taught,
    store: Option<TaughtStore>,
    problem: Option<String>,
    teaching: Option<Teaching>,
    background_due: Instant,
    fitted: Arc<Fitted>,
    /// Background samples that came since the last fit.
    unfitted: usize,
    /// When what was taught changed, first and last, since it was fitted and since it was saved.
    changed: Option<(Instant, Instant)>,
    unsaved: Option<(Instant, Instant)>,
    saved: Instant,
    /// Features are being made anew; time spent on that so far.
    making: Option<Duration>,
    rest_until: Instant,
}

/// Both ends of what passes between the teacher and the perceiving side.
pub fn ends<'a>(
    tables: &[ControllerTable],
    perceiver: Perceiver,
    links: Links<'a>,
    (taught, store): (Taught, Option<TaughtStore>),
) -> (Teacher<'a>, Desk) {
    let (give_used, used) = sync_channel(4);
    let (ask, asked) = sync_channel(1);
    let (show, shown) = sync_channel(1);
    let (newest, urgent) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
    let desk = Desk { newest: newest.clone(), used: give_used, asked, show, urgent: urgent.clone() };
    let now = Instant::now();
    let teacher = Teacher {
        tables: tables.to_vec(),
        spare: Some(Vec::with_capacity(perceiver.stored_len())),
        perceiver,
        links,
        newest,
        used,
        ask,
        shown,
        urgent,
        // What was saved is fitted at once.
        changed: (!taught.examples.is_empty()).then_some((now, now)),
        fitted: Arc::new(Fitted::default()),
        unfitted: taught.background.len(),
        taught,
        store,
        problem: None,
        teaching: None,
        background_due: now,
        unsaved: None,
        saved: now,
        making: None,
        rest_until: now,
    };
    (teacher, desk)
}

impl Teacher<'_> {
    /// Teaches until `stop` becomes true; then saves.
    pub fn run(mut self, stop: &AtomicBool) {
        machine::be_nice(self.links.nice);
        self.tell();
        while !stop.load(Ordering::Relaxed) {
            match self.links.requests.recv_timeout(TICK) {
                Ok(request) => self.obey(request),
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody is left who could ask.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            }
            while self.used.try_recv().is_ok() {}
            self.take_samples();
            self.follow();
            self.save_if_due();
        }
        if let Some(teaching) = self.teaching.take() {
            let _ = teaching.reply.try_send(Err("the daemon is ending".into()));
        }
        if self.unsaved.is_some() || self.unfitted > 0 {
            self.save();
        }
    }

    fn obey(&mut self, request: Request) {
        let Request { command, reply } = request;
        let answer = match command {
            Command::Teach { label, values, controller, examples } => {
                match self.begin(label, values, controller, examples, reply.clone()) {
                    // It is answered when it ends.
                    Ok(()) => return,
                    Err(problem) => Err(problem),
                }
            }
            Command::Forget { label } => self.forget(&label),
            _ => Err("that is nothing for the teacher".into()),
        };
        let _ = reply.try_send(answer);
    }

    fn begin(
        &mut self,
        label: Option<String>,
        values: Option<Vec<f64>>,
        controller: Option<String>,
        examples: Option<u32>,
        reply: SyncSender<Reply>,
    ) -> Result<(), String> {
        if self.teaching.is_some() {
            return Err("something else is being taught; try again when that is done".into());
        }
        let answer = match (label, values) {
            (Some(label), None) => self.class(label)?,
            (None, Some(values)) => self.values(&values, controller.as_deref())?,
            _ => return Err("give a label or values, one of the two".into()),
        };
        let wanted = examples.unwrap_or(if matches!(answer, Answer::Class(_)) { EXAMPLES } else { 1 });
        if !(1..=MOST_EXAMPLES).contains(&wanted) {
            return Err(format!("{wanted} examples: it can be 1 to {MOST_EXAMPLES} at a time"));
        }
        let now = Instant::now();
        let number = self.taught.teachings;
        self.taught.teachings += 1;
        self.teaching = Some(Teaching { answer, number, wanted, taken: 0, began: now, due: now, last: now, reply });
        Ok(())
    }

    fn class(&self, label: String) -> Result<Answer, String> {
        if !self.tables.iter().any(|table| matches!(table.does, Does::Classify | Does::Follow)) {
            let remedy = "add [[controller]] name = \"things\" does = \"classify\" to the profile, or start it with --controller";
            return Err(format!("no controller learns labels: {remedy} classify"));
        }
        if !is_label(&label) {
            return Err(format!(
                "\"{label}\" cannot be a label: take up to 64 letters, digits and - _ . : / + #, and not unknown"
            ));
        }
        if self.taught.of_classes() >= MOST_OF_CLASSES {
            return Err(format!(
                "{MOST_OF_CLASSES} examples were taught, that is all there may be; forget a label first"
            ));
        }
        let classes = self.taught.classes();
        if classes.len() >= MOST_CLASSES && !classes.iter().any(|class| **class == *label) {
            return Err(format!("{MOST_CLASSES} labels were taught, that is all there may be; forget one first"));
        }
        Ok(Answer::Class(label.into()))
    }

    fn values(&self, values: &[f64], controller: Option<&str>) -> Result<Answer, String> {
        let mut steering = self.tables.iter().filter(|table| table.does == Does::Steer);
        let names = || {
            let names = self.tables.iter().filter(|table| table.does == Does::Steer).map(|table| table.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let table = match controller {
            Some(name) => steering.find(|table| table.name == name).ok_or_else(|| match names().as_str() {
                "" => "no controller learns values: add [[controller]] does = \"steer\" to the profile".to_string(),
                names => format!("no controller {name} learns values; there is {names}"),
            })?,
            None => match (steering.next(), steering.next()) {
                (None, _) => return Err("no controller learns values: add [[controller]] name = \"steering\" does = \"steer\" to the profile, or start it with --controller steer".into()),
                (Some(table), None) => table,
                _ => return Err(format!("say which controller is taught: {}", names())),
            },
        };
        if values.len() != table.outputs {
            return Err(format!(
                "{} has {} outputs, and {} values were given",
                table.name,
                table.outputs,
                values.len()
            ));
        }
        if let Some(value) = values.iter().find(|v| !(table.least..=table.most).contains(v)) {
            return Err(format!("{value} is not from {} to {}, the limits of {}", table.least, table.most, table.name));
        }
        Ok(Answer::Values(table.name.as_str().into(), Values::from_iter(values.iter().copied())))
    }

    fn forget(&mut self, label: &str) -> Reply {
        if self.teaching.is_some() {
            return Err("something is being taught; try again when that is done".into());
        }
        let forgotten = self.taught.forget(label);
        if forgotten == 0 {
            let names: Vec<String> = self.taught.counts().iter().map(|(name, _)| name.to_string()).collect();
            return Err(match names.is_empty() {
                true => format!("nothing was taught as {label}, nor anything else"),
                false => format!("nothing was taught as {label}; there is {}", names.join(", ")),
            });
        }
        self.note_change();
        self.save();
        self.tell();
        Ok(json!({ "label": label, "forgotten": forgotten, "saved": self.unsaved.is_none() }))
    }

    fn note_change(&mut self) {
        let now = Instant::now();
        let since = |before: Option<(Instant, Instant)>| Some((before.map_or(now, |(first, _)| first), now));
        (self.changed, self.unsaved) = (since(self.changed), since(self.unsaved));
    }

    /// Takes the sample that was asked for, as an example or as background, and asks for another when one is due.
    fn take_samples(&mut self) {
        let now = Instant::now();
        if let Ok(shown) = self.shown.try_recv() {
            match &mut self.teaching {
                // A sample from before was asked for by someone else.
                Some(teaching) if shown.at >= teaching.began => {
                    self.taught.learn(teaching.answer.clone(), &shown.stored, teaching.number);
                    teaching.taken += 1;
                    (teaching.due, teaching.last) = (now + APART, now);
                    self.note_change();
                }
                Some(_) => {}
                None => self.unfitted += usize::from(self.taught.offer(&shown.stored)),
            }
            self.spare = Some(shown.stored);
        }
        if self.teaching.as_ref().is_some_and(|t| t.taken == t.wanted || t.last.elapsed() > PATIENCE) {
            self.end_teaching();
        }
        let due = self.teaching.as_ref().map_or(self.background_due, |teaching| teaching.due);
        if now >= due
            && let Some(buffer) = self.spare.take()
        {
            self.background_due = now + BACKGROUND_EVERY;
            if let Err(std::sync::mpsc::TrySendError::Full(buffer)) = self.ask.try_send(buffer) {
                self.spare = Some(buffer);
            }
        }
    }

    fn end_teaching(&mut self) {
        let Some(Teaching { answer, wanted, taken, reply, .. }) = self.teaching.take() else { return };
        let by_hand = matches!(answer, Answer::Class(_));
        if by_hand && taken > 0 {
            self.save();
        }
        self.tell();
        let (Answer::Class(name) | Answer::Values(name, _)) = &answer;
        let all = self.taught.counts().into_iter().find(|(other, _)| other == name).map_or(0, |(_, count)| count);
        let _ = reply.try_send(match taken == wanted {
            true => Ok(json!({
                "taught": &**name, "examples": taken, "of_that": all,
                "saved": self.unsaved.is_none(), "keeps": self.store.is_some(),
            })),
            false => Err(format!(
                "no fresh sample came within {} s: {taken} of {wanted} examples were taken; look at `nestling status`",
                PATIENCE.as_secs()
            )),
        });
    }

    /// Brings features and what is fitted to them up to the newest encoder, a slice of work at a time.
    fn follow(&mut self) {
        let now = Instant::now();
        let mut spent = match self.making {
            Some(spent) => spent,
            None => {
                let urgent = self.urgent.swap(false, Ordering::Relaxed);
                let is_due = |(first, last): (Instant, Instant)| {
                    now.duration_since(last) >= QUIET || now.duration_since(first) >= AT_LAST
                };
                let taught = self.changed.is_some_and(is_due) && self.teaching.is_none();
                let rested = now >= self.rest_until;
                if !(urgent || taught || rested) {
                    return;
                }
                let newer = self.perceiver.refresh(self.links.exchange);
                let grown = self.taught.background.len() >= FEWEST_BACKGROUND
                    && self.unfitted * 4 >= self.taught.background.len();
                if !(newer || taught || urgent || grown) {
                    return;
                }
                Duration::ZERO
            }
        };
        let (version, dim) = (self.perceiver.version(), self.perceiver.feature_dim());
        let perceiver = &mut self.perceiver;
        let embed = |stored: &[u8], feature: &mut [i8]| perceiver.embed(stored, feature);
        let whole = self.taught.embed(version, dim, embed, || now.elapsed() < SLICE);
        spent += now.elapsed();
        if !whole {
            self.making = Some(spent);
            return;
        }
        self.making = None;
        // A damaged copy is replaced by the learner; nothing of it goes on.
        if !self.perceiver.is_whole(self.links.exchange) {
            self.urgent.store(true, Ordering::Relaxed);
            return;
        }
        let fitting = Instant::now();
        let grids: Vec<_> = self.perceiver.grids().collect();
        let fitted = Arc::new(Fitted::of(&self.tables, &grids, &self.taught, version));
        (self.changed, self.unfitted) = (None, 0);
        self.fitted = fitted.clone();
        self.tell();
        let encoder = self.perceiver.encoder();
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Handover { encoder, fitted });
        spent += fitting.elapsed();
        self.rest_until = Instant::now() + (REST * spent).min(MOST_REST);
    }

    fn save_if_due(&mut self) {
        let due = match self.unsaved {
            Some((first, last)) => last.elapsed() >= QUIET || first.elapsed() >= AT_LAST,
            None => false,
        };
        // While something is shown there is more to come.
        if (due && self.teaching.is_none()) || self.saved.elapsed() >= SAVE_EVERY {
            self.save();
        }
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        let Some(store) = &mut self.store else { return };
        match store.save(&self.taught) {
            Ok(()) => (self.unsaved, self.problem) = (None, None),
            Err(problem) => {
                let problem = problem.to_string();
                if self.problem.as_ref() != Some(&problem) {
                    eprintln!("nestling: what was taught is not saved, it is tried again: {problem}");
                }
                self.problem = Some(problem);
                // Not at once, and not never.
                self.unsaved = self.unsaved.map(|_| (Instant::now(), Instant::now() + AT_LAST));
            }
        }
    }

    /// Writes down what was taught and how well it is known.
    fn tell(&self) {
        let fitted = &self.fitted;
        let classes = &fitted.classes;
        let confusions = |class: usize| {
            let of = classes.confusions[class].iter().enumerate();
            let others = of.filter(|&(other, &count)| other != class && count > 0);
            let name = |other: usize| classes.names.get(other).map_or("unknown", |name| name).to_string();
            others.map(|(other, &count)| Confusion { with: name(other), count }).collect()
        };
        let labels = self.taught.counts().into_iter().map(|(name, examples)| {
            let class = classes.names.iter().position(|class| *class == name);
            let steering = self.tables.iter().position(|table| table.name == *name);
            let steering = steering.and_then(|place| fitted.steering.get(place)?.as_ref());
            TaughtStatus {
                label: name.to_string(),
                examples,
                confusions: class.map(confusions).unwrap_or_default(),
                error: steering.map(|steering| steering.error.clone()),
                r2: steering.map(|steering| steering.r2.clone()),
            }
        });
        let (labels, background) = (labels.collect(), self.taught.background.len());
        self.links.shared.control.change(|s| {
            s.taught = labels;
            s.background = background;
            s.encoder = fitted.version.0;
            s.kept = self.store.is_some();
            s.problem.clone_from(&self.problem);
        });
    }
}
