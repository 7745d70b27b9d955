//! Samples of a recording of ours: what is known of a sample stands before its numbers, with the same stamp.

use super::super::{Label, Record};
use crate::ros::decode;
use crate::ros::messages::{Header, LABEL_CLASS, LABEL_VALUE, Sample, Time, Window};
use crate::sample::Micros;

/// What is known of a sample beside its numbers.
pub struct Known {
    stamp: Time,
    time: Micros,
    segment: u32,
    group: u32,
    label: Option<Label>,
    beside: Vec<i8>,
}

impl Known {
    /// Writes it into the sample's record.
    pub fn tell(self, record: &mut Record) {
        let Known { time, segment, group, label, beside, .. } = self;
        (record.time, record.segment, record.group, record.label) = (time, segment, group, label);
        record.beside = beside;
    }
}

/// What was noted of the sample whose numbers come next.
#[derive(Default)]
pub struct Pairing {
    /// `Err`: its run did not learn from it.
    noted: Option<Result<Known, Time>>,
}

/// What belongs to some numbers.
pub enum Own {
    Known(Known),
    /// The run did not learn from them: a replay is to learn the same.
    NotLearned,
    /// What was noted is not there.
    Lost,
}

impl Pairing {
    /// Keeps what `data` says of a sample; `false` where it is garbled.
    pub fn note(&mut self, data: &[u8]) -> bool {
        self.noted = decode::<Sample>(data).ok().map(|sample| {
            let stamp = sample.header.stamp;
            let label = match sample.label_kind {
                // A float cast saturates.
                LABEL_CLASS => Some(Label::Class(sample.label as u32)),
                LABEL_VALUE => Some(Label::Value(sample.label)),
                _ => None,
            };
            let (time, beside) = (Micros(sample.time_us), sample.beside.to_vec());
            let known = Known { stamp, time, segment: sample.segment, group: sample.group, label, beside };
            if sample.learned { Ok(known) } else { Err(stamp) }
        });
        self.noted.is_some()
    }

    /// What was noted of the numbers with this header.
    pub fn take(&mut self, header: &Header) -> Own {
        match self.noted.take() {
            Some(Ok(known)) if known.stamp == header.stamp => Own::Known(known),
            Some(Err(stamp)) if stamp == header.stamp => Own::NotLearned,
            _ => Own::Lost,
        }
    }

    /// Something is missing.
    pub fn lose(&mut self) {
        self.noted = None;
    }
}

/// Fills `record` with the readings of `window`; `false` where these are not what they say.
pub fn readings(window: &Window, record: &mut Record) -> bool {
    let (length, channels) = (window.length as usize, window.channels as usize);
    let fits = length.checked_mul(channels).is_some_and(|n| n == window.readings.len() && n > 0);
    if fits {
        record.window_mut(length, channels).copy_from_slice(&window.readings);
    }
    fits
}
