//! Strips of small pictures, shown enlarged with their pixels visible.

use std::io::Cursor;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::ReportError;
use super::html::escape;

/// Pictures in a row with one caption.
#[derive(Clone, Debug, Default)]
pub struct Strip {
    pub title: String,
    pub caption: String,
    pub pictures: Vec<Picture>,
}

/// One picture; the number of its bytes is right by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    caption: String,
    width: usize,
    height: usize,
    /// `[height, width, 3]`
    rgb: Vec<u8>,
}

/// Width in CSS pixels that a picture is enlarged to, or a little less.
const SHOWN: usize = 192;

impl Picture {
    /// `pixels` are `[height, width, channels]` with 1 (grey) or 3 (red, green, blue) channels.
    ///
    /// # Errors
    /// [`ReportError::PictureSize`] where the bytes do not fit the shape.
    pub fn new(
        caption: impl Into<String>,
        width: usize,
        height: usize,
        channels: usize,
        pixels: &[u8],
    ) -> Result<Self, ReportError> {
        let caption = caption.into();
        let sides = [1, 3].contains(&channels) && width.min(height) > 0 && width.max(height) <= 1 << 14;
        if !sides || pixels.len() != width * height * channels {
            return Err(ReportError::PictureSize { caption, bytes: pixels.len(), width, height, channels });
        }
        let rgb = if channels == 3 { pixels.to_vec() } else { pixels.iter().flat_map(|&v| [v; 3]).collect() };
        Ok(Self { caption, width, height, rgb })
    }

    fn html(&self) -> String {
        let caption = escape(&self.caption);
        let Some(png) = self.png() else { return format!("<div>{caption} (this picture could not be encoded)</div>") };
        let zoom = (SHOWN / self.width).max(1);
        let (width, height) = (self.width * zoom, self.height * zoom);
        let data = BASE64_STANDARD.encode(png);
        format!(
            "<div style=\"max-width:{width}px\"><img width=\"{width}\" height=\"{height}\" alt=\"{caption}\" \
             style=\"height:auto\" src=\"data:image/png;base64,{data}\">{caption}</div>"
        )
    }

    fn png(&self) -> Option<Vec<u8>> {
        let (width, height) = (self.width as u32, self.height as u32);
        let mut out = Cursor::new(Vec::new());
        let image = image::RgbImage::from_raw(width, height, self.rgb.clone())?;
        image.write_to(&mut out, image::ImageFormat::Png).ok()?;
        Some(out.into_inner())
    }
}

impl Strip {
    pub(super) fn html(&self) -> String {
        let pictures: Vec<String> = self.pictures.iter().map(Picture::html).collect();
        format!("<div class=\"strip\">\n{}\n</div>", pictures.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_the_wrong_size_is_refused_by_name() {
        let error = Picture::new("view 3", 4, 4, 3, &[0; 47]).unwrap_err().to_string();
        assert_eq!(error, "picture \"view 3\": 47 bytes are not 4 x 4 pixels of 3 bytes");
        assert!(Picture::new("", 0, 4, 3, &[]).is_err());
        assert!(Picture::new("", 2, 2, 1, &[7; 4]).is_ok());
    }

    #[test]
    fn the_png_holds_the_pixels_that_went_in() {
        let pixels: Vec<u8> = (0..24).collect();
        let png = Picture::new("", 4, 2, 3, &pixels).unwrap().png().unwrap();
        assert_eq!(image::load_from_memory(&png).unwrap().to_rgb8().into_raw(), pixels);
    }
}
