//! The saving thread: what the learning thread hands over is written as fast as the disk can, and learning never waits
//! for it. A disk that fails is told of and tried again; the last good checkpoint stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::behind::Said;
use super::status::Watched;
use crate::board;
use crate::learner::Learner;
use crate::store::{Saved, Snapshot, Store, StoreError, StoreOptions};

/// Longest wait for the disk at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was written, and what could not be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StoreStatus {
    pub path: String,
    pub saves: u64,
    pub failures: u64,
    /// Why the last checkpoint could not be written.
    pub problem: Option<String>,
    pub bytes_written: u64,
    pub bytes_last_hour: u64,
    pub bytes_per_hour: u64,
    /// How long the disk took for the last one.
    pub took_ms: u64,
    /// Until the next one is within the budget.
    pub wait_s: u64,
    /// Samples that the newest checkpoint has seen, and its encoder.
    pub samples: u64,
    pub encoder: u32,
}

enum Job {
    Save(Snapshot),
    /// The generation so many before the newest.
    Read(usize, SyncSender<Result<Option<Saved>, String>>),
}

/// See the module.
pub struct Saver {
    jobs: SyncSender<Job>,
    /// The snapshot comes back when it was written.
    written: Receiver<Snapshot>,
    status: Arc<Watched<Option<StoreStatus>>>,
    thread: JoinHandle<()>,
    saved: Instant,
    backbone: Said,
}

impl Saver {
    /// Starts the thread over `store`, or, where the disk cannot be written now, over the one that it may open later at
    /// `path`.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn start(
        path: PathBuf,
        mut store: Option<Store>,
        settings: &board::Store,
        status: Arc<Watched<Option<StoreStatus>>>,
        backbone: Said,
    ) -> std::io::Result<Self> {
        let (jobs, todo) = sync_channel::<Job>(1);
        let (done, written) = sync_channel(1);
        let _ = done.try_send(Snapshot::default());
        // A process that is started again and again writes no more than one that stays.
        let wait = store.as_ref().map_or(Duration::ZERO, |store| store.wait(Instant::now()));
        let first = StoreStatus {
            path: path.display().to_string(),
            bytes_per_hour: settings.bytes_per_hour,
            wait_s: wait.as_secs(),
            ..StoreStatus::default()
        };
        status.change(|s| *s = Some(first));
        let options = options(settings);
        let told = status.clone();
        let work = move || {
            for job in todo {
                match job {
                    Job::Save(mut snapshot) => {
                        save(&path, &options, &mut store, &mut snapshot, &told);
                        let _ = done.try_send(snapshot);
                    }
                    Job::Read(generation, reply) => {
                        let _ =
                            reply.try_send(read(&path, &options, &mut store, generation).map_err(|e| e.to_string()));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("nestling-store".into()).spawn(work)?;
        Ok(Saver { jobs, written, status, thread, saved: Instant::now(), backbone })
    }

    /// Hands the state over where it is time for it and the disk is idle.
    pub fn save_if_due(&mut self, learner: &mut Learner, every_s: u64) {
        let every = Duration::from_secs(every_s);
        let wait = self.status.change(|s| s.as_ref().map_or(0, |s| s.wait_s));
        if self.saved.elapsed() >= every.max(Duration::from_secs(wait)) {
            // Where the disk is still busy it is tried again after the next sample.
            let _ = self.save_now(learner);
        }
    }

    /// Hands the state over now.
    ///
    /// # Errors
    /// Where the disk is busy with the checkpoint before.
    pub fn save_now(&mut self, learner: &mut Learner) -> Result<(), String> {
        let snapshot = self.written.try_recv().map_err(|_| "the disk is still busy with the checkpoint before")?;
        self.hand_over(snapshot, learner)
    }

    fn hand_over(&mut self, mut snapshot: Snapshot, learner: &mut Learner) -> Result<(), String> {
        snapshot.stand_behind(self.backbone.get());
        snapshot.take(learner).map_err(|e| e.to_string())?;
        self.saved = Instant::now();
        self.jobs.send(Job::Save(snapshot)).map_err(|_| "the saving thread has ended".to_string())
    }

    /// Restores the checkpoint `generation` before the newest.
    ///
    /// # Errors
    /// Where there is none that can be used; the learner is then as it was.
    pub fn restore(&self, generation: usize, learner: &mut Learner) -> Result<(), String> {
        let gone = "the saving thread has ended";
        let (reply, answer) = sync_channel(1);
        self.jobs.send(Job::Read(generation, reply)).map_err(|_| gone)?;
        let saved = answer.recv().map_err(|_| gone)??;
        let saved =
            saved.ok_or_else(|| format!("there is no checkpoint {generation} generations before the newest"))?;
        if saved.spec != *learner.spec() {
            return Err("that checkpoint is of another model".into());
        }
        saved.restore(learner).map_err(|e| e.to_string())
    }

    /// Writes a last checkpoint, and waits for it as long as a disk may take.
    pub fn finish(mut self, learner: &mut Learner) {
        match self.written.recv_timeout(PATIENCE) {
            Ok(snapshot) => {
                if let Err(problem) = self.hand_over(snapshot, learner) {
                    eprintln!("nestling: no last checkpoint was written: {problem}");
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("nestling: the disk is too slow for a last checkpoint; the one before serves");
                return;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        match self.written.recv_timeout(PATIENCE) {
            Ok(_) => {
                let Saver { jobs, thread, .. } = self;
                drop(jobs);
                let _ = thread.join();
            }
            Err(_) => eprintln!("nestling: the disk is too slow for a last checkpoint; the one before serves"),
        }
    }
}

/// How a profile's store is to be kept.
pub fn options(settings: &board::Store) -> StoreOptions {
    StoreOptions { generations: settings.generations, bytes_per_hour: Some(settings.bytes_per_hour) }
}

fn opened<'a>(path: &Path, options: &StoreOptions, store: &'a mut Option<Store>) -> Result<&'a mut Store, StoreError> {
    match store {
        Some(store) => Ok(store),
        None => Ok(store.insert(Store::open(path, options)?)),
    }
}

/// The generation so many before the newest, from which the next one will come.
fn read(
    path: &Path,
    options: &StoreOptions,
    store: &mut Option<Store>,
    generation: usize,
) -> Result<Option<Saved>, StoreError> {
    let store = opened(path, options, store)?;
    let saved = store.generation(generation)?;
    saved.iter().for_each(|saved| store.follows(saved));
    Ok(saved)
}

/// Saves, and tells how that went.
fn save(
    path: &Path,
    options: &StoreOptions,
    store: &mut Option<Store>,
    snapshot: &mut Snapshot,
    status: &Watched<Option<StoreStatus>>,
) {
    let saved = opened(path, options, store).and_then(|store| {
        let result = store.save(snapshot);
        let usage = store.usage(Instant::now());
        status.change(|status| {
            let Some(s) = status else { return };
            s.saves = usage.saves;
            (s.bytes_written, s.bytes_last_hour) = (usage.bytes_written, usage.bytes_last_hour);
            s.wait_s = usage.wait.as_secs();
        });
        result
    });
    status.change(|status| {
        let Some(s) = status else { return };
        match &saved {
            Ok(written) => {
                s.took_ms = written.took.as_millis() as u64;
                s.samples = snapshot.samples();
                s.encoder = snapshot.version().map_or(0, |version| version.0);
                s.problem = None;
            }
            Err(problem) => {
                s.failures += 1;
                // Once is enough for people who read logs; status goes on telling.
                if s.problem.is_none() {
                    eprintln!("nestling: the checkpoint was not written, learning goes on in memory: {problem}");
                }
                s.problem = Some(problem.to_string());
            }
        }
    });
}
