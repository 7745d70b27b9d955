# Sourced by init: a robot with a camera, an IMU, buttons and outputs. What it does is seen from outside the program: the lines
# of the GPIO chip and the trace of what the kernel was told to do with them, the features, the sockets.
chip=/sys/kernel/config/gpio-sim/robot
bus=/sys/bus/platform/drivers/vivid
camera_device=$(ls $bus | grep '^vivid\.')

lines() { # makes a GPIO chip of eight lines
  mount -t configfs none /sys/kernel/config && mkdir $chip $chip/bank && echo 8 >$chip/bank/num_lines && echo 1 >$chip/live &&
    gpio=/sys/devices/platform/gpio-sim.0/$(cat $chip/bank/chip_name) && [ -c "/dev/$(cat $chip/bank/chip_name)" ]
}
line() { cat "$gpio/sim_gpio$1/value"; }
line_is() { [ "$(line "$1")" = "$2" ]; }
press() { echo pull-down >"$gpio/sim_gpio$1/pull"; usleep 200000; echo pull-up >"$gpio/sim_gpio$1/pull"; }
scene() { v4l2-ctl -d /dev/video0 -c test_pattern="$1"; }
trace=/sys/kernel/tracing
sets() { grep -c "gpio_value: .* set" $trace/trace; }
last_set() { # last_set LINE: what the kernel was last told to put out there
  grep "gpio_value: $((base + $1)) set" $trace/trace | tail -1 | sed 's/.*set //'
}
last_set_is() { [ "$(last_set "$1")" = "$2" ]; }
doctor() { nestling doctor --board "$1" >>/tmp/log-doctor 2>&1; }
told() { nestling status --json --control $control | grep -q "$1"; }
taught() { told "\"label\":\"$1\",\"examples\":$2"; }
is_state() { is learning state "\"$1\""; }

# Registers of the stub: it answers as an MPU-6050 does.
word() { printf '0x%02x 0x%02x' $((($1 >> 8) & 255)) $(($1 & 255)); }
reading() { # reading ADDRESS N: accelerations and rates that depend on N
  i2cset -f -y 0 "$1" 0x3b $(word $(($2 * 37 % 4000))) $(word $(($2 * 91 % 3000))) $(word $((8000 - $2 * 53 % 2000))) \
    $(word 2816) $(word $(($2 * 17 % 500))) $(word $(($2 * 29 % 700))) $(word $(($2 * 11 % 300))) i
}
moving_at() { # moving_at ADDRESS: until the file /tmp/still is there
  local n=1
  rm -f /tmp/still
  while [ ! -e /tmp/still ]; do reading "$1" $n; n=$((n + 1)); usleep 10000; done
}
features() { wc -l <"$1" | tr -d ' '; }
more_than() { [ "$(features "$1")" -gt "$2" ]; }
taken_at() { sed 's/.*"t_us":\([0-9]*\).*/\1/' "$1"; }

imu() {
  check "the bus of the stub is there" test -c /dev/i2c-0
  i2cset -y 0 0x68 0x75 0x67
  timeout 20 nestling run --source imu:mpu6050@i2c-0:0x68 --model imu --samples 1 >/dev/null 2>/tmp/refusal
  check "another part at the address: the error says what was found and wanted" grep -q '0x67.*0x68' /tmp/refusal
  i2cset -y 0 0x68 0x75 0x68
  reading 0x68 0
  control=/run/imu.sock
  nestling run --board /vm/imu.toml >/tmp/imu 2>/tmp/log-imu & imu=$!
  check "windows of the IMU arrive" eventually 60 more_than /tmp/imu 5
  moving_at 0x68 & mover=$!
  check "it learns from them" eventually 60 at_least learning lessons_published 2
  before=$(features /tmp/imu)
  check "windows arrive while it moves" eventually 60 more_than /tmp/imu $((before + 20))
  moved=$(tail -16 /tmp/imu | sed 's/.*"feature"//' | sort -u | wc -l)
  # A busy host lets windows fall out; the usual distance stays.
  apart=$(taken_at /tmp/imu | tail -20 | awk 'NR > 1 {print $1 - last} {last = $1}' | sort -n | sed -n 10p)
  check "a window every 4 readings of 20 a second, 200 ms: usually $((apart / 1000)) ms apart" \
    test "$apart" -gt 180000 -a "$apart" -lt 250000
  touch /tmp/still
  wait $mover
  before=$(features /tmp/imu)
  check "windows arrive while it is still" eventually 60 more_than /tmp/imu $((before + 20))
  still=$(tail -8 /tmp/imu | sed 's/.*"encoder":[0-9]*//; s/.*"feature"//' | sort -u | wc -l)
  check "of the last features $moved of 16 were distinct while it moved, $still of 8 while it was still" \
    test "$moved" -gt 10 -a "$still" -lt "$moved"
  # As after a loss of power: asleep, and what was set is gone. It shows where readings stay the same.
  i2cset -y 0 0x68 0x6b 0x40
  check "an IMU that was reset is told of" eventually 60 grep -q "it was reset" /tmp/log-imu
  woken() { [ "$(i2cget -y 0 0x68 0x6b)" = 0x01 ]; }
  check "and set up again" eventually 60 woken
  before=$(features /tmp/imu)
  check "and its windows come again" eventually 60 more_than /tmp/imu $((before + 3))
}

# Kernels of Debian have no IIO device without hardware; a driver of theirs reads the stub's registers as it would an MPU-6050.
iio() {
  i2cset -y 0 0x69 0x75 0x68
  reading 0x69 1
  echo mpu6050 0x69 >/sys/bus/i2c/devices/i2c-0/new_device
  check "the kernel has an IIO device" eventually 20 test -e /sys/bus/iio/devices/iio:device0/in_accel_x_raw
  moving_at 0x69 & mover=$!
  nestling run --source 'iio:mpu6050?rate=20&window=16&stride=4&fifo=off' --model /vm/imu-model.toml --samples 60 \
    >/tmp/iio 2>/tmp/log-iio
  touch /tmp/still
  wait $mover
  check "60 windows of it were read" test "$(features /tmp/iio)" = 60
  moved=$(tail -16 /tmp/iio | sed 's/.*"feature"//' | sort -u | wc -l)
  check "the last 16 features have $moved that are distinct" test "$moved" -gt 10
}

robot() {
  control=/run/robot.sock
  mount -t tracefs none $trace && echo 1 >$trace/events/gpio/gpio_value/enable
  base=$(cat /sys/class/gpio/gpiochip*/base 2>/dev/null | head -1)
  check "doctor finds nothing wrong with the robot's profile" doctor /vm/robot.toml
  nestling run --board /vm/robot.toml >/tmp/features 2>/tmp/log-robot & daemon=$!
  check "features come" eventually 60 at_least source samples 30
  check "untaught: the brake is on" eventually 5 line_is 5 1
  check "untaught: the lamp is off" line_is 4 0
  scene 0
  sleep 1
  press 2
  check "a button teaches what is seen: near" eventually 40 taught near 5
  scene 3
  sleep 1
  press 3
  check "another one: far" eventually 40 taught far 5
  check "far: the brake is released" eventually 40 line_is 5 0
  check "far: the lamp is off" eventually 40 line_is 4 0
  scene 0
  changed=$(now)
  check "near: the lamp goes on" eventually 40 line_is 4 1
  ok "that took $(passed "$changed") s"
  check "near: no brake" line_is 5 0

  press 6
  check "a button freezes" eventually 5 is_state frozen
  press 6
  # The guard may freeze it again at once: scenes like these are no stream to learn from.
  check "and thaws" eventually 5 grep -q "learning goes on" /tmp/log-robot

  pulled=$(now)
  echo "$camera_device" >$bus/unbind
  check "unplugged: the brake goes on" eventually 10 line_is 5 1
  ok "that took $(passed "$pulled") s"
  check "unplugged: the lamp goes off" line_is 4 0
  check "unplugged: readers are told" eventually 5 is features stale true
  echo "$camera_device" >$bus/bind
  check "plugged in: the lamp goes on again, of what was taught before" eventually 30 line_is 4 1
  check "plugged in: no brake" line_is 5 0

  kill -TERM $daemon
  check "it ends when it is told to" wait $daemon
  check "at its end it put the brake on" last_set_is 5 1
  check "and the lamp off" last_set_is 4 0
  ok "$(sets) times the kernel was told to set a line"
  # Killed: the kernel gives the lines back.
  nestling run --board /vm/robot.toml >/tmp/features 2>/tmp/log-robot2 & daemon=$!
  check "started again: what was taught is still known" eventually 60 line_is 4 1
  kill -TERM $daemon
  wait $daemon
}

imu
iio
if [ -e /modules/gpio-sim.ko ]; then
  check "a GPIO chip is there" lines
  robot
else
  echo "SKIPPED: pins and buttons: there is no simulated GPIO chip"
fi
kill -TERM $imu
check "the IMU's daemon ends when it is told to" wait $imu
finish
