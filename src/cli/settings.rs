//! The model and how it is to be run, as several verbs take them.

use std::error::Error;

use crate::learner::{Learner, MAX_LANES, Options};
use crate::model;
use crate::net::spec::{InputKind, LayerKind, Spec};
use crate::net::task::{self, PretextSpec, Task};
use crate::sample::Seed;
use crate::source::Source;

/// Arguments that choose a model.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArgs {
    /// A shipped model (n5, n6, n18, s100, s330, l100, l400, robot, robot-colour, motion, imu, laser,
    /// room, speech, events, text, tail) or a model file.
    /// [default: l100, or the one that a board's recording names]
    #[arg(long)]
    pub model: Option<String>,
    /// The self-supervised task, in place of the model's own, with its defaults. `dictionary`: the first layers alone are
    /// learned, those that are dictionaries; the others train the layers above them too.
    #[arg(long, value_parser = pretext)]
    pub pretext: Option<Pretext>,
    /// Change one key of the model, for example `--set replay.capacity=256`. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pretext {
    Dictionary,
    Task(Task),
}

fn pretext(name: &str) -> Result<Pretext, String> {
    if name == "dictionary" {
        return Ok(Pretext::Dictionary);
    }
    let names = || Task::ALL.map(Task::name).join(", ");
    let task = Task::ALL.into_iter().find(|task| task.name() == name);
    task.map(Pretext::Task).ok_or_else(|| format!("write dictionary, {}", names()))
}

/// Wrong use that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl ModelArgs {
    /// Loads the model and applies the changes.
    pub fn load(&self) -> Result<Spec, Box<dyn Error>> {
        self.load_or(None)
    }

    /// As [`ModelArgs::load`]; where no model is named it is `known`.
    pub fn load_or(&self, known: Option<&Spec>) -> Result<Spec, Box<dyn Error>> {
        let mut spec = match (&self.model, known) {
            (None, Some(known)) => known.clone(),
            (name, _) => model::load(name.as_deref().unwrap_or("l100"))?,
        };
        match self.pretext {
            Some(Pretext::Dictionary) => {
                let dictionaries = spec.layer.iter().take_while(|l| l.kind == LayerKind::Dictionary).count();
                spec.layer.truncate(dictionaries.max(1));
                spec.feature.layers.clear();
                spec.pretext.clear();
            }
            Some(Pretext::Task(task)) => give_task(&mut spec, task),
            None => {}
        }
        for change in &self.set {
            spec = changed(spec, change)?;
        }
        Ok(spec)
    }
}

/// Refuses a task that needs neighbours in time where the stream has none.
///
/// # Errors
/// [`UsageError`], with the tasks that would do.
pub fn check_order(spec: &Spec, source: &dyn Source) -> Result<(), Box<dyn Error>> {
    for pretext in &spec.pretext {
        let task::Pretext { task, neighbours, .. } = pretext.resolved()?;
        if neighbours > 0 && !source.in_order() {
            let fit = if spec.input.kind == InputKind::Image { "rotation, inpaint" } else { "denoise" };
            return Err(UsageError(format!(
                "[pretext] task = \"{}\" with neighbours = {neighbours} compares samples that follow one another, and {} is in no \
                 order: take {fit}, or contrastive with neighbours = 0 (--pretext, --set pretext.neighbours=0), or a source \
                 in its order",
                task.name(),
                source.describe()
            ))
            .into());
        }
    }
    Ok(())
}

/// Refuses sound that comes at another rate than the model takes: nothing is resampled.
///
/// # Errors
/// [`UsageError`].
pub fn check_rate(spec: &Spec, source: &dyn Source) -> Result<(), UsageError> {
    match source.sound_rate() {
        Some(rate) if spec.input.kind == InputKind::Audio && rate != spec.input.rate => Err(UsageError(format!(
            "{} has {rate} samples a second and the model takes {}; convert the sound (sox IN.wav -r {} OUT.wav), or set the \
             model's input.rate, input.window and input.hop",
            source.describe(),
            spec.input.rate,
            spec.input.rate
        ))),
        _ => Ok(()),
    }
}

/// Makes `task` the only one; what the model says of it, or of another one that takes the same keys, is kept.
pub(super) fn give_task(spec: &mut Spec, task: Task) {
    let named = spec.pretext.iter().find(|p| p.task == task).or(spec.pretext.first()).cloned();
    let kept = named.map(|p| PretextSpec { task, weight: None, ..p });
    let fits = kept.filter(|p| p.resolved().is_ok());
    spec.pretext = core::iter::once(fits.unwrap_or(PretextSpec::new(task))).collect();
}

/// `spec` with one `key.key=value` changed; the value is TOML.
fn changed(spec: Spec, change: &str) -> Result<Spec, Box<dyn Error>> {
    let wrong = |problem: String| UsageError(format!("--set {change}: {problem}"));
    let (path, value) =
        change.split_once('=').ok_or_else(|| wrong("write KEY=VALUE, as in views.flip=false".into()))?;
    let mut table = toml::Table::try_from(&spec)?;
    let value: toml::Table = toml::from_str(&format!("v = {value}"))
        .or_else(|_| toml::from_str(&format!("v = {value:?}")))
        .map_err(|e| wrong(e.to_string()))?;
    let mut place = &mut table;
    let keys: Vec<&str> = path.split('.').collect();
    for key in &keys[..keys.len() - 1] {
        let next = match place.entry(*key).or_insert_with(|| toml::Value::Table(toml::Table::new())) {
            toml::Value::Table(inner) => inner,
            // Of several tasks, the first.
            toml::Value::Array(list) => match list.first_mut() {
                Some(toml::Value::Table(first)) if *key == "pretext" => first,
                _ => return Err(wrong(format!("{key} is a list; change it in the model file")).into()),
            },
            _ => return Err(wrong(format!("{key} is no table")).into()),
        };
        place = next;
    }
    place.insert(keys[keys.len() - 1].into(), value["v"].clone());
    Ok(model::parse("the model with --set", &toml::to_string(&table)?)?)
}

/// Arguments that say how a learner is run.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// Seed of all random draws [default: 0, or that of a board's recording].
    #[arg(long)]
    pub seed: Option<u64>,
    /// Threads that a step is split over; the result does not depend on it. 0: as many as there are processors and the
    /// step is worth.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// As little memory as can be: what can be computed again is not kept. More work, the same result.
    #[arg(long)]
    pub lean: bool,
}

impl RunArgs {
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    pub fn threads(&self) -> usize {
        let all = std::thread::available_parallelism().map_or(1, |n| n.get());
        if self.threads == 0 { all.min(MAX_LANES) } else { self.threads }
    }

    pub fn options(&self, spec: &Spec, expected_samples: Option<u64>) -> Options {
        let lanes = if self.threads == 0 { Learner::lanes_worth(spec, self.threads()) } else { self.threads };
        Options { expected_samples, lanes, lean: self.lean, ..Options::new(Seed(self.seed())) }
    }
}
