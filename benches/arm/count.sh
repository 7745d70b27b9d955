#!/usr/bin/env bash
# Instructions of a feature and of a step of learning on 64-bit ARM: `benches/arm/count.sh [PROGRAM]`, the program being the
# release build of `./test.sh arm` (and that of this machine, for the number of steps). QEMU counts what an emulated processor executes (count.c); each figure is the difference
# of two runs over more and fewer samples, so that the start falls out. Table for docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${1:-target/aarch64-unknown-linux-gnu/release/nestling}
[ -e "$program" ] || { echo "there is no $program: ./test.sh arm builds it" >&2; exit 1; }
work=$PWD/target/arm-count
mkdir -p "$work"
qemu=$(command -v qemu-aarch64 || true)
if [ -z "$qemu" ]; then
  # The one with plugins; qemu-user-static has none.
  [ -e "$work/usr/bin/qemu-aarch64" ] || (cd "$work" && apt-get -o APT::Sandbox::User=root download qemu-user >/dev/null 2>&1 && dpkg -x qemu-user_*.deb .)
  qemu=$work/usr/bin/qemu-aarch64
fi
gcc -O2 -Wall -shared -fPIC -o "$work/count.so" benches/arm/count.c

# Samples that cost nothing to make: raw frames of a moving pattern, windows of moving sines.
python3 - "$work" <<'PYTHON'
import math, struct, sys
def npy(name, descr, shape, data):
    head = repr({"descr": descr, "fortran_order": False, "shape": shape})
    head += " " * (63 - (len(head) + 10) % 64) + "\n"
    with open(f"{sys.argv[1]}/{name}.npy", "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data)
def pictures(name, n, height, width, channels):
    texture = bytes((37 * i * i + 11 * i // 7 + (i // 5) * 90) % 251 for i in range(height * (width + n) * channels))
    row = (width + n) * channels
    frames = b"".join(texture[y * row + t * channels:][:width * channels] for t in range(n) for y in range(height))
    open(f"{sys.argv[1]}/{name}.raw", "wb").write(frames)
pictures("robot", 400, 48, 64, 1)
pictures("n5", 400, 32, 32, 3)
signal = [int(8000 * math.sin(t * (c + 1) / 9) + 2000 * math.sin(t * t / 5000)) for t in range(400 * 64 + 128) for c in range(6)]
npy("windows", "<i2", (len(signal) // 6, 6), struct.pack(f"<{len(signal)}h", *signal))
PYTHON

count() { # count PROCESSOR ARGUMENTS…
  local cpu=$1
  shift
  [ "$1" != learn ] || set -- "$@" --out "$(mktemp -d -p "$work")/state"
  "$qemu" -L /usr/aarch64-linux-gnu -cpu "$cpu" -plugin "$work/count.so" "$program" "$@" 2>&1 >/dev/null <"$stream" | sed -n 's/^instructions: //p'
}
# What two runs at once differ in, in millions of instructions, for each of N samples or steps.
between() { # between N FEWER MORE PROCESSOR ARGUMENTS…
  local n=$1 few=$2 many=$3
  shift 3
  count "$@" --samples "$few" >"$work/few" & count "$@" --samples "$many" >"$work/many"
  wait $!
  awk "BEGIN{printf \"%.3f\", ($(cat "$work/many") - $(cat "$work/few")) / $n / 1e6}"
}
source_of() {
  case $1 in
    motion | imu) echo "npy:$work/windows.npy?window=128&stride=64" ;;
    robot) echo "pipe:-?format=gray8&width=64&height=48" ;;
    n5) echo "pipe:-?format=rgb24&width=32&height=32" ;;
  esac
}
# What `learn` counts as steps; a dictionary alone has none, and each sample is one.
steps() { # steps SAMPLES ARGUMENTS…
  local samples=$1
  shift
  rm -f "$work"/steps.safetensors*
  "${HERE:-target/release/nestling}" learn "$@" --samples "$samples" --json --out "$work/steps.safetensors" 2>/dev/null <"$stream" |
    sed 's/.*"steps":\([0-9]*\).*/\1/'
}
echo "| model | processor | M instructions a feature | M instructions a step of learning |"
echo "|---|---|---|---|"
for model in ${MODELS:-robot n5 motion imu}; do
  short=() stream=/dev/null few=72 many=104
  case $model in
    robot) short=(--set dictionary.samples=40) stream=$work/robot.raw ;;
    n5) stream=$work/n5.raw ;;
  esac
  learn=(--threads 1 --source "$(source_of $model)" --model $model "${short[@]}")
  n=$(($(steps $many "${learn[@]}") - $(steps $few "${learn[@]}")))
  [ $n -gt 0 ] || n=$((many - few))
  for cpu in ${PROCESSORS:-cortex-a53 cortex-a76}; do
    feature=$(between 100 40 140 $cpu run --frozen --every --source "$(source_of $model)" --model $model)
    learned=$(between $n $few $many $cpu learn "${learn[@]}")
    echo "| $model | $cpu | $feature | $learned |"
  done
done
