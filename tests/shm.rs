//! `nestling run` with features in shared memory, read by another program: by this one, and by Python with the binding of
//! iceoryx2 where that is installed.
#![cfg(all(feature = "cli", feature = "shm", target_os = "linux"))]

use std::fs;
use std::path::Path;
use std::process::Command;

use iceoryx2::prelude::ipc;
use nestling::bus::shm::{node, service};
use serde_json::Value;

#[path = "daemon/harness.rs"]
#[allow(dead_code, reason = "the tests of the daemon use the rest")]
mod harness;
#[path = "common/python.rs"]
mod python;

use harness::*;

#[test]
fn features_are_read_where_they_lie() {
    let name = format!("nestling/test/run/{}", std::process::id());
    let profile = format!(
        "source = 'pipe:frames?format=gray8&width=16&height=16'\nmodel = 'quick.toml'\n[shm]\nservice = '{name}'\n"
    );
    let daemon = Daemon::start(&["--board", "board.toml"], |folder, _| {
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("frames"), rustix::fs::Mode::from(0o600)).expect("a FIFO");
        fs::write(folder.join("board.toml"), profile).expect("a file");
    });
    until("the control socket", || daemon.status().map(|_| ()));
    let node = node::<ipc::Service>().expect("shared memory");
    let reader = service(&node, &name).expect("the service").subscriber_builder().create().expect("a reader");
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    let mut numbers = Vec::new();
    until("50 features", || {
        while let Some(sample) = reader.receive().expect("the service") {
            let head = sample.user_header();
            let lengths = &head.lengths[..head.blocks as usize];
            assert_eq!(lengths.iter().sum::<u32>() as usize, sample.payload().len());
            assert!(sample.payload().iter().any(|m| *m != 0), "a feature of nothing");
            numbers.push(head.number);
        }
        (numbers.len() >= 50).then_some(())
    });
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");

    let Some(python) = python::with("iceoryx2") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/readers/shm.py");
    let output = Command::new(python).arg(script).args([&name, "20"]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let features: Vec<Value> = lines.filter(|line| line["feature"].is_array()).collect();
    assert_eq!(features.len(), 20);
    assert!(features.iter().all(|f| f["number"].as_u64() > numbers.first().copied() && f["encoder"].is_u64()));
}
