//! What runs a learner on a machine with an operating system: worker threads, and the loop over a source.

pub mod budget;
pub mod daemon;
pub mod drive;
pub mod machine;
pub mod mailbox;
pub mod meters;
pub mod perceiver;

use crate::learner::Join;

/// Worker threads that a step's lanes are split over.
pub struct Pool(rayon::ThreadPool);

/// The threads of the pool that the caller runs in.
pub struct Workers(());

impl Join for Workers {
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        rayon::join(a, b);
    }
}

impl Pool {
    /// A pool of `threads` workers.
    ///
    /// # Errors
    /// Where the system gives no threads; the message is its own.
    pub fn new(threads: usize) -> Result<Self, String> {
        Self::nice(threads, 0)
    }

    /// A pool of `threads` workers that yield to others by `nice`.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn nice(threads: usize, nice: i32) -> Result<Self, String> {
        let name = |n| format!("nestling-{n}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name);
        let pool = if nice == 0 { pool } else { pool.start_handler(move |_| machine::be_nice(nice)) }.build();
        pool.map(Pool).map_err(|e| format!("cannot start {threads} worker threads: {e}"))
    }

    /// Runs `work` on a worker, where joining does not allocate.
    pub fn run<R: Send>(&self, work: impl FnOnce(&Workers) -> R + Send) -> R {
        self.0.install(|| work(&Workers(())))
    }
}
