//! What the Rust peers share: the command line, the loop that measures, and the line that is printed.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::json;

/// One repetition of a work.
pub type Work = Box<dyn FnMut() -> Result<(), Box<dyn Error>>>;

/// Channels of the encoder: its input's, then each layer's output.
pub const CHANNELS: [usize; 5] = [3, 16, 32, 64, 128];
/// Stride of each layer.
pub const STRIDES: [usize; 4] = [1, 2, 2, 2];
/// Width of the head's hidden layer and of its output.
pub const HEAD: [usize; 2] = [128, 64];
pub const TEMPERATURE: f64 = 0.25;
pub const LEARNING_RATE: f64 = 1e-3;

/// Views of a training step; `None` for a work that is not one.
pub fn views(work: &str) -> Option<usize> {
    match work {
        "W" => Some(128),
        "V" => Some(2),
        _ => None,
    }
}

/// Side of the image that is perceived; `None` for a work that is none of that.
pub fn side(work: &str) -> Option<usize> {
    match work {
        "I32" => Some(32),
        "I96" => Some(96),
        _ => None,
    }
}

/// Numbers in 0..1, the same in every run.
pub fn noise(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| next()).collect()
}

/// Reads the command line, measures what `prepare` makes of it and prints the line; a work that the peer does not
/// know ends with code 3. `package` is looked up in the lock file for the version.
pub fn main(peer: &str, package: &str, prepare: impl FnOnce(&str) -> Result<Option<Work>, Box<dyn Error>>) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)?.parse::<f64>().ok());
    let Some(name) = args.first() else {
        eprintln!("usage: {peer} WORK [--threads N] [--seconds S]");
        std::process::exit(2);
    };
    let threads = option("--threads").unwrap_or(1.0) as usize;
    // The pools of all these libraries read this variable once, when they start.
    if std::env::var("RAYON_NUM_THREADS").ok() != Some(threads.to_string()) {
        eprintln!("{peer}: set RAYON_NUM_THREADS={threads} too; it is what sets the threads");
        std::process::exit(2);
    }
    let measured = prepare(name).and_then(|work| match work {
        Some(mut work) => measure(&mut work, option("--seconds").unwrap_or(2.0)).map(Some),
        None => Ok(None),
    });
    match measured {
        Ok(Some(ms)) => {
            let version = version(package);
            let line = json!({"peer": peer, "version": version, "work": name, "threads": threads, "ms": ms, "rss_mib": rss_mib()});
            println!("{line}");
        }
        Ok(None) => {
            eprintln!("{peer}: {name}: not yet");
            std::process::exit(3);
        }
        Err(error) => {
            eprintln!("{peer}: {name}: {error}");
            std::process::exit(1);
        }
    }
}

/// Milliseconds of each repetition, after a warm-up of a fifth of the time.
fn measure(work: &mut Work, seconds: f64) -> Result<Vec<f64>, Box<dyn Error>> {
    let begun = Instant::now();
    let until = |seconds: f64| move || begun.elapsed() < Duration::from_secs_f64(seconds);
    let (warming, measuring) = (until(seconds * 0.2), until(seconds * 1.2));
    let mut warmed = 0;
    while warmed < 2 || warming() {
        black_box(work()?);
        warmed += 1;
    }
    let mut ms = Vec::new();
    while ms.len() < 3 || (measuring() && ms.len() < 5000) {
        let before = Instant::now();
        black_box(work()?);
        ms.push(before.elapsed().as_secs_f64() * 1e3);
    }
    Ok(ms)
}

/// Peak resident memory of this process; Linux alone tells it without a call to C.
fn rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

fn version(package: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let after = lock.split_once(&format!("name = \"{package}\"\nversion = \"")).map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default().to_string()
}
