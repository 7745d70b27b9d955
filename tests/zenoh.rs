//! `nestling run` in a ROS 2 graph, seen from outside: by a session of zenoh with another decoder, and by Python packages that
//! share no line with this crate.
#![cfg(all(feature = "cli", feature = "zenoh", target_os = "linux"))]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use hiroz_cdr::{CdrReader, CdrWriter, LittleEndian};
use rustix::process::Signal;
use serde_json::Value;
use zenoh::handlers::RingChannel;
use zenoh::{Config, Session, Wait};

#[path = "daemon/harness.rs"]
#[allow(dead_code, reason = "the tests of the daemon use the rest")]
mod harness;
#[path = "common/python.rs"]
mod python;

use harness::*;

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a port").port()
}

/// A daemon that listens at the endpoint, with a camera's FIFO and a controller.
fn daemon(endpoint: &str) -> Daemon {
    let profile = format!(
        "source = 'pipe:frames?format=gray8&width=16&height=16'\nmodel = 'quick.toml'\n[perceive]\nstale_ms = 500\n\
         [zenoh]\nmode = 'peer'\nconnect = []\nlisten = ['{endpoint}']\nnamespace = '/robot'\ndomain = 7\nframe = 'eye'\ncommands = true\n\
         [[controller]]\nname = 'guard'\ndoes = 'alarm'\n"
    );
    started(&profile)
}

fn started(profile: &str) -> Daemon {
    let daemon = Daemon::start(&["--board", "board.toml"], |folder, _| {
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("frames"), rustix::fs::Mode::from(0o600)).expect("a FIFO");
        fs::write(folder.join("board.toml"), profile).expect("a file");
    });
    until("the control socket", || daemon.status().map(|_| ()));
    daemon
}

/// A client of the daemon, once that listens.
fn client(endpoint: &str) -> Session {
    let mut config = Config::default();
    for (key, value) in [
        ("mode", "'client'".to_owned()),
        ("connect/endpoints", format!("['{endpoint}']")),
        ("scouting/multicast/enabled", "false".into()),
    ] {
        config.insert_json5(key, &value).expect(key);
    }
    until("a session", || zenoh::open(config.clone()).wait().ok())
}

#[test]
fn features_decisions_and_health_are_topics_of_a_graph() {
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let daemon = daemon(&endpoint);
    let camera = Camera::on(&daemon.path("frames"), usize::MAX);
    // Whoever stops reading disturbs nobody: nothing below waits for this one.
    let stalled = client(&endpoint);
    let _never_read = stalled.declare_subscriber("7/**").wait().expect("a subscriber");
    let session = client(&endpoint);
    // One that keeps all would hold answers up once it is full.
    let arrived = session.declare_subscriber("7/robot/nestling/**").with(RingChannel::new(64)).wait();
    let arrived = arrived.expect("a subscriber");
    let receive = |name: &str| {
        until(name, || {
            let sample = arrived.recv_timeout(PATIENCE).expect("a session");
            sample.filter(|sample| sample.key_expr().as_str().contains(&format!("/{name}/")))
        })
    };

    let feature = receive("feature");
    let hash = nestling::ros::types::FEATURE.hash();
    assert_eq!(
        feature.key_expr().as_str(),
        format!("7/robot/nestling/feature/nestling_msgs::msg::dds_::Feature_/{hash}")
    );
    let bytes = feature.payload().to_bytes();
    assert_eq!(bytes[..4], [0, 1, 0, 0]);
    let mut reader = CdrReader::<LittleEndian>::new(&bytes[4..]);
    let (sec, nanosec) = (reader.read_i32().unwrap(), reader.read_u32().unwrap());
    assert_eq!(reader.read_str().unwrap(), "eye");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 60..=now).contains(&(sec as u64)) && nanosec < 1_000_000_000, "stamped with its arrival");
    let (age, _, _) = (reader.read_i32().unwrap(), reader.read_u32().unwrap(), reader.read_u32().unwrap());
    assert!((0..60).contains(&age));
    let (_novelty, _health) = (reader.read_f32().unwrap(), reader.read_f32().unwrap());
    let numbers = |reader: &mut CdrReader<LittleEndian>| {
        let count = reader.read_sequence_length().unwrap();
        (0..count).map(|_| reader.read_u32().unwrap()).collect::<Vec<_>>()
    };
    let (lengths, exponents) = (numbers(&mut reader), numbers(&mut reader));
    let values = reader.read_byte_sequence().unwrap();
    assert_eq!((lengths.len(), lengths.iter().sum::<u32>() as usize), (exponents.len(), values.len()));
    assert!(!values.is_empty() && reader.position() == bytes.len() - 4, "nothing is left");

    let decision = receive("decision");
    let bytes = decision.payload().to_bytes();
    let mut reader = CdrReader::<LittleEndian>::new(&bytes[4..]);
    let _stamp = (reader.read_i32().unwrap(), reader.read_u32().unwrap(), reader.read_str().unwrap());
    let _age = (reader.read_i32().unwrap(), reader.read_u32().unwrap());
    assert_eq!(reader.read_str().unwrap(), "guard");

    let is_stale = |sample: &zenoh::sample::Sample| {
        let bytes = sample.payload().to_bytes();
        let mut reader = CdrReader::<LittleEndian>::new(&bytes[4..]);
        let _stamp = (reader.read_i32().unwrap(), reader.read_u32().unwrap(), reader.read_str().unwrap());
        reader.read_bool().unwrap()
    };
    assert!(!is_stale(&receive("health")));
    let ask = |command: &str| {
        let replies = session.get("7/robot/nestling/command").payload(command).wait().expect("a session");
        let reply = replies.recv().expect("an answer");
        let text = reply.result().expect("no error").payload().try_to_string().expect("text").into_owned();
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    assert_eq!(ask(r#"{"command":"freeze"}"#)["ok"], true);
    daemon.once("ice", |s| s["learning"]["state"] == "frozen");
    for garbage in ["", "{", &"x".repeat(5000)] {
        assert_eq!(ask(garbage)["ok"], false);
    }
    drop(camera);
    until("staleness", || is_stale(&receive("health")).then_some(()));
    daemon.once("the count", |s| {
        let transports = s["transports"].as_array().expect("a list");
        transports.iter().any(|t| t["name"] == "zenoh" && t["sent"].as_u64() > Some(20) && t["failures"] == 0)
    });

    // Whoever ends is gone from the graph at once.
    daemon.signal(Signal::TERM);
    until("an empty graph", || {
        let replies = session.liveliness().get("@ros2_lv/7/**").wait().expect("a session");
        replies.into_iter().next().is_none().then_some(())
    });
}

/// Where nobody answers, everything else goes on, and it is told once and counted.
#[test]
fn without_a_router_features_go_their_other_ways() {
    let profile = format!(
        "source = 'pipe:frames?format=gray8&width=16&height=16'\nmodel = 'quick.toml'\n[output]\nsocket = 'features'\n\
         [zenoh]\nconnect = ['tcp/127.0.0.1:{}']\n",
        free_port()
    );
    let daemon = started(&profile);
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    let status = daemon.once("features and failures", |s| {
        let transports = s["transports"].as_array().expect("a list");
        let failed =
            |t: &Value| t["name"] == "zenoh" && t["failures"].as_u64() >= Some(2) && t["dropped"].as_u64() > Some(20);
        s["features"]["perceived"].as_u64() > Some(100) && transports.iter().any(failed)
    });
    assert_eq!(status["features"]["stale"], false);
    let (_, ended_well, log) = daemon.end();
    assert!(ended_well && log.matches("no session with").count() == 1 && log.contains("zenoh.connect"), "{log}");
}

/// nestling between a camera's topic and its own: stamps of features are those of the images that they are of.
#[test]
fn images_of_a_topic_become_features_with_their_stamps() {
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let mut config = Config::default();
    for (key, value) in [
        ("mode", "'router'".to_owned()),
        ("listen/endpoints", format!("['{endpoint}']")),
        ("scouting/multicast/enabled", "false".into()),
    ] {
        config.insert_json5(key, &value).expect(key);
    }
    let router = zenoh::open(config).wait().expect("a router");
    let profile = format!(
        "source = 'zenoh:/camera/image_raw?connect={endpoint}'\nmodel = 'quick.toml'\n[zenoh]\nconnect = ['{endpoint}']\n"
    );
    let arrived =
        router.declare_subscriber("0/nestling/feature/**").with(RingChannel::new(64)).wait().expect("a subscriber");
    let daemon = started(&profile);
    // Written by another encoder, as a version of ROS 2 without hashes names it.
    let key = "0/camera/image_raw/sensor_msgs::msg::dds_::Image_/TypeHashNotSupported";
    let image = |n: u32| {
        let mut bytes = vec![0, 1, 0, 0];
        let mut body = Vec::new();
        let mut writer = CdrWriter::<LittleEndian>::new(&mut body);
        writer.write_i32(1_700_000_000);
        writer.write_u32(n * 1_000_000);
        writer.write_string("camera");
        writer.write_u32(16);
        writer.write_u32(16);
        writer.write_string("mono8");
        writer.write_u8(0);
        writer.write_u32(16);
        writer.write_u32(256);
        writer.write_bytes(&(0..256).map(|i| ((n * 37 + i * (n % 7 + 1)) % 251) as u8).collect::<Vec<_>>());
        bytes.append(&mut body);
        bytes
    };
    let mut stamps = Vec::new();
    for n in 0..900 {
        router.put(key, image(n)).wait().expect("it goes out");
        if let Ok(Some(feature)) = arrived.recv_timeout(std::time::Duration::from_millis(20)) {
            let bytes = feature.payload().to_bytes();
            let mut reader = CdrReader::<LittleEndian>::new(&bytes[4..]);
            assert_eq!(reader.read_i32().unwrap(), 1_700_000_000);
            stamps.push(reader.read_u32().unwrap());
        }
        if stamps.len() == 40 {
            break;
        }
    }
    assert_eq!(stamps.len(), 40, "{}", daemon.log());
    assert!(stamps.is_sorted_by(|a, b| a < b) && stamps.iter().all(|stamp| stamp % 1_000_000 == 0), "{stamps:?}");
    // What is no image is passed over and counted.
    router.put(key, vec![0, 1, 0, 0, 9]).wait().expect("it goes out");
    router.put(key, image(901)).wait().expect("it goes out");
    daemon.once("the damage", |s| s["source"]["damaged"].as_u64() >= Some(1));
}

#[test]
fn an_independent_reader_decodes_every_message() {
    let Some(python) = python::with("zenoh, rosbags") else { return };
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let daemon = daemon(&endpoint);
    let _camera = Camera::on(&daemon.path("frames"), usize::MAX);
    drop(client(&endpoint));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ros2/listen.py");
    let output = Command::new(python).arg(script).args(["--domain", "7", "--count", "300", &endpoint]).output();
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |topic: &'static str| lines.iter().filter(move |line| line["topic"] == topic);
    let feature = of("/robot/nestling/feature").next_back().expect("a feature");
    let length: u64 = feature["lengths"].as_array().expect("a list").iter().filter_map(Value::as_u64).sum();
    assert_eq!(feature["values"].as_array().map(Vec::len), Some(length as usize));
    assert!(feature["header"]["frame_id"] == "eye" && feature["number"].as_u64() > Some(0), "{feature}");
    assert!(of("/robot/nestling/health").any(|health| health["stale"] == false));
    let tokens: Vec<&str> = lines.iter().filter_map(|line| line["in the graph"].as_str()).collect();
    assert_eq!(tokens.iter().filter(|token| token.contains("/NN/")).count(), 1, "{tokens:?}");
    assert_eq!(tokens.iter().filter(|token| token.contains("/MP/")).count(), 3, "{tokens:?}");
}
