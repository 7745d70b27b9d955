//! What each operator of ONNX becomes, for [`super::lower`].

use super::float::FloatOp;
use super::graph::{Constant, Node, Values};
use super::lower::{Lowering, ONE, Value, plain_conv};
use super::network::Window;
use crate::kernels::{Conv, Map};

/// Why a node cannot be brought in.
#[derive(Debug)]
pub(super) struct Wrong(pub String);

type Made = Result<Value, Wrong>;

fn wrong<T>(problem: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(problem.into()))
}

/// Two numbers of an attribute that has one for each axis of a map.
fn pair(node: &Node, name: &str, default: usize, most: usize) -> Result<(usize, usize), Wrong> {
    let Some(values) = node.integers(name).filter(|values| !values.is_empty()) else { return Ok((default, default)) };
    let fits = |n: i64| usize::try_from(n).ok().filter(|n| (1..=most).contains(n));
    match values {
        &[a, b] => fits(a).zip(fits(b)).ok_or_else(|| Wrong(format!("its {name} are {values:?}"))),
        _ => wrong(format!("its {name} are {values:?}; maps have two axes")),
    }
}

/// Padding above, left, below, right.
fn padding(node: &Node, from: Map, kernel: (usize, usize), stride: (usize, usize)) -> Result<[usize; 4], Wrong> {
    let same = |extent: usize, kernel: usize, stride: usize| {
        ((extent.div_ceil(stride) - 1) * stride + kernel).saturating_sub(extent)
    };
    let both = [same(from.height, kernel.0, stride.0), same(from.width, kernel.1, stride.1)];
    match node.text("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" | "" => {}
        "VALID" => return Ok([0; 4]),
        "SAME_UPPER" => return Ok([both[0] / 2, both[1] / 2, both[0].div_ceil(2), both[1].div_ceil(2)]),
        "SAME_LOWER" => return Ok([both[0].div_ceil(2), both[1].div_ceil(2), both[0] / 2, both[1] / 2]),
        other => return wrong(format!("its auto_pad is {other}")),
    }
    let pads = node.integers("pads").unwrap_or(&[]);
    if pads.is_empty() {
        return Ok([0; 4]);
    }
    let fits = |&n: &i64| usize::try_from(n).ok().filter(|&n| n <= 64);
    let found: Option<Vec<usize>> = pads.iter().map(fits).collect();
    found.and_then(|found| found.try_into().ok()).ok_or_else(|| Wrong(format!("its pads are {pads:?}")))
}

/// Floats of a constant of 8 or 32 bits, by the scale and zero of `node`.
pub(super) fn dequantized(lowering: &Lowering, node: &Node, name: &str) -> Result<Constant, Wrong> {
    let constant = lowering.constant(name).ok_or_else(|| Wrong(format!("its input {name} is unknown")))?;
    let scale = lowering.constant_input(node, 1).ok_or_else(|| Wrong("its scale is no constant".into()))?;
    let zero = lowering.constant_input(node, 2);
    let axis = node.integer("axis").unwrap_or(1);
    let rank = constant.shape.len() as i64;
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).unwrap_or(usize::MAX);
    let many = scale.len() > 1;
    let fits = !many || constant.shape.get(axis) == Some(&scale.len());
    if !fits || scale.is_empty() || zero.is_some_and(|zero| zero.len() != scale.len()) {
        return wrong("its scale or zero does not fit");
    }
    let inner: usize = constant.shape.get(axis + 1..).unwrap_or_default().iter().product::<usize>().max(1);
    let value = |at: usize| {
        let by = if many { at / inner % scale.len() } else { 0 };
        ((constant.at(at) - zero.map_or(0.0, |zero| zero.at(by))) * scale.at(by)) as f32
    };
    Ok(Constant { shape: constant.shape.clone(), values: Values::Floats((0..constant.len()).map(value).collect()) })
}

/// What is made of shapes alone; `None` for other nodes.
pub(super) fn shapes(lowering: &Lowering, node: &Node) -> Option<Value> {
    if node.op == "Shape" {
        return Some(Value::Shape);
    }
    let of_shapes = |name: &String| lowering.value(name) == Some(Value::Shape);
    let known = |name: &String| name.is_empty() || of_shapes(name) || lowering.constant(name).is_some();
    let plain = matches!(
        node.op.as_str(),
        "Gather" | "Unsqueeze" | "Squeeze" | "Concat" | "Slice" | "Cast" | "Mul" | "Add" | "Identity"
    );
    (plain && node.inputs.iter().any(of_shapes) && node.inputs.iter().all(known)).then_some(Value::Shape)
}

pub(super) fn conv(lowering: &mut Lowering, node: &Node) -> Made {
    let mut value = lowering.map_input(node, 0)?;
    let mut from = lowering.map(value);
    let Some(weights) = lowering.constant_input(node, 1) else { return wrong("its weights are no constants") };
    let &[filters, per_group, height, width] = &weights.shape[..] else {
        return wrong(format!("its weights have {} axes; maps want four", weights.shape.len()));
    };
    let groups = usize::try_from(node.integer("group").unwrap_or(1)).unwrap_or(0);
    let divides = groups > 0 && filters.is_multiple_of(groups) && per_group.checked_mul(groups) == Some(from.channels);
    if !divides || weights.is_empty() {
        return wrong(format!(
            "its weights are {:?} in {groups} groups and its input has {} channels",
            weights.shape, from.channels
        ));
    }
    let (dilation, stride) = (pair(node, "dilations", 1, 16)?, pair(node, "strides", 1, 64)?);
    // Taps that are apart are a larger kernel with zeros between them.
    let apart = |n: usize, dilation: usize| (n - 1).checked_mul(dilation).map(|n| n + 1).filter(|&n| n <= 4096);
    let Some(kernel) = apart(height, dilation.0).zip(apart(width, dilation.1)) else {
        return wrong(format!("its kernel is {height}x{width}"));
    };
    let (weights, bias) = (weights.floats(), lowering.constant_input(node, 2).map(Constant::floats));
    let bias = bias.unwrap_or_else(|| vec![0.0; filters]);
    if bias.len() != filters || (node.input(2).is_some() && lowering.constant_input(node, 2).is_none()) {
        return wrong("its bias is not one constant for each filter");
    }
    let [top, left, bottom, right] = padding(node, from, kernel, stride)?;
    let mut pads = (top, left);
    if (top, left) != (bottom, right) {
        let map = Map::new(from.height + top + bottom, from.width + left + right, from.channels);
        value = lowering.add(node, FloatOp::Pad { top, left }, vec![value], map)?;
        (from, pads) = (map, (0, 0));
    }
    let extent = |input, kernel, stride, padding| Conv::extent(input, kernel, stride, padding);
    let output = Map::new(
        extent(from.height, kernel.0, stride.0, pads.0),
        extent(from.width, kernel.1, stride.1, pads.1),
        filters,
    );
    let conv = Conv {
        input: from,
        first_channel: 0,
        channels: from.channels,
        filters,
        kernel,
        stride,
        padding: pads,
        groups,
        output,
        first_filter: 0,
        unsigned: false,
    };
    if filters.checked_mul(conv.fan_in()).is_none_or(|n| n > 1 << 27) || output.is_empty() {
        return wrong(format!("its kernel of {}x{} does not fit its input", kernel.0, kernel.1));
    }
    let mut ordered = vec![0.0; conv.weights()];
    for (at, &weight) in weights.iter().enumerate() {
        let (x, y, channel) = (at % width, at / width % height, at / (width * height) % per_group);
        let filter = at / (width * height * per_group);
        let tap = (filter * kernel.0 + y * dilation.0) * kernel.1 + x * dilation.1;
        ordered[tap * per_group + channel] = weight;
    }
    lowering.add(node, FloatOp::Conv { conv, weights: ordered, bias }, vec![value], output).map(Value::Map)
}

/// `x · factor + offset` for each channel: into the convolution below where it can be, or a convolution of its own.
fn affine(lowering: &mut Lowering, node: &Node, value: usize, factor: &[f32], offset: &[f32]) -> Made {
    if factor.iter().chain(offset).any(|v| !v.is_finite()) {
        return wrong("its factors are not finite");
    }
    let map = lowering.map(value);
    let name = node.inputs.iter().find(|name| lowering.value(name).is_some()).cloned().unwrap_or_default();
    let tensor = node.outputs[0].clone();
    if let Some(below) = lowering.fusable(&name, value)
        && let FloatOp::Conv { conv, weights, bias } = &mut below.op
    {
        let per_filter = conv.fan_in();
        weights.iter_mut().enumerate().for_each(|(at, w)| *w *= factor[at / per_filter]);
        bias.iter_mut().enumerate().for_each(|(at, b)| *b = *b * factor[at] + offset[at]);
        below.tensor = tensor;
        return Ok(Value::Map(value));
    }
    let conv = plain_conv(map, map.channels, (1, 1), map.channels);
    let op = FloatOp::Conv { conv, weights: factor.to_vec(), bias: offset.to_vec() };
    lowering.add(node, op, vec![value], map).map(Value::Map)
}

pub(super) fn batch_norm(lowering: &mut Lowering, node: &Node) -> Made {
    let value = lowering.map_input(node, 0)?;
    let channels = lowering.map(value).channels;
    let part = |at: usize| {
        let constant = lowering.constant_input(node, at).filter(|constant| constant.len() == channels);
        constant
            .map(Constant::floats)
            .ok_or_else(|| Wrong(format!("its input {at} is not one constant for each channel")))
    };
    let (scale, shift, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
    let epsilon = node.float("epsilon").unwrap_or(1e-5);
    let factor: Vec<f32> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let offset: Vec<f32> = (0..channels).map(|c| shift[c] - mean[c] * factor[c]).collect();
    affine(lowering, node, value, &factor, &offset)
}

/// Bounds of an activation: of the node below where it can be, or of a node of its own.
pub(super) fn clip(lowering: &mut Lowering, node: &Node, low: f32, high: f32) -> Made {
    if low.is_nan() || high.is_nan() || low > high || high <= 0.0 || low > 0.0 {
        return wrong(format!("its bounds are {low} and {high}; 0 must lie between them"));
    }
    let name = node.input(0).unwrap_or_default().to_string();
    let (value, flat) = match lowering.value(&name) {
        Some(Value::Map(value)) => (value, false),
        Some(Value::Flat(value)) => (value, true),
        _ => return wrong("its input is no map"),
    };
    let of = |value| if flat { Value::Flat(value) } else { Value::Map(value) };
    let tensor = node.outputs[0].clone();
    if let Some(below) = lowering.fusable(&name, value) {
        (below.low, below.high, below.tensor) = (low, high, tensor);
        return Ok(of(value));
    }
    let map = lowering.map(value);
    let made = lowering.add(node, FloatOp::Max(ONE), vec![value], map)?;
    (lowering.nodes[made - 1].low, lowering.nodes[made - 1].high) = (low, high);
    Ok(of(made))
}

pub(super) fn pool(lowering: &mut Lowering, node: &Node) -> Made {
    let value = lowering.map_input(node, 0)?;
    let from = lowering.map(value);
    let (kernel, stride) = (pair(node, "kernel_shape", 1, 4096)?, pair(node, "strides", 1, 64)?);
    if pair(node, "dilations", 1, 64)? != (1, 1) || node.outputs.get(1).is_some_and(|name| !name.is_empty()) {
        return wrong("its dilations or its second output");
    }
    let [top, left, bottom, right] = padding(node, from, kernel, stride)?;
    let up = node.integer("ceil_mode").unwrap_or(0) == 1;
    let extent = |input: usize, before: usize, after: usize, kernel: usize, stride: usize| {
        let room = (input + before + after).checked_sub(kernel)?;
        // A window that begins beyond the map and its padding before it is none.
        let more = room.div_ceil(stride);
        Some(if up && more * stride < input + before { more + 1 } else { room / stride + 1 })
    };
    let height = extent(from.height, top, bottom, kernel.0, stride.0);
    let Some((height, width)) = height.zip(extent(from.width, left, right, kernel.1, stride.1)) else {
        return wrong(format!("its window of {}x{} does not fit its input", kernel.0, kernel.1));
    };
    let window = Window { kernel, stride, padding: (top, left) };
    let map = Map::new(height, width, from.channels);
    let empty = |at: usize, padding: usize, kernel: usize, stride: usize, extent: usize| {
        at * stride + kernel <= padding || at * stride >= padding + extent
    };
    if [0, height - 1].iter().any(|&y| empty(y, top, kernel.0, stride.0, from.height))
        || [0, width - 1].iter().any(|&x| empty(x, left, kernel.1, stride.1, from.width))
    {
        return wrong("some of its windows lie in the padding alone");
    }
    let op = if node.op == "MaxPool" {
        FloatOp::Max(window)
    } else {
        let all = node.integer("count_include_pad").unwrap_or(0) == 1;
        if all && up {
            return wrong("its padding counts and its windows are rounded up");
        }
        FloatOp::Average { window, all }
    };
    lowering.add(node, op, vec![value], map).map(Value::Map)
}

/// Of a whole map.
pub(super) fn global(lowering: &mut Lowering, node: &Node) -> Made {
    let value = lowering.map_input(node, 0)?;
    let from = lowering.map(value);
    if node.op == "ReduceMean" {
        let given = node.integers("axes").map(<[i64]>::to_vec);
        let axes = given.or_else(|| lowering.constant_input(node, 1).map(Constant::integers)).unwrap_or_default();
        if !matches!(axes[..], [2, 3] | [-2, -1] | [-1, -2] | [3, 2]) {
            return wrong(format!("it is over the axes {axes:?}; over 2 and 3 it can be brought in"));
        }
    }
    let window = Window { kernel: (from.height, from.width), stride: (1, 1), padding: (0, 0) };
    let op = if node.op == "GlobalMaxPool" { FloatOp::Max(window) } else { FloatOp::Average { window, all: true } };
    lowering.add(node, op, vec![value], Map::new(1, 1, from.channels)).map(Value::Map)
}

pub(super) fn dense(lowering: &mut Lowering, node: &Node) -> Made {
    let name = node.input(0).unwrap_or_default();
    let value = match lowering.value(name) {
        Some(Value::Flat(value)) => value,
        Some(Value::Map(value)) if lowering.map(value).positions() == 1 => value,
        _ => return wrong("its input is no row"),
    };
    let from = lowering.map(value);
    let Some(weights) = lowering.constant_input(node, 1) else { return wrong("its weights are no constants") };
    let &[rows, columns] = &weights.shape[..] else { return wrong("its weights have not two axes") };
    if node.integer("transA").unwrap_or(0) != 0 {
        return wrong("its input is transposed");
    }
    let turned = node.integer("transB").unwrap_or(0) != 0;
    let (inputs, filters) = if turned { (columns, rows) } else { (rows, columns) };
    if inputs != from.len() || weights.is_empty() || weights.len() > 1 << 27 {
        return wrong(format!("its weights take {inputs} numbers and its input has {}", from.len()));
    }
    let (alpha, beta) = (node.float("alpha").unwrap_or(1.0), node.float("beta").unwrap_or(1.0));
    let weights = weights.floats();
    let bias = match node.input(2) {
        None => vec![0.0; filters],
        Some(_) => match lowering.constant_input(node, 2).map(Constant::floats) {
            Some(bias) if bias.len() == filters => bias.iter().map(|b| b * beta).collect(),
            Some(bias) if bias.len() == 1 => vec![bias[0] * beta; filters],
            _ => return wrong("its bias is not one constant for each output"),
        },
    };
    // A row stands channel by channel, a map position by position.
    let mut ordered = Vec::with_capacity(weights.len());
    for filter in 0..filters {
        for position in 0..from.positions() {
            for channel in 0..from.channels {
                let input = channel * from.positions() + position;
                let at = if turned { filter * inputs + input } else { input * filters + filter };
                ordered.push(alpha * weights[at]);
            }
        }
    }
    let conv = plain_conv(from, filters, (from.height, from.width), 1);
    let op = FloatOp::Conv { conv, weights: ordered, bias };
    lowering.add(node, op, vec![value], conv.output).map(Value::Map)
}

/// Between two maps a sum; of a map and a constant a factor and an offset for each channel.
pub(super) fn arithmetic(lowering: &mut Lowering, node: &Node) -> Made {
    let values = [0, 1].map(|at| node.input(at).and_then(|name| lowering.value(name)));
    if let [Some(Value::Map(a)), Some(Value::Map(b))] = values {
        if node.op != "Add" || lowering.map(a) != lowering.map(b) {
            return wrong("of two maps only sums of equal shapes can be brought in");
        }
        let map = lowering.map(a);
        return lowering.add(node, FloatOp::Add, vec![a, b], map).map(Value::Map);
    }
    let (value, at) = match values {
        [Some(Value::Map(value)), None] => (value, 1),
        [None, Some(Value::Map(value))] => (value, 0),
        _ => return wrong("its inputs are no map and constant"),
    };
    let map = lowering.map(value);
    let Some(constant) = lowering.constant_input(node, at) else { return wrong("its other input is no constant") };
    let channels = map.channels;
    // [C, 1, 1], [1, C, 1, 1], or for a row [C]; or one number.
    let axis = constant.shape.iter().rev().skip(if map.positions() == 1 && constant.shape.len() <= 2 { 0 } else { 2 });
    let by_channel = constant.len() == channels && axis.take(1).eq([&channels]);
    let of: Vec<f32> = match constant.len() {
        1 => vec![constant.at(0) as f32; channels],
        _ if by_channel => constant.floats(),
        _ => {
            return wrong(format!(
                "its constant is {:?}; one number or one for each channel can be brought in",
                constant.shape
            ));
        }
    };
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let negative = || of.iter().map(|v| -v).collect::<Vec<f32>>();
    match (node.op.as_str(), at) {
        ("Add", _) => affine(lowering, node, value, &ones, &of),
        ("Sub", 1) => affine(lowering, node, value, &ones, &negative()),
        ("Sub", _) => affine(lowering, node, value, &vec![-1.0; channels], &of),
        ("Mul", _) => affine(lowering, node, value, &of, &zeros),
        ("Div", 1) => affine(lowering, node, value, &of.iter().map(|v| 1.0 / v).collect::<Vec<_>>(), &zeros),
        _ => wrong("it divides by a map"),
    }
}

pub(super) fn concat(lowering: &mut Lowering, node: &Node) -> Made {
    if node.integer("axis") != Some(1) {
        return wrong("it is not along the channels");
    }
    let values = (0..node.inputs.len()).map(|at| lowering.map_input(node, at)).collect::<Result<Vec<_>, _>>()?;
    let Some(&first) = values.first() else { return wrong("it has no input") };
    let map = lowering.map(first);
    if values.iter().any(|&v| (lowering.map(v).height, lowering.map(v).width) != (map.height, map.width)) {
        return wrong("its inputs have other heights or widths");
    }
    let channels = values.iter().map(|&value| lowering.map(value).channels).sum();
    lowering.add(node, FloatOp::Concat, values, Map { channels, ..map }).map(Value::Map)
}

pub(super) fn pad(lowering: &mut Lowering, node: &Node) -> Made {
    let value = lowering.map_input(node, 0)?;
    let from = lowering.map(value);
    if !matches!(node.text("mode"), None | Some("constant")) {
        return wrong("it pads with other than a constant");
    }
    let with = lowering.constant_input(node, 2).filter(|c| !c.is_empty()).map_or(0.0, |c| c.at(0));
    let pads = node.integers("pads").map(<[i64]>::to_vec);
    let pads = pads.or_else(|| lowering.constant_input(node, 1).map(Constant::integers)).unwrap_or_default();
    let small = pads.iter().all(|n| (0..=64).contains(n));
    let &[0, 0, top, left, 0, 0, bottom, right] = &pads[..] else {
        return wrong(format!("its pads are {pads:?}"));
    };
    if !small || with != 0.0 {
        return wrong(format!("its pads are {pads:?} of {with}"));
    }
    let [top, left, bottom, right] = [top, left, bottom, right].map(|n| n as usize);
    let map = Map::new(from.height + top + bottom, from.width + left + right, from.channels);
    lowering.add(node, FloatOp::Pad { top, left }, vec![value], map).map(Value::Map)
}

/// To a row; a map of one position is one already.
pub(super) fn flatten(lowering: &mut Lowering, node: &Node) -> Made {
    let name = node.input(0).unwrap_or_default();
    let value = match lowering.value(name) {
        Some(Value::Map(value) | Value::Flat(value)) => value,
        _ => return wrong("its input is no map"),
    };
    let map = lowering.map(value);
    let wanted = match node.op.as_str() {
        "Flatten" => node.integer("axis").unwrap_or(1) == 1,
        // The axes that go have one position.
        "Squeeze" => map.positions() == 1,
        _ => match lowering.constant_input(node, 1).map(Constant::integers).as_deref() {
            Some(&[_, n]) => n == -1 || usize::try_from(n) == Ok(map.len()),
            Some(_) => false,
            None => node.input(1).is_some_and(|name| lowering.value(name) == Some(Value::Shape)),
        },
    };
    if !wanted {
        return wrong("only to a row, [N, all numbers], can a map be reshaped");
    }
    Ok(if map.positions() == 1 { Value::Map(value) } else { Value::Flat(value) })
}

/// Channels of the input brought to the front: maps here have no such order.
pub(super) fn transpose(lowering: &mut Lowering, node: &Node) -> Made {
    let value = lowering.map_input(node, 0)?;
    let last = lowering.graph.input.shape.get(3).copied().flatten() == Some(lowering.input.channels);
    match node.integers("perm") {
        Some([0, 3, 1, 2]) if value == 0 && last => Ok(Value::Map(value)),
        order => wrong(format!("it changes the order of axes to {order:?}")),
    }
}
