//! The link: messages between a board and a host over a byte stream (UART, USB, a pipe to an emulator).
//!
//! [`message`] says what is said, [`frame`] how it is packed: postcard, a CRC-32, COBS and a zero byte. Neither side
//! allocates, and what arrives damaged is dropped and counted. `docs/link.md` describes every byte.
//!
//! A device opens with `Hello`. Where samples come over the link it says `Ready` for each that it has room for; where it
//! has a sensor it sends what it sees while recording is on. The host asks for all else.

pub mod frame;
pub mod message;

pub use frame::{Decoder, Deframer, forward, send};
pub use message::{Bytes, Feature, Health, Hello, Memory, RawSample, Shape, StateHash, ToDevice, ToHost, Wear};

use crate::learner::AROUND_SAMPLE;

/// Version of the messages, said in `Hello`. It changes with the layout of any message.
pub const PROTOCOL: u16 = 2;

/// Bytes that a decoder's buffer needs for a frame that carries a sample of `sample` bytes, or anything smaller.
pub const fn buffer_len(sample: usize) -> usize {
    let needed = sample + AROUND_SAMPLE;
    // Hello's and Log's texts and a model.
    if needed < 512 { 512 } else { needed }
}

#[cfg(all(test, feature = "std"))]
mod tests;
