//! `nestling import NETWORK.onnx`: an encoder of ours back into a checkpoint, or a network of others into integers.

use std::error::Error;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::settings::UsageError;
use super::super::{Outcome, Told, rounded};
use crate::augment::fit;
use crate::kernels::{Kernels, Map};
use crate::learner::{Learner, Options};
use crate::onnx::calibrate::{self, Pixels, Report};
use crate::onnx::float::FloatNetwork;
use crate::onnx::{Network, Runner, back, file, graph, lower};
use crate::sample::Seed;
use crate::source::{Data, OpenOptions, Record, open};
use crate::store;

/// What of `nestling import` is for networks.
#[derive(clap::Args, Debug)]
pub struct ImportArgs {
    /// A network of others: samples that its exponents are found on.
    #[arg(long, value_name = "URI")]
    calibrate: Vec<String>,
    /// Samples taken of them.
    #[arg(long, default_value_t = 64, value_name = "N")]
    samples: usize,
    /// The tensor that is to be the feature, where it is not the network's output.
    #[arg(long, value_name = "TENSOR")]
    output: Option<String>,
    /// Height and width of the input, where the file leaves them free.
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = size)]
    size: Option<(usize, usize)>,
    /// What was taken off each channel of pixels between 0 and 1 in training.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', default_values_t = [0.0])]
    mean: Vec<f32>,
    /// What each channel was divided by then.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', default_values_t = [1.0])]
    deviation: Vec<f32>,
    /// Do not run the network as it came by tract.
    #[cfg(feature = "tract")]
    #[arg(long)]
    no_original: bool,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once('x').and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text} is not like 96x96"))
}

/// Whether the file at `path` is to be taken for ONNX.
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("onnx"))
}

pub fn import(path: &Path, out: &Path, args: &ImportArgs) -> Outcome {
    match back::read(path)? {
        Some(exported) => encoder(path, &exported, out),
        None => network(path, out, args),
    }
}

/// Writes a checkpoint with an encoder that `nestling export` wrote.
fn encoder(path: &Path, exported: &back::Exported, out: &Path) -> Outcome {
    let options = Options { kernels: Kernels::Reference, ..Options::new(Seed(0)) };
    let mut memory = vec![0; Learner::plan(&exported.spec, &options)?.block_len()];
    let mut learner = Learner::new(&exported.spec, &options, &mut memory)?;
    exported.restore(&mut learner)?;
    store::write(out, &mut learner)?;
    let (samples, version) = (learner.counters().observed, learner.version().0);
    let text = format!(
        "{} is now the checkpoint {}\n  model {}, encoder version {version}, {samples} samples\n  carried over  weights, \
         thresholds, shifts, scales, the stem's lesson\n  begins anew   head, momentum, replay, the guard's meters",
        path.display(),
        out.display(),
        exported.spec.name
    );
    let json = json!({
        "checkpoint": out,
        "model": exported.spec.name,
        "encoder_version": version,
        "samples": samples,
        "state_hash": store::state_hash(&mut learner),
    });
    Ok(Told { text, json })
}

/// As many numbers as there are channels.
fn by_channel(name: &str, given: &[f32], channels: usize) -> Result<Vec<f32>, UsageError> {
    match given.len() {
        1 => Ok(vec![given[0]; channels]),
        n if n == channels => Ok(given.to_vec()),
        n => Err(UsageError(format!("--{name} has {n} numbers and the network takes {channels} channels"))),
    }
}

/// At most `count` fitted frames, `[height, width, channels]`.
fn frames(uris: &[String], count: usize, map: Map) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut source = open(uris, &OpenOptions::default())?;
    let (mut record, mut frames) = (Record::default(), Vec::new());
    while frames.len() < count && source.read_next(&mut record)? {
        let Data::Image { pixels, height, width, channels } = &record.data else {
            return Err(
                UsageError("the network takes images and the source gives sensor windows or sound".into()).into()
            );
        };
        let mut fitted = vec![0; map.len()];
        fit::resize(pixels, *height, *width, *channels, map, &mut fitted);
        frames.push(fitted);
    }
    Ok(frames)
}

/// Brings in a network of others.
fn network(path: &Path, out: &Path, args: &ImportArgs) -> Outcome {
    if args.calibrate.is_empty() {
        let problem = format!("{} is a network of others: name samples with --calibrate URI", path.display());
        return Err(UsageError(problem).into());
    }
    let graph = graph::read(path)?;
    let float = lower::lower(&graph, &lower::Options { size: args.size, output: args.output.clone() })?;
    let channels = float.input.channels;
    let mean = by_channel("mean", &args.mean, channels)?;
    let deviation = by_channel("deviation", &args.deviation, channels)?;
    if !mean.iter().all(|m| m.is_finite()) || !deviation.iter().all(|d| d.is_finite() && *d > 0.0) {
        return Err(UsageError("--mean and --deviation are to be finite, and the latter above 0".into()).into());
    }
    let pixels = Pixels { mean, deviation };
    let samples = frames(&args.calibrate, args.samples, float.input)?;
    let integer = calibrate::calibrate(&float, &pixels, &samples)?;
    let mut original = Original::of(path, &graph, &float, args)?;
    let mut problem = None;
    let report = calibrate::compare(&float, &integer, &pixels, &samples, |number, by_float, ours| {
        if let Err(e) = original.compare(&pixels.normal(&samples[number]), by_float, ours) {
            problem = Some(e);
        }
    })?;
    if let Some(problem) = problem {
        return Err(problem.into());
    }
    file::write(out, &integer)?;
    told(path, out, &integer, &report, &original)
}

/// The network as it came, where tract is there to run it.
struct Original {
    #[cfg(feature = "tract")]
    by_tract: Option<crate::onnx::original::Original>,
    #[cfg(feature = "tract")]
    map: Map,
    /// Largest difference of its feature and that of our floats, relative to the largest number; and the least cosine of
    /// its feature and that of integers.
    difference: f64,
    cosine: f64,
    ran: bool,
}

#[cfg(feature = "tract")]
impl Original {
    fn of(path: &Path, graph: &graph::Graph, float: &FloatNetwork, args: &ImportArgs) -> Result<Self, Box<dyn Error>> {
        let output = args.output.as_deref().unwrap_or(&graph.outputs[0]);
        let by_tract = match args.no_original {
            true => None,
            false => Some(crate::onnx::original::Original::read(path, graph, float.input, output)?),
        };
        let map = float.map(float.output);
        Ok(Original { ran: by_tract.is_some(), by_tract, map, difference: 0.0, cosine: 1.0 })
    }

    fn compare(&mut self, input: &[f32], float: &[f32], ours: &[f32]) -> Result<(), crate::onnx::OnnxError> {
        let Some(tract) = &self.by_tract else { return Ok(()) };
        let planes = tract.run(input)?;
        // Its maps stand channel by channel.
        let (channels, places) = (self.map.channels, self.map.positions());
        let theirs: Vec<f32> = (0..planes.len()).map(|at| planes[at % channels * places + at / channels]).collect();
        let largest = theirs.iter().fold(1e-20f32, |most, v| most.max(v.abs()));
        let apart = theirs.iter().zip(float).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        self.difference = self.difference.max(f64::from(apart / largest));
        self.cosine = self.cosine.min(calibrate::cosine(&theirs, ours));
        Ok(())
    }
}

#[cfg(not(feature = "tract"))]
impl Original {
    fn of(_: &Path, _: &graph::Graph, _: &FloatNetwork, _: &ImportArgs) -> Result<Self, Box<dyn Error>> {
        Ok(Original { difference: 0.0, cosine: 1.0, ran: false })
    }

    fn compare(&mut self, _: &[f32], _: &[f32], _: &[f32]) -> Result<(), crate::onnx::OnnxError> {
        Ok(())
    }
}

fn told(
    path: &Path,
    out: &Path,
    network: &Network,
    report: &Report,
    original: &Original,
) -> Result<Told, Box<dyn Error>> {
    let (weights, maps) = Runner::new(network.clone(), Kernels::detect())?.bytes();
    let (from, to): (PathBuf, PathBuf) = (path.into(), out.into());
    let mut text = format!(
        "{} is now the integer network {}\n  {} nodes, {} weights, {} multiply-adds, {} bytes to run it, a feature of {} \
         numbers\n  calibrated on {} samples\n\n  signal to noise   clamped  exponent  layer\n",
        from.display(),
        to.display(),
        network.nodes.len(),
        network.weights_len(),
        network.macs(),
        weights + maps,
        network.feature_dim(),
        report.samples
    );
    for layer in &report.layers {
        text += &format!(
            "  {:>12.1} dB {:>8.3}% {:>9}  {} ({})\n",
            layer.signal_to_noise_db,
            100.0 * layer.clamped,
            layer.exponent,
            layer.name,
            layer.op
        );
    }
    text += &format!(
        "\n  cosine of features by floats and by integers: {:.5} in the mean, {:.5} at least",
        report.cosine_mean, report.cosine_least
    );
    if original.ran {
        text += &format!(
            "\n  the network as it came, by tract: at most {:.1e} from our floats, cosine with integers {:.5} at least",
            original.difference, original.cosine
        );
    }
    let layer = |layer: &calibrate::LayerReport| {
        json!({
            "name": layer.name,
            "op": layer.op,
            "exponent": layer.exponent,
            "signal_to_noise_db": rounded(layer.signal_to_noise_db, 2),
            "clamped": rounded(layer.clamped, 6),
        })
    };
    let json = json!({
        "network": to,
        "weights": network.weights_len(),
        "macs": network.macs(),
        "bytes": weights + maps,
        "feature_dim": network.feature_dim(),
        "samples": report.samples,
        "cosine_mean": rounded(report.cosine_mean, 6),
        "cosine_least": rounded(report.cosine_least, 6),
        "original": original.ran.then(|| json!({
            "difference": rounded(original.difference, 9),
            "cosine_least": rounded(original.cosine, 6),
        })),
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
    });
    Ok(Told { text, json })
}
