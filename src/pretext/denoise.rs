//! Masked and denoising reconstruction: blocks of readings are zeroed, or noise is added to readings or pixels, and the
//! decoder is to give them back (Vincent et al. 2008, denoising autoencoders; masking as in He et al. 2021,
//! arXiv:2111.06377). The errors and the loss of every task that rebuilds numbers; [`super::inpaint`] hides them.
//!
//! Works at batch 1, without a past. Here scale matters: the decoder's sums are brought to sixteenths of an input step by a
//! shift that is moved against the layers' own, so that a prediction does not jump where one of them does.
//!
//! How it fails: features that only follow the level of a window rebuild much of a slow signal, and the rank falls while
//! the loss looks well; with all readings unmasked and no noise the identity is the best answer. The guard's rank and the
//! probe tell.

use super::code::shift;
use super::inpaint::NOT_ASKED;
use crate::fixed::math::log2_q8;
use crate::fixed::random::Draws;
use crate::fixed::{LaggedShift, Seen, round_nearest, shift_for};
use crate::kernels::narrow::{AtRandom, Rows, Sink, Tally};
use crate::kernels::tile::{COLUMNS, Isa, lanes, load};
use crate::net::forward::Shifts;
use crate::net::head::Head;
use crate::net::network::Network;

/// Fraction bits of a prediction: it is in sixteenths of an 8-bit step of the input.
pub const FRACTION: u32 = 4;

/// Takes the decoder's sums: measures the errors, and puts them in the place of the clean numbers.
pub struct Rebuild<'a> {
    /// The clean numbers in the order of the sums, [`NOT_ASKED`] where that is so; the errors once they are written.
    pub clean: &'a mut [i8],
    /// Shift of the decoder's sums.
    pub prediction: u32,
    /// How errors are narrowed to 8 bits; `None`: they are measured only.
    pub narrowing: Option<(u32, Draws)>,
    squares: u64,
    asked: u64,
    largest_sum: u32,
    largest_error: u32,
    tally: Tally,
}

impl<'a> Rebuild<'a> {
    pub fn new(clean: &'a mut [i8], prediction: u32, narrowing: Option<(u32, Draws)>) -> Self {
        Rebuild {
            clean,
            prediction,
            narrowing,
            squares: 0,
            asked: 0,
            largest_sum: 0,
            largest_error: 0,
            tally: Tally::default(),
        }
    }

    /// Mean square of the errors, in 1/256 of a squared step.
    pub fn mean_square(&self) -> u64 {
        self.squares / self.asked.max(1)
    }

    /// What narrowing the errors saw.
    pub fn seen(&self) -> Seen {
        self.tally.seen(self.asked as usize)
    }

    /// The shift of the decoder's sums by which the first predictions stay within 32 steps.
    pub fn first_prediction_shift(&self) -> u32 {
        shift_for(self.largest_sum, 6 + FRACTION)
    }

    /// The shift that brings the errors to 8 bits.
    pub fn exact_error_shift(&self) -> u32 {
        shift_for(self.largest_error, 8)
    }
}

impl Sink for Rebuild<'_> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, _: I, offsets: &[usize], _: usize, count: usize, sums: &[[i32; COLUMNS]]) {
        /// Errors over a million steps are as bad as those of a million.
        const MOST: i32 = 1 << 20;
        for (&at, sums) in offsets.iter().zip(sums) {
            let clean = load(&self.clean[at..at + count]);
            let asked = lanes(|l| u32::from(l < count && clean[l] != NOT_ASKED));
            let errors = lanes(|l| {
                if asked[l] == 0 {
                    return 0;
                }
                let target = i32::from(clean[l]) << FRACTION;
                (round_nearest(sums[l], self.prediction).clamp(-MOST, MOST) - target).clamp(-MOST, MOST)
            });
            for (l, (&sum, &error)) in sums.iter().zip(&errors).take(count).enumerate() {
                self.asked += u64::from(asked[l]);
                self.squares += u64::from(error.unsigned_abs()).pow(2);
                self.largest_sum = self.largest_sum.max(sum.unsigned_abs());
                self.largest_error = self.largest_error.max(error.unsigned_abs());
            }
            if let Some((shift, draws)) = self.narrowing {
                let rows = Rows { offsets: &[at], sums: &[errors], out: self.clean };
                AtRandom { shift, draws, first: 0, active: None }.plain(rows, count, &mut self.tally);
            }
        }
    }
}

/// The loss of errors whose mean square is `mean_square`, in 1/256 of a squared step: `½ ln` of it in sixteenths of a step,
/// in 1/256 nat. It is the negative log-likelihood of a Gaussian up to a constant, so that the guard's half nat means a
/// standard error 1.6 times as large.
pub fn loss(mean_square: u64) -> u32 {
    /// ln 2 / 2 in Q16.
    const HALF_LN2_Q16: u64 = 22_713;
    ((u64::from(log2_q8(mean_square.max(1))) * HALF_LN2_Q16) >> 16) as u32
}

/// Moves the shifts that carry a scale against what the others moved from `before`: what is rebuilt stays. The layers move
/// the prediction, or the latent where there is a code; the code's map moves the prediction.
pub fn keep_prediction(network: &Network, head: &Head, before: &Shifts, shifts: &mut Shifts) {
    let sum = |shifts: &Shifts| shifts.layers[..network.layers.len()].iter().map(|s| s.get() as i32).sum::<i32>();
    move_for(head, 0, shifts, sum(before) - sum(shifts));
    if head.code_len() > 0 {
        let map = |shifts: &Shifts| shifts.heads[head.number][shift::MAP].get() as i32;
        move_for(head, 1, shifts, map(before) - map(shifts));
    }
}

/// Adds `by` to the shift that carries the scale of the head's layer in `place`, or of the layers below it in place 0.
pub fn move_for(head: &Head, place: usize, shifts: &mut Shifts, by: i32) {
    let carries = if head.code_len() > 0 && place == 0 { shift::LATENT } else { shift::PREDICTION };
    let moved = &mut shifts.heads[head.number][carries];
    *moved = LaggedShift::at((moved.get() as i32 + by).clamp(0, 31) as u32);
}

#[cfg(test)]
mod tests;
