//! `nestling run`: perceive and learn from a stream. Features go out, one JSON object a line; see `runtime::daemon`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::behind::{self, BackboneArgs};
use super::settings::{ModelArgs, RunArgs};
use super::{Outcome, Told};
use crate::board::Profile;
use crate::bus::lines::Lines;
use crate::bus::{Bus, Terms};
use crate::control::config::{ControllerTable, Does};
use crate::learner::Learner;
use crate::runtime::daemon::{self, ControlSocket, Setup, Signals};
use crate::source::{OpenOptions, open};
use crate::store::{self, Store, StoreError};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A board profile; what is said on the command line goes before it. SIGHUP reads it again.
    #[arg(long, value_name = "FILE")]
    board: Option<PathBuf>,
    /// Where samples come from: `pipe:-` for frames on standard input, or any other source.
    #[arg(long = "source", required_unless_present = "board", value_name = "URI")]
    sources: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    backbone: BackboneArgs,
    #[command(flatten)]
    how: RunArgs,
    /// The checkpoint to go on from, where it exists, and to write. It holds the samples that the learner remembers.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Write the checkpoint each time this many seconds have passed, as far as the bound on bytes an hour allows.
    #[arg(long, value_name = "SECONDS")]
    save_every: Option<u64>,
    /// Perceive only; the encoder stays as it is.
    #[arg(long)]
    frozen: bool,
    /// Play a recording or the simulator at the pace of its timestamps, as a live stream.
    #[arg(long)]
    pace: bool,
    /// Perceive and learn from every sample, and let the source wait for that: for a recording that comes through a pipe.
    #[arg(long, conflicts_with = "pace")]
    every: bool,
    /// Share of all processors that learning may take, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    share: Option<f64>,
    /// A controller with the usual values, named after what it does; for limits, pins and commands write a profile.
    #[arg(long = "controller", value_name = "steer|classify|alarm")]
    controllers: Vec<String>,
    /// Unix socket for `nestling status`, `freeze`, `thaw` and `rollback`.
    #[arg(long, value_name = "FILE")]
    control: Option<PathBuf>,
    /// Stop after this many samples.
    #[arg(long)]
    samples: Option<u64>,
}

impl Args {
    /// The profile, changed by what the command line says.
    fn profile(&self) -> Result<Profile, Box<dyn std::error::Error>> {
        let mut profile = match &self.board {
            Some(path) => Profile::read(path)?,
            None => Profile { name: "run".into(), ..Profile::default() },
        };
        if !self.sources.is_empty() {
            profile.source.clone_from(&self.sources);
        }
        if profile.source.is_empty() {
            return Err("the profile names no source: write source = \"…\", or give --source URI".into());
        }
        #[cfg(feature = "onnx")]
        if let Some(path) = &self.backbone.backbone {
            profile.backbone = Some(self.backbone.table(path));
        }
        profile.seed = self.how.seed.or(profile.seed);
        profile.perceive.pace |= self.pace;
        profile.perceive.every |= self.every;
        profile.learn.frozen |= self.frozen;
        if self.how.threads > 0 {
            profile.learn.threads = self.how.threads;
        }
        if let Some(share) = self.share {
            profile.learn.share = share;
        }
        if let Some(seconds) = self.save_every {
            profile.store.every_s = seconds;
        }
        for does in &self.controllers {
            let does = match does.as_str() {
                "steer" => Does::Steer,
                "classify" => Does::Classify,
                "alarm" => Does::Alarm,
                other => {
                    let why =
                        "it can be steer, classify or alarm; others need more than a name: write a [[controller]]";
                    return Err(format!("--controller {other}: {why}").into());
                }
            };
            profile.controller.push(ControllerTable::plain(does));
        }
        profile.store.path = self.state.clone().or(profile.store.path);
        profile.control.socket = self.control.clone().or(profile.control.socket);
        profile.check("the command line")?;
        Ok(profile)
    }
}

pub fn run(args: &Args) -> Outcome {
    // Before anything that takes long: a signal is not to be lost.
    let signals = signals()?;
    let profile = args.profile()?;
    let opened = match daemon::opens_late(&profile.source) {
        true => None,
        false => match open(&profile.source, &OpenOptions { seed: profile.seed.unwrap_or(0) }) {
            Ok(source) => Some(source),
            // A service comes up before its camera does.
            Err(problem) if args.board.is_some() && daemon::is_live(&profile.source) && problem.is_passing() => {
                eprintln!("nestling: the source is not there yet: {problem}");
                None
            }
            Err(problem) => return Err(problem.into()),
        },
    };
    let mut store = match &profile.store.path {
        Some(path) => open_store(path, &profile)?,
        None => None,
    };
    let saved = match (&mut store, &profile.store.path) {
        (Some(store), _) => store.newest()?,
        // What cannot be written may be readable.
        (None, Some(path)) if path.exists() => Some(store::read(path)?),
        _ => None,
    };
    if let Some(reason) = saved.as_ref().and_then(|saved| saved.set_aside.as_ref()) {
        eprintln!("nestling: going on from the generation before, as the newest cannot be used: {reason}");
    }
    let device = opened.as_ref().and_then(|source| source.device());
    let mut model = args.model.clone();
    let tail = profile.backbone.is_some().then(|| behind::TAIL.to_string());
    model.model = model.model.or_else(|| profile.model.clone()).or(tail);
    let mut spec = match &saved {
        Some(saved) => saved.spec.clone(),
        None => model.load_or(device.map(|device| &device.spec))?,
    };
    let behind = behind::of_daemon(profile.backbone.as_ref(), saved.as_ref().map(|saved| &saved.metadata), &mut spec)?;
    if let Some(source) = &opened {
        super::settings::check_rate(&spec, source.as_ref())?;
    }
    let how = RunArgs { seed: profile.seed, threads: profile.learn.threads, ..args.how.clone() };
    let options = how.options(&spec, None);
    let plan = Learner::plan(&spec, &options)?;
    // Before it is taken, and with what stands beside it.
    profile.check_memory(&[("the learner", plan.block_len())])?;
    let mut memory = super::memory::block(&plan)?;
    let mut learner = Learner::new(&spec, &options, &mut memory)?;
    let beside = daemon::memory::planned(&mut learner, plan.block_len(), &profile);
    profile.check_memory(&[&beside[..], &[("the backbone", behind.bytes())]].concat())?;
    if let Some(saved) = &saved {
        saved.restore(&mut learner)?;
        store.iter_mut().for_each(|store| store.follows(saved));
    }
    drop(saved);
    let setup = Setup {
        control: if profile.control.socket.is_some() { ControlSocket::Must } else { ControlSocket::IfFree },
        profile,
        reload: reload(args.clone()),
        opened,
        behind,
        store,
        samples: args.samples,
        lanes: options.lanes,
        planned_bytes: plan.ram_bytes,
        signals,
    };
    let mut bus = Bus::new();
    bus.add("stdout", Lines::new(std::io::stdout()), Terms { waits: true, ends: true })?;
    let status = daemon::run(setup, &mut learner, bus)?;
    eprintln!("nestling: {}", summary(&status));
    Ok(Told { text: String::new(), json: json!(null) })
}

/// The store of the profile; none where the disk cannot be written now, which is tried again at each save.
fn open_store(path: &Path, profile: &Profile) -> Result<Option<Store>, StoreError> {
    match Store::open(path, &daemon::store_options(&profile.store)) {
        Ok(store) => Ok(Some(store)),
        Err(problem @ StoreError::Io { .. }) => {
            eprintln!("nestling: nothing can be saved for now, learning goes on in memory: {problem}");
            Ok(None)
        }
        Err(problem) => Err(problem),
    }
}

fn reload(args: Args) -> Box<dyn Fn() -> Result<Profile, String>> {
    Box::new(move || match args.board {
        Some(_) => args.profile().map_err(|e| e.to_string()),
        None => Err("there is no profile to read again: start it with --board FILE".into()),
    })
}

fn summary(s: &daemon::status::Status) -> String {
    format!(
        "perceived {}, missed {} that came too fast, learned from {}, not from {} as the learner was busy; refused {}, damaged {}; \
         encoder {}",
        s.features.perceived,
        s.source.missed,
        s.learning.observed,
        s.learning.not_learned,
        s.features.refused,
        s.source.damaged,
        s.learning.encoder
    )
}

fn signals() -> std::io::Result<Signals> {
    let signals = Signals { stop: super::interrupts()?, ..Signals::default() };
    signal_hook::flag::register(signal_hook::consts::SIGHUP, signals.reload.clone())?;
    Ok(signals)
}
