//! Samples on their way to a recording: copies, so that nobody else waits. What the recording has no time for is counted.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::source::Record;

/// Samples that may wait for the recording.
pub const QUEUE: usize = 16;

/// The perceiver's end.
pub struct Tap {
    to_writer: SyncSender<(Record, bool)>,
    spare: Receiver<Record>,
    live: bool,
}

/// The recording's end.
#[cfg_attr(not(feature = "mcap"), allow(dead_code, reason = "nothing records without MCAP files"))]
pub struct Tapped {
    samples: Receiver<(Record, bool)>,
    give_back: SyncSender<Record>,
}

/// Both ends. Where the stream is not `live`, it waits for the recording.
#[cfg_attr(not(feature = "mcap"), allow(dead_code, reason = "nothing records without MCAP files"))]
pub fn tap(live: bool) -> (Tap, Tapped) {
    let (to_writer, samples) = sync_channel(QUEUE);
    let (give_back, spare) = sync_channel(QUEUE);
    for _ in 0..QUEUE {
        let _ = give_back.try_send(Record::default());
    }
    (Tap { to_writer, spare, live }, Tapped { samples, give_back })
}

impl Tap {
    /// A copy of `record`; `None` where the recording has no time for it.
    pub fn copy(&self, record: &Record) -> Option<Record> {
        let mut copy = if self.live { self.spare.try_recv().ok() } else { self.spare.recv().ok() }?;
        record.copy_into(&mut copy);
        Some(copy)
    }

    /// Hands a copy on; `learned` tells whether the learner took the sample. `false`: the recording has ended.
    pub fn put(&self, copy: Record, learned: bool) -> bool {
        // There are no more copies than places: it is never full.
        self.to_writer.try_send((copy, learned)).is_ok()
    }
}

#[cfg_attr(not(feature = "mcap"), allow(dead_code, reason = "nothing records without MCAP files"))]
impl Tapped {
    /// The oldest sample that waits, given to `write`; `None` where none does.
    pub fn next<R>(&self, write: impl FnOnce(&Record, bool) -> R) -> Option<R> {
        let (record, learned) = self.samples.try_recv().ok()?;
        let written = write(&record, learned);
        let _ = self.give_back.try_send(record);
        Some(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Micros;

    #[test]
    fn a_recording_that_sleeps_holds_no_live_stream_up() {
        let (tap, tapped) = tap(true);
        let mut record = Record::default();
        let mut kept = 0;
        for n in 0..40 {
            record.time = Micros(n);
            kept += usize::from(tap.copy(&record).is_some_and(|copy| tap.put(copy, n % 2 == 0)));
        }
        assert_eq!(kept, QUEUE);
        let mut times = Vec::new();
        while tapped.next(|record, learned| times.push((record.time.0, learned))).is_some() {}
        assert_eq!(times, (0..QUEUE as u64).map(|n| (n, n % 2 == 0)).collect::<Vec<_>>());
        assert!(tap.copy(&record).is_some(), "what was written comes back");
    }
}
