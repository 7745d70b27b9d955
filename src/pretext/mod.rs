//! Self-supervised tasks, one file each. `learner` calls them; they know networks and numbers, not streams.

pub mod contrastive;
pub mod denoise;
pub mod dictionary;
pub mod objective;
