#!/usr/bin/env bash
# a_full_device_fails_at_once.sh ALGORITHM: swap on a device that claims far more than its reserve holds. What does not fit
# is refused at once with ENOSPC, the kernel keeps the pages until its OOM killer ends the program, and the daemon answers
# all the while; afterwards the device takes pages again.
. "$(dirname "$0")/../lib.sh"

algorithm=$1
: "${UZRAM_CORPUS:?a file of pages, as bench/make-corpus makes it}"
total=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
for program in fill witness; do cc -O2 -o "$work/$program" "$(dirname "$0")/$program.c"; done
sync
echo 3 >/proc/sys/vm/drop_caches
start_daemon --size "$((total * 8))M" --algorithm "$algorithm" --swap-safe --reserve "$((total / 8))M"
uzramctl attach zram0 /dev/nbd0 --swap --connections 2
finally uzramctl detach /dev/nbd0
echo on >/proc/sys/kernel/printk_devkmsg
"$work/witness" &
finally kill $!

# The test itself is not to be killed; bystanders may be, while the program's memory comes back.
echo -1000 >/proc/self/oom_score_adj
for ((i = 0; i < 20; i++)); do (echo 0 >/proc/self/oom_score_adj && exec sleep 10000) & done
# shellcheck disable=SC2046  # a word each
finally kill $(jobs -p)
started=$SECONDS
(
  echo 1000 >/proc/self/oom_score_adj
  exec "$work/fill" "$UZRAM_CORPUS" $((total * 4))
) >"$work/reached" 2>/dev/null &
program=$!
slowest=0
while kill -0 "$program" 2>/dev/null; do
  before=$(date +%s%N)
  uzramctl show zram0 mm_stat >"$work/mm_stat"
  took=$((($(date +%s%N) - before) / 1000000))
  [ "$took" -le "$slowest" ] || slowest=$took
  sleep 1
done
status=0
wait "$program" || status=$?
[ "$status" = 137 ] || fail "the program ended with status $status"
echo "killed after $((SECONDS - started)) s at $(tail -n 1 "$work/reached") MiB; the slowest answer of the daemon took $slowest ms"
dmesg | grep -q 'Write-error on swap-device' || fail "no write was refused"
! dmesg | grep -E 'nbd0: (Connection timed out|Dead connection)' || fail "a request was not answered"
uzramctl list
uzramctl detach zram0

# The device takes pages again.
uzramctl attach zram0 /dev/nbd1 --swap
finally uzramctl detach /dev/nbd1
"$work/fill" "$UZRAM_CORPUS" $((total * 9 / 10)) | tail -n 1
uzramctl detach zram0
stop_daemon
