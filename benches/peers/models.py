"""Writes the ONNX files that tract and ONNX Runtime perceive with: models.py FOLDER.

I32, I96: the encoder of the reference work; M: MobileNetV2 of width 0.35 at 96x96, without its classifier. Random
weights: speed does not depend on them. Of each a quantised form too: the faster one of the two that there are.
"""

import json
import os
import sys
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

rng = numpy.random.default_rng(0)


class Graph:
    """A chain of nodes over one image."""

    def __init__(self):
        self.nodes, self.weights, self.last, self.channels = [], [], "image", 3

    def add(self, operator, *inputs, **attributes):
        self.last = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [self.last], name=self.last, **attributes))
        return self.last

    def constant(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(numpy.float32), name))
        return name

    def conv(self, outputs, kernel, stride, depthwise=False, bias=True):
        """A convolution; `bias` is what batch normalisation leaves of itself."""
        inputs = 1 if depthwise else self.channels
        scale = (2 / (inputs * kernel**2)) ** 0.5
        weights = [self.constant(rng.normal(0, scale, (outputs, inputs, kernel, kernel)))]
        if bias:
            weights.append(self.constant(rng.normal(0, 0.1, outputs)))
        group = self.channels if depthwise else 1
        shape = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=group)
        self.channels = outputs
        return self.add("Conv", self.last, *weights, **shape)

    def save(self, path, side):
        self.add("GlobalAveragePool", self.last)
        self.add("Flatten", self.last)
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])
        feature = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, [1, self.channels])
        graph = helper.make_graph(self.nodes, "peer", [image], [feature], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def encoder():
    graph = Graph()
    for outputs, stride in [(16, 1), (32, 2), (64, 2), (128, 2)]:
        graph.conv(outputs, 3, stride, bias=False)
        graph.add("Relu", graph.last)
    return graph


def mobilenet():
    """Channels are rounded to multiples of 8, as its authors do; the last convolution keeps its 1280."""
    graph = Graph()

    def width(channels):
        rounded = max(8, int(channels * 0.35 + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * 0.35 else rounded

    def relu6():
        graph.add("Clip", graph.last, low, high)

    low, high = graph.constant(numpy.array(0.0)), graph.constant(numpy.array(6.0))
    graph.conv(width(32), 3, 2)
    relu6()
    for expansion, channels, blocks, first_stride in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for block in range(blocks):
            before, inputs = graph.last, graph.channels
            stride = first_stride if block == 0 else 1
            if expansion > 1:
                graph.conv(inputs * expansion, 1, 1)
                relu6()
            graph.conv(graph.channels, 3, stride, depthwise=True)
            relu6()
            graph.conv(width(channels), 1, 1)
            if stride == 1 and inputs == graph.channels:
                graph.add("Add", before, graph.last)
    graph.conv(1280, 1, 1)
    relu6()
    return graph


class Calibration(quantization.CalibrationDataReader):
    def __init__(self, side):
        images = (rng.random((1, 3, side, side), dtype=numpy.float32) for _ in range(16))
        self.images = iter([{"image": image} for image in images])

    def get_next(self):
        return next(self.images, None)


def milliseconds(path, side):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    image = {"image": rng.random((1, 3, side, side), dtype=numpy.float32)}
    taken, end = [], time.perf_counter() + 0.5
    while time.perf_counter() < end:
        before = time.perf_counter()
        session.run(None, image)
        taken.append(time.perf_counter() - before)
    return sorted(taken)[len(taken) // 2] * 1e3


def quantise(path, side):
    """Writes the faster quantised form beside `path` and returns its name."""
    prepared = path.replace(".onnx", ".prepared.onnx")
    quant_pre_process(path, prepared)
    forms = {}
    for form in quantization.QuantFormat:
        out = path.replace(".onnx", f".{form.name}.onnx")
        quantization.quantize_static(
            prepared,
            out,
            Calibration(side),
            quant_format=form,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        forms[form.name] = (milliseconds(out, side), out)
    os.remove(prepared)
    name, (_, fastest) = min(forms.items(), key=lambda item: item[1][0])
    os.replace(fastest, path.replace(".onnx", ".int8.onnx"))
    return name


folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
forms = {}
for name, make, side in [("I32", encoder, 32), ("I96", encoder, 96), ("M", mobilenet, 96)]:
    path = os.path.join(folder, name + ".onnx")
    make().save(path, side)
    forms[name] = quantise(path, side)
with open(os.path.join(folder, "forms.json"), "w") as out:
    json.dump(forms, out)
