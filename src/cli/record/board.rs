//! What a board's learner takes in, to a file of the messages that it says.

use std::fs::File;
use std::io::{BufWriter, Read, Write};

use serde_json::json;

use super::super::{Outcome, Told, interrupts, progress};
use super::Args;
use crate::link::{self, ToDevice, ToHost};
use crate::source::link::Board;
use crate::source::uri::Uri;
use crate::source::{SourceError, attach};

/// What was recorded.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recorded {
    samples: u64,
    /// Samples that the board had taken in before.
    first: u64,
    hash: Option<link::StateHash>,
}

pub fn run(args: &Args, uri: &Uri) -> Outcome {
    let interrupted = interrupts()?;
    let mut board = attach(uri)?;
    if args.restart {
        board.say(&ToDevice::Restart)?;
        // A port on USB goes away with the board and comes back with it.
        drop(board);
        board = attach_again(uri)?;
    }
    let file = File::create(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    let mut out = BufWriter::new(file);
    let bar = progress(args.samples, "recording");
    let recorded = record(&mut board, &mut out, args.samples, |samples| {
        bar.set_position(samples);
        interrupted.load(std::sync::atomic::Ordering::Relaxed)
    })?;
    bar.finish_and_clear();
    let device = board.device();
    let hash = recorded.hash.map(|hash| hash.hash.to_string());
    let mut text = format!(
        "recorded {} samples of board {} to {}\n  board's state hash  {}",
        recorded.samples,
        device.board,
        args.out.display(),
        hash.as_deref().unwrap_or("none")
    );
    if recorded.first > 0 {
        text += &format!(
            "\n  The board had taken in {} samples before: only a learner with its state from then learns the same bits \
             from this. Use --restart to record from its start.",
            recorded.first
        );
    }
    let json = json!({
        "file": args.out,
        "board": device.board,
        "samples": recorded.samples,
        "first": recorded.first,
        "device_state_hash": hash,
    });
    Ok(Told { text, json })
}

/// The board after its restart.
fn attach_again(uri: &Uri) -> Result<Board<serial2::SerialPort>, SourceError> {
    /// Time that a board takes to reset, and how often it is given.
    const RESET: std::time::Duration = std::time::Duration::from_millis(500);
    const TRIES: usize = 20;
    for _ in 1..TRIES {
        std::thread::sleep(RESET);
        if let Ok(board) = attach(uri) {
            return Ok(board);
        }
    }
    attach(uri)
}

/// Records from `board` to `out` until `most` samples or until `stop`, which is told their number, says so; ends with the
/// board's hash.
fn record<P: Read + Write>(
    board: &mut Board<P>,
    out: &mut impl Write,
    most: Option<u64>,
    mut stop: impl FnMut(u64) -> bool,
) -> Result<Recorded, Box<dyn std::error::Error>> {
    let mut recorded = Recorded::default();
    // The board answers in order: recording is on before it says Hello again, so that no sample lies between.
    board.say(&ToDevice::Record(true))?;
    board.say(&ToDevice::Hello)?;
    let (mut begun, mut asked) = (false, false);
    loop {
        let Some(message) = board.hear()? else {
            return Err("the board hung up; what was recorded so far is in the file".into());
        };
        match message {
            ToHost::Hello(hello) => {
                if begun {
                    return Err("the board started anew; what was recorded so far is in the file".into());
                }
                begun = true;
                recorded.first = hello.samples;
            }
            // Those that were under way when recording was ended count too: the hash comes after them.
            ToHost::Sample(_) if begun => recorded.samples += 1,
            ToHost::Hash(hash) if begun => recorded.hash = Some(hash),
            ToHost::Log(line) => {
                eprintln!("the board says: {line}");
                continue;
            }
            _ => continue,
        }
        link::forward(board.heard(), |piece| out.write_all(piece))?;
        if recorded.hash.is_some() {
            out.flush()?;
            return Ok(recorded);
        }
        if begun && !asked && (stop(recorded.samples) || most.is_some_and(|most| recorded.samples >= most)) {
            asked = true;
            board.say(&ToDevice::Record(false))?;
            board.say(&ToDevice::Hash)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::encode_spec;
    use crate::link::{Bytes, Decoder, Hello, Memory, RawSample, StateHash, send};
    use crate::sample::{Micros, Sample, Values};
    use crate::selftest;
    use crate::source::Source;
    use crate::source::link::LinkFile;
    use crate::state::Hash;
    use std::os::unix::net::UnixStream;

    /// A board that takes in a sample of its own after each message that it hears and after each that it says.
    fn board(mut port: UnixStream) {
        let mut spec = [0; 512];
        let spec = encode_spec(&selftest::spec(), &mut spec).expect("a small model");
        let (mut observed, mut recording) = (3, false);
        let mut decoder = Decoder::new(vec![0; 512]);
        let mut byte = [0];
        let say = |port: &mut UnixStream, message: ToHost, observed: &mut u64, recording: bool| {
            let _ = send(&message, |piece| port.write_all(piece));
            for _ in 0..2 {
                let pixels = [*observed as u8; 4];
                let values = Values::Image { pixels: &pixels, height: 2, width: 2, channels: 1 };
                let sample = Sample { values, time: Micros(*observed), segment: 0 };
                if recording {
                    let _ = send(&ToHost::Sample(RawSample::new(*observed, &sample)), |piece| port.write_all(piece));
                }
                *observed += 1;
            }
        };
        while port.read_exact(&mut byte).is_ok() {
            if !decoder.push(byte[0]) {
                continue;
            }
            match decoder.to_device() {
                Some(ToDevice::Hello) => {
                    let hello = Hello {
                        protocol: link::PROTOCOL,
                        firmware: "test",
                        board: "bench",
                        kernels: "reference",
                        spec: Bytes(spec),
                        seed: 1,
                        expected_samples: None,
                        samples: observed,
                        memory: Memory::default(),
                    };
                    say(&mut port, ToHost::Hello(hello), &mut observed, recording);
                }
                Some(ToDevice::Record(on)) => {
                    recording = on;
                    say(&mut port, ToHost::Log("a line"), &mut observed, recording);
                }
                Some(ToDevice::Hash) => {
                    let hash = StateHash { samples: observed, finished: false, hash: Hash([1; 32]) };
                    say(&mut port, ToHost::Hash(hash), &mut observed, recording);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_recording_holds_every_sample_from_its_hello_to_its_hash() {
        let (host, far) = UnixStream::pair().expect("sockets");
        let thread = std::thread::spawn(move || board(far));
        let mut attached = Board::attach(host, "bench").expect("a board");
        let mut bytes = Vec::new();
        let recorded = record(&mut attached, &mut bytes, Some(2), |_| false).expect("a recording");
        drop(attached);
        thread.join().expect("the board ends with the line");
        let hash = recorded.hash.expect("a hash");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.link");
        std::fs::write(&path, bytes).expect("a writable folder");
        let source = LinkFile::open(&path.display().to_string()).expect("a sound recording");
        let device = source.device().expect("a board");
        assert_eq!((device.first, device.missing), (recorded.first, 0));
        assert_eq!(device.hashes, [hash]);
        // Two that were asked for, and none of those after recording was ended.
        assert_eq!((recorded.samples, source.len_hint()), (2, Some(2)));
    }
}
