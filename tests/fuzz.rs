//! The fuzz targets without a fuzzer: the kept inputs, and mutations of them that a seed decides. `.ci/fuzz.sh` goes
//! deeper. `NESTLING_FUZZ_RUNS` sets how many mutations a target gets.

use std::path::Path;

use nestling::fixed::random::Draws;
use nestling::sample::Seed;

#[path = "../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../fuzz/src/targets.rs"]
mod targets;

/// Numbers at which code changes its mind.
const ODD: [u64; 10] = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX];
const LONGEST: usize = 1 << 14;

fn kept(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| std::fs::read(path).expect("a kept input");
    paths.iter().map(read).chain(seeds::seeds(name)).collect()
}

/// One of `inputs`, changed in a few places.
fn mutated(inputs: &[Vec<u8>], number: u64) -> Vec<u8> {
    let draws = Draws::new(Seed(6), number, 0);
    let any = |element: u32, below: usize| draws.below(element, below.max(1) as u32) as usize;
    let mut bytes = inputs[any(0, inputs.len())].clone();
    for change in 0..1 + draws.below(1, 4) {
        let [what, at, length, value] = [0, 1, 2, 3].map(|i| 8 + 4 * change + i);
        let at = any(at, bytes.len());
        let end = (at + 1 + any(length, 8)).min(bytes.len());
        match draws.below(what, 8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << draws.below(value, 8),
            2 if at < bytes.len() => bytes[at] = draws.bits(value) as u8,
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let odd = ODD[any(value, ODD.len())].to_le_bytes();
                bytes[at..end].iter_mut().zip(odd).for_each(|(byte, odd)| *byte = odd);
            }
            6 => bytes.truncate(at),
            _ => {
                let other = &inputs[any(value, inputs.len())];
                let from = any(length, other.len());
                bytes.truncate(at);
                bytes.extend(&other[from.min(other.len())..]);
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

#[test]
fn no_input_kept_or_changed_makes_a_target_panic() {
    let runs = std::env::var("NESTLING_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(300);
    std::thread::scope(|scope| {
        for target in targets::TARGETS {
            scope.spawn(move || {
                let inputs = kept(target.name);
                assert!(!inputs.is_empty(), "{} has seeds", target.name);
                let all = inputs.iter().cloned().chain((0..runs).map(|number| mutated(&inputs, number)));
                for (number, input) in all.enumerate() {
                    let run = std::panic::catch_unwind(|| (target.run)(&input));
                    if run.is_err() {
                        let path = std::env::temp_dir().join(format!("nestling-fuzz-{}-{number}", target.name));
                        std::fs::write(&path, &input).expect("room");
                        panic!("target {}: input {number}, written to {}", target.name, path.display());
                    }
                }
                println!("{:10} {} kept inputs, {runs} changed ones", target.name, inputs.len());
            });
        }
    });
}
