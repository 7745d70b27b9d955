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
/// marker is preceded by bits that no Huffman code may have, all ones: a whole frame never gets there. (A progressive
/// image of a single scan is refused with that: nobody writes one, it is what is left of one that was cut off.)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A grey progressive image of 64x64, all coefficients 0: a scan of DC and one of AC coefficients, each one bit a block.
    fn progressive(dc: &[u8], ac: &[u8]) -> Vec<u8> {
        let mut out = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
        out.extend([1; 64]);
        out.extend([0xff, 0xc2, 0, 11, 8, 0, 64, 0, 64, 1, 1, 0x11, 0]);
        out.extend([0xff, 0xc4, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.extend([0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0]);
        out.extend(dc);
        if !ac.is_empty() {
            out.extend([0xff, 0xda, 0, 8, 1, 1, 0, 1, 63, 0]);
            out.extend(ac);
        }
        out.extend([0xff, 0xd9]);
        out
    }

    fn read(jpeg: &[u8]) -> Result<Record, String> {
        let mut record = Record::default();
        decode(jpeg, header(jpeg)?, &mut Vec::new(), &mut record)?;
        Ok(record)
    }

    #[test]
    fn progressive_images_are_read_whole_or_not_at_all() {
        let grey = super::super::Data::Image { pixels: vec![128; 64 * 64], height: 64, width: 64, channels: 1 };
        assert_eq!(read(&progressive(&[0; 8], &[0; 8])).unwrap().data, grey);
        read(&progressive(&[0; 8], &[0; 4])).unwrap_err();
        read(&progressive(&[0; 4], &[])).unwrap_err();
        read(&progressive(&[0; 8], &[])).unwrap_err();
    }

    #[test]
    fn a_header_is_judged_before_memory_is_taken() {
        let mut lie = progressive(&[0; 8], &[0; 8]);
        let size = lie.windows(4).position(|w| w == [0, 64, 0, 64]).unwrap();
        lie[size..size + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        assert!(read(&lie).unwrap_err().contains("65535x65535 pixels"));
        for cut in 0..lie.len() {
            read(&lie[..cut]).unwrap_err();
        }
    }
}
