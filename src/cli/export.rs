//! `nestling export`: a checkpoint in, the image of a board's firmware out.
//!
//! The board's model may train fewer weights than the checkpoint's, keep no momentum, judge no lesson, or remember less.
//! What fits is carried over and named; the rest begins anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::board::Board;
use super::import::Block;
use super::{Outcome, Told};
use crate::image::{self, Image};
use crate::kernels::Kernels;
use crate::learner::{Counters, Learner, Numbers, Options};
use crate::net::spec::Spec;
use crate::sample::Seed;
use crate::{model, store};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The checkpoint to export, or a network that `nestling import` made.
    checkpoint: PathBuf,
    #[cfg(feature = "onnx")]
    #[command(flatten)]
    network: super::onnx::ExportArgs,
    /// The image to write [default: the board's name, or the model's, with .img].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// See that this board has the memory for it.
    #[arg(long)]
    board: Option<String>,
    /// The board's model, where it is not the checkpoint's: a shipped one or a file.
    #[arg(long)]
    model: Option<String>,
    /// Where the boards are [default: `boards` here or in the program's source tree].
    #[arg(long, value_name = "DIR")]
    boards: Option<PathBuf>,
}

/// An image and what went into it.
pub struct Exported {
    pub bytes: Vec<u8>,
    pub state_hash: String,
    pub samples: u64,
    /// Names of tensors that the board's learner has from the checkpoint, in part or in whole, and that begin anew.
    pub carried: Vec<&'static str>,
    pub fresh: Vec<&'static str>,
}

pub fn run(args: &Args) -> Outcome {
    #[cfg(feature = "onnx")]
    if args.network.is_given() {
        return super::onnx::export(&args.checkpoint, &args.network);
    }
    let board = args.board.as_deref().map(|name| Board::find(name, args.boards.as_deref())).transpose()?;
    let spec = args.model.as_deref().map(model::load).transpose()?;
    let exported = export(&args.checkpoint, spec.as_ref())?;
    let spec = match spec {
        Some(spec) => spec,
        None => store::read(&args.checkpoint)?.spec,
    };
    let mut text = String::new();
    if let Some(board) = &board {
        text += &board.check(&Image::parse(Block::of(&exported.bytes).bytes())?)?;
        text.push('\n');
    }
    let stem = board.as_ref().map_or(spec.name.as_str(), |board| board.name.as_str());
    let out = args.image.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}.img")));
    std::fs::write(&out, &exported.bytes).map_err(|e| format!("{}: {e}", out.display()))?;
    text += &format!(
        "{} is now the image {} of {} bytes\n  model {}, {} samples\n  state hash {}\n{}",
        args.checkpoint.display(),
        out.display(),
        exported.bytes.len(),
        spec.name,
        exported.samples,
        exported.state_hash,
        exported.account()
    );
    let json = json!({
        "image": out,
        "bytes": exported.bytes.len(),
        "model": spec.name,
        "samples": exported.samples,
        "state_hash": exported.state_hash,
        "carried": exported.carried,
        "fresh": exported.fresh,
    });
    Ok(Told { text, json })
}

impl Exported {
    /// What was carried over, for people.
    pub fn account(&self) -> String {
        let mut text = format!("  carried over  {}", self.carried.join(", "));
        if !self.fresh.is_empty() {
            text += &format!("\n  begins anew   {}", self.fresh.join(", "));
        }
        text
    }
}

/// The image of the checkpoint at `path` for the model `spec`, or for its own.
pub fn export(path: &Path, spec: Option<&Spec>) -> Result<Exported, Box<dyn std::error::Error>> {
    let saved = store::read(path)?;
    if let Some(reason) = &saved.set_aside {
        eprintln!("nestling: exporting the generation before, as the newest cannot be used: {reason}");
    }
    let options = Options { kernels: Kernels::Reference, ..Options::new(Seed(0)) };
    let plan = Learner::plan(&saved.spec, &options)?;
    let mut memory = vec![0; plan.block_len()];
    let mut from = Learner::new(&saved.spec, &options, &mut memory)?;
    saved.restore(&mut from)?;
    let seed = Seed(from.counters().seed);
    let Some(spec) = spec.filter(|spec| **spec != saved.spec) else {
        let carried = names(&mut from);
        return Ok(exported(&mut from, seed, carried, Vec::new()));
    };
    check_same_encoder(&saved.spec, spec)?;
    let options = Options { seed, ..options };
    let plan = Learner::plan(spec, &options)?;
    let mut memory = vec![0; plan.block_len()];
    let mut to = Learner::new(spec, &options, &mut memory)?;
    let (carried, fresh) = carry(&mut from, &mut to);
    Ok(exported(&mut to, seed, carried, fresh))
}

fn exported(learner: &mut Learner, seed: Seed, carried: Vec<&'static str>, fresh: Vec<&'static str>) -> Exported {
    let spec = learner.spec().clone();
    let (state_hash, samples) = (store::state_hash(learner), learner.counters().observed);
    // The stream's plan is in the counters.
    let bytes = image::to_bytes(&spec, seed, None, Some(learner));
    Exported { bytes, state_hash, samples, carried, fresh }
}

fn names(learner: &mut Learner) -> Vec<&'static str> {
    let mut names = Vec::new();
    learner.visit_state(|name, mut numbers| {
        if !numbers.bytes().is_empty() {
            names.push(name);
        }
    });
    names
}

/// Weights go where they came from only where input and layers are the same but for what is trained of them.
fn check_same_encoder(from: &Spec, to: &Spec) -> Result<(), String> {
    let shape = |spec: &Spec| {
        let mut layers = spec.layer.clone();
        layers.iter_mut().for_each(|layer| layer.trained = None);
        (spec.input.clone(), layers)
    };
    if shape(from) == shape(to) {
        return Ok(());
    }
    Err(format!(
        "model {} has another input or other layers than the checkpoint's {}\n  what to do: a board's model may differ in \
         trained, [optimizer], [guard], [replay] and [contrastive]; learn {} anew for anything else",
        to.name, from.name, to.name
    ))
}

/// Copies what `to` has room for; names of what was carried and of what begins anew.
fn carry(from: &mut Learner, to: &mut Learner) -> (Vec<&'static str>, Vec<&'static str>) {
    let mut state: HashMap<&'static str, Vec<u8>> = HashMap::new();
    from.visit_state(|name, mut numbers| {
        if !numbers.bytes().is_empty() {
            state.insert(name, numbers.bytes().to_vec());
        }
    });
    // What serves is what was last accepted. A learner that judges nothing has that alone, one that does has it twice.
    let (judged, will_be_judged) = (from.spec().guard.canaries > 0, to.spec().guard.canaries > 0);
    let pairs = [
        ("learning.weights", "published.weights"),
        ("learning.thresholds", "published.thresholds"),
        ("learning.shifts", "published.shifts"),
        ("masters", "accepted.masters"),
        ("momentum", "accepted.momentum"),
    ];
    for (learning, accepted) in pairs {
        match (judged, will_be_judged) {
            (true, false) => {
                if let Some(bytes) = state.remove(accepted) {
                    state.insert(learning, bytes);
                }
            }
            (false, true) => {
                if let Some(bytes) = state.get(learning).cloned() {
                    state.insert(accepted, bytes);
                }
            }
            _ => {}
        }
    }
    let replay = |name: &str| name.starts_with("replay.");
    let mut same_replay = true;
    to.visit_state(|name, mut numbers| {
        let bytes = numbers.bytes();
        same_replay &= !replay(name) || bytes.len() == state.get(name).map_or(0, Vec::len);
    });
    let encoder = from.network().encoder_params();
    let (mut carried, mut fresh) = (Vec::new(), Vec::new());
    to.visit_state(|name, mut numbers| {
        let to = numbers.bytes();
        if to.is_empty() || of_trained(name) {
            return;
        }
        let found = state.get(name).filter(|_| same_replay || !replay(name));
        match found {
            Some(found) if found.len() == to.len() => to.copy_from_slice(found),
            // Another head: the encoder comes first.
            Some(found) if name.ends_with(".weights") => to[..encoder].copy_from_slice(&found[..encoder]),
            _ => return fresh.push(name),
        }
        carried.push(name);
    });
    carry_trained(&state, from, to, &mut carried, &mut fresh);
    to.visit_state(|name, mut numbers| {
        if name == "counters" {
            bytemuck::cast_slice_mut(numbers.bytes()).iter_mut().for_each(begin_stream);
        }
    });
    to.restored();
    (carried, fresh)
}

/// What was learned stays; the board's stream has no known end, and its step size begins anew.
fn begin_stream(counters: &mut Counters) {
    let fresh = Counters { steps: 0, lesson_progress: 0, credit: 0, undone_in_a_row: 0, horizon: 0, ..*counters };
    *counters = Counters { loss_first: 0, loss_running: 0, clamped: 0, narrowed: 0, ..fresh };
}

fn of_trained(name: &str) -> bool {
    matches!(name, "masters" | "momentum" | "accepted.masters" | "accepted.momentum")
}

/// Masters and momentum, which each model has of the weights that it trains. A weight that was not trained before gets
/// the master that it is the rounding of.
fn carry_trained(
    state: &HashMap<&'static str, Vec<u8>>,
    from: &Learner,
    to: &mut Learner,
    carried: &mut Vec<&'static str>,
    fresh: &mut Vec<&'static str>,
) {
    let (had, has) = (from.network().trained_range(), to.network().trained_range());
    let (same_head, encoder) = (had.end == has.end, from.network().encoder_params());
    let mut weights = HashMap::new();
    to.visit_state(|name, mut numbers| {
        if name.ends_with(".weights") {
            weights.insert(name, numbers.bytes().to_vec());
        }
    });
    to.visit_state(|name, numbers| {
        let Numbers::I16(to) = numbers else { return };
        if to.is_empty() || !of_trained(name) {
            return;
        }
        let known: Option<Vec<i16>> = state.get(name).map(|bytes| bytemuck::pod_collect_to_vec(bytes));
        let of_weights = match name {
            "masters" => weights.get("learning.weights"),
            "accepted.masters" => weights.get("published.weights"),
            _ => None,
        };
        for (number, value) in has.clone().zip(to) {
            let same = had.contains(&number) && (number < encoder || same_head);
            match (&known, of_weights) {
                (Some(known), _) if same => *value = known[number - had.start],
                (_, Some(weights)) => *value = i16::from(weights[number] as i8) * 256,
                _ => {}
            }
        }
        if known.is_some() { carried.push(name) } else { fresh.push(name) }
    });
}
