#!/usr/bin/env bash
# The daemon is stopped while its filesystem is mounted: writers get errors, the kernel lives on, and after unmount and a
# new daemon everything works again.
. "$(dirname "$0")/lib.sh"

mkdir "$work/mnt"
start_daemon --size 128M
uzramctl attach zram0 /dev/nbd0 --mkfs ext4 --mount "$work/mnt"
cp -a /usr/include/linux "$work/mnt/"
stop_daemon
# The kernel waits thirty seconds for the daemon to come back before it gives up.
! timeout 60 dd if=/dev/zero of="$work/mnt/file" bs=1M count=4 conv=fsync status=none || fail "a write without a daemon succeeds"
"$UZRAM_BIN/uzramctl" detach /dev/nbd0
[ ! -e /sys/block/nbd0/pid ] || fail "/dev/nbd0 is still connected"
start_daemon --size 128M
uzramctl attach zram0 /dev/nbd0 --mkfs ext4 --mount "$work/mnt"
cp -a /usr/include/linux "$work/mnt/"
same_trees /usr/include/linux "$work/mnt/linux"
uzramctl detach zram0
stop_daemon

# gone_at_once: with --now nothing waits for a daemon that was killed, and the block device is free.
gone_at_once() {
  kill -KILL "$daemon_pid"
  wait "$daemon_pid" || true
  local started=$SECONDS
  "$UZRAM_BIN/uzramctl" detach /dev/nbd0 --now
  [ $((SECONDS - started)) -lt 10 ] || fail "detach --now took $((SECONDS - started)) s"
  [ ! -e /sys/block/nbd0/pid ] || fail "/dev/nbd0 is still connected"
  ! grep nbd0 /proc/mounts /proc/swaps || fail "/dev/nbd0 is still in use"
}

echo "--- a filesystem with something to write back, whose daemon is killed"
start_daemon --size 128M
uzramctl attach zram0 /dev/nbd0 --mkfs ext4 --mount "$work/mnt"
dd if=/dev/zero of="$work/mnt/file" bs=1M count=8 status=none
gone_at_once

echo "--- swap that holds a program's memory"
make_small_cgroup 32M
start_daemon --size 128M --swap-safe --reserve 64M
uzramctl attach zram0 /dev/nbd0 --swap
cat >"$work/hold.py" <<'PYTHON'
import sys, time
memory = bytearray(56 << 20)
for at in range(0, len(memory), 4096):
    memory[at:at + 8] = at.to_bytes(8, "big")
open(sys.argv[1], "w")
time.sleep(1000)
PYTHON
(echo "$BASHPID" >"$work/cgroup/small/cgroup.procs" && exec python3 "$work/hold.py" "$work/held") &
holder=$!
finally kill -KILL "$holder"
# Reclaim inside a control group sleeps while swap is written: ten seconds on an idle machine.
wait_until 100 test -e "$work/held"
[ "$(awk '$1 == "/dev/nbd0" { print $4 }' /proc/swaps)" -gt 16384 ] || fail "hardly anything is swapped out"
gone_at_once
# Perhaps it has met memory that is lost, and died of it.
kill -KILL "$holder" || true
wait "$holder" || true

start_daemon --size 128M
uzramctl attach zram0 /dev/nbd0 --mkfs ext4 --mount "$work/mnt"
uzramctl detach zram0
stop_daemon
