//! What reads features on the device, taught with few labels: prototypes with a shared covariance, nearest neighbours,
//! an online linear probe, and a novelty score; a bank of labelled samples that follows an encoder that keeps learning;
//! and coarse masks from an encoder's map.
//!
//! Everything takes its memory from an [`Arena`], works in integers, and does not allocate.
//! Controllers and firmware call it with features of [`Learner::perceive`](crate::learner::Learner::perceive);
//! `evaluate` is the judge's instrument in float, above the line.

pub mod cells;
pub mod exemplars;
pub mod factor;
pub mod finetune;
pub mod knn;
pub mod linear;
pub mod novelty;
pub mod prototypes;
pub mod sketch;

use core::fmt;

use crate::net::arena::Arena;

/// Why a probe cannot be made or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeError {
    /// `what` of the probe must be within its range.
    OutOfRange { what: &'static str, least: usize, most: usize },
    /// A feature of another length than the probe was made for.
    FeatureLength { wants: usize, given: usize },
    /// A class beyond those that the probe was made for.
    Class { classes: usize, given: usize },
    /// A stored sample of another length than the bank was made for.
    StoredLength { wants: usize, given: usize },
    /// So many features were taught that the sums would overflow.
    Full { most: u32 },
    /// Nothing of `class` is there to be taken back.
    NotTaught { class: usize },
    /// More memory than was given.
    MemoryTooSmall { needed: usize },
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::OutOfRange { what, least, most } => write!(f, "{what} must be from {least} to {most}"),
            ProbeError::FeatureLength { wants, given } => write!(
                f,
                "the probe reads features of {wants} numbers and was given one of {given}; make it for this encoder"
            ),
            ProbeError::Class { classes, given } => {
                write!(f, "the probe was made for {classes} classes, numbered from 0, and was given class {given}")
            }
            ProbeError::StoredLength { wants, given } => {
                write!(f, "the bank keeps samples of {wants} bytes and was given one of {given}")
            }
            ProbeError::Full { most } => write!(f, "{most} features were taught, as many as the sums hold; begin anew"),
            ProbeError::NotTaught { class } => {
                write!(f, "nothing that was taught of class {class} is left to take back")
            }
            ProbeError::MemoryTooSmall { needed } => write!(f, "the probe needs {needed} bytes of memory"),
        }
    }
}

impl core::error::Error for ProbeError {}

/// Bytes of the block from which `take` can take its memory.
///
/// # Errors
/// Those of `take`.
pub fn block_len<T>(take: impl FnOnce(&mut Arena<'static>) -> Result<T, ProbeError>) -> Result<usize, ProbeError> {
    let mut arena = Arena::counting();
    take(&mut arena)?;
    Ok(Arena::block_len(arena.used()))
}

/// What `take` takes from `memory`, of at least [`block_len`] bytes.
///
/// # Errors
/// Those of `take`, or [`ProbeError::MemoryTooSmall`].
///
/// ```
/// use nestling::kernels::Kernels;
/// use nestling::probe::{self, prototypes::Prototypes};
/// # fn main() -> Result<(), probe::ProbeError> {
/// let bytes = probe::block_len(|arena| Prototypes::take(Kernels::detect(), 4, 4, 2, arena))?;
/// let mut memory = vec![0; bytes];
/// let mut prototypes = probe::over(&mut memory, |arena| Prototypes::take(Kernels::detect(), 4, 4, 2, arena))?;
/// prototypes.learn(&[90, 3, 0, 7], 0)?;
/// prototypes.learn(&[5, 80, 2, 6], 1)?;
/// prototypes.relearn();
/// assert_eq!(prototypes.predict(&[70, 9, 1, 7])?, Some(0));
/// # Ok(())
/// # }
/// ```
pub fn over<'m, T>(
    memory: &'m mut [u8],
    take: impl FnOnce(&mut Arena<'m>) -> Result<T, ProbeError>,
) -> Result<T, ProbeError> {
    let mut arena = Arena::over(memory);
    let taken = take(&mut arena)?;
    if arena.fits() { Ok(taken) } else { Err(ProbeError::MemoryTooSmall { needed: Arena::block_len(arena.used()) }) }
}

/// `value` of `what` is from `least` to `most`.
fn within(what: &'static str, value: usize, least: usize, most: usize) -> Result<(), ProbeError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(ProbeError::OutOfRange { what, least, most }) }
}

/// A feature has the length that the probe reads.
fn of_length(wants: usize, feature: &[i8]) -> Result<(), ProbeError> {
    if feature.len() == wants { Ok(()) } else { Err(ProbeError::FeatureLength { wants, given: feature.len() }) }
}

/// A class is among those of the probe.
fn of_class(classes: usize, class: usize) -> Result<(), ProbeError> {
    if class < classes { Ok(()) } else { Err(ProbeError::Class { classes, given: class }) }
}

/// Number of the largest score; ties go to the smaller number.
fn largest_of(scores: impl Iterator<Item = i64>) -> Option<usize> {
    let mut best: Option<(usize, i64)> = None;
    for (number, score) in scores.enumerate() {
        if best.is_none_or(|(_, most)| score > most) {
            best = Some((number, score));
        }
    }
    best.map(|(number, _)| number)
}
