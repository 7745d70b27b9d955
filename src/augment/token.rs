//! Windows of codes: how the encoder takes them, and their views. A code is two digits of 7 bits, so that it fits the
//! mantissas that everything else is made of; the code after the last of the vocabulary is the mask.

use crate::fixed::random::Draws;

/// Numbers that a code is given to the encoder as.
pub const DIGITS: usize = 2;
const DIGIT_BITS: u32 = 7;

/// The codes of an input.
pub fn codes(input: &[i8]) -> impl Iterator<Item = usize> + '_ {
    let digit = |d: i8| usize::from(d.unsigned_abs());
    input.as_chunks::<DIGITS>().0.iter().map(move |&[low, high]| digit(low) | digit(high) << DIGIT_BITS)
}

/// A code as the encoder takes it.
pub(crate) const fn digits(code: u16) -> [i8; DIGITS] {
    let low = code & ((1 << DIGIT_BITS) - 1);
    [low as i8, (code >> DIGIT_BITS) as i8]
}

/// The encoder's input of stored codes (little-endian, 16 bits). A code beyond the vocabulary, as a damaged store may hold,
/// counts as masked.
pub fn to_input(vocabulary: usize, stored: &[u8], out: &mut [i8]) {
    for (pair, out) in stored.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        *out = digits(u16::from_le_bytes(*pair).min(vocabulary as u16));
    }
}

/// A view: this `share` of the codes, of 256, is masked, each by itself.
pub fn view(vocabulary: usize, share: u32, stored: &[u8], draws: Draws, out: &mut [i8]) {
    to_input(vocabulary, stored, out);
    let masked = out.as_chunks_mut().0.iter_mut().zip(0..).filter(|&(_, at)| draws.chance(at, share));
    masked.for_each(|(code, _)| *code = digits(vocabulary as u16));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Seed;

    #[test]
    fn codes_come_back_from_their_digits_and_the_share_named_is_masked() {
        let stored: Vec<u8> = (0..4000u16).flat_map(|code| (code % 300).to_le_bytes()).collect();
        let mut input = vec![0i8; 8000];
        to_input(300, &stored, &mut input);
        assert!(codes(&input).eq((0..4000).map(|code| code % 300)));
        view(300, 64, &stored, Draws::new(Seed(3), 1, 1), &mut input);
        let masked = codes(&input).filter(|&code| code == 300).count();
        assert!((900..1100).contains(&masked), "{masked}");
        assert!(codes(&input).zip(0..).all(|(code, at)| code == 300 || code == at % 300));
        to_input(200, &stored, &mut input);
        assert!(codes(&input).all(|code| code <= 200), "a code that is none is masked");
    }
}
