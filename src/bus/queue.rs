//! Messages that wait for one reader: so many, the newest. Whoever sends never waits, unless a recording is to be read whole.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::message::Message;

struct State {
    waiting: VecDeque<Arc<Message>>,
    closed: bool,
}

/// See the module.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

/// What became of a message, or of the oldest that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Waits,
    /// It waits, and the oldest was dropped for it.
    Dropped,
    Closed,
}

/// What came of waiting.
#[derive(Debug, PartialEq)]
pub enum Taken {
    Message(Arc<Message>),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

impl Queue {
    /// A queue in which at most `capacity` messages wait, 1 or more.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let state = State { waiting: VecDeque::with_capacity(capacity), closed: false };
        Queue { state: Mutex::new(state), changed: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only pointers are moved under the lock, so that a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `message`; where it `waits`, there is room for it first.
    pub fn put(&self, message: Arc<Message>, waits: bool) -> Put {
        let mut state = self.lock();
        if waits {
            let full = |state: &mut State| state.waiting.len() >= self.capacity && !state.closed;
            state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Put::Closed;
        }
        let oldest = if state.waiting.len() >= self.capacity { state.waiting.pop_front() } else { None };
        state.waiting.push_back(message);
        drop(state);
        self.changed.notify_all();
        if oldest.is_some() { Put::Dropped } else { Put::Waits }
    }

    /// Takes the oldest that waits; waits for one at most `patience`, or for ever.
    pub fn take(&self, patience: Option<Duration>) -> Taken {
        let mut state = self.lock();
        let empty = |state: &mut State| state.waiting.is_empty() && !state.closed;
        state = match patience {
            Some(patience) => {
                let waited = self.changed.wait_timeout_while(state, patience, empty);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait_while(state, empty).unwrap_or_else(PoisonError::into_inner),
        };
        let taken = match state.waiting.pop_front() {
            Some(message) => Taken::Message(message),
            None if state.closed => Taken::Closed,
            None => Taken::Nothing,
        };
        drop(state);
        // Somebody may wait for room.
        self.changed.notify_all();
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// What waits can still be taken; nothing more can be left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Nobody takes any more.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        drop(left);
        self.changed.notify_all();
    }
}
