//! Integer kernels: convolution with its two backward products, pooling, narrowing.
//!
//! [`mod@reference`] is the definition, in the plainest loops. `packed`, `weight_grad` and `depthwise` compute the
//! same bits through a register tile ([`tile`]), of which each instruction set has its own form; `lean` in little memory,
//! for microcontrollers. Sums are narrowed by a [`narrow::Sink`] as they are finished. `net` calls [`Kernels`], whose way
//! was chosen once, when the plan was built.
//! This is the only module of the crate with `unsafe` code.

#[cfg(feature = "std")]
pub mod ceiling;
#[cfg(all(target_arch = "arm", feature = "cortex-m-dsp"))]
pub mod cortex_m;
pub mod narrow;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
pub mod neon;
pub mod reference;
pub mod tile;
#[cfg(target_arch = "x86_64")]
pub mod x86;

mod depthwise;
mod geometry;
mod lean;
mod packed;
mod weight_grad;

pub use geometry::{Conv, Grid, Map};

use narrow::Sink;
use tile::{OneByOne, Portable, Tile, Work};

/// Maps of several views, `stride` numbers apart.
#[derive(Clone, Copy)]
pub struct Views<'a> {
    pub values: &'a [i8],
    pub stride: usize,
    pub count: usize,
}

impl<'a> Views<'a> {
    /// One map.
    pub fn one(values: &'a [i8]) -> Self {
        Views { values, stride: 0, count: 1 }
    }
    /// From the first number of the map of `view` on.
    #[inline(always)]
    pub fn of(&self, view: usize) -> &'a [i8] {
        &self.values[view * self.stride..]
    }
}

/// The way in which the products are computed. All ways give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The definition itself: no scratch memory, for microcontrollers and as the measure of the others.
    Reference,
    /// No packed weights and little scratch, for microcontrollers.
    Lean,
    /// Packed panels and a register tile.
    Packed(Tile),
}

impl Kernels {
    /// The fastest way that this processor has.
    pub fn detect() -> Self {
        Tile::all().last().map_or(Kernels::Lean, |&tile| Kernels::Packed(tile))
    }

    /// Name for reports: `reference`, `packed/portable`, `packed/avx2` …
    pub fn name(self) -> &'static str {
        match self {
            Kernels::Reference => "reference",
            Kernels::Lean => lean::NAME,
            Kernels::Packed(tile) => tile.name(),
        }
    }

    /// Views whose weight gradients are best summed at a time.
    pub fn views_at_a_time(self) -> usize {
        match self {
            Kernels::Reference | Kernels::Lean => 1,
            Kernels::Packed(_) => 16,
        }
    }

    /// Runs `work` as it was compiled for the instruction set in use.
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            Kernels::Reference => work.run(Portable),
            Kernels::Lean => work.run(OneByOne),
            Kernels::Packed(tile) => tile.run(work),
        }
    }

    fn lengths(self, conv: &Conv) -> packed::Lengths {
        match self {
            Kernels::Reference => packed::Lengths::default(),
            Kernels::Lean if conv.is_dense() => {
                let (scratch, forward_scratch) = (lean::scratch_len(conv), lean::forward_scratch_len(conv));
                packed::Lengths { scratch, forward_scratch, ..Default::default() }
            }
            Kernels::Packed(tile) if conv.is_dense() => tile.run(packed::Plan(conv)),
            _ if !conv.is_depthwise() => {
                let one = self.lengths(&conv.group(0));
                packed::Lengths { forward: one.forward * conv.groups, back: 0, ..one }
            }
            Kernels::Lean => packed::Lengths::default(),
            Kernels::Packed(_) => {
                let len = depthwise::packed_len(conv);
                packed::Lengths { forward: len, back: len, ..Default::default() }
            }
        }
    }

    /// Numbers of `i16` scratch that the products of `conv` need.
    pub fn scratch_len(self, conv: &Conv) -> usize {
        self.lengths(conv).scratch
    }

    /// Numbers of `i16` scratch that the forward product of `conv` needs.
    pub fn forward_scratch_len(self, conv: &Conv) -> usize {
        self.lengths(conv).forward_scratch
    }

    /// Length of the packed form of the weights of `conv` for the forward product.
    pub fn packed_len(self, conv: &Conv) -> usize {
        self.lengths(conv).forward
    }

    /// Length of the packed form of the weights of `conv` for the input gradient.
    pub fn packed_back_len(self, conv: &Conv) -> usize {
        self.lengths(conv).back
    }

    /// Packs `weights` for [`Kernels::forward`]; once after each update.
    pub fn pack(self, conv: &Conv, weights: &[i8], out: &mut [i16]) {
        match self {
            Kernels::Reference | Kernels::Lean => {}
            Kernels::Packed(tile) if conv.is_dense() => tile.run(packed::PackForward { conv, weights, out }),
            Kernels::Packed(_) if !conv.is_depthwise() => {
                let (len, weights_len) = (self.packed_len(&conv.group(0)), conv.weights() / conv.groups);
                for (g, weights) in weights.chunks_exact(weights_len).enumerate() {
                    self.pack(&conv.group(g), weights, &mut out[g * len..]);
                }
            }
            Kernels::Packed(_) => depthwise::pack(conv, weights, out),
        }
    }

    /// Packs `weights` for [`Kernels::input_grad`].
    pub fn pack_back(self, conv: &Conv, weights: &[i8], out: &mut [i16]) {
        match self {
            Kernels::Reference | Kernels::Lean => {}
            Kernels::Packed(tile) if conv.is_dense() => tile.run(packed::PackBack { conv, weights, out }),
            Kernels::Packed(_) if !conv.is_depthwise() => {}
            Kernels::Packed(_) => depthwise::pack(conv, weights, out),
        }
    }

    /// `Σ x · w` for each element of the output, into `sink`; see [`reference::conv_forward`].
    pub fn forward<S: Sink>(
        self,
        conv: &Conv,
        x: &[i8],
        weights: &[i8],
        packed: &[i16],
        sink: &mut S,
        scratch: &mut [i16],
    ) {
        match self {
            Kernels::Reference => reference::conv_forward(conv, x, weights, sink),
            Kernels::Lean if conv.is_dense() => lean::forward(conv, x, weights, sink, scratch),
            Kernels::Packed(tile) if conv.is_dense() => {
                tile.run(packed::Forward { conv, x, packed, sink, scratch });
            }
            _ if !conv.is_depthwise() => {
                let (len, weights_len) = (self.packed_len(&conv.group(0)), conv.weights() / conv.groups);
                for (g, weights) in weights.chunks_exact(weights_len).enumerate() {
                    self.forward(&conv.group(g), x, weights, &packed[g * len..], sink, scratch);
                }
            }
            Kernels::Lean => lean::depthwise(conv, x, weights, false, sink),
            Kernels::Packed(tile) => tile.run(depthwise::Sweep { conv, from: x, packed, back: false, sink }),
        }
    }

    /// `grad[f, …] += Σ e · x` over all views; see [`reference::conv_weight_grad`]. Grouped convolutions, which no pretext
    /// trains, have no faster form of the backward products.
    pub fn weight_grad(self, conv: &Conv, x: Views, error: Views, grad: &mut [i32], scratch: &mut [i16]) {
        match self {
            Kernels::Lean if conv.is_dense() => lean::weight_grad(conv, x, error, grad, scratch),
            Kernels::Packed(tile) if conv.is_dense() => {
                tile.run(weight_grad::WeightGrad { conv, x, error, grad, scratch });
            }
            Kernels::Packed(tile) if conv.is_depthwise() => tile.run(depthwise::WeightGrad { conv, x, error, grad }),
            _ => {
                for view in 0..x.count {
                    reference::conv_weight_grad(conv, x.of(view), error.of(view), grad);
                }
            }
        }
    }

    /// `Σ e · w` for each element of the input, into `sink`; see [`reference::conv_input_grad`].
    pub fn input_grad<S: Sink>(
        self,
        conv: &Conv,
        error: &[i8],
        weights: &[i8],
        packed_back: &[i16],
        sink: &mut S,
        scratch: &mut [i16],
    ) {
        match self {
            Kernels::Lean if conv.is_dense() => lean::input_grad(conv, error, weights, sink, scratch),
            Kernels::Lean if conv.is_depthwise() => lean::depthwise(conv, error, weights, true, sink),
            Kernels::Packed(tile) if conv.is_dense() => {
                tile.run(packed::InputGrad { conv, error, packed: packed_back, sink, scratch });
            }
            Kernels::Packed(tile) if conv.is_depthwise() => {
                tile.run(depthwise::Sweep { conv, from: error, packed: packed_back, back: true, sink });
            }
            _ => reference::conv_input_grad(conv, error, weights, sink),
        }
    }
}

/// `Σ a · b` of numbers of 16 bits whose sum stays within 32.
#[inline]
pub fn dot(a: &[i16], b: &[i16]) -> i32 {
    #[cfg(all(target_arch = "arm", feature = "cortex-m-dsp"))]
    return cortex_m::dot(a, b);
    #[cfg(not(all(target_arch = "arm", feature = "cortex-m-dsp")))]
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(test)]
mod tests;
