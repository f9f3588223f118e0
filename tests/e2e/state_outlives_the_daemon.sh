#!/usr/bin/env bash
# With --state what is stored is there again after SIGKILL and after SIGTERM; a second daemon, a foreign file and a folder
# on a disk are refused.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

state=$(mktemp -d /dev/shm/uzram-test.XXXXXX)
finally rm -rf "$state"

# refused WORDS OPTION...: the daemon does not start, and says why in one line that holds these words.
refused() {
  local words=$1 status=0
  shift
  timeout 20 "$UZRAM_BIN/uzramd" --unix "$work/other.sock" --control "$work/other.control" "$@" \
    >"$work/out" 2>"$work/err" || status=$?
  expect "exit status of $*" "$status" 1
  expect "lines of its error" "$(grep -c '^uzramd: ' "$work/err")" 1
  grep -qF "$words" "$work/err" || fail "$(cat "$work/err") does not say '$words'"
}

make_data "$work/data" 48
start_daemon --size 64M --state "$state"
nbdcopy "$work/data" "$uri"
refused "another process serves it" --size 64M --state "$state"

for round in 1 2 3; do
  # A write is under way when the daemon dies; what was acknowledged before is compared.
  nbdcopy "$work/data" "$uri" >"$work/nbdcopy" 2>&1 & client=$!
  sleep 0.0$round
  kill -KILL "$daemon_pid"
  wait "$daemon_pid" "$client" || true
  start_daemon --size 64M --state "$state"
  nbdcopy "$uri" "$work/back"
  cmp -n $((48 << 20)) "$work/back" "$work/data" || fail "round $round: the data is not what was written"
done

before=$(uzramctl show zram0 mm_stat | awk '{ print $1, $2, $3 }')
stop_daemon
start_daemon --size 64M --state "$state"
expect "mm_stat after a restart" "$(uzramctl show zram0 mm_stat | awk '{ print $1, $2, $3 }')" "$before"
stop_daemon

refused "the state holds it with 67108864 bytes" --size 128M --state "$state"
refused "No such file or directory" --size 64M --state "$state/missing"
[ "$(stat -f -c %T /var/tmp)" = tmpfs ] || refused "not in a tmpfs" --size 64M --state /var/tmp
printf 'garbage' | dd of="$state/uzram.state" conv=notrunc bs=1 seek=4096 status=none
refused "does not begin as one of uzram's" --size 64M --state "$state"
truncate -s 100 "$state/uzram.state"
refused "cut short" --size 64M --state "$state"
