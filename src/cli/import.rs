//! `nestling import`: an image in, a checkpoint out.

use std::path::PathBuf;

use serde_json::json;

use super::{Outcome, Told};
use crate::image::Image;
use crate::kernels::Kernels;
use crate::learner::{Learner, Options};
use crate::sample::Seed;
use crate::store;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// An image that `nestling export` or a board wrote; or, by the ending .onnx, a network.
    image: PathBuf,
    /// The checkpoint to write.
    #[arg(long, default_value = "nestling.safetensors", value_name = "FILE")]
    out: PathBuf,
    #[cfg(feature = "onnx")]
    #[command(flatten)]
    network: super::onnx::ImportArgs,
}

/// The bytes of a file at an address that an image may have.
pub struct Block {
    words: Vec<u64>,
    len: usize,
}

impl Block {
    pub fn read(path: &std::path::Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self::of(&bytes))
    }

    pub fn of(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Block { words, len: bytes.len() }
    }

    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

pub fn run(args: &Args) -> Outcome {
    #[cfg(feature = "onnx")]
    if super::onnx::is_onnx(&args.image) {
        return super::onnx::import(&args.image, &args.out, &args.network);
    }
    let block = Block::read(&args.image)?;
    let wrong = |problem: &dyn std::fmt::Display| format!("{}: {problem}", args.image.display());
    let image = Image::parse(block.bytes()).map_err(|e| wrong(&e))?;
    let options = Options { kernels: Kernels::Reference, ..image.options(Options::new(Seed(0))) };
    let plan = Learner::plan(image.spec(), &options).map_err(|e| wrong(&e))?;
    let mut memory = vec![0; plan.block_len()];
    let mut place = None;
    let learner = image.learner(&options, &mut memory, &mut place).map_err(|e| wrong(&e))?;
    store::write(&args.out, learner)?;
    let (hash, samples) = (store::state_hash(learner), learner.counters().observed);
    let text = format!(
        "{} is now the checkpoint {}\n  model {}, {samples} samples\n  state hash {hash}",
        args.image.display(),
        args.out.display(),
        image.spec().name
    );
    let json = json!({
        "checkpoint": args.out,
        "model": image.spec().name,
        "seed": options.seed.0,
        "expected_samples": options.expected_samples,
        "samples": samples,
        "state_hash": hash,
    });
    Ok(Told { text, json })
}
