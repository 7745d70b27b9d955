//! The backbone of a daemon: it works on the perceiving thread, so that what it makes of a frame is learned from, too.

use std::sync::{Arc, OnceLock};

#[cfg(feature = "onnx")]
use crate::onnx::backbone::Backbone;
use crate::source::Record;

/// See the module.
#[derive(Default)]
pub struct Behind {
    #[cfg(feature = "onnx")]
    backbone: Option<Backbone>,
    said: Said,
}

/// What a checkpoint is to say of the backbone, once that is known; where there is one.
pub type Said = Arc<OnceLock<String>>;

impl Behind {
    /// A daemon with `backbone`.
    #[cfg(feature = "onnx")]
    pub fn new(backbone: Backbone) -> Self {
        Behind { backbone: Some(backbone), said: Said::default() }
    }

    /// What checkpoints are to say.
    pub(super) fn said(&self) -> Said {
        self.said.clone()
    }

    /// Bytes that it holds beside what the learner has planned.
    pub fn bytes(&self) -> usize {
        #[cfg(feature = "onnx")]
        return self.backbone.as_ref().and_then(Backbone::bytes).unwrap_or(0);
        #[cfg(not(feature = "onnx"))]
        0
    }

    /// Puts latents in place of a frame. `false`: there are none yet.
    ///
    /// # Errors
    /// Where the record is no frame, in words.
    #[cfg_attr(not(feature = "onnx"), allow(unused_variables))]
    pub(super) fn apply(&mut self, record: &mut Record) -> Result<bool, String> {
        #[cfg(feature = "onnx")]
        if let Some(backbone) = &mut self.backbone {
            let made = backbone.apply(record).map_err(|e| e.to_string())?;
            if made && self.said.get().is_none() {
                let text = backbone.identity().and_then(|identity| serde_json::to_string(&identity).ok());
                let _ = self.said.set(text.unwrap_or_default());
            }
            return Ok(made);
        }
        Ok(true)
    }

    /// There is one.
    pub(super) fn is_there(&self) -> bool {
        #[cfg(feature = "onnx")]
        return self.backbone.is_some();
        #[cfg(not(feature = "onnx"))]
        false
    }
}
