#!/usr/bin/env bash
# The Debian package: built, and installed, run, upgraded with its state kept, removed and purged in a clean Debian tree.
# Needs root and debootstrap for the tree; where these are not to be had it says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v dpkg-deb >/dev/null || { echo "SKIPPED: dpkg-deb is not installed"; exit 0; }
package=$(packaging/deb.sh | tail -1)
dpkg-deb --info "$package" | sed -n '/Package:/,$p'
if command -v systemd-analyze >/dev/null; then
  # What it warns of beside these lines is a mistake in the unit.
  warned=$(systemd-analyze verify packaging/nestling.service 2>&1 | grep -v -e 'not executable' -e 'man nestling' || true)
  [ -z "$warned" ] || { echo "FAILED: the unit: $warned"; exit 1; }
fi
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
fails() { echo "FAILED: $1"; exit 1; }
cp "$package" "$tree/tmp/nestling.deb"
inside dpkg --purge nestling >/dev/null 2>&1 || true

inside dpkg -i /tmp/nestling.deb
inside nestling --version
[ "$(stat -c %U:%a "$tree/var/lib/nestling" | sed "s/UNKNOWN/nestling/")" = nestling:750 ] || fails "the state folder is not the service's own"
for file in usr/share/man/man1/nestling.1.gz usr/share/man/man1/nestling-run.1.gz lib/systemd/system/nestling.service \
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
