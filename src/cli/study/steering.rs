//! `nestling study steering`: steering foretold in recordings, within a session and across, by labels and kinds of features.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{results, spread};
use crate::cli::settings::{ModelArgs, RunArgs};
use crate::cli::{Outcome, Told, interrupts};
use crate::demo::recorded::{Session, run as foretell};
use crate::source::{OpenOptions, open};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// A recorded session with its steering as labels, such as 'mjpeg:frames.jpegs,frames.csv?label=steering'. Give several.
    #[arg(long = "session", value_name = "URI", required = true)]
    sessions: Vec<String>,
    /// The model that learns: one of images.
    #[arg(long, default_value = "robot")]
    model: String,
    /// Seeds 0, 1 … of the learner.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Labels that steering is taught with.
    #[arg(long, value_delimiter = ',', default_value = "25,100,400")]
    labels: Vec<usize>,
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Folder to write steering.csv and steering.md to. Seeds that are in it are not run again.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    model: String,
    seed: u64,
    session: String,
    across: bool,
    features: String,
    labels: usize,
    mae: f64,
    r2: f64,
}

const FEATURES: [&str; 4] = ["learned", "learned, learning on", "untrained", "raw"];

pub fn run(args: &Args) -> Outcome {
    std::fs::create_dir_all(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let (csv, markdown) = (args.out.join("steering.csv"), args.out.join("steering.md"));
    let spec = ModelArgs { model: Some(args.model.clone()), pretext: None, set: Vec::new() }.load()?;
    let threads = RunArgs { seed: None, threads: args.threads, lean: false }.threads();
    let interrupted = interrupts()?;
    let mut sessions = Vec::new();
    for (n, uri) in args.sessions.iter().enumerate() {
        let mut source = open(std::slice::from_ref(uri), &OpenOptions::default())?;
        sessions.push(Session::read(&format!("session {}", n + 1), source.as_mut(), &spec)?);
    }
    let mut rows: Vec<Row> = results::read(&csv)?;
    for seed in 0..args.seeds {
        if rows.iter().any(|row| row.model == args.model && row.seed == seed) {
            continue;
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        for scored in foretell(&spec, seed, &sessions, &args.labels, threads)? {
            let features = if scored.learning { FEATURES[1] } else { scored.kind.name() };
            rows.push(Row {
                model: args.model.clone(),
                seed,
                session: scored.session,
                across: scored.across,
                features: features.into(),
                labels: scored.labels,
                mae: scored.mae,
                r2: scored.r2,
            });
        }
        results::write(&csv, &rows)?;
        eprintln!("seed {seed} is done");
    }
    rows.retain(|row| row.model == args.model && row.seed < args.seeds);
    let text = table(&rows, &args.labels);
    let sessions: String = args.sessions.iter().map(|uri| format!(" --session '{uri}'")).collect();
    let command = format!("nestling study steering --model {} --seeds {}{sessions}", args.model, args.seeds);
    std::fs::write(&markdown, format!("`{command}`\n\n{text}")).map_err(|e| format!("{}: {e}", markdown.display()))?;
    Ok(Told { text, json: json!({ "csv": csv, "markdown": markdown, "rows": rows }) })
}

fn table(rows: &[Row], labels: &[usize]) -> String {
    let mut text = String::new();
    for (across, title) in
        [(false, "Within a session: R² on its last fifth"), (true, "Across: R² on a session not learned from")]
    {
        let mut sessions: Vec<&str> = rows.iter().filter(|r| r.across == across).map(|r| r.session.as_str()).collect();
        sessions.sort_unstable();
        sessions.dedup();
        if sessions.is_empty() {
            continue;
        }
        let _ = writeln!(text, "| {title} | labels | {} | mean | mean error |", sessions.join(" | "));
        let _ = writeln!(text, "|---|---|{}---|---|", "---|".repeat(sessions.len()));
        for features in FEATURES {
            for &labels in labels {
                let of = |session: Option<&str>, value: fn(&Row) -> f64| {
                    let ours =
                        rows.iter().filter(|r| r.across == across && r.features == features && r.labels == labels);
                    let ours = ours.filter(|r| session.is_none_or(|s| r.session == s)).map(value);
                    spread(&ours.collect::<Vec<_>>())
                };
                let _ = write!(text, "| {features} | {labels} |");
                for session in &sessions {
                    let (mean, deviation) = of(Some(session), |row| row.r2);
                    let _ = write!(text, " {mean:.2} ± {deviation:.2} |");
                }
                let (mean, error) = (of(None, |row| row.r2).0, of(None, |row| row.mae).0);
                let _ = writeln!(text, " {mean:.2} | {error:.3} |");
            }
        }
        text.push('\n');
    }
    text
}
