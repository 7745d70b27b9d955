#!/usr/bin/env bash
# Fuzzing with libFuzzer and AddressSanitizer: `.ci/fuzz.sh [SECONDS [TARGET…]]` builds every target of fuzz/ and runs each
# for SECONDS (5) from its seeds and its kept corpus. Fails on any finding, and prints where the input lies.
# cargo-fuzz is not needed: the flags are those that it passes, and the runtimes come with the toolchain.
# KEEP=1: keeps in fuzz/corpus the fewest inputs that reach what was reached, where they are short.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-5}
shift || true
host=$(rustc -vV | sed -n 's/^host: //p')
runtimes=$(rustc --print sysroot)/lib/rustlib/$host/lib
if ! ls "$runtimes"/librustc*_rt.asan.a >/dev/null 2>&1 || ! command -v c++ >/dev/null; then
  echo "SKIPPED: no sanitizer runtime for $host, or no C++ compiler to build libFuzzer with"; exit 0
fi
export RUSTC_BOOTSTRAP=1
RUSTFLAGS="-Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing" \
  cargo build --release --quiet --target "$host" --bins
built=target/$host/release
# Not an error where memory is only not given back at exit; a target has no state.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$built/seed" "$scratch/seeds"
names=("$@")
[ ${#names[@]} -gt 0 ] || names=($("$built/seed"))
failed=0
printf '%-12s %12s %9s %7s\n' target executions edges inputs
for name in "${names[@]}"; do
  mkdir -p "$scratch/new/$name" "corpus/$name" artifacts/"$name"
  if ! "$built/$name" "$scratch/new/$name" "corpus/$name" "$scratch/seeds/$name" -max_total_time="$seconds" \
    -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=10 -max_len=16384 -print_final_stats=1 \
    -artifact_prefix="artifacts/$name/" > "$scratch/log" 2>&1; then
    tail -n 40 "$scratch/log"
    echo "FAILED: $name; the input lies in fuzz/artifacts/$name"
    failed=1
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/log")
  last=$(grep -E ' cov: [0-9]+ ' "$scratch/log" | tail -n 1 || true)
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' <<<"$last")
  inputs=$(sed -n 's/.* corp: \([0-9]*\)\/.*/\1/p' <<<"$last")
  printf '%-12s %12s %9s %7s\n' "$name" "${executions:-?}" "${edges:-?}" "${inputs:-?}"
  if [ -n "${KEEP:-}" ]; then
    mkdir -p "$scratch/kept"
    "$built/$name" -set_cover_merge=1 -max_len=512 "$scratch/kept" "$scratch/seeds/$name" "corpus/$name" "$scratch/new/$name" \
      >/dev/null 2>&1
    find "$scratch/kept" -type f -size -513c -printf '%s %p\n' | sort -rn | tail -n 40 | cut -d' ' -f2- \
      | xargs -r cp -t "corpus/$name/"
    rm -rf "$scratch/kept"
  fi
done
exit $failed
