#!/usr/bin/env bash
# uzramctl attach makes, mounts and detaches ext4, xfs and btrfs: a tree comes back as it went in, also after the device
# was detached and attached again, the filesystem's checker finds nothing, and what is deleted is given back.
. "$(dirname "$0")/lib.sh"

check_ext4() { e2fsck -fn "$1"; }
check_xfs() { xfs_repair -n "$1"; }
check_btrfs() { btrfs check --readonly "$1"; }

attach_there() { uzramctl attach zram0 /dev/nbd0 --mkfs "$1" --mount "$work/mnt" --connections 4; }

make_tree "$work/tree"
mkdir "$work/mnt"
for type in ext4 xfs btrfs; do
  start_daemon --size 600M
  attach_there "$type"
  finally uzramctl detach /dev/nbd0
  [ "$(findmnt -no FSTYPE "$work/mnt")" = "$type" ] || fail "$type is not mounted"
  [[ $(findmnt -no OPTIONS "$work/mnt") == *discard* ]] || fail "$type is mounted without discard"
  uzramctl list | grep "/dev/nbd0 $work/mnt" || fail "list does not show the mount point"
  empty=$(mm_stat zram0 1)
  cp -a "$work/tree" "$work/mnt/tree"
  uzramctl detach zram0
  [ ! -e /sys/block/nbd0/pid ] || fail "/dev/nbd0 is still connected"

  uzramctl attach zram0 /dev/nbd0
  "check_$type" /dev/nbd0 || fail "the filesystem's checker complains"
  uzramctl detach zram0

  attach_there "$type" # what is there stays
  same_trees "$work/tree" "$work/mnt/tree"
  full=$(mm_stat zram0 1)
  rm -rf "$work/mnt/tree"
  sync "$work/mnt"
  fstrim "$work/mnt"
  after=$(mm_stat zram0 1)
  echo "$type: orig_data_size $empty empty, $full with the tree, $after without it"
  [ $((after - empty)) -lt $(((full - empty) / 4)) ] || fail "$type keeps the memory of what was deleted"
  uzramctl detach /dev/nbd0
  stop_daemon
done
