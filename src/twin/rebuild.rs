//! A step of a task that rebuilds, in `f32`: what `learner` does without any rounding. What is hidden, the noise of codes
//! and the samples are the integer learner's; predictions are in sixteenths of an 8-bit step, as there.
//!
//! In place of the shifts that carry a scale there are two powers of two, found at the first step as there.

use rayon::prelude::*;

use super::net::View;
use super::{PARTS, Twin, conv};
use crate::learner::{RebuildStep, objective_len, sample_of};
use crate::net::forward::{Params, Shifts};
use crate::net::head::Head;
use crate::net::network::Network;
use crate::pretext::denoise::FRACTION;
use crate::pretext::inpaint::NOT_ASKED;
use crate::pretext::variational::normal;
use crate::sample::Seed;

/// Scales of a head, powers of two; 0 before the first step.
pub(super) const SCALES: usize = 2;
/// Of predictions, and of the latent, in its units.
const PREDICTION: usize = 0;
const LATENT: usize = 1;
/// Largest magnitude of a log-variance.
const MOST: f32 = 8.0;

/// What is between the last layer and the decoder.
#[derive(Default)]
struct Code {
    latent: Vec<f32>,
    noise: Vec<f32>,
    drawn: Vec<f32>,
    map: Vec<f32>,
}

/// The power of two that brings `largest` to at most `most`.
fn power_to(most: f32, largest: f32) -> f32 {
    if largest > 0.0 { (most / largest).log2().floor().exp2() } else { 1.0 }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// Where the scales of `head` stand among the numbers that the losses keep.
pub(super) fn scales_at(network: &Network, head: &Head) -> usize {
    objective_len(network) + SCALES * head.number
}

impl Twin {
    /// Output of tensor `number` of the head.
    fn product(&self, view: &mut View, number: usize, below: &[f32]) -> Vec<f32> {
        let tensor = &self.network.tensors[number];
        let mut out = vec![0.0; tensor.conv.output.len()];
        conv::forward(
            &tensor.conv,
            &below[..tensor.conv.input.len()],
            &self.weights[tensor.weight_range()],
            &mut out,
            &mut view.columns,
        );
        out
    }

    /// Takes the view to the code, where the head has one; a scale of 0 becomes the first one.
    fn code(&self, head: &Head, view: &mut View, step: &RebuildStep, number: usize, scales: &mut [f32]) -> Code {
        let (len, first) = (head.code_len(), head.tensors.start);
        if len == 0 {
            return Code::default();
        }
        let last = self.last_layer(view).to_vec();
        let mut latent = self.product(view, first, &last);
        if scales[LATENT] == 0.0 {
            scales[LATENT] = power_to(2.0, largest(&latent));
        }
        latent.iter_mut().for_each(|v| *v *= scales[LATENT]);
        let draws = step.code_draws(number);
        let noise: Vec<f32> = (0..len).map(|k| normal(draws, k as u32) as f32 / 256.0).collect();
        let deviation = |k: usize| (latent[len + k].clamp(-MOST, MOST) / 2.0).exp();
        let drawn: Vec<f32> = (0..len).map(|k| latent[k] + deviation(k) * noise[k]).collect();
        let mut map = self.product(view, first + 1, &drawn);
        map.iter_mut().for_each(|v| *v = v.max(0.0));
        Code { latent, noise, drawn, map }
    }

    fn last_layer<'a>(&self, view: &'a View) -> &'a [f32] {
        let last = self.network.layers.last();
        last.map_or(&[], |l| &view.activations[l.activations..][..l.output.len()])
    }

    /// Mean square of the errors of one sample and the divergence of its code; its gradients are added.
    fn rebuild_one(
        &self,
        head: &Head,
        step: &RebuildStep,
        number: usize,
        scales: &mut [f32],
        gradients: Option<&mut [f32]>,
    ) -> Option<(f32, f32)> {
        let network = &self.network;
        let stored = sample_of(self.stored, self.replay.as_ref()?, step.seed, step.step, number)?;
        let (mut clean, mut input) = (vec![0; network.input.len()], vec![0; network.input.len()]);
        step.view(stored, number, &mut input);
        step.hide(number, &mut clean, &mut input);
        let mut view = View::new(network);
        view.set_input(&input);
        view.layers(network, &self.weights);
        let code = self.code(head, &mut view, step, number, scales);
        let below = if code.map.is_empty() { self.last_layer(&view).to_vec() } else { code.map.clone() };
        let sums = self.product(&mut view, head.top(), &below);
        let unit = (1 << FRACTION) as f32;
        if scales[PREDICTION] == 0.0 {
            scales[PREDICTION] = power_to(32.0 * unit, largest(&sums));
        }
        let asked = clean.iter().filter(|&&c| c != NOT_ASKED).count().max(1) as f32;
        let error = |(&sum, &clean): (&f32, &i8)| {
            if clean == NOT_ASKED { 0.0 } else { sum * scales[PREDICTION] - f32::from(clean) * unit }
        };
        let errors: Vec<f32> = sums.iter().zip(&clean).map(error).collect();
        let mean_square = errors.iter().map(|e| e * e).sum::<f32>() / asked;
        let len = head.code_len();
        let divergence = |k: usize| {
            let (m, v) = (code.latent[k], code.latent[len + k].clamp(-MOST, MOST));
            0.5 * (m * m + v.exp() - 1.0 - v)
        };
        let divergence = (0..len).map(divergence).sum();
        if let Some(gradients) = gradients {
            let errors: Vec<f32> = errors.iter().map(|e| e * scales[PREDICTION]).collect();
            self.back(head, &mut view, &code, &below, errors, mean_square, scales[LATENT], gradients);
        }
        Some((mean_square, divergence))
    }

    /// From the errors at the decoder's sums to the gradients.
    #[allow(clippy::too_many_arguments)]
    fn back(
        &self,
        head: &Head,
        view: &mut View,
        code: &Code,
        below: &[f32],
        mut error: Vec<f32>,
        mean_square: f32,
        scale: f32,
        gradients: &mut [f32],
    ) {
        let network = &self.network;
        let trained_from = network.trained_range().start;
        let last = self.last_layer(view).to_vec();
        let len = head.code_len();
        for number in head.tensors.clone().rev() {
            let tensor = &network.tensors[number];
            let x: &[f32] = match number - head.tensors.start {
                _ if number == head.top() => below,
                1 => &code.drawn,
                _ => &last,
            };
            let own = &mut gradients[tensor.weights - trained_from..][..tensor.conv.weights()];
            conv::weight_grad(&tensor.conv, x, &error, own, &mut view.columns);
            let mut next = vec![0.0; tensor.conv.input.len()];
            let weights = &self.weights[tensor.weight_range()];
            conv::input_grad(&tensor.conv, &error, weights, &mut next, &mut view.columns);
            error = if len > 0 && number == head.tensors.start + 1 {
                let mut latent = vec![0.0; 2 * len];
                for (k, slope) in next.iter().map(|e| e / mean_square.max(f32::MIN_POSITIVE)).enumerate() {
                    let v = code.latent[len + k].clamp(-MOST, MOST);
                    latent[k] = scale * (slope + code.latent[k]);
                    latent[len + k] = scale * 0.5 * (slope * code.noise[k] * (v / 2.0).exp() + v.exp() - 1.0);
                }
                latent
            } else {
                next.iter().zip(x).map(|(&e, &a)| if a > 0.0 { e } else { 0.0 }).collect()
            };
        }
        view.back_through_layers(network, &self.weights, error, gradients);
    }

    /// Loss of a step of `head`, in nats a number, and its gradient; `objective` holds the head's scales.
    pub(super) fn rebuild(&self, head: &Head, objective: &mut [f32]) -> Option<(f32, Vec<f32>)> {
        let shifts = Shifts::unset();
        let params = Params { flash: &[], weights: &[], packed: &[], thresholds: &[], shifts: &shifts };
        let (spec, network, scales) = (&self.spec, &self.network, &*self.scales);
        let (seed, number) = (Seed(self.counters.seed), self.counters.steps);
        let step = RebuildStep { spec, network, head, params, packed_back: &[], scales, seed, step: number };
        if objective.contains(&0.0) {
            self.rebuild_one(head, &step, head.pretext.batch - 1, objective, None)?;
            // One that is never used is not to be looked for again.
            objective.iter_mut().filter(|s| **s == 0.0).for_each(|s| *s = 1.0);
        }
        let samples: Vec<usize> = (0..head.pretext.batch).collect();
        let parts: Option<Vec<(f32, f32, Vec<f32>)>> = samples
            .par_chunks(samples.len().div_ceil(PARTS))
            .map(|part| {
                let mut sums = (0.0, 0.0, vec![0.0; network.trained_range().len()]);
                let mut own = objective.to_vec();
                for &sample in part {
                    let (square, divergence) = self.rebuild_one(head, &step, sample, &mut own, Some(&mut sums.2))?;
                    sums.0 += square;
                    sums.1 += divergence;
                }
                Some(sums)
            })
            .collect();
        let mut parts = parts?.into_iter();
        let (mut squares, mut divergence, mut gradients) = parts.next()?;
        for part in parts {
            squares += part.0;
            divergence += part.1;
            gradients.iter_mut().zip(part.2).for_each(|(a, b)| *a += b);
        }
        let count = samples.len() as f32;
        let loss = 0.5 * (squares / count).max(1.0 / 256.0).ln() + divergence / (count * network.input.len() as f32);
        Some((loss, gradients))
    }

    /// A tensor of `head`, or a layer, of half the weights gives half the sums.
    pub(super) fn halved(&mut self, number: usize) {
        for head in self.network.heads.iter().filter(|head| head.pretext.task.rebuilds()) {
            let from = scales_at(&self.network, head);
            if number < head.tensors.start && self.network.head_of(number).is_some() {
                continue;
            }
            if number < head.tensors.end {
                let before_code = head.code_len() > 0 && number <= head.tensors.start;
                self.objective[from + if before_code { LATENT } else { PREDICTION }] *= 2.0;
            }
        }
    }
}
