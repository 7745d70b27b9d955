//! What a source hands to the learner: one observation, borrowed, with its time.
//!
//! The lowest module of all: everything else names these types. It holds no logic.

/// Microseconds since an epoch that the source chooses (usually its own first sample).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Micros(pub u64);

/// Seed of every random draw that the learner makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

/// Number of the lesson that published an encoder; features carry it. 0 is the encoder before the first lesson.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct EncoderVersion(pub u32);

/// The numbers of one observation, borrowed from whoever holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values<'a> {
    /// An image, `[height, width, channels]`, `u8`, channels 1 (grey) or 3 (red, green, blue).
    Image { pixels: &'a [u8], height: usize, width: usize, channels: usize },
    /// A window of sensor readings, `[length, channels]`, `i16`; each channel has one unit for the whole stream.
    Window { readings: &'a [i16], length: usize, channels: usize },
}

/// One observation from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    pub values: Values<'a>,
    pub time: Micros,
    /// Samples with the same segment follow one another without a pause; temporal neighbours never cross segments.
    pub segment: u32,
}
