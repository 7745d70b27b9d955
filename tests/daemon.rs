//! `nestling run` as a service: what it promises while sources, disks, readers and people do what they do.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

#[path = "daemon/harness.rs"]
mod harness;
#[cfg(feature = "mqtt")]
#[path = "daemon/mqtt.rs"]
mod mqtt;
#[path = "daemon/programs.rs"]
mod programs;
#[path = "daemon/readers.rs"]
mod readers;
#[cfg(feature = "mcap")]
#[path = "daemon/recording.rs"]
mod recording;
#[path = "daemon/teaching.rs"]
mod teaching;

use harness::*;

#[test]
fn a_camera_that_vanishes_comes_back_and_features_say_that_they_are_stale() {
    let daemon = with_fifo(&[]);
    let camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("features", |s| s["features"]["perceived"].as_u64() > Some(20));
    drop(camera);
    let gone = daemon.once("staleness", |s| s["features"]["stale"] == true && s["source"]["open"] == false);
    assert!(gone["age_us"].as_u64() > Some(400_000), "{gone}");
    let before = gone["features"]["perceived"].as_u64();
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    let back = daemon.once("its return", |s| s["features"]["perceived"].as_u64() > before.map(|n| n + 20));
    assert_eq!(back["features"]["stale"], false);
    assert_eq!(back["features"]["went_stale"], 1);
    assert!(back["source"]["reopened"].as_u64() >= Some(1));
    let (_, ended_well, log) = daemon.end();
    assert!(ended_well && log.contains("will be opened again") && log.contains("open again"), "{log}");
}

#[test]
fn sigterm_ends_it_with_a_checkpoint_that_the_next_one_goes_on_from() {
    let daemon = with_fifo(&["--state", "state"]);
    let camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("lessons", |s| s["learning"]["lessons_published"].as_u64() > Some(2));
    drop(camera);
    // Even while the source sleeps in the kernel.
    let folder = daemon.folder.path().to_path_buf();
    let kept = tempfile::tempdir().expect("a folder");
    daemon.signal(Signal::TERM);
    let mut daemon = daemon;
    let begun = Instant::now();
    until("the end", || daemon.child.try_wait().expect("a child"));
    println!("ended {:?} after SIGTERM", begun.elapsed());
    fs::copy(folder.join("state"), kept.path().join("state")).expect("a checkpoint");
    let state = kept.path().join("state").display().to_string();
    let seen = |more: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_nestling")).args(["inspect", more, "--json"]).output();
        let told: Value = serde_json::from_slice(&output.expect("it runs").stdout).expect("JSON");
        told["samples"].as_u64().unwrap_or_else(|| panic!("{told}"))
    };
    let before = seen(&state);
    assert!(before > 40, "{before}");
    let next = with_fifo(&["--state", &state]);
    let _camera = Camera::on(&next.path("frames"), usize::MAX);
    next.once("more samples", |s| s["learning"]["observed"].as_u64() > Some(before + 5));
}

#[test]
fn it_is_frozen_thawed_and_rolled_back_while_features_go_on() {
    let daemon = with_fifo(&["--state", "state"]);
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("lessons", |s| s["learning"]["lessons_kept"].as_u64() >= Some(3));
    daemon.ask(&["freeze"]).expect("it freezes");
    let frozen = daemon.once("ice", |s| s["learning"]["state"] == "frozen");
    let later = daemon.once("features", |s| {
        s["features"]["perceived"].as_u64() > frozen["features"]["perceived"].as_u64().map(|n| n + 30)
    });
    assert_eq!(frozen["learning"]["steps"], later["learning"]["steps"]);
    let version = later["learning"]["encoder"].as_u64().expect("a version");
    let back = daemon.ask(&["rollback", "2"]).expect("two lessons are kept");
    assert_eq!(back["encoder"].as_u64(), Some(version + 1), "a version names one encoder only");
    assert_eq!(back["frozen"], true, "going back is no thaw");
    daemon.once("the older encoder", |s| s["features"]["encoder"].as_u64() == Some(version + 1));
    let problem = daemon.ask(&["rollback", "500"]).expect_err("so many are not kept");
    assert!(problem.contains("kept in memory") && problem.contains("--generation"), "{problem}");
    daemon.ask(&["thaw"]).expect("it thaws");
    daemon.once("steps", |s| s["learning"]["steps"].as_u64() > later["learning"]["steps"].as_u64());
    // The checkpoint of the roll-back is one generation; the first one of all is another.
    daemon.ask(&["save"]).expect("it saves");
    daemon.once("a save", |s| s["store"]["saves"].as_u64() >= Some(2));
    daemon.ask(&["rollback", "--generation", "1"]).expect("two generations are kept");
    let problem = daemon.ask(&["rollback", "--generation", "90"]).expect_err("so many are not kept");
    assert!(problem.contains("90"), "{problem}");
}

#[test]
fn learning_goes_on_in_memory_while_the_disk_is_gone_and_is_saved_when_it_is_back() {
    let daemon = with_fifo(&["--state", "disk/state", "--save-every", "1"]);
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("a save", |s| s["store"]["saves"].as_u64() >= Some(1));
    // A file where the folder was: as root, permissions stop nobody.
    fs::remove_dir_all(daemon.path("disk")).expect("a folder");
    fs::write(daemon.path("disk"), "in the way").expect("a file");
    let failed = daemon.once("a failure", |s| s["store"]["failures"].as_u64() >= Some(1));
    assert!(failed["store"]["problem"].as_str().is_some_and(|p| p.contains("disk")), "{failed}");
    let steps = failed["learning"]["steps"].as_u64();
    daemon.once("steps", |s| s["learning"]["steps"].as_u64() > steps.map(|n| n + 5));
    fs::remove_file(daemon.path("disk")).expect("a file");
    fs::create_dir(daemon.path("disk")).expect("a folder");
    daemon.once("a save", |s| s["store"]["problem"].is_null() && s["store"]["saves"].as_u64() >= Some(2));
    assert_eq!(daemon.log().matches("was not written").count(), 1, "{}", daemon.log());
}

#[test]
fn a_disk_that_cannot_be_written_at_the_start_is_tried_again_at_each_save() {
    let daemon =
        Daemon::start(&[&FROM_FIFO[..], &["--state", "disk/state", "--save-every", "1"]].concat(), |folder, _| {
            make_fifo(&folder.join("frames"));
            fs::write(folder.join("disk"), "in the way").expect("a file");
        });
    until("the control socket", || daemon.status().map(|_| ()));
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon
        .once("a failure", |s| s["store"]["failures"].as_u64() >= Some(1) && s["learning"]["steps"].as_u64() > Some(5));
    assert!(daemon.log().contains("nothing can be saved for now"), "{}", daemon.log());
    fs::remove_file(daemon.path("disk")).expect("a file");
    daemon.once("a save", |s| s["store"]["problem"].is_null() && s["store"]["saves"].as_u64() >= Some(1));
}

#[test]
fn sighup_reads_the_profile_again_or_says_why_not_and_goes_on() {
    let profile = "name = 'bench'\nsource = 'pipe:frames?format=gray8&width=16&height=16'\nmodel = 'quick.toml'\n";
    let daemon = Daemon::start(&["--board", "board.toml"], |folder, _| {
        make_fifo(&folder.join("frames"));
        fs::write(folder.join("board.toml"), profile).expect("a file");
    });
    until("the control socket", || daemon.status().map(|_| ()));
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("learning", |s| s["learning"]["state"] == "learning" && s["name"] == "bench");
    let say = |more: &str| {
        fs::write(daemon.path("board.toml"), format!("{profile}{more}")).expect("a file");
        daemon.signal(Signal::HUP);
    };
    say("[learn]\nfrozen = true\n");
    daemon.once("ice", |s| s["learning"]["state"] == "frozen");
    say("[learn]\nfreeze = true\n");
    until("a refusal", || daemon.log().contains("going on as before").then_some(()));
    assert!(daemon.log().contains("line 5"), "{}", daemon.log());
    say("[learn]\nthreads = 2\n");
    until("another refusal", || daemon.log().contains("learn.threads cannot change while running").then_some(()));
    let before = daemon.once("still ice", |s| s["learning"]["state"] == "frozen");
    say("");
    daemon.once("a thaw", |s| {
        s["learning"]["state"] == "learning"
            && s["learning"]["observed"].as_u64() > before["learning"]["observed"].as_u64()
    });
}

#[test]
fn the_service_manager_hears_that_it_is_ready_and_alive() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let daemon = Daemon::start(&FROM_FIFO, |folder, command| {
        make_fifo(&folder.join("frames"));
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    });
    let hear = || {
        let mut bytes = [0; 256];
        let len = manager.recv(&mut bytes).expect("a word in time");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    assert!(hear().contains("READY=1"));
    // No sample ever comes: the perceiving loop is alive all the same.
    for _ in 0..3 {
        assert!(hear().contains("WATCHDOG=1"));
    }
    daemon.signal(Signal::TERM);
    until("its farewell", || hear().contains("STOPPING=1").then_some(()));
}

#[test]
fn a_reader_that_sleeps_holds_nothing_up() {
    let mut daemon = Daemon::start(&FROM_FIFO, |folder, command| {
        make_fifo(&folder.join("frames"));
        // Nobody reads this pipe.
        command.stdout(Stdio::piped());
    });
    until("the control socket", || daemon.status().map(|_| ()));
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    let stuck = daemon.once("unread features", |s| s["features"]["unread"].as_u64() > Some(20));
    assert!(stuck["features"]["perceived"].as_u64() > stuck["features"]["unread"].as_u64());
    // Whatever the reader then gets are whole lines.
    let stdout = daemon.child.stdout.take().expect("a pipe");
    for line in BufReader::new(stdout).lines().take(50) {
        let line: Value = serde_json::from_str(&line.expect("text")).expect("a whole line");
        assert!(line["feature"].is_array() && line["age_us"].is_u64(), "{line}");
    }
}

#[test]
fn everyone_on_the_feature_socket_gets_every_feature_and_one_who_sleeps_disturbs_nobody() {
    let profile = "source = 'pipe:frames?format=gray8&width=16&height=16'\nmodel = 'quick.toml'\n\
        [perceive]\nstale_ms = 300\n[output]\nsocket = 'features'\n";
    let daemon = Daemon::start(&["--board", "board.toml"], |folder, _| {
        make_fifo(&folder.join("frames"));
        fs::write(folder.join("board.toml"), profile).expect("a file");
    });
    until("the control socket", || daemon.status().map(|_| ()));
    let connect = || UnixStream::connect(daemon.path("features")).expect("it listens");
    let (asleep, awake, patient) = (connect(), connect(), connect());
    let camera = Camera::on(&daemon.path("frames"), usize::MAX);
    let lines = BufReader::new(awake).lines().map_while(Result::ok);
    let lines: Vec<Value> = lines.take(100).map(|line| serde_json::from_str(&line).expect("a whole line")).collect();
    let times: Vec<u64> = lines.iter().map(|line| line["t_us"].as_u64().expect("a time")).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    daemon.once("its readers", |s| s["features"]["readers"].as_u64() >= Some(2));
    drop((asleep, camera));
    let last = BufReader::new(patient).lines().map_while(Result::ok).find(|line| line.contains("stale"));
    let last: Value = serde_json::from_str(&last.expect("a word of staleness")).expect("JSON");
    assert!(last["stale"] == true && last["age_us"].as_u64() > Some(300_000), "{last}");
    let mode = fs::metadata(daemon.path("features")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

/// Targets of the open files of a process that are sockets on a network.
fn network_sockets(pid: u32) -> Vec<String> {
    let of_kind = |kind: &str| -> Vec<String> {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{kind}")).unwrap_or_default();
        table.lines().skip(1).filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(9)?))).collect()
    };
    let known: Vec<String> =
        ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp"].into_iter().flat_map(of_kind).collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").flatten();
    let targets = open.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()));
    targets.filter(|target| known.contains(target)).collect()
}

#[test]
fn nothing_but_its_own_socket_is_opened_and_no_frame_is_written() {
    let daemon = with_fifo(&[]);
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("lessons", |s| s["learning"]["lessons_published"].as_u64() >= Some(1));
    let pid = daemon.child.id();
    assert_eq!(network_sockets(pid), [""; 0]);
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.display().to_string();
        // Files of its own folder, opened for writing.
        let flags =
            fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().display())).unwrap_or_default();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim).unwrap_or("0");
        let writes = u32::from_str_radix(flags, 8).expect("octal") & 3 != 0;
        let is_file = fs::metadata(&target).is_ok_and(|m| m.is_file());
        assert!(!(writes && is_file), "{target} is open for writing");
    }
    let mut files: Vec<String> = fs::read_dir(daemon.folder.path())
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().display().to_string())
        .collect();
    files.sort();
    assert_eq!(files, ["control", "frames", "quick.toml"]);
    // Only its own user may speak to it.
    let socket = fs::metadata(daemon.path("control")).expect("a socket");
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_checkpoint_is_for_its_owner_only() {
    let daemon = with_fifo(&["--state", "state", "--save-every", "1"]);
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("two saves", |s| s["store"]["saves"].as_u64() >= Some(2));
    for name in ["state", "state.1"] {
        let mode = fs::metadata(daemon.path(name)).expect("a checkpoint").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name} holds samples");
    }
}

#[test]
fn garbage_on_the_control_socket_is_answered_and_disturbs_nothing() {
    let daemon = with_fifo(&[]);
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    let say = |words: &[u8]| {
        let mut stream = UnixStream::connect(daemon.path("control")).expect("it listens");
        let _ = stream.write_all(words);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let long = vec![b'x'; 100_000];
    for words in [
        b"{}\n".as_slice(),
        b"\xff\xfe\n",
        b"{\"command\":\"halt\"}\n",
        b"{\"command\":\"rollback\",\"lessons\":-1}\n",
        b"{\"command\":\"rollback\",\"lessons\":1,\"generation\":1}\n",
        b"no newline",
        &long,
    ] {
        let answer = say(words);
        assert!(answer.is_empty() || answer.contains("\"ok\":false"), "{answer}");
    }
    // What it says at the start is not to be taken for what it says of this.
    daemon.once("a feature", |s| s["features"]["perceived"].as_u64() > Some(0));
    // More callers than are served, who say nothing.
    let callers: Vec<_> = (0..40).map(|_| UnixStream::connect(daemon.path("control"))).collect();
    let before = daemon.log();
    drop(callers);
    daemon.once("features", |s| s["features"]["perceived"].as_u64() > Some(20));
    assert_eq!(before, daemon.log());
    // A second daemon finds the place taken.
    let mut second = Command::new(env!("CARGO_BIN_EXE_nestling"));
    second.args(["run", "--source", "sim:rover?samples=1", "--control"]).arg(daemon.path("control"));
    let output = second.output().expect("it runs");
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && problem.contains("another program listens"), "{problem}");
    // And whoever asks where nobody listens is told what to do.
    let nobody = daemon.path("nobody");
    let output = Command::new(env!("CARGO_BIN_EXE_nestling")).args(["status", "--control"]).arg(nobody).output();
    let problem = String::from_utf8_lossy(&output.expect("it runs").stderr).into_owned();
    assert!(problem.contains("nestling run") && problem.contains("nobody"), "{problem}");
}

#[test]
fn features_keep_their_rate_while_learning_is_far_too_slow() {
    // The largest shipped model, steps without end.
    let daemon = Daemon::start(
        &[
            "--source",
            "sim:rover?width=64&height=48",
            "--model",
            "l400",
            "--set",
            "pretext.samples_per_step=1",
            "--set",
            "pretext.batch=512",
            "--set",
            "dictionary.samples=20",
            "--pace",
        ],
        |_, _| {},
    );
    let status = daemon.once("learning that is behind", |s| {
        s["learning"]["steps"].as_u64() > Some(3) && s["features"]["perceived"].as_u64() > Some(200)
    });
    let count = |key: &str, of: &str| status[of][key].as_u64().expect("a count");
    let (samples, perceived) = (count("samples", "source"), count("perceived", "features"));
    println!(
        "{samples} samples, {perceived} perceived, {} learned from; latency {}, steps {}",
        count("observed", "learning"),
        status["features"]["latency_us"],
        status["learning"]["step_us"]
    );
    assert!(
        count("not_learned", "learning") > 0 || count("observed", "learning") * 2 < perceived,
        "it keeps up: {status}"
    );
    // Whatever else this machine does: nearly all are perceived, and all are accounted for.
    assert!(perceived + 2 + count("missed", "source") >= samples, "{status}");
    assert!(perceived * 10 >= samples * 9, "{status}");
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_are_for_prometheus_on_this_machine_and_not_for_pages_of_other_sites() {
    use std::net::{TcpListener, TcpStream};
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let daemon = Daemon::start(&["--board", "board.toml"], |folder, _| {
        make_fifo(&folder.join("frames"));
        let profile = format!(
            "source = 'pipe:frames?format=gray8&width=16&height=16'\nmodel = 'quick.toml'\n\
             [control]\nmetrics = '127.0.0.1:{port}'\n[[controller]]\nname = 'guard'\ndoes = 'alarm'\n"
        );
        fs::write(folder.join("board.toml"), profile).expect("a file");
    });
    until("the control socket", || daemon.status().map(|_| ()));
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    daemon.once("features", |s| s["features"]["perceived"].as_u64() > Some(5));
    let get = |path: &str, headers: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    };
    let sound = get("/metrics", &format!("Host: 127.0.0.1:{port}\r\n"));
    assert!(sound.starts_with("HTTP/1.1 200"), "{sound}");
    for line in [
        "nestling_features_total ",
        "nestling_alarms_total ",
        "nestling_decisions_safe ",
        "nestling_feature_latency_p99_seconds ",
        "nestling_effective_rank ",
        "# EOF",
    ] {
        assert!(sound.contains(line), "{line} in {sound}");
    }
    assert!(get("/metrics", "Host: evil.example\r\n").starts_with("HTTP/1.1 421"));
    assert!(get("/metrics", "Host: localhost\r\nOrigin: http://evil.example\r\n").starts_with("HTTP/1.1 403"));
    assert!(get("/", "Host: localhost\r\n").starts_with("HTTP/1.1 404"));
    // The look at sockets that finds none without metrics finds this one.
    assert!(!network_sockets(daemon.child.id()).is_empty());
    // Loopback alone: the table of sockets says so.
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", daemon.child.id())).expect("a table");
    let listens = format!(":{port:04X}");
    let places: Vec<&str> =
        table.lines().filter_map(|l| l.split_whitespace().nth(1)).filter(|a| a.ends_with(&listens)).collect();
    assert!(!places.is_empty() && places.iter().all(|place| place.starts_with("0100007F")), "{places:?}");
}
