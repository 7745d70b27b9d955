//! `nestling plan`: bytes, weights and multiply-accumulates of a model, before anything runs.

use serde_json::json;

use super::settings::{ModelArgs, RunArgs};
use super::{Outcome, Told};
use crate::kernels::Kernels;
use crate::learner::{Learner, Options};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    how: RunArgs,
    /// Plan for these kernels; another processor may need other lengths. This processor's fastest otherwise.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(Kernels::names()))]
    kernels: Option<String>,
}

pub fn run(args: &Args) -> Outcome {
    let spec = args.model.load()?;
    let kernels = args.kernels.as_deref().and_then(Kernels::named).unwrap_or(Kernels::detect());
    let options = Options { kernels, ..args.how.options(&spec, None) };
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
        "kernels": kernels.name(),
        "items": items,
    });
    let mut text = format!(
        "{}: {} weights, a feature of {} numbers\n  {:>11} multiply-accumulates a feature\n  {:>11} a step of learning\n\n",
        spec.name, plan.params, plan.feature_dim, plan.macs_forward, plan.macs_step
    );
    for item in &plan.items {
        text += &format!("  {:>11} bytes  {}\n", item.bytes, item.name);
    }
    text +=
        &format!("  {:>11} bytes  in all, with {} lanes and kernels {}", plan.ram_bytes, options.lanes, kernels.name());
    Ok(Told { text, json })
}
