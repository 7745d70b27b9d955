//! What must answer, rather than be looked up in files.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::source::SourceError;
use crate::source::uri::Uri;

/// Longest wait for a program's list of cameras.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who has a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineUse {
    /// Its name, where the chip gives it one.
    pub name: String,
    /// Whoever has it now.
    pub consumer: Option<String>,
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub free_bytes: u64,
    pub read_only: bool,
}

/// A machine's hardware.
pub trait Hardware {
    /// How the V4L2 camera that the URI names will be read, and what it has.
    ///
    /// # Errors
    /// What is wrong and what to do.
    fn camera(&self, uri: &Uri) -> Result<String, SourceError>;
    /// What answers where the URI names a part.
    ///
    /// # Errors
    /// What is wrong and what to do.
    fn part(&self, uri: &Uri) -> Result<String, SourceError>;
    /// Lines of the list of cameras that `rpicam-hello` gives.
    ///
    /// # Errors
    /// Why it gives none.
    fn ribbon(&self) -> Result<Vec<String>, String>;
    /// The device of the chip of a Pi's header.
    fn header(&self) -> String;
    /// Who has a line of a GPIO chip.
    ///
    /// # Errors
    /// Why that cannot be said.
    fn line(&self, chip: &str, number: u32) -> Result<LineUse, String>;
    fn disk(&self, path: &Path) -> Option<Disk>;
    /// Seconds since 1970.
    fn now(&self) -> u64;
}

/// The machine at hand.
pub struct Here;

impl Hardware for Here {
    #[cfg(all(feature = "camera", target_pointer_width = "64"))]
    fn camera(&self, uri: &Uri) -> Result<String, SourceError> {
        crate::source::camera::look(uri)
    }

    #[cfg(not(all(feature = "camera", target_pointer_width = "64")))]
    fn camera(&self, uri: &Uri) -> Result<String, SourceError> {
        Err(not_built(&uri.text, "cameras", "camera"))
    }

    #[cfg(feature = "sensors")]
    fn part(&self, uri: &Uri) -> Result<String, SourceError> {
        crate::source::sensor::identify(uri).map(|identity| identity.to_string())
    }

    #[cfg(not(feature = "sensors"))]
    fn part(&self, uri: &Uri) -> Result<String, SourceError> {
        Err(not_built(&uri.text, "sensors", "sensors"))
    }

    fn ribbon(&self) -> Result<Vec<String>, String> {
        let mut problem = String::from("neither rpicam-hello nor libcamera-hello could be run");
        for program in ["rpicam-hello", "libcamera-hello"] {
            match listed(program, PATIENCE) {
                Ok(text) => return Ok(text.lines().map(|line| line.trim().to_string()).collect()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => problem = format!("{program}: {error}"),
            }
        }
        Err(problem)
    }

    #[cfg(feature = "gpio")]
    fn header(&self) -> String {
        crate::pins::header().display().to_string()
    }

    #[cfg(not(feature = "gpio"))]
    fn header(&self) -> String {
        "/dev/gpiochip0".into()
    }

    #[cfg(feature = "gpio")]
    fn line(&self, chip: &str, number: u32) -> Result<LineUse, String> {
        crate::pins::line_use(Path::new(chip), number).map(|(name, consumer)| LineUse { name, consumer })
    }

    #[cfg(not(feature = "gpio"))]
    fn line(&self, _: &str, _: u32) -> Result<LineUse, String> {
        Err("this program was built without GPIO; build it with `cargo build --release --features gpio`".into())
    }

    fn disk(&self, path: &Path) -> Option<Disk> {
        let disk = rustix::fs::statvfs(path).ok()?;
        let read_only = disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        Some(Disk { free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize), read_only })
    }

    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

#[cfg(not(all(feature = "camera", target_pointer_width = "64", feature = "sensors")))]
fn not_built(uri: &str, what: &str, feature: &str) -> SourceError {
    let problem = format!("this program was built without {what}");
    SourceError::uri(uri, problem, format!("build it with `cargo build --release --features {feature}`"))
}

/// What `program` lists. One that hangs, as a driver may, is ended.
fn listed(program: &str, patience: Duration) -> std::io::Result<String> {
    let mut child = Command::new(program)
        .args(["--list-cameras", "-t", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::other(format!("no answer within {patience:?}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut text = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut text)?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended_and_told() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list");
        let listing = |script: &str, patience| {
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("its owner's");
            listed(&path.display().to_string(), Duration::from_millis(patience))
        };
        let problem = listing("exec sleep 600", 300).expect_err("it hangs").to_string();
        assert!(problem.contains("no answer within 300ms"), "{problem}");
        assert_eq!(listing("echo '0 : imx708'", 60_000).expect("a list"), "0 : imx708\n");
    }
}
