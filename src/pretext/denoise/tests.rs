use super::super::code::{Code, decode};
use super::super::inpaint::{Mask, Patches};
use super::*;
use crate::fixed::LaggedShift;
use crate::kernels::reference::for_each_product;
use crate::kernels::{Kernels, Map};
use crate::net::arena::Arena;
use crate::net::backward::{self, Group, Step};
use crate::net::forward::{self, Params, Scratch};
use crate::net::spec::{InputKind, InputSpec, LayerSpec, Spec};
use crate::net::task::{Pretext, PretextSpec, Task};
use crate::net::update;
use crate::sample::Seed;

/// The task with its defaults, changed by `change`.
fn denoise(change: impl FnOnce(&mut Pretext)) -> Pretext {
    let mut pretext = PretextSpec::new(Task::Denoise).resolved().expect("defaults");
    change(&mut pretext);
    pretext
}

const INPUT: Map = Map::new(1, 32, 3);

fn patches(network: &Network) -> Patches {
    Patches::new(INPUT, network.layers[1].output)
}

fn network(kernels: Kernels) -> Network {
    let layer = |filters| LayerSpec { filters, kernel: 5, stride: 2, zero_mean: false, ..Default::default() };
    let spec = Spec {
        input: InputSpec { kind: InputKind::Window, height: 1, width: 32, channels: 3, ..Default::default() },
        layer: [layer(8), layer(10)].into_iter().collect(),
        pretext: core::iter::once(PretextSpec::new(Task::Denoise)).collect(),
        ..Default::default()
    };
    Network::new(&spec, kernels).expect("a sound plan")
}

/// A window of slow waves, as a sensor gives them.
fn window(network: &Network, seed: u64) -> Vec<i8> {
    let draws = Draws::new(Seed(seed), 0, 0);
    let wave = |t: usize, c: usize| {
        let (period, phase) = (draws.between(c as u32, 8, 24), draws.between(9 + c as u32, 0, 24));
        let at = (t as i32 + phase) % period;
        (2 * at - period).abs() * 160 / period - 80
    };
    (0..network.input.len()).map(|i| wave(i / 3, i % 3) as i8).collect()
}

struct Encoder {
    network: Network,
    weights: Vec<i8>,
    packed: Vec<i16>,
    packed_back: Vec<i16>,
    shifts: Shifts,
}

impl Encoder {
    fn new(kernels: Kernels) -> Self {
        let network = network(kernels);
        let mut weights = Vec::new();
        for (number, t) in network.tensors.iter().enumerate() {
            weights
                .extend((0..t.conv.weights()).map(|e| update::narrow(update::initial_master(t, number, e, Seed(4)))));
        }
        let mut packed = vec![0; network.packed_len];
        let mut packed_back = vec![0; network.packed_back_len];
        for t in &network.tensors {
            network.kernels.pack(&t.conv, &weights[t.weight_range()], &mut packed[t.packed..]);
            network.kernels.pack_back(&t.conv, &weights[t.weight_range()], &mut packed_back[t.packed_back..]);
        }
        // Errors of layers are narrowed by their exact shifts.
        let mut shifts = Shifts::unset();
        shifts.heads[0][..2].copy_from_slice(&[LaggedShift::at(3), LaggedShift::at(5)]);
        let mut encoder = Encoder { network, weights, packed, packed_back, shifts };
        let (mut memory, mut activations) = (vec![0; 1 << 20], vec![0; encoder.network.step_len()]);
        let mut scratch = Scratch::take(&encoder.network, &mut Arena::over(&mut memory));
        let x = window(&encoder.network, 7);
        let seen = forward::layers(&encoder.network, encoder.params(), &x, &mut activations, &mut scratch);
        encoder.shifts.layers.iter_mut().zip(&seen.layers).take(2).for_each(|(s, seen)| s.follow(*seen));
        encoder
    }

    fn params(&self) -> Params<'_> {
        let Encoder { weights, packed, shifts, .. } = self;
        Params { flash: &[], weights, packed, thresholds: &[], shifts }
    }

    /// Mean square, errors and gradient of one window; `step` draws the roundings.
    fn integers(&self, clean: &[i8], mask: Mask, step: u64) -> (u64, Vec<i8>, Vec<i32>) {
        let network = &self.network;
        let mut memory = vec![0; 1 << 20];
        let mut arena = Arena::over(&mut memory);
        let mut scratch = Scratch::take(network, &mut arena);
        let (mut input, mut activations) = (vec![0; clean.len()], vec![0; network.step_len()]);
        input.copy_from_slice(clean);
        mask.corrupt(&mut input);
        forward::layers(network, self.params(), &input, &mut activations, &mut scratch);
        let mut errors = clean.to_vec();
        mask.ask(&patches(network), &mut errors);
        let draws = Draws::new(Seed(1), step, 77);
        let narrowing = Some((self.shifts.heads[0][1].get(), draws));
        let mut rebuild = Rebuild::new(&mut errors, self.shifts.heads[0][0].get(), narrowing);
        let head = &network.heads[0];
        let code = Code::take(network, head, &mut Arena::counting());
        decode(network, self.params(), head, &activations, &code, &mut rebuild, &mut scratch);
        let mean_square = rebuild.mean_square();
        let mut gradients = vec![0; network.weights_len];
        let len = network.error_len().max(errors.len());
        let (mut first, mut second) = (errors.clone(), vec![0; len]);
        first.resize(len, 0);
        let mut buffers = backward::Buffers {
            errors: [&mut first, &mut second],
            gradients: &mut gradients,
            one_at_a_time: None,
            code: None,
        };
        let inner = Default::default();
        let group = Group { number: 0, count: 1, inputs: &input, activations: &activations, head_inputs: &[], inner };
        let step = Step { seed: Seed(1), number: step };
        backward::group(network, self.params(), &self.packed_back, head, step, &group, &[], &mut buffers, &mut scratch);
        (mean_square, errors, gradients)
    }

    /// The same in `f64`, without any narrowing: mean square, and the gradient of half the sum of squares.
    fn floats(&self, clean: &[i8], mask: Mask) -> (f64, Vec<f64>) {
        let network = &self.network;
        let (mut input, mut asked) = (clean.to_vec(), clean.to_vec());
        mask.corrupt(&mut input);
        mask.ask(&patches(network), &mut asked);
        let shifts = [self.shifts.layers[0], self.shifts.layers[1], self.shifts.heads[0][0]];
        let mut maps = vec![input.iter().map(|&v| f64::from(v)).collect::<Vec<_>>()];
        for (t, shift) in network.tensors.iter().zip(shifts) {
            let (x, w) = (&maps[maps.len() - 1], &self.weights[t.weight_range()]);
            let mut out = vec![0.0; t.conv.output.len()];
            for_each_product(&t.conv, |wi, i, o| out[o] += x[i] * f64::from(w[wi]) / f64::from(1 << shift.get()));
            if maps.len() < network.tensors.len() {
                out.iter_mut().for_each(|v| *v = v.max(0.0));
            }
            maps.push(out);
        }
        let asked = |i: &usize| asked[*i] != NOT_ASKED;
        let mut error: Vec<f64> = maps.pop().expect("the predictions");
        for (i, e) in error.iter_mut().enumerate() {
            *e = if asked(&i) { *e - 16.0 * f64::from(clean[i]) } else { 0.0 };
        }
        let mean_square = error.iter().map(|e| e * e).sum::<f64>() / (0..clean.len()).filter(asked).count() as f64;
        let mut gradients = vec![0.0; network.weights_len];
        for (t, shift) in network.tensors.iter().zip(shifts).rev() {
            let (x, w) = (maps.pop().expect("a map below"), &self.weights[t.weight_range()]);
            let mut below = vec![0.0; x.len()];
            for_each_product(&t.conv, |wi, i, o| {
                gradients[t.weights + wi] += x[i] * error[o];
                below[i] += error[o] * f64::from(w[wi]) / f64::from(1 << shift.get());
            });
            let active = |x: f64| x > 0.0;
            error = below.iter().zip(&x).map(|(&e, &x)| if active(x) { e } else { 0.0 }).collect();
        }
        (mean_square, gradients)
    }
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn loss_and_gradient_are_those_of_the_float_formula() {
    let encoder = Encoder::new(Kernels::detect());
    for (seed, mask, noise) in [(1, 102, 0), (2, 102, 0), (3, 0, 160), (4, 60, 80)] {
        let spec = denoise(|p| (p.mask, p.block, p.noise) = (mask, 4, noise));
        let clean = window(&encoder.network, seed);
        let mask = Mask::new(&spec, INPUT, Draws::new(Seed(seed), 1, 2));
        let (expected, slopes) = encoder.floats(&clean, mask);
        // Roundings at random are right on average.
        let mut mean = vec![0.0; slopes.len()];
        for step in 0..32 {
            let (mean_square, _, gradients) = encoder.integers(&clean, mask, step);
            mean.iter_mut().zip(&gradients).for_each(|(m, &g)| *m += f64::from(g));
            assert!((mean_square as f64 / expected - 1.0).abs() < 0.05, "{mean_square} {expected}");
        }
        for (number, t) in encoder.network.tensors.iter().enumerate() {
            let cosine = cosine(&mean[t.weight_range()], &slopes[t.weight_range()]);
            // Activations that round to 0 let no error through, which the float formula does.
            assert!(cosine > if number == 0 { 0.94 } else { 0.99 }, "tensor {number}, seed {seed}: {cosine}");
        }
    }
}

#[test]
fn every_kernel_gives_the_same_errors_and_gradient() {
    let spec = denoise(|p| p.noise = 40);
    let of = |kernels| {
        let encoder = Encoder::new(kernels);
        let clean = window(&encoder.network, 5);
        encoder.integers(&clean, Mask::new(&spec, INPUT, Draws::new(Seed(1), 1, 2)), 3)
    };
    assert_eq!(of(Kernels::Reference), of(Kernels::detect()));
}

#[test]
fn a_layers_shift_that_moves_leaves_the_prediction() {
    let spec = denoise(|_| ());
    let mut encoder = Encoder::new(Kernels::detect());
    let clean = window(&encoder.network, 6);
    let mask = Mask::new(&spec, INPUT, Draws::new(Seed(1), 1, 2));
    let mean_square = |encoder: &Encoder| encoder.integers(&clean, mask, 0).0 as f64;
    let before = (mean_square(&encoder), encoder.shifts);
    encoder.shifts.layers[1] = LaggedShift::at(10);
    let jumped = mean_square(&encoder);
    keep_prediction(&encoder.network, &encoder.network.heads[0], &before.1, &mut encoder.shifts);
    let kept = mean_square(&encoder);
    assert!((kept / before.0 - 1.0).abs() < 0.01, "{} {kept}", before.0);
    assert!((jumped / before.0 - 1.0).abs() > 0.05, "{} {jumped}", before.0);
}
