//! Frames that a capture task takes while the loop learns, handed over without a copy.
//!
//! There is one buffer. The task fills it by DMA and hands it over; once the loop has fitted the frame to the model's
//! input the task may fill it again.

use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::zerocopy_channel::Receiver;
use nestling::sample::{Micros, Sample, Values};

use crate::Input;

/// One frame in grey, `[height, width]`, `u8`.
pub struct Frame<const BYTES: usize> {
    pub pixels: [u8; BYTES],
    /// When it was taken, since the start of the board.
    pub time: Micros,
}

/// Where frames come from.
pub type Frames<'f, const BYTES: usize> = Receiver<'f, CriticalSectionRawMutex, Frame<BYTES>>;

/// The loop's end of the capture task.
pub struct Camera<'f, const BYTES: usize> {
    frames: Frames<'f, BYTES>,
    height: usize,
    width: usize,
    held: bool,
}

impl<'f, const BYTES: usize> Camera<'f, BYTES> {
    /// Frames of `width` columns, from a task that fills `frames`.
    pub fn new(frames: Frames<'f, BYTES>, width: usize) -> Self {
        Camera { frames, height: BYTES / width.max(1), width, held: false }
    }
}

impl<const BYTES: usize> Input for Camera<'_, BYTES> {
    fn next(&mut self) -> Option<Sample<'_>> {
        if core::mem::take(&mut self.held) {
            self.frames.receive_done();
        }
        let frame = self.frames.try_receive()?;
        self.held = true;
        let pixels = &frame.pixels[..self.height * self.width];
        let values = Values::Image { pixels, height: self.height, width: self.width, channels: 1 };
        Some(Sample { values, time: frame.time, segment: 0 })
    }
}
