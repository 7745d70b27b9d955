//! `nestling learn` killed with SIGKILL at random moments while it learns and saves as fast as it can, and resumed each time.
//!
//! The test itself feeds the frames, so that it knows from outside how far the process had come: no more samples may be
//! lost than `--save-samples` says. NESTLING_KILLS sets how often it kills; `./test.sh crash` does so hundreds of times.

#![cfg(unix)]

use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nestling::store::{generation_path, read};
use serde_json::Value;

/// Bytes of a frame of 96 by 96 in grey, and how many of them are in a pipe, of which one may be half read.
const FRAME: usize = 96 * 96;
const IN_THE_PIPE: u64 = (65_536 / FRAME) as u64 + 1;
/// Samples that may be lost.
const BOUND: u64 = 8;

const MODEL: &str = "name = 'killed'\n[input]\nkind = 'image'\nheight = 12\nwidth = 12\nchannels = 1\n\
    [[layer]]\nkind = 'dictionary'\nfilters = 8\nkernel = 3\nstride = 2\n[[layer]]\nfilters = 8\nstride = 2\n\
    [dictionary]\nsamples = 40\n[pretext]\nbatch = 4\nhidden = 8\noutputs = 8\nsamples_per_step = 4\n\
    [replay]\ncapacity = 32\nfresh = 2\n[guard]\nlesson_steps = 10\ncanaries = 8\n";

/// Samples of a run. One that ends before it was killed often enough is followed by another.
const SAMPLES: u64 = 2000;

/// `nestling learn` into `path`, or on from it, and its input.
fn learn(path: &Path) -> (Child, ChildStdin) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
    command
        .args(["learn", "--json", "--threads", "1", "--save-every", "0", "--model"])
        .arg(path.with_file_name("model.toml"));
    command.args(["--source", "pipe:-?format=gray8&width=96&height=96", "--samples", &SAMPLES.to_string()]);
    command.args(["--save-samples", &BOUND.to_string(), "--out"]).arg(path);
    if is_there(path) {
        command.arg("--resume").arg(path);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let frames = child.stdin.take().expect("its input");
    (child, frames)
}

/// Feeds the frames `numbers` of the stream, as long as somebody reads; `fed` is told of each.
fn feed(frames: &mut ChildStdin, numbers: Range<u64>, fed: impl Fn(u64)) {
    let mut pixels = [0; FRAME];
    for n in numbers {
        let row = |(y, row): (usize, &mut [u8])| row.fill((n * 37 + y as u64 * (n % 7 + 1)) as u8);
        pixels.chunks_exact_mut(96).enumerate().for_each(row);
        if frames.write_all(&pixels).is_err() {
            return;
        }
        fed(n + 1);
    }
}

/// As [`learn`], fed from the stream's first frame on by a thread; how many were fed.
fn start(path: &Path) -> (Child, Arc<AtomicU64>, JoinHandle<()>) {
    let (child, mut frames) = learn(path);
    let fed = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&fed);
    let feeder = std::thread::spawn(move || feed(&mut frames, 0..SAMPLES, |n| told.store(n, Ordering::SeqCst)));
    (child, fed, feeder)
}

/// Lets a run end; the hash that it comes to.
fn finish(path: &Path) -> Value {
    let (child, _, feeder) = start(path);
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("the frames are fed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stderr, b"", "nothing is set aside: {}", String::from_utf8_lossy(&output.stderr));
    assert!(!path.with_extension("safetensors.new").exists());
    let told: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(told["samples"], SAMPLES);
    told["state_hash"].clone()
}

/// Whether there is a checkpoint. Between two renames of a save the newest has the second name.
fn is_there(path: &Path) -> bool {
    path.exists() || generation_path(path, 1).exists()
}

/// Samples that the checkpoint holds; 0 where there is none yet.
fn saved(path: &Path) -> u64 {
    if !is_there(path) {
        return 0;
    }
    let saved = read(path).expect("a sound checkpoint");
    assert!(saved.set_aside.is_none(), "a kill damages nothing: {:?}", saved.set_aside);
    saved.metadata["samples"].parse().expect("a number")
}

/// A folder with the model in it, and the path of a checkpoint there.
fn place(folder: &Path) -> PathBuf {
    std::fs::create_dir(folder).expect("a writable folder");
    std::fs::write(folder.join("model.toml"), MODEL).expect("a writable folder");
    folder.join("state.safetensors")
}

#[test]
fn a_learner_that_is_killed_again_and_again_loses_no_more_than_it_may_and_ends_at_the_uncut_hash() {
    let kills: u64 = std::env::var("NESTLING_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let folder = tempfile::tempdir().expect("a folder");
    let uncut = finish(&place(&folder.path().join("uncut")));
    let (mut draw, mut killed, mut in_a_save, mut most_lost, mut runs) = (7u64, 0, 0, 0, 0);
    while killed < kills {
        runs += 1;
        let path = place(&folder.path().join(runs.to_string()));
        while killed < kills {
            let before = saved(&path);
            if before + BOUND + IN_THE_PIPE >= SAMPLES {
                break;
            }
            let (mut child, fed, feeder) = start(&path);
            draw = draw.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let random = draw >> 33;
            // One in eight is killed as it starts, the others when they have come to what is new to them.
            while random % 8 > 0 && fed.load(Ordering::SeqCst) <= before + IN_THE_PIPE && !feeder.is_finished() {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_micros(random / 8 % 15_000));
            child.kill().expect("it can be killed");
            let status = child.wait().expect("it ended");
            feeder.join().expect("the frames were fed");
            if status.success() {
                break;
            }
            killed += 1;
            let mut said = String::new();
            child.stderr.take().expect("what it says").read_to_string(&mut said).expect("text");
            assert_eq!(said, "", "it was killed and did not fail");
            // What it was given and did not have in its pipe any more it had taken in.
            let (after, seen) = (saved(&path), fed.load(Ordering::SeqCst).saturating_sub(IN_THE_PIPE));
            let lost = seen.saturating_sub(after);
            assert!(after >= before && lost <= BOUND, "{before} samples before, {after} after, of {seen} at least");
            most_lost = most_lost.max(lost);
            in_a_save += u64::from(path.with_extension("safetensors.new").exists());
            // The model, the lock, three generations, and one that was being written.
            let names = std::fs::read_dir(folder.path().join(runs.to_string())).expect("the folder").count();
            assert!(names <= 6, "files pile up: {names}");
        }
        assert_eq!(finish(&path), uncut, "run {runs}");
    }
    println!(
        "{runs} runs of {SAMPLES} samples, killed {killed} times, {in_a_save} of them while they wrote; at most {most_lost} \
         samples lost where {BOUND} may be; all end at the uncut hash"
    );
    assert!(in_a_save > 0, "no kill met a save");
}

/// Makes the place where new files are written one that cannot be written, or gives it back.
fn block(path: &Path, block: bool) {
    let new = path.with_extension("safetensors.new");
    for _ in 0..10_000 {
        let done = if block { std::fs::create_dir(&new) } else { std::fs::remove_dir(&new) };
        if done.is_ok() {
            return;
        }
        // It is being written this very moment.
        std::thread::sleep(Duration::from_micros(100));
    }
    panic!("{} is always in use", new.display());
}

#[test]
fn learning_outlives_a_disk_that_fails_and_its_last_good_checkpoint_does_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = place(&folder.path().join("failing"));
    let (child, mut frames) = learn(&path);
    feed(&mut frames, 0..500, |_| {});
    block(&path, true);
    let good = saved(&path);
    feed(&mut frames, 500..1000, |_| {});
    // It took in what its pipe cannot hold, and what was saved stayed.
    assert!((1..=500).contains(&good) && saved(&path) == good, "{good}");
    block(&path, false);
    feed(&mut frames, 1000..SAMPLES, |_| {});
    drop(frames);
    let output = child.wait_with_output().expect("it ends");
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("was not written").count(), 1, "{said}");
    let told: Value = serde_json::from_str(&told).expect("one JSON object");
    assert!(told["saves_failed"].as_u64().is_some_and(|n| n > 40), "{told}");
    assert!(told["saves"].as_u64().is_some_and(|n| n > 100), "{told}");
    assert!(told["bytes_written"].as_u64().is_some_and(|n| n > 1_000_000), "{told}");
    assert_eq!((saved(&path), &told["state_hash"]), (SAMPLES, &finish(&place(&folder.path().join("uncut")))));

    // What cannot be written at the end is a failure.
    let path = place(&folder.path().join("until the end"));
    let (child, mut frames) = learn(&path);
    feed(&mut frames, 0..500, |_| {});
    block(&path, true);
    let good = saved(&path);
    feed(&mut frames, 500..SAMPLES, |_| {});
    drop(frames);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), saved(&path)), (Some(1), good));
}
