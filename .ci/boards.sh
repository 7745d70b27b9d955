#!/usr/bin/env bash
# The firmware of every board under boards/, built for its processor and searched for float code. The emulated boards are
# taught over their serial port and must reach the bits of the same learner here, in the memory that is promised.
# `.ci/boards.sh emulated` leaves the boards out that there is no emulator for. Where a tool cannot be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v qemu-system-arm >/dev/null || { echo "SKIPPED: qemu-system-arm is not installed"; exit 0; }
# The loop itself, with a port, a sensor and a flash of the host's.
CARGO_TARGET_DIR=boards/target cargo test --quiet --manifest-path boards/app/Cargo.toml --features embassy
cargo build --release --quiet
nestling=$PWD/target/release/nestling
. .ci/rust-src.sh
build_std

value() { # value KEY: of the JSON object on standard input
  sed -n "s/.*\"$1\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" | head -1
}

no_floats() { # no_floats IMAGE
  local floats
  floats=$(readelf -sW "$1" | awk '$4 == "FUNC" {print $8}' |
    grep -E '(add|sub|mul|div|neg|cmp|fix|float|trunc|extend|eq|ne|lt|le|gt|ge|unord)[a-z]*[sd]f[23]?|__aeabi_(c?[fd])|f32|f64' || true)
  [ -z "$floats" ] || { echo "FAILED: $1 holds float code:"; echo "$floats"; exit 1; }
}

teach() { # teach BOARD MODEL SAMPLES MOST_RAM SOURCE…: MOST_RAM bounds all variables and the stack at its deepest
  local board=$1 model=$2 samples=$3 most=$4 told ram
  shift 4
  told=$("$nestling" flash --board "$board" --model "boards/models/$model.toml" --samples "$samples" --json \
    "${@/#/--source=}" 2>/dev/null | tr -d '\n') || { echo "FAILED: $board, $model: $told"; exit 1; }
  no_floats "$(value firmware <<<"$told")"
  ram=$(($(value ram_bytes <<<"$told") + $(value stack_peak <<<"$told")))
  echo "$board, $model: $(value samples <<<"$told") samples, $(value kernels <<<"$told"), $ram bytes of RAM \
($(value learner_bytes <<<"$told") planned, $(value stack_peak <<<"$told") of stack), $(value flash_bytes <<<"$told") of flash, \
effective rank $(value effective_rank <<<"$told"), saved $(value flash_saves <<<"$told") times, \
same bits: $(value same_bits <<<"$told")"
  [ "$(value same_bits <<<"$told")" = true ] || { echo "FAILED: other bits"; exit 1; }
  [ "$(value flash_saves <<<"$told")" -gt 0 ] || { echo "FAILED: nothing was saved"; exit 1; }
  [ "$ram" -le "$most" ] || { echo "FAILED: more than $most bytes"; exit 1; }
}

frames=(sim:rover)
windows=("sim:rover?sensor=imu&window=128&stride=32")
if [ -n "${NESTLING_DATA:-}" ]; then
  frames=("mjpeg:$NESTLING_DATA/robocar/seq1_midday_lowcam/frames.jpegs,$NESTLING_DATA/robocar/seq1_midday_lowcam/frames.csv")
  windows=("npy:$NESTLING_DATA/uci_har/x_f32.npy?segments=$NESTLING_DATA/uci_har/segments.csv&window=128&stride=64")
fi
teach qemu-mps2-an386 n5 1100 58368 "${frames[@]}"
teach qemu-mps2-an505 n18 1100 105472 "${frames[@]}"
teach qemu-mps2-an500 imu 1100 44032 "${windows[@]}"
[ "${1:-}" != emulated ] || exit 0

# No core of these boards is emulated with its periphery: they are built, with each input that they have.
make() { # make BOARD INPUT MODEL
  local built
  built=$(NESTLING_INPUT=$2 "$nestling" flash --board "$1" --model "boards/models/$3.toml" --build-only --json 2>/dev/null |
    tr -d '\n') || { echo "FAILED: $1 with input $2"; exit 1; }
  no_floats "$(value firmware <<<"$built")"
  echo "$1, $2, $3: $(value static_bytes <<<"$built") bytes of variables, $(value flash_bytes <<<"$built") of flash"
}
make pico camera n5-grey
make pico imu imu
make pico2 camera n5-grey
make nrf52840-dk imu imu
make nucleo-h743zi imu imu
