//! From a camera's frames to pixels as everything else takes them: red, green, blue, or grey.

use super::super::{Record, jpeg, yuv};
use super::mode::Pixels;

/// How the bytes of a frame lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub pixels: Pixels,
    pub width: usize,
    pub height: usize,
    /// Bytes from one row to the next; of no meaning for MJPEG.
    pub stride: usize,
}

/// One row of a frame into one row of pixels.
type Convert = fn(&[u8], &mut [u8]);

impl Layout {
    /// Channels of the pixels that come out; of MJPEG a grey image has one all the same.
    pub fn channels(&self) -> usize {
        if self.pixels == Pixels::Grey { 1 } else { 3 }
    }

    /// Converts a frame into the record; `false` where the frame is damaged. `scratch` is for the JPEG decoder.
    pub fn read(&self, frame: &[u8], scratch: &mut Vec<u8>, record: &mut Record) -> bool {
        let (row, convert): (usize, Convert) = match self.pixels {
            Pixels::Yuyv => (2 * self.width, |from, to| yuv::row(from, yuv::YUYV, to)),
            Pixels::Grey => (self.width, |from, to| to.copy_from_slice(from)),
            Pixels::Mjpeg => return self.read_jpeg(frame, scratch, record),
        };
        // The last row need not be filled up.
        if self.stride < row || frame.len() < (self.height - 1) * self.stride + row {
            return false;
        }
        let out = record.image_mut(self.height, self.width, self.channels());
        for (from, to) in frame.chunks(self.stride).zip(out.chunks_exact_mut(self.width * self.channels())) {
            convert(&from[..row], to);
        }
        true
    }

    fn read_jpeg(&self, frame: &[u8], scratch: &mut Vec<u8>, record: &mut Record) -> bool {
        // Drivers fill up the buffer's end.
        let Some(end) = frame.windows(2).rposition(|pair| pair == END) else { return false };
        let frame = &frame[..end + 2];
        let Ok(header) = jpeg::header(frame) else { return false };
        if (header.width, header.height) != (self.width, self.height) {
            return false;
        }
        if has_tables(frame) {
            return jpeg::decode(frame, header, scratch, record).is_ok();
        }
        let whole = [&frame[..2], &AVI1, &frame[2..]].concat();
        jpeg::decode(&whole, header, scratch, record).is_ok()
    }
}

/// Marks the end of a JPEG image.
const END: [u8; 2] = [0xff, 0xd9];

/// Cameras may leave out the Huffman tables, as those of motion JPEG are always the same. This segment says so to the
/// decoder.
const AVI1: [u8; 18] = *b"\xff\xe0\x00\x10AVI1\0\0\0\0\0\0\0\0\0\0";

/// There are Huffman tables before the first scan.
fn has_tables(jpeg: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        match marker {
            0xc4 => return true,
            0xda => return false,
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::super::Data;
    use super::*;

    fn layout(pixels: Pixels, width: usize, height: usize, stride: usize) -> Layout {
        Layout { pixels, width, height, stride }
    }

    fn read(layout: Layout, frame: &[u8]) -> Option<Data> {
        let mut record = Record::default();
        layout.read(frame, &mut Vec::new(), &mut record).then_some(record.data)
    }

    #[test]
    fn rows_may_be_longer_than_their_pixels() {
        let frame = [1, 2, 3, 99, 4, 5, 6];
        let expected = Data::Image { pixels: vec![1, 2, 3, 4, 5, 6], height: 2, width: 3, channels: 1 };
        assert_eq!(read(layout(Pixels::Grey, 3, 2, 4), &frame), Some(expected));
    }

    #[test]
    fn a_frame_that_was_cut_off_is_refused() {
        assert_eq!(read(layout(Pixels::Grey, 3, 2, 4), &[0; 6]), None);
        assert_eq!(read(layout(Pixels::Yuyv, 4, 2, 8), &[0; 15]), None);
        assert_eq!(read(layout(Pixels::Mjpeg, 4, 2, 0), &[0; 15]), None);
        assert_eq!(read(layout(Pixels::Grey, 3, 2, 2), &[0; 99]), None);
    }

    fn jpeg() -> Vec<u8> {
        let pixels: Vec<u8> = (0..32 * 16 * 3).map(|i| (i * 7 % 256) as u8).collect();
        let mut out = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 90);
        encoder.encode(&pixels, 32, 16, image::ExtendedColorType::Rgb8).expect("it encodes");
        out
    }

    #[test]
    fn a_jpeg_without_tables_is_read_as_one_with_them() {
        let with = jpeg();
        let mut without = with[..2].to_vec();
        let mut at = 2;
        while with[at + 1] != 0xda {
            let end = at + 2 + usize::from(u16::from_be_bytes([with[at + 2], with[at + 3]]));
            if with[at + 1] != 0xc4 {
                without.extend(&with[at..end]);
            }
            at = end;
        }
        without.extend(&with[at..]);
        assert!(without.len() < with.len() && !has_tables(&without) && has_tables(&with));
        let layout = layout(Pixels::Mjpeg, 32, 16, 0);
        let expected = read(layout, &with);
        assert!(expected.is_some());
        assert_eq!(read(layout, &without), expected);
    }

    #[test]
    fn a_jpeg_ends_where_it_says_and_has_the_size_that_was_agreed() {
        let good = jpeg();
        let mut filled = good.clone();
        filled.extend([0; 100]);
        assert_eq!(read(layout(Pixels::Mjpeg, 32, 16, 0), &filled), read(layout(Pixels::Mjpeg, 32, 16, 0), &good));
        assert_eq!(read(layout(Pixels::Mjpeg, 16, 16, 0), &good), None);
        assert_eq!(read(layout(Pixels::Mjpeg, 32, 16, 0), &good[..good.len() / 2]), None);
    }
}
