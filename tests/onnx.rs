//! Encoders out to ONNX and back: the bits of the integer network, of a round trip, and of ONNX Runtime where it is there.

#![cfg(feature = "onnx")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use nestling::fixed::random::Draws;
use nestling::kernels::{Kernels, Map};
use nestling::learner::{Alone, Did, Learner, Options};
use nestling::model;
use nestling::net::spec::{InputKind, Spec};
use nestling::onnx::calibrate::{self, Pixels};
use nestling::onnx::export::{Format, export};
use nestling::onnx::{Runner, back, encoder, file, graph, lower};
use nestling::runtime::perceiver::Exchange;
use nestling::sample::{Micros, Sample, Seed, Values};

#[path = "common/python.rs"]
mod python;
#[path = "../fuzz/src/seeds.rs"]
#[allow(dead_code, reason = "only the network is used here")]
mod seeds;

/// The numbers of sample `number` for `spec`: blobs that move, sines with noise, codes that follow one another.
fn numbers(spec: &Spec, number: u64) -> (Vec<u8>, Vec<i16>) {
    let draws = Draws::new(Seed(9), number, 7);
    let input = &spec.input;
    let any = |element: usize, below: u32| draws.below(element as u32, below) as i32;
    match input.kind {
        InputKind::Image => {
            let (h, w) = (input.height as i32, input.width as i32);
            let (y0, x0, tint) = (any(0, h as u32), any(1, w as u32), any(2, 100));
            let pixel = |at: i32| {
                let (c, x, y) = (at % 3, at / 3 % w, at / 3 / w);
                let near = (y - y0).abs() + (x - x0).abs() < h / 3;
                let value =
                    60 + 20 * c + if near { tint + 30 * (c - 1) } else { (x * 90) / w } + any(at as usize + 8, 24);
                value.clamp(0, 255) as u8
            };
            let channels = input.channels as i32;
            let pixels = (0..h * w * channels).map(|at| pixel(if channels == 1 { 3 * at } else { at }));
            (pixels.collect(), Vec::new())
        }
        InputKind::Tokens => {
            let start = any(0, input.vocabulary as u32) as usize;
            let code = |at: usize| ((start + at * 7 + any(at + 8, 3) as usize) % input.vocabulary) as i16;
            (Vec::new(), (0..input.width).map(code).collect())
        }
        InputKind::Latents => {
            let latent = |at: usize| (100 + any(at % input.channels, 50) + any(at + 600, 20)) as u8;
            ((0..input.height * input.width * input.channels).map(latent).collect(), Vec::new())
        }
        _ => {
            let (length, channels) =
                if input.kind == InputKind::Audio { (input.rate as usize, 1) } else { (input.width, input.channels) };
            let (speed, phase) = (1 + any(0, 40), any(1, 1000));
            let reading = |at: usize| {
                let (t, c) = ((at / channels) as i32, (at % channels) as i32);
                let wave = ((t * speed * 13 + phase + c * 200) % 1000 - 500).abs() * (6 + c);
                (wave - 1500 + any(at + 8, 300)) as i16
            };
            (Vec::new(), (0..length * channels).map(reading).collect())
        }
    }
}

fn with_sample<T>(spec: &Spec, number: u64, f: impl FnOnce(&Sample) -> T) -> T {
    let (pixels, readings) = numbers(spec, number);
    let input = &spec.input;
    let values = match input.kind {
        InputKind::Image | InputKind::Latents => {
            Values::Image { pixels: &pixels, height: input.height, width: input.width, channels: input.channels }
        }
        InputKind::Window => Values::Window { readings: &readings, length: input.width, channels: input.channels },
        _ => Values::Window { readings: &readings, length: readings.len(), channels: 1 },
    };
    f(&Sample { values, time: Micros(number * 30_000), segment: 0 })
}

/// The layers of a shipped model, taught for some samples only.
fn small(name: &str) -> Spec {
    let mut spec = model::load(name).expect("a shipped model");
    spec.dictionary.samples = 24;
    spec.dictionary.patches = 2;
    for pretext in &mut spec.pretext {
        pretext.batch = Some(pretext.batch.unwrap_or(4).min(4));
    }
    spec.replay.capacity = 16;
    spec.replay.fresh = 1;
    spec.guard.lesson_steps = 2;
    spec.guard.canaries = spec.guard.canaries.min(8);
    spec
}

/// Calls `f` with a learner of `spec` that has published something.
fn learned(spec: &Spec, f: impl FnOnce(&mut Learner)) {
    let options = Options::new(Seed(5));
    let mut memory = vec![0; Learner::plan(spec, &options).expect("a plan").block_len()];
    let mut learner = Learner::new(spec, &options, &mut memory).expect("enough memory");
    for number in 0..600 {
        with_sample(spec, number, |sample| learner.observe(sample)).expect("a sample of the model");
        while learner.step(&Alone) != Did::Idle {}
        if number > 120 && encoder::of(&learner).is_ok() {
            return f(&mut learner);
        }
    }
    panic!("{}: nothing was published", spec.name);
}

/// Stored samples and features of them, by the learner's own perceiver.
fn perceived(learner: &Learner, count: u64) -> (Vec<Vec<u8>>, Vec<Vec<i8>>) {
    let (_exchange, mut perceiver) = Exchange::new(learner);
    let of = |number: u64| {
        let mut feature = vec![0; perceiver.feature_dim()];
        with_sample(learner.spec(), 5000 + number, |sample| perceiver.perceive(sample, &mut feature))
            .expect("a sample");
        (perceiver.stored().to_vec(), feature)
    };
    (0..count).map(of).unzip()
}

/// Runs `run.py`; `None` where ONNX Runtime is not there.
fn onnx_runtime(model: &[u8], input: &[u8]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.onnx");
    std::fs::write(&file, model).expect("room");
    onnx_runtime_of(&file, input)
}

/// The same of a file, which may have others beside it.
fn onnx_runtime_of(file: &Path, input: &[u8]) -> Option<Vec<u8>> {
    static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| python::with("onnxruntime"));
    let python = PYTHON.as_ref()?;
    let folder = tempfile::tempdir().expect("a folder");
    let [from, to] = ["input", "output"].map(|name| folder.path().join(name));
    std::fs::write(&from, input).expect("room");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/run.py");
    let output = Command::new(python).arg(script).args([file, &from, &to]).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(std::fs::read(to).expect("an output"))
}

/// What tract makes of a file of ours, one sample after the other.
#[cfg(feature = "tract")]
fn by_tract(model: &[u8], input: &[u8]) -> Option<Vec<u8>> {
    use prost::Message;
    use tract_onnx::prelude::*;
    let described = nestling::onnx::proto::Model::decode(model).expect("our own file").graph.expect("a graph");
    let kind = described.input[0].r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()).expect("a type");
    let extent = |dim: &nestling::onnx::proto::Dimension| match &dim.extent {
        Some(nestling::onnx::proto::Extent::Value(n)) => *n as usize,
        _ => 1,
    };
    let shape: Vec<usize> = kind.shape.as_ref().expect("a shape").dim.iter().map(extent).collect();
    let (kind, width) = match kind.elem_type {
        2 => (DatumType::U8, 1),
        5 => (DatumType::I16, 2),
        6 => (DatumType::I32, 4),
        other => panic!("an input of type {other}"),
    };
    let plan = tract_onnx::onnx()
        .model_for_read(&mut &model[..])
        .and_then(|model| model.with_input_fact(0, InferenceFact::dt_shape(kind, &shape)))
        .and_then(|model| model.into_optimized())
        .and_then(|model| model.into_runnable())
        .expect("tract reads it");
    let mut all = Vec::new();
    for sample in input.chunks_exact(width * shape.iter().product::<usize>()) {
        let tensor = match kind {
            DatumType::U8 => Tensor::from_shape(&shape, sample),
            DatumType::I16 => Tensor::from_shape(&shape, &bytemuck::pod_collect_to_vec::<u8, i16>(sample)),
            _ => Tensor::from_shape(&shape, &bytemuck::pod_collect_to_vec::<u8, i32>(sample)),
        };
        let output = plan.run(tvec!(tensor.expect("a sample").into())).expect("tract runs it");
        match output[0].datum_type() {
            DatumType::F32 => {
                let floats = output[0].to_plain_array_view::<f32>().expect("floats");
                floats.iter().for_each(|v| all.extend(v.to_le_bytes()));
            }
            _ => all.extend(output[0].to_plain_array_view::<i8>().expect("integers").iter().map(|&v| v as u8)),
        }
    }
    Some(all)
}

#[cfg(not(feature = "tract"))]
fn by_tract(_: &[u8], _: &[u8]) -> Option<Vec<u8>> {
    None
}

/// A stored sample as the exported graph takes it: codes have 32 bits there.
fn as_graph_takes(spec: &Spec, stored: &[u8]) -> Vec<u8> {
    if spec.input.kind != InputKind::Tokens {
        return stored.to_vec();
    }
    stored.as_chunks().0.iter().flat_map(|&pair| i32::from(u16::from_le_bytes(pair)).to_le_bytes()).collect()
}

fn cosine(a: &[f32], b: &[i8]) -> f64 {
    let b: Vec<f32> = b.iter().map(|&v| f32::from(v)).collect();
    calibrate::cosine(a, &b)
}

const SAMPLES: u64 = 8;

#[test]
fn every_shipped_encoder_is_the_same_in_integers_by_onnx_runtime_and_back_again() {
    for &(name, _) in model::SHIPPED {
        let spec = small(name);
        learned(&spec, |learner| {
            let network = encoder::of(learner).expect("a learned encoder");
            let (stored, features) = perceived(learner, SAMPLES);
            let mut runner = Runner::new(network.clone(), Kernels::detect()).expect("a network");
            for (stored, feature) in stored.iter().zip(&features) {
                runner.run(stored);
                assert!(runner.feature() == *feature, "{name}: the integer network gives other bits");
            }
            let metadata = back::metadata(learner, &network).expect("a spec");
            let input: Vec<u8> = stored.iter().flat_map(|stored| as_graph_takes(&spec, stored)).collect();
            for format in [Format::Float, Format::Qdq] {
                let bytes = export(&network, format, &metadata);
                let exported = back::parse(name, &bytes).expect("our own file").expect("our own format");
                assert_eq!(exported.spec, spec);
                let options = Options { kernels: Kernels::Reference, ..Options::new(Seed(77)) };
                let mut memory = vec![0; Learner::plan(&spec, &options).expect("a plan").block_len()];
                let mut back = Learner::new(&spec, &options, &mut memory).expect("enough memory");
                exported.restore(&mut back).expect("our own file");
                let again = encoder::of(&back).expect("an encoder");
                assert!(again == network, "{name}: {format:?} does not come back");
                assert!(perceived(&back, SAMPLES).1 == features, "{name}: features of {format:?} do not come back");
                let outputs = [("ONNX Runtime", onnx_runtime(&bytes, &input)), ("tract", by_tract(&bytes, &input))];
                for (runtime, output) in outputs.into_iter().filter_map(|(name, output)| Some((name, output?))) {
                    let place = format!("{name:13} {format:?} by {runtime:13}");
                    match format {
                        Format::Float => {
                            let output: Vec<f32> = bytemuck::pod_collect_to_vec(&output);
                            let rows = output.chunks_exact(network.feature_dim()).zip(&features);
                            let least = rows.map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
                            println!("{place} cosine at least {least:.6}");
                            // This made-up sound is a few steps high. Taught on spoken digits the model has 0.9999.
                            let wanted = if name == "speech" { 0.998 } else { 0.999 };
                            assert!(least > wanted, "{place}: {least}");
                        }
                        Format::Qdq => {
                            let ours: Vec<i8> = features.concat();
                            let differ = ours.iter().zip(&output).filter(|(a, b)| **a != **b as i8).count();
                            println!("{place} {differ} of {} numbers differ", ours.len());
                            assert!(differ * 1000 <= ours.len() && ours.len() == output.len(), "{place}: {differ}");
                        }
                    }
                }
            }
        });
    }
}

/// What ONNX Runtime makes of a network of others, for each frame, in our order: `[height, width, channels]`.
fn by_onnx_runtime(file: &Path, frames: &[Vec<u8>], pixels: &Pixels, from: Map, to: Map) -> Vec<f32> {
    let planes = |values: &[f32], map: Map, out: &mut Vec<f32>| {
        let (places, channels) = (map.positions(), map.channels);
        out.extend((0..map.len()).map(|at| values[at % places * channels + at / places]));
    };
    let mut input = Vec::new();
    frames.iter().for_each(|frame| planes(&pixels.normal(frame), from, &mut input));
    let output = onnx_runtime_of(file, bytemuck::cast_slice(&input)).expect("ONNX Runtime");
    let output: Vec<f32> = bytemuck::pod_collect_to_vec(&output);
    let mut ours = Vec::new();
    // The other way round: planes of `channels` numbers, as many as there are places.
    let turned = Map::new(1, to.channels, to.positions());
    output.chunks_exact(to.len()).for_each(|output| planes(output, turned, &mut ours));
    ours
}

#[test]
fn networks_by_other_hands_are_what_onnx_runtime_makes_of_them() {
    let Some(python) = python::with("numpy, onnx, onnxruntime") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut made = Command::new(python);
    made.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/networks.py")).arg(folder.path());
    if python::with("torch").is_some() {
        made.arg("--torch");
    }
    let output = made.output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|end| end == "onnx")).collect();
    files.sort();
    assert!(files.len() >= 13, "{files:?}");
    let images = model::load("s100").expect("a shipped model");
    let frames: Vec<Vec<u8>> = (0..40).map(|number| numbers(&images, number).0).collect();
    let (known, new) = frames.split_at(16);
    let pixels = Pixels { mean: vec![0.0; 3], deviation: vec![1.0; 3] };
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let float = graph::read(&file).and_then(|graph| lower::lower(&graph, &lower::Options::default()));
        if name.starts_with("bad-") {
            let problem = float.expect_err(&name).to_string();
            assert!(problem.contains("what to do"), "{name}: {problem}");
            continue;
        }
        let float = float.unwrap_or_else(|e| panic!("{name}: {e}"));
        let integer = calibrate::calibrate(&float, &pixels, known).expect("a network");
        let (from, to) = (integer.input.map(), integer.map(integer.outputs[0]));
        let original = by_onnx_runtime(&file, new, &pixels, from, to);
        let (mut error, mut largest, mut least) = (0f32, 0f32, 1f64);
        calibrate::compare(&float, &integer, &pixels, new, |number, floats, integers| {
            let original = &original[number * to.len()..][..to.len()];
            largest = original.iter().fold(largest, |most, v| most.max(v.abs()));
            error = floats.iter().zip(original).fold(error, |most, (a, b)| most.max((a - b).abs()));
            least = least.min(calibrate::cosine(original, integers));
        })
        .expect("a network");
        let mut runner = Runner::new(integer.clone(), Kernels::detect()).expect("a network");
        let mut ours: Vec<i8> = Vec::new();
        for frame in new {
            runner.run(frame);
            ours.extend(runner.feature());
        }
        #[cfg(feature = "tract")]
        {
            use nestling::onnx::original::Original;
            let parsed = graph::read(&file).expect("it was read before");
            let tract = Original::read(&file, &parsed, from, &parsed.outputs[0]).expect("tract reads it");
            let output = tract.run(&pixels.normal(&new[0])).expect("tract runs it");
            // Planes in the order of the file.
            let (places, channels) = (to.positions(), to.channels);
            let ours = (0..to.len()).map(|at| output[at % channels * places + at / channels]);
            let apart = ours.zip(&original).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest;
            assert!(apart < if name == "qdq" { 0.1 } else { 1e-5 }, "{name} by tract: {apart}");
        }
        let qdq = onnx_runtime(&export(&integer, Format::Qdq, &[]), &new.concat()).expect("ONNX Runtime");
        let steps = ours.iter().zip(&qdq).map(|(&a, &b)| a.abs_diff(b as i8));
        let (differ, most) = steps.fold((0, 0), |(count, most), d| (count + usize::from(d > 0), most.max(d)));
        let of = ours.len();
        let error = error / largest;
        println!("{name:24} floats {error:.1e}  cosine {least:.4}  qdq {differ} of {of}, by at most {most}");
        // The one that rounds by itself does so in other places than ours.
        assert!(error < if name == "qdq" { 0.1 } else { 1e-5 }, "{name}: {error}");
        assert!(least > 0.99 && most <= 4 && qdq.len() == of, "{name}: {least}, {most}");
    }
}

/// The tiny network of the fuzz targets, changed by `change`, as bytes.
fn changed(change: impl FnOnce(&mut nestling::onnx::proto::Graph)) -> Vec<u8> {
    let mut model = seeds::network();
    change(model.graph.as_mut().expect("a graph"));
    model.bytes()
}

#[test]
fn a_network_of_others_becomes_integers_with_nearly_its_feature() {
    let graph = graph::parse("tiny", &changed(|_| {}), None).expect("a sound file");
    let float = lower::lower(&graph, &lower::Options::default()).expect("all of it is read");
    let pixels = Pixels { mean: vec![0.5], deviation: vec![0.25] };
    let draws = Draws::new(Seed(3), 1, 1);
    let sample = |n: u32| (0..64).map(|at| draws.bits(64 * n + at) as u8).collect();
    let samples: Vec<Vec<u8>> = (0..20).map(sample).collect();
    let integer = calibrate::calibrate(&float, &pixels, &samples[..10]).expect("a network");
    let report = calibrate::compare(&float, &integer, &pixels, &samples, |_, _, _| {}).expect("a network");
    assert!(report.cosine_least > 0.995, "{report:?}");
    assert!(report.layers.iter().all(|layer| layer.signal_to_noise_db > 20.0 && layer.clamped < 0.1), "{report:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.safetensors");
    file::write(&path, &integer).expect("room");
    assert!(file::read(&path).expect("our own file").expect("a network") == integer);
    // Every kernel gives the same bits.
    let by = |kernels| {
        let mut runner = Runner::new(integer.clone(), kernels).expect("a network");
        samples
            .iter()
            .flat_map(|sample| {
                runner.run(sample);
                runner.feature()
            })
            .collect::<Vec<i8>>()
    };
    assert_eq!(by(Kernels::Reference), by(Kernels::detect()));
}

#[test]
fn a_bad_network_is_refused_by_the_name_of_what_is_wrong() {
    let extent = |n| nestling::onnx::proto::Dimension { extent: Some(nestling::onnx::proto::Extent::Value(n)) };
    let cases: [(&str, Vec<u8>); 9] = [
        ("the conv", changed(|graph| graph.node[0].input[0] = "sum".into())),
        ("w0", changed(|graph| graph.initializer[0].float_data[3] = f32::NAN)),
        ("w1", changed(|graph| graph.initializer[3].dims = vec![1 << 30, 1 << 30])),
        ("w2", changed(|graph| graph.initializer[4].data_location = 1)),
        ("the relu", changed(|graph| graph.node[2].input[0] = "nobody".into())),
        ("the deep", changed(|graph| graph.node[3].op_type = "LSTM".into())),
        ("norm", changed(|graph| graph.node[2].output[0] = "norm".into())),
        (
            "input x",
            changed(|graph| {
                let kind = graph.input[0].r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()).expect("a type");
                kind.shape =
                    Some(nestling::onnx::proto::Shape { dim: vec![extent(1), extent(1), extent(0), extent(8)] });
            }),
        ),
        ("99", {
            let mut model = seeds::network();
            model.opset_import[0].version = 99;
            model.bytes()
        }),
    ];
    for (named, bytes) in cases {
        let outcome = graph::parse("net.onnx", &bytes, None)
            .and_then(|graph| lower::lower(&graph, &lower::Options::default()).map(|_| ()));
        let problem = outcome.expect_err(named).to_string();
        assert!(problem.contains(named) && problem.contains("what to do"), "{named}: {problem}");
    }
    let whole = changed(|_| {});
    for len in (0..whole.len()).step_by(7) {
        // Some beginnings are whole messages; then something else is missing.
        let outcome = graph::parse("net.onnx", &whole[..len], None)
            .and_then(|graph| lower::lower(&graph, &lower::Options::default()).map(|_| ()));
        assert!(outcome.is_err(), "{len} of {} bytes", whole.len());
    }
}
