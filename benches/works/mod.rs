//! What is measured: the reference works, their data, and a learner of any model that is ready to step.

#![allow(dead_code)] // Each benchmark uses its part.

pub mod mobilenet;

use nestling::fixed::random::Draws;
use nestling::kernels::narrow::{Random, Relu};
use nestling::kernels::{Conv, Kernels, Map, Views};
use nestling::learner::{Did, Join, Learner, Options};
use nestling::model;
use nestling::net::spec::{InputKind, Spec};
use nestling::sample::{Micros, Sample, Seed, Values};

/// Views whose weight gradients are summed at a time.
pub const VIEWS: usize = 16;

/// A convolution to be measured.
#[derive(Clone, Copy)]
pub struct Layer {
    pub name: &'static str,
    pub conv: Conv,
}

const fn layer(
    name: &'static str,
    side: usize,
    channels: usize,
    filters: usize,
    kernel: usize,
    stride: usize,
) -> Layer {
    let out = Conv::extent(side, kernel, stride, kernel / 2);
    let conv = Conv {
        input: Map::new(side, side, channels),
        first_channel: 0,
        channels,
        filters,
        kernel: (kernel, kernel),
        stride: (stride, stride),
        padding: (kernel / 2, kernel / 2),
        groups: 1,
        output: Map::new(out, out, filters),
        first_filter: 0,
        unsigned: channels > 3,
    };
    Layer { name, conv }
}

/// The four layers of W, a stem of l100, a 1×1, a depthwise and a dense layer.
pub fn layers() -> Vec<Layer> {
    let mut depthwise = layer("depthwise 3x3 16x16x64", 16, 64, 64, 3, 1);
    depthwise.conv.groups = 64;
    let dense = Layer { name: "dense 128 to 64, 16 views", conv: Conv::dense(128, 64).over(VIEWS) };
    vec![
        layer("W1 3x3 32x32x3 to 16", 32, 3, 16, 3, 1),
        layer("W2 3x3 /2 32x32x16 to 32", 32, 16, 32, 3, 2),
        layer("W3 3x3 /2 16x16x32 to 64", 16, 32, 64, 3, 2),
        layer("W4 3x3 /2 8x8x64 to 128", 8, 64, 128, 3, 2),
        layer("stem 5x5 /2 32x32x3 to 64", 32, 3, 64, 5, 2),
        layer("1x1 16x16x64 to 64", 16, 64, 64, 1, 1),
        depthwise,
        dense,
    ]
}

/// One convolution with random operands for [`VIEWS`] views.
pub struct Bench {
    pub conv: Conv,
    way: Kernels,
    /// 1 where the views are one map already.
    views: usize,
    x: Vec<i8>,
    error: Vec<i8>,
    weights: Vec<i8>,
    packed: Vec<i16>,
    packed_back: Vec<i16>,
    scratch: Vec<i16>,
    out: Vec<i8>,
    dx: Vec<i8>,
    grad: Vec<i32>,
}

impl Bench {
    pub fn new(way: Kernels, layer: &Layer) -> Self {
        let conv = layer.conv;
        let views = if conv.input.height == 1 { 1 } else { VIEWS };
        let draws = Draws::new(Seed(1), 0, 0);
        let mantissas = |len: usize, low: i32| (0..len as u32).map(|i| draws.between(i, low, 127) as i8).collect();
        let mut bench = Bench {
            conv,
            way,
            views,
            x: mantissas(views * conv.input.len(), if conv.unsigned { 0 } else { -127 }),
            error: mantissas(views * conv.output.len(), -127),
            weights: mantissas(conv.weights(), -127),
            packed: vec![0; way.packed_len(&conv)],
            packed_back: vec![0; way.packed_back_len(&conv)],
            scratch: vec![0; way.scratch_len(&conv)],
            out: vec![0; views * conv.output.len()],
            dx: vec![0; views * conv.input.len()],
            grad: vec![0; conv.weights()],
        };
        way.pack(&conv, &bench.weights, &mut bench.packed);
        way.pack_back(&conv, &bench.weights, &mut bench.packed_back);
        bench
    }

    /// Multiply-adds of one call of any product.
    pub fn macs(&self) -> u64 {
        (self.views * self.conv.macs()) as u64
    }

    /// Forward with ReLU and narrowing.
    pub fn forward(&mut self) {
        for (x, out) in self.x.chunks(self.conv.input.len()).zip(self.out.chunks_mut(self.conv.output.len())) {
            let mut sink = Relu::new(10, &[], out);
            self.way.forward(&self.conv, x, &self.weights, &self.packed, &mut sink, &mut self.scratch);
        }
    }

    /// Weight gradient of all views.
    pub fn weight_grad(&mut self) {
        let views = |values, stride| Views { values, stride, count: self.views };
        let (x, error) = (views(&self.x, self.conv.input.len()), views(&self.error, self.conv.output.len()));
        self.way.weight_grad(&self.conv, x, error, &mut self.grad, &mut self.scratch);
        // Sums of many calls would pass what one step can reach.
        self.grad[0] = 0;
    }

    /// Input gradient with mask and narrowing at random.
    pub fn input_grad(&mut self) {
        let maps = self.x.chunks(self.conv.input.len()).zip(self.dx.chunks_mut(self.conv.input.len()));
        for ((active, dx), error) in maps.zip(self.error.chunks(self.conv.output.len())) {
            let mut sink = Random::new(10, Draws::new(Seed(1), 1, 1), 0, Some(active), dx);
            self.way.input_grad(&self.conv, error, &self.weights, &self.packed_back, &mut sink, &mut self.scratch);
        }
    }
}

/// The reference work W; V is the same with one pair.
pub fn w(batch: usize) -> Spec {
    let mut spec = shipped_text("benches/models/w.toml", include_str!("../models/w.toml"));
    if let Some(pretext) = spec.pretext.first_mut() {
        pretext.batch = Some(batch as u16);
    }
    spec
}

fn shipped_text(name: &str, text: &str) -> Spec {
    match model::parse(name, text) {
        Ok(spec) => spec,
        Err(e) => panic!("{e}"),
    }
}

/// A shipped model whose lessons never end.
pub fn shipped(name: &str) -> Spec {
    let mut spec = match model::load(name) {
        Ok(spec) => spec,
        Err(e) => panic!("{e}"),
    };
    spec.guard.lesson_steps = 1 << 20;
    spec.dictionary.samples = 16;
    if let Some(pretext) = spec.pretext.first_mut() {
        pretext.samples_per_step = Some(1);
    }
    spec
}

/// Random samples of a model's kind, one after the other.
pub struct Stream {
    bytes: Vec<u8>,
    readings: Vec<i16>,
    spec: Spec,
    count: u64,
}

impl Stream {
    pub fn new(spec: &Spec) -> Self {
        let len = spec.input.height * spec.input.width * spec.input.channels;
        Stream { bytes: vec![0; len], readings: vec![0; len], spec: spec.clone(), count: 0 }
    }

    /// The next sample.
    pub fn sample(&mut self) -> Sample<'_> {
        let draws = Draws::new(Seed(7), self.count, 0);
        let input = &self.spec.input;
        self.count += 1;
        let values = if input.kind == InputKind::Image {
            self.bytes.iter_mut().zip(0..).for_each(|(b, i)| *b = draws.bits(i) as u8);
            let (height, width, channels) = (input.height, input.width, input.channels);
            Values::Image { pixels: &self.bytes, height, width, channels }
        } else {
            self.readings.iter_mut().zip(0..).for_each(|(r, i)| *r = (draws.bits(i) >> 20) as i16);
            Values::Window { readings: &self.readings, length: input.width, channels: input.channels }
        };
        Sample { values, time: Micros(self.count * 20_000), segment: 0 }
    }
}

/// Options of a learner of an endless stream.
pub fn options(lanes: usize, kernels: Kernels) -> Options {
    Options { lanes, kernels, ..Options::new(Seed(0)) }
}

/// Fills the learner's replay and stem so that the next sample makes a step due.
pub fn warm_up(learner: &mut Learner, stream: &mut Stream, join: &impl Join) {
    let enough = learner.spec().replay.capacity.min(256) as u64 + learner.spec().dictionary.samples.min(32) + 64;
    for _ in 0..enough {
        if learner.observe(&stream.sample()).is_err() {
            panic!("the stream fits its own model");
        }
        while learner.step(join) != Did::Idle {}
    }
}
