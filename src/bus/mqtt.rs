//! MQTT, for home automation: what controllers decide, how the encoder is, whether this program is there, and where one wants it
//! each feature. docs/bus.md has the topics.
//!
//! The broker is spoken to by `rumqttc` on a thread of its own, which connects again by itself. Nothing is kept for a broker
//! that is away but the newest decision of each controller.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{Client, Connection, Event, LastWill, MqttOptions, Packet, Publish, QoS};

use super::command::{Answer, Clerk, refusal};
use super::config::MqttTable;
use super::message::{Decision, Feature, Message};
use super::transport::{SendError, Transport};

/// Messages that may wait for the broker.
const QUEUE: usize = 64;
/// A broker that says nothing for so long is asked, and twice as long after that left.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A broker that is not there is tried again after so long, and each time twice as long, up to the longest.
const SHORTEST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Longest packets in and out.
const MOST_IN: usize = 64 << 10;
const MOST_OUT: usize = 1 << 20;

/// What the transport and the connection's thread know of each other.
struct Shared {
    /// Why there is no connection; `None` while there is one.
    problem: Mutex<Option<String>>,
    /// The newest decision of each controller.
    newest: Mutex<Vec<Sent>>,
    ends: AtomicBool,
}

/// A decision, and when it was last published.
struct Sent {
    decision: Decision,
    at: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where and how things are published.
#[derive(Clone)]
struct Topics {
    client: Client,
    prefix: Arc<str>,
    qos: QoS,
}

impl Topics {
    /// Publishes `text` below the prefix. `false`: the broker does not take as much.
    fn publish(&self, topic: &str, retain: bool, text: impl Into<Vec<u8>>) -> bool {
        self.client.try_publish(format!("{}/{topic}", self.prefix), self.qos, retain, text).is_ok()
    }

    fn publish_decision(&self, decision: &Decision) -> bool {
        let mut line = Vec::new();
        // Writing into memory does not fail.
        let _ = decision.write_object(&mut line);
        self.publish(&format!("decision/{}", decision.controller), true, line)
    }
}

/// See the module.
pub struct Mqtt {
    topics: Topics,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    features: bool,
    every: Duration,
    health_every: Duration,
    health_due: Instant,
}

impl Mqtt {
    /// Speaks to the broker of `table` for a profile called `profile`. Commands go to `answer`, where the table allows them.
    /// It is not waited for that the broker is there.
    ///
    /// # Errors
    /// A password that cannot be read, or a thread that the system does not give, in words.
    pub fn open(table: &MqttTable, profile: &str, answer: Answer) -> Result<Self, String> {
        let (host, port) =
            table.address().ok_or_else(|| format!("mqtt.broker = {}: this is no host:port", table.broker))?;
        let prefix: Arc<str> = table.topic(profile).into();
        // Two programs of one name would put each other out.
        let id = format!("nestling-{}-{}", prefix.replace('/', "-"), std::process::id());
        let mut options = MqttOptions::new(id, host, port);
        let qos = if table.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        options.set_keep_alive(KEEP_ALIVE).set_max_packet_size(MOST_IN, MOST_OUT).set_last_will(LastWill::new(
            format!("{prefix}/status"),
            "offline",
            QoS::AtLeastOnce,
            true,
        ));
        if let Some(user) = &table.user {
            options.set_credentials(user, password(table)?);
        }
        let (client, connection) = Client::new(options, QUEUE);
        let topics = Topics { client, prefix, qos };
        let shared = Arc::new(Shared {
            problem: Mutex::new(Some(format!("{}: no answer yet", table.broker))),
            newest: Mutex::new(Vec::new()),
            ends: AtomicBool::new(false),
        });
        let answers = topics.clone();
        let reply = move |text| {
            answers.publish("answer", false, text);
        };
        let clerk = table.commands.then(|| Clerk::start(answer, reply)).transpose()?;
        let line = Line { topics: topics.clone(), shared: shared.clone(), broker: table.broker.clone(), clerk };
        let thread = std::thread::Builder::new().name("nestling-mqtt".into()).spawn(move || line.run(connection));
        let thread = Some(thread.map_err(|e| format!("cannot start the thread of MQTT: {e}"))?);
        let (every, health_every) = (Duration::from_millis(table.every_ms), Duration::from_secs(table.health_s));
        let (features, health_due) = (table.features, Instant::now());
        Ok(Mqtt { topics, shared, thread, features, every, health_every, health_due })
    }

    fn send_decision(&self, decision: &Decision, connected: bool) -> bool {
        let mut newest = lock(&self.shared.newest);
        let place = newest.iter().position(|sent| sent.decision.controller == decision.controller);
        let place = place.unwrap_or_else(|| {
            newest.push(Sent { decision: decision.clone(), at: None });
            newest.len() - 1
        });
        let sent = &mut newest[place];
        let before = std::mem::replace(&mut sent.decision, decision.clone());
        if !connected {
            sent.at = None;
            return true;
        }
        let due = match sent.at {
            None => true,
            Some(_) if says_something_else(&before, decision) => true,
            // A value that has come to rest is told too: the one before it was not, as it came too soon.
            Some(at) => at.elapsed() >= self.every,
        };
        if due {
            sent.at = self.topics.publish_decision(decision).then(Instant::now);
            return sent.at.is_some();
        }
        true
    }

    fn send_feature(&mut self, message: &Message, feature: &Feature) -> bool {
        let mut taken = true;
        if self.features {
            let mut line = Vec::new();
            let _ = message.write_line(&mut line);
            line.pop();
            taken = self.topics.publish("feature", false, line);
        }
        if Instant::now() >= self.health_due {
            self.health_due = Instant::now() + self.health_every;
            taken &= self.topics.publish("health", true, health(feature));
        }
        taken
    }
}

fn password(table: &MqttTable) -> Result<String, String> {
    let Some(path) = &table.password_file else { return Ok(String::new()) };
    let text = std::fs::read_to_string(path).map_err(|e| format!("mqtt.password_file: {}: {e}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_string())
}

/// Other than in its values.
fn says_something_else(before: &Decision, now: &Decision) -> bool {
    (&before.label, before.alarm, &before.safe) != (&now.label, now.alarm, &now.safe)
}

fn health(feature: &Feature) -> String {
    let number = |value: Option<f32>| value.map_or("null".to_string(), |value| format!("{value:.3}"));
    let (time, encoder) = (feature.time.0, feature.encoder.0);
    let (health, novelty) = (number(feature.health), number(feature.novelty));
    format!("{{\"t_us\":{time},\"encoder\":{encoder},\"health\":{health},\"novelty\":{novelty},\"stale\":false}}")
}

impl Transport for Mqtt {
    fn send(&mut self, message: &Arc<Message>) -> Result<(), SendError> {
        let problem = lock(&self.shared.problem).clone();
        let taken = match &**message {
            Message::Decision(decision) => self.send_decision(decision, problem.is_none()),
            Message::Feature(feature) if problem.is_none() => self.send_feature(message, feature),
            Message::Stale(stale) if problem.is_none() => {
                // The next feature's health says that it is over.
                self.health_due = Instant::now();
                let age = stale.age.as_micros();
                self.topics.publish("health", true, format!("{{\"stale\":true,\"age_us\":{age}}}"))
            }
            _ => true,
        };
        match problem {
            Some(problem) => Err(SendError::Away(problem)),
            None if taken => Ok(()),
            None => Err(SendError::Away("the broker does not take messages as fast as they come".into())),
        }
    }

    fn finish(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if lock(&self.shared.problem).is_none() {
            self.topics.publish("status", true, "offline");
        }
        let _ = self.topics.client.try_disconnect();
        // It ends with the connection, or within a rest; nobody else waits for it.
        let begun = Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && begun.elapsed() < self.patience() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// The connection's side.
struct Line {
    topics: Topics,
    shared: Arc<Shared>,
    broker: String,
    clerk: Option<Clerk>,
}

impl Line {
    fn run(self, mut connection: Connection) {
        let mut rest = SHORTEST_REST;
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    rest = SHORTEST_REST;
                    self.greet();
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.take(&publish),
                Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) if self.shared.ends.load(Ordering::Relaxed) => {
                    return;
                }
                Ok(_) => {}
                Err(problem) => {
                    *lock(&self.shared.problem) = Some(format!(
                        "{}: {problem}\n  what to do: start a broker there, or name another as mqtt.broker",
                        self.broker
                    ));
                    let until = Instant::now() + rest;
                    while Instant::now() < until {
                        if self.shared.ends.load(Ordering::Relaxed) {
                            return;
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    rest = (2 * rest).min(LONGEST_REST);
                }
            }
        }
    }

    /// The broker is there: it is told what it has missed.
    fn greet(&self) {
        self.topics.publish("status", true, "online");
        if self.clerk.is_some() {
            let topic = format!("{}/command", self.topics.prefix);
            let _ = self.topics.client.try_subscribe(topic, QoS::AtLeastOnce);
        }
        let mut newest = lock(&self.shared.newest);
        for sent in newest.iter_mut() {
            sent.at = self.topics.publish_decision(&sent.decision).then(Instant::now);
        }
        *lock(&self.shared.problem) = None;
    }

    fn take(&self, publish: &Publish) {
        let Some(clerk) = &self.clerk else { return };
        let refused = match publish.retain {
            // It would be carried out anew at each connection.
            true => Err(refusal("a retained message is no command: publish it without retain")),
            false => clerk.take(&publish.payload),
        };
        if let Err(answer) = refused {
            self.topics.publish("answer", false, answer);
        }
    }
}
