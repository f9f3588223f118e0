#!/usr/bin/env bash
# Swap on a device that claims far more than its reserve holds, used by a control group that wants all of it. Writes fail,
# the kernel kills the program that wants too much, and the daemon serves on: what was stored is right, and the swap can be
# taken back.
. "$(dirname "$0")/lib.sh"

start_daemon --size 1G --swap-safe --reserve 48M
uzramctl attach zram0 /dev/nbd0 --swap
finally uzramctl detach /dev/nbd0
make_small_cgroup 48M
in_cgroup() { (echo "$BASHPID" >"$work/cgroup/small/cgroup.procs" && exec "$@"); }

# A file in memory, most of which is swapped out.
in_cgroup dd if=/dev/urandom of="$work/kept" bs=1M count=40 status=none
before=$(sha256sum <"$work/kept")
cat >"$work/fill.py" <<'PYTHON'
import os
memory = []
while True:
    memory.append(os.urandom(1 << 20))
PYTHON
started=$SECONDS
in_cgroup python3 "$work/fill.py" && fail "there is no end to its memory"
failed=$(uzramctl show zram0 io_stat | awk '{ print $2 }')
echo "killed after $((SECONDS - started)) s; $failed writes have failed"
[ "$failed" -gt 0 ] || fail "no write has failed: the store was not full"
[ "$(sha256sum <"$work/kept")" = "$before" ] || fail "what was swapped out is not what comes back"
uzramctl detach zram0
[ "$(sha256sum <"$work/kept")" = "$before" ] || fail "what was swapped out is not what swapoff brings back"
stop_daemon
