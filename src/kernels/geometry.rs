//! Shapes of maps, convolutions and pooling grids. Plain data; no loops over values.

/// Shape of a map of activations, stored `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Map {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Map {
    pub const fn new(height: usize, width: usize, channels: usize) -> Self {
        Map { height, width, channels }
    }
    pub const fn positions(self) -> usize {
        self.height * self.width
    }
    pub const fn len(self) -> usize {
        self.positions() * self.channels
    }
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One convolution: which channels of which map it reads, and where its filters stand in the output map.
///
/// Weights are stored `[filters, kernel height, kernel width, channels / groups]`. A dense layer is a convolution of a
/// 1×1 map. A layer may be made of several convolutions side by side, each reading its own channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    pub input: Map,
    /// First channel read.
    pub first_channel: usize,
    /// Number of channels read.
    pub channels: usize,
    pub filters: usize,
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    /// Zeros around the input: above and below, left and right.
    pub padding: (usize, usize),
    /// Equal parts of the channels, side by side, each read by as many filters: 1 for a dense convolution, `channels` for
    /// a depthwise one (then `filters == channels`).
    pub groups: usize,
    /// The whole output map, of which this convolution fills `filters` channels.
    pub output: Map,
    /// Its first channel in the output map.
    pub first_filter: usize,
    /// No value of the input is negative: it comes out of a ReLU.
    pub unsigned: bool,
}

impl Conv {
    /// Weights of one filter.
    pub const fn fan_in(&self) -> usize {
        self.kernel.0 * self.kernel.1 * (self.channels / self.groups)
    }
    pub const fn weights(&self) -> usize {
        self.filters * self.fan_in()
    }
    pub const fn macs(&self) -> usize {
        self.output.positions() * self.weights()
    }
    /// One group: every filter reads every channel.
    pub const fn is_dense(&self) -> bool {
        self.groups == 1
    }
    /// Every filter reads one channel of its own.
    pub const fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.channels && self.filters == self.channels
    }
    /// Group `g` as a dense convolution.
    pub const fn group(&self, g: usize) -> Self {
        let (channels, filters) = (self.channels / self.groups, self.filters / self.groups);
        let (first_channel, first_filter) = (self.first_channel + g * channels, self.first_filter + g * filters);
        Conv { first_channel, channels, filters, groups: 1, first_filter, ..*self }
    }
    /// Size of the output along one axis; 0 where the kernel does not fit.
    pub const fn extent(input: usize, kernel: usize, stride: usize, padding: usize) -> usize {
        let padded = input + 2 * padding;
        if padded < kernel { 0 } else { (padded - kernel) / stride + 1 }
    }
    /// A fully connected layer.
    pub const fn dense(inputs: usize, outputs: usize) -> Self {
        Conv {
            input: Map::new(1, 1, inputs),
            first_channel: 0,
            channels: inputs,
            filters: outputs,
            kernel: (1, 1),
            stride: (1, 1),
            padding: (0, 0),
            groups: 1,
            output: Map::new(1, 1, outputs),
            first_filter: 0,
            unsigned: true,
        }
    }

    /// The same product for `n` inputs of one position side by side, as one map of `n` positions.
    ///
    /// Only for dense layers: a 1×1 kernel on a 1×1 map.
    pub fn over(self, n: usize) -> Self {
        debug_assert!(self.kernel == (1, 1) && self.input.positions() == 1 && self.padding == (0, 0));
        Conv { input: Map { width: n, ..self.input }, output: Map { width: n, ..self.output }, ..self }
    }

    /// First channel that `filter` reads.
    pub const fn first_channel_of(&self, filter: usize) -> usize {
        let filters_per_group = self.filters / self.groups;
        self.first_channel + filter / filters_per_group * (self.channels / self.groups)
    }

    /// Position of the input that tap `(ky, kx)` of output `(oy, ox)` reads; `None` in the padding.
    pub fn input_position(&self, oy: usize, ox: usize, ky: usize, kx: usize) -> Option<usize> {
        let y = (oy * self.stride.0 + ky).checked_sub(self.padding.0).filter(|&y| y < self.input.height)?;
        let x = (ox * self.stride.1 + kx).checked_sub(self.padding.1).filter(|&x| x < self.input.width)?;
        Some(y * self.input.width + x)
    }

    /// Position of the output whose tap `(ky, kx)` reads input `(y, x)`.
    pub fn output_position(&self, y: usize, x: usize, ky: usize, kx: usize) -> Option<usize> {
        let (y, x) = ((y + self.padding.0).checked_sub(ky)?, (x + self.padding.1).checked_sub(kx)?);
        let (oy, ox) = (y / self.stride.0, x / self.stride.1);
        let hits = y % self.stride.0 == 0 && x % self.stride.1 == 0;
        (hits && oy < self.output.height && ox < self.output.width).then_some(oy * self.output.width + ox)
    }
}

/// A grid of windows over a map, for pooling by sums.
///
/// Along an axis of `n` positions and `cells` cells the windows start every `n / cells` positions. Overlapping windows
/// are all `n − (cells − 1)·(n / cells)` long, so that they reach the end; a partition cuts at `i·n / cells`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub map: Map,
    /// Cells down and across; never more than the map has positions.
    pub cells: (usize, usize),
    pub overlapping: bool,
}

impl Grid {
    /// A grid of at most `cells` cells down and across.
    pub fn new(map: Map, cells: (usize, usize), overlapping: bool) -> Self {
        Grid { map, cells: (cells.0.clamp(1, map.height), cells.1.clamp(1, map.width)), overlapping }
    }
    /// Numbers after pooling: `[cells down, cells across, channels]`.
    pub const fn len(&self) -> usize {
        self.cells.0 * self.cells.1 * self.map.channels
    }
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Most positions that one window holds.
    pub fn window_positions(&self) -> usize {
        let longest = |n, cells| (0..cells).map(|i| self.span(n, cells, i).len()).max().unwrap_or(0);
        longest(self.map.height, self.cells.0) * longest(self.map.width, self.cells.1)
    }
    fn span(&self, n: usize, cells: usize, i: usize) -> core::ops::Range<usize> {
        if self.overlapping {
            let step = n / cells;
            i * step..i * step + (n - (cells - 1) * step)
        } else {
            i * n / cells..(i + 1) * n / cells
        }
    }
    pub fn rows(&self, i: usize) -> core::ops::Range<usize> {
        self.span(self.map.height, self.cells.0, i)
    }
    pub fn columns(&self, i: usize) -> core::ops::Range<usize> {
        self.span(self.map.width, self.cells.1, i)
    }
}
