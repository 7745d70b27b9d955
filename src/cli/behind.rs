//! Sources behind a backbone, as several verbs take them.

use std::collections::HashMap;
use std::error::Error;

use super::settings::UsageError;
use crate::net::spec::Spec;
use crate::source::{OpenOptions, Source, open};

/// Key of a checkpoint's metadata that names its backbone.
const KEY: &str = "backbone";

#[cfg(feature = "onnx")]
mod args {
    use std::path::PathBuf;

    /// Arguments that choose a backbone.
    #[derive(clap::Args, Clone, Debug, Default)]
    pub struct BackboneArgs {
        /// A frozen network before the learner, which then learns from its output (`--model tail`): a network that `nestling
        /// import` wrote, a checkpoint, or an ONNX file, which tract runs.
        #[arg(long, value_name = "FILE")]
        pub backbone: Option<PathBuf>,
        /// Of an ONNX file: the tensor that is taken, where it is not the output.
        #[arg(long, value_name = "TENSOR", requires = "backbone")]
        pub backbone_output: Option<String>,
        /// Of an ONNX file: what was taken off each channel of pixels between 0 and 1 in training.
        #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "backbone")]
        pub backbone_mean: Vec<f32>,
        /// Of an ONNX file: what each channel was divided by then.
        #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "backbone")]
        pub backbone_deviation: Vec<f32>,
    }
}

#[cfg(not(feature = "onnx"))]
mod args {
    /// A program without `onnx` knows no backbone.
    #[derive(clap::Args, Clone, Debug, Default)]
    pub struct BackboneArgs {}
}

pub use args::BackboneArgs;

/// Sources that were opened, and what a checkpoint is to say of their backbone.
pub struct Opened {
    pub source: Box<dyn Source>,
    pub identity: Option<String>,
    /// Height, width and channels of the latents.
    latents: Option<[usize; 3]>,
}

impl Opened {
    /// Gives the model the shape of the latents, where there are any.
    ///
    /// # Errors
    /// [`UsageError`] where the model takes something else, or latents and there are none.
    pub fn fit(&self, spec: &mut Spec) -> Result<(), UsageError> {
        let takes = spec.input.kind == crate::net::spec::InputKind::Latents;
        match self.latents {
            Some([height, width, channels]) if takes => {
                (spec.input.height, spec.input.width, spec.input.channels) = (height, width, channels);
                Ok(())
            }
            Some(_) => Err(UsageError(format!(
                "the backbone gives latents and the model {} takes something else; choose --model tail",
                spec.name
            ))),
            None if takes => Err(UsageError(format!(
                "the model {} learns behind a backbone; name one with --backbone FILE",
                spec.name
            ))),
            None => Ok(()),
        }
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
    let known = metadata.and_then(|metadata| metadata.get(KEY));
    #[cfg(feature = "onnx")]
    if let Some(path) = &args.backbone {
        use crate::onnx::backbone::{Backbone, BackboneTable, Behind};
        let is_onnx = super::onnx::is_onnx(path);
        let table = BackboneTable {
            network: (!is_onnx).then(|| path.clone()),
            onnx: is_onnx.then(|| path.clone()),
            output: args.backbone_output.clone(),
            size: None,
            mean: args.backbone_mean.clone(),
            deviation: args.backbone_deviation.clone(),
        };
        let mut backbone = Backbone::open(&table)?;
        if let Some(metadata) = metadata {
            let Some(known) = known else {
                return Err(
                    UsageError("the checkpoint was learned without a backbone; leave --backbone out".into()).into()
                );
            };
            backbone.resume(&serde_json::from_str(known)?)?;
            let _ = metadata;
        }
        let behind = Behind::new(source, backbone)?;
        let (_, map) = behind.backbone().maps();
        let identity = behind.backbone().identity().map(|identity| serde_json::to_string(&identity)).transpose()?;
        let latents = Some([map.height, map.width, map.channels]);
        return Ok(Opened { source: Box::new(behind), identity, latents });
    }
    let _ = args;
    match known {
        Some(known) => {
            let file: serde_json::Value = serde_json::from_str(known)?;
            let file = file["file"].as_str().unwrap_or("a backbone").to_string();
            Err(UsageError(format!("the checkpoint was learned behind {file}; name that file with --backbone")).into())
        }
        None => Ok(Opened { source, identity: None, latents: None }),
    }
}
