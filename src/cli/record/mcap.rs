//! Samples of any source to an MCAP file.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::{Outcome, Told, interrupts, progress};
use super::Args;
use crate::recording::writer::{About, Writer};
use crate::source::{OpenOptions, Record, open};

/// What was recorded is in the file at most this much later.
const FLUSH: Duration = Duration::from_secs(1);

pub fn run(args: &Args) -> Outcome {
    let interrupted = interrupts()?;
    let mut source = open(std::slice::from_ref(&args.source), &OpenOptions { seed: args.seed })?;
    let mut about = About::of(source.as_ref());
    about.expected = about.expected.into_iter().chain(args.samples).min();
    let mut writer = Writer::create(&args.out, &about)?;
    let bar = progress(args.samples.or(source.len_hint()), "recording");
    let mut record = Record::default();
    let (mut samples, mut flushed) = (0, Instant::now());
    let mut problem = None;
    while args.samples.is_none_or(|most| samples < most) && !interrupted.load(Ordering::Relaxed) {
        match source.read_next(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            // What was recorded until then is kept.
            Err(error) => {
                problem = Some(error);
                break;
            }
        }
        writer.sample(&record, true)?;
        samples += 1;
        bar.set_position(samples);
        if flushed.elapsed() >= FLUSH {
            writer.flush()?;
            flushed = Instant::now();
        }
    }
    let bytes = writer.written();
    writer.finish()?;
    bar.finish_and_clear();
    if let Some(problem) = problem {
        let problem = format!("after {samples} samples, which are in {}: {problem}", args.out.display());
        return Err(problem.into());
    }
    let (skipped, source) = (source.skipped(), source.describe());
    let text = format!(
        "recorded {samples} samples of {source} to {}, {:.1} MB; {skipped} damaged ones were passed over",
        args.out.display(),
        bytes as f64 / 1e6
    );
    let json = json!({ "file": args.out, "source": source, "samples": samples, "skipped": skipped, "bytes": bytes });
    Ok(Told { text, json })
}
