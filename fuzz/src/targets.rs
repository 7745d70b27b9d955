//! The targets: every way in which bytes from outside reach this crate. Each takes any bytes and must neither panic nor
//! take memory that the bytes do not pay for. `tests/fuzz.rs` and the binaries of the `fuzz` crate call them.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use nestling::board::Profile;
use nestling::image::{self, Image};
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Learner, Options};
use nestling::link::{Decoder, RawSample, ToDevice, ToHost};
use nestling::net::spec::{InputKind, Spec};
use nestling::runtime::drive::{self, Extent};
use nestling::sample::{Micros, Sample, Seed, Values};
use nestling::source::uri::Uri;
use nestling::source::{OpenOptions, Record, open};
use nestling::{model, store};
use tempfile::TempDir;

/// A function under test and the name of its corpus.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "uri", run: uri },
    Target { name: "model", run: model_text },
    Target { name: "image", run: image_bytes },
    Target { name: "state", run: state },
    Target { name: "checkpoint", run: checkpoint },
    Target { name: "link", run: link },
    Target { name: "table", run: table },
    Target { name: "npy", run: npy },
    Target { name: "frames", run: frames },
    Target { name: "pictures", run: pictures },
    Target { name: "sound", run: sound },
    Target { name: "tokens", run: tokens },
    Target { name: "tub", run: tub },
    #[cfg(feature = "mcap")]
    Target { name: "mcap", run: mcap },
    #[cfg(feature = "flash")]
    Target { name: "flash", run: flash },
    Target { name: "learn", run: learn },
    Target { name: "taught", run: taught },
    Target { name: "profile", run: profile },
    Target { name: "bus", run: bus },
    #[cfg(feature = "ros")]
    Target { name: "cdr", run: cdr },
    #[cfg(feature = "onnx")]
    Target { name: "onnx", run: onnx },
];

/// Samples read of each source.
const SAMPLES: u64 = 40;
/// A learner larger than this, or slower, is planned and not run.
const MOST_BYTES: usize = 4 << 20;
const MOST_WORK: usize = 2 << 20;

/// Calls `f` with a folder that is empty, in memory where there is such a place.
fn in_folder(f: impl FnOnce(&Path)) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    f(folder.expect("a folder").path());
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("room for a small file");
    path.display().to_string()
}

/// Opens `uri` and reads some of it; errors are as good as samples.
fn read_through(uri: &str) {
    let Ok(mut source) = open(&[uri.to_owned()], &OpenOptions::default()) else { return };
    let mut record = Record::default();
    for _ in 0..SAMPLES {
        match source.read_next(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(problem) => {
                assert!(!problem.to_string().is_empty());
                break;
            }
        }
    }
    let _ = (source.describe(), source.skipped(), source.rewind());
}

/// The parts of `data` between the marks that [`super::seeds`] puts between files.
fn parts(data: &[u8]) -> (&[u8], &[u8]) {
    const MARK: &[u8] = b"\n==\n";
    let at = data.windows(MARK.len()).position(|window| window == MARK);
    at.map_or((data, &[]), |at| (&data[..at], &data[at + MARK.len()..]))
}

pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Uri>() {
        Ok(uri) => assert_eq!(uri.text, text),
        Err(problem) => assert!(problem.to_string().contains("what to do")),
    }
}

/// What was taught, as it lies beside a checkpoint.
pub fn taught(data: &[u8]) {
    if let Ok(taught) = nestling::control::store::parse(data, 4) {
        assert!(taught.examples.len() * 4 <= data.len() && taught.background.len() * 4 <= data.len());
        assert!(taught.counts().iter().map(|(_, count)| count).sum::<usize>() == taught.examples.len());
    }
}

/// Any bytes as frames of messages, and as a command. What can be read can be written, and the same is read again.
pub fn bus(data: &[u8]) {
    use nestling::bus::frame;
    let (mut from, mut buffer, mut again) = (data, Vec::new(), Vec::new());
    while let Ok(Some(message)) = frame::read(&mut from, &mut buffer) {
        again.clear();
        frame::write(&message, &mut again);
        let mut line = Vec::new();
        message.write_line(&mut line).expect("memory");
        let back = frame::read(&mut &again[..], &mut buffer).expect("a frame").expect("one");
        let mut twice = Vec::new();
        frame::write(&back, &mut twice);
        assert_eq!(again, twice);
    }
    assert!(buffer.len() <= data.len().max(again.len()));
    // What it answers has no daemon here.
    if let Err(problem) = nestling::runtime::daemon::control::Command::parse(data) {
        assert!(problem.contains("this is no command"));
    }
}

pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Profile::parse("board.toml", text) {
        Ok(profile) => profile.may_become(&profile).expect("it stays what it is"),
        Err(problem) => assert!(problem.to_string().contains("board.toml")),
    }
}

/// Any bytes as each type of message. What can be read can be written, and the same is read again.
#[cfg(feature = "ros")]
pub fn cdr(data: &[u8]) {
    use nestling::ros::messages::{CompressedImage, Decision, Feature, Health, Image, Imu, Text};
    use nestling::ros::{decode, encode};
    macro_rules! through {
        ($($name:ident),+) => {
            $(if let Ok(message) = decode::<$name>(data) {
                let bytes = encode(&message).expect("what was read fits");
                let again: $name = decode(&bytes).expect("what was written is read");
                assert_eq!(encode(&again).expect("likewise"), bytes);
            })+
        };
    }
    through!(CompressedImage, Decision, Feature, Health, Image, Imu, Text);
}

/// A learner of `spec`, where it is small enough, is run on samples of noise.
fn run_learner(spec: &Spec) {
    let options = Options { expected_samples: Some(SAMPLES), ..Options::new(Seed(1)) };
    let Ok(plan) = Learner::plan(spec, &options) else { return };
    assert_eq!(plan.items.iter().map(|item| item.bytes).sum::<usize>(), plan.ram_bytes);
    if plan.block_len() > MOST_BYTES || plan.macs_step.max(plan.macs_forward) > MOST_WORK {
        return;
    }
    let mut memory = vec![0; plan.block_len()];
    let mut learner = Learner::new(spec, &options, &mut memory).expect("what was planned fits");
    let mut feature = vec![0; plan.feature_dim];
    for n in 0..SAMPLES {
        with_noise(spec, n, |sample| {
            let taken = learner.stand_beside(&vec![n as i8; spec.input.beside]).and_then(|()| learner.observe(sample));
            if taken.is_ok() {
                run_steps(&mut learner);
            }
            let _ = learner.perceive(sample, &mut feature);
        });
    }
    learner.finish();
    store::state_hash(&mut learner);
}

fn run_steps(learner: &mut Learner) {
    // One sample makes a handful of steps due at most, or the model asks for very many.
    for _ in 0..8 {
        if learner.step(&Alone) == Did::Idle {
            return;
        }
    }
}

fn with_noise(spec: &Spec, n: u64, f: impl FnOnce(&Sample)) {
    let input = &spec.input;
    let noise = |i: usize| (i as u64 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_mul(n + 3) >> 40;
    let (height, width, channels) = (input.height, input.width, input.channels);
    let mut readings = Vec::new();
    let mut pixels = Vec::new();
    let values = match input.kind {
        InputKind::Image | InputKind::Latents => {
            pixels.extend((0..height * width * channels).map(|i| noise(i) as u8));
            Values::Image { pixels: &pixels, height, width, channels }
        }
        InputKind::Window => {
            readings.extend((0..width * channels).map(|i| noise(i) as i16));
            Values::Window { readings: &readings, length: width, channels }
        }
        InputKind::Tokens => {
            readings.extend((0..width).map(|i| (noise(i) % input.vocabulary.max(1) as u64) as i16));
            Values::Window { readings: &readings, length: width, channels: 1 }
        }
        InputKind::Audio => {
            readings.extend((0..(input.window + input.hop).min(1 << 16)).map(|i| noise(i) as i16));
            Values::Window { readings: &readings, length: readings.len(), channels: 1 }
        }
    };
    f(&Sample { values, time: Micros(n * 1000), segment: (n / 20) as u32 });
}

pub fn model_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(spec) = model::parse("fuzz", text) {
        run_learner(&spec);
    }
}

/// `data` at an address that is a multiple of 4, with the length and the checksum that it should have.
fn repaired(data: &[u8]) -> Vec<u32> {
    let mut words = vec![0u32; data.len().div_ceil(4)];
    for (word, bytes) in words.iter_mut().zip(data.chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_le_bytes(four);
    }
    if words.len() > 5 {
        words[..3].copy_from_slice(&[u32::from_le_bytes(*b"nest"), u32::from_le_bytes(*b"ling"), image::FORMAT]);
        words[3] = 4 * words.len() as u32;
        let checked: Vec<u8> = words[5..].iter().flat_map(|word| word.to_le_bytes()).collect();
        words[4] = crc(&checked);
    }
    words
}

/// CRC-32 of zlib, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

/// An image as it is, and with its checksum put right, down to the learner that it describes.
pub fn image_bytes(data: &[u8]) {
    let _ = Image::parse(data).map_err(|problem| problem.to_string());
    let words = repaired(data);
    let Ok(image) = Image::parse(bytemuck::cast_slice(&words)) else { return };
    let options = image.board_options(Kernels::Lean);
    let Ok(plan) = Learner::plan(image.spec(), &options) else { return };
    if plan.block_len() <= MOST_BYTES {
        let mut memory = vec![0; plan.block_len()];
        let mut place = None;
        let _ = image.learner(&options, &mut memory, &mut place).map_err(|problem| problem.to_string());
    }
}

/// Numbers in memory that are no longer what they were: each edit is a place in the state (two bytes) and what stands there
/// now. The learner goes on; the guard may think of it what it likes. Counts and shifts are left as they are: what they
/// may be is kept by the checksums of what is restored.
pub fn state(data: &[u8]) {
    const NUMBERS: [&str; 8] =
        ["weights", "thresholds", "masters", "momentum", "objective", "whitening", "dictionary", "replay.entries"];
    let spec = super::seeds::small("image");
    let options = Options { expected_samples: Some(SAMPLES), ..Options::new(Seed(1)) };
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    let mut feature = vec![0; learner.network().feature_dim];
    for n in 0..24 {
        // While the dictionary is being learned, and while the layers above it are.
        if n == 4 || n == 16 {
            for edit in data.chunks_exact(3) {
                let place = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
                let mut at = 0;
                learner.visit_state(|name, mut numbers| {
                    let bytes = numbers.bytes();
                    if NUMBERS.iter().any(|end| name.ends_with(end)) {
                        if let Some(byte) = place.checked_sub(at).and_then(|place| bytes.get_mut(place)) {
                            *byte = edit[2];
                        }
                        at += bytes.len();
                    }
                });
            }
            learner.restored();
        }
        with_noise(&spec, n, |sample| {
            learner.observe(sample).expect("a fitting sample");
            learner.perceive(sample, &mut feature).expect("a fitting sample");
        });
        run_steps(&mut learner);
    }
}

pub fn checkpoint(data: &[u8]) {
    in_folder(|folder| {
        let path = put(folder, "a.safetensors", data);
        match store::read(Path::new(&path)) {
            Ok(saved) => assert!(saved.contents().is_ok()),
            Err(problem) => assert!(!problem.to_string().is_empty()),
        }
        store::is_float_twin(Path::new(&path));
    });
}

/// The bytes of a serial line, and the same as one message whose checksum is right.
pub fn link(data: &[u8]) {
    let mut stream = data.to_vec();
    stream.push(0);
    let sent: Result<(), ()> = nestling::link::forward(data, |piece| {
        stream.extend_from_slice(piece);
        Ok(())
    });
    assert_eq!(sent, Ok(()));
    for room in [64, 4096] {
        let (mut host, mut board) = (Decoder::new(vec![0; room]), Decoder::new(vec![0; room]));
        let mut last = Vec::new();
        for &byte in &stream {
            if host.push(byte) {
                last = host.frame().to_vec();
                match host.message() {
                    Some(ToHost::Sample(raw)) => look(&raw),
                    Some(ToHost::Hello(hello)) => drop(image::decode_spec(hello.spec.0)),
                    _ => {}
                }
            }
            if board.push(byte)
                && let Some(ToDevice::Sample(raw)) = board.to_device()
            {
                look(&raw);
            }
        }
        assert!(data.len() + 4 > room || last == data, "a frame is what was sent");
    }
    in_folder(|folder| read_through(&format!("link:{}", put(folder, "a.link", &stream))));
}

fn look(raw: &RawSample) {
    if let Some(Sample { values: Values::Image { pixels, height, width, channels }, .. }) = raw.sample() {
        assert_eq!(pixels.len(), height * width * channels);
    }
}

/// A table on its own, and beside the files that tables describe.
pub fn table(data: &[u8]) {
    static FRAMES: OnceLock<Vec<u8>> = OnceLock::new();
    let frames = FRAMES.get_or_init(|| super::seeds::jpeg(16, 8, 50).repeat(2));
    in_folder(|folder| {
        let t = put(folder, "t.csv", data);
        let raw = put(folder, "a.raw", &[7; 80]);
        let jpegs = put(folder, "f.jpegs", frames);
        let x = put(folder, "x.npy", &super::seeds::npy("<f4", "(8, 2)", &[0; 64]));
        for uri in [
            format!("csv:{t}?window=1&nan=skip&label=label&smooth=2"),
            format!("csv:{t}?window=2&nan=hold&missing=0&group=who&order=by-label"),
            format!("npy:{x}?window=2&segments={t}&group=who&label=label&labels=class"),
            format!("mjpeg:{jpegs},{t}?label=label&smooth=3"),
            format!("pcm:{raw},{t}?rate=8000&label=label&labels=class&group=who"),
            format!("tokens:{t}?column=label&window=2&nan=skip"),
            format!("tokens:{t}?column=who&vocabulary={t}&by=line&window=8"),
        ] {
            read_through(&uri);
        }
    });
}

pub fn npy(data: &[u8]) {
    let (x, y) = parts(data);
    in_folder(|folder| {
        let (x, y) = (put(folder, "x.npy", x), put(folder, "y.npy", y));
        for query in ["", "?window=2&nan=skip", "?each=row&stack=2", "?window=3&stride=1&nan=hold&missing=1"] {
            read_through(&format!("npy:{x}{query}"));
        }
        for query in ["", "?window=2&combine=1-0&smooth=1", "?order=by-label&labels=value&diff=1"] {
            read_through(&format!("npy:{x},{y}{query}"));
        }
        read_through(&format!("npy:{x}?each=row&times={y}"));
    });
}

pub fn frames(data: &[u8]) {
    in_folder(|folder| {
        let path = put(folder, "f.jpegs", data);
        read_through(&format!("mjpeg:{path}"));
        read_through(&format!("pipe:{path}"));
        read_through(&format!("pipe:{path}?format=gray8&width=7&height=5"));
        read_through(&format!("pipe:{path}?format=rgb24&width=3&height=2&rate=0.5"));
    });
}

pub fn pictures(data: &[u8]) {
    in_folder(|folder| {
        put(folder, "a.png", data);
        put(folder, "b.jpg", data);
        read_through(&format!("images:{}", folder.display()));
    });
}

pub fn sound(data: &[u8]) {
    in_folder(|folder| {
        let path = put(folder, "a_b.wav", data);
        read_through(&format!("wav:{path}?name=label_who&label=label&group=who"));
        read_through(&format!("wav:{path}?window=2&stride=1"));
        read_through(&format!("pcm:{path}?rate=8000&window=3&stride=2"));
        read_through(&format!("pipe:{path}?format=s16le&rate=8000&window=4"));
    });
}

pub fn tokens(data: &[u8]) {
    in_folder(|folder| {
        let path = put(folder, "a.txt", data);
        for query in ["?window=4", "?window=4&by=line", "?window=3&stride=7&rate=2"] {
            read_through(&format!("tokens:{path}{query}"));
        }
    });
}

/// A tub of each version: its manifest and a catalog, or its records.
pub fn tub(data: &[u8]) {
    let (first, second) = parts(data);
    in_folder(|folder| {
        let image = super::seeds::jpeg(5, 4, 50);
        fs::create_dir(folder.join("images")).expect("room for a folder");
        for name in ["images/0_cam_image_array_.jpg", "0_cam-image_array_.jpg"] {
            put(folder, name, &image);
        }
        put(folder, "record_0.json", first);
        put(folder, "record_7.json", second);
        put(folder, "exclude.json", second);
        let uri = format!("tub:{}", folder.display());
        read_through(&uri);
        put(folder, "manifest.json", first);
        put(folder, "catalog_0.catalog", second);
        for query in
            ["", "?label=user/mode", "?labels=class&order=by-label", "?smooth=2&range=0.0..0.5&range_of=groups"]
        {
            read_through(&format!("{uri}{query}"));
        }
    });
}

/// A recording, by its index, by its contents and by each kind of topic.
#[cfg(feature = "mcap")]
pub fn mcap(data: &[u8]) {
    use nestling::recording::contents::Contents;
    in_folder(|folder| {
        let path = put(folder, "a.mcap", data);
        let counted = Contents::counted(&path);
        let _ = Contents::indexed(&path).map_err(|problem| problem.to_string());
        let uri = format!("mcap:{path}");
        read_through(&uri);
        read_through(&format!("{uri},{path}?topic=/imu&window=2&stride=3"));
        for topic in counted.into_iter().flat_map(|contents| contents.topics).take(8) {
            if !topic.topic.contains(['?', '&', '%', ',']) {
                read_through(&format!("{uri}?topic={}", topic.topic));
            }
        }
    });
}

/// What a flash holds when a board wakes up.
#[cfg(feature = "flash")]
pub fn flash(data: &[u8]) {
    use nestling::flash::{Blocking, FlashStore};
    let spec = super::seeds::small("dictionary");
    let options = Options { expected_samples: Some(SAMPLES), ..Options::new(Seed(1)) };
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    let mut chip = super::seeds::Chip::new();
    let len = data.len().min(chip.0.len());
    chip.0[..len].copy_from_slice(&data[..len]);
    let buffer = &mut [0; 512];
    let range = 0..chip.0.len() as u32;
    let Ok(mut store) = FlashStore::open(Blocking(&mut chip), range.clone(), super::seeds::IMAGE, buffer) else {
        return;
    };
    if store.restore(&mut learner, buffer).is_err() {
        return;
    }
    let whole = store.save(&mut learner, buffer).is_ok();
    let hash = store::state_hash(&mut learner);
    if whole {
        let mut store =
            FlashStore::open(Blocking(&mut chip), range, super::seeds::IMAGE, buffer).expect("what was saved is there");
        assert_eq!(store.restore(&mut learner, buffer).ok(), Some(true));
        assert_eq!(store::state_hash(&mut learner), hash);
    }
}

/// The whole way of a sample: a file of some kind, with faults on purpose, is learned from.
pub fn learn(data: &[u8]) {
    let [kind, faults, file @ ..] = data else { return };
    in_folder(|folder| {
        let path = |name| put(folder, name, file);
        let (uri, model) = match kind % 8 {
            0 => (format!("npy:{}?order=given", path("x.npy")), "image"),
            1 => (format!("mjpeg:{}?order=given", path("f.jpegs")), "image"),
            2 => (format!("csv:{}?window=16&stride=4&nan=skip", path("t.csv")), "window"),
            3 => (format!("wav:{}?order=given", path("a.wav")), "audio"),
            4 => (format!("pcm:{}?rate=8000&window=800", path("a.raw")), "audio"),
            5 => (format!("tokens:{}?window=16", path("a.txt")), "tokens"),
            6 => (format!("pipe:{}?format=rgb24&width=5&height=4", path("f.rgb")), "image"),
            _ => {
                put(folder, "a.png", file);
                (format!("images:{}?order=given", folder.display()), "image")
            }
        };
        let spec = super::seeds::small(model);
        let uri = format!("{uri}&fault=drop:0.1,delay:0.1,corrupt:0.1,truncate:0.1,strobe:0.05&fault_seed={faults}");
        let options = Options { expected_samples: Some(SAMPLES), ..Options::new(Seed(1)) };
        let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
        let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
        let Ok(mut source) = open(&[uri], &OpenOptions::default()) else { return };
        let extent = Extent { epochs: 2, samples: Some(SAMPLES) };
        if let Err(problem) = drive::learn(&mut learner, source.as_mut(), extent, &Alone, |_, _| true) {
            assert!(!problem.to_string().is_empty());
        }
    });
}

/// A network of others, an encoder of ours, a network in integers: read, made, and where it is small, run.
#[cfg(feature = "onnx")]
pub fn onnx(data: &[u8]) {
    use nestling::onnx::{Runner, back, calibrate, export, file, graph, lower};
    let run = |network: &nestling::onnx::Network, stored: &[u8]| {
        let Ok(mut runner) = Runner::new(network.clone(), Kernels::Reference) else { return };
        runner.run(stored);
        assert_eq!(runner.feature().len(), network.feature_dim());
        let _ = export::export(network, export::Format::Qdq, &[]);
    };
    if let Ok(Some(exported)) = back::parse("x", data) {
        let options = Options { kernels: Kernels::Reference, ..Options::new(Seed(0)) };
        if let Ok(plan) = Learner::plan(&exported.spec, &options)
            && plan.block_len() <= MOST_BYTES
        {
            let mut memory = vec![0; plan.block_len()];
            if let Ok(mut learner) = Learner::new(&exported.spec, &options, &mut memory) {
                let _ = exported.restore(&mut learner);
            }
        }
    }
    if let Ok(Some(network)) = file::parse("x", data) {
        let stored = network.input.stored_len();
        if network.macs() <= MOST_WORK && stored <= MOST_WORK {
            run(&network, &vec![90; stored]);
        }
    }
    let graph = match graph::parse("x", data, None) {
        Ok(graph) => graph,
        Err(problem) => return assert!(!problem.to_string().is_empty()),
    };
    match lower::lower(&graph, &lower::Options { size: Some((8, 8)), output: None }) {
        Err(problem) => assert!(!problem.to_string().is_empty()),
        Ok(float) if float.work() <= MOST_WORK => {
            let channels = float.input.channels;
            let pixels = calibrate::Pixels { mean: vec![0.5; channels], deviation: vec![0.25; channels] };
            let sample: Vec<u8> = (0..float.input.len()).map(|at| (at * 37) as u8).collect();
            if let Ok(network) = calibrate::calibrate(&float, &pixels, std::slice::from_ref(&sample)) {
                run(&network, &sample);
            }
        }
        Ok(_) => {}
    }
}
