#!/usr/bin/env bash
# The core without std, allocator or float: built for a Cortex-M0+, a Cortex-M3 and, with its DSP instructions, a
# Cortex-M4; searched for soft-float symbols and run in an emulator, which counts instructions. The counts are held
# against boards/bare/counts/TARGET.txt; `KEEP_COUNTS=1 .ci/bare.sh` writes these files again.
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
      -semihosting-config enable=on,target=native -kernel "$image" | tee "target/$target.txt"
    counts "target/$target.txt" "counts/$target.txt"
  else
    echo "SKIPPED: qemu-system-arm is not installed, so the image was not run"
  fi
}

counts() { # counts OUTPUT KEPT: fails where a count of the output is more than 3 % off the kept one, or 8 % of the reference
  # loops', which the compiler lays out one way or another as code elsewhere changes.
  if [ -n "${KEEP_COUNTS:-}" ]; then
    mkdir -p counts
    grep '^count: ' "$1" >"$2"
    return
  fi
  awk '
    NR == FNR { kept[++n] = $0; next }
    /^count: / {
      fields = split(kept[++m], old, " ")
      off = fields != NF
      most = / reference: / ? 0.08 : 0.03
      for (i = 1; i <= NF && !off; i++) {
        number = $i ~ /^[0-9]+,?;?$/
        off = number ? ($i - old[i] > most * old[i] + 1 || old[i] - $i > most * old[i] + 1) : $i != old[i]
      }
      if (off) { print "FAILED: counted " $0; print "  where kept is " kept[m]; failed = 1 }
    }
    END { if (n != m) { print "FAILED: " m " counts, " n " are kept"; failed = 1 } exit failed }
  ' "$2" "$1"
}

# There is no emulated Cortex-M0+ with this much memory; a Cortex-M3 runs its instructions as they are.
run thumbv6m-none-eabi mps2-an385 ""
run thumbv7m-none-eabi mps2-an385 ""
run thumbv7em-none-eabi mps2-an386 dsp
cd ../..
.ci/panics.sh
