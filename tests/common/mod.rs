//! What several whole-system tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use nestling::learner::{Did, Join, Learner, Options};
use nestling::net::spec::Spec;
use nestling::sample::{Micros, Sample, Seed, Values};

pub mod counting {
    //! An allocator that counts, for this thread alone, so that tests side by side do not disturb each other.

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    pub struct Allocator;

    thread_local! {
        static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
        static BYTES: Cell<usize> = const { Cell::new(0) };
        static LARGEST: Cell<usize> = const { Cell::new(0) };
    }

    // SAFETY: every call is handed to the system's allocator unchanged.
    unsafe impl GlobalAlloc for Allocator {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
            let _ = BYTES.try_with(|n| n.set(n.get().wrapping_add(layout.size())));
            let _ = LARGEST.try_with(|n| n.set(n.get().max(layout.size())));
            // SAFETY: the caller's promises are those of `System`.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            let _ = BYTES.try_with(|n| n.set(n.get().wrapping_sub(layout.size())));
            // SAFETY: as above.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    /// Allocations of this thread so far.
    pub fn allocations() -> u64 {
        ALLOCATIONS.with(Cell::get)
    }

    /// Bytes of the largest allocation of this thread since this was last asked.
    pub fn largest() -> usize {
        LARGEST.with(|n| n.replace(0))
    }

    /// Bytes that this thread has allocated and not freed.
    pub fn bytes() -> usize {
        BYTES.with(Cell::get)
    }
}

pub fn options(lanes: usize, expected_samples: Option<u64>) -> Options {
    Options { expected_samples, lanes, ..Options::new(Seed(7)) }
}

/// A learner's model, options and memory.
pub struct Run {
    spec: Spec,
    options: Options,
    memory: Vec<u8>,
}

impl Run {
    pub fn new(spec: &Spec, lanes: usize, expected_samples: Option<u64>) -> Self {
        let options = options(lanes, expected_samples);
        let plan = Learner::plan(spec, &options).expect("a sound plan");
        Run { spec: spec.clone(), options, memory: vec![0; plan.block_len()] }
    }

    pub fn with<R>(&mut self, f: impl FnOnce(&mut Learner) -> R) -> R {
        f(&mut Learner::new(&self.spec, &self.options, &mut self.memory).expect("enough memory"))
    }
}

/// A stream of moving colour gratings.
pub struct Gratings {
    side: usize,
    number: u64,
    pixels: Vec<u8>,
    /// Give one constant frame from now on.
    pub covered: bool,
}

impl Gratings {
    pub fn new(side: usize) -> Self {
        Gratings { side, number: 0, pixels: vec![0; side * side * 3], covered: false }
    }

    /// Goes on as if `count` frames had been given.
    pub fn skip(&mut self, count: u64) {
        self.number += count;
    }

    /// The next frame.
    pub fn sample(&mut self) -> Sample<'_> {
        let n = self.number;
        self.number += 1;
        for (i, p) in self.pixels.iter_mut().enumerate() {
            let (y, x, c) = ((i / 3 / self.side) as u64, (i / 3 % self.side) as u64, (i % 3) as u64);
            // What it is stays for eight frames; where it is changes with each.
            let what = n / 8;
            let phase = x * (what % 11 + 1) * 5 + y * (what % 13) * 7 + n * n % 251 + c * (what % 6) * 31;
            let wave = if phase % 256 < 128 { phase % 256 * 2 } else { 511 - phase % 256 * 2 };
            *p = if self.covered { 90 } else { wave as u8 };
        }
        let values = Values::Image { pixels: &self.pixels, height: self.side, width: self.side, channels: 3 };
        Sample { values, time: Micros(n * 50_000), segment: (n / 300) as u32 }
    }

    /// Lets the learner take in the next frame.
    pub fn observe(&mut self, learner: &mut Learner) {
        learner.observe(&self.sample()).expect("a fitting sample");
    }

    /// Lets the learner take in `count` frames and do all that is due.
    pub fn feed(&mut self, learner: &mut Learner, count: u64, join: &impl Join) {
        for _ in 0..count {
            self.observe(learner);
            while learner.step(join) != Did::Idle {}
        }
    }
}
