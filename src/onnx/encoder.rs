//! A learned encoder as a [`Network`]: the published weights, thresholds and shifts, and the scales of its input.

use super::OnnxError;
use super::network::{Input, Network, Node, Op, Part};
use crate::fixed::LaggedShift;
use crate::kernels::{Grid, Map};
use crate::learner::Learner;
use crate::net::spec::{InputKind, Spec};

/// The encoder that `learner` has published. All its numbers count as mantissas of 2^0: what a shift takes off stands in
/// the exponent of the weights, as nets without scale have no other.
///
/// # Errors
/// [`OnnxError::Unlearned`] where a shift was never set.
pub fn of(learner: &Learner) -> Result<Network, OnnxError> {
    let (params, scales) = learner.published();
    let (net, spec) = (learner.network(), learner.spec());
    let mut network =
        Network { name: spec.name.to_string(), input: input(spec, scales), nodes: Vec::new(), outputs: Vec::new() };
    let mut below = 0;
    let mut outputs = Vec::new();
    for (index, layer) in net.layers.iter().enumerate() {
        let mut node = Node {
            name: format!("layer{index}"),
            op: Op::Lookup { rows: Vec::new() },
            inputs: vec![below],
            map: layer.output,
            exponent: 0,
            low: 0,
            high: 127,
        };
        if net.is_embedding(index) {
            node.op = Op::Lookup { rows: params.weights_of(&net.tensors[layer.tensors.start]).to_vec() };
            node.low = -127;
        } else {
            let shift = known(params.shifts.layers[index], || node.name.clone())?;
            let parts = net.tensors[layer.tensors.clone()].iter();
            let parts = parts.map(|t| Part { conv: t.conv, weights: params.weights_of(t).to_vec() }).collect();
            let filters = layer.output.channels;
            let bias = match layer.dictionary && index == 0 {
                true => params.thresholds.iter().map(|&threshold| -threshold).collect(),
                false => vec![0; filters],
            };
            node.op = Op::Conv { parts, bias, weight_exponents: vec![-(shift as i32); filters] };
        }
        network.nodes.push(node);
        let made = network.nodes.len();
        below = made;
        for (block, (_, grid)) in net.feature.iter().enumerate().filter(|(_, block)| block.0 == index) {
            let shift = known(params.shifts.feature[block], || format!("block {block} of the feature"))?;
            network.nodes.push(sums(format!("feature{block}"), *grid, shift, made));
            outputs.push((block, network.nodes.len()));
        }
        if let Some(grid) = layer.averaged {
            // Windows hold a power of two of positions.
            let shift = grid.window_positions().trailing_zeros();
            network.nodes.push(sums(format!("layer{index}.average"), grid, shift, made));
            below = network.nodes.len();
        }
    }
    outputs.sort_unstable();
    network.outputs = outputs.into_iter().map(|(_, value)| value).collect();
    network.check()?;
    Ok(network)
}

fn known(shift: LaggedShift, what: impl FnOnce() -> String) -> Result<u32, OnnxError> {
    if shift.is_set() { Ok(shift.get()) } else { Err(OnnxError::Unlearned { what: what() }) }
}

fn sums(name: String, grid: Grid, shift: u32, from: usize) -> Node {
    let map = Map::new(grid.cells.0, grid.cells.1, grid.map.channels);
    Node { name, op: Op::Sums { grid, shift }, inputs: vec![from], map, exponent: 0, low: -127, high: 127 }
}

fn input(spec: &Spec, scales: &[crate::augment::signal::ChannelScale]) -> Input {
    let input = &spec.input;
    match input.kind {
        InputKind::Image => Input::Pixels(Map::new(input.height, input.width, input.channels)),
        InputKind::Latents => {
            Input::Latents { map: Map::new(input.height, input.width, input.channels), scales: scales.to_vec() }
        }
        InputKind::Window => Input::Readings { length: input.width, scales: scales.to_vec() },
        InputKind::Audio => Input::Levels { columns: input.width, scales: scales.to_vec() },
        InputKind::Tokens => Input::Codes { length: input.width, vocabulary: input.vocabulary },
    }
}
