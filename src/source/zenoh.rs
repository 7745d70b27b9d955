//! `zenoh:/camera/image_raw`: a topic of a ROS 2 graph over zenoh, whose messages are samples: images as they are
//! (`sensor_msgs/msg/Image`, `type=compressed`: `CompressedImage`), readings of an IMU (`type=imu`) cut into windows.
//!
//! Only the newest messages are kept for whoever reads; those that others published and that never came here are counted with the
//! damaged ones. A topic that is silent is an error after a while, and whoever reads opens it again.

use std::time::{Duration, Instant};

use super::query::Message;
use super::ros::pixels::{self, Trouble};
use super::ros::windows::{self, Windows};
use super::uri::Uri;
use super::{Record, Source, SourceError, images};
use crate::ros::config::ZenohTable;
use crate::ros::messages::{CompressedImage, Header, Image, Imu, Message as _};
use crate::ros::node::{Arrived, Node, NodeError, Subscriber};
use crate::ros::{Type, decode};
use crate::sample::Micros;

/// A topic without a message for so long is taken to have ended.
const PATIENCE: Duration = Duration::from_secs(2);
/// Its publisher is found first.
const FIRST_PATIENCE: Duration = Duration::from_secs(6);
/// Images that may wait; of more the oldest go. A reading of an IMU is small, and a window wants all of them.
const IMAGES: usize = 2;
const READINGS: usize = 1024;
/// A longer pause parts neighbours in time.
const PAUSE: Duration = Duration::from_secs(1);

/// A topic that is read.
pub struct Topic {
    name: String,
    kind: Message,
    subscriber: Subscriber,
    _node: Node,
    numbers: Numbers,
    clock: Clock,
    windows: Windows,
    /// The first image was grey.
    grey: Option<bool>,
    scratch: Vec<u8>,
    came: bool,
    skipped: u64,
}

impl Topic {
    /// Takes a place in the graph and listens.
    ///
    /// # Errors
    /// Where no router answers, or the URI says what cannot be.
    pub fn open(uri: &Uri) -> Result<Self, SourceError> {
        let (name, q) = (&uri.paths[0], &uri.query);
        let mut table = ZenohTable { node: "nestling_source".into(), ..ZenohTable::default() };
        table.domain = q.domain.unwrap_or(table.domain);
        if let Some(connect) = &q.connect {
            table.connect = vec![connect.clone()];
        }
        let wrong =
            |(key, value, wanted)| SourceError::uri(&uri.text, format!("{key} is {value}"), format!("give {wanted}"));
        table.check().map_err(wrong)?;
        let is_name = name.strip_prefix('/').is_some_and(|parts| parts.split('/').all(crate::ros::config::is_name));
        if !is_name {
            let remedy = "write a topic as `ros2 topic list` does, for example zenoh:/camera/image_raw";
            return Err(SourceError::uri(&uri.text, format!("{name} is no name of a topic"), remedy));
        }
        let kind = q.message.unwrap_or_default();
        if kind != Message::Imu && (q.window.is_some() || q.stride.is_some()) {
            let problem = "window and stride are given, and images are not cut into windows";
            return Err(SourceError::uri(&uri.text, problem, "leave them out, or say type=imu"));
        }
        let (of, depth): (&Type, usize) = match kind {
            Message::Image => (Image::TYPE, IMAGES),
            Message::Compressed => (CompressedImage::TYPE, IMAGES),
            Message::Imu => (Imu::TYPE, READINGS),
        };
        let refused = |problem: NodeError| {
            SourceError::file(name, problem.to_string(), "see that the router runs, and which it is")
        };
        let mut node = Node::open(&table).map_err(refused)?;
        let subscriber = node.subscriber(name, of, depth).map_err(refused)?;
        Ok(Topic {
            name: name.clone(),
            kind,
            subscriber,
            _node: node,
            numbers: Numbers::default(),
            clock: Clock::default(),
            windows: Windows::new(q.window, q.stride),
            grey: None,
            scratch: Vec::new(),
            came: false,
            skipped: 0,
        })
    }

    /// Fills `record` from a message; `false` where that gives no sample.
    fn take(&mut self, arrived: &Arrived, record: &mut Record) -> Result<bool, SourceError> {
        let bytes = arrived.message();
        let taken = match self.kind {
            Message::Image => match decode::<Image>(&bytes) {
                Ok(image) => match pixels::read(&image, record) {
                    Ok(channels) => channels.map(|channels| (image.header, channels)),
                    Err(Trouble::Damaged) => None,
                    Err(Trouble::Unknown(encoding)) => {
                        let remedy = "have the camera's driver publish rgb8, bgr8 or mono8";
                        return Err(SourceError::file(&self.name, format!("images of encoding '{encoding}'"), remedy));
                    }
                },
                Err(_) => None,
            },
            Message::Compressed => match decode::<CompressedImage>(&bytes) {
                Ok(image) => {
                    images::decode(image.data, &mut self.scratch, record).map(|channels| (image.header, channels))
                }
                Err(_) => None,
            },
            Message::Imu => {
                let reading = decode::<Imu>(&bytes).ok();
                let Some((axes, imu)) = reading.and_then(|imu| Some((windows::axes(&imu)?, imu))) else {
                    self.skipped += 1;
                    return Ok(false);
                };
                let (time, segment) = self.clock.at(&imu.header);
                return Ok(self.windows.add(axes, time, segment, record));
            }
        };
        let Some((header, channels)) = taken else {
            self.skipped += 1;
            return Ok(false);
        };
        images::with_channels(channels, *self.grey.get_or_insert(channels == 1), record);
        (record.time, record.segment) = self.clock.at(&header);
        (record.group, record.label) = (record.segment, None);
        record.beside.clear();
        Ok(true)
    }
}

impl Source for Topic {
    fn describe(&self) -> String {
        format!("zenoh: topic {}", self.name)
    }

    fn len_hint(&self) -> Option<u64> {
        None
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        let mut until = Instant::now() + if self.came { PATIENCE } else { FIRST_PATIENCE };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let ended = |problem: NodeError| SourceError::file(&self.name, problem.to_string(), "start it again");
            let Some(arrived) = self.subscriber.take(left).map_err(ended)? else {
                let remedy = "see by `ros2 topic hz` whether anyone publishes it; type= and domain= must be right";
                return Err(SourceError::file(&self.name, "no message came in time", remedy));
            };
            self.skipped += self.numbers.missing(arrived.number());
            // Readings come without a sample until a window is full.
            if !self.came || self.kind == Message::Imu {
                (self.came, until) = (true, Instant::now() + PATIENCE);
            }
            if self.take(&arrived, record)? {
                return Ok(true);
            }
        }
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        Err(SourceError::CannotRewind(format!("zenoh:{}", self.name)))
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// The numbers of messages at their publisher.
#[derive(Default)]
struct Numbers {
    last: Option<(i64, [u8; 16])>,
}

impl Numbers {
    /// How many messages are missing before this one.
    fn missing(&mut self, number: Option<(i64, [u8; 16])>) -> u64 {
        let Some((number, whose)) = number else { return 0 };
        match self.last.replace((number, whose)) {
            Some((last, same)) if same == whose => number.saturating_sub(last).saturating_sub(1).max(0) as u64,
            _ => 0,
        }
    }
}

/// Stamps of headers as times; those without one have the time of their arrival.
#[derive(Default)]
struct Clock {
    begun: Option<Instant>,
    last: Option<Micros>,
    segment: u32,
}

impl Clock {
    fn at(&mut self, header: &Header) -> (Micros, u32) {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let arrived = || Micros(begun.elapsed().as_micros() as u64);
        let time = header.stamp.micros().filter(|time| time.0 > 0).unwrap_or_else(arrived);
        let last = self.last.replace(time);
        let parted = last.is_some_and(|last| time < last || time.0 - last.0 > PAUSE.as_micros() as u64);
        self.segment += u32::from(parted);
        (time, self.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_is_counted_by_publisher() {
        let mut numbers = Numbers::default();
        let (one, other) = ([1; 16], [2; 16]);
        let came = [
            Some((5, one)),
            Some((6, one)),
            Some((9, one)),
            None,
            Some((1, other)),
            Some((1, other)),
            Some((3, other)),
        ];
        assert_eq!(came.map(|number| numbers.missing(number)), [0, 0, 2, 0, 0, 0, 1]);
        // A publisher's numbers are its own to choose.
        assert_eq!(numbers.missing(Some((i64::MIN, other))), 0);
        assert!(numbers.missing(Some((i64::MAX, other))) > 1 << 62);
    }

    #[test]
    fn a_pause_and_a_step_back_part_neighbours() {
        use crate::ros::messages::Time;
        let mut clock = Clock::default();
        let at = |sec, nanosec| Header { stamp: Time { sec, nanosec }, frame_id: String::new() };
        let stamps = [at(100, 0), at(100, 500_000_000), at(102, 0), at(101, 0)];
        let times = stamps.map(|header| clock.at(&header));
        assert_eq!(
            times.map(|(time, segment)| (time.0 / 1000, segment)),
            [(100_000, 0), (100_500, 0), (102_000, 1), (101_000, 2)]
        );
    }
}
