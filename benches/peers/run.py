"""Installs the peers, runs all of them in turns, and tells the times; see run.sh. Runs in the repository's root."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HOME = Path("target/peers").absolute()
HERE = Path("benches/peers")
PYTHON = HOME / "venv/bin/python"
MODELS = HOME / "models"
RUST = HOME / "rust/release"
DOCUMENT = Path("docs/performance.md")
BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
OURS = "nestling"

NAMES = {
    "nestling": "nestling",
    "pytorch": "PyTorch",
    "burn": "burn",
    "candle": "candle",
    "tract": "tract",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime-int8": "ONNX Runtime int8",
}
COMMANDS = {
    "nestling": ["target/release/examples/reference_work"],
    "pytorch": [PYTHON, HERE / "pytorch.py"],
    "burn": [RUST / "burn"],
    "candle": [RUST / "candle"],
    "tract": [RUST / "tract"],
    "onnxruntime": [PYTHON, HERE / "ort.py"],
    "onnxruntime-int8": [PYTHON, HERE / "ort.py", "--int8"],
}
TRAINING = ["nestling", "pytorch", "burn", "candle"]
PERCEIVING = ["nestling", "pytorch", "burn", "candle", "tract", "onnxruntime", "onnxruntime-int8"]
# Work, threads, what it is, who takes part.
WORKS = [
    ("W", 1, "training step, 64 pairs of views of 32×32, one thread", TRAINING),
    ("W", 2, "the same, two threads", ["nestling", "pytorch"]),
    ("W+views", 1, "the same in one thread, making the views (SimCLR's) included", ["nestling"]),
    ("V", 1, "training step, one pair of views of 32×32", TRAINING),
    ("I32", 1, "features of one image of 32×32", PERCEIVING),
    ("I96", 1, "features of one image of 96×96", PERCEIVING),
    ("M", 1, "MobileNetV2 ×0.35, one image of 96×96", ["nestling", "tract", "onnxruntime", "onnxruntime-int8"]),
]


def say(text):
    print(text, file=sys.stderr, flush=True)


def done(command, **options):
    """Runs a step of the installation; the end of what it said is shown only where it fails."""
    told = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if told.returncode:
        say("\n".join(told.stdout.strip().splitlines()[-12:]))
    return told.returncode == 0


def has(module):
    return PYTHON.exists() and not subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode


def install(peers):
    """Installs `peers`; returns those that are there."""
    HOME.mkdir(parents=True, exist_ok=True)
    there = set()
    say("building nestling")
    if not done(["cargo", "build", "--release", "--example", "reference_work"]):
        sys.exit("run.py: nestling itself does not build")
    there.add(OURS)
    if not PYTHON.exists():
        say("making a Python environment")
        done([sys.executable, "-m", "venv", HOME / "venv"])
    pip = [PYTHON, "-m", "pip", "install", "--quiet"]
    # tract needs the models, which are made with ONNX Runtime.
    onnx = {"onnxruntime", "onnxruntime-int8", "tract"} & peers
    if onnx:
        say("installing numpy, onnx, onnxruntime and sympy")
        installed = has("onnx, onnxruntime, sympy") or done([*pip, "numpy", "onnx", "onnxruntime", "sympy"])
        if installed and ((MODELS / "forms.json").exists() or done([PYTHON, HERE / "models.py", MODELS])):
            there |= onnx - {"tract"}
        else:
            say("ONNX Runtime could not be installed; without it there are no models for tract either")
            peers = peers - {"tract"}
    if "pytorch" in peers:
        say("installing PyTorch")
        small = ["--retries", "0", "--timeout", "20", "--index-url", "https://download.pytorch.org/whl/cpu"]
        if has("torch") or done([*pip, "numpy"]) and (done([*pip, "torch", *small]) or done([*pip, "torch"])):
            there.add("pytorch")
        else:
            say("PyTorch could not be installed")
    environment = os.environ | {"CARGO_TARGET_DIR": str(HOME / "rust"), "RUSTFLAGS": "-C target-cpu=native"}
    manifest = ["--manifest-path", HERE / "rust/Cargo.toml"]
    for peer in sorted({"burn", "candle", "tract"} & peers):
        say(f"building {peer} (minutes, the first time)")
        if done(["cargo", "build", "--release", "--locked", *manifest, "--bin", peer], env=environment):
            there.add(peer)
        else:
            say(f"{peer} could not be built")
    return there


def run(peer, work, threads, seconds):
    """One line of a peer; None where it does not know the work or fails."""
    command = [*COMMANDS[peer], work, "--threads", str(threads), "--seconds", str(seconds)]
    if shutil.which("taskset"):
        cores = sorted(os.sched_getaffinity(0))[:threads]
        command = ["taskset", "-c", ",".join(map(str, cores)), *command]
    pools = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]
    environment = os.environ | {pool: str(threads) for pool in pools} | {"PEERS_MODELS": str(MODELS)}
    told = subprocess.run(command, env=environment, text=True, capture_output=True)
    if told.returncode == 0:
        return json.loads(told.stdout.splitlines()[-1])
    if told.returncode != 3:
        say(f"{peer} {work}: {(told.stderr.strip().splitlines() or ['failed'])[-1]}")
    return None


def measure(works, there, rounds, seconds):
    """All lines, by work, threads and peer. Each round starts with another peer, so that none has the best place."""
    lines = {}
    for number in range(rounds):
        for work, threads, _, peers in works:
            say(f"round {number + 1} of {rounds}: {work}, threads: {threads}")
            peers = [peer for peer in peers if peer in there]
            turn = number % max(len(peers), 1)
            for peer in peers[turn:] + peers[:turn]:
                if (line := run(peer, work, threads, seconds)) is not None:
                    lines.setdefault((work, threads, peer), []).append(line)
    return lines


def busy():
    """Seconds that all cores were at work or taken away by the host, and those of the programs started here."""
    try:
        user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return None
    times = os.times()
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + soft + steal) / ticks, times.children_user + times.children_system


def by_others(before, after, seconds):
    """Share of the machine that other programs took, of 1; None where the system does not tell."""
    if before is None or after is None:
        return None
    others = (after[0] - before[0]) - (after[1] - before[1])
    return max(0.0, others / seconds / (os.cpu_count() or 1))


def figures(lines):
    """Median, 10th and 90th percentile of all repetitions in ms, and the memory in MiB."""
    ms = [ms for line in lines for ms in line["ms"]]
    tenths = statistics.quantiles(ms, n=10)
    memory = [line["rss_mib"] for line in lines if line["rss_mib"]]
    base = [line["base_mib"] for line in lines if line.get("base_mib")]
    return statistics.median(ms), tenths[0], tenths[-1], max(memory, default=None), max(base, default=None)


def digits(value):
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def row(title, peer, lines, ours, state):
    if not lines:
        return f"| {title} | {NAMES[peer]} | {state} | | | | |"
    median, low, high, memory, base = figures(lines)
    ratio = " | " if peer == OURS or ours is None else f"{ours[0] / median:.2f} | {ours[1] / low:.2f}"
    memory = "" if memory is None else f"{memory:.0f}" if base is None else f"{memory:.0f} ({base:.0f})"
    return f"| {title} | {NAMES[peer]} | {digits(median)} | {digits(low)} – {digits(high)} | {ratio} | {memory} |"


def table(works, lines, there):
    out = [
        "| work | library | median, ms | 10th – 90th percentile | nestling ÷ library | of 10th percentiles | peak MiB (after import) |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for work, threads, what, peers in works:
        our_lines = lines.get((work, threads, OURS))
        ours = figures(our_lines) if our_lines else None
        title = f"**{work}**: {what}"
        for peer in peers:
            state = "not available here" if peer not in there else "not yet" if peer == OURS else "failed here"
            out.append(row(title, peer, lines.get((work, threads, peer)), ours, state))
            title = ""
    return "\n".join(out)


def processor():
    try:
        told = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in told if line.startswith("model name"))
        flags = next(line.split() for line in told if line.startswith("flags"))
        widest = next((name for name in ["avx512f", "avx2"] if name in flags), None)
        return f"{model}{f' ({widest})' if widest else ''}"
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def section(works, lines, there, rounds, seconds, others):
    versions = {peer: line["version"] for (_, _, peer), told in lines.items() for line in told}
    said = ", ".join(f"{NAMES[peer]} {versions[peer]}" for peer in NAMES if peer in versions and "int8" not in peer)
    if others is None:
        quiet = "How busy the machine was otherwise is not known."
    else:
        quiet = f"Other programs took {others:.0%} of the machine meanwhile."
    if others is not None and others > 0.05:
        quiet += " That disturbs medians; the 10th percentiles are nearer to what a quiet machine gives."
    return f"""\
## Against other libraries

`benches/peers/run.sh` installs all of them and measures them in turns, {rounds} rounds of {seconds:g} s for each work and
library, each in a process of its own, tied to the first core (two threads: to two). The table pools the repetitions of
all rounds. A quotient below 1 says that nestling takes less time.

{processor()}, {os.cpu_count()} cores. {said}.

{quiet}

{table(works, lines, there)}

- **Encoder** of W, V, I32 and I96: 3×3 convolutions 3→16→32→64→128 without bias, strides 1, 2, 2, 2, ReLU, global average
  pool. W and V add the head 128→128→64, NT-Xent at temperature 0.25, the backward pass and the update: 1.48 G
  multiply-accumulates a step of W. With one pair, V has nothing to repel: the loss and its gradient are 0, and everything
  is computed all the same.
- **M** in nestling is put together from the public kernels (`benches/works/mobilenet.rs`) with shifts fixed beforehand
  from one image; its clamp at 127 is ReLU6. Weights are random in all of them.
- **The others** work in f32. PyTorch: eager, channels last, fused SGD with momentum. burn: its backend flex, SGD with
  momentum. candle: SGD without momentum, as it has no other; its update is the cheapest. burn, candle and tract compute
  by their own code in Rust and are built for this very processor (`target-cpu=native`); nestling is not. ONNX Runtime
  int8: quantised statically, 8-bit activations and weights for each channel, QDQ or QOperator, whichever is faster.
- **nestling** computes in 8-bit integers. Its step also draws the samples from its replay buffer and turns their pixels
  into inputs, its image comes as 8-bit pixels; the others find their arrays ready. `W+views` tells what crops, mirroring
  and colours add.
- **Memory** is the peak of the resident set of a process that does this work alone; in brackets, for Python, what is
  there after the imports. nestling's holds the whole learner: replay buffer, published and learning encoder, optimiser.
- **Not compared**: how well the encoder learns from a step (see `results.md` for what 8 bits cost), the loading of data,
  augmentation in the other libraries, processors other than this one, GPUs.
"""


def write(text):
    old = DOCUMENT.read_text() if DOCUMENT.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, rest = old.split(BEGIN, 1)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END, 1)[1]}")


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description="Compares nestling with other libraries; see run.sh.")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--skip", default="", metavar="PEER,…", help=", ".join(name for name in NAMES if name != OURS))
    parser.add_argument("--only", default="", metavar="WORK,…", help="W, W+views, V, I32, I96, M")
    args = parser.parse_args()
    skip, only = set(filter(None, args.skip.split(","))), set(filter(None, args.only.split(",")))
    for unknown in [*(skip - set(NAMES)), *(only - {work for work, *_ in WORKS})]:
        parser.error(f"there is no {unknown}")
    works = [
        (work, threads, what, [peer for peer in peers if peer not in skip])
        for work, threads, what, peers in WORKS
        if not only or work in only
    ]
    works = [work for work in works if work[1] <= (os.cpu_count() or 1)]
    there = install({peer for *_, peers in works for peer in peers})
    rounds, seconds = (2, 0.5) if args.quick else (5, 2.0)
    begun, before = time.monotonic(), busy()
    lines = measure(works, there, rounds, seconds)
    others = by_others(before, busy(), time.monotonic() - begun)
    print(table(works, lines, there))
    if others is not None:
        say(f"other programs took {others:.0%} of the machine meanwhile")
    if not (args.quick or skip or only):
        write(section(works, lines, there, rounds, seconds, others))
        say(f"written: {DOCUMENT}")


main()
