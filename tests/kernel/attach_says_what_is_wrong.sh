#!/usr/bin/env bash
# Every attach that cannot work says why in one line, and leaves nothing behind: no connection, no mount, no swap, no
# setting of the machine.
. "$(dirname "$0")/lib.sh"

# refused STATUS PATTERN WORD...: uzramctl WORD... ends with STATUS and one line that matches.
refused() {
  local status=$1 pattern=$2 got=0
  shift 2
  "$UZRAM_BIN/uzramctl" --control "$control" "$@" >"$work/out" 2>"$work/err" || got=$?
  cat "$work/err"
  [ "$got" = "$status" ] || fail "uzramctl $*: exit status $got, not $status"
  [ "$(cat "$work/out" "$work/err" | wc -l)" = 1 ] || fail "uzramctl $*: more or less than one line"
  grep -qE "^uzramctl: $pattern" "$work/err" || fail "uzramctl $*: does not say: $pattern"
  nothing_left
}
settings() { cat /proc/self/mountinfo /proc/swaps /proc/sys/vm/{min_free_kbytes,percpu_pagelist_high_fraction}; }
nothing_left() {
  [ "$(settings)" = "$before" ] || fail "something is left"
  [ "$(cd /sys/block && echo nbd*/pid)" = "$pids" ] || fail "something is still connected"
}
remember() { before=$(settings) pids=$(cd /sys/block && echo nbd*/pid); }

mkdir "$work/a" "$work/b"
start_daemon --size 64M
uzramctl create other --size 64M
remember
refused 1 "no device 'none'" attach none /dev/nbd0
refused 2 "/dev/sda is not of the form /dev/nbdN" attach zram0 /dev/sda
refused 2 "/dev/nbd0p1 is not of the form /dev/nbdN" attach zram0 /dev/nbd0p1
refused 2 ".*32768" attach zram0 /dev/nbd0 --swap --priority 32768
refused 2 ".*-2" attach zram0 /dev/nbd0 --swap --priority -2
refused 2 ".*--connections" attach zram0 /dev/nbd0 --connections 0
refused 2 ".*--swap" attach zram0 /dev/nbd0 --swap --mount "$work/a"
refused 1 "zram0: its daemon runs without --swap-safe" attach zram0 /dev/nbd0 --swap
refused 1 "/nonexistent is not a folder" attach zram0 /dev/nbd0 --mount /nonexistent
refused 1 "/proc is a mount point already" attach zram0 /dev/nbd0 --mkfs ext4 --mount /proc
refused 1 "mkfs.none is not installed" attach zram0 /dev/nbd0 --mkfs none --mount "$work/a"
refused 1 "mount: " attach zram0 /dev/nbd0 --mount "$work/a"
refused 1 "zram0 is not attached" detach zram0
refused 1 "/dev/nbd0 is not attached" detach /dev/nbd0

echo "--- a device in use"
uzramctl attach zram0 /dev/nbd0 --mkfs ext4 --mount "$work/a"
finally uzramctl detach /dev/nbd0
remember
refused 1 "/dev/nbd0 is in use: /dev/nbd0 $work/a" attach other /dev/nbd0
refused 1 "zram0 is attached already: /dev/nbd0 $work/a" attach zram0 /dev/nbd1
refused 1 "$work/a is a mount point already" attach other /dev/nbd1 --mkfs ext4 --mount "$work/a"
exec 5<"$work/a"
refused 1 "umount $work/a: Device or resource busy" detach zram0
exec 5<&-
uzramctl detach zram0
uzramctl attach zram0 /dev/nbd0
python3 -c 'import os, sys, time
os.open("/dev/nbd0", os.O_RDONLY | os.O_EXCL)
open(sys.argv[1], "w")
time.sleep(100)' "$work/held" &
holder=$!
wait_until 10 test -e "$work/held"
remember
refused 1 "/dev/nbd0 is in use elsewhere" detach zram0
kill "$holder"
wait "$holder" || true
uzramctl detach zram0

echo "--- contents that are not ours to overwrite"
remember
refused 1 "/dev/nbd0 holds ext4, not xfs" attach zram0 /dev/nbd0 --mkfs xfs --mount "$work/a"

echo "--- no permission"
chmod 711 "$work"
chmod 777 "$socket" "$control"
# without_rights PATTERN WORD...: what attach says when setpriv WORD... has taken rights away.
without_rights() {
  local pattern=$1
  shift
  if setpriv "$@" "$UZRAM_BIN/uzramctl" --control "$control" attach other /dev/nbd1 2>"$work/err"; then
    fail "it attaches without the right to"
  fi
  cat "$work/err"
  grep -q "$pattern" "$work/err" || fail "it does not say: $pattern"
  nothing_left
}
without_rights 'only root, the daemon' --reuid 65534 --regid 65534 --clear-groups
without_rights 'CAP_SYS_ADMIN' --bounding-set=-sys_admin --inh-caps=-sys_admin

echo "--- a daemon that dies between the steps"
mkdir "$work/bin"
printf '#!/bin/sh\nkill -KILL %s\nexec /usr/sbin/mkfs.ext4 "$@"\n' "$daemon_pid" >"$work/bin/mkfs.ext4"
chmod +x "$work/bin/mkfs.ext4"
started=$SECONDS
PATH=$work/bin:$PATH refused 1 "mkfs.ext4: " attach other /dev/nbd1 --mkfs ext4 --mount "$work/b"
[ $((SECONDS - started)) -lt 20 ] || fail "it took $((SECONDS - started)) s to notice"
daemon_pid=

echo "--- no daemon, no module"
refused 1 ".*is uzramd running" attach zram0 /dev/nbd0
start_daemon --size 64M
wait_until 10 rmmod nbd
before=$(settings) pids='nbd*/pid'
refused 1 "the kernel's nbd module is not loaded" attach zram0 /dev/nbd0
stop_daemon
