#!/usr/bin/env python3
"""Runs an ONNX file by ONNX Runtime: raw samples in, raw outputs out. `tests/onnx.rs` calls it.

    run.py MODEL INPUT OUTPUT      INPUT holds whole samples in the type of the model's input, little-endian
"""
import sys

import numpy as np
import onnxruntime

TYPES = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
}


def main():
    model, source, target = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    samples = np.fromfile(source, TYPES[taken.type]).reshape(-1, *taken.shape[1:])
    # One at a time, as a robot does, and all at once: both must give the same.
    single = np.concatenate([session.run(None, {taken.name: sample[None]})[0] for sample in samples])
    if not isinstance(taken.shape[0], int):
        together = session.run(None, {taken.name: samples})[0]
        worst = np.abs(single.astype(np.float64) - together.astype(np.float64)).max()
        limit = 1e-3 if single.dtype == np.float32 else 0
        assert worst <= limit, f"a batch differs from single samples by {worst}"
    single.tofile(target)


main()
