//! What board and host say to each other. The order of the variants and fields is the protocol: see
//! [`PROTOCOL`](super::PROTOCOL).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::learner::Learner;
use crate::net::spec::{InputKind, MAX_LAYERS};
use crate::sample::{Micros, Sample, Values};
pub use crate::state::Hash;

/// Bytes that lie elsewhere: in the frame's buffer, or where the sender has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&'a [u8]>::deserialize(from).map(Bytes)
    }
}

/// From the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost<'a> {
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// There is room for one more sample.
    Ready,
    Feature(Feature<'a>),
    Health(Health),
    /// A sample that the learner takes in next, while recording is on.
    Sample(RawSample<'a>),
    Hash(StateHash),
    /// A line for people.
    Log(&'a str),
}

/// From the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDevice<'a> {
    /// Say `Hello`.
    Hello,
    /// A sample to take in, in answer to `Ready`.
    #[serde(borrow)]
    Sample(RawSample<'a>),
    /// Send each sample that the learner takes in, from the next one on, or stop doing so.
    Record(bool),
    /// Send the state's hash, once all that was due after the last sample is done.
    Hash,
    /// Save the state to flash, then send `Health`.
    Save,
    /// Perceive only.
    Freeze,
    /// Learn again.
    Thaw,
    /// End the lesson as at the end of a stream ([`Learner::finish`]), send `Health` and `Hash`, take in no more.
    Finish,
    /// Forget what was learned since flashing and begin again from the image, then say `Hello`.
    Restart,
}

/// Who the board is and what its learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// [`PROTOCOL`](super::PROTOCOL).
    pub protocol: u16,
    /// Name and version of the firmware.
    pub firmware: &'a str,
    /// Name of the board, as its folder under `boards/`.
    pub board: &'a str,
    /// Name of the kernels in use.
    pub kernels: &'a str,
    /// The model: [`Image::spec_bytes`](crate::image::Image::spec_bytes).
    pub spec: Bytes<'a>,
    pub seed: u64,
    pub expected_samples: Option<u64>,
    /// Samples that the learner had taken in when this was said.
    pub samples: u64,
    pub memory: Memory,
}

/// Bytes that the firmware takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The learner's block.
    pub learner: u32,
    /// `.data` and `.bss`, the learner's block among them.
    pub statics: u32,
    /// Room for the stack.
    pub stack: u32,
    /// Code, constants and the image.
    pub flash: u32,
}

/// A sample as the learner is given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawSample<'a> {
    /// Samples that the learner took in before it; a gap tells of a lost frame.
    pub number: u64,
    /// Microseconds.
    pub time: u64,
    pub segment: u32,
    pub shape: Shape,
    /// `u8` pixels or little-endian `i16` readings.
    #[serde(borrow)]
    pub values: Bytes<'a>,
}

/// Kind and shape of a sample's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    Image { height: u32, width: u32, channels: u32 },
    Window { length: u32, channels: u32 },
}

impl Shape {
    /// The one that the model of `learner` takes as it is.
    pub fn of(learner: &Learner) -> Self {
        let input = learner.network().input;
        let [height, width, channels] = [input.height, input.width, input.channels].map(|size| size as u32);
        match learner.spec().input.kind {
            InputKind::Image | InputKind::Audio | InputKind::Latents => Shape::Image { height, width, channels },
            InputKind::Window | InputKind::Tokens => Shape::Window { length: width, channels },
        }
    }
}

impl<'a> RawSample<'a> {
    /// `sample`, which is number `number`.
    pub fn new(number: u64, sample: &Sample<'a>) -> Self {
        let (shape, values) = match sample.values {
            Values::Image { pixels, height, width, channels } => {
                (Shape::Image { height: height as u32, width: width as u32, channels: channels as u32 }, pixels)
            }
            Values::Window { readings, length, channels } => {
                let shape = Shape::Window { length: length as u32, channels: channels as u32 };
                (shape, bytemuck::cast_slice(readings))
            }
        };
        RawSample { number, time: sample.time.0, segment: sample.segment, shape, values: Bytes(values) }
    }

    /// The sample, where its values are as many as its shape says. Readings must lie at an even address, which
    /// [`Decoder::to_device`](super::Decoder::to_device) sees to.
    pub fn sample(&self) -> Option<Sample<'a>> {
        let values = match self.shape {
            Shape::Image { height, width, channels } => {
                let pixels = self.values.0;
                let (height, width, channels) = (height as usize, width as usize, channels as usize);
                let len = height.checked_mul(width)?.checked_mul(channels)?;
                (len == pixels.len()).then_some(Values::Image { pixels, height, width, channels })
            }
            Shape::Window { length, channels } => {
                let readings: &[i16] = bytemuck::try_cast_slice(self.values.0).ok()?;
                let (length, channels) = (length as usize, channels as usize);
                let len = length.checked_mul(channels)?;
                (len == readings.len()).then_some(Values::Window { readings, length, channels })
            }
        };
        Some(Sample { values: values?, time: Micros(self.time), segment: self.segment })
    }
}

/// A feature, as `nestling run` prints them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature<'a> {
    /// Microseconds, of its sample.
    pub time: u64,
    /// Version of the encoder that made it.
    pub encoder: u32,
    /// Length and exponent of each block: `value = m · 2^e`.
    pub blocks: heapless::Vec<(u32, u32), MAX_LAYERS>,
    /// `i8`.
    #[serde(borrow)]
    pub values: Bytes<'a>,
}

impl<'a> Feature<'a> {
    /// `values` that `learner` gave for the sample of `time`.
    pub fn new(learner: &Learner, time: Micros, values: &'a [i8]) -> Self {
        let shifts = learner.published().0.shifts.feature;
        let blocks = learner.network().feature.iter().zip(shifts);
        Feature {
            time: time.0,
            encoder: learner.version().0,
            blocks: blocks.map(|((_, grid), shift)| (grid.len() as u32, shift.get())).collect(),
            values: Bytes(bytemuck::cast_slice(values)),
        }
    }
}

/// How the learner and the board are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub samples: u64,
    pub steps: u64,
    pub encoder: u32,
    pub lessons_published: u32,
    pub lessons_undone: u32,
    /// The published encoder's, as [`crate::guard::Health`] has them.
    pub effective_rank: u32,
    pub spread: u32,
    pub loss: u32,
    pub saturation: u32,
    /// Running loss of the pretext, in 1/4096 nat.
    pub loss_running: u32,
    /// Frames that arrived damaged.
    pub frames_dropped: u32,
    /// Bytes of stack used at most since the start.
    pub stack_peak: u32,
    pub wear: Wear,
}

impl Health {
    /// What `learner` knows; the board adds its own figures.
    pub fn new(learner: &Learner) -> Self {
        let (c, health) = (learner.counters(), learner.health());
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Health {
            samples: c.observed,
            steps: c.steps,
            encoder: learner.version().0,
            lessons_published: narrow(c.lessons_published),
            lessons_undone: narrow(c.lessons_rolled_back),
            effective_rank: health.effective_rank,
            spread: health.spread,
            loss: health.loss,
            saturation: health.saturation,
            loss_running: narrow(c.loss_running),
            ..Health::default()
        }
    }
}

/// What saving has cost the flash since it was first used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wear {
    pub saves: u32,
    /// Pages erased, and pages that there are.
    pub erases: u32,
    pub pages: u32,
    /// Bytes written by the last save.
    pub last_save: u32,
}

/// The hash of the learner's state and where in the stream it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash {
    /// Samples that the learner had taken in.
    pub samples: u64,
    /// Taken after [`Learner::finish`].
    pub finished: bool,
    pub hash: Hash,
}
