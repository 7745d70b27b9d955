//! `nestling record`: samples to a file from which the same bits are learned: those of any source as an MCAP file, or what a
//! board's learner takes in as the messages that it says.

use std::path::PathBuf;

use super::Outcome;
use crate::source::SourceError;
use crate::source::uri::{Scheme, Uri};

#[cfg(feature = "serial")]
mod board;
#[cfg(feature = "mcap")]
mod mcap;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where samples come from, for example `camera:0`, or a board such as `serial:/dev/ttyACM0?baud=115200`.
    #[arg(long, value_name = "URI")]
    source: String,
    /// The file to write: FILE.mcap for `nestling learn --source mcap:FILE.mcap`; with another name, what a board says, for
    /// `--source link:FILE`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Samples to record. Without it an interrupt, or the end of the source, ends the recording.
    #[arg(long)]
    samples: Option<u64>,
    /// Seed of a source that the URI gives none, as of `learn`.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Have the board forget what it learned since flashing and begin again, so that the recording holds all that its
    /// learner has seen.
    #[arg(long)]
    restart: bool,
}

pub fn run(args: &Args) -> Outcome {
    let uri: Uri = args.source.parse()?;
    if args.out.extension().is_some_and(|extension| extension == "mcap") {
        if args.restart {
            let remedy = "leave --restart out, or write what the board says to a file with another name";
            return Err(SourceError::uri(&args.source, "an MCAP file has samples alone", remedy).into());
        }
        return to_mcap(args);
    }
    if uri.scheme != Scheme::Serial {
        let remedy = "name it FILE.mcap; other files hold what a board on a serial port says";
        let problem = format!("{} is no name for a recording of it", args.out.display());
        return Err(SourceError::uri(&args.source, problem, remedy).into());
    }
    from_board(args, &uri)
}

#[cfg(feature = "mcap")]
fn to_mcap(args: &Args) -> Outcome {
    mcap::run(args)
}

#[cfg(not(feature = "mcap"))]
fn to_mcap(args: &Args) -> Outcome {
    let remedy = "build it with `cargo build --release --features mcap`";
    Err(SourceError::uri(&args.source, "this program was built without MCAP files", remedy).into())
}

#[cfg(feature = "serial")]
fn from_board(args: &Args, uri: &Uri) -> Outcome {
    board::run(args, uri)
}

#[cfg(not(feature = "serial"))]
fn from_board(args: &Args, _: &Uri) -> Outcome {
    let remedy = "build it with `cargo build --release --features serial`";
    Err(SourceError::uri(&args.source, "this program was built without serial ports", remedy).into())
}
