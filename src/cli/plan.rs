//! `nestling plan`: bytes, weights and multiply-accumulates of a model, before anything runs.

use std::path::PathBuf;

use serde_json::json;

use super::behind::{self, BackboneArgs};
use super::board::{Board, Needs};
use super::export::export;
use super::import::Block;
use super::settings::{ModelArgs, RunArgs};
use super::{Outcome, Told};
use crate::image::{self, Image};
use crate::kernels::Kernels;
use crate::learner::{Learner, Options, Plan};
use crate::net::spec::Spec;
use crate::sample::Seed;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    backbone: BackboneArgs,
    #[command(flatten)]
    how: RunArgs,
    /// Plan for these kernels; another processor may need other lengths. This processor's fastest otherwise.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(Kernels::names()))]
    kernels: Option<String>,
    /// Plan for the firmware of this board: its kernels, its model where none is named, its memory.
    #[arg(long, conflicts_with_all = ["kernels", "threads", "lean"])]
    board: Option<String>,
    /// With --board: as it will be when flashed from this checkpoint, with the weights that it does not train in flash.
    #[arg(long, value_name = "FILE", requires = "board")]
    checkpoint: Option<PathBuf>,
    /// Where the boards are [default: `boards` here or in the program's source tree].
    #[arg(long, value_name = "DIR", requires = "board")]
    boards: Option<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    match &args.board {
        Some(name) => run_board(args, &Board::find(name, args.boards.as_deref())?),
        None => {
            let (spec, before) = behind::planned(&args.backbone, &args.model)?;
            let kernels = args.kernels.as_deref().and_then(Kernels::named).unwrap_or(Kernels::detect());
            let options = Options { kernels, ..args.how.options(&spec, None) };
            let plan = Learner::plan(&spec, &options)?;
            let mut told = tell(&spec, &options, &plan);
            if let Some(before) = before {
                told.text += &format!("\n\n{}", before.text);
                told.json["backbone"] = before.json;
            }
            Ok(told)
        }
    }
}

fn run_board(args: &Args, board: &Board) -> Outcome {
    let default = board.default_model()?;
    let spec = args.model.load_or(Some(&default))?;
    let bytes = match &args.checkpoint {
        Some(checkpoint) => export(checkpoint, Some(&spec))?.bytes,
        None => image::to_bytes(&spec, Seed(args.how.seed.unwrap_or(0)), None, None),
    };
    let block = Block::of(&bytes);
    let image = Image::parse(block.bytes())?;
    let (options, plan, Needs { ram, flash }) = board.plan(&image)?;
    let mut told = tell(&spec, &options, &plan);
    let fits = ram <= board.ram_bytes && flash <= board.flash_bytes;
    told.text += &format!(
        "\n\nboard {}, {}\n  {:>11} bytes  the learner's block\n  {:>11} bytes  other variables of the firmware\n  {:>11} \
         bytes  stack\n  {ram:>11} bytes  of RAM, of {}\n\n  {:>11} bytes  image: the model and what it knows\n  {:>11} bytes  \
         the firmware's code\n  {flash:>11} bytes  of flash, of {}\n{}",
        board.name,
        board.cpu,
        plan.block_len(),
        board.firmware_ram_bytes,
        board.stack_bytes,
        board.ram_bytes,
        image.total_bytes(),
        board.firmware_flash_bytes,
        board.flash_bytes,
        if fits { "it fits" } else { "IT DOES NOT FIT" }
    );
    if let Some(json) = told.json.as_object_mut() {
        json.extend([
            ("board".into(), json!(board.name)),
            ("ram_bytes".into(), json!(ram)),
            ("flash_bytes".into(), json!(flash)),
            ("learner_bytes".into(), json!(plan.block_len())),
            ("stack_bytes".into(), json!(board.stack_bytes)),
            ("fits".into(), json!(fits)),
        ]);
    }
    Ok(told)
}

fn tell(spec: &Spec, options: &Options, plan: &Plan) -> Told {
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
        "kernels": options.kernels.name(),
        "items": items,
    });
    let mut text = format!(
        "{}: {} weights, a feature of {} numbers\n  {:>11} multiply-accumulates a feature\n  {:>11} a step of learning\n\n",
        spec.name, plan.params, plan.feature_dim, plan.macs_forward, plan.macs_step
    );
    for item in &plan.items {
        text += &format!("  {:>11} bytes  {}\n", item.bytes, item.name);
    }
    let (lanes, kernels) = (options.lanes, options.kernels.name());
    text += &format!("  {:>11} bytes  in all, with {lanes} lanes and kernels {kernels}", plan.ram_bytes);
    if plan.flash_weights > 0 {
        text += &format!("\n  {:>11} weights are read from flash", plan.flash_weights);
    }
    Told { text, json }
}
