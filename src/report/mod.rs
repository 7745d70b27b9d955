//! A report with pictures: one HTML file that needs nothing else, for light and dark screens, desks and phones.
//!
//! The caller fills a [`Report`]; [`Report::write`] renders it. Charts are drawn here as SVG, pictures become PNG, both
//! inside the file. All text is escaped. Nothing here computes a result or judges one: verdicts are the caller's.

mod axes;
mod chart;
mod html;
mod map;
mod picture;
mod scatter;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

pub use chart::{LineChart, Series};
pub use map::{Track, TrackMap};
pub use picture::{Picture, Strip};
pub use scatter::{Dot, Scatter};

/// Everything a report says, from top to bottom.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub title: String,
    /// One paragraph: what was done and what came out.
    pub summary: String,
    /// What was hoped for and whether it happened.
    pub verdicts: Vec<Verdict>,
    /// The table of drives; left out where empty.
    pub runs: Vec<Run>,
    pub sections: Vec<Section>,
    pub made: Made,
}

/// One honest line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub holds: Holds,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Yes,
    No,
    /// The difference is within noise, or it was not measured.
    Unclear,
}

/// How one kind of features drove. Serialises to the object of that name in the JSON of `nestling demo`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// `learned`, `untrained`, `raw`; the key, not a field, of the JSON.
    #[serde(skip)]
    pub name: String,
    /// Mean absolute error of the steering on held-out frames, full lock = 1.
    pub steering_mae: f64,
    /// Mean distance from the middle of the road while driving, in metres.
    pub cross_track_error: f64,
    pub laps_completed: f64,
    /// Labelled frames the controller was taught with.
    pub labels: usize,
}

/// A heading, paragraphs, figures.
#[derive(Clone, Debug, Default)]
pub struct Section {
    pub heading: String,
    pub paragraphs: Vec<String>,
    pub figures: Vec<Figure>,
}

#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Figure {
    Pictures(Strip),
    Lines(LineChart),
    Scatter(Scatter),
    Map(TrackMap),
}

/// How to get the same report again.
#[derive(Clone, Debug, Default)]
pub struct Made {
    pub command: String,
    pub seed: u64,
    pub version: String,
    /// BLAKE3 of all learner state, hex.
    pub state_hash: String,
    /// Anything else, as name and value: machine, seconds, samples.
    pub details: Vec<(String, String)>,
}

impl Report {
    /// The whole page.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// Writes the page to `path`, replacing what was there.
    ///
    /// # Errors
    /// [`ReportError::Write`] with the path.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ReportError> {
        let path = path.as_ref();
        std::fs::write(path, self.to_html())
            .map_err(|source| ReportError::Write { path: path.display().to_string(), source })
    }
}

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    #[error(
        "{path}: the report cannot be written: {source}\n  what to do: choose a file in a directory that exists and is writable"
    )]
    Write {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("picture \"{caption}\": {bytes} bytes are not {width} x {height} pixels of {channels} bytes")]
    PictureSize { caption: String, bytes: usize, width: usize, height: usize, channels: usize },
}
