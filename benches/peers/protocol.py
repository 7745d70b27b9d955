"""What the Python peers share: the command line, the loop that measures, and the line that is printed."""

import argparse
import json
import sys
import time


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    return args.work, args.threads, args.seconds


def not_yet(peer, work):
    print(f"{peer}: {work}: not yet", file=sys.stderr)
    sys.exit(3)


def rss_mib():
    """Peak resident memory of this process; ru_maxrss would count the process that started this one too."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None


def measure(peer, version, work, threads, seconds, repetition, base=None):
    """Warms up for a fifth of the time, measures, and prints. `base`: memory after the imports."""
    begun, warmed = time.perf_counter(), 0
    while warmed < 2 or time.perf_counter() < begun + 0.2 * seconds:
        repetition()
        warmed += 1
    ms = []
    while len(ms) < 3 or (time.perf_counter() < begun + 1.2 * seconds and len(ms) < 5000):
        before = time.perf_counter()
        repetition()
        ms.append((time.perf_counter() - before) * 1e3)
    line = {"peer": peer, "version": version, "work": work, "threads": threads, "ms": ms}
    print(json.dumps(line | {"rss_mib": rss_mib(), "base_mib": base}))
