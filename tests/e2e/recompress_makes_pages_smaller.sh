#!/usr/bin/env bash
# Recompression with a second algorithm, by zram's attributes: what takes less memory is kept, every byte stays as it was,
# and what has been recompressed outlives a daemon that is killed.
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=../lib/writeback.sh
. "$(dirname "$0")/../lib/writeback.sh"

state=$(mktemp -d /dev/shm/uzram-test.XXXXXX)
finally rm -rf "$state"

# Pages 0 to 1023 are noise, 1024 to 2047 digits, which LZ4 can hardly compress, 2048 to 3071 this machine's own files.
python3 - "$work/data" <<'PYTHON'
import random, sys
random.seed(1)
with open(sys.argv[1], "wb") as f:
    f.write(random.randbytes(1024 * 4096))
    f.write(bytes(b & 15 for b in random.randbytes(1024 * 4096)))
    f.write(open(sys.executable, "rb").read(1024 * 4096).ljust(1024 * 4096, b"u"))
PYTHON

start_daemon --size 12M --state "$state"
nbdcopy "$work/data" "$uri"
expect "no algorithm yet" "$(uzramctl show zram0 recomp_algorithm)" ""
set_fails "no algorithm of priority 1" recompress type=huge
uzramctl set zram0 recomp_algorithm "algo=zstd(level=9) priority=1"
expect "the algorithm" "$(uzramctl show zram0 recomp_algorithm)" "#1: lz4 lz4hc [zstd] "
set_fails "priority 1 is zstd(level=9) until the device is reset" recomp_algorithm "algo=lz4hc priority=1"
set_fails "'priority=4' is not right here" recomp_algorithm "algo=zstd priority=4"
set_fails "'type=cold' is not right here" recompress type=cold
set_fails "the threshold is less than" recompress threshold=4096

# Huge pages: the digits become smaller, the noise does not.
read -r orig compressed used _ <<<"$(uzramctl show zram0 mm_stat)"
huge=$(mm_stat zram0 8)
[ "$huge" -ge 2048 ] || fail "$huge pages are huge"
uzramctl set zram0 recompress type=huge
[ "$(mm_stat zram0 8)" -lt $((huge - 1000)) ] || fail "$(mm_stat zram0 8) pages are huge, and were $huge"
[ "$(mm_stat zram0 3)" -lt $((used - 1000 * 1024)) ] || fail "mem_used_total is $(mm_stat zram0 3) and was $used"
expect "orig_data_size" "$(mm_stat zram0 1)" "$orig"
expect "a page of digits" "$(page_runs 1024 1024)" 4:1024
same_as "$work/data"
compressed=$(mm_stat zram0 2)

# Idle pages: those that were read since stay as they are.
uzramctl set zram0 idle all
uzramctl set zram0 recompress 'type=idle max_pages=10'
[ "$(mm_stat zram0 2)" -lt "$compressed" ] || fail "ten idle pages of a program did not get smaller"
some=$(mm_stat zram0 2)
nbdcopy "$uri" - >/dev/null
uzramctl set zram0 recompress type=idle
expect "compr_data_size when nothing is idle" "$(mm_stat zram0 2)" "$some"
uzramctl set zram0 recompress algo=zstd
[ "$(mm_stat zram0 2)" -lt "$some" ] || fail "the others did not get smaller"
same_as "$work/data"
uzramctl scrub zram0

# What was recompressed outlives the daemon, and so does the algorithm.
before=$(uzramctl show zram0 mm_stat | awk '{ print $1, $2, $3 }')
kill -KILL "$daemon_pid"
wait "$daemon_pid" || true
start_daemon --size 12M --state "$state"
expect "mm_stat after a kill" "$(uzramctl show zram0 mm_stat | awk '{ print $1, $2, $3 }')" "$before"
expect "the algorithm after a kill" "$(uzramctl show zram0 recomp_algorithm)" "#1: lz4 lz4hc [zstd] "
same_as "$work/data"

# Killed while it recompresses, again and again.
for round in 1 2 3 4 5; do
  nbdcopy "$work/data" "$uri"
  uzramctl set zram0 recompress '' >"$work/out" 2>&1 & client=$!
  sleep 0.00$((round * 2))
  kill -KILL "$daemon_pid"
  wait "$daemon_pid" "$client" || true
  start_daemon --size 12M --state "$state"
  same_as "$work/data"
  uzramctl scrub zram0
done

# A takeover keeps them, too; a reset forgets the algorithm.
uzramctl set zram0 recompress ''
before=$(uzramctl show zram0 mm_stat | awk '{ print $1, $2, $3 }')
old=$daemon_pid
start_daemon --size 12M --state "$state" --takeover
wait "$old" || fail "the daemon that handed over exited with $?"
expect "mm_stat after a takeover" "$(uzramctl show zram0 mm_stat | awk '{ print $1, $2, $3 }')" "$before"
same_as "$work/data"
uzramctl reset zram0
expect "the algorithm after a reset" "$(uzramctl show zram0 recomp_algorithm)" ""
stop_daemon
