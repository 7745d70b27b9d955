# To be sourced by the first process of a virtual machine: file systems, modules, and words for what is checked. It writes to
# the console: `ok: …` for what was right, `FAILED: …` for what was not, `end` at its end.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
mount -t tmpfs none /tmp
POWER_OFF='poweroff -f'
while read -r module; do
  options=
  case $module in
    # A webcam: one input, one node.
    vivid.ko) options="n_devs=1 node_types=0x1 num_inputs=1 input_types=0" ;;
    # Registers of a part that the program reads, and of one that a driver of the kernel reads.
    i2c-stub.ko) options="chip_addr=0x68,0x69" ;;
  esac
  insmod "/modules/$module" $options || echo "FAILED: module $module"
done </modules/order
now() { cut -d' ' -f1 /proc/uptime; }
passed() { awk "BEGIN{printf \"%.1f\", $(now) - $1}"; }
ok() { echo "ok: $*"; }
check() { # check WHAT COMMAND…: goes on only where the command succeeds
  local what=$1
  shift
  if "$@" >/dev/null 2>&1; then ok "$what"; else echo "FAILED: $what"; finish; fi
}
eventually() { # eventually SECONDS COMMAND…
  local until=$(($(cut -d. -f1 /proc/uptime) + $1))
  shift
  while ! "$@" >/dev/null 2>&1; do
    [ "$(cut -d. -f1 /proc/uptime)" -lt $until ] || return 1
    usleep 50000
  done
}
control=/run/nestling.sock
status() { # status SECTION KEY: a value of the status of the running daemon behind $control
  nestling status --json --control $control 2>/dev/null | sed -n "s/.*\"$1\":{[^}]*\"$2\":\([^,}]*\).*/\1/p"
}
is() { [ "$(status "$1" "$2")" = "$3" ]; }
at_least() { [ "$(status "$1" "$2")" -ge "$3" ]; }
stale_lines() { grep -c '"stale":true' /tmp/features; }
told_since() { [ "$(stale_lines)" -gt "$1" ]; }
silence_told() { grep -q "no frame came in time" /tmp/log; }
seen() { nestling inspect /disk/state.safetensors --json 2>/dev/null | grep -o '"samples":[0-9]*' | head -1 | cut -d: -f2; }
finish() {
  local log
  for log in /tmp/log*; do
    echo "what the daemon said ($log):"
    cat "$log"
  done
  umount /disk 2>/dev/null
  echo end
  $POWER_OFF
  sleep 60
}

