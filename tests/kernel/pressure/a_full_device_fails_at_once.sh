#!/usr/bin/env bash
# a_full_device_fails_at_once.sh ALGORITHM: swap on a device that claims far more than its reserve holds. What does not fit
# is refused at once with ENOSPC, and the daemon answers all the while. The kernel keeps the pages and tries again without
# end, as long as programs' text can still be dropped and read again; when the program has gone the device takes pages again.
. "$(dirname "$0")/../lib.sh"

algorithm=$1
: "${UZRAM_CORPUS:?a file of pages, as bench/make-corpus makes it}"
total=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
cc -O2 -o "$work/fill" "$(dirname "$0")/fill.c"
sync
echo 3 >/proc/sys/vm/drop_caches
start_daemon --size "$((total * 8))M" --algorithm "$algorithm" --swap-safe --reserve "$((total / 8))M"
uzramctl attach zram0 /dev/nbd0 --swap --connections 2
finally uzramctl detach /dev/nbd0
echo 1 >/proc/sys/kernel/printk

"$work/fill" "$UZRAM_CORPUS" $((total * 4)) >"$work/reached" 2>/dev/null &
program=$!
echo 1000 >/proc/"$program"/oom_score_adj
refused() { uzramctl show zram0 io_stat | awk '{ exit $2 == 0 }'; }
wait_until 120 refused
slowest=0 end=$((SECONDS + 20))
while [ "$SECONDS" -lt "$end" ]; do
  before=$(date +%s%N)
  uzramctl show zram0 io_stat >"$work/io_stat"
  took=$((($(date +%s%N) - before) / 1000000))
  [ "$took" -le "$slowest" ] || slowest=$took
  sleep 0.5
done
echo "full at $(tail -n 1 "$work/reached") MiB: $(awk '{ print $2 }' "$work/io_stat") writes refused; the slowest answer meanwhile took $slowest ms"
kill -KILL "$program" 2>/dev/null || echo "the kernel has killed the program"
wait "$program" || true
! dmesg | grep -E 'nbd0: (Connection timed out|Dead connection)' || fail "a request was not answered"
[ "$slowest" -lt 10000 ] || fail "the daemon hardly answers"
uzramctl detach zram0

# The device takes pages again.
uzramctl attach zram0 /dev/nbd1 --swap
finally uzramctl detach /dev/nbd1
"$work/fill" "$UZRAM_CORPUS" $((total * 9 / 10)) | tail -n 1
uzramctl detach zram0
stop_daemon
