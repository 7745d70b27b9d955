//! Motion JPEG and raw frames, from files and through pipes.

use crate::*;

#[test]
fn the_same_frames_come_with_a_table_without_one_and_through_a_pipe() {
    let dir = TempDir::new().unwrap();
    let frames: Vec<_> = (0..6).map(|i| jpeg(24, 16, i * 30)).collect();
    let (mut offset, mut table) = (0, "t_ms,run,offset,length,steer\n".to_owned());
    for (i, f) in frames.iter().enumerate() {
        table += &format!("{},{},{offset},{},{}\n", i * 40, i / 3, f.len(), i as f64);
        offset += f.len();
    }
    let f = put(&dir, "f.jpegs", frames.concat());
    let t = put(&dir, "t.csv", &table);
    let with = all(&mut *try_open(&format!("mjpeg:{f},{t}?label=steer&smooth=1")).unwrap());
    let without = all(&mut *try_open(&format!("mjpeg:{f}")).unwrap());
    let piped = all(&mut pipe(&frames.concat(), ""));
    for i in 0..6 {
        assert!(with[i].data == without[i].data && with[i].data == piped[i].data, "frame {i}");
        assert_eq!((with[i].time.0, without[i].time.0), (i as u64 * 40_000, i as u64 * 50_000));
        assert_eq!((with[i].segment, with[i].group), ((i / 3) as u32, (i / 3) as u32));
    }
    let labels: Vec<_> = with.iter().map(|r| r.label.unwrap()).collect();
    assert_eq!(labels, [0.5, 1.0, 1.5, 3.5, 4.0, 4.5].map(Label::Value));
    let short = put(&dir, "short.jpegs", &frames.concat()[..offset - 10]);
    says(&format!("mjpeg:{short},{t}"), &["t.csv: line 7, column 'length'", "remove the rows"]);
    let rows = put(&dir, "rows.csv", "t_ms\n0\n40\n");
    says(&format!("mjpeg:{f},{rows}"), &["2 rows for the 6 frames"]);
    says(&format!("mjpeg:{f}?label=steer"), &["label=COLUMN without a table"]);
    says(&format!("mjpeg:{t}"), &["no JPEG frame"]);
}

#[test]
fn a_damaged_frame_is_counted_and_the_others_are_kept() {
    let dir = TempDir::new().unwrap();
    let good = jpeg(24, 16, 99);
    let cut = &good[..good.len() - 30];
    let stream = [&good[..], cut, &good, &good].concat();
    let f = put(&dir, "f.jpegs", &stream);
    let mut source = try_open(&format!("mjpeg:{f}")).unwrap();
    let records = all(&mut *source);
    assert_eq!((records.len(), source.skipped()), (3, 1));
    let mut live = pipe(&stream, "");
    assert_eq!((all(&mut live), live.skipped()), (records, 1));
    assert!(matches!(live.rewind(), Err(SourceError::CannotRewind(_))));
}

#[test]
fn a_frame_that_ends_early_is_damaged_though_it_has_its_end_marker() {
    let good = jpeg(64, 64, 99);
    for keep in [30, 50, 70, 90] {
        let start = good.windows(2).position(|w| w == [0xff, 0xda]).unwrap() + 14;
        let end = start + (good.len() - start) * keep / 100;
        let mut live = pipe(&[&good[..], &good[..end], &[0xff, 0xd9], &good].concat(), "");
        assert_eq!((all(&mut live).len(), live.skipped()), (2, 1), "{keep} % kept");
    }
}

#[test]
fn other_dimensions_are_an_error_in_a_file_and_a_skip_on_a_pipe() {
    let dir = TempDir::new().unwrap();
    let stream = [jpeg(24, 16, 1), jpeg(32, 16, 1), jpeg(24, 16, 1)].concat();
    let f = put(&dir, "f.jpegs", &stream);
    says(&format!("mjpeg:{f}"), &["byte", "frame 1: 32x16x3", "24x16x3"]);
    let mut live = pipe(&stream, "");
    assert_eq!((all(&mut live).len(), live.skipped()), (2, 1));
}

#[test]
fn a_jpeg_that_claims_to_be_huge_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let mut lie = jpeg(24, 16, 1);
    let sof = lie.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    lie[sof + 5..sof + 9].copy_from_slice(&[0x1f, 0x40, 0x1f, 0x40]);
    let f = put(&dir, "f.jpegs", &lie);
    says(&format!("mjpeg:{f}"), &["byte 0", "8000x8000 pixels"]);
    let mut live = pipe(&[lie, jpeg(24, 16, 1)].concat(), "");
    assert_eq!((all(&mut live).len(), live.skipped()), (1, 1));
}

#[test]
fn raw_frames_come_through_a_pipe_and_a_cut_off_one_is_counted() {
    let mut live = pipe(&[9; 2 * 12 + 5], "?format=rgb24&width=2&height=2&rate=10");
    let records = all(&mut live);
    assert_eq!(records[1].data, Data::Image { pixels: vec![9; 12], height: 2, width: 2, channels: 3 });
    assert_eq!((records.len(), records[1].time.0, live.skipped()), (2, 100_000, 1));
    let mut empty = pipe(b"", "");
    let message = empty.read_next(&mut Record::default()).unwrap_err().to_string();
    assert!(message.contains("ended without a whole frame"), "{message}");
}
