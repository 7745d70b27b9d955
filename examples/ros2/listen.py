#!/usr/bin/env python3
"""Prints what nestling publishes in a ROS 2 graph, one JSON object a line, without ROS 2.

    pip install eclipse-zenoh rosbags
    python3 listen.py tcp/127.0.0.1:7447            # through a router, or to nestling itself
    python3 listen.py --count 10 tcp/127.0.0.1:7447 # ends after 10 messages

A message is decoded by its .msg file in nestling_msgs/msg, whose hash must be that of the topic's key.
"""

import argparse
import dataclasses
import json
import math
import queue
import sys
from pathlib import Path

import zenoh
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

FOLDER = Path(__file__).resolve().parent / "nestling_msgs" / "msg"


def types():
    store = get_typestore(Stores.ROS2_JAZZY)
    for file in sorted(FOLDER.glob("*.msg")):
        store.register(get_types_from_msg(file.read_text(), f"nestling_msgs/msg/{file.stem}"))
    return store


def plain(value):
    """A message as dictionaries, lists and numbers; what is no number is null."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return None if isinstance(value, float) and math.isnan(value) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("connect", help="router, or nestling where it listens: tcp/ADDRESS:PORT")
    parser.add_argument("--domain", type=int, default=0)
    parser.add_argument("--count", type=int, help="end after so many messages")
    parser.add_argument("--patience", type=float, default=60, help="seconds without a message after which it gives up")
    asked = parser.parse_args()

    store = types()
    config = zenoh.Config()
    config.insert_json5("mode", '"client"')
    config.insert_json5("connect/endpoints", json.dumps([asked.connect]))
    config.insert_json5("scouting/multicast/enabled", "false")
    arrived = queue.Queue(1000)
    with zenoh.open(config) as session:
        kept = session.declare_subscriber(f"{asked.domain}/**", arrived.put)
        for reply in session.liveliness().get(f"@ros2_lv/{asked.domain}/**"):
            if reply.ok:
                print(json.dumps({"in the graph": str(reply.ok.key_expr)}), flush=True)
        number = 0
        while asked.count is None or number < asked.count:
            try:
                sample = arrived.get(timeout=asked.patience)
            except queue.Empty:
                sys.exit(f"no message within {asked.patience} s")
            _, *topic, dds_name, found = str(sample.key_expr).split("/")
            name = dds_name.replace("::dds_::", "::").rstrip("_").replace("::", "/")
            if name not in store.types:
                continue
            expected = store.hash_rihs01(name)
            if found != expected:
                sys.exit(f"{name} has the hash {found}; its .msg file has {expected}")
            attached = sample.attachment.to_bytes() if sample.attachment else b""
            message = plain(store.deserialize_cdr(sample.payload.to_bytes(), name))
            sequence = int.from_bytes(attached[:8], "little", signed=True)
            print(json.dumps({"topic": "/" + "/".join(topic), "type": name, "number": sequence, **message}), flush=True)
            number += 1
        kept.undeclare()


if __name__ == "__main__":
    main()
