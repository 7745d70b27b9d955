//! The store over a disk whose power is cut at every call, that tears what was not synced, that is full, read-only or fails.
//!
//! The script of all these tests: a small learner is saved eight times and learns to the end. Whatever happens, it must open
//! at the last save that was acknowledged or at the one that was being written, and go on to the hash of the uncut run.

mod common;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/files.rs"]
mod files;
#[path = "store/sim.rs"]
mod sim;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use nestling::learner::{Alone, Did, Learner, Options};
use nestling::model;
use nestling::net::spec::Spec;
use nestling::sample::{Micros, Sample, Seed, Values};
use nestling::state::{self, Hash};
use nestling::store::{Saved, Snapshot, Store, StoreError, StoreOptions};
use sim::{Mistake, SimDisk};

#[global_allocator]
static ALLOCATOR: common::counting::Allocator = common::counting::Allocator;

const PATH: &str = "robot/state.safetensors";
/// Samples after which the script saves, and its end. The dictionary is learned from the first 40, lessons end every 40.
const SAVES: [u64; 8] = [10, 39, 40, 45, 90, 125, 140, 159];
const END: u64 = 160;

fn small() -> Spec {
    let text = "name = 's'\n[input]\nkind = 'image'\nheight = 12\nwidth = 12\nchannels = 1\n\
                [[layer]]\nkind = 'dictionary'\nfilters = 8\nkernel = 3\nstride = 2\n\
                [[layer]]\nfilters = 8\nstride = 2\n[dictionary]\nsamples = 40\n\
                [pretext]\nbatch = 4\nhidden = 8\noutputs = 8\nsamples_per_step = 4\n\
                [replay]\ncapacity = 32\nfresh = 2\n[guard]\nlesson_steps = 10\ncanaries = 8\n";
    model::parse("small", text).expect("a sound model")
}

fn with_learner<R>(f: impl FnOnce(&mut Learner) -> R) -> R {
    let options = Options { expected_samples: Some(END), ..Options::new(Seed(3)) };
    let mut memory = vec![0; Learner::plan(&small(), &options).expect("a sound plan").block_len()];
    f(&mut Learner::new(&small(), &options, &mut memory).expect("enough memory"))
}

fn observe_to(learner: &mut Learner, end: u64) {
    for n in learner.counters().observed..end {
        let pixels: Vec<u8> = (0..144).map(|i| ((n * 37 + i * (n % 7 + 1)) % 251) as u8).collect();
        let values = Values::Image { pixels: &pixels, height: 12, width: 12, channels: 1 };
        learner.observe(&Sample { values, time: Micros(n), segment: 0 }).expect("a fitting sample");
        while learner.step(&Alone) != Did::Idle {}
    }
}

/// The hash of the uncut run at each save, at its end, and at its beginning.
fn uncut() -> BTreeMap<u64, Hash> {
    let stops = [&[0], &SAVES[..], &[END]].concat();
    with_learner(|learner| {
        let hash = |stop: &u64| {
            observe_to(learner, *stop);
            (*stop, state::hash(learner))
        };
        stops.iter().map(hash).collect()
    })
}

fn options(generations: usize) -> StoreOptions {
    StoreOptions { generations, bytes_per_hour: None }
}

fn open(disk: &SimDisk, generations: usize) -> Result<Store, StoreError> {
    Store::over(Box::new(disk.clone()), Path::new(PATH), &options(generations))
}

fn samples(saved: &Saved) -> u64 {
    saved.metadata["samples"].parse().expect("a number")
}

/// How far the script came.
#[derive(Debug, Default)]
struct Came {
    /// Samples of the state that it began with, of the last save that was acknowledged, and of the one that was begun.
    from: u64,
    acknowledged: u64,
    begun: u64,
    hash: Option<Hash>,
}

/// Runs the script on `disk` from where its store is until it ends or something fails.
fn script(disk: &SimDisk, came: &mut Came) -> Result<(), StoreError> {
    let mut store = open(disk, 3)?;
    let saved = store.newest()?;
    with_learner(|learner| {
        if let Some(saved) = &saved {
            assert_eq!(saved.set_aside, None, "a power cut alone damages no file that has a name");
            saved.restore(learner)?;
            store.follows(saved);
            came.from = learner.counters().observed;
        }
        (came.acknowledged, came.begun) = (came.from, came.from);
        let mut snapshot = Snapshot::default();
        for stop in SAVES.into_iter().filter(|&stop| stop > came.from) {
            observe_to(learner, stop);
            snapshot.take(learner)?;
            came.begun = stop;
            store.save(&mut snapshot)?;
            came.acknowledged = stop;
        }
        observe_to(learner, END);
        came.hash = Some(state::hash(learner));
        Ok(())
    })
}

/// Whether the script goes on from `image` as it must after a cut that came at `cut`.
fn recovers(image: &SimDisk, cut: &Came, uncut: &BTreeMap<u64, Hash>) -> Result<(), String> {
    let opened = open(image, 3).and_then(|mut store| store.newest()).map_err(|e| format!("does not open: {e}"))?;
    if let Some(reason) = opened.as_ref().and_then(|saved| saved.set_aside.as_ref()) {
        return Err(format!("the newest is torn: {reason}"));
    }
    let from = opened.as_ref().map_or(0, samples);
    if from != cut.acknowledged && from != cut.begun {
        return Err(format!("opens at {from} samples, and {} were acknowledged", cut.acknowledged));
    }
    let state_hash = opened.map_or(uncut[&0].to_string(), |saved| saved.metadata["state_hash"].clone());
    if state_hash != uncut[&from].to_string() {
        return Err(format!("opens at a state of {from} samples that never was"));
    }
    let mut came = Came::default();
    script(image, &mut came).map_err(|e| format!("does not go on: {e}"))?;
    if came.hash != Some(uncut[&END]) {
        return Err(format!("goes on from {from} samples to another hash"));
    }
    let strange: Vec<_> = image.names().into_iter().filter(|name| name.ends_with("new")).collect();
    if strange.is_empty() { Ok(()) } else { Err(format!("{strange:?} are left")) }
}

/// Cuts the script after every call that changes something, on a disk with `mistake`; cut points and disks tried, or what
/// the first one came to that did not recover.
fn cut_everywhere(mistake: Option<Mistake>, uncut: &BTreeMap<u64, Hash>) -> Result<(usize, usize, usize), String> {
    let whole = SimDisk::with_mistake(mistake);
    script(&whole, &mut Came::default()).expect("an uncut run");
    let cuts = whole.counts().0;
    let (mut images, mut different) = (0, HashSet::new());
    for cut in 0..=cuts {
        let disk = SimDisk::with_mistake(mistake);
        disk.cut_after(cut);
        let mut came = Came::default();
        let ended = script(&disk, &mut came);
        assert_eq!(ended.is_ok(), cut == cuts, "cut {cut}: {ended:?}");
        for image in disk.after_power_cut() {
            images += 1;
            // The same disk after another cut may have to open elsewhere.
            if different.insert((image.fingerprint(), came.acknowledged, came.begun)) {
                recovers(&image, &came, uncut).map_err(|problem| format!("cut {cut} of {cuts}: {problem}"))?;
            }
        }
    }
    Ok((cuts + 1, images, different.len()))
}

#[test]
fn any_call_can_be_the_last() {
    let (cuts, images, different) = cut_everywhere(None, &uncut()).unwrap_or_else(|problem| panic!("{problem}"));
    println!(
        "{cuts} cut points, {images} disks after them, {different} of these different: all go on to the uncut hash"
    );
    assert!(cuts > 60 && different > 500, "{cuts} {different}");
}

#[test]
fn a_store_that_makes_a_mistake_is_found_out() {
    let uncut = uncut();
    for mistake in [
        Mistake::FileNotSynced,
        Mistake::FileSyncedTooSoon,
        Mistake::FolderNotSynced,
        Mistake::FolderAboveNotSynced,
        Mistake::InPlace,
    ] {
        match cut_everywhere(Some(mistake), &uncut) {
            Err(problem) => println!("{mistake:?} is found: {problem}"),
            Ok(_) => panic!("{mistake:?} is not found"),
        }
    }
}

/// A run that is cut again and again at places drawn by `seed`, until it ends; how often that was.
fn cut_again_and_again(seed: u64, uncut: &BTreeMap<u64, Hash>) -> u64 {
    let mut draw = seed;
    let mut below = |n: usize| {
        draw = draw.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (draw >> 33) as usize % n
    };
    let (mut disk, mut safe) = (SimDisk::default(), 0);
    for cuts in 0.. {
        disk.cut_after(below(150));
        let mut came = Came { acknowledged: safe, begun: safe, ..Came::default() };
        if script(&disk, &mut came).is_ok() {
            assert_eq!(came.hash, Some(uncut[&END]), "seed {seed}");
            return cuts;
        }
        let images = disk.after_power_cut();
        let image = images[below(images.len())].clone();
        let opened = open(&image, 3).and_then(|mut store| store.newest()).expect("a store that opens");
        let from = opened.map_or(0, |saved| samples(&saved));
        assert!(from == came.acknowledged || from == came.begun, "seed {seed}: {from}, {came:?}");
        (disk, safe) = (image, from);
    }
    unreachable!("the loop has no end")
}

#[test]
fn a_run_that_is_cut_again_and_again_ends_at_the_hash_of_the_uncut_one() {
    let uncut = uncut();
    let cuts: u64 = (0..200).map(|seed| cut_again_and_again(seed, &uncut)).sum();
    println!("200 runs with {cuts} cuts in all");
    assert!(cuts > 400, "{cuts}");
}
