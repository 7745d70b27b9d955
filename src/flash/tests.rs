use super::*;
use crate::fixed::random::Draws;
use crate::learner::{Alone, Did, Options};
use crate::net::spec::Spec;
use crate::sample::{Micros, Sample, Seed, Values};
use crate::state;
use crate::state::Hash;

/// The power is off.
#[derive(Debug, PartialEq, Eq)]
struct Cut;

impl blocking::NorFlashError for Cut {
    fn kind(&self) -> blocking::NorFlashErrorKind {
        blocking::NorFlashErrorKind::Other
    }
}

/// How far the operation comes during which the power goes.
#[derive(Clone, Copy, Debug)]
enum Reached {
    Nothing,
    /// Some words or half of the page; what lies at the edge holds anything.
    Half,
    /// All of it; but the caller never hears of it.
    All,
}

/// A NOR flash: words of `W` bytes that turn from 1 to 0 and are written once, pages of `P` bytes that turn back to 1.
#[derive(Clone)]
struct Chip<const W: usize, const P: usize> {
    bytes: Vec<u8>,
    /// Words written since their page was erased.
    used: Vec<bool>,
    erases: Vec<u32>,
    /// Writes and erases so far, and the one at which the power goes.
    operations: usize,
    cut: Option<(usize, Reached)>,
}

impl<const W: usize, const P: usize> Chip<W, P> {
    fn new(pages: usize) -> Self {
        let (bytes, used) = (vec![0xFF; pages * P], vec![false; pages * P / W]);
        Chip { bytes, used, erases: vec![0; pages], operations: 0, cut: None }
    }

    fn is_off(&self) -> bool {
        self.cut.is_some_and(|(at, _)| self.operations > at)
    }

    /// Counts an operation; what is to be done of it.
    fn begin(&mut self) -> Result<Option<Reached>, Cut> {
        if self.is_off() {
            return Err(Cut);
        }
        self.operations += 1;
        Ok(self.cut.filter(|(at, _)| self.operations > *at).map(|(_, reached)| reached))
    }

    fn noise(&self, at: usize) -> u8 {
        Draws::new(Seed(9), self.operations as u64, 0).bits(at as u32) as u8
    }

    fn write_word(&mut self, at: usize, word: &[u8], mask: impl Fn(usize) -> u8) {
        assert!(!std::mem::replace(&mut self.used[at / W], true), "the word at {at} is written twice");
        for (i, byte) in word.iter().enumerate() {
            self.bytes[at + i] &= byte | mask(at + i);
        }
    }
}

impl<const W: usize, const P: usize> blocking::ErrorType for Chip<W, P> {
    type Error = Cut;
}

impl<const W: usize, const P: usize> blocking::ReadNorFlash for Chip<W, P> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Cut> {
        if self.is_off() {
            return Err(Cut);
        }
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const W: usize, const P: usize> blocking::NorFlash for Chip<W, P> {
    const WRITE_SIZE: usize = W;
    const ERASE_SIZE: usize = P;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Cut> {
        let (from, to) = (from as usize, to as usize);
        assert!(from.is_multiple_of(P) && to.is_multiple_of(P) && to <= self.bytes.len());
        let reached = self.begin()?;
        let half = from + (to - from) / 2;
        let torn = match reached {
            None | Some(Reached::All) => to..to,
            Some(Reached::Half) => half..to,
            Some(Reached::Nothing) => return Err(Cut),
        };
        self.bytes[from..to].fill(0xFF);
        torn.for_each(|at| self.bytes[at] = self.noise(at));
        // A page that was erased in part must be erased again before it is written.
        self.used[from / W..to / W].fill(reached.is_some_and(|r| matches!(r, Reached::Half)));
        (from / P..to / P).for_each(|page| self.erases[page] += 1);
        reached.map_or(Ok(()), |_| Err(Cut))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Cut> {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(W) && bytes.len().is_multiple_of(W));
        let reached = self.begin()?;
        let words = bytes.len() / W;
        let whole = match reached {
            None | Some(Reached::All) => words,
            Some(Reached::Half) => words / 2,
            Some(Reached::Nothing) => 0,
        };
        for (n, word) in bytes.chunks(W).enumerate().take(whole) {
            self.write_word(offset + n * W, word, |_| 0);
        }
        if let Some(Reached::Half) = reached {
            let (at, noise) = (offset + whole * W, self.noise(whole));
            self.write_word(at, &bytes[whole * W..][..W], |i| noise.rotate_left(i as u32));
            // A torn word may read as if it had never been written, and is then written again.
            self.used[at / W] = false;
        }
        reached.map_or(Ok(()), |_| Err(Cut))
    }
}

const SAMPLES: u64 = 60;
const IMAGE: u32 = 77;

/// A dictionary alone: a few hundred bytes of state in pieces of every length.
fn spec() -> Spec {
    let text = "name = 's'\n[input]\nheight = 8\nwidth = 8\nchannels = 1\n[[layer]]\nkind = 'dictionary'\nfilters = 4\n\
                kernel = 3\nstride = 2\n[dictionary]\nsamples = 40\n[guard]\ncanaries = 0\n";
    crate::model::parse("small", text).expect("a sound model")
}

fn with_learner<R>(test: impl FnOnce(&mut Learner) -> R) -> R {
    let options = Options { expected_samples: Some(SAMPLES), ..Options::new(Seed(3)) };
    let mut memory = vec![0; Learner::plan(&spec(), &options).expect("a sound model").block_len()];
    test(&mut Learner::new(&spec(), &options, &mut memory).expect("enough memory"))
}

fn observe(learner: &mut Learner) {
    let n = learner.counters().observed;
    let pixels: Vec<u8> = (0..64).map(|i| ((n * 37 + i * (n % 7 + 1)) % 251) as u8).collect();
    let values = Values::Image { pixels: &pixels, height: 8, width: 8, channels: 1 };
    learner.observe(&Sample { values, time: Micros(n), segment: 0 }).expect("a fitting sample");
    while learner.step(&Alone) != Did::Idle {}
}

fn open<F: blocking::NorFlash>(flash: F, buffer: &mut [u8]) -> Result<FlashStore<Blocking<F>>, FlashError<F::Error>> {
    let end = flash.capacity() as u32;
    FlashStore::open(Blocking(flash), 0..end, IMAGE, buffer)
}

/// What happened from one start of the board to the next.
#[derive(Debug)]
struct Day {
    /// Samples in the state that it began with, and in the last one saved.
    restored: u64,
    saved: u64,
    /// Of the end of the stream, where it came so far.
    end: Option<Hash>,
}

/// Starts the board: restores, learns on from there, saves after every second sample.
fn live<const W: usize, const P: usize>(chip: &mut Chip<W, P>) -> Day {
    chip.operations = 0;
    with_learner(|learner| {
        let mut day = Day { restored: 0, saved: 0, end: None };
        let mut go = || -> Result<Hash, FlashError<Cut>> {
            let buffer = &mut [0; 64 + 2 * 32];
            let mut store = open(&mut *chip, buffer)?;
            store.restore(learner, buffer)?;
            day.restored = learner.counters().observed;
            while learner.counters().observed < SAMPLES {
                observe(learner);
                if learner.counters().observed % 2 == 0 {
                    day.saved = store.save(learner, buffer)?.samples;
                }
            }
            Ok(state::hash(learner))
        };
        match go() {
            Ok(hash) => day.end = Some(hash),
            Err(FlashError::Map(MapError::Storage { value: Cut })) => {}
            Err(problem) => panic!("{problem}"),
        }
        day
    })
}

/// The power goes at every operation of the flash in turn, in three ways; then, while the board recovers from that, at
/// every operation of its next day too.
fn survives_a_cut_at_every_operation<const W: usize, const P: usize>(pages: usize) {
    let mut uncut = Chip::<W, P>::new(pages);
    let end = live(&mut uncut).end.expect("nothing cuts it");
    assert_eq!(
        end,
        with_learner(|learner| {
            (0..SAMPLES).for_each(|_| observe(learner));
            state::hash(learner)
        })
    );
    assert!(uncut.erases.iter().sum::<u32>() as usize > pages, "the run is to turn the pages over: {:?}", uncut.erases);
    let mut days = 0;
    for at in 0..uncut.operations {
        for reached in [Reached::Nothing, Reached::Half, Reached::All] {
            let mut chip = Chip::<W, P>::new(pages);
            chip.cut = Some((at, reached));
            let first = live(&mut chip);
            assert_eq!(first.end, None, "the power went at {at}");
            let mut last = chip.clone();
            last.cut = None;
            let second = live(&mut last);
            assert!(second.restored >= first.saved, "{reached:?} at {at}: a save that was made is lost");
            assert_eq!(second.end, Some(end), "{reached:?} at {at}");
            days += 1;
            // A second cut, at every operation until what was lost is saved again.
            let again = if at % 31 == 0 { last.operations.min(25) } else { 0 };
            for at_again in 0..again {
                let mut chip = chip.clone();
                chip.cut = Some((at_again, Reached::Half));
                let second = live(&mut chip);
                chip.cut = None;
                let third = live(&mut chip);
                assert!(
                    third.restored >= first.saved.max(second.saved),
                    "{reached:?} at {at}, then at {at_again}: {first:?} {second:?} {third:?} {}",
                    chip.operations
                );
                assert_eq!(third.end, Some(end), "{reached:?} at {at}, then at {at_again}");
                days += 1;
            }
        }
    }
    println!("words of {W}, {pages} pages of {P}: {} operations, {days} cuts", uncut.operations);
}

#[test]
fn no_cut_of_power_loses_a_save_or_changes_a_bit_with_words_of_1() {
    survives_a_cut_at_every_operation::<1, 512>(8);
}

#[test]
fn no_cut_of_power_loses_a_save_or_changes_a_bit_with_words_of_4() {
    survives_a_cut_at_every_operation::<4, 512>(9);
}

#[test]
fn no_cut_of_power_loses_a_save_or_changes_a_bit_with_words_of_8() {
    survives_a_cut_at_every_operation::<8, 1024>(6);
}

#[test]
fn no_cut_of_power_loses_a_save_or_changes_a_bit_with_words_of_32() {
    survives_a_cut_at_every_operation::<32, 2048>(6);
}

#[test]
fn wear_is_spread_over_the_pages_and_a_save_writes_little_more_than_the_state() {
    let mut chip = Chip::<4, 512>::new(16);
    let wear = with_learner(|learner| {
        let buffer = &mut [0; 128];
        let mut store = open(&mut chip, buffer).expect("a blank chip");
        for _ in 0..500 {
            observe(learner);
            store.save(learner, buffer).expect("room");
        }
        (store.wear(), state::len(learner))
    });
    let (wear, len) = wear;
    let (least, most) = (chip.erases.iter().min(), chip.erases.iter().max());
    println!("500 saves of {len} bytes: {wear:?}, erases a page {least:?} to {most:?}");
    assert_eq!((wear.saves, wear.pages), (500, 16));
    // The commit record was counted before it was written; at most one page was turned over for it.
    assert!(chip.erases.iter().sum::<u32>() - wear.erases <= 1);
    assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{:?}", chip.erases);
    assert!((wear.last_save as usize) < len + len / 2, "{wear:?} for {len} bytes");
}

#[test]
fn a_state_is_kept_for_the_image_that_it_began_from() {
    let mut chip = Chip::<4, 512>::new(16);
    let buffer = &mut [0; 128];
    with_learner(|learner| {
        let mut store = open(&mut chip, buffer).expect("a blank chip");
        assert_eq!((store.newest(), store.restore(learner, buffer).ok()), (None, Some(false)));
        observe(learner);
        store.save(learner, buffer).expect("room");
        let mut other = FlashStore::open(Blocking(&mut chip), 0..16 * 512, IMAGE + 1, buffer).expect("a store");
        assert_eq!(other.newest(), None);
        // The board was flashed with another image: its first save is the third generation's number two.
        assert_eq!(other.save(learner, buffer).expect("room").number, 2);
    });
}

#[test]
fn what_is_no_store_is_erased_and_used() {
    let mut chip = Chip::<4, 512>::new(16);
    (0..chip.bytes.len()).for_each(|at| chip.bytes[at] = chip.noise(at));
    chip.used.fill(true);
    let buffer = &mut [0; 128];
    with_learner(|learner| {
        let mut store = open(&mut chip, buffer).expect("erased");
        assert_eq!(store.newest(), None);
        observe(learner);
        store.save(learner, buffer).expect("room");
        let store = open(&mut chip, buffer).expect("a store");
        assert_eq!(store.newest().map(|g| g.samples), Some(1));
    });
}

#[test]
fn mistakes_are_told_before_anything_is_written() {
    let buffer = &mut [0; 128];
    let mut chip = Chip::<4, 512>::new(4);
    with_learner(|learner| {
        let mut store = open(&mut chip, buffer).expect("a blank chip");
        let refusal = store.save(learner, buffer).expect_err("too few pages");
        assert!(matches!(refusal, FlashError::TooSmall { pages: 4, needed: 6.. }), "{refusal}");
        assert!(matches!(store.save(learner, &mut [0; 60]), Err(FlashError::Buffer { needed: 64 })));
        assert!(matches!(FlashStore::open(Blocking(&mut chip), 0..512, 1, buffer), Err(FlashError::Range(_))));
        assert_eq!(chip.operations, 0);
    });
    let mut chip = Chip::<4, 512>::new(16);
    with_learner(|learner| {
        open(&mut chip, buffer).and_then(|mut store| store.save(learner, buffer)).expect("room");
        let shorter = open(&mut chip, &mut buffer[..64]).err();
        assert!(matches!(shorter, Some(FlashError::Buffer { needed: 65.. })), "{shorter:?}");
    });
}
