//! The heads: each pretext's own layers above the encoder, thrown away by whoever reads features.

use core::ops::Range;

use super::error::PlanError;
use super::network::{Network, sums_fit};
use super::spec::{InputKind, Spec};
use super::task::{Pretext, Task};
use crate::kernels::{Conv, Grid, Map};

/// Most tensors of a head.
pub const MAX_HEAD_TENSORS: usize = 4;

/// One pretext's layers. Where it compares embeddings: the last layer pooled → hidden → embedding, and for a predictor
/// → hidden → prediction. Where it rebuilds: each position of the last layer → the input values it stands for; with a
/// code between: the last layer → [means, log-variances], what is drawn by them → a map like the last layer's → those.
#[derive(Clone, Debug)]
pub struct Head {
    pub pretext: Pretext,
    /// Its place among the heads.
    pub number: usize,
    /// Numbers of its tensors, in order.
    pub tensors: Range<usize>,
    /// How it pools the last layer; `None`: it reads the positions one by one.
    pub grid: Option<Grid>,
}

impl Head {
    /// Number of the tensor whose sums the loss reads.
    pub const fn top(&self) -> usize {
        self.tensors.end - 1
    }

    /// Length of the pooled input.
    pub fn input_len(&self) -> usize {
        self.grid.map_or(0, |grid| grid.len())
    }

    /// Numbers of the code that the last layer is narrowed to, where it is.
    pub fn code_len(&self) -> usize {
        if self.pretext.task == Task::Variational { self.pretext.outputs } else { 0 }
    }

    /// Layers of it that are narrowed and kept: all but the last one.
    pub fn inner(&self) -> Range<usize> {
        self.tensors.start..self.top()
    }

    /// The layer numbered `tensor` is narrowed with its sign: an embedding that something is foretold from.
    pub const fn is_signed(&self, tensor: usize) -> bool {
        tensor == self.tensors.start + 1
    }
}

impl Network {
    /// The head of step number `step`: of two, in turns by their weights, spread evenly.
    pub fn due(&self, step: u64) -> Option<&Head> {
        let [first, second] = &self.heads[..] else { return self.heads.first() };
        let (a, b) = (first.pretext.weight as u64, second.pretext.weight as u64);
        let of_second = |step: u64| u128::from(step) * u128::from(b) / u128::from(a + b);
        Some(if of_second(step + 1) > of_second(step) { second } else { first })
    }

    /// New samples for a step of every head by its weight: (samples, steps).
    pub fn samples_for_steps(&self) -> (u64, u64) {
        let of = |head: &Head| (head.pretext.weight * head.pretext.samples_per_step) as u64;
        let weight = |head: &Head| head.pretext.weight as u64;
        (self.heads.iter().map(of).sum(), self.heads.iter().map(weight).sum())
    }

    /// Most samples between an anchor and its neighbour.
    pub fn neighbours(&self) -> usize {
        self.heads.iter().map(|head| head.pretext.neighbours).max().unwrap_or(0)
    }

    /// Share of the picks, of 256, whose second view another sensor chooses.
    pub fn beside(&self) -> usize {
        self.heads.iter().map(|head| head.pretext.beside).max().unwrap_or(0)
    }

    /// The head that tensor `number` belongs to.
    pub fn head_of(&self, number: usize) -> Option<&Head> {
        self.heads.iter().find(|head| head.tensors.contains(&number))
    }

    /// Width of a head's embedding.
    pub fn embedding_dim(&self, head: &Head) -> usize {
        self.tensors[head.top()].conv.filters
    }

    /// Length of what the inner layers of `head` keep of a view.
    pub fn inner_len(&self, head: &Head) -> usize {
        head.inner().map(|tensor| self.tensors[tensor].conv.filters).sum()
    }

    /// Tensors of a step of `head`, from the top down: its own, then the trained layers.
    pub fn chain(&self, head: &Head) -> impl Iterator<Item = usize> + use<> {
        let layers = self.layers.last().map_or(0, |l| l.tensors.end);
        head.tensors.clone().rev().chain((self.first_trained..layers).rev())
    }

    /// Adds the layers of a pretext above the last layer, `map`.
    // By itself, so that its stack is gone when the learner starts.
    #[inline(never)]
    pub(super) fn add_head(&mut self, spec: &Spec, number: usize, map: Map) -> Result<(), PlanError> {
        let pretext = spec.pretext[number].resolved_in(spec)?;
        check(&pretext, spec)?;
        if self.first_trained == self.tensors.len() && number == 0 {
            return Err(PlanError::NothingToTrain);
        }
        let (first, layer) = (self.tensors.len(), spec.layer.len());
        let mut grid = None;
        if pretext.task.rebuilds() {
            if pretext.task == Task::Variational {
                let code = Conv::dense(pretext.outputs, map.len());
                self.add_tensor(Conv::dense(map.len(), 2 * pretext.outputs), true, false, layer)?;
                self.add_tensor(Conv { unsigned: false, ..code }, true, false, layer)?;
            }
            self.add_tensor(self.decoder(spec, map)?, true, false, layer)?;
        } else {
            let cells = (if self.input.height == 1 { 1 } else { pretext.head_cells }, pretext.head_cells);
            let pooled = Grid::new(map, cells, false);
            let (hidden, outputs) = (pretext.hidden, pretext.outputs);
            self.add_tensor(Conv::dense(pooled.len(), hidden), true, false, layer)?;
            self.add_tensor(Conv::dense(hidden, outputs), true, false, layer)?;
            if pretext.task.predicts() {
                self.add_tensor(Conv { unsigned: false, ..Conv::dense(outputs, hidden) }, true, false, layer)?;
                self.add_tensor(Conv::dense(hidden, outputs), true, false, layer)?;
            }
            grid = Some(pooled);
        }
        let head = Head { pretext, number, tensors: first..self.tensors.len(), grid };
        self.plan_gradients(head.tensors.clone(), pretext.rows())?;
        // `spec` holds no more of them than there is room for.
        let _ = self.heads.push(head);
        Ok(())
    }

    /// Numbers that a head that rebuilds gives back.
    pub fn rebuilt_len(&self, head: &Head) -> usize {
        self.tensors[head.top()].conv.output.len()
    }

    /// Scores that a head gives all codes of a window.
    pub fn scores_len(&self, head: &Head) -> usize {
        if head.pretext.task == Task::MaskedToken { self.rebuilt_len(head) } else { 0 }
    }

    /// Each position of the last layer, `map`, gives back as many values as there are for one; of codes, a score for each
    /// of the vocabulary.
    fn decoder(&self, spec: &Spec, map: Map) -> Result<Conv, PlanError> {
        let whole = self.input.width.is_multiple_of(map.width) && self.input.height.is_multiple_of(map.height);
        if !whole {
            let (size, positions) = ((self.input.height, self.input.width), (map.height, map.width));
            return Err(PlanError::Decoder { size, positions });
        }
        let values = match spec.input.kind {
            InputKind::Tokens => self.input.width * spec.input.vocabulary,
            _ => self.input.len(),
        };
        let filters = values / map.positions();
        let output = Map { channels: filters, ..map };
        let side = decoder_side(spec);
        let (kernel, padding) = ((side, side), (side / 2, side / 2));
        let dense = Conv::dense(map.channels, filters);
        Ok(Conv { input: map, channels: map.channels, filters, output, kernel, padding, ..dense })
    }

    /// A weight gradient sums over all positions of all views: where that could pass 2³¹, over as many views as cannot in
    /// 32 bits, and over these in 64.
    fn plan_gradients(&mut self, head: Range<usize>, views: usize) -> Result<(), PlanError> {
        let layers = self.layers.last().map_or(0, |l| l.tensors.end);
        for number in (self.first_trained..layers).chain(head) {
            let tensor = &mut self.tensors[number];
            let positions = tensor.conv.output.positions();
            if !sums_fit(positions) {
                let layer = self.layers.iter().position(|l| l.tensors.contains(&number)).unwrap_or(self.layers.len());
                return Err(PlanError::AccumulatorOverflow { layer });
            }
            if !sums_fit(positions.saturating_mul(views)) && tensor.wide.is_none() {
                tensor.wide = Some(self.wide_len);
                self.wide_len += tensor.conv.weights();
                self.views_at_a_time = self.views_at_a_time.min(super::network::MOST_PRODUCTS / positions);
            }
        }
        Ok(())
    }
}

/// Positions on a side from which a decoder gives back what one stands for. A position of an image looks about the corner of
/// its patch: with its neighbours all of the patch is looked about. Of windows it is the one position.
pub(super) fn decoder_side(spec: &Spec) -> usize {
    if spec.input.kind == InputKind::Image { 3 } else { 1 }
}

/// Whether the numbers of a task are in their ranges, and it fits the input.
fn check(pretext: &Pretext, spec: &Spec) -> Result<(), PlanError> {
    let task = pretext.task;
    let within = |key, value: usize, least: usize, most: usize| {
        let error = PlanError::TaskRange { task, key, least: least as u64, most: most as u64 };
        if (least..=most).contains(&value) { Ok(()) } else { Err(error) }
    };
    let needs = |needs, fit| Err(PlanError::TaskInput { task, needs, fit });
    let (image, tokens) = (spec.input.kind == InputKind::Image, spec.input.kind == InputKind::Tokens);
    match task {
        Task::Rotation if !image => {
            let fit = if tokens { "masked-token or contrastive" } else { "contrastive, predictive or denoise" };
            return needs("images, as there is no other way to turn a window", fit);
        }
        Task::Inpaint if !image => {
            return needs("images", if tokens { "masked-token" } else { "denoise, which masks windows" });
        }
        Task::Denoise | Task::Variational if tokens => {
            return needs("images or sensor windows", "masked-token or contrastive");
        }
        Task::MaskedToken if !tokens => {
            return needs("windows of codes", if image { "inpaint" } else { "denoise" });
        }
        _ => {}
    }
    within("weight", pretext.weight, 1, 256)?;
    within("samples_per_step", pretext.samples_per_step, 1, 4096)?;
    within("neighbours", pretext.neighbours, if task == Task::Predictive { 1 } else { 0 }, 1024)?;
    if task.rebuilds() {
        within("batch", pretext.batch, 1, if spec.replay.capacity == 0 { 1 } else { 64 })?;
        // Without either the identity would be the best answer, were there no code between.
        let narrowed = pretext.noise > 0 || task == Task::Variational;
        within("mask", pretext.mask, if narrowed { 0 } else { 1 }, 255)?;
        within("outputs", pretext.outputs, 2, 1024)?;
        within("block", pretext.block, 1, 32768)?;
        within("noise", pretext.noise, 0, 2048)?;
        return Ok(());
    }
    // With one sample nothing repels it and there are no statistics; it is allowed for contrastive steps alone, so that a
    // step of one can be measured.
    let least = match task {
        Task::Contrastive | Task::Rotation | Task::Predictor => 1,
        Task::Vicreg | Task::SecondMoment | Task::Cluster => 4,
        _ => 2,
    };
    within("batch", pretext.batch, least, 1024)?;
    within("views", pretext.views, 2, 16)?;
    within("beside", pretext.beside, 0, 256)?;
    if pretext.beside > 0 && (spec.input.beside == 0 || spec.replay.capacity < 2) {
        return Err(PlanError::Beside);
    }
    within("temperature_shift", pretext.temperature_shift, 0, 5)?;
    within("hidden", pretext.hidden, 1, 4096)?;
    within("outputs", pretext.outputs, 2, 1024)?;
    within("head_cells", pretext.head_cells, 1, 16)?;
    if task == Task::Cluster {
        within("prototypes", pretext.prototypes, 2, 4096)?;
    }
    within("fresh of [replay]", spec.replay.fresh, 0, pretext.batch)?;
    if spec.replay.capacity == 0 {
        within("batch, without a replay buffer,", pretext.batch, spec.replay.fresh, spec.replay.fresh)?;
    }
    Ok(())
}
