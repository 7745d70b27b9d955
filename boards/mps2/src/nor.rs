//! NOR flash laid over a RAM of the machine: bits are cleared by writing and set by erasing whole pages, as in a chip.
//! The emulator can keep that RAM in a file, so that what was stored is there after the power was cut.

use core::ptr::{read_volatile, write_volatile};

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

/// Bytes of a page, and of the least write.
const PAGE: usize = 4096;
const WORD: usize = 4;

/// Stands behind the last page once the RAM was made an erased flash.
const FORMATTED: u32 = 0x4E4F_5221;

/// See the module.
pub struct Nor {
    base: usize,
    len: usize,
}

/// Why the flash refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(NorFlashErrorKind);

impl NorFlashError for Refused {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

impl Nor {
    /// `pages` pages from `base` on. A RAM that never was one is erased first.
    ///
    /// # Safety
    /// The machine has RAM there, one word more than the pages, which nobody else uses.
    pub unsafe fn new(base: usize, pages: usize) -> Self {
        let mut nor = Nor { base, len: pages * PAGE };
        if nor.word(nor.len) != FORMATTED {
            nor.fill(0, nor.len);
            nor.set_word(nor.len, FORMATTED);
        }
        nor
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.len
    }

    fn word(&self, at: usize) -> u32 {
        // SAFETY: within the RAM that `new` was promised; every caller checked `at` or stays within `len`.
        unsafe { read_volatile((self.base + at) as *const u32) }
    }

    fn set_word(&mut self, at: usize, value: u32) {
        // SAFETY: as above.
        unsafe { write_volatile((self.base + at) as *mut u32, value) }
    }

    fn fill(&mut self, from: usize, to: usize) {
        (from..to).step_by(WORD).for_each(|at| self.set_word(at, u32::MAX));
    }

    /// Whether `len` bytes from `offset` on are within the flash and start and end on multiples of `unit`.
    fn check(&self, offset: u32, len: usize, unit: usize) -> Result<usize, Refused> {
        let at = offset as usize;
        if at > self.len || len > self.len - at {
            Err(Refused(NorFlashErrorKind::OutOfBounds))
        } else if !at.is_multiple_of(unit) || !len.is_multiple_of(unit) {
            Err(Refused(NorFlashErrorKind::NotAligned))
        } else {
            Ok(at)
        }
    }
}

impl ErrorType for Nor {
    type Error = Refused;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Refused> {
        let at = self.check(offset, bytes.len(), 1)?;
        for (i, byte) in bytes.iter_mut().enumerate() {
            let word = self.word((at + i) / WORD * WORD);
            *byte = word.to_le_bytes()[(at + i) % WORD];
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.len
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Refused> {
        let start = self.check(from, (to as usize).saturating_sub(from as usize), PAGE)?;
        self.fill(start, to as usize);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Refused> {
        let at = self.check(offset, bytes.len(), WORD)?;
        for (i, word) in bytes.chunks_exact(WORD).enumerate() {
            let at = at + i * WORD;
            let value = word.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            self.set_word(at, self.word(at) & value);
        }
        Ok(())
    }
}
