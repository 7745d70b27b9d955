//! What pins promise, on simulated lines.

use std::time::Duration;

use super::config::{ButtonTable, PinTable, PinsTable};
use super::simulated::Change;
use super::*;
use crate::board::Profile;

fn profile(text: &str) -> Profile {
    Profile::parse("b.toml", text).expect(text)
}

fn pins(text: &str) -> (Pins, Journal) {
    Pins::simulated(&profile(text).pin).expect("simulated lines can be had")
}

const SERVO: &str = "[[pin]]\nname = 'steer'\nline = 'pwmchip0/0'\ndrives = 'servo'\n";
const SERVO_LINE: Line = Line::Pwm { chip: 0, channel: 0 };

#[test]
fn a_servo_is_limp_until_it_is_set_and_when_it_is_dropped() {
    let (mut pins, journal) = pins(SERVO);
    let steer = pins.find("steer").expect("it is there");
    assert_eq!(journal.value(SERVO_LINE), Some(0));
    for (value, pulse) in [(0.0, 1_500_000), (1.0, 2_000_000), (-1.0, 1_000_000), (7.0, 2_000_000), (-0.5, 1_250_000)] {
        pins.set(steer, value);
        assert_eq!(journal.value(SERVO_LINE), Some(pulse), "{value}");
    }
    pins.set(steer, f64::NAN);
    assert_eq!(journal.value(SERVO_LINE), Some(0), "what is no number is no angle");
    pins.set(steer, f64::INFINITY);
    assert_eq!(journal.value(SERVO_LINE), Some(2_000_000));
    drop(pins);
    assert_eq!(journal.value(SERVO_LINE), Some(0));
}

#[test]
fn every_kind_is_safe_when_opened_and_when_made_safe() {
    let text = format!(
        "{SERVO}safe = -1\n\
         [[pin]]\nname = 'lamp'\nline = 5\ndrives = 'digital'\nsafe = 1\n\
         [[pin]]\nname = 'relay'\nline = 6\ndrives = 'digital'\nactive_low = true\n\
         [[pin]]\nname = 'fan'\nline = 12\ndrives = 'pwm'\nhz = 100\nsafe = 0.25\n\
         [[pin]]\nname = 'wheel'\nline = 'pwmchip0/1'\ndirection = [23, 24]\ndrives = 'motor'\n"
    );
    let (mut pins, journal) = pins(&text);
    let (lamp, relay, fan) = (Line::Gpio(5), Line::Gpio(6), Line::Gpio(12));
    let wheel = Line::Pwm { chip: 0, channel: 1 };
    let all = [SERVO_LINE, lamp, relay, fan, wheel, Line::Gpio(23), Line::Gpio(24)];
    let values = || all.map(|line| journal.value(line).expect("a line that was written"));
    let safe = [1_000_000, 1, 1, 2_500_000, 0, 0, 0];
    assert_eq!(values(), safe);
    for (name, value) in [("steer", 1.0), ("lamp", 0.4), ("relay", 0.6), ("fan", 1.0), ("wheel", -0.5)] {
        let id = pins.find(name).expect(name);
        pins.set(id, value);
    }
    assert_eq!(values(), [2_000_000, 0, 0, 10_000_000, 500_000, 0, 1]);
    pins.make_safe();
    assert_eq!(values(), safe);
}

#[test]
fn a_motor_never_has_both_directions_and_turns_without_current() {
    let (mut pins, journal) =
        pins("[[pin]]\nname = 'wheel'\nline = 'pwmchip0/0'\ndirection = [23, 24]\ndrives = 'motor'\n");
    let wheel = pins.find("wheel").expect("it is there");
    for value in [0.5, 1.0, -1.0, -0.25, 0.75] {
        pins.set(wheel, value);
    }
    drop(pins);
    let (mut forward, mut backward, mut speed) = (0, 0, 0);
    for Change { line, value } in journal.changes() {
        match line {
            Line::Gpio(23) => forward = value,
            Line::Gpio(24) => backward = value,
            _ => speed = value,
        }
        assert!(forward + backward < 2, "both directions at once");
        assert!(speed == 0 || line == SERVO_LINE, "a direction was switched at speed {speed}");
        assert!(speed == 0 || forward + backward == 1, "speed without a direction");
    }
    assert_eq!((forward, backward, speed), (0, 0, 0));
}

#[test]
fn a_motor_turns_from_whatever_safe_state_it_was_opened_in() {
    for (safe, value) in [("0", 0.5), ("0", -0.5), ("0.5", 0.25), ("0.5", -1.0), ("-0.5", 0.25), ("'off'", -0.25)] {
        let text = "[[pin]]\nname = 'wheel'\nline = 'pwmchip0/0'\ndirection = [23, 24]\ndrives = 'motor'\nsafe = ";
        let (mut pins, journal) = pins(&format!("{text}{safe}"));
        let directions = || (journal.value(Line::Gpio(23)), journal.value(Line::Gpio(24)));
        let opened = safe.parse().unwrap_or(0.0);
        assert_eq!(directions(), (Some(u32::from(opened > 0.0)), Some(u32::from(opened < 0.0))), "opened at {safe}");
        pins.set(PinId(0), value);
        assert_eq!(directions(), (Some(u32::from(value > 0.0)), Some(u32::from(value < 0.0))), "{value} from {safe}");
        assert_eq!(journal.value(SERVO_LINE), Some((value.abs() * 1e6) as u32), "{value} from {safe}");
    }
}

#[test]
fn a_motor_with_two_pulsed_inputs_has_one_of_them_at_a_time() {
    let (mut pins, journal) =
        pins("[[pin]]\nname = 'wheel'\nline = ['pwmchip0/0', 'pwmchip0/1']\ndrives = 'motor'\nmost = 0.5\n");
    let wheel = pins.find("wheel").expect("it is there");
    let backward = Line::Pwm { chip: 0, channel: 1 };
    for (value, wanted) in [(1.0, (500_000, 0)), (-0.25, (0, 250_000)), (0.25, (250_000, 0)), (0.0, (0, 0))] {
        pins.set(wheel, value);
        let now = (journal.value(SERVO_LINE), journal.value(backward));
        assert_eq!(now, (Some(wanted.0), Some(wanted.1)), "{value}");
    }
    let (mut first, mut second) = (0, 0);
    for Change { line, value } in journal.changes() {
        if line == backward {
            second = value
        } else {
            first = value
        }
        assert!(first == 0 || second == 0, "both inputs at once");
    }
}

#[test]
fn a_value_moves_no_faster_than_allowed_and_the_safe_state_comes_at_once() {
    let table = &profile(&format!("{SERVO}per_second = 2\nsafe = 0\n")).pin[0];
    let journal = Journal::in_memory();
    let mut pin = Pin::open(&Chip::Simulated(journal.clone()), Path::new("/"), table).expect("a pin");
    let begun = pin.set;
    pin.set(1.0, begun + Duration::from_millis(50));
    assert_eq!(journal.value(SERVO_LINE), Some(1_550_000), "a tenth of the way in 50 ms");
    pin.set(1.0, begun + Duration::from_secs(60));
    assert_eq!(journal.value(SERVO_LINE), Some(1_650_000), "a pause is no leave to jump");
    pin.set(-1.0, begun + Duration::from_millis(60_010));
    assert_eq!(journal.value(SERVO_LINE), Some(1_640_000));
    pin.make_safe();
    assert_eq!(journal.value(SERVO_LINE), Some(1_500_000));
}

struct Broken;

impl Level for Broken {
    fn write(&mut self, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

impl Pulse for Broken {
    fn write(&mut self, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

#[test]
fn a_motor_whose_one_input_cannot_be_ended_does_not_begin_the_other() {
    let (mut pins, journal) = pins("[[pin]]\nname = 'wheel'\nline = ['pwmchip0/0', 'pwmchip0/1']\ndrives = 'motor'\n");
    pins.set(PinId(0), 0.5);
    let Output::Twin { forward, .. } = &mut pins.pins[0].output else { panic!("two inputs") };
    *forward = Box::new(Broken);
    pins.set(PinId(0), -0.5);
    assert_eq!(journal.value(Line::Pwm { chip: 0, channel: 1 }), Some(0));
    assert_eq!(pins.states().next().map(|state| (state.value, state.failures)), Some((Some(0.5), 1)));
}

#[test]
fn a_write_that_fails_is_counted_and_the_other_pins_go_safe_all_the_same() {
    let text = "[[pin]]\nname = 'a'\nline = 1\ndrives = 'digital'\n[[pin]]\nname = 'b'\nline = 2\ndrives = 'digital'\nsafe = 1\n";
    let (mut pins, journal) = pins(text);
    pins.pins[0].output = Output::Digital(Box::new(Broken));
    pins.set(PinId(0), 1.0);
    pins.set(PinId(1), 0.0);
    assert_eq!(journal.value(Line::Gpio(2)), Some(0));
    pins.make_safe();
    assert_eq!(journal.value(Line::Gpio(2)), Some(1));
    let failures: Vec<u64> = pins.states().map(|state| state.failures).collect();
    assert_eq!(failures, [2, 0]);
    // One that does not exist is no panic.
    pins.set(PinId(9), 1.0);
}

#[test]
fn a_mistake_in_a_table_is_answered_with_its_key() {
    let pin = |rest: &str| format!("[[pin]]\nname = 'p'\n{rest}\n");
    let button = |rest: &str| format!("[[button]]\nname = 'b'\n{rest}\n");
    let steer = |rest: &str| format!("[[controller]]\nname = 's'\ndoes = 'steer'\n{rest}\n");
    for (text, wanted) in [
        ("[pins]\nchip = 'COM3'".into(), ["pins.chip", "COM3"]),
        ("[pins]\nfolder = '/tmp'".into(), ["pins.folder", "simulated"]),
        (pin("line = 3\ndrives = 'laser'"), ["line 4", "laser"]),
        (pin("line = 'pwm0'\ndrives = 'servo'"), ["line 3", "pwmchip0/1"]),
        (pin("line = -1\ndrives = 'servo'"), ["line 3", "GPIO number"]),
        (pin("line = 4\ndrives = 'servo'\nsafe = 'limp'"), ["line 5", "off"]),
        (pin("line = 4\ndrives = 'servo'\nsafe = 2"), ["pin.safe", "pin.least"]),
        (pin("line = 4\ndrives = 'servo'\nmax_us = 30000"), ["pin.max_us", "30000"]),
        (pin("line = 4\ndrives = 'pwm'\nhz = 20000"), ["pin.hz", "500"]),
        (pin("line = 4\ndrives = 'pwm'\nleast = -1"), ["pin.least", "0 to 1"]),
        (pin("line = 4\ndrives = 'motor'"), ["pin.direction", "two PWM lines"]),
        (pin("line = 4\ndrives = 'digital'\ndirection = 5"), ["pin.direction", "GPIO 5"]),
        (pin("line = 'pwmchip0/0'\ndrives = 'digital'"), ["pin.line", "digital"]),
        (pin("line = 4\ndrives = 'digital'\nspeed = 5"), ["line 5", "speed"]),
        (pin("line = 4\ndrives = 'digital'") + &button("line = 4\ndoes = 'save'"), ["button.line", "GPIO 4"]),
        (button("line = 4\ndoes = 'teach'"), ["button.does", "label"]),
        (button("line = 4\ndoes = 'teach'\nlabel = 'wall'\nvalue = 1"), ["button.does", "either"]),
        (button("line = 4\ndoes = 'save'\nlabel = 'wall'"), ["button.label", "wall"]),
        (button("line = 4\ndoes = 'teach'\nvalue = 1"), ["button.value", "controller"]),
        (button("line = 'pwmchip0/0'\ndoes = 'save'"), ["button.line", "GPIO number"]),
        (button("line = 4\ndoes = 'save'\ndebounce_ms = 0"), ["button.debounce_ms", "1 to 1000"]),
        (steer("pin = 'q'") + &pin("line = 4\ndrives = 'servo'"), ["b.toml: s: controller.pin", "[[pin]]"]),
        (steer("pin = ['p', 'p']\noutputs = 2") + &pin("line = 4\ndrives = 'servo'"), ["controller.pin", "no other"]),
        (
            steer("outputs = 2") + &button("line = 4\ndoes = 'teach'\nvalue = 1\ncontroller = 's'"),
            ["b.toml: b: button.value", "outputs"],
        ),
        (button("line = 4\ndoes = 'teach'\nvalue = 1\ncontroller = 's'"), ["button.controller", "steer"]),
    ] {
        let problem = Profile::parse("b.toml", &text).expect_err(&text).to_string();
        wanted.iter().for_each(|part| assert!(problem.contains(part), "{text}: {part} in: {problem}"));
    }
}

#[test]
fn a_profile_with_pins_is_written_as_it_is_read() {
    let text = format!(
        "{SERVO}safe = 'off'\n[[pin]]\nname = 'wheel'\nline = ['pwmchip0/1', 7]\ndrives = 'motor'\nsafe = 0.0\n\
         [[controller]]\nname = 'drive'\ndoes = 'steer'\noutputs = 2\n\
         [[button]]\nname = 'here'\nline = 17\ndoes = 'teach'\nvalue = [0.5, 1]\ncontroller = 'drive'\n"
    );
    let read = profile(&text);
    let written = toml::to_string(&read).expect("a profile can be written");
    assert_eq!(profile(&written), read);

    assert_eq!(read.button[0].value, [0.5, 1.0]);
}

#[test]
fn pressing_a_simulated_button_is_told_and_what_is_none_is_not() {
    use std::io::Write;
    let folder = tempfile::tempdir().expect("a folder");
    let table = PinsTable { chip: Some("simulated".into()), folder: Some(folder.path().into()) };
    let tables: Vec<ButtonTable> =
        profile("[[button]]\nname = 'a'\nline = 1\ndoes = 'save'\n[[button]]\nname = 'b'\nline = 2\ndoes = 'freeze'\n")
            .button;
    let buttons = Buttons::open(&table, &tables).expect("a FIFO");
    assert_eq!(buttons.wait(Duration::ZERO), None);
    let mut fifo =
        std::fs::OpenOptions::new().write(true).open(simulated::buttons(folder.path())).expect("it is there");
    fifo.write_all(b"b\nnone\n\na").expect("it is read");
    fifo.write_all(b"\n").expect("it is read");
    let mut pressed = Vec::new();
    let begun = Instant::now();
    while pressed.len() < 2 {
        pressed.extend(buttons.wait(Duration::ZERO));
        assert!(begun.elapsed() < Duration::from_secs(20), "only {pressed:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(pressed, [Pressed { button: 1 }, Pressed { button: 0 }]);
    // Its thread ends.
    drop(buttons);
}

#[test]
fn changes_of_simulated_lines_are_written_to_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = PinsTable { chip: Some("simulated".into()), folder: Some(folder.path().into()) };
    let tables: Vec<PinTable> = profile("[[pin]]\nname = 'lamp'\nline = 5\ndrives = 'digital'\n").pin;
    let mut pins = Pins::open(&table, &tables).expect("a file");
    let lamp = pins.find("lamp").expect("it is there");
    for value in [1.0, 1.0, 0.0] {
        pins.set(lamp, value);
    }
    let text = std::fs::read_to_string(simulated::writes(folder.path())).expect("a file");
    let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
    assert_eq!(lines, ["GPIO 5 0", "GPIO 5 1", "GPIO 5 0"]);
}

#[cfg(feature = "gpio")]
#[test]
fn a_chip_that_is_not_there_is_refused_with_what_to_do() {
    let table = PinsTable { chip: Some("gpiochip999".into()), folder: None };
    let tables = profile("[[pin]]\nname = 'lamp'\nline = 5\ndrives = 'digital'\n").pin;
    let problem = Pins::open(&table, &tables).err().expect("there is no such chip").to_string();
    for part in ["pin lamp", "/dev/gpiochip999", "gpiodetect"] {
        assert!(problem.contains(part), "{part} in: {problem}");
    }
}
