#!/usr/bin/env bash
# --takeover: the memory that a daemon with --grow has taken beyond its reserve goes over to the next, which goes on growing.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/takeover.sh
. "$(dirname "$0")/../lib/takeover.sh"

finally pkill -KILL -f -- "--unix $work/nbd.sock"

common=(--size 64M --supervise --swap-safe --reserve 8M --grow)
start_daemon "${common[@]}"
head -c 24M /dev/urandom >"$work/noise"
written() { nbdcopy "$work/noise" "$uri" 2>"$work/nbdcopy"; }
wait_until 20 written  # growth may come too late for some of it
taken_over "${common[@]}"
nbdcopy "$uri" "$work/back"
cmp -n $((24 << 20)) "$work/back" "$work/noise"
head -c 40M /dev/urandom >"$work/noise"
wait_until 20 written
nbdcopy "$uri" "$work/back"
cmp -n $((40 << 20)) "$work/back" "$work/noise"
stop_daemon
