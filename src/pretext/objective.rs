//! The losses over embeddings behind one call: what `learner` asks for, whichever task a head has.

use super::{cluster, contrastive, predictive, predictor, rotation, second_moment, softmax, vicreg};
use crate::kernels::Kernels;
use crate::kernels::tile::{Isa, Work};
use crate::net::arena::Arena;
use crate::net::task::{Pretext, Task};

/// Working memory of the loss of one task: nothing in it outlives a call.
pub enum Buffers<'m> {
    Contrastive(contrastive::Buffers<'m>),
    SecondMoment(second_moment::Buffers<'m>),
    Vicreg(vicreg::Buffers<'m>),
    Predictor(predictor::Buffers<'m>),
    Predictive(predictive::Buffers<'m>),
    Rotation(softmax::Buffers<'m>),
    Cluster(cluster::Buffers<'m>),
    /// Of a task that rebuilds and compares no embeddings.
    None,
}

impl<'m> Buffers<'m> {
    /// For at most `rows` embeddings of `dim` numbers.
    pub fn take(pretext: &Pretext, rows: usize, dim: usize, arena: &mut Arena<'m>) -> Self {
        match pretext.task {
            Task::Contrastive => Buffers::Contrastive(contrastive::Buffers::take(rows, dim, arena)),
            Task::SecondMoment => Buffers::SecondMoment(second_moment::Buffers::take(rows, dim, arena)),
            Task::Vicreg => Buffers::Vicreg(vicreg::Buffers::take(rows, dim, arena)),
            Task::Predictor => Buffers::Predictor(predictor::Buffers::take(rows, dim, arena)),
            Task::Predictive => Buffers::Predictive(predictive::Buffers::take(rows, dim, arena)),
            Task::Rotation => Buffers::Rotation(softmax::Buffers::take(rows, dim, arena)),
            Task::Cluster => Buffers::Cluster(cluster::Buffers::take(rows, dim, pretext.prototypes, arena)),
            Task::Denoise | Task::Inpaint | Task::Variational | Task::MaskedToken => Buffers::None,
        }
    }
}

/// Numbers that the loss of a task keeps from step to step; all 0 at the start.
pub const fn state_len(pretext: &Pretext, dim: usize) -> usize {
    match pretext.task {
        Task::SecondMoment => second_moment::state_len(dim),
        Task::Cluster => cluster::state_len(dim, pretext.prototypes),
        _ => 0,
    }
}

/// Loss of a step in 1/256 nat, or in the unit of the task's file; `z` (`[rows, dim]`, within ±2³⁰) is overwritten with its
/// gradient, up to a positive factor common to all rows. At most 2¹⁴ rows of 2¹⁰ numbers.
///
/// `targets`: for a task that predicts, the embeddings of the same rows, `i8`, constants of the step; else empty. `state`
/// is [`state_len`] long and changed only where `learn`. With the `buffers` of another task there is neither loss nor
/// gradient.
///
/// # Panics
/// Where a task that predicts has fewer targets than rows.
pub fn loss(
    kernels: Kernels,
    pretext: &Pretext,
    z: &mut [i32],
    targets: &[i8],
    state: &mut [i32],
    learn: bool,
    buffers: &mut Buffers,
) -> u32 {
    match buffers {
        // Compiled for every instruction set by itself.
        Buffers::Contrastive(buffers) => {
            contrastive::nt_xent(kernels, z, pretext.views, pretext.temperature_shift as u32, buffers)
        }
        _ => {
            let loss = Loss { pretext, z, targets, state, learn, buffers };
            // Firmware has no room for a copy for each instruction set, and no wide registers that it would pay for.
            if cfg!(feature = "std") { kernels.run(loss) } else { loss.of_task() }
        }
    }
}

struct Loss<'a, 'm> {
    pretext: &'a Pretext,
    z: &'a mut [i32],
    targets: &'a [i8],
    state: &'a mut [i32],
    learn: bool,
    buffers: &'a mut Buffers<'m>,
}

impl Work for Loss<'_, '_> {
    type Output = u32;
    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> u32 {
        self.of_task()
    }
}

impl Loss<'_, '_> {
    #[inline(always)]
    fn of_task(self) -> u32 {
        let Loss { pretext: &Pretext { views, temperature_shift, .. }, z, targets, state, learn, buffers } = self;
        match buffers {
            Buffers::SecondMoment(b) => second_moment::second_moment(z, views, state, learn, b),
            Buffers::Vicreg(b) => vicreg::vicreg(z, views, b),
            Buffers::Predictor(b) => predictor::negative_cosine(z, targets, views, b),
            Buffers::Predictive(b) => predictive::info_nce(z, targets, views, temperature_shift as u32, b),
            Buffers::Rotation(b) => rotation::rotation(z, b),
            Buffers::Cluster(b) => cluster::swapped(z, views, state, learn, b),
            Buffers::Contrastive(_) | Buffers::None => {
                z.fill(0);
                0
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::check;
    use super::*;
    use crate::net::task::PretextSpec;

    /// All tasks over embeddings.
    pub fn all() -> impl Iterator<Item = Pretext> {
        let tasks = Task::ALL.into_iter().filter(|task| !task.rebuilds());
        tasks.map(|task| PretextSpec::new(task).resolved().expect("defaults"))
    }

    /// Rows of a step, 16 of them, and what they are held against.
    #[derive(Clone)]
    pub struct Step {
        pub z: Vec<i32>,
        pub targets: Vec<i8>,
    }

    impl Step {
        pub fn new(pretext: &Pretext, seed: u64) -> Self {
            let dim = if pretext.task == Task::Rotation { rotation::TURNS } else { 24 };
            let targets = check::clustered(16, dim, 2, 4, 0, seed ^ 1).iter().map(|v| (v >> 7) as i8).collect();
            Step { z: check::clustered(16, dim, 2, 4, 0, seed), targets }
        }

        pub fn dim(&self) -> usize {
            self.z.len() / 16
        }

        /// The loss; `z` becomes the gradient.
        pub fn loss(&mut self, pretext: &Pretext, kernels: Kernels, planned: usize, state: &mut [i32]) -> u32 {
            let mut counting = Arena::counting();
            Buffers::take(pretext, planned, self.dim(), &mut counting);
            // What stands in it does not matter.
            let mut memory = vec![0xA5; Arena::block_len(counting.used())];
            let mut buffers = Buffers::take(pretext, planned, self.dim(), &mut Arena::reusing(&mut memory));
            loss(kernels, pretext, &mut self.z, &self.targets, state, true, &mut buffers)
        }
    }

    #[test]
    fn kernels_and_memory_for_more_rows_change_nothing() {
        for pretext in all() {
            let run = |kernels: Kernels, planned: usize| {
                let mut step = Step::new(&pretext, 3);
                let mut state = vec![0; state_len(&pretext, step.dim())];
                let loss = step.loss(&pretext, kernels, planned, &mut state);
                (loss, step.z, state)
            };
            let expected = run(Kernels::Reference, 16);
            let task = pretext.task;
            assert!(expected.0 > 0 && expected.1.iter().any(|&v| v != 0), "{task:?}");
            for kernels in Kernels::names().filter_map(Kernels::named) {
                assert!(run(kernels, 16) == expected && run(kernels, 23) == expected, "{task:?} {}", kernels.name());
            }
        }
    }

    #[test]
    fn going_down_the_gradient_lowers_every_loss() {
        for pretext in all() {
            let mut step = Step::new(&pretext, 4);
            let mut state = vec![0; state_len(&pretext, step.dim())];
            let mut z = step.z.clone();
            let mut losses = Vec::new();
            for _ in 0..60 {
                step.z.copy_from_slice(&z);
                losses.push(step.loss(&pretext, Kernels::detect(), 16, &mut state));
                let largest = step.z.iter().map(|v| v.abs()).max().unwrap_or(0).max(1);
                z.iter_mut().zip(&step.z).for_each(|(z, &g)| *z -= (i64::from(g) * 400 / i64::from(largest)) as i32);
            }
            assert!(losses[59] < losses[1], "{:?} {losses:?}", pretext.task);
        }
    }
}
