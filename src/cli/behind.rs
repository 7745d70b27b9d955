//! Sources behind a backbone, as several verbs take them.

use std::collections::HashMap;
use std::error::Error;
#[cfg(feature = "onnx")]
use std::time::Instant;

use super::Told;
use super::settings::{ModelArgs, UsageError};
use crate::board::BackboneTable;
use crate::kernels::Map;
use crate::net::spec::{InputKind, Spec};
use crate::runtime::daemon::Behind;
use crate::source::{OpenOptions, Record, Source, open};

/// The model that learns behind a backbone where none is named.
pub const TAIL: &str = "tail";
/// Key of a checkpoint's metadata that names its backbone.
const KEY: &str = "backbone";

#[cfg(feature = "onnx")]
mod args {
    use std::path::{Path, PathBuf};

    use crate::board::BackboneTable;

    /// Arguments that choose a backbone.
    #[derive(clap::Args, Clone, Debug, Default)]
    pub struct BackboneArgs {
        /// A frozen network before the learner, which then learns from its output (`--model tail`): a network that `nestling
        /// import` wrote, a checkpoint, or an ONNX file, which tract runs.
        #[arg(long, value_name = "FILE")]
        pub backbone: Option<PathBuf>,
        /// The tensor (ONNX) or node (network) of it that is taken, where it is not the output.
        #[arg(long, value_name = "NAME", requires = "backbone")]
        pub backbone_output: Option<String>,
        /// Of an ONNX file: what was taken off each channel of pixels between 0 and 1 in training.
        #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "backbone")]
        pub backbone_mean: Vec<f32>,
        /// Of an ONNX file: what each channel was divided by then.
        #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "backbone")]
        pub backbone_deviation: Vec<f32>,
    }

    impl BackboneArgs {
        /// Which of its outputs is taken, for people.
        pub fn of_output(&self) -> String {
            self.backbone_output.as_ref().map_or(String::new(), |name| format!(" at {name}"))
        }

        /// The arguments that choose it, as they are written.
        pub fn written(&self) -> String {
            let numbers = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
            let mut text = String::new();
            if let Some(path) = &self.backbone {
                text += &format!(" --backbone '{}'", path.display());
            }
            if let Some(name) = &self.backbone_output {
                text += &format!(" --backbone-output '{name}'");
            }
            for (flag, given) in [("mean", &self.backbone_mean), ("deviation", &self.backbone_deviation)] {
                if !given.is_empty() {
                    text += &format!(" --backbone-{flag} {}", numbers(given));
                }
            }
            text
        }

        /// As a profile says it, of the file at `path`.
        pub fn table(&self, path: &Path) -> BackboneTable {
            let is_onnx = crate::cli::onnx::is_onnx(path);
            BackboneTable {
                network: (!is_onnx).then(|| path.into()),
                onnx: is_onnx.then(|| path.into()),
                output: self.backbone_output.clone(),
                size: None,
                mean: self.backbone_mean.clone(),
                deviation: self.backbone_deviation.clone(),
            }
        }
    }
}

#[cfg(not(feature = "onnx"))]
mod args {
    /// A program without `onnx` knows no backbone.
    #[derive(clap::Args, Clone, Debug, Default)]
    pub struct BackboneArgs {}

    impl BackboneArgs {
        pub fn of_output(&self) -> String {
            String::new()
        }

        pub fn written(&self) -> String {
            String::new()
        }
    }
}

pub use args::BackboneArgs;

/// Sources that were opened, and what a checkpoint is to say of their backbone.
pub struct Opened {
    pub source: Box<dyn Source>,
    pub identity: Option<String>,
    /// Shape of the latents.
    latents: Option<Map>,
}

/// A backbone that all streams of a study stand behind. What it found on the first of them holds for the others.
#[derive(Clone, Debug, Default)]
pub struct Frozen {
    args: BackboneArgs,
    found: Option<(HashMap<String, String>, Option<Map>)>,
}

impl Frozen {
    /// The backbone of `args`, where it names one, and what it finds on `uris`.
    ///
    /// # Errors
    /// As [`open_behind`].
    pub fn find(args: &BackboneArgs, uris: &[String], options: &OpenOptions) -> Result<Self, Box<dyn Error>> {
        let opened = open_behind(uris, options, args, None)?;
        let found = opened.identity.map(|identity| (HashMap::from([(KEY.into(), identity)]), opened.latents));
        Ok(Frozen { args: args.clone(), found })
    }

    /// Name of its file, and which of its outputs; `None` where there is no backbone.
    pub fn name(&self) -> Option<String> {
        let identity: serde_json::Value = serde_json::from_str(&self.found.as_ref()?.0[KEY]).ok()?;
        Some(identity["file"].as_str()?.to_string() + &self.args.of_output())
    }

    /// # Errors
    /// As [`open_behind`].
    pub fn open(&self, uris: &[String], options: &OpenOptions) -> Result<Box<dyn Source>, Box<dyn Error>> {
        Ok(open_behind(uris, options, &self.args, self.found.as_ref().map(|(known, _)| known))?.source)
    }

    /// As [`Opened::fit`].
    ///
    /// # Errors
    /// [`UsageError`]
    pub fn fit(&self, spec: &mut Spec) -> Result<(), UsageError> {
        fit(spec, self.found.as_ref().and_then(|(_, latents)| *latents))
    }

    /// What makes of a frame the latents before they are rounded; `None` where they are integers from the start.
    ///
    /// # Errors
    /// As [`opened`].
    pub fn floats(&self) -> Result<Option<Floats>, Box<dyn Error>> {
        #[cfg(feature = "onnx")]
        if let (Some(path), Some((known, _))) = (&self.args.backbone, &self.found) {
            let backbone = opened(&self.args.table(path), Some(known))?;
            if backbone.is_float() {
                return Ok(Some(Box::new(move |record, out| {
                    out.extend(backbone.floats(record)?.unwrap_or_default());
                    Ok(())
                })));
            }
        }
        Ok(None)
    }
}

/// See [`Frozen::floats`].
pub type Floats = Box<dyn FnMut(&Record, &mut Vec<f32>) -> Result<(), Box<dyn Error>>>;

impl Opened {
    /// Gives the model the shape of the latents, where there are any.
    ///
    /// # Errors
    /// [`UsageError`] where the model takes something else, or latents and there are none.
    pub fn fit(&self, spec: &mut Spec) -> Result<(), UsageError> {
        fit(spec, self.latents)
    }
}

fn fit(spec: &mut Spec, latents: Option<Map>) -> Result<(), UsageError> {
    let takes = spec.input.kind == InputKind::Latents;
    match latents {
        Some(map) if takes => {
            (spec.input.height, spec.input.width, spec.input.channels) = (map.height, map.width, map.channels);
            Ok(())
        }
        Some(_) => Err(UsageError(format!(
            "the backbone gives latents and the model {} takes something else; choose --model {TAIL}",
            spec.name
        ))),
        None if takes => {
            Err(UsageError(format!("the model {} learns behind a backbone; name one with --backbone FILE", spec.name)))
        }
        None => Ok(()),
    }
}

/// Opens `uris`, behind the backbone of `args`, which must be the one that a checkpoint's `metadata` names.
///
/// # Errors
/// Of the sources and the backbone; [`UsageError`] where a checkpoint was learned behind one and none is named.
pub fn open_behind(
    uris: &[String],
    options: &OpenOptions,
    args: &BackboneArgs,
    metadata: Option<&HashMap<String, String>>,
) -> Result<Opened, Box<dyn Error>> {
    let source = open(uris, options)?;
    #[cfg(feature = "onnx")]
    if let Some(path) = &args.backbone {
        let backbone = opened(&args.table(path), metadata)?;
        let made = crate::onnx::backbone::Latents::new(source, backbone)?;
        let (_, map) = made.backbone().maps();
        let identity = made.backbone().identity().map(|identity| serde_json::to_string(&identity)).transpose()?;
        let latents = Some(map);
        return Ok(Opened { source: Box::new(made), identity, latents });
    }
    let _ = args;
    refuse_without(metadata)?;
    Ok(Opened { source, identity: None, latents: None })
}

/// The backbone of `table`, which must be the one that a checkpoint's `metadata` names.
///
/// # Errors
/// As [`open_behind`].
#[cfg(feature = "onnx")]
pub fn opened(
    table: &BackboneTable,
    metadata: Option<&HashMap<String, String>>,
) -> Result<crate::onnx::backbone::Backbone, Box<dyn Error>> {
    let mut backbone = crate::onnx::backbone::Backbone::open(table)?;
    if let Some(metadata) = metadata {
        let without = || UsageError("the checkpoint was learned without a backbone; leave the backbone out".into());
        let known = metadata.get(KEY).ok_or_else(without)?;
        backbone.resume(&serde_json::from_str(known)?)?;
    }
    Ok(backbone)
}

/// The backbone of a daemon, for the model `spec`, which takes its shape.
///
/// # Errors
/// As [`open_behind`], and [`Opened::fit`].
pub fn of_daemon(
    table: Option<&BackboneTable>,
    metadata: Option<&HashMap<String, String>>,
    spec: &mut Spec,
) -> Result<Behind, Box<dyn Error>> {
    let Some(table) = table else {
        refuse_without(metadata)?;
        fit(spec, None)?;
        return Ok(Behind::default());
    };
    #[cfg(not(feature = "onnx"))]
    {
        let _ = table;
        Err("this program was built without backbones: build it with `--features onnx`, or leave [backbone] away"
            .into())
    }
    #[cfg(feature = "onnx")]
    {
        let backbone = opened(table, metadata)?;
        fit(spec, Some(backbone.maps().1))?;
        Ok(Behind::new(backbone))
    }
}

/// The model of `model`, or the one for a backbone, and what there is to say of that: its work, its memory, the time of a frame
/// on this machine, and what replay takes of latents and would take of frames.
///
/// # Errors
/// As [`open_behind`], and of the model.
#[cfg_attr(not(feature = "onnx"), allow(unused_variables))]
pub fn planned(args: &BackboneArgs, model: &ModelArgs) -> Result<(Spec, Option<Told>), Box<dyn Error>> {
    #[cfg(feature = "onnx")]
    if let Some(path) = &args.backbone {
        use crate::source::Data;
        /// Frames that are timed.
        const FRAMES: u64 = 8;
        let mut backbone = opened(&args.table(path), None)?;
        let (input, latents) = backbone.maps();
        let model = ModelArgs { model: model.model.clone().or_else(|| Some(TAIL.into())), ..model.clone() };
        let mut spec = model.load()?;
        fit(&mut spec, Some(latents))?;
        let frame = |number: u64| {
            let draws = crate::fixed::random::Draws::new(crate::sample::Seed(number), 0, 0);
            let pixels = (0..input.len() as u32).map(|at| draws.bits(at) as u8).collect();
            Data::Image { pixels, height: input.height, width: input.width, channels: input.channels }
        };
        let record = |number| Record { data: frame(number), ..Record::default() };
        let (mut number, mut made) = (0, 0);
        while made < FRAMES {
            made += u64::from(backbone.apply(&mut record(number))?);
            number += 1;
        }
        let ms = backbone.mean_time().as_secs_f64() * 1e3;
        let threads = rayon::current_num_threads();
        let mut many: Vec<Record> = (0..FRAMES * threads as u64).map(record).collect();
        let begun = Instant::now();
        backbone.apply_all(&mut many)?;
        let ms_at_once = begun.elapsed().as_secs_f64() * 1e3 / many.len() as f64;
        let (of_frames, of_latents) = (spec.replay.capacity * input.len(), spec.replay.capacity * latents.len());
        let known = |n: Option<usize>| n.map_or("not told by tract".to_string(), |n| n.to_string());
        let text = format!(
            "backbone {}: frames of {}x{}x{} become latents of {}x{}x{}\n  {:>11} multiply-accumulates a frame\n  {:>11} bytes \
             of weights and maps\n  {ms:>11.3} ms a frame on this machine, {ms_at_once:.3} of many on {threads} threads\n  {of_latents:>11} bytes of latents in replay; frames \
             would take {of_frames}",
            path.display(),
            input.height,
            input.width,
            input.channels,
            latents.height,
            latents.width,
            latents.channels,
            known(backbone.macs()),
            known(backbone.bytes()),
        );
        let json = serde_json::json!({
            "macs": backbone.macs(),
            "bytes": backbone.bytes(),
            "ms": super::rounded(ms, 4),
            "ms_at_once": super::rounded(ms_at_once, 4),
            "threads": threads,
            "input": [input.height, input.width, input.channels],
            "latents": [latents.height, latents.width, latents.channels],
            "replay_bytes": of_latents,
            "replay_bytes_of_frames": of_frames,
        });
        return Ok((spec, Some(Told { text, json })));
    }
    Ok((model.load()?, None))
}

/// Refuses a checkpoint that was learned behind a backbone.
///
/// # Errors
/// [`UsageError`]
pub fn refuse_without(metadata: Option<&HashMap<String, String>>) -> Result<(), Box<dyn Error>> {
    let Some(known) = metadata.and_then(|metadata| metadata.get(KEY)) else { return Ok(()) };
    let file: serde_json::Value = serde_json::from_str(known)?;
    let file = file["file"].as_str().unwrap_or("a backbone");
    Err(UsageError(format!("the checkpoint was learned behind {file}; name that file with --backbone")).into())
}
