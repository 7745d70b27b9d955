//! The redundancy-aware policy: of a full buffer and a new sample, the one that lies nearest to another leaves.
//!
//! Each entry knows its nearest neighbour. A stream that shows the same thing for hours so keeps one slot busy, not all.

use bytemuck::{Pod, Zeroable};

/// Nearest other entry, and the squared distance to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Link {
    pub distance: u32,
    pub nearest: u32,
}

fn distance(a: &[i8], b: &[i8]) -> u32 {
    a.iter().zip(b).map(|(&a, &b)| (i32::from(a) - i32::from(b)).unsigned_abs().pow(2)).sum()
}

fn row(descriptors: &[i8], len: usize, index: usize) -> &[i8] {
    &descriptors[index * len..(index + 1) * len]
}

/// The slot that a new sample takes in a full buffer: that of the entry nearest to another; `None` where the new sample
/// itself lies nearer to an entry than any two entries do.
pub fn victim(descriptors: &[i8], len: usize, links: &[Link], new: &[i8]) -> Option<usize> {
    let own = descriptors.chunks_exact(len.max(1)).map(|d| distance(d, new)).min()?;
    let (slot, link) = links.iter().enumerate().min_by_key(|(_, link)| link.distance)?;
    (own > link.distance).then_some(slot)
}

/// Puts a descriptor into `slot` and mends all links that pointed there.
pub fn place(descriptors: &mut [i8], len: usize, links: &mut [Link], slot: usize, new: &[i8]) {
    descriptors[slot * len..(slot + 1) * len].copy_from_slice(new);
    links[slot] = nearest(descriptors, len, links.len(), slot);
    for other in 0..links.len() {
        let to_new = distance(row(descriptors, len, other), new);
        if other == slot {
            continue;
        } else if links[other].nearest as usize == slot && links.len() > 1 {
            links[other] = nearest(descriptors, len, links.len(), other);
        } else if to_new < links[other].distance || links.len() == 2 {
            links[other] = Link { distance: to_new, nearest: slot as u32 };
        }
    }
}

fn nearest(descriptors: &[i8], len: usize, held: usize, of: usize) -> Link {
    let own = row(descriptors, len, of);
    (0..held)
        .filter(|&other| other != of)
        .map(|other| Link { distance: distance(own, row(descriptors, len, other)), nearest: other as u32 })
        .min_by_key(|link| link.distance)
        .unwrap_or(Link { distance: u32::MAX, nearest: of as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::random::Draws;
    use crate::sample::Seed;

    #[test]
    fn links_always_name_the_nearest_entry() {
        let (len, capacity) = (4, 12);
        let mut descriptors = vec![0i8; len * capacity];
        let mut links = vec![Link::default(); capacity];
        for n in 0..300u64 {
            let draws = Draws::new(Seed(1), n, 0);
            let new: Vec<i8> = (0..len as u32).map(|k| draws.between(k, -20, 20) as i8).collect();
            let held = (n as usize + 1).min(capacity);
            let slot = match n as usize {
                n if n < capacity => n,
                _ => match victim(&descriptors, len, &links, &new) {
                    Some(slot) => slot,
                    None => continue,
                },
            };
            place(&mut descriptors, len, &mut links[..held], slot, &new);
            for (i, link) in links.iter().enumerate().take(held) {
                assert_eq!(link.distance, nearest(&descriptors, len, held, i).distance, "entry {i} after {n}");
            }
        }
    }
}
