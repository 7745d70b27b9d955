//! A way out, and the thread that it runs on. Whoever sends never waits for it, and its errors are nobody else's: they are
//! told once, counted, and tried again ever more rarely.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::message::{Kind, Message};
use super::queue::{Put, Queue, Taken};

/// Messages that may wait for a transport; then the oldest is dropped.
const QUEUE: usize = 128;
/// After a failure nothing is sent for so long, and after each further one twice as long, up to the longest.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// A transport that has worked for so long has recovered.
const RECOVERED: Duration = Duration::from_secs(10);

/// Why a message did not go out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody reads any more, and nobody will.
    #[error("its reader has left")]
    Left,
    /// It may work again later. The text says what happened, to what, and what to do.
    #[error("{0}")]
    Failed(String),
    /// The same, of a transport that looks for its peer by itself: it needs no rest and is called for each message all the same.
    #[error("{0}")]
    Away(String),
}

/// A way out: a socket, a broker, a file. It is called on a thread of its own and may take its time.
pub trait Transport: Send {
    /// Sends `message`.
    ///
    /// # Errors
    /// [`SendError`]. After [`SendError::Failed`] it is called again after a rest; what comes meanwhile is dropped and counted.
    fn send(&mut self, message: &Arc<Message>) -> Result<(), SendError>;

    /// Called when no further message waits.
    ///
    /// # Errors
    /// As [`Transport::send`].
    fn flush(&mut self) -> Result<(), SendError> {
        Ok(())
    }

    /// Called when no message will come any more.
    fn finish(&mut self) {}

    /// Whether messages of this kind are sent at all; asked once.
    fn wants(&self, kind: Kind) -> bool {
        let _ = kind;
        true
    }

    /// How long the end of a run waits for what is left of it; asked once.
    fn patience(&self) -> Duration {
        Duration::from_millis(100)
    }
}

/// How a transport is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// A recording waits for it. A live stream never does.
    pub waits: bool,
    /// The run ends when its reader leaves.
    pub ends: bool,
}

/// What a transport has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransportStatus {
    pub name: String,
    /// Messages that it took.
    pub sent: u64,
    /// Messages that it had no time for, or that came while it did not work.
    pub dropped: u64,
    /// Times that it failed.
    pub failures: u64,
    /// Why it does not work now.
    pub problem: Option<String>,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub struct Counts {
    name: String,
    sent: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
    left: AtomicBool,
    problem: std::sync::Mutex<Option<String>>,
}

impl Counts {
    pub(super) fn new(name: &str) -> Self {
        Counts { name: name.into(), ..Counts::default() }
    }

    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn send_one(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Nobody reads any more.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(|p| p.into_inner()) = problem;
    }

    pub fn status(&self) -> TransportStatus {
        TransportStatus {
            name: self.name.clone(),
            sent: self.sent.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            problem: self.problem.lock().unwrap_or_else(|p| p.into_inner()).clone(),
        }
    }
}

/// The sending end of a transport, or of a subscription, which has no thread.
pub(super) struct Outlet {
    pub queue: Arc<Queue>,
    pub counts: Arc<Counts>,
    terms: Terms,
    wanted: [bool; 3],
    patience: Duration,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Outlet {
    /// Starts `transport` on a thread of its own.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(name: &str, transport: impl Transport + 'static, terms: Terms) -> Result<Self, String> {
        let (queue, counts) = (Arc::new(Queue::new(QUEUE)), Arc::new(Counts::new(name)));
        let wanted = [Kind::Feature, Kind::Decision, Kind::Stale].map(|kind| transport.wants(kind));
        let patience = transport.patience();
        let mut runner = Runner { transport, queue: queue.clone(), counts: counts.clone(), rest: None, away: false };
        let thread = std::thread::Builder::new().name("nestling-output".into()).spawn(move || runner.run());
        let thread = thread.map_err(|e| format!("cannot start the thread of {name}: {e}"))?;
        Ok(Outlet { queue, counts, terms, wanted, patience, thread: Some(thread) })
    }

    /// Messages that somebody takes out of `queue`.
    pub fn of(queue: Arc<Queue>, counts: Arc<Counts>, terms: Terms) -> Self {
        Outlet { queue, counts, terms, wanted: [true; 3], patience: Duration::ZERO, thread: None }
    }

    /// Leaves `message`, and waits for room where the stream is no `live` one and these are the terms. `false`: a message was
    /// dropped.
    pub fn put(&self, message: &Arc<Message>, live: bool) -> bool {
        if !self.wanted[message.kind() as usize] {
            return true;
        }
        let dropped = match self.queue.put(message.clone(), self.terms.waits && !live) {
            Put::Waits => false,
            Put::Dropped => true,
            // Whoever left of his own will misses nothing; a transport that gave up does.
            Put::Closed => self.thread.is_some(),
        };
        if dropped {
            self.counts.drop_one();
        }
        !dropped
    }

    /// The run is to end, as its reader has left.
    pub fn ends_the_run(&self) -> bool {
        self.terms.ends && self.counts.left.load(Ordering::Relaxed)
    }

    /// Waits for what is left, after the queue was closed; not for ever for a live stream.
    pub fn finish(self, closed: Instant, live: bool) {
        let Some(thread) = self.thread else { return };
        let for_ever = self.terms.waits && !live;
        while !for_ever && !thread.is_finished() && closed.elapsed() < self.patience {
            std::thread::sleep(Duration::from_millis(2));
        }
        if for_ever || thread.is_finished() {
            let _ = thread.join();
        }
    }
}

struct Runner<T> {
    transport: T,
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    rest: Option<Rest>,
    away: bool,
}

/// After a failure.
struct Rest {
    until: Instant,
    length: Duration,
}

impl<T: Transport> Runner<T> {
    fn run(&mut self) {
        while let Taken::Message(message) = self.queue.take(None) {
            if self.rest.as_ref().is_some_and(|rest| Instant::now() < rest.until) {
                self.counts.drop_one();
                continue;
            }
            let sent = self.transport.send(&message);
            match &sent {
                Ok(()) => self.counts.send_one(),
                Err(_) => self.counts.drop_one(),
            }
            let nothing_waits = self.queue.is_empty();
            let done = sent.and_then(|()| if nothing_waits { self.transport.flush() } else { Ok(()) });
            match done {
                Ok(()) => self.recover(),
                Err(SendError::Failed(problem)) => self.fail(problem),
                Err(SendError::Away(problem)) => self.miss(problem),
                Err(problem @ SendError::Left) => {
                    self.counts.set_problem(Some(problem.to_string()));
                    self.counts.leave();
                    self.queue.abandon();
                    return;
                }
            }
        }
        self.transport.finish();
    }

    fn fail(&mut self, problem: String) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        let length = match &self.rest {
            Some(rest) => (2 * rest.length).min(LONGEST_REST),
            None => {
                self.tell(&problem);
                SHORTEST_REST
            }
        };
        self.counts.set_problem(Some(problem));
        self.rest = Some(Rest { until: Instant::now() + length, length });
    }

    fn miss(&mut self, problem: String) {
        if !std::mem::replace(&mut self.away, true) {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
            self.tell(&problem);
        }
        self.counts.set_problem(Some(problem));
    }

    fn tell(&self, problem: &str) {
        let name = &self.counts.name;
        eprintln!("nestling: {name}: {problem}; it is tried again, and what comes meanwhile is counted");
    }

    /// It works; who has only just failed is not believed yet.
    fn recover(&mut self) {
        if std::mem::take(&mut self.away) {
            self.counts.set_problem(None);
            eprintln!("nestling: {}: it works again", self.counts.name);
        }
        let Some(rest) = &self.rest else { return };
        self.counts.set_problem(None);
        if rest.until.elapsed() >= RECOVERED {
            eprintln!("nestling: {}: it works again", self.counts.name);
            self.rest = None;
        }
    }
}
