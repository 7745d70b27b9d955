#!/usr/bin/env bash
# All tests. `./test.sh` runs every stage; `./test.sh STAGE…` runs the named ones:
#   style   format, documentation, lints of the default, the smallest and all features
#   test    tests of all features
#   bare    the core without std, allocator or float, on emulated Cortex-M processors, with its instructions counted
#   boards  the firmware of every board; the emulated ones are taught and must reach the host's bits
#   arm     all features built for 64-bit ARM; its tests on emulated processors, with and without dot products
#   package the Debian package, installed, upgraded and removed in a clean tree
#   vm      the daemon on a virtual PC with camera, IMU, GPIO chip and disk: it is taught, the camera unplugged, the power goes
#   pi      the 64-bit ARM program on an emulated Raspberry Pi 3 B: a camera, and the Pi's own GPIO registers
#   crash   a learner that is killed at random moments, hundreds of times
#   demo    the main job, small
#   soak    200,000 samples of changing scenes with faults: memory, latency and features stay as they are
#   sanitize  AddressSanitizer over unsafe code, ThreadSanitizer over threads
#   fuzz    every parser and decoder by libFuzzer, some seconds each (the tests run the same targets without it)
set -euo pipefail
cd "$(dirname "$0")"

# All features, and tract, which is none of `full` as a C compiler is needed to build it.
everything=full,tract

# Installs a Debian package where it is missing, there is a package manager, and we have the right to use it.
need() { # need COMMAND PACKAGE, or need FILE PACKAGE
  [ -e "$1" ] || command -v "$1" >/dev/null && return
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    # Another stage beside this one may be installing.
    local install=(apt-get -o DPkg::Lock::Timeout=300 install -y -qq "$2")
    "${install[@]}" >/dev/null 2>&1 || { apt-get update -qq && "${install[@]}"; } >/dev/null 2>&1 || true
  fi
  [ -e "$1" ] || command -v "$1" >/dev/null || echo "note: $1 is missing and could not be installed (package $2)"
}

# Python libraries that tests hold us against, where there is an index that has them.
python() { # python PACKAGE…
  need /usr/share/doc/python3-venv python3-venv
  [ -x target/python/bin/pip ] || python3 -m venv target/python >/dev/null 2>&1 || true
  local name
  for name; do
    target/python/bin/pip install --quiet "$name" >/dev/null 2>&1 || echo "note: no Python package $name: its tests say SKIPPED"
  done
}

style() {
  cargo fmt --check
  cargo clippy --all-targets -- -D warnings
  cargo clippy --all-targets --features "$everything" -- -D warnings
  RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --features "$everything"
  cargo clippy --no-default-features -- -D warnings
}

test_() {
  need /usr/lib/python3/dist-packages/numpy python3-numpy
  need /usr/sbin/mosquitto mosquitto
  need mosquitto_sub mosquitto-clients
  python mcap mcap-ros2-support rosbags eclipse-zenoh iceoryx2 onnx onnxruntime
  cargo test --features "$everything"
}

bare() {
  need qemu-system-arm qemu-system-arm
  need readelf binutils
  need arm-none-eabi-objdump binutils-arm-none-eabi
  .ci/bare.sh
}

boards() {
  need qemu-system-arm qemu-system-arm
  need readelf binutils
  .ci/boards.sh
}

arm() {
  need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
  need /usr/aarch64-linux-gnu/lib/crt1.o libc6-dev-arm64-cross
  need qemu-aarch64-static qemu-user-static
  .ci/arm.sh
}

package() {
  need dpkg-deb dpkg
  need debootstrap debootstrap
  need readelf binutils
  need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
  need /usr/aarch64-linux-gnu/lib/crt1.o libc6-dev-arm64-cross
  need qemu-aarch64-static qemu-user-static
  .ci/package.sh
}

vm() {
  need qemu-system-x86_64 qemu-system-x86
  need cpio cpio
  need /sbin/depmod kmod
  need /sbin/mkfs.ext4 e2fsprogs
  need v4l2-ctl v4l-utils
  need i2cset i2c-tools
  need make make
  need gcc gcc
  .ci/vm.sh
}

pi() {
  need qemu-system-aarch64 qemu-system-arm
  need cpio cpio
  need /sbin/depmod kmod
  need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
  need /usr/aarch64-linux-gnu/lib/crt1.o libc6-dev-arm64-cross
  .ci/pi.sh
}

crash() {
  NESTLING_KILLS=600 cargo test --features "$everything" --test kill -- --nocapture
}

demo() {
  local out
  out=$(mktemp -d)
  # Of the program that the stages before have built; `style` compiles the default one.
  cargo run --release --quiet --features full -- demo --json --samples 600 --labels 60 --out "$out" | head -c 400
  echo
  test -s "$out/index.html"
}

soak() {
  cargo test --features "$everything" --test soak -- --ignored --nocapture
}

sanitize() {
  .ci/sanitize.sh
}

fuzz() {
  need c++ g++
  .ci/fuzz.sh
}

# Two rows of stages at once; what the first says comes when both have ended.
beside() { # beside "STAGE…" "STAGE…"
  local told first failed=0
  told=$(mktemp)
  # shellcheck disable=SC2086
  SECONDS=$SECONDS ./test.sh $1 >"$told" 2>&1 & first=$!
  # shellcheck disable=SC2086
  SECONDS=$SECONDS ./test.sh $2 || failed=1
  wait $first || failed=1
  cat "$told"
  rm "$told"
  [ $failed = 0 ] || { echo "FAILED: of the stages $1 and, beside them, $2"; exit 1; }
}

# What a stage built for itself alone goes, where that is asked for: all together are more than a small disk holds.
tidy() { # tidy STAGE
  [ -n "${NESTLING_TIDY:-}" ] || return 0
  case $1 in
    bare) rm -rf boards/bare/target ;;
    boards) rm -rf boards/target ;;
    pi) rm -rf target/aarch64-unknown-linux-gnu ;;
    demo) rm -rf target/release ;;
    sanitize) rm -rf target/asan target/tsan ;;
    fuzz) rm -rf fuzz/target ;;
  esac
}

# The tests come last, so that their own summary is the end of it all.
names=(style bare boards arm package vm pi soak sanitize fuzz crash demo test)
# Boards and ARM are emulated on one core for minutes, while the others compile; each has a folder of its own to compile in.
# What looks at the clock stands alone.
all=(style bare "boards arm|sanitize fuzz" package vm pi soak crash demo test)
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=("${all[@]}")
for stage in "${stages[@]}"; do
  if [[ $stage == *"|"* ]]; then beside "${stage%%|*}" "${stage#*|}"; continue; fi
  [[ " ${names[*]} " == *" $stage "* ]] || { echo "test.sh: no stage $stage; there are ${names[*]}" >&2; exit 2; }
  echo "== $stage, after $SECONDS s"
  # `test` is the shell's own word.
  if [ "$stage" = test ]; then test_; else "$stage"; fi
  tidy "$stage"
done
