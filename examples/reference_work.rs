//! The reference works of `docs/performance.md` in nestling, for `benches/peers/run.sh`:
//! `reference_work WORK [--threads N] [--seconds S]` prints one line of JSON with the milliseconds of each repetition.
//! A work that is not known here ends with code 3.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

#[allow(dead_code)] // The benchmarks use the rest.
#[path = "../benches/works/mobilenet.rs"]
mod mobilenet;

use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Join, Learner, Options};
use nestling::model;
use nestling::net::spec::{Spec, ViewSpec};
use nestling::runtime::Pool;
use nestling::runtime::perceiver::{Exchange, Perceiver};
use nestling::sample::{Micros, Sample, Seed, Values};

/// Random pictures without end.
struct Pictures {
    pixels: Vec<u8>,
    side: usize,
    state: u32,
}

impl Pictures {
    fn new(side: usize) -> Self {
        Pictures { pixels: vec![0; side * side * 3], side, state: 1 }
    }

    fn next(&mut self) -> Sample<'_> {
        for pixel in &mut self.pixels {
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *pixel = (self.state >> 24) as u8;
        }
        let values = Values::Image { pixels: &self.pixels, height: self.side, width: self.side, channels: 3 };
        Sample { values, time: Micros(0), segment: 0 }
    }
}

/// Calls `repetition`, which tells how long it took, until the time is over; the first fifth only warms up.
fn measure(
    seconds: f64,
    mut repetition: impl FnMut() -> Result<Duration, Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let begun = Instant::now();
    let mut warmed = 0;
    while warmed < 2 || begun.elapsed().as_secs_f64() < 0.2 * seconds {
        repetition()?;
        warmed += 1;
    }
    let mut ms = Vec::new();
    while ms.len() < 3 || (begun.elapsed().as_secs_f64() < 1.2 * seconds && ms.len() < 5000) {
        ms.push(repetition()?.as_secs_f64() * 1e3);
    }
    Ok(ms)
}

/// One step after the other; a new picture comes before each, not timed.
fn training(spec: &Spec, options: &Options, join: &impl Join, seconds: f64) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut memory = vec![0; Learner::plan(spec, options)?.block_len()];
    let mut learner = Learner::new(spec, options, &mut memory)?;
    let mut pictures = Pictures::new(spec.input.width);
    for _ in 0..spec.replay.capacity {
        learner.observe(&pictures.next())?;
    }
    measure(seconds, || {
        learner.observe(&pictures.next())?;
        let before = Instant::now();
        let did = learner.step(join);
        let took = before.elapsed();
        if matches!(did, Did::Trained { .. }) { Ok(took) } else { Err(format!("no step: {did:?}").into()) }
    })
}

/// A perceiver of images of `side`, with an encoder that some short lessons have published.
fn perceiver(mut spec: Spec, options: &Options, side: usize) -> Result<Perceiver, Box<dyn Error>> {
    (spec.input.height, spec.input.width) = (side, side);
    (spec.guard.lesson_steps, spec.guard.canaries, spec.replay.capacity) = (2, 8, 8);
    if let Some(pretext) = spec.pretext.first_mut() {
        pretext.batch = Some(2);
    }
    let mut memory = vec![0; Learner::plan(&spec, options)?.block_len()];
    let mut learner = Learner::new(&spec, options, &mut memory)?;
    let mut pictures = Pictures::new(side);
    for _ in 0..100 {
        learner.observe(&pictures.next())?;
        if matches!(learner.step(&Alone), Did::Published { .. }) {
            return Ok(Exchange::new(&learner).1);
        }
    }
    Err("no lesson was published".into())
}

fn perceiving(spec: Spec, options: &Options, side: usize, seconds: f64) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut perceiver = perceiver(spec, options, side)?;
    let mut pictures = Pictures::new(side);
    let image = pictures.next();
    let mut feature = vec![0; perceiver.feature_dim()];
    measure(seconds, || {
        let before = Instant::now();
        perceiver.perceive(black_box(&image), &mut feature)?;
        black_box(&feature);
        Ok(before.elapsed())
    })
}

/// M; see [`mobilenet`].
fn mobilenet(seconds: f64) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut pictures = Pictures::new(mobilenet::SIDE);
    pictures.next();
    let mut net = mobilenet::MobileNet::new(Kernels::detect(), &pictures.pixels);
    measure(seconds, || {
        let before = Instant::now();
        black_box(net.feature(black_box(&pictures.pixels)));
        Ok(before.elapsed())
    })
}

/// Milliseconds of each repetition; `None` where the work is not known.
fn work(name: &str, threads: usize, seconds: f64) -> Result<Option<Vec<f64>>, Box<dyn Error>> {
    let mut spec = model::parse("benches/models/w.toml", include_str!("../benches/models/w.toml"))?;
    let options = Options { lanes: threads, ..Options::new(Seed(0)) };
    let side = match name {
        "I32" => Some(32),
        "I96" => Some(96),
        "M" => return mobilenet(seconds).map(Some),
        "W" => None,
        "W+views" => {
            spec.views = ViewSpec::default();
            None
        }
        "V" => {
            spec.pretext.first_mut().ok_or("the model has no pretext")?.batch = Some(1);
            None
        }
        _ => return Ok(None),
    };
    if let Some(side) = side {
        return perceiving(spec, &options, side, seconds).map(Some);
    }
    if threads == 1 {
        return training(&spec, &options, &Alone, seconds).map(Some);
    }
    let in_pool = |workers: &_| training(&spec, &options, workers, seconds).map_err(|e| e.to_string());
    Ok(Some(Pool::new(threads)?.run(in_pool)?))
}

/// Peak resident memory of this process, where the system tells it.
fn rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)?.parse::<f64>().ok());
    let Some(name) = args.first() else {
        return Err("usage: reference_work WORK [--threads N] [--seconds S]".into());
    };
    let threads = option("--threads").unwrap_or(1.0) as usize;
    let Some(ms) = work(name, threads, option("--seconds").unwrap_or(2.0))? else {
        eprintln!("nestling: {name}: not yet");
        std::process::exit(3);
    };
    let line = serde_json::json!({
        "peer": "nestling",
        "version": env!("CARGO_PKG_VERSION"),
        "work": name,
        "threads": threads,
        "ms": ms,
        "rss_mib": rss_mib(),
    });
    println!("{line}");
    Ok(())
}
