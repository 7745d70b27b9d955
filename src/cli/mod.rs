//! The command line: one file a verb. Every verb prints for people, or with `--json` one object on stdout.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use.

mod behind;
mod board;
mod daemon;
mod demo;
mod device;
mod doctor;
mod export;
mod finetune;
mod flash;
mod generate;
mod import;
mod inspect;
mod learn;
mod learn_float;
mod memory;
#[cfg(feature = "onnx")]
mod onnx;
mod pictures;
mod plan;
mod probe;
#[cfg(any(feature = "serial", feature = "mcap"))]
mod record;
mod run;
mod settings;
mod study;
mod teach;

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::runtime::machine::peak_rss_bytes;

/// Self-supervised learning on the device, in integer arithmetic only.
#[derive(Parser)]
#[command(name = "nestling", version, about, max_term_width = 100)]
struct Cli {
    /// Print one JSON object on standard output; messages go to standard error.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// A simulated rover learns to see, is taught to steer, drives; writes a report with pictures.
    Demo(demo::Args),
    /// Learn from a source, as fast as it goes, and write a checkpoint.
    Learn(learn::Args),
    /// Tell how good the features of a checkpoint are, beside raw input and an untrained encoder.
    Probe(probe::Args),
    /// Perceive and learn from a stream; one JSON feature a line on standard output.
    Run(run::Args),
    /// Try each line of a board's profile on this machine; exit status 1 where one fails.
    Doctor(doctor::Args),
    /// Tell how a running `nestling run` is.
    Status(daemon::Args),
    /// Have a running `nestling run` learn nothing until `thaw`; features go on.
    Freeze(daemon::Args),
    /// Have it learn again.
    Thaw(daemon::Args),
    /// Have it write its checkpoint now.
    Save(daemon::Args),
    /// Have it go back by so many published lessons, or to an older checkpoint.
    Rollback(daemon::Rollback),
    /// Teach it what it sees now: a label, or values for a controller that steers.
    Teach(teach::Teach),
    /// Have it forget a label, or what a controller was taught.
    Forget(teach::Forget),
    /// Tell what is in a checkpoint or a model.
    Inspect(inspect::Args),
    /// Write a checkpoint as the image that a board's firmware holds, or as a network for other programs.
    Export(export::Args),
    /// Write an image, or a network, as a checkpoint.
    Import(import::Args),
    /// Build a board's firmware with a model and flash it; an emulated board is run and taught.
    Flash(flash::Args),
    /// Record a source, or what a board's learner takes in, to learn the same bits from it.
    #[cfg(any(feature = "serial", feature = "mcap"))]
    Record(record::Args),
    /// Tell what a learner of a model will hold and cost, before it runs.
    Plan(plan::Args),
    /// Write manual pages, or print the completions of a shell.
    Generate(generate::Args),
    /// Measure at length, over seeds: every pretext task on every data set, or steering while the world changes.
    Study(study::Args),
}

/// What a verb has to say: for people, and as JSON.
struct Told {
    text: String,
    json: Value,
}

type Outcome = Result<Told, Box<dyn Error>>;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Of a verb that has something to say and failed all the same.
    let mut failed = false;
    let outcome = match &cli.verb {
        Verb::Demo(args) => demo::run(args),
        Verb::Learn(args) => learn::run(args),
        Verb::Probe(args) => probe::run(args),
        Verb::Run(args) => run::run(args),
        Verb::Doctor(args) => doctor::run(args, &mut failed),
        Verb::Status(args) => daemon::status(args),
        Verb::Freeze(args) => daemon::freeze(args),
        Verb::Thaw(args) => daemon::thaw(args),
        Verb::Save(args) => daemon::save(args),
        Verb::Rollback(args) => daemon::rollback(args),
        Verb::Teach(args) => teach::teach(args),
        Verb::Forget(args) => teach::forget(args),
        Verb::Inspect(args) => inspect::run(args),
        Verb::Export(args) => export::run(args),
        Verb::Import(args) => import::run(args),
        Verb::Flash(args) => flash::run(args),
        #[cfg(any(feature = "serial", feature = "mcap"))]
        Verb::Record(args) => record::run(args),
        Verb::Plan(args) => plan::run(args),
        Verb::Generate(args) => generate::run(args),
        Verb::Study(args) => study::run(args),
    };
    match outcome {
        Ok(told) => {
            let text = if cli.json { told.json.to_string() } else { told.text };
            // What `run` has to say went out line by line.
            if text.is_empty() || (cli.json && told.json.is_null()) {
                return ExitCode::SUCCESS;
            }
            // A reader that went away (`| head`) is no failure.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("nestling: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A progress bar on a terminal, and nothing elsewhere. `total` is `None` for a stream without end.
fn progress(total: Option<u64>, what: &'static str) -> indicatif::ProgressBar {
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (
            indicatif::ProgressBar::new(total),
            "{prefix} {wide_bar} {human_pos}/{human_len} samples, {per_sec}, {eta} left  {msg}",
        ),
        None => (indicatif::ProgressBar::new_spinner(), "{prefix} {spinner} {human_pos} samples, {per_sec}  {msg}"),
    };
    bar.set_prefix(what);
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Becomes true when the user or the system asks the program to end.
fn interrupts() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

/// `value` with `places` decimals, as JSON.
fn rounded(value: f64, places: i32) -> Value {
    let scale = 10f64.powi(places);
    serde_json::json!((value * scale).round() / scale)
}
