//! The path of a sample, one function a call of the learner: where `.ci/panics.sh` begins to look for panics.

use nestling::learner::{Alone, Did, Learner, SampleError};
use nestling::sample::Sample;

#[inline(never)]
pub fn observe(learner: &mut Learner, sample: &Sample) -> Result<(), SampleError> {
    learner.observe(sample)
}

#[inline(never)]
pub fn step(learner: &mut Learner) -> Did {
    learner.step(&Alone)
}

#[inline(never)]
pub fn perceive(learner: &mut Learner, sample: &Sample, feature: &mut [i8]) -> Result<(), SampleError> {
    learner.perceive(sample, feature)
}
