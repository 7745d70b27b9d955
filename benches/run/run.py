#!/usr/bin/env python3
"""What `nestling run` takes at 30 frames a second: `benches/run/run.py [PROGRAM]`.

Raw frames of 320x240 in colour come through a pipe, as from a camera; windows from the simulated IMU at its own pace. CPU time
and memory are the kernel's account of the process, over SECONDS after WARM seconds. Prints the table of docs/performance.md.
"""
import json, os, subprocess, sys, tempfile, threading, time

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else "target/release/nestling"
WARM, SECONDS, WIDTH, HEIGHT = 15, 30, 320, 240
TICKS = os.sysconf("SC_CLK_TCK")


def feed(pipe, stop):
    """A pattern that moves, 30 times a second."""
    row = (WIDTH + 600) * 3
    texture = bytes((37 * i * i + 11 * i // 7 + (i // 45) * 90) % 251 for i in range(row * HEIGHT))
    due, n = time.monotonic(), 0
    while not stop.is_set():
        at = n % 600 * 3
        try:
            pipe.write(b"".join(texture[y * row + at : y * row + at + WIDTH * 3] for y in range(HEIGHT)))
            pipe.flush()
        except BrokenPipeError:
            return
        n, due = n + 1, due + 1 / 30
        time.sleep(max(0, due - time.monotonic()))


def seconds_of(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(model, *arguments):
    frames = model not in ("imu", "motion")
    source = f"pipe:-?format=rgb24&width={WIDTH}&height={HEIGHT}" if frames else "sim:rover?sensor=imu"
    # A short dictionary, so that what is measured is what goes on for months.
    short = ["--set", "dictionary.samples=60"] if frames else ["--pace"]
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/control"
        command = [PROGRAM, "run", "--source", source, "--model", model, "--control", socket, *short, *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stop = threading.Event()
        if frames:
            threading.Thread(target=feed, args=(process.stdin, stop), daemon=True).start()
        status = lambda: json.loads(subprocess.run([PROGRAM, "status", "--json", "--control", socket], capture_output=True).stdout)
        time.sleep(WARM)
        before, cpu, at = status(), seconds_of(process.pid), time.monotonic()
        time.sleep(SECONDS)
        after, cpu, took = status(), seconds_of(process.pid) - cpu, time.monotonic() - at
        process.terminate()
        stop.set()
        process.wait()
    per_second = lambda *keys: (value(after, keys) - value(before, keys)) / took
    what = "perceives" if "--frozen" in arguments else f"learns, share {arguments[arguments.index('--share') + 1]}"
    print(
        f"| {model} | {what} | {per_second('features', 'perceived'):.1f} | {per_second('learning', 'observed'):.1f} "
        f"| {100 * cpu / took:.1f} % | {after['memory']['peak_rss_bytes'] / 1e6:.0f} |",
        flush=True,
    )


def value(status, keys):
    for key in keys:
        status = status[key]
    return status


print("| model | does | features a second | samples learned from a second | of one core | MB at most |\n|---|---|---|---|---|---|")
for model in ("robot", "n5", "imu"):
    measure(model, "--frozen")
    measure(model, "--share", "0.5")
