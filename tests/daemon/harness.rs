//! `nestling run` in a folder of its own, and a camera on a FIFO.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for what must come; far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A model that publishes a lesson every few samples.
pub const QUICK: &str = "name = 'quick'\n[input]\nkind = 'image'\nheight = 16\nwidth = 16\nchannels = 1\n\
    [[layer]]\nkind = 'dictionary'\nfilters = 8\nkernel = 3\nstride = 2\n[[layer]]\nfilters = 8\nstride = 2\n\
    [dictionary]\nsamples = 40\n[pretext]\ntask = 'contrastive'\nbatch = 8\nhidden = 8\noutputs = 8\n\
    samples_per_step = 2\n[replay]\ncapacity = 64\nfresh = 2\n[guard]\nlesson_steps = 8\ncanaries = 16\n";

pub struct Daemon {
    pub child: Child,
    pub folder: tempfile::TempDir,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts `nestling run` in a folder of its own, with what `prepare` adds. `FOLDER` in arguments is that folder.
    pub fn start(arguments: &[&str], prepare: impl FnOnce(&Path, &mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("quick.toml"), QUICK).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
        let named = folder.path().display().to_string();
        command.arg("run").args(arguments.iter().map(|a| a.replace("FOLDER", &named)));
        command.args(["--control", &format!("{named}/control")]).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        prepare(folder.path(), &mut command);
        let mut child = command.spawn().expect("it starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, into) = (child.stderr.take().expect("a pipe"), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = into.lock().expect("no panic");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Daemon { child, folder, log }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn ask(&self, words: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
        command.args(words).arg("--control").arg(self.path("control")).arg("--json");
        let output = command.output().expect("it runs");
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    pub fn status(&self) -> Option<Value> {
        self.ask(&["status"]).ok()
    }

    /// The status once `fits`.
    pub fn once(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let begun = Instant::now();
        loop {
            if let Some(status) = self.status() {
                if fits(&status) {
                    return status;
                }
                last = Some(status);
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain for: {what}\n{last:#?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it lives");
    }

    /// Ends it as a service manager would; how long that took, and whether it called that success.
    pub fn end(mut self) -> (Duration, bool, String) {
        let begun = Instant::now();
        self.signal(Signal::TERM);
        let status = until("the end", || self.child.try_wait().expect("a child"));
        // The last line of the log comes on another thread.
        std::thread::sleep(Duration::from_millis(50));
        (begun.elapsed(), status.success(), self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Frames of 16x16 grey pixels into a FIFO, at some 200 a second, until it is dropped or `most` went out.
pub struct Camera {
    off: Arc<AtomicBool>,
    scene: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Camera {
    pub fn on(fifo: &Path, most: usize) -> Self {
        let (off, scene) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_off, shown, fifo) = (off.clone(), scene.clone(), fifo.to_path_buf());
        let thread = std::thread::spawn(move || {
            let mut out = fs::OpenOptions::new().write(true).open(fifo).expect("a FIFO with a reader");
            for n in 0..most {
                if is_off.load(Ordering::Relaxed) {
                    return;
                }
                let mut frame: Vec<u8> =
                    (0..256).map(|i| ((n * 37 + i * (n % 7 + 1) + i * i / 16) % 251) as u8).collect();
                if let left @ 1.. = shown.load(Ordering::Relaxed) {
                    let left = 8 * (left - 1) + n % 2;
                    for row in frame.chunks_exact_mut(16) {
                        row[left..left + 7].fill(255);
                    }
                }
                if out.write_all(&frame).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Camera { off, scene, thread: Some(thread) }
    }

    /// Shows a pattern that changes (0), and before it a white wall on the left (1) or the right (2).
    pub fn show(&self, scene: usize) {
        self.scene.store(scene, Ordering::Relaxed);
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.off.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(made.success());
}

pub const FROM_FIFO: [&str; 4] =
    ["--source", "pipe:FOLDER/frames?format=gray8&width=16&height=16", "--model", "quick.toml"];

pub fn with_fifo(more: &[&str]) -> Daemon {
    let daemon = Daemon::start(&[&FROM_FIFO, more].concat(), |folder, _| make_fifo(&folder.join("frames")));
    until("the control socket", || daemon.status().map(|_| ()));
    daemon
}
