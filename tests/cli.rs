//! The program as a user runs it: what it prints, what it exits with, what it leaves behind.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const SIM: &str = "sim:rover?samples=420";
/// A model small enough for a test, on the simulated camera.
const SMALL: [&str; 8] = [
    "--model",
    "robot",
    "--set",
    "dictionary.samples=100",
    "--set",
    "replay.capacity=64",
    "--set",
    "guard.lesson_steps=10",
];

fn nestling(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
    command.args(args);
    command
}

fn json(args: &[&str]) -> Value {
    let output = nestling(args).arg("--json").output().expect("the program runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn learn(out: &Path, more: &[&str]) -> Value {
    let out = out.display().to_string();
    json(&[&["learn", "--source", SIM, "--out", &out], &SMALL[..], more].concat())
}

#[test]
fn learning_gives_one_hash_for_any_threads_and_for_a_resumed_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let whole = learn(&path("a"), &["--threads", "1"]);
    for key in [
        "samples",
        "steps",
        "seconds",
        "samples_per_second",
        "checkpoint",
        "state_hash",
        "loss_first",
        "loss_last",
        "effective_rank",
        "saturation",
        "lessons_published",
        "lessons_rolled_back",
        "ram_bytes_planned",
        "peak_rss_bytes",
    ] {
        assert!(!whole[key].is_null(), "{key}");
    }
    assert_eq!(whole["samples"], 420);
    assert!(whole["lessons_published"].as_u64().is_some_and(|n| n > 1), "{whole}");
    assert_eq!(learn(&path("b"), &["--threads", "2"])["state_hash"], whole["state_hash"]);
    let cut = learn(&path("c"), &["--stop-after", "233"]);
    assert_eq!((&cut["samples"], &cut["complete"]), (&Value::from(233), &Value::from(false)));
    let resume = path("c").display().to_string();
    let resumed = learn(&path("d"), &["--resume", &resume]);
    assert_eq!(resumed["state_hash"], whole["state_hash"]);

    // What was learned can be looked at, judged, and gone on from by `run`.
    let checkpoint = path("d").display().to_string();
    let inspected = json(&["inspect", &checkpoint]);
    assert_eq!(inspected["state_hash"], whole["state_hash"]);
    let scores = json(&["probe", &checkpoint, "--source", "sim:rover?samples=300&seed=3", "--all-labels-only"]);
    for kind in ["stem", "untrained", "raw"] {
        assert!(scores[kind]["r2"].is_number() && scores[kind]["knn_r2"].is_number(), "{kind}: {scores}");
    }
    assert!(scores["r2"].as_f64().is_some_and(|r2| r2 <= 1.0), "{scores}");
    let output =
        nestling(&["run", "--source", "sim:rover?samples=30", "--state", &checkpoint]).output().expect("it runs");
    let lines: Vec<Value> = output
        .stdout
        .split(|&b| b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|line| serde_json::from_slice(line).expect("one JSON object a line"))
        .collect();
    assert_eq!(lines.len(), 30, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines[1]["t_us"], 50_000);
    assert_eq!(lines[0]["feature"].as_array().map(Vec::len), Some(5120));
}

#[test]
fn run_perceives_raw_frames_from_a_pipe_and_saves_its_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state").display().to_string();
    // A recording: each frame is wanted, and the pipe may wait.
    let mut child = nestling(&[
        "run",
        "--every",
        "--source",
        "pipe:-?format=gray8&width=40&height=30",
        "--model",
        "n5",
        "--state",
        &state,
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("it runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || {
        for n in 0..50u32 {
            let frame: Vec<u8> = (0..1200u32).map(|i| (i * (n % 7 + 1)) as u8).collect();
            pipe.write_all(&frame).expect("the program reads");
        }
        // Half a frame at the end: a camera that went away.
        pipe.write_all(&[0; 600]).expect("the program reads");
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("all was written");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(output.stdout.iter().filter(|&&b| b == b'\n').count(), 50, "{said}");
    assert!(Path::new(&state).exists());
}

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&["learn"], 2, &["--source"]),
        (&["learn", "--source", "sim:rover"], 1, &["--samples"]),
        (&["learn", "--source", "mjpg:x"], 1, &["mjpg", "mjpeg"]),
        (&["learn", "--source", "npy:/nowhere.npy"], 1, &["/nowhere.npy"]),
        (&["learn", "--source", "sim:rover?samples=9", "--model", "nothing"], 1, &["nothing", "l100"]),
        (&["learn", "--source", "sim:rover?samples=9", "--set", "views.flop=true"], 1, &["flop"]),
        (&["learn", "--source", "sim:rover?samples=9&sensor=imu", "--model", "l100"], 1, &["images"]),
        (&["probe", "/nowhere.safetensors", "--source", "sim:rover"], 1, &["/nowhere.safetensors"]),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (args, code, parts) in cases {
        let output = nestling(args).current_dir(&folder).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?} does not name {part}: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn the_plan_is_printed_to_the_byte() {
    // Named, so that it does not depend on the processor.
    let arguments = ["plan", "--model", "l100", "--threads", "1", "--kernels", "packed/avx2"];
    let plan = json(&arguments);
    let items: u64 = plan["items"].as_object().expect("items").values().filter_map(Value::as_u64).sum();
    assert_eq!(plan["ram_bytes"].as_u64(), Some(items));
    assert_eq!((&plan["params"], &plan["feature_dim"]), (&Value::from(96_960), &Value::from(2016)));
    let output = nestling(&arguments).output().expect("the program runs");
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_study_goes_on_where_it_was_left_and_names_what_it_does_not_know() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("study").display().to_string();
    fn study<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let common = ["study", "pretexts", "--data", "/nowhere", "--set", "sim_log", "--seeds", "1", "--out", out];
        [&common, more].concat()
    }
    let study = |more| study(&out, more);
    let once = json(&study(&["--task", "raw", "--task", "rotation"]));
    assert_eq!(once["cells_run"], 2);
    let rows = once["rows"].as_array().expect("rows");
    let headline = rows[0]["headline"].as_f64().expect("a score");
    // Counts of events tell little of what the robot is about: chance is 24 %.
    assert!((30.0..60.0).contains(&headline), "{headline}");
    assert!(rows[1]["refused"].as_str().expect("a reason").contains("needs images"));
    assert_eq!(json(&study(&["--task", "raw", "--task", "rotation"]))["cells_run"], 0);
    let markdown = std::fs::read_to_string(folder.path().join("study/pretexts.md")).expect("a table");
    assert!(markdown.contains("## sim_log") && markdown.contains("| rotation | — |"), "{markdown}");
    let wrong = nestling(&study(&["--task", "moon"])).output().expect("the program runs");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there is no such task"));
}
