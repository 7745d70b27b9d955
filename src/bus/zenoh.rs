//! Features, decisions and how features stand as topics of a ROS 2 graph, `NAMESPACE/NODE/feature`, `…/decision` and
//! `…/health`, over zenoh. The session is opened with the first message, and again after a while where nobody answered.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::command::{Answer, MOST_BYTES, refusal};
use super::message::Message;
use super::transport::{SendError, Transport};
use crate::ros::config::ZenohTable;
use crate::ros::messages::{self, Header, Health, Message as _};
use crate::ros::node::{Node, NodeError, Publisher};
use crate::ros::{CdrError, encode};
use crate::sample::{EncoderVersion, Micros};

/// How features stand is told at least so often.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// Times from here on (the year 2001) are of the calendar; earlier ones are counted from a stream's start.
const CALENDAR: Micros = Micros(1_000_000_000_000_000);

/// See the module.
pub struct Zenoh {
    table: ZenohTable,
    answer: Answer,
    graph: Option<Graph>,
    told: Option<Told>,
    /// Encoder and health of the newest feature.
    newest: (EncoderVersion, Option<f32>),
}

/// Publishers in the graph. They end before the node does.
struct Graph {
    feature: Publisher,
    decision: Publisher,
    health: Publisher,
    _node: Node,
}

/// What was last told of how features stand.
#[derive(Clone, Copy, PartialEq)]
struct Told {
    at: Instant,
    stale: bool,
    encoder: EncoderVersion,
}

impl Zenoh {
    /// A node as `table` says; it is there from the first message on. Commands go to `answer`, where the table allows them.
    pub fn new(table: &ZenohTable, answer: Answer) -> Self {
        Zenoh { table: table.clone(), answer, graph: None, told: None, newest: Default::default() }
    }

    /// Times since the start of a stream mean nothing to others: such a sample has the time of its arrival.
    fn header(&self, time: Micros, age: Duration) -> Header {
        let arrived = SystemTime::now().checked_sub(age).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let stamp = if time >= CALENDAR { time } else { Micros(arrived.unwrap_or_default().as_micros() as u64) };
        Header { stamp: stamp.into(), frame_id: self.table.frame.clone() }
    }

    fn graph(&mut self) -> Result<&mut Graph, NodeError> {
        if self.graph.is_none() {
            self.graph = Some(Graph::open(&self.table, &self.answer)?);
        }
        Ok(self.graph.as_mut().expect("it was opened"))
    }

    fn send_health(&mut self, stale: bool, age: Duration) -> Result<(), SendError> {
        let (encoder, health) = self.newest;
        let told = Told { at: Instant::now(), stale, encoder };
        let same = |last: Told| Told { at: told.at, ..last } == told && told.at - last.at < HEALTH_EVERY;
        if self.told.is_some_and(same) {
            return Ok(());
        }
        let message = Health {
            header: self.header(Micros(0), Duration::ZERO),
            stale,
            age: age.into(),
            encoder: encoder.0,
            health: health.unwrap_or(f32::NAN),
        };
        let bytes = encode(&message).map_err(unwritable)?;
        self.graph().map_err(unsent)?.health.publish(bytes).map_err(unsent)?;
        self.told = Some(told);
        Ok(())
    }
}

impl Graph {
    fn open(table: &ZenohTable, answer: &Answer) -> Result<Self, NodeError> {
        let mut node = Node::open(table)?;
        if table.commands {
            let answer = answer.clone();
            let bounded = move |command: &[u8]| match command.len() {
                0..=MOST_BYTES => answer(command),
                _ => refusal("a command is no longer than 4096 bytes"),
            };
            node.answer(&table.topic("command"), bounded)?;
        }
        Ok(Graph {
            feature: node.publisher(&table.topic("feature"), messages::Feature::TYPE)?,
            decision: node.publisher(&table.topic("decision"), messages::Decision::TYPE)?,
            health: node.publisher(&table.topic("health"), Health::TYPE)?,
            _node: node,
        })
    }
}

fn unsent(problem: NodeError) -> SendError {
    SendError::Failed(problem.to_string())
}

fn unwritable(problem: CdrError) -> SendError {
    SendError::Failed(problem.to_string())
}

impl Transport for Zenoh {
    fn send(&mut self, message: &Arc<Message>) -> Result<(), SendError> {
        match &**message {
            Message::Feature(feature) => {
                let bytes = encode(&feature.to_ros(self.header(feature.time, feature.age))).map_err(unwritable)?;
                self.graph().map_err(unsent)?.feature.publish(bytes).map_err(unsent)?;
                self.newest = (feature.encoder, feature.health);
                self.send_health(false, feature.age)
            }
            Message::Decision(decision) => {
                let bytes = encode(&decision.to_ros(self.header(decision.time, decision.age))).map_err(unwritable)?;
                self.graph().map_err(unsent)?.decision.publish(bytes).map_err(unsent)
            }
            Message::Stale(stale) => self.send_health(true, stale.age),
        }
    }

    fn finish(&mut self) {
        // Others see at once that the node has left, rather than when its session times out.
        self.graph = None;
    }
}
