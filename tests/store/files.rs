//! Real files: one writer, who may read them, and files that lie about what is in them.

use std::fs;
use std::path::Path;

use nestling::store::{self, Snapshot, Store, StoreError, StoreOptions};
use serde_json::{Value, json};

use super::{observe_to, with_learner};

/// A checkpoint of 50 samples in a folder that is made for it.
fn checkpoint() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("made/for/it/c.safetensors");
    with_learner(|learner| {
        observe_to(learner, 50);
        store::write(&path, learner).expect("a writable folder");
    });
    (folder, path)
}

#[test]
fn a_store_has_one_writer_at_a_time() {
    let (_folder, path) = checkpoint();
    let first = Store::open(&path, &StoreOptions::default()).expect("a free store");
    let second = Store::open(&path, &StoreOptions::default()).map(|_| ());
    let Err(problem @ StoreError::Locked { .. }) = second else { panic!("{second:?}") };
    assert!(problem.to_string().contains("c.safetensors.lock"), "{problem}");
    assert!(store::read(&path).is_ok(), "those who only look need no lock");
    drop(first);
    assert!(Store::open(&path, &StoreOptions::default()).is_ok());
}

#[cfg(unix)]
#[test]
fn what_a_camera_saw_is_for_the_eyes_of_its_user() {
    let (_folder, path) = checkpoint();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("the file").permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn saves_are_counted_and_the_next_one_is_said_to_be_far_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.safetensors");
    with_learner(|learner| {
        let mut snapshot = Snapshot::of(learner).expect("a snapshot");
        let bytes = snapshot.len() as u64;
        let options = StoreOptions { bytes_per_hour: Some(2 * bytes), ..StoreOptions::default() };
        let mut store = Store::open(&path, &options).expect("a free store");
        let now = std::time::Instant::now();
        assert!(store.wait(now).is_zero());
        let written = store.save(&mut snapshot).expect("a disk");
        assert_eq!(written.bytes, fs::metadata(&path).expect("the file").len());
        let usage = store.usage(now);
        assert_eq!((usage.saves, usage.bytes_written, usage.bytes_last_hour), (1, bytes, bytes));
        assert!((1790..=1810).contains(&usage.wait.as_secs()), "{usage:?}");
        drop(store);
        // A process that is started again has to wait as well.
        let store = Store::open(&path, &options).expect("a free store");
        assert!(store.wait(now).as_secs() > 1790);
    });
}

/// Writes the checkpoint again with `header` in place of its own and a checksum that is right.
fn with_header(path: &Path, change: impl FnOnce(&mut Value)) -> Result<(), StoreError> {
    let bytes = fs::read(path).expect("the checkpoint");
    let len = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).expect("JSON");
    header["__metadata__"]["checksum"] = "0".repeat(64).into();
    change(&mut header);
    let text = header.to_string();
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(text.as_bytes());
    file.extend_from_slice(&bytes[8 + len..]);
    seal_and_read(path, &mut file)
}

fn seal_and_read(path: &Path, file: &mut [u8]) -> Result<(), StoreError> {
    let digits = blake3::hash(file).to_hex();
    let zeros = file.windows(64).position(|w| w == [b'0'; 64]).expect("the place of the checksum");
    file[zeros..zeros + 64].copy_from_slice(digits.as_bytes());
    let other = path.with_extension("lies");
    fs::write(&other, file).expect("a writable folder");
    store::read(&other).map(|_| ())
}

#[test]
fn a_header_that_lies_is_refused_though_its_checksum_is_right() {
    let (_folder, path) = checkpoint();
    with_header(&path, |_| {}).expect("a header that does not lie");
    let begin = |header: &mut Value, tensor: &str, end: usize, to: u64| header[tensor]["data_offsets"][end] = to.into();
    let lies: [(&str, Box<dyn FnOnce(&mut Value)>); 15] = [
        ("overlaps", Box::new(|h| begin(h, "masters", 0, 0))),
        ("begins beyond the end", Box::new(|h| begin(h, "masters", 0, 1 << 40))),
        ("ends before it begins", Box::new(|h| begin(h, "masters", 1, 0))),
        ("ends at the largest number", Box::new(|h| begin(h, "masters", 1, u64::MAX))),
        ("has more numbers than bytes", Box::new(|h| h["masters"]["shape"] = json!([1u64 << 40]))),
        ("has a shape that overflows", Box::new(|h| h["masters"]["shape"] = json!([u64::MAX, u64::MAX]))),
        ("is of another type", Box::new(|h| h["learning.weights"]["dtype"] = "U8".into())),
        ("is of no type", Box::new(|h| h["masters"]["dtype"] = "I17".into())),
        (
            "has another name",
            Box::new(|h| {
                let tensor = h.as_object_mut().and_then(|h| h.remove("masters")).expect("a tensor");
                h["servants"] = tensor;
            }),
        ),
        (
            "has a tensor too many",
            Box::new(|h| h["more"] = json!({ "dtype": "I8", "shape": [0], "data_offsets": [0, 0] })),
        ),
        (
            "has no model",
            Box::new(|h| {
                h["__metadata__"].as_object_mut().and_then(|m| m.remove("spec")).expect("a model");
            }),
        ),
        (
            "has a model that wants all memory",
            Box::new(|h| {
                let spec =
                    h["__metadata__"]["spec"].as_str().expect("TOML").replace("capacity = 32", "capacity = 16000000");
                h["__metadata__"]["spec"] = spec.into();
            }),
        ),
        (
            "has a larger model",
            Box::new(|h| {
                let spec = h["__metadata__"]["spec"].as_str().expect("TOML").replace("capacity = 32", "capacity = 33");
                h["__metadata__"]["spec"] = spec.into();
            }),
        ),
        ("is of the next format", Box::new(|h| h["__metadata__"]["format"] = "nestling checkpoint 4".into())),
        ("has another hash", Box::new(|h| h["__metadata__"]["state_hash"] = "0".into())),
    ];
    for (lie, change) in lies {
        let refused = with_header(&path, change);
        println!("{lie}: {refused:?}");
        assert!(refused.is_err(), "{lie}");
        if lie.contains("format") {
            assert!(matches!(refused, Err(StoreError::Format { .. })), "{lie}");
        }
    }
}

#[test]
fn a_header_of_any_length_is_refused_without_memory_for_it() {
    let (_folder, path) = checkpoint();
    let whole = fs::read(&path).expect("the checkpoint");
    for len in [0, 1, 7, 8, 100, whole.len() as u64 - 8, whole.len() as u64, 1 << 20, 1 << 40, u64::MAX - 7, u64::MAX] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        fs::write(&path, &bytes).expect("a writable folder");
        let refused = store::read(&path).map(|_| ());
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{len}: {refused:?}");
    }
}

#[test]
fn a_file_of_another_format_is_neither_served_nor_moved() {
    let (_folder, path) = checkpoint();
    let old = br#"{"__metadata__":{"format":"nestling checkpoint 2"}}"#;
    let bytes = [&(old.len() as u64).to_le_bytes()[..], old].concat();
    fs::rename(&path, store::generation_path(&path, 1)).expect("a writable folder");
    fs::write(&path, &bytes).expect("a writable folder");
    let refused = Store::open(&path, &StoreOptions::default()).and_then(|mut store| store.newest().map(|_| ()));
    let Err(problem @ StoreError::Format { .. }) = refused else { panic!("{refused:?}") };
    assert!(problem.to_string().contains("checkpoint 2") && problem.to_string().contains("checkpoint 3"), "{problem}");
    assert_eq!(fs::read(&path).expect("the file"), bytes);
}
