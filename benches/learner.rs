//! Whole steps of training, perception, and the way from a JPEG to its feature.
//! `cargo bench --bench learner`

mod works;

use std::hint::black_box;
use std::io::Write;

use criterion::{BatchSize, Criterion, Throughput};
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Learner};
use nestling::net::spec::Spec;
use nestling::runtime::perceiver::Exchange;
use nestling::source::{OpenOptions, open};

fn step(criterion: &mut Criterion, name: &str, spec: &Spec) {
    let options = works::options(1, Kernels::detect());
    let plan = Learner::plan(spec, &options).expect("a sound model");
    let mut memory = vec![0; plan.block_len()];
    let mut learner = Learner::new(spec, &options, &mut memory).expect("a sound model");
    let mut stream = works::Stream::new(spec);
    works::warm_up(&mut learner, &mut stream, &Alone);
    let mut group = criterion.benchmark_group("step");
    group.sample_size(20).throughput(Throughput::Elements(plan.macs_step as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            learner.observe(&stream.sample()).expect("the stream fits its model");
            learner.step(&Alone)
        });
    });
}

fn perceive(criterion: &mut Criterion, name: &str, spec: &Spec) {
    let options = works::options(1, Kernels::detect());
    let plan = Learner::plan(spec, &options).expect("a sound model");
    let mut memory = vec![0; plan.block_len()];
    let mut learner = Learner::new(spec, &options, &mut memory).expect("a sound model");
    let mut stream = works::Stream::new(spec);
    works::warm_up(&mut learner, &mut stream, &Alone);
    learner.publish_as_is();
    let (_, mut perceiver) = Exchange::new(&learner);
    let mut feature = vec![0; perceiver.feature_dim()];
    let sample = stream.sample();
    let mut group = criterion.benchmark_group("perceive");
    group.throughput(Throughput::Elements(plan.macs_forward as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            perceiver.perceive(black_box(&sample), &mut feature).expect("the stream fits its model");
            black_box(&feature);
        });
    });
    group.finish();
}

/// A recording of camera frames of `width` × `height`, opened, decoded, fitted and perceived.
fn pipeline(criterion: &mut Criterion, width: u32, height: u32) {
    const FRAMES: usize = 20;
    let spec = works::shipped("robot");
    let options = works::options(1, Kernels::detect());
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("a sound model");
    works::warm_up(&mut learner, &mut works::Stream::new(&spec), &Alone);
    learner.publish_as_is();
    let (_, mut perceiver) = Exchange::new(&learner);
    let mut feature = vec![0; perceiver.feature_dim()];

    let mut file = tempfile::Builder::new().suffix(".mjpeg").tempfile().expect("a temporary file");
    for frame in 0..FRAMES as u32 {
        let picture = image::RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 3 + frame * 7) as u8, (y * 5) as u8, ((x / 16 + y / 16) % 2 * 200) as u8])
        });
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 85).encode_image(&picture).expect("a JPEG");
        file.write_all(&jpeg).expect("a temporary file");
    }
    let uri = [format!("mjpeg:{}", file.path().display())];
    let mut group = criterion.benchmark_group("from JPEG to feature");
    group.sample_size(20).throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function(format!("{width}x{height}"), |b| {
        b.iter_batched_ref(
            || open(&uri, &OpenOptions::default()).expect("the recording opens"),
            |source| {
                let mut record = Default::default();
                while source.read_next(&mut record).expect("a sound recording") {
                    perceiver.perceive(&record.sample(), &mut feature).expect("a camera frame");
                }
                black_box(&feature);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    step(&mut criterion, "W", &works::w(64));
    step(&mut criterion, "V", &works::w(1));
    for name in ["l100", "robot", "motion"] {
        step(&mut criterion, name, &works::shipped(name));
        perceive(&mut criterion, name, &works::shipped(name));
    }
    let mut large = works::w(2);
    perceive(&mut criterion, "I32", &large);
    (large.input.height, large.input.width) = (96, 96);
    perceive(&mut criterion, "I96", &large);
    pipeline(&mut criterion, 160, 120);
    pipeline(&mut criterion, 640, 480);
    criterion.final_summary();
}
