//! Donkeycar's tubs, written as its two versions write them.

use crate::*;
use nestling::source::open_indexed;
use serde_json::{Value, json};

/// A tub of version 2 with `records`, `per_catalog` in a catalog; each has an image whose shade is its index.
fn second(dir: &TempDir, records: &[Value], per_catalog: usize, deleted: &[usize]) -> String {
    std::fs::create_dir(dir.path().join("images")).unwrap();
    let mut paths = Vec::new();
    for (n, part) in records.chunks(per_catalog).enumerate() {
        let lines: String = part.iter().map(|record| format!("{record}\r\n")).collect();
        paths.push(format!("catalog_{n}.catalog"));
        put(dir, &paths[n], lines);
        put(dir, &format!("catalog_{n}.catalog_manifest"), "{\"line_lengths\": []}\r\n");
    }
    for record in records {
        let index = record["_index"].as_u64().unwrap();
        put(dir, &format!("images/{}", record["cam/image_array"].as_str().unwrap()), jpeg(16, 8, index as u8 * 20));
    }
    let catalogs =
        json!({"paths": paths, "current_index": records.len(), "max_len": per_catalog, "deleted_indexes": deleted});
    let lines = [
        json!(["cam/image_array", "user/angle", "user/throttle", "user/mode"]),
        json!(["image_array", "float", "float", "str"]),
        json!({}),
        json!({"created_at": 1.6e9, "sessions": {"last_id": 1}}),
        catalogs,
    ];
    put(dir, "manifest.json", lines.map(|line| line.to_string() + "\r\n").concat());
    dir.path().to_str().unwrap().to_owned()
}

fn record(index: usize) -> Value {
    json!({
        "_index": index, "_session_id": format!("21-03-30_{}", index / 6), "_timestamp_ms": 1_617_000_000_000u64 + 50 * index as u64,
        "cam/image_array": format!("{index}_cam_image_array_.jpg"), "user/angle": index as f64 / 10.0, "user/throttle": 0.3,
        "user/mode": if index < 4 { "user" } else { "pilot" },
    })
}

/// Index of a record by the shade of its image.
fn shade(record: &Record) -> usize {
    let Data::Image { pixels, height: 8, width: 16, channels: 3 } = &record.data else { panic!("{:?}", record.data) };
    (usize::from(pixels[0]) + 10) / 20
}

#[test]
fn a_tub_is_played_without_what_was_deleted_and_its_sessions_are_groups() {
    let dir = TempDir::new().unwrap();
    let records: Vec<Value> = (0..10).map(record).collect();
    let path = second(&dir, &records, 4, &[2, 3]);
    let mut source = try_open(&format!("tub:{path}")).unwrap();
    assert_eq!(source.describe(), format!("tub: {path}, version 2, 8 records, 2 deleted"));
    let played = all(&mut *source);
    assert_eq!(played.iter().map(shade).collect::<Vec<_>>(), [0, 1, 4, 5, 6, 7, 8, 9]);
    assert_eq!(played.iter().map(|r| r.time.0 / 50_000).collect::<Vec<_>>(), [0, 1, 4, 5, 6, 7, 8, 9]);
    // What was deleted parts neighbours, and so does a new session.
    assert_eq!(played.iter().map(|r| r.segment).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 2, 2]);
    assert_eq!(played.iter().map(|r| r.group).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(played[2].label, Some(Label::Value(0.4)));
    let second_session = all(&mut *try_open(&format!("tub:{path}?range=0.5..1.0&range_of=groups")).unwrap());
    assert_eq!(second_session.iter().map(shade).collect::<Vec<_>>(), [6, 7, 8, 9]);
    let smooth = all(&mut *try_open(&format!("tub:{path}?smooth=1")).unwrap());
    assert_eq!(smooth[0].label, Some(Label::Value(0.05)));
    let modes = open_indexed(&format!("tub:{path}?label=user/mode").parse().unwrap()).unwrap();
    assert_eq!(
        (modes.class_names(), modes.label(1), modes.label(2)),
        (&["pilot".to_owned(), "user".to_owned()][..], Some(Label::Class(1)), Some(Label::Class(0)))
    );
}

#[test]
fn damaged_records_and_missing_images_are_passed_over_and_counted() {
    let dir = TempDir::new().unwrap();
    let records: Vec<Value> = (0..6).map(record).collect();
    let path = second(&dir, &records, 6, &[]);
    std::fs::remove_file(dir.path().join("images/1_cam_image_array_.jpg")).unwrap();
    put(&dir, "images/2_cam_image_array_.jpg", &jpeg(16, 8, 40)[..200]);
    let catalog = std::fs::read_to_string(dir.path().join("catalog_0.catalog")).unwrap();
    // The power went while the last record was written.
    put(&dir, "catalog_0.catalog", &catalog[..catalog.len() - 20]);
    let mut source = try_open(&format!("tub:{path}")).unwrap();
    let played = all(&mut *source);
    assert_eq!(played.iter().map(shade).collect::<Vec<_>>(), [0, 3, 4]);
    assert_eq!(source.skipped(), 3);
}

#[test]
fn a_record_names_no_file_outside_its_tub() {
    let (dir, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut records: Vec<Value> = (0..2).map(record).collect();
    let path = second(&dir, &records, 6, &[]);
    put(&outside, "x.jpg", jpeg(16, 8, 200));
    records[1]["cam/image_array"] = json!(outside.path().join("x.jpg"));
    put(&dir, "catalog_0.catalog", records.iter().map(|r| format!("{r}\r\n")).collect::<String>());
    let mut source = try_open(&format!("tub:{path}")).unwrap();
    assert_eq!((all(&mut *source).len(), source.skipped()), (1, 1));
}

#[test]
fn an_old_tub_has_a_file_for_each_record() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    put(
        &dir,
        "meta.json",
        json!({"inputs": ["cam/image_array", "user/angle"], "types": ["image_array", "float"], "start": 1.5e9})
            .to_string(),
    );
    for index in [0usize, 1, 2, 9, 10, 11] {
        let image = format!("{index}_cam-image_array_.jpg");
        put(&dir, &image, jpeg(16, 8, index as u8 * 20));
        let record =
            json!({"cam/image_array": image, "user/angle": -0.5, "user/mode": "user", "milliseconds": 50 * index});
        put(&dir, &format!("record_{index}.json"), record.to_string());
    }
    put(&dir, "exclude.json", "[1]");
    put(&dir, "record_12.json", "{\"cam/image_array\": \"12_cam-");
    let mut source = try_open(&format!("tub:{path}")).unwrap();
    assert_eq!(source.describe(), format!("tub: {path}, version 1, 6 records, 1 deleted"));
    let played = all(&mut *source);
    // By number, not by name.
    assert_eq!(played.iter().map(shade).collect::<Vec<_>>(), [0, 2, 9, 10, 11]);
    assert_eq!(played.iter().map(|r| r.segment).collect::<Vec<_>>(), [0, 1, 2, 2, 2]);
    assert_eq!(played.iter().map(|r| r.time.0 / 50_000).collect::<Vec<_>>(), [0, 2, 9, 10, 11]);
    assert_eq!((source.skipped(), played[0].label), (1, Some(Label::Value(-0.5))));
}

#[test]
fn what_is_wrong_with_a_tub_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    says(&format!("tub:{path}"), &["neither manifest.json nor record_N.json", "tub:mycar/data"]);
    let path = second(&dir, &(0..3).map(record).collect::<Vec<_>>(), 9, &[0, 1, 2]);
    says(&format!("tub:{path}"), &["all of its 3 records are deleted"]);
    let manifest = std::fs::read_to_string(dir.path().join("manifest.json")).unwrap();
    put(&dir, "manifest.json", manifest.replace("[0,1,2]", "[]"));
    says(&format!("tub:{path}?label=user/speed"), &["no record has the key 'user/speed'", "user/angle", "user/mode"]);
    says(&format!("tub:{path}?label=user/mode&labels=value"), &["user/mode is text"]);
    says(&format!("tub:{path}?labels=class"), &["record 1: user/angle is 0.1", "leave labels=class out"]);
    put(&dir, "manifest.json", "[]\r\n[]\r\n");
    says(&format!("tub:{path}"), &["manifest.json", "its fifth line"]);
    put(&dir, "manifest.json", manifest);
    std::fs::remove_file(dir.path().join("catalog_0.catalog")).unwrap();
    assert!(refusal(&format!("tub:{path}")).contains("catalog_0.catalog"));
}
