#!/usr/bin/env bash
# grows_beyond_its_reserve.sh ALGORITHM: swap under pressure as in swap_under_pressure.sh, on a daemon whose reserve is far
# too small and which may grow (--grow): it takes more in advance, locked, and no page is lost.
. "$(dirname "$0")/../lib.sh"

algorithm=$1
: "${UZRAM_CORPUS:?a file of pages, as bench/make-corpus makes it}"
total=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
cc -O2 -o "$work/fill" "$(dirname "$0")/fill.c"
sync
echo 3 >/proc/sys/vm/drop_caches
reserve=$((total / 16)) limit=$((total / 2))

start_daemon --size "$((total * 3 / 2))M" --algorithm "$algorithm" --swap-safe --reserve "${reserve}M" --grow --mem-limit "${limit}M"
uzramctl attach zram0 /dev/nbd0 --swap --connections 2
finally uzramctl detach /dev/nbd0
locked() { awk '/^VmLck/ { print int($2 / 1024) }' /proc/"$daemon_pid"/status; }
before=$(locked)
"$work/fill" "$UZRAM_CORPUS" $((total * 5 / 4)) >"$work/fill.out" ||
  fail "the program ended with status $? after $(tail -n 1 "$work/fill.out") MiB"
tail -n 1 "$work/fill.out"
most=$(($(mm_stat zram0 5) / 1048576))
resident=$(awk '/^VmHWM/ { print int($2 / 1024) }' /proc/"$daemon_pid"/status)
echo "$total MiB of memory, a reserve of $reserve MiB: the pages took $most MiB at the most, the daemon $resident MiB"
[ "$most" -gt $((reserve * 3 / 2)) ] || fail "it had no need to grow"
[ "$most" -le "$limit" ] || fail "that is more than --mem-limit allows"
[ "$(locked)" -ge "$before" ] || fail "it has less locked than at the start"
uzramctl detach zram0
stop_daemon
