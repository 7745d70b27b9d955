//! A node in a ROS 2 graph over zenoh, as `rmw_zenoh_cpp` writes it: what a topic's key is, the tokens by which others see the
//! node and its topics, and what goes along with each message. No router or library of ROS 2 is part of it.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_128;
use zenoh::handlers::{RingChannel, RingChannelHandler};
use zenoh::liveliness::LivelinessToken;
use zenoh::sample::Sample;
use zenoh::{Config, Session, Wait};

use super::config::{Mode, ZenohTable};
use super::types::Type;

/// Messages that a topic's reader may be behind. Readers of the same kind are told so, as part of the quality of service.
pub const DEPTH: usize = 10;

/// Queries that may wait; of more the oldest are not answered.
const QUERIES: usize = 8;

/// Why there is no node, or a message does not go out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    #[error(
        "zenoh: no session with {with}: {problem}\n  what to do: start the router (`ros2 run rmw_zenoh_cpp rmw_zenohd`), or name another in zenoh.connect"
    )]
    Session { with: String, problem: String },
    #[error("zenoh: {what}: {problem}")]
    Zenoh { what: String, problem: String },
}

fn failed(what: impl Into<String>) -> impl FnOnce(zenoh::Error) -> NodeError {
    let what = what.into();
    move |problem| NodeError::Zenoh { what, problem: said(&problem) }
}

/// What zenoh says, without the place in its source.
fn said(problem: &zenoh::Error) -> String {
    let text = problem.to_string();
    text.split(" at /").next().unwrap_or(&text).trim_end().to_owned()
}

/// A node, seen as long as it lives.
pub struct Node {
    session: Session,
    domain: u32,
    /// What the tokens of the node and of its topics' ends begin and end with: `@ros2_lv/DOMAIN/SESSION/0`, `%/NAMESPACE/NAME`.
    token: (String, String),
    ends: usize,
    _token: LivelinessToken,
}

impl Node {
    /// Opens a session as `table` says and takes a place in the graph.
    ///
    /// # Errors
    /// [`NodeError::Session`] where nobody answers.
    pub fn open(table: &ZenohTable) -> Result<Self, NodeError> {
        let config = config(table).map_err(failed("its configuration"))?;
        let with = || [&table.connect[..], &table.listen].concat().join(", ");
        let session = zenoh::open(config).wait().map_err(|e| NodeError::Session { with: with(), problem: said(&e) })?;
        let namespace = if table.namespace.is_empty() { "%".into() } else { within_token(&table.namespace) };
        let token = (format!("@ros2_lv/{}/{}/0", table.domain, session.zid()), format!("%/{namespace}/{}", table.node));
        // The node itself is its first end.
        let alive = declare(&session, &format!("{}/0/NN/{}", token.0, token.1))?;
        Ok(Node { session, domain: table.domain, token, ends: 1, _token: alive })
    }

    /// The token of one more end of a topic, of `kind` MP (publisher) or MS (subscription).
    fn end(&mut self, kind: &str, topic: &str, of: &Type) -> String {
        let ((begin, end), number) = (&self.token, self.ends);
        self.ends += 1;
        let (topic, name, hash) = (within_token(topic), of.dds_name(), of.hash());
        // What is as everybody has it is empty: reliable, volatile, keep last, no deadline, no lifespan, automatic liveliness.
        format!("{begin}/{number}/{kind}/{end}/{topic}/{name}/{hash}/::,{DEPTH}:,:,:,,")
    }

    /// Says in the graph that `topic` has messages of the type `of`, and is ready to send them. A reader that has no room for
    /// one misses it; nobody waits.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn publisher(&mut self, topic: &str, of: &Type) -> Result<Publisher, NodeError> {
        let key = self.key(topic, of, &of.hash());
        let publisher = self.session.declare_publisher(key).wait().map_err(failed(topic))?;
        let token = self.end("MP", topic, of);
        // The place of a publisher in the graph, by which readers tell publishers apart.
        let gid = xxh3_128(token.as_bytes()).to_le_bytes();
        Ok(Publisher { publisher, gid, sent: 0, _token: declare(&self.session, &token)? })
    }

    /// Reads `topic`, whose messages are of the type `of`, from whatever version of ROS 2. The newest `depth` are kept.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn subscriber(&mut self, topic: &str, of: &Type, depth: usize) -> Result<Subscriber, NodeError> {
        let token = self.end("MS", topic, of);
        let token = declare(&self.session, &token)?;
        // Versions before hashes have another word in their place.
        let key = self.key(topic, of, "*");
        let subscriber = self.session.declare_subscriber(key).with(RingChannel::new(depth)).wait();
        Ok(Subscriber { subscriber: subscriber.map_err(failed(topic))?, _token: token })
    }

    /// Under what messages on `topic` go out.
    fn key(&self, topic: &str, of: &Type, hash: &str) -> String {
        format!("{}/{}/{}/{hash}", self.domain, topic.trim_matches('/'), of.dds_name())
    }

    /// Has `answer` answer queries of `name` (of zenoh alone; ROS 2 has no word for them), one after another on a thread that
    /// ends with the node. What `answer` is given may be of any length.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn answer(&self, name: &str, answer: impl Fn(&[u8]) -> String + Send + 'static) -> Result<(), NodeError> {
        let key = format!("{}/{}", self.domain, name.trim_matches('/'));
        let queries =
            self.session.declare_queryable(key).with(RingChannel::new(QUERIES)).wait().map_err(failed(name))?;
        let work = move || {
            while let Ok(query) = queries.recv() {
                let text = answer(&query.payload().map(|payload| payload.to_bytes()).unwrap_or_default());
                // Whoever asked may have left.
                let _ = query.reply(query.key_expr().clone(), text).wait();
            }
        };
        let thread = std::thread::Builder::new().name("nestling-command".into()).spawn(work);
        thread.map(|_| ()).map_err(|e| NodeError::Zenoh { what: name.into(), problem: format!("no thread: {e}") })
    }

    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// A name with slashes as one part of a token.
fn within_token(name: &str) -> String {
    name.replace('/', "%")
}

fn declare(session: &Session, token: &str) -> Result<LivelinessToken, NodeError> {
    session.liveliness().declare_token(token.to_owned()).wait().map_err(failed(token))
}

/// The session's own configuration, of what the table says and nothing else.
fn config(table: &ZenohTable) -> zenoh::Result<Config> {
    let mut config = Config::default();
    let mode = match table.mode {
        Mode::Client => "client",
        Mode::Peer => "peer",
    };
    let list = |endpoints: &[String]| format!("{endpoints:?}");
    for (key, value) in [
        ("mode", format!("{mode:?}")),
        ("connect/endpoints", list(&table.connect)),
        ("listen/endpoints", list(&table.listen)),
        // Once at the start; whoever opens a session tries again.
        ("connect/timeout_ms", "0".into()),
        ("connect/exit_on_failure", (table.mode == Mode::Client).to_string()),
        ("scouting/multicast/enabled", table.scouting.to_string()),
        ("scouting/gossip/enabled", table.scouting.to_string()),
    ] {
        config.insert_json5(key, &value)?;
    }
    Ok(config)
}

/// The sending end of a topic.
pub struct Publisher {
    publisher: zenoh::pubsub::Publisher<'static>,
    gid: [u8; 16],
    sent: i64,
    _token: LivelinessToken,
}

impl Publisher {
    /// Sends a message in CDR with its header.
    ///
    /// # Errors
    /// [`NodeError`] where the session has ended.
    pub fn publish(&mut self, message: Vec<u8>) -> Result<(), NodeError> {
        self.sent += 1;
        let attached = attachment(self.sent, SystemTime::now(), &self.gid);
        self.publisher.put(message).attachment(attached).wait().map_err(failed("a message"))
    }
}

/// What goes along with a message: its number, when it was sent (ns), and the publisher's place behind its length.
fn attachment(number: i64, sent: SystemTime, gid: &[u8; 16]) -> Vec<u8> {
    let sent = sent.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    let mut bytes = Vec::with_capacity(33);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&sent.to_le_bytes());
    bytes.push(gid.len() as u8);
    bytes.extend_from_slice(gid);
    bytes
}

/// The reading end of a topic.
pub struct Subscriber {
    subscriber: zenoh::pubsub::Subscriber<RingChannelHandler<Sample>>,
    _token: LivelinessToken,
}

/// A message as it came.
pub struct Arrived(Sample);

impl Arrived {
    /// In CDR with its header.
    pub fn message(&self) -> Cow<'_, [u8]> {
        self.0.payload().to_bytes()
    }

    /// Its number at its publisher, and whose it is.
    pub fn number(&self) -> Option<(i64, [u8; 16])> {
        self.0.attachment().and_then(|attached| numbered(&attached.to_bytes()))
    }
}

impl Subscriber {
    /// Waits for a message; `None` where none came in time.
    ///
    /// # Errors
    /// [`NodeError`] where the session has ended.
    pub fn take(&self, patience: Duration) -> Result<Option<Arrived>, NodeError> {
        let sample = self.subscriber.recv_timeout(patience).map_err(failed("a topic"))?;
        Ok(sample.map(Arrived))
    }
}

/// The number and the publisher in what goes along with a message.
fn numbered(attached: &[u8]) -> Option<(i64, [u8; 16])> {
    let number = i64::from_le_bytes(*attached.first_chunk()?);
    let gid = attached.get(17..33)?.try_into().ok()?;
    (attached.len() == 33 && attached[16] == 16).then_some((number, gid))
}

#[cfg(test)]
mod tests;
