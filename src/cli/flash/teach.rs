//! An emulated board: started in QEMU, taught over its serial port, and compared with the same learner here.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::board::Board as Profile;
use crate::cli::import::Block;
use crate::cli::{Told, progress, rounded};
use crate::image::Image;
use crate::kernels::Kernels;
use crate::learner::{Alone, Did, Learner, Options, store_sample, work_len};
use crate::link::{Health, Memory, RawSample, StateHash, ToDevice, ToHost};
use crate::net::spec::InputKind;
use crate::sample::{Sample, Values};
use crate::source::link::{Board, DeviceInfo};
use crate::source::{Record, Source};
use crate::state::{self, Hash};

/// A board that says nothing for as long is taken for dead: an emulated step of a large model takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// The serial port of an emulator that runs as a child.
struct Emulator {
    child: Child,
    stdin: ChildStdin,
    arrived: Receiver<Vec<u8>>,
    rest: Vec<u8>,
}

impl Emulator {
    fn start(machine: &str, firmware: &Path) -> Result<Self, String> {
        let mut qemu = Command::new("qemu-system-arm");
        qemu.args(["-machine", machine, "-display", "none", "-monitor", "none", "-serial", "stdio"]);
        qemu.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(firmware);
        let child = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| {
            format!("qemu-system-arm does not start: {e}\n  what to do: install it (Debian package qemu-system-arm)")
        })?;
        let (Some(stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the emulator has no serial port".into());
        };
        let (sender, arrived) = sync_channel(64);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut piece) {
                if sender.send(piece[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Emulator { child, stdin, arrived, rest: Vec::new() })
    }
}

impl Read for Emulator {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        if self.rest.is_empty() {
            match self.arrived.recv_timeout(PATIENCE) {
                Ok(piece) => self.rest = piece,
                Err(Timeout) => return Err(ErrorKind::TimedOut.into()),
                Err(Disconnected) => return Ok(0),
            }
        }
        let n = out.len().min(self.rest.len());
        out[..n].copy_from_slice(&self.rest[..n]);
        self.rest.drain(..n);
        Ok(n)
    }
}

impl Write for Emulator {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdin.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.flush()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Where it has ended by itself there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of teaching a board.
pub struct Taught {
    samples: u64,
    seconds: f64,
    features: u64,
    health: Health,
    memory: Memory,
    kernels: String,
    device: Hash,
    host: Hash,
}

impl Taught {
    pub fn tell(&self, told: &mut Told) {
        let same = self.device == self.host;
        let h = &self.health;
        let rank = f64::from(h.effective_rank) / 256.0;
        told.json["samples"] = json!(self.samples);
        told.json["seconds"] = rounded(self.seconds, 3);
        told.json["features"] = json!(self.features);
        told.json["steps"] = json!(h.steps);
        told.json["encoder_version"] = json!(h.encoder);
        told.json["lessons_published"] = json!(h.lessons_published);
        told.json["lessons_rolled_back"] = json!(h.lessons_undone);
        told.json["loss_last"] = rounded(f64::from(h.loss_running) / 4096.0, 3);
        told.json["effective_rank"] = rounded(rank, 2);
        told.json["kernels"] = json!(self.kernels);
        told.json["learner_bytes"] = json!(self.memory.learner);
        told.json["ram_bytes"] = json!(self.memory.statics);
        told.json["stack_peak"] = json!(h.stack_peak);
        told.json["flash_saves"] = json!(h.wear.saves);
        told.json["flash_erases"] = json!(h.wear.erases);
        told.json["frames_dropped"] = json!(h.frames_dropped);
        told.json["state_hash"] = json!(self.host.to_string());
        told.json["device_state_hash"] = json!(self.device.to_string());
        told.json["same_bits"] = json!(same);
        told.text += &format!(
            "\ntaught {} samples in {:.1} s (emulated: no measure of speed), kernels {}\n  steps         {}, loss {:.2}, \
             effective rank {rank:.2}\n  memory        {} bytes of the learner, {} of all variables, {} of stack at most\n  \
             saved         {} times, {} pages erased\n  board's hash  {}\n  hash here     {}\n  {}",
            self.samples,
            self.seconds,
            self.kernels,
            h.steps,
            f64::from(h.loss_running) / 4096.0,
            self.memory.learner,
            self.memory.statics,
            h.stack_peak,
            h.wear.saves,
            h.wear.erases,
            self.device,
            self.host,
            if same { "the same bits" } else { "OTHER BITS" }
        );
    }
}

/// Starts `firmware`, teaches it at most `most` samples of `source`, and takes the learner of `image` along.
pub fn emulated(
    profile: &Profile,
    firmware: &Path,
    image: &[u8],
    source: &mut dyn Source,
    most: u64,
) -> Result<Taught, Box<dyn std::error::Error>> {
    let machine = profile.qemu_machine.as_deref().ok_or_else(|| {
        format!("{}: no key qemu_machine, which the emulator needs", profile.folder.join("board.toml").display())
    })?;
    let board = Board::attach(Emulator::start(machine, firmware)?, &profile.name)?;
    let block = Block::of(image);
    let image = Image::parse(block.bytes())?;
    let options = image.board_options(Kernels::detect());
    let mut memory = vec![0; Learner::plan(image.spec(), &options)?.block_len()];
    let mut place = None;
    let learner = image.learner(&options, &mut memory, &mut place)?;
    check(board.device(), learner, &options)?;
    teach(board, learner, source, most)
}

/// The board must be where the learner here is.
fn check(device: &DeviceInfo, learner: &Learner, options: &Options) -> Result<(), String> {
    let same = device.spec == *learner.spec() && device.seed == options.seed;
    if !same || device.first != learner.counters().observed {
        return Err(format!(
            "board {} runs model {} after {} samples, and it was flashed with {} after {}\n  what to do: erase the board's \
             flash and flash it again",
            device.board,
            device.spec.name,
            device.first,
            learner.spec().name,
            learner.counters().observed
        ));
    }
    Ok(())
}

fn teach<P: Read + Write>(
    mut board: Board<P>,
    learner: &mut Learner,
    source: &mut dyn Source,
    most: u64,
) -> Result<Taught, Box<dyn std::error::Error>> {
    let DeviceInfo { memory, kernels, .. } = board.device().clone();
    let bar = progress(Some(most), "teaching");
    let begun = Instant::now();
    let mut record = Record::default();
    let mut stored = vec![0u64; learner.stored_len().div_ceil(8)];
    let mut work = vec![0; work_len(learner.network())];
    let (mut samples, mut features, mut health, mut finishing) = (0, 0, Health::default(), false);
    // After each Hello the board says that it is ready; the one that was asked for comes after the first sample.
    let (mut ready, mut again) = (false, false);
    let hash = loop {
        match board.hear()?.ok_or("the emulator ended before the board said its hash")? {
            ToHost::Hello(_) => again = samples > 0,
            ToHost::Ready if again => again = false,
            ToHost::Ready => ready = true,
            ToHost::Feature(_) => features += 1,
            ToHost::Log(line) => eprintln!("the board says: {line}"),
            ToHost::Health(now) => {
                health = now;
                bar.println(line_of(&now));
            }
            ToHost::Hash(StateHash { finished: true, hash, .. }) => break hash,
            _ => {}
        }
        if !std::mem::take(&mut ready) || finishing {
            continue;
        }
        if samples == most || !source.read_next(&mut record)? {
            finishing = true;
            learner.finish();
            board.say(&ToDevice::Finish)?;
            continue;
        }
        let stored = &mut bytemuck::cast_slice_mut(&mut stored)[..learner.stored_len()];
        store_sample(learner.spec(), learner.network(), &record.sample(), stored, &mut work)?;
        let input = &learner.spec().input;
        let values = match input.kind {
            InputKind::Image | InputKind::Audio | InputKind::Latents => {
                Values::Image { pixels: stored, height: input.height, width: input.width, channels: input.channels }
            }
            InputKind::Window | InputKind::Tokens => {
                let readings = bytemuck::cast_slice(stored);
                Values::Window { readings, length: input.width, channels: input.channels }
            }
        };
        let sample = Sample { values, time: record.time, segment: record.segment };
        board.say(&ToDevice::Sample(RawSample::new(learner.counters().observed, &sample)))?;
        learner.observe(&sample)?;
        while learner.step(&Alone) != Did::Idle {}
        samples += 1;
        bar.set_position(samples);
    };
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let host = state::hash(learner);
    Ok(Taught { samples, seconds, features, health, memory, kernels, device: hash, host })
}

fn line_of(health: &Health) -> String {
    format!(
        "{} samples: encoder {}, loss {:.2}, effective rank {:.2}, {} lessons undone, stack {} bytes, flash saved {} times",
        health.samples,
        health.encoder,
        f64::from(health.loss_running) / 4096.0,
        f64::from(health.effective_rank) / 256.0,
        health.lessons_undone,
        health.stack_peak,
        health.wear.saves
    )
}
