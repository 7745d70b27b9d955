# To be sourced by the scripts that start virtual machines: packages of Debian that are unpacked and not installed, modules of
# a kernel, the first file system. `work` is the folder that they are kept in from one run to the next.

PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$work"

# Ends the script where something cannot be had.
skip() { echo "SKIPPED: $1"; exit 0; }

# A tool that must be there.
wanted() { # wanted TOOL…
  local tool
  for tool in "$@"; do command -v "$tool" >/dev/null || skip "$tool is not installed"; done
}

# Once, where a package is not found at first.
refresh() { [ -n "${refreshed:-}" ] || apt-get update -qq >/dev/null 2>&1 || true; refreshed=yes; }

# Packages of another architecture come through a package root of their own: the system's is not touched.
apt_for() { # apt_for ARCH
  [ "$1" != "$(dpkg --print-architecture)" ] || { unset APT_CONFIG; return 0; }
  local root=$work/apt-$1
  export APT_CONFIG=$root/apt.conf
  [ -e "$root/whole" ] && return
  mkdir -p "$root"/etc/apt/{apt.conf.d,preferences.d,sources.list.d} "$root"/var/lib/apt/lists/partial "$root"/var/lib/dpkg "$root"/var/cache/apt/archives/partial
  touch "$root/var/lib/dpkg/status"
  ln -sfn /etc/apt/trusted.gpg.d "$root/etc/apt/trusted.gpg.d"
  cp /etc/apt/sources.list "$root/etc/apt/" 2>/dev/null || true
  cp /etc/apt/sources.list.d/* "$root/etc/apt/sources.list.d/" 2>/dev/null || true
  printf 'Dir "%s";\nDir::State::status "%s";\nAPT::Architecture "%s";\nAPT::Architectures {"%s";};\nAcquire::Languages "none";\nAPT::Sandbox::User "root";\n' \
    "$root" "$root/var/lib/dpkg/status" "$1" "$1" >"$root/apt.conf"
  apt-get update -qq >/dev/null 2>&1 && touch "$root/whole"
}

# Unpacks a package to $work/PACKAGE, or $work/PACKAGE-ARCH.
fetch() { # fetch PACKAGE [ARCH]
  local folder=$work/$1${2:+-$2} name=$1${2:+:$2}
  [ -e "$folder/whole" ] && return
  rm -rf "$folder" && mkdir -p "$folder"
  (
    cd "$folder"
    apt-get -o APT::Sandbox::User=root download "$name" >/dev/null 2>&1 || {
      apt-get update -qq >/dev/null 2>&1
      apt-get -o APT::Sandbox::User=root download "$name" >/dev/null 2>&1
    } && dpkg -x ./*.deb . && rm ./*.deb && touch whole
  )
}

# Sets `version` to the kernel's and `tree` to where it is unpacked.
kernel() { # kernel ARCH
  local package
  package=$(apt-cache depends "linux-image-$1" 2>/dev/null | awk '/Depends: linux-image/{print $2; exit}')
  [ -n "$package" ] || { refresh; package=$(apt-cache depends "linux-image-$1" 2>/dev/null | awk '/Depends: linux-image/{print $2; exit}'); }
  [ -n "$package" ] || skip "apt knows no linux-image-$1"
  fetch "$package" || skip "$package cannot be downloaded"
  version=${package#linux-image-} tree=$work/$package
  [ -e "$tree/lib/modules/$version/modules.dep" ] || depmod -b "$tree" "$version"
}

# Copies modules and what they need to ROOT/modules, with the order to load them in.
modules() { # modules ROOT NAME…
  local root=$1 name module
  shift
  mkdir -p "$root/modules"
  for name in "$@"; do modprobe -d "$tree" -S "$version" --show-depends "$name"; done |
    awk '/^insmod/{print $2}' | awk '!seen[$0]++' | while read -r module; do
      name=$(basename "${module%.xz}")
      case $module in
        *.xz) xz -dc "$module" >"$root/modules/$name" ;;
        *) cp "$module" "$root/modules/$name" ;;
      esac
      echo "$name" >>"$root/modules/order"
    done
}

# Copies the shared libraries that programs of this machine need.
libraries() { # libraries ROOT PROGRAM…
  local root=$1 library
  shift
  ldd "$@" | grep -o '/[^ ]*[.]so[^ ]*' | sort -u | while read -r library; do install -D "$library" "$root$library"; done
}

# Debian's kernels have no simulated GPIO chip. Builds that of the kernel's own source for `version` to $work/gpio-sim.ko;
# says why where it cannot.
gpio_sim() {
  local base=${version%-amd64} series headers build tool source
  [ "$(cat "$work/gpio-sim.version" 2>/dev/null)" = "$version" ] && return
  for tool in make gcc; do command -v $tool >/dev/null || { echo "$tool is not installed"; return 1; }; done
  series=$(echo "$version" | cut -d. -f1,2)
  for tool in "linux-headers-$version" "linux-headers-$base-common" "linux-kbuild-$series" "linux-source-$series"; do
    fetch "$tool" || { echo "$tool cannot be downloaded"; return 1; }
  done
  build=$work/headers source=$work/linux-source-$series
  rm -rf "$build" && mkdir -p "$build/module"
  cp -a "$work/linux-headers-$version/usr" "$work/linux-headers-$base-common/usr" "$work/linux-kbuild-$series/usr" "$build/"
  headers=$build/usr/src/linux-headers-$base
  # Debian's own points to /usr/src.
  echo "include $headers-common/Makefile" >"$headers-amd64/Makefile"
  tar -xf "$source/usr/src/linux-source-$series.tar.xz" -C "$build/module" --strip-components=3 --occurrence=1 \
    "linux-source-$series/drivers/gpio/gpio-sim.c" "linux-source-$series/drivers/gpio/gpiolib.h" "linux-source-$series/kernel/irq/irq_sim.c" ||
    { echo "the kernel's source is another than expected"; return 1; }
  mv "$build/module/gpio-sim.c" "$build/module/gpio-sim-main.c"
  # Interrupts of simulated lines are built in with it, and one function is not exported to modules.
  printf '%s\n' '#include <linux/irq.h>' '#include <linux/irqdesc.h>' \
    '#define irq_to_desc(i) irq_data_to_desc(irq_get_irq_data(i))' >"$build/module/compat.h"
  printf '%s\n' 'obj-m := gpio-sim.o' 'gpio-sim-y := gpio-sim-main.o irq_sim.o' \
    'ccflags-y := -DCONFIG_IRQ_SIM=1' 'CFLAGS_irq_sim.o := -include $(src)/compat.h' >"$build/module/Makefile"
  make -C "$headers-amd64" M="$build/module" ARCH=x86_64 CC=gcc modules >"$work/gpio-sim.log" 2>&1 ||
    { echo "gpio-sim does not compile, see $work/gpio-sim.log"; return 1; }
  strip --strip-debug -o "$work/gpio-sim.ko" "$build/module/gpio-sim.ko"
  rm -rf "$build"
  echo "$version" >"$work/gpio-sim.version"
}

# Watches a machine: until its process `pid` ends, or is cut off where its LOG has the LINE.
watch() { # watch LOG SECONDS [LINE]
  local log=$1 until=$((SECONDS + $2))
  while kill -0 "$pid" 2>/dev/null; do
    if [ -n "${3:-}" ] && grep -q "$3" "$log" 2>/dev/null; then
      # In the middle of whatever it writes.
      sleep 1
      kill -KILL "$pid"
      break
    fi
    [ $SECONDS -lt $until ] || { kill -KILL "$pid"; echo "FAILED: it took longer than $2 s" >>"$log"; }
    sleep 0.2
  done
  wait "$pid" 2>/dev/null || true
  tr -d '\r' <"$log" | sed "s/^/  /"
  ! grep -q FAILED "$log" || { echo "FAILED: see $log"; exit 1; }
  grep -q "${3:-^end}" "$log" || { echo "FAILED: it ended early, see $log"; exit 1; }
}
