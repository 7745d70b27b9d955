//! `nestling learn --arithmetic float`: the float twin over the same samples.

use std::error::Error;
use std::time::Instant;

use serde_json::json;

use super::learn::Args;
use super::settings::UsageError;
use super::{Outcome, Told, peak_rss_bytes, progress, rounded};
use crate::learner::{ENOUGH_FOR_SIGNS, Options};
use crate::net::spec::{LayerKind, Spec};
use crate::net::task::{PretextSpec, Task};
use crate::runtime::Pool;
use crate::runtime::drive::Extent;
use crate::source::{Record, Source};
use crate::store::Store;
use crate::twin::Twin;

/// Why the twin cannot learn `spec`, where it cannot.
pub(super) fn refusal(spec: &Spec) -> Option<&'static str> {
    let dictionaries = spec.layer.iter().filter(|l| l.kind == LayerKind::Dictionary).count();
    let unknown = |p: &PretextSpec| p.task == Task::MaskedToken;
    if dictionaries > 1 || spec.pretext.iter().any(unknown) {
        return Some("the float twin knows one dictionary and no masked tokens; leave out --arithmetic float");
    }
    let few = |p: &PretextSpec| p.task.rebuilds() && p.resolved_in(spec).is_ok_and(|p| p.batch < ENOUGH_FOR_SIGNS);
    if spec.pretext.iter().any(few) {
        return Some(
            "the float twin rebuilds in steps of 8 samples or more; set pretext.batch=8 and replay.capacity=64",
        );
    }
    let beside = spec.pretext.iter().any(|p| p.beside.is_some_and(|share| share > 0));
    beside.then_some("the float twin knows no positives that another sensor chose; set pretext.beside to 0")
}

/// Takes `twin` through `source`; `watch` is called after each sample.
pub(super) fn learn(
    twin: &mut Twin,
    source: &mut dyn Source,
    extent: Extent,
    threads: usize,
    mut watch: impl FnMut(&Twin),
) -> Result<(), Box<dyn Error>> {
    let mut record = Record::default();
    let pool = Pool::new(threads)?;
    let done = |twin: &Twin| extent.samples.is_some_and(|most| twin.observed() >= most);
    for epoch in 0..extent.epochs {
        if epoch > 0 {
            source.rewind()?;
        }
        while !done(twin) && source.read_next(&mut record)? {
            twin.observe(&record.sample())?;
            pool.run(|_| while twin.step().is_some() {});
            watch(twin);
        }
    }
    twin.finish();
    Ok(())
}

pub fn run(args: &Args, store: &mut Store, spec: &Spec, options: &Options, source: &mut dyn Source) -> Outcome {
    if let Some(reason) = refusal(spec) {
        return Err(UsageError(reason.into()).into());
    }
    let mut twin = Twin::new(spec, options)?;
    let bar = progress(options.expected_samples, "learning in float");
    let begun = Instant::now();
    let extent = Extent { epochs: args.epochs, samples: args.samples };
    learn(&mut twin, source, extent, options.lanes, |twin| bar.set_position(twin.observed()))?;
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    store.save_bytes(&twin.to_bytes()?)?;
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
