//! Every kind of source with every kind of fault, through the learner: no panic, exact counts, the same bits again.

mod common;

use std::io::Write;

use nestling::learner::{Alone, Learner};
use nestling::link::{self, Hello, RawSample, ToHost};
use nestling::net::spec::{InputKind, Spec};
use nestling::runtime::drive::{self, DriveError, Extent};
use nestling::source::fault::{Counts, Fault};
use nestling::source::{OpenOptions, Record, Source, SourceError, open};
use nestling::store::state_hash;
use tempfile::TempDir;

fn images() -> Spec {
    nestling::selftest::spec()
}

/// A shipped model, made small enough for a test.
fn shrunk(name: &str) -> Spec {
    let mut spec = nestling::model::load(name).expect("a shipped model");
    spec.dictionary.samples = 30;
    spec.replay.capacity = 32;
    spec.guard.lesson_steps = 5;
    spec.guard.canaries = 8;
    spec
}

/// A source of each kind that can be had without hardware, with a model for it.
fn sources(dir: &TempDir) -> Vec<(&'static str, String, Spec)> {
    let path = |name: &str| dir.path().join(name).display().to_string();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.path().join(name), bytes).expect("a file");
        path(name)
    };
    let noise: Vec<u8> = (0..60_000u32).map(|i| (i.wrapping_mul(i ^ 0x55) >> 5) as u8).collect();
    let npy = |descr: &str, shape: &str, data: &[u8]| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (text.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, text.as_bytes(), data].concat()
    };
    let frame = |shade: u8| {
        let image = image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([shade, (x * 9) as u8, (y * 13) as u8]));
        let mut out = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 80);
        image.write_with_encoder(encoder).expect("a JPEG");
        out
    };
    let frames: Vec<u8> = (0..150).flat_map(|n| frame(n as u8)).collect();
    let mut table = String::from("ax,ay,az,gx,gy,gz\n");
    for row in noise.chunks_exact(6).take(3000) {
        table += &format!("{},{},{},{},{},{}\n", row[0], row[1], row[2], row[3], row[4], row[5]);
    }
    let text: String = noise.iter().take(5000).map(|&b| char::from(b'a' + b % 20)).collect();
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).expect("a folder");
    for n in 0..60u8 {
        std::fs::write(pictures.join(format!("{n}.jpg")), frame(n * 4)).expect("a file");
    }
    let pcm: Vec<u8> = noise.iter().cycle().take(800_000).copied().collect();
    let frames = put("frames.jpegs", &frames);
    let x = put("x.npy", &npy("|u1", "(150, 8, 8, 3)", &noise[..150 * 8 * 8 * 3]));
    let speech = shrunk("speech");
    let text_model = shrunk("text");
    let rate = speech.input.rate;
    let motion = shrunk("motion");
    let wide = motion.input.width;
    let window = text_model.input.width;
    vec![
        ("npy", format!("npy:{x}"), images()),
        ("mjpeg", format!("mjpeg:{frames}"), images()),
        ("pipe", format!("pipe:{frames}"), images()),
        ("images", format!("images:{}", pictures.display()), images()),
        ("link", format!("link:{}", put("a.link", &recording(150))), images()),
        ("csv", format!("csv:{}?window={wide}&stride=16", put("log.csv", table.as_bytes())), motion.clone()),
        ("sim camera", "sim:rover?samples=150&width=16&height=16".into(), images()),
        ("sim imu", format!("sim:rover?samples=150&sensor=imu&window={wide}"), motion),
        ("pcm", format!("pcm:{}?rate={rate}&window={rate}&stride={}", put("a.raw", &pcm), rate / 3), speech),
        ("tokens", format!("tokens:{}?window={window}", put("log.txt", text.as_bytes())), text_model),
    ]
}

/// What a board's link carried: who it is, then samples.
fn recording(samples: u64) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut buffer = [0; 512];
    let spec = nestling::image::encode_spec(&images(), &mut buffer).expect("room");
    let hello = Hello {
        protocol: link::PROTOCOL,
        firmware: "test",
        board: "none",
        kernels: "reference",
        spec: link::Bytes(spec),
        seed: 7,
        expected_samples: Some(samples),
        samples: 0,
        memory: link::Memory::default(),
    };
    let mut say = |message: &ToHost| link::send(message, |piece| stream.write_all(piece)).expect("a vector takes all");
    say(&ToHost::Hello(hello));
    let mut gratings = common::Gratings::new(16);
    for number in 0..samples {
        say(&ToHost::Sample(RawSample::new(number, &gratings.sample())));
    }
    stream
}

/// A source that is read on after every failure and every end that was made on purpose, as the daemon does.
struct ReadOn {
    source: Box<dyn Source>,
    failures: u64,
    returns: u64,
}

impl ReadOn {
    fn counts(&self) -> Counts {
        self.source.injected().expect("faults")
    }
}

impl Source for ReadOn {
    fn describe(&self) -> String {
        self.source.describe()
    }

    fn len_hint(&self) -> Option<u64> {
        self.source.len_hint()
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        loop {
            match self.source.read_next(record) {
                Err(problem) if problem.to_string().contains("on purpose") => self.failures += 1,
                Ok(false) if self.counts().of(Fault::Vanish) > self.returns => self.returns += 1,
                other => return other,
            }
        }
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.source.rewind()
    }
}

/// What became of a run.
#[derive(Debug, PartialEq)]
struct Outcome {
    learned: u64,
    refused: u64,
    failures: u64,
    returns: u64,
    counts: Counts,
    hash: String,
}

fn run(uri: &str, spec: &Spec) -> Outcome {
    common::Run::new(spec, 1, Some(150)).with(|learner| {
        let source = open(&[uri.to_owned()], &OpenOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let mut source = ReadOn { source, failures: 0, returns: 0 };
        let extent = Extent { epochs: 1, samples: None };
        let refused = drive::learn(learner, &mut source, extent, &Alone, |_, _| true);
        let refused = refused.unwrap_or_else(|e| panic!("{uri}: {e}"));
        let ReadOn { failures, returns, .. } = source;
        Outcome {
            learned: learner.counters().observed,
            refused,
            failures,
            returns,
            counts: source.counts(),
            hash: state_hash(learner),
        }
    })
}

fn with(uri: &str, faults: &str) -> String {
    format!("{uri}{}fault={faults}&fault_seed=1", if uri.contains('?') { '&' } else { '?' })
}

#[test]
fn every_source_with_every_fault_is_learned_from_with_exact_counts_and_the_same_bits_again() {
    let dir = TempDir::new().expect("a folder");
    for (name, uri, spec) in sources(&dir) {
        let held = run(&with(&uri, "drop:0"), &spec);
        assert_eq!((held.refused, held.learned), (0, held.counts.read), "{name}");
        assert!(held.learned >= 60, "{name}: {held:?}");
        let all =
            Fault::ALL.iter().filter(|fault| **fault != Fault::Stall).map(|fault| format!("{}:0.05", fault.name()));
        let together = all.collect::<Vec<_>>().join(",");
        let one = Fault::ALL.map(|fault| (Some(fault), format!("{}:{}", fault.name(), rate(fault))));
        for (fault, faults) in one.into_iter().chain([(None, together)]) {
            let uri = with(&uri, &faults);
            let outcome = run(&uri, &spec);
            assert_eq!(run(&uri, &spec), outcome, "{uri}: a second run");
            let Outcome { learned, refused, failures, returns, counts, hash } = outcome;
            println!("{name:10} {faults:14} learned {learned:3} refused {refused:2} {counts:?}");
            // Nothing is lost but what was dropped, and nothing is counted twice.
            assert_eq!(counts.read, held.counts.read, "{uri}");
            assert_eq!(counts.held, 0, "{uri}");
            assert_eq!(counts.read + counts.of(Fault::Repeat), counts.delivered + counts.of(Fault::Drop), "{uri}");
            assert_eq!(learned + refused, counts.delivered, "{uri}");
            assert_eq!((failures, returns), (counts.of(Fault::Error), counts.of(Fault::Vanish)), "{uri}");
            let Some(fault) = fault else {
                assert!(refused > 0 || spec.input.kind == InputKind::Audio, "{uri}");
                continue;
            };
            assert!(counts.of(fault) > 0, "{uri}");
            let refusing = match fault {
                // Sound may be of any length.
                Fault::Truncate => spec.input.kind != InputKind::Audio,
                // A code that the model does not know.
                Fault::Corrupt | Fault::Strobe => spec.input.kind == InputKind::Tokens,
                _ => false,
            };
            assert_eq!(refused > 0, refusing, "{uri}: {refused} refused");
            let harmless = matches!(fault, Fault::Stall | Fault::Vanish | Fault::Error);
            assert_eq!(hash == held.hash, harmless, "{uri}");
        }
    }
}

/// A stall takes its time.
fn rate(fault: Fault) -> f64 {
    if fault == Fault::Stall { 0.01 } else { 0.05 }
}

#[test]
fn a_stream_of_which_nothing_fits_is_an_error_at_once() {
    common::Run::new(&images(), 1, None).with(|learner| {
        for uri in ["sim:rover?sensor=imu", "sim:rover?sensor=imu&samples=3", "sim:rover?fault=truncate:1"] {
            let mut source = open(&[uri.to_owned()], &OpenOptions::default()).expect("a source");
            let extent = Extent { epochs: 1, samples: None };
            let problem = drive::learn(learner, source.as_mut(), extent, &Alone, |_, _| true).expect_err(uri);
            assert!(matches!(problem, DriveError::Sample { index: 0, .. }), "{uri}: {problem}");
            assert_eq!(learner.counters().observed, 0);
        }
    });
}

#[test]
fn a_resumed_run_over_a_faulty_stream_has_the_bits_and_the_counts_of_the_uncut_one() {
    let uri = with("sim:rover?samples=150&width=16&height=16", "truncate:0.1,drop:0.1,delay:0.1");
    let whole = run(&uri, &images());
    assert!(whole.refused > 5);
    let open = || open(std::slice::from_ref(&uri), &OpenOptions::default()).expect("a source");
    let extent = Extent { epochs: 1, samples: None };
    common::Run::new(&images(), 1, Some(150)).with(|learner| {
        let stop = |learner: &mut Learner, did: Option<_>| did.is_some() || learner.counters().observed < 77;
        let cut = drive::learn(learner, open().as_mut(), extent, &Alone, stop).expect("a cut run");
        assert!(cut < whole.refused && learner.counters().observed == 77);
        let refused = drive::learn(learner, open().as_mut(), extent, &Alone, |_, _| true).expect("the rest");
        assert_eq!((refused, state_hash(learner)), (whole.refused, whole.hash.clone()));
    });
}

#[test]
fn a_failing_source_ends_learning_with_its_reason() {
    common::Run::new(&images(), 1, None).with(|learner| {
        let uri = "sim:rover?width=16&height=16&fault=error:0.02";
        let mut source = open(&[uri.to_owned()], &OpenOptions::default()).expect("a source");
        let extent = Extent { epochs: 1, samples: None };
        let problem = drive::learn(learner, source.as_mut(), extent, &Alone, |_, _| true).expect_err("an error");
        assert!(
            matches!(&problem, DriveError::Source(_)) && problem.to_string().contains("leave error out"),
            "{problem}"
        );
        assert!(learner.counters().observed > 0);
    });
}

#[test]
fn what_was_learned_before_a_source_failed_is_kept_and_the_program_tells_what_was_done_to_it() {
    let dir = TempDir::new().expect("a folder");
    let out = dir.path().join("a.safetensors").display().to_string();
    let learn = |faults: &str| {
        let source = format!("sim:rover?samples=200&width=32&height=32&fault={faults}&fault_seed=1");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nestling"));
        command.args([
            "learn",
            "--json",
            "--model",
            "n5",
            "--set",
            "dictionary.samples=50",
            "--source",
            &source,
            "--out",
            &out,
        ]);
        command.output().expect("the program runs")
    };
    let failed = learn("error:0.02");
    let says = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1));
    assert!(says.contains("samples were learned, and are in") && says.contains("leave error out"), "{says}");
    assert!(nestling::store::read(out.as_ref()).is_ok_and(|saved| !saved.metadata.is_empty()));
    let done = learn("truncate:0.1,drop:0.1");
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
    let count =
        |pointer: &str| told.pointer(pointer).and_then(|n| n.as_u64()).unwrap_or_else(|| panic!("{pointer}: {told}"));
    assert_eq!(count("/refused"), count("/injected/faults/truncate"));
    assert_eq!(count("/samples") + count("/refused"), count("/injected/delivered"));
    assert_eq!(count("/injected/delivered") + count("/injected/faults/drop"), 200);
}
