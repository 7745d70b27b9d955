//! The passes over the net in `f32`: one view forward to its embedding, and back to the weight gradients.

use super::{conv, dictionary};
use crate::net::network::Network;

/// Everything that one view leaves on its way forward.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub input: Vec<f32>,
    /// Of all layers, laid out as the network says.
    pub activations: Vec<f32>,
    pub head_input: Vec<f32>,
    pub hidden: Vec<f32>,
    pub embedding: Vec<f32>,
    /// Unfolded patches, overwritten by every convolution.
    columns: Vec<f32>,
}

impl View {
    pub fn new(network: &Network) -> Self {
        let (pooled, hidden) = network.head.map_or((0, 0), |h| (h.grid.len(), network.tensors[h.hidden].conv.filters));
        View {
            input: vec![0.0; network.input.len()],
            activations: vec![0.0; network.activations_len],
            head_input: vec![0.0; pooled],
            hidden: vec![0.0; hidden],
            embedding: vec![0.0; network.embedding_dim()],
            columns: Vec::new(),
        }
    }

    pub fn set_input(&mut self, input: &[i8]) {
        self.input.iter_mut().zip(input).for_each(|(o, &i)| *o = f32::from(i));
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
            for tensor in &network.tensors[layer.tensors.clone()] {
                conv::forward(&tensor.conv, input, &weights[tensor.weight_range()], out, &mut self.columns);
            }
            let threshold = if layer.dictionary { dictionary::THRESHOLD } else { 0.0 };
            out.iter_mut().for_each(|v| *v = (*v - threshold).max(0.0));
        }
    }

    /// The head over the last layer's activations.
    pub fn head(&mut self, network: &Network, weights: &[f32]) {
        let (Some(head), Some(last)) = (network.head, network.layers.last()) else { return };
        conv::pool(&head.grid, &self.activations[last.activations..], &mut self.head_input);
        let (hidden, output) = (&network.tensors[head.hidden], &network.tensors[head.output]);
        let columns = &mut self.columns;
        conv::forward(&hidden.conv, &self.head_input, &weights[hidden.weight_range()], &mut self.hidden, columns);
        self.hidden.iter_mut().for_each(|v| *v = v.max(0.0));
        conv::forward(&output.conv, &self.hidden, &weights[output.weight_range()], &mut self.embedding, columns);
    }

    /// Adds the gradients of all trained weights, given the error at the embedding.
    pub fn backward(&mut self, network: &Network, weights: &[f32], error: &[f32], gradients: &mut [f32]) {
        let (Some(head), Some(last)) = (network.head, network.layers.last()) else { return };
        let trained_from = network.trained_range().start;
        let mut error = error.to_vec();
        for index in (network.first_trained..network.tensors.len()).rev() {
            let tensor = &network.tensors[index];
            let below: &[f32] = if index == head.output {
                &self.hidden
            } else if index == head.hidden {
                &self.head_input
            } else {
                match network.layers.iter().position(|l| l.tensors.contains(&index)) {
                    Some(0) | None => &self.input,
                    Some(layer) => &self.activations[network.layers[layer - 1].activations..],
                }
            };
            let below = &below[..tensor.conv.input.len()];
            let own = &mut gradients[tensor.weights - trained_from..][..tensor.conv.weights()];
            conv::weight_grad(&tensor.conv, below, &error, own, &mut self.columns);
            if index == network.first_trained {
                break;
            }
            let mut next = vec![0.0; tensor.conv.input.len()];
            conv::input_grad(&tensor.conv, &error, &weights[tensor.weight_range()], &mut next, &mut self.columns);
            let mut active = below;
            if index == head.hidden {
                // The head's input is pooled: the mask is that of the map below.
                let mut map = vec![0.0; last.output.len()];
                conv::pool_grad(&head.grid, &next, &mut map);
                next = map;
                active = &self.activations[last.activations..];
            }
            next.iter_mut().zip(active).for_each(|(e, &a)| *e = if a > 0.0 { *e } else { 0.0 });
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
