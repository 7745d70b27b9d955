//! `[mqtt]`: with a real broker where `mosquitto` is installed, and with peers that are no brokers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::harness::*;

/// A program of mosquitto's, which is not on everybody's path.
fn program(name: &str) -> Option<Command> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/sbin"];
    let path = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())?;
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    Some(command)
}

/// A program that ends with the test.
struct Runs(Child);

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Broker {
    port: u16,
    folder: tempfile::TempDir,
    runs: Option<Runs>,
}

impl Broker {
    fn start() -> Option<Self> {
        program("mosquitto_sub")?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let mut broker = Broker { port, folder: tempfile::tempdir().expect("a folder"), runs: None };
        broker.come()?;
        Some(broker)
    }

    /// It listens at its port, again.
    fn come(&mut self) -> Option<()> {
        let settings = self.folder.path().join("settings");
        fs::write(&settings, format!("listener {} 127.0.0.1\nallow_anonymous true\n", self.port)).expect("a file");
        let child = program("mosquitto")?.arg("-c").arg(settings).stdout(Stdio::null()).spawn().ok()?;
        self.runs = Some(Runs(child));
        until("the broker", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
        Some(())
    }

    /// What is published from now on, and what is retained: topic and text.
    fn listen(&self) -> (Runs, Heard) {
        let mut command = program("mosquitto_sub").expect("it is installed");
        command.args(["-v", "-t", "rover/#", "-p", &self.port.to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let heard: Heard = Arc::default();
        let (out, into) = (child.stdout.take().expect("a pipe"), heard.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let (topic, text) = line.split_once(' ').unwrap_or((&line, ""));
                into.lock().expect("no panic").push((topic.to_owned(), text.to_owned()));
            }
        });
        (Runs(child), heard)
    }

    fn publish(&self, more: &[&str]) {
        let mut command = program("mosquitto_pub").expect("it is installed");
        let status = command.args(["-t", "rover/command", "-p", &self.port.to_string()]).args(more).status();
        assert!(status.expect("it starts").success());
    }
}

type Heard = Arc<Mutex<Vec<(String, String)>>>;

/// The first text on `topic` that `fits`; everything up to it is forgotten.
fn hear(heard: &Heard, topic: &str, fits: impl Fn(&str) -> bool) -> String {
    until(topic, || {
        let mut heard = heard.lock().expect("no panic");
        let place = heard.iter().position(|(on, text)| on == topic && fits(text))?;
        heard.drain(..=place).next_back().map(|(_, text)| text)
    })
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn with_broker(port: u16, more: &str) -> (Daemon, Camera) {
    let profile = format!(
        "name = 'rover'\nsource = 'pipe:frames?format=gray8&width=16&height=16'\nmodel = 'quick.toml'\n\
         [mqtt]\nbroker = '127.0.0.1:{port}'\nhealth_s = 1\n{more}\n\
         [[controller]]\nname = 'guard'\ndoes = 'alarm'\n[[controller]]\nname = 'eye'\ndoes = 'classify'\n"
    );
    let daemon = Daemon::start(&["--board", "board.toml"], |folder, _| {
        make_fifo(&folder.join("frames"));
        fs::write(folder.join("board.toml"), profile).expect("a file");
    });
    let camera = Camera::on(&daemon.path("frames"), usize::MAX);
    until("the control socket", || daemon.status().map(|_| ()));
    (daemon, camera)
}

/// What is told of the transport.
fn told(status: &Value) -> Value {
    let all = status["transports"].as_array().expect("a list");
    all.iter().find(|transport| transport["name"] == "mqtt").expect("it is told of").clone()
}

#[test]
fn a_broker_hears_what_is_decided_and_whoever_may_publish_commands() {
    let Some(mut broker) = Broker::start() else {
        println!("SKIPPED: MQTT with a broker, as there is no mosquitto");
        return;
    };
    let (_listens, heard) = broker.listen();
    let (daemon, _camera) = with_broker(broker.port, "commands = true");
    hear(&heard, "rover/status", |text| text == "online");
    let decision = json(&hear(&heard, "rover/decision/guard", |_| true));
    assert!(decision["controller"] == "guard" && decision["values"].is_array(), "{decision}");
    let health = json(&hear(&heard, "rover/health", |_| true));
    assert!(health["encoder"].is_u64() && health["stale"] == false, "{health}");
    // Features are not asked for.
    daemon.once("features", |s| s["features"]["perceived"].as_u64() > Some(100));
    assert!(heard.lock().expect("no panic").iter().all(|(topic, _)| topic != "rover/feature"));

    // Garbage, something too long, and what is not for everybody are refused; the daemon goes on.
    let long = format!("{{\"command\":\"teach\",\"label\":\"{}\"}}", "x".repeat(5000));
    for (text, why) in [
        ("\u{1}garbage", "no command"),
        (&*long, "4096"),
        ("{\"command\":\"rollback\",\"lessons\":1}", "control socket"),
        ("{\"command\":\"forget\",\"label\":\"cup\"}", "nothing was taught"),
    ] {
        broker.publish(&["-m", text]);
        let answer = json(&hear(&heard, "rover/answer", |_| true));
        assert!(answer["ok"] == false && answer["error"].as_str().is_some_and(|e| e.contains(why)), "{answer}");
    }
    // A teacher at the broker and one at the socket: one is told to wait.
    broker.publish(&["-m", "{\"command\":\"teach\",\"label\":\"cup\",\"examples\":15}"]);
    let refused = until("a refusal", || daemon.ask(&["teach", "cap", "--examples", "1"]).err());
    assert!(refused.contains("being taught"), "{refused}");
    let answer = json(&hear(&heard, "rover/answer", |_| true));
    assert_eq!((&answer["ok"], &answer["value"]["taught"]), (&true.into(), &"cup".into()), "{answer}");
    broker.publish(&["-m", "{\"command\":\"freeze\"}"]);
    assert_eq!(json(&hear(&heard, "rover/answer", |_| true))["ok"], true);
    daemon.once("frozen", |s| s["learning"]["state"] == "frozen");

    // The broker goes: that is told, counted, and disturbs nothing else.
    broker.runs = None;
    let away = daemon.once("no broker", |s| told(s)["problem"].is_string() && told(s)["dropped"].as_u64() > Some(10));
    assert!(told(&away)["problem"].as_str().is_some_and(|problem| problem.contains("what to do")), "{away}");
    assert!(daemon.log().contains("mqtt: 127.0.0.1:"), "{}", daemon.log());
    let perceived = away["features"]["perceived"].as_u64();
    daemon.once("more features", |s| s["features"]["perceived"].as_u64() > perceived.map(|n| n + 50));
    // It comes back, and is told what it has missed.
    broker.come().expect("it is installed");
    daemon.once("a broker", |s| told(s)["problem"].is_null());
    let (_listens, heard) = broker.listen();
    hear(&heard, "rover/status", |text| text == "online");
    hear(&heard, "rover/decision/eye", |text| json(text)["label"].is_string() || json(text)["label"].is_null());
    // A command that is retained is none.
    broker.publish(&["-r", "-m", "{\"command\":\"thaw\"}"]);
    hear(&heard, "rover/answer", |_| true);
    // Killed, it says nothing more; the broker says it for it.
    daemon.signal(Signal::KILL);
    hear(&heard, "rover/status", |text| text == "offline");
}

#[test]
fn at_its_end_it_says_that_it_is_gone() {
    let Some(broker) = Broker::start() else {
        println!("SKIPPED: MQTT with a broker, as there is no mosquitto");
        return;
    };
    let (_listens, heard) = broker.listen();
    let (daemon, _camera) = with_broker(broker.port, "features = true");
    hear(&heard, "rover/status", |text| text == "online");
    let feature = json(&hear(&heard, "rover/feature", |_| true));
    assert!(feature["feature"].as_array().is_some_and(|values| !values.is_empty()), "{feature}");
    // Nobody said that it takes commands.
    broker.publish(&["-m", "{\"command\":\"freeze\"}"]);
    let (took, fine, log) = daemon.end();
    assert!(fine && took < Duration::from_secs(5), "{took:?} {log}");
    hear(&heard, "rover/status", |text| text == "offline");
    let heard = heard.lock().expect("no panic");
    assert!(heard.iter().all(|(topic, _)| topic != "rover/answer"));
}

#[test]
fn a_broker_that_is_none_or_says_nothing_disturbs_nobody() {
    let peer = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = peer.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for (n, stream) in peer.incoming().flatten().enumerate() {
            let mut stream = stream;
            if n == 0 {
                let mut asked = [0; 64];
                let _ = stream.read(&mut asked);
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            } else {
                // It takes the connection, and that is all that it ever does.
                silent.push(stream);
            }
        }
    });
    let (daemon, _camera) = with_broker(port, "");
    let begun = Instant::now();
    let problem = |s: &Value| told(s)["problem"].as_str().unwrap_or_default().to_owned();
    daemon.once("the first problem", |s| problem(s).contains("what to do"));
    let first = daemon.once("features", |s| s["features"]["perceived"].as_u64() > Some(50));
    let silent = daemon.once("a silent peer", |s| problem(s) != problem(&first) && problem(s).contains("what to do"));
    assert!(problem(&silent).to_lowercase().contains("time"), "{silent}");
    let count = |s: &Value| s["features"]["perceived"].as_u64().expect("a count");
    assert!(count(&silent) > count(&first) && told(&silent)["dropped"].as_u64() > Some(50), "{silent}");
    assert_eq!(told(&silent)["sent"], 0);
    // Told once, not for each message.
    assert_eq!(daemon.log().matches("mqtt:").count(), 1, "{}", daemon.log());
    let (took, fine, log) = daemon.end();
    assert!(fine && took < Duration::from_secs(10), "{took:?} {log}");
    assert!(begun.elapsed() < PATIENCE);
}
