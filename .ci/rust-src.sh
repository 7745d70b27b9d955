# To be sourced by scripts that build the standard library themselves, for targets that the toolchain has no built one
# for. Defines build_std: see there.

# Prints the folder of the standard library's sources: rustup's own, or those of the system's package rust-src.
library() { # library SCRATCH
  local scratch=$1 version own unpacked mirror package
  version=$(rustc --version | cut -d' ' -f2)
  own=$(rustc --print sysroot)/lib/rustlib/src/rust/library
  [ -d "$own" ] && { echo "$own"; return; }
  unpacked=$scratch/usr/src/rustc-$version/library
  if [ ! -d "$unpacked" ]; then
    command -v apt-get >/dev/null || return 1
    mkdir -p "$scratch/etc/apt/apt.conf.d" "$scratch/etc/apt/preferences.d" "$scratch/var/lib/apt/lists/partial" \
      "$scratch/var/lib/dpkg" "$scratch/var/cache/apt/archives/partial"
    touch "$scratch/var/lib/dpkg/status"
    mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null)
    [ -n "$mirror" ] || return 1
    # A private package root: the system's own is not touched.
    for suite in trixie-backports forky sid; do
      echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done > "$scratch/etc/apt/sources.list"
    printf 'Dir "%s";\nDir::State::status "%s";\nAPT::Architecture "amd64";\nAPT::Architectures {"amd64";};\nAcquire::Languages "none";\nAcquire::Check-Valid-Until "false";\nAPT::Sandbox::User "root";\n' \
      "$scratch" "$scratch/var/lib/dpkg/status" > "$scratch/apt.conf"
    export APT_CONFIG=$scratch/apt.conf
    apt-get update >/dev/null 2>&1 || true
    package=$(apt-cache madison rust-src 2>/dev/null | awk -v v="$version" '$3 ~ "^" v {print $3; exit}')
    [ -n "$package" ] || return 1
    (cd "$scratch" && apt-get download "rust-src=$package" >/dev/null 2>&1 && dpkg -x rust-src_*.deb .) || return 1
    unset APT_CONFIG
  fi
  [ -d "$unpacked" ] && echo "$unpacked"
}

# Opens cargo's -Zbuild-std, which is not stable yet, for the builds of this script. Ends the script with status 0 where
# the sources of the standard library cannot be had. Call it in the root of the repository.
build_std() {
  local sources
  if ! sources=$(library "${NESTLING_SCRATCH:-$PWD/target/rust-src}"); then
    echo "SKIPPED: no sources of the standard library $(rustc --version | cut -d' ' -f2) (rustup component add rust-src)"
    exit 0
  fi
  export __CARGO_TESTS_ONLY_SRC_ROOT=$sources RUSTC_BOOTSTRAP=1
}
