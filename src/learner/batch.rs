//! From samples to what is stored of them, and from that to what the encoder takes: inputs, views, choices of a step, descriptors.
//!
//! The float twin calls these too, so that both arithmetics see the same numbers.

use super::tensor;
use crate::augment::signal::ChannelScale;
use crate::augment::{audio, fit, image, latent, signal, token};
use crate::fixed::random::Draws;
use crate::fixed::shift_for;
use crate::kernels::Map;
use crate::kernels::narrow::{self, Windows};
use crate::net::forward::{self, Params, Scratch};
use crate::net::network::Network;
use crate::net::spec::{InputKind, Spec, ViewSpec};
use crate::net::task::{Pretext, Task};
use crate::replay::{Pick, Replay};
use crate::sample::{Sample, Seed, Values};

/// Why a sample cannot be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleError {
    /// A sample of another kind than the encoder's input.
    Kind { wants: InputKind },
    /// A code is not in the encoder's vocabulary.
    Code { code: i16, at: usize, vocabulary: usize },
    /// A window has another shape than the encoder's input.
    Window { length: usize, channels: usize, wants_length: usize, wants_channels: usize },
    /// Sound of other than one channel, without a sample, or a map of another shape than the encoder's input.
    Sound { bands: usize, columns: usize },
    /// An image without pixels, with other than 1 or 3 channels, or with fewer values than its shape says.
    Image { height: usize, width: usize, channels: usize, values: usize },
    /// Latents of another shape: height, width, channels.
    Latents { shape: [usize; 3], wants: [usize; 3] },
    /// Another sensor says more or fewer numbers of a sample than the model takes.
    Beside { numbers: usize, wants: usize },
    /// There is no such layer, or its map is not as long as the buffer.
    Map { layers: usize, wants: usize, given: usize },
    /// What stands in the inbox is not as long as a stored sample.
    Inbox { bytes: usize, wants: usize },
}

impl core::fmt::Display for SampleError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SampleError::Kind { wants: InputKind::Image } => {
                write!(
                    f,
                    "the model takes images and the source gives sensor windows or sound; choose a model such as motion"
                )
            }
            SampleError::Kind { wants: InputKind::Window } => {
                write!(f, "the model takes sensor windows and the source gives images; choose a model such as l100")
            }
            SampleError::Kind { wants: InputKind::Tokens } => {
                write!(
                    f,
                    "the model takes windows of codes and the source gives images; choose a source such as tokens:"
                )
            }
            SampleError::Map { layers, wants: 0, .. } => write!(f, "the encoder has {layers} layers, numbered from 0"),
            SampleError::Map { wants, given, .. } => {
                write!(f, "the map of that layer is {wants} numbers and the buffer holds {given}")
            }
            SampleError::Code { code, at, vocabulary } => write!(
                f,
                "the code {code} at place {at} is not from 0 to {}; set [input] vocabulary to what the source gives",
                vocabulary - 1
            ),
            SampleError::Kind { wants: InputKind::Audio } => {
                write!(f, "the model takes sound; give a source such as wav:")
            }
            SampleError::Kind { wants: InputKind::Latents } => {
                write!(f, "the model takes latents of a backbone and the source gives sensor windows or sound")
            }
            SampleError::Latents { shape: [h, w, c], wants: [height, width, channels] } => write!(
                f,
                "the model takes latents of {height}x{width}x{channels} and these are {h}x{w}x{c}; give the backbone that it \
                 was learned behind"
            ),
            SampleError::Sound { bands, columns } => write!(
                f,
                "the model takes sound of one channel, or maps of it of {bands} bands by {columns} columns; give a source of \
                 sound, such as wav: or pcm:"
            ),
            SampleError::Window { length, channels, wants_length, wants_channels } => write!(
                f,
                "the source gives windows of {length} readings of {channels} channels and the model takes \
                 {wants_length} of {wants_channels}; set ?window= and ?channels=, or the model's [input]"
            ),
            SampleError::Image { height, width, channels, values } => write!(
                f,
                "an image of {height}x{width} with {channels} channels and {values} values is none that can be used"
            ),
            SampleError::Beside { numbers, wants } => write!(
                f,
                "{numbers} numbers of another sensor come with a sample and the model takes {wants}: add ?beside=imu to \
                 sim:rover, or set the model's [input] beside"
            ),
            SampleError::Inbox { bytes, wants } => write!(
                f,
                "the sample has {bytes} bytes and the model takes {wants}; send it in the size of the model's [input]"
            ),
        }
    }
}

impl core::error::Error for SampleError {}

/// Numbers that [`store_sample`] needs to work with.
pub fn work_len(network: &Network) -> usize {
    network.log_mel.map_or(0, |log_mel| log_mel.work_len())
}

/// Brings a sample into the form in which it is stored: fitted pixels, the bytes of its readings, or the map of sound;
/// one that was made where the sound was taken in, `[bands, columns, 1]`, is stored as it is.
///
/// `work` is [`work_len`] long.
///
/// # Errors
/// [`SampleError`].
pub fn store_sample(
    spec: &Spec,
    network: &Network,
    sample: &Sample,
    stored: &mut [u8],
    work: &mut [i32],
) -> Result<(), SampleError> {
    if let Some(log_mel) = &network.log_mel {
        let map = network.input;
        match sample.values {
            Values::Window { readings, channels: 1, .. } if !readings.is_empty() => {
                log_mel.clip(readings, work, stored)
            }
            Values::Image { pixels, height, width, channels }
                if Map::new(height, width, channels) == map && pixels.len() == map.len() =>
            {
                stored.copy_from_slice(pixels);
            }
            _ => return Err(SampleError::Sound { bands: map.height, columns: map.width }),
        }
        return Ok(());
    }
    match (sample.values, spec.input.kind) {
        (Values::Image { pixels, height, width, channels }, InputKind::Image) => {
            let values = pixels.len();
            let wanted = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
            if !matches!(channels, 1 | 3) || values == 0 || Some(values) != wanted {
                return Err(SampleError::Image { height, width, channels, values });
            }
            fit::resize(pixels, height, width, channels, network.input, stored);
            Ok(())
        }
        (Values::Image { pixels, height, width, channels }, InputKind::Latents) => {
            let map = network.input;
            if Map::new(height, width, channels) != map || pixels.len() != map.len() {
                let wants = [map.height, map.width, map.channels];
                return Err(SampleError::Latents { shape: [height, width, channels], wants });
            }
            stored.copy_from_slice(pixels);
            Ok(())
        }
        (Values::Window { readings, length, channels }, InputKind::Window) => {
            let (wants_length, wants_channels) = (network.input.width, network.input.channels);
            if (length, channels, readings.len()) != (wants_length, wants_channels, wants_length * wants_channels) {
                return Err(SampleError::Window { length, channels, wants_length, wants_channels });
            }
            stored.copy_from_slice(bytemuck::cast_slice(readings));
            Ok(())
        }
        (Values::Window { readings, length, channels }, InputKind::Tokens) => {
            let (wants_length, vocabulary) = (network.input.width, spec.input.vocabulary);
            if (length, channels, readings.len()) != (wants_length, 1, wants_length) {
                return Err(SampleError::Window { length, channels, wants_length, wants_channels: 1 });
            }
            let known = |&code: &i16| usize::try_from(code).is_ok_and(|code| code < vocabulary);
            if let Some(at) = readings.iter().position(|code| !known(code)) {
                return Err(SampleError::Code { code: readings[at], at, vocabulary });
            }
            stored.copy_from_slice(bytemuck::cast_slice(readings));
            Ok(())
        }
        _ => Err(SampleError::Kind { wants: spec.input.kind }),
    }
}

/// The encoder's input of a stored sample.
pub fn input_of(spec: &Spec, scales: &[ChannelScale], stored: &[u8], out: &mut [i8]) {
    match spec.input.kind {
        InputKind::Image => fit::to_input(stored, spec.input.channels, out),
        InputKind::Window => signal::to_input(scales, bytemuck::cast_slice(stored), out),
        InputKind::Tokens => token::to_input(spec.input.vocabulary, stored, out),
        InputKind::Audio => audio::to_input(scales, stored, out),
        InputKind::Latents => latent::to_input(scales, stored, out),
    }
}

/// Lets the scales follow a stored sample, where the input has scales.
pub fn follow_scales(spec: &Spec, scales: &mut [ChannelScale], stored: &[u8]) {
    match spec.input.kind {
        InputKind::Image | InputKind::Tokens => {}
        InputKind::Latents => latent::follow(scales, stored),
        InputKind::Window => signal::follow(scales, &spec.input, bytemuck::cast_slice(stored)),
        InputKind::Audio => audio::follow(scales, stored),
    }
}

/// How many scales the input has.
pub fn scales_len(spec: &Spec) -> usize {
    match spec.input.kind {
        InputKind::Image | InputKind::Tokens => 0,
        InputKind::Window | InputKind::Latents => spec.input.channels,
        InputKind::Audio => spec.input.height,
    }
}

/// View number `number` of step `step` of a task, of a stored sample.
#[allow(clippy::too_many_arguments)]
pub fn view_of(
    spec: &Spec,
    pretext: &Pretext,
    scales: &[ChannelScale],
    stored: &[u8],
    seed: Seed,
    step: u64,
    number: usize,
    out: &mut [i8],
) {
    // All four turns of each sample are in a step.
    let quarters = (pretext.task == Task::Rotation).then(|| number % pretext.views);
    view_by(spec, &spec.views, quarters, scales, stored, Draws::new(seed, step, tensor::VIEW + number as u32), out);
}

/// A view by the changes `views`.
pub(super) fn view_by(
    spec: &Spec,
    views: &ViewSpec,
    quarters: image::Quarters,
    scales: &[ChannelScale],
    stored: &[u8],
    draws: Draws,
    out: &mut [i8],
) {
    let map = Map::new(spec.input.height, spec.input.width, spec.input.channels);
    match spec.input.kind {
        InputKind::Image => {
            image::view(views, stored, map, quarters, draws, out);
        }
        InputKind::Window => {
            signal::view(views, &spec.input, scales, bytemuck::cast_slice(stored), map, draws, out);
        }
        InputKind::Tokens => token::view(spec.input.vocabulary, views.mask, stored, draws, out),
        InputKind::Audio => audio::view(views, scales, stored, map, draws, out),
        InputKind::Latents => latent::view(views, scales, stored, map, draws, out),
    }
}

/// Sample `number` of step `step`.
pub fn pick_of(spec: &Spec, replay: &Replay, seed: Seed, step: u64, number: usize) -> Option<Pick> {
    replay.pick(number, spec.replay.fresh, Draws::new(seed, step, tensor::PICK))
}

/// Sample `number` of step `step`, from the replay buffer alone.
pub(super) fn drawn(replay: &Replay, seed: Seed, step: u64, number: usize) -> Option<Pick> {
    replay.pick(number, 0, Draws::new(seed, step, tensor::PICK))
}

/// The descriptor of `input` for the redundancy policy: the first layer pooled, to `i8` by its own exact shift.
pub(super) fn describe(network: &Network, params: Params, input: &[i8], descriptor: &mut [i8], scratch: &mut Scratch) {
    let grid = network.descriptor_grid();
    let all = core::mem::take(&mut scratch.accumulators);
    let sums = &mut all[..grid.len()];
    forward::first_pooled(network, params, input, Windows::new(grid, sums), scratch);
    narrow::nearest(sums, shift_for(narrow::largest(sums), 8), descriptor);
    scratch.accumulators = all;
}
