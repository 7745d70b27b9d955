//! The reading thread: takes samples from the source as they come, leaves the newest for the perceiver, and opens a source
//! that has vanished again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::status::Watched;
use crate::runtime::mailbox::Mailbox;
use crate::sample::Micros;
use crate::source::{OpenOptions, Record, Source, SourceError, open};

/// First wait before a source is opened again.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A sample and when it came.
pub struct Arrived {
    pub record: Record,
    pub at: Instant,
}

impl Default for Arrived {
    fn default() -> Self {
        Arrived { record: Record::default(), at: Instant::now() }
    }
}

/// What is known of the source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceStatus {
    pub uri: Vec<String>,
    /// It is open and has not ended.
    pub open: bool,
    pub samples: u64,
    /// Samples that were replaced by newer ones before anyone could perceive them.
    pub missed: u64,
    /// Damaged samples that the source passed over.
    pub damaged: u64,
    /// Times that it was opened again.
    pub reopened: u64,
    /// Why it is not open, or was not the last time.
    pub problem: Option<String>,
}

/// How a source is to be read.
pub struct Reading {
    pub uris: Vec<String>,
    pub seed: u64,
    /// What has vanished is opened again.
    pub comes_back: bool,
    /// The source goes on without us: nothing waits for the perceiver.
    pub live: bool,
    /// Samples come no sooner than their timestamps say.
    pub pace: bool,
    pub reopen_at_most: Duration,
}

/// The source goes on without us, whoever reads it.
pub fn is_live(uris: &[String]) -> bool {
    const LIVE: [&str; 10] =
        ["pipe:", "camera:", "zenoh:", "rpicam:", "alsa:", "serial:", "imu:", "tof:", "adc:", "iio:"];
    uris.iter().any(|uri| LIVE.iter().any(|live| uri.starts_with(live)))
}

/// The source's first opening must wait for a writer, and so belongs on the reading thread.
pub fn opens_late(uris: &[String]) -> bool {
    uris.iter().any(|uri| {
        let path = uri.strip_prefix("pipe:").map(|rest| rest.split('?').next().unwrap_or(rest));
        path.is_some_and(|path| path != "-" && is_fifo(Path::new(path)))
    })
}

fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo())
}

impl Reading {
    /// Standard input cannot be opened a second time.
    fn can_reopen(&self) -> bool {
        self.comes_back && !self.uris.iter().any(|uri| uri.starts_with("pipe:-"))
    }

    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        open(&self.uris, &OpenOptions { seed: self.seed })
    }

    /// Reads until the source ends for good or the mailbox is closed; then closes it. `opened` is the source, where it
    /// was opened before.
    ///
    /// # Errors
    /// [`SourceError`] of a source that cannot be opened again.
    pub fn run(
        self,
        opened: Option<Box<dyn Source>>,
        mailbox: &Mailbox<Arrived>,
        status: &Arc<Watched<SourceStatus>>,
    ) -> Result<(), SourceError> {
        let result = self.read(opened, mailbox, status);
        status.change(|s| s.open = false);
        mailbox.close();
        result
    }

    fn read(
        &self,
        opened: Option<Box<dyn Source>>,
        mailbox: &Mailbox<Arrived>,
        status: &Arc<Watched<SourceStatus>>,
    ) -> Result<(), SourceError> {
        let mut hand = Arrived::default();
        let mut clock = Clock::default();
        let mut wait = FIRST_WAIT;
        let mut damaged_before = 0;
        let mut source = match opened {
            Some(source) => Ok(source),
            None => self.open(),
        };
        loop {
            let problem = match source {
                Ok(mut open) => {
                    status.change(|s| (s.open, s.problem) = (true, None));
                    if self.live {
                        eprintln!("nestling: reading {}", open.describe());
                    }
                    clock.begin();
                    let ended = loop {
                        match open.read_next(&mut hand.record) {
                            Ok(true) => {}
                            Ok(false) => break None,
                            Err(problem) => break Some(problem),
                        }
                        wait = FIRST_WAIT;
                        clock.set(&mut hand.record);
                        if self.pace {
                            clock.pace(&hand.record);
                        }
                        hand.at = Instant::now();
                        let left = if self.live {
                            mailbox.put(hand)
                        } else {
                            mailbox.put_in_turn(hand).map(|spare| (spare, false))
                        };
                        let Some((spare, missed)) = left else { return Ok(()) };
                        hand = spare;
                        status.change(|s| {
                            s.samples += 1;
                            s.missed += u64::from(missed);
                            s.damaged = damaged_before + open.skipped();
                        });
                    };
                    damaged_before += open.skipped();
                    ended
                }
                Err(problem) => Some(problem),
            };
            let hopeless = problem.as_ref().is_some_and(|problem| !problem.is_passing());
            if !self.can_reopen() || hopeless {
                return problem.map_or(Ok(()), Err);
            }
            let text = problem.map_or("it ended".to_string(), |p| p.to_string());
            if status.get().open {
                eprintln!("nestling: the source is gone and will be opened again: {text}");
            }
            status.change(|s| (s.open, s.problem) = (false, Some(text)));
            std::thread::sleep(wait);
            wait = (2 * wait).min(self.reopen_at_most);
            source = self.open();
            if source.is_ok() {
                status.change(|s| s.reopened += 1);
                eprintln!("nestling: the source is open again");
            }
        }
    }
}

/// One clock over a source that is opened several times: time goes on, and nobody takes samples on both sides of a gap
/// for neighbours.
#[derive(Default)]
struct Clock {
    opened: u32,
    base: u64,
    newest: u64,
    segments: u32,
    next_segment: u32,
    /// When the first sample since the last opening came, and its time.
    first: Option<(Instant, u64)>,
    /// When the newest one came.
    came: Option<Instant>,
}

impl Clock {
    fn begin(&mut self) {
        let gap = self.came.map_or(Duration::ZERO, |came| came.elapsed());
        self.base = if self.opened == 0 { 0 } else { self.newest + gap.as_micros() as u64 + 1 };
        self.segments = self.next_segment;
        self.opened += 1;
        self.first = None;
    }

    fn set(&mut self, record: &mut Record) {
        record.time = Micros(record.time.0 + self.base);
        record.segment = record.segment.saturating_add(self.segments);
        self.newest = self.newest.max(record.time.0);
        self.next_segment = self.next_segment.max(record.segment.saturating_add(1));
        self.came = Some(Instant::now());
    }

    /// Sleeps until the record's time has come.
    fn pace(&mut self, record: &Record) {
        let (begun, from) = *self.first.get_or_insert_with(|| (Instant::now(), record.time.0));
        let due = Duration::from_micros(record.time.0.saturating_sub(from));
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::mailbox::Taken;

    fn reading(uris: &[&str], live: bool) -> Reading {
        let uris = uris.iter().map(|uri| uri.to_string()).collect();
        Reading { uris, seed: 0, comes_back: live, live, pace: false, reopen_at_most: Duration::from_millis(300) }
    }

    #[test]
    fn a_pipe_that_ends_is_opened_again_with_time_and_segments_going_on() {
        let folder = tempfile::tempdir().expect("a folder");
        // A plain file stands for a device that gives two frames and is gone, again and again.
        let path = folder.path().join("device");
        std::fs::write(&path, [7u8; 24]).expect("a file");
        let uri = format!("pipe:{}?format=gray8&width=4&height=3&rate=50", path.display());
        let mailbox = Arc::new(Mailbox::new(Arrived::default()));
        let status = Arc::new(Watched::new(SourceStatus::default()));
        let (for_reader, of_reader) = (mailbox.clone(), status.clone());
        let thread = std::thread::spawn(move || reading(&[&uri], true).run(None, &for_reader, &of_reader));
        let (mut mine, mut seen) = (Arrived::default(), Vec::new());
        while seen.len() < 4 {
            match mailbox.take(mine, Duration::from_secs(5)) {
                Taken::Item(item) => {
                    seen.push((item.record.segment, item.record.time));
                    mine = item;
                }
                _ => panic!("{:?}", status.get()),
            }
        }
        mailbox.close();
        thread.join().expect("no panic").expect("closed from this side");
        assert!(seen.is_sorted() && seen[3].0 > 0, "{seen:?}");
        assert!(status.get().reopened >= 1);
    }

    #[test]
    fn a_file_is_read_to_its_end_and_no_sample_is_missed() {
        let mailbox = Mailbox::new(Arrived::default());
        let status = Arc::new(Watched::new(SourceStatus::default()));
        let samples = std::thread::scope(|scope| {
            scope.spawn(|| reading(&["sim:rover?samples=20"], false).run(None, &mailbox, &status));
            let (mut mine, mut samples) = (Arrived::default(), 0);
            loop {
                match mailbox.take(mine, Duration::from_secs(20)) {
                    Taken::Item(item) => mine = item,
                    Taken::Nothing(_) => panic!("it stopped"),
                    Taken::Closed => break samples,
                }
                samples += 1;
            }
        });
        assert_eq!((samples, status.get().samples, status.get().missed), (20, 20, 0));
    }

    #[test]
    fn words_that_no_waiting_mends_are_an_error_at_once() {
        let mailbox = Mailbox::new(Arrived::default());
        let status = Arc::new(Watched::new(SourceStatus::default()));
        let problem = reading(&["pipe:/tmp/x?format=none"], true).run(None, &mailbox, &status).expect_err("no format");
        assert!(problem.to_string().contains("format"), "{problem}");
    }
}
