//! M: MobileNetV2 of width 0.35 for images of 96×96, without its classifier: the network of `benches/peers/models.py`, put
//! together from the public kernels. Weights are random; shifts are fixed beforehand from one image.

use nestling::fixed::random::Draws;
use nestling::fixed::shift_for;
use nestling::kernels::narrow::{Largest, Linear, Relu, nearest};
use nestling::kernels::{Conv, Grid, Kernels, Map, Residual, reference};
use nestling::sample::Seed;

/// Height and width of the image.
pub const SIDE: usize = 96;
/// Numbers of the feature.
pub const FEATURE: usize = 1280;

/// Expansion, channels at width 1, blocks, stride of the first.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// Channels at width 0.35: a multiple of 8, and not below nine tenths of what they should be.
fn width(channels: usize) -> usize {
    let exact = channels * 35;
    let rounded = ((exact + 400) / 800 * 8).max(8);
    if rounded * 1000 < exact * 9 { rounded + 8 } else { rounded }
}

/// A convolution with bias, narrowed with ReLU (whose clamp at 127 is that of ReLU6) or without.
struct Layer {
    conv: Conv,
    weights: Vec<i8>,
    packed: Vec<i16>,
    /// The bias, negated, in units of the sums.
    thresholds: Vec<i32>,
    relu: bool,
    shift: u32,
}

impl Layer {
    fn run(&self, way: Kernels, from: &[i8], to: &mut [i8], scratch: &mut [i16]) {
        let (from, to) = (&from[..self.conv.input.len()], &mut to[..self.conv.output.len()]);
        let (conv, weights, packed) = (&self.conv, &self.weights, &self.packed);
        if self.relu {
            way.forward(conv, from, weights, packed, &mut Relu::new(self.shift, &self.thresholds, to), scratch);
        } else {
            way.forward(conv, from, weights, packed, &mut Linear::new(self.shift, &self.thresholds, to), scratch);
        }
    }
}

/// Layers in a row, and the sum with what went into them where both have one shape.
struct Block {
    layers: Vec<Layer>,
    residual: Option<Residual>,
}

/// The network with its maps.
pub struct MobileNet {
    way: Kernels,
    blocks: Vec<Block>,
    /// The input of a block, and the two that its layers read and write in turns.
    maps: [Vec<i8>; 3],
    scratch: Vec<i16>,
    sums: Vec<i32>,
    feature: Vec<i8>,
    feature_shift: u32,
}

/// What is added to the network, and calibrated, layer by layer.
struct Builder {
    net: MobileNet,
    /// Shape and exponent of the map that comes next.
    map: Map,
    exponent: i32,
    tensors: u32,
}

impl MobileNet {
    /// Shifts are those that suit `pixels`, an image as for [`MobileNet::feature`].
    pub fn new(way: Kernels, pixels: &[u8]) -> Self {
        let net = MobileNet {
            way,
            blocks: Vec::new(),
            maps: [const { Vec::new() }; 3],
            scratch: Vec::new(),
            sums: vec![0; FEATURE],
            feature: vec![0; FEATURE],
            feature_shift: 0,
        };
        let mut build = Builder { net, map: Map::new(SIDE, SIDE, 3), exponent: -7, tensors: 0 };
        build.net.maps[0].resize(build.map.len(), 0);
        build.net.load(pixels);
        build.block(false, &[(width(32), 3, 2, false, true)]);
        for (expansion, channels, blocks, first_stride) in STAGES {
            for block in 0..blocks {
                let stride = if block == 0 { first_stride } else { 1 };
                let (inputs, outputs) = (build.map.channels, width(channels));
                let expanded = inputs * expansion;
                let layers =
                    [(expanded, 1, 1, false, true), (expanded, 3, stride, true, true), (outputs, 1, 1, false, false)];
                build.block(stride == 1 && inputs == outputs, &layers[usize::from(expansion == 1)..]);
            }
        }
        build.block(false, &[(FEATURE, 1, 1, false, true)]);
        let mut net = build.net;
        net.pool();
        net.feature_shift = shift_for(net.sums.iter().fold(0, |most, sum| most.max(sum.unsigned_abs())), 8);
        net
    }

    /// `pixels`: `[SIDE, SIDE, 3]`.
    pub fn feature(&mut self, pixels: &[u8]) -> &[i8] {
        self.load(pixels);
        for block in 0..self.blocks.len() {
            self.run(block);
        }
        self.pool();
        nearest(&self.sums, self.feature_shift, &mut self.feature);
        &self.feature
    }

    /// Multiply-adds of a feature.
    pub fn macs(&self) -> usize {
        self.blocks.iter().flat_map(|block| &block.layers).map(|layer| layer.conv.macs()).sum()
    }

    fn load(&mut self, pixels: &[u8]) {
        for (mantissa, &pixel) in self.maps[0].iter_mut().zip(pixels) {
            *mantissa = ((pixel ^ 128) as i8).max(-127);
        }
    }

    fn run(&mut self, block: usize) {
        let ([input, from, to], scratch, block) = (&mut self.maps, &mut self.scratch, &self.blocks[block]);
        let mut layers = block.layers.iter();
        if let Some(first) = layers.next() {
            first.run(self.way, input, from, scratch);
        }
        for layer in layers {
            layer.run(self.way, from, to, scratch);
            std::mem::swap(from, to);
        }
        if let (Some(how), Some(last)) = (&block.residual, block.layers.last()) {
            let len = last.conv.output.len();
            self.way.add(how, &input[..len], &from[..len], &mut to[..len]);
            std::mem::swap(from, to);
        }
        std::mem::swap(input, from);
    }

    /// Sums over all positions of the last map.
    fn pool(&mut self) {
        if let Some(last) = self.blocks.last().and_then(|block| block.layers.last()) {
            let map = last.conv.output;
            reference::pool_sums(&Grid::new(map, (1, 1), false), &self.maps[0][..map.len()], &mut self.sums);
        }
    }
}

impl Builder {
    /// Adds a block of layers, each of (filters, kernel, stride, depthwise, ReLU), and runs it.
    fn block(&mut self, around: bool, layers: &[(usize, usize, usize, bool, bool)]) {
        let exponent_before = self.exponent;
        let block = Block { layers: Vec::new(), residual: None };
        let input = self.net.maps[0].clone();
        self.net.blocks.push(block);
        let mut x = input.clone();
        for &(filters, kernel, stride, depthwise, relu) in layers {
            let layer = self.layer(&x, filters, kernel, stride, depthwise, relu);
            let mut out = vec![0; layer.conv.output.len()];
            layer.run(self.net.way, &x, &mut out, &mut self.net.scratch);
            x = out;
            self.net.maps.iter_mut().for_each(|map| map.resize(map.len().max(x.len()), 0));
            if let Some(block) = self.net.blocks.last_mut() {
                block.layers.push(layer);
            }
        }
        if around {
            let least = exponent_before.min(self.exponent);
            let (up_a, up_b) = (exponent_before - least, self.exponent - least);
            let sums = input.iter().zip(&x).map(|(&a, &b)| (i32::from(a) << up_a) + (i32::from(b) << up_b));
            let out = least + shift_for(sums.fold(0, |most, sum| most.max(sum.unsigned_abs())), 8) as i32;
            let residual = Residual::new(exponent_before, self.exponent, out);
            if let Some(block) = self.net.blocks.last_mut() {
                block.residual = residual;
            }
            self.exponent = out;
        }
        self.net.run(self.net.blocks.len() - 1);
    }

    /// A layer of random weights behind the last one; its shift suits `x`.
    fn layer(&mut self, x: &[i8], filters: usize, kernel: usize, stride: usize, depthwise: bool, relu: bool) -> Layer {
        let (way, input) = (self.net.way, self.map);
        let extent = |n| Conv::extent(n, kernel, stride, kernel / 2);
        let conv = Conv {
            input,
            first_channel: 0,
            channels: input.channels,
            filters,
            kernel: (kernel, kernel),
            stride: (stride, stride),
            padding: (kernel / 2, kernel / 2),
            groups: if depthwise { input.channels } else { 1 },
            output: Map::new(extent(input.height), extent(input.width), filters),
            first_filter: 0,
            unsigned: self.net.blocks.last().and_then(|block| block.layers.last()).is_some_and(|before| before.relu),
        };
        let draws = Draws::new(Seed(1), 0, self.tensors);
        self.tensors += 2;
        let weights: Vec<i8> = (0..conv.weights() as u32).map(|i| draws.between(i, -127, 127) as i8).collect();
        let mut packed = vec![0; way.packed_len(&conv)];
        way.pack(&conv, &weights, &mut packed);
        let scratch = &mut self.net.scratch;
        scratch.resize(scratch.len().max(way.scratch_len(&conv)), 0);
        let mut largest = Largest::default();
        way.forward(&conv, x, &weights, &packed, &mut largest, scratch);
        // What batch normalisation leaves of itself: up to a sixteenth of the largest sum.
        let (draws, most) = (Draws::new(Seed(1), 0, self.tensors - 1), (largest.magnitude / 16) as i32);
        let thresholds = (0..filters as u32).map(|i| draws.between(i, -most, most)).collect();
        let shift = shift_for(largest.magnitude, 8);
        // Weights of a deviation of √(2 / fan-in).
        let weight_exponent = -6 - (conv.fan_in().ilog2() / 2) as i32;
        self.exponent += weight_exponent + shift as i32;
        self.map = conv.output;
        Layer { conv, weights, packed, thresholds, relu, shift }
    }
}
