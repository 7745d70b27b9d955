//! Square root, reciprocal square root, binary logarithm and the exponential table, in integers.

/// Floor of the square root.
#[inline]
pub const fn isqrt(x: u64) -> u32 {
    x.isqrt() as u32
}

/// `2^(2k) / sqrt(x)` with k = 15: Q30 reciprocal square root of an integer, floor, for x ≥ 1.
///
/// `rsqrt(1) = 2^30`; the relative error is below 2⁻¹⁴ + sqrt(x)·2⁻³⁰.
#[inline]
pub const fn rsqrt_q30(x: u32) -> u32 {
    // 2^60 / x has a square root of at most 2^30, and isqrt is exact.
    isqrt((1u64 << 60) / x as u64)
}

/// Binary logarithm of x ≥ 1 in Q8 (1/256 of an octave), by squaring; floor, exact to the last bit.
pub const fn log2_q8(x: u64) -> u32 {
    let whole = 63 - x.leading_zeros();
    // Mantissa in Q31, in [1, 2).
    let mut m = if whole > 31 { x >> (whole - 31) } else { x << (31 - whole) };
    let mut fraction = 0;
    let mut i = 0;
    while i < 8 {
        m = (m * m) >> 31;
        fraction <<= 1;
        if m >= 1 << 32 {
            fraction |= 1;
            m >>= 1;
        }
        i += 1;
    }
    (whole << 8) | fraction
}

/// Steps of the table per nat: `EXP_TABLE[k] = round(32767 · exp(−k/32))`.
pub const EXP_STEPS_PER_NAT: u32 = 32;

/// `exp(−k/32)` in Q15, for the softmax below each row's maximum; 8 nats long.
#[rustfmt::skip]
pub static EXP_TABLE: [u16; 256] = [
    32767, 31759, 30782, 29835, 28917, 28027, 27165, 26329, 25519, 24734, 23973, 23235,
    22520, 21828, 21156, 20505, 19874, 19263, 18670, 18096, 17539, 16999, 16476, 15969,
    15478, 15002, 14540, 14093, 13659, 13239, 12832, 12437, 12054, 11683, 11324, 10976,
    10638, 10311, 9993, 9686, 9388, 9099, 8819, 8548, 8285, 8030, 7783, 7543,
    7311, 7086, 6868, 6657, 6452, 6254, 6061, 5875, 5694, 5519, 5349, 5184,
    5025, 4870, 4721, 4575, 4435, 4298, 4166, 4038, 3913, 3793, 3676, 3563,
    3454, 3347, 3244, 3145, 3048, 2954, 2863, 2775, 2690, 2607, 2527, 2449,
    2374, 2301, 2230, 2161, 2095, 2030, 1968, 1907, 1849, 1792, 1737, 1683,
    1631, 1581, 1533, 1485, 1440, 1395, 1352, 1311, 1271, 1231, 1194, 1157,
    1121, 1087, 1053, 1021, 989, 959, 930, 901, 873, 846, 820, 795,
    771, 747, 724, 702, 680, 659, 639, 619, 600, 582, 564, 546,
    530, 513, 498, 482, 467, 453, 439, 426, 412, 400, 387, 376,
    364, 353, 342, 331, 321, 311, 302, 292, 283, 275, 266, 258,
    250, 242, 235, 228, 221, 214, 207, 201, 195, 189, 183, 177,
    172, 167, 162, 157, 152, 147, 143, 138, 134, 130, 126, 122,
    118, 115, 111, 108, 104, 101, 98, 95, 92, 89, 86, 84,
    81, 79, 76, 74, 72, 69, 67, 65, 63, 61, 59, 58,
    56, 54, 52, 51, 49, 48, 46, 45, 43, 42, 41, 40,
    38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27,
    26, 26, 25, 24, 23, 23, 22, 21, 21, 20, 19, 19,
    18, 18, 17, 17, 16, 16, 15, 15, 14, 14, 13, 13,
    12, 12, 12, 11,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_exponential() {
        for (k, &entry) in EXP_TABLE.iter().enumerate() {
            assert_eq!(f64::from(entry), (32767.0 * (-(k as f64) / 32.0).exp()).round(), "entry {k}");
        }
    }

    #[test]
    fn the_logarithm_is_the_floor_in_steps_of_a_256th() {
        let exact = |x: u64| (x as f64).log2() * 256.0;
        for x in (1u64..70_000).chain((17..63).flat_map(|b| [(1 << b) - 1, 1 << b, (1 << b) + (1 << (b - 3))])) {
            let difference = exact(x) - f64::from(log2_q8(x));
            assert!((-1e-6..1.02).contains(&difference), "{x}: {difference}");
        }
    }

    #[test]
    fn the_reciprocal_root_is_within_its_bound() {
        for x in (1u32..100_000).step_by(7).chain([u32::MAX, 1 << 30, 1 << 31]) {
            let exact = f64::from(1u32 << 30) / f64::from(x).sqrt();
            let relative = (f64::from(rsqrt_q30(x)) - exact).abs() / exact;
            assert!(relative <= 1.0 / 16384.0 + f64::from(x).sqrt() / f64::from(1u32 << 30), "{x}: {relative}");
        }
    }

    #[test]
    fn the_root_is_the_floor() {
        for x in (0u64..100_000).chain((17..32).flat_map(|b| [(1u64 << (2 * b)) - 1, 1 << (2 * b), u64::MAX >> b])) {
            let r = u128::from(isqrt(x));
            assert!(r * r <= u128::from(x) && (r + 1) * (r + 1) > u128::from(x));
        }
    }
}
