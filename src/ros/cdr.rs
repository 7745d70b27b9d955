//! Messages as bytes: the common data representation that ROS 2 uses (plain CDR, version 1), behind its header of 4 bytes.
//! Written little-endian, read in either order. What is read borrows its arrays of bytes from the input, and takes no more
//! memory than a small multiple of it.

use byteorder::{BigEndian, LittleEndian};
use cdr_encoding::{from_bytes, to_writer};
use serde::{Deserialize, Serialize};

/// Representation (plain CDR, little-endian) and options.
const HEADER: [u8; 4] = [0, 1, 0, 0];

/// Why bytes are no message of the type that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CdrError {
    #[error("a message of {0} bytes is shorter than its header")]
    Short(usize),
    #[error("representation {0:#06x} is not read; plain CDR (0x0000, 0x0001) is")]
    Representation(u16),
    #[error("{0}; is it of another type, or cut off?")]
    Garbled(cdr_encoding::Error),
    #[error("a field is too large for a message: {0}")]
    Unwritable(cdr_encoding::Error),
}

/// Appends `message` with its header to `out`, which holds nothing yet or other messages.
///
/// # Errors
/// [`CdrError::Unwritable`]
pub fn encode_into(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), CdrError> {
    out.extend_from_slice(&HEADER);
    // Alignment counts from the end of the header.
    to_writer::<_, LittleEndian, _>(out, message).map_err(CdrError::Unwritable)
}

/// `message` with its header.
///
/// # Errors
/// [`CdrError::Unwritable`]
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, CdrError> {
    let mut bytes = Vec::new();
    encode_into(message, &mut bytes)?;
    Ok(bytes)
}

/// Reads a message with its header; what follows it in `bytes` is padding.
///
/// # Errors
/// [`CdrError`]
pub fn decode<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> Result<M, CdrError> {
    let (header, body) = bytes.split_first_chunk::<4>().ok_or(CdrError::Short(bytes.len()))?;
    match u16::from_be_bytes([header[0], header[1]]) {
        0 => from_bytes::<M, BigEndian>(body),
        1 => from_bytes::<M, LittleEndian>(body),
        other => return Err(CdrError::Representation(other)),
    }
    .map(|(message, _)| message)
    .map_err(CdrError::Garbled)
}

/// For fields of bytes: written and read at once instead of one by one, and borrowed from what is read.
pub(super) mod octets {
    use std::fmt;
    use std::marker::PhantomData;

    use bytemuck::Pod;
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<T: Pod, S: Serializer>(values: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytemuck::cast_slice(values))
    }

    pub fn deserialize<'de, T: Pod, D: Deserializer<'de>>(from: D) -> Result<&'de [T], D::Error> {
        from.deserialize_bytes(Borrow(PhantomData))
    }

    struct Borrow<T>(PhantomData<T>);

    impl<'de, T: Pod> Visitor<'de> for Borrow<T> {
        type Value = &'de [T];

        fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
            to.write_str("bytes")
        }

        fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<&'de [T], E> {
            bytemuck::try_cast_slice(bytes).map_err(|e| E::custom(e))
        }
    }
}

#[cfg(test)]
mod tests;
