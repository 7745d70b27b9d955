//! `nestling study control`: laps and distances from the centre line, for learned, untrained and raw features, by labels.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{results, spread};
use crate::cli::settings::{ModelArgs, RunArgs};
use crate::cli::{Outcome, Told, interrupts};
use crate::demo::closed_loop::{Change, Course, run as drive};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The model that learns: one of images.
    #[arg(long, default_value = "robot-colour")]
    model: String,
    /// Seeds 0, 1 … of world, learner and person.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Frames to learn from without labels before anything is taught.
    #[arg(long, default_value_t = crate::demo::SAMPLES)]
    samples: u64,
    /// Labels that steering is taught with.
    #[arg(long, value_delimiter = ',', default_value = "25,100,400")]
    labels: Vec<usize>,
    /// Steps of 50 ms of each drive.
    #[arg(long, default_value_t = 2000)]
    steps: usize,
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Folder to write control.csv and control.md to. Seeds that are in it are not run again.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// One drive.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    model: String,
    samples: u64,
    steps: usize,
    seed: u64,
    features: String,
    labels: usize,
    change: String,
    /// After another drive in the changed world.
    later: bool,
    laps: u32,
    lost: usize,
    cross_track_m: f64,
    encoders: u32,
}

pub fn run(args: &Args) -> Outcome {
    std::fs::create_dir_all(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let (csv, markdown) = (args.out.join("control.csv"), args.out.join("control.md"));
    let model = ModelArgs { model: Some(args.model.clone()), pretext: None, set: Vec::new() };
    let spec = model.load()?;
    let threads = RunArgs { seed: None, threads: args.threads, lean: false }.threads();
    let interrupted = interrupts()?;
    let mut rows: Vec<Row> = results::read(&csv)?;
    let ours = |row: &Row| row.model == args.model && row.samples == args.samples && row.steps == args.steps;
    for seed in 0..args.seeds {
        if rows.iter().any(|row| ours(row) && row.seed == seed) {
            continue;
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let (labels, steps) = (args.labels.clone(), args.steps);
        let runs = drive(&Course { spec: spec.clone(), seed, samples: args.samples, labels, steps, threads })?;
        for run in &runs {
            for (later, driven) in [(false, Some(&run.at_once)), (true, run.later.as_ref())] {
                let Some(driven) = driven else { continue };
                rows.push(Row {
                    model: args.model.clone(),
                    samples: args.samples,
                    steps,
                    seed,
                    features: run.kind.name().into(),
                    labels: run.labels,
                    change: run.change.name().into(),
                    later,
                    laps: driven.laps,
                    lost: driven.lost.len(),
                    cross_track_m: driven.cross_track_sum / driven.steps.max(1) as f64,
                    encoders: run.encoders,
                });
            }
        }
        results::write(&csv, &rows)?;
        eprintln!("seed {seed} is done");
    }
    rows.retain(|row| ours(row) && row.seed < args.seeds);
    let text = table(&rows, &args.labels);
    let command = format!(
        "nestling study control --model {} --seeds {} --samples {} --steps {}",
        args.model, args.seeds, args.samples, args.steps
    );
    let page = format!("`{command}`\n\n{text}");
    std::fs::write(&markdown, page).map_err(|e| format!("{}: {e}", markdown.display()))?;
    Ok(Told { text, json: json!({ "csv": csv, "markdown": markdown, "rows": rows }) })
}

/// Laps / times lost / centimetres off the centre line, each with its deviation, by what has changed.
fn table(rows: &[Row], labels: &[usize]) -> String {
    let mut text = String::from("Laps, times lost, cm off the centre line:\n\n| features | labels |");
    for change in Change::ALL {
        let _ = write!(text, " {} |", change.name());
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(Change::ALL.len()));
    text.push('\n');
    for (features, later) in [("learned", false), ("learned", true), ("untrained", false), ("raw", false)] {
        for &labels in labels {
            let _ = write!(text, "| {features}{} | {labels} |", if later { ", later" } else { "" });
            for change in Change::ALL {
                let of =
                    rows.iter().filter(|row| row.features == features && row.labels == labels && row.later == later);
                let of: Vec<&Row> = of.filter(|row| row.change == change.name()).collect();
                if of.is_empty() {
                    text.push_str(" |");
                    continue;
                }
                let values = |of_row: fn(&Row) -> f64| spread(&of.iter().map(|row| of_row(row)).collect::<Vec<_>>());
                let laps = values(|row| f64::from(row.laps));
                let lost = values(|row| row.lost as f64);
                let apart = values(|row| 100.0 * row.cross_track_m);
                let _ = write!(
                    text,
                    " {:.1} ± {:.1}, {:.0} ± {:.0}, {:.0} ± {:.0} |",
                    laps.0, laps.1, lost.0, lost.1, apart.0, apart.1
                );
            }
            text.push('\n');
        }
    }
    text
}
