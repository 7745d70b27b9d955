//! Real files: one writer, who may read them, and files that lie about what is in them.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use nestling::state;
use nestling::store::disk::{Disk, Output, RealDisk};
use nestling::store::{self, Snapshot, Store, StoreError, StoreOptions};
use serde_json::{Value, json};

use super::common::counting;
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

#[test]
fn a_folder_is_refused_before_an_hour_is_spent_on_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = Store::open(folder.path(), &StoreOptions::default()).map(|_| ());
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

/// A disk that syncs nothing before it is told to.
struct Slow(Arc<Mutex<Receiver<()>>>);

impl Disk for Slow {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(SlowOutput(RealDisk.create(path)?, Arc::clone(&self.0))))
    }
    fn open(&self, path: &Path) -> io::Result<(u64, Box<dyn Read>)> {
        RealDisk.open(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_folder(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }
}

struct SlowOutput(Box<dyn Output>, Arc<Mutex<Receiver<()>>>);

impl Output for SlowOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.1.lock().expect("one saver").recv().map_err(io::Error::other)?;
        self.0.sync()
    }
}

#[test]
fn learning_goes_on_while_a_slow_disk_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.safetensors");
    let (go_on, slow) = channel();
    let disk = Slow(Arc::new(Mutex::new(slow)));
    let mut store = Store::over(Box::new(disk), &path, &StoreOptions::default()).expect("a disk");
    with_learner(|learner| {
        observe_to(learner, 50);
        let mut snapshot = Snapshot::of(learner).expect("a snapshot");
        let saving = std::thread::spawn(move || store.save(&mut snapshot).map(|_| snapshot));
        let before = state::hash(learner);
        // The disk waits for the learner here, so that the learner cannot be waiting for the disk.
        observe_to(learner, 120);
        go_on.send(()).expect("somebody saves");
        let snapshot = saving.join().expect("no panic").expect("a save");
        assert_eq!(snapshot.state_hash(), Some(before));
        assert_eq!(store::read(&path).expect("a checkpoint").metadata["samples"], "50");
    });
}

#[test]
fn a_snapshot_that_is_taken_again_uses_its_memory_again() {
    with_learner(|learner| {
        observe_to(learner, 50);
        let mut snapshot = Snapshot::of(learner).expect("a snapshot");
        observe_to(learner, 120);
        counting::largest();
        snapshot.take(learner).expect("a snapshot");
        // The header alone is put together anew.
        assert!(snapshot.len() > 12_000 && counting::largest() < 8_000, "{}", snapshot.len());
    });
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
    fn bound(header: &mut Value, tensor: &str, end: usize, to: u64) {
        header[tensor]["data_offsets"][end] = to.into();
    }
    type Lie = Box<dyn FnOnce(&mut Value)>;
    let lies: [(&str, Lie); 15] = [
        ("overlaps", Box::new(|h| bound(h, "masters", 0, 0))),
        ("begins beyond the end", Box::new(|h| bound(h, "masters", 0, 1 << 40))),
        ("ends before it begins", Box::new(|h| bound(h, "masters", 1, 0))),
        ("ends at the largest number", Box::new(|h| bound(h, "masters", 1, u64::MAX))),
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
        counting::largest();
        let refused = with_header(&path, change);
        // What reads it takes no more than the file has, and the test itself a few copies of it.
        assert!(counting::largest() < 256 * 1024, "{lie}");
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
        counting::largest();
        let refused = store::read(&path).map(|_| ());
        assert!(counting::largest() < 256 * 1024, "{len}");
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
