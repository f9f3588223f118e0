#!/usr/bin/env bash
# Several exports, from the configuration and made at run time, hold different bytes, over both sockets at once.
. "$(dirname "$0")/lib.sh"

port=$(free_port)
cat >"$work/config" <<CONFIG
port = $port

[device.a]
size = 24M

[device.b]
size = 24M
algorithm = zstd
CONFIG
start_daemon --config "$work/config"
uzramctl create c --size 24M --algorithm lz4hc
for name in a b c; do make_data "$work/$name" 24; done
nbdcopy "$work/a" "$(unix_uri a)" &
first=$!
nbdcopy "$work/b" "nbd://127.0.0.1:$port/b" &
second=$!
nbdcopy "$work/c" "$(unix_uri c)"
wait "$first"
wait "$second"
for name in a b c; do
  nbdcopy "nbd://127.0.0.1:$port/$name" "$work/out"
  cmp "$work/$name" "$work/out"
done
! nbdinfo --size "$(unix_uri d)" || fail "an export that is not there was found"

uzramctl remove b
! nbdinfo --size "$(unix_uri b)" || fail "a removed export is still served"
nbdcopy "$(unix_uri c)" "$work/out"
cmp "$work/c" "$work/out"
uzramctl reset a
expect "a's pages after a reset" "$(mm_stat a 1)" 0
stop_daemon
