//! `nestling learn`: a source in, a checkpoint out.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::behind::{self, BackboneArgs, Opened, open_behind};
use super::device::Comparison;
use super::settings::{ModelArgs, RunArgs, UsageError};
use super::{Outcome, Told, peak_rss_bytes, progress, rounded};
use crate::guard::Frozen;
use crate::learner::{Did, Learner};
use crate::runtime::meters::GuardStatus;
use crate::runtime::{Pool, drive};
use crate::source::OpenOptions;
use crate::source::fault::{Counts, Fault};
use crate::store::{self, Saved, Snapshot, Store, StoreError, StoreOptions};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where samples come from, for example `sim:rover?samples=5000`; several follow one another.
    #[arg(long = "source", required = true, value_name = "URI")]
    sources: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    backbone: BackboneArgs,
    #[command(flatten)]
    how: RunArgs,
    /// Samples at most, over all epochs.
    #[arg(long)]
    pub(super) samples: Option<u64>,
    /// Passes over the source.
    #[arg(long, default_value_t = 1)]
    pub(super) epochs: u64,
    /// The checkpoint to write.
    #[arg(long, default_value = "nestling.safetensors", value_name = "FILE")]
    pub(super) out: PathBuf,
    /// `float`: the twin of the same algorithm in f32, to know the price of integers. It is not resumed.
    #[arg(long, default_value = "integer", conflicts_with_all = ["resume", "stop_after"])]
    arithmetic: Arithmetic,
    /// Go on from this checkpoint, with the same sources, samples and epochs as it was begun with.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Stop after this many samples, as an interrupt would; --resume goes on from there.
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,
    /// Write the checkpoint each time this many seconds have passed. 0: at the end only.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    save_every: u64,
    /// Write it each time this many samples were taken in, too: no more than these are lost at a power cut.
    #[arg(long, value_name = "N")]
    save_samples: Option<u64>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
    Integer,
    Float,
}

/// What the learner holds in memory is not what its last step left, and cannot be repaired.
#[derive(Debug, thiserror::Error)]
#[error(
    "memory was damaged: learning has stopped, and nothing was saved since\n  what to do: go on from the last checkpoint with \
     --resume; if it happens again, test the memory"
)]
struct MemoryDamaged;

pub fn run(args: &Args) -> Outcome {
    // As often as it is asked to: somebody waits for this run to end.
    let mut store = Store::open(&args.out, &StoreOptions { bytes_per_hour: None, ..StoreOptions::default() })?;
    let saved = args.resume.as_deref().map(|path| resume(&mut store, path)).transpose()?;
    let known = saved.as_ref().map(|saved| &saved.metadata);
    let opened = open_behind(&args.sources, &OpenOptions { seed: args.how.seed() }, &args.backbone, known)?;
    let source = &opened.source;
    let in_all = source.len_hint().map(|n| n.saturating_mul(args.epochs));
    let device = source.device().cloned();
    let expected = match (&device, in_all, args.samples) {
        // The board's own plan of its stream decides its bits.
        (Some(device), ..) => device.expected_samples,
        (None, Some(a), Some(b)) => Some(a.min(b)),
        (None, a, b) => a.or(b),
    };
    if let Some(reason) = saved.as_ref().and_then(|s| s.set_aside.as_ref()) {
        eprintln!("nestling: going on from the generation before, as the newest cannot be used: {reason}");
    }
    let mut spec = match &saved {
        Some(saved) => saved.spec.clone(),
        None => {
            let mut model = args.model.clone();
            model.model = model.model.or_else(|| opened.identity.as_ref().map(|_| behind::TAIL.into()));
            model.load_or(device.as_ref().map(|device| &device.spec))?
        }
    };
    opened.fit(&mut spec)?;
    let Opened { mut source, identity, .. } = opened;
    if args.samples.is_none() && in_all.is_none() {
        let problem = format!("{} has no end: say how much to learn with --samples N", source.describe());
        return Err(UsageError(problem).into());
    }
    super::settings::check_order(&spec, source.as_ref())?;
    super::settings::check_rate(&spec, source.as_ref())?;
    let mut options = args.how.options(&spec, expected);
    if let (Some(device), None) = (&device, args.how.seed) {
        options.seed = device.seed;
    }
    if args.arithmetic == Arithmetic::Float {
        return super::learn_float::run(args, &mut store, &spec, &options, source.as_mut());
    }
    let plan = Learner::plan(&spec, &options)?;
    let mut memory = super::memory::block(&plan)?;
    let mut learner = Learner::new(&spec, &options, &mut memory)?;
    if let Some(saved) = &saved {
        saved.restore(&mut learner)?;
        store.follows(saved);
    }
    let mut comparison = device.as_ref().map(|device| Comparison::begin(device, &learner)).transpose()?;

    let interrupted = super::interrupts()?;
    let bar = progress(expected, "learning");
    let already = learner.counters().observed;
    let begun = Instant::now();
    let (mut last_saved, mut samples_saved) = (begun, already);
    let mut snapshot = Snapshot::default();
    snapshot.stand_behind(identity.as_ref());
    let mut cut = false;
    let pool = Pool::new(options.lanes)?;
    let extent = drive::Extent { epochs: args.epochs, samples: args.samples };
    let outcome = pool.run(|workers| {
        drive::learn(&mut learner, source.as_mut(), extent, workers, |learner, did| {
            match did {
                None => bar.set_position(learner.counters().observed),
                Some(Did::Published { health, version }) => bar.set_message(format!(
                    "encoder {}, loss {:.2}, effective rank {:.1}",
                    version.0,
                    f64::from(health.loss) / 256.0,
                    f64::from(health.effective_rank) / 256.0
                )),
                Some(Did::Undone { fault, .. }) => bar.set_message(format!("lesson undone: {}", fault.name())),
                Some(Did::Damaged { part }) => {
                    bar.suspend(|| eprintln!("nestling: memory was damaged: {}", part.name()));
                }
                Some(_) => {}
            }
            let samples = learner.counters().observed;
            let due = args.save_every > 0 && last_saved.elapsed() > Duration::from_secs(args.save_every)
                || args.save_samples.is_some_and(|n| samples - samples_saved >= n);
            let whole = learner.frozen() != Some(Frozen::Damaged);
            if did.is_none() && due && whole {
                (last_saved, samples_saved) = (Instant::now(), samples);
                // Learning goes on in memory when the disk fails; the last good checkpoint is untouched.
                let outcome = snapshot.take(learner).and_then(|()| store.save(&mut snapshot));
                if let Err(problem) = outcome
                    && store.usage(last_saved).saves_failed == 1
                {
                    bar.suspend(|| eprintln!("nestling: the checkpoint was not written, learning goes on: {problem}"));
                }
            }
            if let (None, Some(comparison)) = (did, &mut comparison) {
                comparison.compare(learner, false);
            }
            cut = !whole || interrupted.load(Ordering::Relaxed) || args.stop_after.is_some_and(|n| samples >= n);
            !cut
        })
    });
    let refused = match outcome {
        Ok(refused) => refused,
        Err(problem) => {
            // All that was due was done: what was learned before the source failed can be gone on from.
            if learner.counters().observed > already {
                bar.finish_and_clear();
                snapshot.take(&mut learner)?;
                store.save(&mut snapshot)?;
                eprintln!(
                    "nestling: {} samples were learned, and are in {}",
                    learner.counters().observed,
                    args.out.display()
                );
            }
            return Err(problem.into());
        }
    };
    if !cut {
        learner.finish();
        if let Some(comparison) = &mut comparison {
            comparison.compare(&mut learner, true);
        }
    }
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    if learner.frozen() == Some(Frozen::Damaged) {
        return Err(MemoryDamaged.into());
    }
    snapshot.take(&mut learner)?;
    store.save(&mut snapshot)?;
    let usage = store.usage(Instant::now());
    let mut told = told(args, &mut learner, source.as_ref(), plan.ram_bytes, already, seconds, cut);
    told.json["saves"] = usage.saves.into();
    told.json["saves_failed"] = usage.saves_failed.into();
    told.json["bytes_written"] = usage.bytes_written.into();
    tell_faults(&mut told, refused, source.injected());
    if let Some(comparison) = comparison {
        comparison.tell(&mut told);
    }
    Ok(told)
}

/// What the checkpoint at `path`, which may be the one that is to be written, holds.
fn resume(store: &mut Store, path: &Path) -> Result<Saved, StoreError> {
    let own = if path == store.path() { store.newest()? } else { None };
    own.map_or_else(|| store::read(path), Ok)
}

/// Samples that did not fit, and what was done to them on purpose.
fn tell_faults(told: &mut Told, refused: u64, injected: Option<Counts>) {
    told.json["refused"] = refused.into();
    if refused > 0 {
        told.text += &format!("\n  refused       {refused} samples that do not fit the model");
    }
    let Some(counts) = injected else { return };
    let met = Fault::ALL.into_iter().filter(|fault| counts.of(*fault) > 0);
    let met: Vec<_> = met.map(|fault| (fault.name(), counts.of(fault))).collect();
    let list: Vec<_> = met.iter().map(|(name, n)| format!("{name} {n}")).collect();
    told.text +=
        &format!("\n  faults        {}; {} read, {} passed on", list.join(", "), counts.read, counts.delivered);
    let faults: serde_json::Map<_, _> = met.into_iter().map(|(name, n)| (name.into(), n.into())).collect();
    told.json["injected"] = json!({
        "read": counts.read,
        "delivered": counts.delivered,
        "held": counts.held,
        "faults": faults,
    });
}

fn told(
    args: &Args,
    learner: &mut Learner,
    source: &dyn crate::source::Source,
    ram_bytes_planned: usize,
    already: u64,
    seconds: f64,
    cut: bool,
) -> Told {
    let state_hash = store::state_hash(learner);
    let (c, health, meters) = (*learner.counters(), learner.health(), learner.meters());
    let rate = (c.observed - already) as f64 / seconds.max(1e-9);
    let effective_rank = f64::from(health.effective_rank) / 256.0;
    let json = json!({
        "samples": c.observed,
        "steps": c.steps,
        "seconds": rounded(seconds, 3),
        "samples_per_second": rounded(rate, 1),
        "checkpoint": args.out,
        "state_hash": state_hash,
        "loss_first": rounded(c.loss_first as f64 / 256.0, 3),
        "loss_last": rounded(c.loss_running as f64 / 4096.0, 3),
        "effective_rank": rounded(effective_rank, 2),
        "spread": rounded(f64::from(health.spread) / 32768.0, 4),
        "saturation": rounded(f64::from(health.saturation) / 65536.0, 5),
        "lessons_published": c.lessons_published,
        "lessons_rolled_back": c.lessons_rolled_back,
        "frozen": learner.frozen().map(Frozen::name),
        "guard": GuardStatus::of(&meters),
        "encoder_version": c.version,
        "skipped": source.skipped(),
        "complete": !cut,
        "kernels": crate::kernels::Kernels::detect().name(),
        "ram_bytes_planned": ram_bytes_planned,
        "peak_rss_bytes": peak_rss_bytes(),
    });
    let skipped = match source.skipped() {
        0 => String::new(),
        n => format!("  passed over   {n} damaged samples\n"),
    };
    let text = format!(
        "learned from {}\n  samples       {} in {seconds:.1} s, {rate:.0} a second\n{skipped}  steps         {}, loss {:.2} to \
         {:.2}\n  lessons       {} published, {} undone; effective rank {effective_rank:.2}\n  checkpoint    {}\n  \
         state hash    {state_hash}",
        source.describe(),
        c.observed,
        c.steps,
        c.loss_first as f64 / 256.0,
        c.loss_running as f64 / 4096.0,
        c.lessons_published,
        c.lessons_rolled_back,
        args.out.display(),
    );
    Told { text, json }
}
