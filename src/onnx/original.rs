//! The network as it came, run by tract: what [`super::lower`] made of it is held against this. The file has been read and
//! found whole by [`super::graph`] before.

use tract_onnx::prelude::*;

use super::OnnxError;
use super::graph::Graph;
use crate::kernels::Map;

/// A network that tract runs, one input at a time.
pub struct Original {
    plan: std::sync::Arc<TypedRunnableModel>,
    /// Extents of the input.
    shape: Vec<usize>,
    /// Height and width come last.
    planes: bool,
}

impl Original {
    /// The file at `path`, of which `graph` was read, for inputs of `map`; up to the tensor `output`.
    ///
    /// # Errors
    /// [`OnnxError::Tract`].
    pub fn read(path: &std::path::Path, graph: &Graph, map: Map, output: &str) -> Result<Self, OnnxError> {
        let wrong = |e: TractError| OnnxError::Tract { path: path.display().to_string(), problem: format!("{e:#}") };
        let planes = graph.input.shape.get(1).copied().flatten() == Some(map.channels);
        let shape = match planes {
            true => vec![1, map.channels, map.height, map.width],
            false => vec![1, map.height, map.width, map.channels],
        };
        let fact = InferenceFact::dt_shape(f32::datum_type(), &shape[..]);
        // Shapes that the file tells of what lies between, which may name the batch, say nothing that tract does not find.
        let reader = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let model = reader.model_for_path(path).map_err(wrong)?;
        let mut model = model.with_input_fact(0, fact).map_err(wrong)?;
        model.select_outputs_by_name([output]).map_err(wrong)?;
        let plan = model.into_optimized().and_then(|model| model.into_runnable()).map_err(wrong)?;
        Ok(Original { plan, shape, planes })
    }

    /// Shape of what it gives for `input`.
    ///
    /// # Errors
    /// [`OnnxError::Tract`].
    pub fn shape_of(&self, input: &[f32]) -> Result<Vec<usize>, OnnxError> {
        Ok(self.output(input)?.shape().to_vec())
    }

    /// What it gives for `input`, `[height, width, channels]`, of a map in the order `[channels, height, width]`.
    ///
    /// # Errors
    /// [`OnnxError::Tract`].
    pub fn run(&self, input: &[f32]) -> Result<Vec<f32>, OnnxError> {
        let wrong = |e: TractError| OnnxError::Tract { path: "the network".into(), problem: format!("{e:#}") };
        let output = self.output(input)?;
        Ok(output.to_plain_array_view::<f32>().map_err(wrong)?.iter().copied().collect())
    }

    fn output(&self, input: &[f32]) -> Result<Tensor, OnnxError> {
        let wrong = |e: TractError| OnnxError::Tract { path: "the network".into(), problem: format!("{e:#}") };
        let mut ordered = input.to_vec();
        if self.planes {
            let (channels, places) = (self.shape[1], self.shape[2] * self.shape[3]);
            for (at, v) in ordered.iter_mut().enumerate() {
                *v = input[at % places * channels + at / places];
            }
        }
        let tensor = Tensor::from_shape(&self.shape, &ordered).map_err(wrong)?;
        let outputs = self.plan.run(tvec!(tensor.into())).map_err(wrong)?;
        Ok(outputs[0].cast_to::<f32>().map_err(wrong)?.into_owned())
    }
}
