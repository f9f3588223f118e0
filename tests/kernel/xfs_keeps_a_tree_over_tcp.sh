#!/usr/bin/env bash
# XFS through the kernel's nbd on TCP with two connections: a tree comes back as it went in, also after a remount.
. "$(dirname "$0")/lib.sh"

make_tree "$work/tree"
port=$(free_port)
start_daemon --size 512M --algorithm zstd --port "$port"
connect_tcp /dev/nbd0 "$port" -C 2
mkfs.xfs -q /dev/nbd0
mounted /dev/nbd0 "$work/mnt"
cp -a "$work/tree" "$work/mnt/tree"
same_trees "$work/tree" "$work/mnt/tree"
umount "$work/mnt"
blockdev --flushbufs /dev/nbd0
xfs_repair -n /dev/nbd0
mount -o ro /dev/nbd0 "$work/mnt"
same_trees "$work/tree" "$work/mnt/tree"
umount "$work/mnt"
disconnect /dev/nbd0
stop_daemon
