//! What a model file says: the input, the layers, the feature, and how the encoder is to be trained.
//!
//! Plain data with defaults, read from TOML above the line and checked in [`super::network::Network::new`].

#[cfg(feature = "link")]
use serde::{Deserialize, Serialize};

use super::task::{MAX_PRETEXTS, PretextSpec};
use crate::audio::{AudioError, LogMel};

/// Most layers that an encoder may have.
pub const MAX_LAYERS: usize = 8;

/// Derives for a part of the specification: unknown keys are refused, missing ones take the default.
macro_rules! spec {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "link", derive(Serialize, Deserialize), serde(deny_unknown_fields, default))]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }
        impl Default for $name {
            fn default() -> Self { $name { $($field: $default,)* } }
        }
    };
}

/// What kind of samples an encoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "link", derive(Serialize, Deserialize), serde(rename_all = "lowercase"))]
pub enum InputKind {
    /// Frames, fitted to `height` × `width`.
    Image,
    /// Windows of `width` readings.
    Window,
    /// Windows of `width` codes below `vocabulary`: bytes, events, words.
    Tokens,
    /// Sound: maps of `height` bands by `width` columns, made from clips or live windows of one channel.
    Audio,
    /// Latents: maps `[height, width, channels]` of another, frozen network, as bytes that are mantissas and 128.
    Latents,
}

spec! {
    /// `[input]`
    pub struct InputSpec {
        pub kind: InputKind = InputKind::Image,
        /// Rows of an image; bands of the mel scale; 1 for windows.
        pub height: usize = 1,
        /// Columns of an image or of sound, or readings of a window.
        pub width: usize = 0,
        /// 1 (grey) or 3 (colour) for images; sensor channels for windows; 1 for sound.
        pub channels: usize = 1,
        /// Windows: the first `3 · vectors` channels are three-dimensional vectors (accelerometer, gyroscope …), whose
        /// axes share one scale and are turned together by the rotation view.
        pub vectors: usize = 0,
        /// Numbers that another sensor says of each sample, by which `[pretext] beside` finds samples that are alike.
        pub beside: usize = 0,
        /// Tokens: how many codes there are.
        pub vocabulary: usize = 0,
        /// Sound: samples a second.
        pub rate: u32 = 16_000,
        /// Sound: samples of which the spectrum of a column is made, a power of two.
        pub window: usize = 512,
        /// Sound: samples from one column to the next.
        pub hop: usize = 256,
    }
}

impl InputSpec {
    /// How sound becomes a map.
    ///
    /// # Errors
    /// [`AudioError`].
    pub fn log_mel(&self) -> Result<LogMel, AudioError> {
        LogMel::new(self.rate, self.window, self.hop, self.height, self.width)
    }
}

/// How a layer learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "link", derive(Serialize, Deserialize), serde(rename_all = "lowercase"))]
pub enum LayerKind {
    /// Learned online by clustering of decorrelated patches, forward only; the first layers, one after the other.
    Dictionary,
    /// Convolution, trained by the pretext.
    Conv,
    /// Depthwise convolution (as many filters as input channels), trained by the pretext.
    Depthwise,
    /// A row of as many numbers as there are filters for each code, trained by the pretext; the first layer over tokens.
    Embedding,
}

spec! {
    /// `[[layer]]`
    pub struct LayerSpec {
        pub kind: LayerKind = LayerKind::Conv,
        pub filters: usize = 0,
        /// Dictionary of a colour image: how many of the filters read the two colour differences; the others read
        /// luma. 0: every filter reads all channels.
        pub colour_filters: usize = 0,
        /// A dictionary on another: its units read so many channels each, in equal parts side by side. 0: all channels.
        pub group: usize = 0,
        /// A dictionary on another: it reads the map below averaged over squares of this side, 1, 2, 4 or 8.
        pub pool: usize = 1,
        /// Side of the kernel (1-D for windows); padding is half of it.
        pub kernel: usize = 3,
        pub stride: usize = 1,
        /// Trained layers: subtract each filter's mean after an update, in place of a normalisation layer.
        pub zero_mean: bool = true,
        /// Sparse update: how many of the filters, the last ones, the pretext trains; the others, and all layers below,
        /// keep their weights. Absent: all, unless the budget of `[optimizer] memory` is less.
        pub trained: Option<usize> = None,
    }
}

spec! {
    /// `[feature]`
    pub struct FeatureSpec {
        /// Layers whose pooled outputs make the feature; empty: all.
        pub layers: heapless::Vec<usize, MAX_LAYERS> = heapless::Vec::new(),
        /// Cells of the pooling grid on each axis.
        pub cells: usize = 3,
    }
}

spec! {
    /// `[dictionary]`: the lessons of the dictionary layers.
    pub struct DictionarySpec {
        /// Samples from which a dictionary is learned before the layers above it begin.
        pub samples: u64 = 2500,
        /// Patches taken from each of them.
        pub patches: u32 = 8,
    }
}

spec! {
    /// `[optimizer]`: momentum and sign.
    pub struct OptimizerSpec {
        /// Size of a step in master units (256 are one step of the 8-bit weight).
        pub step: u16 = 64,
        /// Size below which the step does not decay on an endless stream.
        pub floor: u16 = 4,
        /// Keep momentum (2 bytes a trained weight). Without it a weight moves by the sign of its step's gradient.
        pub momentum: bool = true,
        /// Bytes that masters, momentum and gradients may take; the head comes first, then layers from the top down,
        /// the last of them in part. 0: no limit.
        pub memory: usize = 0,
    }
}

impl OptimizerSpec {
    /// Bytes of memory for each trained weight: master and momentum of 16 bits, gradient of 32.
    pub const fn bytes_per_weight(&self) -> usize {
        if self.momentum { 8 } else { 6 }
    }
}

/// Which sample leaves a full buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "link", derive(Serialize, Deserialize), serde(rename_all = "lowercase"))]
pub enum ReplayPolicy {
    /// Every sample of the stream is kept with equal probability.
    Reservoir,
    /// The sample nearest to another in feature space leaves.
    Redundancy,
}

spec! {
    /// `[replay]`
    pub struct ReplaySpec {
        pub policy: ReplayPolicy = ReplayPolicy::Reservoir,
        /// Entries held; an entry is one sample, or two where neighbours are the views. 0: no replay.
        pub capacity: usize = 1024,
        /// Of a step's samples, how many are the newest ones rather than drawn from the buffer.
        pub fresh: usize = 8,
        /// Hold what the lowest trained layer reads instead of samples, seen through changed light: less memory where the
        /// layers below shrink it, and they are computed once a sample.
        pub latents: bool = false,
    }
}

spec! {
    /// `[guard]`
    pub struct GuardSpec {
        /// Steps of a lesson.
        pub lesson_steps: u32 = 64,
        /// Samples on which a lesson is judged. 0: no lesson is judged or undone, and controllers read the encoder that
        /// learns; its shifts follow the newest sample. For boards without memory for two encoders.
        pub canaries: usize = 32,
    }
}

spec! {
    /// `[views]`: strengths of the augmentations. Shares are of 256.
    pub struct ViewSpec {
        /// Least area (images) or length (windows) of a random crop; 256: no crop.
        pub crop_area: u32 = 64,
        /// Images: crops may be up to 4:3 or 3:4 of the frame's shape.
        pub crop_aspect: bool = true,
        /// Images: crops keep the full width and move up and down only.
        pub vertical: bool = false,
        /// Images and latents: mirror half of the views.
        pub flip: bool = true,
        /// Gain (brightness and contrast of images, scale of signals), ± this share.
        pub gain: u32 = 102,
        /// Images: saturation, ± this share.
        pub saturation: u32 = 102,
        /// Images: this share of the views is made grey.
        pub grey: u32 = 51,
        /// Images: gain, saturation and offset are applied to this share of the views.
        pub jitter: u32 = 205,
        /// Constant offset, ± this many 8-bit steps; of sound, where a step is 0.376 dB, this is the gain.
        pub offset: u32 = 0,
        /// Noise, standard deviation in 1/16 of an 8-bit step.
        pub noise: u32 = 0,
        /// Windows: vectors are turned by up to this angle about each axis, in 1/256 rad.
        pub turn: u32 = 0,
        /// Windows and sound: this share of the readings or columns at most is masked, in one block. Tokens: this share of
        /// them.
        pub mask: u32 = 0,
        /// Sound: this share of the bands at most is masked, in one block. Latents: each channel is left out with this chance.
        pub mask_bands: u32 = 0,
        /// Sound: moved in time by up to this share of the columns.
        pub shift: u32 = 0,
        /// Sound: slower or faster by up to this share.
        pub stretch: u32 = 0,
        /// Sound: bands drawn apart or together, about the middle one, by up to this share.
        pub warp: u32 = 0,
        /// Sound: moved up or down by up to this many sixteenths of a band.
        pub transpose: u32 = 0,
        /// Sound: a smooth equaliser of up to ± this many steps of 0.376 dB.
        pub equaliser: u32 = 0,
        /// Sound: a noise floor of up to this many steps of 0.376 dB; nothing is below it.
        pub floor: u32 = 0,
    }
}

spec! {
    /// A whole model file.
    pub struct Spec {
        pub name: heapless::String<32> = heapless::String::new(),
        pub input: InputSpec = InputSpec::default(),
        pub layer: heapless::Vec<LayerSpec, MAX_LAYERS> = heapless::Vec::new(),
        pub feature: FeatureSpec = FeatureSpec::default(),
        pub dictionary: DictionarySpec = DictionarySpec::default(),
        /// `[pretext]` or `[[pretext]]`; absent: the encoder is its dictionary alone.
        #[cfg_attr(feature = "link", serde(deserialize_with = "super::task::one_or_many::deserialize"))]
        pub pretext: heapless::Vec<PretextSpec, MAX_PRETEXTS> = heapless::Vec::new(),
        pub views: ViewSpec = ViewSpec::default(),
        pub replay: ReplaySpec = ReplaySpec::default(),
        pub optimizer: OptimizerSpec = OptimizerSpec::default(),
        pub guard: GuardSpec = GuardSpec::default(),
    }
}

impl Spec {
    /// A pretext trains layers by a gradient.
    pub fn trains(&self) -> bool {
        !self.pretext.is_empty()
    }
}
