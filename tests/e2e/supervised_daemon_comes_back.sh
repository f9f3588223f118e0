#!/usr/bin/env bash
# --supervise: the daemon is killed again and again, and comes back with everything that was stored; nobody who connects
# meanwhile is refused. A state that cannot be served any more ends it, after some tries and with a clear word.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# The daemon itself, a child of the one that was started.
worker() { pgrep -P "$daemon_pid"; }
is_another() { [ -n "$(worker)" ] && [ "$(worker)" != "$1" ]; }
kill_worker() {
  local before
  before=$(worker)
  kill -KILL "$before"
  wait_until 10 is_another "$before"
}
# Where the test fails, nothing of it may be left.
finally pkill -KILL -f -- "--unix $work/nbd.sock"

make_data "$work/data" 48
start_daemon --size 64M --supervise --port "$(free_port)"
first_line=$uri
nbdcopy "$work/data" "$uri"
for round in 1 2 3 4 5; do
  # A write is under way when the daemon dies; what was acknowledged before is compared.
  nbdcopy "$work/data" "$uri" >"$work/nbdcopy" 2>&1 & client=$!
  sleep 0.0$round
  kill_worker
  wait "$client" || true
  # At once: whoever comes before the daemon is back waits, on either socket.
  nbdcopy "$uri" "$work/back"
  cmp -n $((48 << 20)) "$work/back" "$work/data" || fail "round $round: the data is not what was written"
  nbdinfo --size "$(uzramctl list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["devices"][0]["uris"][1])')" >/dev/null
done
expect "what it has printed" "$(cat "$work/uri")" "$first_line"
expect "starts that were logged" "$(grep -c 'was ended by Killed: it is started again' "$work/uzramd.log")" 5
stop_daemon

echo "--- what cannot start at all is not started again"
status=0
"$UZRAM_BIN/uzramd" --supervise --size 1M --unix "$work/missing/nbd.sock" --control "$work/c" 2>"$work/err" || status=$?
expect "exit status" "$status" 1
expect "lines" "$(grep -c . "$work/err")" 1

echo "--- a state that cannot be served ends it"
start_daemon --size 64M --supervise
memfd=$(find "/proc/$daemon_pid/fd" -lname '/memfd:uzram*')
printf 'garbage' | dd of="$memfd" conv=notrunc bs=1 seek=4096 status=none
pkill -KILL -P "$daemon_pid"
status=0
wait "$daemon_pid" || status=$?
daemon_pid=
expect "exit status" "$status" 1
grep -q "does not begin as one of uzram's" "$work/uzramd.log" || fail "it does not say what is wrong"
grep -q "for the 5th time before it could serve" "$work/uzramd.log" || fail "it does not say that it gives up"
