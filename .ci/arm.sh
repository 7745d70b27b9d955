#!/usr/bin/env bash
# The whole program for 64-bit ARM, all features, and its tests on emulated processors: a Cortex-A76 (Raspberry Pi 5), which
# has NEON with dot products, and for the kernels and what stands on them a Cortex-A53 (Raspberry Pi 3, Zero 2), which has
# NEON alone. It is the release build, which `./test.sh package` packs. Where a tool cannot be had it says SKIPPED.
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
# Files of tests, of what depends on processor or system. Left out, as they run for minutes on the host and for an hour here,
# through code that these run too: audio, evaluate, guard, lean, learning, pretexts, probes, tasks (statistics of learners; `selftest`
# and the package's check hold the bits), faults, kill, soak, recordings (long streams), boards (builds firmware), fuzz.
files=(cli daemon doctor pins sources store threads)
build=(cargo test --release -Zbuild-std --target $target --features full --lib)
for file in "${files[@]}"; do build+=(--test "$file"); done
# Of the library and of those files: float statistics over much data, which emulation makes fifty times as slow, power cuts at
# every call, runs of hundreds of samples, who keeps up with the clock, and calls to V4L2, which qemu-user does not know.
slow=(--skip bytes_are_those_of_the_definition --skip control::alarm --skip evaluate::
  --skip augment::audio --skip no_cut_of_power --skip any_call_can --skip makes_a_mistake --skip again_and_again
  --skip fails_at_any_call --skip a_study_goes_on --skip one_hash_for_any_threads --skip features_keep_their_rate
  --skip demo::tests --skip what_is_no_camera --skip expert_completes)
# Eight cases of each property; the host's tests take all.
export PROPTEST_CASES=8

emulate() { # emulate PROCESSOR PROGRAM ARGUMENT…
  qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu "$@"
}

"${build[@]}" --no-run
built=$("${build[@]}" --no-run 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
# Tests start the program by its path, and this kernel does not know its format: there, for the while, is who emulates it.
program=target/$target/release/nestling
kept=target/$target/release/nestling.kept
# A product of four bytes is one instruction. Called as a function, as it once was, a feature takes six times as many.
[ "$(aarch64-linux-gnu-nm "$program" | grep -c 'kernels4neon3dot$')" = 0 ] || { echo "FAILED: dot products are not inlined"; exit 1; }
cp -p "$program" "$kept"
trap 'mv -f "$kept" "$program"' EXIT
rm "$program" # and not the file of cargo's that it is a second name of
printf '#!/bin/sh\nexec qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu cortex-a76 "%s" "$@"\n' "$PWD/$kept" >"$program"
chmod 755 "$program"

export NESTLING_EXPECTED_TILE
for test in $built; do
  case $test in
    */nestling-*)
      # What has kernels below it, on the processor without dot products.
      NESTLING_EXPECTED_TILE=packed/neon
      echo "Cortex-A53, library: kernels and what stands on them"
      emulate cortex-a53 "$test" --quiet "${slow[@]}" kernels selftest fixed net learner pretext
      NESTLING_EXPECTED_TILE=packed/neon-dot ;;
  esac
  echo "Cortex-A76, $(basename "$test")"
  emulate cortex-a76 "$test" --quiet "${slow[@]}"
done
