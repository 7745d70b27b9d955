//! The losses over embeddings behind one call: what `learner` asks for, whichever task a head has.

use super::contrastive;
use crate::kernels::Kernels;
use crate::net::arena::Arena;
use crate::net::task::{Pretext, Task};

/// Working memory of the loss of one task.
pub struct Buffers<'m> {
    contrastive: contrastive::Buffers<'m>,
}

impl<'m> Buffers<'m> {
    /// For at most `rows` embeddings of `dim` numbers.
    pub fn take(_pretext: &Pretext, rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        Buffers { contrastive: contrastive::Buffers::take(rows, dim, arena) }
    }
}

/// Numbers that the loss of a task keeps from step to step; all 0 at the start.
pub const fn state_len(_pretext: &Pretext, _dim: usize) -> usize {
    0
}

/// Loss of a step in 1/256 nat, or in the unit of the task's file; `z` (`[rows, dim]`) is overwritten with its gradient, up
/// to a positive factor common to all rows.
///
/// `targets`: for a task that predicts, the embeddings of the same rows, `i8`, constants of the step; else empty. `state`
/// is [`state_len`] long and changed only where `learn`.
pub fn loss(
    kernels: Kernels,
    pretext: &Pretext,
    z: &mut [i32],
    targets: &[i8],
    state: &mut [i32],
    learn: bool,
    buffers: &mut Buffers,
) -> u32 {
    let _ = (targets, state, learn);
    debug_assert_eq!(pretext.task, Task::Contrastive);
    contrastive::nt_xent(kernels, z, pretext.views, pretext.temperature_shift as u32, &mut buffers.contrastive)
}
