//! The backward pass of one view: from the error at the embedding to the weight gradients.

use super::forward::{HeadActivations, Params, Scratch, Shifts};
use super::network::{MAX_TENSORS, Network};
use crate::fixed::Seen;
use crate::fixed::random::Draws;
use crate::fixed::{LaggedShift, shift_for};
use crate::kernels::reference::pool_sums_grad;
use crate::kernels::requantize;
use crate::sample::Seed;

/// What narrowing the errors at each tensor's input saw.
pub type BackwardSeen = [Seen; MAX_TENSORS];

/// Everything that the backward pass of one view reads.
pub struct View<'a> {
    /// Number of the view in the step: its draws follow from it.
    pub number: usize,
    /// The encoder's input; read only where the first layer is trained.
    pub input: &'a [i8],
    pub activations: &'a [i8],
    pub head: HeadActivations<'a>,
}

/// Buffers that one lane keeps for the backward pass.
pub struct Buffers<'a> {
    /// Two error maps.
    pub errors: [&'a mut [i8]; 2],
    /// Gradient sums of all trained weights, `i32`.
    pub gradients: &'a mut [i32],
}

/// Who draws: the random bits of the errors of one step.
#[derive(Clone, Copy)]
pub struct Step {
    pub seed: Seed,
    pub number: u64,
}

/// Adds the gradients of one view, whose error at the embedding is `error` (`i8`).
#[allow(clippy::too_many_arguments)]
pub fn view(
    net: &Network,
    params: Params,
    packed_back: &[i16],
    step: Step,
    view: &View,
    error: &[i8],
    buffers: &mut Buffers,
    scratch: &mut Scratch,
) -> BackwardSeen {
    let mut seen = [Seen::default(); MAX_TENSORS];
    let Some(head) = net.head else { return seen };
    let trained_from = net.trained_range().start;
    let [current, next] = &mut buffers.errors;
    current[..error.len()].copy_from_slice(error);

    // Tensors from the top down, each with the activations below it.
    for index in (net.first_trained..net.tensors.len()).rev() {
        let tensor = &net.tensors[index];
        let conv = &tensor.conv;
        let below: &[i8] = if index == head.output {
            view.head.hidden
        } else if index == head.hidden {
            view.head.input
        } else {
            match net.layers.iter().position(|l| l.tensors.contains(&index)) {
                Some(0) | None => view.input,
                Some(layer) => &view.activations[net.layers[layer - 1].activations..][..conv.input.len()],
            }
        };
        let gradients = &mut buffers.gradients[tensor.weights - trained_from..][..conv.weights()];
        net.kernels.weight_grad(conv, below, &current[..conv.output.len()], gradients, scratch.kernel);
        if index == net.first_trained {
            break;
        }
        let dx = &mut scratch.accumulators[..conv.input.len()];
        let weights = &params.weights[tensor.weight_range()];
        let packed = &packed_back[tensor.packed_back..];
        net.kernels.input_grad(conv, &current[..conv.output.len()], weights, packed, dx, scratch.kernel);
        // The head's input is pooled: the ReLU mask of the map below is applied after the error is spread over it.
        let active = (index != head.hidden).then_some(below);
        let draws = Draws::new(step.seed, step.number, super::update::error_tensor(index));
        let first = (view.number * conv.input.len()) as u32;
        let out = &mut next[..conv.input.len()];
        let shift = exact_if_unset(params.shifts, index, dx, active);
        seen[index] = requantize::random(dx, active, shift, draws, first, out);
        core::mem::swap(current, next);
        if index == head.hidden {
            let Some(last) = net.layers.last() else { break };
            let map = &mut next[..last.output.len()];
            pool_sums_grad(&head.grid, &current[..head.grid.len()], map);
            for (e, &a) in map.iter_mut().zip(&view.activations[last.activations..]) {
                *e = if a > 0 { *e } else { 0 };
            }
            core::mem::swap(current, next);
        }
    }
    seen
}

fn exact_if_unset(shifts: &Shifts, tensor: usize, dx: &[i32], active: Option<&[i8]>) -> u32 {
    let shift: LaggedShift = shifts.errors[tensor];
    if shift.is_set() {
        return shift.get();
    }
    let live = |i: usize| active.is_none_or(|a| a[i] > 0);
    let max = dx.iter().enumerate().filter(|(i, _)| live(*i)).map(|(_, d)| d.unsigned_abs()).max();
    shift_for(max.unwrap_or(0), 8)
}
