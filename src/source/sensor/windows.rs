//! Readings, one after another, cut into windows that overlap as `?window=&stride=` say.

use crate::sample::Micros;
use crate::source::Record;

/// When a reading was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Microseconds since the sensor was opened.
    pub time: u64,
    /// Readings before it are lost: it begins a new segment.
    pub breaks: bool,
}

/// The window that is being filled.
pub struct Windows {
    length: usize,
    stride: usize,
    channels: usize,
    /// `[length, channels]`
    readings: Vec<i16>,
    times: Vec<u64>,
    held: usize,
    /// Readings between windows that are further apart than they are long.
    pass_over: usize,
    segment: u32,
    begun: Option<u64>,
}

impl Windows {
    /// Windows of `length` readings of `channels`, each `stride` readings after the one before.
    ///
    /// # Panics
    /// If one of them is zero.
    pub fn new(length: usize, stride: usize, channels: usize) -> Self {
        assert!(length * stride * channels > 0, "a window of nothing");
        let (readings, times) = (vec![0; length * channels], vec![0; length]);
        Windows { length, stride, channels, readings, times, held: 0, pass_over: 0, segment: 0, begun: None }
    }

    /// Takes a reading in; `true` where `record` is now the window that it completes.
    pub fn push(&mut self, reading: impl IntoIterator<Item = i16>, stamp: Stamp, record: &mut Record) -> bool {
        if stamp.breaks {
            (self.held, self.pass_over) = (0, 0);
            self.segment = self.segment.saturating_add(1);
        }
        if self.pass_over > 0 {
            self.pass_over -= 1;
            return false;
        }
        let place = self.readings[self.held * self.channels..].iter_mut();
        place.take(self.channels).zip(reading).for_each(|(to, from)| *to = from);
        self.times[self.held] = stamp.time;
        self.held += 1;
        if self.held < self.length {
            return false;
        }
        record.window_mut(self.length, self.channels).copy_from_slice(&self.readings);
        let begun = *self.begun.get_or_insert(self.times[0]);
        record.time = Micros(self.times[0].saturating_sub(begun));
        (record.segment, record.group, record.label) = (self.segment, self.segment, None);
        record.beside.clear();
        let kept = self.length.saturating_sub(self.stride);
        self.readings.copy_within((self.length - kept) * self.channels.., 0);
        self.times.copy_within(self.length - kept.., 0);
        (self.held, self.pass_over) = (kept, self.stride.saturating_sub(self.length));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Data;

    /// First reading, time and segment of every window out of readings that count up, 10 µs apart; `breaks` are the places
    /// before which some are lost.
    fn cut(length: usize, stride: usize, readings: u64, breaks: &[u64]) -> Vec<(i16, u64, u32)> {
        let (mut windows, mut record, mut all) = (Windows::new(length, stride, 2), Record::default(), Vec::new());
        for n in 0..readings {
            let stamp = Stamp { time: 500 + 10 * n, breaks: breaks.contains(&n) };
            if windows.push([n as i16, -(n as i16)], stamp, &mut record) {
                let Data::Window { readings, length: l, channels: 2 } = &record.data else { panic!("{record:?}") };
                let first = readings[0];
                let expected: Vec<i16> = (first..).take(length).flat_map(|n| [n, -n]).collect();
                assert_eq!((*l, readings), (length, &expected));
                all.push((first, record.time.0, record.segment));
            }
        }
        all
    }

    #[test]
    fn windows_overlap_by_what_the_stride_leaves() {
        assert_eq!(cut(4, 2, 9, &[]), [(0, 0, 0), (2, 20, 0), (4, 40, 0)]);
        assert_eq!(cut(3, 3, 9, &[]), [(0, 0, 0), (3, 30, 0), (6, 60, 0)]);
        assert_eq!(cut(2, 5, 9, &[]), [(0, 0, 0), (5, 50, 0)]);
    }

    #[test]
    fn no_window_has_lost_readings_in_it() {
        assert_eq!(cut(4, 2, 11, &[5]), [(0, 0, 0), (5, 50, 1), (7, 70, 1)]);
        assert_eq!(cut(2, 4, 8, &[3]), [(0, 0, 0), (3, 30, 1)]);
    }
}
