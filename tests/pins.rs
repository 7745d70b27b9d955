//! Pins, from outside: whatever they are given, they stay within what the profile allows, and it costs no allocation.
#![cfg(all(feature = "std", target_os = "linux"))]

mod common;

use std::path::Path;

use common::counting;
use nestling::board::Profile;
use nestling::pins::{Pins, simulated};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: counting::Allocator = counting::Allocator;

const ALL: &str = "
[[pin]]
name = 'servo'
line = 'pwmchip0/0'
drives = 'servo'
least = -0.5
[[pin]]
name = 'lamp'
line = 5
drives = 'digital'
active_low = true
[[pin]]
name = 'fan'
line = 12
drives = 'pwm'
most = 0.75
per_second = 1.5
[[pin]]
name = 'left'
line = 'pwmchip0/1'
direction = [23, 24]
drives = 'motor'
safe = 0
[[pin]]
name = 'right'
line = [13, 19]
drives = 'motor'
per_second = 4
";

fn profile(text: &str) -> Profile {
    Profile::parse("b.toml", text).expect("a sound profile")
}

proptest! {
    #[test]
    fn no_number_takes_a_pin_beyond_its_limits(values in prop::collection::vec(any::<f64>(), 1..40)) {
        let (mut pins, journal) = Pins::simulated(&profile(ALL).pin).expect("simulated lines");
        let limits = [("servo", -0.5, 1.0), ("lamp", 0.0, 1.0), ("fan", 0.0, 0.75), ("left", -1.0, 1.0), ("right", -1.0, 1.0)];
        for (i, value) in values.into_iter().enumerate() {
            let (name, least, most) = limits[i % limits.len()];
            pins.set(pins.find(name).expect(name), value);
            let now = pins.states().find(|state| state.name == name).expect(name);
            prop_assert_eq!(now.failures, 0);
            prop_assert!(now.value.is_none_or(|v| (least..=most).contains(&v)), "{} is {:?} after {}", name, now.value, value);
        }
        // 20 ms of a servo, 1 ms of a channel, 10 ms of a pulse by software.
        let highest = journal.changes().iter().map(|change| change.value).max().unwrap_or(0);
        prop_assert!(highest <= 10_000_000, "{highest} ns high");
    }
}

#[test]
fn setting_a_pin_allocates_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("[pins]\nchip = 'simulated'\nfolder = '{}'\n{ALL}", folder.path().display());
    let profile = profile(&text);
    let mut pins = Pins::open(&profile.pins, &profile.pin).expect("simulated lines");
    let all: Vec<_> = profile.pin.iter().map(|pin| pins.find(&pin.name).expect("it is there")).collect();
    let before = counting::allocations();
    for value in [0.0, 1.0, -1.0, 0.3, f64::NAN, 0.7] {
        all.iter().for_each(|pin| pins.set(*pin, value));
    }
    pins.make_safe();
    assert_eq!(counting::allocations() - before, 0);
    let writes = std::fs::read_to_string(simulated::writes(folder.path())).expect("a file");
    assert!(writes.lines().count() > 20, "the lines were written:\n{writes}");
}

#[test]
fn the_examples_of_the_guide_are_sound() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pins.md");
    // The package has no guides.
    let Ok(text) = std::fs::read_to_string(guide) else { return };
    let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let profile = profile(example);
        assert!(!profile.pin.is_empty() && !profile.button.is_empty(), "{example}");
    }
}
