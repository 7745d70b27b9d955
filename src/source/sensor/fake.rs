//! Buses and parts that tests make up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use embedded_hal::i2c::{ErrorType, I2c, Operation};
use rustix::io::Errno;

use super::bus::BusError;
use super::place::{Part, Place};

/// What is at the other end of the wires.
pub trait Chip: Send {
    /// Bytes that the bus carries to it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno>;
    /// Bytes that it gives.
    fn read(&mut self, into: &mut [u8]) -> Result<(), Errno>;
}

/// A bus with one chip, which the test keeps a hand on.
pub struct FakeBus<C>(pub Arc<Mutex<C>>);

impl<C> FakeBus<C> {
    pub fn new(chip: C) -> Self {
        FakeBus(Arc::new(Mutex::new(chip)))
    }

    pub fn chip(&self) -> MutexGuard<'_, C> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Clone for FakeBus<C> {
    fn clone(&self) -> Self {
        FakeBus(self.0.clone())
    }
}

impl<C> ErrorType for FakeBus<C> {
    type Error = BusError;
}

impl<C: Chip> I2c for FakeBus<C> {
    fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        let mut chip = self.chip();
        for operation in operations {
            match operation {
                Operation::Write(bytes) => chip.write(bytes)?,
                Operation::Read(into) => chip.read(into)?,
            }
        }
        Ok(())
    }
}

/// A place to speak of in tests.
pub fn place(part: Part) -> Place {
    Place { part, bus: "/dev/i2c-9".into(), address: 0x68 }
}

/// A chip that gives whatever bytes a test says, over and over, and takes everything.
pub struct Noise {
    pub bytes: Vec<u8>,
    pub next: usize,
}

impl Chip for Noise {
    fn write(&mut self, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), Errno> {
        for byte in into {
            *byte = self.bytes[self.next % self.bytes.len()];
            self.next += 1;
        }
        Ok(())
    }
}

/// A part with 256 registers that move on by themselves, and a FIFO at one of them that counts up.
pub struct Registers {
    pub held: [u8; 256],
    pub pointer: u8,
    pub fifo: VecDeque<u8>,
    /// The register that gives the FIFO.
    pub fifo_at: Option<u8>,
    /// Every write of a value.
    pub written: Vec<(u8, u8)>,
    /// What every transfer ends with.
    pub fails: Option<Errno>,
    /// Registers that are clear after they were read.
    pub cleared_by_reading: Vec<u8>,
    /// What the chip does before a register is read, and after one was written.
    pub before: fn(&mut Registers, u8),
    pub after: fn(&mut Registers, u8, u8),
}

impl Registers {
    pub fn new() -> Self {
        Registers {
            held: [0; 256],
            pointer: 0,
            fifo: VecDeque::new(),
            fifo_at: None,
            written: Vec::new(),
            fails: None,
            cleared_by_reading: Vec::new(),
            before: |_, _| {},
            after: |_, _, _| {},
        }
    }
}

impl Chip for Registers {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.fails.map_or(Ok(()), Err)?;
        let (register, values) = bytes.split_first().ok_or(Errno::INVAL)?;
        self.pointer = *register;
        for value in values {
            self.held[usize::from(self.pointer)] = *value;
            self.written.push((self.pointer, *value));
            (self.after)(self, self.pointer, *value);
            self.pointer = self.pointer.wrapping_add(1);
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), Errno> {
        self.fails.map_or(Ok(()), Err)?;
        (self.before)(self, self.pointer);
        for byte in into {
            if self.fifo_at == Some(self.pointer) {
                *byte = self.fifo.pop_front().unwrap_or(0xFF);
                continue;
            }
            *byte = self.held[usize::from(self.pointer)];
            if self.cleared_by_reading.contains(&self.pointer) {
                self.held[usize::from(self.pointer)] = 0;
            }
            self.pointer = self.pointer.wrapping_add(1);
        }
        Ok(())
    }
}
