//! The loop of learning from a source as fast as it goes: the same for a recording, a data set and the simulator.

use crate::learner::{Did, Join, Learner, SampleError};
use crate::source::{Record, Source, SourceError};

/// Why learning stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    #[error(transparent)]
    Source(#[from] SourceError),
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
    /// Samples at most, over all passes.
    pub samples: Option<u64>,
}

/// Takes `learner` through `source`, doing all that is due after each sample. Samples that the learner's state already
/// holds (a resumed run) are read and passed over, so that an uncut run and a resumed one see the same stream. The first
/// sample of a board's recording is number [`DeviceInfo::first`](crate::source::link::DeviceInfo::first) of its stream.
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
) -> Result<(), DriveError> {
    let mut record = Record::default();
    let mut index = source.device().map_or(0, |device| device.first);
    let done = learner.counters().observed;
    for epoch in 0..extent.epochs {
        if epoch > 0 {
            source.rewind()?;
        }
        let before = index;
        while extent.samples.is_none_or(|most| index < most) && source.read_next(&mut record)? {
            index += 1;
            if index <= done {
                continue;
            }
            let taken = learner.stand_beside(&record.beside).and_then(|()| learner.observe(&record.sample()));
            taken.map_err(|problem| DriveError::Sample {
                index: index - 1,
                source_name: source.describe(),
                problem,
            })?;
            loop {
                let did = learner.step(join);
                if did == Did::Idle {
                    break;
                }
                watch(learner, Some(did));
            }
            if !watch(learner, None) {
                return Ok(());
            }
        }
        if index == before && extent.samples.is_none_or(|most| index < most) {
            return Err(DriveError::Empty(source.describe()));
        }
    }
    Ok(())
}
