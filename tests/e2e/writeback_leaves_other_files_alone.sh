#!/usr/bin/env bash
# The backing file: what holds something else is refused and stays as it was, as is one that another daemon has; what does
# not go with it is refused; it is empty after SIGTERM, and after SIGKILL the next daemon takes it. On a disk, too, by
# another user and behind the filter of system calls.
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/writeback.sh
. "$(dirname "$0")/../lib/writeback.sh"

backing=$work/backing

# unharmed FILE: it is refused as the backing file, with a size and without, and stays as it was.
unharmed() {
  cp --sparse=never "$1" "$work/copy"
  local before
  before=$(stat -c '%s %a %i' "$1")
  no_daemon 1 "$1" --backing "$1"
  no_daemon 1 "$1" --backing "$1" --backing-size 64M
  no_daemon 1 "$1" --backing "$1" --backing-size 64K
  cmp "$1" "$work/copy" || fail "$1 has changed"
  expect "size, mode and inode of $1" "$(stat -c '%s %a %i' "$1")" "$before"
}
echo "some notes" >"$work/notes"
unharmed "$work/notes"
printf 'uzram backing 2\nof another version\n' >"$work/nearly"
unharmed "$work/nearly"
truncate -s 300K "$work/late"
printf x | dd of="$work/late" bs=1 seek=$((128 * 1024 - 1)) conv=notrunc status=none
unharmed "$work/late"
for make in 'mkfs.ext4 -q' 'mkfs.btrfs -q' 'mkfs.xfs -q' mkswap; do
  rm -f "$work/image"
  truncate -s 400M "$work/image"
  $make "$work/image" >"$work/out" 2>&1 || fail "$make: $(cat "$work/out")"
  before=$(stat -c '%s %b %y' "$work/image")
  no_daemon 1 "$work/image" --backing "$work/image" --backing-size 400M
  expect "size, blocks and time of what $make made" "$(stat -c '%s %b %y' "$work/image")" "$before"
done
rm "$work/image"
no_daemon 1 "$work/none" --backing "$work/none"
[ ! -e "$work/none" ] || fail "a file was made without a size"
no_daemon 1 "$work" --backing "$work" --backing-size 1M
no_daemon 1 /dev/null --backing /dev/null --backing-size 1M
no_daemon 1 "$work/none/file" --backing "$work/none/file" --backing-size 1M
no_daemon 1 8K --backing "$work/small" --backing-size 4K
[ ! -e "$work/small" ] || fail "a file was made that is too small"

# What does not go with it.
mkdir "$work/state"
for other in "--state $work/state" --supervise --takeover '--swap-safe --reserve 4M'; do
  # shellcheck disable=SC2086  # an option and its value
  no_daemon 2 "${other%% *}" --backing "$backing" --backing-size 1M $other
  [ ! -e "$backing" ] || fail "$other: the file was made"
done
FDSTORE=4 NOTIFY_SOCKET=$work/nobody no_daemon 1 systemd --backing "$backing" --backing-size 1M
[ ! -e "$backing" ] || fail "the file was made beside the descriptor store"
no_daemon 2 --backing-size --backing-size 1M
no_daemon 2 --backing-size --backing "$backing" --backing-size much
no_daemon 2 --backing --backing ''

# Without one.
start_daemon --size 1M
expect "backing_dev without one" "$(uzramctl show zram0 backing_dev)" none
set_fails "backing" writeback huge
set_fails "backing" writeback page_index=0
uzramctl set zram0 idle all
stop_daemon

# moves_pages: pages go to the file, and come back.
moves_pages() {
  nbdsh -u "$uri" -c 'import os' -c 'data = os.urandom(64 * 4096)' -c 'h.pwrite(data, 0)' \
    -c 'import subprocess' -c 'subprocess.run(["'"$UZRAM_BIN/uzramctl"'", "--control", "'"$control"'", "set", "zram0",
      "writeback", "huge"], check=True)' -c 'assert h.pread(64 * 4096, 0) == data'
  expect "bd_stat" "$(uzramctl show zram0 bd_stat | xargs)" "64 64 64"
}

# In use; at its end; after SIGKILL; with what another daemon has left, which nobody reads.
start_daemon --size 1M --backing "$backing" --backing-size 1M
moves_pages
no_daemon 1 "another process" --backing "$backing" --backing-size 1M
no_daemon 1 "another process" --backing "$backing"
nbdsh -u "$uri" -c 'h.pread(64 * 4096, 0)'
kill -KILL "$daemon_pid"
wait "$daemon_pid" || true
expect "the file's size after SIGKILL" "$(stat -c %s "$backing")" $((1 << 20))
start_daemon --size 1M --backing "$backing"
expect "bd_stat of the next daemon" "$(uzramctl show zram0 bd_stat | xargs)" "0 0 0"
cmp -n $((1 << 20)) <(nbdcopy "$uri" -) /dev/zero || fail "the next daemon shows what the one before had stored"
moves_pages
stop_daemon
is_emptied "$backing" $((1 << 20))

# The configuration file; a second device of it.
cat >"$work/uzramd.conf" <<CONF
size = 1M
backing = $backing
backing-size = 2M
[device.other]
size = 1M
CONF
start_daemon --config "$work/uzramd.conf"
expect "the configured file" "$(uzramctl show other backing_dev) $(stat -c %s "$backing")" "$backing $((2 << 20))"
moves_pages
stop_daemon

# As another user, who may not open the file, and with the filter.
install -d -o 65534 "$work/run"
chmod 755 "$work"
rm "$backing"
socket=$work/run/nbd.sock control=$work/run/control.sock
: >"$work/uri"
"$UZRAM_BIN/uzramd" --size 1M --user 65534 -U "$socket" --control "$control" --backing "$backing" --backing-size 1M \
  >"$work/uri" 2>>"$work/uzramd.log" &
daemon_pid=$!
wait_until 20 test -s "$work/uri"
uri=$(head -n 1 "$work/uri")
if grep -qE '__asan_init|__tsan_init|__gcov_init' "$UZRAM_BIN/uzramd"; then filter=0; else filter=2; fi
expect "user and filter" "$(sed -n 's/^\(Uid\|Seccomp\):\t\([0-9]*\).*/\2/p' "/proc/$daemon_pid/status" | xargs)" "65534 $filter"
expect "the file's owner and mode" "$(stat -c '%u %a' "$backing")" "0 600"
moves_pages
stop_daemon
is_emptied "$backing" $((1 << 20))

# A disk: not while it is mounted, nor with a filesystem; its contents are not emptied, but what a daemon left is taken.
truncate -s 64M "$work/disk"
loop=$(losetup -f --show "$work/disk")
finally losetup -d "$loop"
mkfs.ext4 -q "$loop"
mkdir "$work/mnt"
mount "$loop" "$work/mnt"
finally umount "$work/mnt"
no_daemon 1 "$loop" --backing "$loop"
umount "$work/mnt"
no_daemon 1 "holds something" --backing "$loop"
e2fsck -fn "$loop" >"$work/out" 2>&1 || fail "$(cat "$work/out")"
dd if=/dev/zero of="$loop" bs=1M count=64 oflag=direct status=none
no_daemon 1 "$loop" --backing "$loop" --backing-size 65M
start_daemon --size 1M --backing "$loop"
moves_pages
no_daemon 1 "$loop" --backing "$loop"
! mkfs.ext4 -q -F "$loop" >"$work/out" 2>&1 || fail "the disk is not held"
stop_daemon
start_daemon --size 1M --backing "$loop" --backing-size 1M
moves_pages
expect "the disk's size" "$(blockdev --getsize64 "$loop")" $((64 << 20))
stop_daemon
