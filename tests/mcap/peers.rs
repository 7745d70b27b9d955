//! Other hands' recordings, and ours in other hands: the Python libraries `mcap`, `mcap-ros2-support` and `rosbags`. Without
//! them these tests say so and pass; `./test.sh test` installs them where it can.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::{all, program, python, try_open};
use nestling::source::Data;

/// Runs `tests/mcap/peer.py`; `None` where Python has not what it needs.
fn peer(args: &[&str]) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcap/peer.py");
    let output = Command::new(python::with("mcap, mcap_ros2, rosbags")?).arg(script).args(args).output();
    let output = output.expect("Python");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn bags_by_an_independent_library_are_read_whatever_their_compression() {
    let folder = TempDir::new().expect("a folder");
    let name = folder.path().display().to_string();
    if peer(&["write", &name]).is_none() {
        return;
    }
    for compression in ["none", "lz4", "zstd"] {
        let uri = format!("mcap:{name}/{compression}.mcap");
        for topic in ["/rgb8", "/bgr8", "/mono8"] {
            let (read, skipped) = all(&format!("{uri}?topic={topic}"));
            assert_eq!((read.len(), skipped), (20, 0), "{compression} {topic}");
            for (frame, record) in read.iter().enumerate() {
                let Data::Image { pixels, height: 8, width: 12, channels } = &record.data else { panic!("an image") };
                for (place, pixel) in pixels.chunks_exact(*channels).enumerate() {
                    let (x, y) = (place % 12, place / 12);
                    let wanted = if *channels == 3 { vec![x, y, frame] } else { vec![x + y + frame] };
                    assert!(
                        pixel.iter().zip(wanted).all(|(a, b)| usize::from(*a) == b),
                        "{compression} {topic} {x} {y}"
                    );
                }
                let pause = if frame >= 10 { 3_000_000 } else { 0 };
                assert_eq!((record.time.0, record.segment), (frame as u64 * 50_000 + pause, u32::from(frame >= 10)));
            }
        }
        // 100 readings at 100 Hz, of which the n-th is n hundredths of a g and n degrees a second.
        let (read, _) = all(&format!("{uri}?topic=/imu&window=20&stride=20"));
        let readings: Vec<i16> = read
            .iter()
            .flat_map(|record| match &record.data {
                Data::Window { readings, .. } => readings.clone(),
                Data::Image { .. } => panic!("a window"),
            })
            .collect();
        let nearest = |x: f64| x.round() as i16;
        for (n, reading) in readings.chunks_exact(6).enumerate() {
            let n = n as f64;
            assert_eq!(reading, [nearest(81.92 * n), 0, 8192, 0, 0, nearest(65.5 * n)]);
        }
        assert_eq!(readings.len(), 600);
        let told = program(&["inspect", &format!("{name}/{compression}.mcap")]);
        let topics = told["contents"]["topics"].as_array().expect("topics");
        assert_eq!(topics.len(), 5);
        assert_eq!(told["contents"]["topics"], {
            let mut index = told["index"]["topics"].clone();
            for (topic, counted) in index.as_array_mut().expect("topics").iter_mut().zip(topics) {
                topic["first_ns"] = counted["first_ns"].clone();
                topic["last_ns"] = counted["last_ns"].clone();
            }
            index
        });
    }
    let refused = try_open(&format!("mcap:{name}/zstd.mcap")).err().expect("several topics").to_string();
    assert!(["/rgb8", "/bgr8", "/mono8", "/imu"].iter().all(|topic| refused.contains(topic)), "{refused}");
}

#[test]
fn independent_libraries_read_what_we_record() {
    let folder = TempDir::new().expect("a folder");
    let bag = folder.path().join("rover.mcap").display().to_string();
    program(&["record", "--source", "sim:rover?samples=30&beside=imu", "--out", &bag]);
    let windows = folder.path().join("imu.mcap").display().to_string();
    program(&["record", "--source", "sim:rover?samples=20&sensor=imu", "--out", &windows]);
    for library in ["read", "rosbags"] {
        let Some(told) = peer(&[library, &bag]) else { return };
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let (read, _) = all(&format!("mcap:{bag}"));
        let Data::Image { pixels, .. } = &read[29].data else { panic!("an image") };
        let image = &told["/nestling/image"];
        assert_eq!((&image["schema"], &image["messages"]), (&"sensor_msgs/msg/Image".into(), &30.into()), "{library}");
        assert_eq!(image["last"]["encoding"], "rgb8");
        assert_eq!((&image["last"]["width"], &image["last"]["step"]), (&64.into(), &192.into()));
        let wanted: Vec<Value> = pixels[..64].iter().map(|p| Value::from(*p)).collect();
        assert_eq!(image["last"]["data"], Value::Array(wanted), "{library}");
        let sample = &told["/nestling/sample"]["last"];
        assert_eq!(
            (&sample["time_us"], &sample["learned"]),
            (&read[29].time.0.into(), &true.into()),
            "{library}: {sample}"
        );
        let told: Value = serde_json::from_str(&peer(&[library, &windows]).expect("as before")).expect("JSON");
        let window = &told["/nestling/window"];
        assert_eq!((&window["schema"], &window["messages"]), (&"nestling_msgs/msg/Window".into(), &20.into()));
        let (read, _) = all(&format!("mcap:{windows}"));
        let Data::Window { readings, .. } = &read[19].data else { panic!("a window") };
        let wanted: Vec<Value> = readings[..64].iter().map(|r| Value::from(*r)).collect();
        assert_eq!(window["last"]["readings"], Value::Array(wanted), "{library}");
    }
}
