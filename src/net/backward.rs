//! The backward pass of some views: from the errors at their embeddings to the weight gradients.

use super::forward::{Params, Scratch};
use super::head::{Head, MAX_HEAD_TENSORS};
use super::network::{MAX_TENSORS, Network};
use crate::augment::token;
use crate::fixed::random::Draws;
use crate::fixed::{Seen, shift_for};
use crate::kernels::Views;
use crate::kernels::narrow::{self, Keep, Largest, Random};
use crate::kernels::reference::pool_sums_grad;
use crate::sample::Seed;

/// What narrowing the errors at each tensor's input saw.
pub type BackwardSeen = [Seen; MAX_TENSORS];

/// Everything that the backward pass of some consecutive views reads; at most
/// [`Network::views_at_a_time`].
pub struct Group<'a> {
    /// Number of the first view in the step: the draws follow from it.
    pub number: usize,
    pub count: usize,
    /// Inputs of the first layer of a step; read only where that is trained.
    pub inputs: &'a [i8],
    pub activations: &'a [i8],
    /// Pooled inputs and inner layers of the head.
    pub head_inputs: &'a [i8],
    pub inner: [&'a [i8]; MAX_HEAD_TENSORS - 1],
}

/// Gets the number of a tensor and its gradient.
pub type EachGradient<'f> = &'f mut dyn FnMut(usize, &[i32]);

/// The way back through the code between the last layer and a decoder, of one view.
pub struct Turn<'f> {
    /// What was drawn, and the map that it became.
    pub drawn: &'f [i8],
    pub map: &'f [i8],
    /// The products of errors and weights at what was drawn; then room for the gradient by the latent.
    pub sums: &'f mut [i32],
    /// Gets `sums` and how many bits the errors at the map were narrowed by, and makes the gradient.
    pub each: &'f mut dyn FnMut(u32, &mut [i32]),
}

/// Buffers that one lane keeps for the backward pass.
pub struct Buffers<'a, 'f> {
    /// Two error maps for each view.
    pub errors: [&'a mut [i8]; 2],
    /// Gradient sums of all trained weights, `i32`; or of the largest tensor.
    pub gradients: &'a mut [i32],
    /// Where there is room for one tensor: gets the gradient of each in turn, which is that of the group alone.
    pub one_at_a_time: Option<EachGradient<'f>>,
    /// Where the head has a code; groups are of one view then.
    pub code: Option<Turn<'a>>,
}

/// Adds the errors at the rows that the codes of `x` looked up to the gradient of these rows.
fn look_up_grad(x: &[i8], errors: &[i8], width: usize, gradients: &mut [i32]) {
    for (errors, code) in errors.chunks_exact(width).zip(token::codes(x)) {
        let row = &mut gradients[code * width..][..width];
        row.iter_mut().zip(errors).for_each(|(g, &e)| *g += i32::from(e));
    }
}

/// Who draws: the random bits of the errors of one step.
#[derive(Clone, Copy)]
pub struct Step {
    pub seed: Seed,
    pub number: u64,
}

/// Adds the gradients of the views of `group`, whose errors at the sums of the top of `head` are `error` (`i8`); where it is
/// empty, they stand in the first of the error maps.
#[allow(clippy::too_many_arguments)]
pub fn group(
    net: &Network,
    params: Params,
    packed_back: &[i16],
    head: &Head,
    step: Step,
    group: &Group,
    error: &[i8],
    buffers: &mut Buffers,
    scratch: &mut Scratch,
) -> BackwardSeen {
    let mut seen = [Seen::default(); MAX_TENSORS];
    let Some(last) = net.layers.last() else { return seen };
    let trained_from = net.trained_range().start;
    let [current, next] = &mut buffers.errors;
    current[..error.len()].copy_from_slice(error);
    let mut narrowed = 0;

    // Tensors from the top down, each with the activations below it.
    for index in net.chain(head) {
        let tensor = &net.tensors[index];
        let place = index.checked_sub(head.tensors.start);
        let pooled = head.grid.filter(|_| place == Some(0));
        // The views of a head that pools stand side by side and are one map; others are taken one by one.
        let flat = place.is_some() && head.grid.is_some();
        let (conv, maps) = if flat { (net.conv_over(index, group.count), 1) } else { (tensor.conv, group.count) };
        let map = |values, stride| Views { values, stride, count: maps };
        let below = match place {
            Some(0) if flat => Views::one(group.head_inputs),
            Some(place) if flat => Views::one(group.inner[place - 1]),
            Some(place @ 1..) => {
                Views::one(buffers.code.as_ref().map_or(&[], |code| if place == 1 { code.drawn } else { code.map }))
            }
            _ => match net.layers.iter().position(|l| l.tensors.contains(&index)) {
                Some(layer) if layer > net.base => {
                    map(&group.activations[net.step_offset(&net.layers[layer - 1])..], net.step_len())
                }
                None => map(&group.activations[net.step_offset(last)..], net.step_len()),
                _ => map(group.inputs, net.base_input().len()),
            },
        };
        // What is foretold from, and rows that were looked up, have signs.
        let over_rows = net.is_embedding(0) && net.layers.get(1).is_some_and(|l| l.tensors.contains(&index));
        let signed = over_rows || (flat && place > Some(0) && head.is_signed(index - 1));
        if tensor.lookup {
            let lengths = (net.layers[0].input.len(), net.layers[0].output.len());
            let own = match &mut buffers.one_at_a_time {
                Some(_) => {
                    let own = &mut buffers.gradients[..conv.weights()];
                    own.fill(0);
                    own
                }
                None => &mut buffers.gradients[tensor.weights - trained_from..][..conv.weights()],
            };
            let views = group.inputs.chunks_exact(lengths.0).zip(current.chunks_exact(lengths.1)).take(group.count);
            views.for_each(|(x, errors)| look_up_grad(x, errors, conv.channels, own));
            if let Some(each) = &mut buffers.one_at_a_time {
                each(index, &buffers.gradients[..conv.weights()]);
            }
            // An embedding is the first layer.
            break;
        }
        let errors = Views { values: current, stride: conv.output.len(), count: maps };
        match &mut buffers.one_at_a_time {
            Some(each) => {
                let gradients = &mut buffers.gradients[..conv.weights()];
                gradients.fill(0);
                net.kernels.weight_grad(&conv, below, errors, gradients, scratch.kernel);
                each(index, gradients);
            }
            None => {
                let gradients = &mut buffers.gradients[tensor.weights - trained_from..][..conv.weights()];
                net.kernels.weight_grad(&conv, below, errors, gradients, scratch.kernel);
            }
        }
        if index == net.first_trained {
            break;
        }
        let weights = params.weights_of(tensor);
        let packed = &packed_back[tensor.packed_back..];
        let draws = Draws::new(step.seed, step.number, super::update::error_tensor(index));
        let len = conv.input.len();
        if let Some(code) = buffers.code.as_mut().filter(|_| place == Some(1)) {
            let (products, errors) = (&mut code.sums[..len], errors.of(0));
            net.kernels.input_grad(&conv, errors, weights, packed, &mut Keep(products), scratch.kernel);
            (code.each)(narrowed, code.sums);
            let gradient = &code.sums[len..];
            let lagged = params.shifts.errors[index];
            let shift = if lagged.is_set() { lagged.get() } else { shift_for(narrow::largest(gradient), 8) };
            let first = (group.number * gradient.len()) as u32;
            let mut sink = Random::new(shift, draws, first, None, &mut next[..gradient.len()]);
            narrow::feed(gradient, &mut sink);
            seen[index] = seen[index].merge(sink.seen());
            core::mem::swap(current, next);
            continue;
        }
        for (map, out) in next.chunks_exact_mut(len).take(maps).enumerate() {
            // The head's input is pooled: the ReLU mask of the map below is applied after the error is spread over it.
            let active = (pooled.is_none() && !signed).then(|| &below.of(map)[..len]);
            let lagged = params.shifts.errors[index];
            let shift = if lagged.is_set() {
                lagged.get()
            } else {
                let mut largest = Largest { active, ..Default::default() };
                net.kernels.input_grad(&conv, errors.of(map), weights, packed, &mut largest, scratch.kernel);
                shift_for(largest.magnitude, 8)
            };
            let first = (group.number * tensor.conv.input.len() + map * len) as u32;
            let mut sink = Random::new(shift, draws, first, active, out);
            net.kernels.input_grad(&conv, errors.of(map), weights, packed, &mut sink, scratch.kernel);
            seen[index] = seen[index].merge(sink.seen());
            narrowed = shift;
        }
        core::mem::swap(current, next);
        if let Some(grid) = pooled {
            let (pooled, maps) = (grid.len(), last.output.len());
            for (view, map) in next.chunks_exact_mut(maps).take(group.count).enumerate() {
                pool_sums_grad(&grid, &current[view * pooled..][..pooled], map);
                let activations = &group.activations[view * net.step_len() + net.step_offset(last)..];
                map.iter_mut().zip(activations).for_each(|(e, &a)| *e = if a > 0 { *e } else { 0 });
            }
            core::mem::swap(current, next);
        }
    }
    seen
}
