#!/usr/bin/env bash
# Socket activation: systemd listens, the first client starts the daemon and is served, the control endpoint's socket is
# told by its name, and both outlive the daemon. What is no such socket is refused in one line.
. "$(dirname "$0")/lib.sh"

socket=$work/given.sock control=$work/given.control
unset NOTIFY_SOCKET
activate() {
  systemd-socket-activate "$@" >"$work/uri" 2>>"$work/uzramd.log" </dev/null &
  daemon_pid=$!
}
activate -l "$socket" -l "$control" --fdname=nbd:control "$UZRAM_BIN/uzramd" --size 64M
wait_until 10 test -S "$control"
[ ! -s "$work/uri" ] || fail "it runs before there is a client"
nbdinfo --size "nbd+unix:///zram0?socket=$socket" | grep -x 67108864
wait_until 10 test -s "$work/uri"  # a client may be served before the line is out
[ "$(cat "$work/uri")" = "nbd+unix:///zram0?socket=$socket" ] || fail "it says $(cat "$work/uri")"
uzramctl list | grep zram0 || fail "the control endpoint does not answer"
kill -TERM "$daemon_pid"
wait "$daemon_pid" || fail "it ended with status $?"
daemon_pid=
for path in "$socket" "$control"; do [ -S "$path" ] || fail "it removed $path, which is not its own"; done

# refused PATTERN OPTION...: what the daemon says when it is started by the first client.
refused() {
  local pattern=$1 status=0
  shift
  rm -f "$socket" "$work"/second.sock
  : >"$work/uzramd.log"
  activate "$@" --size 64M
  wait_until 10 test -S "$socket"
  python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$socket" || true
  wait "$daemon_pid" || status=$?
  daemon_pid=
  [ "$status" = 1 ] || fail "status $status"
  grep -E "^uzramd: $pattern" "$work/uzramd.log" || fail "it does not say: $pattern"
}
refused "the descriptor 'a' .* is no listening unix socket" -l "$(free_port)" -l "$socket" --fdname=a:b "$UZRAM_BIN/uzramd"
refused "the descriptor 'b' .* is one too many" -l "$socket" -l "$work/second.sock" --fdname=a:b "$UZRAM_BIN/uzramd"
refused "the descriptor 'a' .* listens on $socket, not on /other" -l "$socket" --fdname=a "$UZRAM_BIN/uzramd" --unix /other
