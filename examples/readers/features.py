#!/usr/bin/env python3
"""Reads the features that a running nestling gives out on its socket ([output] socket): `features.py SOCKET [COUNT]`.

Standard library and numpy. `read` is what to take into a program of one's own; run by itself it prints a line for each
feature and each decision.
"""

import json
import socket
import sys
from dataclasses import dataclass

import numpy as np


@dataclass
class Feature:
    time_us: int  # of the sample
    age_us: int  # from the sample's arrival until it was written
    encoder: int  # features of two versions are not to be compared
    novelty: float | None  # 1: as far from the stream so far as that is from itself
    health: float | None  # of the encoder against its best, 0 to 1
    values: np.ndarray  # int8
    exponents: np.ndarray  # int32, of each value: value * 2**exponent is in the sums' unit of its block

    def scaled(self) -> np.ndarray:
        return np.ldexp(self.values.astype(np.float32), self.exponents)


def read(path: str):
    """Yields each `Feature`, and as a dict every other line: decisions of controllers, and {"stale": true, "age_us": …}."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        for line in connection.makefile("r", encoding="utf-8"):
            said = json.loads(line)
            if "feature" not in said:
                yield said
                continue
            lengths, exponents = zip(*said["blocks"])
            yield Feature(
                time_us=said["t_us"],
                age_us=said["age_us"],
                encoder=said["encoder"],
                novelty=said["novelty"],
                health=said["health"],
                values=np.array(said["feature"], dtype=np.int8),
                exponents=np.repeat(np.array(exponents, dtype=np.int32), lengths),
            )


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
        else:
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
