//! What the machine tells of itself: temperature, load, resident memory, a thread's processor time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::budget::Feel;

/// Reads what Linux shows under `/sys` and `/proc`; elsewhere nothing is known.
pub struct Machine {
    zones: Vec<PathBuf>,
    load: PathBuf,
    processors: usize,
}

impl Machine {
    pub fn new() -> Self {
        Self::under(Path::new("/"))
    }

    /// As if `root` were the root of the file system.
    pub fn under(root: &Path) -> Self {
        let zones = std::fs::read_dir(root.join("sys/class/thermal")).into_iter().flatten().flatten();
        let zones = zones.filter(|z| z.file_name().to_string_lossy().starts_with("thermal_zone"));
        Machine {
            zones: zones.map(|z| z.path().join("temp")).collect(),
            load: root.join("proc/loadavg"),
            processors: processors(),
        }
    }

    /// The hottest zone and the load.
    pub fn feel(&self) -> Feel {
        let temperature = self.zones.iter().filter_map(|zone| number(zone)).map(|millis| millis / 1000.0);
        // A zone that tells nonsense is as good as none.
        let hottest = temperature
            .filter(|t| (-60.0..200.0).contains(t))
            .fold(None, |most: Option<f64>, t| Some(most.map_or(t, |m| m.max(t))));
        Feel { temperature: hottest, load: number(&self.load).map(|load| load / self.processors as f64) }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

/// Processors that this process may run on.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// The first number of a file.
fn number(path: &Path) -> Option<f64> {
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

/// Bytes of a line of `/proc/self/status` that counts kilobytes; 0 where the system does not tell.
fn status_bytes(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Memory that the process holds now.
pub fn rss_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// Largest memory that the process has held.
pub fn peak_rss_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// Processor time that the calling thread has taken.
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Makes the calling thread yield to others by `nice`, where the system lets it.
pub fn be_nice(nice: i32) {
    // On Linux this is a thread's own; a refusal leaves it as it was.
    let _ = rustix::process::setpriority_process(None, nice);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_sound_zone_counts_and_none_is_none() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(Machine::under(root.path()).feel(), Feel::default());
        for (zone, text) in [
            ("thermal_zone0", "48312\n"),
            ("thermal_zone1", "61000"),
            ("thermal_zone2", "-274000"),
            ("thermal_zone3", "not a number"),
            ("cooling_device0", "99000"),
        ] {
            let folder = root.path().join("sys/class/thermal").join(zone);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("temp"), text).expect("a file");
        }
        std::fs::create_dir_all(root.path().join("proc")).expect("a folder");
        std::fs::write(root.path().join("proc/loadavg"), "3.00 2.0 1.0 1/99 1234\n").expect("a file");
        let feel = Machine::under(root.path()).feel();
        assert_eq!(feel.temperature, Some(61.0));
        assert_eq!(feel.load, Some(3.0 / processors() as f64));
    }

    #[test]
    fn a_thread_that_works_takes_time_and_one_that_sleeps_does_not() {
        let before = thread_time();
        std::thread::sleep(Duration::from_millis(30));
        assert!(thread_time() - before < Duration::from_millis(20));
        while thread_time() - before < Duration::from_millis(5) {
            std::hint::black_box((0..1000).sum::<u64>());
        }
        assert!(rss_bytes() > 0 && peak_rss_bytes() >= rss_bytes());
    }
}
