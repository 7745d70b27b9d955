//! The bytes of a checkpoint: an ordinary safetensors file whose metadata begins with a seal.
//!
//! The first entry of the metadata is the checksum of the whole file, BLAKE3 with these 64 digits taken as zeros, and the
//! second is that of the state that this one came from. Both stand at fixed places, so that the checksum is known to be
//! right before anything in the file is read as more than bytes.

use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

use super::StoreError;
use crate::learner::{Learner, Numbers};
use crate::sample::EncoderVersion;
use crate::state::{self, Hash};

/// What this version writes and reads.
pub const FORMAT: &str = "nestling checkpoint 3";
/// Bytes of the header's length, before the header.
pub const LENGTH: usize = 8;
const DIGITS: usize = 64;
const OPENING: &[u8] = br#"{"__metadata__":{"checksum":""#;
const BETWEEN: &[u8] = br#"","parent":""#;
const CHECKSUM_AT: usize = LENGTH + OPENING.len();
const PARENT_AT: usize = CHECKSUM_AT + DIGITS + BETWEEN.len();
/// Bytes of a checkpoint up to the end of its seal.
const SEALED: usize = PARENT_AT + DIGITS;

/// The state of a learner as the bytes of a checkpoint. Taking it and writing it ([`Store::save`](super::Store::save)) are
/// two things, so that a slow disk never holds up learning. [`Snapshot::take`] uses the memory again.
#[derive(Default)]
pub struct Snapshot {
    bytes: Vec<u8>,
    tensors: Vec<(&'static str, Dtype, usize)>,
    state_hash: Option<Hash>,
    version: Option<EncoderVersion>,
    samples: u64,
    backbone: Option<String>,
}

impl Snapshot {
    /// What the next one is to say of what stands between samples and learner: in a checkpoint's metadata it is `backbone`.
    pub fn stand_behind(&mut self, backbone: Option<&String>) {
        self.backbone = backbone.cloned();
    }

    /// The state of `learner` now.
    ///
    /// # Errors
    /// [`StoreError::Model`].
    pub fn of(learner: &mut Learner) -> Result<Self, StoreError> {
        let mut snapshot = Snapshot::default();
        snapshot.take(learner)?;
        Ok(snapshot)
    }

    /// Takes the state of `learner` now in place of what was here.
    ///
    /// # Errors
    /// [`StoreError::Model`]; the snapshot is empty then and is not written.
    pub fn take(&mut self, learner: &mut Learner) -> Result<(), StoreError> {
        (self.state_hash, self.version) = (None, None);
        self.tensors.clear();
        learner.visit_state(|name, mut numbers| {
            let (dtype, len) = (dtype(&numbers), numbers.bytes().len());
            if len > 0 {
                self.tensors.push((name, dtype, len));
            }
        });
        // The widest numbers first, so that all lie at multiples of their size.
        self.tensors.sort_by_key(|(_, dtype, _)| core::cmp::Reverse(dtype.bitsize()));
        let hash = state::hash(learner);
        self.header(learner, hash)?;
        for bits in [32, 16, 8] {
            learner.visit_state(|_, mut numbers| {
                if dtype(&numbers).bitsize() == bits {
                    self.bytes.extend_from_slice(numbers.bytes());
                }
            });
        }
        (self.state_hash, self.version) = (Some(hash), Some(learner.version()));
        self.samples = learner.counters().observed;
        Ok(())
    }

    fn header(&mut self, learner: &Learner, hash: Hash) -> Result<(), StoreError> {
        let counters = learner.counters();
        let spec = toml::to_string(learner.spec()).map_err(|e| StoreError::Model(e.to_string()))?;
        let unsealed = "0".repeat(DIGITS);
        let seed = counters.seed;
        let metadata = json!({
            "checksum": unsealed,
            "parent": unsealed,
            "format": FORMAT,
            "spec": spec,
            "encoder_version": counters.version.to_string(),
            "lesson": (counters.lessons_published + counters.lessons_rolled_back).to_string(),
            "samples": counters.observed.to_string(),
            "steps": counters.steps.to_string(),
            "random_state": format!("seed {seed} and the tensor \"counters\"; there is no generator with a state of its own"),
            "state_hash": hash.to_string(),
        });
        let mut metadata = metadata;
        if let (Some(backbone), Some(metadata)) = (&self.backbone, metadata.as_object_mut()) {
            metadata.insert("backbone".into(), backbone.as_str().into());
        }
        let mut header = Map::from_iter([("__metadata__".to_string(), metadata)]);
        let mut begin = 0;
        for &(name, dtype, len) in &self.tensors {
            let shape = [len * 8 / dtype.bitsize()];
            header.insert(name.into(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, begin + len] }));
            begin += len;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; LENGTH]);
        serde_json::to_writer(&mut self.bytes, &Value::Object(header)).map_err(|e| StoreError::Model(e.to_string()))?;
        let padded = self.bytes.len().next_multiple_of(LENGTH);
        self.bytes.resize(padded, b' ');
        let len = (padded - LENGTH) as u64;
        self.bytes[..LENGTH].copy_from_slice(&len.to_le_bytes());
        if self.bytes.capacity() - self.bytes.len() < begin {
            // A header that grows by a digit is to find room the next time.
            self.bytes.reserve_exact(begin + 1024);
        }
        Ok(())
    }

    /// Hash of the learner's state; none of an empty snapshot.
    pub fn state_hash(&self) -> Option<Hash> {
        self.state_hash
    }

    /// Version of the published encoder; none of an empty snapshot.
    pub fn version(&self) -> Option<EncoderVersion> {
        self.version
    }

    /// Samples that the learner had taken in.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Bytes that a save of it writes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was taken yet.
    pub fn is_empty(&self) -> bool {
        self.state_hash.is_none()
    }

    /// The file, which comes from the state with the checksum `parent`; and its own checksum.
    pub(super) fn sealed(&mut self, parent: Hash) -> (&[u8], Hash) {
        self.bytes[PARENT_AT..SEALED].copy_from_slice(parent.to_string().as_bytes());
        let mut hasher = Hasher::new();
        hasher.update(&self.bytes);
        let checksum = hasher.finish();
        self.bytes[CHECKSUM_AT..][..DIGITS].copy_from_slice(checksum.to_string().as_bytes());
        (&self.bytes, checksum)
    }
}

fn dtype(numbers: &Numbers) -> Dtype {
    match numbers {
        Numbers::I8(_) => Dtype::I8,
        Numbers::I16(_) => Dtype::I16,
        Numbers::I32(_) => Dtype::I32,
        Numbers::Bytes(_) => Dtype::U8,
    }
}

/// Whether a tensor of `dtype` and `len` bytes is what `numbers` are stored as.
pub(super) fn fits(numbers: &mut Numbers, found: Dtype, len: usize) -> bool {
    dtype(numbers) == found && numbers.bytes().len() == len
}

/// The checksum that a file beginning with `head` claims, and that of its parent; `None` where it is not sealed.
pub(super) fn seal(head: &[u8]) -> Option<(Hash, Hash)> {
    let head = head.get(..SEALED)?;
    let sealed = head[LENGTH..].starts_with(OPENING) && head[CHECKSUM_AT + DIGITS..].starts_with(BETWEEN);
    let digits = |at: usize| {
        let digits = &head[at..at + DIGITS];
        let hash = Hash(*blake3::Hash::from_hex(digits).ok()?.as_bytes());
        // A flipped bit that makes a small letter a large one is still a flipped bit.
        (hash.to_string().as_bytes() == digits).then_some(hash)
    };
    digits(CHECKSUM_AT).zip(digits(PARENT_AT)).filter(|_| sealed)
}

/// The checksum of a whole file, which may come in parts.
pub(super) struct Hasher {
    hasher: blake3::Hasher,
    passed: usize,
}

impl Hasher {
    pub fn new() -> Self {
        Hasher { hasher: blake3::Hasher::new(), passed: 0 }
    }

    pub fn update(&mut self, part: &[u8]) {
        // The checksum's own digits count as zeros.
        let at = |place: usize| place.saturating_sub(self.passed).min(part.len());
        let (from, to) = (at(CHECKSUM_AT), at(CHECKSUM_AT + DIGITS));
        self.hasher.update(&part[..from]).update(&[b'0'; DIGITS][..to - from]).update(&part[to..]);
        self.passed += part.len();
    }

    pub fn finish(&self) -> Hash {
        Hash(*self.hasher.finalize().as_bytes())
    }
}
