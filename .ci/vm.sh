#!/usr/bin/env bash
# `nestling run` on a virtual PC with a camera and a disk: a Debian kernel in QEMU, its module vivid as the camera. The camera is
# unplugged and comes back, the program is ended, the machine is cut off. What runs there is .ci/vm/init.
# Where something cannot be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "SKIPPED: $1"; exit 0; }
[ "$(uname -m)" = x86_64 ] || skip "the virtual machine is a PC, and runs this machine's program"
for tool in qemu-system-x86_64 cpio depmod mkfs.ext4 apt-get dpkg; do
  PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || skip "$tool is not installed"
done
PATH=$PATH:/usr/sbin:/sbin
work=$PWD/target/vm
mkdir -p "$work"

# Kernel and busybox come as packages, unpacked and not installed.
fetch() { # fetch PACKAGE
  [ -e "$work/$1/whole" ] && return
  rm -rf "$work/$1" && mkdir -p "$work/$1"
  (cd "$work/$1" && apt-get -o APT::Sandbox::User=root download "$1" >/dev/null 2>&1 && dpkg -x ./*.deb . && rm ./*.deb && touch whole)
}
kernel_package() { apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image/{print $2; exit}'; }
package=$(kernel_package)
[ -n "$package" ] || { apt-get update -qq >/dev/null 2>&1 || true; package=$(kernel_package); }
[ -n "$package" ] || skip "apt knows no linux-image-amd64"
fetch "$package" || { apt-get update -qq >/dev/null 2>&1 && package=$(kernel_package) && fetch "$package"; } || skip "$package cannot be downloaded"
fetch busybox-static || skip "busybox-static cannot be downloaded"
version=${package#linux-image-}
tree=$work/$package
[ -e "$tree/lib/modules/$version/modules.dep" ] || depmod -b "$tree" "$version"

cargo build --release --features full

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,disk,etc,modules,vm}
cp "$work/busybox-static/bin/busybox" "$root/bin/"
strip -o "$root/bin/nestling" target/release/nestling 2>/dev/null || cp target/release/nestling "$root/bin/"
programs=(target/release/nestling)
# With it the camera falls silent and damages a frame.
if command -v v4l2-ctl >/dev/null; then
  programs+=("$(command -v v4l2-ctl)")
  cp "${programs[1]}" "$root/bin/"
else
  echo "SKIPPED: a silent camera and a damaged frame, as v4l2-ctl is not installed"
fi
ldd "${programs[@]}" | grep -o '/[^ ]*[.]so[^ ]*' | sort -u | while read -r library; do install -D "$library" "$root$library"; done
cp .ci/vm/*.toml "$root/vm/"
cp .ci/vm/init "$root/init"
printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
for module in virtio_pci virtio_blk ext4 vivid; do
  modprobe -d "$tree" -S "$version" --show-depends $module
done | awk '/^insmod/{print $2}' | awk '!seen[$0]++' | while read -r module; do
  name=$(basename "${module%.xz}")
  case $module in
    *.xz) xz -dc "$module" >"$root/modules/$name" ;;
    *) cp "$module" "$root/modules/$name" ;;
  esac
  echo "$name" >>"$root/modules/order"
done
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
rm -f "$work/disk.img"
truncate -s 64M "$work/disk.img"
mkfs.ext4 -q "$work/disk.img"

boot() { # boot NUMBER SECONDS [LINE]: until the machine ends, or is cut off where it prints the line
  local log=$work/boot-$1.log pid until
  rm -f "$log"
  qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 768 -nodefaults -display none -no-reboot \
    -serial "file:$log" -drive "file=$work/disk.img,if=virtio,format=raw" -kernel "$tree/boot/vmlinuz-$version" \
    -initrd "$work/initrd.gz" -append "console=ttyS0 quiet panic=-1 rdinit=/init boot=$1" &
  pid=$!
  until=$((SECONDS + $2))
  while kill -0 $pid 2>/dev/null; do
    if [ -n "${3:-}" ] && grep -q "$3" "$log" 2>/dev/null; then
      # In the middle of whatever it writes.
      sleep 1
      kill -KILL $pid
      break
    fi
    [ $SECONDS -lt $until ] || { kill -KILL $pid; echo "FAILED: boot $1 took longer than $2 s" >>"$log"; }
    sleep 0.2
  done
  wait $pid 2>/dev/null || true
  tr -d '\r' <"$log" | sed "s/^/  /"
  ! grep -q FAILED "$log" || { echo "FAILED: boot $1, see $log"; exit 1; }
  grep -q "${3:-^end}" "$log" || { echo "FAILED: boot $1 ended early, see $log"; exit 1; }
}
boot 1 180
boot 2 90 "the power may go"
boot 3 90
echo "camera, disk and power of a virtual PC: all as promised ($version)"
