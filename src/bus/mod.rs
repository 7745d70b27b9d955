//! Everything on its way out: what a message is, and the ways it can go. No reader ever holds perceiving up; what it had no
//! time for is counted.
//!
//! [`Bus`] is the sending end. Each way out is a [`Transport`] that runs on a thread of its own behind a bounded queue, or a
//! [`Subscription`] of the program that this crate is part of. Messages are shared, not copied, and filled again once
//! everybody has dropped them.

pub mod command;
pub mod config;
pub mod frame;
pub mod lines;
pub mod message;
#[cfg(feature = "mqtt")]
pub mod mqtt;
mod queue;
#[cfg(feature = "ros")]
mod ros;
#[cfg(feature = "shm")]
pub mod shm;
pub mod socket;
mod subscription;
pub mod transport;
#[cfg(feature = "zenoh")]
pub mod zenoh;

use std::sync::Arc;
use std::time::Instant;

pub use message::{Block, Decision, Feature, Kind, Message, Stale};
pub use queue::Taken;
pub use subscription::Subscription;
pub use transport::{SendError, Terms, Transport, TransportStatus};

use queue::Queue;
use transport::{Counts, Outlet};

/// Messages that circulate at most; who holds more of them costs an allocation each.
const MOST_MESSAGES: usize = 512;

/// The sending end; see the module.
pub struct Bus {
    outlets: Vec<Outlet>,
    features: Pool,
    others: Pool,
    live: bool,
}

impl Default for Bus {
    fn default() -> Self {
        Bus { outlets: Vec::new(), features: Pool::default(), others: Pool::default(), live: true }
    }
}

impl Bus {
    /// A bus that nobody reads yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the stream is a live one, which nobody is waited for; it is unless one says otherwise.
    pub fn set_live(&mut self, live: bool) {
        self.live = live;
    }

    /// Starts `transport`, called `name` in what is told of it, on a thread of its own.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn add(&mut self, name: &str, transport: impl Transport + 'static, terms: Terms) -> Result<(), String> {
        self.outlets.push(Outlet::start(name, transport, terms)?);
        Ok(())
    }

    /// Messages for this program itself. At most `capacity` wait, the newest; a recording waits for room where the terms say
    /// so. It ends when the bus does.
    pub fn subscribe(&mut self, name: &str, capacity: usize, terms: Terms) -> Subscription {
        let (queue, counts) = (Arc::new(Queue::new(capacity)), Arc::new(Counts::new(name)));
        self.outlets.push(Outlet::of(queue.clone(), counts.clone(), terms));
        Subscription::new(queue, counts)
    }

    /// What each way out counts.
    pub fn counts(&self) -> Vec<Arc<Counts>> {
        self.outlets.iter().map(|outlet| outlet.counts.clone()).collect()
    }

    /// Sends the feature that `fill` makes of an older one. `false`: somebody had no time for it, or for an older one.
    pub fn send_feature(&mut self, fill: impl FnOnce(&mut Feature)) -> bool {
        let message = self.features.next(|message| match message {
            Message::Feature(feature) => fill(feature),
            other => {
                let mut feature = Feature::default();
                fill(&mut feature);
                *other = Message::Feature(feature);
            }
        });
        self.pass(&message)
    }

    /// Sends `message`; as [`Bus::send_feature`].
    pub fn send(&mut self, message: Message) -> bool {
        let message = self.others.next(|place| *place = message);
        self.pass(&message)
    }

    fn pass(&self, message: &Arc<Message>) -> bool {
        self.outlets.iter().fold(true, |read, outlet| outlet.put(message, self.live) & read)
    }

    /// The run is to end, as someone has left without whom it has no point.
    pub fn is_left(&self) -> bool {
        self.outlets.iter().any(Outlet::ends_the_run)
    }

    /// The end: what is left goes out, though a reader who has stopped reading a live stream is not waited for.
    pub fn finish(mut self) {
        let closed = Instant::now();
        let outlets = std::mem::take(&mut self.outlets);
        outlets.iter().for_each(|outlet| outlet.queue.close());
        outlets.into_iter().for_each(|outlet| outlet.finish(closed, self.live));
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // Threads and subscriptions end when nothing is left; nobody waits for them.
        self.outlets.iter().for_each(|outlet| outlet.queue.close());
    }
}

/// Messages that circulate.
#[derive(Default)]
struct Pool {
    messages: Vec<Arc<Message>>,
    next: usize,
}

impl Pool {
    /// A message that nobody reads any more, filled again.
    fn next(&mut self, fill: impl FnOnce(&mut Message)) -> Arc<Message> {
        let count = self.messages.len();
        // They come back in the order in which they went out, unless someone keeps one.
        let place =
            (0..count).map(|i| (self.next + i) % count).find(|&i| Arc::get_mut(&mut self.messages[i]).is_some());
        let place = place.unwrap_or_else(|| {
            let fresh = Arc::new(Message::Stale(Stale { age: std::time::Duration::ZERO }));
            if count < MOST_MESSAGES {
                self.messages.push(fresh);
                return count;
            }
            self.messages[self.next] = fresh;
            self.next
        });
        self.next = (place + 1) % self.messages.len();
        if let Some(message) = Arc::get_mut(&mut self.messages[place]) {
            fill(message);
        }
        self.messages[place].clone()
    }
}

#[cfg(test)]
mod tests;
