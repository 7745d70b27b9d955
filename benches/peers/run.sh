#!/usr/bin/env bash
# Compares nestling's training step and its perceiving with PyTorch, burn, candle, tract and ONNX Runtime on this
# machine, in one sitting, and writes the table of docs/performance.md.
#
#   benches/peers/run.sh [--quick] [--skip PEER,…] [--only WORK,…]
#
# --quick, --skip and --only print the table and leave docs/performance.md as it is.
#
# Installs what it needs below target/peers: a Python environment (PyTorch alone is 0.2 to 3 GB) and the Rust peers.
# What cannot be installed is named and gets an empty row. Needs bash, Python 3.10 or newer with venv, and cargo.
#
# Works, all with the same encoder (3x3 convolutions 3-16-32-64-128, strides 1-2-2-2, ReLU, global average pool):
#   W    one training step, 128 views of 32x32 in colour: forward, head 128-64, NT-Xent, backward, update
#   V    the same with one pair of views
#   I32  features of one image of 32x32, batch 1; I96: of 96x96
#   M    MobileNetV2 of width 0.35 at 96x96 without its classifier, batch 1
#
# Each peer is a program WORK [--threads N] [--seconds S] that warms up and prints one line of JSON, see protocol.py.
set -euo pipefail
for command in python3 cargo; do
  command -v "$command" >/dev/null || { echo "run.sh: $command is missing; install it first" >&2; exit 2; }
done
cd "$(dirname "$0")/../.."
exec python3 benches/peers/run.py "$@"
