//! Programs that are shell scripts: they give frames or sound, die, are silent, give garbage, or will not end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

const SHORT: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(300));

/// A folder with a frame of 16x8 pixels and a program.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new(script: &str) -> Self {
        let bench = Bench { folder: tempfile::tempdir().expect("a folder") };
        let mut jpeg = Vec::new();
        let pixels: Vec<u8> = (0..16 * 8 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
        let image = image::RgbImage::from_raw(16, 8, pixels).expect("so many pixels");
        image.write_with_encoder(encoder).expect("a frame");
        fs::write(bench.path("frame"), jpeg).expect("a file");
        let folder = bench.folder.path().display();
        let program = bench.path("program");
        fs::write(&program, format!("#!/bin/sh\ncd {folder}\necho $$ > self\necho \"$@\" > arguments\n{script}\n"))
            .expect("a file");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn camera(&self, uri: &str) -> Result<Fed, SourceError> {
        let program = self.path("program").display().to_string();
        // A program that another thread forks just now may hold the script open for writing.
        loop {
            let fed = camera(&uri.parse().expect("a URI"), &["/no/such/rpicam-vid", &program], SHORT);
            match fed {
                Err(error) if error.to_string().contains("Text file busy") => {}
                other => return other,
            }
        }
    }

    fn microphone(&self, uri: &str) -> Result<Fed, SourceError> {
        let program = self.path("program").display().to_string();
        loop {
            match microphone(&uri.parse().expect("a URI"), &[&program], SHORT) {
                Err(error) if error.to_string().contains("Text file busy") => {}
                other => return other,
            }
        }
    }

    /// The process whose number stands in the file still runs.
    fn lives(&self, name: &str) -> bool {
        let number = fs::read_to_string(self.path(name)).expect("a number");
        let told = fs::read_to_string(format!("/proc/{}/stat", number.trim()));
        told.is_ok_and(|told| !told.contains(") Z"))
    }

    fn is_gone(&self, name: &str) {
        let until = Instant::now() + Duration::from_secs(5);
        while self.lives(name) {
            assert!(Instant::now() < until, "{name} runs on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn refused(fed: Result<Fed, SourceError>, parts: &[&str]) {
    says(&fed.err().expect("a refusal"), parts);
}

fn says(error: &SourceError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

/// Reads to the error that ends it all: how many samples came before.
fn ends(fed: &mut Fed) -> (usize, SourceError) {
    let mut record = Record::default();
    for samples in 0..100_000 {
        match fed.read_next(&mut record) {
            Ok(more) => assert!(more, "a program that ends is an error"),
            Err(error) => return (samples, error),
        }
    }
    panic!("it goes on for ever")
}

#[test]
fn frames_are_as_asked_for_and_timed_when_they_come() {
    let bench = Bench::new("while :; do cat frame; sleep 0.02; done");
    let mut fed = bench.camera("rpicam:1?width=64&height=48&rate=12.5").expect("a camera");
    let mut record = Record::default();
    let mut times = Vec::new();
    for _ in 0..5 {
        assert!(fed.read_next(&mut record).expect("a frame"));
        times.push(record.time.0);
    }
    assert!(matches!(record.data, super::super::Data::Image { height: 8, width: 16, channels: 3, .. }));
    assert!(times[0] == 0 && times.is_sorted() && times[4] >= 60_000, "{times:?}");
    let arguments = fs::read_to_string(bench.path("arguments")).expect("a file");
    let wanted = "--codec mjpeg -t 0 -n --camera 1 --width 64 --height 48 --framerate 12.5 --flush -o -";
    assert_eq!(arguments.trim(), wanted);
    assert_eq!(fed.describe(), "rpicam: camera 1 by program, 64x48 at 12.5 frames a second");
    assert!(fed.rewind().is_err() && fed.len_hint().is_none());
}

#[test]
fn a_program_that_ends_is_quoted() {
    let bench = Bench::new("echo 'ERROR: *** no cameras available ***' >&2; exit 255");
    refused(bench.camera("rpicam:0"), &["rpicam:0: program ended (exit status: 255)", "*** no cameras", "ribbon"]);
    let bench = Bench::new(
        "for n in 1 2 3; do cat frame; echo \"#$n (30.00 fps) exp 1\" >&2; done; echo one >&2; printf 'two' >&2; kill -9 $$",
    );
    let mut fed = bench.camera("rpicam:0").expect("a camera");
    let (frames, error) = ends(&mut fed);
    assert_eq!(frames, 3);
    says(&error, &["program ended (signal: 9 (SIGKILL)); it said: one | two\n", "what to do: `rpicam-hello"]);
    assert!(error.is_passing(), "the daemon tries again");
    let (none, again) = ends(&mut fed);
    assert_eq!((none, again.to_string()), (0, error.to_string()));
    refused(Bench::new("exit 0").camera("rpicam:0"), &["ended (exit status: 0); it said nothing"]);
}

#[test]
fn of_what_it_says_the_last_lines_are_kept() {
    let bench = Bench::new("seq 1 5000 >&2; head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1");
    let message = bench.camera("rpicam:0").err().expect("no frame").to_string();
    assert!(message.contains("it said: 4997 | 4998 | 4999 | 5000 | xxx") && message.len() < 1000, "{message}");
}

#[test]
fn a_silent_program_is_ended_with_what_it_started() {
    // One that will not end when it is told to.
    let script = "trap '' TERM; sleep 1000 & echo $! > other; cat frame; while :; do sleep 1; done";
    let bench = Bench::new(script);
    let mut fed = bench.camera("rpicam:0").expect("a camera");
    let begun = Instant::now();
    let (frames, error) = ends(&mut fed);
    assert_eq!(frames, 1);
    says(&error, &["program gave no frame in time and was ended"]);
    assert!(begun.elapsed() >= SHORT.1 && begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    bench.is_gone("self");
    bench.is_gone("other");
    // From the start.
    let bench = Bench::new("echo waiting >&2; exec sleep 1000");
    refused(bench.camera("rpicam:0"), &["gave no frame in time", "it said: waiting"]);
    bench.is_gone("self");
}

#[test]
fn garbage_and_damaged_frames_are_not_waited_for_without_end() {
    refused_at_first(Bench::new("exec yes"), &["gave no frame in time"]);
    refused_at_first(
        Bench::new("while :; do head -c 300 frame; sleep 0.01; done"),
        &["gave no whole frame (", "damaged) in time"],
    );
}

fn refused_at_first(bench: Bench, parts: &[&str]) {
    let mut fed = bench.camera("rpicam:0").expect("bytes come");
    let (frames, error) = ends(&mut fed);
    assert_eq!(frames, 0);
    says(&error, parts);
    bench.is_gone("self");
}

#[test]
fn one_that_hangs_up_and_goes_on_is_ended() {
    let bench = Bench::new("cat frame; exec >&-; exec sleep 1000");
    let (frames, error) = ends(&mut bench.camera("rpicam:0").expect("a camera"));
    assert_eq!(frames, 1);
    says(&error, &["closed its output and was ended"]);
    bench.is_gone("self");
}

#[test]
fn whoever_drops_it_ends_it() {
    let bench = Bench::new("sleep 1000 & echo $! > other; while :; do cat frame; sleep 0.01; done");
    let mut fed = bench.camera("rpicam:0").expect("a camera");
    assert!(fed.read_next(&mut Record::default()).expect("a frame"));
    assert!(bench.lives("self") && bench.lives("other"));
    let begun = Instant::now();
    drop(fed);
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Reaped, not left as a zombie.
    let number = fs::read_to_string(bench.path("self")).expect("a number");
    assert!(!PathBuf::from(format!("/proc/{}", number.trim())).exists());
    bench.is_gone("other");
}

#[test]
fn the_thread_that_opens_it_may_end_before_it() {
    let bench = Bench::new("while :; do cat frame; sleep 0.01; done");
    let opened = std::thread::scope(|scope| scope.spawn(|| bench.camera("rpicam:0")).join());
    let mut fed = opened.expect("no panic").expect("a camera");
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..20 {
        assert!(fed.read_next(&mut Record::default()).expect("a frame"));
    }
}

#[test]
fn what_is_not_installed_is_named_with_its_package() {
    let uri: Uri = "rpicam:0".parse().expect("a URI");
    let error = camera(&uri, &["rpicam-vid-of-nobody", "/etc/passwd"], SHORT).err().expect("no program");
    says(&error, &["no program rpicam-vid-of-nobody nor /etc/passwd", "sudo apt install rpicam-apps"]);
    let uri: Uri = "alsa:hw:1,0".parse().expect("a URI");
    let error = microphone(&uri, &["arecord-of-nobody"], SHORT).err().expect("no program");
    says(&error, &["alsa:hw:1,0: there is no program", "alsa-utils"]);
    // A script whose interpreter is not there.
    let bench = Bench::new("");
    fs::write(bench.path("program"), "#!/no/such/shell\n").expect("a file");
    says(&bench.camera("rpicam:0").err().expect("no program"), &["rpicam:0: program", "what to do"]);
}

#[test]
fn sound_comes_in_windows_with_the_clock_of_its_samples() {
    let bench = Bench::new("echo \"Recording raw data 'stdin'\" >&2; while :; do printf 'abcdefghijklmnop'; done");
    let mut fed = bench.microphone("alsa:plughw:1,0?rate=8000&window=4&stride=2").expect("a microphone");
    let mut record = Record::default();
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert!(fed.read_next(&mut record).expect("a window"));
        let super::super::Data::Window { readings, .. } = &record.data else { panic!("{record:?}") };
        seen.push((record.time.0, readings[0].to_le_bytes()));
    }
    assert_eq!(seen, [(0, *b"ab"), (250, *b"ef"), (500, *b"ij")]);
    assert_eq!(fed.sound_rate(), Some(8000));
    let arguments = fs::read_to_string(bench.path("arguments")).expect("a file");
    assert_eq!(arguments.trim(), "-D plughw:1,0 -f S16_LE -r 8000 -c 1 -t raw");
    let described = bench.microphone("alsa:default").expect("a microphone").describe();
    assert_eq!(described, "alsa: default by program, windows of 16000 at 16000 Hz, 8000 apart");
}

#[test]
fn sound_at_another_rate_than_asked_for_is_refused_for_good() {
    let warning = "echo 'Warning: rate is not accurate (requested = 8000Hz, got = 48000Hz)' >&2";
    let bench = Bench::new(&format!("{warning}; sleep 0.1; while :; do printf 'abcdefghijklmnop'; done"));
    let (windows, error) = ends(&mut bench.microphone("alsa:hw:1,0?rate=8000&window=4").expect("a microphone"));
    assert_eq!(windows, 0);
    says(&error, &["got = 48000Hz", "plughw:"]);
    assert!(!error.is_passing());
    let busy = "echo 'arecord: main:831: audio open error: Device or resource busy' >&2; exit 1";
    refused(Bench::new(busy).microphone("alsa:hw:1,0"), &["exit status: 1", "resource busy", "fuser"]);
}
