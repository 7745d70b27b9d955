//! Learning behind a frozen network, as a user does it.

#![cfg(feature = "onnx")]

use std::path::Path;

use assert_cmd::Command;
use nestling::board::BackboneTable;
use nestling::fixed::random::Draws;
use nestling::onnx::backbone::{Backbone, Latents};
use nestling::sample::Seed;
use nestling::source::{Data, Record, Source, SourceError};
use serde_json::Value;

#[cfg(feature = "tract")]
#[path = "../fuzz/src/seeds.rs"]
#[allow(dead_code, reason = "only the network is used here")]
mod seeds;

fn nestling(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("nestling").expect("the program");
    command.current_dir(folder).args(args);
    command
}

fn told(folder: &Path, args: &[&str]) -> Value {
    let output = nestling(folder, args).arg("--json").output().expect("it runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn refused(folder: &Path, args: &[&str]) -> String {
    let output = nestling(folder, args).output().expect("it runs");
    assert!(!output.status.success(), "{args:?} is not refused");
    String::from_utf8(output.stderr).expect("text")
}

const SOURCE: [&str; 4] = ["--source", "sim:rover?samples=240", "--threads", "1"];
const SMALL: [&str; 6] = ["--model", "robot", "--set", "dictionary.samples=60", "--set", "replay.capacity=64"];

/// An encoder of ours that is to be the backbone.
fn encoder(folder: &Path, name: &str, seed: &str) {
    told(folder, &[&["learn", "--out", name, "--seed", seed], &SOURCE[..], &SMALL[..]].concat());
}

#[test]
fn a_tail_learns_the_same_bits_behind_its_backbone_and_behind_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    encoder(folder, "eye.safetensors", "1");
    encoder(folder, "other.safetensors", "2");
    // The first of its layers, a map; without a name it is all of its feature.
    let behind = ["--backbone", "eye.safetensors", "--backbone-output", "layer1"];
    let learn = |out: &str, more: &[&str]| {
        told(folder, &[&["learn", "--set", "replay.capacity=64", "--out", out], &SOURCE[..2], &behind, more].concat())
    };
    let whole = learn("whole.safetensors", &["--threads", "1"]);
    assert_eq!(whole["samples"], 240);
    assert!(whole["steps"].as_u64() > Some(0) && whole["lessons_published"].as_u64() > Some(0), "{whole}");
    assert_eq!(learn("again.safetensors", &["--threads", "3"])["state_hash"], whole["state_hash"]);

    learn("half.safetensors", &["--stop-after", "100"]);
    let resumed = ["--resume", "half.safetensors"];
    assert_eq!(learn("resumed.safetensors", &resumed)["state_hash"], whole["state_hash"]);
    let go_on = [&["learn", "--out", "x.safetensors"], &SOURCE[..], &resumed].concat();
    let problem = refused(folder, &go_on);
    assert!(problem.contains("learned behind eye.safetensors") && problem.contains("--backbone"), "{problem}");
    let problem = refused(folder, &[&go_on[..], &["--backbone", "other.safetensors"]].concat());
    assert!(problem.contains("whose BLAKE3 is"), "{problem}");
    let problem = refused(folder, &[&go_on[..3], &SOURCE, &behind, &["--resume", "eye.safetensors"]].concat());
    assert!(problem.contains("without a backbone"), "{problem}");

    // What it reads raw are the latents: the backbone alone.
    let probed = told(
        folder,
        &[&["probe", "whole.safetensors", "--source", "sim:rover?samples=200", "--all-labels-only"], &behind[..]]
            .concat(),
    );
    assert!(probed["raw"]["r2"].is_number() && probed["r2"].is_number(), "{probed}");

    let run = ["run", "--every", "--samples", "60", "--state", "whole.safetensors", "--source", "sim:rover?samples=60"];
    let ran = nestling(folder, &[&run[..], &behind].concat()).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(String::from_utf8_lossy(&ran.stdout).lines().filter(|line| line.contains("\"feature\"")).count(), 60);
    // The daemon has written a checkpoint of its own, and that says it, too.
    let saved = nestling::store::read(&folder.join("whole.safetensors")).expect("a checkpoint");
    assert_eq!(saved.metadata["samples"], "300");
    assert!(saved.metadata["backbone"].contains("eye.safetensors"), "{:?}", saved.metadata);
    let problem = refused(folder, &run);
    assert!(problem.contains("learned behind eye.safetensors"), "{problem}");
}

/// By tract: latents are rounded to one exponent, which is found once.
#[cfg(feature = "tract")]
#[test]
fn a_tail_goes_on_behind_an_onnx_file_with_the_exponent_that_was_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut other = seeds::network();
    std::fs::write(folder.join("net.onnx"), other.bytes()).expect("room");
    other.graph.as_mut().expect("a graph").initializer[0].float_data[0] += 0.5;
    std::fs::write(folder.join("other.onnx"), other.bytes()).expect("room");
    let behind = ["--backbone", "net.onnx", "--backbone-output", "relu", "--backbone-mean", "0.5"];
    let learn = |out: &str, more: &[&str]| {
        let model = ["learn", "--set", "replay.capacity=64", "--set", "feature.cells=2", "--out", out];
        told(folder, &[&model, &SOURCE[..], &behind, more].concat())
    };
    let whole = learn("whole.safetensors", &[]);
    assert_eq!(whole["samples"], 240);
    assert!(whole["lessons_published"].as_u64() > Some(0), "{whole}");
    learn("half.safetensors", &["--stop-after", "100"]);
    let resumed = learn("resumed.safetensors", &["--resume", "half.safetensors"]);
    assert_eq!(resumed["state_hash"], whole["state_hash"]);
    let run = ["run", "--every", "--state", "whole.safetensors", "--source", "sim:rover?samples=60"];
    let problem = refused(folder, &[&run[..], &["--backbone", "other.onnx"], &behind[2..]].concat());
    assert!(problem.contains("whose BLAKE3 is"), "{problem}");
    let features = |args: &[&str]| {
        let ran = nestling(folder, &[args, &behind].concat()).output().expect("it runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).lines().filter(|line| line.contains("\"feature\"")).count()
    };
    assert_eq!(features(&run), 60);
    // On a stream that nobody knows the first frames give no latents.
    let fresh = [
        "run",
        "--every",
        "--set",
        "feature.cells=2",
        "--source",
        "sim:rover?samples=100",
        "--state",
        "new.safetensors",
    ];
    assert_eq!(features(&fresh), 100 - nestling::onnx::backbone::FRAMES);
}

/// Frames that differ; after the last an error, and then the end.
struct Frames {
    given: u64,
    fails_after: u64,
}

impl Source for Frames {
    fn describe(&self) -> String {
        "frames".into()
    }
    fn len_hint(&self) -> Option<u64> {
        Some(self.fails_after)
    }
    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        if self.given >= self.fails_after {
            self.given += 1;
            return if self.given == self.fails_after + 1 {
                Err(SourceError::CannotRewind("torn".into()))
            } else {
                Ok(false)
            };
        }
        let draws = Draws::new(Seed(self.given), 0, 0);
        let pixels = (0..48 * 64).map(|at| draws.bits(at) as u8).collect();
        *record = Record { data: Data::Image { pixels, height: 48, width: 64, channels: 1 }, ..Record::default() };
        self.given += 1;
        Ok(true)
    }
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.given = 0;
        Ok(())
    }
}

#[test]
fn frames_taken_at_once_become_the_latents_that_each_alone_becomes_up_to_the_last_before_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    encoder(folder.path(), "eye.safetensors", "1");
    let table = BackboneTable {
        network: Some(folder.path().join("eye.safetensors")),
        onnx: None,
        output: Some("layer1".into()),
        size: None,
        mean: Vec::new(),
        deviation: Vec::new(),
    };
    let open = || Backbone::open(&table).expect("a backbone");
    let source = || Frames { given: 0, fails_after: 37 };
    let (mut alone, mut frames, mut record) = (open(), source(), Record::default());
    let mut expected = Vec::new();
    while frames.read_next(&mut record).is_ok_and(|more| more) {
        assert!(alone.apply(&mut record).expect("a frame"));
        expected.push(record.data.clone());
    }
    assert_eq!(expected.len(), 37);
    assert!(expected[0] != expected[1]);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let mut behind = Latents::new(Box::new(source()), open()).expect("a source");
            for _ in 0..2 {
                for (number, expected) in expected.iter().enumerate() {
                    assert!(behind.read_next(&mut record).expect("a frame"));
                    assert!(record.data == *expected, "frame {number}, {threads} threads");
                }
                assert!(behind.read_next(&mut record).is_err(), "the error comes after the frames before it");
                behind.rewind().expect("it begins anew");
            }
        });
    }
}

#[test]
fn what_is_no_backbone_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    encoder(folder, "eye.safetensors", "1");
    let learn = ["learn", "--source", "sim:rover?samples=60", "--out", "x.safetensors"];
    std::fs::write(folder.join("torn.safetensors"), b"no network").expect("a file");
    for (more, said) in [
        (&["--model", "tail"][..], "name one with --backbone"),
        (&["--backbone", "eye.safetensors", "--model", "robot"], "choose --model tail"),
        (&["--backbone", "torn.safetensors"], "torn.safetensors"),
        (&["--backbone", "none.safetensors"], "none.safetensors"),
        (&["--backbone", "eye.safetensors", "--backbone-output", "nose"], "it has no node nose"),
    ] {
        let problem = refused(folder, &[&learn[..], more].concat());
        assert!(problem.contains(said), "{more:?}: {problem}");
    }
    std::fs::write(folder.join("b.toml"), "source = 'sim:rover'\n[backbone]\nnetwork = 'a'\nonnx = 'b.onnx'\n")
        .expect("a file");
    std::fs::write(folder.join("a"), b"").expect("a file");
    let problem = refused(folder, &["run", "--board", "b.toml"]);
    assert!(problem.contains("both given"), "{problem}");
}
