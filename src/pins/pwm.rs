//! A channel of a PWM chip, as the kernel shows it under `/sys/class/pwm`: on a Pi the hardware's own pulses.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::line::Pulse;

/// How long udev may take to hand a new channel to its group.
const PATIENCE: Duration = Duration::from_secs(1);

/// A channel that is enabled. It stays as it was written last when this is dropped.
pub(super) struct Channel {
    duty: File,
}

impl Channel {
    /// Enables a channel with a pulse of `high_ns` each `period_ns`; `root` is the root of the file system.
    pub fn open(root: &Path, chip: u32, channel: u32, period_ns: u32, high_ns: u32) -> io::Result<Self> {
        let chip = root.join(format!("sys/class/pwm/pwmchip{chip}"));
        let folder = chip.join(format!("pwm{channel}"));
        if !folder.exists() {
            let export = OpenOptions::new().write(true).open(chip.join("export"));
            export?.write_all(format!("{channel}\n").as_bytes())?;
        }
        let duty = writable(&folder.join("duty_cycle"))?;
        // The order matters: the kernel refuses a pulse longer than the period, and another polarity while enabled. A
        // channel that never had a period refuses the first two, too.
        let _ = (&duty).write_all(b"0\n");
        if std::fs::read_to_string(folder.join("polarity")).is_ok_and(|now| now.trim() == "inversed") {
            let _ = put(&folder.join("enable"), "0");
            put(&folder.join("polarity"), "normal")?;
        }
        put(&folder.join("period"), &period_ns.to_string())?;
        let mut opened = Channel { duty };
        opened.write(high_ns)?;
        put(&folder.join("enable"), "1")?;
        Ok(opened)
    }
}

impl Pulse for Channel {
    fn write(&mut self, high_ns: u32) -> io::Result<()> {
        let mut text = heapless::String::<12>::new();
        // Ten digits and a line feed fit.
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{high_ns}\n"));
        self.duty.write_all_at(text.as_bytes(), 0)
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    writable(path)?.write_all(format!("{text}\n").as_bytes())
}

/// Opens a file of a channel that may have been made just now.
fn writable(path: &Path) -> io::Result<File> {
    let begun = Instant::now();
    loop {
        match OpenOptions::new().write(true).open(path) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
                    && begun.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn line_of(path: &Path) -> String {
        fs::read_to_string(path).expect("a file").lines().next().unwrap_or_default().to_string()
    }

    #[test]
    fn a_channel_is_made_given_its_period_and_enabled_with_the_first_pulse() {
        let root = tempfile::tempdir().expect("a folder");
        let chip = root.path().join("sys/class/pwm/pwmchip2");
        let channel = chip.join("pwm1");
        fs::create_dir_all(&chip).expect("a folder");
        fs::write(chip.join("export"), "").expect("a file");
        // The kernel makes the channel's folder when it is asked to.
        let (making, made) = (channel.clone(), chip.join("export"));
        let kernel = std::thread::spawn(move || {
            let begun = Instant::now();
            while fs::read_to_string(&made).expect("a file") != "1\n" {
                assert!(begun.elapsed() < Duration::from_secs(20), "the channel is never asked for");
                std::thread::sleep(Duration::from_millis(2));
            }
            fs::create_dir_all(&making).expect("a folder");
            // Some of them later, as they are another user's at first.
            for (file, text) in [("polarity", "inversed"), ("duty_cycle", "0"), ("period", "0"), ("enable", "0")] {
                fs::write(making.join("new"), text).expect("a file");
                fs::rename(making.join("new"), making.join(file)).expect("our file");
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut opened = Channel::open(root.path(), 2, 1, 20_000_000, 1_500_000).expect("a channel");
        kernel.join().expect("no panic");
        for (file, wanted) in
            [("period", "20000000"), ("polarity", "normal"), ("enable", "1"), ("duty_cycle", "1500000")]
        {
            assert_eq!(line_of(&channel.join(file)), wanted, "{file}");
        }
        opened.write(0).expect("it writes");
        assert_eq!(line_of(&channel.join("duty_cycle")), "0");
    }

    #[test]
    fn a_chip_that_is_not_there_is_an_error() {
        let root = tempfile::tempdir().expect("a folder");
        let error = Channel::open(root.path(), 0, 0, 1_000_000, 0).err().expect("there is no such chip");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
