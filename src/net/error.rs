//! Why an encoder or a learner cannot be planned.

use core::fmt;

use super::network::MAX_TENSORS;
use super::task::Task;
use crate::audio::AudioError;

/// Why an encoder cannot be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    NoLayers,
    EmptyInput,
    /// Image inputs have 1 or 3 channels; windows have one row, and vectors within their channels.
    InputShape,
    /// `[input]` of sound.
    Audio(AudioError),
    /// `layer` does not fit: its kernel is larger than the padded input, or a size is 0.
    LayerShape {
        layer: usize,
    },
    /// Dictionaries are the first layers.
    DictionaryPlace {
        layer: usize,
    },
    /// `group` or `pool` of `layer` does not divide what it reads, or the layer is no dictionary on another.
    Groups {
        layer: usize,
    },
    /// The first layer over tokens, and no other one, is an embedding.
    Embedding {
        layer: usize,
    },
    /// Colour filters need a colour input and leave at least one grey filter.
    ColourFilters {
        layer: usize,
    },
    /// The feature names a layer that does not exist.
    FeatureLayer {
        layer: usize,
    },
    /// A sum of products of `layer` could pass 2³¹.
    AccumulatorOverflow {
        layer: usize,
    },
    /// A key of `[[pretext]]` that its task does not take.
    Key {
        task: Task,
        key: &'static str,
    },
    /// The task does not fit the input; `fit` name some that do.
    TaskInput {
        task: Task,
        needs: &'static str,
        fit: &'static str,
    },
    /// Each position of the last layer is to stand for as many values of the input.
    Decoder {
        size: (usize, usize),
        positions: (usize, usize),
    },
    /// A number of a task is out of its range.
    TaskRange {
        task: Task,
        key: &'static str,
        least: u64,
        most: u64,
    },
    /// What another sensor says is to choose positives, and there is none or nothing to choose from.
    Beside,
    /// Another number is out of its range.
    OutOfRange {
        key: &'static str,
        least: u64,
        most: u64,
    },
    /// No layer is left to train above the dictionary.
    NothingToTrain,
    /// `trained` of `layer` is more than its filters, or the layer cannot be trained in part.
    Sparse {
        layer: usize,
    },
    /// The model is none that can learn from latents.
    Latents,
    /// Weights to be read from flash were given in another number than the model has.
    FlashWeights {
        needed: usize,
        given: usize,
    },
    /// The memory block is smaller than planned.
    MemoryTooSmall {
        needed: usize,
        given: usize,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::NoLayers => write!(f, "the model has no [[layer]]; add at least one"),
            PlanError::EmptyInput => write!(f, "[input]: height, width and channels must be at least 1"),
            PlanError::InputShape => write!(
                f,
                "[input]: an image has 1 or 3 channels and sound has 1; a window has height 1 and at most channels / 3 \
                 vectors; tokens have height 1, 1 channel and a vocabulary of 2 to 4096; none has more than 16 million values"
            ),
            PlanError::Audio(problem) => write!(f, "[input]: {problem}"),
            PlanError::LayerShape { layer } => {
                write!(f, "layer {layer}: its kernel, stride and filters must be at least 1 and its kernel must fit")
            }
            PlanError::DictionaryPlace { layer } => {
                write!(f, "layer {layer}: a dictionary is the first layer or stands on another dictionary")
            }
            PlanError::Groups { layer } => write!(
                f,
                "layer {layer}: group and pool are for a dictionary on another; group must divide the channels below into \
                 parts that divide its filters, and pool be 1, 2, 4 or 8 and divide the map below"
            ),
            PlanError::Embedding { layer } => write!(
                f,
                "layer {layer}: the first layer of a model whose [input] kind is \"tokens\" is an embedding, there are others \
                 above it, and no other layer is one; [replay] policy is \"reservoir\" there"
            ),
            PlanError::ColourFilters { layer } => write!(
                f,
                "layer {layer}: colour-filters need an input of 3 channels and at least one filter must stay grey"
            ),
            PlanError::FeatureLayer { layer } => write!(f, "[feature]: there is no layer {layer}"),
            PlanError::AccumulatorOverflow { layer } => write!(
                f,
                "layer {layer}: a sum of products could pass 2^31; use a smaller input, kernel or batch, or fewer views"
            ),
            PlanError::OutOfRange { key, least, most } => write!(f, "{key} must be from {least} to {most}"),
            PlanError::Key { task, key } => write!(
                f,
                "[pretext] task = \"{}\" does not take the key {key}; leave it out, or choose another task",
                task.name()
            ),
            PlanError::TaskInput { task, needs, fit } => {
                write!(f, "[pretext] task = \"{}\" needs {needs}; for this input take {fit}", task.name())
            }
            PlanError::TaskRange { task, key, least, most } => {
                write!(f, "[pretext] task = \"{}\": {key} must be from {least} to {most}", task.name())
            }
            PlanError::Decoder { size, positions } => write!(
                f,
                "[pretext]: the decoder gives back from each of the last layer's {} x {} positions an equal part of the \
                 {} x {} input; choose strides whose products divide its height and width",
                positions.0, positions.1, size.0, size.1
            ),
            PlanError::Beside => write!(
                f,
                "[pretext] beside needs what another sensor says of each sample, [input] beside = its numbers, and a [replay] \
                 capacity of at least 2 to choose from"
            ),
            PlanError::NothingToTrain => {
                write!(f, "a pretext needs a layer above the dictionary to train; add one, or leave the pretext out")
            }
            PlanError::Sparse { layer } => write!(
                f,
                "layer {layer}: trained must be at most its filters; dictionary layers are not trained by the pretext and \
                 depthwise ones not in part, and the model may have at most {MAX_TENSORS} convolutions"
            ),
            PlanError::Latents => write!(
                f,
                "[replay] latents = true needs images, a task with neighbours (positives are two samples), a lowest \
                 layer that is not trained (trained = 0), and [guard] canaries = 0"
            ),
            PlanError::FlashWeights { needed, given } => {
                write!(f, "the model reads {needed} weights from flash and was given {given}")
            }
            PlanError::MemoryTooSmall { needed, given } => {
                write!(f, "the learner needs {needed} bytes of memory and was given {given}")
            }
        }
    }
}

impl core::error::Error for PlanError {}
