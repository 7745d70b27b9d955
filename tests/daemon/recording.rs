//! A run that is recorded: by all that is in its file, to the bits that its replay learns.

use std::path::Path;
use std::process::Command;

use nestling::recording::contents::Contents;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Daemon, until};

/// Profile of a daemon that records, or plays what another recorded.
fn profile(folder: &Path, name: &str, text: &str) {
    let common = "model = 'quick.toml'\n[[controller]]\nname = 'watch'\ndoes = 'alarm'\n";
    std::fs::write(folder.join(name), format!("{}\n{common}", text)).expect("a file");
}

fn state_hash(path: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_nestling")).arg("inspect").arg(path).arg("--json").output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["state_hash"].clone()
}

#[test]
fn a_recorded_run_is_replayed_to_its_state_hash() {
    let live = "name = 'live'\nsource = 'sim:rover?samples=150'\nperceive = { every = true }\nstore = { path = 'live' }\n\
                record = { path = 'run.mcap' }";
    let mut daemon = Daemon::start(&["--board", "FOLDER/live.toml"], |folder, _| profile(folder, "live.toml", live));
    let status = until("the end", || daemon.child.try_wait().expect("a child"));
    assert!(status.success(), "{}", daemon.log());
    let run = daemon.path("run.mcap").display().to_string();
    let contents = Contents::counted(&run).expect("a sound recording");
    assert!(contents.whole && contents.damaged == 0, "{contents:?}");
    let count = |topic: &str| contents.find(topic).map_or(0, |topic| topic.messages);
    for topic in ["/nestling/sample", "/nestling/image", "/nestling/feature"] {
        assert_eq!(count(topic), 150, "{topic} in {contents:?}");
    }
    // The last decision is the safe one of the end.
    assert_eq!(count("/nestling/decision/watch"), 151);
    assert!(count("/nestling/health") >= 1, "{contents:?}");

    let again = format!("source = 'mcap:{run}'\nperceive = {{ every = true }}\nstore = {{ path = 'again' }}");
    profile(daemon.folder.path(), "again.toml", &again);
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
    command.args(["run", "--board", "again.toml", "--control", "other"]).current_dir(daemon.folder.path());
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(state_hash(&daemon.path("again")), state_hash(&daemon.path("live")));
}

#[test]
fn a_recording_is_read_however_its_run_ended() {
    let live =
        "source = 'sim:rover'\nperceive = { pace = true }\nlearn = { frozen = true }\nrecord = { path = 'run.mcap' }";
    for signal in [Signal::KILL, Signal::TERM] {
        let daemon = Daemon::start(&["--board", "FOLDER/b.toml"], |folder, _| {
            profile(folder, "b.toml", live);
            // What is there is not written over.
            std::fs::write(folder.join("run.mcap"), b"mine").expect("a file");
        });
        let run = daemon.path("run-1.mcap").display().to_string();
        let images = || Contents::of(&run).ok()?.find("/nestling/image").map(|topic| topic.messages);
        let seen = until("images in the file", || images().filter(|n| *n > 10));
        daemon.signal(signal);
        let mut daemon = daemon;
        until("the end", || daemon.child.try_wait().expect("a child"));
        let contents = Contents::counted(&run).expect("what is there");
        assert_eq!((contents.whole, contents.damaged), (signal == Signal::TERM, 0));
        assert!(images().is_some_and(|n| n >= seen));
        assert_eq!(std::fs::read(daemon.path("run.mcap")).expect("a file"), b"mine");
    }
}

#[test]
fn a_recording_that_is_full_ends_and_says_so_and_nothing_else_is_disturbed() {
    let live = "source = 'sim:rover?width=160&height=120'\nperceive = { pace = true }\nlearn = { frozen = true }\n\
                record = { path = 'run.mcap', most_mb = 1 }";
    let daemon = Daemon::start(&["--board", "FOLDER/b.toml"], |folder, _| profile(folder, "b.toml", live));
    let status = daemon.once("a full recording", |s| s["features"]["not_recorded"].as_u64() > Some(20));
    let transports = status["transports"].as_array().expect("transports").iter();
    let recording = transports.clone().find(|t| t["name"] == "recording").expect("a recording");
    assert!(recording["problem"].as_str().is_some_and(|problem| problem.contains("most_mb")), "{recording}");
    let contents = Contents::counted(&daemon.path("run.mcap").display().to_string()).expect("a sound recording");
    assert!(contents.whole, "{contents:?}");
    let length = std::fs::metadata(daemon.path("run.mcap")).expect("a file").len();
    assert!((1_000_000..1_300_000).contains(&length), "{length}");
}
