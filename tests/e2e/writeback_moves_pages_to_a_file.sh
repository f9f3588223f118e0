#!/usr/bin/env bash
# Writeback moves the pages it is asked for to the backing file, and no others: their memory is free, they read as they
# were, and what replaces them frees their block. The limit, and a file that is full, end it without a loss.
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/writeback.sh
. "$(dirname "$0")/../lib/writeback.sh"

backing=$work/backing
# Pages 0 to 1023 are noise, 1024 to 2047 text, 2048 to 2559 one word each; the rest is a hole.
python3 - "$work/data" <<'PYTHON'
import random, sys
random.seed(1)
with open(sys.argv[1], "wb") as f:
    f.write(random.randbytes(1024 * 4096))
    for page in range(1024):
        f.write((b"line %d of a text that compresses well\n" % page * 200)[:4096])
    for page in range(512):
        f.write(b"word %03d" % page * 512)
    f.truncate(16 << 20)
PYTHON
huge=1024 text=1024 same=512 hole=1536 page=4096

start_daemon --size 16M --backing "$backing" --backing-size 12M
expect "the file's size and mode" "$(stat -c '%s %a' "$backing")" "$((12 << 20)) 600"
expect "backing_dev" "$(uzramctl show zram0 backing_dev)" "$backing"
expect "writeback_limit_enable" "$(uzramctl show zram0 writeback_limit_enable)" 0
set_fails "" backing_dev /dev/null
uzramctl set zram0 writeback huge  # nothing is stored yet
nbdcopy "$work/data" "$uri"
expect "the pages" "$(page_runs 0 4096)" "8:$huge 4:$text 2:$same 1:$hole"
expect "bd_stat" "$(uzramctl show zram0 bd_stat)" "       0        0        0"

# Huge pages.
read -r orig _ used _ _ _ _ huge_now since <<<"$(uzramctl show zram0 mm_stat)"
expect "huge pages" "$huge_now" "$huge"
uzramctl set zram0 writeback type=huge
expect "bd_stat after huge" "$(uzramctl show zram0 bd_stat | xargs)" "$huge 0 $huge"
expect "mm_stat's pages" "$(mm_stat zram0 1) $(mm_stat zram0 6) $(mm_stat zram0 8) $(mm_stat zram0 9)" "$orig $same 0 $since"
[ "$(mm_stat zram0 3)" -le $((used - huge * page)) ] || fail "mem_used_total is $(mm_stat zram0 3) and was $used"
expect "the pages after huge" "$(page_runs 0 4096)" "32:$huge 4:$text 2:$same 1:$hole"
expect "data, by base:allocation" "$(nbdinfo --map --totals "$uri" | awk '$4 == "data" { print $1 }')" \
  "$(((huge + text + same) * page))"
same_as "$work/data"
expect "bd_stat after reading all" "$(uzramctl show zram0 bd_stat | xargs)" "$huge $huge $huge"
nbdsh -u "$uri" -c 'open("'"$work/part"'", "wb").write(h.pread(10000, 4096 * 5 + 77))'
cmp -n 10000 -i 0:$((page * 5 + 77)) "$work/part" "$work/data"

# Idle pages: not those that were read or written since, nor those of one word.
set_fails "" idle 60
set_fails "" idle some
uzramctl set zram0 writeback idle
expect "bd_count with nothing idle" "$(bd_stat 1)" "$huge"
uzramctl set zram0 idle all
nbdsh -u "$uri" -c 'h.pread(256 * 4096, 1024 * 4096)' -c 'h.pwrite(b"line", 1280 * 4096)' -c 'h.pread(1, 2000 * 4096 + 9)'
uzramctl set zram0 writeback type=huge_idle
expect "bd_count after huge_idle, of which there are none" "$(bd_stat 1)" "$huge"
uzramctl set zram0 writeback idle
expect "the pages after idle" "$(page_runs 1024 1024)" "4:257 32:719 4:1 32:47"
expect "bd_count after idle" "$(bd_stat 1)" $((huge + text - 258))
same_as "$work/data"
curl -sS --unix-socket "$control" http://x/metrics >"$work/metrics"
expect "the metrics" "$(awk '/^uzram_(written_back_pages|backing_reads_total|backing_writes_total)\{/ { print $2 }' "$work/metrics" |
  xargs)" "$(uzramctl show zram0 bd_stat | xargs)"
expect "the list" "$(uzramctl list --json | python3 -c 'import json, sys
device, = json.load(sys.stdin)["devices"]
print(device["bd_count"], device["bd_reads"], device["bd_writes"])')" "$(uzramctl show zram0 bd_stat | xargs)"

# What replaces a page frees its block: parts of it, all of it, a discard, zeroes.
python3 - "$work/data" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as f:
    def put(at, data):
        f.seek(at)
        f.write(data)
    put(10 * 4096 + 50, b"across two pages" * 300)
    put(100 * 4096, b"\1" * (200 * 4096))
    put(300 * 4096, bytes(724 * 4096))
PYTHON
count=$(bd_stat 1)
nbdsh -u "$uri" -c 'h.pwrite(b"across two pages" * 300, 10 * 4096 + 50)'
expect "bd_count after a write across two pages" "$(bd_stat 1)" $((count - 2))
nbdsh -u "$uri" -c 'h.pwrite(b"\1" * (200 * 4096), 100 * 4096)'
expect "bd_count after a write of 200 pages" "$(bd_stat 1)" $((count - 202))
nbdsh -u "$uri" -c 'h.trim(500 * 4096, 300 * 4096)' -c 'h.zero(224 * 4096, 800 * 4096)'
expect "bd_count after discards" "$(bd_stat 1)" $((count - 926))
same_as "$work/data"
nbdsh -u "$uri" -c 'h.trim(16 << 20, 0)'
expect "bd_count after a discard of all" "$(bd_stat 1)" 0
expect "orig_data_size" "$(mm_stat zram0 1)" 0
truncate -s 16M "$work/zeroes"
same_as "$work/zeroes"

# Pages by their numbers.
nbdcopy "$work/data" "$uri"
writes=$(bd_stat 3)
uzramctl set zram0 writeback 'page_index=3 page_indexes=5-7 page_index=3 page_indexes=6-6 page_index=2100 page_index=4000'
expect "the pages by number" "$(page_runs 0 10)" "8:3 32:1 8:1 32:3 8:2"
expect "bd_count of them" "$(bd_stat 1) $(($(bd_stat 3) - writes))" "4 4"
uzramctl set zram0 writeback page_indexes=0-7
expect "bd_writes of them, four of which are there already" $(($(bd_stat 3) - writes)) 8
set_fails "" writeback page_index=4096
set_fails "" writeback page_indexes=4095-4096
set_fails "" writeback page_indexes=18446744073709551615-18446744073709551616
for words in '' all 'type=' type=none 'page_index=' page_index=-1 page_index=x page_indexes=7-5 page_indexes=5 page_indexes=5- \
  'huge page_index=9' 'page_index=9 nonsense'; do
  set_fails "" writeback "$words"
done
expect "bd_count after words that are not right" "$(bd_stat 1)" 8
same_as "$work/data"

# The limit counts down, and ends a pass with what it has moved.
uzramctl reset zram0
expect "bd_count after a reset" "$(bd_stat 1)" 0
python3 -c 'import random, sys; random.seed(2); open(sys.argv[1], "wb").write(random.randbytes(16 << 20))' "$work/noise"
nbdcopy "$work/noise" "$uri"
uzramctl set zram0 writeback_limit 100
uzramctl set zram0 writeback_limit_enable 1
expect "the limit" "$(uzramctl show zram0 writeback_limit) $(uzramctl show zram0 writeback_limit_enable)" "100 1"
uzramctl set zram0 writeback page_indexes=0-59
expect "what is left of the limit" "$(bd_stat 1) $(uzramctl show zram0 writeback_limit)" "60 40"
set_fails "limit" writeback huge
expect "bd_count at the limit" "$(bd_stat 1) $(uzramctl show zram0 writeback_limit)" "100 0"
set_fails "limit" writeback huge
expect "bd_count beyond the limit" "$(bd_stat 1)" 100
same_as "$work/noise"
set_fails "" writeback_limit many
set_fails "" writeback_limit_enable 2

# A file of 12 MiB holds 3071 pages beside its header. A block that is freed is used again.
uzramctl set zram0 writeback_limit_enable 0
set_fails "" writeback huge
expect "bd_count of a full file" "$(bd_stat 1)" 3071
same_as "$work/noise"
set_fails "" writeback huge
nbdsh -u "$uri" -c 'h.trim(7 * 4096, 4096)'
set_fails "" writeback huge
expect "bd_count of a file that is full again" "$(bd_stat 1)" 3071
dd if="$work/zeroes" of="$work/noise" bs=4096 seek=1 count=7 conv=notrunc status=none
same_as "$work/noise"

# Two devices share the file.
uzramctl create second --size 1M
nbdsh -u "$(unix_uri second)" -c 'h.pwrite(bytes(range(256)) * 16, 0)'
! uzramctl set second writeback page_index=0 2>"$work/err" || fail "a page went to a file that is full"
nbdsh -u "$uri" -c 'h.trim(4096, 100 * 4096)'
uzramctl set second writeback page_index=0
expect "bd_count of the second" "$(uzramctl show second bd_stat | awk '{ print $1 }')" 1
uzramctl remove second
nbdsh -u "$uri" -c 'import os' -c 'h.pwrite(os.urandom(4096), 100 * 4096)'
uzramctl set zram0 writeback page_index=100
expect "bd_count with the block of the second" "$(bd_stat 1)" 3071
stop_daemon
is_emptied "$backing" $((12 << 20))
