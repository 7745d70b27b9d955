#!/usr/bin/env python3
"""Recordings by other hands, for tests/mcap.rs: writes bags as ROS 2 does, and reads those that nestling wrote.

    peer.py write FOLDER        bags of every compression, with images, an IMU and a steering topic
    peer.py read FILE.mcap      what the libraries mcap and mcap-ros2-support find in a recording, as JSON
    peer.py rosbags FILE.mcap   the same by the library rosbags

Needs `pip install mcap mcap-ros2-support rosbags`.
"""

import hashlib
import json
import math
import pathlib
import sys

IMAGE = """std_msgs/Header header
uint32 height
uint32 width
string encoding
uint8 is_bigendian
uint32 step
uint8[] data
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec"""
COMPRESSED = IMAGE.replace(
    "uint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\n", "string format\n"
)
IMU = """std_msgs/Header header
geometry_msgs/Quaternion orientation
float64[9] orientation_covariance
geometry_msgs/Vector3 angular_velocity
float64[9] angular_velocity_covariance
geometry_msgs/Vector3 linear_acceleration
float64[9] linear_acceleration_covariance
================================================================================
MSG: geometry_msgs/Quaternion
float64 x 0
float64 y 0
float64 z 0
float64 w 1
================================================================================
MSG: geometry_msgs/Vector3
float64 x
float64 y
float64 z
================================================================================""" + IMAGE[IMAGE.index("\nMSG: std_msgs") :]
TWIST = """geometry_msgs/Vector3 linear
geometry_msgs/Vector3 angular
================================================================================
MSG: geometry_msgs/Vector3
float64 x
float64 y
float64 z"""

START = 1_700_000_000_000_000_000
WIDTH, HEIGHT, FRAMES, READINGS = 12, 8, 20, 100


def header(ns):
    return {"stamp": {"sec": ns // 10**9, "nanosec": ns % 10**9}, "frame_id": "robot"}


def pixels(frame, encoding):
    """Red is the column, green the row, blue the frame; rows have 4 bytes of filling."""
    rows = []
    for y in range(HEIGHT):
        row = b"".join(
            bytes({"rgb8": (x, y, frame), "bgr8": (frame, y, x), "mono8": (x + y + frame,)}[encoding])
            for x in range(WIDTH)
        )
        rows.append(row + bytes(4))
    return b"".join(rows)


def image(ns, frame, encoding):
    step = WIDTH * (1 if encoding == "mono8" else 3) + 4
    return {
        "header": header(ns), "height": HEIGHT, "width": WIDTH, "encoding": encoding, "is_bigendian": 0,
        "step": step, "data": pixels(frame, encoding),
    }


def imu(ns, n):
    turned = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    return {
        "header": header(ns), "orientation": turned, "orientation_covariance": [0.0] * 9,
        "angular_velocity": {"x": 0.0, "y": 0.0, "z": math.radians(n)}, "angular_velocity_covariance": [0.0] * 9,
        "linear_acceleration": {"x": n * 9.80665 / 100, "y": 0.0, "z": 9.80665}, "linear_acceleration_covariance": [0.0] * 9,
    }


def write(folder):
    from mcap.writer import CompressionType
    from mcap_ros2.writer import Writer

    folder = pathlib.Path(folder)
    for name, compression in [("none", "NONE"), ("lz4", "LZ4"), ("zstd", "ZSTD")]:
        with open(folder / f"{name}.mcap", "wb") as out:
            writer = Writer(out, chunk_size=4096, compression=CompressionType[compression])
            kinds = {
                "image": writer.register_msgdef("sensor_msgs/msg/Image", IMAGE),
                "imu": writer.register_msgdef("sensor_msgs/msg/Imu", IMU),
                "twist": writer.register_msgdef("geometry_msgs/msg/Twist", TWIST),
            }
            reading = 0
            for frame in range(FRAMES):
                ns = START + frame * 50_000_000
                # A pause of three seconds in the middle.
                ns += 3 * 10**9 if frame >= FRAMES // 2 else 0
                for encoding in ["rgb8", "bgr8", "mono8"]:
                    writer.write_message(f"/{encoding}", kinds["image"], image(ns, frame, encoding), ns, ns, frame)
                for _ in range(READINGS // FRAMES):
                    at = START + reading * 10_000_000
                    writer.write_message("/imu", kinds["imu"], imu(at, reading), at, at, reading)
                    reading += 1
                vector = {"x": 0.0, "y": 0.0, "z": frame / 10}
                writer.write_message("/cmd_vel", kinds["twist"], {"linear": vector, "angular": vector}, ns, ns, frame)
            writer.finish()


def tell(topics):
    print(json.dumps({
        topic: {"schema": schema, "messages": len(parts), "sha256": hashlib.sha256(b"".join(parts)).hexdigest(), "last": last}
        for topic, (schema, parts, last) in topics.items()
    }))


def plain(value):
    """The fields of a message, without its header."""
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    if isinstance(value, (bytes, bytearray)):
        return list(value[:64])
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value[:64]]
    names = getattr(value, "__slots__", None) or list(vars(value))
    fields = ((name.lstrip("_"), getattr(value, name)) for name in names)
    return {name: plain(field) for name, field in fields if name != "header" and not name.startswith("msgtype")}


def content(message):
    for name in ("data", "readings", "values"):
        if hasattr(message, name):
            numbers = getattr(message, name)
            numbers = numbers.tolist() if hasattr(numbers, "tolist") else numbers
            return numbers if isinstance(numbers, bytes) else ",".join(map(str, numbers)).encode()
    return b""


def read(path):
    from mcap_ros2.reader import read_ros2_messages

    topics = {}
    for found in read_ros2_messages(path):
        schema, parts, _ = topics.get(found.channel.topic, (found.schema.name, [], None))
        parts.append(content(found.ros_msg))
        topics[found.channel.topic] = (schema, parts, plain(found.ros_msg))
    tell(topics)


def read_by_rosbags(path):
    from rosbags.highlevel import AnyReader

    topics = {}
    with AnyReader([pathlib.Path(path)]) as reader:
        for connection, _, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            schema, parts, _ = topics.get(connection.topic, (connection.msgtype, [], None))
            data = content(message)
            parts.append(data)
            topics[connection.topic] = (schema, parts, plain(message))
    tell(topics)


if __name__ == "__main__":
    {"write": write, "read": read, "rosbags": read_by_rosbags}[sys.argv[1]](sys.argv[2])
