//! `mcap:FILE.mcap[,FILE.mcap...]?topic=/camera/image_raw`: what ROS 2 recorded, one topic of it, as a stream.
//!
//! Images (`sensor_msgs/msg/Image`, `CompressedImage`) are samples as they are; readings of `sensor_msgs/msg/Imu` are cut
//! into windows. Several files are one recording that was split. Time is that of the messages' headers, or of the recording
//! where a header has none. Recordings of our own (see [`crate::recording`]) give each sample as it was taken in.

use super::ros::pixels;
use super::ros::windows::{self, Windows};
use super::uri::Uri;
use super::{Record, Source, SourceError, images};
use crate::recording::bag::{Bag, Event};
use crate::recording::contents::{Contents, Topic};
use crate::recording::{ABOUT, CDR, CLASSES, EXPECTED, IMAGES, IN_ORDER, SAMPLES, SOUND_RATE, WINDOWS};
use crate::ros::{decode, messages};
use crate::sample::Micros;
use own::{Own, Pairing};

mod own;

/// A longer pause than this, and than five steps, parts neighbours.
const PAUSE: u64 = 1_000_000;

/// What a topic's messages are to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    Compressed,
    Imu,
    OwnImage,
    OwnWindow,
}

impl Kind {
    fn of(topic: &Topic) -> Option<Kind> {
        if topic.encoding != CDR {
            return None;
        }
        Some(match (topic.schema.as_str(), topic.topic.as_str()) {
            ("sensor_msgs/msg/Image", IMAGES) => Kind::OwnImage,
            ("nestling_msgs/msg/Window", WINDOWS) => Kind::OwnWindow,
            ("sensor_msgs/msg/Image", _) => Kind::Image,
            ("sensor_msgs/msg/CompressedImage", _) => Kind::Compressed,
            ("sensor_msgs/msg/Imu", _) => Kind::Imu,
            _ => return None,
        })
    }
}

/// One topic of a recording, from front to back.
pub struct McapSource {
    paths: Vec<String>,
    topic: Topic,
    kind: Kind,
    /// Messages of the topic in all files, as these say.
    messages: u64,
    /// Files that end where their writer was cut off.
    cut: usize,
    classes: Vec<String>,
    sound_rate: Option<u32>,
    in_order: bool,
    expected: Option<u64>,
    bag: Option<Bag>,
    /// Files that were opened in this pass.
    opened: usize,
    clock: Clock,
    own: Pairing,
    windows: Windows,
    /// The first image was grey.
    grey: Option<bool>,
    scratch: Vec<u8>,
    given: u64,
    skipped: u64,
}

impl McapSource {
    /// Opens the files that `uri` names.
    ///
    /// # Errors
    /// A file that is none, a topic that is not there or cannot be read, several where none is named.
    pub fn open(uri: &Uri) -> Result<McapSource, SourceError> {
        let all = uri.paths.iter().map(|path| Contents::of(path)).collect::<Result<Vec<_>, _>>()?;
        let (topic, kind) = choose(uri, &all[0])?;
        let of_topic = |contents: &Contents| contents.find(&topic.topic).map_or(0, |topic| topic.messages);
        let messages = all.iter().map(of_topic).fold(0, u64::saturating_add);
        let about = about(&uri.paths[0])?;
        let q = &uri.query;
        if kind != Kind::Imu && (q.window.is_some() || q.stride.is_some()) {
            let problem = format!("window and stride are given, and {} is no {}", topic.topic, messages_of(Kind::Imu));
            return Err(SourceError::uri(&uri.text, problem, "leave them out, or name another topic"));
        }
        Ok(McapSource {
            paths: uri.paths.clone(),
            topic,
            kind,
            messages,
            cut: all.iter().filter(|contents| !contents.whole).count(),
            classes: about.classes,
            sound_rate: about.sound_rate.filter(|_| kind == Kind::OwnWindow),
            in_order: about.in_order,
            expected: about.expected.filter(|_| matches!(kind, Kind::OwnImage | Kind::OwnWindow)),
            bag: None,
            opened: 0,
            clock: Clock::default(),
            own: Pairing::default(),
            windows: Windows::new(q.window, q.stride),
            grey: None,
            scratch: Vec::new(),
            given: 0,
            skipped: 0,
        })
    }

    /// What the message that was found makes of the record.
    fn take(&mut self, record: &mut Record) -> Result<Taken, SourceError> {
        let McapSource { bag, kind, topic, clock, own, windows, grey, scratch, .. } = self;
        let Some(bag) = bag else { return Ok(Taken::Nothing) };
        let message = bag.message();
        let channel = message.channel;
        let ours = channel.topic == topic.topic;
        let is_own = matches!(kind, Kind::OwnImage | Kind::OwnWindow);
        if is_own && channel.topic == SAMPLES {
            return Ok(if own.note(message.data) { Taken::Nothing } else { Taken::Damaged });
        }
        // Another file of the recording may have another type under the same name.
        if !ours || channel.schema != topic.schema || channel.encoding != topic.encoding {
            return Ok(Taken::Nothing);
        }
        let refused = |problem: String, remedy: &str| {
            SourceError::file(bag.path(), format!("topic {}: {problem}", topic.topic), remedy)
        };
        let of_image = |image: &messages::Image, record: &mut Record| match pixels::read(image, record) {
            Ok(channels) => Ok(channels),
            Err(pixels::Trouble::Unknown(encoding)) => {
                let remedy =
                    "have the camera's driver publish rgb8, bgr8 or mono8 (image_proc makes these of Bayer patterns)";
                Err(refused(format!("images of encoding '{encoding}' are not read"), remedy))
            }
            Err(pixels::Trouble::Damaged) => Ok(None),
        };
        let stamped = |header: &messages::Header| match header.stamp.micros() {
            Some(Micros(time)) if time > 0 => time,
            _ => message.log_time / 1000,
        };
        let (time, channels) = match kind {
            Kind::OwnImage => {
                let Ok(image) = decode::<messages::Image>(message.data) else { return Ok(Taken::Damaged) };
                return Ok(match own.take(&image.header) {
                    Own::Known(known) if of_image(&image, record)?.is_some() => {
                        known.tell(record);
                        Taken::Sample
                    }
                    Own::NotLearned => Taken::Nothing,
                    _ => Taken::Damaged,
                });
            }
            Kind::OwnWindow => {
                let Ok(window) = decode::<messages::Window>(message.data) else { return Ok(Taken::Damaged) };
                return Ok(match own.take(&window.header) {
                    Own::Known(known) if own::readings(&window, record) => {
                        known.tell(record);
                        Taken::Sample
                    }
                    Own::NotLearned => Taken::Nothing,
                    _ => Taken::Damaged,
                });
            }
            Kind::Image => {
                let Ok(image) = decode::<messages::Image>(message.data) else { return Ok(Taken::Damaged) };
                (stamped(&image.header), of_image(&image, record)?)
            }
            Kind::Compressed => {
                let Ok(image) = decode::<messages::CompressedImage>(message.data) else { return Ok(Taken::Damaged) };
                if image.format.contains("compressedDepth") {
                    return Err(refused("images of depth are not read".into(), "name a topic of a camera"));
                }
                (stamped(&image.header), images::decode(image.data, scratch, record))
            }
            Kind::Imu => {
                let Ok(reading) = decode::<messages::Imu>(message.data) else { return Ok(Taken::Damaged) };
                let Some(axes) = windows::axes(&reading) else { return Ok(Taken::Damaged) };
                let (time, segment) = clock.at(stamped(&reading.header));
                return Ok(if windows.add(axes, time, segment, record) { Taken::Sample } else { Taken::Nothing });
            }
        };
        let Some(channels) = channels else { return Ok(Taken::Damaged) };
        images::with_channels(channels, *grey.get_or_insert(channels == 1), record);
        (record.time, record.segment) = clock.at(time);
        (record.group, record.label) = (record.segment, None);
        record.beside.clear();
        Ok(Taken::Sample)
    }
}

/// What came of a message.
enum Taken {
    Sample,
    Nothing,
    Damaged,
}

/// The topic that `uri` names, or the only one that gives samples.
fn choose(uri: &Uri, contents: &Contents) -> Result<(Topic, Kind), SourceError> {
    let path = &uri.paths[0];
    let wrong = |problem: String, remedy: String| SourceError::file(path, problem, remedy);
    if contents.topics.is_empty() {
        return Err(wrong("it has no topics".into(), "record again; `nestling inspect FILE.mcap` lists topics".into()));
    }
    let there = || format!("there are {}", contents.listed());
    if let Some(name) = &uri.query.topic {
        let topic = contents
            .find(name)
            .ok_or_else(|| wrong(format!("no topic '{name}'"), format!("name one of its topics; {}", there())))?;
        let kind = Kind::of(topic).ok_or_else(|| {
            let schema = if topic.schema.is_empty() { "no type" } else { &topic.schema };
            let problem = format!("topic {name} has {schema} in '{}'", topic.encoding);
            let kinds = "sensor_msgs/msg/Image, CompressedImage or Imu of ROS 2 (cdr)";
            wrong(problem, format!("name a topic of {kinds}; {}", there()))
        })?;
        return Ok((topic.clone(), kind));
    }
    let mut fitting: Vec<_> = contents.topics.iter().filter_map(|topic| Some((topic, Kind::of(topic)?))).collect();
    // A run of our own may lie in one file with the topics of a robot.
    if let Some(own) = fitting.iter().find(|(_, kind)| matches!(kind, Kind::OwnImage | Kind::OwnWindow)).copied() {
        fitting = vec![own];
    }
    match fitting.as_slice() {
        [(topic, kind)] => Ok(((*topic).clone(), *kind)),
        [] => {
            let problem = "no topic has images or readings of an IMU".to_owned();
            Err(wrong(
                problem,
                format!("give a recording with sensor_msgs/msg/Image, CompressedImage or Imu; {}", there()),
            ))
        }
        several => {
            let name = |(t, _): &(&Topic, Kind)| format!("{} ({}, {} messages)", t.topic, t.schema, t.messages);
            let names: Vec<_> = several.iter().map(name).collect();
            let problem = format!("several topics give samples: {}", names.join(", "));
            Err(wrong(problem, format!("name one, for example mcap:{path}?topic={}", several[0].0.topic)))
        }
    }
}

fn messages_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Image | Kind::OwnImage => "sensor_msgs/msg/Image",
        Kind::Compressed => "sensor_msgs/msg/CompressedImage",
        Kind::Imu => "sensor_msgs/msg/Imu",
        Kind::OwnWindow => "nestling_msgs/msg/Window",
    }
}

/// What a recording of ours says of its source.
struct About {
    classes: Vec<String>,
    sound_rate: Option<u32>,
    in_order: bool,
    expected: Option<u64>,
}

/// What stands before the first message of the file at `path`.
fn about(path: &str) -> Result<About, SourceError> {
    let mut about = About { classes: Vec::new(), sound_rate: None, in_order: true, expected: None };
    let mut bag = Bag::open(path)?;
    while bag.advance()? == Some(Event::Metadata) {
        if let (ABOUT, said) = bag.metadata() {
            let names = said.get(CLASSES).and_then(|names| serde_json::from_str(names).ok());
            about.classes = names.unwrap_or_default();
            about.sound_rate = said.get(SOUND_RATE).and_then(|rate| rate.parse().ok());
            about.expected = said.get(EXPECTED).and_then(|samples| samples.parse().ok());
            about.in_order = said.get(IN_ORDER).is_none_or(|is| is != "false");
        }
    }
    Ok(about)
}

/// Stamps as times from the first on, and where they part neighbours.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    first: Option<u64>,
    last: Option<u64>,
    step: u64,
    segment: u32,
}

impl Clock {
    /// Something before the next stamp is missing.
    fn part(&mut self) {
        self.segment += u32::from(self.first.is_some());
    }

    fn at(&mut self, stamp: u64) -> (Micros, u32) {
        let first = *self.first.get_or_insert(stamp);
        let last = self.last.replace(stamp);
        let step = last.and_then(|last| stamp.checked_sub(last));
        if last.is_some() && step.is_none_or(|step| step > PAUSE.max(self.step.saturating_mul(5))) {
            self.part();
        }
        // Of a slow log, the second step is no pause any more.
        self.step = step.unwrap_or(self.step);
        (Micros(stamp.saturating_sub(first)), self.segment)
    }
}

impl Source for McapSource {
    fn describe(&self) -> String {
        let McapSource { paths, topic, messages, cut, .. } = self;
        let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
        let cut = if *cut > 0 { ", cut off while it was written" } else { "" };
        format!("mcap: {}{more}, topic {} ({}), {messages} messages{cut}", paths[0], topic.topic, topic.schema)
    }

    fn len_hint(&self) -> Option<u64> {
        match self.kind {
            Kind::Imu => Some(self.windows.count_of(self.messages)),
            _ => self.expected.or(Some(self.messages)),
        }
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        loop {
            let Some(bag) = &mut self.bag else {
                let Some(path) = self.paths.get(self.opened) else {
                    if self.given == 0 {
                        let McapSource { topic, messages, skipped, .. } = &*self;
                        let problem = format!(
                            "no sample of topic {} can be read, of {messages} messages that the index tells of; {skipped} are damaged",
                            topic.topic
                        );
                        let remedy = "see what is there with `nestling inspect`; copy the file anew, or record again";
                        return Err(SourceError::file(&self.paths[0], problem, remedy));
                    }
                    return Ok(false);
                };
                self.bag = Some(Bag::open(path)?);
                self.opened += 1;
                continue;
            };
            let taken = match bag.advance()? {
                Some(Event::Message) => self.take(record)?,
                Some(Event::Metadata) => continue,
                Some(Event::Damage) => Taken::Damaged,
                None => {
                    if bag.is_whole() == Some(false) {
                        // What comes in the next file does not follow at once.
                        self.clock.part();
                    }
                    self.bag = None;
                    continue;
                }
            };
            match taken {
                Taken::Sample => {
                    self.given += 1;
                    return Ok(true);
                }
                Taken::Nothing => {}
                Taken::Damaged => {
                    self.skipped += 1;
                    self.clock.part();
                    self.own.lose();
                }
            }
        }
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.bag = None;
        self.opened = 0;
        self.clock = Clock::default();
        self.own = Pairing::default();
        self.windows.clear();
        Ok(())
    }

    fn in_order(&self) -> bool {
        self.in_order
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn class_names(&self) -> &[String] {
        &self.classes
    }

    fn sound_rate(&self) -> Option<u32> {
        self.sound_rate
    }
}
