//! Sparse update: which part of the layers the pretext trains.

use super::error::PlanError;
use super::head::decoder_side;
use super::spec::{InputKind, LayerKind, MAX_LAYERS, Spec};
use super::task::{Pretext, Task};

/// How many filters of each layer the pretext trains: the last ones of it.
///
/// Sparse update as in Lin et al. 2022 (arXiv:2206.15472), chosen from the top down: no layer below one that is trained
/// in part is trained, so no error is ever taken back through weights that stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SparseUpdate {
    pub trained: [usize; MAX_LAYERS],
}

impl SparseUpdate {
    /// What `spec` asks for, and its budget of memory leaves.
    ///
    /// # Errors
    /// [`PlanError::Sparse`], [`PlanError::NothingToTrain`] where the budget is too small for the head and one filter.
    pub fn of(spec: &Spec) -> Result<Self, PlanError> {
        let mut update = SparseUpdate::default();
        let last = spec.layer.last().map_or(0, |l| l.filters);
        let mut head = 0usize;
        for pretext in &spec.pretext {
            head = head.saturating_add(head_weights(spec, &pretext.resolved()?, last));
        }
        if spec.pretext.is_empty() {
            return Ok(update);
        }
        let mut left = match spec.optimizer.memory {
            0 => usize::MAX,
            budget => {
                (budget / spec.optimizer.bytes_per_weight()).checked_sub(head).ok_or(PlanError::NothingToTrain)?
            }
        };
        for (index, layer) in spec.layer.iter().enumerate().rev() {
            let dictionary = layer.kind == LayerKind::Dictionary;
            let wanted = layer.trained.unwrap_or(if dictionary { 0 } else { layer.filters });
            let whole = matches!(layer.kind, LayerKind::Depthwise | LayerKind::Embedding);
            if wanted > layer.filters || (dictionary && wanted > 0) || (whole && wanted > 0 && wanted < layer.filters) {
                return Err(PlanError::Sparse { layer: index });
            }
            let channels = index.checked_sub(1).map_or(spec.input.channels, |below| spec.layer[below].filters);
            let taps = layer.kernel * if spec.input.height == 1 { 1 } else { layer.kernel };
            let fan_in = match layer.kind {
                LayerKind::Embedding => spec.input.vocabulary + 1,
                LayerKind::Depthwise => taps,
                _ => taps * channels,
            };
            let fan_in = fan_in.max(1);
            let fits = (left / fan_in).min(wanted);
            let trained = if whole && fits < wanted { 0 } else { fits };
            update.trained[index] = trained;
            left -= trained * fan_in;
            if trained < layer.filters {
                break;
            }
        }
        Ok(update)
    }
}

/// Weights of a pretext's head above `last` filters.
fn head_weights(spec: &Spec, pretext: &Pretext, last: usize) -> usize {
    if pretext.task.rebuilds() {
        let strides: usize = spec.layer.iter().map(|l| l.stride).product();
        if spec.input.kind == InputKind::Tokens {
            return last.saturating_mul(strides.saturating_mul(spec.input.vocabulary));
        }
        let rows = if spec.input.height == 1 { 1 } else { strides };
        let decoder = last.saturating_mul(strides.saturating_mul(rows).saturating_mul(spec.input.channels));
        let positions =
            spec.input.height.div_ceil(rows.max(1)).saturating_mul(spec.input.width.div_ceil(strides.max(1)));
        let code = if pretext.task == Task::Variational { 3 * pretext.outputs } else { 0 };
        let decoder = decoder.saturating_mul(decoder_side(spec).pow(2));
        return decoder.saturating_add(code.saturating_mul(positions.saturating_mul(last)));
    }
    let cells = pretext.head_cells * if spec.input.height == 1 { 1 } else { pretext.head_cells };
    let predictor = if pretext.task.predicts() { 2 * pretext.outputs } else { 0 };
    pretext.hidden * (last * cells + pretext.outputs + predictor)
}
