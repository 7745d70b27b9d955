#!/usr/bin/env python3
"""Small networks for `nestling import`, with random weights and normalisations that are not trivial.

    networks.py DIR            by the onnx package alone: vgg, mobile, residual, joined, qdq; and bad ones
    networks.py DIR --torch    the same three by PyTorch's exporter as well
    networks.py DIR --backbones    only random32.onnx and random48.onnx: the random backbones of docs/onnx.md, by PyTorch

`tests/onnx.rs` runs it and holds what becomes of them against ONNX Runtime; the figures of docs/onnx.md are of these.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A graph that is being put together."""

    def __init__(self, seed, size=32, channels=3):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0
        self.size, self.channels = size, channels

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, op, inputs, **attributes):
        self.count += 1
        out = f"{op.lower()}{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))
        return out

    def conv(self, x, channels, filters, kernel=3, stride=1, groups=1, pads=None, bias=False, **attributes):
        shape = (filters, channels // groups, kernel, kernel)
        weights = self.random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        inputs = [x, self.constant(f"w{self.count}", weights)]
        if bias:
            inputs.append(self.constant(f"b{self.count}", self.random.normal(0, 0.2, filters).astype(np.float32)))
        pads = pads or [kernel // 2] * 4
        return self.node("Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups, **attributes)

    def norm(self, x, channels):
        draw = lambda low, high: self.random.uniform(low, high, channels).astype(np.float32)
        parts = {"scale": draw(0.6, 1.4), "shift": draw(-0.3, 0.3), "mean": draw(-0.2, 0.2), "var": draw(0.5, 1.5)}
        inputs = [x] + [self.constant(f"{what}{self.count}", value) for what, value in parts.items()]
        return self.node("BatchNormalization", inputs, epsilon=1e-5)

    def relu(self, x, six=False):
        if not six:
            return self.node("Relu", [x])
        low = self.constant(f"low{self.count}", np.float32(0))
        return self.node("Clip", [x, low, self.constant(f"high{self.count}", np.float32(6))])

    def dense(self, x, inputs, outputs):
        weights = self.random.normal(0, np.sqrt(1 / inputs), (outputs, inputs)).astype(np.float32)
        bias = self.random.normal(0, 0.1, outputs).astype(np.float32)
        names = [self.constant(f"w{self.count}", weights), self.constant(f"b{self.count}", bias)]
        return self.node("Gemm", [x, *names], transB=1)

    def model(self, output, opset=17, batch="N"):
        shape = [batch, self.channels, self.size, self.size]
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def vgg():
    net, x, channels = Net(1), "input", 3
    for filters in (8, 16, 24):
        for _ in range(2):
            x = net.relu(net.conv(x, channels, filters, bias=True))
            channels = filters
        x = net.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = net.relu(net.dense(net.node("Flatten", [x]), 24 * 16, 48))
    return net.model(net.dense(x, 48, 10))


def mobile():
    net = Net(2)
    x = net.relu(net.norm(net.conv("input", 3, 16, stride=2), 16), six=True)
    channels = 16
    for filters, stride, expand in ((16, 1, 1), (24, 2, 4), (24, 1, 4), (32, 2, 4), (32, 1, 4)):
        below, inner = x, channels * expand
        if expand > 1:
            x = net.relu(net.norm(net.conv(x, channels, inner, kernel=1), inner), six=True)
        x = net.relu(net.norm(net.conv(x, inner, inner, stride=stride, groups=inner), inner), six=True)
        x = net.norm(net.conv(x, inner, filters, kernel=1), filters)
        if stride == 1 and filters == channels:
            x = net.node("Add", [below, x])
        channels = filters
    x = net.relu(net.norm(net.conv(x, channels, 64, kernel=1), 64), six=True)
    return net.model(net.dense(net.node("Flatten", [net.node("GlobalAveragePool", [x])]), 64, 10))


def residual():
    net = Net(3)
    x = net.relu(net.norm(net.conv("input", 3, 16, kernel=7, stride=2), 16))
    x = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 16
    for filters, stride in ((16, 1), (32, 2), (32, 1)):
        below = x
        x = net.relu(net.norm(net.conv(x, channels, filters, stride=stride), filters))
        x = net.norm(net.conv(x, filters, filters), filters)
        if stride != 1 or filters != channels:
            below = net.norm(net.conv(below, channels, filters, kernel=1, stride=stride), filters)
        x = net.relu(net.node("Add", [x, below]))
        channels = filters
    x = net.node("GlobalAveragePool", [x])
    return net.model(net.node("Flatten", [x]))


def joined():
    """Branches side by side, uneven padding, dilation, groups, an average pool, a normalised input."""
    net = Net(4)
    mean = net.constant("mean", np.array([0.4, 0.5, 0.45], np.float32).reshape(3, 1, 1))
    scale = net.constant("scale", np.array([4.0, 3.8, 4.2], np.float32).reshape(1, 3, 1, 1))
    x = net.node("Mul", [net.node("Sub", ["input", mean]), scale])
    x = net.relu(net.conv(x, 3, 12, stride=2, pads=[0, 0, 1, 1], bias=True))
    a = net.relu(net.conv(x, 12, 8, kernel=1, bias=True))
    b = net.relu(net.conv(x, 12, 12, groups=3, bias=True))
    c = net.conv(x, 12, 4, pads=[2] * 4, dilations=[2, 2])
    x = net.node("Concat", [a, b, c], axis=1)
    x = net.node("AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    return net.model(net.relu(net.norm(net.conv(x, 24, 16), 16)))


def qdq():
    """Two convolutions between QuantizeLinear and DequantizeLinear, by channel."""
    net = Net(5)
    zero = net.constant("zero", np.int8(0))

    def rounded(x, scale):
        scale = net.constant(f"scale{net.count}", np.float32(scale))
        return net.node("DequantizeLinear", [net.node("QuantizeLinear", [x, scale, zero]), scale, zero])

    def conv(x, channels, filters, scale):
        name = net.count
        weights = net.random.integers(-127, 128, (filters, channels, 3, 3)).astype(np.int8)
        scales = net.random.uniform(0.5, 1.5, filters).astype(np.float32) / (60 * np.sqrt(9 * channels)).astype(np.float32)
        names = [
            net.constant(f"q{name}", weights),
            net.constant(f"s{name}", scales),
            net.constant(f"z{name}", np.zeros(filters, np.int8)),
        ]
        weights = net.node("DequantizeLinear", names, axis=0)
        x = net.node("Conv", [x, weights], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        return rounded(net.relu(rounded(x, scale)), scale)

    x = conv(rounded("input", 1 / 127), 3, 12, 0.02)
    return net.model(conv(x, 12, 16, 0.03))


def bad():
    """What must be refused, and what the message must name."""
    cycle = vgg()
    cycle.graph.node[0].input[0] = cycle.graph.node[3].output[0]
    nan = vgg()
    values = numpy_helper.to_array(nan.graph.initializer[0]).copy()
    values.flat[5] = np.nan
    nan.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, nan.graph.initializer[0].name))
    external = vgg()
    tensor = external.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="not-there.bin")
    free = vgg()
    for dim in free.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    new = vgg()
    new.opset_import[0].version = 99
    giant = vgg()
    giant.graph.initializer[0].dims[:] = [1 << 15, 1 << 15, 1, 1]
    missing = vgg()
    missing.graph.node[2].input[0] = "nothing"
    strange = Net(6)
    x = strange.conv("input", 3, 4)
    soft = strange.node("Softplus", [x])
    strange = strange.model(strange.node("Sigmoid", [soft]))
    return dict(cycle=cycle, nan=nan, external=external, free=free, new=new, giant=giant, missing=missing, strange=strange)


def by_torch(folder):
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, channels, filters, stride):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU(),
                nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters),
            )
            plain = stride == 1 and channels == filters
            self.around = nn.Identity() if plain else nn.Conv2d(channels, filters, 1, stride)

        def forward(self, x):
            return torch.relu(self.layers(x) + self.around(x))

    class Inverted(nn.Module):
        def __init__(self, channels, filters, stride, expand):
            super().__init__()
            inner = channels * expand
            self.plain = stride == 1 and channels == filters
            self.layers = nn.Sequential(
                nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
                nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
                nn.Conv2d(inner, filters, 1, bias=False), nn.BatchNorm2d(filters),
            )

        def forward(self, x):
            y = self.layers(x)
            return x + y if self.plain else y

    networks = dict(
        torch_vgg=nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 64, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10),
        ),
        torch_residual=nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), Block(16, 16, 1), Block(16, 32, 2),
            Block(32, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        ),
        torch_mobile=nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(), Inverted(16, 24, 2, 4),
            Inverted(24, 24, 1, 4), Inverted(24, 32, 2, 4), Inverted(32, 32, 1, 4), nn.Conv2d(32, 64, 1), nn.ReLU6(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        ),
    )
    for name, network in networks.items():
        # Running moments as after some training.
        network.train()
        with torch.no_grad():
            for _ in range(20):
                network(torch.rand(16, 3, 32, 32))
        network.eval()
        torch.onnx.export(network, (torch.rand(1, 3, 32, 32),), f"{folder}/{name}.onnx", dynamo=False, opset_version=17)
        try:
            torch.onnx.export(network, (torch.rand(1, 3, 32, 32),), f"{folder}/{name}_dynamo.onnx", dynamo=True)
        except Exception as problem:  # it wants a package that may be missing
            print(f"{name}: the exporter by dynamo failed: {type(problem).__name__}")


def backbones(folder):
    import torch
    from torch import nn

    for name, size in (("random32", (32, 32)), ("random48", (48, 64))):
        torch.manual_seed(0)
        layers = []
        for channels, filters, stride in ((3, 32, 1 if size[0] == 32 else 2), (32, 48, 2), (48, 64, 2)):
            layers += [nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
        network = nn.Sequential(*layers)
        for layer in network[::3]:
            nn.init.kaiming_normal_(layer.weight)
        network.train()
        with torch.no_grad():
            for _ in range(20):
                network(torch.rand(16, 3, *size))
        network.eval()
        names = dict(input_names=["image"], output_names=["map"])
        torch.onnx.export(network, (torch.rand(1, 3, *size),), f"{folder}/{name}.onnx", dynamo=False, **names)


def main():
    folder = sys.argv[1]
    if "--backbones" in sys.argv:
        return backbones(folder)
    good = dict(vgg=vgg(), mobile=mobile(), residual=residual(), joined=joined(), qdq=qdq())
    for name, model in good.items():
        onnx.checker.check_model(model)
    for name, model in {**good, **{f"bad-{name}": model for name, model in bad().items()}}.items():
        with open(f"{folder}/{name}.onnx", "wb") as file:
            file.write(model.SerializeToString())
    if "--torch" in sys.argv:
        by_torch(folder)


main()
