//! `nestling status`, `freeze`, `thaw` and `rollback`: speak to a running `nestling run`.

use std::path::PathBuf;

use serde_json::Value;

use super::{Outcome, Told};
use crate::runtime::daemon::control::{Command, ask, find_socket};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The daemon's control socket, where it is not the usual one.
    #[arg(long, value_name = "FILE")]
    control: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
pub struct Rollback {
    /// Published lessons to go back.
    #[arg(default_value_t = 1, conflicts_with = "generation")]
    lessons: usize,
    /// Go back to the checkpoint so many generations before the newest instead.
    #[arg(long, value_name = "N")]
    generation: Option<usize>,
    #[command(flatten)]
    at: Args,
}

pub(super) fn say(args: &Args, command: Command) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(ask(&args.control.clone().unwrap_or_else(find_socket), command)?)
}

pub fn freeze(args: &Args) -> Outcome {
    let json = say(args, Command::Freeze)?;
    Ok(Told { text: "learning is frozen; features go on. `nestling thaw` ends it".into(), json })
}

pub fn thaw(args: &Args) -> Outcome {
    let json = say(args, Command::Thaw)?;
    Ok(Told { text: "learning goes on".into(), json })
}

pub fn save(args: &Args) -> Outcome {
    let json = say(args, Command::Save)?;
    Ok(Told { text: "a checkpoint is being written; `nestling status` tells how that went".into(), json })
}

pub fn rollback(args: &Rollback) -> Outcome {
    let lessons = args.generation.is_none().then_some(args.lessons);
    let json = say(&args.at, Command::Rollback { lessons, generation: args.generation })?;
    let to = match args.generation {
        Some(n) => format!("the checkpoint {n} generations before the newest"),
        None => format!("what it was {} lessons ago", args.lessons),
    };
    Ok(Told { text: format!("the encoder is {to}, and has version {} now", json["encoder"]), json })
}

pub fn status(args: &Args) -> Outcome {
    let json = say(args, Command::Status)?;
    let text = text(&json);
    Ok(Told { text, json })
}

/// What people read of a status.
pub(super) fn text(s: &Value) -> String {
    let number = |pointer: &str| s.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let word = |pointer: &str| s.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let (features, learning) = (number("/features/perceived"), number("/learning/observed"));
    let mut lines = vec![format!(
        "nestling {} (process {}), model {}, up {}",
        word("/name"),
        number("/pid"),
        word("/model"),
        span(number("/uptime_s"))
    )];
    let problem = word("/source/problem");
    let open = match (s.pointer("/source/open").and_then(Value::as_bool), problem) {
        (Some(true), _) => "open".to_string(),
        (_, "") => "not open".to_string(),
        (_, problem) => format!("not open: {}", problem.lines().next().unwrap_or(problem)),
    };
    lines.push(format!(
        "  source     {open}; {} samples, {} missed, {} damaged, opened again {} times",
        number("/source/samples"),
        number("/source/missed"),
        number("/source/damaged"),
        number("/source/reopened")
    ));
    let age = match s["age_us"].as_f64() {
        Some(age) => format!("the newest {:.0} ms old", age / 1e3),
        None => "none yet".to_string(),
    };
    let stale = if s.pointer("/features/stale").and_then(Value::as_bool) == Some(true) { ", STALE" } else { "" };
    let not_recorded = match number("/features/not_recorded") {
        0.0 => String::new(),
        n => format!(", {n} NOT RECORDED"),
    };
    lines.push(format!(
        "  features   {features}, {age}{stale}; {:.1} ms from sample to feature (99 %: {:.1} ms), {} late, {} unread, {} \
         refused{not_recorded}",
        number("/features/latency_us/p50") / 1e3,
        number("/features/latency_us/p99") / 1e3,
        number("/features/late"),
        number("/features/unread"),
        number("/features/refused"),
    ));
    if number("/features/backbone_us/p99") > 0.0 {
        lines.push(format!(
            "  backbone   {:.1} ms of that (99 %: {:.1} ms), {} samples withheld",
            number("/features/backbone_us/p50") / 1e3,
            number("/features/backbone_us/p99") / 1e3,
            number("/features/withheld"),
        ));
    }
    let why = match word("/learning/why") {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    let heat = match s.pointer("/learning/temperature").and_then(Value::as_f64) {
        Some(t) => format!(", {t:.0} °C"),
        None => String::new(),
    };
    lines.push(format!(
        "  learning   {}{why}; {learning} samples, {} without time for them; {} steps, loss {:.2}{heat}",
        word("/learning/state"),
        number("/learning/not_learned"),
        number("/learning/steps"),
        number("/learning/loss"),
    ));
    lines.push(format!(
        "  lessons    {} published, {} undone, {} can be gone back; encoder {}",
        number("/learning/lessons_published"),
        number("/learning/lessons_rolled_back"),
        number("/learning/lessons_kept"),
        number("/learning/encoder"),
    ));
    let faults = s.pointer("/learning/guard/faults").and_then(Value::as_object);
    let faults = faults.into_iter().flatten().filter(|(_, n)| n.as_u64() > Some(0));
    let faults: Vec<String> = faults.map(|(name, n)| format!(", {n} {}", name.replace('_', " "))).collect();
    lines.push(format!(
        "  guard      effective rank {:.1} ({:.0} % of the best), spread {:.3} ({:.0} %), loss {:.2} above the best{}",
        number("/learning/guard/effective_rank"),
        100.0 * number("/learning/guard/standing_rank"),
        number("/learning/guard/spread"),
        100.0 * number("/learning/guard/standing_spread"),
        number("/learning/guard/standing_loss"),
        faults.concat()
    ));
    lines.push(format!(
        "  input      {} without contrast, {} stuck; brightness {:+.1}, contrast {:+.1} against the usual, histogram {:.2} off",
        number("/learning/guard/flat"),
        number("/learning/guard/stuck"),
        number("/learning/guard/exposure_mean"),
        number("/learning/guard/exposure_contrast"),
        number("/learning/guard/distribution"),
    ));
    if s["control"].is_object() {
        lines.extend(control_text(&s["control"]));
    }
    lines.push(match s["store"].as_object() {
        None => "  store      none: what is learned is lost at the end; start it with --state FILE".to_string(),
        Some(_) => store_text(s),
    });
    lines.push(format!(
        "  memory     {:.1} MB planned, {:.1} MB resident ({:.1} MB at most)",
        number("/memory/planned_bytes") / 1e6,
        number("/memory/rss_bytes") / 1e6,
        number("/memory/peak_rss_bytes") / 1e6
    ));
    lines.join("\n")
}

/// Controllers with what they decide, and what was taught with what it is taken for.
fn control_text(s: &Value) -> Vec<String> {
    let numbers = |value: &Value, digits: usize| {
        let numbers = value.as_array().into_iter().flatten().filter_map(Value::as_f64);
        numbers.map(|v| format!("{v:.digits$}")).collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    let names = s["names"].as_array().into_iter().flatten();
    for (name, decision) in names.zip(s["decisions"].as_array().into_iter().flatten()) {
        let label = decision["label"].as_str().map(|label| format!(" {label}")).unwrap_or_default();
        let alarm = if decision["alarm"] == true { " ALARM" } else { "" };
        let why = decision["safe"].as_str().map(|why| format!(" (safe: {why})")).unwrap_or_default();
        let confidence = decision["confidence"].as_f64().unwrap_or(0.0);
        lines.push(format!(
            "  controller {}:{label}{alarm} {}{why}, confidence {confidence:.2}",
            name.as_str().unwrap_or(""),
            numbers(&decision["values"], 3)
        ));
    }
    for pin in s["pins"].as_array().into_iter().flatten() {
        let value = pin["value"].as_f64().map_or("off".to_string(), |value| format!("{value:.3}"));
        let failed = pin["failures"].as_u64().filter(|&n| n > 0).map(|n| format!(", {n} writes failed"));
        let name = pin["name"].as_str().unwrap_or("");
        lines.push(format!("  pin        {name}: {value}{}", failed.unwrap_or_default()));
    }
    for taught in s["taught"].as_array().into_iter().flatten() {
        let confusions = taught["confusions"].as_array().into_iter().flatten();
        let confusions: Vec<String> =
            confusions.map(|c| format!("{} for {}", c["count"], c["with"].as_str().unwrap_or(""))).collect();
        let known = match (&taught["error"], confusions.is_empty()) {
            (Value::Array(_), _) => format!(", wrong by {} where it was not shown", numbers(&taught["error"], 3)),
            (_, true) => String::new(),
            (_, false) => format!(", taken {}", confusions.join(", ")),
        };
        let label = taught["label"].as_str().unwrap_or("");
        lines.push(format!("  taught     {label}: {} examples{known}", taught["examples"]));
    }
    lines.push(format!(
        "  decisions  {:.1} ms after the sample (99 %: {:.1} ms), against {} samples of the stream; stale {} times, {} alarms, {} commands failed",
        s["latency_us"]["p50"].as_f64().unwrap_or(0.0) / 1e3,
        s["latency_us"]["p99"].as_f64().unwrap_or(0.0) / 1e3,
        s["background"],
        s["went_stale"],
        s["alarms"],
        s["commands_failed"],
    ));
    if let Some(problem) = s["problem"].as_str() {
        lines.push(format!("             what was taught was not saved the last time: {problem}"));
    }
    lines
}

fn store_text(s: &Value) -> String {
    let number = |pointer: &str| s.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let problem = match s.pointer("/store/problem").and_then(Value::as_str) {
        Some(problem) => format!("\n             not written the last time: {problem}"),
        None => String::new(),
    };
    format!(
        "  store      {}: {} checkpoints written, {} failed; {:.1} MB in the last hour of {:.0} MB{problem}",
        s.pointer("/store/path").and_then(Value::as_str).unwrap_or(""),
        number("/store/saves"),
        number("/store/failures"),
        number("/store/bytes_last_hour") / 1e6,
        number("/store/bytes_per_hour") / 1e6,
    )
}

fn span(seconds: f64) -> String {
    match seconds as u64 {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backbone_takes_and_what_was_not_recorded_is_told_where_there_is_any() {
        let status = |backbone: u64, lost: u64| {
            let times = serde_json::json!({ "p50": backbone, "p99": 2 * backbone });
            text(&serde_json::json!({ "features": { "backbone_us": times, "not_recorded": lost, "withheld": 64 } }))
        };
        let told = status(1500, 3);
        assert!(told.contains("backbone   1.5 ms of that (99 %: 3.0 ms), 64 samples withheld"), "{told}");
        assert!(told.contains("0 refused, 3 NOT RECORDED"), "{told}");
        let told = status(0, 0);
        assert!(!told.contains("backbone") && !told.contains("RECORDED"), "{told}");
    }
}
