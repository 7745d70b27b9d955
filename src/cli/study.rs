//! `nestling study`: what is measured at length.
//!
//! `pretexts`: every task on every data set, over seeds, beside raw input, the untrained encoder, the dictionary alone and
//! the float twin. Each cell is the work of `learn` and `probe` without a checkpoint between them. Cells are written as they come, and one
//! that is written is not run again.

mod alarm;
mod cell;
mod control;
mod matrix;
mod results;
mod steering;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde_json::json;

use self::cell::Place;
use self::matrix::{Budget, Subject};
use self::results::Table;
use super::behind::BackboneArgs;
use super::settings::UsageError;
use super::{Outcome, Told};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Every task on every data set. With --backbone, of sets of images (--set): `raw` is then the backbone's output alone, with
    /// --float before it is rounded as well, and the model is that of latents.
    Pretexts(Pretexts),
    /// Steering taught with few labels, in the simulator, while the world changes.
    Control(control::Args),
    /// Steering foretold in recordings, within a session and across.
    Steering(steering::Args),
    /// False alarms an hour against those that are allowed, and alarms that something else raises.
    Alarm(alarm::Args),
}

#[derive(clap::Args, Debug)]
struct Pretexts {
    /// Folder of the data sets [default: the variable NESTLING_DATA].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// This data set only; may be given several times.
    #[arg(long = "set", value_name = "NAME")]
    sets: Vec<String>,
    /// This task only, or raw, untrained or dictionary; may be given several times.
    #[arg(long = "task", value_name = "NAME")]
    tasks: Vec<String>,
    /// Seeds 0, 1 … of each cell.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    #[command(flatten)]
    backbone: BackboneArgs,
    /// How much is learned from.
    #[arg(long, default_value = "quick")]
    budget: Budget,
    /// Run the float twin of each task too.
    #[arg(long)]
    float: bool,
    /// Folder to write pretexts.csv and pretexts.md to. Cells that are in it are not run again; two processes may share it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Outcome {
    match &args.what {
        What::Pretexts(args) => pretexts(args),
        What::Control(args) => control::run(args),
        What::Steering(args) => steering::run(args),
        What::Alarm(args) => alarm::run(args),
    }
}

fn pretexts(args: &Pretexts) -> Outcome {
    let data = args.data.clone().or_else(|| std::env::var_os("NESTLING_DATA").map(PathBuf::from));
    let data = data.ok_or_else(|| UsageError("say where the data sets are with --data DIR".into()))?;
    let mut sets = matrix::sets(&args.sets, &data)?;
    for set in &mut sets {
        set.stand_behind(&args.backbone).map_err(|e| format!("{}: {e}", set.name))?;
    }
    let subjects = matrix::subjects(&args.tasks)?;
    std::fs::create_dir_all(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let (csv, markdown) = (args.out.join("pretexts.csv"), args.out.join("pretexts.md"));
    let interrupted = super::interrupts()?;
    let mut run = 0;
    // Seeds last, so that a study that is cut short has all of its cells once before any of them twice.
    'all: for seed in 0..args.seeds {
        for set in &sets {
            for &subject in &subjects {
                let learns = !matches!(subject, Subject::Raw | Subject::Untrained);
                let both = args.float && (learns || (subject == Subject::Raw && set.is_behind()));
                for float in if both { &[false, true][..] } else { &[false] } {
                    let place = Place { subject, seed, float: *float, budget: args.budget };
                    if results::holds(&results::read(&csv)?, &set.name, place) {
                        continue;
                    }
                    if interrupted.load(Ordering::Relaxed) {
                        break 'all;
                    }
                    let row = cell::run(set, place).map_err(|e| format!("{}, {}: {e}", set.name, subject.name()))?;
                    results::append(&csv, &row)?;
                    run += 1;
                    eprintln!("{}", line(&row));
                }
            }
        }
    }
    let rows = results::read(&csv)?;
    let table = Table::new(&rows, args.budget, &sets, &subjects);
    let (seeds, budget, behind) = (args.seeds, args.budget.name(), args.backbone.written());
    let command = format!("nestling study pretexts --seeds {seeds} --budget {budget}{behind}");
    std::fs::write(&markdown, table.markdown(&command)).map_err(|e| format!("{}: {e}", markdown.display()))?;
    let json = json!({ "cells_run": run, "csv": csv, "markdown": markdown, "rows": rows });
    Ok(Told { text: table.text(), json })
}

/// What a cell came to.
fn line(row: &results::Row) -> String {
    let place = format!("{:<15} {:<13} {:<7} seed {}", row.set, row.task, row.arithmetic, row.seed);
    match row.headline {
        Some(headline) => format!("{place}  {headline:.3} {} in {:.1} s", row.metric, row.seconds),
        None => format!("{place}  —  {}", row.refused.replace('\n', " ")),
    }
}

/// Mean and standard deviation.
fn spread(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, square.sqrt())
}
