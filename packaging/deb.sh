#!/usr/bin/env bash
# Builds target/debian/nestling_VERSION_ARCH.deb: `packaging/deb.sh [amd64|arm64] [BINARY]`. Without a binary it builds one,
# with all features. Needs cargo and dpkg-deb; for the other architecture its linker and Rust's standard library for it.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:-$(dpkg --print-architecture)}
case $arch in
  amd64) target=x86_64-unknown-linux-gnu ;;
  arm64) target=aarch64-unknown-linux-gnu ;;
  *) echo "deb.sh: no package for $arch; there are amd64 and arm64" >&2; exit 2 ;;
esac
own() { [ "$arch" = "$(dpkg --print-architecture)" ]; }
binary=${2:-}
if [ -z "$binary" ]; then
  if own; then
    cargo build --release --features full
    binary=target/release/nestling
  else
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-aarch64-linux-gnu-gcc}
    cargo build --release --features full --target "$target"
    binary=target/$target/release/nestling
  fi
fi
# Manual pages and completions come from a program that runs here.
runs=$binary
own || { cargo build --release --features full; runs=target/release/nestling; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
install -Dm755 "$binary" "$root/usr/bin/nestling"
strip=${STRIP:-strip}
own || strip=${STRIP:-aarch64-linux-gnu-strip}
if command -v "$strip" >/dev/null; then "$strip" "$root/usr/bin/nestling"; fi
install -Dm644 -t "$root/lib/systemd/system" packaging/nestling.service packaging/nestling@.service
install -Dm644 packaging/60-nestling.rules "$root/lib/udev/rules.d/60-nestling.rules"
install -Dm644 packaging/board.toml "$root/etc/nestling/board.toml"
install -Dm644 -t "$root/usr/share/doc/nestling/examples" boards/*.toml
install -Dm644 README.md "$root/usr/share/doc/nestling/README.md"
install -Dm644 docs/reliability.md "$root/usr/share/doc/nestling/reliability.md"
cat >"$root/usr/share/doc/nestling/copyright" <<'COPYRIGHT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
Copyright: the nestling authors
License: MIT or Apache-2.0
COPYRIGHT
"$runs" generate man "$root/usr/share/man/man1" >/dev/null
find "$root/usr/share/man/man1" -type f -exec gzip -9n {} +
install -d "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
"$runs" generate completions bash >"$root/usr/share/bash-completion/completions/nestling"
"$runs" generate completions zsh >"$root/usr/share/zsh/vendor-completions/_nestling"
"$runs" generate completions fish >"$root/usr/share/fish/vendor_completions.d/nestling.fish"

# The C library that the program asks for, where it can be read; what it is built with here may be newer than need be.
libc=$(readelf -W --version-info "$binary" 2>/dev/null | grep -o 'GLIBC_2[.][0-9]*' | sort -uV | tail -1 | cut -d_ -f2 || true)
install -d "$root/DEBIAN"
echo /etc/nestling/board.toml >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<CONTROL
Package: nestling
Version: $version
Architecture: $arch
Maintainer: the nestling authors <nestling@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: libc6 (>= ${libc:-2.34}), libgcc-s1, passwd
Suggests: rpicam-apps, alsa-utils
Section: science
Priority: optional
Description: learner that trains itself on what a robot sees, on the robot
 nestling watches a camera or a sensor, keeps training a small encoder on that
 stream without labels and in integer arithmetic only, and hands features to
 the controllers on the same device. No network, no cloud.
CONTROL
install -m755 packaging/postinst packaging/prerm packaging/postrm "$root/DEBIAN/"
mkdir -p target/debian
package=target/debian/nestling_${version}_${arch}.deb
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
echo "$package"
