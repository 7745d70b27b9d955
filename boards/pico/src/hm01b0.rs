//! Himax HM01B0, a grey camera of 324 x 244 pixels, on one data line: PIO shifts its bits in, DMA stores the bytes.

use embassy_executor::SendSpawner;
use embassy_rp::gpio::{Input as Pin, Pull};
use embassy_rp::i2c::{Blocking, I2c};
use embassy_rp::peripherals::{DMA_CH0, I2C0, PIN_6, PIN_14, PIN_15, PIN_16, PIO0};
use embassy_rp::pio::program::pio_asm;
use embassy_rp::pio::{self, Pio, ShiftConfig, ShiftDirection, StateMachine};
use embassy_rp::{Peri, bind_interrupts, dma};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::zerocopy_channel::{Channel, Sender};
use embassy_time::{Duration, Instant, block_for};
use nestling::sample::Micros;
use nestling_firmware::camera::{Camera, Frame};
use static_cell::{ConstStaticCell, StaticCell};

bind_interrupts!(struct Interrupts {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>;
});

const WIDTH: usize = 324;
const HEIGHT: usize = 244;
const BYTES: usize = WIDTH * HEIGHT;

const ADDRESS: u8 = 0x24;
/// Registers and values, in order; where a name is missing the data sheet has none and prescribes the value.
const SETTINGS: [(u16, u8); 33] = [
    (0x3044, 0x0A),
    (0x3045, 0x00),
    (0x3047, 0x0A),
    (0x3050, 0xC0),
    (0x3051, 0x42),
    (0x3052, 0x50),
    (0x3053, 0x00),
    (0x3054, 0x03),
    (0x3055, 0xF7),
    (0x3056, 0xF8),
    (0x3057, 0x29),
    (0x3058, 0x1F),
    (0x3064, 0x00),
    (0x3065, 0x04),
    // Black level: on, target 8.
    (0x1000, 0x43),
    (0x1003, 0x08),
    (0x1007, 0x08),
    // Vertical sync without a shift.
    (0x1012, 0x00),
    // Statistics and automatic exposure, mean 100, at most 0x0102 lines and 8 times analogue gain.
    (0x2000, 0x07),
    (0x2100, 0x01),
    (0x2101, 0x64),
    (0x2105, 0x01),
    (0x2106, 0x02),
    (0x2108, 0x03),
    // 0x0104 lines of 0x0178 clocks.
    (0x0340, 0x01),
    (0x0341, 0x04),
    (0x0342, 0x01),
    (0x0343, 0x78),
    // The window of 324 x 244.
    (0x3010, 0x01),
    // One data line, the highest bit first, the clock running only while there are pixels, divided by 8.
    (0x3059, 0x22),
    (0x3060, 0x30),
    // All of this from the next frame on, and go.
    (0x0104, 0x01),
    (0x0100, 0x01),
];

/// Where the camera is.
pub struct Pins {
    pub data: Peri<'static, PIN_6>,
    pub pixel_clock: Peri<'static, PIN_14>,
    pub row: Peri<'static, PIN_15>,
    pub frame: Peri<'static, PIN_16>,
}

type Frames = Sender<'static, CriticalSectionRawMutex, Frame<BYTES>>;

static FRAMES: ConstStaticCell<[Frame<BYTES>; 1]> =
    ConstStaticCell::new([Frame { pixels: [0; BYTES], time: Micros(0) }]);
static CHANNEL: StaticCell<Channel<'static, CriticalSectionRawMutex, Frame<BYTES>>> = StaticCell::new();

/// Sets the camera up and lets a task take frames for ever.
pub fn start(
    spawner: SendSpawner,
    mut bus: I2c<'static, I2C0, Blocking>,
    pio: Peri<'static, PIO0>,
    channel: Peri<'static, DMA_CH0>,
    pins: Pins,
) -> Camera<'static, BYTES> {
    if let Err(problem) = set_up(&mut bus) {
        defmt::error!("the camera does not answer on I2C: {}", problem);
    }
    let mut pio = Pio::new(pio, Interrupts);
    let data = pio.common.make_pio_pin(pins.data);
    pio.common.make_pio_pin(pins.pixel_clock);
    pio.common.make_pio_pin(pins.row);
    // A bit at each rising edge of the pixel clock (GPIO 14) while a row (GPIO 15) is read out.
    let program = pio_asm!(".wrap_target", "wait 1 gpio 15", "wait 1 gpio 14", "in pins, 1", "wait 0 gpio 14", ".wrap");
    let mut config = pio::Config::default();
    config.use_program(&pio.common.load_program(&program.program), &[]);
    config.set_in_pins(&[&data]);
    config.shift_in = ShiftConfig { auto_fill: true, threshold: 8, direction: ShiftDirection::Left };
    pio.sm0.set_config(&config);

    let (sender, receiver) = CHANNEL.init(Channel::new(FRAMES.take())).split();
    let frame_begins = Pin::new(pins.frame, Pull::None);
    let channel = dma::Channel::new(channel, Interrupts);
    spawner.spawn(defmt::unwrap!(capture(pio.sm0, channel, frame_begins, sender)));
    Camera::new(receiver, WIDTH)
}

fn set_up(bus: &mut I2c<'static, I2C0, Blocking>) -> Result<(), embassy_rp::i2c::Error> {
    const RESET: u16 = 0x0103;
    let mut write = |register: u16, value: u8| {
        let [high, low] = register.to_be_bytes();
        bus.blocking_write(ADDRESS, &[high, low, value])
    };
    write(RESET, 0)?;
    block_for(Duration::from_millis(10));
    SETTINGS.iter().try_for_each(|&(register, value)| write(register, value))
}

#[embassy_executor::task]
async fn capture(
    mut shifter: StateMachine<'static, PIO0, 0>,
    mut channel: dma::Channel<'static>,
    mut frame_begins: Pin<'static>,
    mut frames: Frames,
) {
    loop {
        let frame = frames.send().await;
        frame_begins.wait_for_rising_edge().await;
        frame.time = Micros(Instant::now().as_micros());
        // Whatever the last frame left half shifted in is dropped.
        shifter.clear_fifos();
        shifter.restart();
        shifter.set_enable(true);
        shifter.rx().dma_pull(&mut channel, &mut frame.pixels, false).await;
        shifter.set_enable(false);
        frames.send_done();
    }
}
