//! `npy:X.npy[,Y.npy]` where X holds still images, `[N, H, W]` or `[N, H, W, 1 or 3]` of bytes; Y `[N]` their labels.
//!
//! Integer labels are classes, float labels values. Still images have no neighbours in time: each is its own segment and group.

use super::labels::RowLabels;
use super::npy::Npy;
use super::uri::{Nan, Uri};
use super::{Indexed, Label, MAX_PIXELS, Record, SourceError, npy_labels};
use crate::sample::Micros;

/// Still images in a NumPy file, read one at a time.
pub struct NpyImages {
    npy: Npy,
    dims: [usize; 3],
    labels: RowLabels,
}

impl NpyImages {
    pub(super) fn new(npy: Npy, uri: &Uri) -> Result<NpyImages, SourceError> {
        let q = &uri.query;
        let of_signals = [
            ("segments", q.segments.is_some()),
            ("window", q.window.is_some()),
            ("stride", q.stride.is_some()),
            ("rate", q.rate.is_some()),
            ("label", q.label.is_some()),
            ("group", q.group.is_some()),
            ("nan", q.nan != Nan::Error),
        ];
        if let Some((key, _)) = of_signals.iter().find(|(_, given)| *given) {
            let problem = format!("{key} applies to signals, and {} holds images {:?}", npy.path, npy.shape);
            return Err(SourceError::uri(
                &uri.text,
                problem,
                format!("leave {key} out; labels come from a second file Y.npy"),
            ));
        }
        let dims = match npy.shape[..] {
            [_, h, w] | [_, h, w, 1] => [h, w, 1],
            [_, h, w, 3] => [h, w, 3],
            _ => [0, 0, 0],
        };
        let pixels = dims[0].checked_mul(dims[1]);
        if !npy.byte || pixels.is_none_or(|p| p == 0 || p > MAX_PIXELS) {
            let problem = format!("shape {:?} of {} is no set of images", npy.shape, npy.dtype);
            let remedy = "save images as uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), signals as (N, C)";
            return Err(SourceError::file(&npy.path, problem, remedy));
        }
        if npy.fortran {
            let remedy = "save it in C order: numpy.save(path, numpy.ascontiguousarray(x))";
            return Err(SourceError::file(&npy.path, "the images are in Fortran order", remedy));
        }
        let labels = match uri.paths.get(1) {
            Some(path) => npy_labels::read(path, &vec![0; npy.shape[0]], q, &npy.path)?,
            None => RowLabels::None,
        };
        Ok(NpyImages { npy, dims, labels })
    }
}

impl Indexed for NpyImages {
    fn describe(&self) -> String {
        let [h, w, c] = self.dims;
        format!("npy: {}, {} images {w}x{h}x{c}", self.npy.path, self.npy.shape[0])
    }

    fn len(&self) -> usize {
        self.npy.shape[0]
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<bool, SourceError> {
        let [h, w, c] = self.dims;
        self.npy.bytes((index * h * w * c) as u64, record.image_mut(h, w, c))?;
        record.time = Micros(index as u64 * super::mjpeg::FRAME_MICROS);
        record.segment = index as u32;
        record.group = index as u32;
        record.label = self.labels.get(index);
        Ok(true)
    }

    fn label(&self, index: usize) -> Option<Label> {
        self.labels.get(index)
    }

    fn in_order(&self) -> bool {
        false
    }

    fn group(&self, index: usize) -> u32 {
        index as u32
    }

    fn class_names(&self) -> &[String] {
        self.labels.names()
    }
}
