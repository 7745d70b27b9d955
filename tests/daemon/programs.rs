//! A camera that a program reads, under the daemon: the program dies, hangs, and ends with the daemon however that ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::harness::*;

/// Puts a shell script called `rpicam-vid` before all others in the command's PATH; `FRAME` in it is a file with a JPEG.
fn install(folder: &Path, command: &mut Command, script: &str) {
    let bin = folder.join("bin");
    fs::create_dir(&bin).expect("a folder");
    let mut jpeg = Vec::new();
    let pixels: Vec<u8> = (0..16 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let image = image::RgbImage::from_raw(16, 16, pixels).expect("so many pixels");
    image.write_with_encoder(image::codecs::jpeg::JpegEncoder::new(&mut jpeg)).expect("a frame");
    fs::write(folder.join("frame"), jpeg).expect("a file");
    let program = bin.join("rpicam-vid");
    let text = format!("#!/bin/sh\ncd {}\necho $$ >> started\n{script}\n", folder.display());
    fs::write(&program, text).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = std::env::var("PATH").expect("a PATH");
    command.env("PATH", format!("{}:{path}", bin.display()));
}

const FROM_CAMERA: [&str; 4] = ["--source", "rpicam:0?width=16&height=16&rate=100", "--model", "quick.toml"];

fn with_program(script: &str) -> Daemon {
    let daemon = Daemon::start(&FROM_CAMERA, |folder, command| install(folder, command, script));
    until("the control socket", || daemon.status().map(|_| ()));
    daemon
}

/// The programs that were started so far, and which of them run still.
fn programs(folder: &Path) -> (Vec<String>, Vec<String>) {
    let started: Vec<String> =
        fs::read_to_string(folder.join("started")).unwrap_or_default().lines().map(str::to_owned).collect();
    let runs = |pid: &&String| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
    let running = started.iter().filter(runs).cloned().collect();
    (started, running)
}

#[test]
fn a_program_that_dies_is_started_again_and_quoted() {
    let script = "for n in $(seq 30); do cat frame; sleep 0.01; done; echo 'the ribbon is loose' >&2; exit 3";
    let daemon = with_program(script);
    let back = daemon.once("its return", |s| {
        s["source"]["reopened"].as_u64() >= Some(2) && s["features"]["perceived"].as_u64() > Some(60)
    });
    assert!(back["source"]["damaged"] == 0, "{back}");
    let (started, running) = programs(daemon.folder.path());
    assert!(started.len() >= 3 && running.len() <= 1, "{started:?} {running:?}");
    let log = daemon.log();
    assert!(log.contains("rpicam-vid ended (exit status: 3); it said: the ribbon is loose"), "{log}");
    assert!(log.contains("reading rpicam: camera 0 by rpicam-vid, 16x16 at 100 frames"), "{log}");
}

#[test]
fn a_program_that_falls_silent_is_ended_and_started_again() {
    // The first one hangs for good, the ones after it do not.
    let script = "if [ $(wc -l < started) = 1 ]; then for n in 1 2 3 4 5; do cat frame; done; exec sleep 1000; fi; \
                  while :; do cat frame; sleep 0.01; done";
    let daemon = with_program(script);
    daemon.once("its return", |s| {
        s["source"]["reopened"].as_u64() == Some(1) && s["features"]["perceived"].as_u64() > Some(20)
    });
    let (started, running) = programs(daemon.folder.path());
    assert_eq!((started.len(), running), (2, started[1..].to_vec()));
    assert!(daemon.log().contains("gave no frame in time"), "{}", daemon.log());
}

#[test]
fn a_program_ends_with_the_daemon_however_that_ends() {
    // It hangs, deaf to signals: no write of its own would tell it that nobody reads any more.
    let script = "trap '' TERM INT HUP PIPE; cat frame; sleep 1000 & wait; while :; do sleep 1; done";
    let leash = Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).status();
    if !leash.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: there is no setpriv that knows --pdeathsig");
        return;
    }
    for signal in [Signal::TERM, Signal::KILL] {
        let mut daemon = with_program(script);
        daemon.once("a frame", |s| s["source"]["samples"].as_u64() >= Some(1));
        assert_eq!(programs(daemon.folder.path()).1.len(), 1);
        daemon.signal(signal);
        until("the daemon's end", || daemon.child.try_wait().expect("a child"));
        until("the program's end", || programs(daemon.folder.path()).1.is_empty().then_some(()));
    }
}

#[test]
fn a_camera_that_is_not_there_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("quick.toml"), QUICK).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
    command.arg("run").args(FROM_CAMERA).current_dir(folder.path()).stdin(Stdio::null());
    install(folder.path(), &mut command, "echo 'ERROR: *** no cameras available ***' >&2; exit 255");
    let output = command.output().expect("it runs");
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && problem.contains("*** no cameras available ***"), "{problem}");
    assert!(problem.contains("ribbon") && output.stdout.is_empty(), "{problem}");
}
