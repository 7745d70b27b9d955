//! An MCAP file from front to back: messages with their topics, whatever its index says of it. One chunk is in memory at a
//! time. A file that was cut off, as where its writer was killed, ends where it ends; a damaged chunk is passed over.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use mcap::MAGIC;
use mcap::records::{Record, op};

use super::chunk::{Trouble, split, unpack};
use crate::source::SourceError;

/// A record outside of a chunk that says it is longer is taken for damage.
const MOST: u64 = 1 << 30;
/// Bytes of opcode and length before each record.
const HEAD: usize = 9;

/// What the messages of a channel are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    pub topic: String,
    /// How messages are written, such as `cdr`.
    pub encoding: String,
    /// Name of their type, such as `sensor_msgs/msg/Image`; empty where the file does not say.
    pub schema: String,
    /// How the type is described, such as `ros2msg`.
    pub schema_encoding: String,
}

/// What was found next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message: see [`Bag::message`].
    Message,
    /// A metadata record: see [`Bag::metadata`].
    Metadata,
    /// Something was damaged and passed over: see [`Bag::damage`].
    Damage,
}

/// Where a message's bytes lie.
#[derive(Clone, Copy, Debug)]
enum Place {
    Record,
    Chunk { start: usize },
}

/// A message.
#[derive(Debug)]
pub struct Message<'a> {
    pub id: u16,
    pub channel: &'a Channel,
    /// Nanoseconds, of the clock of whoever wrote the file.
    pub log_time: u64,
    pub data: &'a [u8],
}

/// See the module.
pub struct Bag {
    path: String,
    input: BufReader<File>,
    /// Where `input` stands, and the length of the file when it was opened.
    at: u64,
    size: u64,
    schemas: HashMap<u16, (String, String)>,
    channels: HashMap<u16, Channel>,
    nothing: Channel,
    /// The newest record outside of a chunk.
    record: Vec<u8>,
    chunk: Vec<u8>,
    /// Bytes of the chunk that were looked at.
    done: usize,
    message: (u16, u64, Place),
    metadata: (String, BTreeMap<String, String>),
    damaged: u64,
    damage: String,
    whole: Option<bool>,
}

impl Bag {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// A file that cannot be read or is no MCAP file.
    pub fn open(path: &str) -> Result<Bag, SourceError> {
        let io = |e| SourceError::io(path, e);
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut bag = Bag {
            path: path.to_owned(),
            input: BufReader::new(file),
            at: 0,
            size,
            schemas: HashMap::new(),
            channels: HashMap::new(),
            nothing: Channel::default(),
            record: Vec::new(),
            chunk: Vec::new(),
            done: 0,
            message: (0, 0, Place::Record),
            metadata: Default::default(),
            damaged: 0,
            damage: String::new(),
            whole: None,
        };
        let is_mcap = bag.fill(MAGIC.len() as u64)? && bag.record == MAGIC;
        if !is_mcap {
            let remedy =
                "give an .mcap file; `ros2 bag convert` makes one of a .db3 bag, `rosbags-convert` of a .bag of ROS 1";
            return Err(SourceError::file(path, "it is no MCAP file", remedy));
        }
        Ok(bag)
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Channels that were seen so far.
    pub fn channels(&self) -> impl Iterator<Item = (u16, &Channel)> {
        self.channels.iter().map(|(id, channel)| (*id, channel))
    }

    /// Times that something was damaged and passed over, so far.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// What was damaged last.
    pub fn damage(&self) -> &str {
        &self.damage
    }

    /// After the end: the writer had come to an end, too. `None` before.
    pub fn is_whole(&self) -> Option<bool> {
        self.whole
    }

    /// The message that was found.
    pub fn message(&self) -> Message<'_> {
        let (id, log_time, place) = self.message;
        let body = match place {
            Place::Record => self.record.as_slice(),
            Place::Chunk { start } => self.chunk.get(start..self.done).unwrap_or_default(),
        };
        let data = body.get(MESSAGE_HEADER..).unwrap_or_default();
        Message { id, channel: self.channels.get(&id).unwrap_or(&self.nothing), log_time, data }
    }

    /// The metadata record that was found: its name and what it says.
    pub fn metadata(&self) -> (&str, &BTreeMap<String, String>) {
        (&self.metadata.0, &self.metadata.1)
    }

    /// Goes on to the next message, metadata record or damage; `None` at the end.
    ///
    /// # Errors
    /// Those of reading, and a chunk that is compressed as nobody here knows.
    pub fn advance(&mut self) -> Result<Option<Event>, SourceError> {
        while self.whole.is_none() {
            if self.done < self.chunk.len() {
                if let Some(event) = self.in_chunk() {
                    return Ok(Some(event));
                }
                continue;
            }
            let Some((opcode, length)) = self.head()? else {
                self.whole = Some(false);
                break;
            };
            match opcode {
                op::HEADER | op::SCHEMA | op::CHANNEL | op::MESSAGE | op::CHUNK | op::METADATA => {}
                op::DATA_END => {
                    self.whole = Some(true);
                    break;
                }
                // What is there twice (indexes), and attachments: not even read.
                _ => {
                    self.skip(length)?;
                    continue;
                }
            }
            if !self.fill(length)? {
                self.whole = Some(false);
                break;
            }
            let event = match opcode {
                op::CHUNK => self.take_chunk()?,
                _ => self.take_record(opcode),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Opcode and length of the next record of the file; `None` at its end.
    fn head(&mut self) -> Result<Option<(u8, u64)>, SourceError> {
        if !self.fill(HEAD as u64)? {
            return Ok(None);
        }
        let mut length = [0; 8];
        length.copy_from_slice(&self.record[1..]);
        Ok(Some((self.record[0], u64::from_le_bytes(length))))
    }

    /// Reads `length` bytes into `record`; `false` where the file has no such bytes.
    fn fill(&mut self, length: u64) -> Result<bool, SourceError> {
        self.record.clear();
        if length > MOST || length > self.size.saturating_sub(self.at) {
            return Ok(false);
        }
        let read = (&mut self.input).take(length).read_to_end(&mut self.record);
        self.at += read.map_err(|e| SourceError::io(&self.path, e))? as u64;
        Ok(self.record.len() as u64 == length)
    }

    /// Passes over `length` bytes; the file may end in them.
    fn skip(&mut self, length: u64) -> Result<(), SourceError> {
        let to = self.at.saturating_add(length).min(self.size);
        // Never further than the file is long, which fits.
        self.input.seek_relative((to - self.at) as i64).map_err(|e| SourceError::io(&self.path, e))?;
        self.at = to;
        Ok(())
    }

    /// Goes to `at`, where a record begins.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn go_to(&mut self, at: u64) -> Result<(), SourceError> {
        self.at = at.min(self.size);
        self.input.seek(SeekFrom::Start(self.at)).map_err(|e| SourceError::io(&self.path, e))?;
        Ok(())
    }

    /// The next record, whatever it is: its opcode; [`Bag::raw`] has its content. `None` where there is no whole one.
    pub(super) fn next_raw(&mut self) -> Result<Option<u8>, SourceError> {
        let Some((opcode, length)) = self.head()? else { return Ok(None) };
        Ok(self.fill(length)?.then_some(opcode))
    }

    pub(super) fn raw(&self) -> &[u8] {
        &self.record
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Unpacks the chunk in `record`.
    fn take_chunk(&mut self) -> Result<Option<Event>, SourceError> {
        self.done = 0;
        self.chunk.clear();
        let result = match parse(op::CHUNK, &self.record) {
            Ok(Record::Chunk { header, data }) => unpack(&header, &data, &mut self.chunk),
            Ok(_) => Err(Trouble::Damaged("no chunk".into())),
            Err(problem) => Err(Trouble::Damaged(problem)),
        };
        match result {
            Ok(()) => Ok(None),
            Err(Trouble::Refused(problem)) => {
                let remedy = "write it anew with `mcap compress --compression zstd`, in chunks of some megabytes";
                Err(SourceError::file(&self.path, problem, remedy))
            }
            Err(Trouble::Damaged(problem)) => {
                self.chunk.clear();
                Ok(Some(self.note(problem)))
            }
        }
    }

    fn note(&mut self, problem: String) -> Event {
        self.damaged += 1;
        self.damage = problem;
        Event::Damage
    }

    /// Takes the next record of the chunk.
    fn in_chunk(&mut self) -> Option<Event> {
        let Some((opcode, content, rest)) = split(&self.chunk[self.done..]) else {
            self.done = self.chunk.len();
            return Some(self.note("a chunk ends within a record".into()));
        };
        let end = self.chunk.len() - rest.len();
        let start = end - content.len();
        self.done = end;
        if opcode == op::MESSAGE {
            return self.take_message(Place::Chunk { start });
        }
        let chunk = std::mem::take(&mut self.chunk);
        let event = self.take_described(opcode, &chunk[start..end]);
        self.chunk = chunk;
        event
    }

    /// Takes what is in `record`.
    fn take_record(&mut self, opcode: u8) -> Option<Event> {
        if opcode == op::MESSAGE {
            return self.take_message(Place::Record);
        }
        let record = std::mem::take(&mut self.record);
        let event = self.take_described(opcode, &record);
        self.record = record;
        event
    }

    fn take_message(&mut self, place: Place) -> Option<Event> {
        let body = match place {
            Place::Record => self.record.as_slice(),
            Place::Chunk { start } => &self.chunk[start..self.done],
        };
        let Some((id, log_time)) = message_header(body) else {
            return Some(self.note("a message is shorter than its header".into()));
        };
        if !self.channels.contains_key(&id) {
            return Some(self.note(format!("a message is of channel {id}, which nothing describes")));
        }
        self.message = (id, log_time, place);
        Some(Event::Message)
    }

    /// Takes a record that describes something.
    pub(super) fn take_described(&mut self, opcode: u8, content: &[u8]) -> Option<Event> {
        // Nothing else is for us, and the library's reading of attachments trusts their lengths.
        if !matches!(opcode, op::SCHEMA | op::CHANNEL | op::METADATA) {
            return None;
        }
        match parse(opcode, content) {
            Ok(Record::Schema { header, .. }) => {
                self.schemas.insert(header.id, (header.name, header.encoding));
            }
            Ok(Record::Channel(channel)) => {
                let (schema, schema_encoding) = self.schemas.get(&channel.schema_id).cloned().unwrap_or_default();
                let encoding = channel.message_encoding;
                self.channels.insert(channel.id, Channel { topic: channel.topic, encoding, schema, schema_encoding });
            }
            Ok(Record::Metadata(metadata)) => {
                self.metadata = (metadata.name, metadata.metadata);
                return Some(Event::Metadata);
            }
            Ok(_) => {}
            Err(problem) => return Some(self.note(problem)),
        }
        None
    }
}

/// A record by the library, which takes memory on the word of a text's length: those are looked at before.
fn parse(opcode: u8, content: &[u8]) -> Result<Record<'_>, String> {
    match lengths_hold(opcode, content) {
        Some(()) => mcap::parse_record(opcode, content).map_err(|problem| problem.to_string()),
        None => Err("a record is shorter than the texts in it".into()),
    }
}

/// Whether the texts of a record, and those of its map, lie within it.
fn lengths_hold(opcode: u8, content: &[u8]) -> Option<()> {
    let (fixed, texts, has_map) = match opcode {
        op::SCHEMA => (2, 2, false),
        op::CHANNEL => (4, 2, true),
        op::METADATA => (0, 1, true),
        op::CHUNK => (28, 1, false),
        _ => return Some(()),
    };
    let length = |rest: &mut &[u8]| {
        let (length, after) = rest.split_first_chunk::<4>()?;
        *rest = after;
        Some(u32::from_le_bytes(*length) as usize)
    };
    let text = |rest: &mut &[u8]| {
        let length = length(rest)?;
        *rest = rest.get(length..)?;
        Some(())
    };
    let mut rest = content.get(fixed..)?;
    (0..texts).try_for_each(|_| text(&mut rest))?;
    if has_map {
        let bytes = length(&mut rest)?;
        let begins = rest.len();
        while begins - rest.len() < bytes {
            text(&mut rest)?;
            text(&mut rest)?;
        }
    }
    Some(())
}

/// Bytes of a message before its data: channel, sequence, two times.
const MESSAGE_HEADER: usize = 2 + 4 + 8 + 8;

/// Channel and log time of a message.
fn message_header(body: &[u8]) -> Option<(u16, u64)> {
    let (id, rest) = body.get(..MESSAGE_HEADER)?.split_first_chunk::<2>()?;
    let (_, rest) = rest.split_first_chunk::<4>()?;
    let (log_time, _) = rest.split_first_chunk::<8>()?;
    Some((u16::from_le_bytes(*id), u64::from_le_bytes(*log_time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_claims_more_than_its_record_holds_is_found_before_memory_is_taken() {
        let text = |length: u32| [&length.to_le_bytes()[..], b"abc"].concat();
        let schema = |length| [&[1, 0][..], &text(3), &text(length), &[0; 4]].concat();
        assert!(parse(op::SCHEMA, &schema(3)).is_ok());
        assert!(parse(op::SCHEMA, &schema(u32::MAX)).is_err() && parse(op::SCHEMA, &[1]).is_err());
        let channel =
            |length| [&[1, 0, 1, 0][..], &text(3), &text(3), &14u32.to_le_bytes(), &text(3), &text(length)].concat();
        assert!(parse(op::CHANNEL, &channel(3)).is_ok() && parse(op::CHANNEL, &channel(1 << 30)).is_err());
    }
}
