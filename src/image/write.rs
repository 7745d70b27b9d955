//! Making images, on the host.

use super::{CHECKED, FORMAT, Kind, MAGIC};
use crate::learner::{Learner, Numbers};
use crate::net::spec::Spec;
use crate::sample::Seed;
use crate::state::CRC;

/// An image of `spec` and the options that decide its bits, with the state of `learner` where one is given.
///
/// # Panics
/// Where the image would pass 4 GiB.
pub fn to_bytes(spec: &Spec, seed: Seed, expected_samples: Option<u64>, learner: Option<&mut Learner>) -> Vec<u8> {
    fn pad(out: &mut Vec<u8>) {
        out.resize(out.len().next_multiple_of(4), 0);
    }
    fn length(bytes: usize) -> [u8; 4] {
        u32::try_from(bytes).expect("an image of less than 4 GiB").to_le_bytes()
    }
    let mut out = [MAGIC.as_slice(), &FORMAT.to_le_bytes(), &[0; 12]].concat();
    let head = postcard::to_extend(&(seed.0, expected_samples), Vec::new());
    let head = head.and_then(|head| postcard::to_extend(spec, head)).expect("a vector takes all");
    out[20..24].copy_from_slice(&length(head.len()));
    out.extend(head);
    pad(&mut out);
    if let Some(learner) = learner {
        learner.visit_state(|name, mut numbers| {
            let kind = match numbers {
                Numbers::I8(_) => Kind::I8,
                Numbers::I16(_) => Kind::I16,
                Numbers::I32(_) => Kind::I32,
                Numbers::Bytes(_) => Kind::Bytes,
            };
            let bytes = numbers.bytes();
            if bytes.is_empty() {
                return;
            }
            out.extend([u8::try_from(name.len()).expect("a short name"), kind as u8, 0, 0]);
            out.extend(length(bytes.len()));
            for part in [name.as_bytes(), bytes] {
                out.extend(part);
                pad(&mut out);
            }
        });
    }
    let len = length(out.len());
    out[12..16].copy_from_slice(&len);
    let checksum = CRC.checksum(&out[CHECKED..]);
    out[16..20].copy_from_slice(&checksum.to_le_bytes());
    out
}
