//! The loop of learning from a source as fast as it goes: the same for a recording, a data set and the simulator.

use crate::learner::{Did, Join, Learner, SampleError};
use crate::source::{Record, Source, SourceError};

/// A stream is given up when none of its first samples fits.
const PATIENCE: u64 = 16;

/// Why learning stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No sample fits; this is what is wrong with the first.
    #[error("sample {index} of {source_name}: {problem}")]
    Sample { index: u64, source_name: String, problem: SampleError },
    #[error("{0}: the source gave no sample\n  what to do: check ?range= and the file")]
    Empty(String),
}

/// How much is to be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Passes over the source.
    pub epochs: u64,
    /// Samples that are learned from at most, over all passes.
    pub samples: Option<u64>,
}

/// Takes `learner` through `source`, doing all that is due after each sample. Samples that the learner's state already
/// holds (a resumed run) are read and passed over, so that an uncut run and a resumed one see the same stream. The first
/// sample of a board's recording is number [`DeviceInfo::first`](crate::source::link::DeviceInfo::first) of its stream.
///
/// A sample that does not fit, of a damaged stream or a faulty sensor, is refused: the learner is as it was, and the
/// stream goes on. Returns how many were.
///
/// `watch` is called with all that the learner did, and with `None` when all that was due after a sample is done: then
/// the state can be saved and gone on from, and `false` stops the loop.
///
/// # Errors
/// [`DriveError`].
pub fn learn(
    learner: &mut Learner,
    source: &mut dyn Source,
    extent: Extent,
    join: &impl Join,
    mut watch: impl FnMut(&mut Learner, Option<Did>) -> bool,
) -> Result<u64, DriveError> {
    let mut record = Record::default();
    // Samples of the stream that fit: those that the learner has taken in, once it has caught up.
    let first = source.device().map_or(0, |device| device.first);
    let (mut index, mut refused, mut problem) = (first, 0, None);
    let done = learner.counters().observed;
    for epoch in 0..extent.epochs {
        if epoch > 0 {
            source.rewind()?;
        }
        let before = index;
        while extent.samples.is_none_or(|most| index < most) && source.read_next(&mut record)? {
            let (sample, caught_up) = (record.sample(), index >= done);
            // What was refused before the run was cut is refused again.
            let taken = learner.stand_beside(&record.beside).and_then(|()| match caught_up {
                true => learner.observe(&sample),
                false => learner.hold(&sample),
            });
            if let Err(misfit) = taken {
                refused += 1;
                let problem = *problem.get_or_insert(misfit);
                if index == first && refused >= PATIENCE {
                    return Err(DriveError::Sample { index, source_name: source.describe(), problem });
                }
                continue;
            }
            index += 1;
            if !caught_up {
                continue;
            }
            loop {
                let did = learner.step(join);
                if did == Did::Idle {
                    break;
                }
                watch(learner, Some(did));
            }
            if !watch(learner, None) {
                return Ok(refused);
            }
        }
        if index == before && extent.samples.is_none_or(|most| index < most) {
            let source_name = source.describe();
            return Err(match problem {
                Some(problem) if index == first => DriveError::Sample { index, source_name, problem },
                _ => DriveError::Empty(source_name),
            });
        }
    }
    Ok(refused)
}
