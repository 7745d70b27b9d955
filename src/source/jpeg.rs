//! One JPEG image into a pixel buffer: its dimensions are read and judged before anything is allocated for them.
//!
//! Grey images stay grey (1 channel); all others become red, green, blue. Damage is an error, never grey filling.

use super::{MAX_PIXELS, Record};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// No JPEG holds more pixels a byte: the blocks of a progressive image that says nothing take one bit for 64 pixels.
const PIXELS_PER_BYTE: usize = 1024;

/// What the frame header of a JPEG says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub width: usize,
    pub height: usize,
    /// 1 for grey, 3 for everything else.
    pub channels: usize,
}

/// Finds the frame header and judges its dimensions.
pub(super) fn header(jpeg: &[u8]) -> Result<Header, String> {
    let mut at = 2;
    if jpeg.get(..2) != Some(&[0xff, 0xd8]) {
        return Err("no JPEG start marker".to_owned());
    }
    loop {
        match jpeg.get(at..at + 4) {
            Some(&[0xff, 0xff, ..]) => at += 1,
            Some(&[0xff, 0xc0..=0xcf, _, _]) if !matches!(jpeg[at + 1], 0xc4 | 0xc8 | 0xcc) => break,
            Some(&[0xff, 0xd8..=0xda, ..]) => return Err("no frame header".to_owned()),
            Some(&[0xff, 0x01 | 0xd0..=0xd7, ..]) => at += 2,
            Some(&[0xff, _, high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2),
            _ => return Err("its header is cut off or damaged".to_owned()),
        }
    }
    let Some(&[_, h1, h0, w1, w0, components]) = jpeg.get(at + 4..at + 10) else {
        return Err("its header is cut off".to_owned());
    };
    let height = usize::from(u16::from_be_bytes([h1, h0]));
    let width = usize::from(u16::from_be_bytes([w1, w0]));
    if width * height == 0 || width * height > MAX_PIXELS || width * height > PIXELS_PER_BYTE * jpeg.len() {
        return Err(format!("its header says {width}x{height} pixels, in {} bytes", jpeg.len()));
    }
    Ok(Header { width, height, channels: if components == 1 { 1 } else { 3 } })
}

/// The decoder fills up a frame that ends too early with grey, as a viewer should and a learner must not. So the end
/// marker is preceded by bits that no Huffman code may have, all ones: a whole frame never gets there.
const NO_CODE: [u8; 66] = {
    let mut bytes = [0; 66];
    let mut i = 0;
    while i < 66 {
        bytes[i] = 0xff;
        i += 2;
    }
    bytes[65] = 0xd9;
    bytes
};

/// Decodes into the record's buffer, which grows only where it is too small; `scratch` is for the frame with a guarded end.
pub(super) fn decode(jpeg: &[u8], header: Header, scratch: &mut Vec<u8>, record: &mut Record) -> Result<(), String> {
    let Header { width, height, channels } = header;
    scratch.clear();
    match jpeg.strip_suffix(&[0xff, 0xd9]) {
        Some(body) => {
            scratch.extend_from_slice(body);
            scratch.extend_from_slice(&NO_CODE);
        }
        None => scratch.extend_from_slice(jpeg),
    }
    let space = if channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(scratch.as_slice()), options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    if decoder.dimensions() != Some((width, height)) || decoder.output_buffer_size() != Some(width * height * channels)
    {
        return Err("it has two frame headers".to_owned());
    }
    decoder.decode_into(record.image_mut(height, width, channels)).map_err(|e| e.to_string())
}
