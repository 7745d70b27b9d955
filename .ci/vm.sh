#!/usr/bin/env bash
# `nestling run` on a virtual PC: a Debian kernel in QEMU, its module vivid as the camera, i2c-stub as the registers of two
# IMUs, gpio-sim as the lines of a GPIO chip, a disk. The camera is unplugged and comes back, the program is ended, the machine
# is cut off (.ci/vm/init); then a robot with camera, IMU, buttons and outputs is taught (.ci/vm/robot.sh).
# About three minutes, with nothing kept from a run before five. Where something cannot be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/vm
. .ci/vm/host.sh
[ "$(uname -m)" = x86_64 ] || skip "the virtual machine is a PC, and runs this machine's program"
wanted qemu-system-x86_64 cpio depmod mkfs.ext4 apt-get dpkg
kernel amd64
fetch busybox-static || skip "busybox-static cannot be downloaded"

# Another program is tried with NESTLING_PROGRAM=FILE.
program=${NESTLING_PROGRAM:-target/release/nestling}
[ -n "${NESTLING_PROGRAM:-}" ] || cargo build --release --features full

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,disk,etc,vm}
cp "$work/busybox-static/bin/busybox" "$root/bin/"
strip -o "$root/bin/nestling" "$program" 2>/dev/null || cp "$program" "$root/bin/nestling"
programs=("$program")
for tool in v4l2-ctl:'a silent camera, a damaged frame and other scenes' i2cset:'inertial sensors' i2cget:'a sensor that was reset'; do
  if path=$(command -v "${tool%%:*}"); then
    programs+=("$path")
    cp "$path" "$root/bin/"
  else
    echo "SKIPPED: ${tool#*:}, as ${tool%%:*} is not installed"
  fi
done
libraries "$root" "${programs[@]}"
cp .ci/vm/*.toml .ci/vm/*.sh "$root/vm/"
cp .ci/vm/init "$root/init"
printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
modules "$root" virtio_pci virtio_blk ext4 vivid configfs i2c-dev i2c-stub inv-mpu6050-i2c
if why=$(gpio_sim); then
  cp "$work/gpio-sim.ko" "$root/modules/" && echo gpio-sim.ko >>"$root/modules/order"
else
  echo "SKIPPED: pins and buttons, as $why"
fi
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
rm -f "$work/disk.img"
truncate -s 256M "$work/disk.img"
mkfs.ext4 -q "$work/disk.img"

boot() { # boot NUMBER SECONDS [LINE]: until the machine ends, or is cut off where it prints the line
  local log=$work/boot-$1.log
  rm -f "$log"
  qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 768 -nodefaults -display none -no-reboot \
    -serial "file:$log" -drive "file=$work/disk.img,if=virtio,format=raw" -kernel "$tree/boot/vmlinuz-$version" \
    -initrd "$work/initrd.gz" -append "console=ttyS0 quiet panic=-1 rdinit=/init boot=$1" &
  pid=$!
  watch "$log" "$2" "${3:-}"
}
# NESTLING_BOOTS=4 tries the robot alone.
for number in ${NESTLING_BOOTS:-1 2 3 4}; do
  case $number in
    1) boot 1 180 ;;
    2) boot 2 90 "the power may go" ;;
    3) boot 3 90 ;;
    4) boot 4 360 ;;
  esac
done
echo "camera, disk and power of a virtual PC, sensors and pins of a virtual robot: all as promised ($version)"
