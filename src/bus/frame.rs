//! Messages packed: each is a frame of a length (`u32`, little-endian, of what follows), a byte [`VERSION`], and the message in
//! [postcard](https://postcard.jamesmunns.com/wire-format). docs/bus.md has the bytes.

use std::io::Read;

use super::message::Message;

/// Another one for whatever is changed in a message.
pub const VERSION: u8 = 1;
/// A longer frame is not read.
pub const MOST_BYTES: usize = 1 << 20;

/// Why frames cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("a frame of {0} bytes: it is from 2 to {MOST_BYTES} long; is this a socket of nestling's packed messages?")]
    Length(u32),
    #[error("a frame of version {0}, and this program reads version {VERSION}; use programs of the same release")]
    Version(u8),
    #[error("a frame that holds no message: {0}")]
    Message(postcard::Error),
}

/// Appends `message` as one frame.
pub fn write(message: &Message, out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(VERSION);
    // A vector takes all, and no type of a message refuses to be written.
    *out = postcard::to_extend(message, std::mem::take(out)).expect("a vector takes all");
    let length = (out.len() - from - 4) as u32;
    out[from..from + 4].copy_from_slice(&length.to_le_bytes());
}

/// The next message of `from`, through `buffer`; `None` at its end.
///
/// # Errors
/// [`FrameError`]; after one other than of the version nothing more can be read.
pub fn read(from: &mut impl Read, buffer: &mut Vec<u8>) -> Result<Option<Message>, FrameError> {
    let mut length = [0; 4];
    match from.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut length[1..])?,
    }
    let length = u32::from_le_bytes(length);
    if !(2..=MOST_BYTES as u32).contains(&length) {
        return Err(FrameError::Length(length));
    }
    buffer.clear();
    // What does not come is not taken memory for.
    if from.take(u64::from(length)).read_to_end(buffer)? < length as usize {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    match buffer[0] {
        VERSION => postcard::from_bytes(&buffer[1..]).map(Some).map_err(FrameError::Message),
        other => Err(FrameError::Version(other)),
    }
}
