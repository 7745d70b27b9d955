#!/usr/bin/env bash
# The core without std, allocator or float: built for a Cortex-M3, searched for soft-float symbols, run in an emulator.
# Needs the sources of the standard library for this very compiler; where they cannot be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/../boards/bare"
target=thumbv7m-none-eabi
scratch=${NESTLING_SCRATCH:-$PWD/target/rust-src}
version=$(rustc --version | cut -d' ' -f2)

# Prints the folder of the standard library's sources: rustup's own, or those of the system's package rust-src.
library() {
  local own=$(rustc --print sysroot)/lib/rustlib/src/rust/library
  [ -d "$own" ] && { echo "$own"; return; }
  local unpacked=$scratch/usr/src/rustc-$version/library
  if [ ! -d "$unpacked" ]; then
    command -v apt-get >/dev/null || return 1
    mkdir -p "$scratch/etc/apt/apt.conf.d" "$scratch/etc/apt/preferences.d" "$scratch/var/lib/apt/lists/partial" \
      "$scratch/var/lib/dpkg" "$scratch/var/cache/apt/archives/partial"
    touch "$scratch/var/lib/dpkg/status"
    local mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null)
    [ -n "$mirror" ] || return 1
    # A private package root: the system's own is not touched.
    for suite in trixie-backports forky sid; do
      echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done > "$scratch/etc/apt/sources.list"
    printf 'Dir "%s";\nDir::State::status "%s";\nAPT::Architecture "amd64";\nAPT::Architectures {"amd64";};\nAcquire::Languages "none";\nAcquire::Check-Valid-Until "false";\nAPT::Sandbox::User "root";\n' \
      "$scratch" "$scratch/var/lib/dpkg/status" > "$scratch/apt.conf"
    export APT_CONFIG=$scratch/apt.conf
    apt-get update >/dev/null 2>&1 || true
    local package=$(apt-cache madison rust-src 2>/dev/null | awk -v v="$version" '$3 ~ "^" v {print $3; exit}')
    [ -n "$package" ] || return 1
    (cd "$scratch" && apt-get download "rust-src=$package" >/dev/null 2>&1 && dpkg -x rust-src_*.deb .) || return 1
    unset APT_CONFIG
  fi
  [ -d "$unpacked" ] && echo "$unpacked"
}

if ! sources=$(library); then
  echo "SKIPPED: no sources of the standard library $version (rustup component add rust-src)"
  exit 0
fi
# build-std is not stable yet; this opens it for this one build.
export __CARGO_TESTS_ONLY_SRC_ROOT=$sources RUSTC_BOOTSTRAP=1
cargo build --release -Zbuild-std=core -Zbuild-std-features=compiler-builtins-mem --target $target
image=target/$target/release/nestling-bare

floats=$(readelf -sW "$image" | awk '$4 == "FUNC" {print $8}' |
  grep -E '(add|sub|mul|div|neg|cmp|fix|float|trunc|extend|eq|ne|lt|le|gt|ge|unord)[a-z]*[sd]f[23]?|__aeabi_(c?[fd])|f32|f64' || true)
if [ -n "$floats" ]; then
  echo "FAILED: the image holds float code:"; echo "$floats"; exit 1
fi
echo "no soft-float symbol among $(readelf -sW "$image" | grep -c FUNC) functions; $(size "$image" 2>/dev/null | tail -1 | awk '{print $1 + $2}') bytes of flash"

if command -v qemu-system-arm >/dev/null; then
  timeout 300 qemu-system-arm -machine mps2-an385 -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel "$image"
else
  echo "SKIPPED: qemu-system-arm is not installed, so the image was not run"
fi
