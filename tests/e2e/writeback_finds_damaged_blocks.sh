#!/usr/bin/env bash
# A block of the backing file that is not what was written there is an I/O error of its page and of no other; a scrub finds
# it, and a write of the page heals it. So is a page in another's block, and a file that is cut short.
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/writeback.sh
. "$(dirname "$0")/../lib/writeback.sh"

backing=$work/backing
head -c $((256 * 4096)) /dev/urandom >"$work/data"
start_daemon --size 1M --backing "$backing" --backing-size 2M
nbdcopy "$work/data" "$uri"
uzramctl set zram0 writeback huge
expect "bd_count" "$(bd_stat 1)" 256

# blocks_of PAGE...: where each of these pages of the data lies in the file, as a block's number.
blocks_of() {
  python3 -c '
import sys
data, file = (open(name, "rb").read() for name in sys.argv[1:3])
blocks = {file[at:at + 4096]: at // 4096 for at in range(0, len(file), 4096)}
print(*(blocks[data[page * 4096:][:4096]] for page in map(int, sys.argv[3:])))' "$work/data" "$backing" "$@"
}
# put FROM FROM_BLOCK TO_BLOCK: overwrites a block of the file.
put() { dd if="$1" of="$backing" bs=4096 skip="$2" seek="$3" count=1 conv=notrunc,fsync status=none; }
check_failures() { curl -sS --unix-socket "$control" http://x/metrics | awk '/^uzram_check_failures_total/ { print $2 }'; }

# only_damaged PAGE...: these pages cannot be read, whole or in part, and all others are as they were; a scrub says so.
only_damaged() {
  local before
  before=$(check_failures)
  nbdsh -u "$uri" -c '
import errno, sys
damaged = set(map(int, "'"$*"'".split()))
data = open("'"$work/data"'", "rb").read()
def reads(bytes, at):
    try:
        assert h.pread(bytes, at) == data[at:at + bytes], at
        return True
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e
        return False
for page in range(256):
    assert reads(4096, page * 4096) == (page not in damaged), page
    assert reads(1, page * 4096 + 4095) == (page not in damaged), page
for page in damaged:
    try:
        h.pwrite(b"part", page * 4096 + 10)
        assert False, page
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e'
  expect "check_failures" $(($(check_failures) - before)) $((3 * $#))
  expect "bd_count" "$(bd_stat 1)" 256
  local report status=0
  report=$(uzramctl scrub zram0 --json) || status=$?
  expect "a scrub's exit status" "$status" $(($# > 0 ? 1 : 0))
  expect "what a scrub found" "$(python3 -c 'import json, sys
r = json.loads(sys.argv[1]); print(r["pages"], r["damaged"])' "$report")" "256 $#"
}

only_damaged
read -r first second third <<<"$(blocks_of 17 100 200)"
cp "$backing" "$work/copy"

# One bit.
python3 - "$backing" "$first" <<'PYTHON'
import os, sys
f = os.open(sys.argv[1], os.O_RDWR)
at = int(sys.argv[2]) * 4096 + 1234
byte = os.pread(f, 1, at)[0]
os.pwrite(f, bytes([byte ^ 16]), at)
os.fsync(f)
PYTHON
only_damaged 17
uzramctl scrub zram0 >"$work/out" || true
grep -qw 17 "$work/out" || fail "a scrub does not name page 17: $(cat "$work/out")"

# Its block as it was: the page is there again.
put "$work/copy" "$first" "$first"
only_damaged

# Each in the other's block, which are whole, but not theirs; a block of zeroes.
put "$work/copy" "$first" "$second"
put "$work/copy" "$second" "$first"
put /dev/zero 0 "$third"
only_damaged 17 100 200

# Nothing moves a damaged page, and a write of all of it heals it.
uzramctl set zram0 idle all
uzramctl set zram0 writeback idle
only_damaged 17 100 200
for page in 17 100 200; do
  nbdsh -u "$uri" -c 'h.pwrite(open("'"$work/data"'", "rb").read()['$((page * 4096)):$((page * 4096 + 4096))'], '$((page * 4096))')'
done
expect "bd_count" "$(bd_stat 1)" 253
uzramctl set zram0 writeback huge
only_damaged

# The file is cut short behind the daemon's back; a discard needs no block.
last=$(blocks_of 255)
truncate -s $((last * 4096)) "$backing"
status=0
uzramctl scrub zram0 >"$work/out" || status=$?
expect "a scrub's exit status" "$status" 1
! nbdsh -u "$uri" -c "h.pread(4096, 255 * 4096)" 2>"$work/err" || fail "a block that is not there was read"
nbdsh -u "$uri" -c "h.trim(1 << 20, 0)"
expect "bd_count" "$(bd_stat 1)" 0
stop_daemon
