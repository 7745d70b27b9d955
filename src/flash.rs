//! The learner's state in NOR flash: two generations, of which one is whole at every instant.
//!
//! The pages are a map of `sequential-storage`, which spreads wear and recovers from power cuts. Its keys are
//! (slot, chunk). A save writes the state in chunks into the slot that does not hold the newest generation, and last of
//! all that slot's commit record with generation, length and checksum. Opening takes the newest generation whose checksum
//! holds. Firmware decides when to save and gives the one buffer, as long as a chunk; chunks are written from where the
//! state lies in memory.
//!
//! A cut during a write may leave anything in the words that it reached. A cut during an erase may leave anything behind
//! the page's first words, but the map's own recovery wants those erased unless the whole page is as it was.

use core::ops::Range;

use embassy_futures::block_on;
use embedded_storage::nor_flash as blocking;
use embedded_storage_async::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use sequential_storage::Error as MapError;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapConfigError, MapStorage};
use serde::{Deserialize, Serialize};

use crate::learner::Learner;
use crate::link::Wear;
use crate::state::CRC;

/// A key of the map: the slot in the top bit, the number of the chunk below it.
const fn key(slot: u8, chunk: u16) -> u16 {
    (slot as u16) << 15 | chunk
}
/// The chunk number that stands for the commit record.
const COMMIT: u16 = 0x7FFF;
/// Bytes of a key.
const KEY: usize = 2;
/// Smallest buffer: a commit record with its key, in words of 32 bytes.
pub const LEAST_BUFFER: usize = 64;

/// What makes a generation valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Commit {
    generation: u32,
    /// The image that the learner began from; states of another are passed over.
    image: u32,
    samples: u64,
    chunks: u16,
    /// Bytes of all chunks but the last ones of tensors.
    chunk_len: u16,
    /// Bytes of the state and their CRC-32.
    len: u32,
    checksum: u32,
    /// Pages erased since the store was first used.
    erases: u32,
    /// Bytes written to flash by this save.
    written: u32,
}

/// Why the state cannot be kept or read. `E` is the flash driver's own error.
#[derive(Debug)]
#[non_exhaustive]
pub enum FlashError<E> {
    /// The range is not made of whole pages, or has fewer than two.
    Range(MapConfigError),
    /// The buffer is shorter than [`LEAST_BUFFER`], or than the chunks that are stored.
    Buffer { needed: usize },
    /// Two generations of this learner's state do not fit the range.
    TooSmall { pages: usize, needed: usize },
    /// The generation is of a learner with another layout.
    Model,
    /// What was just saved does not read back: the flash was not blank where it should have been, or wears out.
    ReadBack,
    /// The flash or the map on it failed.
    Map(MapError<E>),
}

impl<E: core::fmt::Debug> core::fmt::Display for FlashError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Range(problem) => {
                write!(f, "the flash range cannot be used ({problem:?}); give at least two whole pages")
            }
            Self::Buffer { needed } => write!(f, "the chunk buffer is too short; give it {needed} bytes"),
            Self::TooSmall { pages, needed } => write!(
                f,
                "the flash range has {pages} pages and two generations of the state need {needed}; give it more pages"
            ),
            Self::Model => write!(f, "the state in flash is of another model; erase the range or flash that model"),
            Self::ReadBack => write!(
                f,
                "what was saved does not read back; the generation before it is kept: save again, and replace the flash if \
                 this goes on"
            ),
            Self::Map(problem) => write!(f, "the flash failed: {problem:?}"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for FlashError<E> {}

impl<E> From<MapError<E>> for FlashError<E> {
    fn from(problem: MapError<E>) -> Self {
        match problem {
            MapError::BufferTooSmall(needed) => FlashError::Buffer { needed },
            problem => FlashError::Map(problem),
        }
    }
}

/// A generation that can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// 1 for the first save that was ever made.
    pub number: u32,
    /// Samples that the learner had taken in.
    pub samples: u64,
    /// Bytes of state.
    pub len: u32,
}

type Map<F> = MapStorage<u16, Metered<F>, Cache<Uncached, Uncached, Uncached, u16>>;

/// See the module. `F` is an asynchronous driver, or a blocking one in [`Blocking`]; calls return when they are done.
pub struct FlashStore<F: NorFlash> {
    map: Map<F>,
    image: u32,
    /// The newest generation that can be restored, and its slot.
    newest: Option<(Commit, u8)>,
    /// Of all generations that are or were begun with a record.
    last_number: u32,
    /// Pages erased before this start.
    erases_before: u32,
}

impl<F: NorFlash> FlashStore<F> {
    /// Opens the store in `range` of `flash` (bytes, whole pages) and looks for the newest generation of a learner that
    /// began from the image with checksum `image` ([`Image::checksum`](crate::image::Image::checksum)). `buffer` holds
    /// one chunk at a time; it must be no shorter than it was when the state was saved.
    ///
    /// Where the range holds no generation at all, of whatever image, it is erased unless it is blank.
    ///
    /// # Errors
    /// [`FlashError`].
    pub fn open(flash: F, range: Range<u32>, image: u32, buffer: &mut [u8]) -> Result<Self, FlashError<F::Error>> {
        if buffer.len() < LEAST_BUFFER {
            return Err(FlashError::Buffer { needed: LEAST_BUFFER });
        }
        let config = MapConfig::try_new(range).map_err(FlashError::Range)?;
        let metered = Metered { flash, erases: 0, written: 0 };
        let map = MapStorage::new(metered, config, Cache::new_uncached());
        let mut store = FlashStore { map, image, newest: None, last_number: 0, erases_before: 0 };
        store.finish_erasing(buffer)?;
        let found = match store.find_newest(buffer) {
            Err(FlashError::Map(MapError::Corrupted { .. })) => Ok(()),
            found => found,
        };
        found?;
        // Old firmware, or the pieces of a first save that was cut off.
        if store.last_number == 0 && !store.is_blank(store.map.flash_range(), buffer)? {
            block_on(store.map.erase_all())?;
        }
        Ok(store)
    }

    /// Erases pages whose erasure was cut off. The map marks a page with zeros at its start before all else, and takes a
    /// page without that mark for blank, which half an erased one is not.
    fn finish_erasing(&mut self, buffer: &mut [u8]) -> Result<(), FlashError<F::Error>> {
        /// Zero bits of the first word from which on the map takes it for marked.
        const MARKED: u32 = 4;
        let pages = self.map.flash_range();
        for start in pages.step_by(F::ERASE_SIZE) {
            let page = start..start + F::ERASE_SIZE as u32;
            let first = &mut buffer[..F::READ_SIZE];
            self.read(start, first)?;
            let zeros: u32 = first.iter().map(|byte| byte.count_zeros()).sum();
            if zeros < MARKED && !self.is_blank(page.clone(), buffer)? {
                let erased = block_on(self.map.flash().erase(page.start, page.end));
                erased.map_err(|value| MapError::Storage { value })?;
            }
        }
        Ok(())
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError<F::Error>> {
        let read = block_on(self.map.flash().read(offset, bytes));
        Ok(read.map_err(|value| MapError::Storage { value })?)
    }

    fn is_blank(&mut self, range: Range<u32>, buffer: &mut [u8]) -> Result<bool, FlashError<F::Error>> {
        let Range { start, end } = range;
        let step = buffer.len() / F::READ_SIZE * F::READ_SIZE;
        for offset in (start..end).step_by(step) {
            let part = &mut buffer[..step.min((end - offset) as usize)];
            self.read(offset, part)?;
            if part.iter().any(|&byte| byte != 0xFF) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn find_newest(&mut self, buffer: &mut [u8]) -> Result<(), FlashError<F::Error>> {
        let mut found: [Option<(Commit, u8)>; 2] = [None; 2];
        for slot in 0..2u8 {
            found[usize::from(slot)] = self.commit_of(slot, buffer)?.map(|commit| (commit, slot));
        }
        found.sort_unstable_by_key(|one| core::cmp::Reverse(one.map(|(commit, _)| commit.generation)));
        let last = found[0].map(|(commit, _)| commit);
        self.last_number = last.map_or(0, |commit| commit.generation);
        self.erases_before = last.map_or(0, |commit| commit.erases);
        for (commit, slot) in found.into_iter().flatten() {
            if commit.image == self.image && self.is_whole(&commit, slot, buffer)? {
                self.newest = Some((commit, slot));
                break;
            }
        }
        Ok(())
    }

    fn commit_of(&mut self, slot: u8, buffer: &mut [u8]) -> Result<Option<Commit>, FlashError<F::Error>> {
        let record = block_on(self.map.fetch_item::<&[u8]>(buffer, &key(slot, COMMIT)))?;
        Ok(record.and_then(|bytes| postcard::from_bytes(bytes).ok()))
    }

    /// Whether all chunks of `commit` are there and have its checksum.
    fn is_whole(&mut self, commit: &Commit, slot: u8, buffer: &mut [u8]) -> Result<bool, FlashError<F::Error>> {
        let (mut checksum, mut len) = (CRC.digest(), 0u64);
        for chunk in 0..commit.chunks {
            match block_on(self.map.fetch_item::<&[u8]>(buffer, &key(slot, chunk))) {
                Ok(Some(bytes)) => {
                    checksum.update(bytes);
                    len += bytes.len() as u64;
                }
                Ok(None) => return Ok(false),
                Err(problem) => return Err(problem.into()),
            }
        }
        Ok(len == u64::from(commit.len) && checksum.finalize() == commit.checksum)
    }

    /// What [`FlashStore::restore`] would restore.
    pub fn newest(&self) -> Option<Generation> {
        self.newest.map(|(c, _)| Generation { number: c.generation, samples: c.samples, len: c.len })
    }

    /// What saving has cost so far.
    pub fn wear(&mut self) -> Wear {
        let range = self.map.flash_range();
        Wear {
            saves: self.last_number,
            erases: self.erases_before + self.map.flash().erases,
            pages: (range.end - range.start) / F::ERASE_SIZE as u32,
            last_save: self.newest.map_or(0, |(commit, _)| commit.written),
        }
    }

    /// Gives the flash back.
    pub fn into_inner(self) -> F {
        self.map.destroy().0.flash
    }

    /// Writes the newest generation into `learner`; `false` where there is none.
    ///
    /// # Errors
    /// [`FlashError::Model`], with the learner as it was; [`FlashError::Map`], after which it must not be used.
    pub fn restore(&mut self, learner: &mut Learner, buffer: &mut [u8]) -> Result<bool, FlashError<F::Error>> {
        let Some((commit, slot)) = self.newest else { return Ok(false) };
        let chunk_len = usize::from(commit.chunk_len);
        if buffer.len() < chunk_len + KEY {
            return Err(FlashError::Buffer { needed: chunk_len + KEY });
        }
        if chunk_len == 0 || Layout::of(learner, chunk_len) != Layout::stored(&commit) {
            return Err(FlashError::Model);
        }
        let (mut chunk, mut problem) = (0, None);
        learner.visit_state(|_, mut numbers| {
            for part in numbers.bytes().chunks_mut(chunk_len) {
                match block_on(self.map.fetch_item::<&[u8]>(buffer, &key(slot, chunk))) {
                    Ok(Some(bytes)) if bytes.len() == part.len() => part.copy_from_slice(bytes),
                    Ok(_) => problem = Some(FlashError::Model),
                    Err(failure) => problem = Some(failure.into()),
                }
                chunk += 1;
            }
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        learner.restored();
        Ok(true)
    }

    /// Saves the state of `learner` as the newest generation, and reads it back.
    ///
    /// # Errors
    /// [`FlashError::TooSmall`] before anything is written; [`FlashError::Map`], [`FlashError::ReadBack`]. The generation
    /// before is untouched.
    pub fn save(&mut self, learner: &mut Learner, buffer: &mut [u8]) -> Result<Generation, FlashError<F::Error>> {
        if buffer.len() < LEAST_BUFFER {
            return Err(FlashError::Buffer { needed: LEAST_BUFFER });
        }
        let chunk_len = chunk_len::<F>(buffer.len());
        let range = self.map.flash_range();
        let pages = (range.end - range.start) as usize / F::ERASE_SIZE;
        let needed = pages_needed::<F>(learner, chunk_len);
        let layout = Layout::of(learner, chunk_len);
        let chunks = u16::try_from(layout.chunks).ok().filter(|&chunks| chunks < COMMIT && needed <= pages);
        let Some(chunks) = chunks else { return Err(FlashError::TooSmall { pages, needed }) };

        let slot = self.newest.map_or(0, |(_, slot)| 1 - slot);
        let written_before = self.map.flash().written;
        let (mut chunk, mut checksum, mut problem) = (0, CRC.digest(), None);
        learner.visit_state(|_, mut numbers| {
            for part in numbers.bytes().chunks(chunk_len) {
                if problem.is_none() {
                    checksum.update(part);
                    problem = block_on(self.map.store_item(buffer, &key(slot, chunk), &part)).err();
                    chunk += 1;
                }
            }
        });
        if let Some(problem) = problem {
            return Err(problem.into());
        }
        let commit = Commit {
            generation: self.last_number + 1,
            image: self.image,
            samples: learner.counters().observed,
            chunks,
            chunk_len: chunk_len as u16,
            len: layout.len as u32,
            checksum: checksum.finalize(),
            erases: self.erases_before + self.map.flash().erases,
            written: self.map.flash().written - written_before,
        };
        let mut record = [0; LEAST_BUFFER - KEY];
        let record: &[u8] = postcard::to_slice(&commit, &mut record).map_or(&[], |bytes| bytes);
        block_on(self.map.store_item(buffer, &key(slot, COMMIT), &record))?;
        if self.commit_of(slot, buffer)? != Some(commit) || !self.is_whole(&commit, slot, buffer)? {
            return Err(FlashError::ReadBack);
        }
        self.newest = Some((commit, slot));
        self.last_number = commit.generation;
        Ok(Generation { number: commit.generation, samples: commit.samples, len: commit.len })
    }
}

/// Chunks and bytes of a state.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Layout {
    chunks: usize,
    len: usize,
}

impl Layout {
    fn of(learner: &mut Learner, chunk_len: usize) -> Self {
        let mut layout = Layout { chunks: 0, len: 0 };
        learner.visit_state(|_, mut numbers| {
            let len = numbers.bytes().len();
            layout.chunks += len.div_ceil(chunk_len);
            layout.len += len;
        });
        layout
    }

    fn stored(commit: &Commit) -> Self {
        Layout { chunks: usize::from(commit.chunks), len: commit.len as usize }
    }
}

/// Bytes of a page that items can take: all but the two words that say how full it is.
const fn page_room<F: NorFlash>() -> usize {
    F::ERASE_SIZE - 2 * word::<F>()
}

/// The unit in which the map writes.
const fn word<F: NorFlash>() -> usize {
    if F::WRITE_SIZE > F::READ_SIZE { F::WRITE_SIZE } else { F::READ_SIZE }
}

/// Bytes that a chunk of `len` bytes takes of a page.
fn item_len<F: NorFlash>(len: usize) -> usize {
    Map::<F>::item_overhead_size() as usize + (KEY + len).next_multiple_of(word::<F>())
}

/// The longest chunk for a buffer of `buffer` bytes of which a whole number fills a page.
fn chunk_len<F: NorFlash>(buffer: usize) -> usize {
    let overhead = Map::<F>::item_overhead_size() as usize;
    let longest = buffer / word::<F>() * word::<F>();
    let each = page_room::<F>().div_ceil(overhead + longest);
    let item = page_room::<F>() / each / word::<F>() * word::<F>();
    (item - overhead - KEY).min(usize::from(u16::MAX) - KEY)
}

/// Pages for two generations of `learner` in chunks of `chunk_len`, and the two that the map keeps free to turn over.
fn pages_needed<F: NorFlash>(learner: &mut Learner, chunk_len: usize) -> usize {
    let (mut pages, mut room) = (0, 0);
    let mut put = |len: usize| {
        let item = item_len::<F>(len);
        if item > room {
            pages += 1;
            room = page_room::<F>();
        }
        room = room.saturating_sub(item);
    };
    learner.visit_state(|_, mut numbers| numbers.bytes().chunks(chunk_len).for_each(|part| put(part.len())));
    put(LEAST_BUFFER - KEY);
    2 * pages + 2
}

/// A blocking flash driver (`embedded-storage`) as the store takes it.
pub struct Blocking<F>(pub F);

impl<F: blocking::ErrorType> ErrorType for Blocking<F> {
    type Error = F::Error;
}

impl<F: blocking::ReadNorFlash> ReadNorFlash for Blocking<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: blocking::NorFlash> NorFlash for Blocking<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        self.0.erase(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.0.write(offset, bytes)
    }
}

/// Counts what passes through it.
struct Metered<F> {
    flash: F,
    erases: u32,
    written: u32,
}

impl<F: ErrorType> ErrorType for Metered<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Metered<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.flash.read(offset, bytes).await
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl<F: NorFlash> NorFlash for Metered<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        self.erases = self.erases.wrapping_add((to - from) / F::ERASE_SIZE as u32);
        self.flash.erase(from, to).await
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.written = self.written.wrapping_add(bytes.len() as u32);
        self.flash.write(offset, bytes).await
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
