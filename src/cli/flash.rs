//! `nestling flash`: builds a board's firmware with a model or a checkpoint in it and brings it onto the board. An
//! emulated board is started, taught from a source over its serial port, and held against the same learner here.

mod firmware;
mod teach;

use std::path::PathBuf;

use serde_json::json;

use super::board::{Board, Runner};
use super::export::export;
use super::import::Block;
use super::settings::UsageError;
use super::{Outcome, Told};
use crate::image::{self, Image};
use crate::model;
use crate::sample::Seed;
use crate::source::{OpenOptions, open};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The board: the name of its folder under `boards/`.
    #[arg(long)]
    board: String,
    /// The model that the board is to learn: a shipped one or a file [default: the board's own].
    #[arg(long)]
    model: Option<String>,
    /// Begin from this checkpoint instead of from nothing; --model may name another model for the board, see `export`.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Seed of all random draws, where there is no checkpoint.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Emulated boards: what the board is taught.
    #[arg(long = "source", value_name = "URI")]
    sources: Vec<String>,
    /// Samples of the source at most.
    #[arg(long)]
    samples: Option<u64>,
    /// Where the boards are [default: `boards` here or in the program's source tree].
    #[arg(long, value_name = "DIR")]
    boards: Option<PathBuf>,
    /// Build only.
    #[arg(long)]
    build_only: bool,
}

pub fn run(args: &Args) -> Outcome {
    let board = Board::find(&args.board, args.boards.as_deref())?;
    if board.runner != Runner::Qemu && !args.sources.is_empty() {
        let problem = "--source teaches an emulated board; one with a sensor learns from that: flash it, then \
                       `nestling record` or `nestling run --source serial:PORT`";
        return Err(UsageError(problem.into()).into());
    }
    let mut source = match args.sources.as_slice() {
        [] => None,
        sources => Some(open(sources, &OpenOptions { seed: args.seed })?),
    };
    let in_all = source.as_ref().and_then(|source| source.len_hint());
    let samples = args.samples.or(in_all).filter(|_| source.is_some());
    if let (Some(source), None) = (&source, samples) {
        let problem = format!("{} has no end: say how much to teach with --samples N", source.describe());
        return Err(UsageError(problem).into());
    }
    let spec = args.model.as_deref().map(model::load).transpose()?;
    let mut account = String::new();
    let (spec, bytes) = match &args.checkpoint {
        Some(checkpoint) => {
            let exported = export(checkpoint, spec.as_ref())?;
            account = exported.account() + "\n";
            let spec = match spec {
                Some(spec) => spec,
                None => crate::store::read(checkpoint)?.spec,
            };
            (spec, exported.bytes)
        }
        None => {
            let spec = match spec {
                Some(spec) => spec,
                None => board.default_model()?,
            };
            let expected = samples.map(|most| in_all.map_or(most, |n| n.min(most)));
            let bytes = image::to_bytes(&spec, Seed(args.seed), expected, None);
            (spec, bytes)
        }
    };
    let fits = board.check(&Image::parse(Block::of(&bytes).bytes())?)?;
    let built = firmware::build(&board, &bytes)?;
    let mut told = Told {
        text: format!("{fits}\n{account}built {}, {} bytes of flash", built.path.display(), built.flash_bytes),
        json: json!({
            "board": board.name,
            "model": spec.name,
            "firmware": built.path,
            "flash_bytes": built.flash_bytes,
            "static_bytes": built.static_bytes,
        }),
    };
    if args.build_only {
        return Ok(told);
    }
    match (board.runner, &mut source) {
        (Runner::Qemu, Some(source)) => {
            let taught = teach::emulated(&board, &built.path, &bytes, source.as_mut(), samples.unwrap_or(0))?;
            taught.tell(&mut told);
        }
        (Runner::Qemu, None) => {
            told.text += "\n  what to do: say --source URI --samples N to start and teach this emulated board";
        }
        _ => told.text += &format!("\n{}", firmware::flash(&board, &built.path)?),
    }
    Ok(told)
}
