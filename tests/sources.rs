//! Sources from the outside: what `open` promises for good files, damaged files and the real recordings.
//!
//! Frames, tokens, any bytes and the real recordings have files of their own under `sources/`.

use nestling::source::uri::Uri;
use nestling::source::{Data, Label, OpenOptions, Record, Source, SourceError, open, pipe::Pipe};
use tempfile::TempDir;

#[path = "sources/any_bytes.rs"]
mod any_bytes;
#[path = "sources/frames.rs"]
mod frames;
#[path = "sources/recordings.rs"]
mod recordings;
#[path = "sources/sound.rs"]
mod sound;
#[path = "sources/tokens.rs"]
mod tokens;
#[path = "sources/tubs.rs"]
mod tubs;

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
    // The largest of channel 0 is 9.5: its unit is 2^-8. Channel 1 is whole and stays.
    let Data::Window { readings, length, channels } = &records[0].data else { panic!() };
    assert_eq!((readings.as_slice(), *length, *channels), (&[0, 1, 128, 0, 256, -1, 384, -2][..], 4, 2));
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
fn rows_of_an_array_are_samples_with_times_and_labels_from_counters() {
    let dir = TempDir::new().unwrap();
    let scans: Vec<u8> = (0..24u16).flat_map(|i| (if i % 7 == 0 { 0 } else { 100 + i }).to_le_bytes()).collect();
    let x = put(&dir, "x.npy", npy("<u2", "False", "(4, 6)", &scans));
    let times = [5_000_000i64, 5_100_000, 9_000_000, 9_100_000].map(i64::to_le_bytes).concat();
    let t = put(&dir, "t.npy", npy("<i8", "False", "(4,)", &times));
    let ticks =
        [[0i32, 0], [3, 5], [10, 10], [20, 13]].concat().iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let y = put(&dir, "y.npy", npy("<i4", "False", "(4, 2)", &ticks));
    let play = |query: &str| all(&mut *try_open(&format!("npy:{x},{y}?each=row&times={t}&{query}")).unwrap());
    let readings = |record: &Record| match &record.data {
        Data::Window { readings, channels: 1, .. } => readings.clone(),
        other => panic!("{other:?}"),
    };
    let records = play("combine=1-0&diff=1");
    assert_eq!(records.iter().map(|r| r.time.0).collect::<Vec<_>>(), [0, 100_000, 4_000_000, 4_100_000]);
    assert_eq!(records.iter().map(|r| (r.segment, r.group)).collect::<Vec<_>>(), [(0, 0), (0, 0), (1, 1), (1, 1)]);
    let values: Vec<_> = records.iter().map(|r| r.label).collect();
    assert_eq!(values, [None, Some(Label::Value(2.0)), None, Some(Label::Value(-7.0))]);
    assert_eq!(readings(&records[1]), [106, 0, 108, 109, 110, 111]);
    // A return that is missing takes the beam before, the first beams the first that there is.
    let held = play("combine=0&missing=0&nan=hold&window=4");
    assert_eq!(held[2].label, Some(Label::Value(10.0)));
    let rows: Vec<_> = held.iter().map(readings).collect();
    assert_eq!(rows, [&[101, 102, 103, 104][..], &[108, 108, 109, 110], &[113, 113, 115, 116], &[119, 120, 120, 122]]);
    assert_eq!(play("combine=0&missing=0&nan=skip&window=4").len(), 1);
    // Two rows beside each other, oldest first; no sample lies in two segments.
    let pairs = play("combine=0&stack=2&window=2");
    assert_eq!(
        pairs.iter().map(|r| (r.segment, r.label)).collect::<Vec<_>>(),
        [(0, Some(Label::Value(3.0))), (1, Some(Label::Value(20.0)))]
    );
    let Data::Window { readings, length: 2, channels: 2 } = &pairs[0].data else { panic!() };
    assert_eq!(readings, &[102, 108, 103, 109]);
    let says = |query: &str, parts: &[&str]| says(&format!("npy:{x},{y}?{query}"), parts);
    says("each=row&combine=0&stack=5", &["nowhere 5 rows follow one another"]);
    says("each=row", &["2 numbers for each sample", "combine=1-0"]);
    says("each=row&combine=0+2", &["column 2 of 2", "0 to 1"]);
    says("each=row&combine=0&window=7", &["7 readings from rows of 6"]);
    says("each=row&combine=0&stride=2", &["every row is a sample"]);
    says(&format!("each=row&combine=0&times={x}"), &["shape [4, 6] for the times"]);
    let deep = put(&dir, "d.npy", npy("<f4", "False", "(2, 3, 2)", &floats(&[0.5; 12])));
    let records = all(&mut *try_open(&format!("npy:{deep}?each=row")).unwrap());
    assert!(matches!(records[1].data, Data::Window { length: 3, channels: 2, .. }));
}

#[test]
fn a_reading_that_is_missing_is_held_within_its_channel() {
    let dir = TempDir::new().unwrap();
    let c = put(&dir, "x.csv", "a,b\n1,-9\n,2\n-9,3\n4,4\n,5\n,6\n");
    let mut source = try_open(&format!("csv:{c}?window=2&stride=2&nan=hold&missing=-9")).unwrap();
    let windows: Vec<_> = all(&mut *source).into_iter().map(|r| r.data).collect();
    let window = |readings: [i16; 4]| Data::Window { readings: readings.to_vec(), length: 2, channels: 2 };
    // Of the third window a whole channel is missing.
    assert_eq!((windows, source.skipped()), (vec![window([1, 2, 1, 2]), window([4, 3, 4, 4])], 1));
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
