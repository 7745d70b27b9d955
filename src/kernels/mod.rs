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
mod residual;
mod sweep;
mod weight_grad;

pub use geometry::{Conv, Grid, Map};
pub use residual::Residual;

use narrow::Sink;
use packed::Lengths;
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
    /// The memory of a tile whose instructions this processor lacks, for plans; the products are the reference's.
    #[cfg(feature = "std")]
    Planned(&'static str, tile::Layout),
}

impl Kernels {
    /// The fastest way that this processor has.
    pub fn detect() -> Self {
        Tile::all().last().map_or(Kernels::Lean, |&tile| Kernels::Packed(tile))
    }

    /// Names of all ways, those of other processors too.
    #[cfg(feature = "std")]
    pub fn names() -> impl Iterator<Item = &'static str> {
        [Kernels::Reference, Kernels::Lean].into_iter().map(Kernels::name).chain(tile::TILES.iter().map(|tile| tile.0))
    }

    /// The way called `name`; [`Kernels::Planned`] where this processor lacks the instructions. `None`: there is none.
    #[cfg(feature = "std")]
    pub fn named(name: &str) -> Option<Self> {
        let own = [Kernels::Reference, Kernels::Lean].into_iter().chain(Tile::all().into_iter().map(Kernels::Packed));
        let planned = |&(name, layout): &(&'static str, _)| Kernels::Planned(name, layout);
        own.into_iter().chain(tile::TILES.iter().map(planned)).find(|way| way.name() == name)
    }

    /// Name for reports: `reference`, `packed/portable`, `packed/avx2` …
    pub fn name(self) -> &'static str {
        match self {
            Kernels::Reference => "reference",
            Kernels::Lean => lean::NAME,
            Kernels::Packed(tile) => tile.name(),
            #[cfg(feature = "std")]
            Kernels::Planned(name, _) => name,
        }
    }

    /// Views whose weight gradients are best summed at a time.
    pub fn views_at_a_time(self) -> usize {
        match self {
            Kernels::Reference | Kernels::Lean => 1,
            _ => 16,
        }
    }

    /// Runs `work` as it was compiled for the instruction set in use.
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            Kernels::Lean => work.run(OneByOne),
            Kernels::Packed(tile) => tile.run(work),
            _ => work.run(Portable),
        }
    }

    fn lengths(self, conv: &Conv) -> Lengths {
        let grouped = !conv.is_dense() && !conv.is_depthwise();
        match self {
            Kernels::Reference => Lengths::default(),
            Kernels::Lean if conv.is_dense() => {
                let (scratch, forward_scratch) = (lean::scratch_len(conv), lean::forward_scratch_len(conv));
                Lengths { scratch, forward_scratch, ..Default::default() }
            }
            _ if grouped => {
                let one = self.lengths(&conv.group(0));
                Lengths { forward: one.forward * conv.groups, back: 0, ..one }
            }
            Kernels::Lean => Lengths::default(),
            Kernels::Packed(tile) => Lengths::of(tile.layout(), conv),
            #[cfg(feature = "std")]
            Kernels::Planned(_, layout) => Lengths::of(layout, conv),
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
            Kernels::Packed(tile) if conv.is_dense() => tile.run(packed::PackForward { conv, weights, out }),
            Kernels::Packed(_) if conv.is_depthwise() => depthwise::pack_forward(conv, weights, out),
            Kernels::Packed(_) => {
                let (len, weights_len) = (self.packed_len(&conv.group(0)), conv.weights() / conv.groups);
                for (g, weights) in weights.chunks_exact(weights_len).enumerate() {
                    self.pack(&conv.group(g), weights, &mut out[g * len..]);
                }
            }
            _ => {}
        }
    }

    /// Packs `weights` for [`Kernels::input_grad`].
    pub fn pack_back(self, conv: &Conv, weights: &[i8], out: &mut [i16]) {
        match self {
            Kernels::Packed(tile) if conv.is_dense() => tile.run(packed::PackBack { conv, weights, out }),
            Kernels::Packed(_) if conv.is_depthwise() => depthwise::pack_back(conv, weights, out),
            _ => {}
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
            Kernels::Lean if conv.is_dense() => lean::forward(conv, x, weights, sink, scratch),
            Kernels::Lean if conv.is_depthwise() => lean::depthwise(conv, x, weights, false, sink),
            Kernels::Packed(tile) if conv.is_dense() || conv.is_depthwise() => {
                tile.run(packed::Forward { conv, x, packed, sink, scratch });
            }
            Kernels::Lean | Kernels::Packed(_) => {
                let (len, weights_len) = (self.packed_len(&conv.group(0)), conv.weights() / conv.groups);
                for (g, weights) in weights.chunks_exact(weights_len).enumerate() {
                    self.forward(&conv.group(g), x, weights, &packed[g * len..], sink, scratch);
                }
            }
            _ => reference::conv_forward(conv, x, weights, sink),
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
            Kernels::Packed(tile) if conv.is_depthwise() => {
                tile.run(depthwise::WeightGrad { conv, x, error, grad, scratch });
            }
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
            Kernels::Packed(tile) if conv.is_dense() || conv.is_depthwise() => {
                tile.run(packed::InputGrad { conv, error, packed: packed_back, sink, scratch });
            }
            _ => reference::conv_input_grad(conv, error, weights, sink),
        }
    }

    /// The sum of two maps; see [`reference::add`].
    pub fn add(self, how: &Residual, a: &[i8], b: &[i8], out: &mut [i8]) {
        self.run(residual::Add { how, a, b, out });
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
