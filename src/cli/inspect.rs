//! `nestling inspect`: what is in a checkpoint, a model file or a recording, for people.

use std::path::PathBuf;

use serde_json::json;

use super::settings::UsageError;
use super::{Outcome, Told, pictures};
use crate::kernels::Kernels;
use crate::net::network::Network;
use crate::net::spec::Spec;
use crate::{model, store};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// A checkpoint (.safetensors), a model file (.toml), the name of a shipped model, or a recording (.mcap).
    file: PathBuf,
    /// Write pictures of what a task that rebuilds gives back into this folder: samples as they are, hidden and rebuilt;
    /// of a variational encoder also samples drawn from nothing.
    #[arg(long, value_name = "DIR", requires = "sources")]
    pictures: Option<PathBuf>,
    /// Samples for the pictures.
    #[arg(long = "source", value_name = "URI", requires = "pictures")]
    sources: Vec<String>,
}

pub fn run(args: &Args) -> Outcome {
    let name = args.file.to_string_lossy();
    let is_model = name.ends_with(".toml") || model::SHIPPED.iter().any(|(shipped, _)| *shipped == name);
    if is_model {
        if args.pictures.is_some() {
            return Err(UsageError(format!("{name} is a model; pictures need a checkpoint that learned it")).into());
        }
        let spec = model::load(&name)?;
        return Ok(Told { text: layers(&spec)?, json: json!({ "model": spec }) });
    }
    if name.ends_with(".mcap") {
        if args.pictures.is_some() {
            return Err(UsageError(format!("{name} is a recording; pictures need a checkpoint")).into());
        }
        return recording(&name);
    }
    let saved = store::read(&args.file)?;
    let mut text = String::new();
    if let Some(reason) = &saved.set_aside {
        text += &format!("this is the generation before, as the newest cannot be used: {reason}\n\n");
    }
    let of = |key: &str| saved.metadata.get(key).cloned().unwrap_or_default();
    text += &format!(
        "checkpoint {}\n  encoder version  {}\n  samples          {}\n  steps            {}\n  lessons          \
         {}\n  state hash       {}\n  checksum         {}\n  comes from       {}\n\n{}\n",
        args.file.display(),
        of("encoder_version"),
        of("samples"),
        of("steps"),
        of("lesson"),
        of("state_hash"),
        saved.checksum,
        // Of a learner that was begun anew these are zeros.
        saved.parent,
        layers(&saved.spec)?
    );
    let contents = saved.contents()?;
    for (name, dtype, len) in &contents {
        text += &format!("  {len:>9} {dtype:<4} {name}\n");
    }
    let pictures = match &args.pictures {
        Some(folder) => pictures::write(&saved, folder, &args.sources)?,
        None => Vec::new(),
    };
    for picture in &pictures {
        text += &format!("  wrote {}\n", picture.display());
    }
    let tensors: Vec<_> =
        contents.iter().map(|(name, dtype, len)| json!({ "name": name, "dtype": dtype, "len": len })).collect();
    let json = json!({
        "encoder_version": of("encoder_version").parse::<u64>().ok(),
        "samples": of("samples").parse::<u64>().ok(),
        "steps": of("steps").parse::<u64>().ok(),
        "lesson": of("lesson").parse::<u64>().ok(),
        "state_hash": of("state_hash"),
        "checksum": saved.checksum.to_string(),
        "parent": saved.parent.to_string(),
        "set_aside": saved.set_aside,
        "model": saved.spec,
        "tensors": tensors,
        "pictures": pictures,
    });
    Ok(Told { text, json })
}

/// The topics of a recording, counted by reading all of it.
#[cfg(feature = "mcap")]
fn recording(path: &str) -> Outcome {
    use crate::recording::contents::Contents;
    let counted = Contents::counted(path)?;
    let indexed = Contents::indexed(path)?;
    let mut text = format!("recording {path}\n");
    for topic in &counted.topics {
        let seconds = topic.first_ns.zip(topic.last_ns).map(|(first, last)| last.saturating_sub(first) as f64 / 1e9);
        let span = seconds.map(|seconds| format!(" over {seconds:.1} s")).unwrap_or_default();
        let schema = if topic.schema.is_empty() { "no type" } else { &topic.schema };
        text += &format!("  {:>9} messages{span:<16} {}  {schema} ({})\n", topic.messages, topic.topic, topic.encoding);
        let told = indexed.as_ref().and_then(|contents| contents.find(&topic.topic));
        if let Some(told) = told.filter(|told| told.messages != topic.messages) {
            text += &format!("            where its index tells of {}\n", told.messages);
        }
    }
    if !counted.whole {
        text += "  it was cut off while it was written, and has no index\n";
    }
    if counted.damaged > 0 {
        text += &format!("  {} times something was damaged and passed over\n", counted.damaged);
    }
    Ok(Told { text, json: json!({ "recording": path, "contents": counted, "index": indexed }) })
}

#[cfg(not(feature = "mcap"))]
fn recording(_: &str) -> Outcome {
    Err("this program was built without MCAP files: build it with `cargo build --release --features mcap`".into())
}

/// The layers of a model as a table.
fn layers(spec: &Spec) -> Result<String, crate::net::error::PlanError> {
    let network = Network::new(spec, Kernels::Reference)?;
    let mut text = format!(
        "model {}: input {}x{}x{}, feature {} numbers, {} weights\n",
        spec.name,
        network.input.height,
        network.input.width,
        network.input.channels,
        network.feature_dim,
        network.encoder_params()
    );
    for (index, (layer, said)) in network.layers.iter().zip(&spec.layer).enumerate() {
        let weights: usize = network.tensors[layer.tensors.clone()].iter().map(|t| t.conv.weights()).sum();
        text += &format!(
            "  {index}  {:<10} kernel {} stride {}  -> {}x{}x{}, {weights} weights\n",
            format!("{:?}", said.kind).to_lowercase(),
            said.kernel,
            said.stride,
            layer.output.height,
            layer.output.width,
            layer.output.channels
        );
    }
    Ok(text)
}
