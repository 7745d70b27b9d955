//! What a head that rebuilds does above the last layer: through a code, where it has one, to the decoder's sums.

use super::variational;
use crate::fixed::random::Draws;
use crate::fixed::{Seen, round_nearest64, shift_for};
use crate::kernels::narrow::{Largest, Linear, Relu, Sink};
use crate::net::arena::Arena;
use crate::net::forward::{Params, Scratch};
use crate::net::head::Head;
use crate::net::network::Network;

/// Places of a head's shifts: the decoder's sums, the errors at them, the latent, the map that its code becomes.
pub mod shift {
    pub const PREDICTION: usize = 0;
    pub const ERROR: usize = 1;
    pub const LATENT: usize = 2;
    pub const MAP: usize = 3;
}

/// The code of one view, and what it becomes; nothing where the head has none.
pub struct Code<'a> {
    /// Means and log-variances, as in [`variational`].
    pub latent: &'a mut [i8],
    /// What was drawn by them.
    pub drawn: &'a mut [i8],
    /// What the decoder reads: a map like that of the last layer.
    pub map: &'a mut [i8],
    /// The way back: the gradient by what was drawn, then that by the latent.
    pub sums: &'a mut [i32],
}

/// Which shifts made a code, and what the map's narrowing saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coded {
    pub latent: u32,
    pub map: u32,
    pub seen: Seen,
}

impl<'a> Code<'a> {
    /// For `head`.
    pub fn take(network: &Network, head: &Head, arena: &mut Arena<'a>) -> Self {
        let len = head.code_len();
        let map = if len > 0 { network.tensors[head.top()].conv.input.len() } else { 0 };
        Code { latent: arena.take(2 * len), drawn: arena.take(len), map: arena.take(map), sums: arena.take(3 * len) }
    }

    /// Takes the last layer's activations of one view to a code and on to the map. `draws`: of the noise; without them the
    /// code is the means.
    pub fn forward(
        &mut self,
        net: &Network,
        params: Params,
        head: &Head,
        activations: &[i8],
        draws: Option<Draws>,
        scratch: &mut Scratch,
    ) -> Coded {
        let (Some(last), number) = (net.layers.last(), head.tensors.start) else { return Coded::default() };
        let (conv, below) = (&net.tensors[number].conv, &activations[net.step_offset(last)..][..last.output.len()]);
        let lagged = params.shifts.heads[head.number][shift::LATENT];
        let latent = if lagged.is_set() {
            lagged.get()
        } else {
            let mut largest = Largest::default();
            params.forward(net, conv, number, below, &mut largest, scratch);
            // The first means are within 2 of 0, and the first deviations between 1/7 and 7.
            shift_for(largest.magnitude, 7)
        };
        params.forward(net, conv, number, below, &mut Linear::new(latent, &[], self.latent), scratch);
        match draws {
            Some(draws) => variational::sample(self.latent, draws, self.drawn),
            None => self.drawn.copy_from_slice(&self.latent[..self.drawn.len()]),
        }
        Coded { latent, ..self.unfold(net, params, head, scratch) }
    }

    /// Takes what was drawn to the map.
    pub fn unfold(&mut self, net: &Network, params: Params, head: &Head, scratch: &mut Scratch) -> Coded {
        let number = head.tensors.start + 1;
        let conv = &net.tensors[number].conv;
        let lagged = params.shifts.heads[head.number][shift::MAP];
        let map = if lagged.is_set() {
            lagged.get()
        } else {
            let mut largest = Largest::default();
            params.forward(net, conv, number, self.drawn, &mut largest, scratch);
            shift_for(largest.magnitude, 8)
        };
        let mut sink = Relu::new(map, &[], self.map);
        params.forward(net, conv, number, self.drawn, &mut sink, scratch);
        Coded { latent: 0, map, seen: sink.seen() }
    }
}

/// The decoder's sums into `sink`: of the last layer's activations of one view, or of the code's map.
pub fn decode<S: Sink>(
    net: &Network,
    params: Params,
    head: &Head,
    activations: &[i8],
    code: &Code,
    sink: &mut S,
    scratch: &mut Scratch,
) {
    let Some(last) = net.layers.last() else { return };
    let below = if code.map.is_empty() { &activations[net.step_offset(last)..] } else { &*code.map };
    let decoder = head.top();
    params.forward(net, &net.tensors[decoder].conv, decoder, below, sink, scratch);
}

/// How the errors at what was drawn become those at the latent.
pub struct WayBack<'a> {
    pub latent: &'a [i8],
    /// Those of [`Code::forward`].
    pub draws: Draws,
    /// The products of errors and weights, times 2^this and times 2 for each bit that was narrowed off since, are the
    /// gradient of half the square of predictions by one mantissa of what was drawn.
    pub scale: i32,
    /// Of the errors, in the square of the unit of predictions; as much as the decoder is trusted (Rybkin et al. 2020,
    /// arXiv:2006.13202).
    pub mean_square: u64,
}

impl WayBack<'_> {
    /// Makes the gradient by the latent in the last two thirds of `sums`, of the products in the first third, after
    /// `narrowed` bits were taken off the errors at the map.
    pub fn turn(&self, narrowed: u32, sums: &mut [i32]) {
        const MOST: i64 = 1 << 30;
        // From a mantissa to a whole unit, and to the fraction that is asked for.
        let exponent = self.scale + narrowed as i32 + (variational::MEAN + variational::GRADIENT) as i32;
        let (products, gradient) = sums.split_at_mut(self.latent.len() / 2);
        for product in products.iter_mut() {
            let wide = i64::from(*product);
            let scaled = match exponent {
                0.. => wide << exponent.min(31),
                _ => round_nearest64(wide, exponent.unsigned_abs().min(62)),
            };
            *product = (scaled / self.mean_square.clamp(1, 1 << 62) as i64).clamp(-MOST, MOST) as i32;
        }
        variational::backward(self.latent, self.draws, products, 256, gradient);
    }
}
