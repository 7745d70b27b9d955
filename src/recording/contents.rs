//! What is in an MCAP file: its topics, their types, how many messages, from when to when. By the index at its end where one
//! is wanted quickly ([`Contents::indexed`]), or by reading the whole file ([`Contents::counted`]), which no index deceives.

use std::collections::{BTreeMap, HashMap};

use mcap::records::{Record, op};
use serde::Serialize;

use super::bag::{Bag, Channel, Event};
use crate::source::SourceError;

/// Length of the footer's record and of what ends a file.
const TAIL: u64 = 9 + 20 + 8;

/// One topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Topic {
    pub topic: String,
    pub schema: String,
    pub encoding: String,
    pub messages: u64,
    /// Nanoseconds of the first and the last message; `None` where nothing was counted.
    pub first_ns: Option<u64>,
    pub last_ns: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// By name.
    pub topics: Vec<Topic>,
    /// The writer came to its end: the file has its index.
    pub whole: bool,
    /// Times that something was damaged and passed over.
    pub damaged: u64,
}

impl Contents {
    /// Reads the whole file at `path`.
    ///
    /// # Errors
    /// As [`Bag::advance`].
    pub fn counted(path: &str) -> Result<Contents, SourceError> {
        let mut bag = Bag::open(path)?;
        let mut counts: HashMap<u16, (u64, u64, u64)> = HashMap::new();
        while let Some(event) = bag.advance()? {
            if event == Event::Message {
                let (id, time) = (bag.message().id, bag.message().log_time);
                let (count, first, last) = counts.entry(id).or_insert((0, time, time));
                *count += 1;
                (*first, *last) = ((*first).min(time), (*last).max(time));
            }
        }
        let mut topics = BTreeMap::new();
        for (id, channel) in bag.channels() {
            // Several channels may be one topic.
            let topic = entry(&mut topics, channel);
            let Some(&(count, first, last)) = counts.get(&id) else { continue };
            topic.messages += count;
            topic.first_ns = Some(topic.first_ns.map_or(first, |other| other.min(first)));
            topic.last_ns = Some(topic.last_ns.map_or(last, |other| other.max(last)));
        }
        let whole = bag.is_whole() == Some(true);
        Ok(Contents { topics: topics.into_values().collect(), whole, damaged: bag.damaged() })
    }

    /// What the index at the end of the file at `path` says; `None` where it has none, or none that can be read.
    ///
    /// # Errors
    /// Those of reading.
    pub fn indexed(path: &str) -> Result<Option<Contents>, SourceError> {
        let mut bag = Bag::open(path)?;
        let Some(tail) = bag.size().checked_sub(TAIL) else { return Ok(None) };
        bag.go_to(tail)?;
        if bag.next_raw()? != Some(op::FOOTER) {
            return Ok(None);
        }
        let Ok(Record::Footer(footer)) = mcap::parse_record(op::FOOTER, bag.raw()) else { return Ok(None) };
        if footer.summary_start == 0 || footer.summary_start >= tail {
            return Ok(None);
        }
        bag.go_to(footer.summary_start)?;
        let mut counts = None;
        while let Some(opcode) = bag.next_raw()? {
            match opcode {
                op::SCHEMA | op::CHANNEL => {
                    let content = bag.raw().to_vec();
                    if bag.take_described(opcode, &content).is_some() {
                        return Ok(None);
                    }
                }
                op::STATISTICS => match mcap::parse_record(opcode, bag.raw()) {
                    Ok(Record::Statistics(statistics)) => counts = Some(statistics.channel_message_counts),
                    _ => return Ok(None),
                },
                op::FOOTER => break,
                _ => {}
            }
        }
        let Some(counts) = counts else { return Ok(None) };
        let mut topics = BTreeMap::new();
        for (id, channel) in bag.channels() {
            let count = counts.get(&id).copied().unwrap_or(0);
            let topic = entry(&mut topics, channel);
            topic.messages = topic.messages.saturating_add(count);
        }
        if topics.is_empty() || counts.keys().any(|id| bag.channels().all(|(known, _)| known != *id)) {
            return Ok(None);
        }
        Ok(Some(Contents { topics: topics.into_values().collect(), whole: true, damaged: 0 }))
    }

    /// [`Contents::indexed`], or [`Contents::counted`] where the file has no index.
    ///
    /// # Errors
    /// As those.
    pub fn of(path: &str) -> Result<Contents, SourceError> {
        match Contents::indexed(path)? {
            Some(contents) => Ok(contents),
            None => Contents::counted(path),
        }
    }

    pub fn find(&self, topic: &str) -> Option<&Topic> {
        self.topics.iter().find(|found| found.topic == topic)
    }

    /// Topics with their types, for messages.
    pub fn listed(&self) -> String {
        let one = |topic: &Topic| {
            let kind = if topic.schema.is_empty() { "no type" } else { &topic.schema };
            format!("{} ({kind}, {} messages)", topic.topic, topic.messages)
        };
        self.topics.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

fn entry<'a>(topics: &'a mut BTreeMap<(String, String), Topic>, channel: &Channel) -> &'a mut Topic {
    let key = (channel.topic.clone(), channel.schema.clone());
    topics.entry(key).or_insert_with(|| Topic {
        topic: channel.topic.clone(),
        schema: channel.schema.clone(),
        encoding: channel.encoding.clone(),
        ..Topic::default()
    })
}
