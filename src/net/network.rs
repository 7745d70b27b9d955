//! The geometry of an encoder and its head: shapes, where each tensor stands in the shared arrays, and the proof that
//! no accumulator overflows. Built once from a [`Spec`]; the passes only read it.

use core::ops::Range;

use super::error::PlanError;
use super::head::{Head, MAX_HEAD_TENSORS};
use super::sparse::SparseUpdate;
use super::spec::{InputKind, LayerKind, LayerSpec, MAX_LAYERS, ReplayPolicy, Spec};
use super::task::MAX_PRETEXTS;
use crate::audio::LogMel;
use crate::kernels::{Conv, Grid, Kernels, Map};

/// Most convolutions: two for the stem, one for each further layer, one more for a layer trained in part, and those of the
/// heads; firmware has room for one small head.
pub const MAX_TENSORS: usize =
    if cfg!(feature = "std") { MAX_LAYERS + 2 + MAX_PRETEXTS * MAX_HEAD_TENSORS } else { MAX_LAYERS + 3 };

/// Weights of one convolution and where they stand.
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    pub conv: Conv,
    /// Offset in the array of all 8-bit weights.
    pub weights: usize,
    /// Offset in the array of packed forward weights.
    pub packed: usize,
    /// Offset in the array of packed backward weights.
    pub packed_back: usize,
    /// Trained by the pretext's gradient.
    pub trained: bool,
    /// Keep each filter's mean at zero.
    pub zero_mean: bool,
    /// Its filters are rows to be looked up by codes: an embedding.
    pub lookup: bool,
    /// The gradient of a step can pass 2³¹: it is summed in 64 bits from this offset on.
    pub wide: Option<usize>,
}

impl Tensor {
    /// Multiply-adds of its product; to look up is none.
    pub fn macs(&self) -> usize {
        if self.lookup { 0 } else { self.conv.macs() }
    }

    pub fn weight_range(&self) -> Range<usize> {
        self.weights..self.weights + self.conv.weights()
    }

    /// Its weights, where the first of all are in `flash` and the others in `ram`.
    pub fn weights_in<'a>(&self, flash: &'a [i8], ram: &'a [i8]) -> &'a [i8] {
        match self.weights.checked_sub(flash.len()) {
            Some(from) => &ram[from..from + self.conv.weights()],
            None => &flash[self.weight_range()],
        }
    }
}

/// One layer: one or two convolutions side by side into one map, then ReLU and narrowing.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its convolutions, as numbers of tensors.
    pub tensors: Range<usize>,
    pub input: Map,
    pub output: Map,
    /// Where the layer above, a dictionary, reads the averages over windows of the output: these are kept in its place.
    pub averaged: Option<Grid>,
    /// Offset of what is kept of its output in the activations of one view.
    pub activations: usize,
    /// Learned as a dictionary, with thresholds.
    pub dictionary: bool,
}

impl Layer {
    /// What the layer above reads.
    pub fn kept(&self) -> Map {
        match self.averaged {
            Some(grid) => Map::new(grid.cells.0, grid.cells.1, self.output.channels),
            None => self.output,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Network {
    pub kernels: Kernels,
    pub input: Map,
    pub tensors: heapless::Vec<Tensor, MAX_TENSORS>,
    pub layers: heapless::Vec<Layer, MAX_LAYERS>,
    /// One for each pretext.
    pub heads: heapless::Vec<Head, MAX_PRETEXTS>,
    /// Pooled layers of the feature, in order: (layer, grid).
    pub feature: heapless::Vec<(usize, Grid), MAX_LAYERS>,
    /// Length of all 8-bit weights.
    pub weights_len: usize,
    pub packed_len: usize,
    pub packed_back_len: usize,
    /// Activations of one view.
    pub activations_len: usize,
    /// Tensors from this one on are trained.
    pub first_trained: usize,
    pub feature_dim: usize,
    /// Views whose weight gradients are summed in 32 bits at a time.
    pub views_at_a_time: usize,
    /// Length of all gradient sums of 64 bits.
    pub wide_len: usize,
    /// First layer that a step computes: 0, or the lowest trained one where the replay buffer holds what that reads.
    pub base: usize,
    /// The last layer is summed over the windows of the feature as it is made, in 16 bits, and not stored.
    pub pools_last: bool,
    /// Perceiving keeps no more activations than those of a layer and of the one that it reads.
    pub two_at_a_time: bool,
    /// Lessons are judged on canaries.
    pub judged: bool,
    /// The replay buffer compares samples by a descriptor.
    pub describes: bool,
    /// How sound becomes a map.
    pub log_mel: Option<LogMel>,
}

impl Network {
    /// Checks `spec` and lays the encoder out.
    ///
    /// # Errors
    /// [`PlanError`], naming the layer or the key.
    pub fn new(spec: &Spec, kernels: Kernels) -> Result<Self, PlanError> {
        let mut network = Network::empty(spec, kernels);
        network.lay_out(spec)?;
        Ok(network)
    }

    /// A network without a layer.
    pub fn empty(spec: &Spec, kernels: Kernels) -> Self {
        Network {
            kernels,
            input: Map::new(spec.input.height, spec.input.width, spec.input.channels),
            tensors: heapless::Vec::new(),
            layers: heapless::Vec::new(),
            heads: heapless::Vec::new(),
            feature: heapless::Vec::new(),
            weights_len: 0,
            packed_len: 0,
            packed_back_len: 0,
            activations_len: 0,
            first_trained: 0,
            feature_dim: 0,
            views_at_a_time: kernels.views_at_a_time(),
            wide_len: 0,
            base: 0,
            pools_last: false,
            two_at_a_time: false,
            judged: spec.guard.canaries > 0,
            describes: spec.replay.policy == ReplayPolicy::Redundancy,
            log_mel: None,
        }
    }

    /// As [`Network::new`], in the place of an empty one: a network is some kilobytes, and a copy of it more than a small
    /// stack may hold.
    ///
    /// # Errors
    /// As [`Network::new`].
    #[inline(never)]
    pub fn lay_out(&mut self, spec: &Spec) -> Result<(), PlanError> {
        let network = self;
        let mut input = network.input;
        if spec.layer.is_empty() {
            return Err(PlanError::NoLayers);
        }
        if input.is_empty() {
            return Err(PlanError::EmptyInput);
        }
        let shape_fits = match spec.input.kind {
            InputKind::Image => matches!(input.channels, 1 | 3) && spec.input.vectors == 0,
            InputKind::Window => input.height == 1 && spec.input.vectors.saturating_mul(3) <= input.channels,
            InputKind::Tokens => {
                (input.height, input.channels) == (1, 1) && (2..=4096).contains(&spec.input.vocabulary)
            }
            InputKind::Audio => input.channels == 1 && spec.input.vectors == 0,
            InputKind::Latents => spec.input.vectors == 0,
        };
        let small = |n: usize, most: usize| n <= most;
        let fits = small(input.height, 4096) && small(input.width, 65536) && small(input.channels, 1024);
        // Small enough that no product of the plan overflows, whatever a damaged file says.
        if !shape_fits || !fits || input.len() > 1 << 24 {
            return Err(PlanError::InputShape);
        }
        if spec.input.kind == InputKind::Tokens {
            input.channels = crate::augment::token::DIGITS;
            if spec.layer.len() < 2 || spec.replay.policy == ReplayPolicy::Redundancy {
                return Err(PlanError::Embedding { layer: 0 });
            }
        }
        network.input = input;
        if spec.input.kind == InputKind::Audio {
            network.log_mel = Some(spec.input.log_mel().map_err(PlanError::Audio)?);
        }
        let sparse = SparseUpdate::of(spec)?;
        let mut map = input;
        for (index, layer) in spec.layer.iter().enumerate() {
            map = network.add_layer(spec, index, layer, sparse.trained[index], map)?;
        }
        network.add_features(spec)?;
        for (layer, _) in network.layers.iter().enumerate().filter(|(_, l)| l.averaged.is_some()) {
            let block = network.block_of(layer).map_or(0, |grid| grid.window_positions());
            if block > MOST_IN_16_BITS {
                return Err(PlanError::Groups { layer: layer + 1 });
            }
        }
        network.first_trained = network.tensors.iter().take_while(|t| !t.trained).count();
        for number in 0..spec.pretext.len() {
            network.add_head(spec, number, map)?;
        }
        if spec.replay.latents {
            network.base = network.base_of_latents(spec)?;
        }
        Ok(())
    }

    /// Stores no last layer that is only pooled.
    pub fn make_lean(&mut self) {
        let fits = self.meter_grid().map.positions() <= MOST_IN_16_BITS;
        self.pools_last = self.heads.is_empty() && fits;
        // A judge looks at the last layer too, and what is averaged has sums of its own.
        self.two_at_a_time = !self.pools_last && !self.judged && self.layers.iter().all(|l| l.averaged.is_none());
    }

    /// The lowest trained layer, whose inputs the replay buffer is to hold.
    fn base_of_latents(&self, spec: &Spec) -> Result<usize, PlanError> {
        let neighbours = self.heads.iter().map(|head| head.pretext.neighbours).min().unwrap_or(0);
        let base = self.layers.iter().position(|l| l.tensors.contains(&self.first_trained)).unwrap_or(0);
        if spec.input.kind != InputKind::Image || neighbours == 0 || base == 0 || self.judged {
            return Err(PlanError::Latents);
        }
        Ok(base)
    }

    fn add_layer(
        &mut self,
        spec: &Spec,
        index: usize,
        layer: &LayerSpec,
        trained: usize,
        map: Map,
    ) -> Result<Map, PlanError> {
        let shape = PlanError::LayerShape { layer: index };
        let fits = |n: usize, most: usize| (1..=most).contains(&n);
        if !fits(layer.kernel, 31) || !fits(layer.stride, 16) || !fits(layer.filters, 4096) {
            return Err(shape);
        }
        if (layer.kind == LayerKind::Embedding) != (spec.input.kind == InputKind::Tokens && index == 0) {
            return Err(PlanError::Embedding { layer: index });
        }
        if layer.kind == LayerKind::Embedding {
            return self.add_embedding(spec, layer, trained > 0);
        }
        let dictionary = layer.kind == LayerKind::Dictionary;
        let below = index.checked_sub(1).map(|below| self.layers[below].dictionary);
        if dictionary && below == Some(false) {
            return Err(PlanError::DictionaryPlace { layer: index });
        }
        let stacked = dictionary && below == Some(true);
        let groups = self.stack(index, layer, stacked, map)?;
        let map = self.layers.last().map_or(map, Layer::kept);
        let side = |extent: usize, n: usize| if extent == 1 && spec.input.height == 1 { 1 } else { n };
        let kernel = (side(map.height, layer.kernel), layer.kernel);
        let stride = (side(map.height, layer.stride), layer.stride);
        let padding = (kernel.0 / 2, kernel.1 / 2);
        let output = Map::new(
            Conv::extent(map.height, kernel.0, stride.0, padding.0),
            Conv::extent(map.width, kernel.1, stride.1, padding.1),
            layer.filters,
        );
        let depthwise = layer.kind == LayerKind::Depthwise;
        if output.is_empty() || (depthwise && layer.filters != map.channels) {
            return Err(shape);
        }
        let colour = layer.colour_filters;
        if colour > 0 && (!dictionary || map.channels != 3 || colour >= layer.filters) {
            return Err(PlanError::ColourFilters { layer: index });
        }
        let first = self.tensors.len();
        let conv = Conv {
            input: map,
            first_channel: 0,
            channels: map.channels,
            filters: layer.filters,
            kernel,
            stride,
            padding,
            groups: if depthwise { map.channels } else { groups },
            output,
            first_filter: 0,
            unsigned: index > 0 && !self.is_embedding(index - 1),
        };
        let zero_mean = layer.zero_mean && !dictionary;
        let part = |first_filter, filters| Conv { first_filter, filters, ..conv };
        if colour > 0 {
            let grey = layer.filters - colour;
            self.add_tensor(Conv { channels: 1, ..part(0, grey) }, false, false, index)?;
            self.add_tensor(Conv { first_channel: 1, channels: 2, ..part(grey, colour) }, false, false, index)?;
        } else if trained > 0 && trained < layer.filters {
            // The filters that keep their weights stand first, so that all trained weights are the last ones.
            let kept = layer.filters - trained;
            self.add_tensor(part(0, kept), false, zero_mean, index)?;
            self.add_tensor(part(kept, trained), true, zero_mean, index)?;
        } else {
            self.add_tensor(conv, trained > 0, zero_mean, index)?;
        }
        let tensors = first..self.tensors.len();
        let activations = self.activations_len;
        let layer = Layer { tensors, input: map, output, averaged: None, activations, dictionary };
        self.activations_len += output.len();
        self.layers.push(layer).map_err(|_| shape)?;
        Ok(output)
    }

    /// The first layer over tokens: a row for each code, and one for the mask.
    fn add_embedding(&mut self, spec: &Spec, layer: &LayerSpec, trained: bool) -> Result<Map, PlanError> {
        let rows = Conv::dense(layer.filters, spec.input.vocabulary + 1);
        let number = self.add_tensor(rows, trained, false, 0)?;
        self.tensors[number].lookup = true;
        let output = Map { channels: layer.filters, ..self.input };
        self.activations_len += output.len();
        let (input, tensors) = (self.input, number..number + 1);
        let layer = Layer { tensors, input, output, averaged: None, activations: 0, dictionary: false };
        self.layers.push(layer).map_err(|_| PlanError::Embedding { layer: 0 })?;
        Ok(output)
    }

    /// Layer `layer` looks its rows up: its output has signs.
    pub fn is_embedding(&self, layer: usize) -> bool {
        self.layers.get(layer).is_some_and(|l| self.tensors[l.tensors.start].lookup)
    }

    /// How many groups a dictionary on another reads; the layer below is told to keep its averages.
    fn stack(&mut self, index: usize, layer: &LayerSpec, stacked: bool, map: Map) -> Result<usize, PlanError> {
        let wrong = PlanError::Groups { layer: index };
        let group = if layer.group == 0 { map.channels } else { layer.group };
        let (rows, pool) = (if map.height == 1 { 1 } else { layer.pool }, layer.pool);
        let groups = map.channels / group;
        let divides =
            matches!(pool, 1 | 2 | 4 | 8) && map.height.is_multiple_of(rows) && map.width.is_multiple_of(pool);
        if !divides || !map.channels.is_multiple_of(group) || !layer.filters.is_multiple_of(groups.max(1)) {
            return Err(wrong);
        }
        if (groups > 1 || pool > 1) && !stacked {
            return Err(wrong);
        }
        if let Some(below) = self.layers.last_mut().filter(|_| pool > 1) {
            below.averaged = Some(Grid::new(map, (map.height / rows, map.width / pool), false));
            self.activations_len = below.activations + below.kept().len();
        }
        Ok(groups)
    }

    pub(super) fn add_tensor(
        &mut self,
        conv: Conv,
        trained: bool,
        zero_mean: bool,
        layer: usize,
    ) -> Result<usize, PlanError> {
        let overflow = PlanError::AccumulatorOverflow { layer };
        if !sums_fit(conv.fan_in()) || !sums_fit(conv.filters * conv.kernel.0 * conv.kernel.1) {
            return Err(overflow);
        }
        let tensor = Tensor {
            conv,
            weights: self.weights_len,
            packed: self.packed_len,
            packed_back: self.packed_back_len,
            trained,
            zero_mean,
            lookup: false,
            wide: None,
        };
        self.weights_len += conv.weights();
        self.packed_len += self.kernels.packed_len(&conv);
        // The lowest trained layer needs no input gradient, but its share keeps the offsets simple only for the others.
        self.packed_back_len += if trained { self.kernels.packed_back_len(&conv) } else { 0 };
        self.tensors.push(tensor).map_err(|_| PlanError::Sparse { layer })?;
        Ok(self.tensors.len() - 1)
    }

    fn add_features(&mut self, spec: &Spec) -> Result<(), PlanError> {
        if !(1..=64).contains(&spec.feature.cells) {
            return Err(PlanError::OutOfRange { key: "[feature] cells", least: 1, most: 64 });
        }
        let named = &spec.feature.layers;
        let count = if named.is_empty() { self.layers.len() } else { named.len() };
        for i in 0..count {
            let layer = named.get(i).copied().unwrap_or(i);
            let Some(map) = self.layers.get(layer).map(|l| l.output) else {
                return Err(PlanError::FeatureLayer { layer });
            };
            let rows = if map.height == 1 { 1 } else { spec.feature.cells };
            let grid = Grid::new(map, (rows, spec.feature.cells), true);
            self.feature_dim += grid.len();
            self.feature.push((layer, grid)).map_err(|_| PlanError::FeatureLayer { layer })?;
        }
        Ok(())
    }

    /// Numbers of the trained weights: they stand at the end of the array of all weights.
    pub fn trained_range(&self) -> Range<usize> {
        self.tensors.get(self.first_trained).map_or(self.weights_len, |t| t.weights)..self.weights_len
    }

    /// Length of the activations that perceiving stores.
    pub fn kept_len(&self) -> usize {
        let output = |layer: usize| self.layers[layer].output.len();
        match self.layers.last() {
            Some(_) if self.two_at_a_time => {
                (0..self.layers.len()).map(|l| output(l) + l.checked_sub(1).map_or(0, output)).max().unwrap_or(0)
            }
            Some(last) if self.pools_last => last.activations,
            _ => self.activations_len,
        }
    }

    /// Map that the first layer of a step reads.
    pub fn base_input(&self) -> Map {
        self.layers.get(self.base).map_or(self.input, |l| l.input)
    }

    /// The lowest trained layer reads what a step starts from.
    pub fn trains_base(&self) -> bool {
        self.layers.get(self.base).is_some_and(|l| l.tensors.contains(&self.first_trained))
    }

    /// Where the output of `layer` stands among the activations of a view in a step.
    pub fn step_offset(&self, layer: &Layer) -> usize {
        layer.activations - self.layers[self.base].activations
    }

    /// Length of the activations of a view in a step.
    pub fn step_len(&self) -> usize {
        self.activations_len - self.layers[self.base].activations
    }

    /// Grid of the feature over the last layer.
    pub fn last_grid(&self) -> Option<Grid> {
        self.block_of(self.layers.len() - 1)
    }

    /// The last layer, pooled over all positions: what rank and spread are measured on.
    pub fn meter_grid(&self) -> Grid {
        let map = self.layers.last().map_or(Default::default(), |l| l.output);
        Grid::new(map, (1, 1), false)
    }

    /// Window sums of a last layer that is not kept: of the feature, and of the guard's meter.
    pub fn windows_len(&self) -> usize {
        if !self.pools_last {
            return 0;
        }
        self.last_grid().map_or(0, |grid| grid.len()) + if self.judged { self.meter_grid().len() } else { 0 }
    }

    /// Longest row of pooled sums: of the feature, the head, or the replay's descriptor.
    pub fn accumulator_len(&self) -> usize {
        let stored = |layer: usize| {
            self.layers[layer].averaged.is_none() && !(self.pools_last && layer + 1 == self.layers.len())
        };
        let feature = self.feature.iter().filter(|(layer, _)| stored(*layer)).map(|(_, grid)| grid.len());
        let head = self.heads.iter().map(Head::input_len).max();
        let descriptor = self.describes.then(|| self.descriptor_grid().len());
        feature.chain(head).chain(descriptor).max().unwrap_or(0)
    }

    /// Where the window sums for the feature of a layer that is kept as its averages begin, and the length of all of them.
    fn sums_of_averaged(&self, layer: usize) -> usize {
        let below = self.layers[..layer].iter().enumerate().filter(|(_, l)| l.averaged.is_some());
        below.filter_map(|(index, _)| self.block_of(index)).map(|grid| grid.len()).sum()
    }

    /// Where, in [`Network::averaged_len`] numbers, a layer that is kept as its averages has the sums for its block of the
    /// feature, and where those for its averages.
    pub fn averaged_places(&self, layer: usize, averaged: Grid) -> (Range<usize>, Range<usize>) {
        let (from, all) = (self.sums_of_averaged(layer), self.sums_of_averaged(self.layers.len()));
        (from..from + self.block_of(layer).map_or(0, |grid| grid.len()), all..all + averaged.len())
    }

    /// Sums of 16 bits that layers kept as their averages need.
    pub fn averaged_len(&self) -> usize {
        let averages = self.layers.iter().filter_map(|l| l.averaged).map(|grid| grid.len()).max().unwrap_or(0);
        self.sums_of_averaged(self.layers.len()) + averages
    }

    /// Grid of the feature over `layer`.
    pub fn block_of(&self, layer: usize) -> Option<Grid> {
        self.feature.iter().find(|block| block.0 == layer).map(|block| block.1)
    }

    /// The dictionaries: the first layers, learned one after the other.
    pub fn dictionaries(&self) -> &[Layer] {
        &self.layers[..self.layers.iter().take_while(|l| l.dictionary).count()]
    }

    /// Grid of the replay's descriptor: the first layer, pooled.
    pub fn descriptor_grid(&self) -> Grid {
        let map = self.layers.first().map_or(Map::new(1, 1, 1), |l| l.output);
        Grid::new(map, (2, 2), false)
    }

    /// The convolution of tensor `number` for `views` views at once, where they stand side by side: dense layers of the
    /// head. Others are taken view by view.
    pub fn conv_over(&self, number: usize, views: usize) -> Conv {
        let conv = self.tensors[number].conv;
        if self.head_of(number).is_some_and(|head| head.grid.is_some()) { conv.over(views) } else { conv }
    }

    /// Scratch of the kernels where the head takes `views` at a time.
    pub fn scratch_len(&self, views: usize) -> usize {
        let lengths = self.tensors.iter().enumerate().map(|(number, tensor)| {
            let conv = self.conv_over(number, views);
            if tensor.trained { self.kernels.scratch_len(&conv) } else { self.kernels.forward_scratch_len(&conv) }
        });
        lengths.max().unwrap_or(0)
    }

    /// Largest error map of one view.
    pub fn error_len(&self) -> usize {
        let trained = self.layers.iter().filter(|l| self.tensors[l.tensors.end - 1].trained);
        // The errors at a decoder's sums stand in the place of the input.
        let pooled = self.heads.iter().filter(|head| head.grid.is_some());
        let own =
            |head: &Head| head.tensors.clone().map(|t| self.tensors[t].conv.filters).max().max(Some(head.input_len()));
        let heads = pooled.filter_map(own).max().unwrap_or(0);
        let codes = self.heads.iter().map(|head| head.tensors.start).zip(self.heads.iter().map(Head::code_len));
        let codes =
            codes.map(|(below, len)| if len > 0 { self.tensors[below].conv.input.len().max(2 * len) } else { 0 });
        let codes = codes.max().unwrap_or(0);
        trained.map(|l| l.output.len()).max().unwrap_or(0).max(heads).max(codes)
    }

    /// Layer weights, without the head.
    pub fn encoder_params(&self) -> usize {
        self.layers.iter().flat_map(|l| &self.tensors[l.tensors.clone()]).map(|t| t.conv.weights()).sum()
    }

    /// Multiply-accumulates of one feature.
    pub fn macs_forward(&self) -> usize {
        self.layers.iter().flat_map(|l| &self.tensors[l.tensors.clone()]).map(Tensor::macs).sum()
    }

    /// Multiply-accumulates of one view in a step of `head`: forward, weight gradients, input gradients.
    pub fn macs_step_view(&self, head: &Head) -> usize {
        let base = self.layers.get(self.base).map_or(0, |l| l.tensors.start);
        let layers = self.layers.last().map_or(0, |l| l.tensors.end);
        let forward: usize = (base..layers).chain(head.tensors.clone()).map(|t| self.tensors[t].macs()).sum();
        let back = |t: usize| self.tensors[t].macs() * if t > self.first_trained { 2 } else { 1 };
        forward + self.chain(head).map(back).sum::<usize>()
    }
}

/// 16 bits hold the sum of so many mantissas of at most 127.
const MOST_IN_16_BITS: usize = i16::MAX as usize / 127;

/// So many products of two mantissas within ±127, and the half that rounding adds, stay below 2³¹:
/// 127² · n · (1 + 2⁻⁷) < 2³¹, as rounding adds at most 2^(shift − 1) ≤ max · 2⁻⁷.
pub(super) const MOST_PRODUCTS: usize = ((1 << 31) - 1) / (127 * 127 + 127);

pub(super) const fn sums_fit(n: usize) -> bool {
    n <= MOST_PRODUCTS
}
