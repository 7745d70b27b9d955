//! Maps of the published encoder before they are pooled: for probes and controllers that ask where something is.

use super::{Learner, SampleError};
use crate::kernels::Map;
use crate::net::arena::Arena;
use crate::net::forward::{self, Scratch};
use crate::sample::Sample;

impl Learner<'_> {
    /// Shape of the map that [`Learner::perceive_map`] writes for `layer`; `None` where there is no such layer.
    ///
    /// Of a layer that is kept as its averages only, as another dictionary stands on it, it is the averages'.
    pub fn map_of(&self, layer: usize) -> Option<Map> {
        self.network.layers.get(layer).map(|l| l.kept())
    }

    /// What `layer` of the published encoder makes of `sample`: `[height, width, channels]` of [`Learner::map_of`], `i8`,
    /// into `out`. Returns the shift by which its sums were narrowed: `value = m · 2^shift` in the unit of the sums, the
    /// same for all samples until the encoder is published anew.
    ///
    /// # Errors
    /// [`SampleError`]; [`SampleError::Map`] where there is no such layer or `out` has another length.
    pub fn perceive_map(&mut self, sample: &Sample, layer: usize, out: &mut [i8]) -> Result<u32, SampleError> {
        let (layers, given) = (self.network.layers.len(), out.len());
        let wants = self.map_of(layer).map_or(0, Map::len);
        if wants == 0 || given != wants {
            return Err(SampleError::Map { layers, wants, given });
        }
        self.hold(sample)?;
        self.make_input();
        let scratch = core::mem::take(&mut self.scratch);
        let mut arena = Arena::over(scratch);
        let activations = arena.take(self.network.kept_len());
        let mut buffers = Scratch::take(&self.network, &mut arena);
        let params = self.serving().params();
        forward::map(&self.network, params, layer, self.newest(), activations, out, &mut buffers);
        let shift = params.shifts.layers[layer].get();
        self.scratch = scratch;
        Ok(shift)
    }
}
