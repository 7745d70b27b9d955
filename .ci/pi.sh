#!/usr/bin/env bash
# The 64-bit ARM program on an emulated Raspberry Pi 3 B: Debian's kernel, its module vivid as the camera, and the Pi's own
# GPIO registers, which the program drives through rppal and the kernel reads back (.ci/vm/init-pi).
# Where something cannot be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/vm
. .ci/vm/host.sh
wanted qemu-system-aarch64 cpio depmod apt-get dpkg aarch64-linux-gnu-gcc
libraries=/usr/aarch64-linux-gnu/lib
[ -e $libraries/libc.so.6 ] || skip "libc6-dev-arm64-cross is not installed"

# Another program is tried with NESTLING_PROGRAM=FILE. In the words of the stage `arm`, as in .ci/package.sh.
target=aarch64-unknown-linux-gnu
program=${NESTLING_PROGRAM:-target/$target/release/nestling}
if [ -z "${NESTLING_PROGRAM:-}" ]; then
  . .ci/rust-src.sh
  build_std
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  cargo test --release --quiet -Zbuild-std --target $target --features full --test cli --no-run
fi

[ "$(dpkg --print-architecture)" = arm64 ] || apt_for arm64 || skip "apt has no packages for arm64"
kernel arm64
fetch busybox-static arm64 || skip "busybox-static for arm64 cannot be downloaded"
blob=$tree/usr/lib/linux-image-$version/broadcom/bcm2837-rpi-3-b.dtb
[ -e "$blob" ] || skip "$version has no device tree of a Raspberry Pi 3 B"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,disk,etc,lib,vm}
cp "$work/busybox-static-arm64/bin/busybox" "$root/bin/"
aarch64-linux-gnu-strip -o "$root/bin/nestling" "$program"
for library in ld-linux-aarch64.so.1 libc.so.6 libm.so.6 libgcc_s.so.1; do cp -L "$libraries/$library" "$root/lib/"; done
cp .ci/vm/*.toml .ci/vm/*.sh "$root/vm/"
cp .ci/vm/init-pi "$root/init"
printf 'root:x:0:0::/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
modules "$root" bcm2835_wdt vivid
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd-pi.gz"
log=$work/boot-pi.log
rm -f "$log"
# The kernel keeps /dev/mem from drivers' registers unless told otherwise; Raspberry Pi OS has /dev/gpiomem instead.
qemu-system-aarch64 -machine raspi3b -m 1G -display none -monitor none -no-reboot -kernel "$tree/boot/vmlinuz-$version" -dtb "$blob" \
  -initrd "$work/initrd-pi.gz" -append "console=ttyAMA0,115200 panic=-1 rdinit=/init loglevel=2 maxcpus=2 iomem=relaxed" \
  -serial "file:$log" -serial null &
pid=$!
watch "$log" 420
echo "camera and pins of an emulated Raspberry Pi 3 B: all as promised ($version)"
