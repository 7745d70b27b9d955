//! `sensor_msgs/msg/Image` into pixels as everything else takes them: red, green, blue, or grey.

use super::super::{MAX_PIXELS, Record, yuv};
use crate::ros::messages::Image;

/// Why an image gives no pixels.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its encoding is not read.
    Unknown(String),
    /// It is not what it says.
    Damaged,
}

/// How pixels lie.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// Bytes of a pixel, and which of them are wanted.
    Bytes(usize, &'static [usize]),
    /// Two bytes, of which the upper one is wanted.
    Wide,
    Pairs([usize; 4]),
}

/// Fills `record` with the pixels of `image`; their channels, or `None` where the image has none.
pub fn read(image: &Image, record: &mut Record) -> Result<Option<usize>, Trouble> {
    let layout = match image.encoding.as_str() {
        "mono8" | "8UC1" => Layout::Bytes(1, &[0]),
        "rgb8" => Layout::Bytes(3, &[0, 1, 2]),
        // A matrix of OpenCV is blue, green, red.
        "bgr8" | "8UC3" => Layout::Bytes(3, &[2, 1, 0]),
        "rgba8" => Layout::Bytes(4, &[0, 1, 2]),
        "bgra8" | "8UC4" => Layout::Bytes(4, &[2, 1, 0]),
        "mono16" => Layout::Wide,
        "yuv422" | "uyvy" => Layout::Pairs(yuv::UYVY),
        "yuv422_yuy2" | "yuyv" => Layout::Pairs(yuv::YUYV),
        other => return Err(Trouble::Unknown(other.chars().take(40).collect())),
    };
    let (pixel, channels) = match layout {
        Layout::Bytes(pixel, wanted) => (pixel, wanted.len()),
        Layout::Wide => (2, 1),
        Layout::Pairs(_) => (2, 3),
    };
    let (height, width, step) = (image.height as usize, image.width as usize, image.step as usize);
    let count = height.checked_mul(width).filter(|count| *count > 0 && *count <= MAX_PIXELS).ok_or(Trouble::Damaged)?;
    let (row, in_all) = (width * pixel, step.checked_mul(height - 1));
    let fits = step >= row && in_all.and_then(|n| n.checked_add(row)).is_some_and(|n| n <= image.data.len());
    if !fits || matches!(layout, Layout::Pairs(_)) && width % 2 == 1 {
        return Err(Trouble::Damaged);
    }
    let pixels = record.image_mut(height, width, channels);
    debug_assert_eq!(pixels.len(), count * channels);
    for (from, to) in image.data.chunks(step).zip(pixels.chunks_exact_mut(width * channels)) {
        let from = &from[..row];
        match layout {
            Layout::Bytes(pixel, wanted) if pixel == wanted.len() && wanted[0] == 0 => to.copy_from_slice(from),
            Layout::Bytes(pixel, wanted) => {
                for (from, to) in from.chunks_exact(pixel).zip(to.chunks_exact_mut(channels)) {
                    to.iter_mut().zip(wanted).for_each(|(to, &at)| *to = from[at]);
                }
            }
            Layout::Wide => {
                let upper = usize::from(image.is_bigendian == 0);
                from.chunks_exact(2).zip(to).for_each(|(from, to)| *to = from[upper]);
            }
            Layout::Pairs(order) => yuv::row(from, order, to),
        }
    }
    Ok(Some(channels))
}

#[cfg(test)]
mod tests {
    use super::super::super::Data;
    use super::*;

    fn image<'a>(encoding: &str, width: u32, step: u32, data: &'a [u8]) -> Image<'a> {
        let height = data.len() as u32 / step;
        Image { height, width, encoding: encoding.into(), step, data, ..Image::default() }
    }

    fn pixels(image: &Image) -> Vec<u8> {
        let mut record = Record::default();
        read(image, &mut record).expect("pixels");
        match record.data {
            Data::Image { pixels, .. } => pixels,
            Data::Window { .. } => panic!("an image"),
        }
    }

    #[test]
    fn every_encoding_gives_red_green_blue_or_grey() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(pixels(&image("mono8", 3, 4, &bytes)), [1, 2, 3, 5, 6, 7]);
        assert_eq!(pixels(&image("rgb8", 1, 4, &bytes)), [1, 2, 3, 5, 6, 7]);
        assert_eq!(pixels(&image("bgr8", 1, 4, &bytes)), [3, 2, 1, 7, 6, 5]);
        assert_eq!(pixels(&image("rgba8", 2, 8, &bytes)), [1, 2, 3, 5, 6, 7]);
        assert_eq!(pixels(&image("bgra8", 2, 8, &bytes)), [3, 2, 1, 7, 6, 5]);
        assert_eq!(pixels(&image("mono16", 4, 8, &bytes)), [2, 4, 6, 8]);
        assert_eq!(pixels(&Image { is_bigendian: 1, ..image("mono16", 4, 8, &bytes) }), [1, 3, 5, 7]);
        // Grey as video has it: no colour, and half as bright as it may be.
        assert_eq!(pixels(&image("yuv422", 2, 4, &[128, 126, 128, 126])), [128; 6]);
        assert_eq!(pixels(&image("yuv422_yuy2", 2, 4, &[126, 128, 126, 128])), [128; 6]);
    }

    #[test]
    fn an_image_that_is_not_what_it_says_gives_nothing() {
        let bytes = [0; 12];
        let trouble = |image: Image| read(&image, &mut Record::default());
        assert_eq!(trouble(image("bayer_rggb8", 2, 2, &bytes)), Err(Trouble::Unknown("bayer_rggb8".into())));
        for lie in [
            image("rgb8", 5, 12, &bytes),
            Image { height: 3, ..image("rgb8", 2, 6, &bytes) },
            Image { height: u32::MAX, width: u32::MAX, step: u32::MAX, ..image("mono8", 2, 2, &bytes) },
            Image { height: 0, ..image("mono8", 2, 2, &bytes) },
            image("yuv422", 3, 6, &bytes),
        ] {
            assert_eq!(trouble(lie), Err(Trouble::Damaged));
        }
        // The last row needs no filling.
        let short = Image { height: 2, ..image("mono8", 3, 4, &bytes[..7]) };
        assert_eq!(trouble(short), Ok(Some(1)));
    }
}
