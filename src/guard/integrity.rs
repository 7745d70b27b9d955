//! The parts of a learner's memory that are checked: each has a checksum ([`crate::fixed::checksum`]), which is noted
//! when the part is changed and found again before the part is built on.

/// A part of the memory that has a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// 8-bit weights, thresholds and shifts of the encoder that learns.
    Learning,
    /// The packed forms of its weights.
    LearningPacked,
    /// 16-bit masters.
    Masters,
    /// Momentum, and what the losses keep from step to step.
    Optimizer,
    /// 8-bit weights, thresholds and shifts of the encoder that controllers read.
    Published,
    /// The packed form of its weights.
    PublishedPacked,
    /// What an undone lesson goes back to: masters, momentum and the losses' own.
    Accepted,
}

impl Part {
    pub const ALL: [Part; 7] = [
        Part::Learning,
        Part::LearningPacked,
        Part::Masters,
        Part::Optimizer,
        Part::Published,
        Part::PublishedPacked,
        Part::Accepted,
    ];
    /// Parts that a step changes; they come first.
    pub(crate) const OF_A_STEP: usize = 4;

    /// The part in words, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Learning => "weights that learn",
            Part::LearningPacked => "packed weights that learn",
            Part::Masters => "masters",
            Part::Optimizer => "optimizer state",
            Part::Published => "published weights",
            Part::PublishedPacked => "packed published weights",
            Part::Accepted => "masters of the last published lesson",
        }
    }
}
