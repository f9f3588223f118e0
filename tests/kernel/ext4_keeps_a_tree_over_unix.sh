#!/usr/bin/env bash
# ext4 through the kernel's nbd on the unix socket: a tree comes back as it went in, also after a remount, and what
# is trimmed is given back.
. "$(dirname "$0")/lib.sh"

make_tree "$work/tree"
start_daemon --size 400M
connect_unix /dev/nbd0
mkfs.ext4 -q /dev/nbd0
mounted /dev/nbd0 "$work/mnt"
cp -a "$work/tree" "$work/mnt/tree"
same_trees "$work/tree" "$work/mnt/tree"
umount "$work/mnt"
blockdev --flushbufs /dev/nbd0
e2fsck -fn /dev/nbd0
mount -o ro /dev/nbd0 "$work/mnt"
same_trees "$work/tree" "$work/mnt/tree"
mount -o remount,rw "$work/mnt"

# Memory, not orig_data_size: the kernel zeroes ext4's inode tables when it finds the time.
before=$(mm_stat zram0 3)
rm -rf "$work/mnt/tree"
sync
fstrim -v "$work/mnt"
after=$(mm_stat zram0 3)
echo "mem_used_total: $before with the tree, $after without"
[ "$after" -lt $((before / 4)) ] || fail "a trimmed filesystem keeps its memory"
umount "$work/mnt"
e2fsck -fn /dev/nbd0
disconnect /dev/nbd0
stop_daemon
