//! Self-supervised tasks, one file each. `learner` calls them; they know networks and numbers, not streams.

pub mod centred;
#[cfg(test)]
pub(crate) mod check;
pub mod cluster;
pub mod code;
pub mod contrastive;
pub mod denoise;
pub mod dictionary;
pub mod inpaint;
pub mod masked_token;
pub mod objective;
pub mod predictive;
pub mod predictor;
pub mod rotation;
pub mod second_moment;
pub mod softmax;
pub mod unit;
pub mod variational;
pub mod vicreg;
