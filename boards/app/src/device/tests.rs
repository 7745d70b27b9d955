//! A whole device on the host: a port of two queues, a flash in memory, and a sensor or none.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;

use embedded_storage_async::nor_flash::{ErrorType as FlashErrors, ReadNorFlash};
use nestling::image;
use nestling::link::Decoder;
use nestling::net::spec::{DictionarySpec, GuardSpec, InputSpec, LayerKind, LayerSpec, Spec};
use nestling::sample::{Sample, Seed, Values};

use super::*;
use crate::FromLink;

const SIDE: usize = 8;

#[derive(Clone, Default)]
struct Wire {
    to_board: Rc<RefCell<VecDeque<u8>>>,
    to_host: Rc<RefCell<Vec<u8>>>,
}

impl embedded_io::ErrorType for Wire {
    type Error = Infallible;
}

impl ReadReady for Wire {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!self.to_board.borrow().is_empty())
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let mut waiting = self.to_board.borrow_mut();
        let count = into.len().min(waiting.len());
        waiting.drain(..count).zip(into).for_each(|(from, to)| *to = from);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.to_host.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Flash that outlives the board: bits are cleared by writing and set by erasing.
#[derive(Clone)]
struct Chip(Rc<RefCell<Vec<u8>>>);

impl FlashErrors for Chip {
    type Error = Infallible;
}

impl ReadNorFlash for Chip {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0.borrow()[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.borrow().len()
    }
}

impl NorFlash for Chip {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 1024;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        self.0.borrow_mut()[from as usize..to as usize].fill(0xFF);
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.borrow_mut()[offset as usize..].iter_mut().zip(bytes).for_each(|(to, from)| *to &= from);
        Ok(())
    }
}

fn spec() -> Spec {
    let layer = LayerSpec { kind: LayerKind::Dictionary, filters: 6, kernel: 3, stride: 2, ..Default::default() };
    Spec {
        input: InputSpec { height: SIDE, width: SIDE, channels: 1, ..Default::default() },
        layer: [layer].into_iter().collect(),
        dictionary: DictionarySpec { samples: 40, patches: 4 },
        guard: GuardSpec { canaries: 0, ..Default::default() },
        ..Default::default()
    }
}

/// A sensor whose samples are numbered by their time.
struct Sensor {
    next: u64,
    pixels: [u8; SIDE * SIDE],
}

fn pixels(number: u64) -> [u8; SIDE * SIDE] {
    core::array::from_fn(|i| (number * 37 + (i as u64 * (number % 5 + 3)) * 29) as u8)
}

fn sample(number: u64, pixels: &[u8]) -> Sample<'_> {
    let values = Values::Image { pixels, height: SIDE, width: SIDE, channels: 1 };
    Sample { values, time: Micros(number), segment: 0 }
}

impl Input for Sensor {
    fn next(&mut self) -> Option<Sample<'_>> {
        self.pixels = pixels(self.next);
        self.next += 1;
        Some(sample(self.next - 1, &self.pixels))
    }
}

/// A board that was just switched on; what it holds lives as long as the test's process.
fn board<I: Input>(wire: &Wire, chip: &Chip, input: I) -> Device<Wire, I, Chip> {
    let bytes = image::to_bytes(&spec(), Seed(3), None, None);
    let words = Box::leak(vec![0u32; bytes.len().div_ceil(4)].into_boxed_slice());
    let image = bytemuck::cast_slice_mut(words);
    image[..bytes.len()].copy_from_slice(&bytes);
    let firmware = Firmware {
        board: "test",
        kernels: Kernels::Lean,
        image,
        learner: Box::leak(Box::new(None)),
        block: Box::leak(vec![0; 32 << 10].into_boxed_slice()),
        frame: Box::leak(vec![0; if I::LINK { 0 } else { link::buffer_len(0) }].into_boxed_slice()),
        feature: &mut [],
    };
    let parts = Parts {
        firmware,
        port: wire.clone(),
        input,
        flash: chip.clone(),
        range: 0..32 << 10,
        memory: Memory::default(),
        stack_used: || 0,
        reset: || panic!("reset"),
    };
    Device::new(parts).expect("a sound image")
}

fn chip() -> Chip {
    Chip(Rc::new(RefCell::new(vec![0xFF; 32 << 10])))
}

fn say(wire: &Wire, message: &ToDevice) {
    link::send(message, |piece| {
        wire.to_board.borrow_mut().extend(piece);
        Ok::<(), Infallible>(())
    })
    .expect("the queue takes all");
}

/// Calls `each` with all messages that the board has sent since the last call.
fn hear(wire: &Wire, mut each: impl FnMut(ToHost)) {
    let mut decoder = Decoder::new(vec![0; 4096]);
    for byte in wire.to_host.take() {
        if decoder.push(byte) {
            each(decoder.message().expect("what a board sends is a message"));
        }
    }
    assert_eq!(decoder.dropped(), 0);
}

fn hash(wire: &Wire, device: &mut Device<Wire, Sensor, Chip>) -> StateHash {
    wire.to_host.take();
    say(wire, &ToDevice::Hash);
    device.hear();
    let mut heard = None;
    hear(wire, |message| heard = if let ToHost::Hash(hash) = message { Some(hash) } else { heard });
    heard.expect("a hash")
}

fn sensor(next: u64) -> Sensor {
    Sensor { next, pixels: [0; SIDE * SIDE] }
}

#[test]
fn a_board_that_loses_power_goes_on_from_the_last_save_to_the_same_bits() {
    let wire = Wire::default();
    let mut uncut = board(&wire, &chip(), sensor(0));
    (0..90).for_each(|_| assert!(uncut.poll()));
    let expected = hash(&wire, &mut uncut);
    assert_eq!(expected.samples, 90);

    let chip = chip();
    let mut first = board(&wire, &chip, sensor(0));
    (0..60).for_each(|_| assert!(first.poll()));
    say(&wire, &ToDevice::Save);
    (0..10).for_each(|_| assert!(first.poll()));
    drop(first);

    wire.to_host.take();
    let mut second = board(&wire, &chip, sensor(60));
    let mut samples = None;
    hear(&wire, |message| samples = if let ToHost::Hello(hello) = message { Some(hello.samples) } else { samples });
    // The save was heard before the sample of the same turn was taken.
    assert_eq!(samples, Some(60));
    (0..30).for_each(|_| assert!(second.poll()));
    assert_eq!(hash(&wire, &mut second), expected);
}

#[test]
fn a_board_without_a_sensor_learns_from_the_link_what_one_with_a_sensor_learns() {
    let wire = Wire::default();
    let mut with = board(&wire, &chip(), sensor(0));
    (0..50).for_each(|_| assert!(with.poll()));
    let expected = hash(&wire, &mut with);

    let wire = Wire::default();
    let mut without = board(&wire, &chip(), FromLink);
    let (mut ready, mut features, mut found) = (0, 0, None);
    for number in 0..50 {
        let pixels = pixels(number);
        say(&wire, &ToDevice::Sample(RawSample::new(number, &sample(number, &pixels))));
        assert!(without.poll());
        let len = without.learner.network().feature_dim;
        hear(&wire, |message| match message {
            ToHost::Ready => ready += 1,
            ToHost::Feature(feature) => {
                assert_eq!((feature.values.0.len(), feature.time), (len, number));
                features += 1;
            }
            _ => {}
        });
    }
    say(&wire, &ToDevice::Hash);
    assert!(without.poll());
    hear(&wire, |message| found = if let ToHost::Hash(hash) = message { Some(hash) } else { found });
    assert_eq!((ready, features, found), (51, 50, Some(expected)));
    assert!(!without.poll(), "nothing is due: the board may sleep");
}

#[test]
fn a_sample_of_another_shape_is_refused_and_the_next_one_taken_and_recorded() {
    let wire = Wire::default();
    let mut device = board(&wire, &chip(), FromLink);
    let pixels = pixels(4);
    let raw = |values, height, width| {
        let shape = Shape::Image { height, width, channels: 1 };
        RawSample { number: 0, time: 4, segment: 0, shape, values: Bytes(values) }
    };
    say(&wire, &ToDevice::Record(true));
    say(&wire, &ToDevice::Sample(raw(&pixels, 4, 16)));
    say(&wire, &ToDevice::Sample(raw(&pixels[1..], 8, 8)));
    say(&wire, &ToDevice::Sample(raw(&pixels[..16], 4, 4)));
    say(&wire, &ToDevice::Sample(raw(&pixels, 8, 8)));
    say(&wire, &ToDevice::Hash);
    assert!(device.poll());
    let (mut logs, mut ready, mut recorded, mut observed) = (0, 0, 0, 0);
    hear(&wire, |message| match message {
        ToHost::Log(_) => logs += 1,
        ToHost::Ready => ready += 1,
        ToHost::Sample(sample) => {
            assert_eq!(sample, raw(&pixels, 8, 8));
            recorded += 1;
        }
        ToHost::Hash(hash) => observed = hash.samples,
        _ => {}
    });
    assert_eq!((logs, ready, recorded, observed), (3, 5, 1, 1));
}

#[test]
fn a_frozen_board_perceives_and_learns_nothing() {
    let wire = Wire::default();
    let mut device = board(&wire, &chip(), sensor(0));
    (0..50).for_each(|_| assert!(device.poll()));
    let before = hash(&wire, &mut device);
    say(&wire, &ToDevice::Freeze);
    (0..5).for_each(|_| assert!(device.poll()));
    let mut features = 0;
    hear(&wire, |message| features += usize::from(matches!(message, ToHost::Feature(_))));
    assert_eq!(features, 5);
    assert_eq!(hash(&wire, &mut device), before);
    say(&wire, &ToDevice::Thaw);
    assert!(device.poll());
    assert_ne!(hash(&wire, &mut device), before);
}
