//! Boards and the host: recordings of what a board took in, images, and what is said where something is missing.

use std::io::Write;
use std::process::Command;

use serde_json::Value;

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

/// Bytes of a recording as `record` writes it, of a learner of `model` that takes in `samples` of the simulator.
fn recorded(model: &str, samples: u64, finished: bool) -> Vec<u8> {
    use nestling::learner::{Alone, Did, Learner, Options};
    use nestling::link::{Bytes, Hello, Memory, PROTOCOL, RawSample, StateHash, ToHost, send};
    use nestling::sample::Seed;
    use nestling::source::{OpenOptions, Record, open};

    let spec = nestling::model::load(model).expect("a sound model");
    let mut buffer = [0; 512];
    let spec_bytes = nestling::image::encode_spec(&spec, &mut buffer).expect("a small model");
    let options = Options { expected_samples: Some(samples), ..Options::new(Seed(9)) };
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
    let mut bytes = Vec::new();
    let mut say = |message: ToHost| {
        send(&message, |piece| bytes.write_all(piece)).expect("a vector takes all");
    };
    say(ToHost::Hello(Hello {
        protocol: PROTOCOL,
        firmware: "test 1.0",
        board: "bench",
        kernels: "reference",
        spec: Bytes(spec_bytes),
        seed: 9,
        expected_samples: Some(samples),
        samples: 0,
        memory: Memory::default(),
    }));
    let mut source = open(&["sim:rover?width=16&height=16".into()], &OpenOptions { seed: 0 }).expect("the simulator");
    let mut record = Record::default();
    for number in 0..samples {
        assert!(source.read_next(&mut record).expect("the simulator"));
        say(ToHost::Sample(RawSample::new(number, &record.sample())));
        learner.observe(&record.sample()).expect("a fitting sample");
        while learner.step(&Alone) != Did::Idle {}
        if number + 1 == samples / 2 {
            say(ToHost::Hash(StateHash {
                samples: number + 1,
                finished: false,
                hash: nestling::state::hash(&mut learner),
            }));
        }
    }
    if finished {
        learner.finish();
    }
    say(ToHost::Hash(StateHash { samples, finished, hash: nestling::state::hash(&mut learner) }));
    bytes
}

/// A model of a few kilobytes, for a board.
const TINY: &str = "name = 'tiny'\n[input]\nheight = 16\nwidth = 16\nchannels = 1\n\
    [[layer]]\nkind = 'dictionary'\nfilters = 8\nkernel = 3\nstride = 2\n[[layer]]\nfilters = 8\nstride = 2\n\
    [[layer]]\nfilters = 8\nstride = 2\n[dictionary]\nsamples = 40\n\
    [pretext]\nbatch = 4\nhidden = 8\noutputs = 8\nsamples_per_step = 4\n[replay]\ncapacity = 16\nfresh = 2\n\
    [guard]\nlesson_steps = 10\ncanaries = 8\n";

#[test]
fn a_boards_recording_is_learned_to_the_boards_own_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), TINY).expect("a writable folder");
    let bytes = recorded(&path("tiny.toml"), 120, true);
    std::fs::write(path("a.link"), &bytes).expect("a writable folder");
    let source = format!("link:{}", path("a.link"));
    let told = json(&["learn", "--source", &source, "--out", &path("c")]);
    assert_eq!((&told["same_bits"], &told["device_hashes_compared"]), (&Value::from(true), &Value::from(2)));
    assert_eq!(told["device_state_hash"], told["state_hash"]);
    assert_eq!((&told["samples"], &told["device_samples_missing"]), (&Value::from(120), &Value::from(0)));

    // With another seed the bits are others, and that is said.
    let told = json(&["learn", "--source", &source, "--seed", "1", "--out", &path("d")]);
    assert_eq!(told["same_bits"], false);
    assert!(told["device_state_hash"] != told["state_hash"]);

    // Features of the recorded samples, as of any source.
    let output = nestling(&["run", "--source", &source]).output().expect("it runs");
    assert_eq!(output.stdout.iter().filter(|&&b| b == b'\n').count(), 120);
}

#[test]
fn an_image_carries_a_checkpoint_to_a_board_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), TINY).expect("a writable folder");
    let learned = json(&[
        "learn",
        "--source",
        "sim:rover?samples=150",
        "--model",
        &path("tiny.toml"),
        "--seed",
        "5",
        "--out",
        &path("c"),
    ]);
    let exported = json(&["export", &path("c"), "--image", &path("c.img")]);
    assert_eq!((&exported["state_hash"], &exported["fresh"]), (&learned["state_hash"], &Value::Array(vec![])));
    let imported = json(&["import", &path("c.img"), "--out", &path("d")]);
    assert_eq!((&imported["state_hash"], &imported["seed"]), (&learned["state_hash"], &Value::from(5)));
    assert_eq!(json(&["inspect", &path("d")])["state_hash"], learned["state_hash"]);

    // The board trains the last layer alone, without momentum, judges nothing and remembers less.
    let lean = TINY
        .replace(
            "[[layer]]\nfilters = 8\nstride = 2\n[dictionary]",
            "[[layer]]\nfilters = 8\nstride = 2\ntrained = 4\n[dictionary]",
        )
        .replace("canaries = 8", "canaries = 0\n[optimizer]\nmomentum = false")
        .replace("capacity = 16", "capacity = 6");
    std::fs::write(path("lean.toml"), lean).expect("a writable folder");
    let exported = json(&["export", &path("c"), "--model", &path("lean.toml"), "--image", &path("lean.img")]);
    let names =
        |key: &str| exported[key].as_array().map(|names| names.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    let (carried, fresh) = (names("carried").expect("names"), names("fresh").expect("names"));
    for name in ["counters", "learning.weights", "learning.thresholds", "masters", "stem.dictionary"] {
        assert!(carried.contains(&name), "{name}: {exported}");
    }
    assert!(fresh.contains(&"replay.entries") && fresh.iter().all(|name| name.starts_with("replay.")), "{exported}");
    // What the board serves is what the checkpoint served.
    json(&["import", &path("lean.img"), "--out", &path("e")]);
    let features = |state: &str| {
        let args = ["run", "--frozen", "--source", "sim:rover?samples=20&seed=4", "--state", &path(state)];
        let output = nestling(&args).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("text");
        let made = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        made.map(|line| ["t_us", "encoder", "blocks", "feature"].map(|key| line[key].clone())).collect::<Vec<_>>()
    };
    assert_eq!(features("e"), features("d"));
    // And it learns on from there.
    let on = json(&["learn", "--source", "sim:rover?samples=300", "--resume", &path("e"), "--out", &path("f")]);
    assert!(on["steps"].as_u64() > learned["steps"].as_u64(), "{on}");
}

#[test]
fn mistakes_with_boards_are_answered_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), TINY).expect("a writable folder");
    std::fs::write(path("no.img"), b"nestling and then nothing").expect("a writable folder");
    std::fs::write(path("no.link"), b"nothing of a board's").expect("a writable folder");
    json(&["learn", "--source", "sim:rover?samples=50", "--model", &path("tiny.toml"), "--out", &path("c")]);
    let board = folder.path().join("boards/odd");
    std::fs::create_dir_all(&board).expect("a writable folder");
    let profile = "name = 'odd'\ntarget = 'thumbv0-none-none'\ncpu = 'none'\nram_bytes = 2000\nflash_bytes = 900000\n\
                   stack_bytes = 1000\nfirmware_ram_bytes = 3000\nfirmware_flash_bytes = 300000\nkernels = 'lean'\n\
                   input = 'imu'\nmodel = '../../tiny.toml'\nrunner = 'uf2'\n";
    std::fs::write(board.join("board.toml"), profile).expect("a writable folder");
    let boards = path("boards");
    let link = format!("link:{}", path("no.link"));
    let (image, checkpoint) = (path("no.img"), path("c"));
    let cases: [(&[&str], &[&str]); 9] = [
        (&["import", &image], &["no.img", "export it again"]),
        (&["import", "/nowhere.img"], &["/nowhere.img"]),
        (&["learn", "--source", &link], &["no.link", "no Hello", "nestling record"]),
        (&["export", &checkpoint, "--model", "n5", "--image", "x"], &["n5", "what to do", "learn n5 anew"]),
        (&["export", &checkpoint, "--board", "none", "--boards", &boards], &["none", "odd", "--boards"]),
        (&["export", &checkpoint, "--board", "odd", "--boards", &boards], &["does not fit", "2000", "canaries"]),
        (&["flash", "--board", "odd", "--boards", &boards, "--source", "sim:rover"], &["--source", "emulated"]),
        (&["flash", "--board", "odd", "--boards", &boards], &["does not fit", "odd"]),
        (&["run", "--source", "serial:/dev/nowhere?baud=9600", "--model", "n5"], &["nowhere", "serial"]),
    ];
    for (args, parts) in cases {
        let output = nestling(args).current_dir(&folder).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?} does not name {part}: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
    // A board that the model fits, for a processor that there is no core library for.
    std::fs::write(board.join("board.toml"), profile.replace("2000", "2000000")).expect("a writable folder");
    let mut command = nestling(&["flash", "--board", "odd", "--boards", &boards]);
    let output = command.env_remove("RUSTC_BOOTSTRAP").output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("rustup target add thumbv0-none-none"), "{said}");
}
