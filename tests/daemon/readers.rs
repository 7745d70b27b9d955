//! The readers of `examples/readers`, beside one that parses the same lines here.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::harness::*;

/// Features that each reader prints, among decisions.
const COUNT: usize = 40;

/// A Python that has numpy.
fn python() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let tried = Command::new(python).args(["-c", "import numpy"]).output();
        tried.is_ok_and(|output| output.status.success())
    })
}

/// A reader in C, built.
fn built(folder: &Path, name: &str) -> Option<PathBuf> {
    let program = folder.join(format!("{name}.reader"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/readers/{name}.c"));
    let tried =
        Command::new("cc").args(["-Wall", "-Wextra", "-Werror", "-O1", "-o"]).arg(&program).arg(source).status();
    tried.is_ok_and(|status| status.success()).then_some(program)
}

#[test]
fn readers_in_other_languages_read_what_was_given_out() {
    let profile = "source = 'pipe:frames?format=gray8&width=16&height=16'\nmodel = 'quick.toml'\n\
        [output]\nsocket = 'features'\npostcard = 'packed'\n[[controller]]\nname = 'guard'\ndoes = 'alarm'\n";
    let daemon = Daemon::start(&["--board", "board.toml"], |folder, _| {
        make_fifo(&folder.join("frames"));
        fs::write(folder.join("board.toml"), profile).expect("a file");
    });
    until("the control socket", || daemon.status().map(|_| ()));
    let socket = daemon.path("features");
    let mut readers = Vec::new();
    for (name, socket) in [("features", &socket), ("postcard", &daemon.path("packed"))] {
        match built(daemon.folder.path(), name) {
            Some(program) => readers.push((format!("{name}.c"), Command::new(program), socket.clone())),
            None => println!("SKIPPED: the readers in C, as there is no cc"),
        }
        match python() {
            Some(python) => {
                let file = format!("{name}.py");
                let mut command = Command::new(python);
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/readers").join(&file));
                readers.push((file, command, socket.clone()));
            }
            None => println!("SKIPPED: the readers in Python, as there is no numpy"),
        }
    }
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    let ours = BufReader::new(UnixStream::connect(&socket).expect("it listens"));
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = all.clone();
    std::thread::spawn(move || {
        let printed = ours.lines().map_while(Result::ok).filter_map(|line| printed(&line));
        printed.for_each(|line| into.lock().expect("no panic").push(line));
    });
    let running: Vec<_> = readers
        .into_iter()
        .map(|(name, mut command, socket)| {
            let command = command.arg(&socket).arg(COUNT.to_string()).stdout(Stdio::piped());
            (name, command.spawn().expect("it starts"))
        })
        .collect();
    for (name, child) in running {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{name}");
        let text = String::from_utf8(output.stdout).expect("text");
        let (features, decisions): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains(" sum "));
        assert_eq!(features.len(), COUNT, "{name}");
        assert!(decisions.iter().any(|line| line.contains("guard")), "{name}: {decisions:?}");
        // What came before it connected is not its own; from there on it gets everything.
        let same = until("what it read", || {
            let all = all.lock().expect("no panic");
            let end = 1 + all.iter().position(|line| line == features[COUNT - 1])?;
            Some(all[end - COUNT..end] == features)
        });
        assert!(same, "{name}: {text}");
    }
}

/// What a reader prints of a feature's line.
fn printed(line: &str) -> Option<String> {
    let said: Value = serde_json::from_str(line).expect("JSON");
    let values: Vec<i64> = said["feature"].as_array()?.iter().filter_map(Value::as_i64).collect();
    let (sum, count) = (values.iter().sum::<i64>(), values.len());
    Some(format!("{} encoder {} values {count} sum {sum}", said["t_us"], said["encoder"]))
}
