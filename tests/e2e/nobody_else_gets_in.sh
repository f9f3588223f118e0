#!/usr/bin/env bash
# Sockets are for their owner, or for a group; the control endpoint turns others away whatever the mode has become; and
# the daemon serves with another user's rights, without capabilities, and without the system calls it does not need.
. "$(dirname "$0")/lib.sh"

chmod 755 "$work"
as() { setpriv --reuid "$1" --regid "$2" --clear-groups "${@:3}"; }
nobody=65534 group=54321
control_status() { "$@" curl -s -o "$work/answer" -w '%{http_code}' --unix-socket "$control" http://uzram/v1/devices || true; }
status_of() { sed -n "s/^$1:\t*//p" "/proc/$daemon_pid/task/"*/status | sort -u; }
install -m 666 /dev/null "$work/answer"

start_daemon --size 8M
expect "the modes" "$(stat -c %a "$socket" "$control" | sort -u)" 600
expect "root's status" "$(control_status)" 200
expect "nobody's status" "$(control_status as $nobody $nobody)" 000
chmod 666 "$control"
expect "nobody's status, whatever the mode" "$(control_status as $nobody $nobody)" 403
grep -q '"error"' "$work/answer" || fail "the refusal is not explained: $(cat "$work/answer")"
expect "the capabilities" "$(printf '%x' $((0x$(status_of CapEff) & ~0x1004000)))" 0
if grep -qE '__asan_init|__tsan_init|__gcov_init' "$UZRAM_BIN/uzramd"; then filter=0; else filter=2; fi
expect "the filter of every thread" "$(status_of Seccomp)" "$filter"
stop_daemon

start_daemon --size 8M --group "$group"
expect "the group's modes" "$(stat -c '%a %g' "$socket" "$control" | sort -u)" "660 $group"
expect "a member's status" "$(control_status as $nobody $group)" 200
expect "a member's status, by another group" \
  "$(control_status setpriv --reuid $nobody --regid $nobody --groups "$group")" 200
expect "the size for a member" "$(as $nobody $group nbdinfo --size "$uri")" $((8 << 20))
! as $nobody $nobody nbdinfo --size "$uri" 2>/dev/null || fail "nobody was let in"
stop_daemon

# Another user, who owns the folder so that the sockets can go with the daemon.
install -d -o $nobody "$work/run"
socket=$work/run/nbd.sock control=$work/run/control.sock
: >"$work/uri"
"$UZRAM_BIN/uzramd" --size 8M --user "$nobody" -U "$socket" --control "$control" >"$work/uri" 2>>"$work/uzramd.log" &
daemon_pid=$!
wait_until 20 test -s "$work/uri"
uri=$(head -n 1 "$work/uri")
expect "the user" "$(status_of Uid)" "$nobody	$nobody	$nobody	$nobody"
expect "the groups" "$(status_of Groups | tr -d ' ')" "$nobody"
expect "the size for the user" "$(as $nobody $nobody nbdinfo --size "$uri")" $((8 << 20))
nbdsh -u "$uri" -c 'h.pwrite(b"x" * 4096, 0)' -c 'assert h.pread(4096, 0) == b"x" * 4096'
expect "the user's status" "$(control_status as $nobody $nobody)" 200
stop_daemon

# Who may open what, by the user at the other end.
start_daemon --size 8M --group "$group" --allow "user:$nobody"
expect "the size for the one" "$(as $nobody $group nbdinfo --size "$uri")" $((8 << 20))
! nbdinfo --size "$uri" 2>"$work/refused" || fail "root was let in"
stop_daemon

# As the unit starts it: the capability that locking takes is kept.
install -m 755 "$UZRAM_BIN/uzramd" "$work/daemon"
caps=-all,+ipc_lock
socket=$work/run/nbd.sock control=$work/run/control.sock
: >"$work/uri"
setpriv --reuid $nobody --regid $nobody --clear-groups --inh-caps=$caps --ambient-caps=$caps \
  "$work/daemon" --size 8M -U "$socket" --control "$control" >"$work/uri" 2>>"$work/uzramd.log" &
daemon_pid=$!
wait_until 20 test -s "$work/uri"
expect "the kept capabilities" "$(status_of CapEff)" 0000000000004000
expect "the filter with them" "$(status_of Seccomp)" "$filter"
stop_daemon
