"""The works of perceiving in ONNX Runtime: ort.py WORK [--threads N] [--seconds S], and --int8 for the quantised model.

The models are those that models.py has written to the folder PEERS_MODELS.
"""

import os
import sys

import protocol

int8 = "--int8" in sys.argv
if int8:
    sys.argv.remove("--int8")
name, threads, seconds = protocol.arguments()
peer = "onnxruntime-int8" if int8 else "onnxruntime"
sides = {"I32": 32, "I96": 96, "M": 96}
if name not in sides:
    protocol.not_yet(peer, name)

import numpy
import onnxruntime

base = protocol.rss_mib()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
options.inter_op_num_threads = 1
path = os.path.join(os.environ["PEERS_MODELS"], name + (".int8.onnx" if int8 else ".onnx"))
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
image = {"image": numpy.random.default_rng(0).random((1, 3, sides[name], sides[name]), dtype=numpy.float32)}
protocol.measure(peer, onnxruntime.__version__, name, threads, seconds, lambda: session.run(None, image), base)
