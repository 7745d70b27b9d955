//! What the lanes of a step share, whatever the task: gradients summed apart and added up, the update, and the shifts that
//! follow. The bits do not depend on how the work is split.

use core::ops::Range;

use super::Join;
use crate::fixed::Seen;
use crate::net::arena::Arena;
use crate::net::backward::BackwardSeen;
use crate::net::forward::{ForwardSeen, Shifts};
use crate::net::head::Head;
use crate::net::network::{MAX_TENSORS, Network};
use crate::net::update;

/// What a lane adds up over its views.
pub(super) struct Sums<'a> {
    /// Of all trained weights, or room for the gradient of one tensor.
    pub gradients: &'a mut [i32],
    /// Sums of 64 bits of the tensors that need them.
    pub wide: &'a mut [i64],
    pub forward: ForwardSeen,
    pub backward: BackwardSeen,
}

impl<'a> Sums<'a> {
    pub fn take(network: &Network, gradients: usize, arena: &mut Arena<'a>) -> Self {
        Sums {
            gradients: arena.take(gradients),
            wide: arena.take(network.wide_len),
            forward: ForwardSeen::default(),
            backward: [Seen::default(); MAX_TENSORS],
        }
    }

    pub fn clear(&mut self) {
        self.gradients.fill(0);
        self.wide.fill(0);
        self.forward = ForwardSeen::default();
        self.backward = [Seen::default(); MAX_TENSORS];
    }

    /// Notes what a backward pass saw, and moves the sums that could pass 32 bits over to 64.
    pub fn note_backward(&mut self, network: &Network, head: &Head, seen: &BackwardSeen) {
        self.backward.iter_mut().zip(seen).for_each(|(a, b)| *a = a.merge(*b));
        for (sums, wide) in wide_tensors(network, head) {
            update::widen(&mut self.gradients[sums], &mut self.wide[wide]);
        }
    }

    /// Adds another lane's.
    pub fn add(&mut self, other: &Sums) {
        self.gradients.iter_mut().zip(other.gradients.iter()).for_each(|(a, b)| *a += b);
        self.wide.iter_mut().zip(other.wide.iter()).for_each(|(a, b)| *a += b);
        self.forward.merge(&other.forward);
        self.backward.iter_mut().zip(other.backward).for_each(|(a, b)| *a = a.merge(b));
    }

    /// Brings the sums of 64 bits back to 32, once all lanes are added.
    pub fn narrow(&mut self, network: &Network, head: &Head) {
        for (sums, wide) in wide_tensors(network, head) {
            update::narrow_wide(&self.wide[wide], &mut self.gradients[sums]);
        }
    }

    /// Calls `each` with every tensor of a step of `head` and its gradient.
    pub fn for_each_tensor(&self, network: &Network, head: &Head, mut each: impl FnMut(usize, &[i32])) {
        let from = network.trained_range().start;
        for number in network.chain(head) {
            let t = &network.tensors[number];
            each(number, &self.gradients[t.weights - from..][..t.conv.weights()]);
        }
    }

    /// Activations and errors: those that were clamped, and all.
    pub fn clamped(&self) -> [[u64; 2]; 2] {
        [&self.forward.layers[..], &self.backward[..]].map(|seen| {
            seen.iter().fold([0; 2], |[clamped, all], s| [clamped + u64::from(s.clamped), all + u64::from(s.total)])
        })
    }
}

/// Where the gradients of the tensors stand that need 64 bits: among those of 32, and of 64.
fn wide_tensors<'a>(network: &'a Network, head: &Head) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<'a> {
    let trained = network.trained_range().start;
    network.chain(head).filter_map(move |number| {
        let t = &network.tensors[number];
        let (from, len) = (t.weights.saturating_sub(trained), t.conv.weights());
        t.wide.map(|wide| (from..from + len, wide..wide + len))
    })
}

/// Calls `f` on every lane, halving the work over `join`.
pub(super) fn for_each<J: Join, L: Send>(join: &J, lanes: &mut [L], f: &(impl Fn(&mut L) + Sync)) {
    match lanes {
        [] => {}
        [lane] => f(lane),
        _ => {
            let (left, right) = lanes.split_at_mut(lanes.len() / 2);
            join.join(|| for_each(join, left, f), || for_each(join, right, f));
        }
    }
}

/// Lets the shifts of the layers follow what a step saw; `may_fall`: as with
/// [`LaggedShift::follow_slowly`](crate::fixed::LaggedShift::follow_slowly).
pub(super) fn follow_layers(shifts: &mut Shifts, network: &Network, seen: &ForwardSeen, may_fall: bool) {
    let layers = shifts.layers.iter_mut().zip(&seen.layers).zip(&network.layers);
    // A step sees nothing of what stands below its latents.
    for ((shift, seen), layer) in layers.skip(network.base) {
        // A stem that is not trained any more keeps the shift that it was published with.
        if !layer.dictionary {
            shift.follow_slowly(*seen, may_fall);
        }
    }
}

/// As [`follow_layers`], for the errors.
pub(super) fn follow_backward(shifts: &mut Shifts, network: &Network, head: &Head, seen: &BackwardSeen, fall: bool) {
    for tensor in network.chain(head).filter(|&t| t > network.first_trained) {
        shifts.errors[tensor].follow_slowly(seen[tensor], fall);
    }
}
