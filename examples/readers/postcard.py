#!/usr/bin/env python3
"""Reads the messages that a running nestling gives out packed ([output] postcard): `postcard.py SOCKET [COUNT]`.

Standard library and numpy. `read` is what to take into a program of one's own; run by itself it prints a line for each
message. docs/bus.md has the bytes.
"""

import socket
import struct
import sys
from dataclasses import dataclass

import numpy as np

VERSION = 1


@dataclass
class Feature:
    time_us: int  # of the sample
    age_us: int  # from the sample's arrival until it was written
    encoder: int  # features of two versions are not to be compared
    novelty: float | None  # 1: as far from the stream so far as that is from itself
    health: float | None  # of the encoder against its best, 0 to 1
    blocks: list  # (length, exponent) of each
    values: np.ndarray  # int8

    def scaled(self) -> np.ndarray:
        lengths, exponents = zip(*self.blocks)
        return np.ldexp(self.values.astype(np.float32), np.repeat(np.array(exponents, dtype=np.int32), lengths))


@dataclass
class Decision:
    controller: str
    time_us: int
    age_us: int
    values: tuple
    confidence: float
    label: str | None
    alarm: bool | None
    safe: str | None  # why these are the safe values, where they are


@dataclass
class Stale:
    age_us: int  # of the newest feature


class Bytes:
    """What postcard packs: numbers as varints (7 bits a byte, the lowest first), lists and texts after their length."""

    def __init__(self, held: bytes):
        self.held, self.at = held, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.held):
            raise ValueError("the message is shorter than it says")
        self.at += count
        return self.held[self.at - count : self.at]

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def number(self, form: str):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def text(self) -> str:
        return self.take(self.varint()).decode()

    def maybe(self, read):
        return read() if self.take(1)[0] else None


def decode(held: bytes):
    """The message of a frame, without its length and version."""
    b = Bytes(held)
    kind = b.varint()
    if kind == 0:
        return Feature(
            time_us=b.varint(),
            age_us=b.varint(),
            encoder=b.varint(),
            novelty=b.maybe(lambda: b.number("f")),
            health=b.maybe(lambda: b.number("f")),
            blocks=[(b.varint(), b.varint()) for _ in range(b.varint())],
            values=np.frombuffer(b.take(b.varint()), dtype=np.int8),
        )
    if kind == 1:
        return Decision(
            controller=b.text(),
            time_us=b.varint(),
            age_us=b.varint(),
            values=tuple(b.number("d") for _ in range(b.varint())),
            confidence=b.number("f"),
            label=b.maybe(b.text),
            alarm=b.maybe(lambda: b.take(1)[0] != 0),
            safe=b.maybe(b.text),
        )
    if kind == 2:
        return Stale(age_us=b.varint())
    raise ValueError(f"messages of kind {kind} are newer than this reader")


def read(path: str):
    """Yields each message."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        stream = connection.makefile("rb")
        while len(head := stream.read(5)) == 5:
            length, version = struct.unpack("<IB", head)
            if version != VERSION:
                raise ValueError(f"frames of version {version}, and this reader knows {VERSION}")
            held = stream.read(length - 1)
            if len(held) < length - 1:
                return
            yield decode(held)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else None
    for said in read(sys.argv[1]):
        if isinstance(said, Feature):
            total = int(said.values.astype(np.int64).sum())
            print(f"{said.time_us} encoder {said.encoder} values {said.values.size} sum {total}", flush=True)
            count = None if count is None else count - 1
            if count == 0:
                return
        elif isinstance(said, Decision):
            values = " ".join(f"{value:.4f}" for value in said.values)
            print(f"{said.time_us} {said.controller}: {values} {said.label or ''} {said.safe or ''}".rstrip(), flush=True)
        else:
            print(f"stale for {said.age_us} us", flush=True)


if __name__ == "__main__":
    main()
