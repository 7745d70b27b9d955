//! `nestling doctor`: tries each line of a board's profile on this machine, and says what to do about what fails.

use std::path::PathBuf;

use serde_json::json;

use super::settings::{ModelArgs, RunArgs};
use super::{Outcome, Told};
use crate::board::Profile;
use crate::doctor::{Here, Planned, Report, Root, Standing};
use crate::learner::Learner;
use crate::runtime::daemon::memory::planned;
use crate::store;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The profile that `nestling run --board` takes. For the service's view: `sudo -u nestling nestling doctor …`.
    #[arg(long, value_name = "FILE")]
    board: PathBuf,
}

/// `failed` becomes true where a check fails.
pub fn run(args: &Args, failed: &mut bool) -> Outcome {
    let name = args.board.display().to_string();
    let report = match Profile::read(&args.board) {
        Err(error) => Report::refused(&name, &error),
        Ok(profile) => {
            let planned = plan(&profile).map_err(|error| error.to_string());
            let planned = planned.as_ref().map_err(String::as_str);
            Report::of(&name, &profile, planned, &Root::default(), &Here)
        }
    };
    *failed = report.count(Standing::Fail) > 0;
    let json = json!({
        "board": report.board,
        "ok": report.count(Standing::Ok),
        "warn": report.count(Standing::Warn),
        "fail": report.count(Standing::Fail),
        "checks": report.checks,
    });
    Ok(Told { text: report.text(), json })
}

/// What `nestling run` would take, as it plans it.
fn plan(profile: &Profile) -> Result<Planned, Box<dyn std::error::Error>> {
    let saved = profile.store.path.as_ref().and_then(|path| store::read(path).ok());
    let model = ModelArgs { model: profile.model.clone(), pretext: None, set: Vec::new() };
    let spec = match &saved {
        Some(saved) => saved.spec.clone(),
        None => model.load()?,
    };
    let how = RunArgs { seed: profile.seed, threads: profile.learn.threads, lean: false };
    let options = how.options(&spec, None);
    let plan = Learner::plan(&spec, &options)?;
    let mut memory = super::memory::block(&plan)?;
    let mut learner = Learner::new(&spec, &options, &mut memory)?;
    let parts = planned(&mut learner, plan.block_len(), profile).to_vec();
    Ok(Planned { model: spec.name.to_string(), weights: plan.params, parts })
}
