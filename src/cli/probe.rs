//! `nestling probe`: how good the features of a checkpoint are, beside raw input, the untrained encoder and the stem.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::behind::{BackboneArgs, open_behind};
use super::settings::{self, UsageError};
use super::{Outcome, Told, finetune, progress};
use crate::augment::{fit, latent};
use crate::evaluate::{self, Features, Labelled, Rows, Scores, Targets};
use crate::kernels;
use crate::learner::{Learner, Options, SampleError};
use crate::net::network::Network;
use crate::net::spec::{InputKind, InputSpec, Spec};
use crate::sample::{Sample, Seed};
use crate::source::{Data, Label, OpenOptions, Record, Source};
use crate::store::{self, Saved};
use crate::twin::Twin;

/// The map of sound is pooled to so many bands and columns, a strong rival, and judged as it is as well.
const RAW_BANDS: usize = 16;
const RAW_COLUMNS: usize = 8;
/// Raw images are pooled to at most this side: 768 numbers of colour.
const RAW_SIDE: usize = 16;
/// Samples from which the untrained encoder's shifts and scales are found.
const UNTRAINED_SAMPLES: usize = 1024;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The checkpoint to judge.
    checkpoint: PathBuf,
    /// Labelled samples; without --test-source a part of them is held back, by whole groups.
    #[arg(long = "source", required = true, value_name = "URI")]
    sources: Vec<String>,
    #[command(flatten)]
    backbone: BackboneArgs,
    /// Labelled samples that the probes are tested on.
    #[arg(long = "test-source", value_name = "URI")]
    test_sources: Vec<String>,
    /// Share of the groups that probes are trained on where there is no --test-source.
    #[arg(long, default_value_t = 0.8)]
    train_share: f64,
    /// Seed of the untrained encoder, of the held-back groups and of the draws of few labels.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Do not score with 10 % and 1 % of the labels.
    #[arg(long)]
    all_labels_only: bool,
    /// Judge the learned features alone.
    #[arg(long)]
    learned_only: bool,
    /// Fine-tune head and encoder with few labels too, and the same net from scratch. Takes a minute or more.
    #[arg(long, conflicts_with = "learned_only")]
    finetune: bool,
}

/// Features of all samples of a source, and what was annotated for them.
#[derive(Default)]
pub(super) struct Rowset {
    pub(super) learned: Vec<f32>,
    untrained: Vec<f32>,
    raw: Vec<f32>,
    /// Sound: its map, not pooled.
    raw_map: Vec<f32>,
    labels: Vec<Label>,
    groups: Vec<u32>,
    segments: Vec<u32>,
    unlabelled: u64,
}

/// Opens sources, behind the backbone that there may be.
pub(super) type Opens<'a> = dyn Fn(&[String]) -> Result<Box<dyn Source>, Box<dyn Error>> + 'a;

/// The encoder to be judged, in either arithmetic.
enum Judged {
    Integer(Box<Learner<'static>>),
    Float(Box<Twin>),
}

impl Judged {
    fn network(&self) -> &Network {
        match self {
            Judged::Integer(learner) => learner.network(),
            Judged::Float(twin) => twin.network(),
        }
    }

    fn spec(&self) -> &Spec {
        match self {
            Judged::Integer(learner) => learner.spec(),
            Judged::Float(twin) => twin.spec(),
        }
    }

    /// Adds the feature of `sample` to `out`.
    fn perceive(&mut self, sample: &Sample, out: &mut Vec<f32>) -> Result<(), SampleError> {
        let dim = self.network().feature_dim;
        match self {
            Judged::Integer(learner) => {
                let mut feature = vec![0i8; dim];
                learner.perceive(sample, &mut feature)?;
                out.extend(feature.iter().map(|&v| f32::from(v)));
            }
            Judged::Float(twin) => {
                out.resize(out.len() + dim, 0.0);
                let from = out.len() - dim;
                twin.feature(sample, &mut out[from..])?;
            }
        }
        Ok(())
    }
}

/// What a checkpoint's file says of it, by key.
type Said = HashMap<String, String>;

/// Reads the checkpoint of the learner or of its float twin; gives its model and what its file says.
fn load(args: &Args) -> Result<(Judged, Spec, Said), Box<dyn Error>> {
    if store::is_float_twin(&args.checkpoint) {
        let twin = Twin::from_bytes(&std::fs::read(&args.checkpoint)?)?;
        let spec = twin.spec().clone();
        return Ok((Judged::Float(Box::new(twin)), spec, HashMap::new()));
    }
    let saved: Saved = store::read(&args.checkpoint)?;
    if let Some(reason) = &saved.set_aside {
        eprintln!("nestling: judging the generation before, as the newest cannot be used: {reason}");
    }
    let mut learner = learner_of(&saved.spec, 0)?;
    saved.restore(&mut learner)?;
    Ok((Judged::Integer(Box::new(learner)), saved.spec, saved.metadata))
}

/// A learner with its memory leaked for the life of the process: a probe runs once.
fn learner_of(spec: &Spec, seed: u64) -> Result<Learner<'static>, Box<dyn Error>> {
    let options = Options::new(Seed(seed));
    let memory = Box::leak(vec![0u8; Learner::plan(spec, &options)?.block_len()].into_boxed_slice());
    Ok(Learner::new(spec, &options, memory)?)
}

/// The encoder of the same shape that has learned nothing, its shifts and scales found on the samples.
fn untrained(spec: &Spec, args: &Args, opens: &Opens) -> Result<Learner<'static>, Box<dyn Error>> {
    let mut learner = learner_of(spec, args.seed)?;
    settle(&mut learner, opens(&args.sources)?.as_mut())?;
    Ok(learner)
}

/// Finds the shifts and scales of a learner that has learned nothing, on the first samples of `source`.
pub(super) fn settle(learner: &mut Learner, source: &mut dyn Source) -> Result<(), Box<dyn Error>> {
    let mut record = Record::default();
    for _ in 0..UNTRAINED_SAMPLES {
        if !source.read_next(&mut record)? {
            break;
        }
        learner.remember(&record.sample())?;
    }
    learner.publish_as_is();
    Ok(())
}

/// The sample as it comes, pooled where it is a large image; of sound the map that `input` makes of it, pooled.
pub(super) fn raw(input: &InputSpec, data: &Data, out: &mut Vec<f32>) {
    let mut pooled = |pixels: &[u8], from: kernels::Map, to: kernels::Map| {
        let mut small = vec![0; to.len()];
        fit::resize(pixels, from.height, from.width, from.channels, to, &mut small);
        out.extend(small.iter().map(|&v| f32::from(v)));
    };
    match (data, levels(input, data)) {
        (_, Some(levels)) => {
            let map = kernels::Map::new(input.height, input.width, 1);
            pooled(&levels, map, kernels::Map::new(map.height.min(RAW_BANDS), map.width.min(RAW_COLUMNS), 1));
        }
        (Data::Window { readings, .. }, None) => out.extend(readings.iter().map(|&v| f32::from(v))),
        (Data::Image { pixels, height, width, channels }, None) => {
            let map = kernels::Map::new(*height, *width, *channels);
            if input.kind == InputKind::Latents {
                // The backbone alone.
                return out.extend(pixels.iter().map(|&v| f32::from(v) - f32::from(latent::ZERO)));
            }
            pooled(pixels, map, kernels::Map::new(map.height.min(RAW_SIDE), map.width.min(RAW_SIDE), map.channels));
        }
    }
}

/// The map of sound, `[bands, columns]`.
fn levels(input: &InputSpec, data: &Data) -> Option<Vec<u8>> {
    let Data::Window { readings, .. } = data else { return None };
    let log_mel = (input.kind == InputKind::Audio).then(|| input.log_mel().ok()).flatten()?;
    let (mut work, mut levels) = (vec![0; log_mel.work_len()], vec![0; input.height * input.width]);
    log_mel.clip(readings, &mut work, &mut levels);
    Some(levels)
}

fn read_all(
    source: &mut dyn Source,
    learned: &mut Judged,
    mut untrained: Option<&mut Judged>,
    what: &'static str,
) -> Result<Rowset, Box<dyn Error>> {
    let bar = progress(source.len_hint(), what);
    let input = learned.spec().input.clone();
    let (mut of_untrained, mut as_it_comes, mut maps) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = read_rows(source, |record, out| {
        bar.inc(1);
        learned.perceive(&record.sample(), out)?;
        if let Some(untrained) = untrained.as_deref_mut() {
            untrained.perceive(&record.sample(), &mut of_untrained)?;
            raw(&input, &record.data, &mut as_it_comes);
            maps.extend(levels(&input, &record.data).into_iter().flatten().map(f32::from));
        }
        Ok(())
    })?;
    (rows.untrained, rows.raw, rows.raw_map) = (of_untrained, as_it_comes, maps);
    bar.finish_and_clear();
    Ok(rows)
}

/// Reads all labelled samples of `source`; `feature` adds what the probes read of each.
pub(super) fn read_rows(
    source: &mut dyn Source,
    mut feature: impl FnMut(&Record, &mut Vec<f32>) -> Result<(), Box<dyn Error>>,
) -> Result<Rowset, Box<dyn Error>> {
    let mut rows = Rowset::default();
    let mut record = Record::default();
    while source.read_next(&mut record)? {
        let Some(label) = record.label else {
            rows.unlabelled += 1;
            continue;
        };
        feature(&record, &mut rows.learned)?;
        rows.labels.push(label);
        rows.groups.push(record.group);
        rows.segments.push(record.segment);
    }
    if rows.labels.is_empty() {
        let problem = match rows.unlabelled {
            0 => format!("{}: the source gave no sample", source.describe()),
            n => format!("{}: none of its {n} samples has a label; name one with ?label=", source.describe()),
        };
        return Err(UsageError(problem).into());
    }
    Ok(rows)
}

impl Rowset {
    pub(super) fn targets(&self) -> Result<Targets, UsageError> {
        let class = |l: &Label| if let Label::Class(c) = l { Some(*c) } else { None };
        let value = |l: &Label| if let Label::Value(v) = l { Some(*v) } else { None };
        if let Some(classes) = self.labels.iter().map(class).collect() {
            return Ok(Targets::Classes(classes));
        }
        match self.labels.iter().map(value).collect() {
            Some(values) => Ok(Targets::Values(values)),
            None => Err(UsageError("some labels are classes and some are values; use one label column".into())),
        }
    }

    /// Neighbouring rows are neighbours in time: segments are longer than a sample, on average.
    fn in_time(&self) -> bool {
        let changes = self.segments.windows(2).filter(|pair| pair[0] != pair[1]).count() + 1;
        self.segments.len() > 2 * changes
    }

    pub(super) fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// How its rows may be parted.
    pub(super) fn order(&self, seed: u64) -> Rows {
        if self.in_time() { Rows::InTime } else { Rows::Unordered { seed } }
    }

    pub(super) fn labelled(&self, values: Vec<f32>) -> Result<Labelled, UsageError> {
        let dim = values.len() / self.labels.len();
        let features = Features { dim, values };
        Ok(Labelled { features, targets: self.targets()?, groups: self.groups.clone(), time_ordered: self.in_time() })
    }
}

/// The first block of features, which is the stem's where the model's feature begins with layer 0.
fn stem_block(network: &Network) -> Option<usize> {
    let feature = &network.feature;
    match feature.first() {
        Some((0, grid)) if feature.len() > 1 => Some(grid.len()),
        _ => None,
    }
}

fn cut(values: &[f32], dim: usize, keep: usize) -> Vec<f32> {
    values.chunks_exact(dim).flat_map(|row| &row[..keep]).copied().collect()
}

pub fn run(args: &Args) -> Outcome {
    if !(args.train_share > 0.0 && args.train_share < 1.0) {
        return Err(UsageError("--train-share lies between 0 and 1".into()).into());
    }
    let (mut learned, spec, metadata) = load(args)?;
    let state_hash = metadata.get("state_hash").cloned();
    let options = OpenOptions { seed: args.seed };
    // A float twin's file does not name its backbone.
    let known = (!metadata.is_empty()).then_some(&metadata);
    let opens = |uris: &[String]| open_behind(uris, &options, &args.backbone, known).map(|opened| opened.source);
    let mut baseline = match args.learned_only {
        true => None,
        false => Some(Judged::Integer(Box::new(untrained(&spec, args, &opens)?))),
    };
    let mut source = opens(&args.sources)?;
    settings::check_rate(&spec, source.as_ref())?;
    let train = read_all(source.as_mut(), &mut learned, baseline.as_mut(), "reading")?;
    let test = if args.test_sources.is_empty() {
        None
    } else {
        let mut source = opens(&args.test_sources)?;
        settings::check_rate(&spec, source.as_ref())?;
        Some(read_all(source.as_mut(), &mut learned, baseline.as_mut(), "reading the test part")?)
    };

    let scored = |pick: &dyn Fn(&Rowset) -> Vec<f32>| -> Result<Scores, Box<dyn Error>> {
        let options = evaluate::Options { seed: args.seed, few_labels: !args.all_labels_only };
        let all = train.labelled(pick(&train))?;
        let (train_part, test_part) = match &test {
            Some(test) => (all, test.labelled(pick(test))?),
            None => {
                let split = evaluate::split(&train.groups, args.train_share, train.order(args.seed))?;
                (all.select(&split.train), all.select(&split.test))
            }
        };
        Ok(evaluate::evaluate(&train_part, &test_part, options)?)
    };
    let mut results = vec![("learned", scored(&|rows| rows.learned.clone())?)];
    let dim = learned.network().feature_dim;
    if let Some(stem) = stem_block(learned.network()) {
        results.push(("stem", scored(&|rows| cut(&rows.learned, dim, stem))?));
    }
    if baseline.is_some() {
        results.push(("untrained", scored(&|rows| rows.untrained.clone())?));
        results.push(("raw", scored(&|rows| rows.raw.clone())?));
        if !train.raw_map.is_empty() {
            results.push(("raw_map", scored(&|rows| rows.raw_map.clone())?));
        }
    }
    let mut tuned = [Map::new(), Map::new()];
    if args.finetune {
        let (Judged::Integer(learned), Some(Judged::Integer(untrained))) = (&learned, &baseline) else {
            return Err(
                UsageError("--finetune is for checkpoints in integers, and this is a float twin's".into()).into()
            );
        };
        let (sources, test_sources) = (&args.sources[..], &args.test_sources[..]);
        let (train_share, seed) = (args.train_share, args.seed);
        let from = finetune::From { sources, test_sources, train_share, seed, opens: &opens };
        tuned = finetune::run(&from, learned, untrained)?;
    }
    told(args, state_hash, &results, tuned)
}

fn told(
    args: &Args,
    state_hash: Option<String>,
    results: &[(&str, Scores)],
    [tuned, from_scratch]: [Map<String, Value>; 2],
) -> Outcome {
    let mut json = json!({ "checkpoint": args.checkpoint, "state_hash": state_hash });
    let mut rows: Vec<(&str, Value)> = Vec::new();
    for (name, scores) in results {
        let mut value = serde_json::to_value(scores)?;
        let more = [("learned", &tuned), ("untrained", &from_scratch)].into_iter().find(|(of, _)| of == name);
        if let (Some(value), Some((_, more))) = (value.as_object_mut(), more) {
            value.extend(more.clone());
        }
        rows.push((name, value));
    }
    if let (Some(json), Some((_, Value::Object(learned)))) = (json.as_object_mut(), rows.first()) {
        json.extend(learned.clone());
        json.extend(rows.iter().skip(1).map(|(name, value)| ((*name).to_string(), value.clone())));
    }
    Ok(Told { text: table(&args.checkpoint.to_string_lossy(), &rows), json })
}

/// Scores of all kinds of features, one column each.
fn table(title: &str, rows: &[(&str, Value)]) -> String {
    let mut text = format!("{title}\n{:<16}", "");
    rows.iter().for_each(|(name, _)| text += &format!("{name:>11}"));
    let Some((_, Value::Object(first))) = rows.first() else { return text };
    for key in first.keys().filter(|key| !key.ends_with("_std")) {
        text += &format!("\n{key:<16}");
        for (_, value) in rows {
            text += &match &value[key] {
                Value::Null => format!("{:>11}", "-"),
                value => format!("{:>11}", value.to_string()),
            };
        }
    }
    text
}
