//! `nestling learn --arithmetic float`: the float twin over the same samples.

use std::time::Instant;

use serde_json::json;

use super::learn::Args;
use super::settings::UsageError;
use super::{Outcome, Told, peak_rss_bytes, progress, rounded};
use crate::learner::Options;
use crate::net::spec::{LayerKind, Spec};
use crate::net::task::Task;
use crate::runtime::Pool;
use crate::source::{Record, Source};
use crate::store;
use crate::twin::Twin;

pub fn run(args: &Args, spec: &Spec, options: &Options, source: &mut dyn Source) -> Outcome {
    let dictionaries = spec.layer.iter().filter(|l| l.kind == LayerKind::Dictionary).count();
    if spec.pretext.iter().any(|p| p.task != Task::Contrastive) || dictionaries > 1 {
        let problem = "the float twin knows the contrastive task and one dictionary; leave out --arithmetic float";
        return Err(UsageError(problem.into()).into());
    }
    let mut twin = Twin::new(spec, options)?;
    let mut record = Record::default();
    let bar = progress(options.expected_samples, "learning in float");
    let begun = Instant::now();
    let pool = Pool::new(options.lanes)?;
    let done = |twin: &Twin| args.samples.is_some_and(|most| twin.observed() >= most);
    for epoch in 0..args.epochs {
        if epoch > 0 {
            source.rewind()?;
        }
        while !done(&twin) && source.read_next(&mut record)? {
            twin.observe(&record.sample())?;
            pool.run(|_| while twin.step().is_some() {});
            bar.set_position(twin.observed());
        }
    }
    twin.finish();
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    store::replace(&args.out, &twin.to_bytes()?)?;
    let rate = twin.observed() as f64 / seconds.max(1e-9);
    let json = json!({
        "arithmetic": "float",
        "samples": twin.observed(),
        "steps": twin.steps(),
        "seconds": rounded(seconds, 3),
        "samples_per_second": rounded(rate, 1),
        "checkpoint": args.out,
        "loss_first": rounded(f64::from(twin.loss_first()), 3),
        "loss_last": rounded(f64::from(twin.loss_running()), 3),
        "skipped": source.skipped(),
        "peak_rss_bytes": peak_rss_bytes(),
    });
    let text = format!(
        "learned in float from {}\n  samples       {} in {seconds:.1} s, {rate:.0} a second\n  steps         {}, loss \
         {:.2} to {:.2}\n  checkpoint    {}",
        source.describe(),
        twin.observed(),
        twin.steps(),
        twin.loss_first(),
        twin.loss_running(),
        args.out.display(),
    );
    Ok(Told { text, json })
}
