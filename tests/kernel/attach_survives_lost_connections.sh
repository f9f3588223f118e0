#!/usr/bin/env bash
# uzramctl attach --watch: connections are cut again and again under a verifying load, on four connections and on one,
# and no request fails. A daemon that was killed and has come back empty does not take the full one's place.
. "$(dirname "$0")/lib.sh"

cut_connections() {
  curl -sS --fail -X POST -d '' --unix-socket "$control" http://localhost/v1/devices/zram0/fence
}
watch_there() {
  "$UZRAM_BIN/uzramctl" --control "$control" attach zram0 /dev/nbd0 --watch "$@" 2>>"$work/watch.log" &
  watcher=$!
  finally kill "$watcher"
  wait_until 10 test -e /sys/block/nbd0/pid
}
said() { grep -q "$1" "$work/watch.log"; }

start_daemon --size 128M
for connections in 4 1; do
  watch_there --connections "$connections"
  : >"$work/watch.log"
  (cd "$work" && exec fio --name=load --filename=/dev/nbd0 --direct=1 --rw=randrw --bsrange=4k-64k --size=96M --ioengine=libaio \
    --iodepth=16 --verify=crc32c --verify_fatal=1 --time_based=0 --rate=8m --output=fio.out) &
  load=$!
  cuts=0
  while kill -0 "$load" 2>/dev/null; do
    cut_connections
    cuts=$((cuts + 1))
    sleep 0.7
  done
  wait "$load" || { cat "$work/fio.out"; fail "the load met an error"; }
  echo "$connections connections: $cuts cuts, $(grep -c 'connected again' "$work/watch.log") reconnects"
  [ "$cuts" -ge 5 ] || fail "too few cuts to mean anything"
  uzramctl detach zram0
  wait "$watcher" || fail "the watcher ended with status $? after detach"
done

echo "--- a watcher that was killed is replaced"
watch_there --connections 2
kill -KILL "$watcher"
wait "$watcher" || true
: >"$work/watch.log"
cut_connections
"$UZRAM_BIN/uzramctl" --control "$control" attach zram0 /dev/nbd0 --watch --connections 2 2>>"$work/watch.log" &
watcher=$!
finally kill "$watcher"
timeout 20 dd if=/dev/nbd0 of=/dev/null bs=64k count=16 iflag=direct || fail "the new watcher does not connect"
wait_until 10 said 'connected again'  # it reads already with the first of the two

echo "--- an empty device never takes a full one's place"
: >"$work/watch.log"
kill -KILL "$daemon_pid"
wait "$daemon_pid" || true
wait_until 10 said 'I/O waits'
start_daemon --size 128M
wait_until 10 said 'is not what was attached'
! said 'connected again' || fail "the empty device was connected"
cat "$work/watch.log"
uzramctl detach /dev/nbd0
wait "$watcher" || fail "the watcher ended with status $? after detach"
uzramctl attach zram0 /dev/nbd0
uzramctl detach zram0
stop_daemon
