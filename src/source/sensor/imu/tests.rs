//! Inertial sensors on made-up buses.

use rustix::io::Errno;

use super::*;
use crate::source::sensor::fake::{FakeBus, Noise, Registers, place};
use crate::source::sensor::place::Part;
use crate::source::sensor::sampling::Sampling;
use crate::source::{Data, Record, Source};

const STATUS: u8 = 0x3A;
const OVERFLOWN: u8 = 0x10;
const USER_CONTROL: u8 = 0x6A;
const COUNT: u8 = 0x72;

/// An MPU-6050 that says how many bytes wait in its FIFO; a test puts them there.
fn mpu() -> FakeBus<Registers> {
    let mut chip = Registers::new();
    chip.held[0x75] = 0x68;
    chip.fifo_at = Some(0x74);
    chip.cleared_by_reading = vec![STATUS];
    chip.before = |chip, register| {
        if register == COUNT {
            let count = chip.fifo.len() as u16;
            chip.held[0x72..0x74].copy_from_slice(&count.to_be_bytes());
        }
    };
    chip.after = |chip, register, value| {
        if (register, value) == (USER_CONTROL, 0x04) {
            chip.fifo.clear();
        }
    };
    FakeBus::new(chip)
}

fn numbers(readings: std::ops::Range<i16>) -> Vec<i16> {
    readings.flat_map(|n| (0..6).map(move |axis| 10 * n + axis)).collect()
}

fn put(bus: &FakeBus<Registers>, readings: std::ops::Range<i16>) {
    bus.chip().fifo.extend(numbers(readings).into_iter().flat_map(i16::to_be_bytes));
}

type Opened = Result<Imu<Mpu6050<FakeBus<Registers>>>, String>;

fn opened(bus: &FakeBus<Registers>, hertz: u16, fifo: Fifo) -> Opened {
    let part = Mpu6050::new(bus.clone(), 0x68, hertz).map_err(|e| refusal(&place(Part::Mpu6050), e).to_string())?;
    Imu::new(part, place(Part::Mpu6050), fifo).map_err(|e| e.to_string())
}

fn look(sensor: &mut dyn Sensor) -> Result<(Vec<i16>, bool), String> {
    let mut burst = Burst::default();
    sensor.look(&mut burst).map_err(|e| e.to_string())?;
    Ok((burst.readings, burst.lost))
}

#[test]
fn whole_readings_are_taken_out_of_the_fifo_in_order() {
    let bus = mpu();
    let mut sensor = opened(&bus, 200, Fifo::On).expect("opened");
    let set_up = [(0x6B, 1), (0x19, 4), (0x1A, 3), (0x1B, 8), (0x1C, 8), (0x23, 0x78), (0x6A, 4), (0x6A, 0x40)];
    assert_eq!(bus.chip().written, set_up);
    assert_eq!((sensor.timing().period, sensor.channels()), (Duration::from_millis(5), 6));
    assert_eq!(look(&mut sensor), Ok((vec![], false)));
    put(&bus, 0..7);
    // Of an eighth a part only.
    bus.chip().fifo.extend([0; 11]);
    assert_eq!(look(&mut sensor), Ok((numbers(0..7), false)));
    assert_eq!(bus.chip().fifo.len(), 11);
}

#[test]
fn a_fifo_that_ran_over_is_started_anew_and_nothing_of_it_is_kept() {
    let bus = mpu();
    let mut sensor = opened(&bus, 200, Fifo::On).expect("opened");
    bus.chip().fifo.extend([1; 1024]);
    bus.chip().held[usize::from(STATUS)] = OVERFLOWN;
    assert_eq!(look(&mut sensor), Ok((vec![], true)));
    assert!(bus.chip().fifo.is_empty());
    put(&bus, 3..5);
    assert_eq!(look(&mut sensor), Ok((numbers(3..5), false)));
}

#[test]
fn a_fifo_that_never_fills_is_done_without() {
    let bus = mpu();
    let mut sensor = opened(&bus, 1000, Fifo::Auto).expect("opened");
    assert!(sensor.about().contains("1000 readings a second by a timer"), "{}", sensor.about());
    for (place, number) in [1i16, -2, 3, 99, 4, -5, 6].into_iter().enumerate() {
        bus.chip().held[0x3B + 2 * place..][..2].copy_from_slice(&number.to_be_bytes());
    }
    assert_eq!(look(&mut sensor), Ok((vec![1, -2, 3, 4, -5, 6], false)));

    let filling = mpu();
    filling.chip().before = |chip, register| {
        if register == COUNT {
            chip.fifo.extend([0; 12]);
            chip.held[0x73] = chip.fifo.len() as u8;
        }
    };
    assert!(opened(&filling, 1000, Fifo::Auto).expect("opened").about().contains("by its FIFO"));
}

#[test]
fn a_reading_that_never_changes_is_a_part_that_was_reset_or_one_at_rest() {
    let bus = mpu();
    let mut sensor = opened(&bus, 100, Fifo::Off).expect("opened");
    for _ in 0..200 {
        assert_eq!(look(&mut sensor), Ok((vec![0; 6], false)), "it is awake: a stub, perhaps");
    }
    // Asleep, as after its power was gone.
    bus.chip().held[0x6B] = 0x40;
    let problem = (0..200).find_map(|_| look(&mut sensor).err()).expect("found out");
    assert!(problem.contains("it was reset"), "{problem}");
}

#[test]
fn what_is_no_such_part_is_refused_with_what_was_found() {
    for (identity, words) in [(0x24, "is it another part, or a clone?"), (0xFF, "all ones"), (0, "all zeros")] {
        let bus = mpu();
        bus.chip().held[0x75] = identity;
        let problem = opened(&bus, 50, Fifo::On).err().expect("refused");
        assert!(problem.contains(&format!("0x{identity:02x}")) && problem.contains("0x68, 0x70"), "{problem}");
        assert!(problem.contains(words) && bus.chip().written.is_empty(), "{problem}");
    }
    assert!(opened(&mpu(), 3, Fifo::On).err().expect("refused").contains("4 to 1000"));
}

#[test]
fn a_sensor_that_vanishes_says_where_it_was() {
    let bus = mpu();
    let mut sensor = opened(&bus, 50, Fifo::On).expect("opened");
    bus.chip().fails = Some(Errno::REMOTEIO);
    let problem = look(&mut sensor).expect_err("gone");
    assert!(problem.contains("/dev/i2c-9, 0x68: nothing answers") && problem.contains("i2cdetect -y 9"), "{problem}");
}

#[test]
fn from_the_fifo_to_windows_over_an_overflow_to_the_end() {
    let bus = mpu();
    let sensor = opened(&bus, 200, Fifo::On).expect("opened");
    let mut source = Sampling::start("imu", Box::new(sensor), 4, 2).expect("a thread");
    let mut record = Record::default();
    let mut window = |source: &mut Sampling| {
        source.read_next(&mut record).map(|_| (record.data.clone(), record.segment)).map_err(|e| e.to_string())
    };
    let of = |readings| Data::Window { readings: numbers(readings), length: 4, channels: 6 };
    put(&bus, 0..7);
    assert_eq!(window(&mut source), Ok((of(0..4), 0)));
    assert_eq!(window(&mut source), Ok((of(2..6), 0)));
    {
        let mut chip = bus.chip();
        chip.fifo.extend([9; 1000]);
        chip.held[usize::from(STATUS)] = OVERFLOWN;
    }
    let started_anew = || {
        let chip = bus.chip();
        chip.fifo.is_empty() && chip.held[usize::from(STATUS)] == 0
    };
    while !started_anew() {
        std::thread::sleep(Duration::from_millis(1));
    }
    put(&bus, 20..24);
    assert_eq!(window(&mut source), Ok((of(20..24), 1)), "reading 6 was thrown away with the gap after it");
    assert_eq!(source.skipped(), 1);
    bus.chip().fails = Some(Errno::REMOTEIO);
    assert!(window(&mut source).expect_err("gone").contains("nothing answers there"));
}

/// An LSM6DSO that says how many words wait in its FIFO, and has reset itself at once.
fn lsm(identity: u8) -> FakeBus<Registers> {
    let mut chip = Registers::new();
    chip.held[0x0F] = identity;
    chip.fifo_at = Some(0x78);
    chip.before = |chip, register| {
        if register == 0x3A {
            let words = (chip.fifo.len() / 7) as u16;
            chip.held[0x3A..0x3C].copy_from_slice(&words.to_le_bytes());
        }
    };
    chip.after = |chip, register, value| match (register, value) {
        (0x12, 0x01) => chip.held[0x12] = 0,
        (0x0A, 0x00) => chip.fifo.clear(),
        _ => {}
    };
    FakeBus::new(chip)
}

fn word(bus: &FakeBus<Registers>, tag: u8, first: i16) {
    let mut chip = bus.chip();
    // The lowest bits count.
    chip.fifo.push_back(tag << 3 | 0x05);
    chip.fifo.extend([first, 0, -first].into_iter().flat_map(i16::to_le_bytes));
}

fn lsm_opened(bus: &FakeBus<Registers>, fifo: Fifo) -> Result<Imu<Lsm6ds<FakeBus<Registers>>>, String> {
    let part = Lsm6ds::new(bus.clone(), 0x6A, 200).map_err(|e| refusal(&place(Part::Lsm6ds), e).to_string())?;
    Imu::new(part, place(Part::Lsm6ds), fifo).map_err(|e| e.to_string())
}

#[test]
fn words_of_an_lsm6dso_are_paired_by_what_they_say_they_are() {
    let bus = lsm(0x6C);
    let mut sensor = lsm_opened(&bus, Fifo::On).expect("opened");
    let set_up = [(0x12, 1), (0x12, 0x44), (0x10, 0x58), (0x11, 0x54), (0x09, 0x55), (0x0A, 0), (0x0A, 6)];
    assert_eq!(bus.chip().written, set_up);
    assert!(sensor.about().contains("207.99 readings a second by its FIFO"), "{}", sensor.about());
    // An accelerometer's word without its gyroscope's, a whole reading, the first half of another.
    word(&bus, 2, 1000);
    word(&bus, 1, 2000);
    word(&bus, 2, 4096);
    word(&bus, 1, 4096);
    assert_eq!(look(&mut sensor), Ok((vec![4094, 0, -4094, 2292, 0, -2292], false)));
    word(&bus, 2, 0);
    assert_eq!(look(&mut sensor), Ok((vec![0, 0, 0, 4695, 0, -4695], false)));
    // Full: it ran over.
    bus.chip().before = |chip, register| {
        if register == 0x3A {
            chip.held[0x3A..0x3C].copy_from_slice(&[0xFF, 0x43]);
        }
    };
    word(&bus, 1, 1);
    assert_eq!(look(&mut sensor), Ok((vec![], true)));
    assert!(bus.chip().fifo.is_empty());
}

#[test]
fn an_lsm6ds3_is_read_when_it_says_that_a_reading_is_new() {
    let bus = lsm(0x69);
    let mut sensor = lsm_opened(&bus, Fifo::Auto).expect("opened");
    assert!(sensor.about().contains("LSM6DS3 at"), "{}", sensor.about());
    bus.chip().held[0x22..0x2E].copy_from_slice(&[0, 16, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0]);
    assert_eq!(look(&mut sensor), Ok((vec![], false)));
    bus.chip().held[0x1E] = 0x03;
    assert_eq!(look(&mut sensor), Ok((vec![4094, 0, 0, 4695, 0, 0], false)));
    assert!(lsm_opened(&bus, Fifo::On).err().expect("refused").contains("no FIFO of the LSM6DS3"));
}

proptest::proptest! {
    #[test]
    fn no_byte_of_the_bus_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..80)) {
        let noise = |first: &[u8]| FakeBus::new(Noise { bytes: [first, &bytes].concat(), next: 0 });
        // Noise from the identity on.
        if let Ok(part) = Mpu6050::new(noise(&[0x68]), 0x68, 1000) {
            let mut sensor = Imu::new(part, place(Part::Mpu6050), Fifo::On).expect("its FIFO");
            (0..4).for_each(|_| drop(look(&mut sensor)));
        }
        if let Ok(part) = Lsm6ds::new(noise(&[0x6C, 0]), 0x6A, 800) {
            let mut sensor = Imu::new(part, place(Part::Lsm6ds), Fifo::On).expect("its FIFO");
            (0..4).for_each(|_| drop(look(&mut sensor)));
        }
    }
}
