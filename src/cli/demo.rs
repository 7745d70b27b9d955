//! `nestling demo`: a simulated rover learns, is taught a few steering labels, drives; a report with pictures.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::settings::{ModelArgs, RunArgs};
use super::{Outcome, Told, progress, rounded};
use crate::demo::{self, Contender, Found, Phase, Settings};
use crate::report::Holds;
use crate::source::sim::Surface;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The model that learns: one of images.
    #[arg(long, default_value = "robot-colour")]
    model: String,
    /// Change one key of the model, as in `learn`. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    how: RunArgs,
    /// Frames to learn from without labels.
    #[arg(long, value_name = "N", default_value_t = demo::SAMPLES)]
    samples: u64,
    /// Labelled frames that steering is taught with.
    #[arg(long, value_name = "N", default_value_t = demo::LABELS)]
    labels: usize,
    /// Where the report is written.
    #[arg(long, default_value = "nestling-report", value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Outcome {
    let model = ModelArgs { model: Some(args.model.clone()), pretext: None, set: args.set.clone() };
    let settings = Settings {
        seed: args.how.seed(),
        samples: args.samples,
        labels: args.labels,
        threads: args.how.threads(),
        ..Settings::new(model.load()?)
    };
    let io = |problem| {
        format!("{}: {problem}\n  what to do: name a folder that can be written with --out", args.out.display())
    };
    std::fs::create_dir_all(&args.out).map_err(io)?;
    let begun = Instant::now();
    let shown: Mutex<Option<(Phase, ProgressBar)>> = Mutex::new(None);
    let found = demo::run(&settings, &|phase, done, total| {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_none_or(|(last, _)| *last != phase) {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            let what = match phase {
                Phase::Learning => "learning without labels (1/4)",
                Phase::Teaching => "labelling (2/4)",
                Phase::Testing => "testing (3/4)",
                Phase::Driving => "driving (4/4)",
            };
            *shown = Some((phase, progress(Some(total), what)));
        }
        if let Some((_, bar)) = shown.as_ref() {
            bar.set_position(done);
        }
    })?;
    if let Some((_, bar)) = shown.into_inner().unwrap_or_else(PoisonError::into_inner) {
        bar.finish_and_clear();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let changes: String = args.set.iter().map(|change| format!(" --set {change}")).collect();
    let Settings { seed, samples, labels, .. } = settings;
    let command =
        format!("nestling demo --model {}{changes} --seed {seed} --samples {samples} --labels {labels}", args.model);
    let path = args.out.join("index.html");
    demo::report(&found, &command, seconds)?.write(&path)?;
    Ok(told(&found, &path, seconds))
}

fn told(found: &Found, path: &std::path::Path, seconds: f64) -> Told {
    let s = &found.settings;
    let mut json = json!({
        "seconds": rounded(seconds, 3),
        "effective_rank": rounded(found.effective_rank, 2),
        "report": path,
        "seed": s.seed,
        "samples": s.samples,
        "state_hash": found.state_hash,
    });
    for contender in &found.contenders {
        json[contender.kind.name()] = object(contender);
    }
    let mask = |score: &demo::MaskScore| {
        let parts =
            Surface::ALL.iter().zip(score.overlap).map(|(s, overlap)| (s.name().to_owned(), rounded(overlap, 3)));
        let mut object: serde_json::Map<String, Value> = parts.collect();
        object.insert("mean".to_owned(), rounded(score.mean(), 3));
        (score.name.to_owned(), Value::Object(object))
    };
    json["masks"] = Value::Object(found.masks.scores.iter().map(mask).collect());
    let mut text = format!(
        "learned from {} frames without labels, was taught with {}, and drove 3 times {:.0} s, in {seconds:.0} s\n\n",
        s.samples,
        s.labels,
        s.drive_steps as f64 * 0.05
    );
    text += &format!(
        "{:<12}{:>16}{:>18}{:>7}{:>17}\n",
        "features", "steering error", "off the middle", "laps", "left the track"
    );
    for c in &found.contenders {
        text += &format!(
            "{:<12}{:>16.3}{:>16.3} m{:>7}{:>11} times\n",
            c.kind.name(),
            c.steering_mae,
            c.cross_track_error(),
            c.laps(),
            c.times_lost()
        );
    }
    text.push('\n');
    for verdict in demo::verdicts(found) {
        let word = match verdict.holds {
            Holds::Yes => "yes",
            Holds::No => "no",
            Holds::Unclear => "unclear",
        };
        text += &format!("{word:>9}  {}\n", verdict.text);
    }
    text += &format!(
        "\n  effective rank {:.2}\n  state hash     {}\n  report         {}",
        found.effective_rank,
        found.state_hash,
        path.display()
    );
    Told { text, json }
}

fn object(contender: &Contender) -> Value {
    let mut object = serde_json::to_value(demo::run_of(contender)).unwrap_or(Value::Null);
    object["steering_r2"] = rounded(contender.steering_r2, 3);
    object["times_off_track"] = json!(contender.times_lost());
    object
}
