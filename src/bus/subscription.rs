//! Messages for the program that this crate is part of.

use std::sync::Arc;
use std::time::Duration;

use super::message::Message;
use super::queue::{Queue, Taken};
use super::transport::{Counts, TransportStatus};

/// The reading end of [`Bus::subscribe`](super::Bus::subscribe). It iterates over messages until the bus ends; dropping it
/// ends the subscription.
pub struct Subscription {
    queue: Arc<Queue>,
    counts: Arc<Counts>,
}

impl Subscription {
    pub(super) fn new(queue: Arc<Queue>, counts: Arc<Counts>) -> Self {
        Subscription { queue, counts }
    }

    /// The oldest message that waits; waits for one at most `patience`.
    pub fn wait(&self, patience: Duration) -> Taken {
        let taken = self.queue.take(Some(patience));
        if matches!(taken, Taken::Message(_)) {
            self.counts.send_one();
        }
        taken
    }

    /// What was taken and what was dropped so far.
    pub fn status(&self) -> TransportStatus {
        self.counts.status()
    }
}

impl Iterator for &Subscription {
    type Item = Arc<Message>;

    fn next(&mut self) -> Option<Arc<Message>> {
        match self.queue.take(None) {
            Taken::Message(message) => {
                self.counts.send_one();
                Some(message)
            }
            Taken::Nothing | Taken::Closed => None,
        }
    }
}

impl Iterator for Subscription {
    type Item = Arc<Message>;

    fn next(&mut self) -> Option<Arc<Message>> {
        (&*self).next()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.counts.leave();
        self.queue.abandon();
    }
}
