//! The kernel's I²C buses (`/dev/i2c-N`) behind `embedded-hal`.
//!
//! Transfers go out whole (`I2C_RDWR`). An adapter that knows SMBus alone refuses that; from then on the same bytes go by
//! SMBus calls, as far as these can carry them: blocks of at most 32 bytes.

use std::io;

use embedded_hal::i2c::{Error, ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use i2cdev::core::{I2CDevice, I2CMessage, I2CTransfer};
use i2cdev::linux::{LinuxI2CDevice, LinuxI2CError, LinuxI2CMessage};
use rustix::io::Errno;

/// Bytes in an SMBus block.
const BLOCK: usize = 32;

/// What the system said.
#[derive(Debug)]
pub struct BusError(pub io::Error);

impl BusError {
    /// Its number.
    pub fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(&self.0)
    }
}

impl From<Errno> for BusError {
    fn from(errno: Errno) -> Self {
        BusError(errno.into())
    }
}

impl From<LinuxI2CError> for BusError {
    fn from(error: LinuxI2CError) -> Self {
        BusError(error.into())
    }
}

impl Error for BusError {
    fn kind(&self) -> ErrorKind {
        match self.errno() {
            Some(Errno::NXIO | Errno::REMOTEIO | Errno::NODEV) => {
                ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown)
            }
            Some(Errno::AGAIN) => ErrorKind::ArbitrationLoss,
            Some(Errno::IO | Errno::TIMEDOUT | Errno::PROTO) => ErrorKind::Bus,
            _ => ErrorKind::Other,
        }
    }
}

/// One address of a bus.
pub struct Bus {
    device: LinuxI2CDevice,
    address: u8,
    smbus: bool,
}

impl Bus {
    /// Opens `path` for the device at `address`.
    ///
    /// # Errors
    /// [`BusError`]: no such bus, no permission, or a driver of the kernel has the device.
    pub fn open(path: &str, address: u8) -> Result<Self, BusError> {
        Ok(Bus { device: LinuxI2CDevice::new(path, address.into())?, address, smbus: false })
    }

    fn transfer(&mut self, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        let mut messages: heapless::Vec<LinuxI2CMessage<'_>, 4> = heapless::Vec::new();
        for operation in operations {
            let message = match operation {
                Operation::Write(bytes) => LinuxI2CMessage::write(bytes),
                Operation::Read(into) => LinuxI2CMessage::read(into),
            };
            messages.push(message).map_err(|_| BusError::from(Errno::INVAL))?;
        }
        self.device.transfer(&mut messages)?;
        Ok(())
    }

    fn by_smbus(&mut self, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        match operations {
            [Operation::Write(bytes)] => self.put(bytes),
            [Operation::Read(into)] => self.next(into),
            [Operation::Write([register]), Operation::Read([byte])] => {
                *byte = self.device.smbus_read_byte_data(*register)?;
                Ok(())
            }
            [Operation::Write([register]), Operation::Read(into)] if into.len() <= BLOCK => {
                let block = self.device.smbus_read_i2c_block_data(*register, into.len() as u8)?;
                if block.len() != into.len() {
                    return Err(Errno::PROTO.into());
                }
                into.copy_from_slice(&block);
                Ok(())
            }
            // A register number of 16 bits, then what it holds byte by byte.
            [Operation::Write(number @ [_, _]), Operation::Read(into)] => {
                self.put(number)?;
                self.next(into)
            }
            _ => Err(Errno::OPNOTSUPP.into()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        match bytes {
            [register] => self.device.smbus_write_byte(*register)?,
            [register, value] => self.device.smbus_write_byte_data(*register, *value)?,
            [register, values @ ..] if values.len() <= BLOCK => {
                self.device.smbus_write_i2c_block_data(*register, values)?;
            }
            _ => return Err(Errno::OPNOTSUPP.into()),
        }
        Ok(())
    }

    fn next(&mut self, into: &mut [u8]) -> Result<(), BusError> {
        for byte in into {
            *byte = self.device.smbus_read_byte()?;
        }
        Ok(())
    }
}

impl ErrorType for Bus {
    type Error = BusError;
}

impl I2c for Bus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        if address != self.address {
            self.device.set_slave_address(address.into())?;
            self.address = address;
        }
        if !self.smbus {
            match self.transfer(operations) {
                Err(refused) if refused.errno() == Some(Errno::OPNOTSUPP) => self.smbus = true,
                done => return done,
            }
        }
        self.by_smbus(operations)
    }
}

/// The buses that there are, for messages.
pub fn others(path: &str) -> String {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.path().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("/dev/i2c-") && name != path).collect();
    names.sort();
    if names.is_empty() { "there is none now".to_owned() } else { format!("there is {}", names.join(", ")) }
}
