//! All memory of a learner, taken from one block before the first sample.
//!
//! The same code that takes the memory counts it: [`Arena::counting`] hands out nothing and adds up the bytes, so the
//! plan and the learner cannot disagree. Buffers that live at different times share bytes by taking them from the same
//! remainder again; the borrow checker proves that no two live ones overlap.

use bytemuck::Pod;

/// Alignment of every buffer: a cache line.
pub const ALIGNMENT: usize = 64;

/// Takes typed buffers from a block of bytes.
pub struct Arena<'m> {
    /// `None` while counting.
    rest: Option<&'m mut [u8]>,
    used: usize,
    zeroed: bool,
}

/// Bytes that `len` numbers of type `T` take, with padding to the alignment.
const fn bytes_of<T>(len: usize) -> usize {
    (len * size_of::<T>()).div_ceil(ALIGNMENT) * ALIGNMENT
}

impl<'m> Arena<'m> {
    /// Counts only; every buffer taken is empty.
    pub fn counting() -> Self {
        Arena { rest: None, used: 0, zeroed: true }
    }

    /// Takes from `memory`; see [`Arena::block_len`].
    pub fn over(memory: &'m mut [u8]) -> Self {
        let skip = memory.as_ptr().align_offset(ALIGNMENT).min(memory.len());
        Arena { rest: Some(&mut memory[skip..]), used: 0, zeroed: true }
    }

    /// As [`Arena::over`], but the buffers hold what was there before: for scratch that is written before it is read.
    pub fn reusing(memory: &'m mut [u8]) -> Self {
        Arena { zeroed: false, ..Arena::over(memory) }
    }

    /// Bytes that must be provided for `used` bytes of buffers, wherever the block starts.
    pub const fn block_len(used: usize) -> usize {
        used + ALIGNMENT
    }

    /// A buffer of `len` numbers, all 0 unless the arena is [`Arena::reusing`] its memory.
    ///
    /// Where the block is too small for it, the arena goes on counting: see [`Arena::fits`].
    pub fn take<T: Pod>(&mut self, len: usize) -> &'m mut [T] {
        let bytes = bytes_of::<T>(len);
        self.used += bytes;
        let Some((taken, rest)) = self.rest.take().and_then(|rest| rest.split_at_mut_checked(bytes)) else {
            return &mut [];
        };
        self.rest = Some(rest);
        if self.zeroed {
            taken.fill(0);
        }
        bytemuck::cast_slice_mut(&mut taken[..len * size_of::<T>()])
    }

    /// Everything that was taken was there; never while counting.
    pub fn fits(&self) -> bool {
        self.rest.is_some()
    }

    /// Bytes taken so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Everything that is left, to be shared by buffers of different lifetimes.
    pub fn take_rest(&mut self) -> &'m mut [u8] {
        self.rest.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(arena: &mut Arena) -> [usize; 3] {
        [arena.take::<i8>(3).len(), arena.take::<i32>(100).len(), arena.take::<u64>(1).len()]
    }

    #[test]
    fn counting_and_taking_agree_for_every_alignment_of_the_block() {
        let mut counting = Arena::counting();
        layout(&mut counting);
        for skip in 0..ALIGNMENT {
            let mut block = vec![1u8; Arena::block_len(counting.used()) + skip];
            let mut arena = Arena::over(&mut block[skip..]);
            assert_eq!(layout(&mut arena), [3, 100, 1]);
            assert_eq!(arena.used(), counting.used());
        }
    }
}
