#!/usr/bin/env bash
# Undefined behaviour. AddressSanitizer over the tests of what has `unsafe` code or is close to it, ThreadSanitizer over
# what runs on several threads; Miri over the same kernels where it is installed. Says SKIPPED for what cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
runtimes=$(rustc --print sysroot)/lib/rustlib/$host/lib
# Nearly all of the time goes into compiling.
test=(cargo test --target "$host" --no-default-features --features std,flash --quiet
  --config 'profile.dev.package."*".opt-level=0' --config 'profile.dev.debug="line-tables-only"' --config 'profile.test.opt-level=1')

if cargo miri --version >/dev/null 2>&1; then
  cargo miri test --lib --no-default-features --features std,flash -- fixed:: kernels::narrow replay::
else
  echo "SKIPPED: Miri is not installed (rustup +nightly component add miri)"
fi

if ! ls "$runtimes"/librustc*_rt.asan.a >/dev/null 2>&1; then
  echo "SKIPPED: no sanitizer runtimes for $host"; exit 0
fi
export RUSTC_BOOTSTRAP=1
echo "AddressSanitizer: kernels, net, learner, replay, pretext, flash, image, link"
RUSTFLAGS=-Zsanitizer=address "${test[@]}" --target-dir target/asan --lib -- \
  kernels:: net:: learner:: replay:: pretext:: augment:: flash:: image:: link:: selftest:: --skip no_cut_of_power

. .ci/rust-src.sh
build_std
# The standard library must be built with the sanitizer too, or its locks look like races.
echo "ThreadSanitizer: lanes on a pool, the perceiver's exchange"
RUSTFLAGS=-Zsanitizer=thread "${test[@]}" -Zbuild-std --target-dir target/tsan --test threads
