//! One macro instantiates the same tests for every way of computing the products.

use proptest::prelude::*;

use super::narrow::{Keep, Linear, Pool, Random, Relu, Windows};
use super::tile::Tile;
use super::*;
use crate::fixed::Seen;
use crate::fixed::random::Draws;
use crate::sample::Seed;

/// Values within ±127, or within 0..=127 where `relu`.
fn mantissas(len: usize, tensor: u32, relu: bool) -> Vec<i8> {
    let draws = Draws::new(Seed(11), 0, tensor);
    (0..len).map(|i| draws.between(i as u32, if relu { 0 } else { -127 }, 127) as i8).collect()
}

prop_compose! {
    fn convolutions()(
        height in 1usize..12, width in 1usize..12, channels in 1usize..20, skipped in 0usize..3, unused in 0usize..3,
        filters in 1usize..37, grouped in 1usize..4, kernel in (1usize..6, 1usize..6), stride in (1usize..3, 1usize..3),
        padding in (0usize..3, 0usize..3), depthwise in any::<bool>(), beside in (0usize..3, 0usize..3),
        unsigned in any::<bool>(),
    ) -> Conv {
        let kernel = (kernel.0.min(height + 2 * padding.0), kernel.1.min(width + 2 * padding.1));
        let (channels, filters) = if depthwise { (channels, channels) } else { (channels * grouped, filters * grouped) };
        Conv {
            input: Map::new(height, width, channels + skipped + unused),
            first_channel: skipped, channels, filters, kernel, stride, padding,
            groups: if depthwise { channels } else { grouped },
            output: Map::new(
                Conv::extent(height, kernel.0, stride.0, padding.0),
                Conv::extent(width, kernel.1, stride.1, padding.1),
                filters + beside.0 + beside.1,
            ),
            first_filter: beside.0,
            unsigned,
        }
    }
}

/// Sums of the forward product, its narrowing by ReLU, with sign and into sums over windows, the weight gradient of two views, the sums of the
/// input gradient and their narrowing at random.
type Products = (Vec<i32>, [(Vec<i8>, Seen); 2], (Vec<i32>, Seen), Vec<i32>, Vec<i32>, (Vec<i8>, Seen));

fn products(way: Kernels, conv: &Conv) -> Products {
    // Two views, with some numbers between them.
    let (x_stride, error_stride) = (conv.input.len() + 5, conv.output.len() + 3);
    let x = mantissas(2 * x_stride, 1, conv.unsigned);
    let error = mantissas(2 * error_stride, 3, false);
    let weights = mantissas(conv.weights(), 2, false);
    let thresholds: Vec<i32> = (0..conv.output.channels as i32).map(|c| c * 40).collect();
    // Old contents that a kernel must neither keep nor touch.
    let mut scratch = vec![17; way.scratch_len(conv)];
    let mut packed = vec![19; way.packed_len(conv)];
    let mut packed_back = vec![23; way.packed_back_len(conv)];
    way.pack(conv, &weights, &mut packed);
    way.pack_back(conv, &weights, &mut packed_back);

    let mut sums = vec![29; conv.output.len()];
    way.forward(conv, &x, &weights, &packed, &mut Keep(&mut sums), &mut scratch);
    let mut out = vec![9; conv.output.len()];
    let mut relu = Relu::new(7, &thresholds, &mut out);
    way.forward(conv, &x, &weights, &packed, &mut relu, &mut scratch);
    let relu = relu.seen();
    let mut with_sign = vec![11; conv.output.len()];
    let mut linear = Linear::new(8, &thresholds, &mut with_sign);
    way.forward(conv, &x, &weights, &packed, &mut linear, &mut scratch);
    let linear = linear.seen();
    let grid = Grid::new(conv.output, (3, 2), true);
    let mut window_sums = vec![13; grid.len()];
    let mut windows = [Windows::new(grid, &mut window_sums)];
    let mut pool = Pool::new(7, &thresholds, conv.output, &mut windows);
    way.forward(conv, &x, &weights, &packed, &mut pool, &mut scratch);
    let pool = pool.seen();

    let mut grad = vec![31; conv.weights()];
    let views = |values, stride| Views { values, stride, count: 2 };
    way.weight_grad(conv, views(&x, x_stride), views(&error, error_stride), &mut grad, &mut scratch);

    let mut dx = vec![37; conv.input.len()];
    way.input_grad(conv, &error, &weights, &packed_back, &mut Keep(&mut dx), &mut scratch);
    let mut narrow_dx = vec![8; conv.input.len()];
    let mut random = Random::new(6, Draws::new(Seed(3), 1, 4), 99, Some(&x), &mut narrow_dx);
    way.input_grad(conv, &error, &weights, &packed_back, &mut random, &mut scratch);
    let random = random.seen();
    (sums, [(out, relu), (with_sign, linear)], (window_sums, pool), grad, dx, (narrow_dx, random))
}

macro_rules! same_bits_as_the_reference {
    ($($(#[$cfg:meta])* $name:ident: $way:expr;)*) => { $(
        $(#[$cfg])*
        mod $name {
            use super::*;
            proptest! {
                #![proptest_config(ProptestConfig::with_cases(200))]
                #[test]
                fn gives_the_bits_of_the_reference(conv in convolutions()) {
                    let Some(way) = $way else { return Ok(()) };
                    prop_assert_eq!(products(way, &conv), products(Kernels::Reference, &conv));
                }

                #[test]
                fn adds_maps_as_the_textbook_does(len in 1usize..80, a in -9i32..9, b in -9i32..9, out in -9i32..9) {
                    let (Some(way), Some(how)) = ($way, Residual::new(a, b, out)) else { return Ok(()) };
                    let (left, right) = (mantissas(len, 1, false), mantissas(len, 2, false));
                    let mut sum = vec![99; len];
                    way.add(&how, &left, &right, &mut sum);
                    for ((&l, &r), &sum) in left.iter().zip(&right).zip(&sum) {
                        let exact = f64::from(l) * f64::from(a - out).exp2() + f64::from(r) * f64::from(b - out).exp2();
                        prop_assert_eq!(f64::from(sum), (exact + 0.5).floor().clamp(-127.0, 127.0));
                    }
                }
            }
            /// The largest operands that there can be, in every form of the products: no sum or part of one overflows.
            #[test]
            fn holds_at_the_worst_case_of_all_operands() {
                let Some(way) = $way else { return };
                for (unsigned, x, w) in [(true, 127, 127), (true, 127, -127), (false, -127, -127), (false, -127, 127)] {
                    let conv = Conv { unsigned, ..Conv::dense(4096, 5) };
                    let expected = 4096 * i32::from(x) * i32::from(w);
                    let (xs, ws) = (vec![x as i8; 4096], vec![w as i8; conv.weights()]);
                    let mut scratch = vec![0; way.scratch_len(&conv)];
                    let mut packed = vec![0; way.packed_len(&conv)];
                    way.pack(&conv, &ws, &mut packed);
                    let mut sums = [0; 5];
                    way.forward(&conv, &xs, &ws, &packed, &mut Keep(&mut sums), &mut scratch);
                    assert_eq!(sums, [expected; 5]);

                    // As many positions as the plan allows at most.
                    let conv = Conv { unsigned, ..Conv::dense(3, 5) }.over(131_072);
                    let (xs, error) = (vec![x as i8; conv.input.len()], vec![w as i8; conv.output.len()]);
                    let mut scratch = vec![0; way.scratch_len(&conv)];
                    let mut grad = [0; 15];
                    way.weight_grad(&conv, Views::one(&xs), Views::one(&error), &mut grad, &mut scratch);
                    assert_eq!(grad, [131_072 * i32::from(x) * i32::from(w); 15]);
                }
            }
        }
    )* };
}

same_bits_as_the_reference! {
    portable: Some(Kernels::Packed(Tile::Portable));
    lean: Some(Kernels::Lean);
    #[cfg(target_arch = "x86_64")]
    avx2: named("packed/avx2");
    #[cfg(target_arch = "x86_64")]
    avx512_vnni: named("packed/avx512-vnni");
    #[cfg(target_arch = "x86_64")]
    avx_vnni: named("packed/avx-vnni");
    #[cfg(target_arch = "aarch64")]
    neon: named("packed/neon");
    #[cfg(target_arch = "aarch64")]
    neon_dot: named("packed/neon-dot");
    // One that no host has.
    planned: Kernels::named("packed/dsp");
}

/// The way with this tile, where the processor has it.
fn named(tile: &str) -> Option<Kernels> {
    Kernels::named(tile).filter(|way| matches!(way, Kernels::Packed(_)))
}

#[test]
fn exponents_that_do_not_fit_32_bits_together_are_refused() {
    assert_eq!(Residual::new(-3, 0, 1), Some(Residual { up: (0, 3), down: 4 }));
    assert!(Residual::new(0, 22, 22).is_some());
    assert_eq!(Residual::new(0, 23, 23), None);
}

#[test]
fn every_way_can_be_planned_for_and_has_one_name() {
    for name in Kernels::names() {
        assert_eq!(Kernels::named(name).map(Kernels::name), Some(name));
    }
    assert_eq!(Kernels::names().filter(|&name| name == Kernels::detect().name()).count(), 1);
    assert_eq!(Kernels::named("packed/abacus"), None);
}

/// A plan for another processor is the one that processor makes.
#[test]
fn planned_lengths_are_those_of_the_tile() {
    let conv = Conv { unsigned: false, ..Conv::dense(100, 40) };
    for tile in Tile::all() {
        let (own, planned) = (Kernels::Packed(tile), Kernels::Planned(tile.name(), tile.layout()));
        assert_eq!(own.lengths(&conv), planned.lengths(&conv));
    }
    let packed = |name| Kernels::named(name).map(|way| way.packed_len(&conv));
    assert_eq!(packed("reference"), Some(0));
    // Three panels of 16 columns: pairs, quads, and quads with sums to start from.
    assert_eq!(packed("packed/avx2"), Some(3 * 16 * 100));
    assert_eq!(packed("packed/neon"), Some(3 * 16 * 50));
    assert_eq!(packed("packed/avx512-vnni"), Some(3 * 16 * (50 + 2)));
}

/// What a microcontroller is promised: weights are kept once, and the scratch is that of a few patches.
#[test]
fn the_lean_way_packs_nothing() {
    let conv = Conv { kernel: (3, 3), padding: (1, 1), output: Map::new(8, 8, 96), ..Conv::dense(64, 96) };
    let conv = Conv { input: Map::new(16, 16, 64), stride: (2, 2), ..conv };
    assert_eq!((Kernels::Lean.packed_len(&conv), Kernels::Lean.packed_back_len(&conv)), (0, 0));
    assert!(Kernels::Lean.forward_scratch_len(&conv) <= 2 * conv.fan_in() + 1);
    assert!(Kernels::Lean.scratch_len(&conv) <= 3 * conv.fan_in());
}

/// Where the processor is known, so is its tile: `.ci/arm.sh` names it.
#[test]
fn the_fastest_tile_is_detected() {
    let expected = std::env::var("NESTLING_EXPECTED_TILE");
    assert_eq!(Kernels::detect().name(), expected.as_deref().unwrap_or(Kernels::detect().name()));
}

fn dot(a: &[i32], b: &[i8]) -> i64 {
    a.iter().zip(b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum()
}

proptest! {
    /// `⟨conv(x), e⟩ = ⟨x, conv'(e)⟩ = ⟨w, grad⟩`, exactly: the three products are each other's adjoints, which is what
    /// a gradient of a bilinear function is.
    #[test]
    fn the_backward_products_are_the_adjoints_of_the_forward_one(conv in convolutions()) {
        let x = mantissas(conv.input.len(), 1, false);
        let weights = mantissas(conv.weights(), 2, false);
        let mut error = mantissas(conv.output.len(), 3, false);
        for position in error.chunks_exact_mut(conv.output.channels) {
            position[..conv.first_filter].fill(0);
            position[conv.first_filter + conv.filters..].fill(0);
        }
        let mut acc = vec![0; conv.output.len()];
        let mut grad = vec![0; conv.weights()];
        let mut dx = vec![0; conv.input.len()];
        reference::conv_forward(&conv, &x, &weights, &mut Keep(&mut acc));
        reference::conv_weight_grad(&conv, &x, &error, &mut grad);
        reference::conv_input_grad(&conv, &error, &weights, &mut Keep(&mut dx));
        prop_assert_eq!(dot(&acc, &error), dot(&grad, &weights));
        prop_assert_eq!(dot(&acc, &error), dot(&dx, &x));
    }

    #[test]
    fn pooling_by_a_partition_is_the_adjoint_of_its_gradient(h in 1usize..9, w in 1usize..9, c in 1usize..5,
                                                             cells in (1usize..5, 1usize..5)) {
        let grid = Grid::new(Map::new(h, w, c), cells, false);
        let x = mantissas(grid.map.len(), 4, true);
        let error = mantissas(grid.len(), 5, false);
        let mut sums = vec![0; grid.len()];
        let mut dx = vec![0i8; grid.map.len()];
        reference::pool_sums(&grid, &x, &mut sums);
        reference::pool_sums_grad(&grid, &error, &mut dx);
        let back: i64 = dx.iter().zip(&x).map(|(&d, &x)| i64::from(d) * i64::from(x)).sum();
        prop_assert_eq!(dot(&sums, &error), back);
    }
}

/// The definition itself against a 64-bit float convolution written from the textbook formula.
#[test]
fn the_reference_is_the_textbook_convolution() {
    let conv = Conv {
        input: Map::new(5, 7, 3),
        first_channel: 0,
        channels: 3,
        filters: 4,
        kernel: (3, 3),
        stride: (2, 1),
        padding: (1, 1),
        groups: 1,
        output: Map::new(3, 7, 4),
        first_filter: 0,
        unsigned: false,
    };
    let (x, w) = (mantissas(conv.input.len(), 6, false), mantissas(conv.weights(), 7, false));
    let at = |y: i64, xx: i64, c: usize| {
        if (0..5).contains(&y) && (0..7).contains(&xx) {
            f64::from(x[(y as usize * 7 + xx as usize) * 3 + c])
        } else {
            0.0
        }
    };
    let mut acc = vec![0; conv.output.len()];
    reference::conv_forward(&conv, &x, &w, &mut Keep(&mut acc));
    for (i, &got) in acc.iter().enumerate() {
        let (oy, ox, f) = ((i / 28) as i64, (i / 4 % 7) as i64, i % 4);
        let mut sum = 0.0;
        for (j, &weight) in w[f * 27..(f + 1) * 27].iter().enumerate() {
            sum += f64::from(weight) * at(oy * 2 + (j / 9) as i64 - 1, ox + (j / 3 % 3) as i64 - 1, j % 3);
        }
        assert_eq!(f64::from(got), sum);
    }
}
