//! Disks that are full, read-only or fail, at every call; and bytes that rot where they lie.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nestling::store::{Saved, Snapshot, StoreError, generation_path};

use super::sim::{Fault, Mistake, SimDisk};
use super::{Came, PATH, observe_to, open, options, samples, script, uncut, with_learner};

/// A fault that comes at call `from` of the save of 90 samples, on a disk that holds those of 10 to 45.
fn save_with(fault: Fault) -> (SimDisk, Result<(), StoreError>, Result<(), StoreError>) {
    let disk = SimDisk::default();
    let outcomes = with_learner(|learner| {
        let mut store = open(&disk, 3)?;
        let mut snapshot = Snapshot::default();
        for stop in [10, 20, 39, 45] {
            observe_to(learner, stop);
            snapshot.take(learner)?;
            store.save(&mut snapshot)?;
        }
        observe_to(learner, 90);
        snapshot.take(learner)?;
        disk.fail(Some(Fault { from: disk.counts().1 + fault.from, ..fault }));
        let failing = store.save(&mut snapshot).map(|_| ());
        // Whatever a power cut now leaves behind opens at the last good one, or at the one that could not be finished.
        for image in disk.after_power_cut() {
            assert!([45, 90].contains(&newest(&image)), "{fault:?}: {failing:?}");
        }
        disk.fail(None);
        assert_eq!(newest_of(&disk, false), if newest(&disk) == 90 { 90 } else { 45 });
        let usage = store.usage(std::time::Instant::now());
        assert_eq!((usage.saves_failed, usage.saves), if failing.is_err() { (1, 4) } else { (0, 5) });
        let left = disk.names();
        observe_to(learner, 100);
        snapshot.take(learner)?;
        let later = store.save(&mut snapshot).map(|_| ());
        Ok((failing, later, left))
    });
    let (failing, later, left) = outcomes.unwrap_or_else(|e: StoreError| panic!("{fault:?}: {e}"));
    if fault.count == 1 || fault.kind == ErrorKind::StorageFull {
        assert!(!left.iter().any(|name| name.ends_with(".new")), "{fault:?} leaves {left:?}");
    }
    (disk, failing, later)
}

fn newest_of(disk: &SimDisk, may_be_none: bool) -> u64 {
    let saved = open(disk, 3).and_then(|mut store| store.newest()).expect("a store that opens");
    assert!(saved.is_some() || may_be_none);
    assert!(saved.as_ref().is_none_or(|saved| saved.set_aside.is_none()), "a good generation was damaged");
    saved.as_ref().map_or(0, samples)
}

fn newest(disk: &SimDisk) -> u64 {
    newest_of(disk, true)
}

#[test]
fn a_save_that_fails_at_any_call_says_so_and_harms_nothing() {
    let mut tried = 0;
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::Other] {
        for count in [1, usize::MAX] {
            for from in 0.. {
                let (disk, failing, later) = save_with(Fault { kind, from, count });
                assert!(later.is_ok(), "{kind:?} {from}: {later:?}");
                assert_eq!(newest(&disk), 100);
                assert!(!disk.names().iter().any(|name| name.ends_with(".new")), "{:?}", disk.names());
                if failing.is_ok() {
                    // The fault came after the save, so every call was tried.
                    break;
                }
                tried += 1;
            }
        }
    }
    println!("{tried} failing calls");
    assert!(tried > 150, "{tried}");
}

#[test]
fn what_cannot_be_read_for_once_is_not_taken_for_damaged() {
    let whole = SimDisk::default();
    script(&whole, &mut Came::default()).expect("an uncut run");
    let mut failed = 0;
    for from in 0..40 {
        whole.fail(Some(Fault { kind: ErrorKind::Other, from: whole.counts().1 + from, count: 1 }));
        let served = open(&whole, 3).and_then(|mut store| store.newest());
        whole.fail(None);
        failed +=
            usize::from(served.as_ref().map_or(true, |saved| saved.as_ref().is_some_and(|s| s.set_aside.is_some())));
        assert_eq!(newest(&whole), 159, "call {from}");
    }
    assert!((3..20).contains(&failed), "{failed}");
}

#[test]
fn a_disk_that_can_only_be_read_serves_the_generation_before_all_the_same() {
    let disk = SimDisk::default();
    script(&disk, &mut Came::default()).expect("an uncut run");
    let mut store = open(&disk, 3).expect("it opens");
    disk.rot(Path::new(PATH), 3000);
    let from = disk.counts().1;
    disk.fail(Some(Fault { kind: ErrorKind::ReadOnlyFilesystem, from, count: usize::MAX }));
    let saved = store.newest().expect("it opens").expect("a generation");
    assert!(samples(&saved) == 140 && saved.set_aside.is_some());
}

fn kept(file: &str) -> PathBuf {
    Path::new(PATH).with_file_name(file)
}

#[test]
fn a_damaged_newest_is_set_aside_once_and_the_one_before_goes_on_to_the_uncut_hash() {
    let disk = SimDisk::default();
    script(&disk, &mut Came::default()).expect("an uncut run");
    disk.rot(Path::new(PATH), 3000);
    let saved = open(&disk, 3).and_then(|mut store| store.newest()).expect("it opens").expect("a generation");
    assert_eq!(samples(&saved), 140);
    assert!(saved.set_aside.is_some_and(|reason| reason.contains("checksum")));
    let mut names = disk.names();
    names.sort();
    assert_eq!(names, ["state.safetensors.1", "state.safetensors.2", "state.safetensors.damaged"]);
    let mut came = Came::default();
    script(&disk, &mut came).expect("it goes on");
    assert_eq!((came.from, came.hash), (140, Some(uncut()[&super::END])));

    // Two at once: the older serves, and of the damaged ones the newer is kept.
    disk.rot(Path::new(PATH), 3001);
    disk.rot(&generation_path(Path::new(PATH), 1), 5);
    let saved = open(&disk, 3).and_then(|mut store| store.newest()).expect("it opens").expect("a generation");
    assert_eq!(samples(&saved), 125);
    let mut names = disk.names();
    names.sort();
    assert_eq!(names, ["state.safetensors.2", "state.safetensors.damaged"]);
    assert!(nestling::store::disk::Disk::exists(&disk, &kept("state.safetensors.damaged")).expect("a disk"));

    // The last one too: nothing is touched, and it is an error, not a beginning.
    disk.rot(&generation_path(Path::new(PATH), 2), 3000);
    let refused = open(&disk, 3).and_then(|mut store| store.newest()).map(|_| ());
    assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
    assert_eq!(disk.names().len(), 2);
}

/// With two generations: one rots, learning goes on from the other, and the next one rots.
fn two_rot(mistake: Option<Mistake>) -> Result<Option<Saved>, StoreError> {
    let disk = SimDisk::with_mistake(mistake);
    with_learner(|learner| {
        let mut snapshot = Snapshot::default();
        for stop in [10, 20, 30] {
            let mut store = open(&disk, 2)?;
            store.newest()?;
            observe_to(learner, stop);
            snapshot.take(learner)?;
            store.save(&mut snapshot)?;
            if stop > 10 {
                disk.rot(Path::new(PATH), 3000);
            }
        }
        open(&disk, 2)?.newest()
    })
}

#[test]
fn a_damaged_file_never_takes_the_place_of_a_good_one() {
    assert_eq!(two_rot(None).expect("it opens").as_ref().map(samples), Some(10));
    // And this test would see it.
    assert!(two_rot(Some(Mistake::NotSetAside)).is_err());
}

#[test]
fn older_generations_are_there_to_go_back_to_and_the_chain_says_so() {
    let disk = SimDisk::default();
    script(&disk, &mut Came::default()).expect("an uncut run");
    let mut store = open(&disk, 3).expect("it opens");
    let kept: Vec<Saved> = (0..3).filter_map(|back| store.generation(back).expect("a sound one")).collect();
    assert_eq!(kept.iter().map(samples).collect::<Vec<_>>(), [159, 140, 125]);
    assert!(store.generation(3).expect("no error").is_none());
    assert_eq!((kept[0].parent, kept[1].parent), (kept[1].checksum, kept[2].checksum));
    with_learner(|learner| {
        kept[2].restore(learner).expect("the same model");
        store.follows(&kept[2]);
        store.save(&mut Snapshot::of(learner).expect("a snapshot")).expect("a disk");
    });
    let again = store.generation(0).expect("a sound one").expect("a generation");
    assert_eq!((again.parent, samples(&again)), (kept[2].checksum, 125));
    assert_eq!(options(3).generations, 3);
}
