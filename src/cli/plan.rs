//! `nestling plan`: bytes, weights and multiply-accumulates of a model, before anything runs.

use serde_json::json;

use super::settings::{ModelArgs, RunArgs};
use super::{Outcome, Told};
use crate::learner::Learner;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    how: RunArgs,
}

pub fn run(args: &Args) -> Outcome {
    let spec = args.model.load()?;
    let options = args.how.options(&spec, None);
    let plan = Learner::plan(&spec, &options)?;
    let items: serde_json::Map<_, _> = plan.items.iter().map(|i| (i.name.to_string(), json!(i.bytes))).collect();
    let json = json!({
        "model": spec.name,
        "ram_bytes": plan.ram_bytes,
        "flash_bytes": plan.params,
        "params": plan.params,
        "feature_dim": plan.feature_dim,
        "macs_forward": plan.macs_forward,
        "macs_step": plan.macs_step,
        "lanes": options.lanes,
        "items": items,
    });
    let mut text = format!(
        "{}: {} weights, a feature of {} numbers\n  {:>11} multiply-accumulates a feature\n  {:>11} a step of learning\n\n",
        spec.name, plan.params, plan.feature_dim, plan.macs_forward, plan.macs_step
    );
    for item in &plan.items {
        text += &format!("  {:>11} bytes  {}\n", item.bytes, item.name);
    }
    text += &format!("  {:>11} bytes  in all, with {} lanes", plan.ram_bytes, options.lanes);
    Ok(Told { text, json })
}
