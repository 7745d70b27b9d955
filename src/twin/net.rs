//! The passes over the net in `f32`: one view forward to its embedding, and back to the weight gradients.

use super::{conv, dictionary};
use crate::augment::token;
use crate::net::head::Head;
use crate::net::network::Network;

/// Everything that one view leaves on its way forward.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub input: Vec<f32>,
    /// As it was given: codes, over tokens.
    codes: Vec<i8>,
    /// Of all layers, laid out as the network says.
    pub activations: Vec<f32>,
    pub head_input: Vec<f32>,
    /// Layers of a head; the last one is what the loss reads.
    pub head: Vec<Vec<f32>>,
    /// Unfolded patches, overwritten by every convolution.
    pub columns: Vec<f32>,
}

impl View {
    pub fn new(network: &Network) -> Self {
        View {
            input: vec![0.0; network.input.len()],
            codes: Vec::new(),
            activations: vec![0.0; network.activations_len],
            head_input: Vec::new(),
            head: Vec::new(),
            columns: Vec::new(),
        }
    }

    pub fn set_input(&mut self, input: &[i8]) {
        self.input.iter_mut().zip(input).for_each(|(o, &i)| *o = f32::from(i));
        self.codes = input.to_vec();
    }

    /// Activations of all layers.
    pub fn layers(&mut self, network: &Network, weights: &[f32]) {
        for (index, layer) in network.layers.iter().enumerate() {
            let (before, from_here) = self.activations.split_at_mut(layer.activations);
            let input: &[f32] = match index {
                0 => &self.input,
                _ => &before[network.layers[index - 1].activations..],
            };
            let out = &mut from_here[..layer.output.len()];
            if network.is_embedding(index) {
                let rows = &weights[network.tensors[layer.tensors.start].weight_range()];
                let width = layer.output.channels;
                for (out, code) in out.chunks_exact_mut(width).zip(token::codes(&self.codes)) {
                    out.copy_from_slice(&rows[code * width..][..width]);
                }
                continue;
            }
            for tensor in &network.tensors[layer.tensors.clone()] {
                conv::forward(&tensor.conv, input, &weights[tensor.weight_range()], out, &mut self.columns);
            }
            let threshold = if layer.dictionary { dictionary::THRESHOLD } else { 0.0 };
            out.iter_mut().for_each(|v| *v = (*v - threshold).max(0.0));
        }
    }

    /// `head` over the last layer's activations.
    pub fn head(&mut self, network: &Network, head: &Head, weights: &[f32]) {
        let (Some(grid), Some(last)) = (head.grid, network.layers.last()) else { return };
        self.head_input.resize(grid.len(), 0.0);
        conv::pool(&grid, &self.activations[last.activations..], &mut self.head_input);
        self.head.resize(head.tensors.len(), Vec::new());
        for (place, tensor) in head.tensors.clone().enumerate() {
            let t = &network.tensors[tensor];
            let (before, here) = self.head.split_at_mut(place);
            let (below, out) = (before.last().unwrap_or(&self.head_input), &mut here[0]);
            out.clear();
            out.resize(t.conv.filters, 0.0);
            conv::forward(&t.conv, below, &weights[t.weight_range()], out, &mut self.columns);
            if tensor != head.top() && !head.is_signed(tensor) {
                out.iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
    }

    /// The sums of the head's top.
    pub fn top(&self) -> &[f32] {
        self.head.last().map_or(&[], |top| top)
    }

    /// Adds the gradients of the weights of a step of `head`, given the error at its top.
    pub fn backward(&mut self, network: &Network, head: &Head, weights: &[f32], error: &[f32], gradients: &mut [f32]) {
        let (Some(grid), Some(last)) = (head.grid, network.layers.last()) else { return };
        let trained_from = network.trained_range().start;
        let mut error = error.to_vec();
        for index in head.tensors.clone().rev() {
            let tensor = &network.tensors[index];
            let place = index - head.tensors.start;
            let below: &[f32] = if place == 0 { &self.head_input } else { &self.head[place - 1] };
            let own = &mut gradients[tensor.weights - trained_from..][..tensor.conv.weights()];
            conv::weight_grad(&tensor.conv, below, &error, own, &mut self.columns);
            if index == network.first_trained {
                return;
            }
            let mut next = vec![0.0; tensor.conv.input.len()];
            conv::input_grad(&tensor.conv, &error, &weights[tensor.weight_range()], &mut next, &mut self.columns);
            let mut active = below;
            if place == 0 {
                // The head's input is pooled: the mask is that of the map below.
                let mut map = vec![0.0; last.output.len()];
                conv::pool_grad(&grid, &next, &mut map);
                next = map;
                active = &self.activations[last.activations..];
            }
            if place == 0 || !head.is_signed(index - 1) {
                next.iter_mut().zip(active).for_each(|(e, &a)| *e = if a > 0.0 { *e } else { 0.0 });
            }
            error = next;
        }
        self.back_through_layers(network, weights, error, gradients);
    }

    /// Adds the gradients of the layers' weights, given the error at the last one's sums.
    pub fn back_through_layers(
        &mut self,
        network: &Network,
        weights: &[f32],
        mut error: Vec<f32>,
        gradients: &mut [f32],
    ) {
        let trained_from = network.trained_range().start;
        let layers = network.layers.last().map_or(0, |l| l.tensors.end);
        for index in (network.first_trained..layers).rev() {
            let tensor = &network.tensors[index];
            if tensor.lookup {
                let width = tensor.conv.channels;
                let own = &mut gradients[tensor.weights - trained_from..];
                for (error, code) in error.chunks_exact(width).zip(token::codes(&self.codes)) {
                    own[code * width..].iter_mut().zip(error).for_each(|(g, e)| *g += e);
                }
                break;
            }
            let below: &[f32] = match network.layers.iter().position(|l| l.tensors.contains(&index)) {
                Some(0) | None => &self.input,
                Some(layer) => &self.activations[network.layers[layer - 1].activations..],
            };
            let below = &below[..tensor.conv.input.len()];
            let own = &mut gradients[tensor.weights - trained_from..][..tensor.conv.weights()];
            conv::weight_grad(&tensor.conv, below, &error, own, &mut self.columns);
            if index == network.first_trained {
                break;
            }
            let mut next = vec![0.0; tensor.conv.input.len()];
            conv::input_grad(&tensor.conv, &error, &weights[tensor.weight_range()], &mut next, &mut self.columns);
            // Rows that were looked up have signs.
            if !(network.is_embedding(0) && network.layers[1].tensors.contains(&index)) {
                next.iter_mut().zip(below).for_each(|(e, &a)| *e = if a > 0.0 { *e } else { 0.0 });
            }
            error = next;
        }
    }

    /// Pools the activations into the feature.
    pub fn feature(&self, network: &Network, out: &mut [f32]) {
        let mut rest = out;
        for (layer, grid) in &network.feature {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(grid.len());
            rest = after;
            conv::pool(grid, &self.activations[network.layers[*layer].activations..], here);
        }
    }
}
