//! The writing thread: features go out one line each. A reader that is slow never holds a live stream up; what it had no
//! time for is counted.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Lines that may wait for their reader.
const QUEUE: usize = 64;

/// See the module.
pub struct Output {
    to_writer: SyncSender<Vec<u8>>,
    written: Receiver<Vec<u8>>,
    reader_left: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
    live: bool,
}

impl Output {
    /// Writes to `out` on a thread of its own. Where the stream is not `live`, it waits for the reader.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(mut out: impl Write + Send + 'static, live: bool) -> Result<Self, String> {
        let (to_writer, lines) = sync_channel::<Vec<u8>>(QUEUE);
        let (give_back, written) = sync_channel(QUEUE + 1);
        for _ in 0..=QUEUE {
            let _ = give_back.try_send(Vec::new());
        }
        let reader_left = Arc::new(AtomicBool::new(false));
        let left = reader_left.clone();
        let write = move || {
            for line in lines {
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    left.store(true, Ordering::Relaxed);
                    return;
                }
                let _ = give_back.try_send(line);
            }
        };
        let thread = std::thread::Builder::new().name("nestling-output".into()).spawn(write);
        let thread = thread.map_err(|e| format!("cannot start the writing thread: {e}"))?;
        Ok(Output { to_writer, written, reader_left, thread, live })
    }

    /// Writes `text`, whole lines; `false`: the reader had no time for it.
    pub fn write(&self, text: &[u8]) -> bool {
        let empty = if self.live { self.written.try_recv().ok() } else { self.written.recv().ok() };
        let Some(mut line) = empty else { return false };
        line.clear();
        line.extend_from_slice(text);
        match self.to_writer.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(line)) if !self.live => self.to_writer.send(line).is_ok(),
            Err(_) => false,
        }
    }

    /// Nobody reads any more.
    pub fn reader_left(&self) -> bool {
        self.reader_left.load(Ordering::Relaxed)
    }

    /// Writes what is left; a reader that has stopped reading a live stream is not waited for.
    pub fn finish(self) {
        let Output { to_writer, thread, live, written, .. } = self;
        drop(to_writer);
        if !live || thread.is_finished() {
            drop(written);
            let _ = thread.join();
            return;
        }
        let patience = std::time::Instant::now();
        while !thread.is_finished() && patience.elapsed().as_millis() < 100 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
