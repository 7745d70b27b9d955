//! Sources from the outside: what `open` promises for good files, damaged files and the real recordings.
//!
//! The real recordings are read from the folder that the variable `NESTLING_DATA` names; without it those tests say so and pass.

use nestling::source::uri::Uri;
use nestling::source::{Data, Label, OpenOptions, Record, Source, SourceError, open, open_indexed, pipe::Pipe};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn try_open(uri: &str) -> Result<Box<dyn Source>, SourceError> {
    open(&[uri.to_owned()], &OpenOptions::default())
}

fn all(source: &mut dyn Source) -> Vec<Record> {
    let mut record = Record::default();
    let mut out = Vec::new();
    while source.read_next(&mut record).unwrap() {
        out.push(record.clone());
    }
    out
}

fn refusal(uri: &str) -> String {
    match try_open(uri) {
        Err(e) => e.to_string(),
        Ok(mut source) => {
            let mut record = Record::default();
            loop {
                match source.read_next(&mut record) {
                    Err(e) => return e.to_string(),
                    Ok(true) => {}
                    Ok(false) => panic!("{uri} was read without an error"),
                }
            }
        }
    }
}

fn says(uri: &str, parts: &[&str]) {
    let message = refusal(uri);
    for part in parts.iter().chain(&["what to do"]) {
        assert!(message.contains(part), "{uri}: '{part}' is not in: {message}");
    }
}

fn put(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn jpeg(width: u32, height: u32, shade: u8) -> Vec<u8> {
    let image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([shade, (x * 5) as u8, (y * 7) as u8]));
    let mut out = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 90).encode_image(&image).unwrap();
    out
}

fn pipe(bytes: &[u8], queries: &str) -> Pipe<std::io::Cursor<Vec<u8>>> {
    let uri: Uri = format!("pipe:-{queries}").parse().unwrap();
    Pipe::new(std::io::Cursor::new(bytes.to_vec()), &uri).unwrap()
}

#[test]
fn npy_images_come_with_their_classes_and_without_neighbours() {
    let dir = TempDir::new().unwrap();
    let x = put(&dir, "x.npy", npy("|u1", "False", "(3, 2, 2, 1)", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
    let y = put(&dir, "y.npy", npy("<i8", "False", "(3,)", &[4i64, 0, 2].map(i64::to_le_bytes).concat()));
    let mut source = try_open(&format!("npy:{x},{y}")).unwrap();
    let records = all(&mut *source);
    assert_eq!(records[1].data, Data::Image { pixels: vec![5, 6, 7, 8], height: 2, width: 2, channels: 1 });
    assert_eq!(records.iter().map(|r| r.label).collect::<Vec<_>>(), [4, 0, 2].map(|c| Some(Label::Class(c))));
    assert_eq!(records.iter().map(|r| (r.segment, r.group)).collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 2)]);
    let values = all(&mut *try_open(&format!("npy:{x},{y}?labels=value&order=by-label")).unwrap());
    assert_eq!(values[0].label, Some(Label::Value(0.0)));
}

#[test]
fn lying_npy_files_are_refused_before_anything_is_allocated() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, bytes: Vec<u8>| format!("npy:{}", put(&dir, name, bytes));
    says(
        &file("a", npy("|u1", "False", "(1000000, 1000, 1000, 3)", &[0; 9])),
        &["byte", "needs 3000000000000 bytes, 9 are"],
    );
    says(&file("b", npy("|u1", "False", "(4294967296, 4294967296, 4294967296)", &[])), &["dimensions beyond any file"]);
    says(&file("c", npy("|u1", "True", "(2, 2, 2)", &[0; 8])), &["Fortran order", "ascontiguousarray"]);
    says(&file("d", npy("<f2", "False", "(2, 2)", &[0; 8])), &["dtype <f2", "float32"]);
    says(&file("e", npy("|u1", "False", "(0, 4, 4)", &[])), &["empty"]);
    says(&file("f", npy("|u1", "False", "(1, 2, 2, 5)", &[0; 20])), &["no set of images"]);
    says(&file("g", npy("<f4", "False", "(1, 2, 2)", &floats(&[0.0; 4]))), &["neither a signal nor"]);
    says(&file("h", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{".to_vec()), &["a header of 2147483647 bytes"]);
    says(&file("i", b"hello, world".to_vec()), &["not a NumPy file"]);
    says(&file("j", npy("|u1", "False", &"(".repeat(9000), &[])), &["too many brackets"]);
    let x = put(&dir, "x.npy", npy("|u1", "False", "(2, 2, 2)", &[0; 8]));
    let y = put(&dir, "y.npy", npy("|u1", "False", "(3,)", &[0; 3]));
    says(&format!("npy:{x},{y}"), &["y.npy", "shape [3]", "2 samples"]);
    says(&format!("npy:{x}?window=4"), &["window applies to signals"]);
    assert!(refusal(&format!("npy:{x}.gone")).contains("x.npy.gone"));
}

#[test]
fn windows_of_a_signal_stay_within_their_segment_and_take_its_labels() {
    let dir = TempDir::new().unwrap();
    let signal: Vec<f32> = (0..20).flat_map(|i| [i as f32 * 0.5, 1.0 - i as f32]).collect();
    let x = put(&dir, "x.npy", npy("<f4", "False", "(20, 2)", &floats(&signal)));
    let s = put(&dir, "s.csv", "start,length,subject,label\n0,9,7,walk\n9,11,3,sit\n");
    let uri = format!("npy:{x}?segments={s}&window=4&stride=2&group=subject&label=label&rate=10");
    let mut source = try_open(&uri).unwrap();
    assert_eq!(source.class_names(), ["sit", "walk"]);
    let records = all(&mut *source);
    let about: Vec<_> = records.iter().map(|r| (r.time.0 / 100_000, r.segment, r.group)).collect();
    assert_eq!(about, [(0, 0, 7), (2, 0, 7), (4, 0, 7), (9, 1, 3), (11, 1, 3), (13, 1, 3), (15, 1, 3)]);
    assert_eq!((records[0].label, records[3].label), (Some(Label::Class(1)), Some(Label::Class(0))));
    // The largest of channel 0 is 9.5: its unit is 2^-10. Channel 1 is whole and stays.
    let Data::Window { readings, length, channels } = &records[0].data else { panic!() };
    assert_eq!((readings.as_slice(), *length, *channels), (&[0, 1, 512, 0, 1024, -1, 1536, -2][..], 4, 2));
    let s = put(&dir, "t.csv", "start,length\n0,9\n9,12\n");
    says(&format!("npy:{x}?segments={s}&window=4"), &["t.csv: line 3, column 'length'", "20 rows"]);
    says(&format!("npy:{x}?window=21"), &["no window of 21 rows", "at most 20"]);
    says(&format!("npy:{x}?segments={s}&group=subject"), &["no column 'subject'", "start, length"]);
}

#[test]
fn a_signal_in_fortran_order_gives_the_same_windows() {
    let dir = TempDir::new().unwrap();
    let signal: Vec<f32> = (0..30).map(|i| (i * i) as f32 * 0.3).collect();
    let turned: Vec<f32> = (0..30).map(|i| signal[(i % 10) * 3 + i / 10]).collect();
    let c = put(&dir, "c.npy", npy("<f4", "False", "(10, 3)", &floats(&signal)));
    let f = put(&dir, "f.npy", npy("<f4", "True", "(10, 3)", &floats(&turned)));
    let [c, f] = [c, f].map(|x| all(&mut *try_open(&format!("npy:{x}?window=4")).unwrap()));
    assert_eq!((c.len(), &c), (4, &f));
}

#[test]
fn a_nan_is_an_error_or_a_counted_skip() {
    let dir = TempDir::new().unwrap();
    let mut signal = vec![1.5f32; 24];
    signal[13] = f32::NAN;
    let x = put(&dir, "x.npy", npy("<f4", "False", "(12, 2)", &floats(&signal)));
    says(&format!("npy:{x}?window=4&stride=4"), &["row 6, column 1: NaN", "nan=skip"]);
    let mut source = try_open(&format!("npy:{x}?window=4&stride=4&nan=skip")).unwrap();
    assert_eq!((all(&mut *source).len(), source.skipped()), (2, 1));
    let c = put(&dir, "x.csv", "a,b\n1,2\n3,\n5,6\n7,8\n");
    says(&format!("csv:{c}?window=2&stride=2"), &["line 3, column 'b'", "nan=skip"]);
    let mut source = try_open(&format!("csv:{c}?window=2&stride=2&nan=skip")).unwrap();
    assert_eq!((all(&mut *source).len(), source.skipped()), (1, 1));
}

#[test]
fn a_csv_log_becomes_windows_of_its_number_columns() {
    let dir = TempDir::new().unwrap();
    let mut text = "t_ms,who,x,note,state,speed\n".to_owned();
    for i in 0..20 {
        let t = i * 20 + if i >= 12 { 5000 } else { 0 };
        text += &format!("{t},ann,{i},hello,{},{}\n", if i < 7 { "go" } else { "halt" }, i as f64 / 2.0);
    }
    let c = put(&dir, "log.csv", &text);
    let records = all(&mut *try_open(&format!("csv:{c}?window=4&label=state&group=who")).unwrap());
    assert_eq!(records.len(), 5 + 3);
    assert_eq!(records.iter().map(|r| r.segment).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1, 1, 1]);
    assert_eq!((records[2].label, records[4].label), (Some(Label::Class(0)), Some(Label::Class(1))));
    assert_eq!(records[5].time.0, 5_240_000);
    let Data::Window { channels, .. } = records[0].data else { panic!() };
    assert_eq!(channels, 2);
    let speed = all(&mut *try_open(&format!("csv:{c}?window=4&label=speed&channels=x&smooth=1")).unwrap());
    assert_eq!(speed[1].label, Some(Label::Value(1.75)));
    says(&format!("csv:{c}?channels=x,y"), &["no column 'y'", "t_ms, who, x"]);
    says(&format!("csv:{c}?channels=note"), &["line 2, column 'note'", "channels=a,b,c"]);
    says(&format!("csv:{c}?window=400"), &["longest stretch without a pause has 12"]);
}

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

#[test]
fn image_folders_are_classes_in_the_order_of_their_names() {
    let dir = TempDir::new().unwrap();
    for (class, shade) in [("owl", 200), ("bat", 10)] {
        std::fs::create_dir(dir.path().join(class)).unwrap();
        std::fs::write(dir.path().join(class).join("a.jpg"), jpeg(8, 8, shade)).unwrap();
        image::GrayImage::from_pixel(6, 4, image::Luma([shade])).save(dir.path().join(class).join("b.png")).unwrap();
    }
    std::fs::write(dir.path().join("bat").join("c.png"), b"\x89PNG, but no").unwrap();
    let mut source = try_open(&format!("images:{}", dir.path().display())).unwrap();
    assert_eq!(source.class_names(), ["bat", "owl"]);
    let records = all(&mut *source);
    assert_eq!(source.skipped(), 1);
    assert_eq!(records.iter().map(|r| r.label).collect::<Vec<_>>(), [0, 0, 1, 1].map(|c| Some(Label::Class(c))));
    assert_eq!(records[1].data, Data::Image { pixels: vec![10; 6 * 4 * 3], height: 4, width: 6, channels: 3 });
    let empty = TempDir::new().unwrap();
    says(&format!("images:{}", empty.path().display()), &["no images"]);
}

#[test]
fn chained_streams_share_no_segment_group_or_time_and_join_classes_by_name() {
    let dir = TempDir::new().unwrap();
    let a = put(&dir, "a.csv", "x,who,is\n1,5,up\n2,5,up\n3,6,down\n4,6,down\n");
    let b = put(&dir, "b.csv", "x,who,is\n1,5,left\n2,5,up\n");
    let uris = [&a, &b].map(|f| format!("csv:{f}?window=1&group=who&label=is"));
    let mut source = open(&uris, &OpenOptions::default()).unwrap();
    assert_eq!(source.class_names(), ["down", "up", "left"]);
    let records = all(&mut *source);
    assert_eq!(records.iter().map(|r| r.segment).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
    assert_eq!(records.iter().map(|r| r.group).collect::<Vec<_>>(), [5, 5, 6, 6, 12, 12]);
    assert_eq!(records.iter().map(|r| r.label).collect::<Vec<_>>(), [1, 1, 0, 0, 2, 1].map(|c| Some(Label::Class(c))));
    assert!(records.windows(2).all(|w| w[0].time < w[1].time));
    source.rewind().unwrap();
    assert_eq!(all(&mut *source), records);
    let x = put(&dir, "x.npy", npy("|u1", "False", "(1, 2, 2)", &[0; 4]));
    let mut mixed = open(&[uris[0].clone(), format!("npy:{x}")], &OpenOptions::default()).unwrap();
    let mut record = Record::default();
    let error = (0..9).find_map(|_| mixed.read_next(&mut record).err()).unwrap().to_string();
    assert!(error.contains("x.npy") && error.contains("one kind"), "{error}");
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    /// Opens and reads a mutated file: whatever happens, it is a result.
    fn read_through(uri: &str) {
        if let Ok(mut source) = try_open(uri) {
            let mut record = Record::default();
            for _ in 0..50 {
                if !matches!(source.read_next(&mut record), Ok(true)) {
                    break;
                }
            }
        }
    }

    fn mutated(mut bytes: Vec<u8>, edits: &[(usize, u8)], cut: usize) -> Vec<u8> {
        for (at, value) in edits {
            let n = bytes.len();
            bytes[at % n] = *value;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        bytes
    }

    fn cases() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn a_mutated_npy_file_is_read_or_refused(
            edits in prop::collection::vec((0usize..120, any::<u8>()), 0..4), cut in 0usize..40, image: bool,
        ) {
            let dir = TempDir::new().unwrap();
            let good = if image { npy("|u1", "False", "(2, 3, 4)", &[7; 24]) }
                else { npy("<f4", "False", "(8, 2)", &floats(&[1.5; 16])) };
            let path = put(&dir, "x.npy", mutated(good, &edits, cut));
            read_through(&format!("npy:{path}"));
            read_through(&format!("npy:{path}?window=2&nan=skip"));
        }

        #[test]
        fn a_mutated_segments_file_is_read_or_refused(
            edits in prop::collection::vec((0usize..60, prop::sample::select(&b"0123456789,.-e\nxN\""[..])), 0..5), cut in 0usize..40,
        ) {
            let dir = TempDir::new().unwrap();
            let x = put(&dir, "x.npy", npy("<f4", "False", "(8, 2)", &floats(&[1.5; 16])));
            let table = mutated(b"start,length,who,label\n0,4,1,2\n4,4,2,1\n".to_vec(), &edits, cut);
            let s = put(&dir, "s.csv", table);
            read_through(&format!("npy:{x}?window=2&segments={s}&group=who&label=label&labels=class"));
            read_through(&format!("csv:{s}?window=1&nan=skip&label=label&smooth=2"));
            read_through(&format!("csv:{s}?window=1&group=who&order=by-label"));
        }

        #[test]
        fn a_mutated_frame_table_is_read_or_refused(
            edits in prop::collection::vec((0usize..60, prop::sample::select(&b"0123456789,.-e\nxN\""[..])), 0..5), cut in 0usize..40,
        ) {
            let dir = TempDir::new().unwrap();
            let frame = jpeg(16, 8, 50);
            let f = put(&dir, "f.jpegs", [&frame[..], &frame].concat());
            let n = frame.len();
            let table = format!("t_ms,run,offset,length,v\n0,0,0,{n},1\n50,0,{n},{n},2\n");
            let t = put(&dir, "t.csv", mutated(table.into_bytes(), &edits, cut));
            read_through(&format!("mjpeg:{f},{t}?label=v&smooth=3"));
        }

        #[test]
        fn a_mutated_motion_jpeg_is_read_or_refused(
            edits in prop::collection::vec((any::<usize>(), any::<u8>()), 0..8), cut in 0usize..2000, head: bool,
        ) {
            let frame = jpeg(40, 24, 80);
            let edits: Vec<_> = edits.iter().map(|(at, v)| (if head { at % 640 } else { *at }, *v)).collect();
            let bytes = mutated([&frame[..], &frame, &frame].concat(), &edits, cut);
            let mut live = pipe(&bytes, "");
            let mut record = Record::default();
            while matches!(live.read_next(&mut record), Ok(true)) {}
            let dir = TempDir::new().unwrap();
            read_through(&format!("mjpeg:{}", put(&dir, "f.jpegs", &bytes)));
            put(&dir, "a.png", &bytes);
            read_through(&format!("images:{}", dir.path().display()));
        }

        #[test]
        fn random_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let dir = TempDir::new().unwrap();
            let path = put(&dir, "a.png", &bytes);
            for scheme in ["npy", "csv", "mjpeg"] {
                read_through(&format!("{scheme}:{path}"));
            }
            read_through(&format!("images:{}", dir.path().display()));
            read_through(&format!("pipe:{path}?format=gray8&width=7&height=5"));
        }
    }
}

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
    assert!((1 << 13..=1 << 14).contains(&largest), "{largest}");
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
