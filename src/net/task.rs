//! What a model file says of its pretext tasks, and the defaults of each; checked when the network is laid out.

#[cfg(feature = "link")]
use serde::{Deserialize, Serialize};

use super::error::PlanError;
use super::spec::{InputKind, Spec};

/// Most pretext tasks over one encoder.
pub const MAX_PRETEXTS: usize = 2;

/// The self-supervised tasks that train layers by a gradient; one file each in [`crate::pretext`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "link", derive(Serialize, Deserialize), serde(rename_all = "kebab-case"))]
pub enum Task {
    #[default]
    Contrastive,
    SecondMoment,
    Vicreg,
    Predictor,
    Predictive,
    Rotation,
    Cluster,
    Denoise,
    Inpaint,
    Variational,
    MaskedToken,
}

impl Task {
    pub const ALL: [Task; 11] = [
        Task::Contrastive,
        Task::SecondMoment,
        Task::Vicreg,
        Task::Predictor,
        Task::Predictive,
        Task::Rotation,
        Task::Cluster,
        Task::Denoise,
        Task::Inpaint,
        Task::Variational,
        Task::MaskedToken,
    ];

    /// As it is written in a model file.
    pub const fn name(self) -> &'static str {
        match self {
            Task::Contrastive => "contrastive",
            Task::SecondMoment => "second-moment",
            Task::Vicreg => "vicreg",
            Task::Predictor => "predictor",
            Task::Predictive => "predictive",
            Task::Rotation => "rotation",
            Task::Cluster => "cluster",
            Task::Denoise => "denoise",
            Task::Inpaint => "inpaint",
            Task::Variational => "variational",
            Task::MaskedToken => "masked-token",
        }
    }

    /// It gives back what was hidden or narrowed, sample by sample; the others compare embeddings of a whole step.
    pub const fn rebuilds(self) -> bool {
        matches!(self, Task::Denoise | Task::Inpaint | Task::Variational | Task::MaskedToken)
    }

    /// It has two more layers behind the embedding, from which another embedding is foretold.
    pub const fn predicts(self) -> bool {
        matches!(self, Task::Predictor | Task::Predictive)
    }

    /// The keys of `[[pretext]]` that it takes, beside `task` and `weight`.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Task::Contrastive => &[
                "batch",
                "samples_per_step",
                "views",
                "temperature_shift",
                "hidden",
                "outputs",
                "head_cells",
                "neighbours",
                "beside",
            ],
            Task::SecondMoment | Task::Vicreg | Task::Predictor => {
                &["batch", "samples_per_step", "views", "hidden", "outputs", "head_cells", "neighbours", "beside"]
            }
            Task::Predictive => {
                &["batch", "samples_per_step", "temperature_shift", "hidden", "outputs", "head_cells", "neighbours"]
            }
            Task::Rotation => &["batch", "samples_per_step", "hidden", "head_cells"],
            Task::Cluster => &[
                "batch",
                "samples_per_step",
                "views",
                "hidden",
                "outputs",
                "head_cells",
                "neighbours",
                "beside",
                "prototypes",
            ],
            Task::Denoise | Task::Inpaint => &["batch", "samples_per_step", "mask", "block", "noise"],
            Task::MaskedToken => &["batch", "samples_per_step", "mask"],
            Task::Variational => &["batch", "samples_per_step", "outputs"],
        }
    }

    /// What the task does where the model says nothing else.
    const fn defaults(self) -> Pretext {
        let embeds = Pretext {
            task: self,
            weight: 1,
            batch: 16,
            samples_per_step: 16,
            views: 2,
            temperature_shift: 2,
            hidden: 128,
            outputs: 64,
            head_cells: 1,
            neighbours: 0,
            beside: 0,
            prototypes: 0,
            mask: 0,
            block: 1,
            noise: 0,
        };
        let rebuilds = Pretext { batch: 8, samples_per_step: 8, views: 1, ..embeds };
        match self {
            Task::Contrastive | Task::SecondMoment | Task::Vicreg | Task::Predictor => embeds,
            Task::Predictive => Pretext { neighbours: 1, ..embeds },
            Task::Rotation => Pretext { views: 4, outputs: 4, ..embeds },
            Task::Cluster => Pretext { prototypes: 64, ..embeds },
            Task::Denoise => Pretext { mask: 102, block: 8, ..rebuilds },
            Task::Inpaint => Pretext { mask: 128, block: 8, ..rebuilds },
            Task::MaskedToken => Pretext { mask: 38, ..rebuilds },
            Task::Variational => Pretext { outputs: 32, ..rebuilds },
        }
    }
}

/// The numbers of a task: [`PretextSpec`] as a model file has them, all optional, and [`Pretext`] as they are in force.
macro_rules! numbers {
    ($($(#[$meta:meta])* $key:ident,)*) => {
        /// `[pretext]`, or `[[pretext]]` for several over one encoder. What is left out is the task's default; a key that
        /// the task does not take is refused.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "link", derive(Serialize, Deserialize), serde(deny_unknown_fields, default))]
        pub struct PretextSpec {
            pub task: Task,
            /// Share of the steps, relative to the other task's.
            pub weight: Option<u16>,
            $($(#[$meta])* pub $key: Option<u16>,)*
        }

        /// A task with all its numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Pretext {
            pub task: Task,
            pub weight: usize,
            $($(#[$meta])* pub $key: usize,)*
        }

        impl PretextSpec {
            /// The numbers in force.
            ///
            /// # Errors
            /// [`PlanError::Key`] for one that the task does not take.
            pub fn resolved(&self) -> Result<Pretext, PlanError> {
                let mut pretext = self.task.defaults();
                if let Some(weight) = self.weight {
                    pretext.weight = usize::from(weight);
                }
                $(if let Some(value) = self.$key {
                    if !self.task.keys().contains(&stringify!($key)) {
                        return Err(PlanError::Key { task: self.task, key: stringify!($key) });
                    }
                    pretext.$key = usize::from(value);
                })*
                Ok(pretext)
            }
        }
    };
}

numbers! {
    /// Samples in a step.
    batch,
    /// New samples for each step.
    samples_per_step,
    /// Views of each sample.
    views,
    /// Temperature 2^−n.
    temperature_shift,
    /// Width of the head's hidden layer, and of the predictor's.
    hidden,
    /// Width of the head's output; of the code, where there is one.
    outputs,
    /// Cells of the head's pooling grid on each axis.
    head_cells,
    /// How many samples away the second view's sample may be, in the same segment; 0: views of one sample.
    neighbours,
    /// In this share of the picks, of 256, the second view's sample is the one most alike by what another sensor said of
    /// both, `[input] beside`, however far away in time.
    beside,
    /// Clusters.
    prototypes,
    /// This share of the blocks, of 256, is masked and to be rebuilt. 0: everything is to be rebuilt.
    mask,
    /// Readings in a block, or its side in pixels.
    block,
    /// Noise on what is not masked, standard deviation in 1/16 of an 8-bit step.
    noise,
}

impl PretextSpec {
    /// As [`PretextSpec::resolved`], in the model `spec`: without a replay buffer a step that rebuilds has the newest sample
    /// alone; and of images it is noise on every pixel that denoising takes off, as hiding blocks of them has a task of
    /// its own.
    ///
    /// # Errors
    /// As [`PretextSpec::resolved`].
    pub fn resolved_in(&self, spec: &Spec) -> Result<Pretext, PlanError> {
        /// Standard deviation of 16 steps of 256.
        const NOISE: usize = 256;
        let mut pretext = self.resolved()?;
        if self.task.rebuilds() && spec.replay.capacity == 0 {
            pretext.batch = self.batch.map_or(1, usize::from);
            pretext.samples_per_step = self.samples_per_step.map_or(1, usize::from);
        }
        if spec.input.kind == InputKind::Image && self.task == Task::Denoise {
            pretext.mask = self.mask.map_or(0, usize::from);
            pretext.noise = self.noise.map_or(NOISE, usize::from);
        }
        Ok(pretext)
    }

    /// `task` with its defaults.
    pub fn new(task: Task) -> Self {
        PretextSpec { task, ..Default::default() }
    }
}

impl Pretext {
    /// Views in a step.
    pub const fn rows(&self) -> usize {
        self.batch * self.views
    }
}

/// `[pretext]` is one table or, as `[[pretext]]`, several. Formats that do not describe themselves have a list.
#[cfg(feature = "link")]
pub(super) mod one_or_many {
    use core::fmt;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

    use super::{Deserialize, MAX_PRETEXTS, PretextSpec};

    type List = heapless::Vec<PretextSpec, MAX_PRETEXTS>;

    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = List;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "one [pretext], or at most {MAX_PRETEXTS} [[pretext]]")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<List, A::Error> {
            let one = PretextSpec::deserialize(MapAccessDeserializer::new(map))?;
            Ok(core::iter::once(one).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
            let mut list = List::new();
            while let Some(one) = seq.next_element()? {
                list.push(one).map_err(|_| serde::de::Error::invalid_length(MAX_PRETEXTS + 1, &self))?;
            }
            Ok(list)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<List, D::Error> {
        if from.is_human_readable() { from.deserialize_any(OneOrMany) } else { List::deserialize(from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_the_task_does_not_take_is_refused_and_the_others_have_defaults() {
        for task in Task::ALL {
            let plain = PretextSpec::new(task).resolved().expect("defaults");
            assert_eq!((plain.task, plain.weight), (task, 1));
        }
        let spec = PretextSpec { batch: Some(4), ..PretextSpec::new(Task::Vicreg) };
        assert_eq!(spec.resolved().map(|p| (p.batch, p.outputs)), Ok((4, 64)));
        let spec = PretextSpec { mask: Some(9), ..spec };
        assert_eq!(spec.resolved(), Err(PlanError::Key { task: Task::Vicreg, key: "mask" }));
    }
}
