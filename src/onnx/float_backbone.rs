//! A backbone of floats, run by tract: its output becomes mantissas of one exponent, found from the first frames.

use super::OnnxError;
use super::backbone::FRAMES;
use super::calibrate::{Pixels, exponent_for};
use super::original::Original;
use super::{graph, lower};
use crate::augment::latent::ZERO;
use crate::board::BackboneTable;
use crate::kernels::Map;

/// Numbers of a frame that are kept to find the exponent by.
const KEPT: usize = 4096;

/// See the module.
pub struct FloatBackbone {
    original: Original,
    pixels: Pixels,
    input: Map,
    latents: Map,
    exponent: Option<i32>,
    kept: Vec<f32>,
    largest: f32,
    seen: usize,
}

impl FloatBackbone {
    /// The ONNX file at `path`.
    ///
    /// # Errors
    /// [`OnnxError`]
    pub fn read(path: &std::path::Path, table: &BackboneTable) -> Result<Self, OnnxError> {
        let graph = graph::read(path)?;
        let input = lower::input_map(&graph.input, table.size)?;
        let by_channel = |name: &str, given: &[f32], usual: f32| match given.len() {
            0 => Ok(vec![usual; input.channels]),
            1 => Ok(vec![given[0]; input.channels]),
            n if n == input.channels => Ok(given.to_vec()),
            n => Err(OnnxError::Backbone {
                path: path.display().to_string(),
                problem: format!("{name} has {n} numbers and the network takes {} channels", input.channels),
                remedy: "give one, or one for each channel".into(),
            }),
        };
        let mean = by_channel("mean", &table.mean, 0.0)?;
        let deviation = by_channel("deviation", &table.deviation, 1.0)?;
        if !mean.iter().all(|m| m.is_finite()) || !deviation.iter().all(|d| d.is_finite() && *d > 0.0) {
            return Err(OnnxError::Backbone {
                path: path.display().to_string(),
                problem: "mean or deviation is not finite, or a deviation not above 0".into(),
                remedy: "give those that the network was trained with".into(),
            });
        }
        let output = table.output.as_deref().unwrap_or(&graph.outputs[0]);
        let original = Original::read(path, &graph, input, output)?;
        let pixels = Pixels { mean, deviation };
        // Shapes are known for sure when it has run once.
        let shape = original.shape_of(&pixels.normal(&vec![0; input.len()]))?;
        let latents = match shape[..] {
            [1, channels, height, width] => Map::new(height, width, channels),
            [1, channels] => Map::new(1, 1, channels),
            _ => {
                return Err(OnnxError::Backbone {
                    path: path.display().to_string(),
                    problem: format!("the tensor {output} has the shape {shape:?}"),
                    remedy: "choose one of [1, channels, height, width] or [1, channels] with output".into(),
                });
            }
        };
        Ok(FloatBackbone { original, pixels, input, latents, exponent: None, kept: Vec::new(), largest: 0.0, seen: 0 })
    }

    pub fn input(&self) -> Map {
        self.input
    }

    pub fn latents(&self) -> Map {
        self.latents
    }

    /// Latents are `i8 · 2^exponent`; `None` before enough frames were seen.
    pub fn exponent(&self) -> Option<i32> {
        self.exponent
    }

    pub fn set_exponent(&mut self, exponent: i32) {
        self.exponent = Some(exponent);
    }

    /// What the network makes of a fitted frame, `[height, width, channels]`.
    ///
    /// # Errors
    /// [`OnnxError::Tract`]; [`OnnxError::NotFinite`].
    pub fn run(&self, fitted: &[u8]) -> Result<Vec<f32>, OnnxError> {
        let planes = self.original.run(&self.pixels.normal(fitted))?;
        if planes.iter().any(|v| !v.is_finite()) {
            return Err(OnnxError::NotFinite { node: "the output".into() });
        }
        let (channels, places) = (self.latents.channels, self.latents.positions());
        Ok((0..planes.len()).map(|at| planes[at % channels * places + at / channels]).collect())
    }

    /// Takes what it made of one of the first frames; after [`FRAMES`] of them there is an exponent.
    pub fn learn(&mut self, output: &[f32]) {
        let stride = (output.len() / KEPT).max(1) | 1;
        self.kept.extend(output.iter().skip(self.seen % stride).step_by(stride));
        self.largest = output.iter().fold(self.largest, |most, v| most.max(v.abs()));
        self.seen += 1;
        if self.seen == FRAMES {
            self.exponent = Some(exponent_for(&self.kept, self.largest));
            self.kept = Vec::new();
        }
    }

    /// Its output as latents: bytes that are mantissas and 128.
    pub fn write(&self, output: &[f32], out: &mut [u8]) {
        let unit = 2f32.powi(-self.exponent.unwrap_or(0));
        for (o, value) in out.iter_mut().zip(output) {
            *o = ((value * unit).round_ties_even().clamp(-127.0, 127.0) as i8) as u8 ^ ZERO;
        }
    }
}
