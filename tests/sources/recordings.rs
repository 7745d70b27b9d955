//! The real recordings, read from the folder that the variable `NESTLING_DATA` names; without it these tests say so and pass.

use crate::*;
use nestling::source::open_indexed;
use std::path::{Path, PathBuf};

fn data(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("NESTLING_DATA") else {
        println!("skipped: NESTLING_DATA is not set");
        return None;
    };
    Some(Path::new(&root).join(folder))
}

#[test]
fn robocar_gives_the_same_frames_with_and_without_its_table() {
    let Some(dir) = data("robocar/seq1_midday_lowcam") else { return };
    let dir = dir.display();
    let mut with = try_open(&format!("mjpeg:{dir}/frames.jpegs,{dir}/frames.csv?label=steering&smooth=3")).unwrap();
    let mut without = try_open(&format!("mjpeg:{dir}/frames.jpegs")).unwrap();
    assert_eq!((with.len_hint(), without.len_hint()), (Some(5000), Some(5000)));
    let (mut a, mut b, mut n) = (Record::default(), Record::default(), 0);
    while with.read_next(&mut a).unwrap() {
        assert!(without.read_next(&mut b).unwrap());
        assert_eq!(a.data, b.data, "frame {n}");
        assert!(matches!(a.data, Data::Image { height: 120, width: 160, channels: 3, .. }));
        assert!(matches!(a.label, Some(Label::Value(v)) if v.abs() <= 1.0));
        assert_eq!(a.segment, 0);
        n += 1;
    }
    assert_eq!((n, with.skipped(), without.skipped()), (5000, 0, 0));
}

#[test]
fn robocar_runs_are_segments_and_chained_sequences_stay_apart() {
    let Some(dir) = data("robocar") else { return };
    let uri = |seq: &str| format!("mjpeg:{0}/{seq}/frames.jpegs,{0}/{seq}/frames.csv", dir.display());
    let indexed = open_indexed(&uri("seq2_dawn_tallcam").parse().unwrap()).unwrap();
    assert_eq!((indexed.len(), indexed.group(0), indexed.group(4481)), (4482, 0, 7));
    let uris = [uri("seq2_dawn_tallcam") + "?range=0.99..1.0", uri("seq3_evening_lowcam") + "?range=0.0..0.02"];
    let records = all(&mut *open(&uris, &OpenOptions::default()).unwrap());
    assert_eq!(records.len(), 45 + 72);
    assert!(records[44].segment < records[45].segment && records[44].time < records[45].time);
}

#[test]
fn cifar10_has_its_images_and_classes() {
    let Some(dir) = data("cifar10_small") else { return };
    for (part, n) in [("train", 9000), ("test", 2000)] {
        let uri = format!("npy:{0}/{part}_x_u8.npy,{0}/{part}_y_u8.npy?order=shuffled", dir.display());
        let mut counts = [0; 10];
        for record in all(&mut *try_open(&uri).unwrap()) {
            let Some(Label::Class(c)) = record.label else { panic!("a label is missing") };
            counts[c as usize] += 1;
        }
        assert_eq!(counts, [n / 10; 10]);
    }
}

#[test]
fn no_window_of_uci_har_crosses_a_segment() {
    let Some(dir) = data("uci_har") else { return };
    let dir = dir.display();
    let lines = std::fs::read_to_string(format!("{dir}/segments.csv")).unwrap();
    let segments: Vec<Vec<u64>> =
        lines.lines().skip(1).map(|l| l.split(',').map(|c| c.parse().unwrap()).collect()).collect();
    let uri = format!("npy:{dir}/x_f32.npy,{dir}/y_u8.npy?segments={dir}/segments.csv&group=subject&rate=50");
    let mut source = try_open(&uri).unwrap();
    let (mut record, mut n, mut largest) = (Record::default(), 0, 0);
    while source.read_next(&mut record).unwrap() {
        let row = record.time.0 / 20_000;
        let s = &segments[record.segment as usize];
        assert!(row >= s[0] && row + 128 <= s[0] + s[1], "window at row {row} leaves segment {s:?}");
        assert_eq!((u64::from(record.group), record.label), (s[2], Some(Label::Class(s[3] as u32))));
        let Data::Window { readings, length: 128, channels: 6 } = &record.data else { panic!() };
        largest = largest.max(readings.iter().map(|r| r.unsigned_abs()).max().unwrap());
        n += 1;
    }
    let expected: u64 = segments.iter().map(|s| if s[1] < 128 { 0 } else { (s[1] - 128) / 64 + 1 }).sum();
    assert_eq!(n, expected);
    assert!((1 << 11..=1 << 15).contains(&largest), "{largest}");
}

#[test]
fn laser_scans_are_samples_with_the_motion_of_the_wheels() {
    let Some(dir) = data("lidar_robot") else { return };
    let dir = dir.display();
    let uri = format!(
        "npy:{dir}/scan_mm_u16.npy,{dir}/wheel_ticks_i32.npy?each=row&window=672&times={dir}/t_us_i64.npy&missing=0&nan=hold"
    );
    for (motion, least, most) in
        [("combine=0+1&diff=1", -1000.0, 2000.0), ("combine=1-0&diff=1&smooth=1", -400.0, 400.0)]
    {
        let records = all(&mut *try_open(&format!("{uri}&{motion}")).unwrap());
        assert_eq!(records.len(), 756);
        assert_eq!(records.iter().filter(|r| r.label.is_none()).count(), 1);
        for record in records {
            assert!(
                matches!(&record.data, Data::Window { readings, length: 672, channels: 1 } if !readings.contains(&0))
            );
            assert!(record.label.is_none_or(|l| matches!(l, Label::Value(v) if (least..most).contains(&v))));
            assert_eq!(record.segment, 0);
        }
    }
}

#[test]
fn every_room_sensor_keeps_its_resolution_in_i16() {
    let Some(dir) = data("room_sensors") else { return };
    let channels = "temperature_c,humidity_pct,co2_ppm,humidity_ratio";
    let uri =
        format!("csv:{}/a.csv?window=60&stride=60&channels={channels}&label=occupied&labels=class", dir.display());
    let records = all(&mut *try_open(&uri).unwrap());
    for channel in 0..4 {
        let readings = |r: &Record| match &r.data {
            Data::Window { readings, .. } => readings.iter().skip(channel).step_by(4).copied().collect::<Vec<_>>(),
            Data::Image { .. } => Vec::new(),
        };
        let all: Vec<f64> = records.iter().flat_map(readings).map(f64::from).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let deviation = all.iter().map(|v| (v - mean).abs()).sum::<f64>() / all.len() as f64;
        // The learner scales the mean deviation to 24 steps of 8 bits: it is to be more than that before.
        assert!(deviation > 100.0, "channel {channel}: {deviation}");
    }
}

#[test]
fn other_recordings_open_as_they_are() {
    let Some(root) = data(".") else { return };
    let root = root.display();
    for (uri, n) in [
        (format!("csv:{root}/room_sensors/a.csv?label=occupied&labels=class&window=16&rate=0.0166667"), 1016),
        (format!("npy:{root}/lidar_robot/scan_mm_u16.npy?window=1&rate=10"), 756),
        (format!("mjpeg:{root}/video_fixed_cars/frames.jpegs,{root}/video_fixed_cars/frames.csv"), 377),
        (format!("mjpeg:{root}/video_fixed_bottles/frames.jpegs"), 397),
        (format!("mjpeg:{root}/robocar/seq2_dawn_tallcam/frames.jpegs"), 4482),
        (format!("mjpeg:{root}/robocar/seq3_evening_lowcam/frames.jpegs"), 3612),
        (format!("npy:{root}/robocar/seq1_midday_lowcam/first800_64x48_rgb_u8.npy"), 800),
        (format!("npy:{root}/signdigits/train_x_u8.npy,{root}/signdigits/train_y_u8.npy?range=0.0..0.5"), 822),
    ] {
        let mut source = try_open(&uri).unwrap();
        let (mut record, mut read) = (Record::default(), 0);
        while source.read_next(&mut record).unwrap() {
            read += 1;
        }
        assert_eq!((read, source.skipped()), (n, 0), "{}", source.describe());
    }
}
