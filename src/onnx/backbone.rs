//! A frozen network before the learner. What it makes of a frame, 8-bit latents, takes the frame's place: the learner
//! replays and learns from latents, and never sees a pixel.
//!
//! Two kinds: a network in integers, imported or an encoder of ours, which gives the same bits everywhere; and, with the
//! feature `tract`, an ONNX file as it is, in floats, whose latents get one exponent from the first frames of the stream.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::network::{Input, Network};
use super::runner::Runner;
use super::{OnnxError, encoder, file};
use crate::augment::fit;
use crate::augment::latent::ZERO;
use crate::board::BackboneTable;
use crate::kernels::{Kernels, Map};
use crate::learner::{Learner, Options};
use crate::sample::Seed;
use crate::source::{Data, Record, Source, SourceError};

/// Frames from which a network of floats gets its exponent.
pub const FRAMES: usize = 64;

/// What a checkpoint says of the backbone that its learner stood behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The file's name, for people.
    pub file: String,
    /// BLAKE3 of the file, hex.
    pub hash: String,
    /// Height, width and channels of the latents.
    pub latents: [usize; 3],
    /// Of a network of floats: latents are `i8 · 2^exponent`.
    pub exponent: Option<i32>,
}

/// A runner, and the frame as it takes it.
struct Lane {
    runner: Runner,
    fitted: Vec<u8>,
}

enum Engine {
    /// One at least; they run beside each other.
    Integer(Vec<Lane>),
    #[cfg(feature = "tract")]
    Float(Box<super::float_backbone::FloatBackbone>),
}

/// See the module.
pub struct Backbone {
    identity: Identity,
    /// Shape of the frames that it takes.
    input: Map,
    latents: Map,
    engine: Engine,
    spent: Duration,
    frames: u64,
}

impl Backbone {
    /// Opens the backbone of `table`.
    ///
    /// # Errors
    /// [`OnnxError`]; [`OnnxError::Backbone`] where the file is no network that takes frames.
    pub fn open(table: &BackboneTable) -> Result<Self, OnnxError> {
        let wrong = |path: &Path, problem: &str, remedy: &str| OnnxError::Backbone {
            path: path.display().to_string(),
            problem: problem.into(),
            remedy: remedy.into(),
        };
        let path = table.network.as_deref().or(table.onnx.as_deref()).ok_or_else(|| {
            wrong(Path::new("[backbone]"), "it names no file", "write network = \"FILE\" or onnx = \"FILE\"")
        })?;
        if table.network.is_some() && table.onnx.is_some() {
            return Err(wrong(path, "network and onnx are both given", "leave one of them away"));
        }
        let bytes = super::back::read_bytes(path)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let (input, latents, engine) = if table.onnx.is_some() {
            #[cfg(not(feature = "tract"))]
            return Err(wrong(
                path,
                "this program was built without tract, which runs ONNX files in floats",
                "build it with `--features tract`, or import the file (`nestling import`) and name it as network",
            ));
            #[cfg(feature = "tract")]
            {
                let float = super::float_backbone::FloatBackbone::read(path, table)?;
                (float.input(), float.latents(), Engine::Float(Box::new(float)))
            }
        } else {
            let mut network = match file::parse(&path.display().to_string(), &bytes)? {
                Some(network) => network,
                None => of_checkpoint(path)?,
            };
            if let Some(output) = &table.output {
                let Some(node) = network.nodes.iter().position(|node| node.name == *output) else {
                    let names: Vec<&str> = network.nodes.iter().map(|node| node.name.as_str()).collect();
                    let problem = format!("it has no node {output}");
                    return Err(wrong(path, &problem, &format!("choose one of {}", names.join(", "))));
                };
                network.nodes.truncate(node + 1);
                network.outputs = vec![node + 1];
            }
            let input = match &network.input {
                Input::Pixels(map) | Input::Normalized { map, .. } => *map,
                _ => {
                    let remedy = "name a network that takes images";
                    return Err(wrong(path, "it takes no frames", remedy));
                }
            };
            // Several outputs, as a feature of ours has, are one vector.
            let latents = match network.outputs[..] {
                [output] => network.map(output),
                _ => Map::new(1, 1, network.feature_dim()),
            };
            (
                input,
                latents,
                Engine::Integer(vec![Lane { runner: Runner::new(network, Kernels::detect())?, fitted: Vec::new() }]),
            )
        };
        let shape = [latents.height, latents.width, latents.channels];
        let identity = Identity { file: name, hash, latents: shape, exponent: None };
        Ok(Backbone { identity, input, latents, engine, spent: Duration::ZERO, frames: 0 })
    }

    /// What a checkpoint is to say of it; `None` while its exponent is not known.
    pub fn identity(&self) -> Option<Identity> {
        self.is_ready().then(|| {
            #[cfg(feature = "tract")]
            if let Engine::Float(float) = &self.engine {
                return Identity { exponent: float.exponent(), ..self.identity.clone() };
            }
            self.identity.clone()
        })
    }

    /// Goes on as the backbone that a checkpoint names.
    ///
    /// # Errors
    /// [`OnnxError::Backbone`] where it is another.
    pub fn resume(&mut self, known: &Identity) -> Result<(), OnnxError> {
        if known.hash != self.identity.hash || known.latents != self.identity.latents {
            return Err(OnnxError::Backbone {
                path: self.identity.file.clone(),
                problem: format!("the checkpoint was learned behind {}, whose BLAKE3 is {}", known.file, known.hash),
                remedy: "name that file, or learn anew".into(),
            });
        }
        #[cfg(feature = "tract")]
        if let (Engine::Float(float), Some(exponent)) = (&mut self.engine, known.exponent) {
            float.set_exponent(exponent);
        }
        Ok(())
    }

    /// Shape of the frames that it takes, and of the latents that it gives.
    pub fn maps(&self) -> (Map, Map) {
        (self.input, self.latents)
    }

    /// It gives latents; before that a network of floats is looking for its exponent.
    pub fn is_ready(&self) -> bool {
        match &self.engine {
            Engine::Integer(_) => true,
            #[cfg(feature = "tract")]
            Engine::Float(float) => float.exponent().is_some(),
        }
    }

    /// Puts latents in place of the frame in `record`. `false`: there are none yet, as this frame was one of those from
    /// which an exponent is found.
    ///
    /// # Errors
    /// [`OnnxError::NoFrame`] where the record holds something else; what tract says.
    pub fn apply(&mut self, record: &mut Record) -> Result<bool, OnnxError> {
        let begun = Instant::now();
        #[cfg(feature = "tract")]
        if let Engine::Float(float) = &mut self.engine
            && float.exponent().is_none()
        {
            let mut fitted = Vec::new();
            fit_frame(record, self.input, &mut fitted)?;
            float.learn(&float.run(&fitted)?);
            return Ok(false);
        }
        let (input, latents) = (self.input, self.latents);
        match &mut self.engine {
            Engine::Integer(lanes) => lanes[0].run(record, input, latents)?,
            #[cfg(feature = "tract")]
            Engine::Float(float) => floats(float, record, input, latents)?,
        }
        self.spent += begun.elapsed();
        self.frames += 1;
        Ok(true)
    }

    /// The same for several records, side by side on the threads of the pool that it is called in. The latents are the bits
    /// of [`Backbone::apply`].
    ///
    /// # Errors
    /// As there; then some of the records have latents, and others not.
    ///
    /// # Panics
    /// Before [`Backbone::is_ready`].
    pub fn apply_all(&mut self, records: &mut [Record]) -> Result<(), OnnxError> {
        assert!(self.is_ready(), "its exponent is to be found first");
        let begun = Instant::now();
        let (input, latents) = (self.input, self.latents);
        match &mut self.engine {
            Engine::Integer(lanes) => {
                let wanted = rayon::current_num_threads().min(records.len()).max(1);
                while lanes.len() < wanted {
                    lanes.push(Lane { runner: lanes[0].runner.beside(), fitted: Vec::new() });
                }
                let shares = records.par_chunks_mut(records.len().div_ceil(wanted).max(1));
                lanes.par_iter_mut().zip(shares).try_for_each(|(lane, share)| {
                    share.iter_mut().try_for_each(|record| lane.run(record, input, latents))
                })?;
            }
            #[cfg(feature = "tract")]
            Engine::Float(float) => {
                let float = &**float;
                records.par_iter_mut().try_for_each(|record| floats(float, record, input, latents))?;
            }
        }
        self.spent += begun.elapsed();
        self.frames += records.len() as u64;
        Ok(())
    }

    /// It runs in floats; its latents are rounded.
    pub fn is_float(&self) -> bool {
        !matches!(self.engine, Engine::Integer(_))
    }

    /// What a network of floats makes of a frame, not rounded, `[height, width, channels]`; `None` of one of integers.
    ///
    /// # Errors
    /// As [`Backbone::apply`].
    #[cfg_attr(not(feature = "tract"), allow(unused_variables))]
    pub fn floats(&self, record: &Record) -> Result<Option<Vec<f32>>, OnnxError> {
        match &self.engine {
            Engine::Integer(_) => Ok(None),
            #[cfg(feature = "tract")]
            Engine::Float(float) => {
                let mut fitted = Vec::new();
                fit_frame(record, self.input, &mut fitted)?;
                float.run(&fitted).map(Some)
            }
        }
    }

    /// Mean time from one frame to the next so far, of frames side by side less than each of them took.
    pub fn mean_time(&self) -> Duration {
        self.spent / u32::try_from(self.frames.max(1)).unwrap_or(u32::MAX)
    }

    /// Bytes of its weights and maps; `None` where tract has them.
    pub fn bytes(&self) -> Option<usize> {
        match &self.engine {
            Engine::Integer(lanes) => {
                let (weights, maps) = lanes[0].runner.bytes();
                Some(weights + lanes.len() * (maps + self.input.len()))
            }
            #[cfg(feature = "tract")]
            Engine::Float(_) => None,
        }
    }

    /// Multiply-adds of a frame; `None` where tract has them.
    pub fn macs(&self) -> Option<usize> {
        match &self.engine {
            Engine::Integer(lanes) => Some(lanes[0].runner.network().macs()),
            #[cfg(feature = "tract")]
            Engine::Float(_) => None,
        }
    }
}

/// The frame in `record`, as the network takes it, into `fitted`.
fn fit_frame(record: &Record, input: Map, fitted: &mut Vec<u8>) -> Result<(), OnnxError> {
    let Data::Image { pixels, height, width, channels } = &record.data else { return Err(OnnxError::NoFrame) };
    if !matches!(channels, 1 | 3) || pixels.len() != height * width * channels || pixels.is_empty() {
        return Err(OnnxError::NoFrame);
    }
    fitted.resize(input.len(), 0);
    fit::resize(pixels, *height, *width, *channels, input, fitted);
    Ok(())
}

impl Lane {
    fn run(&mut self, record: &mut Record, input: Map, latents: Map) -> Result<(), OnnxError> {
        fit_frame(record, input, &mut self.fitted)?;
        self.runner.run(&self.fitted);
        let out = record.image_mut(latents.height, latents.width, latents.channels);
        out.clear();
        self.runner.extend_feature(out, |mantissa| mantissa as u8 ^ ZERO);
        Ok(())
    }
}

#[cfg(feature = "tract")]
fn floats(
    float: &super::float_backbone::FloatBackbone,
    record: &mut Record,
    input: Map,
    latents: Map,
) -> Result<(), OnnxError> {
    let mut fitted = Vec::new();
    fit_frame(record, input, &mut fitted)?;
    let output = float.run(&fitted)?;
    float.write(&output, record.image_mut(latents.height, latents.width, latents.channels));
    Ok(())
}

/// The encoder of the checkpoint at `path`.
fn of_checkpoint(path: &Path) -> Result<Network, OnnxError> {
    let saved = crate::store::read(path)?;
    let options = Options { kernels: Kernels::Reference, ..Options::new(Seed(0)) };
    let plan = |source| crate::store::StoreError::Plan { path: path.display().to_string(), source };
    let mut memory = vec![0; Learner::plan(&saved.spec, &options).map_err(plan)?.block_len()];
    let mut learner = Learner::new(&saved.spec, &options, &mut memory).map_err(plan)?;
    saved.restore(&mut learner)?;
    encoder::of(&learner)
}

/// Frames that are taken at once for each thread, of a source that ends.
const AT_ONCE: usize = 8;

/// A source behind a backbone: it gives latents. Of a recording it takes several frames at once; of a stream that does not end,
/// one at a time.
pub struct Latents {
    source: Box<dyn Source>,
    backbone: Backbone,
    /// Records with latents, the next one first, and such as may be filled again.
    ready: VecDeque<Record>,
    spare: Vec<Record>,
    /// What came after the records that are ready.
    after: Option<SourceError>,
}

impl Latents {
    /// Puts `backbone` behind `source`. Where its exponent is to be found, the first frames are read for that, and, where
    /// the source can go back, given again.
    ///
    /// # Errors
    /// Of the source, or of the backbone, as a [`SourceError`].
    pub fn new(source: Box<dyn Source>, backbone: Backbone) -> Result<Self, SourceError> {
        let mut made = Latents { source, backbone, ready: VecDeque::new(), spare: Vec::new(), after: None };
        if !made.backbone.is_ready() {
            let mut record = Record::default();
            while !made.backbone.is_ready() {
                if !made.source.read_next(&mut record)? {
                    let problem =
                        format!("it ends before {FRAMES} frames, from which the backbone's exponent is found");
                    return Err(SourceError::uri(&made.source.describe(), problem, "give a longer one"));
                }
                made.backbone.apply(&mut record).map_err(|problem| made.no_frame(&problem))?;
            }
            match made.source.rewind() {
                Ok(()) | Err(SourceError::CannotRewind(_)) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(made)
    }

    /// The backbone.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    fn no_frame(&self, problem: &OnnxError) -> SourceError {
        let remedy = "give a source of frames, and a backbone that takes them";
        SourceError::uri(&self.source.describe(), problem.to_string(), remedy)
    }

    /// Reads the next records and makes latents of them.
    fn fill(&mut self) -> Result<(), SourceError> {
        if let Some(problem) = self.after.take() {
            return Err(problem);
        }
        let most = self.source.len_hint().map_or(1, |_| AT_ONCE * rayon::current_num_threads());
        while self.ready.len() < most {
            let mut record = self.spare.pop().unwrap_or_default();
            match self.source.read_next(&mut record) {
                Ok(true) => self.ready.push_back(record),
                Ok(false) => break,
                Err(problem) if self.ready.is_empty() => return Err(problem),
                Err(problem) => {
                    self.after = Some(problem);
                    break;
                }
            }
        }
        let made = self.backbone.apply_all(self.ready.make_contiguous());
        made.map_err(|problem| {
            self.ready.clear();
            self.no_frame(&problem)
        })
    }
}

impl Source for Latents {
    fn describe(&self) -> String {
        format!("{} behind {}", self.source.describe(), self.backbone.identity.file)
    }
    fn len_hint(&self) -> Option<u64> {
        self.source.len_hint()
    }
    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        if self.ready.is_empty() {
            self.fill()?;
        }
        let Some(mut next) = self.ready.pop_front() else { return Ok(false) };
        core::mem::swap(record, &mut next);
        self.spare.push(next);
        Ok(true)
    }
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.ready.clear();
        self.after = None;
        self.source.rewind()
    }
    fn in_order(&self) -> bool {
        self.source.in_order()
    }
    fn skipped(&self) -> u64 {
        self.source.skipped()
    }
    fn class_names(&self) -> &[String] {
        self.source.class_names()
    }
    fn injected(&self) -> Option<crate::source::fault::Counts> {
        self.source.injected()
    }
}
