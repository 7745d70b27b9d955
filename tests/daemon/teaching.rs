//! Controllers of a running daemon: taught, deciding, safe.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::*;

const CONTROLLERS: &str = r#"
name = "taught"
source = "pipe:FOLDER/frames?format=gray8&width=16&height=16"
model = "quick.toml"

[store]
path = "state.safetensors"

[[controller]]
name = "walls"
does = "classify"
values = { left = -1.0, right = 1.0 }
command = ["sh", "-c", "echo $NESTLING_CONTROLLER $NESTLING_LABEL $NESTLING_VALUE $NESTLING_SAFE >> FOLDER/commands"]

[[controller]]
name = "drive"
does = "steer"
pin = "wheel"
per_second = 20.0
safe = 0.5

[[controller]]
name = "guard"
does = "alarm"

[[controller]]
name = "log"
does = "log"
file = "decisions"

[pins]
chip = "simulated"
folder = "pins"

[[pin]]
name = "wheel"
line = 17
drives = "servo"
safe = 0.25

[[button]]
name = "show"
line = 5
does = "teach"
label = "left"

[[button]]
name = "ice"
line = 6
does = "freeze"
"#;

fn start(folder_of: Option<&Daemon>) -> Daemon {
    let kept = folder_of.map(|daemon| daemon.folder.path().to_path_buf());
    let daemon = Daemon::start(&["--board", "FOLDER/board.toml"], |folder, command| {
        let named = folder.display().to_string();
        fs::write(folder.join("board.toml"), CONTROLLERS.replace("FOLDER", &named)).expect("a file");
        make_fifo(&folder.join("frames"));
        fs::create_dir(folder.join("pins")).expect("a folder");
        if let Some(kept) = &kept {
            for name in ["state.safetensors", "state.taught.safetensors"] {
                fs::copy(kept.join(name), folder.join(name)).expect("what the other one left");
            }
        }
        command.stdout(Stdio::from(fs::File::create(folder.join("features")).expect("a file")));
    });
    until("the control socket", || daemon.status().map(|_| ()));
    daemon
}

fn decision<'a>(status: &'a Value, name: &str) -> &'a Value {
    let names = status["control"]["names"].as_array().expect("controllers");
    let place = names.iter().position(|n| n == name).expect("such a controller");
    &status["control"]["decisions"][place]
}

/// Presses a button.
fn press(daemon: &Daemon, name: &str) {
    let fifo = fs::OpenOptions::new().write(true).open(daemon.path("pins/buttons"));
    writeln!(fifo.expect("it is made at the start"), "{name}").expect("somebody reads");
}

/// What the servo's line was given last, in ns.
fn pulse(daemon: &Daemon) -> u64 {
    let writes = fs::read_to_string(daemon.path("pins/writes")).expect("it is made at the start");
    let last = writes.lines().last().expect("it is safe at the start");
    last.rsplit(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_else(|| panic!("{last}"))
}

fn labelled(daemon: &Daemon, label: &str) -> Value {
    daemon.once(label, |s| decision(s, "walls")["label"] == label)
}

#[test]
fn it_is_taught_decides_forgets_remembers_and_is_safe_when_nothing_is_seen() {
    let daemon = start(None);
    let camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("a known stream", |s| s["control"]["background"].as_u64() >= Some(16));
    for (scene, label, value) in [(1, "left", "-0.8"), (2, "right", "0.8")] {
        camera.show(scene);
        std::thread::sleep(Duration::from_millis(100));
        let taught = daemon.ask(&["teach", label, "--examples", "6"]).expect("it sees something");
        assert_eq!(taught, json!({"taught": label, "examples": 6, "of_that": 6, "saved": true, "keeps": true}));
        let taught = daemon.ask(&["teach", "--value", value, "--examples", "4"]).expect("it sees something");
        assert_eq!((&taught["taught"], &taught["of_that"]), (&"drive".into(), &(4 * scene).into()));
    }
    let right = labelled(&daemon, "right");
    assert_eq!(decision(&right, "walls")["values"], json!([1.0]));
    daemon.once("steering", |s| decision(s, "drive")["values"][0].as_f64().is_some_and(|v| (0.5..=1.0).contains(&v)));
    camera.show(1);
    labelled(&daemon, "left");
    daemon.once("steering", |s| decision(s, "drive")["values"][0].as_f64().is_some_and(|v| v < -0.4));
    // Of 1 to 2 ms, 1.5 in the middle. Each frame has its own value: the pin moves on after what status told.
    until("the servo", || (1_000_000..1_300_000).contains(&pulse(&daemon)).then_some(()));
    press(&daemon, "show");
    daemon.once("more of it", |s| s["control"]["taught"][1]["examples"] == 11);
    press(&daemon, "ice");
    daemon.once("ice", |s| s["learning"]["state"] == "frozen");
    press(&daemon, "ice");
    daemon.once("a thaw", |s| s["learning"]["state"] != "frozen");
    camera.show(0);
    let unknown = labelled(&daemon, "unknown");
    assert_eq!(decision(&unknown, "walls")["values"], json!([0.0]));
    let taught = unknown["control"]["taught"].as_array().expect("a list");
    let names: Vec<_> = taught.iter().map(|t| (t["label"].as_str().expect("a name"), t["examples"].as_u64())).collect();
    assert_eq!(names, [("drive", Some(8)), ("left", Some(11)), ("right", Some(6))]);
    assert!(unknown["control"]["latency_us"]["p99"].as_u64() > Some(0));
    let commands = until("commands", || {
        let text = fs::read_to_string(daemon.path("commands")).ok()?;
        text.contains("walls left -1").then_some(text)
    });
    assert!(commands.contains("walls right 1"), "{commands}");

    let told = Command::new(env!("CARGO_BIN_EXE_nestling"))
        .args(["status", "--control"])
        .arg(daemon.path("control"))
        .output()
        .expect("it runs");
    let told = String::from_utf8(told.stdout).expect("text");
    for line in ["  controller walls: ", "  pin        wheel: ", "  taught     left: 11 examples", "  decisions  "] {
        assert!(told.contains(line), "{line} in:\n{told}");
    }

    // The camera goes: everything is safe, and nothing can be taught.
    drop(camera);
    let stale = daemon.once("safety", |s| !decision(s, "drive")["safe"].is_null());
    assert_eq!(decision(&stale, "drive")["safe"], "its features are stale");
    assert_eq!(decision(&stale, "drive")["values"], json!([0.5]));
    // The pin has a safe state of its own.
    assert_eq!(pulse(&daemon), 1_625_000);
    let problem = daemon.ask(&["teach", "nothing"]).expect_err("nothing is seen");
    assert!(problem.contains("no fresh sample") && problem.contains("0 of 5"), "{problem}");
    let problem = daemon.ask(&["forget", "cup"]).expect_err("that was not taught");
    assert!(problem.contains("drive, left, right"), "{problem}");
    daemon.ask(&["forget", "right"]).expect("that was taught");

    let features = daemon.path("features");
    daemon.signal(Signal::TERM);
    let mut daemon = daemon;
    until("the end", || daemon.child.try_wait().expect("a child"));
    let lines = fs::read_to_string(features).expect("features");
    let last: Vec<Value> = lines.lines().rev().take(3).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(last.iter().all(|line| line["safe"] == "nestling has ended"), "{last:?}");
    // The command of the end runs on by itself.
    until("the last command", || {
        let text = fs::read_to_string(daemon.path("commands")).ok()?;
        (text.lines().last() == Some("walls 0 nestling has ended")).then_some(())
    });
    let log = fs::read_to_string(daemon.path("decisions")).expect("a log");
    assert!(log.lines().count() > 100 && log.contains("\"controller\":\"walls\"") && !log.contains("\"feature\""));
    let feature = lines.lines().find(|line| line.contains("\"feature\"") && !line.contains("\"novelty\":null"));
    let feature: Value = serde_json::from_str(feature.expect("a feature with its novelty")).expect("JSON");
    assert!(feature["novelty"].as_f64().is_some_and(|n| (0.1..20.0).contains(&n)), "{feature}");

    // The next one remembers.
    let next = start(Some(&daemon));
    let camera = Camera::on(&next.path("frames"), usize::MAX);
    camera.show(1);
    labelled(&next, "left");
    let status = next.status().expect("it runs");
    assert_eq!(status["control"]["taught"].as_array().map(Vec::len), Some(2), "{}", status["control"]);
}

#[test]
fn what_cannot_be_taught_is_refused_with_a_remedy_and_two_teachers_do_not_meet() {
    let daemon = start(None);
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("features", |s| s["features"]["perceived"].as_u64() > Some(5));
    for (words, wanted) in [
        (&["teach", "unknown"][..], "cannot be a label"),
        (&["teach", "a\"b"], "cannot be a label"),
        (&["teach", "--value", "0.1,0.2"], "has 1 outputs"),
        (&["teach", "--value", "1.5"], "the limits of drive"),
        (&["teach", "--value", "0.5", "--controller", "walls"], "there is drive"),
        (&["teach", "cup", "--examples", "21"], "21"),
    ] {
        let problem = daemon.ask(words).expect_err(wanted);
        assert!(problem.contains(wanted), "{words:?}: {problem}");
    }
    std::thread::scope(|scope| {
        let first = scope.spawn(|| daemon.ask(&["teach", "cup", "--examples", "15"]));
        std::thread::sleep(Duration::from_millis(500));
        let second = daemon.ask(&["teach", "dog"]).expect_err("another teaches");
        assert!(second.contains("something else is being taught"), "{second}");
        assert_eq!(first.join().expect("no panic").expect("it is taught")["examples"], 15);
    });
    // Garbage on the socket disturbs nobody.
    let mut socket = UnixStream::connect(daemon.path("control")).expect("it listens");
    socket.write_all(b"{\"command\":\"teach\",\"label\":3}\n\xff\xfe\n").expect("it takes them");
    assert_eq!(daemon.status().expect("it runs")["control"]["taught"][0]["examples"], 15);

    let plain = with_fifo(&[]);
    let problem = plain.ask(&["teach", "cup"]).expect_err("there is no controller");
    assert!(problem.contains("[[controller]]") && problem.contains("--controller classify"), "{problem}");
    assert!(plain.status().expect("it runs")["control"].is_null());
    let refused = Command::new(env!("CARGO_BIN_EXE_nestling"))
        .args(["run", "--source", "sim:rover", "--controller", "follow"])
        .output()
        .expect("it runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("write a [[controller]]"));
}
