//! Runs a [`Network`] by the kernels of the crate.

use std::sync::Arc;

use super::OnnxError;
use super::network::{AVERAGE_BITS, Input, Network, Op, Part, Window};
use crate::augment::{audio, fit, latent, signal, token};
use crate::fixed::{I8_MAX, round_nearest, saturate_i8};
use crate::kernels::narrow::{Linear, Relu, Sink};
use crate::kernels::reference::pool_sums;
use crate::kernels::tile::{COLUMNS, Isa};
use crate::kernels::{Kernels, Map};

/// Narrows with a shift for each filter.
struct ByFilter<'a> {
    bias: &'a [i32],
    shifts: &'a [i32],
    low: i32,
    high: i32,
    out: &'a mut [i8],
    clamped: usize,
}

impl Sink for ByFilter<'_> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, _: I, offsets: &[usize], channel: usize, count: usize, sums: &[[i32; COLUMNS]]) {
        let (bias, shifts) = (&self.bias[channel..channel + count], &self.shifts[channel..channel + count]);
        for (&at, sums) in offsets.iter().zip(sums) {
            let out = &mut self.out[at..at + count];
            for (((out, &sum), &bias), &shift) in out.iter_mut().zip(sums).zip(bias).zip(shifts) {
                let y = round_nearest(sum + bias, shift as u32);
                self.clamped += usize::from(y > I8_MAX || (y < -I8_MAX && self.low < 0));
                *out = y.clamp(self.low, self.high) as i8;
            }
        }
    }
}

/// What a node needs beside the network, found once.
struct Ready {
    /// Packed weights of its parts.
    packed: Vec<Vec<i16>>,
    shifts: Vec<i32>,
    /// The bias with its sign turned.
    thresholds: Vec<i32>,
    /// Where all filters have one shift and the bounds are those of a plain ReLU (`true`) or of none.
    plain: Option<bool>,
}

/// The output of a node.
struct Made {
    out: Vec<i8>,
    /// Mantissas of the newest sample that had to be clamped.
    clamped: usize,
}

/// What all runners of a network share.
struct Shared {
    network: Network,
    tables: Vec<[i8; 256]>,
    ready: Vec<Ready>,
}

/// Runs a network, sample by sample; it keeps the maps of the newest one.
pub struct Runner {
    shared: Arc<Shared>,
    kernels: Kernels,
    input: Vec<i8>,
    made: Vec<Made>,
    scratch: Vec<i16>,
    sums: Vec<i32>,
}

impl Runner {
    /// # Errors
    /// As [`Network::check`].
    pub fn new(network: Network, kernels: Kernels) -> Result<Self, OnnxError> {
        network.check()?;
        let ready = network.nodes.iter().map(|node| {
            let mut ready = Ready { packed: Vec::new(), shifts: Vec::new(), thresholds: Vec::new(), plain: None };
            if let Op::Conv { parts, bias, weight_exponents } = &node.op {
                ready.packed.extend(parts.iter().map(|part| {
                    let mut packed = vec![0; kernels.packed_len(&part.conv)];
                    kernels.pack(&part.conv, &part.weights, &mut packed);
                    packed
                }));
                ready.shifts = network.shifts(node, weight_exponents);
                ready.thresholds = bias.iter().map(|&bias| -bias).collect();
                let one = ready.shifts.iter().all(|&shift| shift == ready.shifts[0]);
                ready.plain = match (node.low, node.high) {
                    (0, 127) if one => Some(true),
                    (-127, 127) if one => Some(false),
                    _ => None,
                };
            }
            ready
        });
        let ready = ready.collect();
        Ok(Self::over(Arc::new(Shared { tables: network.input.tables(), ready, network }), kernels))
    }

    fn over(shared: Arc<Shared>, kernels: Kernels) -> Self {
        let nodes = &shared.network.nodes;
        let convs = nodes.iter().flat_map(|node| if let Op::Conv { parts, .. } = &node.op { &parts[..] } else { &[] });
        let scratch = convs.map(|part| kernels.forward_scratch_len(&part.conv)).max().unwrap_or(0);
        let sums = nodes.iter().map(|node| node.map.len()).max().unwrap_or(0);
        let made = nodes.iter().map(|node| Made { out: vec![0; node.map.len()], clamped: 0 }).collect();
        let input = vec![0; shared.network.input.map().len()];
        Runner { kernels, input, made, scratch: vec![0; scratch], sums: vec![0; sums], shared }
    }

    /// Another that runs beside this one, with maps of its own and the same weights.
    pub fn beside(&self) -> Self {
        Self::over(self.shared.clone(), self.kernels)
    }

    /// Takes one stored sample ([`Input::stored_len`] bytes, at an even address) through all nodes.
    ///
    /// # Panics
    /// Where it has another length.
    pub fn run(&mut self, stored: &[u8]) {
        let network = &self.shared.network;
        assert_eq!(stored.len(), network.input.stored_len(), "bytes of a sample");
        match &network.input {
            Input::Pixels(map) => fit::to_input(stored, map.channels, &mut self.input),
            Input::Latents { scales, .. } => latent::to_input(scales, stored, &mut self.input),
            Input::Normalized { map, .. } => {
                for (pixel, out) in stored.chunks_exact(map.channels).zip(self.input.chunks_exact_mut(map.channels)) {
                    for ((&v, o), table) in pixel.iter().zip(out).zip(&self.shared.tables) {
                        *o = table[usize::from(v)];
                    }
                }
            }
            Input::Readings { scales, .. } => {
                signal::to_input(scales, &bytemuck::pod_collect_to_vec(stored), &mut self.input);
            }
            Input::Levels { scales, .. } => audio::to_input(scales, stored, &mut self.input),
            Input::Codes { vocabulary, .. } => token::to_input(*vocabulary, stored, &mut self.input),
        }
        for number in 0..self.made.len() {
            self.step(number);
        }
    }

    /// A map of the newest sample.
    pub fn value(&self, value: usize) -> &[i8] {
        value.checked_sub(1).map_or(&self.input, |node| &self.made[node].out)
    }

    /// Mantissas that a node clamped of the newest sample.
    pub fn clamped(&self, node: usize) -> usize {
        self.made[node].clamped
    }

    /// The feature of the newest sample, [`Network::feature_dim`] long.
    pub fn feature(&self) -> Vec<i8> {
        self.network().outputs.iter().flat_map(|&value| self.value(value)).copied().collect()
    }

    /// Adds what `of` makes of each number of the newest feature to `out`.
    pub fn extend_feature(&self, out: &mut Vec<u8>, of: impl Fn(i8) -> u8) {
        for &value in &self.network().outputs {
            out.extend(self.value(value).iter().map(|&mantissa| of(mantissa)));
        }
    }

    /// What it runs.
    pub fn network(&self) -> &Network {
        &self.shared.network
    }

    /// Bytes of the weights, and of its own maps.
    pub fn bytes(&self) -> (usize, usize) {
        let of = |ready: &Ready| {
            let packed: usize = ready.packed.iter().map(|packed| 2 * packed.len()).sum();
            packed + 4 * (ready.shifts.len() + ready.thresholds.len())
        };
        let weights = self.network().weights_len() + self.shared.ready.iter().map(of).sum::<usize>();
        let maps = self.input.len() + self.made.iter().map(|made| made.out.len()).sum::<usize>();
        (weights, maps + 2 * self.scratch.len() + 4 * self.sums.len())
    }

    fn step(&mut self, number: usize) {
        let (network, kernels) = (&self.shared.network, self.kernels);
        let (node, ready) = (&network.nodes[number], &self.shared.ready[number]);
        let (before, rest) = self.made.split_at_mut(number);
        let made = &mut rest[0];
        let input = &self.input;
        let value = |at: usize| match node.inputs[at].checked_sub(1) {
            None => &input[..],
            Some(node) => &before[node].out[..],
        };
        let (x, from) = (value(0), network.map(node.inputs[0]));
        let (low, high) = (i32::from(node.low), i32::from(node.high));
        made.clamped = 0;
        match &node.op {
            Op::Conv { parts, bias, .. } => {
                let shift = ready.shifts[0] as u32;
                let mut forward = |part: &Part, packed: &[i16], sink: &mut dyn ForwardInto| {
                    sink.forward(kernels, part, x, packed, &mut self.scratch);
                };
                for (part, packed) in parts.iter().zip(&ready.packed) {
                    match ready.plain {
                        Some(true) => {
                            let mut sink = Relu::new(shift, &ready.thresholds, &mut made.out);
                            forward(part, packed, &mut sink);
                            made.clamped += sink.seen().clamped as usize;
                        }
                        Some(false) => {
                            let mut sink = Linear::new(shift, &ready.thresholds, &mut made.out);
                            forward(part, packed, &mut sink);
                            made.clamped += sink.seen().clamped as usize;
                        }
                        None => {
                            let (shifts, out) = (&ready.shifts[..], &mut made.out[..]);
                            let mut sink = ByFilter { bias, shifts, low, high, out, clamped: 0 };
                            forward(part, packed, &mut sink);
                            made.clamped += sink.clamped;
                        }
                    }
                }
            }
            Op::Lookup { rows } => {
                let width = node.map.channels;
                for (out, code) in made.out.chunks_exact_mut(width).zip(token::codes(x)) {
                    out.copy_from_slice(&rows[code * width..][..width]);
                }
            }
            Op::Sums { grid, shift } => {
                let sums = &mut self.sums[..grid.len()];
                pool_sums(grid, x, sums);
                made.clamped = crate::kernels::narrow::nearest(sums, *shift, &mut made.out).clamped as usize;
            }
            Op::Average { window, all } => {
                let shift = AVERAGE_BITS - network.rise(node) as u32;
                let every = window.kernel.0 * window.kernel.1;
                each_window(window, from, node.map, |rows, columns, at| {
                    let count = if *all { every } else { (rows.len() * columns.len()).max(1) };
                    // Of 127 at most: within 2^23.
                    let factor = ((2 << AVERAGE_BITS) / count as i32 + 1) >> 1;
                    let sums = &mut self.sums[..from.channels];
                    sums.fill(0);
                    each_position(from, &rows, &columns, |position| {
                        sums.iter_mut().zip(&x[position..]).for_each(|(sum, &v)| *sum += i32::from(v));
                    });
                    for (out, &mut sum) in made.out[at..].iter_mut().zip(sums) {
                        let y = round_nearest(sum * factor, shift);
                        made.clamped += usize::from(y.abs() > I8_MAX);
                        *out = y.clamp(low, high) as i8;
                    }
                });
            }
            Op::Max(window) => each_window(window, from, node.map, |rows, columns, at| {
                let out = &mut made.out[at..at + from.channels];
                out.fill(-127);
                each_position(from, &rows, &columns, |position| {
                    out.iter_mut().zip(&x[position..]).for_each(|(out, &v)| *out = v.max(*out));
                });
                out.iter_mut().for_each(|v| *v = (*v).clamp(node.low, node.high));
            }),
            Op::Add => {
                // Checked when the runner was made.
                let Some(how) = network.residual(node) else { return };
                kernels.add(&how, x, value(1), &mut made.out);
                made.clamped = made.out.iter().filter(|v| v.abs() == 127).count();
                made.out.iter_mut().for_each(|v| *v = (*v).clamp(node.low, node.high));
            }
            Op::Concat => {
                let mut first = 0;
                for (at, &input) in node.inputs.iter().enumerate() {
                    let (channels, by) = (network.map(input).channels, node.exponent - network.exponent(input));
                    let rows = made.out.chunks_exact_mut(node.map.channels);
                    for (row, from) in rows.zip(value(at).chunks_exact(channels)) {
                        for (out, &v) in row[first..].iter_mut().zip(from) {
                            *out = rescale(v, by).clamp(node.low, node.high);
                        }
                    }
                    first += channels;
                }
            }
            Op::Pad { top, left } => {
                let (width, channels) = (node.map.width, node.map.channels);
                for (y, row) in x.chunks_exact(from.width * channels).enumerate() {
                    let at = ((y + top) * width + left) * channels;
                    let out = made.out[at..].iter_mut().zip(row);
                    out.for_each(|(out, &v)| *out = v.clamp(node.low, node.high));
                }
            }
        }
    }
}

/// `v · 2^−by`, rounded to nearest and clamped.
fn rescale(v: i8, by: i32) -> i8 {
    match u32::try_from(by) {
        Ok(by) => saturate_i8(round_nearest(i32::from(v), by.min(30))),
        Err(_) => saturate_i8(i32::from(v) << by.unsigned_abs().min(8)),
    }
}

fn each_window(
    window: &Window,
    from: Map,
    to: Map,
    mut f: impl FnMut(core::ops::Range<usize>, core::ops::Range<usize>, usize),
) {
    for y in 0..to.height {
        for x in 0..to.width {
            let (rows, columns) = window.at(from, y, x);
            f(rows, columns, (y * to.width + x) * to.channels);
        }
    }
}

fn each_position(
    map: Map,
    rows: &core::ops::Range<usize>,
    columns: &core::ops::Range<usize>,
    mut f: impl FnMut(usize),
) {
    for y in rows.clone() {
        for x in columns.clone() {
            f((y * map.width + x) * map.channels);
        }
    }
}

/// A sink behind a pointer, so that a convolution is compiled once for each kind.
trait ForwardInto {
    fn forward(&mut self, kernels: Kernels, part: &Part, x: &[i8], packed: &[i16], scratch: &mut [i16]);
}

impl<S: Sink> ForwardInto for S {
    fn forward(&mut self, kernels: Kernels, part: &Part, x: &[i8], packed: &[i16], scratch: &mut [i16]) {
        kernels.forward(&part.conv, x, &part.weights, packed, self, scratch);
    }
}
