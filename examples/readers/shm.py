#!/usr/bin/env python3
"""Prints features that nestling leaves in shared memory ([shm] in the profile), one JSON object a line.

    pip install iceoryx2
    python3 shm.py nestling/feature 10     # ends after 10 features
"""

import ctypes
import json
import math
import sys
import time

import iceoryx2 as iox2

MOST_BLOCKS = 8


class FeatureHead(ctypes.Structure):
    """What is known of a feature beside its mantissas; see FeatureHead in src/bus/shm.rs."""

    _fields_ = [
        ("number", ctypes.c_uint64),
        ("time_us", ctypes.c_uint64),
        ("age_us", ctypes.c_uint64),
        ("encoder", ctypes.c_uint32),
        ("novelty", ctypes.c_float),
        ("health", ctypes.c_float),
        ("blocks", ctypes.c_uint32),
        ("lengths", ctypes.c_uint32 * MOST_BLOCKS),
        ("exponents", ctypes.c_uint32 * MOST_BLOCKS),
    ]

    @staticmethod
    def type_name():
        return "nestling_FeatureHead"


def main():
    service, count = sys.argv[1], int(sys.argv[2])
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    builder = node.service_builder(iox2.ServiceName.new(service)).publish_subscribe(iox2.Slice[ctypes.c_int8])
    reader = builder.user_header(FeatureHead).open().subscriber_builder().create()
    number = 0
    while number < count:
        sample = reader.receive()
        if sample is None:
            time.sleep(0.001)
            continue
        head = sample.user_header().contents
        # The mantissas are read where nestling wrote them.
        payload = sample.payload()
        known = lambda value: None if math.isnan(value) else value
        print(json.dumps({
            "number": head.number,
            "t_us": head.time_us,
            "age_us": head.age_us,
            "encoder": head.encoder,
            "novelty": known(head.novelty),
            "health": known(head.health),
            "blocks": [[head.lengths[i], head.exponents[i]] for i in range(head.blocks)],
            "feature": [payload[i] for i in range(payload.len())],
        }), flush=True)
        sample.delete()
        number += 1


if __name__ == "__main__":
    main()
