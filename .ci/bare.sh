#!/usr/bin/env bash
# The core without std, allocator or float: built for a Cortex-M3 and, with its DSP instructions, a
# Cortex-M4; searched for soft-float symbols and run in an emulator, which counts instructions.
# Needs the sources of the standard library for this very compiler; where they cannot be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/rust-src.sh
build_std
cd boards/bare

run() { # run TARGET MACHINE FEATURES: builds the image for the target, looks for floats, runs it on the machine
  local target=$1 machine=$2 features=$3 image floats
  cargo build --release -Zbuild-std=core -Zbuild-std-features=compiler-builtins-mem --target "$target" \
    --features "$features"
  image=target/$target/release/nestling-bare
  floats=$(readelf -sW "$image" | awk '$4 == "FUNC" {print $8}' |
    grep -E '(add|sub|mul|div|neg|cmp|fix|float|trunc|extend|eq|ne|lt|le|gt|ge|unord)[a-z]*[sd]f[23]?|__aeabi_(c?[fd])|f32|f64' || true)
  if [ -n "$floats" ]; then
    echo "FAILED: the image holds float code:"; echo "$floats"; exit 1
  fi
  echo "$target $features: no soft-float symbol among $(readelf -sW "$image" | grep -c FUNC) functions; $(size "$image" 2>/dev/null | tail -1 | awk '{print $1 + $2}') bytes of flash"
  if command -v qemu-system-arm >/dev/null; then
    timeout 900 qemu-system-arm -machine "$machine" -icount shift=10 -nographic -monitor none -serial none \
      -semihosting-config enable=on,target=native -kernel "$image"
  else
    echo "SKIPPED: qemu-system-arm is not installed, so the image was not run"
  fi
}
run thumbv7m-none-eabi mps2-an385 ""
run thumbv7em-none-eabi mps2-an386 dsp
