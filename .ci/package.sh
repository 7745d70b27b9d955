#!/usr/bin/env bash
# The Debian package: built, and installed, run, upgraded with its state kept, removed and purged in a clean Debian tree. That
# for 64-bit ARM is built too, and its program is run in an emulator, where it must learn the bits that it learns here.
# Needs root and debootstrap for the tree, a cross compiler and qemu-user for ARM; what is not to be had it says is SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v dpkg-deb >/dev/null || { echo "SKIPPED: dpkg-deb is not installed"; exit 0; }
fails() { echo "FAILED: $1"; exit 1; }
package=$(packaging/deb.sh | tail -1)
dpkg-deb --info "$package" | sed -n '/Package:/,$p'
if command -v systemd-analyze >/dev/null; then
  # What it warns of beside these lines is a mistake in the unit.
  cp packaging/nestling@.service "target/debian/nestling@imu.service"
  for unit in packaging/nestling.service target/debian/nestling@imu.service; do
    warned=$(systemd-analyze verify "$unit" 2>&1 | grep -v -e 'not executable' -e 'man nestling' || true)
    [ -z "$warned" ] || fails "the unit $unit: $warned"
  done
fi
# The walls around a second sensor's daemon are those around the first.
differ=$({ diff <(sed '/^#/d' packaging/nestling.service) <(sed '/^#/d' packaging/nestling@.service) || true; } | sed -n 's/^> \([A-Za-z]*\)=.*/\1/p' | tr '\n' ' ')
[ "$differ" = "Description ExecStart RuntimeDirectory " ] || fails "nestling@.service has another $differ"

hash_of() { # hash_of PROGRAM…: of what it learns from the simulator, steps and all
  local told out
  out=$(mktemp -d)
  told=$("$@" learn --source 'sim:rover?samples=120' --model robot --set dictionary.samples=40 --out "$out/s.safetensors" --json | tr -d ' \n')
  rm -rf "$out"
  grep -q '"steps":0,' <<<"$told" && return
  grep -o '"state_hash":"[0-9a-f]*"' <<<"$told"
}
arm64() { # in a shell of its own: `build_std` ends it where the standard library's sources cannot be had
  command -v aarch64-linux-gnu-gcc >/dev/null && [ -e /usr/aarch64-linux-gnu/lib/crt1.o ] ||
    { echo "SKIPPED: no package for arm64 without a cross compiler"; exit 0; }
  . .ci/rust-src.sh
  build_std
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  # In the words of the stage `arm`, so that what that one built is not built again: a file of tests has the program built.
  cargo test --release --quiet -Zbuild-std --target aarch64-unknown-linux-gnu --features full --test cli --no-run
  unset RUSTC_BOOTSTRAP __CARGO_TESTS_ONLY_SRC_ROOT
  local package unpacked arm man
  package=$(packaging/deb.sh arm64 target/aarch64-unknown-linux-gnu/release/nestling | tail -1)
  dpkg-deb --info "$package" | sed -n '/Package:/,/Depends:/p'
  [ "$(dpkg-deb --field "$package" Architecture)" = arm64 ] || fails "it is no package for arm64"
  unpacked=$(mktemp -d)
  dpkg-deb --extract "$package" "$unpacked"
  [[ $(readelf -SW "$unpacked/usr/bin/nestling") != *.symtab* ]] || fails "the program for arm64 is not stripped"
  command -v qemu-aarch64-static >/dev/null || { echo "SKIPPED: the program for arm64 is not run without qemu-aarch64-static"; exit 0; }
  arm=(qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu cortex-a76 "$unpacked/usr/bin/nestling")
  "${arm[@]}" --version
  man=$(mktemp -d)
  "${arm[@]}" generate man "$man" >/dev/null
  gzip -dc "$unpacked/usr/share/man/man1/nestling-run.1.gz" | cmp - "$man/nestling-run.1" || fails "its manual differs from the one made here"
  local lines here there
  lines=$("${arm[@]}" run --source 'sim:rover?samples=60' --model robot --every --control "$man/control" | wc -l)
  [ "$lines" -ge 60 ] || fails "60 samples gave $lines features on arm64"
  here=$(hash_of target/release/nestling)
  there=$(hash_of "${arm[@]}")
  [ -n "$here" ] && [ "$here" = "$there" ] || fails "arm64 learned $there, this machine $here"
  rm -rf "$unpacked" "$man"
  echo "$package: built, its program run on an emulated Cortex-A76, $there as here"
}
(arm64)

[ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null || { echo "SKIPPED: no clean tree without root and debootstrap"; exit 0; }
tree=$PWD/target/debian/tree
if [ ! -e "$tree.whole" ]; then
  rm -rf "$tree"
  mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  debootstrap --variant=minbase bookworm "$tree" ${mirror:+"$mirror"} >"$tree.log" 2>&1 ||
    { echo "SKIPPED: debootstrap made no tree: $(tail -1 "$tree.log")"; exit 0; }
  touch "$tree.whole"
fi
inside() { chroot "$tree" "$@"; }
as_service() { chroot --userspec=nestling:nestling "$tree" "$@"; }
cp "$package" "$tree/tmp/nestling.deb"
inside dpkg --purge nestling >/dev/null 2>&1 || true

inside dpkg -i /tmp/nestling.deb
inside nestling --version
[ "$(stat -c %U:%a "$tree/var/lib/nestling" | sed "s/UNKNOWN/nestling/")" = nestling:750 ] || fails "the state folder is not the service's own"
for file in usr/share/man/man1/nestling.1.gz usr/share/man/man1/nestling-run.1.gz lib/systemd/system/nestling.service \
  lib/systemd/system/nestling@.service usr/share/doc/nestling/examples/raspberry-pi-5.toml \
  usr/share/bash-completion/completions/nestling etc/nestling/board.toml; do
  [ -s "$tree/$file" ] || fails "$file is missing"
done

# As the service manager would before it starts the service.
inside install -d -o nestling -g nestling -m 750 /run/nestling
learn() { # learn SAMPLES: as the service would, from the simulator; prints how many samples the checkpoint has seen
  as_service /usr/bin/nestling run --board /etc/nestling/board.toml --source 'sim:rover?samples='"$1" \
    --control /var/lib/nestling/control >/dev/null
  as_service /usr/bin/nestling inspect /var/lib/nestling/state.safetensors --json | grep -o '"samples": *"\?[0-9]*' | grep -o '[0-9]*$' | head -1
}
first=$(learn 60)
echo "the service's user learned from $first samples"
# A second sensor, as the template says that it is started.
printf 'name = "imu"\nsource = "sim:rover?sensor=imu&samples=60"\nmodel = "motion"\n' >"$tree/etc/nestling/imu.toml"
inside install -d -o nestling -g nestling -m 750 /run/nestling-imu
as_service $(sed -n 's/%i/imu/g; s/^ExecStart=//p' "$tree/lib/systemd/system/nestling@.service") >/dev/null
as_service /usr/bin/nestling inspect /var/lib/nestling/imu.safetensors --json | grep -q '"motion"' || fails "the second sensor's daemon kept nothing"
echo "# changed by its owner" >>"$tree/etc/nestling/board.toml"
inside dpkg -i /tmp/nestling.deb
grep -q "changed by its owner" "$tree/etc/nestling/board.toml" || fails "the upgrade lost the configuration"
second=$(learn 40)
echo "after the upgrade $second"
[ "$second" -gt "$first" ] || fails "the upgrade lost the state"
inside dpkg --remove nestling
[ ! -e "$tree/usr/bin/nestling" ] || fails "the program is still there"
[ -s "$tree/var/lib/nestling/state.safetensors" ] || fails "removing took what was learned"
inside dpkg --purge nestling
[ ! -e "$tree/var/lib/nestling" ] || fails "purging left what was learned"
! grep -q '^nestling:' "$tree/etc/passwd" || fails "purging left the user"
echo "$package: installed, run, upgraded with its state kept, removed, purged"
