//! `nestling run`: perceive and learn from a stream. Features go out, one JSON object a line.
//!
//! Perceiving and learning are two threads. A live stream never waits for the learner: what does not fit into the ring
//! between them is perceived but not learned from, and counted.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;

use super::settings::{ModelArgs, RunArgs};
use super::{Outcome, Told};
use crate::learner::{Did, Learner};
use crate::runtime::Pool;
use crate::runtime::perceiver::{Exchange, Perceiver};
use crate::source::{OpenOptions, Record, Source, open};
use crate::store;

/// Samples that may wait for the learner.
const RING: usize = 64;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where samples come from: `pipe:-` for frames on standard input, or any other source.
    #[arg(long = "source", required = true, value_name = "URI")]
    sources: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    how: RunArgs,
    /// The checkpoint to go on from, where it exists, and to write.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Write the checkpoint each time this many seconds have passed.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    save_every: u64,
    /// Perceive only; the encoder stays as it is.
    #[arg(long)]
    frozen: bool,
    /// Stop after this many samples.
    #[arg(long)]
    samples: Option<u64>,
}

/// What the perceiving side counted.
#[derive(Default)]
struct Counts {
    perceived: u64,
    not_learned: u64,
    refused: u64,
    reader_left: bool,
}

pub fn run(args: &Args) -> Outcome {
    let mut source = open(&args.sources, &OpenOptions { seed: args.how.seed() })?;
    let saved = match &args.state {
        Some(path) if path.exists() || store::previous(path).exists() => Some(store::read(path)?),
        _ => None,
    };
    let spec = match &saved {
        Some(saved) => saved.spec.clone(),
        None => args.model.load_or(source.device().map(|device| &device.spec))?,
    };
    super::settings::check_rate(&spec, source.as_ref())?;
    let options = args.how.options(&spec, None);
    let plan = Learner::plan(&spec, &options)?;
    let mut memory = vec![0u8; plan.block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory)?;
    if let Some(saved) = &saved {
        saved.restore(&mut learner)?;
    }
    let live = args.sources.iter().any(|uri| uri.starts_with("pipe:") || uri.starts_with("serial:"));
    let (exchange, mut perceiver) = Exchange::new(&learner);
    let (to_learner, from_stream) = sync_channel::<Record>(RING);
    let (give_back, spare) = sync_channel::<Record>(RING + 2);
    for _ in 0..RING {
        let _ = give_back.try_send(Record::default());
    }
    let pool = Pool::new(options.lanes)?;
    let failure = Mutex::new(None);
    let counts = std::thread::scope(|scope| {
        let (exchange, failure) = (&exchange, &failure);
        let worker = scope.spawn(move || {
            let taught = pool.run(|workers| teach(args, &mut learner, from_stream, give_back, exchange, workers));
            if let Err(problem) = taught {
                *failure.lock().unwrap_or_else(|p| p.into_inner()) = Some(problem);
            }
            learner
        });
        let counts = perceive(args, source.as_mut(), &mut perceiver, exchange, &to_learner, &spare, live);
        drop(to_learner);
        worker.join().map(|learner| (counts, learner))
    });
    let Ok((counts, mut learner)) = counts else { return Err("the learner stopped unexpectedly".into()) };
    let counts = counts?;
    if let Some(path) = &args.state {
        store::write(path, &mut learner)?;
    }
    if let Some(problem) = failure.into_inner().unwrap_or_else(|p| p.into_inner()) {
        return Err(problem.into());
    }
    let c = learner.counters();
    let summary = format!(
        "perceived {}, learned from {}, not learned from {} (the learner was busy), refused {}, damaged {}; encoder {}",
        counts.perceived,
        c.observed,
        counts.not_learned,
        counts.refused,
        source.skipped(),
        c.version
    );
    eprintln!("nestling: {summary}");
    Ok(Told { text: String::new(), json: json!(null) })
}

/// The perceiving side: a feature for each sample, at the sample's own pace.
fn perceive(
    args: &Args,
    source: &mut dyn Source,
    perceiver: &mut Perceiver,
    exchange: &Exchange,
    to_learner: &SyncSender<Record>,
    spare: &Receiver<Record>,
    live: bool,
) -> Result<Counts, Box<dyn std::error::Error>> {
    let mut counts = Counts::default();
    let mut feature = vec![0i8; perceiver.feature_dim()];
    let mut line = Vec::new();
    let mut record = Record::default();
    let mut out = std::io::stdout().lock();
    while args.samples.is_none_or(|most| counts.perceived < most) && !counts.reader_left {
        if !source.read_next(&mut record)? {
            break;
        }
        perceiver.refresh(exchange);
        if let Err(problem) = perceiver.perceive(&record.sample(), &mut feature) {
            // The first sample tells whether model and source fit; a later misfit is a fault of the stream.
            if counts.perceived == 0 {
                return Err(problem.into());
            }
            counts.refused += 1;
            continue;
        }
        counts.perceived += 1;
        line.clear();
        write_line(&mut line, &record, perceiver, &feature)?;
        counts.reader_left = out.write_all(&line).and_then(|()| out.flush()).is_err();
        if args.frozen {
            continue;
        }
        // Records circulate, so that a running stream allocates nothing.
        let next = if live { spare.try_recv().ok() } else { spare.recv().ok() };
        let Some(next) = next else {
            counts.not_learned += 1;
            continue;
        };
        let full = std::mem::replace(&mut record, next);
        match to_learner.try_send(full) {
            Ok(()) => {}
            Err(TrySendError::Full(full)) if !live => {
                if to_learner.send(full).is_err() {
                    break;
                }
            }
            Err(TrySendError::Full(_)) => counts.not_learned += 1,
            Err(TrySendError::Disconnected(_)) => break,
        }
    }
    Ok(counts)
}

/// One feature: time of its sample, version of its encoder, blocks with their exponents, numbers.
fn write_line(line: &mut Vec<u8>, record: &Record, perceiver: &Perceiver, feature: &[i8]) -> std::io::Result<()> {
    write!(line, "{{\"t_us\":{},\"encoder\":{},\"blocks\":[", record.time.0, perceiver.version().0)?;
    for (i, (len, exponent)) in perceiver.exponents().enumerate() {
        write!(line, "{}[{len},{exponent}]", if i > 0 { "," } else { "" })?;
    }
    line.extend_from_slice(b"],\"feature\":[");
    for (i, v) in feature.iter().enumerate() {
        write!(line, "{}{v}", if i > 0 { "," } else { "" })?;
    }
    line.extend_from_slice(b"]}\n");
    Ok(())
}

/// The learning side: all that is due after each sample, publishing and saving.
fn teach(
    args: &Args,
    learner: &mut Learner,
    from_stream: Receiver<Record>,
    give_back: SyncSender<Record>,
    exchange: &Exchange,
    workers: &crate::runtime::Workers,
) -> Result<(), String> {
    let mut saved = Instant::now();
    while let Ok(record) = from_stream.recv() {
        let version = learner.version();
        let taken = learner.stand_beside(&record.beside).and_then(|()| learner.observe(&record.sample()));
        let _ = give_back.try_send(record);
        if taken.is_err() {
            continue;
        }
        while learner.step(workers) != Did::Idle {}
        if learner.version() != version {
            exchange.publish(learner);
        }
        if let Some(path) = args.state.as_ref().filter(|_| saved.elapsed() > Duration::from_secs(args.save_every)) {
            // Learning goes on in memory when the disk fails; the last good checkpoint is untouched.
            if let Err(problem) = store::write(path, learner) {
                eprintln!("nestling: the checkpoint was not written, learning goes on in memory: {problem}");
            }
            saved = Instant::now();
        }
    }
    Ok(())
}
