#!/usr/bin/env bash
# --run is as nbdkit's: the command gets $uri, its status is uzramd's, nothing stays. SIGINT is as SIGTERM, a second
# signal changes nothing, and the default places are those that the documentation names.
# shellcheck disable=SC2016  # the commands are for the shell that --run starts
. "$(dirname "$0")/lib.sh"

export TMPDIR=$work XDG_RUNTIME_DIR=$work/run
mkdir "$work/run"
uzramd() { "$UZRAM_BIN/uzramd" "$@" 2>>"$work/uzramd.log"; }

expect "\$uri's size" "$(uzramd --size 8M --run 'nbdinfo --size "$uri"')" $((8 << 20))
expect "the export's name" "$(uzramd --size 8M --name disk --run 'echo "$exportname"')" disk
export UZRAM_BIN
expect "the control endpoint" \
  "$(uzramd --size 8M --run '"$UZRAM_BIN/uzramctl" --control "$control" list -n --raw -o NAME,DISKSIZE')" "zram0 8M"
for status in 0 1 42; do
  code=0
  uzramd --size 8M --run "exit $status" || code=$?
  expect "the status" "$code" "$status"
done
code=0
uzramd --size 8M --run 'kill -KILL $$' || code=$?
expect "the status of a command that was killed" "$code" $((128 + 9))
code=0
uzramd --size 8M --read-only --run 'nbdsh -u "$uri" -c "assert h.is_read_only()"' || code=$?
expect "--read-only" "$code" 0
# Several at once are in nobody's way.
for i in 1 2 3; do
  uzramd --size 8M --run "sleep 0.5; nbdinfo --size \"\$uri\"" >"$work/run.$i" &
  runs[i]=$!
done
for i in 1 2 3; do
  wait "${runs[i]}" || fail "run $i failed"
  expect "run $i" "$(cat "$work/run.$i")" $((8 << 20))
done
expect "what is left in TMPDIR" "$(find "$work" -name 'uzram-*')" ""

# A signal ends the command too.
"$UZRAM_BIN/uzramd" --size 8M --run 'echo $$; exec sleep 60' >"$work/up" 2>>"$work/uzramd.log" &
daemon_pid=$!
wait_until 10 test -s "$work/up"
kill -TERM "$daemon_pid"
wait "$daemon_pid" || fail "status $? after SIGTERM with --run"
daemon_pid=
gone() { ! kill -0 "$1"; }
wait_until 10 gone "$(cat "$work/up")"

# The default places, and both signals.
export RUNTIME_DIRECTORY=$work/runtime:$work/other
for signal in TERM INT HUP; do
  : >"$work/uri"
  "$UZRAM_BIN/uzramd" --size 8M >"$work/uri" 2>>"$work/uzramd.log" </dev/null &
  daemon_pid=$!
  wait_until 20 test -s "$work/uri"
  expect "the URI" "$(cat "$work/uri")" "nbd+unix:///zram0?socket=$work/runtime/nbd.sock"
  expect "the runtime directory's mode" "$(stat -c %a "$work/runtime")" 700
  expect "the default socket" "$("$UZRAM_BIN/uzramctl" list -n --raw -o NAME)" zram0
  kill -"$signal" "$daemon_pid"
  kill -"$signal" "$daemon_pid" 2>/dev/null || true
  wait "$daemon_pid" || fail "status $? after SIG$signal"
  daemon_pid=
  expect "the sockets" "$(ls "$work/runtime")" ""
done

# Readiness as systemd wants it told.
python3 - "$UZRAM_BIN/uzramd" "$work" <<'PYTHON'
import os, signal, socket, subprocess, sys
path = sys.argv[2] + "/notify"
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(path)
s.settimeout(20)
daemon = subprocess.Popen([sys.argv[1], "--size", "8M"], env=os.environ | {"NOTIFY_SOCKET": path},
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
assert b"READY=1" in s.recv(4096).split(b"\n")
socket.socket(socket.AF_UNIX).connect(sys.argv[2] + "/runtime/nbd.sock")
daemon.send_signal(signal.SIGTERM)
assert b"STOPPING=1" in s.recv(4096).split(b"\n")
assert daemon.wait(20) == 0
assert len(daemon.stdout.read().splitlines()) == 1
PYTHON
