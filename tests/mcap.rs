//! Recordings as MCAP files: what was recorded is learned to the bits of the live stream, other hands' recordings are read,
//! and whatever is wrong with one is said.
#![cfg(feature = "mcap")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use nestling::recording::contents::Contents;
use nestling::recording::writer::{About, Writer};
use nestling::ros::messages::{Header, Image, Imu, Time, Vector3};
use nestling::sample::Micros;
use nestling::source::{Data, Label, OpenOptions, Record, Source, SourceError, open};
use serde_json::Value;
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: common::counting::Allocator = common::counting::Allocator;

#[path = "mcap/peers.rs"]
mod peers;
#[path = "common/python.rs"]
mod python;

fn program(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_nestling")).args(args).arg("--json").output().expect("it runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn try_open(uri: &str) -> Result<Box<dyn Source>, SourceError> {
    open(&[uri.to_owned()], &OpenOptions::default())
}

fn all(uri: &str) -> (Vec<Record>, u64) {
    let mut source = try_open(uri).expect("a sound recording");
    let (mut record, mut records) = (Record::default(), Vec::new());
    while source.read_next(&mut record).expect("a sound recording") {
        records.push(record.clone());
    }
    (records, source.skipped())
}

fn says(uri: &str, parts: &[&str]) {
    let said = match try_open(uri) {
        Err(problem) => problem.to_string(),
        Ok(mut source) => loop {
            match source.read_next(&mut Record::default()) {
                Ok(true) => {}
                Ok(false) => panic!("{uri} was read without an error"),
                Err(problem) => break problem.to_string(),
            }
        },
    };
    parts.iter().for_each(|part| assert!(said.contains(part), "{uri}: '{part}' is not in: {said}"));
}

fn name(folder: &TempDir, file: &str) -> (PathBuf, String) {
    let path = folder.path().join(file);
    let uri = format!("mcap:{}", path.display());
    (path, uri)
}

fn about() -> About {
    About { source: "a test".into(), in_order: true, ..About::default() }
}

fn header(micros: u64) -> Header {
    Header { stamp: Time::from(Micros(micros)), frame_id: "camera".into() }
}

/// A recording as a robot makes it: grey images whose pixels are their number, each in a chunk of its own.
fn camera(path: &Path, frames: u64, encoding: &str) {
    let mut writer = Writer::create(path, &about()).expect("a file");
    for frame in 0..frames {
        let at = 1_000_000_000 + 50_000 * frame;
        let pixels = vec![frame as u8; 30];
        let image = Image {
            header: header(at),
            height: 5,
            width: 6,
            encoding: encoding.into(),
            is_bigendian: 0,
            step: 6,
            data: &pixels,
        };
        writer.message("/camera/image_raw", &image, Micros(at)).expect("room");
        writer.flush().expect("room");
    }
    writer.finish().expect("room");
}

fn shades(records: &[Record]) -> Vec<u8> {
    let shade = |record: &Record| match &record.data {
        Data::Image { pixels, height: 5, width: 6, channels: 1 } => pixels[0],
        other => panic!("{other:?}"),
    };
    records.iter().map(shade).collect()
}

#[test]
fn what_was_recorded_is_learned_to_the_hash_of_the_live_stream() {
    let folder = TempDir::new().expect("a folder");
    let put = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("room");
        path.display().to_string()
    };
    let trained = "[pretext]\ntask = 'contrastive'\nbatch = 8\nhidden = 8\noutputs = 8\nsamples_per_step = 2\n[replay]\n\
                   capacity = 64\nfresh = 2\n[guard]\nlesson_steps = 8\ncanaries = 16\n";
    let images = put(
        "images.toml",
        format!(
            "name = 'images'\n[input]\nkind = 'image'\nheight = 16\nwidth = 16\nchannels = 1\n[[layer]]\nkind = 'dictionary'\n\
             filters = 8\nstride = 2\n[[layer]]\nfilters = 8\nstride = 2\n[dictionary]\nsamples = 40\n{trained}"
        ),
    );
    let windows = put(
        "windows.toml",
        format!(
            "name = 'windows'\n[input]\nkind = 'window'\nwidth = 32\nchannels = 6\n[[layer]]\nfilters = 8\nkernel = 5\n\
             stride = 2\nzero_mean = false\n{trained}"
        ),
    );
    for (name, live, model) in [
        ("images", "sim:rover?samples=120&seed=4", &images),
        ("windows", "sim:rover?samples=120&sensor=imu&window=32", &windows),
        ("faults", "sim:rover?samples=120&fault=drop:0.1,repeat:0.05&fault_seed=3", &images),
    ] {
        let bag = folder.path().join(format!("{name}.mcap")).display().to_string();
        let recorded = program(&["record", "--source", live, "--out", &bag]);
        let hash = |uri: &str, out: &str| {
            let out = folder.path().join(out).display().to_string();
            let told = program(&["learn", "--source", uri, "--model", model, "--out", &out]);
            (told["state_hash"].clone(), told["samples"].clone())
        };
        let (live, samples) = hash(live, &format!("{name}-live"));
        let replayed = hash(&format!("mcap:{bag}"), &format!("{name}-replayed"));
        assert_eq!((&live, &samples), (&replayed.0, &replayed.1), "{name}");
        assert_eq!(recorded["samples"], samples, "{name}");
        let contents = Contents::counted(&bag).expect("a sound recording");
        assert!(contents.whole && contents.damaged == 0, "{contents:?}");
        assert_eq!(Contents::indexed(&bag).expect("a file").expect("an index").topics.len(), 2);
    }
}

#[test]
fn a_sample_comes_back_as_it_was_with_label_and_segment() {
    let folder = TempDir::new().expect("a folder");
    let (path, uri) = name(&folder, "a.mcap");
    let about = About { classes: vec!["cat".into(), "dog".into()], in_order: false, ..about() };
    let mut writer = Writer::create(&path, &about).expect("a file");
    let window = Data::Window { readings: vec![-32767, 5, 7, 32767, 0, -1], length: 3, channels: 2 };
    let samples: Vec<Record> = (0..4u32)
        .map(|n| Record {
            data: window.clone(),
            time: Micros(u64::MAX / 4 * u64::from(n)),
            segment: n / 2,
            group: 9 - n,
            label: [None, Some(Label::Class(1)), Some(Label::Value(-0.25)), Some(Label::Value(f64::MAX))][n as usize],
            beside: vec![n as i8 - 2; n as usize],
        })
        .collect();
    for (n, sample) in samples.iter().enumerate() {
        writer.sample(sample, n != 1).expect("room");
    }
    writer.finish().expect("room");
    let (read, skipped) = all(&uri);
    // What the run had no time to learn from, its replay does not learn from either.
    assert_eq!((read, skipped), ([&samples[..1], &samples[2..]].concat(), 0));
    let source = try_open(&uri).expect("a sound recording");
    assert_eq!((source.class_names(), source.in_order()), (&["cat".to_owned(), "dog".to_owned()][..], false));
    assert!(Writer::create(&path, &about).is_err(), "what is there is not written over");
}

#[test]
fn a_recording_that_was_cut_off_is_read_to_where_it_ends() {
    let folder = TempDir::new().expect("a folder");
    let (path, _) = name(&folder, "a.mcap");
    camera(&path, 12, "mono8");
    let bytes = std::fs::read(&path).expect("a file");
    let (cut_path, cut_uri) = name(&folder, "cut.mcap");
    let mut counts = std::collections::BTreeSet::new();
    for cut in (0..bytes.len()).step_by(97) {
        std::fs::write(&cut_path, &bytes[..cut]).expect("room");
        let Ok(mut source) = try_open(&cut_uri) else { continue };
        let (mut record, mut seen) = (Record::default(), Vec::new());
        while source.read_next(&mut record).expect("what is there") {
            seen.push(record.clone());
        }
        assert_eq!(shades(&seen), (0..seen.len() as u8).collect::<Vec<_>>());
        // Nothing is missing where only the index is.
        assert!(seen.len() == 12 || source.describe().contains("cut off"), "{}", source.describe());
        assert_eq!(source.len_hint(), Some(seen.len() as u64));
        counts.insert(seen.len());
    }
    assert_eq!(counts, (1..=12).collect());
}

#[test]
fn a_damaged_chunk_is_passed_over_and_parts_neighbours() {
    let folder = TempDir::new().expect("a folder");
    let (path, uri) = name(&folder, "a.mcap");
    camera(&path, 9, "mono8");
    let mut bytes = std::fs::read(&path).expect("a file");
    let at = bytes.windows(30).position(|w| w == [4; 30]).expect("the fifth image");
    bytes[at] = 99;
    std::fs::write(&path, &bytes).expect("room");
    let (read, skipped) = all(&uri);
    assert_eq!((shades(&read), skipped), (vec![0, 1, 2, 3, 5, 6, 7, 8], 1));
    assert_eq!(read.iter().map(|r| r.segment).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(read[4].time, Micros(250_000));
    let path = path.display().to_string();
    let text = Command::new(env!("CARGO_BIN_EXE_nestling")).args(["inspect", &path]).output().expect("it runs");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in ["8 messages", "/camera/image_raw", "sensor_msgs/msg/Image", "its index tells of 9", "damaged"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn an_index_that_lies_deceives_nobody() {
    let folder = TempDir::new().expect("a folder");
    let (path, uri) = name(&folder, "a.mcap");
    camera(&path, 5, "mono8");
    let sound = std::fs::read(&path).expect("a file");
    // Magic, length of the footer's record, and the three numbers in it.
    let summary_start = sound.len() - 8 - 20;
    let lies = [0, 1, 8, sound.len() as u64 - 30, sound.len() as u64 / 2, u64::MAX];
    for lie in lies {
        let mut bytes = sound.clone();
        bytes[summary_start..summary_start + 8].copy_from_slice(&lie.to_le_bytes());
        std::fs::write(&path, &bytes).expect("room");
        assert_eq!(shades(&all(&uri).0), [0, 1, 2, 3, 4], "{lie}");
    }
    // The index tells of images where the file has none any more.
    let end = u64::from_le_bytes(sound[summary_start..summary_start + 8].try_into().expect("8 bytes")) as usize;
    let from = sound.windows(30).position(|w| w == [0; 30]).expect("the first image");
    let mut bytes = sound.clone();
    bytes[from - 120..end].fill(0);
    std::fs::write(&path, &bytes).expect("room");
    says(&uri, &["no sample of topic /camera/image_raw", "5 messages that the index tells of", "nestling inspect"]);
}

#[test]
fn what_is_wrong_is_named_with_what_there_is() {
    let folder = TempDir::new().expect("a folder");
    let (path, uri) = name(&folder, "a.mcap");
    std::fs::write(&path, b"SQLite format 3\0").expect("room");
    says(&uri, &["no MCAP file", "ros2 bag convert"]);
    std::fs::write(&path, &mcap::MAGIC[..4]).expect("room");
    says(&uri, &["no MCAP file"]);
    let (path, uri) = name(&folder, "bayer.mcap");
    camera(&path, 3, "bayer_rggb8");
    says(&uri, &["/camera/image_raw", "encoding 'bayer_rggb8'", "rgb8"]);
    says(
        &format!("{uri}?topic=/camera"),
        &["no topic '/camera'", "/camera/image_raw (sensor_msgs/msg/Image, 3 messages)"],
    );
    says(&format!("{uri}?window=5"), &["/camera/image_raw is no sensor_msgs/msg/Imu"]);
    says(&format!("{uri}?rate=5"), &["unknown query 'rate'", "topic, window, stride"]);
    let (path, uri) = name(&folder, "two.mcap");
    let mut writer = Writer::create(&path, &about()).expect("a file");
    for topic in ["/imu/a", "/imu/b"] {
        writer.message(topic, &Imu::default(), Micros(1)).expect("room");
    }
    writer.message("/note", &nestling::ros::messages::Text::default(), Micros(1)).expect("room");
    writer.finish().expect("room");
    says(&uri, &["several topics", "/imu/a", "/imu/b", "?topic=/imu/a"]);
    says(&format!("{uri}?topic=/note"), &["std_msgs/msg/String", "sensor_msgs/msg/Image, CompressedImage or Imu"]);
    says(&format!("{uri}?topic=/imu/a"), &["no sample of topic /imu/a", "1 messages"]);
    // A channel without a schema, and one that is not of ROS 2.
    let (path, uri) = name(&folder, "odd.mcap");
    let mut writer = mcap::Writer::new(std::fs::File::create(&path).expect("a file")).expect("room");
    let schema = writer.add_schema("sensor_msgs/msg/Image", "jsonschema", b"{}").expect("room");
    let channels = [(0, "/bare", "cdr"), (schema, "/json", "json")];
    for (schema, topic, encoding) in channels {
        let id = writer.add_channel(schema, topic, encoding, &Default::default()).expect("room");
        let header = mcap::records::MessageHeader { channel_id: id, sequence: 0, log_time: 1, publish_time: 1 };
        writer.write_to_known_channel(&header, b"{}").expect("room");
    }
    writer.finish().expect("room");
    drop(writer);
    says(&uri, &["no topic has images", "/bare (no type, 1 messages)", "/json"]);
    says(&format!("{uri}?topic=/bare"), &["topic /bare has no type"]);
    says(&format!("{uri}?topic=/json"), &["in 'json'"]);
}

#[test]
fn readings_of_an_imu_are_cut_into_windows_that_cross_no_pause() {
    let folder = TempDir::new().expect("a folder");
    let (path, uri) = name(&folder, "a.mcap");
    let mut writer = Writer::create(&path, &about()).expect("a file");
    for n in 0..40u64 {
        // The clock jumps after 20 readings; the eleventh of the second half is no number.
        let at = 5_000_000 + 10_000 * n + if n >= 20 { 9_000_000 } else { 0 };
        let x = if n == 30 { f64::NAN } else { n as f64 * 9.806_65 / 8192.0 };
        let acceleration = Vector3 { x, y: -9.806_65, z: 1e9 };
        let turning = Vector3 { x: (n as f64 / 65.5).to_radians(), y: 0.0, z: -1e9 };
        let imu =
            Imu { header: header(at), linear_acceleration: acceleration, angular_velocity: turning, ..Imu::default() };
        writer.message("/imu", &imu, Micros(at)).expect("room");
    }
    writer.finish().expect("room");
    let (read, skipped) = all(&format!("{uri}?window=8&stride=5"));
    let starts: Vec<_> = read
        .iter()
        .map(|record| match &record.data {
            Data::Window { readings, length: 8, channels: 6 } => {
                let rows: Vec<_> = readings.chunks_exact(6).collect();
                assert!(rows.windows(2).all(|pair| pair[1][0] == pair[0][0] + 1), "{rows:?}");
                assert_eq!(rows[0][1..], [-8192, 32767, rows[0][0], 0, -32767]);
                (rows[0][0], record.segment, record.time.0)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let ms = |ms: u64| ms * 1000;
    assert_eq!(starts, [(0, 0, 0), (5, 0, ms(50)), (10, 0, ms(100)), (20, 1, ms(9200)), (31, 2, ms(9310))]);
    assert_eq!(skipped, 1);
    // A stride beyond the window leaves readings out.
    let (read, _) = all(&format!("{uri}?window=4&stride=6"));
    assert_eq!(read.iter().take(3).map(|r| r.time.0).collect::<Vec<_>>(), [0, ms(60), ms(120)]);
}

#[test]
fn a_long_recording_is_not_in_memory() {
    let folder = TempDir::new().expect("a folder");
    let (path, uri) = name(&folder, "long.mcap");
    let mut writer = Writer::create(&path, &about()).expect("a file");
    let pixels = vec![7; 160 * 120 * 3];
    let mut record = Record::default();
    for n in 0..600u64 {
        record.data = Data::Image { pixels: pixels.clone(), height: 120, width: 160, channels: 3 };
        record.time = Micros(n * 50_000);
        writer.sample(&record, true).expect("room");
    }
    writer.finish().expect("room");
    assert!(std::fs::metadata(&path).expect("a file").len() > 30_000_000);
    let before = common::counting::bytes();
    let mut source = try_open(&uri).expect("a sound recording");
    common::counting::largest();
    let mut most = 0;
    while source.read_next(&mut record).expect("a sound recording") {
        most = most.max(common::counting::bytes().wrapping_sub(before));
    }
    assert!(most < 6_000_000, "{most} bytes for chunks of one megabyte");
}
