//! Narrowing of `i32` accumulators to 8-bit mantissas, with the scan for the next shift in the same pass.

use crate::fixed::random::Draws;
use crate::fixed::{I8_MAX, Seen, round_nearest, round_random, saturate_i8};

/// ReLU and narrowing: `out = clamp(RN(acc − threshold, shift), 0, 127)`; `thresholds` hold one number a channel.
pub fn relu(acc: &[i32], thresholds: Option<&[i32]>, shift: u32, out: &mut [i8]) -> Seen {
    match thresholds {
        None => relu_rows(acc, &[], shift, out),
        Some(t) => {
            let mut seen = Seen::default();
            for (a, o) in acc.chunks_exact(t.len()).zip(out.chunks_exact_mut(t.len())) {
                seen = seen.merge(relu_rows(a, t, shift, o));
            }
            seen
        }
    }
}

#[inline]
fn relu_rows(acc: &[i32], thresholds: &[i32], shift: u32, out: &mut [i8]) -> Seen {
    let half = if shift == 0 { 0 } else { 1 << (shift - 1) };
    let (mut max, mut clamped, mut upper_half) = (0, 0, 0);
    let total = acc.len() as u32;
    let mut narrow = |a: i32, o: &mut i8| {
        let a = a.max(0);
        max = max.max(a);
        let y = (a + half) >> shift;
        clamped += u32::from(y > I8_MAX);
        upper_half += u32::from(y > I8_MAX / 2);
        *o = y.min(I8_MAX) as i8;
    };
    if thresholds.is_empty() {
        acc.iter().zip(out).for_each(|(&a, o)| narrow(a, o));
    } else {
        acc.iter().zip(thresholds).zip(out).for_each(|((&a, &t), o)| narrow(a - t, o));
    }
    Seen { max: max as u32, clamped, upper_half, total }
}

/// Narrowing to nearest, with sign: `out = clamp(RN(acc, shift), ±127)`.
pub fn nearest(acc: &[i32], shift: u32, out: &mut [i8]) -> Seen {
    let mut seen = Seen { total: acc.len() as u32, ..Seen::default() };
    for (&a, o) in acc.iter().zip(out) {
        seen.max = seen.max.max(a.unsigned_abs());
        let y = round_nearest(a, shift);
        seen.clamped += u32::from(y.abs() > I8_MAX);
        seen.upper_half += u32::from(y.abs() > I8_MAX / 2);
        *o = saturate_i8(y);
    }
    seen
}

/// Narrowing of errors at random: `out = clamp(SR(acc, shift), ±127)`, element `first + i` of the tensor of `draws`.
///
/// Where `active` is given (the activation that the error belongs to), the error is 0 wherever it is 0: the ReLU mask.
pub fn random(acc: &[i32], active: Option<&[i8]>, shift: u32, draws: Draws, first: u32, out: &mut [i8]) -> Seen {
    let (mut max, mut clamped, mut upper_half) = (0, 0, 0);
    let total = acc.len() as u32;
    let mut narrow = |i: usize, a: i32, o: &mut i8| {
        max = max.max(a.unsigned_abs());
        // |a| < 2^31 − 2^shift by the plan, so 32 bits are enough here; the fallback of the definition is in `fixed`.
        let r = if shift == 0 { 0 } else { (draws.bits(first.wrapping_add(i as u32)) >> (32 - shift)) as i32 };
        let y = (a + r) >> shift;
        debug_assert_eq!(y, round_random(a, shift, draws, first.wrapping_add(i as u32)));
        clamped += u32::from(y.abs() > I8_MAX);
        upper_half += u32::from(y.abs() > I8_MAX / 2);
        *o = y.clamp(-I8_MAX, I8_MAX) as i8;
    };
    match active {
        Some(active) => {
            for (i, ((&a, o), &live)) in acc.iter().zip(out).zip(active).enumerate() {
                // An accumulator of 0 narrows to 0 whatever was drawn.
                narrow(i, if live > 0 { a } else { 0 }, o);
            }
        }
        None => acc.iter().zip(out).enumerate().for_each(|(i, (&a, o))| narrow(i, a, o)),
    }
    Seen { max, clamped, upper_half, total }
}

/// Largest magnitude.
pub fn largest(values: &[i32]) -> u32 {
    values.iter().fold(0, |m, v| m.max(v.unsigned_abs()))
}
