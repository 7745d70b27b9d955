//! Integer kernels: convolution with its two backward products, pooling, requantization.
//!
//! [`mod@reference`] is the definition, in the plainest loops. [`packed`] computes the same bits through a small matrix
//! tile, of which [`x86`] has a faster form. `net` calls [`Kernels`], whose way was chosen once, when the plan was
//! built. This is the only module of the crate with `unsafe` code.

pub mod packed;
pub mod reference;
pub mod requantize;
#[cfg(target_arch = "x86_64")]
pub mod x86;

mod geometry;
pub use geometry::{Conv, Grid, Map};

use packed::Tile;

/// The way in which the products are computed. All ways give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The definition itself: no scratch memory, for microcontrollers and as the measure of the others.
    Reference,
    /// Packed panels and a register tile.
    Packed(Tile),
}

impl Kernels {
    /// The fastest way that this processor has.
    pub fn detect() -> Self {
        Kernels::Packed(Tile::detect())
    }

    /// Name for reports: `reference`, `packed/portable`, `packed/avx2`.
    pub fn name(self) -> &'static str {
        match self {
            Kernels::Reference => "reference",
            Kernels::Packed(tile) => tile.name(),
        }
    }

    /// Numbers of `i16` scratch that the products of `conv` need.
    pub fn scratch_len(self, conv: &Conv) -> usize {
        match self {
            Kernels::Packed(_) if conv.is_dense() => packed::scratch_len(conv),
            _ => 0,
        }
    }

    /// Length of the packed form of the weights of `conv` for the forward product.
    pub fn packed_len(self, conv: &Conv) -> usize {
        match self {
            Kernels::Packed(_) if conv.is_dense() => packed::forward_len(conv),
            _ => 0,
        }
    }

    /// Length of the packed form of the weights of `conv` for the input gradient.
    pub fn packed_back_len(self, conv: &Conv) -> usize {
        match self {
            Kernels::Packed(_) if conv.is_dense() => packed::input_grad_len(conv),
            _ => 0,
        }
    }

    /// Packs `weights` for [`Kernels::forward`]; once after each update.
    pub fn pack(self, conv: &Conv, weights: &[i8], out: &mut [i16]) {
        if self.packed_len(conv) > 0 {
            packed::pack_forward(conv, weights, out);
        }
    }

    /// Packs `weights` for [`Kernels::input_grad`].
    pub fn pack_back(self, conv: &Conv, weights: &[i8], out: &mut [i16]) {
        if self.packed_back_len(conv) > 0 {
            packed::pack_input_grad(conv, weights, out);
        }
    }

    /// `acc[oy, ox, first_filter + f] = Σ x · w`; see [`reference::conv_forward`].
    pub fn forward(self, conv: &Conv, x: &[i8], weights: &[i8], packed: &[i16], acc: &mut [i32], scratch: &mut [i16]) {
        match self {
            Kernels::Packed(tile) if conv.is_dense() => packed::forward(tile, conv, x, packed, acc, scratch),
            _ => reference::conv_forward(conv, x, weights, acc),
        }
    }

    /// `grad[f, …] += Σ e · x`; see [`reference::conv_weight_grad`].
    pub fn weight_grad(self, conv: &Conv, x: &[i8], error: &[i8], grad: &mut [i32], scratch: &mut [i16]) {
        match self {
            Kernels::Packed(tile) if conv.is_dense() => packed::weight_grad(tile, conv, x, error, grad, scratch),
            _ => reference::conv_weight_grad(conv, x, error, grad),
        }
    }

    /// `dx = Σ e · w`, overwritten; see [`reference::conv_input_grad`].
    pub fn input_grad(
        self,
        conv: &Conv,
        error: &[i8],
        weights: &[i8],
        packed_back: &[i16],
        dx: &mut [i32],
        scratch: &mut [i16],
    ) {
        dx.fill(0);
        match self {
            Kernels::Packed(tile) if conv.is_dense() => packed::input_grad(tile, conv, error, packed_back, dx, scratch),
            _ => reference::conv_input_grad(conv, error, weights, dx),
        }
    }
}

#[cfg(test)]
mod tests;
