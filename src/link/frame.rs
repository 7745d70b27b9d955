//! Frames: a message in postcard, its CRC-32, both in COBS (Cheshire and Baker 1999), and a zero byte.
//!
//! [`send`] passes a frame on in pieces of at most 255 bytes, so that a sender needs no buffer as long as a sample.
//! [`Decoder`] takes bytes one at a time and finds the next frame after any garbage; [`Deframer`] is the same in a buffer
//! that is lent to it.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use super::message::{Bytes, RawSample, Shape, ToDevice};
use crate::state::CRC;

/// Longest piece of a frame: a COBS block.
const BLOCK: usize = 255;
/// Bytes of the checksum that ends a frame, little-endian.
const CHECK: usize = 4;

/// A frame while it is being written.
struct Framer<W, E> {
    /// A block: its length, then data without zeros.
    block: [u8; BLOCK],
    /// Bytes in it, the length among them.
    filled: usize,
    checksum: crc::Digest<'static, u32>,
    write: W,
    failure: Option<E>,
}

impl<E, W: FnMut(&[u8]) -> Result<(), E>> Framer<W, E> {
    fn new(write: W) -> Self {
        Framer { block: [0; BLOCK], filled: 1, checksum: CRC.digest(), write, failure: None }
    }

    fn end_block(&mut self) -> postcard::Result<()> {
        self.block[0] = self.filled as u8;
        self.pass_on(self.filled)?;
        self.filled = 1;
        Ok(())
    }

    fn pass_on(&mut self, len: usize) -> postcard::Result<()> {
        (self.write)(&self.block[..len]).map_err(|failure| {
            self.failure = Some(failure);
            postcard::Error::SerializeBufferFull
        })
    }

    /// One byte of what the frame holds.
    fn put(&mut self, byte: u8) -> postcard::Result<()> {
        if byte == 0 {
            return self.end_block();
        }
        self.block[self.filled] = byte;
        self.filled += 1;
        if self.filled == BLOCK { self.end_block() } else { Ok(()) }
    }

    fn end(&mut self) -> postcard::Result<()> {
        let checksum = self.checksum.clone().finalize();
        checksum.to_le_bytes().into_iter().try_for_each(|byte| self.put(byte))?;
        self.end_block()?;
        self.block[0] = 0;
        self.pass_on(1)
    }
}

impl<E, W: FnMut(&[u8]) -> Result<(), E>> Flavor for &mut Framer<W, E> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.checksum.update(&[byte]);
        self.put(byte)
    }

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.checksum.update(data);
        data.iter().try_for_each(|&byte| self.put(byte))
    }

    fn finalize(self) -> postcard::Result<()> {
        self.end()
    }
}

/// Sends `message` as one frame: `write` gets its bytes in order, 1 to 255 at a time. It takes 300 bytes of stack.
///
/// # Errors
/// The first failure of `write`; the frame is cut off there, and the other side drops it.
pub fn send<E>(message: &impl Serialize, write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut framer = Framer::new(write);
    // Messages are plain data, for which postcard itself has no failure: what stops it is `write`.
    let _ = postcard::serialize_with_flavor(message, &mut framer);
    framer.failure.map_or(Ok(()), Err)
}

/// Sends a message that is in postcard already ([`Decoder::frame`]), as [`send`] does.
///
/// # Errors
/// As [`send`].
pub fn forward<E>(message: &[u8], write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut framer = Framer::new(write);
    let _ = (&mut framer).try_extend(message).and_then(|()| framer.end());
    framer.failure.map_or(Ok(()), Err)
}

/// Finds frames in a stream of bytes. The buffer in which they are put together is lent to each call: the same one, in
/// which nobody else writes from a frame's first byte until it is read.
#[derive(Debug, Default)]
pub struct Deframer {
    /// Bytes of the frame so far; of a whole frame, without its checksum.
    len: usize,
    /// Data bytes left in the block.
    left: u8,
    /// A zero stands between this block and the next.
    zero: bool,
    /// Some byte of this frame has arrived, and all of them had room.
    begun: bool,
    overflowed: bool,
    dropped: u32,
}

impl Deframer {
    /// Frames so far that were damaged, too long or no message.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Takes one byte. `true`: a whole frame is in `buffer`, until the next byte.
    pub fn push(&mut self, byte: u8, buffer: &mut [u8]) -> bool {
        if byte == 0 {
            return self.end(buffer);
        }
        if !self.begun {
            (self.len, self.left, self.zero, self.begun, self.overflowed) = (0, 0, false, true, false);
        }
        if self.left > 0 {
            self.left -= 1;
            self.store(byte, buffer);
        } else {
            if self.zero {
                self.store(0, buffer);
            }
            self.left = byte - 1;
            self.zero = usize::from(byte) < BLOCK;
        }
        false
    }

    fn store(&mut self, byte: u8, buffer: &mut [u8]) {
        match buffer.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len += 1;
            }
            None => self.overflowed = true,
        }
    }

    fn end(&mut self, buffer: &[u8]) -> bool {
        if !core::mem::take(&mut self.begun) {
            return false;
        }
        let whole = self.left == 0 && !self.overflowed;
        match self.frame(buffer).split_last_chunk::<CHECK>() {
            Some((message, checksum)) if whole && CRC.checksum(message) == u32::from_le_bytes(*checksum) => {
                self.len = message.len();
                true
            }
            _ => {
                self.dropped = self.dropped.saturating_add(1);
                self.len = 0;
                false
            }
        }
    }

    /// The bytes of the frame that [`Deframer::push`] found: one message in postcard.
    pub fn frame<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        let len = if self.begun { 0 } else { self.len };
        buffer.get(..len).unwrap_or_default()
    }

    /// The message in the frame; one that is none is counted as dropped.
    pub fn message<'b, M: Deserialize<'b>>(&mut self, buffer: &'b [u8]) -> Option<M> {
        match postcard::take_from_bytes(self.frame(buffer)) {
            Ok((message, [])) => Some(message),
            _ => {
                self.dropped = self.dropped.saturating_add(1);
                None
            }
        }
    }

    /// As [`Deframer::message`], for a board: a sample's readings lie at an even address.
    pub fn to_device<'b>(&mut self, buffer: &'b mut [u8]) -> Option<ToDevice<'b>> {
        let message: ToDevice = self.message(buffer)?;
        let ToDevice::Sample(sample @ RawSample { shape: Shape::Window { .. }, values: Bytes(values), .. }) = message
        else {
            return self.message(buffer);
        };
        let RawSample { number, time, segment, shape, .. } = sample;
        let (address, len) = (values.as_ptr().addr(), values.len());
        let mut at = address - buffer.as_ptr().addr();
        if address % 2 == 1 {
            // The tag of the message at least lies before the values.
            buffer.copy_within(at..at + len, at - 1);
            at -= 1;
        }
        // The frame is used up: read a second time it would be another message.
        self.len = 0;
        let values = Bytes(&buffer[at..at + len]);
        Some(ToDevice::Sample(RawSample { number, time, segment, shape, values }))
    }
}

/// A [`Deframer`] with a buffer of its own.
///
/// ```
/// use nestling::link::{Decoder, ToDevice, send};
///
/// let mut stream = Vec::new();
/// send(&ToDevice::Record(true), |piece| { stream.extend_from_slice(piece); Ok::<(), ()>(()) }).unwrap();
/// let mut decoder = Decoder::new([0; 512]);
/// for byte in stream {
///     if decoder.push(byte) {
///         assert_eq!(decoder.to_device(), Some(ToDevice::Record(true)));
///     }
/// }
/// ```
pub struct Decoder<B> {
    deframer: Deframer,
    buffer: B,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Decoder<B> {
    /// A decoder for frames that fit `buffer` ([`buffer_len`](super::buffer_len)).
    pub fn new(buffer: B) -> Self {
        Decoder { deframer: Deframer::default(), buffer }
    }

    /// As [`Deframer::dropped`].
    pub fn dropped(&self) -> u32 {
        self.deframer.dropped()
    }

    /// As [`Deframer::push`].
    pub fn push(&mut self, byte: u8) -> bool {
        self.deframer.push(byte, self.buffer.as_mut())
    }

    /// As [`Deframer::frame`].
    pub fn frame(&self) -> &[u8] {
        self.deframer.frame(self.buffer.as_ref())
    }

    /// As [`Deframer::message`].
    pub fn message<'s, M: Deserialize<'s>>(&'s mut self) -> Option<M> {
        self.deframer.message(self.buffer.as_ref())
    }

    /// As [`Deframer::to_device`].
    pub fn to_device(&mut self) -> Option<ToDevice<'_>> {
        self.deframer.to_device(self.buffer.as_mut())
    }
}
