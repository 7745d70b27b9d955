//! `nestling study alarm`: false alarms an hour against those that are allowed, and how soon something else raises one.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{results, spread};
use crate::cli::settings::{ModelArgs, RunArgs};
use crate::cli::{Outcome, Told, interrupts};
use crate::demo::alarms::{Watch, run as watch};
use crate::source::{OpenOptions, open};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The stream to watch; what ends is played again and again. Given several times they follow one another.
    #[arg(long = "source", value_name = "URI", required = true)]
    sources: Vec<String>,
    /// A stream that is unlike it, shown once at the end.
    #[arg(long = "other", value_name = "URI")]
    others: Vec<String>,
    /// Hours to watch, by the samples' own times; alarms of the second half count.
    #[arg(long, default_value_t = 2.0)]
    hours: f64,
    /// Alarms an hour that are allowed.
    #[arg(long, value_delimiter = ',', default_value = "1,6,60")]
    per_hour: Vec<f64>,
    #[arg(long, default_value = "robot")]
    model: String,
    /// Seeds 0, 1 … of the learner.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Folder to write alarm.csv and alarm.md to. Seeds that are in it are not run again.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// One alarm over one stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    command: String,
    seed: u64,
    features: String,
    allowed: f64,
    alarms: u64,
    hours: f64,
    found_s: Option<f64>,
}

pub fn run(args: &Args) -> Outcome {
    std::fs::create_dir_all(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let (csv, markdown) = (args.out.join("alarm.csv"), args.out.join("alarm.md"));
    let spec = ModelArgs { model: Some(args.model.clone()), pretext: None, set: Vec::new() }.load()?;
    let threads = RunArgs { seed: None, threads: args.threads, lean: false }.threads();
    let interrupted = interrupts()?;
    let named = |flag: &str, uris: &[String]| uris.iter().map(|uri| format!(" --{flag} '{uri}'")).collect::<String>();
    let command = format!(
        "nestling study alarm --model {} --hours {}{}{}",
        args.model,
        args.hours,
        named("source", &args.sources),
        named("other", &args.others)
    );
    let mut rows: Vec<Row> = results::read(&csv)?;
    for seed in 0..args.seeds {
        if rows.iter().any(|row| row.command == command && row.seed == seed) {
            continue;
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let mut stream = open(&args.sources, &OpenOptions::default())?;
        let mut other = match args.others.is_empty() {
            true => None,
            false => Some(open(&args.others, &OpenOptions::default())?),
        };
        let watched = Watch { spec: spec.clone(), seed, hours: args.hours, per_hour: args.per_hour.clone(), threads };
        for one in watch(&watched, stream.as_mut(), &mut other)? {
            rows.push(Row {
                command: command.clone(),
                seed,
                features: one.kind.name().into(),
                allowed: one.allowed,
                alarms: one.alarms,
                hours: one.hours,
                found_s: one.found_s,
            });
        }
        results::write(&csv, &rows)?;
        eprintln!("seed {seed} is done");
    }
    rows.retain(|row| row.command == command && row.seed < args.seeds);
    let text = table(&rows, !args.others.is_empty());
    std::fs::write(&markdown, format!("`{command} --seeds {}`\n\n{text}", args.seeds))
        .map_err(|e| format!("{}: {e}", markdown.display()))?;
    Ok(Told { text, json: json!({ "csv": csv, "markdown": markdown, "rows": rows }) })
}

fn table(rows: &[Row], with_other: bool) -> String {
    let mut text = String::from("| features | allowed an hour | came an hour |");
    text.push_str(if with_other {
        " found, of seeds | after s |\n|---|---|---|---|---|\n"
    } else {
        "\n|---|---|---|\n"
    });
    let mut seen: Vec<(&str, f64)> = Vec::new();
    for row in rows {
        let key = (row.features.as_str(), row.allowed);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let of: Vec<&Row> = rows.iter().filter(|r| (r.features.as_str(), r.allowed) == key).collect();
        let (mean, deviation) = spread(&of.iter().map(|r| r.alarms as f64 / r.hours).collect::<Vec<_>>());
        let _ = write!(text, "| {} | {} | {mean:.1} ± {deviation:.1} |", key.0, key.1);
        if with_other {
            let found: Vec<f64> = of.iter().filter_map(|r| r.found_s).collect();
            let _ = write!(text, " {} of {} |", found.len(), of.len());
            match found.is_empty() {
                true => text.push_str(" |"),
                false => {
                    let (mean, deviation) = spread(&found);
                    let _ = write!(text, " {mean:.1} ± {deviation:.1} |");
                }
            }
        }
        text.push('\n');
    }
    text
}
