//! Checksums of what lies in memory for months: weights, optimizer state, what is remembered.
//! `learner` and `replay` note them and look again.
//!
//! They find bits that flipped by accident, and are no defence against somebody who wants to deceive. Any one changed
//! word changes the sum for certain, as each step is a bijection; several are missed once in 2⁶⁴.

use bytemuck::Pod;

/// An odd multiplier with its bits well spread (2⁶⁴ divided by the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// Words taken side by side, so that a multiplication need not wait for the one before.
const LANES: usize = 8;

#[inline(always)]
fn fold(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(SPREAD).rotate_left(29)
}

/// Checksum of `numbers`; a multiply and a rotation for 8 bytes, without tables.
pub fn checksum<T: Pod>(numbers: &[T]) -> u64 {
    let bytes: &[u8] = bytemuck::cast_slice(numbers);
    let mut lanes = [0u64; LANES];
    let (blocks, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = fold(*lane, u64::from_le_bytes(*word));
        }
    }
    let (words, tail) = rest.as_chunks::<8>();
    let mut sum = bytes.len() as u64;
    for word in lanes.into_iter().chain(words.iter().map(|word| u64::from_le_bytes(*word))) {
        sum = fold(sum, word);
    }
    tail.iter().fold(sum, |sum, &byte| fold(sum, u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_length_changes_the_sum() {
        for len in [0, 1, 7, 8, 9, 63, 64, 65, 200] {
            let mut bytes = vec![0u8; len];
            let sum = checksum(&bytes);
            assert_ne!(sum, checksum(&vec![0u8; len + 1]));
            for bit in 0..8 * len {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(checksum(&bytes), sum, "bit {bit} of {len} bytes");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
