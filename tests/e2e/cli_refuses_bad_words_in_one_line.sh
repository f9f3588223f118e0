#!/usr/bin/env bash
# Every wrong word of a call, and everything in its way, is told in one line on standard error; the exit status says
# whether the words were wrong (2) or it failed (1); nothing is left behind and the daemon that runs serves on.
. "$(dirname "$0")/lib.sh"

d() { refused "$1" "$2" "$UZRAM_BIN/uzramd" "${@:3}"; }
sockets=(--unix "$work/x.sock" --control "$work/y.sock")

# Words of uzramd.
d 2 "--size SIZE is missing"
d 2 "'0' is no size" --size 0
d 2 "'-1' is negative" --size -1
d 2 "'-1' is negative" --size=-1
d 2 "'1G5' is not a number" --size 1G5
d 2 "'huge' is not a number" --size huge
d 2 "'17T' is more than 16 TiB" --size 17T
d 2 "'16E' is too large" --size 16E
d 2 "--size" --size
d 2 "--algorithm: " --size 1M --algorithm lzo
d 2 "--algorithm: " --size 1M --algorithm 'zstd(level=99)'
d 2 "--algorithm: " --size 1M --algorithm 'zstd(speed=3)'
d 2 "--mem-limit: '1Q'" --size 1M --mem-limit 1Q
d 2 "--chain" --size 1M --chain 17
d 2 "--port" --size 1M --port 70000
d 2 "--port" --size 1M --port x
d 2 "not loopback" --size 1M --port 0 --host 0.0.0.0
d 2 "--port N is missing" --size 1M --host 127.0.0.1
d 2 "--frob" --size 1M --frob
d 2 "frob" --size 1M frob

# What is in uzramd's way.
d 1 "'a b' is not a device name" --size 1M --name 'a b' "${sockets[@]}"
d 1 "$work/none/x.sock" --size 1M --unix "$work/none/x.sock" --control "$work/y.sock"
d 1 "$work/none/y.sock" --size 1M --unix "$work/x.sock" --control "$work/none/y.sock"
long=$work/$(printf 'x%.0s' {1..150})
d 1 "$long" --size 1M --unix "$long" --control "$work/y.sock"
d 1 "$long" --size 1M --unix "$work/x.sock" --control "$long"
echo precious >"$work/file"
d 1 "$work/file" --size 1M --unix "$work/file" --control "$work/y.sock"
d 1 "$work/file" --size 1M --unix "$work/x.sock" --control "$work/file"
expect "a file in the way" "$(cat "$work/file")" precious
d 1 "$work/none.conf: No such file" --config "$work/none.conf"
printf '[device.a]\nsize = 1M\nfrob = 1\n' >"$work/conf"
d 2 "$work/conf: [device.a] frob: there is no such key" --config "$work/conf"
printf '[device.a]\nsize = 0\n' >"$work/conf"
d 2 "$work/conf: [device.a] --size: '0' is no size" --config "$work/conf"
printf 'size = 1M\nname = a\n[device.a]\nsize = 1M\n' >"$work/conf"
d 1 "device 'a' exists already" --config "$work/conf" "${sockets[@]}"
refused 1 "no runtime directory" env -u RUNTIME_DIRECTORY -u XDG_RUNTIME_DIR \
  setpriv --reuid=65534 --clear-groups "$UZRAM_BIN/uzramd" --size 1M
refused 1 "$work/none/below" env RUNTIME_DIRECTORY="$work/none/below" "$UZRAM_BIN/uzramd" --size 1M
[ -z "$(find "$work" -name '*.sock')" ] || fail "sockets are left behind: $(ls "$work")"

# Words of uzramctl.
c() { refused "$1" "$2" "$UZRAM_BIN/uzramctl" --control "$work/control.sock" "${@:3}"; }
c 2 "a verb is missing"
c 2 "there is no option '--frob'" --frob
c 2 "there is no verb 'frob'" frob
c 2 "--frob" --frob list
c 2 "no column 'FROB'" list --output NAME,FROB
c 2 "DEV" classes
c 2 "--format" classes zram0 --format kernel-7
c 2 "ATTR" show zram0
c 2 "VALUE" set zram0 compact
c 2 "--size" create new
c 2 "'0' is no size" create new --size 0
c 2 "--algorithm" create new --size 1M --algorithm lzo
c 2 "DEV" remove
c 2 "FILE" estimate

# No daemon.
c 1 "$work/control.sock: No such file or directory: is uzramd running?" list
python3 - "$work/control.sock" <<'PYTHON'
import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])
PYTHON
c 1 "$work/control.sock: no daemon answers there" list
echo >"$work/plain"
refused 1 "$work/plain" "$UZRAM_BIN/uzramctl" --control "$work/plain" list
refused 1 "$long" "$UZRAM_BIN/uzramctl" --control "$long" list

# A daemon, and what it does not have. It takes over the sockets that nobody answers.
python3 - "$work/nbd.sock" <<'PYTHON'
import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])
PYTHON
start_daemon --size 16M --port 0
make_data "$work/data" 8
nbdcopy "$work/data" "$uri"
for verb in "classes x" "show x mm_stat" "set x compact 1" "remove x" "reset x"; do
  # shellcheck disable=SC2086  # the verb's words
  c 1 "no device 'x'" $verb
done
c 1 "no device '../zram0'" show ../zram0 mm_stat
c 1 "zram0: no attribute 'frob'" show zram0 frob
c 1 "zram0: no attribute 'frob'" set zram0 frob 1
c 1 "zram0: compact can only be written" show zram0 compact
c 1 "zram0: mm_stat can only be read" set zram0 mm_stat 1
c 1 "zram0: mem_limit: 'x' is not a number" set zram0 mem_limit x
c 1 "zram0: mem_limit: '-1' is negative" set zram0 mem_limit -1
c 1 "only 0 can be written" set zram0 mem_used_max 1
c 1 "is set once" set zram0 disksize 1G
c 1 "is set once" set zram0 comp_algorithm zstd
c 1 "from 1 to 65535" set zram0 reset 0
c 1 "device 'zram0' exists already" create zram0 --size 1M
c 1 "'a b' is not a device name" create "a b" --size 1M
refused 1 "$work/none" "$UZRAM_BIN/uzramctl" estimate "$work/none"
refused 1 "$work" "$UZRAM_BIN/uzramctl" estimate "$work"
d 1 "$work/nbd.sock" --size 1M --unix "$work/nbd.sock" --control "$work/y.sock"
d 1 "$work/control.sock" --size 1M --unix "$work/x.sock" --control "$work/control.sock"
port=$(free_port)
python3 -c 'import socket, sys, time; s = socket.socket(); s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(); time.sleep(60)' "$port" &
finally kill $!
wait_until 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
d 1 "$port" --size 1M --port "$port" "${sockets[@]}"

# A device in use is neither removed nor reset.
nbdsh -u "$uri" -c 'import time; print("open", flush=True); time.sleep(60)' >"$work/open" &
finally kill $!
wait_until 20 grep -q open "$work/open"
c 1 "device 'zram0' is in use by a client" remove zram0
c 1 "device 'zram0' is in use by a client" reset zram0

nbdcopy "$uri" "$work/out"
cmp -n $((8 << 20)) "$work/data" "$work/out"
# shellcheck disable=SC2016  # the words of the inner shell
refused 1 "standard output" bash -c '"$0" --control "$1" list >/dev/full' "$UZRAM_BIN/uzramctl" "$control"
stop_daemon
