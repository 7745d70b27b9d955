//! `nestling doctor`: what it says of a board where all is well, of one where nothing is, and of the machine at hand.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use nestling::board::Profile;
use nestling::doctor::{Disk, Hardware, LineUse, Planned, Report, Root, Standing};
use nestling::source::SourceError;
use nestling::source::uri::Uri;
use serde_json::Value;

const PROFILE: &str = "name = 'rover'
source = ['camera:0?width=320&height=240', 'imu:mpu6050@i2c-1:0x68', 'rpicam:0', 'alsa:plughw:1,0', 'serial:/dev/ttyACM0']
model = 'robot'
memory_mb = 64
[store]
path = '/var/lib/nestling/rover.safetensors'
[output]
socket = '/run/nestling/features.sock'
[control]
socket = '/run/nestling/rover.sock'
[[controller]]
name = 'drive'
does = 'steer'
pin = 'steer'
[[controller]]
name = 'bell'
does = 'alarm'
command = ['/usr/local/bin/ring']
[[pin]]
name = 'steer'
line = 'pwmchip0/0'
drives = 'servo'
[[pin]]
name = 'wheel'
line = 'pwmchip0/1'
direction = [23, 24]
drives = 'motor'
[[button]]
name = 'here'
line = 17
does = 'teach'
label = 'here'
";

/// A machine whose files are those of `tree`, `(path, text)`; a path that ends in `/` is a folder.
fn machine(tree: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in tree {
        let path = folder.path().join(path);
        let below = if text.is_empty() && path.to_string_lossy().ends_with('/') { Some(&*path) } else { path.parent() };
        fs::create_dir_all(below.expect("a folder")).expect("a folder");
        if !path.is_dir() {
            fs::write(&path, text).expect("a file");
            // What a machine's user may do must not depend on who runs the tests.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("our file");
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("our folder");
        }
    }
    folder
}

fn forbid(root: &Path, path: &str) {
    let path = root.join(path);
    let mode = if path.is_dir() { 0o755 } else { 0o660 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our file");
}

const USER: &str = "Name:\tnestling\nUid:\t4242\t4242\t4242\t4242\nGid:\t4242\t4242\t4242\t4242\nGroups:\t44 997 998\n";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nrobin:x:4242:4242::/home/robin:/bin/bash\n";

struct Good;

impl Hardware for Good {
    fn camera(&self, _: &Uri) -> Result<String, SourceError> {
        Ok("/dev/video0 answers and is read as YUYV 320x240 at 30 frames a second; it has YUYV 320x240 at 30 frames a \
            second, MJPEG 1280x720 at 30 frames a second"
            .into())
    }
    fn part(&self, _: &Uri) -> Result<String, SourceError> {
        Ok("MPU-6050 at /dev/i2c-1, 0x68 (register 0x75 holds 0x68)".into())
    }
    fn ribbon(&self) -> Result<Vec<String>, String> {
        Ok(vec!["Available cameras".into(), "0 : imx708 [4608x2592 10-bit RGGB] (/base/soc/i2c0mux)".into()])
    }
    fn header(&self) -> String {
        "/dev/gpiochip0".into()
    }
    fn line(&self, _: &str, number: u32) -> Result<LineUse, String> {
        Ok(LineUse { name: format!("GPIO{number}"), consumer: None })
    }
    fn disk(&self, _: &Path) -> Option<Disk> {
        Some(Disk { free_bytes: 21_000_000_000, read_only: false })
    }
    fn now(&self) -> u64 {
        1_795_000_000
    }
}

struct Broken;

impl Hardware for Broken {
    fn camera(&self, uri: &Uri) -> Result<String, SourceError> {
        panic!("{} is asked for, and its device is not there", uri.text)
    }
    fn part(&self, uri: &Uri) -> Result<String, SourceError> {
        panic!("{} is asked for, and its bus is not there", uri.text)
    }
    fn ribbon(&self) -> Result<Vec<String>, String> {
        Ok(vec!["No cameras available!".into()])
    }
    fn header(&self) -> String {
        "/dev/gpiochip0".into()
    }
    fn line(&self, _: &str, number: u32) -> Result<LineUse, String> {
        match number {
            17 => Ok(LineUse { name: String::new(), consumer: Some("spi0 CS1".into()) }),
            _ => Ok(LineUse::default()),
        }
    }
    fn disk(&self, _: &Path) -> Option<Disk> {
        Some(Disk { free_bytes: 12_000_000, read_only: false })
    }
    fn now(&self) -> u64 {
        1000
    }
}

fn report(root: &Path, hardware: &dyn Hardware) -> Report {
    let profile = Profile::parse("rover.toml", PROFILE).expect("a sound profile");
    let parts = vec![("the learner", 30_000_000), ("encoders for perceiving", 2_000_000)];
    let planned = Planned { model: "robot".into(), weights: 203_720, parts };
    Report::of("rover.toml", &profile, Ok(&planned), &Root::under(root), hardware)
}

#[test]
fn a_good_board_has_nothing_to_do() {
    let folder = machine(&[
        ("proc/self/status", USER),
        ("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n"),
        ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
        ("etc/passwd", PASSWD),
        ("etc/group", "video:x:44:robin\ngpio:x:997:robin\ni2c:x:998:robin\n"),
        ("dev/video0", ""),
        ("dev/i2c-1", ""),
        ("dev/media0", ""),
        ("dev/gpiochip0", ""),
        ("dev/ttyACM0", ""),
        ("dev/snd/pcmC1D0c", ""),
        ("usr/bin/rpicam-vid", ""),
        ("usr/bin/arecord", ""),
        ("usr/local/bin/ring", ""),
        ("sys/class/pwm/pwmchip0/npwm", "2\n"),
        ("sys/class/pwm/pwmchip0/export", ""),
        ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
        ("sys/class/rtc/rtc0/", ""),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "2400000\n"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n"),
        ("var/lib/nestling/", ""),
        ("run/nestling/", ""),
    ]);
    let report = report(folder.path(), &Good);
    insta::assert_snapshot!(report.text());
    assert_eq!((report.count(Standing::Warn), report.count(Standing::Fail)), (0, 0));
}

#[test]
fn a_broken_board_is_told_what_to_do_about_each() {
    let folder = machine(&[
        ("proc/self/status", "Uid:\t4242\t4242\t4242\t4242\nGid:\t4242\t4242\t4242\t4242\nGroups:\t\n"),
        ("proc/meminfo", "MemTotal: 400000 kB\nMemAvailable: 20000 kB\n"),
        ("proc/device-tree/model", "Raspberry Pi Zero 2 W Rev 1.0\0"),
        ("etc/passwd", PASSWD),
        ("etc/group", "video:x:44:\ngpio:x:997:robin\ndialout:x:20:\n"),
        ("boot/firmware/config.txt", "# dtparam=i2c_arm=on\n"),
        ("dev/video2", ""),
        ("dev/gpiochip0", ""),
        ("dev/ttyACM0", ""),
        ("usr/bin/rpicam-vid", ""),
        ("sys/class/thermal/thermal_zone0/temp", "81000\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
        ("var/lib/nestling/", ""),
    ]);
    forbid(folder.path(), "dev/ttyACM0");
    let report = report(folder.path(), &Broken);
    insta::assert_snapshot!(report.text());
}

#[test]
fn what_is_there_but_not_ours_names_the_group() {
    let folder = machine(&[
        ("proc/self/status", "Uid:\t4242\t4242\t4242\t4242\nGid:\t4242\t4242\t4242\t4242\nGroups:\t\n"),
        ("etc/passwd", PASSWD),
        ("etc/group", "video:x:44:\ngpio:x:997:robin\ni2c:x:998:\naudio:x:29:\n"),
        ("dev/video0", ""),
        ("dev/i2c-1", ""),
        ("dev/media0", ""),
        ("dev/gpiochip0", ""),
        ("dev/snd/pcmC1D0c", ""),
        ("usr/bin/rpicam-vid", ""),
        ("usr/bin/arecord", ""),
        ("sys/class/pwm/pwmchip0/npwm", "1\n"),
        ("sys/class/pwm/pwmchip0/export", ""),
        ("var/lib/nestling/", ""),
    ]);
    for path in [
        "dev/video0",
        "dev/i2c-1",
        "dev/media0",
        "dev/gpiochip0",
        "dev/snd/pcmC1D0c",
        "sys/class/pwm/pwmchip0/export",
        "var/lib/nestling",
    ] {
        forbid(folder.path(), path);
    }
    let report = report(folder.path(), &Broken);
    for (name, wanted) in [
        ("camera:0", "usermod -aG video robin"),
        ("imu:mpu6050@i2c-1:0x68", "usermod -aG i2c robin"),
        ("rpicam:0", "usermod -aG video robin"),
        ("alsa:plughw:1,0", "usermod -aG audio robin"),
        ("pin steer", "log in again"),
        ("pin wheel", "one below 1"),
        ("button here", "log in again"),
        ("store", "chown robin /var/lib/nestling"),
    ] {
        let check = report.checks.iter().find(|check| check.check == name).expect(name);
        assert_eq!(check.status, Standing::Fail, "{check:?}");
        assert!(check.remedy.as_ref().is_some_and(|remedy| remedy.contains(wanted)), "{wanted} in {check:?}");
    }
}

fn doctor(profile: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
    command.args(["doctor", "--board"]).arg(profile).args(more).output().expect("the program runs")
}

#[test]
fn the_machine_at_hand_is_examined_and_a_failure_is_the_exit_status() {
    let folder = tempfile::tempdir().expect("a folder");
    let profile = folder.path().join("here.toml");
    let text = "name = 'here'\nsource = 'sim:rover'\nmodel = 'n5'\n[store]\npath = 'state.safetensors'\n";
    fs::write(&profile, text).expect("a file");
    let good = doctor(&profile, &["--json"]);
    let json: Value = serde_json::from_slice(&good.stdout).expect("one JSON object");
    assert!(good.status.success() && json["fail"] == 0, "{json:#}");
    let names: Vec<&str> =
        json["checks"].as_array().expect("checks").iter().filter_map(|c| c["check"].as_str()).collect();
    for name in ["profile", "user", "sim:rover", "model", "memory", "temperature", "clock", "store"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }

    fs::write(&profile, text.replace("sim:rover", "serial:/dev/no-such-board")).expect("a file");
    let broken = doctor(&profile, &[]);
    let told = String::from_utf8_lossy(&broken.stdout);
    assert_eq!(broken.status.code(), Some(1), "{told}");
    assert!(told.contains("FAIL  serial:/dev/no-such-board") && told.contains("-> plug the board in"), "{told}");

    fs::write(&profile, "name = 'here'\n[learn]\nshares = 1\n").expect("a file");
    let wrong = doctor(&profile, &["--json"]);
    let json: Value = serde_json::from_slice(&wrong.stdout).expect("one JSON object");
    assert_eq!((wrong.status.code(), json["fail"].as_u64()), (Some(1), Some(1)));
    assert!(json["checks"][0]["found"].as_str().is_some_and(|found| found.contains("line 3")), "{json:#}");

    let none = doctor(&folder.path().join("none.toml"), &[]);
    let told = String::from_utf8_lossy(&none.stdout);
    assert!(none.status.code() == Some(1) && told.contains("name a profile"), "{told}");
}
