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
