//! The board profiles that are shipped: each can be read, its sources are known, and what it plans fits what it allows.

use std::path::{Path, PathBuf};

use nestling::board::Profile;
use nestling::learner::{Learner, Options};
use nestling::runtime::daemon::memory;
use nestling::sample::Seed;
use nestling::source::uri::Uri;

fn shipped() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
    let entries = std::fs::read_dir(&folder).expect("the folder boards").filter_map(Result::ok).map(|e| e.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("a text"))).collect()
}

/// Bytes that a daemon of `profile` plans.
fn planned(profile: &Profile) -> usize {
    let spec = nestling::model::load(profile.model.as_deref().unwrap_or("l100")).expect("a model");
    let options = Options { lanes: 4, ..Options::new(Seed(0)) };
    let block = Learner::plan(&spec, &options).expect("a plan").block_len();
    let mut bytes = vec![0; block];
    let mut learner = Learner::new(&spec, &options, &mut bytes).expect("enough memory");
    let parts = memory::planned(&mut learner, block, profile);
    profile.check_memory(&parts).expect("memory_mb allows what is planned");
    parts.iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn every_shipped_profile_is_sound_and_allows_what_it_plans() {
    let profiles = shipped();
    assert!(profiles.len() >= 6, "profiles in boards/: {}", profiles.len());
    for (path, _) in &profiles {
        let profile = Profile::read(path).unwrap_or_else(|e| panic!("{e}"));
        let file = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        assert_eq!(profile.name, file, "a profile is named as its file");
        assert!(!profile.source.is_empty() && profile.store.path.is_some(), "{file}");
        for uri in &profile.source {
            uri.parse::<Uri>().unwrap_or_else(|e| panic!("{file}: {e}"));
        }
        let bytes = planned(&profile);
        assert!((1_000_000..200_000_000).contains(&bytes), "{file} plans {bytes} bytes");
    }
}

/// What the lines of `text` say that begin with `mark`, a comment's.
fn commented(text: &str, mark: &str) -> String {
    text.lines().filter_map(|line| line.strip_prefix(mark)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_second_sensors_profile_in_the_comments_is_sound_too() {
    let mut held = 0;
    for (path, text) in shipped() {
        let sensor = commented(&text, "#   ");
        if !sensor.contains("source") {
            continue;
        }
        let name = path.display().to_string();
        let profile = Profile::parse(&name, &sensor).unwrap_or_else(|e| panic!("{e} in\n{sensor}"));
        assert!(planned(&profile) < 20_000_000, "{name}: a sensor's daemon is small");
        held += 1;
    }
    assert!(held >= 4, "profiles with a second sensor in their comments: {held}");
}

#[test]
fn the_pins_buttons_and_controllers_in_the_comments_are_sound_too() {
    let mut held = 0;
    for (path, text) in shipped() {
        let tables = commented(&text, "#: ");
        if tables.is_empty() {
            continue;
        }
        let name = path.display().to_string();
        let profile =
            Profile::parse(&name, &format!("{text}\n{tables}")).unwrap_or_else(|e| panic!("{e} in\n{tables}"));
        assert!(!profile.controller.is_empty() && !profile.pin.is_empty() && !profile.button.is_empty(), "{name}");
        // With all of it the profile allows what it plans, too.
        planned(&profile);
        held += 1;
    }
    assert!(held >= 4, "profiles with controllers in their comments: {held}");
}

#[test]
fn a_profile_that_allows_too_little_is_told_what_takes_how_much() {
    let profile = Profile::parse("b", "source = 'camera:0'\nmodel = 'n5'\nmemory_mb = 1").expect("sound");
    let parts = [("the learner", 300_000), ("lessons to go back to", 900_000), ("frames that wait", 0)];
    let problem = profile.check_memory(&parts).expect_err("1.2 MB of 1").to_string();
    for told in ["memory_mb = 1", "1.2 MB", "the learner 0.3, lessons to go back to 0.9\n", "[learn] lessons"] {
        assert!(problem.contains(told), "{told} in: {problem}");
    }
    profile.check_memory(&parts[..2].iter().map(|(n, b)| (*n, b / 2)).collect::<Vec<_>>()).expect("0.6 MB of 1");
    assert!(Profile::parse("b", "memory_mb = 0").is_err());
}
