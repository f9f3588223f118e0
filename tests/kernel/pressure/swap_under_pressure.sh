#!/usr/bin/env bash
# swap_under_pressure.sh ALGORITHM: a program fills and verifies more memory than the machine has, and swaps to a
# daemon on this machine. The daemon has every protection that --swap-safe promises, and needs no memory meanwhile.
. "$(dirname "$0")/../lib.sh"

algorithm=$1
: "${UZRAM_CORPUS:?a file of pages, as bench/make-corpus makes it}"
total=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
for program in fill witness; do cc -O2 -o "$work/$program" "$(dirname "$0")/$program.c"; done
sync
echo 3 >/proc/sys/vm/drop_caches

# Half of the memory is what docs/swap.md advises; the device is large enough for a program of 5/4 of the memory.
start_daemon --size "$((total * 3 / 2))M" --algorithm "$algorithm" --swap-safe --reserve "$((total / 2))M"
uzramctl attach zram0 /dev/nbd0 --swap --priority 10 --connections 2
finally uzramctl detach /dev/nbd0
[ "$(awk '$1 == "/dev/nbd0" { print $5 }' /proc/swaps)" = 10 ] || fail "the priority is not 10"
uzramctl list | grep -F '/dev/nbd0 [SWAP]' || fail "list does not show the swap"
# vm.min_free_kbytes is the machine's, and attach has raised it since.
! grep 'missing: [^v]' "$work/uzramd.log" || fail "a protection is missing"
[ "$(cat /proc/"$daemon_pid"/oom_score_adj)" = -1000 ] || fail "the daemon may be killed when memory is short"
for task in /proc/"$daemon_pid"/task/*; do
  # PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, which PR_SET_IO_FLUSHER sets; SCHED_RR
  read -r flags policy < <(awk '{ print $9, $41 }' "$task/stat")
  [ $((flags & 0x180000)) = $((0x180000)) ] || fail "thread ${task##*/} is no I/O flusher"
  [ "$policy" = 2 ] || fail "thread ${task##*/} is no realtime thread"
done
# Where it stalls nevertheless, the console says why.
echo 8 >/proc/sys/kernel/printk
echo on >/proc/sys/kernel/printk_devkmsg
"$work/witness" &
finally kill $!

faults() { awk '{ print $10 + $12 }' /proc/"$daemon_pid"/stat; }
before=$(faults)
"$work/fill" "$UZRAM_CORPUS" $((total * 5 / 4)) >"$work/fill.out" ||
  fail "the program ended with status $? after $(tail -n 1 "$work/fill.out") MiB"
tail -n 1 "$work/fill.out"
swapped=$(awk '/^pswpout/ { print int($2 / 256) }' /proc/vmstat)
echo "$total MiB of memory, $((total * 5 / 4)) MiB used, $swapped MiB swapped out"
[ "$(faults)" = "$before" ] || fail "the daemon had $(($(faults) - before)) page faults meanwhile"
[ "$swapped" -gt $((total / 4)) ] || fail "hardly anything was swapped"
uzramctl detach zram0
stop_daemon
