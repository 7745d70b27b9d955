//! Buttons: a press is told over a channel. Nothing is polled: the kernel wakes whoever waits for an edge, after it has held
//! for the button's time.

use std::fs::File;
use std::io::{self, PipeWriter, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::config::{ButtonTable, Line, PinsTable};
use super::{Chip, PinError, simulated};

/// Presses that wait for their reader; more say nothing new.
const WAITING: usize = 16;

/// A button was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// Which one: its place in the profile.
    pub button: usize,
}

/// The buttons of a profile, watched until this is dropped.
pub struct Buttons {
    presses: Receiver<Pressed>,
    _watch: Watch,
}

#[expect(dead_code, reason = "what they hold is watched as long as it is held")]
enum Watch {
    Nothing,
    Thread(Watcher),
    #[cfg(feature = "gpio")]
    Pi(Vec<rppal::gpio::InputPin>),
}

/// A thread that waits for a file to become readable; it ends when this is dropped.
struct Watcher {
    /// Its end wakes the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watcher {
    /// Calls `read` whenever `file` is readable, until that fails.
    fn start<F, R>(mut file: F, mut read: R) -> io::Result<Self>
    where
        F: AsFd + Send + 'static,
        R: FnMut(&mut F) -> io::Result<()> + Send + 'static,
    {
        let (stopped, stop) = io::pipe()?;
        let thread = std::thread::Builder::new().name("buttons".into()).spawn(move || {
            let problem = loop {
                let mut fds = [PollFd::new(&file, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
                match poll(&mut fds, None) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => break io::Error::from(error),
                }
                let [readable, stopped] = fds.map(|fd| fd.revents());
                if !stopped.is_empty() {
                    return;
                }
                if readable.contains(PollFlags::IN) {
                    if let Err(error) = read(&mut file) {
                        break error;
                    }
                } else if !readable.is_empty() {
                    break Errno::NODEV.into();
                }
            };
            eprintln!("nestling: the buttons are not watched any more: {problem}");
        })?;
        Ok(Watcher { stop: Some(stop), thread: Some(thread) })
    }
}

impl Buttons {
    /// Watches the buttons of `tables` from now on. Without any nothing is opened.
    ///
    /// # Errors
    /// [`PinError`] where a line cannot be had.
    pub fn open(table: &PinsTable, tables: &[ButtonTable]) -> Result<Self, PinError> {
        let (sender, presses) = sync_channel(WAITING);
        let watch = match tables {
            [] => Watch::Nothing,
            _ => match Chip::choose(table)? {
                Chip::Simulated(_) => match &table.folder {
                    None => Watch::Nothing,
                    Some(folder) => Watch::Thread(simulate(folder, tables, sender).map_err(|error| {
                        let who = format!("simulated buttons ({})", simulated::buttons(folder).display());
                        PinError::new(&who, error.to_string(), "make the folder of [pins] and let it be written")
                    })?),
                },
                #[cfg(feature = "gpio")]
                Chip::Pi(gpio) => Watch::Pi(super::pi::watch(&gpio, tables, &sender)?),
                #[cfg(feature = "gpio")]
                Chip::Device(path) => Watch::Thread(watch(&path, tables, sender)?),
                #[cfg(not(feature = "gpio"))]
                Chip::None => {
                    let Line::Gpio(number) = tables[0].line else { unreachable!("checked: buttons are GPIO lines") };
                    return Err(PinError::not_built(&format!("button {}", tables[0].name), number));
                }
            },
        };
        Ok(Buttons { presses, _watch: watch })
    }

    /// The next press, if one comes within `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Pressed> {
        match self.presses.recv_timeout(patience) {
            Ok(pressed) => Some(pressed),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(patience);
                None
            }
        }
    }
}

/// Watches the lines of a GPIO character device.
#[cfg(feature = "gpio")]
fn watch(path: &Path, tables: &[ButtonTable], presses: SyncSender<Pressed>) -> Result<Watcher, PinError> {
    let request = super::device::watch(path, tables)?;
    let lines: Vec<Line> = tables.iter().map(|table| table.line).collect();
    let read = move |request: &mut gpiocdev::Request| {
        let edge = request.read_edge_event().map_err(io::Error::other)?;
        if let Some(button) = lines.iter().position(|line| *line == Line::Gpio(edge.offset)) {
            let _ = presses.try_send(Pressed { button });
        }
        Ok(())
    };
    Watcher::start(request, read).map_err(|error| PinError::new("the buttons' thread", error.to_string(), "try again"))
}

/// Reads names of buttons, one a line, from a FIFO, which is made where it is not there.
fn simulate(folder: &Path, tables: &[ButtonTable], presses: SyncSender<Pressed>) -> io::Result<Watcher> {
    use rustix::fs::{FileType, Mode, OFlags};
    let path = simulated::buttons(folder);
    if !path.exists() {
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    // Open for both, so that it never ends.
    let file = File::from(rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    let names: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
    let mut line = Vec::new();
    Watcher::start(file, move |file| {
        let mut bytes = [0; 256];
        let count = file.read(&mut bytes)?;
        for byte in &bytes[..count] {
            match byte {
                b'\n' => {
                    if let Some(button) = names.iter().position(|name| name.as_bytes() == line) {
                        let _ = presses.try_send(Pressed { button });
                    }
                    line.clear();
                }
                // No name is longer than what comes at once.
                _ if line.len() < 256 => line.push(*byte),
                _ => {}
            }
        }
        Ok(())
    })
}
