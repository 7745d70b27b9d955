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
}

/// As many of `operations` as SMBus calls can carry: a register's number, then its bytes.
fn by_smbus<D: I2CDevice>(device: &mut D, operations: &mut [Operation<'_>]) -> Result<(), BusError>
where
    BusError: From<D::Error>,
{
    match operations {
        [Operation::Write(bytes)] => put(device, bytes),
        [Operation::Read(into)] => next(device, into),
        [Operation::Write([register]), Operation::Read([byte])] => {
            *byte = device.smbus_read_byte_data(*register)?;
            Ok(())
        }
        [Operation::Write([register]), Operation::Read(into)] if into.len() <= BLOCK => {
            let block = device.smbus_read_i2c_block_data(*register, into.len() as u8)?;
            if block.len() != into.len() {
                return Err(Errno::PROTO.into());
            }
            into.copy_from_slice(&block);
            Ok(())
        }
        // A register number of 16 bits, then what it holds byte by byte.
        [Operation::Write(number @ [_, _]), Operation::Read(into)] => {
            put(device, number)?;
            next(device, into)
        }
        _ => Err(Errno::OPNOTSUPP.into()),
    }
}

fn put<D: I2CDevice>(device: &mut D, bytes: &[u8]) -> Result<(), BusError>
where
    BusError: From<D::Error>,
{
    match bytes {
        [register] => device.smbus_write_byte(*register)?,
        [register, value] => device.smbus_write_byte_data(*register, *value)?,
        [register, values @ ..] if values.len() <= BLOCK => device.smbus_write_i2c_block_data(*register, values)?,
        _ => return Err(Errno::OPNOTSUPP.into()),
    }
    Ok(())
}

fn next<D: I2CDevice>(device: &mut D, into: &mut [u8]) -> Result<(), BusError>
where
    BusError: From<D::Error>,
{
    for byte in into {
        *byte = device.smbus_read_byte()?;
    }
    Ok(())
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
        by_smbus(&mut self.device, operations)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::mpu6050::Mpu6050;

    /// As the kernel's `i2c-stub`: registers, a pointer to them, and SMBus calls alone.
    struct Stub {
        registers: [u8; 256],
        pointer: u8,
    }

    impl I2CDevice for Stub {
        type Error = LinuxI2CError;

        fn read(&mut self, _: &mut [u8]) -> Result<(), LinuxI2CError> {
            Err(LinuxI2CError::Errno(Errno::OPNOTSUPP.raw_os_error()))
        }
        fn write(&mut self, _: &[u8]) -> Result<(), LinuxI2CError> {
            Err(LinuxI2CError::Errno(Errno::OPNOTSUPP.raw_os_error()))
        }
        fn smbus_write_quick(&mut self, _: bool) -> Result<(), LinuxI2CError> {
            Ok(())
        }
        fn smbus_read_byte(&mut self) -> Result<u8, LinuxI2CError> {
            let value = self.registers[usize::from(self.pointer)];
            self.pointer = self.pointer.wrapping_add(1);
            Ok(value)
        }
        fn smbus_write_byte(&mut self, value: u8) -> Result<(), LinuxI2CError> {
            self.pointer = value;
            Ok(())
        }
        fn smbus_read_byte_data(&mut self, register: u8) -> Result<u8, LinuxI2CError> {
            Ok(self.registers[usize::from(register)])
        }
        fn smbus_write_byte_data(&mut self, register: u8, value: u8) -> Result<(), LinuxI2CError> {
            self.registers[usize::from(register)] = value;
            Ok(())
        }
        fn smbus_read_block_data(&mut self, _: u8) -> Result<Vec<u8>, LinuxI2CError> {
            Err(LinuxI2CError::Errno(Errno::OPNOTSUPP.raw_os_error()))
        }
        fn smbus_write_block_data(&mut self, _: u8, _: &[u8]) -> Result<(), LinuxI2CError> {
            Err(LinuxI2CError::Errno(Errno::OPNOTSUPP.raw_os_error()))
        }
        fn smbus_read_i2c_block_data(&mut self, register: u8, len: u8) -> Result<Vec<u8>, LinuxI2CError> {
            Ok(self.registers[usize::from(register)..][..usize::from(len)].to_vec())
        }
        fn smbus_write_i2c_block_data(&mut self, register: u8, values: &[u8]) -> Result<(), LinuxI2CError> {
            self.registers[usize::from(register)..][..values.len()].copy_from_slice(values);
            Ok(())
        }
        fn smbus_process_block(&mut self, _: u8, _: &[u8]) -> Result<Vec<u8>, LinuxI2CError> {
            Err(LinuxI2CError::Errno(Errno::OPNOTSUPP.raw_os_error()))
        }
    }

    struct Smbus(Stub);

    impl ErrorType for Smbus {
        type Error = BusError;
    }

    impl I2c for Smbus {
        fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
            by_smbus(&mut self.0, operations)
        }
    }

    #[test]
    fn a_part_is_set_up_and_read_by_smbus_calls_alone() {
        let mut bus = Smbus(Stub { registers: [0; 256], pointer: 0 });
        bus.0.registers[0x75] = 0x68;
        for (place, value) in (0..14).enumerate() {
            bus.0.registers[0x3B + place] = value;
        }
        let mut part = Mpu6050::new(bus, 0x68, 200).expect("set up");
        assert_eq!(part.read().expect("a reading"), [0x0001, 0x0203, 0x0405, 0x0809, 0x0A0B, 0x0C0D]);
        assert!(part.is_well().expect("an answer"), "the block of four registers was written after the first");
        assert_eq!(part.waiting().expect("an answer"), 0);
    }

    #[test]
    fn registers_with_long_numbers_go_byte_by_byte_and_what_is_too_long_is_refused() {
        let mut bus = Smbus(Stub { registers: [0; 256], pointer: 0 });
        bus.write(0x29, &[0x01, 0x20, 7, 8]).expect("written");
        assert_eq!(bus.0.registers[1..4], [0x20, 7, 8]);
        let mut byte = [0];
        bus.write_read(0x29, &[2], &mut byte).expect("read");
        assert_eq!(byte, [7]);
        let refused = bus.write_read(0x29, &[2], &mut [0; 33]).expect_err("too long");
        assert_eq!(refused.errno(), Some(Errno::OPNOTSUPP));
        assert!(bus.write(0x29, &[0; 40]).is_err());
    }

    #[test]
    fn what_the_kernel_says_of_a_bus_is_told_apart() {
        let no_answer = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown);
        assert_eq!(BusError::from(Errno::REMOTEIO).kind(), no_answer);
        assert_eq!(BusError::from(Errno::TIMEDOUT).kind(), ErrorKind::Bus);
    }
}
