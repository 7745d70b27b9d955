//! `nestling teach` and `forget`: show a running `nestling run` what is what.

use super::{Outcome, Told, daemon};
use crate::runtime::daemon::control::Command;
use crate::runtime::daemon::{EXAMPLES, MOST_EXAMPLES};

#[derive(clap::Args, Debug)]
pub struct Teach {
    /// What it sees now.
    #[arg(required_unless_present = "value", conflicts_with = "value")]
    label: Option<String>,
    /// What a `steer` controller is to do when it sees this: one value for each of its outputs, with commas.
    #[arg(long, value_name = "V[,V...]", value_delimiter = ',', allow_negative_numbers = true)]
    value: Option<Vec<f64>>,
    /// The controller that learns the values, where there are several.
    #[arg(long, value_name = "NAME", requires = "value")]
    controller: Option<String>,
    /// Samples that are taken as examples, a fifth of a second apart; a label takes 5 unless told otherwise, values 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_EXAMPLES)))]
    examples: Option<u32>,
    #[command(flatten)]
    at: daemon::Args,
}

#[derive(clap::Args, Debug)]
pub struct Forget {
    /// A label, or the name of a controller that was taught values.
    label: String,
    #[command(flatten)]
    at: daemon::Args,
}

pub fn teach(args: &Teach) -> Outcome {
    let Teach { label, value, controller, examples, at } = args;
    let (label, values, controller) = (label.clone(), value.clone(), controller.clone());
    let wanted = examples.unwrap_or(EXAMPLES);
    if label.is_some() && wanted > 1 {
        eprintln!("nestling: looking at it; keep it in view and move it a little");
    }
    let json = daemon::say(at, Command::Teach { label, values, controller, examples: *examples })?;
    let kept = match json["keeps"].as_bool() {
        Some(true) => "",
        _ => "; it is lost at the end: start nestling with --state FILE to keep it",
    };
    let name = json["taught"].as_str().unwrap_or("");
    let examples = if json["examples"] == 1 { "example" } else { "examples" };
    let text = format!("{} {examples} of {name} taken, that makes {}{kept}", json["examples"], json["of_that"]);
    Ok(Told { text, json })
}

pub fn forget(args: &Forget) -> Outcome {
    let json = daemon::say(&args.at, Command::Forget { label: args.label.clone() })?;
    Ok(Told { text: format!("{} examples of {} are forgotten", json["forgotten"], args.label), json })
}
