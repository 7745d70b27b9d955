//! The ways out in one run: messages a second, MB/s, and time from the sender to the reader, beside a reader that has stopped
//! reading. `cargo bench --bench bus [--features mqtt]`; MQTT needs a `mosquitto` on the path.
//!
//! For each way two runs: as fast as the reader takes them (sender and reader in lockstep by the queue, so that nothing is
//! dropped), and at 1,000 messages a second for the latency. To add one, write a `Way`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nestling::bus::socket::{Format, MessageSocket};
use nestling::bus::{Block, Bus, Feature, Kind, Message, SendError, Terms, Transport, frame};
use nestling::sample::Micros;

/// Values of a feature; `robot` has as many.
const VALUES: usize = 1024;
/// Messages for the latency, and from one to the next.
const PACED: u64 = 3000;
const PACE: Duration = Duration::from_millis(1);
/// How long messages are sent as fast as they are taken.
const FAST: Duration = Duration::from_secs(3);

/// The run begins at this time (the year 2001), as messages of ROS 2 keep times of the calendar only.
const CALENDAR: u64 = 1_000_000_000_000_000;

/// What a reader has got: `t_us` of the newest, how many, their bytes, and their latency where they are paced.
#[derive(Default)]
struct Got {
    messages: AtomicU64,
    bytes: AtomicU64,
    micros: Mutex<Vec<u32>>,
}

impl Got {
    /// A message of `bytes` was read that was sent at `time`, in µs from `begun`.
    fn one(&self, begun: Instant, time: u64, bytes: usize) {
        let late = (begun.elapsed().as_micros() as u64).saturating_sub(time.saturating_sub(CALENDAR));
        self.micros.lock().expect("no panic").push(late.min(u64::from(u32::MAX)) as u32);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Release);
    }
}

/// A way out with a reader at its end that tells `Got` of all it reads.
struct Way {
    name: &'static str,
    /// Adds it to the bus and starts its reader.
    open: fn(&mut Bus, &Path, Instant, Arc<Got>),
}

const WAYS: &[Way] = &[
    Way { name: "in process", open: in_process },
    Way { name: "socket, JSON", open: json },
    Way { name: "socket, postcard", open: postcard },
    #[cfg(feature = "zenoh")]
    Way { name: "zenoh, CDR", open: zenoh_topic },
    #[cfg(feature = "shm")]
    Way { name: "shared memory", open: shared_memory },
    #[cfg(feature = "mqtt")]
    Way { name: "MQTT, features", open: mqtt::open },
];

fn in_process(bus: &mut Bus, _: &Path, begun: Instant, got: Arc<Got>) {
    let messages = bus.subscribe("reader", 128, Terms::default());
    std::thread::spawn(move || {
        for message in messages {
            if let Message::Feature(feature) = &*message {
                got.one(begun, feature.time.0, feature.values.len());
            }
        }
    });
}

/// A socket that listens, and a reader that is connected.
fn socket(bus: &mut Bus, path: &Path, format: Format) -> UnixStream {
    let socket = MessageSocket::open(path, format, Arc::default()).expect("a socket");
    bus.add("socket", socket, Terms::default()).expect("a thread");
    UnixStream::connect(path).expect("it listens")
}

fn json(bus: &mut Bus, folder: &Path, begun: Instant, got: Arc<Got>) {
    let stream = socket(bus, &folder.join("json"), Format::Json);
    std::thread::spawn(move || read_lines(stream, begun, &got));
}

fn read_lines(from: impl Read, begun: Instant, got: &Got) {
    let (mut lines, mut line) = (BufReader::new(from), String::new());
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        // As cheap as a reader can be: the time stands first.
        if let Some(time) = line.split_once("\"t_us\":").and_then(|(_, rest)| rest.split(',').next()?.parse().ok()) {
            got.one(begun, time, line.len());
        }
        line.clear();
    }
}

fn postcard(bus: &mut Bus, folder: &Path, begun: Instant, got: Arc<Got>) {
    let stream = socket(bus, &folder.join("packed"), Format::Packed);
    std::thread::spawn(move || {
        let (mut from, mut buffer) = (BufReader::new(stream), Vec::new());
        while let Ok(Some(message)) = frame::read(&mut from, &mut buffer) {
            if let Message::Feature(feature) = message {
                got.one(begun, feature.time.0, buffer.len() + 4);
            }
        }
    });
}

/// A topic of a ROS 2 graph, and a session on loopback that decodes its messages.
#[cfg(feature = "zenoh")]
fn zenoh_topic(bus: &mut Bus, _: &Path, begun: Instant, got: Arc<Got>) {
    use nestling::bus::zenoh::Zenoh;
    use nestling::ros::config::{Mode, ZenohTable};
    use nestling::ros::messages::{self, Message};
    use nestling::ros::{decode, node::Node};
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let endpoint = vec![format!("tcp/127.0.0.1:{port}")];
    let table = ZenohTable { mode: Mode::Peer, connect: Vec::new(), listen: endpoint.clone(), ..ZenohTable::default() };
    bus.add("zenoh", Zenoh::new(&table, Arc::new(|_: &[u8]| String::new())), Terms::default()).expect("a thread");
    let reader = ZenohTable { connect: endpoint, node: "reader".into(), ..ZenohTable::default() };
    std::thread::spawn(move || {
        // It listens from the first message on.
        let mut node = loop {
            match Node::open(&reader) {
                Ok(node) => break node,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let topic = node.subscriber("/nestling/feature", messages::Feature::TYPE, 128).expect("a topic");
        while let Ok(Some(arrived)) = topic.take(Duration::from_secs(5)) {
            let bytes = arrived.message();
            let feature: messages::Feature = decode(&bytes).expect("a feature");
            got.one(begun, feature.header.stamp.micros().expect("a time").0, bytes.len());
        }
    });
}

/// Shared memory, and a reader in this process that looks every 20 µs.
#[cfg(feature = "shm")]
fn shared_memory(bus: &mut Bus, _: &Path, begun: Instant, got: Arc<Got>) {
    use nestling::bus::shm::{SharedMemory, node, service};
    let name = format!("nestling/bench/{}", std::process::id());
    bus.add("shm", SharedMemory::open(&name).expect("shared memory"), Terms::default()).expect("a thread");
    std::thread::spawn(move || {
        let node = node::<iceoryx2::prelude::ipc::Service>().expect("shared memory");
        let reader = service(&node, &name).expect("a service").subscriber_builder().create().expect("a reader");
        let mut newest = Instant::now();
        while newest.elapsed() < Duration::from_secs(5) {
            while let Some(sample) = reader.receive().expect("a service") {
                got.one(begun, sample.user_header().time_us, sample.payload().len());
                newest = Instant::now();
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    });
}

#[cfg(feature = "mqtt")]
mod mqtt {
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use nestling::bus::config::MqttTable;
    use nestling::bus::mqtt::Mqtt;

    use super::*;

    /// A broker on loopback, and `mosquitto_sub` as the reader; both end with the folder's owner.
    pub fn open(bus: &mut Bus, folder: &Path, begun: Instant, got: Arc<Got>) {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let settings = folder.join("mosquitto.conf");
        std::fs::write(&settings, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).expect("a file");
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let start = |program: &str, arguments: &[&str]| {
            let mut command = Command::new("timeout");
            command.arg("30").arg(program).args(arguments).env("PATH", &path);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
        };
        let Some(_broker) = start("mosquitto", &["-c", &settings.display().to_string()]) else { return };
        let table = MqttTable {
            broker: format!("127.0.0.1:{port}"),
            name: Some("bench".into()),
            user: None,
            password_file: None,
            qos: 0,
            features: true,
            every_ms: 500,
            health_s: 3600,
            commands: false,
        };
        std::thread::sleep(Duration::from_millis(500));
        let reader = start("mosquitto_sub", &["-p", &port.to_string(), "-t", "bench/feature"]);
        let mqtt = Mqtt::open(&table, "bench", Arc::new(|_: &[u8]| String::new())).expect("a thread");
        bus.add("mqtt", mqtt, Terms::default()).expect("a thread");
        std::thread::sleep(Duration::from_millis(500));
        let Some(output) = reader.and_then(|reader| reader.stdout) else { return };
        std::thread::spawn(move || read_lines(output, begun, &got));
    }
}

/// A reader that never reads: its transport hangs at the first message.
struct Stalled;

impl Transport for Stalled {
    fn send(&mut self, _: &Arc<Message>) -> Result<(), SendError> {
        std::thread::sleep(Duration::from_secs(3600));
        Ok(())
    }

    fn wants(&self, kind: Kind) -> bool {
        kind == Kind::Feature
    }
}

fn fill(feature: &mut Feature, begun: Instant, number: u64) {
    feature.time = Micros(CALENDAR + begun.elapsed().as_micros() as u64);
    if feature.values.is_empty() {
        feature.blocks = vec![Block { len: VALUES as u32, exponent: 5 }];
        feature.values = (0..VALUES).map(|i| (i * 37 % 255) as u8 as i8).collect();
    }
    feature.values[0] = number as i8;
}

fn main() {
    println!("| way | messages/s | MB/s | p50 µs | p99 µs | longest send µs | dropped of a stalled reader |");
    println!("|---|---|---|---|---|---|---|");
    for way in WAYS {
        let folder = tempfile::tempdir().expect("a folder");
        let begun = Instant::now();
        let got = Arc::new(Got::default());
        let mut bus = Bus::new();
        (way.open)(&mut bus, folder.path(), begun, got.clone());
        bus.add("stalled", Stalled, Terms::default()).expect("a thread");
        // The reader is there when its first message is.
        let patience = Instant::now();
        while got.messages.load(Ordering::Acquire) == 0 && patience.elapsed() < Duration::from_secs(5) {
            bus.send_feature(|feature| fill(feature, begun, 0));
            std::thread::sleep(Duration::from_millis(20));
        }
        if got.messages.load(Ordering::Acquire) == 0 {
            println!("| {} | its reader or its broker is not there | | | | | |", way.name);
            continue;
        }
        got.micros.lock().expect("no panic").clear();
        let mut longest = Duration::ZERO;
        for number in 0..PACED {
            let due = Instant::now() + PACE;
            let sending = Instant::now();
            bus.send_feature(|feature| fill(feature, begun, number));
            longest = longest.max(sending.elapsed());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let mut micros = std::mem::take(&mut *got.micros.lock().expect("no panic"));
        micros.sort_unstable();
        let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or_default();
        // As fast as they are read: never more on their way than a queue holds.
        let before = (got.messages.load(Ordering::Acquire), got.bytes.load(Ordering::Relaxed));
        let (fast, mut sent) = (Instant::now(), before.0);
        while fast.elapsed() < FAST {
            if sent.saturating_sub(got.messages.load(Ordering::Acquire)) < 32 {
                bus.send_feature(|feature| fill(feature, begun, sent));
                sent += 1;
            } else {
                // The reader is to have the processor.
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        let seconds = fast.elapsed().as_secs_f64();
        let messages = (got.messages.load(Ordering::Acquire) - before.0) as f64 / seconds;
        let bytes = (got.bytes.load(Ordering::Relaxed) - before.1) as f64 / seconds / 1e6;
        let stalled = bus.counts().iter().map(|c| c.status()).find(|s| s.name == "stalled").expect("it is there");
        let longest = longest.as_micros();
        println!(
            "| {} | {messages:.0} | {bytes:.1} | {} | {} | {longest} | {} |",
            way.name,
            at(0.5),
            at(0.99),
            stalled.dropped
        );
        bus.finish();
    }
}
