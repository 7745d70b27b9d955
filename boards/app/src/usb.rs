//! A USB serial port as the link. What is written while no host listens is thrown away.

use embassy_futures::join::join3;
use embassy_futures::select::select;
use embassy_usb::class::cdc_acm::{CdcAcmClass, ControlChanged, Receiver, Sender, State};
use embassy_usb::driver::Driver;
use embassy_usb::{Builder, Config};
use static_cell::StaticCell;

use crate::port::{TO_BOARD, TO_HOST};

/// Bytes of a packet at full speed.
const PACKET: usize = 64;

/// What USB needs for as long as the board runs.
struct Buffers {
    descriptor: [u8; 256],
    bos: [u8; 32],
    control: [u8; 64],
    state: State<'static>,
}

static BUFFERS: StaticCell<Buffers> = StaticCell::new();

/// Moves bytes for ever between the pipes of [`crate::port`] and USB. The board spawns it once, in an executor that
/// interrupts the loop.
///
/// # Panics
/// When it is called a second time.
pub async fn serve<D: Driver<'static>>(driver: D, product: &'static str) {
    // The identity that pid.codes gives to prototypes; it is not for devices that are sold.
    let mut config = Config::new(0x1209, 0x0001);
    config.manufacturer = Some("nestling");
    config.product = Some(product);
    let buffers = BUFFERS.init(Buffers { descriptor: [0; 256], bos: [0; 32], control: [0; 64], state: State::new() });
    let Buffers { descriptor, bos, control, state } = buffers;
    let mut builder = Builder::new(driver, config, descriptor, bos, &mut [], control);
    let (sender, receiver, control) = CdcAcmClass::new(&mut builder, state, PACKET as u16).split_with_control();
    let mut device = builder.build();
    join3(device.run(), from_host(receiver), to_host(sender, control)).await;
}

async fn from_host<'d, D: Driver<'d>>(mut receiver: Receiver<'d, D>) {
    let mut packet = [0; PACKET];
    loop {
        receiver.wait_connection().await;
        while let Ok(count) = receiver.read_packet(&mut packet).await {
            TO_BOARD.write_all(&packet[..count]).await;
        }
    }
}

async fn to_host<'d, D: Driver<'d>>(mut sender: Sender<'d, D>, control: ControlChanged<'d>) {
    let mut packet = [0; PACKET];
    loop {
        let count = TO_HOST.read(&mut packet).await;
        let closed = async {
            while control.dtr() {
                control.control_changed().await;
            }
        };
        let sent = async {
            // Not plugged in: thrown away like what comes while the port is closed.
            let _ = sender.write_packet(&packet[..count]).await;
            // A full packet says that more follows; an empty one ends it.
            if count == PACKET && TO_HOST.is_empty() {
                let _ = sender.write_packet(&[]).await;
            }
        };
        select(closed, sent).await;
    }
}
