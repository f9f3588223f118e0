#!/usr/bin/env bash
# nbdfuse and a loop device make the export a disk: ext4 on it carries a tree, and is sound afterwards.
. "$(dirname "$0")/lib.sh"

make_tree "$work/tree"
start_daemon --size 400M
mkdir "$work/fuse" "$work/mnt"
nbdfuse "$work/fuse/disk" "$uri" &
finally umount -l "$work/fuse"
wait_until 20 test -s "$work/fuse/disk"
loop=$(losetup -f --show "$work/fuse/disk")
finally losetup -d "$loop"
mkfs.ext4 -q "$loop"
mount "$loop" "$work/mnt"
finally umount "$work/mnt"
cp -a "$work/tree" "$work/mnt/tree"
umount "$work/mnt"
e2fsck -fn "$loop"
mount -o ro "$loop" "$work/mnt"
same_trees "$work/tree" "$work/mnt/tree"
umount "$work/mnt"
losetup -d "$loop"
umount "$work/fuse"
wait_until 20 test ! -e "$work/fuse/disk"
stop_daemon
