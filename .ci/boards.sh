#!/usr/bin/env bash
# The firmware of every board under boards/, built for its processor and searched for float code. The emulated boards are
# taught over their serial port and must reach the bits of the same learner here, in the memory that is promised.
# `.ci/boards.sh emulated` leaves the boards out that there is no emulator for. Where a tool cannot be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v qemu-system-arm >/dev/null || { echo "SKIPPED: qemu-system-arm is not installed"; exit 0; }
# The loop itself, with a port, a sensor and a flash of the host's.
CARGO_TARGET_DIR=boards/target cargo test --quiet --manifest-path boards/app/Cargo.toml --features embassy
# As the package and the virtual PC have it.
cargo build --release --quiet --features full
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

teach() { # teach BOARD MODEL SAMPLES MOST_RAM ARGUMENT…: MOST_RAM bounds all variables and the stack at its deepest
  local board=$1 model=$2 samples=$3 most=$4 told ram planned
  shift 4
  told=$("$nestling" flash --board "$board" --model "$model" --samples "$samples" --json "$@" 2>/dev/null |
    tr -d '\n') || { echo "FAILED: $board, $model: $told"; exit 1; }
  no_floats "$(value firmware <<<"$told")"
  ram=$(($(value ram_bytes <<<"$told") + $(value stack_peak <<<"$told")))
  planned=$(value ram_bytes <<<"$("$nestling" plan --board "$board" --model "$model" --json "${checkpoint[@]}")")
  echo "$board, $(value model <<<"$told"): $(value samples <<<"$told") samples, $(value steps <<<"$told") steps, \
$(value kernels <<<"$told"), $ram bytes of RAM of $planned planned ($(value learner_bytes <<<"$told") of the learner, \
$(value stack_peak <<<"$told") of stack), $(value flash_bytes <<<"$told") of flash, loss $(value loss_last <<<"$told"), effective \
rank $(value effective_rank <<<"$told"), saved $(value flash_saves <<<"$told") times, same bits: $(value same_bits <<<"$told")"
  [ "$(value same_bits <<<"$told")" = true ] || { echo "FAILED: other bits"; exit 1; }
  [ "$ram" -le "$most" ] || { echo "FAILED: more than $most bytes"; exit 1; }
  # The plan counts the stack by the room that the linker leaves for it.
  [ "$ram" -le "$planned" ] || { echo "FAILED: more than was planned"; exit 1; }
  # A dictionary alone stands 4 kB less deep than a pretext.
  [ "$((ram + 5120))" -ge "$planned" ] || { echo "FAILED: the plan is far too large"; exit 1; }
}

learned() { # learned TOLD-LINE MOST-LOSS LEAST-RANK: of the line that teach printed last
  awk -v line="$1" -v most="$2" -v least="$3" 'BEGIN {
    match(line, /loss [0-9.]+/); loss = substr(line, RSTART + 5, RLENGTH - 5)
    match(line, /rank [0-9.]+/); rank = substr(line, RSTART + 5, RLENGTH - 5)
    exit !(loss < most && rank > least)
  }' || { echo "FAILED: a loss of $2 at most and a rank of $3 at least were expected"; exit 1; }
}

frames=("sim:rover?width=32&height=32")
windows=("sim:rover?sensor=imu&window=128&stride=32")
if [ -n "${NESTLING_DATA:-}" ]; then
  frames=("mjpeg:$NESTLING_DATA/robocar/seq1_midday_lowcam/frames.jpegs,$NESTLING_DATA/robocar/seq1_midday_lowcam/frames.csv")
  windows=("npy:$NESTLING_DATA/uci_har/x_f32.npy?segments=$NESTLING_DATA/uci_har/segments.csv&window=128&stride=64")
fi
checkpoint=()
models=boards/models
# Layers trained at every frame: over 1000 steps on a Cortex-M4 and on a Cortex-M7.
for board in qemu-mps2-an386 qemu-mps2-an500; do
  line=$(teach $board $models/s17.toml 1350 200000 --source "${frames[0]}"); echo "$line"
  case $line in *FAILED*) exit 1 ;; esac
  learned "$line" 1.9 1.5
done
teach qemu-mps2-an500 imu 1100 49152 --source "${windows[0]}"
teach qemu-mps2-an386 $models/n5.toml 1100 49152 --source "${frames[0]}"
teach qemu-mps2-an505 $models/n18.toml 300 98304 --source "${frames[0]}"
# Learned here as a whole, and gone on with there: 325 k of its weights stay in flash.
whole=$(mktemp -d)/s330.safetensors
"$nestling" learn --model s330 --set optimizer.memory=0 --set replay.latents=false --set guard.canaries=32 \
  --set replay.capacity=64 --source "${frames[0]}" --samples 400 --out "$whole" --json >/dev/null
checkpoint=(--checkpoint "$whole")
teach qemu-mps2-an386 s330 60 131072 --source "${frames[0]}" "${checkpoint[@]}"
[ "${1:-}" != emulated ] || exit 0

# No core of these boards is emulated with its periphery: they are built, with each input that they have.
make() { # make BOARD INPUT MODEL
  local built static planned
  built=$(NESTLING_INPUT=$2 "$nestling" flash --board "$1" --model "$3" --build-only --json 2>/dev/null |
    tr -d '\n') || { echo "FAILED: $1 with input $2"; exit 1; }
  no_floats "$(value firmware <<<"$built")"
  static=$(value static_bytes <<<"$built")
  planned=$("$nestling" plan --board "$1" --model "$3" --json)
  echo "$1, $2, $3: $static bytes of variables, $(value flash_bytes <<<"$built") of flash"
  [ "$((static + $(value stack_bytes <<<"$planned")))" -le "$(value ram_bytes <<<"$planned")" ] ||
    { echo "FAILED: more than was planned"; exit 1; }
}
make pico camera $models/n5-grey.toml
make pico imu imu
make pico2 camera $models/n5-grey.toml
make nrf52840-dk imu imu
make nucleo-h743zi imu imu
