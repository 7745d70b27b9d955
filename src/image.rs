//! Images: a model, the options that decide its bits, and optionally a learner's whole state, in one block of bytes.
//!
//! The host makes them; firmware embeds them ([`Aligned`]) or finds them in a region of its flash, and reads them where
//! they lie: nothing is copied, and nothing in them is believed before its length and the checksum of all were checked.
//!
//! All numbers are little-endian:
//!
//! | bytes | hold |
//! |---|---|
//! | 0..8 | `nestling` |
//! | 8..12 | format, [`FORMAT`] |
//! | 12..16 | length of the image in bytes |
//! | 16..20 | CRC-32 (zlib's) of all that follows |
//! | 20..24 | length of the head |
//! | 24.. | head, in postcard: seed, expected samples, [`Spec`]; then zeros to the next multiple of 4 |
//! | then | one record a tensor, in the order of [`Learner::visit_state`]; none: the learner has seen nothing |
//!
//! A record is one byte length of the name, one byte kind ([`Kind`]), two zeros, four bytes length of the data, the name
//! and the data, each with zeros to the next multiple of 4.

use crate::kernels::Kernels;
use crate::learner::{Counters, Learner, Options};
use crate::net::error::PlanError;
use crate::net::spec::Spec;
use crate::sample::Seed;
use crate::state::CRC;

/// What this version reads and writes. It changes with the layout, which includes that of [`Spec`].
pub const FORMAT: u32 = 2;
const MAGIC: &[u8; 8] = b"nestling";
/// Bytes before the head.
const PRELUDE: usize = 24;
/// Where the bytes begin that the checksum covers.
const CHECKED: usize = 20;

/// Bytes whose address is a multiple of 64, for an image that firmware embeds:
///
/// ```ignore
/// static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("NESTLING_IMAGE")));
/// let image = Image::parse(&IMAGE.0)?;
/// ```
#[repr(C, align(64))]
pub struct Aligned<B: ?Sized>(pub B);

/// Why bytes are no image, or none for this learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The address of the bytes is no multiple of 4.
    Misaligned,
    /// The bytes do not begin as an image does.
    Magic,
    /// The image was made by another version.
    Format { found: u32 },
    /// The image says that it is longer than the bytes given.
    Short { says: u64, given: usize },
    /// The bytes are not those that were written.
    Checksum,
    /// The head holds no model of this version.
    Model,
    /// No record, or a damaged one, where one should begin.
    Record { offset: usize },
    /// The learner that the image describes cannot be.
    Plan(PlanError),
    /// The learner's model wants another length of this tensor (0: the image has none).
    Tensor { name: &'static str, found: usize, wanted: usize },
    /// The buffer is too small.
    Buffer,
}

impl core::fmt::Display for ImageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Misaligned => {
                write!(f, "the image does not lie at a multiple of 4 bytes; embed it with image::Aligned")
            }
            Self::Magic => write!(f, "the bytes do not begin with \"nestling\"; make an image with `nestling export`"),
            Self::Format { found } => {
                write!(f, "the image has format {found} and this version reads {FORMAT}; export it again")
            }
            Self::Short { says, given } => {
                write!(f, "the image has {says} bytes and {given} are there; it was cut off, export it again")
            }
            Self::Checksum => write!(f, "the image is damaged: its checksum is another; export it again"),
            Self::Model => write!(f, "the image holds no model that this version can read; export it again"),
            Self::Record { offset } => write!(f, "the image is damaged at byte {offset}; export it again"),
            Self::Plan(problem) => problem.fmt(f),
            Self::Tensor { name, found, wanted } => write!(
                f,
                "tensor {name} has {found} bytes in the image and the model wants {wanted}; export it for this model"
            ),
            Self::Buffer => write!(f, "the model does not fit the buffer; give a larger one"),
        }
    }
}

impl core::error::Error for ImageError {}

/// What the numbers of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    I8 = 0,
    I16 = 1,
    I32 = 2,
    /// Plain records of this crate.
    Bytes = 3,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Kind::I8, Kind::I16, Kind::I32, Kind::Bytes].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One tensor of an image, where it lies. The address of its bytes is a multiple of 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor<'a> {
    pub name: &'a str,
    pub kind: Kind,
    pub bytes: &'a [u8],
}

/// An image that was checked.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    spec: Spec,
    spec_bytes: &'a [u8],
    seed: Seed,
    expected_samples: Option<u64>,
    records: &'a [u8],
    checksum: u32,
    len: usize,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}

/// The first record of `bytes`, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(Tensor<'_>, &[u8])> {
    let (name_len, kind) = (usize::from(*bytes.first()?), Kind::from_byte(*bytes.get(1)?)?);
    let data_len = usize::try_from(word(bytes, 4)?).ok()?;
    let data_at = 8 + name_len.next_multiple_of(4);
    let end = data_at.checked_add(data_len.checked_next_multiple_of(4)?)?;
    let name = core::str::from_utf8(bytes.get(8..8 + name_len)?).ok()?;
    let rest = bytes.get(end..)?;
    Some((Tensor { name, kind, bytes: bytes.get(data_at..data_at + data_len)? }, rest))
}

impl<'a> Image<'a> {
    /// Checks the image that `bytes` begin with; what follows it is left alone.
    ///
    /// # Errors
    /// [`ImageError`]; no bytes make it panic.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        if !bytes.starts_with(MAGIC) {
            return Err(ImageError::Magic);
        }
        let short = |says| ImageError::Short { says, given: bytes.len() };
        let at = |offset| word(bytes, offset).ok_or(short(PRELUDE as u64));
        let (format, len, checksum, head_len) = (at(8)?, at(12)?, at(16)?, at(20)?);
        if format != FORMAT {
            return Err(ImageError::Format { found: format });
        }
        if !bytes.as_ptr().addr().is_multiple_of(4) {
            return Err(ImageError::Misaligned);
        }
        let whole = usize::try_from(len).ok().and_then(|len| bytes.get(..len)).ok_or(short(u64::from(len)))?;
        let checked = whole.get(CHECKED..).ok_or(ImageError::Checksum)?;
        if CRC.checksum(checked) != checksum {
            return Err(ImageError::Checksum);
        }
        let head_end = usize::try_from(head_len).ok().and_then(|n| n.checked_add(PRELUDE)).ok_or(ImageError::Model)?;
        let head = whole.get(PRELUDE..head_end).ok_or(ImageError::Model)?;
        let ((seed, expected_samples), spec_bytes) =
            postcard::take_from_bytes::<(u64, Option<u64>)>(head).map_err(|_| ImageError::Model)?;
        let spec = decode_spec(spec_bytes)?;
        let records_at = head_end.next_multiple_of(4);
        let records = whole.get(records_at..).ok_or(ImageError::Model)?;
        let mut rest = records;
        while !rest.is_empty() {
            let offset = whole.len() - rest.len();
            (_, rest) = split_record(rest).ok_or(ImageError::Record { offset })?;
        }
        let len = whole.len();
        Ok(Image { spec, spec_bytes, seed: Seed(seed), expected_samples, records, checksum, len })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Length in bytes.
    pub fn total_bytes(&self) -> usize {
        self.len
    }

    /// The model as it is written in the image and in `Hello` on the link; see [`decode_spec`].
    pub fn spec_bytes(&self) -> &'a [u8] {
        self.spec_bytes
    }

    /// The image's own checksum: what tells it from other images.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// `options` with the seed and the expected samples that the image was made with.
    pub fn options(&self, options: Options) -> Options {
        Options { seed: self.seed, expected_samples: self.expected_samples, ..options }
    }

    /// How a board runs the image's learner: in little memory, and with the weights that it does not train any more read
    /// where they lie in the image. A learner that trains none, or whose stem is still to be learned, has them in memory.
    pub fn board_options(&self, kernels: Kernels) -> Options {
        let counters =
            self.tensor("counters").and_then(|bytes| bytemuck::try_pod_read_unaligned::<Counters>(bytes).ok());
        let knows_its_stem = counters.is_some_and(|counters| counters.observed >= counters.stem_samples);
        let flash_weights = knows_its_stem && self.spec.trains();
        self.options(Options { kernels, lean: true, flash_weights, ..Options::new(self.seed) })
    }

    /// The image's learner over `memory`, with its state, made in `place`; `options` are [`Image::options`] or
    /// [`Image::board_options`].
    ///
    /// # Errors
    /// [`ImageError::Plan`], [`ImageError::Tensor`].
    pub fn learner<'p, 'm>(
        &self,
        options: &Options,
        memory: &'m mut [u8],
        place: &'p mut Option<Learner<'m>>,
    ) -> Result<&'p mut Learner<'m>, ImageError>
    where
        'a: 'm,
    {
        let weights: &'a [i8] = bytemuck::cast_slice(self.tensor("learning.weights").unwrap_or_default());
        let learner = Learner::place(&self.spec, options, weights, memory, place).map_err(ImageError::Plan)?;
        self.restore(learner)?;
        Ok(learner)
    }

    /// All tensors, in the order of [`Learner::visit_state`].
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'a>> {
        let mut rest = self.records;
        core::iter::from_fn(move || {
            let (tensor, after) = split_record(rest)?;
            rest = after;
            Some(tensor)
        })
    }

    /// The bytes of the tensor `name`, where they lie; their address is a multiple of 4.
    pub fn tensor(&self, name: &str) -> Option<&'a [u8]> {
        self.tensors().find(|tensor| tensor.name == name).map(|tensor| tensor.bytes)
    }

    /// Whether the image holds a state. Without one the learner that it describes has seen nothing.
    pub fn has_state(&self) -> bool {
        !self.records.is_empty()
    }

    /// Writes the image's state into `learner`; one without state leaves it as it is.
    ///
    /// # Errors
    /// [`ImageError::Tensor`] where the learner is of another model; it is then as it was.
    pub fn restore(&self, learner: &mut Learner) -> Result<(), ImageError> {
        if !self.has_state() {
            return Ok(());
        }
        let all_weights = learner.network().weights_len;
        let in_flash = !learner.published().0.flash.is_empty();
        // A learner whose lower weights lie in flash keeps the upper ones, and nothing of the dictionary's lesson.
        let part_of = |name: &str, wanted: usize| {
            let bytes = self.tensor(name).unwrap_or_default();
            match bytes.len() {
                found if found == all_weights && in_flash && name.ends_with(".weights") => {
                    &bytes[found - wanted.min(found)..]
                }
                _ if in_flash && wanted == 0 => &[],
                _ => bytes,
            }
        };
        let mut problem = None;
        learner.visit_state(|name, mut numbers| {
            let wanted = numbers.bytes().len();
            let found = part_of(name, wanted).len();
            if found != wanted {
                problem = problem.or(Some(ImageError::Tensor { name, found, wanted }));
            }
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        learner.visit_state(|name, mut numbers| {
            let bytes = numbers.bytes();
            bytes.copy_from_slice(part_of(name, bytes.len()));
        });
        learner.restored();
        Ok(())
    }
}

/// The model in `bytes`, which must hold nothing else. Whether it can be is for [`Learner::plan`] to say.
///
/// # Errors
/// [`ImageError::Model`].
pub fn decode_spec(bytes: &[u8]) -> Result<Spec, ImageError> {
    match postcard::take_from_bytes(bytes) {
        Ok((spec, [])) => Ok(spec),
        _ => Err(ImageError::Model),
    }
}

/// Writes `spec` into `buffer` as images and the link hold it (about 100 to 200 bytes).
///
/// # Errors
/// [`ImageError::Buffer`].
pub fn encode_spec<'b>(spec: &Spec, buffer: &'b mut [u8]) -> Result<&'b [u8], ImageError> {
    postcard::to_slice(spec, buffer).map(|written| &*written).map_err(|_| ImageError::Buffer)
}

#[cfg(feature = "std")]
mod write;
#[cfg(feature = "std")]
pub use write::to_bytes;

#[cfg(all(test, feature = "std"))]
mod tests;
