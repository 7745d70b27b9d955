//! The parts of `nestling export` and `nestling import` that speak ONNX, and other forms of a network's weights.

mod import;
mod weights;

use std::path::{Path, PathBuf};

use serde_json::json;

pub use import::{ImportArgs, import, is_onnx};

use super::{Outcome, Told};
use crate::kernels::Kernels;
use crate::learner::{Learner, Options};
use crate::onnx::{Network, back, encoder, export, file};
use crate::sample::Seed;
use crate::store;

/// In which numbers an ONNX file computes.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default)]
pub enum Format {
    /// 32-bit floats.
    #[default]
    Float,
    /// 8-bit integers by QuantizeLinear and DequantizeLinear.
    Qdq,
}

/// What of `nestling export` writes a network for other programs.
#[derive(clap::Args, Debug)]
pub struct ExportArgs {
    /// Write the encoder as this ONNX file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "board", "model"])]
    onnx: Option<PathBuf>,
    /// Numbers in which the ONNX file computes.
    #[arg(long, value_enum, default_value_t, requires = "onnx")]
    format: Format,
    /// Write its weights as floats into this safetensors file, [filters, channels, height, width].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "board", "model"])]
    safetensors: Option<PathBuf>,
    /// Write its weights, biases and shifts as arrays of a C header, [filters, height, width, channels].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "board", "model"])]
    c_header: Option<PathBuf>,
}

impl ExportArgs {
    /// Whether anything of it is asked for.
    pub fn is_given(&self) -> bool {
        self.onnx.is_some() || self.safetensors.is_some() || self.c_header.is_some()
    }
}

/// What an ONNX file says of its network, by key.
type Said = Vec<(String, String)>;

/// The encoder of a checkpoint, or a network that was imported, and what an ONNX file says of it.
fn network_of(path: &Path) -> Result<(Network, Said), Box<dyn std::error::Error>> {
    if let Some(network) = file::read(path)? {
        return Ok((network, Vec::new()));
    }
    let saved = store::read(path)?;
    let options = Options { kernels: Kernels::Reference, ..Options::new(Seed(0)) };
    let mut memory = vec![0; Learner::plan(&saved.spec, &options)?.block_len()];
    let mut learner = Learner::new(&saved.spec, &options, &mut memory)?;
    saved.restore(&mut learner)?;
    let network = encoder::of(&learner)?;
    let metadata = back::metadata(&mut learner, &network)?;
    Ok((network, metadata))
}

/// Writes the network in `from` in all forms that `args` ask for.
pub fn export(from: &Path, args: &ExportArgs) -> Outcome {
    let (network, metadata) = network_of(from)?;
    let mut written = Vec::new();
    let mut write = |path: &Path, what: &str, bytes: Vec<u8>| -> Result<(), String> {
        std::fs::write(path, &bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        written.push((path.to_path_buf(), what.to_string(), bytes.len()));
        Ok(())
    };
    if let Some(path) = &args.onnx {
        let (name, format) = match args.format {
            Format::Float => ("ONNX, float", export::Format::Float),
            Format::Qdq => ("ONNX, qdq", export::Format::Qdq),
        };
        write(path, name, export::export(&network, format, &metadata))?;
    }
    if let Some(path) = &args.safetensors {
        write(path, "safetensors, float", weights::safetensors(&network)?)?;
    }
    if let Some(path) = &args.c_header {
        write(path, "C header", weights::c_header(&network).into_bytes())?;
    }
    let mut text = format!(
        "network {}: {} weights, {} multiply-adds, a feature of {} numbers",
        network.name,
        network.weights_len(),
        network.macs(),
        network.feature_dim()
    );
    for (path, what, bytes) in &written {
        text += &format!("\n  {what:18} {bytes:>9} bytes  {}", path.display());
    }
    let file = |(path, what, bytes): &(PathBuf, String, usize)| json!({ "file": path, "form": what, "bytes": bytes });
    let json = json!({
        "network": network.name,
        "weights": network.weights_len(),
        "macs": network.macs(),
        "feature_dim": network.feature_dim(),
        "files": written.iter().map(file).collect::<Vec<_>>(),
    });
    Ok(Told { text, json })
}
