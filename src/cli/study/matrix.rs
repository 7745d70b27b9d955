//! Which data sets a study has, and how each is learned from and judged: `models/study.toml`.

use std::error::Error;
use std::path::Path;

use serde::Deserialize;

use crate::cli::behind::{BackboneArgs, Floats, Frozen, TAIL};
use crate::cli::settings::{UsageError, give_task};
use crate::model;
use crate::net::spec::{LayerKind, Spec};
use crate::net::task::{PretextSpec, Task};
use crate::source::{OpenOptions, Source};

const SHIPPED: &str = include_str!("../../../models/study.toml");

/// How much a study learns from.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    Quick,
    Full,
}

impl Budget {
    pub fn name(self) -> &'static str {
        match self {
            Budget::Quick => "quick",
            Budget::Full => "full",
        }
    }
}

/// A row of the study's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The input as it comes.
    Raw,
    /// The encoder that has learned nothing.
    Untrained,
    /// The dictionaries alone.
    Dictionary,
    Task(Task),
}

impl Subject {
    /// All there are, in the order of the table.
    pub fn all() -> Vec<Subject> {
        let others = [Subject::Raw, Subject::Untrained, Subject::Dictionary];
        others.into_iter().chain(Task::ALL.map(Subject::Task)).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Subject::Raw => "raw",
            Subject::Untrained => "untrained",
            Subject::Dictionary => "dictionary",
            Subject::Task(task) => task.name(),
        }
    }
}

/// What stands for the input as it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Raw {
    /// Its numbers, of a large image pooled.
    #[default]
    Numbers,
    /// How often each code is in the window.
    Counts,
}

/// One data set. In sources `{data}` stands for the folder of the data.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    pub name: String,
    /// What it is and what it is split by, for the report.
    pub about: String,
    pub model: String,
    /// Learned from, without labels.
    pub learn: Vec<String>,
    /// What the probes are trained on, and tested on.
    pub train: Vec<String>,
    pub test: Vec<String>,
    /// Samples to learn from.
    pub quick: u64,
    pub full: u64,
    #[serde(default)]
    pub raw: Raw,
    /// How tasks differ from the model's own; every task that is not here takes the numbers that the model's own gives it.
    #[serde(default)]
    pub pretext: Vec<PretextSpec>,
    #[serde(skip)]
    backbone: Frozen,
}

impl Set {
    pub fn samples(&self, budget: Budget) -> u64 {
        match budget {
            Budget::Quick => self.quick,
            Budget::Full => self.full,
        }
    }

    /// Puts the set behind the backbone of `args`, where it names one: the model of latents learns from its output.
    ///
    /// # Errors
    /// Of the backbone, and of the sources, from which a network of floats gets its exponent.
    pub fn stand_behind(&mut self, args: &BackboneArgs) -> Result<(), Box<dyn Error>> {
        self.backbone = Frozen::find(args, &self.learn, &OpenOptions::default())?;
        if let Some(file) = self.backbone.name() {
            self.name = format!("{} behind {file}", self.name);
            self.model = TAIL.into();
            self.pretext.clear();
        }
        Ok(())
    }

    /// Whether a backbone stands before its model.
    pub fn is_behind(&self) -> bool {
        self.backbone.name().is_some()
    }

    /// Opens sources of the set.
    ///
    /// # Errors
    /// Of the sources, and of the backbone.
    pub fn open(&self, uris: &[String], seed: u64) -> Result<Box<dyn Source>, Box<dyn Error>> {
        self.backbone.open(uris, &OpenOptions { seed })
    }

    /// The set without its backbone: its sources give frames.
    pub fn before_backbone(&self) -> Set {
        Set { backbone: Frozen::default(), ..self.clone() }
    }

    /// See [`Frozen::floats`], of the frames of [`Set::before_backbone`].
    ///
    /// # Errors
    /// Of the backbone.
    pub fn floats(&self) -> Result<Option<Floats>, Box<dyn Error>> {
        self.backbone.floats()
    }

    /// The model with `subject` for its pretext; `None` where it has no dictionary to be learned alone.
    ///
    /// # Errors
    /// Of the model itself, and a backbone that it does not fit. Whether the task fits is for the plan to say.
    pub fn spec(&self, subject: Subject) -> Result<Option<Spec>, Box<dyn Error>> {
        let mut spec = model::load(&self.model)?;
        self.backbone.fit(&mut spec)?;
        match subject {
            Subject::Raw | Subject::Untrained => {}
            Subject::Dictionary => {
                spec.layer = spec.layer.iter().filter(|l| l.kind == LayerKind::Dictionary).cloned().collect();
                spec.feature.layers.clear();
                spec.pretext.clear();
                if spec.layer.is_empty() {
                    return Ok(None);
                }
            }
            Subject::Task(task) => match self.pretext.iter().find(|p| p.task == task) {
                Some(own) => spec.pretext = core::iter::once(own.clone()).collect(),
                None => give_task(&mut spec, task),
            },
        }
        Ok(Some(spec))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    set: Vec<Set>,
}

/// The sets named, or all that are there.
///
/// # Errors
/// A name that is none, with those there are.
pub fn sets(names: &[String], data: &Path) -> Result<Vec<Set>, UsageError> {
    let matrix: Matrix = toml::from_str(SHIPPED).map_err(|e| UsageError(format!("models/study.toml: {e}")))?;
    let mut sets = matrix.set;
    let known = || sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| sets.iter().all(|set| set.name != **name)) {
        return Err(UsageError(format!("--set {unknown}: there is no such data set; there are {}", known())));
    }
    if !names.is_empty() {
        sets.retain(|set| names.contains(&set.name));
    }
    // What a path may hold and a URI not is escaped.
    let data = data.display().to_string().replace('%', "%25").replace(',', "%2C").replace('?', "%3F");
    for set in &mut sets {
        for uri in set.learn.iter_mut().chain(&mut set.train).chain(&mut set.test) {
            *uri = uri.replace("{data}", &data);
        }
    }
    Ok(sets)
}

/// The rows named, or all that are there.
///
/// # Errors
/// A name that is none, with those there are.
pub fn subjects(names: &[String]) -> Result<Vec<Subject>, UsageError> {
    let all = Subject::all();
    let of = |name: &String| {
        all.iter().find(|subject| subject.name() == name).copied().ok_or_else(|| {
            let known = all.iter().map(|s| s.name()).collect::<Vec<_>>().join(", ");
            UsageError(format!("--task {name}: there is no such task; there are {known}"))
        })
    };
    if names.is_empty() { Ok(all.clone()) } else { names.iter().map(of).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::uri::Uri;

    #[test]
    fn every_set_of_the_matrix_has_a_model_and_sources_that_parse() {
        let mut names = std::collections::HashSet::new();
        for set in sets(&[], Path::new("/a,b")).unwrap() {
            assert!(names.insert(set.name.clone()), "{} is there twice", set.name);
            for uri in set.learn.iter().chain(&set.train).chain(&set.test) {
                uri.parse::<Uri>().unwrap_or_else(|e| panic!("{}: {e}", set.name));
            }
            for subject in Subject::all() {
                set.spec(subject).unwrap_or_else(|e| panic!("{}: {e}", set.name));
            }
            assert!(set.quick <= set.full);
        }
        assert!(sets(&["moon".into()], Path::new("")).unwrap_err().to_string().contains("cifar10_small"));
        assert!(subjects(&["moon".into()]).unwrap_err().to_string().contains("vicreg"));
    }
}
