//! `images:DIR`: PNG and JPEG files; every subfolder is a class. Folders and files are taken in the order of their names.
//!
//! Grey if the first image is grey, else red, green, blue. Images may differ in size; damaged ones are passed over.

use super::{Indexed, Label, MAX_PIXELS, Record, SourceError, jpeg};
use crate::sample::Micros;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// A larger file than this is no still image for us.
const MAX_FILE: u64 = 256 << 20;

/// Image files in folders.
pub struct Images {
    path: String,
    /// File and class.
    files: Vec<(PathBuf, Option<u32>)>,
    classes: Vec<String>,
    grey: bool,
    scratch: Vec<u8>,
}

impl Images {
    pub(super) fn open(path: &str) -> Result<Images, SourceError> {
        let mut files = Vec::new();
        let mut classes = Vec::new();
        let (folders, own) = list(Path::new(path))?;
        for folder in folders {
            let (_, images) = list(&folder)?;
            if !images.is_empty() {
                let class = classes.len() as u32;
                classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
                files.extend(images.into_iter().map(|f| (f, Some(class))));
            }
        }
        if classes.is_empty() {
            files.extend(own.into_iter().map(|f| (f, None)));
        } else if let Some(stray) = own.first() {
            let problem = format!("{} lies beside the folders of the classes", stray.display());
            return Err(SourceError::file(path, problem, "move it into a class's folder, or away"));
        }
        let mut images = Images { path: path.to_owned(), files, classes, grey: false, scratch: Vec::new() };
        if images.files.is_empty() {
            let remedy = "put .png, .jpg or .jpeg files there, one folder for each class";
            return Err(SourceError::file(path, "no images", remedy));
        }
        let (mut record, mut scratch) = (Record::default(), Vec::new());
        for (file, _) in &images.files {
            if let Some(channels) = load(file, &mut scratch, &mut record)? {
                images.grey = channels == 1;
                return Ok(images);
            }
        }
        Err(SourceError::file(path, "none of the images can be decoded", "check the files"))
    }
}

/// Decodes the image file at `path` as it is; its own number of channels, or `None` where it is damaged.
pub(super) fn load(path: &Path, scratch: &mut Vec<u8>, record: &mut Record) -> Result<Option<usize>, SourceError> {
    let io = |e| SourceError::io(&path.to_string_lossy(), e);
    if std::fs::metadata(path).map_err(io)?.len() > MAX_FILE {
        return Ok(None);
    }
    Ok(decode(&std::fs::read(path).map_err(io)?, scratch, record))
}

/// Decodes a PNG or JPEG image; its own number of channels, or `None` where it is damaged or of another kind.
pub(super) fn decode(bytes: &[u8], scratch: &mut Vec<u8>, record: &mut Record) -> Option<usize> {
    if bytes.starts_with(&[0xff, 0xd8]) {
        let decode = |h: jpeg::Header| jpeg::decode(bytes, h, scratch, record).map(|()| h.channels);
        return jpeg::header(bytes).and_then(decode).ok();
    }
    png(bytes, record)
}

/// Makes a record of `channels` grey or colour, whichever is wanted.
pub(super) fn with_channels(channels: usize, grey: bool, record: &mut Record) {
    match (channels, grey) {
        (1, false) => to_colour(record),
        (3, true) => to_grey(record),
        _ => {}
    }
}

fn png(bytes: &[u8], record: &mut Record) -> Option<usize> {
    let (w, h) = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png).into_dimensions().ok()?;
    let (w, h) = (w as usize, h as usize);
    if w.checked_mul(h).is_none_or(|n| n == 0 || n > MAX_PIXELS) {
        return None;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_alloc = Some(16 * MAX_PIXELS as u64);
    reader.limits(limits);
    let image = reader.decode().ok()?;
    if image.color().has_color() {
        record.image_mut(h, w, 3).copy_from_slice(DynamicImage::into_rgb8(image).as_raw());
        return Some(3);
    }
    record.image_mut(h, w, 1).copy_from_slice(DynamicImage::into_luma8(image).as_raw());
    Some(1)
}

/// Makes a record's image grey, by the usual weights of red, green and blue (77, 150, 29 of 256).
fn to_grey(record: &mut Record) {
    if let super::Data::Image { pixels, channels, .. } = &mut record.data {
        for i in 0..pixels.len() / 3 {
            let [r, g, b] = [pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]].map(u32::from);
            pixels[i] = ((77 * r + 150 * g + 29 * b + 128) >> 8) as u8;
        }
        pixels.truncate(pixels.len() / 3);
        *channels = 1;
    }
}

fn to_colour(record: &mut Record) {
    if let super::Data::Image { pixels, channels, .. } = &mut record.data {
        let n = pixels.len();
        pixels.resize(3 * n, 0);
        for i in (0..n).rev() {
            let grey = pixels[i];
            pixels[3 * i..3 * i + 3].fill(grey);
        }
        *channels = 3;
    }
}

/// Folders and images in a folder, each sorted by name; hidden ones are left out.
fn list(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), SourceError> {
    let io = |e| SourceError::io(&folder.to_string_lossy(), e);
    let (mut folders, mut images) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if hidden {
            continue;
        } else if path.is_dir() {
            folders.push(path);
        } else if matches!(extension.as_str(), "png" | "jpg" | "jpeg") {
            images.push(path);
        }
    }
    folders.sort();
    images.sort();
    Ok((folders, images))
}

impl Indexed for Images {
    fn describe(&self) -> String {
        format!("images: {}, {} images in {} classes", self.path, self.files.len(), self.classes.len())
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
        let Some(channels) = load(&self.files[index].0, &mut self.scratch, record)? else { return Ok(false) };
        with_channels(channels, self.grey, record);
        record.time = Micros(index as u64 * super::mjpeg::FRAME_MICROS);
        record.segment = index as u32;
        record.group = index as u32;
        record.label = self.label(index);
        Ok(true)
    }

    fn label(&self, index: usize) -> Option<Label> {
        self.files[index].1.map(Label::Class)
    }

    fn in_order(&self) -> bool {
        false
    }

    fn group(&self, index: usize) -> u32 {
        index as u32
    }

    fn class_names(&self) -> &[String] {
        &self.classes
    }
}
