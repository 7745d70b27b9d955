//! The link's two pipes: a task that interrupts the loop moves bytes between them and a serial port of the chip.

use core::convert::Infallible;

use embassy_futures::join::join;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use embedded_io::{ErrorType, ReadReady};

/// Bytes that wait in either direction.
const PIPE: usize = 512;

pub(crate) type Bytes = Pipe<CriticalSectionRawMutex, PIPE>;

pub(crate) static TO_BOARD: Bytes = Bytes::new();
pub(crate) static TO_HOST: Bytes = Bytes::new();

/// Moves bytes for ever between the pipes and a UART. The board spawns it once, in an executor that interrupts the loop.
pub async fn serve(mut from_host: impl embedded_io_async::Read, mut to_host: impl embedded_io_async::Write) {
    let receive = async {
        let mut bytes = [0; 32];
        loop {
            // A framing or overrun error: the frame's checksum will tell.
            let count = from_host.read(&mut bytes).await.unwrap_or(0);
            TO_BOARD.write_all(&bytes[..count]).await;
        }
    };
    let send = async {
        let mut bytes = [0; 32];
        loop {
            let count = TO_HOST.read(&mut bytes).await;
            // As above.
            let _ = embedded_io_async::Write::write_all(&mut to_host, &bytes[..count]).await;
        }
    };
    join(receive, send).await;
}

/// The loop's end of the link, whose other end a task serves.
pub struct Port;

impl ErrorType for Port {
    type Error = Infallible;
}

impl ReadReady for Port {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!TO_BOARD.is_empty())
    }
}

impl embedded_io::Read for Port {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        loop {
            if let Ok(count) = TO_BOARD.try_read(into) {
                return Ok(count);
            }
        }
    }
}

impl embedded_io::Write for Port {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        loop {
            // The task that empties the pipe interrupts this loop.
            if let Ok(count) = TO_HOST.try_write(bytes) {
                return Ok(count);
            }
        }
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
