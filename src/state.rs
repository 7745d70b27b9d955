//! A learner's whole state as bytes: how many there are, and their hash.
//!
//! Board and host hash alike, so that one line of hex says whether both learned the same bits.

use crate::learner::Learner;

/// BLAKE3 of all learner state. Shown in hex.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hash(pub [u8; 32]);

impl core::fmt::Display for Hash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl core::fmt::Debug for Hash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// The hash of names, lengths and bytes of all state in their fixed order. It takes about 2 KB of stack.
pub fn hash(learner: &mut Learner) -> Hash {
    let mut hasher = blake3::Hasher::new();
    learner.visit_state(|name, mut numbers| {
        let bytes = numbers.bytes();
        hasher.update(name.as_bytes()).update(&[0]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    });
    Hash(*hasher.finalize().as_bytes())
}

/// Bytes of all state.
pub fn len(learner: &mut Learner) -> usize {
    let mut len = 0;
    learner.visit_state(|_, mut numbers| len += numbers.bytes().len());
    len
}

/// CRC-32 as in zlib, Ethernet and PNG: of images, of frames on the link and of generations in flash.
pub(crate) static CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
