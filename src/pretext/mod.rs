//! Self-supervised tasks, one file each. `learner` calls them; they know networks and numbers, not streams.

#[cfg(test)]
pub(crate) mod check;
pub mod contrastive;
pub mod denoise;
pub mod dictionary;
pub mod objective;
pub mod softmax;
pub mod unit;
