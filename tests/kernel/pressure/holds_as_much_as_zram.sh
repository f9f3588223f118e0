#!/usr/bin/env bash
# holds_as_much_as_zram.sh ALGORITHM PERCENT: how much memory a program can fill before the kernel kills it, with swap on
# the kernel's zram and then with swap on uzram, in the same kernel, with the same min_free_kbytes. Ours is to be at
# least PERCENT of zram's.
. "$(dirname "$0")/../lib.sh"

algorithm=$1 percent=$2
total=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
min_free=$(awk '/^MemTotal/ { print int($2 / 10 < 32768 ? $2 / 10 : 32768) }' /proc/meminfo)
cc -O2 -o "$work/fill" "$(dirname "$0")/fill.c"
echo "$min_free" >/proc/sys/vm/min_free_kbytes

# held: fills until it is killed, and prints how many MiB it had reached.
held() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
  (
    echo 1000 >/proc/self/oom_score_adj
    exec "$work/fill" $((total * 8))
  ) >"$work/reached" && fail "there is no end to its memory"
  tail -n 1 "$work/reached"
}

none=$(held)
echo "without swap: $none MiB"

[ "$algorithm" != zstd ] || insmod /usr/lib/uml/modules/*/kernel/crypto/zstd.ko
echo "$algorithm" >/sys/block/zram0/comp_algorithm
echo "$((total * 6))M" >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null
swapon --discard /dev/zram0
zram=$(held)
echo "zram: $zram MiB"
swapoff /dev/zram0
echo 1 >/sys/block/zram0/reset

# What is left beside the reserve is for the kernel, the daemon and the pages in use. The size is what the reserve holds
# of such pages: the kernel is to run out of swap, not the store of memory.
reserve=$((total - min_free / 1024 - 65))
start_daemon --size "$((reserve * 16 / 5))M" --algorithm "$algorithm" --swap-safe --reserve "${reserve}M"
uzramctl attach zram0 /dev/nbd0 --swap --connections 2
finally uzramctl detach /dev/nbd0
uzram=$(held)
uzramctl show zram0 mm_stat
uzramctl detach zram0
stop_daemon
echo "$total MiB, $algorithm: $none MiB without swap, $zram with zram, $uzram with uzram: $((uzram * 100 / zram)) %"
[ $((uzram * 100)) -ge $((zram * percent)) ] || fail "less than $percent % of zram's"
