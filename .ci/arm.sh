#!/usr/bin/env bash
# The library's tests on emulated 64-bit ARM processors: a Cortex-A53 (Raspberry Pi 3, Zero 2), which has NEON, and a
# Cortex-A76 (Raspberry Pi 5), which has its dot products too. Where a tool cannot be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do
  command -v $tool >/dev/null || { echo "SKIPPED: $tool is not installed"; exit 0; }
done
[ -e /usr/aarch64-linux-gnu/lib/crt1.o ] || { echo "SKIPPED: libc6-dev-arm64-cross is not installed"; exit 0; }
. .ci/rust-src.sh
build_std
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Nearly all of the time goes into compiling. Checks of overflow are for the tests on the host.
test=(cargo test -Zbuild-std --target $target --lib --no-default-features --features std
  --config 'profile.dev.package."*".opt-level=0' --config 'profile.dev.debug=false'
  --config 'profile.dev.debug-assertions=false')
"${test[@]}" --no-run

run() { # run PROCESSOR TILE
  echo "$1, which has $2:"
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu $1"
  # What has kernels below it. The rest is rendering and files, which emulation makes slow and not different.
  NESTLING_EXPECTED_TILE=$2 "${test[@]}" --quiet -- kernels selftest fixed net learner pretext
  echo "$1: detected $2"
}
run cortex-a53 packed/neon
run cortex-a76 packed/neon-dot
