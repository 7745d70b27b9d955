//! From one thread to another, the newest only: what was not taken in time is replaced, so that the reader of a live
//! stream never waits. Three items circulate; nothing is allocated.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

struct State<T> {
    full: Option<T>,
    spare: Option<T>,
    closed: bool,
}

/// See the module.
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    Item(T),
    /// Nothing came in time; what was offered in exchange.
    Nothing(T),
    /// Nothing will come any more.
    Closed,
}

impl<T> Mailbox<T> {
    /// An empty box; `spare` is the third item, beside the one that either side has in hand.
    pub fn new(spare: T) -> Self {
        let state = State { full: None, spare: Some(spare), closed: false };
        Mailbox { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Only pointers are moved under the lock, so that a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `item` and gives back another to be filled; `true` where that one was never taken. `None` when closed.
    pub fn put(&self, item: T) -> Option<(T, bool)> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let replaced = state.full.replace(item);
        self.changed.notify_all();
        match replaced {
            Some(missed) => Some((missed, true)),
            None => state.spare.take().map(|spare| (spare, false)),
        }
    }

    /// As [`Mailbox::put`], but waits until the item before was taken.
    pub fn put_in_turn(&self, item: T) -> Option<T> {
        let state = self.lock();
        let waits = |state: &mut State<T>| state.full.is_some() && !state.closed;
        drop(self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner));
        self.put(item).map(|(spare, _)| spare)
    }

    /// Takes what was left, waiting for it at most `patience`; `mine` goes back to be filled again.
    pub fn take(&self, mine: T, patience: Duration) -> Taken<T> {
        let state = self.lock();
        let waits = |state: &mut State<T>| state.full.is_none() && !state.closed;
        let (mut state, _) =
            self.changed.wait_timeout_while(state, patience, waits).unwrap_or_else(PoisonError::into_inner);
        match state.full.take() {
            Some(item) => {
                state.spare = Some(mine);
                self.changed.notify_all();
                Taken::Item(item)
            }
            None if state.closed => Taken::Closed,
            None => Taken::Nothing(mine),
        }
    }

    /// What was left can still be taken; nothing more can be left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_taken_and_what_was_missed_is_told() {
        let mailbox = Mailbox::new(0);
        assert_eq!(mailbox.put(1), Some((0, false)));
        assert_eq!(mailbox.put(2), Some((1, true)));
        assert_eq!(mailbox.take(9, Duration::ZERO), Taken::Item(2));
        assert_eq!(mailbox.take(8, Duration::ZERO), Taken::Nothing(8));
        assert_eq!(mailbox.put(3), Some((9, false)));
        mailbox.close();
        assert_eq!(mailbox.take(8, Duration::ZERO), Taken::Item(3));
        assert_eq!(mailbox.take(7, Duration::ZERO), Taken::Closed);
        assert_eq!(mailbox.put(4), None);
    }

    #[test]
    fn in_turn_nothing_is_missed() {
        let mailbox = Mailbox::new(0);
        let taken = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut hand = 0;
                for n in 1..=500 {
                    hand = n;
                    hand = mailbox.put_in_turn(hand).expect("open");
                }
                mailbox.close();
                hand
            });
            let (mut taken, mut mine) = (Vec::new(), 0);
            loop {
                match mailbox.take(mine, Duration::from_millis(1)) {
                    Taken::Item(n) => {
                        taken.push(n);
                        mine = n;
                    }
                    Taken::Nothing(back) => mine = back,
                    Taken::Closed => break taken,
                }
            }
        });
        assert_eq!(taken, (1..=500).collect::<Vec<_>>());
    }
}
