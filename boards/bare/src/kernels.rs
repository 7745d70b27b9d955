//! The products of a few convolutions: every kernel against the reference, and its instructions for each
//! multiply-accumulate.

use cortex_m_semihosting::hprintln;
use nestling::fixed::random::Draws;
use nestling::kernels::narrow::{Random, Relu, Sink};
use nestling::kernels::{Conv, Kernels, Map, Views};
use nestling::net::arena::Arena;
use nestling::sample::Seed;

use crate::count;

/// `side`²×`channels` to `filters`, padded by half of the kernel.
const fn square(side: usize, channels: usize, filters: usize, kernel: usize, stride: usize) -> Conv {
    let output = Conv::extent(side, kernel, stride, kernel / 2);
    Conv {
        input: Map::new(side, side, channels),
        first_channel: 0,
        channels,
        filters,
        kernel: (kernel, kernel),
        stride: (stride, stride),
        padding: (kernel / 2, kernel / 2),
        groups: 1,
        output: Map::new(output, output, filters),
        first_filter: 0,
        unsigned: true,
    }
}

/// Shapes whose instructions are kept, and some with odd ends that are only compared.
const COUNTED: [(&str, Conv); 3] = [
    ("3x3/2 of 32 to 64 channels", square(16, 32, 64, 3, 2)),
    ("1x1 of 64 to 64 channels", square(8, 64, 64, 1, 1)),
    ("dense of 256 to 64", Conv::dense(256, 64)),
];
const COMPARED: [Conv; 3] = [
    square(9, 7, 13, 3, 2),
    Conv { first_channel: 1, channels: 2, ..square(11, 3, 37, 5, 2) },
    Conv { groups: 10, ..square(6, 10, 10, 3, 1) },
];

/// Everything that one way makes of one convolution.
struct Products<'a> {
    out: &'a mut [i8],
    grad: &'a mut [i32],
    dx: &'a mut [i8],
}

struct Operands<'a> {
    x: &'a mut [i8],
    weights: &'a mut [i8],
    error: &'a mut [i8],
}

fn fill(values: &mut [i8], tensor: u32, least: i32) {
    let draws = Draws::new(Seed(11), 0, tensor);
    values.iter_mut().zip(0..).for_each(|(v, i)| *v = draws.between(i, least, 127) as i8);
}

/// Runs the three products; the instructions of each.
fn run(way: Kernels, conv: &Conv, from: &Operands, to: &mut Products, arena: &mut Arena) -> [u64; 3] {
    let (scratch, packed): (&mut [i16], &mut [i16]) =
        (arena.take(way.scratch_len(conv)), arena.take(way.packed_len(conv)));
    let packed_back: &mut [i16] = arena.take(way.packed_back_len(conv));
    way.pack(conv, from.weights, packed);
    way.pack_back(conv, from.weights, packed_back);
    let thresholds = [0; 64];
    let mut relu = Relu::new(9, &thresholds[..conv.output.channels], to.out);
    let forward = count::instructions(|| way.forward(conv, from.x, from.weights, packed, &mut relu, scratch)).1;
    let (x, error) = (Views::one(from.x), Views::one(from.error));
    let weight = count::instructions(|| way.weight_grad(conv, x, error, to.grad, scratch)).1;
    let mut random = Random::new(9, Draws::new(Seed(3), 1, 4), 0, Some(from.x), to.dx);
    let input = count::instructions(|| back(way, conv, from, packed_back, &mut random, scratch)).1;
    [forward, input, weight]
}

fn back(way: Kernels, conv: &Conv, from: &Operands, packed: &[i16], sink: &mut impl Sink, scratch: &mut [i16]) {
    way.input_grad(conv, from.error, from.weights, packed, sink, scratch);
}

/// Compares all ways on all shapes; whether they agree.
pub fn compare_and_count(memory: &mut [u8]) -> bool {
    let mut same = true;
    let counted = COUNTED.into_iter().map(|(name, conv)| (Some(name), conv));
    for (name, conv) in counted.chain(COMPARED.map(|conv| (None, conv))) {
        let arena = &mut Arena::over(memory);
        let from = Operands {
            x: arena.take(conv.input.len()),
            weights: arena.take(conv.weights()),
            error: arena.take(conv.output.len()),
        };
        fill(from.x, 1, 0);
        fill(from.weights, 2, -127);
        fill(from.error, 3, -127);
        let mut take = || Products {
            out: arena.take(conv.output.len()),
            grad: arena.take(conv.weights()),
            dx: arena.take(conv.input.len()),
        };
        let (mut expected, mut found) = (take(), take());
        let rest: &mut [u8] = arena.take(250 * 1024);
        for (number, way) in crate::ways().enumerate() {
            let products = if number == 0 { &mut expected } else { &mut found };
            products.grad.fill(0);
            let counts = run(way, &conv, &from, products, &mut Arena::over(rest));
            if let Some(name) = name {
                let of_macs = |count: u64| 100 * count / conv.macs() as u64;
                hprintln!(
                    "count: {}, {}: forward {}, input gradient {}, weight gradient {} instructions a hundred products",
                    name,
                    way.name(),
                    of_macs(counts[0]),
                    of_macs(counts[1]),
                    of_macs(counts[2])
                );
            }
            let agree =
                number == 0 || (expected.out == found.out && expected.grad == found.grad && expected.dx == found.dx);
            if !agree {
                hprintln!("{}: OTHER BITS than the reference for {:?}", way.name(), conv);
            }
            same &= agree;
        }
    }
    same
}
