//! What a daemon takes of memory, before it runs: the learner's block and what is kept beside it. Code, stacks, and the
//! buffers of the system and its libraries come on top; they are some megabytes.

use std::str::FromStr;

use super::RING;
use super::{history, tap};
use crate::board::Profile;
use crate::control;
use crate::learner::Learner;
use crate::runtime::perceiver;
use crate::source::uri::{Scheme, Uri};

/// Frames on their way: in the ring, and one each in the reader's, the mailbox's, the perceiver's and the learner's hands.
const FRAMES: usize = RING + 4;

/// The parts and their bytes, largest share first by nature: `(name, bytes)`.
pub fn planned(learner: &mut Learner, block_len: usize, profile: &Profile) -> [(&'static str, usize); 7] {
    let (mut state, mut lesson) = (0, 0);
    learner.visit_state(|name, mut numbers| {
        let len = numbers.bytes().len();
        state += len;
        lesson += if history::is_learned(name) { len } else { 0 };
    });
    let lessons = if profile.learn.lessons == 0 { 0 } else { (profile.learn.lessons + 1) * lesson };
    let checkpoint = if profile.store.path.is_some() { state } else { 0 };
    // The teacher has an encoder of its own, and hands over a copy.
    let taught = match control::most_bytes(&profile.controller, learner.stored_len(), learner.network().feature_dim) {
        0 => 0,
        bytes => bytes + perceiver::COPIES * perceiver::copy_len(learner),
    };
    let frame = profile.source.iter().map(|uri| frame_len(uri)).max().unwrap_or(0);
    [
        ("the learner", block_len),
        ("encoders for perceiving", perceiver::COPIES * perceiver::copy_len(learner)),
        ("lessons to go back to", lessons),
        ("a checkpoint on its way", checkpoint),
        ("frames that wait", FRAMES * frame),
        ("what is taught", taught),
        ("samples to be recorded", if profile.record.path.is_some() { tap::QUEUE * frame } else { 0 }),
    ]
}

/// Bytes of a frame of the source `uri`, where it says its size or is a camera; others give less, or what only they know.
fn frame_len(uri: &str) -> usize {
    // A URI that cannot be read is told of where it is opened.
    let Ok(uri) = Uri::from_str(uri) else { return 0 };
    match (uri.scheme, uri.query.width, uri.query.height) {
        (Scheme::Camera, width, height) => width.unwrap_or(320) * height.unwrap_or(240) * 3,
        (_, Some(width), Some(height)) => width * height * 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::Options;
    use crate::sample::Seed;

    fn parts(text: &str) -> [(&'static str, usize); 7] {
        let profile = Profile::parse("b", text).expect("a sound profile");
        let spec = crate::model::load("n5").expect("a shipped model");
        let options = Options::new(Seed(1));
        let plan = Learner::plan(&spec, &options).expect("a plan");
        let mut memory = vec![0; plan.block_len()];
        let mut learner = Learner::new(&spec, &options, &mut memory).expect("enough memory");
        planned(&mut learner, plan.block_len(), &profile)
    }

    #[test]
    fn what_is_not_kept_is_not_counted_and_frames_are_as_large_as_the_source_says() {
        let little = parts("source = 'sim:rover'\n[learn]\nlessons = 0");
        assert_eq!(little.map(|(_, bytes)| bytes > 0), [true, true, false, false, false, false, false]);
        let much =
            "source = 'camera:0?width=640&height=480'\n[learn]\nlessons = 3\n[store]\npath = 'x'\n[record]\npath = 'y'";
        let much = parts(much);
        assert_eq!((much[4].1, much[6].1), (FRAMES * 640 * 480 * 3, tap::QUEUE * 640 * 480 * 3));
        let taught = parts("source = 'sim:rover'\n[[controller]]\nname = 'a'\ndoes = 'classify'")[5].1;
        assert!((1_000_000..20_000_000).contains(&taught), "{taught}");
        assert!(much[2].1 > 4 * 4800 && much[3].1 > 4800, "four lessons and a checkpoint of 4.8 k weights: {much:?}");
    }
}
