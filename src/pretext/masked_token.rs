//! Masked token modelling: some of the codes of a window are hidden, and what they were is to be told from the others
//! (Devlin et al. 2018, arXiv:1810.04805), for bytes, events and log lines.
//!
//! Of the codes asked for, 8 in 10 are replaced by the mask, 1 by any code and 1 is left, so that features of windows in
//! which nothing is masked are not strangers to the encoder. The decoder gives a score for each code of the vocabulary;
//! the loss is the cross-entropy over the masked places. Scores are brought to 1/32 nat by a shift that is moved against
//! the layers' own, as in [`super::denoise`]; how sure the decoder is grows with its weights.
//!
//! How it fails: where the neighbours of a code tell nothing of it, the frequencies of the codes are the best answer and
//! the layers learn nothing else; the rank stays low while the loss falls to the entropy of the codes.

use super::softmax::{PROBABILITY, Temperature, cross_entropy};
use crate::augment::token;
use crate::fixed::random::Draws;
use crate::fixed::{round_nearest, round_random, saturate_i8};
use crate::net::task::Pretext;

/// Fraction bits of a score: it is in 1/32 nat.
pub const FRACTION: u32 = 5;
/// Bits of an error that are rounded away: one of 1 is a full mantissa.
const ERROR_SHIFT: u32 = PROBABILITY - 7;

/// Which codes of a window are asked for, and by what they are replaced: a function of the draws alone.
#[derive(Clone, Copy)]
pub struct Mask {
    draws: Draws,
    share: u32,
}

impl Mask {
    /// Draws of the replacements begin above those of the places.
    const REPLACEMENT: u32 = 1 << 20;

    pub fn new(pretext: &Pretext, draws: Draws) -> Self {
        Mask { draws, share: pretext.mask as u32 }
    }

    /// The code at place `at` is asked for.
    #[inline]
    pub fn asks(&self, at: usize) -> bool {
        self.draws.chance(at as u32, self.share)
    }

    /// The encoder's input of the stored codes.
    pub fn corrupt(&self, vocabulary: usize, stored: &[u8], out: &mut [i8]) {
        token::to_input(vocabulary, stored, out);
        for (at, code) in out.as_chunks_mut().0.iter_mut().enumerate().filter(|(at, _)| self.asks(*at)) {
            let element = Self::REPLACEMENT + 2 * at as u32;
            match self.draws.below(element, 10) {
                0..8 => *code = token::digits(vocabulary as u16),
                8 => *code = token::digits(self.draws.below(element + 1, vocabulary as u32) as u16),
                _ => {}
            }
        }
    }
}

/// What rebuilding the codes of one window came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Sum of the cross-entropies, in 1/256 nat.
    pub loss: u64,
    /// Codes asked for.
    pub asked: u64,
}

impl Told {
    pub fn add(&mut self, other: Told) {
        self.loss += other.loss;
        self.asked += other.asked;
    }
}

/// The scores of the codes of a window, `[length, vocabulary]` sums of the decoder, are compared with the `stored` codes;
/// where errors are wanted they go to `errors`, in the scores' places: Q7, rounded at random by `draws`.
pub fn tell(
    scores: &mut [i32],
    vocabulary: usize,
    shift: u32,
    stored: &[u8],
    mask: Mask,
    mut errors: Option<(&mut [i8], Draws)>,
) -> Told {
    /// Scores over 2^20 nat are as sure as those of so many.
    const MOST: i32 = 1 << 25;
    let mut told = Told::default();
    for (at, (scores, code)) in scores.chunks_exact_mut(vocabulary).zip(stored.as_chunks().0).enumerate() {
        let from = at * vocabulary;
        if !mask.asks(at) {
            if let Some((errors, _)) = &mut errors {
                errors[from..from + vocabulary].fill(0);
            }
            continue;
        }
        scores.iter_mut().for_each(|s| *s = round_nearest(*s, shift).clamp(-MOST, MOST));
        let label = usize::from(u16::from_le_bytes(*code));
        told.loss += u64::from(cross_entropy(scores, label, Temperature::nats(FRACTION)));
        told.asked += 1;
        if let Some((errors, draws)) = &mut errors {
            for (number, (error, &score)) in (from..).zip(errors[from..].iter_mut().zip(scores.iter())) {
                *error = saturate_i8(round_random(score, ERROR_SHIFT, *draws, number as u32));
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::task::{PretextSpec, Task};
    use crate::sample::Seed;

    const VOCABULARY: usize = 20;

    fn mask(share: u16) -> Mask {
        let spec = PretextSpec { mask: Some(share), ..PretextSpec::new(Task::MaskedToken) };
        Mask::new(&spec.resolved().expect("a task"), Draws::new(Seed(1), 2, 3))
    }

    fn codes(count: usize) -> Vec<u8> {
        let draws = Draws::new(Seed(4), 0, 0);
        (0..count as u32).flat_map(|i| (draws.below(i, VOCABULARY as u32) as u16).to_le_bytes()).collect()
    }

    #[test]
    fn loss_and_errors_are_those_of_the_float_formula() {
        let (stored, mask) = (codes(400), mask(38));
        let draws = Draws::new(Seed(9), 0, 0);
        let sums: Vec<i32> = (0..400 * VOCABULARY as u32).map(|i| draws.between(i, -900, 900)).collect();
        let mut scores = sums.clone();
        let mut errors = vec![99i8; sums.len()];
        let told = tell(&mut scores, VOCABULARY, 4, &stored, mask, Some((&mut errors, draws)));
        let (mut loss, mut asked, mut worst) = (0.0, 0, 0.0f64);
        for (at, row) in sums.chunks(VOCABULARY).enumerate() {
            let errors = &errors[at * VOCABULARY..][..VOCABULARY];
            if !mask.asks(at) {
                assert!(errors.iter().all(|&e| e == 0), "what is not asked for has no error");
                continue;
            }
            let exp: Vec<f64> = row.iter().map(|&s| (f64::from(s) / 16.0 / 32.0).exp()).collect();
            let sum: f64 = exp.iter().sum();
            let label = usize::from(stored[2 * at]);
            loss -= (exp[label] / sum).ln();
            asked += 1;
            for (k, (&e, x)) in errors.iter().zip(&exp).enumerate() {
                let exact = 128.0 * (x / sum - f64::from(u8::from(k == label)));
                worst = worst.max((f64::from(e) - exact.clamp(-127.0, 127.0)).abs());
            }
        }
        assert_eq!(told.asked, asked);
        let mean = told.loss as f64 / 256.0 / asked as f64;
        assert!((mean - loss / f64::from(asked as u32)).abs() < 0.03, "{mean} {}", loss / asked as f64);
        // A step of rounding at random, and the table's.
        assert!(worst < 3.0, "{worst}");
    }

    #[test]
    fn most_of_what_is_asked_for_is_hidden_and_nothing_else_changes() {
        let (stored, mask) = (codes(20_000), mask(38));
        let mut input = vec![0; 40_000];
        mask.corrupt(VOCABULARY, &stored, &mut input);
        let (mut asked, mut hidden, mut kept) = (0.0, 0.0, 0.0);
        for (at, code) in token::codes(&input).enumerate() {
            let was = usize::from(stored[2 * at]);
            if !mask.asks(at) {
                assert_eq!(code, was);
                continue;
            }
            asked += 1.0;
            hidden += f64::from(u8::from(code == VOCABULARY));
            kept += f64::from(u8::from(code == was));
        }
        assert!((asked / 20_000.0 - 38.0 / 256.0f64).abs() < 0.01, "{asked}");
        assert!((hidden / asked - 0.8f64).abs() < 0.03 && (kept / asked - 0.105f64).abs() < 0.03, "{hidden} {kept}");
    }
}
